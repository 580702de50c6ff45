"""k-means++ on the compiled kernels: see `_distances.Seeding`, whose methods these are, and `seeding.h`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import get_config

from ..._frame import first_lowest
from . import native
from .passes import drive

# Shorter rows are read as fast as their sketch and what it leaves open; longer ones could overflow its sums.
_SKETCH_BYTES, _SKETCH_FEATURES = 128, 30_000

_SKETCH_POINTS = 31  # one bit of an int32 each

_CALL = 256  # tasks between looks at Ctrl-C

_SKETCH_SAMPLE = 512  # rows that the sketch's steps are taken from


class Seeding:
    """The passes of one k-means++ over float32 or float64 rows.

    Rows of many features get a sketch after some passes: a copy in 8-bit integers that proves for most
    rows and candidates that the row is nearer to its centre. It takes d + 8 bytes a row, and is made only
    where scikit-learn's `working_memory` has room for it. No result depends on it.
    """

    def __init__(
        self, rows: np.ndarray, weights: Any, frame: Any, n_clusters: int, tile: int, lanes: Any, workers: Any
    ) -> None:
        self.tile, self.n_samples = tile, rows.shape[0]
        self._rows, self._frame, self._workers = rows, frame, workers
        self._closest = np.full(rows.shape[0], np.inf)
        self._pass = native().SeedingPass(rows, weights, frame.scale, self._closest, tile)
        self._left, self._done = n_clusters, 0  # passes
        self._sketched, self._wait, self._patience = False, 0, 1

    def lower(self, winner: Any, candidates: np.ndarray) -> np.ndarray:
        """See `_distances.Seeding.lower`."""
        points = self._points(candidates if winner is None else np.concatenate([winner, candidates]))
        potentials = np.empty((-(-self.n_samples // self.tile), candidates.shape[0]))
        use = self._sketched and self._wait == 0
        write = not self._sketched and self._pays(points.shape[0])
        self._pass.begin(points, winner is not None, potentials, write, use)
        drive(self._pass, _CALL, self._workers, self._workers.threads)
        self._sketched |= write
        self._left, self._done, self._wait = self._left - 1, self._done + 1, max(0, self._wait - 1)
        if use and 2 * self._pass.read > self.n_samples:  # most rows had to be read all the same
            self._wait, self._patience = self._patience, 2 * self._patience
        return potentials

    def pick(self, candidates: np.ndarray, potentials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `_distances.Seeding.pick`."""
        best = first_lowest(potentials.sum(axis=0))
        return candidates[best], potentials[:, best[0]].copy()

    def draw(self, winner: np.ndarray, masses: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """See `_distances.Seeding.draw`."""
        rows = np.empty(uniforms.shape[0], np.int64)
        self._pass.draw(self._points(winner), masses, uniforms, rows)
        return rows

    def masses(self, tiles: np.ndarray, winner: np.ndarray) -> np.ndarray:
        """See `_distances.Seeding.masses`."""
        out = np.empty((tiles.shape[0], self.tile))
        self._pass.masses(self._points(winner), tiles, out)
        return out

    def _points(self, which: np.ndarray) -> np.ndarray:
        return self._rows[which].astype(np.float64)

    def _pays(self, points: int) -> bool:
        """Whether to sketch the rows in the next pass; if so, there is room for it afterwards.

        Each point chosen so far keeps a like share of the rows from the next candidates, so about as many
        passes as there are points read everything anyway.
        """
        n, d = self._rows.shape
        if self._done < points or self._left < 2 * points or points > _SKETCH_POINTS:
            return False
        if d * self._rows.itemsize < _SKETCH_BYTES or d > _SKETCH_FEATURES:
            return False
        if n * (d + 8) > get_config()["working_memory"] * 2**20:
            return False
        sample = self._rows[:: max(1, n // _SKETCH_SAMPLE)].astype(np.float64)
        spread = float(np.abs(sample - self._frame.shift).max()) * self._frame.scale
        if not 1e-12 < spread < 1e12:
            return False
        self._pass.sketch(self._frame.shift, 127 / spread)
        return True
