"""Bounds and compiled kernels prove what they skip: labels are those of brute force in every iteration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpukmeans._bounds
import gpukmeans._leading
import gpukmeans._second_look
from gpukmeans import KMeans
from gpukmeans._device import CPU
from gpukmeans._frame import Frame
from gpukmeans._kernels.cpu import native
from gpukmeans._kernels.cpu.passes import drifting
from gpukmeans._lloyd import update_centers
from gpukmeans._prepare import prepare
from gpukmeans._sums import side_by_side

pytestmark = pytest.mark.skipif(native() is None, reason="the compiled kernels were not built")


def brute(X, C):
    X, C = np.asarray(X, np.float64), np.asarray(C, np.float64)
    return np.concatenate([((x[:, None] - C) ** 2).sum(2).argmin(1) for x in np.array_split(X, len(X) // 500 + 1)])


def data(rng, kind, n, d, k):
    """Rows that are hard for bounds in different ways, and rows to start from."""
    if kind == "noise":
        X = rng.random((n, d))
    elif kind == "blobs":
        X = rng.uniform(-10, 10, (k, d))[rng.integers(0, k, n)] + rng.normal(size=(n, d))
    elif kind == "integers":  # ties and copies
        X = rng.integers(-2, 3, (n, d)).astype(float)
    elif kind == "outlier":
        X = rng.normal(size=(n, d))
        X[n // 2] = 1e4
    elif kind == "two groups":
        X = rng.normal(size=(n, d)) + np.where(rng.random(n) < 0.5, -1e4, 1e4)[:, None]
    else:  # symmetric: a tie wherever one is possible
        half = rng.normal(size=(n // 2, d))
        X = np.concatenate([half, -half])
    return X, rng.choice(len(X), k, replace=False)


def noted(patch):
    """The tests of each pass from now on, how many rows it searched, and how many got a new label."""
    passes, learn = [], gpukmeans._bounds.Bounds.learn
    patch.setattr(gpukmeans._bounds.Bounds, "learn", lambda self, *told: passes.append(told) or learn(self, *told))
    return passes


KINDS = ["noise", "blobs", "integers", "outlier", "two groups", "symmetric"]


def check_every_iteration(X, C, iterations, weights=None):
    """Lloyd by hand with bounds wherever they may be kept; how many rows each pass searched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpukmeans._bounds, "_SETTLED", 2.0)  # begin at once, however many rows move
        patch.setattr(gpukmeans._bounds, "_SETTLED_FEW", 2.0)
        patch.setattr(gpukmeans._bounds, "_QUIET", 2.0)  # and hold blocks of rows
        passes = noted(patch)
        check_by_hand(X, C, iterations, weights)
    return [searched for _, searched, *_ in passes]


