"""What `_kernels.csr` does with a part of sparse rows, by the compiled kernels of `csr.h`; see there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..._rows import SparseRows
from . import native


class Squares(NamedTuple):
    """|c|^2 of each centre, (k,) each: high + low."""

    high: np.ndarray
    low: np.ndarray


def make_table(centers: np.ndarray, factors: np.ndarray, dtype: Any) -> np.ndarray:
    """The centres, each times its factor, as the columns of a table (d, width) of whole registers."""
    width = native().table_width(centers.shape[0], np.dtype(dtype).itemsize)
    table = np.empty((centers.shape[1], width), dtype)
    native().fill_table(centers, factors, table)
    return table


def make_squares(centers: np.ndarray) -> Squares:
    """The squares of the centres, (k, d), added up."""
    squares = Squares(np.empty(centers.shape[0]), np.empty(centers.shape[0]))
    native().squares(centers, *squares)
    return squares


def nearest(rows: SparseRows, start: int, stop: int, targets: Any, labels: np.ndarray) -> int:
    """See `csr_scipy.nearest`."""
    norms = np.full(targets.table.shape[1], np.inf, targets.table.dtype)
    norms[: targets.norms.size] = targets.norms
    held = targets.centers, *targets.squares, targets.table, norms, targets.scale, targets.reach
    return _view(rows).nearest(start, stop, *held, labels)


def squared_to_own(
    rows: SparseRows, start: int, stop: int, labels: np.ndarray, centers: np.ndarray, squares: Squares, out: np.ndarray
) -> None:
    """See `csr_scipy.squared_to_own`."""
    _view(rows).own(start, stop, centers, *squares, labels, out)


def add(rows: SparseRows, which: np.ndarray, factors: np.ndarray, edges: np.ndarray, sums: np.ndarray) -> None:
    """See `csr_scipy.add`."""
    _view(rows).add(which, factors, edges, sums)


def lower_to(block: Any, closest: np.ndarray, scale: float, points: np.ndarray, noise: float) -> np.ndarray:
    """See `csr_scipy.lower_to`."""
    q, m = points.shape[0], block.shape[0]
    table = make_table(points, np.full(q, -2.0 * scale), np.float64)
    norms, out = np.einsum("ij,ij->i", points, points) * scale**2, np.empty((q, m))
    view = native().CsrRows(block.data, block.indices, block.indptr.astype(np.int64), None, block.shape[1])
    view.lower(0, m, table, norms, scale, noise, np.ascontiguousarray(closest), out)
    return out


def _view(rows: SparseRows) -> Any:
    return native().CsrRows(rows.data, rows.indices, rows.edges, rows.lengths, rows.shape[1])
