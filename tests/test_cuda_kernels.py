"""The CUDA kernels against float64 brute force: every path, awkward sizes, hard data; the same bits for every grid.

They run where a CUDA device is usable, or the stand-in for one (tests/cuda_standin).
"""

from __future__ import annotations

import numpy as np
import pytest
from cuda_standin.marks import kernels
from test_exactness import brute, offset, two_groups

from gpukmeans import KMeans
from gpukmeans._device import home_of
from gpukmeans._kernels.cuda import passes
from gpukmeans._lloyd import update_centers
from gpukmeans._prepare import prepare

pytestmark = [pytest.mark.cuda, kernels]

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])


def is_fused(X, k):
    return passes.fused(X.shape[1], k, X.itemsize, X.itemsize) is not None


def check_step(cp, X, C, weights=None):
    """One step and the centres it leads to, against brute force; the step, and the centres."""
    k = len(C)
    x = cp.asarray(X)
    with prepare(x, weights, k, home_of(x)) as (plan, _):
        centers = cp.asarray(C, dtype=cp.float64)
        step = plan.step(centers)
        moved, facts = plan.operations.move_centers(step, centers, plan.frame)
        again = plan.add_up(step.labels)
        assert int(plan.step(centers).changed.sum()) == 0  # of the same rows
        squared = plan.squared_to_own(step.labels, centers)
        inertia = plan.inertia(step.labels, centers)
        shift = plan.frame.shift.get()
    labels, w = brute(X, C), np.ones(len(X)) if weights is None else weights
    np.testing.assert_array_equal(step.labels.get(), labels)
    own = ((X.astype(np.float64) - np.asarray(C, np.float64)[labels]) ** 2).sum(1)
    np.testing.assert_allclose(squared.get(), own, rtol=1e-12)
    assert inertia == pytest.approx((w * own).sum(), rel=1e-12)
    x = X.astype(np.float64) - shift
    hot = (labels[:, None] == np.arange(k)) * w[:, None]
    sums, masses, counts = hot.T @ x, hot.sum(0), np.bincount(labels[w > 0], minlength=k)
    noise = 1e-13 * (np.abs(hot).T @ np.abs(x)).max() + 1e-300
    for lanes in (step.lanes, again):
        total = [part.get() if lanes is again else part.get().sum(axis=0) for part in lanes[:3]]
        np.testing.assert_allclose(total[0], sums, rtol=1e-12, atol=noise)
        np.testing.assert_allclose(total[1], masses, rtol=1e-13)
        np.testing.assert_array_equal(total[2], counts)
    expected = update_centers(again, centers, plan.frame.shift).get()
    np.testing.assert_allclose(moved.get(), expected, rtol=1e-12, atol=noise)
    changed, empty, doubtful, undecided, way = facts.get().tolist()
    assert (changed, empty, undecided) == (len(X), (counts == 0).sum(), 0)
    assert 0 <= doubtful <= len(X)
    assert way == pytest.approx(((expected - C) ** 2).sum(), rel=1e-10)
    return step, moved, doubtful


# Rows that are no multiple of a tile, a warp or a lane; k and d about the limits of the fused kernel.
SHAPES = [
    *((1, 1, 1), (2, 1, 2), (33, 1, 33), (129, 2, 3), (257, 3, 7), (1025, 4, 31), (999, 16, 13), (300, 17, 33)),
    *((700, 32, 9), (700, 33, 9), (130, 2, 129), (1500, 2, 650), (2000, 16, 130), (515, 130, 5), (260, 40, 259)),
]


@BOTH
@WEIGHTED
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_a_step_at_awkward_sizes(cp, n, d, k, dtype, weighted):
    rng = np.random.default_rng(n)
    X = (rng.normal(size=(n, d)) * np.linspace(1, 3, d) + np.linspace(-2, 5, d)).astype(dtype)
    C = X[rng.choice(n, k, replace=False)].astype(np.float64) + (0 if n == k else 0.01)
    w = rng.random(n) * (rng.random(n) > 0.2) + (np.arange(n) == 0) if weighted else None
    check_step(cp, X, C, w)


def test_both_paths_are_among_the_shapes():
    taken = {(is_fused(np.empty((n, d), dtype), k)) for n, d, k in SHAPES for dtype in (np.float32, np.float64)}
    assert taken == {True, False}


@BOTH
@WEIGHTED
@pytest.mark.parametrize(("d", "k"), [(3, 7), (40, 9)])
def test_lanes_of_several_tiles(cp, monkeypatch, d, k, dtype, weighted):
    for name in ("_FEW_LANES", "_MANY_LANES", "_FEW_SORTED", "_MANY_SORTED"):
        monkeypatch.setattr(passes, name, 2)
    rng = np.random.default_rng(8)
    X, w = rng.normal(size=(1333, d)).astype(dtype), rng.random(1333)
    step, _, doubtful = check_step(cp, X, X[:k] + 0.01, w if weighted else None)
    assert len(step.lanes.sums) == 2
    assert doubtful < len(X) / 50  # ordinary data: bounds that are too wide would be right, and slow


@BOTH
@pytest.mark.parametrize("d", [1, 3, 40])
def test_ties_go_to_the_lowest_index(cp, d, dtype):
    """Small integers: rows exactly between centres, centres that coincide, rows that are duplicates."""
    rng = np.random.default_rng(d)
    X = rng.integers(-2, 3, size=(700, d)).astype(dtype)
    C = rng.integers(-4, 5, size=(41, d)) / 2
    C[7], C[4], C[36] = C[2], X[0], X[0]
    doubtful = check_step(cp, X, C)[2]
    assert doubtful > 0


