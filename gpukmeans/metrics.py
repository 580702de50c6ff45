"""Judging a clustering: inertia against K, silhouettes, and agreement with known classes.

Distances are computed where the data live or where `device` says, in blocks; nothing of n x n or
n x k is held. Numbers come back as Python floats and NumPy or device arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from ._device import home_of, namespace, resolve, scope, to_device, to_host
from ._lloyd import update_centers
from ._matching import match_labels, matched_accuracy, matched_confusion_matrix
from ._prepare import prepare
from ._rows import is_sparse, n_entries
from ._silhouette import labeling, silhouettes
from ._validation import check_centers, check_labels, check_n_clusters, check_rows
from .kmeans import KMeans

__all__ = [
    "WCSSCurve",
    "find_knee",
    "match_labels",
    "matched_accuracy",
    "matched_confusion_matrix",
    "silhouette_curve",
    "silhouette_samples",
    "silhouette_score",
    "simplified_silhouette_score",
    "variance_ratio",
    "wcss_curve",
]


class WCSSCurve(NamedTuple):
    """Within-cluster sums of squares for several numbers of clusters."""

    ks: tuple[int, ...]
    wcss: np.ndarray  # (len(ks),) float64, inertia of the best fit, in squared units of the data
    n_iter: np.ndarray  # (len(ks),) int
    seconds: np.ndarray  # (len(ks),) float64, wall time of each fit
    total_ss: float  # the sum of squares about the mean: WCSS of one cluster
    models: tuple[KMeans, ...]  # the fitted estimators


def wcss_curve(
    X: Any,
    ks: Iterable[int],
    *,
    device: str = "auto",
    random_state: Any = None,
    n_init: Any = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Any = None,
    progress: Callable[[tuple[int, ...]], Iterable[int]] | None = None,
) -> WCSSCurve:
    """Fit k-means for each K: the elbow curve.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    ks : iterable of int, or int
        Numbers of clusters, each from 1 to n_samples.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'
    random_state : int, RandomState instance or None, default=None
        Given to every fit; an int makes each of them repeatable.
    n_init, max_iter, tol, sample_weight
        As in `KMeans`.
    progress : callable, optional
        Wraps the numbers of clusters while they are worked through, like `tqdm`.

    Returns
    -------
    curve : WCSSCurve

    Raises
    ------
    ValueError
        If a K is not a whole number from 1 to n_samples, or for rows `KMeans` refuses.

    Examples
    --------
    >>> from gpukmeans.metrics import wcss_curve
    >>> curve = wcss_curve([[0.0], [1.0], [9.0], [10.0]], [1, 2], random_state=0)
    >>> curve.wcss.tolist()
    [82.0, 1.0]
    """
    X = check_rows(X)
    ks = tuple(ks) if isinstance(ks, Iterable) else (ks,)
    if not ks:
        raise ValueError(f"ks is empty: give at least one number of clusters from 1 to {X.shape[0]}.")
    for k in ks:
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
            raise ValueError(f"K={k!r} is not a number of clusters: give whole numbers from 1 to {X.shape[0]}.")
        check_n_clusters(X.shape[0], int(k))
    settings = {"n_init": n_init, "max_iter": max_iter, "tol": tol, "random_state": random_state, "device": device}
    models, seconds = [], []
    for k in progress(ks) if progress else ks:
        start = time.perf_counter()
        models.append(KMeans(int(k), **settings).fit(X, sample_weight=sample_weight))
        seconds.append(time.perf_counter() - start)
    one = next((model for k, model in zip(ks, models, strict=True) if k == 1), None)
    one = one or KMeans(1, device=device, random_state=0).fit(X, sample_weight=sample_weight)
    return WCSSCurve(
        tuple(int(k) for k in ks),
        np.array([model.inertia_ for model in models]),
        np.array([model.n_iter_ for model in models]),
        np.array(seconds),
        one.inertia_,
        tuple(models),
    )


def silhouette_samples(X: Any, labels: Any, *, device: str = "auto") -> Any:
    """Silhouette coefficient of each row, by Euclidean distances; exact, O(n^2 d) time.

    Computed in float64 whatever the dtype of X, and equal to
    :func:`sklearn.metrics.silhouette_samples` within rounding.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    labels : array-like of shape (n_samples,)
        Cluster of each row, of any type; 2 to n_samples - 1 different ones.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'

    Returns
    -------
    silhouettes : array of shape (n_samples,), float64
        From -1 (in the wrong cluster) to 1; 0 for a row alone in its cluster. Where X lives.

    Raises
    ------
    ValueError
        For another number of clusters or labels than X allows.

    References
    ----------
    P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis", J. Computational and Applied Mathematics 20 (1987).

    Examples
    --------
    >>> from gpukmeans.metrics import silhouette_samples
    >>> silhouette_samples([[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1]).round(3).tolist()
    [0.895, 0.882, 0.882, 0.895]
    """
    rows = check_rows(X)
    codes = _check_clusters(labels, rows.shape[0])
    place = resolve(device, rows, float(rows.shape[0]) * n_entries(rows))
    (values,) = silhouettes(rows, [labeling(codes)], place)
    return to_device(values, home_of(X))


def silhouette_score(
    X: Any, labels: Any, *, sample_size: int | None = None, random_state: Any = None, device: str = "auto"
) -> float:
    """Mean silhouette of the rows, or of a random sample of them.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    labels : array-like of shape (n_samples,)
    sample_size : int, optional
        Rows to draw without replacement, as :func:`sklearn.metrics.silhouette_score` draws them;
        all rows when None.
    random_state : int, RandomState instance or None, default=None
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'

    Returns
    -------
    score : float
        From -1 to 1.

    Examples
    --------
    >>> from gpukmeans.metrics import silhouette_score
    >>> round(silhouette_score([[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1]), 3)
    0.889
    """
    X = check_rows(X)
    if sample_size is not None:
        if not isinstance(sample_size, (int, np.integer)) or sample_size < 1:
            raise ValueError(
                f"sample_size={sample_size!r} is not a number of rows: give a whole number from 1, or None."
            )
        labels = check_labels(labels, X.shape[0])
        drawn = check_random_state(random_state).permutation(X.shape[0])[:sample_size]
        with scope(home_of(X)):
            X = X[drawn] if is_sparse(X) else namespace(X).take(X, to_device(drawn, home_of(X)), axis=0)
        labels = labels[drawn]
    return float(np.mean(to_host(silhouette_samples(X, labels, device=device))))


def silhouette_curve(X: Any, labelings: Iterable[Any], *, device: str = "auto") -> np.ndarray:
    """Mean silhouette of several clusterings of the same rows, in one pass over the distances.

    The distances between rows do not depend on the labels, so nine clusterings cost little more than
    one.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    labelings : iterable of array-like of shape (n_samples,)
        Each of 2 to n_samples - 1 clusters.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'

    Returns
    -------
    scores : ndarray of shape (n_labelings,), float64
        What `silhouette_score` gives for each labeling.

    Examples
    --------
    >>> from gpukmeans.metrics import silhouette_curve
    >>> silhouette_curve([[0.0], [1.0], [9.0], [10.0]], [[0, 0, 1, 1], [0, 0, 1, 2]]).round(3).tolist()
    [0.889, 0.441]
    """
    X = check_rows(X)
    codes = [labeling(_check_clusters(labels, X.shape[0])) for labels in labelings]
    if not codes:
        raise ValueError("labelings is empty: give one array of labels for each clustering to judge.")
    place = resolve(device, X, float(X.shape[0]) * n_entries(X))
    return np.array([values.mean() for values in silhouettes(X, codes, place)])


def simplified_silhouette_score(X: Any, labels: Any, centers: Any = None, *, device: str = "auto") -> float:
    """Mean silhouette with distances to the centroids in place of distances to all rows: O(n k d).

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    labels : array-like of shape (n_samples,)
        2 to n_samples - 1 clusters.
    centers : array-like of shape (n_clusters, n_features), optional
        Centroids, in the sorted order of the labels; the means of the clusters when None.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'

    Returns
    -------
    score : float
        From -1 to 1; above the exact silhouette as a rule, with the same order of clusterings.

    References
    ----------
    E. R. Hruschka, R. J. G. B. Campello and L. N. de Castro, "Evolving clusters in gene-expression
    data", Information Sciences 176 (2006).

    Examples
    --------
    >>> from gpukmeans.metrics import simplified_silhouette_score
    >>> round(simplified_silhouette_score([[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1]), 3)
    0.944
    """
    X = check_rows(X)
    codes = _check_clusters(labels, X.shape[0])
    given = None if centers is None else check_centers(centers, X, int(codes.max()) + 1)
    with _grouped(X, codes, device) as (plan, own, means):
        xp, centers = plan.xp, means if given is None else to_device(given, plan.device)
        a = xp.sqrt(plan.squared_to_own(own, centers))
        b = plan.nearest_other(own, centers)
        longer = xp.maximum(a, b)
        return float(xp.mean(xp.where(longer > 0, (b - a) / xp.where(longer > 0, longer, 1.0), 0.0)))


def variance_ratio(X: Any, labels: Any, *, device: str = "auto") -> float:
    """Calinski-Harabasz index: variance between the clusters over variance inside them.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    labels : array-like of shape (n_samples,)
        2 to n_samples - 1 clusters.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'

    Returns
    -------
    ratio : float
        (B / (k - 1)) / (W / (n - k)), higher is better; 1.0 when W is zero, as
        :func:`sklearn.metrics.calinski_harabasz_score` has it.

    References
    ----------
    T. Calinski and J. Harabasz, "A dendrite method for cluster analysis", Communications in
    Statistics 3 (1974).

    Examples
    --------
    >>> from gpukmeans.metrics import variance_ratio
    >>> variance_ratio([[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1])
    162.0
    """
    X = check_rows(X)
    codes = _check_clusters(labels, X.shape[0])
    n, k = X.shape[0], int(codes.max()) + 1
    with _grouped(X, codes, device) as (plan, own, means):
        within = plan.inertia(own, means)
        sizes = to_device(np.bincount(codes).astype(np.float64), plan.device)
        mean = (sizes @ means) / n
        between = float(sizes @ plan.xp.sum((means - mean) ** 2, axis=1))
    return 1.0 if within == 0 else (between / (k - 1)) / (within / (n - k))


@contextmanager
def _grouped(X: Any, codes: np.ndarray, device: str) -> Iterator[tuple[Any, Any, Any]]:
    """A plan for the rows, the codes on its device, and the means of the clusters (k, d) float64."""
    k = int(codes.max()) + 1
    place = resolve(device, X, float(n_entries(X)) * k)
    with prepare(X, None, k, place) as (plan, moments):
        own = to_device(codes.astype(np.int32), place)
        shape = to_device(np.tile(moments.mean, (k, 1)), place)
        yield plan, own, update_centers(plan.add_up(own), shape, plan.frame.shift)


def find_knee(ks: Any, wcss: Any) -> int | None:
    """The knee of an elbow curve by the kneedle rule, or None where the curve has none.

    A knee is not evidence of clusters: uniform noise has one too. Look at the silhouette and at the
    variance ratio beside it.

    Parameters
    ----------
    ks : array-like of shape (n_points,)
        Numbers of clusters.
    wcss : array-like of shape (n_points,)
        Within-cluster sums of squares.

    Returns
    -------
    knee : int or None
        The first K where the normalised curve bends away from its chord and comes back by more than
        the mean distance of two points (sensitivity 1).

    References
    ----------
    V. Satopaa, J. Albrecht, D. Irwin and B. Raghavan, "Finding a 'kneedle' in a haystack", ICDCS
    Workshops 2011.

    Examples
    --------
    >>> from gpukmeans.metrics import find_knee
    >>> find_knee([1, 2, 3, 4, 5, 6], [100, 50, 10, 8, 6, 5])
    3
    >>> find_knee([1, 2, 3, 4], [40, 30, 20, 10]) is None
    True
    """
    ks, wcss = np.asarray(ks), np.asarray(wcss, dtype=np.float64)
    if ks.shape != wcss.shape or ks.ndim != 1:
        raise ValueError(f"ks and wcss need one entry each per point, but have shapes {ks.shape} and {wcss.shape}.")
    order = np.argsort(ks, kind="stable")
    x, y = ks[order].astype(np.float64), wcss[order]
    if x.size < 3 or np.ptp(x) == 0 or not np.isfinite(y).all() or y[0] <= y.min():
        return None
    x = (x - x[0]) / (x[-1] - x[0])
    bend = (y.max() - y) / np.ptp(y) - x
    peaks = [i for i in range(1, bend.size - 1) if bend[i - 1] < bend[i] >= bend[i + 1]]
    for peak, following in pairwise([*peaks, bend.size]):
        if (bend[peak + 1 : following] < bend[peak] - np.diff(x).mean()).any():
            return int(ks[order][peak])
    return None


def _check_clusters(labels: Any, n_samples: int) -> np.ndarray:
    """Codes 0 to k - 1 of labels that a silhouette is defined for."""
    _, codes = np.unique(check_labels(labels, n_samples), return_inverse=True)
    n_labels = int(codes.max()) + 1
    if not 1 < n_labels < n_samples:
        raise ValueError(
            f"Number of labels is {n_labels}. Valid values are 2 to n_samples - 1 (inclusive)\n"
            f"A silhouette compares clusters with each other, so it needs 2 to {n_samples - 1} of them."
        )
    return codes
