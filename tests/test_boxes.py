"""Boxes of rows with one nearest centre: what they hold needs no search, and labels are those of brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bounds import brute, check_by_hand
from test_few_features import bisectors, far_groups, some_far, uniform
from test_few_features import grid as integers

import gpukmeans._boxes
from gpukmeans import KMeans
from gpukmeans._boxes import Boxed, Boxes, BoxGrid
from gpukmeans._device import CPU
from gpukmeans._kernels.cpu import native
from gpukmeans._lloyd import lloyd
from gpukmeans._prepare import prepare

pytestmark = pytest.mark.skipif(native() is None, reason="the compiled kernels were not built")


def dyadic(rng, n, d, k):
    """Rows and bisectors on the edges of boxes."""
    return rng.integers(0, 65, (n, d)) / 64, rng.integers(0, 33, (k, d)) / 32


def one_value(rng, n, d, k):
    """A feature that does not vary, where the grid has no width."""
    X, centers = uniform(rng, n, d, k)
    X[:, 0], centers[:, 0] = 0.3, 0.3
    return X, centers


def heavy_tails(rng, n, d, k):
    return rng.standard_cauchy((n, d)), rng.normal(size=(k, d))


def far_away(rng, n, d, k):
    """Rows whose distances from each other are a hundred times what their numbers are rounded to."""
    X, centers = uniform(rng, n, d, k)
    return 1e6 + X * 8, 1e6 + centers * 8


MAKERS = [uniform, integers, far_groups, some_far, bisectors, dyadic, one_value, heavy_tails, far_away]


@pytest.fixture
def boxed(monkeypatch):
    """Boxes serve wherever they can, until the end, and bounds never; what each pass searched."""
    monkeypatch.setattr("gpukmeans._plan._IN_ONE_CALL", 0)
    monkeypatch.setattr("gpukmeans._pruning.worth_keeping", lambda d, k: False)
    monkeypatch.setattr(gpukmeans._boxes, "_LEAST", 0)
    monkeypatch.setattr(gpukmeans._boxes, "_OPEN", 2.0)
    monkeypatch.setattr(gpukmeans._boxes, "_SEARCHED", 2.0)
    monkeypatch.setattr(gpukmeans._boxes, "_PAIRS_A_BOX", 10)
    return noted(monkeypatch)


def noted(monkeypatch):
    """How many rows each pass with boxes searches from now on."""
    searched, learn = [], Boxes.learn

    def told(self, boxed, number, changed):
        if boxed:
            searched.append(number)
        learn(self, boxed, number, changed)

    monkeypatch.setattr(Boxes, "learn", told)
    return searched


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("n", "d", "k"), [(3001, 1, 7), (5003, 2, 10), (4099, 3, 40), (5003, 4, 5)])
def test_labels_of_every_iteration(boxed, isa, dtype, make, n, d, k):
    rng = np.random.default_rng([n, d, k])
    X, centers = (values.astype(dtype) for values in make(rng, n, d, k))
    check_by_hand(X, centers, 5, rng.random(n) if k % 2 else None)
    assert len(boxed) == 5 or make is one_value  # all passes but the first
    if make is uniform:
        assert boxed[-1] < n * 0.8


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(2, 300),
    st.sampled_from(MAKERS),
    st.sampled_from([np.float32, np.float64]),
)
def test_rows_of_a_box_have_its_owner(seed, d, k, make, dtype):
    """Straight from the kernels, with grids that lie anyhow."""
    rng = np.random.default_rng(seed)
    X, centers = make(rng, 700, d, k)
    X, centers = X.astype(dtype), centers.astype(np.float64)
    corner, other = X[rng.integers(0, 700, 2)].astype(np.float64)
    level = int(rng.integers(0, 16 // d + 1))
    steps = (2.0**level / np.where(corner == other, 1, np.abs(corner - other))).astype(dtype)
    laid = BoxGrid(np.minimum(corner, other), steps.astype(np.float64), level)
    with prepare(X, None, k, CPU) as (plan, _):
        kernels = plan.operations.boxing(plan._workers)
        owners, opened = np.full(laid.size, -1, np.int16), np.zeros(laid.size, np.uint8)
        numbers = kernels.number_rows(X, laid)
        boxes = Boxed(laid, numbers, owners, opened)
        kernels.find_owners(boxes, centers)
        assert opened.all()  # nothing was owned before
        kernels.find_owners(boxes, centers)
    held = opened[numbers] == 0
    assert np.array_equal(owners[numbers][held], brute(X, centers)[held])
    places = (X - laid.low) * laid.steps
    assert not held[((places < -0.01) | (places > 2.0**level + 0.01)).any(axis=1)].any()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", ["float32", "integers", "every other", "columns"])
def test_the_same_fit_as_without(boxed, isa, monkeypatch, rows, weighted):
    """To the last bit, for rows of any type and layout."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(6007, 2))
    X = {
        "float32": X.astype(np.float32),
        "integers": (1000 * X).astype(np.int64),
        "every other": X.repeat(2, axis=1)[:, ::2],
        "columns": np.asfortranarray(X),
    }[rows]
    weights = rng.random(len(X)) if weighted else None
    fits = []
    for tried in (True, False):
        monkeypatch.setattr("gpukmeans._pruning.worth_trying", lambda n, d, k, tried=tried: tried)
        with prepare(X, weights, 12, CPU) as (plan, _):
            fits.append(lloyd(plan, X[:12].astype(np.float64), max_iter=30, tol=0.0, line=""))
        assert bool(boxed) == tried
        boxed.clear()
    for one, other in zip(*fits, strict=True):
        assert np.array_equal(one, other)