@BOTH
@pytest.mark.parametrize("d", [2, 40])
def test_empty_clusters_go_where_the_heaviest_is(cp, d, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, d)).astype(dtype)
    C = np.concatenate([np.full((1, d), 50.0), X[:3], np.full((1, d), -70.0)])
    step, moved, _ = check_step(cp, X, C)
    moved, heaviest = moved.get(), np.bincount(step.labels.get()).argmax()
    assert np.array_equal(moved[0], moved[heaviest])
    assert np.array_equal(moved[4], moved[heaviest])


def test_of_two_heaviest_clusters_the_first_counts(cp):
    X = np.repeat([[1.0, 0.0], [5.0, 2.0], [-4.0, 1.0]], [3, 4, 4], axis=0)
    _, moved, _ = check_step(cp, X, np.array([[90.0, 90.0], [1, 0], [5, 2], [-4, 1]]))
    assert moved.get()[0].tolist() == [5.0, 2.0]


@pytest.mark.parametrize("d", [3, 40])
def test_weights_of_zero_count_for_nothing(cp, d):
    """A cluster whose rows all weigh nothing is empty; equal weights change nothing."""
    X = np.random.default_rng(1).normal(size=(300, d))
    X[:5] += 30
    w = np.full(300, 2.0)
    w[:5] = 0
    C = np.concatenate([X[:1], X[10:13]])
    step, _, _ = check_step(cp, X, C, w)
    assert step.lanes.counts.sum(axis=0).get()[0] == 0


@pytest.mark.parametrize("d", [3, 16, 40])
@pytest.mark.parametrize("make", [offset, two_groups], ids=["offset", "two groups"])
def test_data_that_float32_leaves_in_doubt(cp, make, d):
    rng = np.random.default_rng(2)
    X = offset(rng, 1e4, d, n=1500) if make is offset else two_groups(rng, d, n=1500)[0]
    rows = rng.choice(len(X), 8, replace=False)
    doubtful = check_step(cp, X, X[rows].astype(np.float64))[2]
    assert (doubtful > len(X) / 3) == (make is two_groups)
    model = KMeans(8, init=X[rows], max_iter=5, tol=0).fit(cp.asarray(X))  # goes on in float64, where it has to
    assert np.array_equal(model.labels_.get(), brute(X, model.cluster_centers_.get()))


@pytest.mark.parametrize("d", [2, 40])
def test_rows_and_centres_far_out(cp, d):
    """Squares that float32 cannot hold: of rows that are scaled, of a lone row, and of a centre."""
    X = np.random.default_rng(0).normal(size=(300, d)).astype(np.float32)
    C = X[:4].astype(np.float64)
    C[3] = 1e30
    check_step(cp, X, C)
    for factor in (1e30, 1e-30, 6e37):
        check_step(cp, (X * factor).astype(np.float32), X[:4].astype(np.float64) * factor)
    model = KMeans(4, init=X[:4], max_iter=1).fit(cp.asarray(X))
    X[7] = 3e37
    assert np.array_equal(model.predict(cp.asarray(X)).get(), brute(X, model.cluster_centers_.get()))


@BOTH
@pytest.mark.parametrize("d", [5, 40])
def test_any_layout(cp, d, dtype):
    X = np.random.default_rng(3).normal(size=(333, d)).astype(dtype)
    expected = KMeans(6, init=X[:6], max_iter=4).fit(cp.asarray(X))
    spread = cp.zeros((333, 2 * d), dtype)
    spread[:, ::2] = cp.asarray(X)
    for x in (cp.asfortranarray(cp.asarray(X)), spread[:, ::2], cp.asarray(X[::-1].copy())[::-1]):
        model = KMeans(6, init=X[:6], max_iter=4).fit(x)
        assert np.array_equal(model.labels_.get(), expected.labels_.get())
        assert np.array_equal(model.cluster_centers_.get(), expected.cluster_centers_.get())


def test_other_dtypes_run_the_array_bodies(cp):
    X = np.random.default_rng(4).integers(0, 9, size=(200, 3))
    for dtype in (np.int32, np.float16):
        model = KMeans(4, random_state=0).fit(cp.asarray(X.astype(dtype)))
        assert np.array_equal(model.labels_.get(), KMeans(4, random_state=0).fit(X.astype(dtype)).labels_)


# --- the same bits ------------------------------------------------------------------------------


@BOTH
@WEIGHTED
@pytest.mark.parametrize(("d", "k"), [(3, 5), pytest.param(40, 6, marks=pytest.mark.long)], ids=["fused", "chunks"])
def test_grid_and_memory_change_no_bit(cp, monkeypatch, d, k, dtype, weighted):
    """On symmetric data, where the order of a sum would decide ties and so labels."""
    half = np.random.default_rng(5).normal(size=(900, d))
    X = np.concatenate([half, -half]).astype(dtype)
    w = np.random.default_rng(6).random(len(X)) if weighted else None

    def everything():
        model = KMeans(k, init=X[:k], max_iter=6, tol=0).fit(cp.asarray(X), sample_weight=w)
        parts = (model.cluster_centers_.get(), model.labels_.get(), np.float64(model.inertia_))
        return b"".join(part.tobytes() for part in parts)

    assert is_fused(X, k) == (d == 3)
    reference = everything()
    for blocks in (1, 3, 7):
        with monkeypatch.context() as patch:
            patch.setattr(passes, "_BLOCKS", blocks)
            assert everything() == reference, f"{blocks} blocks"
    for rows in (1, 100, 1001):
        with monkeypatch.context() as patch:
            patch.setattr(passes, "_chunk_rows", lambda *sizes, rows=rows: rows)
            assert everything() == reference, f"chunks of {rows} rows"
