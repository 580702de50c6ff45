"""Agreement of clusters with known classes, whatever the clusters are numbered."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._validation import check_labels


class _Table(NamedTuple):
    """Rows counted by class and cluster, and the assignment of clusters to classes."""

    classes: np.ndarray
    clusters: np.ndarray
    counts: np.ndarray  # (n_classes, n_clusters) int64
    class_of: dict[int, int]  # column -> row of `counts`, for matched clusters


def _match(y_true: Any, labels: Any) -> _Table:
    """Assign clusters to classes, one to one, such that the most rows agree (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    y_true = check_labels(y_true, None, "y_true")
    labels = check_labels(labels, y_true.shape[0])
    if y_true.size == 0:
        raise ValueError("y_true and labels are empty: at least one row is needed to match clusters to classes.")
    classes, row = distinct(y_true)
    clusters, column = distinct(labels)
    counts = np.zeros((classes.size, clusters.size), np.int64)
    np.add.at(counts, (row, column), 1)
    matched_rows, matched_columns = linear_sum_assignment(counts, maximize=True)
    return _Table(classes, clusters, counts, dict(zip(matched_columns.tolist(), matched_rows.tolist(), strict=True)))


def distinct(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct labels and their codes; labels that cannot be compared are ordered as text."""
    try:
        return np.unique(labels, return_inverse=True)
    except TypeError:
        names = sorted(set(labels.tolist()), key=lambda label: (str(type(label)), str(label)))
        codes = {name: code for code, name in enumerate(names)}
        values = np.empty(len(names), dtype=object)
        values[:] = names
        return values, np.array([codes[label] for label in labels.tolist()])


def match_labels(y_true: Any, labels: Any) -> dict[Any, Any]:
    """The class that each cluster stands for.

    Cluster numbers are arbitrary. The one-to-one assignment of clusters to classes with which the
    most rows agree is found by the Hungarian method.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Known classes, of any type.
    labels : array-like of shape (n_samples,)
        Clusters, of any type.

    Returns
    -------
    classes : dict
        Cluster -> class; None for clusters left over when there are more clusters than classes.

    References
    ----------
    H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics 2 (1955).

    Examples
    --------
    >>> from gpukmeans.metrics import match_labels
    >>> match_labels(["a", "a", "b", "b"], [1, 1, 0, 2])
    {0: 'b', 1: 'a', 2: None}
    """
    table = _match(y_true, labels)
    names = table.classes.tolist()
    matched = {column: names[row] for column, row in table.class_of.items()}
    return {cluster: matched.get(column) for column, cluster in enumerate(table.clusters.tolist())}


def matched_accuracy(y_true: Any, labels: Any) -> float:
    """Share of the rows whose cluster stands for their class, after `match_labels`.

    Rows of left-over clusters count as wrong. Unlike plain accuracy it does not depend on how the
    clusters happen to be numbered.

    Parameters
    ----------
    y_true, labels : array-like of shape (n_samples,)

    Returns
    -------
    accuracy : float
        From 0 to 1.

    Examples
    --------
    >>> from gpukmeans.metrics import matched_accuracy
    >>> matched_accuracy([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    table = _match(y_true, labels)
    agree = sum(table.counts[row, column] for column, row in table.class_of.items())
    return float(agree / table.counts.sum())


def matched_confusion_matrix(y_true: Any, labels: Any) -> np.ndarray:
    """Rows counted by class and by the class their cluster stands for.

    Parameters
    ----------
    y_true, labels : array-like of shape (n_samples,)

    Returns
    -------
    matrix : ndarray of shape (n_classes, n_classes + n_left_over), int64
        Row i, column j < n_classes: rows of class i in the cluster matched to class j, classes in
        sorted order; a class that no cluster stands for has a column of zeros. Clusters left over
        follow as further columns, in sorted order. The diagonal is what `matched_accuracy` counts.

    Examples
    --------
    >>> from gpukmeans.metrics import matched_confusion_matrix
    >>> matched_confusion_matrix(["a", "a", "b", "b"], [1, 1, 0, 2])
    array([[2, 0, 0],
           [0, 1, 1]])
    """
    table = _match(y_true, labels)
    n_classes = table.classes.size
    left_over = [column for column in range(table.clusters.size) if column not in table.class_of]
    matrix = np.zeros((n_classes, n_classes + len(left_over)), np.int64)
    for column, row in table.class_of.items():
        matrix[:, row] = table.counts[:, column]
    matrix[:, n_classes:] = table.counts[:, left_over]
    return matrix