def check_by_hand(X, C, iterations, weights=None):
    """Lloyd by hand on a plan: the labels of each pass against brute force, and the inertia at its end."""
    with prepare(X, weights, len(C), CPU) as (plan, _):
        centers = C.astype(np.float64)
        for _ in range(iterations):
            step = plan.step(centers)
            plan.repeat(0, step.doubtful)
            assert np.array_equal(step.labels, brute(X, centers))
            plan.keep(step, step.changed)
            centers = update_centers(side_by_side(step.lanes), centers, plan.frame.shift)
        labels, inertia = plan.judge(centers)
    assert np.array_equal(labels, brute(X, centers))
    w = np.ones(len(X)) if weights is None else weights
    own = ((X.astype(np.float64) - centers[labels]) ** 2).sum(1)
    assert inertia == pytest.approx(float((w * own).sum()), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "d", "k"),
    [(1500, 2, 40), (1000, 5, 17), (3000, 13, 33), (700, 33, 70), (900, 40, 7), (500, 130, 16), (300, 200, 23)],
)
def test_labels_of_every_iteration(isa, dtype, kind, n, d, k):
    """Direct, tiled and dot kernels, filtered or not, on every instruction set of this machine."""
    rng = np.random.default_rng([n, d, k])
    X, rows = data(rng, kind, n, d, k)
    X = X.astype(dtype)
    check_every_iteration(X, X[rows], 7, rng.random(n) if k % 2 else None)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([1, 2, 23, 24, 25, 97, 400]),
    st.sampled_from(KINDS),
    st.sampled_from([np.float32, np.float64]),
)
def test_any_shape(seed, d, k, n, kind, dtype):
    rng = np.random.default_rng(seed)
    k = min(k, max(1, n // 2) if kind == "symmetric" else n)
    if kind == "symmetric" and n < 2:
        kind = "noise"
    X, rows = data(rng, kind, n, d, k)
    X = X.astype(dtype)
    check_every_iteration(X, X[rows], 4)


@pytest.fixture(params=[0, 4], ids="{} movers".format)
def looking_twice(request, monkeypatch):
    """Every row that fails gets a second look, with so many movers; the looks that were taken."""
    monkeypatch.setattr(gpukmeans._second_look, "_DEAR", 0)
    monkeypatch.setattr(gpukmeans._second_look, "_LARGE", 0)
    monkeypatch.setattr(gpukmeans._second_look, "_WORTH", -np.inf)
    monkeypatch.setattr(gpukmeans._second_look, "_PART", 1)
    monkeypatch.setattr(gpukmeans._second_look, "_MOVERS", (request.param,))
    looks, look = [], gpukmeans._bounds.second_look
    monkeypatch.setattr(gpukmeans._bounds, "second_look", lambda *what: looks.append(look(*what)) or looks[-1])
    return looks


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d", "k"), [(1500, 5, 40), (700, 50, 70), (500, 130, 16)])
def test_labels_with_second_looks(looking_twice, isa, dtype, kind, n, d, k):
    rng = np.random.default_rng([n, d, k])
    X, rows = data(rng, kind, n, d, k)
    X = X.astype(dtype)
    check_every_iteration(X, X[rows], 7, rng.random(len(X)) if k % 2 else None)
    assert any(looking_twice) or kind == "integers"


@pytest.mark.parametrize("scale", [1e-37, 1e-25, 1e25, 1e37])
def test_second_looks_at_large_and_small_rows(looking_twice, scale):
    rng = np.random.default_rng(5)
    X, rows = data(rng, "blobs", 2000, 30, 25)
    X = (X * scale).astype(np.float32)
    check_every_iteration(X, X[rows], 7)
    assert any(looking_twice)


@pytest.mark.parametrize("rows", ["float32", "integers", "every other"])
def test_second_looks_with_leading_directions(looking_twice, monkeypatch, rows):
    monkeypatch.setattr(gpukmeans._leading, "_WORTH", np.inf)
    monkeypatch.setattr(gpukmeans._leading, "_PART", np.inf)
    used, learn = [], gpukmeans._leading.Leading.learn
    monkeypatch.setattr(
        gpukmeans._leading.Leading, "learn", lambda self, *told: used.append(told[0]) or learn(self, *told)
    )
    rng = np.random.default_rng(6)
    X, first = data(rng, "blobs", 3000, 60, 50)
    X = {
        "float32": X.astype(np.float32),
        "integers": (10 * X).astype(np.int32),
        "every other": X.repeat(2, axis=1)[:, ::2],
    }[rows]
    check_every_iteration(X, X[first], 7, rng.random(3000))
    assert any(looking_twice)
    assert all(used)


def test_second_looks_at_cosines(looking_twice):
    rng = np.random.default_rng(7)
    X, first = data(rng, "blobs", 3000, 30, 25)
    ours = KMeans(25, metric="cosine", init=X[first], max_iter=12, tol=0).fit(X)
    assert any(looking_twice)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    assert np.array_equal(ours.labels_, (unit @ ours.cluster_centers_.T).argmax(axis=1))


def test_a_second_look_holds_rows_after_a_centre_has_jumped(monkeypatch):
    """A cluster that was empty is given a far row: only rows near there have to be searched."""
    monkeypatch.setattr(gpukmeans._second_look, "_LARGE", 0)
    rng = np.random.default_rng(4)
    centers = rng.uniform(-10, 10, (64, 80))
    X = (centers[rng.integers(0, 63, 20_000)] + rng.normal(size=(20_000, 80))).astype(np.float32)
    centers = np.concatenate([X[[np.argmin(((X - c) ** 2).sum(1)) for c in centers[:63]]], [np.full(80, 1e3)]])
    passes = noted(monkeypatch)
    model = KMeans(64, init=centers, max_iter=2, tol=0).fit(X)
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))
    searched = [number for _, number, *_ in passes]
    assert searched[0] == len(X)
    assert searched[1] < len(X) // 8


