"""Rows of at most four features: labels are the true nearest centres, whichever way they are searched."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans._device import CPU
from gpukmeans._frame import Request
from gpukmeans._lloyd import lloyd
from gpukmeans._prepare import prepare
from tests.test_exactness import brute

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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [uniform, grid, far_groups, some_far])
@pytest.mark.parametrize("k", [1, 2, 10, 64, 65, 300])
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_labels_are_the_nearest_centres(isa, dtype, make, k, d):
    rng = np.random.default_rng([d, k])
    X, centers = (values.astype(dtype) for values in make(rng, 5003, d, k))
    plan, _ = prepare(X, None, k, CPU)
    with plan:
        labels = plan.assign(centers.astype(np.float64)).copy()
    assert np.array_equal(labels, brute(X, centers))


@pytest.mark.parametrize("make", [uniform, grid, far_groups, some_far])
@pytest.mark.parametrize(("d", "k"), [(1, 20), (2, 10), (3, 16), (4, 70)])
def test_with_bounds_labels_are_the_same(isa, monkeypatch, make, d, k):
    """The same fit with bounds from its first pass on and without any."""
    monkeypatch.setattr("gpukmeans._plan._IN_ONE_CALL", 0)
    rng = np.random.default_rng([d, k])
    X = make(rng, 5003, d, k)[0].astype(np.float32)
    init = X[rng.choice(len(X), k, replace=False)].astype(np.float64)
    fits = []
    for cheap in (0, 1 << 20):  # up to that many products bounds wait until few rows move
        monkeypatch.setattr("gpukmeans._bounds._CHEAP", cheap)
        monkeypatch.setattr("gpukmeans._plan.worth_keeping", lambda d, k, keep=not cheap: keep)
        plan, _ = prepare(X, None, k, CPU)
        with plan:
            fits.append(lloyd(plan, init, max_iter=30, tol=0.0, line=""))
    for one, other in zip(*fits, strict=True):
        assert np.array_equal(one, other)


def test_hardly_a_row_is_decided_in_float64(isa):
    """Where clusters are a fraction of the spread, the fast ways decide."""
    rng = np.random.default_rng(0)
    X = rng.random((60_000, 2), dtype=np.float32)
    plan, _ = prepare(X, None, 10, CPU)
    request = Request(X, None, plan.frame, X[:10].astype(np.float64), plan.labels, "nothing", None, None, False)
    with plan:
        found = plan.operations.search_pass(request, plan._workers)
    assert found.doubtful < 10
