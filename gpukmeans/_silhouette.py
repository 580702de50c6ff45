"""Silhouettes from sums of distances, in blocks, on either array module.

Distances do not depend on the labels, so any number of labelings share one pass over them. Rows are
taken in the order of the finest labeling, and each tile of rows is looked at from its own mean:
distances inside a cluster keep their digits however far the cluster lies from the others.

References
----------
P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster
analysis", Journal of Computational and Applied Mathematics 20 (1987).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ._device import Device, namespace, placement, scope, to_device, to_host
from ._distances import operations
from ._threads import Workers, Workspace, n_threads, one_blas_thread

_TILE = 512  # rows looked at from one point
_BLOCK = 512  # rows they are compared with at once (2 MB of distances)


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
    finest = max(labelings, key=lambda one: one.sizes.size)
    order = np.argsort(finest.codes, kind="stable")
    ordered = [one._replace(codes=one.codes[order]) for one in labelings]
    values = np.empty((len(labelings), order.size))
    with scope(device), one_blas_thread():
        rows = device.xp.take(to_device(X, device), to_device(order, device), axis=0)
        members = [to_device(one.codes, device) for one in ordered]

        def tile(bounds: tuple[int, int], space: Workspace) -> None:
            sums = _sums_from(rows, bounds, members, ordered, space)
            edges = np.cumsum([one.sizes.size for one in ordered])[:-1]
            for i, part in enumerate(np.split(sums, edges, axis=1)):
                codes = ordered[i].codes[slice(*bounds)]
                values[i, order[slice(*bounds)]] = _reduce(part, codes, ordered[i].sizes)

        workers = Workers(n_threads() if device.kind == "cpu" and order.size > 2 * _TILE else 1)
        try:
            workers.run(tile, list(_tiles(finest.sizes)))
        finally:
            workers.close()
    return list(values)


def _sums_from(
    rows: Any, bounds: tuple[int, int], members: list[Any], ordered: list[Labeling], space: Workspace
) -> np.ndarray:
    """Sums of distances from the rows of one tile to every cluster of every labeling, (m, sum of k)."""
    op = operations(rows).cluster_distance_sums
    xp = namespace(rows)
    x = xp.astype(rows[bounds[0] : bounds[1], :], xp.float64)
    origin = xp.mean(x, axis=0)
    total = 0.0
    for a in range(0, rows.shape[0], _BLOCK):
        b = min(a + _BLOCK, rows.shape[0])
        y = xp.astype(rows[a:b, :], xp.float64) - origin
        clusters = [
            code[a:b, None] == xp.arange(one.sizes.size, dtype=code.dtype, **placement(code))[None, :]
            for code, one in zip(members, ordered, strict=True)
        ]
        total = total + op(x - origin, y, xp.astype(xp.concat(clusters, axis=1), xp.float64), space)
    return to_host(total)


def _reduce(sums: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(b - a) / max(a, b) for each row, from its sums of distances to every cluster."""
    row = np.arange(codes.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = sums[row, codes] / (sizes[codes] - 1)
        outside = sums / sizes
        outside[row, codes] = np.inf
        outside = outside.min(axis=1)
        values = (outside - inside) / np.maximum(inside, outside)
    return np.where(np.isfinite(values), values, 0.0)  # clusters of one row, and all distances zero


def _tiles(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Bounds of tiles of ordered rows; no tile holds rows of two clusters."""
    edges = np.concatenate([[0], np.cumsum(sizes)])
    for start, stop in pairwise(edges.tolist()):
        for a in range(start, stop, _TILE):
            yield a, min(a + _TILE, stop)
