"""Comparing devices: the same work for all, and answers judged. Nothing here depends on how long a thing takes."""

from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest
from comparisons import run_of, timed
from cuda_standin.marks import standin
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from gpukmeans import KMeans, _kernels, _prepare
from gpukmeans._files import InputError
from gpukmeans.compare import (
    Shape,
    _answers,
    _contest,
    _figures,
    _measure,
    _peers,
    _rows,
    compare_devices,
)
from gpukmeans.compare._peers import Answer, Peer
from gpukmeans.compare._text import lines

QUICK = {"repeat": 2, "memory": False, "peers": ["scikit-learn"], "devices": ["cpu:numpy"]}


@pytest.fixture(scope="module")
def small():
    """A comparison of the CPU's array code with scikit-learn."""
    return compare_devices("2000x3x4", devices=["cpu:numpy", "cpu:arrays"], peers=["scikit-learn"], repeat=2)


# --- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _rows.KINDS)
def test_rows_come_from_their_seed(kind):
    one, again = (_rows.make_rows(Shape(500, 3, 7), kind, "float64", seed=4) for _ in range(2))
    assert_array_equal(one.X, again.X)
    assert_array_equal(one.X[one.indices], one.init)
    assert len(set(one.indices.tolist())) == 7
    assert _rows.digest(one.X) == _rows.digest(again.X) != _rows.digest(_rows.make_rows(Shape(500, 3, 7), kind).X)
    assert_array_equal(_rows.make_rows(Shape(500, 3, 7), kind, "float32", seed=4).X, one.X.astype(np.float32))


def test_blobs_start_with_a_row_of_each():
    X, init, _ = _rows.make_rows(Shape(20_000, 64, 8), dtype="float64")
    labels = KMeans(8, init=init, n_init=1, device="cpu").fit(X).labels_
    assert np.bincount(labels).min() > 2000


@pytest.mark.parametrize(
    ("text", "said"),
    [("500x2", "no shape"), ("axbxc", "no shape"), ("3x2x4", "1 to 3 clusters"), ("5x0x1", "a feature")],
)
def test_shapes_that_are_none(text, said):
    with pytest.raises(InputError, match=said):
        compare_devices(text)


def test_sweeps_grow_by_fours_and_never_past_the_rows():
    assert [shape.n for shape in _rows.sweep(Shape(4096, 2, 100), "n")] == [100, 256, 1024, 4096]
    assert [shape.d for shape in _rows.sweep(Shape(100, 16, 3), "d")] == [1, 4, 16]


# --- a comparison -------------------------------------------------------------------------------


def test_everyone_does_the_same_and_is_judged(small):
    (run,) = small.runs
    assert list(run["contestants"]) == ["cpu:numpy", "cpu:arrays", "scikit-learn"]
    for name, one in run["contestants"].items():
        assert one["answer"]["n_iter"] == run["reference"]["n_iter"]
        assert abs(one["answer"]["off"]) < 1e-6
        assert one["answer"]["rand"] == 1
        assert one["answer"]["center"] < 1e-5
        assert one["answer"]["not_nearest"] == 0
        assert set(one["seconds"]) == {"seeding", "first", "fit", "predict", "silhouette"}
        assert all(len(seconds) == 2 for seconds in one["seconds"].values())
        assert small.same_answer(name)
        assert one["warm_up"] > 0
    assert run["contestants"]["cpu:numpy"]["kernels"] == ["numpy kernel"]
    assert run["contestants"]["cpu:arrays"]["kernels"] == ["array body"]
    with pytest.raises(InputError, match="took part in no run: these did: cpu:arrays, cpu:numpy, scikit-learn"):
        small.same_answer("faiss")


def test_the_reference_is_judged_by_brute_force(small):
    (run,) = small.runs
    X, init, _ = _rows.make_rows(Shape(2000, 3, 4))
    model = KMeans(4, init=init.astype(float), n_init=1, max_iter=10, tol=0).fit(X.astype(float))
    squared = ((X[:, None].astype(float) - model.cluster_centers_) ** 2).sum(axis=2)
    assert_allclose(run["reference"]["inertia"], squared.min(axis=1).sum(), rtol=1e-12)
    assert run["reference"]["n_iter"] == model.n_iter_


