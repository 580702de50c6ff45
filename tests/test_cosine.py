"""metric="cosine": a reference implementation, brute force in float64, dense and sparse rows, every path."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any, NamedTuple

import numpy as np
import pytest
import sklearn.cluster
from scipy import sparse
from test_sparse import on_a_device, rows_of

from gpukmeans import KMeans


class Reference(NamedTuple):
    """What spherical k-means comes to."""

    labels: np.ndarray
    centers: np.ndarray
    inertia: float
    n_iter: int


def unit(X: Any) -> np.ndarray:
    X = X.toarray() if sparse.issparse(X) else np.asarray(X)
    X = X.astype(np.longdouble)
    return (X / np.sqrt((X * X).sum(axis=1, keepdims=True))).astype(np.float64)


def spherical(X: Any, start: np.ndarray, w: Any = None, max_iter: int = 300) -> Reference:
    """Spherical k-means as Dhillon and Modha describe it, until no label changes."""
    rows, centers = unit(X), unit(start)
    w = np.ones(len(rows)) if w is None else w
    labels = np.full(len(rows), -1)
    n_iter, before = 0, None
    while n_iter < max_iter and not np.array_equal(before, labels):
        n_iter, before, labels = n_iter + 1, labels, (rows[:, None] * centers).sum(axis=2).argmax(axis=1)
        sums = np.stack([(w[:, None] * rows)[labels == j].sum(axis=0) for j in range(len(centers))])
        centers = unit(sums)
    cosines = rows @ centers.T
    labels = cosines.argmax(axis=1)
    return Reference(labels, centers, float(2 * (w * (1 - cosines.max(axis=1))).sum()), n_iter)


def rows(kind: str, dtype: Any = np.float64, n: int = 600) -> Any:
    """Rows of lengths from 1e-3 to 1e3, in asymmetric groups."""
    rng = np.random.default_rng(3)
    if kind == "sparse":
        X = rows_of(n, 70, 0.2, dtype=dtype)
        X = X[np.diff(X.indptr) > 0]
        X = sparse.csr_array(sparse.diags_array(10 ** rng.uniform(-3, 3, X.shape[0])) @ X).astype(dtype)
        X.sum_duplicates()  # sorts, too
        return X
    groups = rng.normal(size=(6, 9))
    X = groups[rng.choice(6, size=n, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05])] + 0.4 * rng.normal(size=(n, 9))
    return (X * 10 ** rng.uniform(-3, 3, size=(n, 1))).astype(dtype)


@pytest.fixture(params=["1", "numpy", "0"])
def kernels(request, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_KERNELS", request.param)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_against_the_reference(kernels, kind, dtype, weighted):
    X = rows(kind, dtype)
    w = np.random.default_rng(1).random(X.shape[0]) if weighted else None
    start = X[:6].toarray() if kind == "sparse" else X[:6]
    model = KMeans(6, init=start, metric="cosine", tol=0).fit(X, sample_weight=w)
    expected = spherical(X, start, w)
    assert np.array_equal(model.labels_, expected.labels)
    assert model.n_iter_ == expected.n_iter
    assert model.inertia_ == pytest.approx(expected.inertia, rel=1e-6 if dtype is np.float32 else 1e-12)
    np.testing.assert_allclose(model.cluster_centers_, expected.centers, atol=1e-7 if dtype is np.float32 else 1e-12)
    assert model.cluster_centers_.dtype == model.transform(X).dtype == dtype


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_methods_agree_and_labels_are_those_of_the_largest_cosine(kernels, kind, dtype):
    X = rows(kind, dtype)
    model = KMeans(7, metric="cosine", random_state=0).fit(X)
    cosines = unit(X) @ unit(model.cluster_centers_).T
    assert np.array_equal(model.labels_, cosines.argmax(axis=1))
    assert np.array_equal(model.predict(X), model.labels_)
    np.testing.assert_allclose(model.transform(X), np.sqrt(2 * (1 - cosines)), atol=2e-7)
    assert model.score(X) == pytest.approx(-model.inertia_, rel=1e-12)
    assert model.inertia_ == pytest.approx(2 * (1 - cosines.max(axis=1)).sum(), rel=1e-9)
    np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_no_length_matters(kernels, kind):
    X = rows(kind)
    scale = 2.0 ** np.random.default_rng(0).integers(-400, 400, X.shape[0])
    scaled = sparse.csr_array(sparse.diags_array(scale) @ X) if kind == "sparse" else X * scale[:, None]
    one, other = (KMeans(6, metric="cosine", random_state=0).fit(each) for each in (X, scaled))
    assert np.array_equal(one.labels_, other.labels_)
    np.testing.assert_allclose(one.cluster_centers_, other.cluster_centers_, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_seeds_are_those_of_scikit_learn_on_the_sphere(kernels, seed):
    for kind in ("dense", "sparse"):
        X = rows(kind)
        model = KMeans(5, metric="cosine", random_state=seed, max_iter=1, tol=0).fit(X)
        start, _ = sklearn.cluster.kmeans_plusplus(unit(X), 5, random_state=seed)
        expected = spherical(X, start, max_iter=1)
        assert np.array_equal(model.labels_, expected.labels)


def test_dense_and_sparse_rows_give_the_same(kernels):
    X = rows("sparse")
    a, b = (KMeans(6, metric="cosine", random_state=0).fit(each) for each in (X, X.toarray()))
    assert np.array_equal(a.labels_, b.labels_)
    assert a.inertia_ == pytest.approx(b.inertia_, rel=1e-12)


def test_every_namespace(space):
    X = rows("dense")
    host = KMeans(5, metric="cosine", random_state=0, device="cpu").fit(X)
    model = KMeans(5, metric="cosine", random_state=0, device=space.device).fit(space.put(X))
    assert np.array_equal(space.get(model.labels_), host.labels_)
    assert model.inertia_ == pytest.approx(host.inertia_, rel=1e-12)
    assert np.array_equal(space.get(model.predict(space.put(X))), host.labels_)
    np.testing.assert_allclose(space.get(model.transform(space.put(X))), host.transform(X), atol=1e-7)


@pytest.mark.cuda
def test_cupys_sparse_rows(cp):
    X = rows("sparse", n=150)
    host, model = (KMeans(4, metric="cosine", random_state=0).fit(each) for each in (X, on_a_device(X, cp)))
    assert np.array_equal(model.labels_.get(), host.labels_)
    assert model.inertia_ == pytest.approx(host.inertia_, rel=1e-12)


def test_ties_go_to_the_lowest_index(kernels):
    """Rows halfway between two axes, and centres that are multiples of each other."""
    X = np.array([[1.0, 1, 0], [0, 2, 2], [3, 0, 3], [0, 0, 1], [5, 0, 0]])
    model = KMeans(4, init=[[0, 1, 0], [0, 0, 2], [1, 0, 0], [0, 0, 7]], metric="cosine", max_iter=1, tol=0)
    model.fit(X)
    model.cluster_centers_ = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]])
    for each in (X, sparse.csr_array(X)):
        assert model.predict(each).tolist() == [0, 0, 1, 1, 2]


def test_rows_at_right_angles_to_several_centres(kernels):
    """Nothing but the lowest index tells between cosines of zero; lengths rounded otherwise do not count."""
    rng = np.random.default_rng(0)
    X = np.zeros((400, 300))
    for i, row in enumerate(X):
        row[rng.choice(300, 1 + i % 4, replace=False)] = rng.random(1 + i % 4) + 0.1
    cosines = (unit(X)[:, None] * unit(X[:12])).sum(axis=2)
    assert (cosines.max(axis=1) == 0).sum() > 200
    model = KMeans(12, init=X[:12], metric="cosine", max_iter=1, tol=0).fit(X)
    centers = model.cluster_centers_
    for each in (X, sparse.csr_array(X), sparse.csr_array(X.astype(np.float32))):
        np.testing.assert_allclose(model.fit(each).cluster_centers_, centers, atol=1e-6)
        model.cluster_centers_ = X[:12]
        assert np.array_equal(model.predict(each), cosines.argmax(axis=1))


def test_empty_clusters_are_filled_and_rows_that_cancel_keep_a_centre(kernels):
    X = rows("dense")
    start = np.concatenate([X[:3], -X[:1], -X[:1] * 2])
    for each in (X, sparse.csr_array(X)):
        model = KMeans(5, init=start, metric="cosine").fit(each)
        assert np.unique(model.labels_).size == 5
    opposite = np.array([[1.0, 0], [-1, 0], [0, 0.5], [0, 9]])
    model = KMeans(1, init=[[0.0, -1]], metric="cosine", max_iter=1).fit(opposite[:2])
    assert model.cluster_centers_.tolist() == [[0, -1]]
    assert model.inertia_ == 4


def test_rows_are_never_copied_whole(kernels):
    X = np.random.default_rng(0).normal(size=(400_000, 40)).astype(np.float32)
    KMeans(2, metric="cosine", random_state=0).fit(X[:100])
    tracemalloc.start()
    KMeans(3, metric="cosine", random_state=0, max_iter=3).fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000  # a copy in float64 has 128 MB


@pytest.mark.parametrize("factor", [1e-310, 1e120])
def test_lengths_at_the_ends_of_float64(kernels, factor):
    """The reciprocal of a subnormal length is infinite."""
    X = np.random.default_rng(5).normal(size=(50, 5))
    X[X < -1] = 0
    expected = KMeans(3, metric="cosine", init=X[:3]).fit(X)
    model = KMeans(3, metric="cosine", init=X[:3]).fit(sparse.csr_array(X * factor))
    assert np.array_equal(model.labels_, expected.labels_)
    assert model.inertia_ == pytest.approx(expected.inertia_, rel=1e-9)


def test_threads_change_no_bit(monkeypatch):
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("GPUKMEANS_NUM_THREADS", threads)
        for kind in ("dense", "sparse"):
            model = KMeans(6, metric="cosine", random_state=0, tol=0).fit(rows(kind, np.float32, n=9000))
            found.append((model.cluster_centers_.tobytes(), model.labels_.tobytes(), model.inertia_))
    assert found[:2] == found[2:]


def test_what_is_refused():
    X = rows("dense")
    X[17] = 0
    fitted = KMeans(3, metric="cosine", random_state=0).fit(X[:10])
    for each in (X, sparse.csr_array(X)):
        for action in (KMeans(3, metric="cosine").fit, fitted.predict, fitted.transform, fitted.score):
            with pytest.raises(ValueError, match=r"1 row\(s\) of zeros, the first of them row 17.*use metric='euclid"):
                action(each)
    for init in (np.zeros((2, 9)), lambda X, k, random_state: np.eye(9)[:2] * [[1], [0]]):
        with pytest.raises(ValueError, match=r"init has a centre of zeros \(number .\)"):
            KMeans(2, init=init, metric="cosine", n_init=1).fit(X[:10])
    with pytest.raises(ValueError, match="'metric' parameter of KMeans must be a str among"):
        KMeans(metric="manhattan").fit(X)


def test_models_without_the_parameter_are_euclidean():
    model = KMeans(3, random_state=0).fit(rows("dense"))
    del model.metric
    assert pickle.loads(pickle.dumps(model)).metric == "euclidean"
    assert pickle.loads(pickle.dumps(KMeans(metric="cosine"))).metric == "cosine"
