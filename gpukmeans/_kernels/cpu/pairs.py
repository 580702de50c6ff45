"""Sums of distances by the compiled kernels: each distance once while the sums of all rows have room.

The tiles, and the order in which a row's distances are added, depend on the shape of the problem
alone: no number of threads changes a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._threads import Workers
from . import native
from .passes import drive, taken_as_they_are

_SUMS_BYTES = 32_000_000  # of the sums of all rows: beyond, distances are computed once for each of their two rows
_TILE_SUMS = 1 << 20  # of a tile without them (8 MB)
_TILE = 960  # rows; a multiple of 96, so that strips and blocks of all instruction sets fill it
_TILE_ELEMENTS = 1 << 15  # of rows: with their copies about the origin, two tiles stay near the second-level cache
_CALL = 64  # pairs of tiles between looks at Ctrl-C (some tenths of a second)


def distance_sums(rows: np.ndarray, cells: Any, done: Callable[..., None], workers: Workers) -> None:
    """See `_distances.distance_sums`."""
    if not taken_as_they_are(rows):
        rows = np.ascontiguousarray(rows, dtype=np.float32 if rows.dtype == np.float32 else np.float64)
    tile = tile_rows(*rows.shape)
    task = {"rows": rows, "order": cells.order, "edges": cells.edges, "columns": cells.columns, "tile": tile}
    if 8 * rows.shape[0] * cells.n_columns <= _SUMS_BYTES:
        _each_once(task, cells.n_columns, done, workers)
    else:
        _by_tiles(task, cells.n_columns, done, workers)


def tile_rows(n: int, d: int) -> int:
    """Rows of a tile: as many as caches hold, but enough tiles to go round the threads."""
    rows = min(_TILE, _TILE_ELEMENTS // d, n // 16)
    return max(96, rows // 96 * 96)


def _each_once(task: dict[str, Any], n_columns: int, done: Callable[..., None], workers: Workers) -> None:
    """The sums of all rows at once, (n_columns, n)."""
    n, tile = task["rows"].shape[0], task["tile"]
    sums = np.zeros((n_columns, n))
    drive(native().PairPass(**task, sums=sums), _CALL, workers, workers.threads)
    workers.run(lambda a, space: done(a, sums[:, a : a + tile]), range(0, n, tile))


def _by_tiles(task: dict[str, Any], n_columns: int, done: Callable[..., None], workers: Workers) -> None:
    """The sums of a tile at a time."""
    n = task["rows"].shape[0]
    height = max(16, min(task["tile"], _TILE_SUMS // n_columns))

    def one(a: int, space: Any) -> None:
        sums = np.zeros((n_columns, min(height, n - a)))
        native().pair_sums(**task, first=a, sums=sums)
        done(a, sums)

    workers.run(one, range(0, n, height))