def test_given_rows_are_compared(blobs):
    X, _ = blobs
    for rows, dtype in ((X, "float64"), (X.astype(np.float32), "float32"), (np.rint(X * 100).astype(int), "float64")):
        comparison = compare_devices(rows, 3, stages=("fit",), **QUICK)
        case = comparison.runs[0]["case"]
        assert (case["n"], case["d"], case["k"], case["dtype"], case["kind"]) == (1003, 5, 3, dtype, "given")
        assert comparison.runs[0]["command"].startswith("compare_devices(X, 3, devices=['cpu:numpy']")
        assert comparison.same_answer("scikit-learn")


@pytest.mark.skipif(not _measure._CLEAR.exists(), reason="the kernel does not tell peak memory")
def test_memory_is_that_of_a_process_of_its_own(small):
    settings = QUICK | {"memory": True, "stages": ("fit",)}
    peaks = compare_devices("50000x16x4", **settings).runs[0]["contestants"]
    assert all(0 <= one["host_mib"] < 200 for one in peaks.values())
    assert peaks["scikit-learn"]["host_mib"] > 3  # it copies the rows
    assert "host_mib" not in small.runs[0]["contestants"]["scikit-learn"]  # too few to tell


@pytest.mark.parametrize(("devices", "choices"), [(["cpu:arrays"], {"0"}), (["cpu:numpy"], {"0", "numpy"})])
def test_paths_run_with_their_own_kernels(devices, choices, monkeypatch):
    """The reference is a run of the array bodies."""
    chosen, operations = set(), _prepare.operations
    monkeypatch.setattr(_prepare, "operations", lambda rows: chosen.add(_kernels.choice()) or operations(rows))
    monkeypatch.setenv("GPUKMEANS_KERNELS", "1")
    compare_devices("300x2x3", stages=("fit",), **QUICK | {"devices": devices})
    assert chosen == choices
    assert _kernels.choice() == "1"


def test_missing_kernels_and_devices_have_reasons(monkeypatch):
    monkeypatch.setattr(_kernels.cpu, "native", lambda: None)
    found, skipped = _contest.paths(None)
    assert [path.name for path in found if path.name.startswith("cpu")] == ["cpu:numpy", "cpu:arrays"]
    assert "install a C++ compiler" in skipped["cpu"]
    _, skipped = _contest.paths(["cuda:77"])
    assert list(skipped) == ["cuda:77"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"devices": ["cpu:nump"]}, "did you mean 'cpu:numpy'"),
        ({"peers": ["sklearn"]}, "'sklearn' is no peer: give scikit-learn,"),
        ({"repeat": 0}, "repeat=0 is no whole number from 1"),
        ({"max_iter": 1}, "max_iter=1 is no whole number from 2"),
        ({"dtype": "float16"}, "give float32 or float64"),
        ({"kind": "moons"}, "give blobs or uniform"),
        ({"stages": ["predict"]}, "give 'fit', and others"),
        ({"random_state": None}, "must be made again from it"),
        ({"n_clusters": 3}, "a shape has its own"),
        ({"devices": ["cuda:77"], "peers": []}, "there is nobody to compare .cuda:77: "),
    ],
)
def test_settings_that_mean_nothing(settings, said):
    with pytest.raises(InputError, match=said):
        compare_devices("300x2x3", **settings)


def test_rows_need_a_number_of_clusters():
    with pytest.raises(InputError, match="n_clusters=None: give the number"):
        compare_devices([[0.0], [1.0]])


def test_sparse_rows_are_not_compared():
    with pytest.raises(InputError, match=r"data is sparse.*give data.toarray\(\)"):
        compare_devices(sparse.csr_array(np.eye(4)), 2)


