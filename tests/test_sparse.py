"""Sparse rows: scikit-learn's answer on the same rows, our own on the same rows made dense, true nearest centres."""

from __future__ import annotations

import inspect
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
import sklearn.linear_model
import sklearn.metrics
import sklearn.preprocessing
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from test_exactness import brute

from gpukmeans import KMeans, MiniBatchKMeans, k_means, kmeans_plusplus, metrics
from gpukmeans._device import CPU
from gpukmeans._frame import Request
from gpukmeans._kernels import csr
from gpukmeans._kernels.cpu import native
from gpukmeans._prepare import prepare

FORMS = [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.coo_array, sparse.lil_matrix]


SETS = native().instruction_sets() if native() else []


@pytest.fixture(params=["1", "numpy", *SETS[1:]])
def kernels(request, monkeypatch):
    """The compiled kernels of each instruction set, and SciPy's products."""
    monkeypatch.setenv("GPUKMEANS_KERNELS", "numpy" if request.param == "numpy" else "1")
    if request.param in SETS:
        before = native().instruction_set()
        native().use(request.param)
        yield request.param
        native().use(before)
    else:
        yield request.param


def rows_of(n: int, d: int, density: float, seed: int = 0, dtype: Any = np.float64) -> sparse.csr_array:
    """Asymmetric sparse rows in groups; some rows are empty, one is full, some features never occur."""
    rng = np.random.default_rng(seed)
    group = rng.choice(5, size=n, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    likely = rng.random((5, d)) ** 3 * density * 4
    X = np.where(rng.random((n, d)) < likely[group], rng.gamma(2.0, size=(n, d)) - 0.5, 0.0)
    X[:, rng.random(d) < 0.1] = 0.0
    X[[3, n // 2]] = 0.0
    X[n // 3] = rng.normal(size=d)
    return sparse.csr_array(X.astype(dtype))


def same(a: Any, b: Any, rtol: float = 1e-12) -> None:
    assert np.array_equal(a.labels_, b.labels_)
    assert a.n_iter_ == b.n_iter_
    assert a.inertia_ == pytest.approx(b.inertia_, rel=rtol)
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, rtol=1e-9, atol=1e-12)


SHAPES = [(1003, 41, 0.2, 7), (401, 1500, 0.02, 11), (300, 3, 0.6, 4), (97, 260, 0.1, 70)]


@pytest.mark.parametrize("init", ["k-means++", "random", "callable", "array"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float64_is_scikit_learns(kernels, shape, weighted, init):
    n, d, density, k = shape
    X = rows_of(n, d, density)
    w = np.random.default_rng(1).random(n) * (np.arange(n) % 5 > 0) if weighted else None
    first = X[[0, *range(5, k + 4)]].toarray()
    start: Any = {"callable": lambda rows, n_clusters, random_state: first, "array": first}.get(init, init)
    settings: dict[str, Any] = {"init": start, "n_init": 1 if init == "array" else 2, "random_state": 4}
    ours = KMeans(k, **settings).fit(X, sample_weight=w)
    same(ours, KMeans(k, **settings, device="cpu").fit(X.toarray(), sample_weight=w))
    if shape != SHAPES[3]:  # there clusters run empty, and the farthest rows fill them in another order
        theirs = sklearn.cluster.KMeans(k, **settings).fit(X, sample_weight=w)
        same(ours, theirs)
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-9, atol=1e-6)
        assert ours.score(X, sample_weight=w) == pytest.approx(theirs.score(X, sample_weight=w), rel=1e-12)
    assert np.array_equal(ours.predict(X), ours.labels_)
    assert np.array_equal(brute(X.toarray(), ours.cluster_centers_), ours.labels_)


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_float32_is_what_dense_rows_give(kernels, weighted):
    X = rows_of(1003, 200, 0.1, dtype=np.float32)
    w = np.random.default_rng(1).random(1003) if weighted else None
    ours = KMeans(9, random_state=0).fit(X, sample_weight=w)
    same(ours, KMeans(9, random_state=0, device="cpu").fit(X.toarray(), sample_weight=w))
    assert ours.cluster_centers_.dtype == ours.transform(X).dtype == np.float32
    assert np.array_equal(brute(X.toarray(), ours.cluster_centers_), ours.labels_)
    precise = KMeans(9, random_state=0).fit(X.astype(np.float64), sample_weight=w)
    assert np.array_equal(ours.labels_, precise.labels_)


def test_without_kernels_scipy_serves_as_well(monkeypatch):
    X = rows_of(300, 40, 0.2)
    found = []
    for choice in ("numpy", "0"):
        monkeypatch.setenv("GPUKMEANS_KERNELS", choice)
        found.append(KMeans(5, random_state=0).fit(X))
    same(*found)
    assert np.array_equal(found[0].cluster_centers_, found[1].cluster_centers_)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, bool])
def test_forms(kernels, form, dtype):
    X = rows_of(90, 20, 0.3)
    X = sparse.csr_array((X > 0.5).toarray().astype(dtype) * dtype(1))
    rows, before = form(X), form(X)
    ours, theirs = (K(3, random_state=0).fit(rows) for K in (KMeans, sklearn.cluster.KMeans))
    assert ours.cluster_centers_.dtype == theirs.cluster_centers_.dtype
    same(ours, KMeans(3, random_state=0, device="cpu").fit(rows.toarray().astype(ours.cluster_centers_.dtype)))
    assert (rows != before).nnz == 0
    assert type(ours.labels_) is type(ours.cluster_centers_) is type(ours.transform(rows)) is np.ndarray


def test_indices_of_64_bits(kernels):
    X = rows_of(200, 50, 0.2)
    long = X.copy()
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    same(KMeans(4, random_state=0).fit(long), KMeans(4, random_state=0).fit(X))


def test_frames_of_sparse_columns(kernels):
    X = rows_of(80, 6, 0.4)
    frame = pd.DataFrame.sparse.from_spmatrix(X, columns=list("abcdef"))
    model = KMeans(3, random_state=0).fit(frame)
    same(model, KMeans(3, random_state=0).fit(X))
    assert list(model.feature_names_in_) == list("abcdef")
    assert np.array_equal(model.predict(frame), model.labels_)


def test_entries_stored_twice_unsorted_or_as_zero(kernels):
    X = rows_of(120, 30, 0.2)
    twice = sparse.csr_array((np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), X.indptr * 2), shape=X.shape)
    before = twice.data.copy()
    same(KMeans(4, random_state=0).fit(twice), KMeans(4, random_state=0).fit(X))
    assert np.array_equal(twice.data, before)
    turned = sparse.csr_array((X.data.copy(), X.indices.copy(), X.indptr), shape=X.shape)
    for a, b in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        turned.data[a:b], turned.indices[a:b] = X.data[a:b][::-1], X.indices[a:b][::-1]
    same(KMeans(4, random_state=0).fit(turned), KMeans(4, random_state=0).fit(X))
    padded = X.tolil()
    padded = sparse.csr_array(X + sparse.csr_array(([1.0], ([0], [1])), shape=X.shape))
    padded.data[padded.data == padded[0, 1]] -= 1.0
    assert np.isfinite(KMeans(4, random_state=0).fit(padded).inertia_)


def test_read_only_rows(kernels):
    X = rows_of(120, 30, 0.2)
    for part in (X.data, X.indices, X.indptr):
        part.flags.writeable = False
    assert np.array_equal(KMeans(4, random_state=0).fit(X).labels_, KMeans(4, random_state=0).fit_predict(X.copy()))


def test_sparse_and_dense_rows_in_turn(kernels):
    X = rows_of(300, 40, 0.2)
    model = KMeans(5, random_state=0).fit(X)
    assert np.array_equal(model.predict(X.toarray()), model.labels_)
    np.testing.assert_allclose(model.transform(X.toarray()), model.transform(X), rtol=1e-9, atol=1e-9)
    assert np.array_equal(model.fit(X.toarray()).predict(X), model.labels_)
    opened = pickle.loads(pickle.dumps(KMeans(5, random_state=0).fit(X)))
    assert np.array_equal(opened.predict(X), model.predict(X))


def test_functions(kernels):
    X = rows_of(301, 60, 0.15)
    w = np.random.default_rng(0).random(301)
    for ours, theirs in [
        (kmeans_plusplus, sklearn.cluster.kmeans_plusplus),
        (lambda *a, **kw: k_means(*a, n_init=1, **kw), lambda *a, **kw: sklearn.cluster.k_means(*a, n_init=1, **kw)),
    ]:
        for a, b in zip(*(f(X, 8, sample_weight=w, random_state=2) for f in (ours, theirs)), strict=True):
            assert type(a) is type(b)
            np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_seeds_are_those_of_scikit_learn(kernels, seed):
    X = rows_of(257, 80, 0.1, seed)
    ours, theirs = (f(X, 9, random_state=seed)[1] for f in (kmeans_plusplus, sklearn.cluster.kmeans_plusplus))
    assert np.array_equal(ours, theirs)
    assert np.array_equal(kmeans_plusplus(X.astype(np.float32), 9, random_state=seed)[1], ours)


# --- certainty ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [2, 7, 40])
def test_ties_go_to_the_lowest_index(kernels, dtype, k):
    """Small integers: many rows exactly between centres, and centres that coincide."""
    rng = np.random.default_rng(k)
    X = sparse.csr_array(rng.integers(-2, 3, size=(400, 6)) * (rng.random((400, 6)) < 0.5)).astype(dtype)
    C = rng.integers(-4, 5, size=(k, 6)).astype(dtype) / 2
    C[k // 2] = C[0]
    model = KMeans(k, init=C, max_iter=1, tol=0)
    model.cluster_centers_, model.n_features_in_, model._n_features_out = C, 6, k
    assert np.array_equal(model.predict(X), brute(X.toarray(), C))


def test_rows_near_their_centres_keep_their_digits(kernels):
    """Inertia of clusters that are 1e-9 wide and as long as their rows: nothing cancels."""
    rng = np.random.default_rng(0)
    places = np.sort(rng.permuted(np.tile(np.arange(50), (300, 1)), axis=1)[:, :10][:1].repeat(300, axis=0), axis=1)
    base = rng.normal(size=(1, 10))
    data = base * (1 + 1e-9 * rng.normal(size=(300, 10)))
    X = sparse.csr_array((data.ravel(), places.ravel(), np.arange(0, 3001, 10)), shape=(300, 50))
    model = KMeans(2, random_state=0).fit(X)
    exact = ((X.toarray() - model.cluster_centers_[model.labels_]).astype(np.longdouble) ** 2).sum()
    assert model.inertia_ == pytest.approx(float(exact), rel=1e-9)
    assert np.array_equal(brute(X.toarray(), model.cluster_centers_), model.labels_)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_rows_whose_squares_leave_the_range_of_float32(kernels, factor):
    X = rows_of(200, 30, 0.2, dtype=np.float32)
    scaled = (X * np.float32(factor)).astype(np.float32)
    model = KMeans(4, random_state=0).fit(scaled)
    assert np.array_equal(model.labels_, KMeans(4, random_state=0).fit(X).labels_)
    assert np.array_equal(model.predict(scaled), model.labels_)


def test_a_far_centre_and_a_far_row(kernels):
    X = rows_of(300, 30, 0.2, dtype=np.float32).tolil()
    X[7, 3] = 1e8
    X = X.tocsr()
    init = X[:3].toarray()
    init[2] = 1e30
    model = KMeans(3, init=init, max_iter=3, tol=0).fit(X)
    assert np.isfinite(model.cluster_centers_).all()
    assert np.array_equal(model.labels_, brute(X.toarray(), model.cluster_centers_))


def test_empty_clusters_are_filled(kernels):
    X = rows_of(200, 30, 0.2)
    far = np.full((3, 30), 50.0) * [[1], [2], [3]]
    settings: dict[str, Any] = {"init": np.concatenate([X[:3].toarray(), far]), "n_init": 1, "random_state": 0}
    model = KMeans(6, **settings).fit(X)
    same(model, KMeans(6, **settings, device="cpu").fit(X.toarray()))
    assert np.unique(model.labels_).size == 6


def test_rows_of_zeros_alone(kernels):
    with pytest.warns(sklearn.exceptions.ConvergenceWarning, match="distinct clusters"):
        model = KMeans(2, random_state=0).fit(sparse.csr_array((9, 4)))
    assert (model.inertia_, model.labels_.tolist()) == (0.0, [0] * 9)


def test_no_number_of_threads_changes_a_bit(kernels, monkeypatch):
    X = rows_of(4000, 300, 0.05, dtype=np.float32)
    monkeypatch.setattr(csr, "_PART", 1 << 12)
    w = np.random.default_rng(0).random(4000)
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("GPUKMEANS_NUM_THREADS", threads)
        model = KMeans(13, random_state=0, tol=0, max_iter=40).fit(X, sample_weight=w)
        found.append((model.cluster_centers_.tobytes(), model.labels_.tobytes(), model.inertia_, model.n_iter_))
    assert found[0] == found[1] == found[2]
    assert found[0][3] > 5  # sums of moved rows were taken


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_sums_of_moved_rows_are_the_sums_of_all(kernels, weighted, metric):
    X = rows_of(500, 60, 0.2)
    X = X[np.diff(X.indptr) > 0]
    w = np.random.default_rng(0).random(X.shape[0]) * (np.arange(X.shape[0]) % 3 > 0) if weighted else None
    rng = np.random.default_rng(1)
    with prepare(X, w, 5, CPU, metric) as (plan, _):
        lanes = None
        for add in ("begin", "moves", "moves"):
            centers = rng.random((5, 60))
            before = plan.labels.copy()
            request = Request(plan.rows, w, plan.frame, centers, plan.labels, add, lanes, None, inertia=False)
            found = plan.operations.search_pass(request, plan._workers)
            lanes = found.lanes
            assert found.changed == (plan.labels != before).sum() > 0
            for moved, full in zip(lanes[:3], plan.add_up(plan.labels), strict=True):
                np.testing.assert_allclose(moved[0], full, rtol=1e-11, atol=1e-12)
    labels, rows = plan.labels, plan.rows[:, :].toarray()
    mass = np.ones(len(rows)) if w is None else w
    wanted = np.stack([(mass[:, None] * rows)[labels == j].sum(axis=0) for j in range(5)])
    np.testing.assert_allclose(lanes.sums[0], wanted, rtol=1e-11, atol=1e-12)
    assert lanes.counts[0].tolist() == [int((mass[labels == j] > 0).sum()) for j in range(5)]
    np.testing.assert_allclose(lanes.masses[0], [mass[labels == j].sum() for j in range(5)])


# --- metrics --------------------------------------------------------------------------------------


def test_metrics(kernels):
    X = rows_of(700, 90, 0.1)
    w = np.random.default_rng(0).random(700)
    labels = KMeans(6, random_state=0).fit_predict(X)
    full = X.toarray()
    np.testing.assert_allclose(
        metrics.silhouette_samples(X, labels), sklearn.metrics.silhouette_samples(full, labels), atol=1e-9
    )
    for sample_size in (None, 200):
        settings = {"sample_size": sample_size, "random_state": 0}
        ours, theirs = (
            of(X, labels, **settings) for of in (metrics.silhouette_score, sklearn.metrics.silhouette_score)
        )
        assert ours == pytest.approx(theirs, abs=1e-9)
    others = np.arange(700) % 3
    scores = [sklearn.metrics.silhouette_score(full, each) for each in (labels, others)]
    np.testing.assert_allclose(metrics.silhouette_curve(X, [labels, others]), scores, atol=1e-9)
    assert metrics.variance_ratio(X, labels) == pytest.approx(sklearn.metrics.calinski_harabasz_score(full, labels))
    for given in (None, np.random.default_rng(1).normal(size=(6, 90))):
        ours, dense = (metrics.simplified_silhouette_score(rows, labels, given) for rows in (X, full))
        assert ours == pytest.approx(dense, abs=1e-9)
    ours, dense = (metrics.wcss_curve(rows, [1, 3, 5], random_state=0, sample_weight=w) for rows in (X, full))
    np.testing.assert_allclose(ours.wcss, dense.wcss, rtol=1e-12)
    assert ours.total_ss == pytest.approx(dense.total_ss, rel=1e-12)


# --- memory ---------------------------------------------------------------------------------------


def test_never_made_dense(kernels):
    """What a fit, predict and judging allocate at their peak: some buffers, and a tenth of a byte for each zero."""
    n, d = 20_000, 50_000
    rng = np.random.default_rng(0)
    X = sparse.random_array((n, d), density=50 / d, format="csr", rng=rng, dtype=np.float64)
    KMeans(2, random_state=0).fit(X[:50])
    tracemalloc.start()
    model = KMeans(4, random_state=0, max_iter=5).fit(X)
    model.predict(X)
    metrics.simplified_silhouette_score(X, model.labels_)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * d / 10


# --- on a device ----------------------------------------------------------------------------------


def test_as_many_clusters_as_you_like_take_no_memory_for_all_pairs(monkeypatch):
    monkeypatch.setenv("GPUKMEANS_KERNELS", "numpy")
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "1")
    n, d, k = 30_000, 700, 600
    X = sparse.csr_array((np.ones(n), np.random.default_rng(0).integers(0, d, n), np.arange(n + 1)), shape=(n, d))
    model = KMeans(k, init=np.eye(k, d), max_iter=1).fit(X)
    tracemalloc.start()
    model.predict(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * k * 8 / 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_that_underflow(kernels, dtype):
    """Rows near zero beside one that keeps the frame from being scaled."""
    rng = np.random.default_rng(3)
    X = 1e-22 * rng.normal(size=(40, 3))
    X[0] = 1
    X = X.astype(dtype)
    for seed in range(60):
        C = X[np.random.default_rng(seed).choice(40, 4, replace=False)]
        model = KMeans(4, init=C, max_iter=1, tol=0).fit(sparse.csr_array(X))
        assert np.array_equal(model.labels_, brute(X, model.cluster_centers_)), seed


BAD_PLACES = {
    "a column that is not there": ([0, 1, 2, 900_000_000], [0, 1, 2, 3, 4]),
    "a negative column": ([0, 1, -2, 1], [0, 1, 2, 3, 4]),
    "edges that fall": ([0, 1, 2, 1], [0, 2, 1, 3, 4]),
    "edges beyond the entries": ([0, 1, 2, 1], [0, 1, 2, 3, 40]),
    "edges that begin late": ([0, 1, 2, 1], [1, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("case", BAD_PLACES)
def test_places_that_are_not_there(kernels, case):
    """SciPy takes them; they would be read from memory that is not the matrix's."""
    indices, edges = (np.array(part, np.int32) for part in BAD_PLACES[case])
    bad = sparse.csr_array((4, 3))
    bad.data, bad.indices, bad.indptr = np.ones(4), indices, edges
    model = KMeans(2, random_state=0).fit(np.eye(4, 3))
    for use in (KMeans(2).fit, MiniBatchKMeans(2).fit, model.predict, model.score):
        with pytest.raises(ValueError, match=r"X is no valid CSR matrix of shape \(4, 3\): column indices"):
            use(bad)


def on_a_device(X: sparse.csr_array, cp: Any) -> Any:
    """CuPy's CSR over the same entries; its constructor asks for cuSPARSE, which the stand-in has not."""
    from cupyx.scipy.sparse import csr_matrix

    made = csr_matrix.__new__(csr_matrix)
    made.data, made.indices, made.indptr = cp.asarray(X.data), cp.asarray(X.indices), cp.asarray(X.indptr)
    made._shape = X.shape
    return made


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_scipys_rows_go_to_a_device(cupy_double, weighted):
    """A double of CuPy: blocks are made dense there, one after the other."""
    X = rows_of(203, 150, 0.1)
    w = np.random.default_rng(1).random(203) if weighted else None
    model = KMeans(4, random_state=0, device="cuda").fit(X, sample_weight=w)
    same(model, KMeans(4, random_state=0, device="cpu").fit(X, sample_weight=w))
    assert model.device_.startswith("cuda")
    assert type(model.labels_) is np.ndarray
    np.testing.assert_allclose(
        model.transform(X), KMeans(4, random_state=0).fit(X, sample_weight=w).transform(X), atol=1e-9
    )


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cupys_rows(cp, dtype):
    X = rows_of(203, 150, 0.1, dtype=dtype)
    rows, host = on_a_device(X, cp), KMeans(4, random_state=0, device="cpu").fit(X)
    model = KMeans(4, random_state=0).fit(rows)
    assert model.device_.startswith("cuda")
    assert all(isinstance(each, cp.ndarray) for each in (model.labels_, model.cluster_centers_, model.transform(rows)))
    assert np.array_equal(model.labels_.get(), host.labels_)
    assert np.array_equal(model.predict(rows).get(), host.labels_)
    assert model.inertia_ == pytest.approx(host.inertia_, rel=1e-6 if dtype is np.float32 else 1e-12)
    np.testing.assert_allclose(model.transform(rows).get(), host.transform(X), rtol=1e-5, atol=1e-6)
    for k in (2, 5):
        centers, indices = kmeans_plusplus(rows, k, random_state=k)
        assert np.array_equal(indices.get(), kmeans_plusplus(X, k, random_state=k)[1])
        assert np.array_equal(centers.get(), X[indices.get()].toarray())
    for judge in (metrics.silhouette_score, metrics.variance_ratio, metrics.simplified_silhouette_score):
        assert judge(rows, model.labels_) == pytest.approx(judge(X, host.labels_), rel=1e-6)
    with pytest.raises(ValueError, match="features"):
        model.predict(on_a_device(rows_of(9, 7, 0.5, dtype=dtype), cp))


@pytest.mark.cuda
def test_cupys_rows_that_cannot_be_used(cp):
    X = rows_of(50, 7, 0.5)
    X.data[2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        KMeans(2).fit(on_a_device(X, cp))


@pytest.mark.cuda
def test_a_device_fills_empty_clusters_and_breaks_ties_as_the_host_does(cp):
    X = sparse.csr_array(np.random.default_rng(0).integers(-1, 2, size=(300, 5)).astype(np.float64))
    init = np.concatenate([X[:3].toarray(), np.full((2, 5), 9.0)])
    host, model = (KMeans(5, init=init).fit(rows) for rows in (X, on_a_device(X, cp)))
    assert np.array_equal(model.labels_.get(), host.labels_)
    assert model.inertia_ == pytest.approx(host.inertia_, rel=1e-12)


# --- text -----------------------------------------------------------------------------------------


def test_texts(kernels):
    """scikit-learn's documentation by TF-IDF, as in the README: what clusters is in one cluster."""
    modules = [sklearn.cluster, sklearn.linear_model, sklearn.metrics, sklearn.preprocessing]
    things = {name: getattr(module, name) for module in modules for name in module.__all__}
    vectorizer = TfidfVectorizer(stop_words="english", token_pattern="[a-z]{3,}", sublinear_tf=True)
    X = vectorizer.fit_transform([inspect.getdoc(thing) or name for name, thing in things.items()])
    assert X.nnz < 0.1 * X.shape[0] * X.shape[1]
    for metric in ("euclidean", "cosine"):
        model = KMeans(5, metric=metric, n_init=10, random_state=0).fit(X)
        label = dict(zip(things, model.labels_.tolist(), strict=True))
        assert len({label[name] for name in ("KMeans", "DBSCAN", "HDBSCAN", "Birch", "MeanShift")}) == 1
        assert len({label[name] for name in ("Lasso", "LassoCV", "ElasticNet", "MultiTaskLasso")}) == 1
        assert label["KMeans"] != label["Lasso"]
        same(model, KMeans(5, metric=metric, n_init=10, random_state=0, device="cpu").fit(X.toarray()))
