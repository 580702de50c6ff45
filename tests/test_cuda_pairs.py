"""Sums of distances by the CUDA kernel against float64 brute force, and the same bits however they are launched."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from cuda_standin import device
from cuda_standin.marks import counted, kernels, standin
from test_cuda_seeding import far_apart
from test_parity import brute_silhouettes
from test_silhouette import nested, problem

from gpukmeans._kernels import find
from gpukmeans._kernels.cuda import pairs
from gpukmeans._silhouette import _cells, labeling
from gpukmeans.metrics import silhouette_curve, silhouette_samples

pytestmark = [pytest.mark.cuda, kernels]


def sums_of(cp, X, labelings):
    """Sums of distances to every cluster of every labeling, (clusters, n), in the order of the rows."""
    X = X if isinstance(X, cp.ndarray) else cp.asarray(X)
    assert find("distance_sums", X) is pairs.distance_sums
    cells = _cells([labeling(codes) for codes in labelings])
    found = np.full((cells.n_columns, len(X)), np.nan)

    def done(first, sums):
        found[:, cells.order[first : first + sums.shape[1]]] = sums

    pairs.distance_sums(X, cells, done, None)
    return found


def brute(X, labelings):
    rows = X.astype(np.float64)
    distances = np.sqrt(((rows[:, None] - rows) ** 2).sum(axis=2))
    members = [codes == cluster for codes in labelings for cluster in range(codes.max() + 1)]
    return np.stack([distances[:, member].sum(axis=1) for member in members])


def codes_of(n, k, seed=0):
    """Clusters of different sizes, none empty."""
    rng = np.random.default_rng([n, k, seed])
    codes = np.minimum(rng.integers(0, k, n), rng.integers(0, k, n))
    codes[rng.permutation(n)[:k]] = np.arange(k)
    return codes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 63, 64, 65, 129, 300])
def test_awkward_sizes(cp, dtype, n):
    rng = np.random.default_rng(n)
    for d in (1, 2, 15, 16, 17, 40):
        X = (rng.normal(size=(n, d)) * np.arange(1, d + 1) + 5).astype(dtype)
        for k in {1, min(n, 3), n}:
            codes = codes_of(n, k)
            np.testing.assert_allclose(sums_of(cp, X, [codes]), brute(X, [codes]), rtol=1e-13, err_msg=f"{d} {k}")


@pytest.mark.parametrize("n", [100, 333])
def test_many_labelings_at_once(cp, n):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 3))
    labelings = [np.unique(codes, return_inverse=True)[1] for codes in nested(n, rng)]
    labelings += [np.zeros(n, int), np.arange(n)]
    found = sums_of(cp, X, labelings)
    np.testing.assert_allclose(found, brute(X, labelings), rtol=1e-13)
    columns = np.cumsum([0] + [codes.max() + 1 for codes in labelings])
    whole = found[columns[-3]]  # the labeling of one cluster
    for a, b in pairwise(columns):
        np.testing.assert_allclose(found[a:b].sum(axis=0), whole, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tight_clusters_keep_the_digits_of_the_data(cp, dtype):
    """Far from the origin, near each other, and beside clusters far away."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(200) % 4)
    X = (np.array([1.0, 1.001, 1e4, 1.0001e4])[codes][:, None] * (1 + 1e-5 * rng.normal(size=(200, 7)))).astype(dtype)
    np.testing.assert_allclose(sums_of(cp, X, [codes]), brute(X, [codes]), rtol=1e-13)
    found = silhouette_samples(cp.asarray(X), codes).get()
    assert abs(found - brute_silhouettes(X.astype(np.float64), codes)).max() < 1e-12


def test_copies_are_at_no_distance(cp):
    X = np.repeat(np.random.default_rng(0).normal(size=(60, 9)) * 1e3 + 1e6, 2, axis=0)
    found = sums_of(cp, X, [np.repeat(np.arange(60), 2)])
    assert (found[np.repeat(np.arange(60), 2), np.arange(120)] == 0).all()
    assert (silhouette_samples(cp.asarray(X), np.repeat(np.arange(60), 2)).get() == 1).all()
    assert (silhouette_samples(cp.full((130, 3), 0.1), np.arange(130) % 3).get() == 0).all()


@pytest.mark.parametrize("d", [2, 16])
def test_silhouettes_are_those_of_numpy(cp, d):
    X, labels, expected = problem(401, d, 7)
    assert abs(silhouette_samples(cp.asarray(X), labels).get() - expected).max() < 1e-13
    single = X.astype(np.float32)
    found = silhouette_samples(cp.asarray(single), cp.asarray(labels)).get()
    assert abs(found - silhouette_samples(single, labels)).max() < 1e-13
    labelings = nested(401, np.random.default_rng(6))
    curve = silhouette_curve(X, labelings)
    np.testing.assert_allclose(silhouette_curve(cp.asarray(X), labelings), curve, atol=1e-13)


