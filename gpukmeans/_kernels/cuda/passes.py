"""Passes over the rows by the CUDA kernels: launches on the current stream, and nothing read back.

What a pass adds up it adds by lanes, whose number and edges depend on the shape of the problem alone; so
neither the grid nor the memory at hand changes a bit. See the heads of the `.cu` files for the order inside a lane.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..._frame import Frame, Lanes, Request, Searched, make_targets, trust
from .compile import SHARED_BYTES, c_name, launch

# Blocks of a launch at most; each takes on several lanes or rows where there are more.
_BLOCKS = 1 << 16

_FUSED_FEATURES = 32  # up to which a thread holds a row in registers
_CELLS = 1024  # of the sums in shared memory, up to which several threads share one ...
_SPLITS = 32  # ... but not more than that

_THREADS, _WARPS = 256, 8  # of a block of the other kernels
_FEW_ROWS = 256  # of a chunk, at least
_MEMORY_SHARE = 8  # of the free memory, for a chunk
# Lanes of sums by segments: at most so many, and 32 MB of them in all if that leaves the fewer.
_FEW_SORTED, _MANY_SORTED, _SUMS = 8, 64, 1 << 22

# Lanes: enough to go round the multiprocessors, and while writing and reading their sums takes no more than a
# tenth of the bytes of the rows, up to what hides the latency of memory.
_FEW_LANES, _MANY_LANES, _SHARE = 128, 1024, 10


class Fused(NamedTuple):
    """How the fused kernel is launched."""

    threads: int  # of a block, and rows of a tile
    splits: int  # threads that share a cell of the sums
    shared: int  # bytes


def fused(n_features: int, n_clusters: int, row_bytes: int, real_bytes: int) -> Fused | None:
    """The launch of the fused kernel; None if its shared memory is more than every device has.

    So the choice of a path, and with it every bit, is the same on all devices.
    """
    d, k = n_features, n_clusters
    if d > _FUSED_FEATURES:
        return None
    threads = 256 if d * row_bytes <= 64 else 128
    splits = max(1, min(_SPLITS, _CELLS // (k * (d + 1))))
    aligned = 16 // real_bytes
    pieces = (
        k * -(-(d + 1) // aligned) * aligned * real_bytes,
        splits * k * (d + 1) * 8,
        splits * k * 8,
        threads * 8,
        d * 8,
        d * real_bytes,
        threads * (d | 1) * row_bytes,
        (k + 1) * 2,
        threads // 32 * k * 2,
        threads * 2,
    )
    shared = sum(-(-piece // 16) * 16 for piece in pieces)
    static = threads // 32 * 24
    return Fused(threads, splits, shared) if shared + static <= SHARED_BYTES else None


def n_lanes(n: int, tile: int, row_bytes: int, lane_bytes: int) -> int:
    """Lanes of n rows of so many bytes, cut into tiles; `lane_bytes` are read and written for each lane."""
    cheap = n * row_bytes // (_SHARE * lane_bytes)
    return min(-(-n // tile), _MANY_LANES, max(_FEW_LANES, cheap))


def search_pass(request: Request, workers: Any) -> Searched:
    """Label every row with its nearest centre and add up the clusters; labels are written in place.

    The numbers of changed and doubtful rows stay on the device, by lanes.
    """
    request = request._replace(centers=_contiguous(request.centers), weights=_contiguous(request.weights))
    k, d = request.centers.shape
    chosen = fused(d, k, request.rows.itemsize, np.dtype(request.frame.dtype).itemsize)
    found = _search_by_chunks(request) if chosen is None else _search_fused(request, chosen)
    if not request.inertia:
        return found
    return found._replace(inertia=own_pass(request.rows, request.weights, request.labels, request.centers, None))


def _search_fused(request: Request, chosen: Fused) -> Searched:
    """One launch that reads the rows once, see `assign.cu`."""
    import cupy

    rows, frame = request.rows, request.frame
    (n, d), k = rows.shape, request.centers.shape[0]
    number = n_lanes(n, chosen.threads, d * rows.itemsize + 8, 8 * k * (3 * d + 4))
    lanes = None if request.add == "nothing" else _empty_lanes(number, k, d)
    changed, doubtful = cupy.empty((2, number), cupy.int64)
    launch(
        "assign",
        "assign",
        min(number, _BLOCKS),
        chosen.threads,
        (
            *_told(rows),
            request.weights,
            frame.shift,
            frame.scale,
            request.centers,
            k,
            trust(frame.dtype, d),
            request.labels,
            number,
            chosen.splits,
            *(lanes[:3] if lanes else (None, None, None)),
            changed,
            doubtful,
        ),
        shared=chosen.shared,
        ROW=c_name(rows.dtype),
        REAL=c_name(frame.dtype),
        FEATURES=d,
        THREADS=chosen.threads,
    )
    return Searched(lanes, changed, doubtful, n, 0.0)


def _search_by_chunks(request: Request) -> Searched:
    """A matrix product a chunk of rows, and one look at it, see `decide.cu`; then the sums."""
    import cupy
    from cupy import cublas

    rows, weights, frame, centers, labels = request[:5]
    (n, d), k = rows.shape, centers.shape[0]
    targets = make_targets(centers, frame)
    table, squares = (cupy.ascontiguousarray(part) for part in (targets.augmented[:, :-1], targets.augmented[:, -1]))
    facts = cupy.zeros((2, 1), cupy.int64)
    types: dict[str, Any] = {"ROW": c_name(rows.dtype), "REAL": c_name(frame.dtype)}
    seen, norms, products = _chunk_buffers(n, d, k, frame.dtype)
    for a in range(0, n, seen.shape[0]):
        chunk = rows[a : a + seen.shape[0], :]
        m = chunk.shape[0]
        grid = min(-(-m // _WARPS), _BLOCKS)
        arguments = (*_told(chunk), d)
        launch("decide", "localize", grid, _THREADS, (*arguments, frame.shift, frame.scale, seen, norms), **types)
        # cuBLAS itself: CuPy's matmul would round to TF32 where CUPY_TF32 is set, more than the error bound allows
        cublas.gemm("N", "T", seen[:m], table, out=products[:m])
        products_told = (products, squares, norms, targets.reach, targets.trust)
        decided = (*arguments, centers, k, *products_told, labels[a : a + m], facts)
        launch("decide", "decide", grid, _THREADS, decided, **types)
    lanes = None if request.add == "nothing" else add_pass(rows, weights, labels, frame, k)
    return Searched(lanes, facts[0], facts[1], n, 0.0)


def _chunk_buffers(n: int, d: int, k: int, dtype: Any) -> tuple[Any, Any, Any]:
    """Memory for the rows, norms and products of a chunk; for half as many rows where that is not to be had."""
    import cupy

    m = _chunk_rows(n, d, k, np.dtype(dtype).itemsize)
    while True:
        try:
            return tuple(cupy.empty((m, *rest), dtype) for rest in ((d,), (), (k,)))
        except cupy.cuda.memory.OutOfMemoryError:
            if m <= _FEW_ROWS:
                raise
            m = max(_FEW_ROWS, m // 2)


def _chunk_rows(n: int, d: int, k: int, size: int) -> int:
    """Rows of a chunk: their products fill half the second-level cache, and all of it a share of the free memory."""
    import cupy

    free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
    cached = _cache_bytes(cupy.cuda.get_device_id()) // (2 * k * size)
    most = min(cached, free // (_MEMORY_SHARE * (d + k + 1) * size))
    return min(n, max(_FEW_ROWS, most))


@cache
def _cache_bytes(device: int) -> int:
    """Size of the second-level cache."""
    import cupy

    return int(cupy.cuda.runtime.getDeviceProperties(device)["l2CacheSize"])


def add_pass(rows: Any, weights: Any, labels: Any, frame: Frame, k: int, workers: Any = None) -> Lanes:
    """Sums of the clusters of any labels, from all rows, see `sums.cu`."""
    import cupy

    n, d = rows.shape
    number = min(-(-n // _THREADS), max(_FEW_SORTED, min(_MANY_SORTED, _SUMS // (k * d))))
    lanes = _empty_lanes(number, k, d)
    start, order, scratch = (cupy.empty(shape, cupy.int32) for shape in ((number, k + 1), (n,), (number, k)))
    row: dict[str, Any] = {"ROW": c_name(rows.dtype)}
    launch("sums", "sort", min(number, _BLOCKS), _THREADS, (labels, n, k, number, start, order, scratch), **row)
    arguments = (*_told(rows), _contiguous(weights), frame.shift, start, order, k, d, number, *lanes[:3])
    launch("sums", "add", min(number * k, _BLOCKS), _THREADS, arguments, **row)
    return lanes


def own_pass(rows: Any, weights: Any, labels: Any, centers: Any, squared: Any, workers: Any = None) -> Any:
    """Weighted sum of the squared distances of the rows to their own centres; each of them in `squared`, if given."""
    import cupy

    n, d = rows.shape
    number = min(-(-n // _THREADS), _MANY_LANES)
    inertia = cupy.empty(number)
    arguments = (*_told(rows), d, _contiguous(weights), labels, _contiguous(centers), number, squared, inertia)
    launch("own", "own", min(number, _BLOCKS), _THREADS, arguments, ROW=c_name(rows.dtype))
    return cupy.sum(inertia)


def _contiguous(array: Any) -> Any:
    import cupy

    return None if array is None else cupy.ascontiguousarray(array)


def _told(rows: Any) -> tuple[Any, int, int, int]:
    """How kernels are told of rows: the array, its steps in elements, and their number."""
    return rows, rows.strides[0] // rows.itemsize, rows.strides[1] // rows.itemsize, rows.shape[0]


def _empty_lanes(number: int, k: int, d: int) -> Lanes:
    import cupy

    shape = number, k
    return Lanes(cupy.empty((*shape, d)), cupy.empty(shape), cupy.empty(shape, cupy.int64))


def move_centers(step: Any, centers: Any, frame: Frame, workers: Any = None) -> tuple[Any, Any]:
    """The centres that a step leads to, (k, d), and what the host must know, (5,): see `_lloyd.Record`."""
    import cupy

    (k, d), number = centers.shape, step.lanes.sums.shape[0]
    centers = _contiguous(centers)
    moved, state, facts = cupy.empty((k, d)), cupy.empty((k, 3)), cupy.empty(5)
    across = min(32, 1 << (d - 1).bit_length())
    launch(
        "update",
        "move",
        min(k, _BLOCKS),
        _THREADS,
        (*step.lanes[:3], number, k, d, centers, frame.shift, across, moved, state),
    )
    launch(
        "update",
        "record",
        1,
        _THREADS,
        (step.changed, step.doubtful, step.changed.shape[0], k, d, centers, moved, state, facts),
    )
    return moved, facts
