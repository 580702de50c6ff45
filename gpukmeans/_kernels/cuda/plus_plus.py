"""k-means++ on the device: see `_distances.Seeding`, whose methods these are, and `seeding.cu`."""

from __future__ import annotations

from typing import Any

from ..._device import namespace
from .compile import c_name, launch

_THREADS, _PICK_THREADS = 128, 1024
_MOST_BLOCKS = 1 << 16  # each takes a tile, then the next

_FEW_POINTS, _POINTS = 8, 16  # evaluated in one reading of a tile; one compilation serves up to 403 clusters


class Seeding:
    """The passes of one k-means++ over float32 or float64 rows: three launches a centre, nothing read back."""

    def __init__(
        self, rows: Any, weights: Any, frame: Any, n_clusters: int, tile: int, lanes: Any, workers: Any
    ) -> None:
        n, d = rows.shape
        self.tile, self.n_samples = tile, n
        self._xp, self._tiles, self._dtype = namespace(rows), -(-n // tile), rows.dtype
        closest = self._xp.full(n, self._xp.inf)
        steps = (stride // rows.itemsize for stride in rows.strides)
        weights = weights if weights is None else self._xp.ascontiguousarray(weights)
        self._rows = (rows, *steps, n, d, float(frame.scale), weights, closest)

    def lower(self, winner: Any, candidates: Any) -> Any:
        """See `_distances.Seeding.lower`."""
        t = candidates.shape[0]
        potentials = self._xp.empty((t, self._tiles))
        arguments = (*self._rows, winner, candidates, t, self.tile, self._tiles, potentials)
        self._launch("lower", min(self._tiles, _MOST_BLOCKS), _THREADS, t, arguments)
        return potentials.T

    def pick(self, candidates: Any, potentials: Any) -> tuple[Any, Any]:
        """See `_distances.Seeding.pick`."""
        t, xp = candidates.shape[0], self._xp
        winner, masses, totals = xp.empty(1, xp.int64), xp.empty(self._tiles), xp.empty(t)
        self._launch("pick", 1, _PICK_THREADS, t, (potentials.T, t, self._tiles, candidates, totals, winner, masses))
        return winner, masses

    def draw(self, winner: Any, masses: Any, uniforms: Any) -> Any:
        """See `_distances.Seeding.draw`."""
        t, xp = uniforms.shape[0], self._xp
        candidates, inside = xp.empty(t, xp.int64), xp.empty((t, self.tile))
        arguments = (*self._rows, winner, masses, self.tile, self._tiles, uniforms, inside, candidates)
        self._launch("draw", t, _THREADS, t, arguments)
        return candidates

    def _launch(self, entry: str, blocks: int, threads: int, t: int, arguments: tuple) -> None:
        points = _FEW_POINTS if t < _FEW_POINTS else _POINTS
        launch("seeding", entry, blocks, threads, arguments, ROW=c_name(self._dtype), POINTS=points)


seeding = Seeding  # the operation
