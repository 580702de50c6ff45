"""Silhouettes from the sums of distances to the clusters, on any device.

Distances do not depend on the labels, so any number of labelings share one pass over them: rows are
sorted such that those with the same clusters in every labeling are neighbours, and what is added up
for these is right for all labelings.

References
----------
P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster
analysis", Journal of Computational and Applied Mathematics 20 (1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ._device import Device, scope
from ._distances import Cells, operations
from ._rows import on_device
from ._threads import Workers, n_threads, one_blas_thread

_FEW_ROWS = 1024  # up to here threads cost more than they save


class Labeling(NamedTuple):
    """One assignment of rows to clusters, numbered 0 to k - 1, none of them empty."""

    codes: np.ndarray  # (n,) int, on the host
    sizes: np.ndarray  # (k,) int


def labeling(codes: np.ndarray) -> Labeling:
    """Codes 0 to k - 1, with the sizes of the clusters."""
    return Labeling(codes, np.bincount(codes))


def silhouettes(X: Any, labelings: Sequence[Labeling], device: Device) -> list[np.ndarray]:
    """Silhouette of each row in each labeling, as (n,) float64 on the host.

    Parameters
    ----------
    X : array of shape (n, d), validated, anywhere
    labelings : sequence of Labeling
    device : Device
    """
    cells = _cells(labelings)
    firsts = _first_columns(labelings)
    values = np.empty((len(labelings), cells.order.size))

    def done(place: int, sums: np.ndarray) -> None:
        rows = cells.order[place : place + sums.shape[1]]
        for i, one in enumerate(labelings):
            own = sums[firsts[i] : firsts[i] + one.sizes.size]
            values[i, rows] = _reduce(own, one.codes[rows], one.sizes)

    with scope(device), one_blas_thread():
        rows = on_device(X, device)
        workers = Workers(n_threads() if device.kind == "cpu" and cells.order.size > _FEW_ROWS else 1)
        try:
            operations(rows).distance_sums(rows, cells, done, workers)
        finally:
            workers.close()
    return list(values)


def _first_columns(labelings: Sequence[Labeling]) -> np.ndarray:
    """The column of each labeling's first cluster, when all clusters stand side by side."""
    return np.cumsum([0] + [one.sizes.size for one in labelings])[:-1]


def _cells(labelings: Sequence[Labeling]) -> Cells:
    """Rows sorted by all labelings, the finest first."""
    finest_first = sorted(range(len(labelings)), key=lambda i: -labelings[i].sizes.size)
    firsts = _first_columns(labelings)
    columns = np.stack([labelings[i].codes + firsts[i] for i in finest_first])
    order = np.lexsort(columns[::-1])
    columns = columns[:, order]
    starts = np.flatnonzero(np.append(True, (columns[:, 1:] != columns[:, :-1]).any(axis=0)))
    edges = np.append(starts, order.size)
    return Cells(order, edges, np.ascontiguousarray(columns[:, starts].T), sum(one.sizes.size for one in labelings))


def _reduce(sums: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(b - a) / max(a, b) for each of m rows, from its sums of distances to the clusters (k, m)."""
    own = codes, np.arange(codes.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = sums[own] / (sizes[codes] - 1)
        outside = sums / sizes[:, None]
        outside[own] = np.inf
        outside = outside.min(axis=0)
        values = (outside - inside) / np.maximum(inside, outside)
    return np.where(np.isfinite(values), values, 0.0)  # clusters of one row, and all distances zero
