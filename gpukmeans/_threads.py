"""Threads: a pool for as long as a fit lives, those of the compiled kernels longer; BLAS is held at one meanwhile."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from joblib import cpu_count
from threadpoolctl import LibController, ThreadpoolController, register


def n_threads() -> int:
    """Threads a fit may use: GPUKMEANS_NUM_THREADS, else OMP_NUM_THREADS, else the usable cores.

    Not more than `threadpoolctl.threadpool_limits` allows to OpenMP, or to all, at that time.
    """
    wanted = _wanted()
    return min(wanted, _Threads.limit or wanted)


def _wanted() -> int:
    for name in ("GPUKMEANS_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").partition(",")[0].strip()
        if value.isdigit() and int(value) > 0:
            return int(value)
    return min(_cores(), len(_mask()) or _cores())


def _mask() -> frozenset[int]:
    """The cores that this thread may use, which may change at any time; empty where the system does not tell."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ())


@cache
def _cores() -> int:
    return cpu_count()


class _Threads(LibController):
    """The threads of fits, as threadpoolctl sees them: it knows threads by a library, so they hang on NumPy's."""

    user_api = "openmp"
    internal_api = "gpukmeans"
    filename_prefixes = ("_multiarray_umath",)
    limit: int | None = None

    def get_num_threads(self) -> int:
        return n_threads()

    def set_num_threads(self, num_threads: int) -> None:
        # as many as there would be anyway is no limit: so the old number is restored
        _Threads.limit = max(1, num_threads) if num_threads < _wanted() else None

    def get_version(self) -> None:
        return None


register(_Threads)


class Workspace:
    """Named scratch arrays that one thread uses again and again (NumPy only)."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An uninitialised array of that shape and dtype, in memory kept under `name`."""
        dtype = np.dtype(dtype)
        size = dtype.itemsize
        for length in shape:
            size *= length
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(shape)


# The threads that a fit has left for the next one, and their kind. They end with the interpreter, and before a fork,
# which would lose them.
_idle: list[tuple[tuple, Any]] = []
atexit.register(_idle.clear)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_idle.clear)


class Workers:
    """A pool of threads, each with its own `Workspace`.

    `run(task, items)` returns `[task(item, workspace) for item in items]`, in that order whatever
    the number of threads. The calling thread is one of them: waking one less is quicker, and a short
    pass does not end before the others have come. The rest start with the first parallel run and are
    joined by `close`.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._spaces = [Workspace() for _ in range(threads)]
        self._pool: ThreadPoolExecutor | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self.crew: Any = None  # threads of the compiled kernels

    @property
    def space(self) -> Workspace:
        """The workspace of the calling thread."""
        return self._spaces[0]

    def take(self, make: Callable[[], Any]) -> Any:
        """Threads of the compiled kernels, as many as these less the calling one: those of an earlier fit, or new ones.

        The first pass of a new thread begins milliseconds late, so these outlive the fit, asleep.
        """
        self._kind = os.getpid(), self.threads, _mask()
        try:
            kind, crew = _idle.pop()
        except IndexError:
            kind = None
        self.crew = crew if kind == self._kind else make()
        return self.crew

    def run(self, task: Callable[[Any, Workspace], Any], items: Sequence[Any]) -> list[Any]:
        """Apply `task` to every item; an exception in one of them stops the others."""
        if self.threads == 1 or len(items) < 2:
            return [task(item, self._spaces[0]) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="gpukmeans")
        results: list[Any] = [None] * len(items)
        queue = iter(range(len(items)))
        with uninterrupted():
            drains = [
                self._pool.submit(self._drain, task, items, queue, results, s) for s in self._spaces[1 : len(items)]
            ]
        self._drain(task, items, queue, results, self._spaces[0])
        for drain in drains:
            drain.result()
        return results

    def _drain(self, task: Callable, items: Sequence, queue: Iterator[int], results: list, space: Workspace) -> None:
        """Take items from the common queue until it is empty: one task a thread, not one an item."""
        try:
            while (i := self._take(queue)) is not None:
                results[i] = task(items[i], space)
        except BaseException:
            self._stopped = True
            raise

    def _take(self, queue: Iterator[int]) -> int | None:
        with self._lock:
            return None if self._stopped else next(queue, None)

    def close(self) -> None:
        """Stop after the items in work and join every thread; the compiled kernels' go to the next fit."""
        if self.crew is not None:
            self.crew.quit()
            if self.crew.size == self.threads - 1:  # the system may have refused some
                _idle[:] = [(self._kind, self.crew)]
            self.crew = None
        if self._pool is None:
            self._stopped = False
            return
        with uninterrupted():
            self._stopped = True
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
            self._stopped = False


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for a moment, in which threads are started or ended, BLAS is set, or a package is imported.

    An import may turn the interruption into an error of its own, or leave a module half made.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held: list = []
    signal.signal(signal.SIGINT, lambda *signal_and_frame: held.append(signal_and_frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[0])


_blas_lock = threading.Lock()
_blas_users = 0
_blas_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS at one thread; nested and concurrent fits restore the old number only once."""
    global _blas_users, _blas_limit
    held = False
    try:
        with uninterrupted(), _blas_lock:
            if _blas_users == 0:
                _blas_limit = _controller().limit(limits=1, user_api="blas")
            _blas_users += 1
            held = True
        yield
    finally:
        with uninterrupted(), _blas_lock:
            _blas_users -= held
            if held and _blas_users == 0:
                _blas_limit.restore_original_limits()
                _blas_limit = None


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
