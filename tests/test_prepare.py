"""What is known of the rows before a fit starts: the point they are looked at from, and their moments."""

from __future__ import annotations

import numpy as np
import pytest

from gpukmeans import KMeans, _frame
from gpukmeans._device import CPU
from gpukmeans._kernels import find
from gpukmeans._prepare import prepare
from gpukmeans._sums import moments_from
from gpukmeans._validation import surely_finite

pytestmark = pytest.mark.host


def data(kind, n, d):
    rng = np.random.default_rng([n, d])
    X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4, d) + rng.normal(size=d) * 1e4
    if kind == "integers":
        X = rng.integers(-9, 1000, (n, d)).astype(float)
    elif kind == "constant":
        X[:, ::2] = X[0, ::2]
    elif kind in ("tiny", "huge"):
        X *= 1e-160 if kind == "tiny" else 1e130
    return X


@pytest.fixture(params=["1", "numpy", "0"])
def kernels(request, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_KERNELS", request.param)


KINDS = ["noise", "integers", "constant", "tiny", "huge"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.float16, ">f8"])
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (500, 2), (1023, 1), (1024, 130), (70_001, 7), (300, 2000)])
def test_the_compiled_reference_is_the_body(kind, layout, dtype, n, d):
    if find("reference", np.empty((1, 1))) is None:
        pytest.skip("no compiled kernels")
    with np.errstate(all="ignore"):
        X = data(kind, n, d).astype(dtype)
    X = {"C": X, "F": np.asfortranarray(X), "strided": np.repeat(X, 2, axis=0)[::2]}[layout]
    for single in (False, True):
        np.testing.assert_array_equal(find("reference", X)(X, single), _frame.reference(X, single))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reference_is_finite_whatever_the_rows(kernels, bad):
    X = np.ones((100, 2))
    X[3, 1] = bad
    reference = find("reference", X) or _frame.reference
    near = reference(X, False)
    assert near[0] == 1.0
    assert np.isfinite(near[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (500, 2), (5001, 3), (3001, 20), (20_000, 9)])
def test_moments(kernels, n, d, dtype):
    X = (np.random.default_rng(n).normal(size=(n, d)) * 100 + np.arange(d) * 7).astype(dtype)
    exact = X.astype(np.float64)
    with prepare(X, None, 1, CPU) as (plan, moments):
        shift = plan.frame.shift
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.variance, exact.var(axis=0), rtol=1e-11, atol=1e-12)
    assert moments.peak == pytest.approx(np.sqrt(((exact - shift) ** 2).sum(axis=1).max()), rel=1e-12)


def test_moments_of_sums():
    found = moments_from(4, np.array([10.0, 0.0]), np.array([4.0, -8.0]), np.array([8.0, 16.0]), 3.0)
    assert [found.mean.tolist(), found.variance.tolist(), found.peak] == [[11.0, -2.0], [1.0, 0.0], 3.0]


@pytest.mark.parametrize("place", [0, 499, 511, 700, 1999])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e141])
@pytest.mark.parametrize("n", [500, 2000])
def test_a_fit_notices_what_it_did_not_look_for(kernels, n, bad, place):
    """Wherever it is: among the rows that the reference point comes from or not."""
    X = np.random.default_rng(0).random((n, 2))
    X[min(place, n - 1), 1] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity|magnitude"):
        KMeans(3, init=X[[5, 6, 7]]).fit(X)


@pytest.mark.parametrize(
    ("mean", "peak", "sure"),
    [
        ([0.0, 1.0], 2.0, True),
        ([1e139, -1e139], 1e139, True),
        ([0.0, 1.1e140], 0.0, False),
        ([0.0, 0.0], 1e140, False),
        ([np.nan, 0.0], 1.0, False),
        ([0.0, np.inf], 1.0, False),
        ([np.nan, np.inf], 1.0, False),
        ([0.0, 0.0], np.nan, False),
    ],
)
def test_sure_of_finite_values(mean, peak, sure):
    assert surely_finite(np.array(mean), peak) is sure
