"""Threads end with a fit or wait for the next one, and BLAS gets its threads back."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gpukmeans import KMeans, _threads
from gpukmeans._kernels.cpu import native
from gpukmeans._threads import Workers, n_threads, one_blas_thread, uninterrupted


def blas_threads():
    """Of those that fits know of; packages that were loaded later may have brought another one."""
    known = {library.filepath for library in _threads._controller().lib_controllers}
    return [
        info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas" and info["filepath"] in known
    ]


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("gpukmeans")]


@pytest.mark.parametrize("kernels", ["1", "numpy"])
def test_threads_are_joined_and_blas_is_given_back(monkeypatch, kernels):
    """NumPy's kernels hold BLAS at one thread from the start, the compiled ones only once they keep bounds."""
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "3")
    monkeypatch.setenv("GPUKMEANS_KERNELS", kernels)
    X = np.random.default_rng(0).normal(size=(60_000, 8))
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        during = []
        KMeans(5, init=lambda X, k, random_state: during.append(blas_threads()) or X[:k], n_init=1).fit(X)
        compiled = kernels == "1" and native() is not None
        assert set(during[0]) == ({2} if compiled else {1})
        assert blas_threads() == before
    assert ours() == []


def test_concurrent_fits_agree_and_give_blas_back():
    X = np.random.default_rng(1).normal(size=(30_000, 5))
    expected = KMeans(6, random_state=0).fit(X).labels_
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with ThreadPoolExecutor(4) as pool:
            fits = list(pool.map(lambda seed: KMeans(6, random_state=0, n_init=1 + seed % 2).fit(X), range(8)))
        assert blas_threads() == before
    assert all(np.array_equal(fit.labels_, expected) for fit in fits[::2])


def test_nested_limits_are_restored_once():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            with one_blas_thread():
                assert set(blas_threads()) == {1}
            assert set(blas_threads()) == {1}
        assert blas_threads() == before


def test_an_error_in_a_thread_stops_the_others_and_comes_out():
    workers, done = Workers(3), []

    def task(item, space):
        if item == 1:
            raise RuntimeError("item 1")
        done.append(item)

    with pytest.raises(RuntimeError, match="item 1"):
        workers.run(task, range(100_000))
    workers.close()
    assert len(done) < 100_000
    assert ours() == []
    assert workers.run(lambda item, space: item * 2, range(5)) == [0, 2, 4, 6, 8]
    workers.close()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"GPUKMEANS_NUM_THREADS": "5", "OMP_NUM_THREADS": "2"}, 5),
        ({"GPUKMEANS_NUM_THREADS": "", "OMP_NUM_THREADS": "2,1"}, 2),
    ],
)
def test_number_of_threads(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert n_threads() == expected


@pytest.mark.parametrize("user_api", [None, "openmp"])
def test_threadpool_limits_are_respected(monkeypatch, user_api):
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "3")
    with threadpool_limits(1, user_api=user_api):
        assert n_threads() == 1
        with threadpool_limits(2, user_api=user_api):
            assert n_threads() == 2
        assert n_threads() == 1
    assert n_threads() == 3
    with threadpool_limits(1, user_api="blas"):
        assert n_threads() == 3
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "5")
    assert n_threads() == 5
    assert [info["num_threads"] for info in threadpool_info() if info["internal_api"] == "gpukmeans"] == [5]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity masks here")
