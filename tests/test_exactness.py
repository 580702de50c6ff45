"""Labels are the true nearest centres, on data that fast distances get wrong; and the same bits always."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st

import gpukmeans._plan
from gpukmeans import KMeans, kmeans_plusplus
from gpukmeans.metrics import silhouette_samples


def brute(X, C):
    """Nearest centre by direct float64 differences, lowest index on ties."""
    X, C = np.asarray(X, np.float64), np.asarray(C, np.float64)
    return np.concatenate([((x[:, None] - C) ** 2).sum(2).argmin(1) for x in np.array_split(X, len(X) // 500 + 1)])


def brute_lloyd(X, C, iterations):
    X = X.astype(np.float64)
    for _ in range(iterations):
        labels = brute(X, C)
        C = np.stack([X[labels == j].mean(axis=0) for j in range(len(C))])
    return C, brute(X, C)


def offset(rng, mean, d, k=8, n=6000):
    centers = rng.normal(size=(k, d)) * 3
    return (centers[rng.integers(0, k, n)] + rng.normal(size=(n, d)) + mean).astype(np.float32)


def two_groups(rng, d, k=8, n=6000):
    centers = rng.normal(size=(k, d)) * 3
    centers[: k // 2] += 1e4
    centers[k // 2 :] -= 1e4
    y = rng.integers(0, k, n)
    X = (centers[y] + rng.normal(size=(n, d))).astype(np.float32)
    return X, np.array([np.flatnonzero(y == j)[0] for j in range(k)])


@pytest.mark.parametrize("case", ["mean 1e4, d=16", "two groups, d=16", "two groups, d=3", "mean 1e6, d=2"])
def test_ill_conditioned_float32(case):
    """The data that every peer gets wrong (share of wrong labels 0.7 and more): none wrong here."""
    rng = np.random.default_rng(0)
    if case.startswith("mean"):
        X = offset(rng, float(case[5:8]), int(case[-2:].lstrip("=")))
        rows = rng.choice(len(X), 8, replace=False)
    else:
        X, rows = two_groups(rng, int(case[-2:].lstrip("=")))
    model = KMeans(8, init=X[rows], max_iter=20, tol=0).fit(X)
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))
    C, labels = brute_lloyd(X, X[rows].astype(np.float64), model.n_iter_)
    # the published centres are rounded to float32, which alone can move rows at a mean of 1e6
    wide = KMeans(8, init=X[rows].astype(np.float64), max_iter=20, tol=0).fit(X.astype(np.float64))
    assert np.array_equal(wide.labels_, labels)
    np.testing.assert_allclose(model.cluster_centers_, C.astype(np.float32), rtol=3e-7)
    # what is left is the limit of float32 centres: the true ones, rounded, give the same labels
    assert np.array_equal(model.labels_, brute(X, C.astype(np.float32)))
    if "1e6" not in case:
        assert np.array_equal(model.labels_, labels)


@pytest.mark.parametrize("e", [1e-19, 1e-22])
@pytest.mark.parametrize("d", [3, 8, 200])
def test_products_that_underflow(space, d, e):
    """Rows near the origin of the frame, next to rows that keep it from being scaled; their squares vanish."""
    X = e * np.random.default_rng(d).normal(size=(400, d))
    X[:100] += 1
    X[100:200], X[300:] = -X[:100], -X[200:300]
    X = X.astype(np.float32)
    init = np.concatenate([X[:1], X[100:101], X[200:206]])
    model = KMeans(8, init=space.put(init), max_iter=1, device=space.device).fit(space.put(X))
    assert np.array_equal(space.get(model.labels_), brute(X, space.get(model.cluster_centers_)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(1, 1, 1), (37, 1, 5), (999, 3, 10), (2049, 17, 65), (700, 130, 33), (500, 4, 300)]
)
def test_labels_are_the_nearest_centres(dtype, n, d, k):
    X = np.random.default_rng(n).normal(size=(n, d)).astype(dtype)
    model = KMeans(k, random_state=0, n_init=2).fit(X)
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))
    D = np.linalg.norm(X.astype(np.float64) - model.cluster_centers_.astype(np.float64)[model.labels_], axis=1)
    assert model.inertia_ == pytest.approx((D**2).sum(), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 9), st.sampled_from([np.float32, np.float64]))
def test_ties_go_to_the_lowest_index(seed, d, k, dtype):
    """Small integers: many rows exactly between centres, and centres that coincide."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-2, 3, size=(60, d)).astype(dtype)
    C = rng.integers(-4, 5, size=(k, d)).astype(dtype) / 2
    model = KMeans(k, init=C, max_iter=1, tol=0)
    model.cluster_centers_, model.n_features_in_, model._n_features_out = C, d, k
    assert np.array_equal(model.predict(X), brute(X, C))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_far_outlier_spoils_no_row(dtype):
    """Neither a far row nor a far centre sends the other rows to the slow path, and labels stay true."""
    import gpukmeans._lloyd as module

    rng = np.random.default_rng(1)
    X = rng.normal(size=(60_000, 5)).astype(dtype)
    X[777] = 3e5
    init = np.concatenate([X[:6], X[777:778]])
    doubtful = []
    original = module._record
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpukmeans._plan._IN_ONE_CALL", 0)  # the loop in one call tells nothing of doubtful rows
        patch.setattr(module, "_record", lambda *args: doubtful.append(original(*args)) or doubtful[-1])
        model = KMeans(7, init=init, max_iter=8, tol=0).fit(X)
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))
    assert max(record.doubtful for record in doubtful) < len(X) / 64