def test_several_runs_and_threads(boxed):
    """The labels of a run tell nothing to the next one, and threads change no bit."""
    X = np.random.default_rng(5).random((20_011, 2), dtype=np.float32)
    fits = [KMeans(9, n_init=3, random_state=0, tol=0, max_iter=20).fit(X)]
    with pytest.MonkeyPatch.context() as patch:
        for threads in (1, 2, 4):
            patch.setattr("gpukmeans._plan.n_threads", lambda threads=threads: threads)
            fits.append(KMeans(9, n_init=3, random_state=0, tol=0, max_iter=20).fit(X))
    assert boxed
    for fit in fits:
        assert np.array_equal(fit.labels_, brute(X, fit.cluster_centers_))
        assert np.array_equal(fit.cluster_centers_, fits[0].cluster_centers_)
        assert fit.inertia_ == fits[0].inertia_


def test_a_cluster_that_becomes_empty(boxed):
    X = np.random.default_rng(6).random((5000, 2))
    init = np.concatenate([X[:5], np.full((2, 2), 9.0)])
    ours = KMeans(7, init=init, tol=0, max_iter=40).fit(X)
    assert boxed
    assert np.array_equal(ours.labels_, brute(X, ours.cluster_centers_))
    assert np.bincount(ours.labels_, minlength=7).all()


def test_the_checker_catches_boxes_that_are_too_bold(boxed, monkeypatch):
    """Some are held that have no owner, or another one than before."""
    prepare_boxes = Boxes.prepare

    def bold(self, *given):
        found = prepare_boxes(self, *given)
        if found:
            found.open[np.flatnonzero(found.open)[::2]] = 0
        return found

    monkeypatch.setattr(Boxes, "prepare", bold)
    X, centers = uniform(np.random.default_rng(1), 5000, 2, 10)
    with pytest.raises(AssertionError):
        check_by_hand(X, centers, 4)


def passes_of(X, k, iterations, monkeypatch):
    """Rows searched with boxes in each pass of a fit, one by one."""
    monkeypatch.setattr("gpukmeans._pruning._AHEAD", 0)
    searched = noted(monkeypatch)
    KMeans(k, init=X[:k], max_iter=iterations, tol=0).fit(X)
    return searched


def test_most_rows_are_held(monkeypatch):
    """As the package is: from the second pass on, while labels change."""
    X = np.random.default_rng(0).random((400_000, 2), dtype=np.float32)
    searched = passes_of(X, 10, 8, monkeypatch)
    assert len(searched) == 8  # the other passes and the last assignment
    assert max(searched) < 0.4 * len(X)
    assert searched[-1] < 0.12 * len(X)


