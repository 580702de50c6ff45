"""k-means++ by the CUDA kernels: potentials, draws and picks against float64 brute force and the other bodies."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.cluster
from cuda_standin import device
from cuda_standin.marks import counted, kernels, standin
from test_seeding_kernels import brute, data

from gpukmeans import kmeans_plusplus
from gpukmeans._device import resolve
from gpukmeans._frame import Frame
from gpukmeans._kernels import find
from gpukmeans._kernels.cuda import plus_plus
from gpukmeans._prepare import prepare

pytestmark = [pytest.mark.cuda, kernels]


def start(cp, X, w=None, k=12, tile=256):
    """A seeding of rows on the device, and its scale."""
    X = X if isinstance(X, cp.ndarray) else cp.asarray(X)
    assert find("seeding", X) is plus_plus.Seeding
    with prepare(X, w, k, resolve("auto", X)) as (plan, _):
        return plus_plus.Seeding(plan.rows, plan.weights, plan.frame, k, tile, None, None), plan.frame.scale


def far_apart(cp, monkeypatch, X, axis):
    """X on the device with 2^31 elements from row to row, or from feature to feature.

    Only what is touched of the allocation takes memory, under the stand-in.
    """
    monkeypatch.setenv("STANDIN_MEMORY", "1e12")
    strides = [X.shape[1 - axis] * X.itemsize] * 2
    strides[axis], strides[1 - axis] = (2**31 + 64) * X.itemsize, X.itemsize
    base = cp.cuda.Memory(X.shape[axis] * strides[axis])
    for i, values in enumerate(np.moveaxis(X, axis, 0)):
        line = cp.cuda.MemoryPointer(base, i * strides[axis])
        cp.ndarray(values.shape, X.dtype, line).set(np.ascontiguousarray(values))
    return cp.ndarray(X.shape, X.dtype, cp.cuda.MemoryPointer(base, 0), tuple(strides))


def passes(cp, X, w=None, tile=256):
    """Potentials of a seeding with fixed choices, for 12 centres, and the scale; see `brute`."""
    seeding, scale = start(cp, X, w, tile=tile)
    rng, winner, out = np.random.default_rng(5), None, []
    for _ in range(12):
        candidates = cp.asarray(rng.integers(0, len(X), 3))
        out.append(seeding.lower(winner, candidates).get())
        winner = candidates[1:2]
    return out, scale


def same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


SHAPES = [(1, 1), (700, 1), (127, 2), (129, 3), (1, 16), (257, 17), (300, 32), (130, 33), (385, 70), (65, 130)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_potentials_on_awkward_sizes(cp, dtype, weighted):
    for n, d in SHAPES:
        X = data("plain", n, d, dtype, seed=n)
        w = np.random.default_rng(n).integers(0, 3, n) * 0.7 if weighted else None
        for tile in (256, 64, 100):
            found, scale = passes(cp, X, w, tile)
            for a, b in zip(found, brute(X, w, scale, tile=tile)[::2], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-13, atol=0, err_msg=f"{n} x {d}, tiles of {tile}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["duplicates", "offset", "two groups", "outlier", "tiny", "huge"])
def test_potentials_on_hard_data(cp, dtype, kind):
    for d in (2, 40):
        X = data(kind, 300, d, dtype)
        found, scale = passes(cp, X)
        for a, b in zip(found, brute(X, None, scale)[::2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=0, err_msg=f"d = {d}")


@pytest.mark.parametrize("kind", ["plain", "duplicates", "outlier"])
@pytest.mark.parametrize("d", [3, 40])
def test_the_float32_test_changes_no_bit(cp, kind, d):
    """The same rows in float64 are all decided in float64."""
    X = data(kind, 700, d, np.float32)
    X[5] = X[4] * (1 + 2.0**-20)  # pairs that float32 cannot tell apart
    assert same(passes(cp, X)[0], passes(cp, X.astype(np.float64))[0])


def test_rows_that_float32_flushes_to_zero(cp):
    """A tile of rows whose squared distances underflow in float32, beside rows far enough away to need no scale."""
    X = np.full((300, 2), 1e-9, np.float32)
    X[:256] = np.random.default_rng(0).normal(size=(256, 2)) * 1e-25
    found, scale = passes(cp, X)
    assert scale == 1
    assert same(found, passes(cp, X.astype(np.float64))[0])
    for a, b in zip(found, brute(X, None, scale)[::2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=0)


@pytest.mark.parametrize("factor", [2.0**40, 2.0**-40])
def test_rows_that_are_scaled_though_float32_could_hold_their_squares(cp, factor):
    X = (data("plain", 300, 3, np.float32) * factor).astype(np.float32)
    found, scale = passes(cp, X)
    assert scale != 1
    assert same(found, passes(cp, X.astype(np.float64))[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [1, 7, 8, 15, 16, 37])
def test_any_number_of_candidates(cp, dtype, t):
    X = data("plain", 333, 5, dtype)
    seeding, _ = start(cp, X)
    first, candidates = np.array([11]), np.random.default_rng(t).integers(0, 333, t)
    seeding.lower(None, cp.asarray(first))
    found = seeding.lower(cp.asarray(first), cp.asarray(candidates)).get()
    rows = X.astype(np.float64)
    squared = ((rows - rows[np.append(first, candidates)][:, None]) ** 2).sum(axis=2)
    lowered = np.minimum(squared[0], squared[1:])
    expected = np.stack([lowered[:, :256].sum(axis=1), lowered[:, 256:].sum(axis=1)])
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    np.testing.assert_allclose(seeding._rows[-1].get(), squared[0], rtol=1e-14)  # the winner is settled


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [3, 40])
def test_layouts_do_not_change_a_bit(cp, dtype, d):
    X = data("plain", 300, d, dtype)
    expected = passes(cp, X)[0]
    wide = cp.zeros((600, 3 * d), dtype)
    wide[::2, ::3] = cp.asarray(X)
    for other in (cp.asfortranarray(cp.asarray(X)), wide[::2, ::3], cp.asarray(X[::-1].copy())[::-1]):
        assert same(passes(cp, other)[0], expected)


@standin
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1])
def test_indices_have_64_bits(cp, monkeypatch, dtype, axis):
    X = data("plain", 4, 3, dtype)
    candidates, out = cp.asarray([3, 2, 0]), []
    for rows in (cp.asarray(X), far_apart(cp, monkeypatch, X, axis)):
        seeding = plus_plus.Seeding(rows, None, Frame(None, 1.0, dtype), 4, 256, None, None)
        first = cp.asarray([1])
        masses = seeding.lower(None, first)[:, 0]
        out.append([masses, seeding.lower(first, candidates), seeding.draw(first, masses, cp.asarray([0.2, 0.9]))])
    assert same(*([part.get() for part in parts] for parts in out))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_and_blocks_do_not_change_a_bit(cp, monkeypatch, dtype):
    X, w = data("outlier", 1500, 3, dtype), np.arange(1500) % 5 * 0.3
    expected, picks = passes(cp, X, w)[0], kmeans_plusplus(cp.asarray(X), 12, random_state=0)[1].get()
    for seed in range(4):
        monkeypatch.setenv("STANDIN_SEED", str(seed))
        monkeypatch.setattr(plus_plus, "_MOST_BLOCKS", 1 + 2 * seed)
        assert same(passes(cp, X, w)[0], expected)
        assert np.array_equal(kmeans_plusplus(cp.asarray(X), 12, random_state=0)[1].get(), picks)


# --- draws and picks ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["plain", "duplicates", "huge"])
@pytest.mark.parametrize("n", [1, 255, 257, 1100])
def test_draws(cp, dtype, kind, n):
    """Also at the ends: the first row with any mass, and the last one."""
    X, rng = data(kind, n, 3, dtype), np.random.default_rng(1)
    w = rng.integers(0, 2, n) * 1.0 + (np.arange(n) == n - 1)
    uniforms = np.concatenate([[0.0, 1.0, np.nextafter(1.0, 0)], rng.random(40)])
    seeding, scale = start(cp, X, w)
    rows, closest = X.astype(np.float64) * scale, np.full(n, np.inf)
    winner = cp.asarray([n // 2])
    masses = seeding.lower(None, winner)[:, 0]
    for _ in range(3):
        drawn = seeding.draw(winner, masses, cp.asarray(uniforms)).get()
        closest = np.minimum(closest, ((rows - rows[int(winner[0])]) ** 2).sum(axis=1))
        cumulated = np.cumsum(w * closest)
        expected = np.searchsorted(cumulated, uniforms * cumulated[-1]).clip(max=n - 1)
        assert np.array_equal(drawn[3:], expected[3:])
        assert drawn[0] == 0
        assert (np.append(w * closest, 0)[drawn[1:3]] > 0).all() or cumulated[-1] == 0
        assert (drawn[1:3] >= expected[3:].max()).all()
        winner, masses = seeding.pick(cp.asarray(drawn), seeding.lower(winner, cp.asarray(drawn)))


@pytest.mark.parametrize("tiles", [1, 3, 127, 128, 129, 1000])
def test_a_tile_is_drawn_by_its_mass(cp, tiles):
    """Tiles of one row, of which some have no mass: the row is the tile."""
    X = np.zeros((tiles + 1, 1))
    X[:tiles, 0] = np.random.default_rng(tiles).integers(0, 3, tiles)
    seeding, _ = start(cp, X, tile=1)
    winner = cp.asarray([tiles])
    masses = seeding.lower(None, winner)[:, 0]
    assert np.array_equal(masses.get(), X[:, 0] ** 2)
    uniforms = (np.arange(2000) + 0.5) / 2000
    expected = np.searchsorted(np.cumsum(X[:, 0] ** 2), uniforms * (X**2).sum())
    assert np.array_equal(seeding.draw(winner, masses, cp.asarray(uniforms)).get(), expected)


@pytest.mark.parametrize("tiles", [1, 31, 1025, 2500])
def test_the_first_of_the_lowest_is_picked(cp, tiles):
    seeding, _ = start(cp, np.zeros((tiles, 1)), tile=1)
    rng = np.random.default_rng(tiles)
    potentials = rng.random((5, tiles))
    potentials[3] = potentials[1] = potentials.min(axis=0) / 2
    potentials[1, 0] *= 1 + 1e-13 * tiles  # rounding does not make the third better than the first
    assert not np.array_equal(potentials[1], potentials[3])
    candidates = cp.asarray([50, 40, 30, 20, 10])
    winner, masses = seeding.pick(candidates, cp.asarray(potentials).T)
    assert winner.get().tolist() == [40]
    assert np.array_equal(masses.get(), potentials[1])
    potentials[4] = potentials[1] * (1 - 1e-9)
    winner, masses = seeding.pick(candidates, cp.asarray(potentials).T)
    assert winner.get().tolist() == [10]
    assert np.array_equal(masses.get(), potentials[4])


# --- whole seedings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "k"), [(700, 2, 7), (60, 1, 60), (900, 3, 16), (500, 40, 20), (5, 3, 1)])
def test_picks_are_those_of_scikit_learn(cp, n, d, k):
    X = np.random.default_rng(d).random((n, d))
    for seed in range(4):
        w = np.random.default_rng(seed).integers(1, 4, n).astype(np.float64) if seed % 2 else None
        theirs = sklearn.cluster.kmeans_plusplus(X, k, random_state=seed, sample_weight=w)[1]
        ours = kmeans_plusplus(cp.asarray(X), k, random_state=seed, sample_weight=w)[1]
        assert np.array_equal(ours.get(), theirs), seed


@pytest.mark.parametrize("kind", ["plain", "duplicates", "offset", "two groups", "outlier", "huge", "tiny"])
def test_float32_picks_what_float64_would(cp, kind):
    for d, k in ((2, 9), (40, 20)):
        X = data(kind, 500, d, np.float32)
        for seed in range(2):
            ours = kmeans_plusplus(cp.asarray(X), k, random_state=seed)[1].get()
            wide = X.astype(np.float64)
            assert np.array_equal(ours, kmeans_plusplus(cp.asarray(wide), k, random_state=seed)[1].get())
            assert np.array_equal(ours, kmeans_plusplus(wide, k, random_state=seed)[1])


def test_the_array_bodies_pick_the_same(cp, monkeypatch):
    X, w = data("plain", 900, 6, np.float32), np.arange(900) % 4 * 0.5
    ours = kmeans_plusplus(cp.asarray(X), 15, random_state=1, sample_weight=w)[1].get()
    assert (w[ours] > 0).all()
    monkeypatch.setenv("GPUKMEANS_KERNELS", "0")
    assert np.array_equal(kmeans_plusplus(cp.asarray(X), 15, random_state=1, sample_weight=w)[1].get(), ours)


# --- what it costs ----------------------------------------------------------------------------------


@standin
def test_three_launches_a_centre_and_nothing_read_back(cp):
    X = cp.asarray(data("plain", 700, 5, np.float32))
    copies, kernels = [], []
    for k in (5, 7):
        kmeans_plusplus(X, k, random_state=0)
        with device.recorded() as events:
            kmeans_plusplus(X, k, random_state=0)
        copies.append([event.kind for event in events if event.kind in ("h2d", "d2h", "sync")])
        kernels.append([event.name for event in events if event.kind == "launch"])
    assert copies[0] == copies[1]
    ours = [[name for name in names if name in ("lower", "pick", "draw")] for names in kernels]
    assert ours[1] == ["lower", *(["draw", "lower", "pick"] * 6)]
    assert len(kernels[1]) - len(kernels[0]) <= 2 * 3 + 2  # the last two: putting the picks side by side


@counted
@pytest.mark.parametrize(("d", "dtype"), [(3, np.float32), (16, np.float32), (16, np.float64), (128, np.float64)])
def test_rows_are_read_once_for_all_candidates(cp, d, dtype):
    n, t = 2048, 7
    X = data("plain", n, d, dtype)
    seeding, _ = start(cp, X)
    first, candidates = cp.asarray([3]), cp.arange(0, 70, 10)
    seeding.lower(None, first)
    with device.recorded() as events:
        seeding.lower(first, candidates)
    (launch,) = [event for event in events if event.name == "lower"]
    points = n // 128 * 8 * X.itemsize * d  # gathered again for each 128 rows, from the cache
    assert launch.loaded <= 1.15 * (X.nbytes + 8 * n + points)
    assert launch.loaded - points >= X.nbytes
    assert launch.stored <= 8 * n + 8 * t * (n // 256)


@counted
def test_float32_rules_pairs_out(cp):
    """Otherwise the tests above would compare the float64 distances with themselves.

    Rows of more than 128 bytes are loaded again, 128 rows at a time, where a pair of theirs is open.
    """
    X = data("plain", 1024, 40, np.float32)
    X[512:] += 1000
    seeding, _ = start(cp, X)
    left, right = cp.asarray([3]), cp.asarray([600])
    again = []
    for winner, candidate in ((None, left), (left, right), (right, cp.asarray([5])), (right, cp.asarray([700]))):
        with device.recorded() as events:
            seeding.lower(winner, candidate)
        (loaded,) = [event.loaded for event in events if event.name == "lower"]
        again.append(round((loaded - 8 * len(X)) / ((128 + 8) * 40 * 4)) - 8)  # rows, and eight points
    assert again == [8, 8, 8, 4]  # each centre is settled when the next candidates are evaluated
