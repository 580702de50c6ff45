"""Rows decided by products of integers of 16 bits: labels are those of brute force, whatever rounding does to them."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from test_bounds import KINDS, brute, check_every_iteration, data

from gpukmeans import KMeans
from gpukmeans._device import CPU
from gpukmeans._frame import Request
from gpukmeans._kernels.cpu import native
from gpukmeans._lloyd import lloyd
from gpukmeans._prepare import prepare

pytestmark = pytest.mark.skipif(native() is None, reason="the compiled kernels were not built")

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LEVELS = 32000  # `coarse_levels` of the kernels
COARSE = platform.machine() in ("x86_64", "AMD64")


def search(X, centers):
    """One pass: its labels, and how many rows integers left open."""
    with prepare(X, None, len(centers), CPU) as (plan, _):
        labels = plan.labels
        request = Request(X, None, plan.frame, centers, labels, "nothing", None, None, inertia=False)
        found = plan.operations.search_pass(request, plan._workers)
    return labels, found.left


@BOTH
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "d", "k"), [(700, 24, 16), (1500, 25, 17), (1000, 33, 18), (700, 50, 70), (500, 130, 19), (300, 200, 90)]
)
def test_labels_of_every_iteration(isa, dtype, kind, n, d, k):
    rng = np.random.default_rng([n, d, k])
    X, rows = data(rng, kind, n, d, k)
    X = X.astype(dtype)
    check_every_iteration(X, X[rows], 6, rng.random(len(X)) if k % 2 else None)


@BOTH
@pytest.mark.parametrize("n", [16, 17, 23, 24, 25, 47, 48, 49, 63, 64, 65, 4095, 4096, 4097, 9001])
def test_any_number_of_rows(isa, dtype, n):
    rng = np.random.default_rng(n)
    X, centers = rng.normal(size=(n, 31)).astype(dtype), rng.normal(size=(21, 31))
    labels, left = search(X, centers)
    assert np.array_equal(labels, brute(X, centers))
    assert left <= 1 + n // 50 if COARSE else left == 0


@BOTH
def test_hardly_a_row_is_left_open(isa, dtype):
    X = np.random.default_rng(0).random((20_000, 64)).astype(dtype)
    labels, left = search(X, X[:200].astype(np.float64))
    assert np.array_equal(labels, brute(X, X[:200]))
    assert (0 < left < 1000) if COARSE else left == 0


@BOTH
def test_rows_that_rounding_hides_are_searched_as_ever(isa, dtype):
    """Two groups so far apart that |x|^2 drowns what tells the clusters of a group apart; after these, others."""
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(40, 32)) + 2e3 * np.where(np.arange(40) % 2, 1, -1)[:, None]
    X = centers[rng.integers(0, 40, 20_000)] + rng.normal(size=(20_000, 32))
    labels, left = search(X.astype(dtype), centers)
    assert np.array_equal(labels, brute(X.astype(dtype), centers))
    assert left == len(X) if COARSE else left == 0
    centers[20:] = rng.normal(size=(20, 32)) * 30
    X[2000:] = centers[rng.integers(20, 40, 18_000)] + rng.normal(size=(18_000, 32))
    labels, left = search(X.astype(dtype), centers)
    assert np.array_equal(labels, brute(X.astype(dtype), centers))
    if COARSE:
        assert 1500 < left < len(X)


def of_length(x, place):
    """x with another number there, so that it is `LEVELS` long."""
    x[place] = 0
    x[place] = np.sqrt(LEVELS**2 - (x**2).sum())
    return x


@BOTH
@pytest.mark.parametrize("longer", [1, 2, 16])
def test_rounding_at_its_worst(isa, dtype, longer):
    """Rounding takes from a row what leads to one of two centres, and from these what leads to the row."""
    d, rng, lost = 64, np.random.default_rng(2), 0.495
    signs, sides = (np.append(rng.choice([-1, 1], size=d), [0, 0]) for _ in range(2))
    one, two = (of_length(side * (3990 * sides + lost * signs), d) for side in (1, -1))
    others = [of_length(-3900.0 * signs + rng.integers(-50, 50, d + 2) * np.abs(signs), d) for _ in range(14)]
    centers = np.stack([one, two, *others])
    X = np.empty((400, d + 2))
    for wanted, x in zip(np.linspace(-130, 10, 400), X, strict=True):
        whole = signs * rng.integers(3850, 4000, d + 2).astype(float)
        while abs(step := np.rint((wanted - whole @ sides) / 2)) > 0:  # until the row is as near to both as wanted
            q = rng.integers(0, d)
            whole[q] += sides[q] * np.clip(step, -50, 50)
        x[:] = of_length(whole + lost * sides, d + 1)
    X, centers = np.concatenate([X, -X]).astype(dtype) * dtype(longer), centers.astype(dtype).astype(np.float64)
    labels, _ = search(X, centers)
    expected = brute(X, centers)
    assert 100 < np.count_nonzero(expected[:400] == 0) < 300
    assert np.array_equal(labels, expected)


@BOTH
@pytest.mark.parametrize("size", [0.0, 1e-25, 1e-17, 1e-14, 1.0, 1e13, 1e15])
def test_rows_of_any_length(isa, dtype, size):
    """Among rows of length one, which give the frame its scale: too short and too long ones are left open."""
    rng = np.random.default_rng(3)
    X, centers = rng.normal(size=(500, 24)), rng.normal(size=(32, 24)) * np.geomspace(1e-18, 1e3, 32)[:, None]
    X[100:300] *= size
    X, centers = X.astype(dtype), centers.astype(dtype).astype(np.float64)
    centers[7], centers[9] = centers[20], 0.0  # a twin, and one without length
    with prepare(X[:100], None, 32, CPU) as (plan, _):
        frame = plan.frame
        labels = np.full(500, -1, np.int32)
        plan.operations.search_pass(
            Request(X, None, frame, centers, labels, "nothing", None, None, inertia=False), plan._workers
        )
    squared = ((X[:, None].astype(np.float64) - centers) ** 2).sum(axis=2)
    nearest, own = squared.argmin(axis=1), squared[np.arange(500), labels]
    ties = own <= squared.min(axis=1) * (1 + 1e-15)  # what is left of the centres where rows are so long
    assert ties.all()
    assert np.array_equal(labels[:100], nearest[:100])


@BOTH
def test_distances_to_own_centres_stay_known(isa, dtype):
    """Rows that nearly are centres get bounds like those of a search, not of rounding."""
    rng = np.random.default_rng(4)
    centers = rng.normal(size=(300, 40)) + 30
    with prepare(rng.normal(size=(400, 40)).astype(dtype), None, 300, CPU) as (plan, _):
        found = plan.pruning.separations(centers, plan.frame)
    squared = ((centers[:, None] - centers) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    np.testing.assert_allclose(found, np.sqrt(squared.min(axis=1)), rtol=1e-4)


@BOTH
def test_with_bounds_labels_are_the_same(isa, monkeypatch, dtype):
    monkeypatch.setattr("gpukmeans._plan._IN_ONE_CALL", 0)
    rng = np.random.default_rng(5)
    X = (rng.normal(size=(30, 36))[rng.integers(0, 30, 6000)] * 0.4 + rng.normal(size=(6000, 36))).astype(dtype)
    fits = []
    for kept in (True, False):
        monkeypatch.setattr("gpukmeans._pruning.worth_keeping", lambda d, k, kept=kept: kept)
        with prepare(X, None, 40, CPU) as (plan, _):
            fits.append(lloyd(plan, X[:40].astype(np.float64), max_iter=40, tol=0.0, line=""))
    for one, other in zip(*fits, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(fits[0].labels, brute(X, fits[0].centers))


@BOTH
@pytest.mark.parametrize(("d", "k"), [(7, 5000), (20, 2000), (40, 1000)])
def test_more_centres_than_stay_in_cache(isa, dtype, d, k):
    """Searched coarsely or not, and again by what is left open."""
    rng = np.random.default_rng(d)
    X, centers = rng.normal(size=(500, d)), rng.normal(size=(k, d))
    X[::3] = (centers[:167] + centers[1:168]) / 2  # as near to two of them
    labels, _ = search(X.astype(dtype), centers.astype(dtype).astype(np.float64))
    assert np.array_equal(labels, brute(X.astype(dtype), centers.astype(dtype)))


@pytest.mark.parametrize("layout", ["F", "strided", "int32", "reversed"])
def test_rows_in_any_memory(isa, layout):
    X = np.random.default_rng(6).normal(size=(3000, 31)) * 100
    rows = {
        "F": np.asfortranarray(X),
        "strided": np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
        "int32": X.astype(np.int32),
        "reversed": X[:, ::-1],
    }[layout]
    model = KMeans(25, init=np.array(rows[:25], float), max_iter=5, tol=0).fit(rows)
    assert np.array_equal(model.labels_, brute(rows, model.cluster_centers_))