def test_one_that_fails_takes_no_figures_with_it(plant):
    def breaks(rows, stop):
        def run():
            raise MemoryError("no room\nmore")

        return run

    plant(broken=breaks)
    (run,) = compare_devices("300x2x3", **QUICK | {"peers": ["broken", "scikit-learn"]}).runs
    assert run["skipped"]["broken"] == "MemoryError: no room"
    assert {"cpu:numpy", "scikit-learn"} == set(run["contestants"])


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_failing_late_is_no_worse(calls, plant):
    """After the warm-up, in the call that tells how long a round is, and in a round."""

    def breaks_late(rows, stop):
        made = []

        def run():
            made.append(1)
            if len(rows.X) == 300 and stop.max_iter == 10 and len(made) > calls:
                raise MemoryError("no room")
            return Answer(rows.init, np.zeros(len(rows.X), int), None)

        return run

    plant(late=breaks_late)
    (run,) = compare_devices("300x2x3", **QUICK | {"peers": ["late", "scikit-learn"]}).runs
    assert run["skipped"]["late"] == "fit: MemoryError: no room"
    assert {"cpu:numpy", "scikit-learn"} == set(run["contestants"])


# --- the same answer, or not --------------------------------------------------------------------


@pytest.fixture
def plant(monkeypatch):
    """Plant peers: name -> prepare."""

    def add(**made):
        added = tuple(Peer(name, "numpy", "numpy", prepare) for name, prepare in made.items())
        monkeypatch.setattr(_peers, "PEERS", (*_peers.PEERS, *added))

    return add


def side(change):
    """Our fit in float32, on rows, initial rows and iterations that were changed; the iterations are not told."""

    def prepare(rows, stop):
        X, init, iterations = change(rows, stop.given)
        return lambda: Answer(*fitted(X, init, iterations), None)

    return prepare


def fitted(X, init, iterations):
    model = KMeans(len(init), init=init, n_init=1, max_iter=iterations, tol=0, device="cpu").fit(X)
    return model.cluster_centers_, model.labels_


def half(rows, iterations):
    return (*(part.astype(np.float16).astype(np.float32) for part in (rows.X, rows.init)), iterations)


def other_start(rows, iterations):
    return rows.X, rows.X[np.random.default_rng(5).choice(len(rows.X), len(rows.init), replace=False)], iterations


def one_less(rows, iterations):
    return rows.X, rows.init, max(1, iterations - 1)


def the_same(rows, iterations):
    return rows.X, rows.init, iterations


@pytest.mark.parametrize("shape", ["20000x2x10", "30000x3x16"])
def test_wrong_sides_are_flagged_and_get_no_ratio(shape, plant):
    plant(**{change.__name__: side(change) for change in (half, other_start, one_less, the_same)})
    names = ["half", "other_start", "one_less", "the_same", "scikit-learn"]
    settings = {"repeat": 2, "memory": False, "limit": 30.0, "stages": ("fit",)}
    comparison = compare_devices(shape, devices=["cpu:numpy"], peers=names, **settings)
    (run,) = comparison.runs
    text = lines(comparison)
    for name in names:
        right = name in ("the_same", "scikit-learn")
        assert comparison.same_answer(name) == right, (name, run["contestants"][name]["answer"])
        assert (_figures.ratio(run, name, "total", "cpu:numpy") is not None) == right
        row = next(line for line in text if line.startswith(f"{name} "))
        assert row.endswith("]") == right, row
        assert _figures.timing(run, name, "fit") is not None  # the time itself is told
    assert sum("NOT THE SAME ANSWER: " in line for line in text) == 3


def test_an_iteration_less_is_flagged_by_its_number_alone():
    answer = {"n_iter": 9, "inertia": 100.0, "off": 0.0, "rand": 1.0, "center": 0.0}
    assert _answers._fit_differences(answer, {"n_iter": 10, "inertia": 100.0}) == ["9 iterations, not 10"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"off": 2e-4}, "inertia +2e-04"),
        ({"off": -2e-4}, "inertia -2e-04"),
        ({"off": None}, "centres that are not finite"),
        ({"rand": 0.99989}, "adjusted Rand 0.9999"),
        ({"center": 6e-4}, "centres 6e-04 off"),
        ({"off": 0.9e-4, "rand": 0.99991, "center": 4e-4}, None),
        ({"rand": None, "n_iter": None}, None),
    ],
)
def test_the_rule_has_its_limits_where_it_says(change, said):
    run = run_of({"cpu": timed([1.0])})
    run["contestants"]["cpu"]["answer"] |= change
    assert _figures.why_not_same(run, "cpu") == ([said] if said else [])


