"""Rows that are no arrays: sparse ones, and those divided by their lengths; looked at block by block.

Sparse rows are compressed (CSR): only the entries that are not zero are stored. They are not moved towards a
reference point, which would fill them up, so the frame of a plan for them has its origin at zero.

Rows on the unit sphere (for cosines) are made from the given ones whenever a block is looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from ._device import Device, home_of, is_cupy_sparse, namespace, placement, to_device, to_host

_BLOCK = 1 << 18  # numbers of the blocks in which lengths are computed


class SparseRows:
    """Sparse rows on the host or on a CUDA device, never written to.

    `rows[a:b, :]` is a block that the primitives take: on the host SciPy's array over the same memory, on a
    device a dense array, for the array bodies.

    Parameters
    ----------
    data : array of shape (nnz,), float32 or float64
    indices : array of shape (nnz,), int32 or int64, the feature of each entry, none twice in a row
    edges : ndarray of shape (n + 1,), int64, on the host
        The entries of row i are those from edges[i] to edges[i + 1].
    n_features : int
    lengths : ndarray of shape (n,), float64, on the host, optional
        What the rows are divided by; a block of them is of float64 and a copy.
    """

    def __init__(
        self, data: Any, indices: Any, edges: np.ndarray, n_features: int, lengths: np.ndarray | None = None
    ) -> None:
        self.data, self.indices, self.edges, self.lengths = data, indices, edges, lengths
        self.shape = (edges.size - 1, n_features)
        self.dtype, self.ndim = data.dtype, 2
        self.on_host = isinstance(data, np.ndarray)

    @property
    def width(self) -> int:
        """Numbers of a row, on average: its entries and their features; on a device those of a dense block."""
        n, d = self.shape
        return max(1, -(-2 * self.data.size // n)) if self.on_host else d

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        start, stop, _ = key[0].indices(self.shape[0])
        low, high = int(self.edges[start]), int(self.edges[stop])
        edges = self.edges[start : stop + 1] - low
        data, indices, shape = self.data[low:high], self.indices[low:high], (stop - start, self.shape[1])
        if self.lengths is not None:
            data = data / to_device(np.repeat(self.lengths[start:stop], np.diff(edges)), home_of(data))
        if self.on_host:
            return compressed(data, indices, edges.astype(indices.dtype), shape)
        return _scattered(data, indices, edges, shape)

    def take(self, which: Any) -> SparseRows:
        """Rows by number, in that order; which : array of shape (q,), anywhere."""
        which = to_host(which)
        starts, counts = self.edges[which], np.diff(self.edges)[which]
        edges = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(edges[-1]) + np.repeat(starts - edges[:-1], counts)
        places = to_device(places, home_of(self.data))
        data, indices = (namespace(x).take(x, places, axis=0) for x in (self.data, self.indices))
        return SparseRows(data, indices, edges, self.shape[1], None if self.lengths is None else self.lengths[which])


class UnitRows:
    """Dense rows on the unit sphere: every block of them is divided by the lengths of its rows, in float64.

    Parameters
    ----------
    rows : array of shape (n, d)
    lengths : array of shape (n,), float64
    """

    def __init__(self, rows: Any, lengths: Any) -> None:
        self.rows, self.lengths = rows, lengths
        self.shape, self.ndim, self.dtype = rows.shape, 2, lengths.dtype
        self.on_host = isinstance(rows, np.ndarray)

    def __getitem__(self, key: Any) -> Any:
        some = key[0] if isinstance(key, tuple) else key
        xp = namespace(self.rows)
        return xp.astype(self.rows[some, :], xp.float64) / self.lengths[some][:, None]

    def take(self, which: Any) -> UnitRows:
        """Rows by number, in that order; which : array of shape (q,), on their device."""
        xp = namespace(self.rows)
        return UnitRows(xp.take(self.rows, which, axis=0), xp.take(self.lengths, which))


def compressed(data: np.ndarray, indices: np.ndarray, edges: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """SciPy's array over this memory; its constructor would look at all entries, and copy some."""
    block = csr_array(shape, dtype=data.dtype)
    block.data, block.indices, block.indptr = data, indices, edges
    return block


def _scattered(data: Any, indices: Any, edges: np.ndarray, shape: tuple[int, int]) -> Any:
    """Sparse rows as a dense array on their device, (m, d)."""
    xp = namespace(data)
    dense = xp.zeros(shape[0] * shape[1], dtype=data.dtype)
    starts = np.repeat(np.arange(shape[0]) * shape[1], np.diff(edges))
    dense[to_device(starts, home_of(data)) + xp.astype(indices, xp.int64)] = data
    return xp.reshape(dense, shape)


