"""Bounds that let a row keep its centre without its distances being computed.

For each row two numbers are kept from the last time it was searched: how far it was from its own
centre at most (`upper`), and by how much farther every other centre was at least (`gap`). Centres
move; how far each has moved in all is added up, once for all rows. A row keeps its centre while its
gap is larger than what its own centre and the farthest mover have moved since, or while it lies
within half the distance from its centre to the nearest other one. What this proves is exact: labels
are the same as without bounds.
Rows that fail may get a second look, see `_second_look`.

References
----------
G. Hamerly, "Making k-means even faster", SIAM International Conference on Data Mining, 2010.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._frame import Frame
from ._second_look import Look, farthest_others, second_look

# n_features * n_clusters from which bounds are kept at all, and up to which a search is cheap. Where it is
# not, looking at bounds is as good as free.
_LEAST, _CHEAP = 16, 512

# Where a search is cheap, bounds are begun once fewer than this share of the rows change their clusters in
# a pass: before, hardly a row would be held. Rows of up to four features are searched so fast that bounds have to
# hold nearly all.
_SETTLED, _SETTLED_FEW = 0.05, 0.0025
_FEW_FEATURES, _FEW_PRODUCTS = 4, 64

# There, a pass in which more than this share of the rows had to be searched did not pay, and bounds rest.
_WORTH = 0.6
_REST = 4  # passes

# Distances between centres are computed anew when that costs less than one in so many of a pass.
_SEPARATION_SHARE = 200

_UP, _DOWN = 1 + 1e-12, 1 - 1e-12  # rounding of float64 sums and roots
_FLOAT = 2e-7  # rounding to float32, and a little


class Tests(NamedTuple):
    """What one pass needs of the bounds; distances in the frame's scale."""

    upper: np.ndarray  # (n,) float32, written by the pass for the rows it searches
    gap: np.ndarray  # (n,) float32, likewise
    drift: np.ndarray  # (k,) how far each centre has moved in all
    spread: np.ndarray  # (k,) the same plus the farthest that any other centre has moved, each time
    near: np.ndarray  # (k,) float32: rows whose `upper` is below keep their centre
    far: np.ndarray  # (k,) float32: rows whose `gap` is above keep their centre
    filter: bool  # whether rows may keep their centres in this pass
    look: Look | None  # how rows that fail are looked at again


class Bounds:
    """The bounds of one run.

    Parameters
    ----------
    n_samples, n_features, n_clusters : int
    """

    def __init__(self, n_samples: int, n_features: int, n_clusters: int) -> None:
        self._upper = np.empty(n_samples, np.float32)
        self._gap = np.empty(n_samples, np.float32)
        self._known = False  # whether every row has bounds
        self._rest = 0
        self._cheap = n_features * n_clusters <= _CHEAP
        self._share = _settled_share(n_features, n_clusters)
        self._settled = False  # whether few rows changed their clusters in the pass before
        self._searched = n_samples
        self._centers: np.ndarray | None = None
        self._moved = np.zeros(n_clusters)  # since the pass before
        self._drift = np.zeros(n_clusters)
        self._spread = np.zeros(n_clusters)
        self._separation = np.zeros(n_clusters)  # half the distance to the nearest other centre ...
        self._separated = np.full(n_clusters, -np.inf)  # ... when `spread` was this

    def prepare(self, centers: np.ndarray, frame: Frame, rows: Any, labels: np.ndarray) -> Tests | None:
        """The tests for a pass with these centres, (k, d) float64; None while bounds rest.

        Parameters
        ----------
        centers : array of shape (k, d), float64
        frame : Frame
        rows : array of shape (n, d)
        labels : array of shape (n,), int32
            Of the pass before.
        """
        self._move(centers, frame)
        if self._rest or (self._cheap and not self._known and not self._settled):
            self._rest = max(0, self._rest - 1)
            self._known = False
            return None
        if self._known:
            self._separate(centers, frame)
        half = self._separation - 0.5 * (self._spread - self._separated)
        near = half * (1 - _FLOAT) - self._drift
        near -= _FLOAT * (np.abs(near) + self._drift)
        far = self._spread * (1 + _FLOAT)
        near, far = near.astype(np.float32), np.nextafter(far.astype(np.float32), np.float32(np.inf))
        tests = Tests(self._upper, self._gap, self._drift, self._spread, near, far, self._known, None)
        if self._known:
            tests = tests._replace(look=second_look(tests, self._moved, centers, frame, rows, labels))
        return tests

    def learn(self, tests: Tests | None, searched: int, changed: int) -> None:
        """Take note of how many rows a pass with these tests had to search, and how many got a new label."""
        self._settled = changed < self._share * self._gap.size
        if tests is None:
            return
        self._known, self._searched = True, searched
        if tests.filter and self._cheap and searched > _WORTH * self._gap.size:
            self._rest = _REST

    def _move(self, centers: np.ndarray, frame: Frame) -> None:
        """Add the way from the centres of the pass before to the drift."""
        if self._centers is None:
            self._centers = centers.copy()
        else:
            ways = np.subtract(centers, self._centers, out=self._centers)
            moved = np.sqrt(np.einsum("ij,ij->i", ways, ways)) * (frame.scale * (_UP + ways.shape[1] * 2.0**-52))
            self._moved = moved
            self._drift = (self._drift + moved) * _UP
            self._spread = (self._spread + moved + farthest_others(moved)) * _UP
            np.copyto(self._centers, centers)

    def _separate(self, centers: np.ndarray, frame: Frame) -> None:
        """Half the distance from each centre to the nearest other one, from below."""
        k = centers.shape[0]
        if np.isfinite(self._separated).all() and k * _SEPARATION_SHARE > self._searched:
            return  # the old ones, less what the centres have moved since, still are bounds
        seen = (centers - frame.shift) * frame.scale
        norms = np.einsum("ij,ij->i", seen, seen)
        noise = 2.0**-52 * (centers.shape[1] + 8) * 2 * (norms + norms.max(initial=0.0))
        squared = seen @ seen.T  # k x k: everything after this in place
        squared *= -2.0
        squared += norms
        np.fill_diagonal(squared, np.inf)
        nearest = norms + squared.min(axis=1, initial=np.inf) - noise
        self._separation = 0.5 * np.sqrt(np.clip(nearest, 0.0, 1e28)) * _DOWN
        self._separated = self._spread


def worth_keeping(n_features: int, n_clusters: int) -> bool:
    """Whether computing a row's distances costs more than looking at its bounds."""
    return n_clusters > 1 and n_features * n_clusters >= _LEAST


def _settled_share(n_features: int, n_clusters: int) -> float:
    few = n_features <= _FEW_FEATURES and n_features * n_clusters < _FEW_PRODUCTS
    return _SETTLED_FEW if few else _SETTLED
