"""One algorithm on every array namespace: same answer, results at home, few copies."""

from __future__ import annotations

import numpy as np
import pytest
import strict_cupy

from gpukmeans import KMeans, k_means, kmeans_plusplus
from gpukmeans.metrics import silhouette_samples, silhouette_score, wcss_curve


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_same_fit_everywhere(space, blobs, dtype, weighted):
    X = blobs[0].astype(dtype)
    w = np.random.default_rng(1).random(len(X)) if weighted else None
    reference = KMeans(7, random_state=3, device="cpu").fit(X, sample_weight=w)
    x = space.put(X)
    model = KMeans(7, random_state=3, device=space.device).fit(x, sample_weight=w)
    assert space.owns(model.labels_)
    assert space.owns(model.cluster_centers_)
    assert np.array_equal(space.get(model.labels_), reference.labels_)
    assert model.n_iter_ == reference.n_iter_
    assert model.inertia_ == pytest.approx(reference.inertia_, rel=1e-12 if dtype == np.float64 else 1e-6)
    centers = space.get(model.cluster_centers_)
    assert centers.dtype == dtype
    np.testing.assert_allclose(centers, reference.cluster_centers_, rtol=1e-5 if dtype == np.float32 else 1e-12)
    assert np.array_equal(space.get(model.predict(x)), reference.labels_)
    np.testing.assert_allclose(space.get(model.transform(x)), reference.transform(X), rtol=1e-6, atol=1e-9)
    assert model.score(x, sample_weight=w) == pytest.approx(-model.inertia_, rel=1e-12)


@pytest.mark.parametrize("init", ["random", "callable", "array"])
def test_every_init(space, blobs, init):
    X = blobs[0]
    inits = {"random": "random", "callable": lambda X, k, random_state: X[:k, :], "array": X[5:12]}
    choices = {"init": inits[init], "random_state": 0, "n_init": 3 if init == "random" else 1}
    reference = KMeans(7, device="cpu", **choices).fit(X)
    if init == "array":
        choices["init"] = space.put(X[5:12])
    model = KMeans(7, device=space.device, **choices).fit(space.put(X))
    assert np.array_equal(space.get(model.labels_), reference.labels_)


def test_seeding_and_k_means(space, blobs):
    X = blobs[0]
    centers, indices = kmeans_plusplus(space.put(X), 9, random_state=5, device=space.device)
    expected = kmeans_plusplus(X, 9, random_state=5, device="cpu")[1]
    assert np.array_equal(space.get(indices), expected)
    assert np.array_equal(space.get(centers), X[expected])
    _, labels, inertia, n_iter = k_means(space.put(X), 4, random_state=0, return_n_iter=True, device=space.device)
    reference = k_means(X, 4, random_state=0, return_n_iter=True, device="cpu")
    assert np.array_equal(space.get(labels), reference[1])
    assert (inertia, n_iter) == (pytest.approx(reference[2]), reference[3])


def test_metrics(space, blobs):
    X, y = blobs
    expected = silhouette_samples(X, y, device="cpu")
    values = silhouette_samples(space.put(X), y, device=space.device)
    assert space.owns(values)
    np.testing.assert_allclose(space.get(values), expected, atol=1e-12)
    sampled = silhouette_score(space.put(X), y, sample_size=200, random_state=0, device=space.device)
    assert sampled == pytest.approx(silhouette_score(X, y, sample_size=200, random_state=0), abs=1e-12)
    curve = wcss_curve(space.put(X), [1, 3], random_state=0, device=space.device)
    np.testing.assert_allclose(curve.wcss, wcss_curve(X, [1, 3], random_state=0).wcss, rtol=1e-12)


def test_empty_clusters_and_ties(space):
    X = np.array([[0.0, 1.0], [0.0, 1.0], [4.0, 1.0], [4.0, 1.0], [8.0, 3.0], [2.0, 1.0]])
    init = np.array([[0.0, 1.0], [4.0, 1.0], [100.0, 100.0], [-100.0, 7.0]])
    reference = KMeans(4, init=init, device="cpu").fit(X)
    model = KMeans(4, init=init, device=space.device).fit(space.put(X))
    assert np.array_equal(space.get(model.labels_), reference.labels_)
    assert model.inertia_ == reference.inertia_ == 0.0
    tied = KMeans(2, init=init[:2], max_iter=1, device=space.device).fit(space.put(X))
    assert np.array_equal(space.get(tied.labels_), KMeans(2, init=init[:2], max_iter=1).fit(X).labels_)