def is_sparse(X: Any) -> bool:
    """Whether X is a sparse matrix or array of SciPy or CuPy."""
    return type(X) is not np.ndarray and (issparse(X) or is_cupy_sparse(X))


def n_entries(X: Any) -> int:
    """How many numbers X holds: of n * d, those that are stored."""
    return int(X.nnz) if is_sparse(X) else X.shape[0] * X.shape[1]


def on_device(X: Any, device: Device) -> Any:
    """Rows where a plan computes: an array, or `SparseRows` for sparse ones (CSR, validated)."""
    if not is_sparse(X):
        return to_device(X, device)
    edges = to_host(X.indptr).astype(np.int64)
    data, indices = to_device(X.data, device), to_device(X.indices, device)
    if device.kind == "cpu":
        data, indices = np.ascontiguousarray(data), np.ascontiguousarray(indices)
    return SparseRows(data[: edges[-1]], indices[: edges[-1]], edges, X.shape[1])


def take(rows: Any, which: Any) -> Any:
    """Rows by number, of the kind that they are; which : array of shape (q,), on their device.

    NumPy's `take` is quicker than its brackets, but copies all of an array that does not lie in C order.
    """
    if isinstance(rows, SparseRows | UnitRows):
        return rows.take(which)
    if isinstance(rows, np.ndarray) and not rows.flags.c_contiguous:
        return rows[which]
    return namespace(rows).take(rows, which, axis=0)


def some_of(X: Any, which: np.ndarray) -> Any:
    """Some of the rows of X, of the kind that X is; which : array of shape (q,), on the host."""
    return X[to_device(which, home_of(X))] if is_sparse(X) else take(X, to_device(which, home_of(X)))


def dense(rows: Any) -> Any:
    """A few rows as a float64 array, (q, d)."""
    block = rows[:, :]
    xp = namespace(block)
    return xp.astype(block.toarray() if issparse(block) else block, xp.float64)


# --- the unit sphere ------------------------------------------------------------------------------


def on_the_sphere(rows: Any) -> SparseRows | UnitRows:
    """Rows divided by their lengths.

    Raises
    ------
    ValueError
        If a row has no length.
    """
    if isinstance(rows, SparseRows):
        host = SparseRows(to_host(rows.data), rows.indices, rows.edges, rows.shape[1])
        lengths = _lengths_of_sparse(host)
    else:
        lengths = _lengths(rows)
    nothing = np.flatnonzero(to_host(lengths) == 0)
    if nothing.size:
        raise ValueError(
            f"X has {nothing.size} row(s) of zeros, the first of them row {nothing[0]}, but metric='cosine' needs "
            "rows that have a direction. Leave those rows out, or use metric='euclidean'."
        )
    if isinstance(rows, SparseRows):
        return SparseRows(rows.data, rows.indices, rows.edges, rows.shape[1], lengths)
    return UnitRows(rows, lengths)


def _lengths(rows: Any) -> Any:
    """Lengths of dense rows, (n,) float64; the largest entry is taken out first, so that no square leaves the range."""
    xp, (n, d) = namespace(rows), rows.shape
    lengths = xp.empty(n, dtype=xp.float64, **placement(rows))
    step = max(1, _BLOCK // d)
    for a in range(0, n, step):
        x = xp.abs(xp.astype(rows[a : min(a + step, n), :], xp.float64))
        largest = xp.max(x, axis=1)
        x = x / xp.where(largest > 0, largest, 1.0)[:, None]
        lengths[a : min(a + step, n)] = largest * xp.sqrt(xp.sum(x * x, axis=1))
    return lengths


def _lengths_of_sparse(rows: SparseRows) -> np.ndarray:
    n, step = rows.shape[0], max(1, _BLOCK // rows.width)
    lengths = np.zeros(n)
    for a in range(0, n, step):
        b = min(a + step, n)
        x = np.abs(rows.data[rows.edges[a] : rows.edges[b]].astype(np.float64))
        row, largest = np.repeat(np.arange(b - a), np.diff(rows.edges[a : b + 1])), np.zeros(b - a)
        np.maximum.at(largest, row, x)
        x /= np.where(largest > 0, largest, 1.0)[row]
        lengths[a:b] = largest * np.sqrt(np.bincount(row, x * x, b - a))
    return lengths


def directions(centers: Any, otherwise: Any) -> Any:
    """Centres divided by their lengths; those that hardly have one, since rows cancel, are as in `otherwise`.

    Parameters
    ----------
    centers, otherwise : array of shape (k, d), float64
    """
    xp = namespace(centers)
    lengths = _lengths(centers)
    has = lengths > 1e-14
    return xp.where(has[:, None], centers / xp.where(has, lengths, 1.0)[:, None], otherwise)
