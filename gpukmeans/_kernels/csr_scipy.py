"""What `csr` does with a part of sparse rows, by SciPy's products; see there.

Sums in twice the digits: a square c^2 is cut into a multiple of a grid and a rest. The grid is so coarse that
sums of its multiples are exact, in any order, and the rests are so small that rounding their sums does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from .._frame import UNDERFLOW, trust
from .._rows import SparseRows, compressed

_PAIRS = 1 << 18  # entries of pairs of rows and centres whose exact distances are computed at once


class Squares(NamedTuple):
    """|c|^2 of each centre, (k,) each: high + low."""

    grid: np.ndarray  # sums of multiples of it are exact up to |c|^2
    high: np.ndarray
    low: np.ndarray


def make_table(centers: np.ndarray, factors: np.ndarray, dtype: Any) -> np.ndarray:
    """The centres, each times its factor, as the columns of a table (d, k)."""
    return np.ascontiguousarray((centers * factors[:, None]).astype(dtype).T)


def make_squares(centers: np.ndarray) -> Squares:
    """The squares of the centres, (k, d), added up."""
    grid = np.ldexp(1.0, np.frexp(np.einsum("ij,ij->i", centers, centers))[1] - 50)
    high, low = np.empty((2, grid.size))
    for j, center in enumerate(centers):
        above, below = _cut(center * center, grid[j])
        high[j], low[j] = above.sum(), below.sum()
    return Squares(grid, high, low)


def _cut(squares: np.ndarray, grid: Any) -> tuple[np.ndarray, np.ndarray]:
    """Multiples of the grid, and the rests."""
    above = np.rint(squares / grid) * grid
    return above, squares - above


def nearest(rows: SparseRows, start: int, stop: int, targets: Any, labels: np.ndarray) -> int:
    """Label the rows from `start` to `stop`; how many the products left in doubt.

    Parameters
    ----------
    rows : SparseRows
    start, stop : int
    targets : csr.Targets
    labels : array of shape (stop - start,) int32
        The index of the nearest centre of each row is written here.
    """
    step = max(16, _PAIRS // targets.norms.size)  # n x k numbers are never held
    blocks = [(a, min(a + step, stop)) for a in range(start, stop, step)]
    return sum(_nearest(rows, a, b, targets, labels[a - start : b - start]) for a, b in blocks)


def _nearest(rows: SparseRows, start: int, stop: int, targets: Any, labels: np.ndarray) -> int:
    """`nearest` of a few rows."""
    block, dtype = rows[start:stop, :], targets.table.dtype
    x = with_data(block, block.data.astype(dtype, copy=False) * dtype.type(targets.scale))
    fast = x @ targets.table
    fast += targets.norms.astype(dtype)
    close = fast <= _limits(x, fast.min(axis=1), targets)[:, None]
    close[~close.any(axis=1)] = True  # what overflowed
    labels[:] = close.argmax(axis=1)
    doubtful = np.flatnonzero(np.count_nonzero(close, axis=1) != 1)
    if doubtful.size:
        labels[doubtful] = _decide(block, doubtful, close[doubtful], targets, rows.lengths is not None)
    return doubtful.size


def _limits(x: csr_array, best: np.ndarray, targets: Any) -> np.ndarray:
    """`_frame.doubt_limit`, with the number of a row's entries for the length of its sums."""
    norms = by_row(np.square(x.data, dtype=np.float64), x.indptr)
    unit = trust(x.dtype, 1) / 11 if x.dtype == np.float32 else trust(x.dtype, 1) / 22
    lengths = np.diff(x.indptr)
    b = unit * (np.minimum(lengths, 8 * np.sqrt(lengths)) + 10)
    by_reach = 2 * b * targets.reach * (2 * np.sqrt(norms) + targets.reach)
    by_row_alone = 2 * b * (5 * norms + 3 * np.maximum(best + norms, 0.0))
    return best + (np.minimum(by_reach, by_row_alone) + UNDERFLOW)


def _decide(block: csr_array, doubtful: np.ndarray, close: np.ndarray, targets: Any, spherical: bool) -> np.ndarray:
    """Labels of rows by exact distances to the centres that are close, the lowest index on ties.

    Of points on the unit sphere products decide, see `_frame.nearest_directly`.
    """
    row, cluster = np.nonzero(close)
    exact = np.full(close.shape, np.inf)
    if spherical:
        exact[row, cluster] = -_products(block, doubtful[row], cluster, targets.centers)
    else:
        exact[row, cluster] = _squared(block, doubtful[row], cluster, targets.centers, targets.squares)
    return exact.argmin(axis=1)