def test_two_far_groups(space):
    """Fast float32 distances decide nothing here: every row goes through the certified refinement."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(8, 16)) * 3
    centers[:4] += 1e4
    centers[4:] -= 1e4
    y = rng.integers(0, 8, 700)
    X = (centers[y] + rng.normal(size=(700, 16))).astype(np.float32)
    init = X[[np.flatnonzero(y == j)[0] for j in range(8)]]
    model = KMeans(8, init=init, device=space.device).fit(space.put(X))
    C = space.get(model.cluster_centers_).astype(np.float64)
    brute = ((X.astype(np.float64)[:, None] - C) ** 2).sum(2).argmin(1)
    assert np.array_equal(space.get(model.labels_), brute)


def test_one_read_an_iteration_and_no_upload(cupy_double, blobs, monkeypatch):
    """Inside the loop one small array comes back to the host per iteration, and nothing goes up."""
    import gpukmeans._lloyd as module

    x = cupy_double.asarray(blobs[0])
    seen = []
    original = module._iterate

    def watched(*args):
        with strict_cupy.counting() as stats:
            outcome = original(*args)
        seen.append((stats.h2d, stats.d2h, stats.d2h_bytes))
        return outcome

    monkeypatch.setattr(module, "_iterate", watched)
    model = KMeans(7, random_state=0, tol=0).fit(x)
    assert len(seen) == model.n_iter_ > 3
    assert set(seen) == {(0, 1, 5 * 8)}


def test_device_input_is_not_uploaded_again(cupy_double, blobs):
    x = cupy_double.asarray(blobs[0])
    with strict_cupy.counting() as stats:
        model = KMeans(7, random_state=0).fit(x)
    assert stats.h2d_bytes < 4000  # uniforms, the first row, the reference point; X has 40 kB
    assert model.device_ == "cuda:0 Strict double"


def test_host_input_is_uploaded_once(cupy_double, blobs):
    X = blobs[0]
    with strict_cupy.counting() as stats:
        model = KMeans(7, random_state=0, device="cuda").fit(X)
    assert X.nbytes <= stats.h2d_bytes < X.nbytes + 4000
    assert isinstance(model.labels_, np.ndarray)
    assert isinstance(model.cluster_centers_, np.ndarray)


def test_pickle_of_a_device_fit_opens_without_cupy(cupy_double, blobs, monkeypatch):
    import pickle
    import sys

    model = KMeans(3, random_state=0).fit(cupy_double.asarray(blobs[0]))
    labels = model.labels_.get()
    stored = pickle.dumps(model)
    monkeypatch.setitem(sys.modules, "cupy", None)
    opened = pickle.loads(stored)
    assert isinstance(opened.labels_, np.ndarray)
    assert np.array_equal(opened.predict(blobs[0]), labels)


def test_to_moves_a_copy(cupy_double, blobs):
    model = KMeans(3, random_state=0).fit(cupy_double.asarray(blobs[0]))
    moved = model.to("cpu")
    assert isinstance(moved.cluster_centers_, np.ndarray)
    assert not isinstance(model.cluster_centers_, np.ndarray)
    back = moved.to("cuda")
    assert isinstance(back.labels_, cupy_double.ndarray)


def test_second_device(monkeypatch, blobs):
    cp = strict_cupy.install(monkeypatch, devices=2)
    model = KMeans(3, random_state=0, device="cuda:1").fit(blobs[0])
    assert model.device_.startswith("cuda:1 ")
    with cp.cuda.Device(1):
        x = cp.asarray(blobs[0])
    there = KMeans(3, random_state=0).fit(x)
    assert there.labels_.device.id == 1
    assert np.array_equal(there.labels_.get(), model.labels_)
    assert cp.cuda.runtime.getDevice() == 0 if hasattr(cp.cuda.runtime, "getDevice") else True