def test_an_affinity_mask_is_respected(monkeypatch):
    for name in ("GPUKMEANS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert n_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert 1 <= n_threads() <= len(before)


def all_threads():
    """Of this process, those that Python does not know included."""
    return len(os.listdir("/proc/self/task"))


compiled_on_linux = pytest.mark.skipif(
    native() is None or not os.path.isdir("/proc/self/task"), reason="no compiled kernels here, or no list of threads"
)


@compiled_on_linux
def test_native_threads_wait_for_the_next_fit(monkeypatch):
    """Those of one fit, however many there were at once; none that may run elsewhere than the fit."""
    X = np.random.default_rng(0).normal(size=(60_000, 8))

    def threads_after_fits(threads, fits=1):
        monkeypatch.setenv("GPUKMEANS_NUM_THREADS", str(threads))
        with ThreadPoolExecutor(fits) as pool:
            list(pool.map(lambda seed: KMeans(5, random_state=seed).fit(X), range(fits)))
        time.sleep(0.1)  # those that have ended are listed a little longer
        return all_threads()

    alone = threads_after_fits(1) - sum(kind[1] - 1 for kind, _ in _threads._idle)
    assert threads_after_fits(4) == alone + 3
    crew = _threads._idle[0][1]
    assert threads_after_fits(4) == alone + 3
    assert _threads._idle[0][1] is crew
    del crew  # kept, it would live on
    assert threads_after_fits(4, fits=3) == alone + 3
    assert threads_after_fits(2) == alone + 1
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        crew = _threads._idle[0][1]
        os.sched_setaffinity(0, {min(before)})
        try:
            KMeans(5, random_state=0).fit(X)
        finally:
            os.sched_setaffinity(0, before)
        assert _threads._idle[0][1] is not crew


@pytest.mark.skipif(native() is None, reason="no compiled kernels here")
def test_waiting_threads_keep_no_data(monkeypatch):
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "2")
    X = np.random.default_rng(0).normal(size=(60_000, 8))
    model = KMeans(9, random_state=0).fit(X)
    assert _threads._idle
    watched = [weakref.ref(X), weakref.ref(model.labels_)]
    del X, model
    gc.collect()
    assert [watch() for watch in watched] == [None, None]


@pytest.mark.skipif(native() is None, reason="no compiled kernels here")
@pytest.mark.parametrize("where", ["begin", "end"])
def test_an_interrupt_about_the_crew_leaves_it_fit_for_use(monkeypatch, where):
    """As if Ctrl-C came between two instructions of Python, where a pass has begun or not yet ended."""
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "2")
    X = np.random.default_rng(0).normal(size=(60_000, 8))
    expected = KMeans(9, random_state=0, max_iter=3).fit(X)
    take = _threads.Workers.take

    class Interrupted:
        def __init__(self, crew):
            self.crew, self.size, self.quit = crew, crew.size, crew.quit

        def begin(self, work):
            self.crew.begin(work)
            if where == "begin":
                raise KeyboardInterrupt

        def end(self):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_threads.Workers, "take", lambda self, make: Interrupted(take(self, make)))
        with pytest.raises(KeyboardInterrupt):
            KMeans(9, random_state=0, max_iter=3).fit(X)
    again = KMeans(9, random_state=0, max_iter=3).fit(X)
    assert np.array_equal(again.labels_, expected.labels_)
    assert np.array_equal(again.cluster_centers_, expected.cluster_centers_)


@compiled_on_linux
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_does_not_wait_for_threads_it_has_not():
    crew = native().Crew(2)
    child = os.fork()
    if child == 0:
        del crew  # would wait for ever
        os._exit(0)
    for _ in range(300):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
    assert ended
    assert status == 0


def digest(threads):
    """Of the labels and centres of a fit by so many threads."""
    os.environ["GPUKMEANS_NUM_THREADS"] = str(threads)
    X = np.random.default_rng(2).normal(size=(40_000, 6)).astype(np.float32)
    model = KMeans(20, random_state=0, max_iter=5).fit(X)
    return hashlib.sha256(model.labels_.tobytes() + model.cluster_centers_.tobytes()).hexdigest()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("kernels", ["1", "numpy"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_processes_begun_after_a_fit_fit_alike(monkeypatch, method, kernels):
    """No thread of a fit lives on for a fork to lose; the number of threads changes no bit."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "2")
    monkeypatch.setenv("GPUKMEANS_KERNELS", kernels)
    expected = digest(2)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(digest, [1, 2, 4, 8]).get(timeout=120) == [expected] * 4


def test_ctrl_c_waits_until_threads_and_blas_are_in_order():
    """The interrupt comes out, but not in the middle of starting threads or setting BLAS."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        reached = []
        with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 - both lines must run
            signal.raise_signal(signal.SIGINT)
            reached.append(True)
        assert reached == [True]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with threadpool_limits(2, user_api="blas"):
            before = blas_threads()
            with pytest.raises(KeyboardInterrupt), one_blas_thread():
                signal.raise_signal(signal.SIGINT)
            assert blas_threads() == before
    finally:
        signal.signal(signal.SIGINT, handler)