@pytest.mark.parametrize(
    "case",
    ["small", "noise of four features", "cosines", "tiny numbers", "one tiny feature", "copies", "many clusters"],
)
def test_boxes_are_not_for(monkeypatch, case):
    """Where passes take no time, or most boxes would be open, or squares vanish: every row is searched."""
    X = np.random.default_rng(0).random((400_000, 4 if "four" in case else 2), dtype=np.float32)
    X = X[:4000] if case == "small" else X * 1e-30 if case == "tiny numbers" else X
    if case == "one tiny feature":  # boxes would be narrower than float32 tells
        X = np.column_stack([X[:, :1], X[:, 1:] * np.float32(1e-42)])
    searched = noted(monkeypatch)
    k = 300 if case == "many clusters" else 15
    init = np.repeat(X[:5], 3, axis=0) if case == "copies" else X[:k]
    KMeans(k, init=init, max_iter=2, tol=0, metric="cosine" if case == "cosines" else "euclidean").fit(X)
    assert not searched


def test_boxes_end_where_they_do_not_pay_or_bounds_begin(monkeypatch):
    X = np.random.default_rng(0).random((400_000, 2), dtype=np.float32)
    monkeypatch.setattr(gpukmeans._boxes, "_SEARCHED", 0.2)  # the second pass has to search more
    assert len(passes_of(X, 10, 6, monkeypatch)) == 1
    monkeypatch.undo()
    monkeypatch.setattr(gpukmeans._boxes, "_SETTLED", 0.002)
    with prepare(X, None, 10, CPU) as (plan, _):
        lloyd(plan, X[:10].astype(np.float64), max_iter=30, tol=0.0, line="")
        assert plan.pruning._boxes._laid is None
        assert plan.pruning._boxes.pay


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("offset", "width"), [(0, 1), (1e3, 1), (1e6, 8), (-3e4, 1e-1)])
@pytest.mark.parametrize("d", [1, 2])
def test_a_grid_is_of_numbers_that_rows_have(monkeypatch, dtype, offset, width, d):
    """Else rows would be numbered by another grid than owners are found for."""
    X = (offset + width * np.random.default_rng(d).random((400_000, d))).astype(dtype)
    grids, lay = [], gpukmeans._boxes._lay_grid
    monkeypatch.setattr(gpukmeans._boxes, "_lay_grid", lambda *given: grids.append(lay(*given)) or grids[-1])
    searched = noted(monkeypatch)
    fit = KMeans(10, init=X[:10], max_iter=12, tol=0).fit(X)
    (laid,) = grids
    assert np.array_equal(laid.low, laid.low.astype(dtype))
    assert np.array_equal(laid.steps, laid.steps.astype(dtype))
    assert searched
    assert np.array_equal(fit.labels_, brute(X, fit.cluster_centers_))


def test_a_run_begins_without_labels(boxed):
    """Owners of the run before tell nothing, though the labels may have been asked for, and are -1."""
    X = np.random.default_rng(0).random((5000, 2))
    centers = X[:10].copy()
    with prepare(X, None, 10, CPU) as (plan, _):
        for _ in range(2):
            plan.start()
            assert (plan.labels == -1).all()
            for _ in range(2):
                step = plan.step(centers)
                assert np.array_equal(step.labels, brute(X, centers))
                plan.keep(step, step.changed)


def test_one_assignment_is_not_worth_a_grid(boxed, monkeypatch):
    X = np.random.default_rng(0).random((5000, 2))
    fit = KMeans(10, init=X[:10], max_iter=3).fit(X)
    monkeypatch.setattr(Boxes, "_lay", None)
    assert np.array_equal(fit.predict(X), fit.labels_)


def test_centres_as_far_as_each_other(boxed, isa):
    """A circle of them around all boxes: nothing can be told of any box, and dividing ends early."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    centers = 1e6 * np.column_stack([np.cos(angles), np.sin(angles)])
    X = np.random.default_rng(0).normal(size=(5000, 2))
    check_by_hand(X, centers, 2)