def test_centres_far_outside_the_range_of_float32_squares():
    X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    init = np.concatenate([X[:2], np.full((1, 3), 1e30, np.float32)])
    model = KMeans(3, init=init, max_iter=1, tol=0).fit(X)
    assert np.isfinite(model.cluster_centers_).all()
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))


@pytest.mark.parametrize("spread", [1e-3, 1e-4])
def test_silhouettes_of_tight_clusters(spread):
    rng = np.random.default_rng(2)
    y = np.repeat(np.arange(6), 200)
    centers = rng.normal(size=(6, 4))
    X = (centers[y] + spread * rng.normal(size=(1200, 4))).astype(np.float32)
    D = np.linalg.norm(X.astype(np.longdouble)[:, None] - X.astype(np.longdouble), axis=2)
    sums = np.stack([D[:, y == j].sum(1) for j in range(6)], axis=1)
    a = sums[np.arange(1200), y] / 199
    sums[np.arange(1200), y] = np.inf
    b = (sums / 200).min(1)
    assert abs(silhouette_samples(X, y) - (b - a) / np.maximum(a, b)).max() < 1e-9


# --- the same bits ------------------------------------------------------------------------------


def everything(X, w):
    """Bytes of all results of a fit, its seeding and silhouettes."""
    model = KMeans(11, random_state=0, n_init=2, tol=0, max_iter=40).fit(X, sample_weight=w)
    seeds = kmeans_plusplus(X, 11, random_state=1, sample_weight=w)[1]
    parts = [model.cluster_centers_, model.labels_, np.float64(model.inertia_), seeds]
    parts += [model.transform(X[:500]), np.float64(model.score(X))]
    parts += [silhouette_samples(X[:1200], model.labels_[:1200])]
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts) + bytes([model.n_iter_])


@pytest.mark.host  # on a device: test_cuda_kernels
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("d", [3, 40])
def test_threads_blocks_and_memory_do_not_change_a_bit(monkeypatch, dtype, weighted, d):
    """On symmetric data, where the order of a sum would decide ties and so labels."""
    rng = np.random.default_rng(5)
    half = rng.normal(size=(9_000, d))
    X = np.concatenate([half, -half]).astype(dtype)
    w = rng.random(len(X)) if weighted else None
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "1")
    reference = everything(X, w)
    for threads in ("3", "8"):
        monkeypatch.setenv("GPUKMEANS_NUM_THREADS", threads)
        assert everything(X, w) == reference, f"{threads} threads"
    for rows in (333, 1024, 5000):
        with monkeypatch.context() as patch:
            patch.setattr(gpukmeans._plan.Plan, "_block", rows)
            assert everything(X, w) == reference, f"blocks of {rows} rows"
    for megabytes in (1, 4):
        with sklearn.config_context(working_memory=megabytes):
            assert everything(X, w) == reference, f"{megabytes} MB"


def test_layout_does_not_change_a_bit():
    X = np.random.default_rng(5).normal(size=(5_000, 6))
    reference = everything(X, None)
    assert everything(np.asfortranarray(X), None) == reference
    spread = np.zeros((5_000, 12))
    spread[:, ::2] = X
    assert everything(spread[:, ::2], None) == reference


def test_sums_of_moved_rows_end_on_exact_sums(monkeypatch):
    """After many iterations of differences the centres are the means of their rows, to the last bits."""
    rng = np.random.default_rng(3)
    X = np.concatenate([rng.random((4_000, 3)), rng.random((10, 3)) * 1e3])
    model = KMeans(9, init=X[-12:-3], tol=0).fit(X)
    assert model.n_iter_ > 8
    means = np.stack([X[model.labels_ == j].mean(axis=0) for j in range(9)])
    np.testing.assert_allclose(model.cluster_centers_, means, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("d", "k"), [(2, 40), (9, 40), (64, 9), (40, 300)])
def test_copies_of_centres_get_no_row(dtype, d, k):
    """Copies among centres of many equal coordinates, some of them -0.0: the first of each has all the rows."""
    rng = np.random.default_rng(k)
    C = rng.integers(-1, 2, (k, d)).astype(dtype)  # permutations of each other, and copies where d is 2
    C[k // 2 :: 3] = C[: k // 2 : 3][: len(C[k // 2 :: 3])]
    C[1::2] = np.where(C[1::2] == 0, dtype(-0.0), C[1::2])
    X = np.concatenate([C, rng.normal(size=(500, d)).astype(dtype)])
    model = KMeans(k, init=C, max_iter=1, n_init=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X)
    model.cluster_centers_ = C
    assert np.array_equal(model.predict(X), brute(X, C))