def _products(block: csr_array, which: np.ndarray, clusters: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Products of rows `which` of a block with as many centres, in float64."""
    out = np.empty(which.size)
    for part, x in _pairs(block, which):
        own = np.repeat(clusters[part], np.diff(x.indptr))
        out[part] = by_row(x.data * centers[own, x.indices], x.indptr)
    return out


def _pairs(block: csr_array, which: np.ndarray) -> Iterator[tuple[slice, csr_array]]:
    """Rows of a block by number, some at a time, and where they stand among `which`."""
    step = max(1, _PAIRS // max(1, -(-block.nnz // block.shape[0])))
    for a in range(0, which.size, step):
        part = slice(a, min(a + step, which.size))
        yield part, block[which[part]]


def squared_to_own(
    rows: SparseRows, start: int, stop: int, labels: np.ndarray, centers: np.ndarray, squares: Squares, out: np.ndarray
) -> None:
    """Exact squared distances of the rows from `start` to `stop` to their own centres."""
    out[:] = _squared(rows[start:stop, :], np.arange(stop - start), labels, centers, squares)


def _squared(
    block: csr_array, which: np.ndarray, clusters: np.ndarray, centers: np.ndarray, squares: Squares
) -> np.ndarray:
    """Exact squared distances of rows `which` of a block to as many centres."""
    out = np.empty(which.size)
    for part, x in _pairs(block, which):
        cluster = clusters[part]
        own = np.repeat(cluster, np.diff(x.indptr))
        c = centers[own, x.indices]
        high, low = _cut(c * c, squares.grid[own])
        outside = (squares.high[cluster] - by_row(high, x.indptr)) + (squares.low[cluster] - by_row(low, x.indptr))
        out[part] = by_row(np.square(x.data - c), x.indptr) + np.maximum(outside, 0.0)
    return out


def add(rows: SparseRows, which: np.ndarray, factors: np.ndarray, edges: np.ndarray, sums: np.ndarray) -> None:
    """Add rows, times factors, to the sums of clusters (q, d).

    Parameters
    ----------
    rows : SparseRows
    which : array of int64
        Those from edges[j] to edges[j + 1] are added to cluster j, in their order.
    factors : array of float64, one for each of `which`
    edges : array of shape (q + 1,) int64
    sums : array of shape (q, d) float64
    """
    length = max(64, _PAIRS // rows.width)
    for a in range(edges[0], edges[-1], length):
        b = min(a + length, int(edges[-1]))
        block = rows.take(which[a:b])[:, :]
        inside = np.clip(edges, a, b) - a
        one_hot = csr_array((factors[a:b], np.arange(b - a), inside), shape=(sums.shape[0], b - a))
        sums += (one_hot @ block.astype(np.float64, copy=False)).toarray()


def lower_to(block: Any, closest: np.ndarray, scale: float, points: np.ndarray, noise: float) -> np.ndarray:
    """Squared distances of a block's rows to points (q, d), times scale squared, but at most `closest`: (q, m).

    What is below `noise` times |x|^2 + |y|^2 is zero.
    """
    x, y = with_data(block, block.data.astype(np.float64) * scale), points * scale
    size = by_row(x.data * x.data, block.indptr)[:, None] + np.einsum("ij,ij->i", y, y)
    squared = x @ np.ascontiguousarray(-2.0 * y.T)
    squared += size
    squared[squared <= noise * size] = 0.0
    return np.minimum(squared, closest[:, None]).T


def one_hot(columns: np.ndarray, n_columns: int) -> csr_array:
    """Which rows lie in which column: (n_columns, m) of ones."""
    m = columns.size
    return csr_array((np.ones(m), (columns, np.arange(m))), shape=(n_columns, m))


def by_row(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Sums of the entries of each row, in their order, (m,) float64."""
    m = edges.size - 1
    return np.bincount(np.repeat(np.arange(m), np.diff(edges)), values, m)


def with_data(block: csr_array, data: np.ndarray) -> csr_array:
    """The same places with other values."""
    return compressed(data, block.indices, block.indptr, block.shape)
