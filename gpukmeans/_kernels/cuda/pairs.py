"""Sums of distances on the device: see `_distances.distance_sums` and `pairs.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._device import namespace, to_host
from .compile import c_name, launch

_THREADS, _WIDE = 256, 64  # of a block; the places it takes at once
_SUMS_BYTES = 1 << 28  # of the sums of one launch: enough places for any device, for up to 1000 clusters
_MOST_BLOCKS = 1 << 16


def distance_sums(rows: Any, cells: Any, done: Callable[..., None], workers: Any) -> None:
    """See `_distances.distance_sums`; the sums of some places at a time come back to the host."""
    xp, (n, d) = namespace(rows), rows.shape
    steps = (stride // rows.itemsize for stride in rows.strides)
    sizes = np.diff(cells.edges)
    cell_of = xp.asarray(np.repeat(np.arange(sizes.size, dtype=np.int32), sizes))
    columns = xp.asarray(cells.columns, dtype=xp.int64)
    fixed = (rows, *steps, n, d, xp.asarray(cells.order), cell_of, columns, columns.shape[1])
    first, height = 0, max(1, _SUMS_BYTES // (8 * cells.n_columns * _WIDE)) * _WIDE
    while first < n:
        m = min(height, n - first)
        try:
            sums = xp.zeros((cells.n_columns, m))
        except xp.cuda.memory.OutOfMemoryError:
            if m <= _WIDE:
                raise
            height = -(-m // (2 * _WIDE)) * _WIDE
            continue
        blocks = min(-(-m // _WIDE), _MOST_BLOCKS)
        launch("pairs", "distance_sums", blocks, _THREADS, (*fixed, first, m, sums), ROW=c_name(rows.dtype))
        done(first, to_host(sums))
        first += m
