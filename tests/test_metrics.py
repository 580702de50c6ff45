"""Judging a clustering: against brute force and scikit-learn."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import sklearn.metrics
from sklearn.datasets import make_blobs

from gpukmeans import KMeans
from gpukmeans.metrics import (
    find_knee,
    match_labels,
    matched_accuracy,
    matched_confusion_matrix,
    silhouette_curve,
    silhouette_samples,
    silhouette_score,
    simplified_silhouette_score,
    variance_ratio,
    wcss_curve,
)


def brute_accuracy(y, labels):
    """The best accuracy over all one-to-one assignments of clusters to classes."""
    classes, clusters = np.unique(y), np.unique(labels)
    if len(classes) >= len(clusters):
        ways = (dict(zip(clusters, way, strict=False)) for way in permutations(classes, len(clusters)))
    else:
        ways = (dict(zip(way, classes, strict=True)) for way in permutations(clusters, len(classes)))
    return max(np.mean([way.get(label) == true for label, true in zip(labels, y, strict=True)]) for way in ways)


@pytest.mark.parametrize("seed", range(200))
def test_matched_accuracy_is_the_best_over_all_assignments(seed):
    rng = np.random.default_rng(seed)
    n_classes, n_clusters = rng.integers(1, 6, size=2)
    y, labels = rng.integers(0, n_classes, 23), rng.integers(0, n_clusters, 23)
    accuracy = matched_accuracy(y, labels)
    assert accuracy == pytest.approx(brute_accuracy(y, labels))
    renamed = np.array(["z", "c", "q", "a", "m", "x"])[labels]
    assert matched_accuracy(y, renamed) == accuracy
    assert matched_accuracy(y.astype(str), labels * -7) == accuracy
    matrix = matched_confusion_matrix(y, labels)
    assert np.trace(matrix) == round(accuracy * 23)
    assert matrix.sum() == 23
    assert (matrix.sum(axis=1) == np.bincount(y)[np.unique(y)]).all()


def test_more_and_fewer_clusters_than_classes():
    y, labels = ["a", "a", "b", "b", "b"], [5, 5, 2, 2, 9]
    assert match_labels(y, labels) == {2: "b", 5: "a", 9: None}
    assert matched_accuracy(y, labels) == pytest.approx(0.8)
    assert matched_confusion_matrix(y, labels).tolist() == [[2, 0, 0], [0, 2, 1]]
    assert matched_confusion_matrix([0, 1, 2, 2], [1, 1, 0, 0]).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 2]]


def test_labels_of_mixed_types():
    assert match_labels([None, None, "b", 3], [True, True, False, False])[True] is None
    assert matched_accuracy([None, "b", "b"], [0, 1, 1]) == 1.0


def test_the_tutorial():
    """Plain accuracy is luck: the clusters are right and numbered otherwise."""
    X, y = make_blobs(500, centers=[(1, 1), (-1, -1), (1, -1)], cluster_std=0.4, random_state=2)
    labels = KMeans(3, random_state=0).fit_predict((X - X.mean(0)) / X.std(0))
    assert sklearn.metrics.accuracy_score(y, labels) == 0.002
    assert matched_accuracy(y, labels) == 0.998
    matrix = matched_confusion_matrix(y, labels)
    assert matrix.sum() - np.trace(matrix) == 1


def test_silhouettes_with_small_clusters_and_copies():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(700, 3)), np.zeros((9, 3)), np.full((1, 3), 9.0)])
    labels = np.array(["x"] * 350 + ["y"] * 350 + ["copies"] * 9 + ["alone"])
    ours = silhouette_samples(X, labels)
    np.testing.assert_allclose(ours, sklearn.metrics.silhouette_samples(X, labels), atol=1e-8)
    assert (ours[700:709] == 1).all()  # scikit-learn's formula gives copies a small distance
    assert ours[709] == 0
    assert (silhouette_samples(np.zeros((5, 2)), [0, 0, 1, 1, 1]) == 0).all()


def test_silhouette_sample_is_scikit_learns(blobs):
    X, y = blobs
    for size in (50, 400):
        ours = silhouette_score(X, y, sample_size=size, random_state=3)
        theirs = sklearn.metrics.silhouette_score(X, y, sample_size=size, random_state=3)
        assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("n", [511, 513, 1500])
def test_silhouettes_at_the_edges_of_tiles(n):
    rng = np.random.default_rng(n)
    X, labels = rng.normal(size=(n, 3)), rng.integers(0, 3, n)
    expected = sklearn.metrics.silhouette_samples(X, labels)
    np.testing.assert_allclose(silhouette_samples(X, labels), expected, atol=1e-12)


def test_wcss_curve(blobs):
    X = blobs[0]
    seen = []
    curve = wcss_curve(X, range(2, 6), random_state=0, progress=lambda ks: seen.append(ks) or ks)
    assert seen == [(2, 3, 4, 5)]
    assert curve.ks == (2, 3, 4, 5)
    assert curve.total_ss == pytest.approx(((X - X.mean(0)) ** 2).sum(), rel=1e-12)
    for k, wcss, n_iter, model in zip(curve.ks, curve.wcss, curve.n_iter, curve.models, strict=True):
        alone = KMeans(k, random_state=0).fit(X)
        assert (wcss, n_iter) == (alone.inertia_, alone.n_iter_)
        assert np.array_equal(model.labels_, alone.labels_)
    assert (np.diff(curve.wcss) < 0).all()
    assert (curve.seconds > 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_silhouette_curve_is_as_many_scores(dtype):
    rng = np.random.default_rng(4)
    X = (rng.normal(size=(6, 16))[rng.integers(0, 6, 1300)] * 3 + rng.normal(size=(1300, 16))).astype(dtype)
    labelings = [KMeans(k, random_state=0).fit_predict(X) for k in range(2, 11)]
    wide = X.astype(np.float64)
    expected = [sklearn.metrics.silhouette_score(wide, labels) for labels in labelings]
    np.testing.assert_allclose(silhouette_curve(X, labelings), expected, atol=1e-12)
    assert silhouette_curve(X, labelings[:1])[0] == silhouette_score(X, labelings[0])


def test_silhouette_curve_needs_labels(blobs):
    with pytest.raises(ValueError, match="labelings is empty"):
        silhouette_curve(blobs[0], [])
    with pytest.raises(ValueError, match=r"Number of labels is 1\. Valid values are 2 to n_samples - 1"):
        silhouette_curve(blobs[0], [blobs[1], np.zeros(len(blobs[0]))])


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_variance_ratio_and_simplified_silhouette(space, blobs, offset):
    X, y = blobs[0] + offset, blobs[1]
    expected = sklearn.metrics.calinski_harabasz_score(blobs[0], y)
    assert variance_ratio(space.put(X), y, device=space.device) == pytest.approx(expected, rel=1e-9)
    means = np.stack([X[y == j].mean(axis=0) for j in range(7)])
    D = np.sqrt(((X[:, None] - means) ** 2).sum(2))
    a = D[np.arange(len(X)), y]
    D[np.arange(len(X)), y] = np.inf
    exact = np.mean((D.min(1) - a) / np.maximum(D.min(1), a))
    for centers in (None, means):
        score = simplified_silhouette_score(space.put(X), y, centers, device=space.device)
        assert score == pytest.approx(exact, rel=1e-9)


def test_scores_without_spread():
    assert variance_ratio([[0.0], [0.0], [1.0], [1.0]], [0, 0, 1, 1]) == 1.0  # scikit-learn's convention
    assert simplified_silhouette_score(np.zeros((4, 1)), [0, 0, 1, 1]) == 0.0


def test_wcss_curve_of_nothing_and_of_one(blobs):
    with pytest.raises(ValueError, match=r"ks is empty: .* from 1 to 1003"):
        wcss_curve(blobs[0], [])
    assert wcss_curve(blobs[0], 3, random_state=0).ks == (3,)


def test_knee():
    assert find_knee(range(1, 9), [1000, 400, 120, 110, 100, 92, 85, 80]) == 3
    assert find_knee([3, 1, 2, 4, 5], [120, 1000, 400, 110, 100]) == 3  # any order
    assert find_knee(range(1, 6), [50, 40, 30, 20, 10]) is None  # a straight line
    assert find_knee([1, 2], [10, 1]) is None
    assert find_knee(range(1, 5), [5, 5, 5, 5]) is None
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(2,\)"):
        find_knee([1, 2, 3], [1, 2])