@pytest.mark.parametrize("part", ["rest", "movers"])
def test_the_checker_catches_second_looks_that_are_too_bold(monkeypatch, part):
    """Spread that is left out, or movers that nobody measures."""
    monkeypatch.setattr(gpukmeans._second_look, "_DEAR", 0)
    monkeypatch.setattr(gpukmeans._second_look, "_LARGE", 0)
    monkeypatch.setattr(gpukmeans._second_look, "_WORTH", -np.inf)
    look = gpukmeans._bounds.second_look

    def bold(tests, moved, *others):
        found = look(tests, moved, *others)
        if found is None:
            return None
        if part == "rest":
            return found._replace(rest=found.rest - 0.9 * moved.max())
        rest = gpukmeans._second_look._rest(tests.spread, moved, np.argsort(-moved)[:10])
        return found._replace(rest=rest, movers=found.movers[:0])

    monkeypatch.setattr(gpukmeans._bounds, "second_look", bold)
    rng = np.random.default_rng(2)
    X, rows = data(rng, "noise", 4_000, 6, 20)
    with pytest.raises(AssertionError):
        check_every_iteration(X, X[rows], 12)


def test_bounds_skip_rows_of_structured_data():
    rng = np.random.default_rng(0)
    X, rows = data(rng, "blobs", 20_000, 10, 20)
    searched = check_every_iteration(X.astype(np.float32), X[rows], 12)
    assert searched[0] == len(X)
    assert searched[-1] < 0.3 * len(X)


@pytest.mark.parametrize(("d", "k", "waits"), [(30, 15, True), (60, 30, False)], ids=["cheap", "dear"])
def test_bounds_wait_on_noise_where_searching_is_cheap(d, k, waits):
    rng = np.random.default_rng(1)
    X, rows = data(rng, "noise", 8_000, d, k)
    with pytest.MonkeyPatch.context() as patch:
        passes = noted(patch)
        KMeans(k, init=X[rows], max_iter=3, tol=0).fit(X.astype(np.float32))
    told = [tests for tests, *_ in passes]
    if waits:
        assert told
        assert not any(told)
    else:
        assert told[1].filter


@pytest.mark.parametrize(("k", "many", "few"), [(40, 60, 30), (10, 30, 2)])
def test_bounds_begin_when_few_rows_move_and_rest_when_most_are_searched(k, many, few):
    bounds = gpukmeans._bounds.Bounds(1000, 2, k, lambda centers, frame: np.zeros(len(centers)), drifting)
    centers = np.arange(2.0 * k).reshape(k, 2)
    frame, rows, labels = Frame(np.zeros(2), 1.0, np.float32), np.zeros((1000, 2)), np.zeros(1000, np.int32)

    def prepare():
        return bounds.prepare(centers, frame, rows, labels)

    assert prepare() is None
    bounds.learn(None, 1000, many, 0, None)
    assert prepare() is None
    bounds.learn(None, 1000, few, 0, None)
    first = prepare()
    assert not first.filter
    first.upper.fill(1), first.gap.fill(0)  # as a pass would
    bounds.learn(first, 1000, 500, 0, None)
    second = prepare()  # known, and kept although many rows move
    assert second.filter
    bounds.learn(second, 700, few, 0, None)
    for _ in range(gpukmeans._bounds._REST):
        assert prepare() is None
        bounds.learn(None, 1000, few, 0, None)
    assert not prepare().filter


@pytest.mark.parametrize(("distance", "computed"), [(1.0, [1, 0, 0, 1, 0, 0]), (0.01, [1, 0, 1, 0, 0, 0])])
def test_distances_between_centres_are_computed_anew_where_they_hold_rows(distance, computed):
    """Only once centres have moved far; and later if those before have held next to no row."""
    asked = []
    bounds = gpukmeans._bounds.Bounds(1000, 300, 2, lambda *asking: asked.append(1) or np.full(2, distance), drifting)
    frame, rows, labels = Frame(np.zeros(300), 1.0, np.float32), np.zeros((1000, 300)), np.zeros(1000, np.int32)
    first = bounds.prepare(np.zeros((2, 300)), frame, rows, labels)
    first.upper.fill(0.3), first.gap.fill(0)
    bounds.learn(first, 1000, 1000, 0, None)
    counts = []
    for moved in (0, 0.001, 0.02, 0.06, 0.061, 0.1):
        before, centers = len(asked), np.zeros((2, 300))
        centers[0, 0] = moved
        bounds.learn(bounds.prepare(centers, frame, rows, labels), 1000, 1000, 0, None)
        counts.append(len(asked) - before)
    assert counts == computed


