"""Sparse rows: how they are held on either device, and looked at block by block.

Rows are compressed (CSR): only the entries that are not zero are stored. They are not moved towards a
reference point, which would fill them up, so the frame of a plan for them has its origin at zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from ._device import Device, home_of, is_cupy_sparse, namespace, to_device, to_host


class Rows:
    """Sparse rows on the host or on a CUDA device, never written to.

    `rows[a:b, :]` is a block that the primitives take: on the host SciPy's matrix over the same memory, on a
    device a dense array, for the array bodies.

    Parameters
    ----------
    data : array of shape (nnz,), float32 or float64
    indices : array of shape (nnz,), int32 or int64, the feature of each entry, none twice in a row
    edges : ndarray of shape (n + 1,), int64, on the host
        The entries of row i are those from edges[i] to edges[i + 1].
    n_features : int
    """

    def __init__(self, data: Any, indices: Any, edges: np.ndarray, n_features: int) -> None:
        self.data, self.indices, self.edges = data, indices, edges
        self.shape = (edges.size - 1, n_features)
        self.dtype, self.ndim = data.dtype, 2
        self.on_host = isinstance(data, np.ndarray)

    @property
    def width(self) -> int:
        """Entries of a row, on average: what a pass works on; on a device all features of a block."""
        n, d = self.shape
        return max(1, -(-self.data.size // n)) if self.on_host else d

    @property
    def longest(self) -> int:
        """Entries of the longest row."""
        return int(np.diff(self.edges).max())

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        start, stop, _ = key[0].indices(self.shape[0])
        low, high = int(self.edges[start]), int(self.edges[stop])
        edges = self.edges[start : stop + 1] - low
        data, indices, shape = self.data[low:high], self.indices[low:high], (stop - start, self.shape[1])
        if self.on_host:
            return compressed(data, indices, edges.astype(indices.dtype), shape)
        return _scattered(data, indices, edges, shape)

    def take(self, which: Any) -> Rows:
        """Rows by number, in that order; which : array of shape (q,), anywhere."""
        which = to_host(which)
        starts, lengths = self.edges[which], np.diff(self.edges)[which]
        edges = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(edges[-1]) + np.repeat(starts - edges[:-1], lengths)
        places = to_device(places, home_of(self.data))
        xp = namespace(self.data)
        return Rows(xp.take(self.data, places, axis=0), xp.take(self.indices, places, axis=0), edges, self.shape[1])


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
    return issparse(X) or is_cupy_sparse(X)


def n_entries(X: Any) -> int:
    """How many numbers X holds: of n * d, those that are stored."""
    return int(X.nnz) if is_sparse(X) else X.shape[0] * X.shape[1]


def on_device(X: Any, device: Device) -> Any:
    """Rows where a plan computes: an array, or `Rows` for sparse ones (CSR, validated)."""
    if not is_sparse(X):
        return to_device(X, device)
    edges = to_host(X.indptr).astype(np.int64)
    data, indices = to_device(X.data, device), to_device(X.indices, device)
    if device.kind == "cpu":
        data, indices = np.ascontiguousarray(data), np.ascontiguousarray(indices)
    return Rows(data[: edges[-1]], indices[: edges[-1]], edges, X.shape[1])


def take(rows: Any, which: Any) -> Any:
    """Rows by number, of the kind that they are; which : array of shape (q,), on their device."""
    return rows.take(which) if isinstance(rows, Rows) else namespace(rows).take(rows, which, axis=0)


def dense(rows: Any) -> Any:
    """A few rows as a float64 array, (q, d)."""
    block = rows[:, :]
    xp = namespace(block)
    return xp.astype(block.toarray() if issparse(block) else block, xp.float64)
