"""Rows of at most four features: labels are the true nearest centres, whichever way they are searched."""

from __future__ import annotations

import numpy as np
import pytest
from test_exactness import brute

from gpukmeans._device import CPU
from gpukmeans._frame import Request
from gpukmeans._lloyd import lloyd
from gpukmeans._prepare import prepare

pytestmark = pytest.mark.host


def uniform(rng, n, d, k):
    return rng.random((n, d)), rng.random((k, d))


def grid(rng, n, d, k):
    """Rows of small integers: ties between several centres everywhere, and centres that are copies."""
    return rng.integers(-3, 4, size=(n, d)), rng.integers(-2, 3, size=(k, d))


def far_groups(rng, n, d, k):
    """Two groups of clusters so far apart that |x|^2 drowns what tells the clusters of a group apart."""
    centers = rng.normal(size=(k, d)) + rng.choice([-3e3, 3e3], size=(k, 1))
    return centers[rng.integers(0, k, n)] + rng.normal(size=(n, d)), centers


def some_far(rng, n, d, k):
    """The same for every third thousand of the rows only."""
    X, centers = far_groups(rng, n, d, k)
    centers[: k // 2 + 1] /= 1e3
    X[np.arange(n) // 1000 % 3 > 0] /= 1e3
    return X, centers


def bisectors(rng, n, d, k):
    """Rows that lie about as near to two centres: as much nearer to one of them as fast distances err, more or less."""
    centers = rng.normal(size=(k, d))
    first, second = centers[rng.integers(0, k, (2, n))]
    aside = 10.0 ** rng.uniform(-9, -4, size=(n, 1)) * rng.choice([-1, 1], size=(n, 1))
    return (first + second) / 2 + aside * (first - second), centers


MAKERS = [uniform, grid, far_groups, some_far, bisectors]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("k", [1, 2, 10, 40, 64, 65, 300])
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_labels_are_the_nearest_centres(isa, dtype, make, k, d):
    rng = np.random.default_rng([d, k])
    X, centers = (values.astype(dtype) for values in make(rng, 5003, d, k))
    with prepare(X, None, k, CPU) as (plan, _):
        labels = plan.assign(centers.astype(np.float64)).copy()
    assert np.array_equal(labels, brute(X, centers))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("d", "k"), [(1, 20), (2, 10), (3, 16), (3, 50), (4, 70), (2, 130)])
def test_with_bounds_labels_are_the_same(isa, monkeypatch, make, d, k, dtype):
    """The same fit with bounds from its first pass on and without any."""
    monkeypatch.setattr("gpukmeans._plan._IN_ONE_CALL", 0)
    rng = np.random.default_rng([d, k])
    X = make(rng, 5003, d, k)[0].astype(dtype)
    init = X[rng.choice(len(X), k, replace=False)].astype(np.float64)
    monkeypatch.setattr("gpukmeans._bounds._CHEAP", 0)  # bounds begin with the first pass
    fits = []
    for kept in (True, False):
        monkeypatch.setattr("gpukmeans._pruning.worth_keeping", lambda d, k, kept=kept: kept)
        with prepare(X, None, k, CPU) as (plan, _):
            fits.append(lloyd(plan, init, max_iter=30, tol=0.0, line=""))
        assert (plan.pruning.bounds is not None) == kept
    for one, other in zip(*fits, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("offset", [0, 1e3])
def test_hardly_a_row_is_decided_in_float64(isa, offset):
    """What the numbers in the last bits leave in doubt, a hundred rows here or all of them, differences decide."""
    rng = np.random.default_rng(0)
    X = rng.random((60_000, 2), dtype=np.float32)
    X[:30] += np.float32(offset)
    with prepare(X, None, 64, CPU) as (plan, _):
        request = Request(X, None, plan.frame, X[:64].astype(np.float64), plan.labels, "nothing", None, None, False)
        found = plan.operations.search_pass(request, plan._workers)
    assert found.doubtful < 10


@pytest.mark.parametrize(("rows", "centres"), [(1e-150, 1e5), (1e-155, 1.0), (1e-140, 1e20), (1e-20, 1e140)])
def test_centres_whose_squares_overflow(isa, rows, centres):
    """They are no copies of each other, though all of their norms are infinite."""
    X = np.random.default_rng(0).random((500, 2)) * rows
    centers = np.array([[1.0, 1.0], [0.5, 0.5], [0.25, 2.0]]) * centres
    with prepare(X, None, 3, CPU) as (plan, _):
        assert np.array_equal(plan.assign(centers), brute(X, centers))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("d", "k"), [(2, 3), (3, 70), (16, 40), (200, 300)])
def test_centres_are_told_apart(isa, dtype, d, k, metric):
    """The distance to the nearest other centre, at least, and hardly less; none to a twin."""
    rng = np.random.default_rng(d)
    X = rng.normal(size=(400, d)).astype(dtype)
    centers = rng.normal(size=(k, d)) + 30
    centers[-1] = centers[0]
    with prepare(X, None, k, CPU, metric) as (plan, _):
        centers = plan.place(centers)
        found = plan.pruning.separations(centers, plan.frame)
    squared = ((centers[:, None] - centers) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    nearest = np.sqrt(squared.min(axis=1)) * plan.frame.scale
    assert (found <= nearest).all()
    assert (found >= nearest * (1 - 1e-4) - 1e-4).all()