def test_the_checker_catches_bounds_that_are_too_bold(monkeypatch):
    """Half the drift is not a bound: the brute-force check must notice."""
    move = gpukmeans._bounds.Bounds._move

    def too_little(self, centers, frame):
        spread = self._drifts.spread
        before = spread.copy()
        move(self, centers, frame)
        spread[:] = before + 0.2 * (spread - before)

    monkeypatch.setattr(gpukmeans._bounds.Bounds, "_move", too_little)
    rng = np.random.default_rng(2)
    X, rows = data(rng, "noise", 4_000, 6, 20)
    with pytest.raises(AssertionError):
        check_every_iteration(X, X[rows], 12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["noise", "blobs", "integers"])
@pytest.mark.parametrize(("n", "d", "k"), [(8_001, 2, 9), (4_000, 3, 40), (3_999, 12, 11)])
def test_labels_where_blocks_of_rows_are_held(isa, n, d, k, kind, dtype):
    """Up to convergence, where next to no row fails."""
    rng = np.random.default_rng([n, d, k])
    X, rows = data(rng, kind, n, d, k)
    with pytest.MonkeyPatch.context() as patch:
        passes = noted(patch)
        check_every_iteration(X.astype(dtype), X[rows], 40)
    assert passes[-1][0].tightened > 0


def test_rows_of_held_blocks_are_not_looked_at(monkeypatch):
    """Bounds of such rows may even be lost."""
    rng = np.random.default_rng(8)
    X = np.concatenate([rng.normal(size=(4096, 2)) + 20 * c for c in range(8)]).astype(np.float32)
    monkeypatch.setattr(gpukmeans._bounds, "_SETTLED_FEW", 2.0)
    centers = X[2048::4096].astype(np.float64)
    passes = noted(monkeypatch)
    with prepare(X, None, 8, CPU) as (plan, _):
        for iteration in range(6):
            step = plan.step(centers)
            plan.keep(step, step.changed)
            centers = update_centers(side_by_side(step.lanes), centers, plan.frame.shift)
            if iteration > 2:
                passes[-1][0].gap.fill(-np.inf), passes[-1][0].upper.fill(np.inf)
    assert [searched for _, searched, *_ in passes] == [len(X), len(X), 0, 0, 0, 0]
    assert np.array_equal(step.labels, brute(X, centers))


@pytest.mark.parametrize("part", ["tightened", "slack"])
def test_the_checker_catches_blocks_that_are_held_too_long(monkeypatch, part):
    in_blocks = gpukmeans._bounds.Bounds._in_blocks

    def bold(self, tests):
        tests = in_blocks(self, tests)
        if part == "tightened":
            return tests._replace(tightened=0.0)
        tests.slack[:] += 0.05
        return tests

    monkeypatch.setattr(gpukmeans._bounds.Bounds, "_in_blocks", bold)
    rng = np.random.default_rng(2)
    X, rows = data(rng, "noise", 20_000, 3, 20)
    with pytest.raises(AssertionError):
        check_every_iteration(X, X[rows], 40)


@pytest.mark.parametrize("kind", ["noise", "blobs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_and_bodies_agree(monkeypatch, kind, dtype):
    rng = np.random.default_rng(3)
    X, rows = data(rng, kind, 5_000, 9, 25)
    X = X.astype(dtype)
    fits = []
    for choice in ("1", "numpy", "0"):
        monkeypatch.setenv("GPUKMEANS_KERNELS", choice)
        fits.append(KMeans(25, init=X[rows], tol=0, max_iter=40).fit(X, sample_weight=rng.random(5_000) * 0 + 1.5))
    for fit in fits[1:]:
        assert np.array_equal(fit.labels_, fits[0].labels_)
        assert fit.n_iter_ == fits[0].n_iter_
        assert fit.inertia_ == pytest.approx(fits[0].inertia_, rel=1e-6 if dtype == np.float32 else 1e-12)
