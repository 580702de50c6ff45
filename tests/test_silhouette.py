"""Silhouettes: the compiled sums of distances against brute force, and the same bits however they are computed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import sklearn.metrics
from test_parity import brute_silhouettes

from gpukmeans._kernels.cpu import native, pairs
from gpukmeans._silhouette import _cells, labeling
from gpukmeans.metrics import silhouette_curve, silhouette_samples

SETS = native().instruction_sets() if native() else []
compiled = pytest.mark.skipif(not SETS, reason="the extension is not built")


@pytest.fixture(params=["array bodies", "numpy", *SETS])
def kernels(request, monkeypatch):
    """Silhouettes by each set of kernels."""
    if request.config.getoption("--auto-cuda") and request.param in (*SETS[1:], "numpy"):
        pytest.skip("on a device the same as another")
    choice = {"array bodies": "0", "numpy": "numpy"}.get(request.param, "1")
    monkeypatch.setenv("GPUKMEANS_KERNELS", choice)
    if request.param not in SETS:
        yield request.param
        return
    before = native().instruction_set()
    native().use(request.param)
    yield request.param
    native().use(before)


@cache
def problem(n, d, k, dtype=np.float64, seed=0):
    """Blobs, labels that mostly follow them, and the silhouettes in extended precision."""
    rng = np.random.default_rng([n, d, k, seed])
    blob = rng.permutation(np.arange(n) % k)
    X = (rng.normal(size=(k, d))[blob] * 3 + rng.normal(size=(n, d)) + 5).astype(dtype)
    labels = np.where(rng.random(n) < 0.1, rng.permutation(blob), blob)
    labels[rng.permutation(n)[:k]] = np.arange(k)  # no cluster is empty
    return X, labels, brute_silhouettes(X, labels)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 16, 33])
@pytest.mark.parametrize("n", [3, 4, 95, 96, 97, 501])
def test_against_brute_force(kernels, n, d):
    X, labels, expected = problem(n, d, min(n - 1, 5))
    assert abs(silhouette_samples(X, labels) - expected).max() < 1e-13


@pytest.mark.parametrize("d", [3, 16])
@pytest.mark.parametrize("k", [2, 150, 300])
def test_many_clusters_and_singletons(kernels, k, d):
    X, labels, expected = problem(301, d, k)
    assert (np.bincount(labels) == 1).any() or k == 2
    assert abs(silhouette_samples(X, labels) - expected).max() < 1e-13


@pytest.mark.parametrize("d", [2, 16])
def test_two_rows_of_each_kind(kernels, d):
    """Copies are at no distance: in their cluster 1, beside copies in another cluster at most 0."""
    X = np.repeat(np.random.default_rng(0).normal(size=(60, d)) * 1e3 + 1e6, 2, axis=0)
    together = np.repeat(np.arange(60), 2)
    assert (silhouette_samples(X, together) == 1).all()
    apart = np.tile([0, 1], 60)
    assert (silhouette_samples(X, apart) <= 0).all()
    assert (silhouette_samples(np.full((130, d), 0.1), np.arange(130) % 3) == 0).all()


@pytest.mark.parametrize("d", [4, 16])
def test_tight_clusters_beside_far_ones(kernels, d):
    """Clusters that share a tile with rows far away keep the digits of their small distances."""
    rng = np.random.default_rng(d)
    labels = rng.permutation(np.arange(240) % 4)
    X = (np.array([0.0, 1e-4, 1e3, 1e3 + 1e-3])[labels])[:, None] + 1e-5 * rng.normal(size=(240, d))
    assert abs(silhouette_samples(X, labels) - brute_silhouettes(X, labels)).max() < 1e-9


@compiled
@pytest.mark.parametrize("d", [4, 16])
def test_cancelled_products_are_computed_again(d):
    """The case above, by the compiled kernels: every distance has the digits of the data."""
    rng = np.random.default_rng(d)
    labels = rng.permutation(np.arange(240) % 4)
    X = (np.array([0.0, 1e-6, 1e6, 1e6 + 1e-3])[labels])[:, None] + 1e-7 * rng.normal(size=(240, d))
    assert abs(silhouette_samples(X, labels) - brute_silhouettes(X, labels)).max() < 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [2, 16])
def test_against_scikit_learn(kernels, d, dtype):
    X, labels, _ = problem(1200, d, 7)
    ours = silhouette_samples(X.astype(dtype), labels)
    wide = X.astype(dtype).astype(np.float64)
    assert ours.dtype == np.float64
    assert abs(ours - sklearn.metrics.silhouette_samples(wide, labels)).max() < 1e-12
    assert abs(ours - silhouette_samples(X, labels)).max() < 1e-6


def as_strided(X):
    """X with gaps between rows and between columns."""
    wide = np.zeros((2 * len(X), 3 * X.shape[1]), X.dtype)
    wide[::2, ::3] = X
    return wide[::2, ::3]


def as_unaligned(X):
    buffer = np.zeros(X.nbytes + 1, np.uint8)
    odd = buffer[1:].view(X.dtype).reshape(X.shape)
    odd[:] = X
    return odd


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": as_strided,
    "backwards": lambda X: np.ascontiguousarray(X[::-1])[::-1],
    "unaligned": as_unaligned,
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_change_a_bit(layout, dtype):
    X, labels, _ = problem(501, 16, 5)
    X = X.astype(dtype)
    assert np.array_equal(silhouette_samples(LAYOUTS[layout](X), labels), silhouette_samples(X, labels))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16, np.int64, np.float16, bool])
def test_other_types_are_what_their_values_are(request, dtype):
    X = np.random.default_rng(0).integers(0, 2 if dtype is bool else 90, size=(300, 9)).astype(dtype)
    labels = np.arange(300) % 4
    difference = silhouette_samples(X, labels) - silhouette_samples(X.astype(np.float64), labels)
    assert abs(difference).max() <= (1e-13 if request.config.getoption("--auto-cuda") else 0)


def nested(n, rng):
    """Labelings of which each splits clusters of the one before, one with very many, and one of its own."""
    fine = rng.integers(0, 40, n)
    return [fine // 20, fine // 10, fine % 3, fine, rng.integers(0, n // 3, n)]


def test_a_curve_is_as_many_single_calls(kernels):
    rng = np.random.default_rng(6)
    n = 700 if kernels in SETS else 300
    X = rng.normal(size=(n, 10))
    labelings = nested(n, rng)
    single = [silhouette_samples(X, labels).mean() for labels in labelings]
    np.testing.assert_allclose(silhouette_curve(X, labelings), single, atol=1e-13)
    for labels, value in zip(labelings, single, strict=True):
        assert abs(value - sklearn.metrics.silhouette_score(X, labels)) < 1e-12


def test_cells_are_the_distinct_tuples_of_labels():
    rng = np.random.default_rng(2)
    labelings = [labeling(np.unique(one, return_inverse=True)[1]) for one in nested(500, rng)]
    cells = _cells(labelings)
    tuples = np.stack([one.codes for one in labelings], axis=1)[cells.order]
    assert sorted(cells.order) == list(range(500))
    assert len(cells.edges) - 1 == len(np.unique(tuples, axis=0)) == len(cells.columns)
    for a, b, columns in zip(cells.edges[:-1], cells.edges[1:], cells.columns, strict=True):
        assert (tuples[a:b] == tuples[a]).all()
        assert len(set(columns)) == len(labelings)


@compiled
@pytest.mark.host
@pytest.mark.parametrize("room", [32_000_000, 0], ids=["each distance once", "by tiles"])
@pytest.mark.parametrize(("n", "d"), [(1025, 2), (2500, 16), (3000, 70)])
def test_threads_do_not_change_a_bit(monkeypatch, isa, room, n, d):
    monkeypatch.setattr(pairs, "_SUMS_BYTES", room)
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, d))
    labels = rng.integers(0, 9, n)
    results = []
    for threads in (1, 2, 3, 8, 8):
        monkeypatch.setenv("GPUKMEANS_NUM_THREADS", str(threads))
        results.append(silhouette_samples(X, labels).tobytes())
    assert len(set(results)) == 1


@compiled
@pytest.mark.parametrize("n", [2, 5, 96, 97, 191, 192, 193, 500, 1000, 1700])
def test_each_distance_once_or_by_tiles(monkeypatch, n):
    """Any number of tiles, odd and even; with the sums of all rows, or of some at a time."""
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 11))
    codes = np.minimum(np.arange(n), rng.integers(0, 7, n))
    codes = np.unique(codes, return_inverse=True)[1]
    once = sums_of(X, [codes])
    D = np.linalg.norm(X[:, None] - X, axis=2)
    expected = np.stack([D[:, codes == j].sum(axis=1) for j in range(codes.max() + 1)])
    np.testing.assert_allclose(once, expected, rtol=1e-13, atol=1e-300)
    monkeypatch.setattr(pairs, "_SUMS_BYTES", 0)
    np.testing.assert_allclose(sums_of(X, [codes]), once, rtol=1e-13, atol=1e-300)
    monkeypatch.setattr(pairs, "_TILE_SUMS", 0)  # the lowest tiles
    np.testing.assert_allclose(sums_of(X, [codes]), once, rtol=1e-13, atol=1e-300)


def sums_of(X, labelings):
    """Sums of distances to every cluster, (clusters, n), in the order of the rows."""
    from gpukmeans._threads import Workers

    cells = _cells([labeling(codes) for codes in labelings])
    found = np.full((cells.n_columns, len(X)), np.nan)

    def done(place, sums):
        found[:, cells.order[place : place + sums.shape[1]]] = sums

    pairs.distance_sums(X, cells, done, Workers(1))
    return found


@compiled
@pytest.mark.host
def test_memory_beyond_the_sums_is_small(monkeypatch):
    """Neither n x n nor n x k beyond the budget is held."""
    import tracemalloc

    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "1")
    monkeypatch.setattr(pairs, "_SUMS_BYTES", 1_000_000)
    monkeypatch.setattr(pairs, "_TILE_SUMS", 1 << 15)
    X, labels = np.random.default_rng(0).normal(size=(4000, 3)), np.arange(4000) % 1000
    silhouette_samples(X[:300], labels[:300] % 3)
    tracemalloc.start()
    silhouette_samples(X, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000  # 4000 x 1000 float64 would be 32 MB
