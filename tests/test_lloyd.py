"""The parts of Lloyd's algorithm, against brute force and scikit-learn's own functions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import sklearn.cluster
from sklearn.exceptions import ConvergenceWarning
from test_accepted_input import unaligned
from test_bounds import data

from gpukmeans import KMeans, _batches, _bounds, _boxes, _pruning
from gpukmeans._device import CPU
from gpukmeans._frame import Frame, Lanes
from gpukmeans._kernels.cpu import native, passes
from gpukmeans._lloyd import relocate_empty, update_centers
from gpukmeans._prepare import prepare
from gpukmeans._sums import Partial, Step, make_grid, side_by_side
from gpukmeans._threads import Workers

COMPILED = pytest.mark.skipif(native() is None, reason="the compiled kernels were not built")


def plan_and_step(X, centers, weights=None):
    with prepare(X, weights, len(centers), CPU) as (plan, _):
        step = plan.step(centers)
        return plan, step if step.partial else step._replace(partial=side_by_side(step.lanes))


@pytest.mark.parametrize("weighted", [False, True])
def test_step_adds_up_the_clusters(weighted):
    rng = np.random.default_rng(0)
    X, C = rng.normal(size=(3001, 4)) + 50, rng.normal(size=(6, 4)) + 50
    w = rng.random(3001) * (rng.random(3001) > 0.1) if weighted else None
    plan, step = plan_and_step(X, C, w)
    labels = ((X[:, None] - C) ** 2).sum(2).argmin(1)
    assert np.array_equal(step.labels, labels)
    w = np.ones(3001) if w is None else w
    for j in range(6):
        mine = labels == j
        expected = (w[mine, None] * (X[mine] - plan.frame.shift)).sum(0)
        np.testing.assert_allclose(step.partial.sums[j], expected, rtol=1e-12, atol=1e-10)
        assert step.partial.weights[j] == pytest.approx(w[mine].sum(), rel=1e-13)
        assert step.partial.counts[j] == (w[mine] > 0).sum()


def test_only_moved_rows_give_the_same_sums():
    rng = np.random.default_rng(1)
    X, C = rng.normal(size=(4000, 9)), rng.normal(size=(5, 9))
    w = rng.random(4000)
    for weights in (None, w):
        plan, step = plan_and_step(X, C, weights)
        with plan:
            plan.keep(step, changed=0)
            moved = plan.step(C + 0.05)
            in_blocks = plan.operations.search_pass is None and plan.operations.accumulate_moves is not None
            assert moved.exact == (not in_blocks)
            partial = moved.partial or side_by_side(moved.lanes)  # now: the next pass takes the lanes' memory
            full = plan.add_up(moved.labels)
        assert 0 < moved.changed < 1000
        for a, b in zip(partial, full, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("most", [1 << 20, 0], ids=["rests", "too large for rests"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [1, 3, 4, 9, 21])
def test_moves_cost_the_sums_no_digits(d, weighted, most, monkeypatch):
    """Rows of a million leave a cluster bit by bit, until its mean is that of rows of a thousandth."""
    monkeypatch.setattr(passes, "_RESTS", most)
    rng = np.random.default_rng(d)
    X = 10 ** np.linspace(6, -3, 3000)[:, None] * rng.uniform(0.5, 1, size=(3000, d))
    w = rng.random(3000) if weighted else None
    with prepare(X, w, 2, CPU) as (plan, _):
        for other in 10.0 ** np.arange(6.5, -3, -0.5):
            centers = np.stack([np.zeros(d), np.full(d, other)])
            step = plan.step(centers)
            plan.keep(step, step.changed)
            if 10 < other < 100:  # as where an empty cluster is given a row: the lanes begin anew
                plan.add_up(step.labels)
        if plan.operations.move_centers:
            assert step.exact == (most > 0)
        if step.exact and plan.operations.move_centers:
            (moved, _), units = plan.move_centers(step, centers), 2
            again = update_centers(side_by_side(step.lanes), centers, plan.frame.shift)  # as for metric="cosine"
            np.testing.assert_allclose(again[0], moved[0], rtol=0, atol=np.spacing(np.abs(moved).max()))
        else:  # added up again, as at the end of a fit
            moved, units = update_centers(plan.add_up(step.labels), centers, plan.frame.shift), 30
    own = step.labels == 0
    assert 0 < own.sum() < 300
    mass = np.ones(own.sum()) if w is None else w[own]
    for q in range(d):
        products = [m * (x - plan.frame.shift[q]) for m, x in zip(mass, X[own, q], strict=True)]
        expected = plan.frame.shift[q] + math.fsum(products) / math.fsum(mass)
        assert moved[0, q] == pytest.approx(expected, rel=0, abs=units * np.spacing(plan.frame.shift[q]))


@COMPILED
@pytest.mark.parametrize(
    ("n", "d", "k"), [(63, 32, 3), (64, 33, 32), (5_001, 40, 7), (5_001, 40, 33), (2_500, 784, 10)]
)
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("offset", [0, 1e4])
def test_sums_of_floats_lose_no_digit(isa, n, d, k, layout, offset):
    """Those of rows that are added up by clusters first, and of those that are not."""
    rng = np.random.default_rng([n, d])
    X = (rng.normal(size=(n, d)) + offset).astype(np.float32, order="F" if layout == "columns" else "C")
    _, step = plan_and_step(X, X[:k].astype(np.float64))
    with prepare(X, None, k, CPU) as (plan, _):
        shift, again = plan.frame.shift, plan.add_up(step.labels)
    for j in range(k):
        mine = X[step.labels == j].astype(np.float64) - shift
        exact = [math.fsum(column) for column in mine.T]
        assert np.array_equal(step.partial.sums[j], exact)
        assert np.array_equal(again.sums[j], exact)
        assert step.partial.counts[j] == step.partial.weights[j] == len(mine)


@COMPILED
@pytest.mark.parametrize("zeros", [False, True])
def test_sums_of_floats_that_differ_much_lose_no_digit(isa, zeros):
    """A plain sum of 64 of them would: those of some features are told from the others, lane by lane."""
    rng = np.random.default_rng(4)
    X = (10.0 ** rng.uniform(-6, 6, size=(1_001, 40)) * rng.choice([-1, 1], size=(1_001, 40))).astype(np.float32)
    X[:, ::3] = rng.normal(size=(1_001, 14))
    if zeros:
        X[rng.random(X.shape) < 0.5] = 0
    labels = rng.integers(0, 7, 1_001, dtype=np.int32)
    with prepare(X, None, 7, CPU) as (plan, _):
        plan.frame = plan.frame._replace(shift=np.zeros(40))  # else a difference from it is rounded
        found = plan.add_up(labels)
    for j in range(7):
        exact = [math.fsum(column) for column in X[labels == j].T.astype(np.float64)]
        np.testing.assert_array_max_ulp(found.sums[j], np.array(exact), 1)


@COMPILED
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_converted_rows_change_no_bit(isa, monkeypatch, weighted):
    """Rows in odd memory are converted part by part, and added up as if they were not."""
    X = np.random.default_rng(2).normal(size=(3_001, 40)).astype(np.float32)
    weights = np.random.default_rng(3).random(3_001) if weighted else None
    monkeypatch.setattr(passes, "_PART_ELEMENTS", 5_000)
    (_, ours), (_, theirs) = (plan_and_step(rows, X[:7].astype(np.float64), weights) for rows in (unaligned(X), X))
    for one, other in zip(ours.partial, theirs.partial, strict=True):
        assert np.array_equal(one, other)


def test_relocation_takes_the_farthest_rows_of_positive_weight():
    X = np.array([[0.0], [1.0], [2.0], [30.0], [50.0], [50.0], [4.0]])
    w = np.array([1.0, 1.0, 1.0, 2.0, 0.0, 3.0, 1.0])
    C = np.array([[1.0], [-500.0], [900.0]])
    plan, step = plan_and_step(X, C, w)
    partial = relocate_empty(plan, step, C, 2)
    centers = update_centers(partial, C, plan.frame.shift)
    assert centers[1:].ravel().tolist() == [50.0, 30.0]  # row 5 (row 4 weighs nothing), then row 3
    assert centers[0, 0] == pytest.approx((0 + 1 + 2 + 4) / 4)
    assert partial.counts.tolist() == [4, 1, 1]
    assert partial.weights.tolist() == [4.0, 3.0, 2.0]


def test_relocation_breaks_ties_by_index():
    X = np.array([[5.0], [-5.0], [5.0], [0.0]])
    C = np.array([[0.0], [99.0]])
    plan, step = plan_and_step(X, C)
    centers = update_centers(relocate_empty(plan, step, C, 1), C, plan.frame.shift)
    assert centers[1, 0] == 5.0
    assert centers[0, 0] == 0.0  # rows 1, 2 and 3 remain


def test_an_empty_cluster_that_nothing_can_fill_sits_on_the_heaviest():
    partial = Partial(np.array([[2.0], [0.0], [30.0]]), np.array([2.0, 0.0, 3.0]), np.array([2, 0, 3]))
    centers = update_centers(partial, np.zeros((3, 1)), np.array([1.0]))
    assert centers.ravel().tolist() == [2.0, 11.0, 11.0]


def lanes_of(rng, number, k, d, empty=()):
    """Sums by lanes, with some clusters left empty."""
    counts = rng.integers(0, 4, (number, k))
    counts[0] += 1
    counts[:, list(empty)] = 0
    masses = counts * rng.random((number, k))
    return Lanes(rng.normal(size=(number, k, d)) * (counts > 0)[:, :, None], masses, counts)


@pytest.mark.parametrize("empty", [(), (0, 6), range(1, 13), range(13)])
@pytest.mark.parametrize(("number", "d"), [(1, 1), (3, 7), (5, 8), (2, 70), (4, 5000)])
def test_compiled_moves_are_those_of_the_body(isa, empty, number, d):
    """To the last bit, for every instruction set: the centres after a step, and those that learn a batch.

    (NumPy adds the lanes of a single number in another order.)
    """
    rng = np.random.default_rng(d)
    lanes, centers, shift = lanes_of(rng, number, 13, d, empty), rng.normal(size=(13, d)), rng.normal(size=d)
    frame = Frame(shift, 1.0, np.float64)
    moved, facts = passes.move_centers(Step(None, lanes, True, None, 5, 2, 0), centers, frame, Workers(2))
    weights = rng.random(13) * (rng.random(13) > 0.3)
    learnt, gained = passes.learn(centers, weights, lanes, shift)
    expected = update_centers(side_by_side(lanes), centers, shift)
    assert np.array_equal(moved, expected)
    assert facts[:4].tolist() == [5, len(empty), 2, 0]
    assert facts[4] == pytest.approx(((expected - centers) ** 2).sum(), rel=1e-13)
    for ours, body in zip((learnt, gained), _batches.learn(centers, weights, lanes, shift), strict=True):
        assert np.array_equal(ours, body)


@pytest.mark.parametrize("k", [2, 5, 9])
def test_relocation_like_scikit_learn(k):
    """Far initial centres leave clusters empty; no ties among the distances."""
    rng = np.random.default_rng(k)
    X = rng.normal(size=(200, 3))
    init = np.concatenate([X[:1], 100 + rng.normal(size=(k - 1, 3))])
    ours = KMeans(k, init=init).fit(X)
    theirs = sklearn.cluster.KMeans(k, init=init).fit(X)
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)


def test_fewer_distinct_rows_than_clusters():
    X = np.repeat([[0.0, 1.0], [2.0, 2.0], [7.0, 0.0]], [5, 3, 4], axis=0)
    with pytest.warns(
        ConvergenceWarning, match=r"Number of distinct clusters \(3\) found smaller than n_clusters \(6\)"
    ):
        model = KMeans(6, random_state=0).fit(X)
    assert model.inertia_ == 0.0
    assert len({tuple(row) for row in zip(model.labels_, X[:, 0], strict=True)}) == 3


@pytest.mark.parametrize("tol", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("max_iter", [1, 2, 300])
def test_stopping_rules(tol, max_iter):
    X = np.random.default_rng(8).normal(size=(700, 4)) * [1, 5, 2, 9]
    init = X[:6]
    ours = KMeans(6, init=init, tol=tol, max_iter=max_iter).fit(X)
    theirs = sklearn.cluster.KMeans(6, init=init, tol=tol, max_iter=max_iter).fit(X)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9, atol=1e-9)
    assert np.array_equal(ours.labels_, theirs.labels_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("max_iter", [1, 3, 300])
@pytest.mark.parametrize("far", [0, 1e4])
def test_one_call_gives_what_single_passes_give(monkeypatch, dtype, weighted, max_iter, far):
    """Also after a cluster got empty on the way, which ends the one call."""
    rng = np.random.default_rng(max_iter)
    X = (rng.normal(size=(1501, 3)) * [1, 4, 2]).astype(dtype)
    w = rng.random(1501) if weighted else None
    init = X[:5].copy()
    init[3] += far
    fits = []
    for most in (10**6, 0):
        monkeypatch.setattr("gpukmeans._plan._IN_ONE_CALL", most)
        fits.append(KMeans(5, init=init, max_iter=max_iter, tol=1e-6).fit(X, sample_weight=w))
    one, many = fits
    assert np.array_equal(one.labels_, many.labels_)
    assert one.n_iter_ == many.n_iter_
    assert one.inertia_ == pytest.approx(many.inertia_, rel=1e-13)
    np.testing.assert_allclose(one.cluster_centers_, many.cluster_centers_, rtol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize(
    ("n", "d", "k", "kind"),
    [(1, 1, 1, "cpu"), (10**6, 2, 10, "cpu"), (777_777, 784, 10, "cuda"), (10**5, 64, 1024, "cpu")],
)
def test_grid_covers_every_row_once(n, d, k, kind):
    grid = make_grid(n, d, k, kind)
    tiles = [tile for lane in grid.lanes for tile in lane]
    assert tiles[0][0] == 0
    assert tiles[-1][1] == n
    assert all(a[1] == b[0] for a, b in pairwise(tiles))
    assert all(stop - start == grid.tile for start, stop in tiles[:-1])
    assert len(grid.lanes) <= 64


@pytest.mark.parametrize("k", [2, 3])
def test_distinct_clusters_are_counted_to_the_last_row(k):
    """The only row of the second cluster is the last of many."""
    X = np.zeros((140_000, 1))
    X[-1] = 1.0
    model = KMeans(k, init=np.array([[0.0], [1.0], [0.0]])[:k])
    if k == 2:
        assert np.bincount(model.fit(X).labels_).tolist() == [139_999, 1]
    else:
        with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\) found smaller than n_clusters \(3\)"):
            model.fit(X)


def rows_and_start(rng, kind):
    """Rows, and 30 centres for which `kind` makes an iteration end otherwise than by moving on."""
    X = rng.normal(size=(40_000, 3))
    centers = X[:30].copy()
    if kind == "a cluster without rows":
        centers[7] = 1e3
    elif kind == "one that loses its rows":  # these lie apart, and in the second iteration two others take them
        X[-202:], X[-202:, 0] = 0, np.repeat([999, 1000, 1010, 1011], [100, 1, 1, 100])
        centers[7:10] = [[994, 0, 0], [1005, 0, 0], [1016, 0, 0]]
    elif kind == "copies":
        centers[20:] = centers[:10]
    return X, centers


@COMPILED
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # one iteration does not fill the empty one
@pytest.mark.parametrize("kind", ["rows", "a cluster without rows", "one that loses its rows", "copies"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("max_iter", "tol"), [(1, 0), (2, 0), (9, 0), (300, 1e-3), (300, 0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_iterations_in_one_call_are_those_one_by_one(monkeypatch, kind, dtype, max_iter, tol, weighted):
    rng = np.random.default_rng(3)
    X, centers = rows_and_start(rng, kind)
    X = X.astype(dtype)
    w = rng.random(40_000) * (rng.random(40_000) > 0.5) if weighted else None
    fits = []
    for ahead in (1 << 31, 0):
        monkeypatch.setattr(_pruning, "_AHEAD", ahead)
        model = KMeans(30, init=centers, max_iter=max_iter, tol=tol, algorithm="lloyd")
        fits.append(model.fit(X, sample_weight=w))
    ours, slow = fits
    assert ours.n_iter_ == slow.n_iter_
    assert ours.inertia_ == slow.inertia_
    assert np.array_equal(ours.labels_, slow.labels_)
    assert np.array_equal(ours.cluster_centers_, slow.cluster_centers_)


@COMPILED
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("d", "k", "boxes"), [(1, 4, True), (2, 9, True), (3, 30, True), (4, 6, True), (2, 9, False), (12, 20, False)]
)
@pytest.mark.parametrize("kind", ["noise", "blobs", "integers"])
@pytest.mark.parametrize("tol", [0, 1e-4])
def test_rows_are_held_in_one_call_as_one_by_one(isa, monkeypatch, dtype, d, k, boxes, kind, tol):
    """By boxes, by bounds and by those of blocks of rows, until nothing changes."""
    monkeypatch.setattr("gpukmeans._plan._IN_ONE_CALL", 0)
    monkeypatch.setattr(_boxes, "_LEAST", 0 if boxes else np.inf)
    monkeypatch.setattr(_boxes, "_PAIRS_A_BOX", 10)
    monkeypatch.setattr(_boxes, "_OPEN", 2.0)
    monkeypatch.setattr(_boxes, "_SEARCHED", 0.9)
    rng = np.random.default_rng([d, k])
    X, rows = data(rng, kind, 30_000, d, k)
    X = X.astype(dtype)
    weights = rng.random(30_000) if d == 2 else None
    calls, search = [], passes._search

    def noted(request, *given):
        found = search(request, *given)
        calls.append(("boxes" if request.boxed else "bounds" if request.tests else "", found.done + 1))
        return found

    monkeypatch.setattr(passes, "_search", noted)
    fits, ways = [], []
    for ahead in (1 << 31, 0):
        monkeypatch.setattr(_pruning, "_AHEAD", ahead)
        fits.append(KMeans(k, init=X[rows], max_iter=150, tol=tol).fit(X, sample_weight=weights))
        ways.append(calls.copy())
        calls.clear()
    ours, slow = fits
    assert ours.n_iter_ == slow.n_iter_
    assert ours.inertia_ == slow.inertia_
    assert np.array_equal(ours.labels_, slow.labels_)
    assert np.array_equal(ours.cluster_centers_, slow.cluster_centers_)
    assert {done for _, done in ways[1]} == {1}
    if ours.n_iter_ > 60:
        assert len(ways[0]) < len(ways[1]) / 3
        assert max(done for by, done in ways[0] if by == ("boxes" if boxes else "bounds")) > 10


@pytest.mark.parametrize(
    ("kind", "most", "tol", "done"),
    [
        ("rows", 5, 0.0, 4),
        ("rows", 5, 1e9, 0),
        ("a cluster without rows", 5, 0.0, 0),
        ("one that loses its rows", 5, 0.0, 1),
    ],
)
def test_a_call_goes_on_by_itself_until_something_has_to_be_decided(kind, most, tol, done):
    X, centers = rows_and_start(np.random.default_rng(3), kind)
    with prepare(X.astype(np.float32), None, 30, CPU) as (plan, _):
        step = plan.step(centers, most, tol)
        assert step.done == (done if plan.operations.loop else 0)


def test_a_call_ends_where_bounds_begin():
    X, centers = rows_and_start(np.random.default_rng(3), "rows")
    with prepare(X.astype(np.float32), None, 30, CPU) as (plan, _):
        step = plan.step(centers, 300, 0.0)
    assert step.done < 299
    if plan.operations.loop:
        assert step.done > 4
        assert step.changed < _bounds._SETTLED * len(X)