@pytest.mark.parametrize("d", [3, 20])
def test_float32_and_layouts_do_not_change_a_bit(cp, d):
    X, codes = np.random.default_rng(d).normal(size=(150, d)).astype(np.float32), codes_of(150, 5)
    expected = sums_of(cp, X, [codes])
    assert np.array_equal(sums_of(cp, X.astype(np.float64), [codes]), expected)
    wide = cp.zeros((300, 3 * d), X.dtype)
    wide[::2, ::3] = cp.asarray(X)
    for other in (cp.asfortranarray(cp.asarray(X)), wide[::2, ::3], cp.asarray(X[::-1].copy())[::-1]):
        assert np.array_equal(sums_of(cp, other, [codes]), expected)


@standin
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1])
def test_indices_have_64_bits(cp, monkeypatch, dtype, axis):
    X, codes = np.random.default_rng(0).normal(size=(4, 3)).astype(dtype), np.array([0, 1, 0, 1])
    expected = sums_of(cp, X, [codes])
    assert np.array_equal(sums_of(cp, far_apart(cp, monkeypatch, X, axis), [codes]), expected)


def test_threads_blocks_and_room_do_not_change_a_bit(cp, monkeypatch):
    rng = np.random.default_rng(4)
    X, labelings = rng.normal(size=(333, 6)), [codes_of(333, 4), codes_of(333, 60)]
    expected = sums_of(cp, X, labelings)
    for seed in range(4):
        monkeypatch.setenv("STANDIN_SEED", str(seed))
        monkeypatch.setattr(pairs, "_MOST_BLOCKS", seed + 1)
        monkeypatch.setattr(pairs, "_SUMS_BYTES", 8 * 64 * 64 * seed)
        assert np.array_equal(sums_of(cp, X, labelings), expected)


# --- what it costs ----------------------------------------------------------------------------------


@standin
def test_one_reading_back_for_each_launch(cp, monkeypatch):
    X, codes = cp.asarray(np.random.default_rng(0).normal(size=(300, 5))), codes_of(300, 3)
    for room, launches in ((1 << 28, 1), (8 * 3 * 128, 3)):
        monkeypatch.setattr(pairs, "_SUMS_BYTES", room)
        with device.recorded() as events:
            sums_of(cp, X, [codes])
        kinds = [event.kind for event in events if event.kind in ("d2h", "h2d")]
        assert kinds == ["h2d"] * 3 + ["d2h"] * launches
        assert sum(event.name == "distance_sums" for event in events) == launches
        assert sum(event.bytes for event in events if event.kind == "d2h") == 8 * 3 * 300


@counted
def test_rows_are_read_once_for_64_places(cp):
    n, d = 640, 16
    X, codes = cp.asarray(np.random.default_rng(0).normal(size=(n, d))), codes_of(n, 3)
    with device.recorded() as events:
        sums_of(cp, X, [codes])
    (launch,) = [event for event in events if event.name == "distance_sums"]
    tiles = n // 64
    assert launch.loaded <= 1.15 * tiles**2 * 64 * (2 * 8 * d + 16)  # both sides, their order and cells
    assert launch.stored <= 8 * n * (tiles + 2)  # the two clusters that end within a tile


@standin
def test_too_little_memory_gives_the_same_bits_or_a_clear_error(cp, monkeypatch):
    pool, before = cp.get_default_memory_pool(), cp.cuda.get_allocator()
    cp.cuda.set_allocator(pool.malloc)
    X, codes = cp.asarray(np.random.default_rng(0).normal(size=(1000, 3))), np.arange(1000) % 500
    expected = silhouette_samples(X, codes).get()
    launches = set()
    for room in (8_000_000, 3_000_000, 1_500_000, 700_000, 300_000, 1000):
        pool.free_all_blocks()
        used = device.counters().live_bytes
        monkeypatch.setenv("STANDIN_MEMORY", str(used + room))
        try:
            with device.recorded() as events:
                found = silhouette_samples(X, codes).get()
        except MemoryError:
            break
        assert np.array_equal(found, expected)
        launches.add(sum(event.name == "distance_sums" for event in events))
    else:
        pytest.fail("it found memory where there was none")
    cp.cuda.set_allocator(before)
    assert len(launches) > 1