def test_other_stages_are_judged_by_their_own_answers():
    run = run_of({"cpu": timed([1.0], different=2, differ=1, error=2e-5)})
    assert _figures.why_not_same(run, "cpu", "seeding") == ["2 of 10 rows differ"]
    assert _figures.why_not_same(run, "cpu", "predict") == ["1 labels are not the fit's"]
    assert _figures.why_not_same(run, "cpu", "silhouette") == ["off by 2e-05"]
    assert _figures.why_not_same(run, "cpu", "iteration") == []


def test_centres_that_are_not_finite_can_be_stored(plant):
    plant(lost=lambda rows, stop: lambda: Answer(np.full(rows.init.shape, np.nan), None, None))
    comparison = compare_devices("300x2x3", **QUICK | {"peers": ["lost"]})
    assert not comparison.same_answer("lost")
    assert json.loads(comparison.to_json())["runs"][0]["contestants"]["lost"]["answer"]["inertia"] is None


# --- CUDA ---------------------------------------------------------------------------------------


@pytest.mark.cuda
def test_a_cuda_device_takes_part(cp):
    from gpukmeans.compare._standin import LABEL, driver

    shapes = ["2000x3x4", "3000x3x4"]
    comparison = compare_devices(shapes, devices=["cpu:numpy", "cuda"], peers=["scikit-learn"], repeat=2, memory=False)
    text = "\n".join(lines(comparison))
    for run in comparison.runs:
        one = run["contestants"]["cuda:0"]
        assert one["stand_in"] == (driver() is not None)
        assert one["answer"]["n_iter"] == run["reference"]["n_iter"]
        assert _figures.why_not_same(run, "cuda:0") == []
        assert (one["different"], one["differ"]) == (0, 0)
        assert one["error"] < 1e-5
        told = one["counts"] if one["stand_in"] else one["seconds"]
        assert set(told) == set(_contest.STAGES)
    assert comparison.environments[comparison.runs[0]["environment"]]["cuda"]["devices"][0]["name"] in text
    assert (LABEL in text) == (driver() is not None)
    assert max(map(len, text.splitlines())) <= 100


@standin
@pytest.mark.cuda
def test_the_stand_in_has_counts_and_no_times(cp):
    from gpukmeans.compare._rooflines import rooflines

    comparison = compare_devices("40000x3x4", devices=["cpu:numpy", "cuda"], peers=["scikit-learn"], repeat=1)
    (run,) = comparison.runs
    one = run["contestants"]["cuda:0"]
    assert one["seconds"] == {}
    assert one["warm_up"] is None
    assert one["counts"]["upload"]["upload_bytes"] == 40_000 * 3 * 4
    assert one["counts"]["download"]["download_bytes"] == 40_000 * 4
    each = _figures.asked_of(run, "cuda:0")["iteration"]
    assert each["downloads"] == 1  # one small array is read back an iteration
    assert each["uploads"] == 0
    assert one["device_mib"] > 0 or "STANDIN_MEMCHECK" in os.environ  # which turns CuPy's pool off
    assert _figures.ratio(run, "cuda:0", baseline="cpu:numpy") is None
    assert rooflines(["cuda"]) == {}
    assert "no bound for device='auto' follows" in " ".join(lines(comparison))
    assert set(comparison.to_frame().query("contestant == 'cuda:0'")["seconds"].dropna()) == set()


@standin
@pytest.mark.cuda
def test_what_times_a_device_runs(cp, monkeypatch):
    """Events, and the products and copies of rooflines: executed, though the stand-in's clock stands still."""
    from gpukmeans._device import cuda_devices
    from gpukmeans.compare._clocks import event_clock
    from gpukmeans.compare._rooflines import on_cuda

    (device,), _ = cuda_devices()
    seconds, answer = event_clock(device)(lambda: int(cp.arange(4).sum()))
    assert (seconds, answer) == (0.0, 6)
    monkeypatch.setattr("gpukmeans.compare._rooflines.event_clock", lambda device: _measure.host_clock)
    ceilings = on_cuda(device, size=16, mib=1, repeat=1)
    assert set(ceilings["gemm"]) == {"float32", "float64"}


def test_threads_of_a_comparison_end():
    before = threading.active_count()
    compare_devices("300x2x3", **QUICK)
    assert threading.active_count() == before
