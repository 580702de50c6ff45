"""Bounds that let a row keep its centre without its distances being computed.

For each row two numbers are kept from the last time it was searched: how far it was from its own
centre at most (`upper`), and by how much farther every other centre was at least (`gap`). Centres
move; how far each has moved in all is added up, once for all rows. A row keeps its centre while its
gap is larger than what its own centre and the farthest mover have moved since, or while it lies
within half the distance from its centre to the nearest other one. What this proves is exact: labels
are the same as without bounds.
Once few rows fail, each block of rows also keeps how much tighter these tests may get before the first of its rows
fails; until then none of its rows is looked at.
Rows that fail may get a second look, see `_second_look`.

References
----------
G. Hamerly, "Making k-means even faster", SIAM International Conference on Data Mining, 2010.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._frame import Ahead, BoundsAhead, Frame
from ._second_look import Look, second_look

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

# Blocks of rows are held as a whole where so few rows had to be searched in the pass before that most blocks are
# without one.
_BLOCK, _QUIET = 64, 1 / 64  # `block_rows` of the compiled kernels

# Distances between centres are computed where each centre has so many rows to be searched, when they cost that small a
# part of a pass, and anew once centres have moved so much of them. Those that held less than one row in so many, of a
# sample of this size, are not computed again soon.
_SEPARATION, _LOOSE, _USEFUL, _SAMPLE = 32, 0.1, 32, 512


class Tests(NamedTuple):
    """What one pass needs of the bounds; distances in the frame's scale."""

    upper: np.ndarray  # (n,) float32, written by the pass for the rows it searches
    gap: np.ndarray  # (n,) float32, likewise
    drift: np.ndarray  # (k,) how far each centre has moved in all
    spread: np.ndarray  # (k,) the same plus the farthest that any other centre has moved, each time
    near: np.ndarray  # (k,) float32: rows whose `upper` is below keep their centre
    far: np.ndarray  # (k,) float32: rows whose `gap` is above keep their centre
    filter: bool  # whether rows may keep their centres in this pass
    slack: np.ndarray | None  # (blocks,) float32, likewise: blocks of rows whose slack is above `tightened` keep theirs
    tightened: float  # by how much `near` and `far` have become tighter in all
    look: Look | None  # how rows that fail are looked at again


class Drifts(NamedTuple):
    """How far the centres have moved, and what `Tests` follow; distances in the frame's scale."""

    moved: np.ndarray  # (k,) since the pass before
    drift: np.ndarray  # (k,) as in `Tests`, and so are the rest that are named there
    spread: np.ndarray
    separation: np.ndarray  # (k,) half the distance to the nearest other centre, -inf where that is not known ...
    separated: np.ndarray  # (k,) ... when `spread` was this
    near: np.ndarray
    far: np.ndarray
    slack: np.ndarray


def _no_drifts(n_samples: int, n_clusters: int) -> Drifts:
    """Those of centres that have not moved, and whose distances from each other are not known."""
    moved, drift, spread, separated = np.zeros((4, n_clusters))
    separation, near = np.full(n_clusters, -np.inf), np.full(n_clusters, -np.inf, np.float32)
    far, slack = np.zeros(n_clusters, np.float32), np.empty(-(-n_samples // _BLOCK), np.float32)
    return Drifts(moved, drift, spread, separation, separated, near, far, slack)


def first_tests(n_samples: int, n_clusters: int) -> Tests:
    """Tests for a pass that keeps no row: all it does is to write `upper` and `gap`."""
    upper, gap = np.empty((2, n_samples), np.float32)
    still, nothing = np.zeros(n_clusters), np.zeros(n_clusters, np.float32)
    return Tests(upper, gap, still, still, nothing, nothing, False, None, 0.0, None)


class Bounds:
    """The bounds of one run.

    Parameters
    ----------
    n_samples, n_features, n_clusters : int
    separations : callable
        Of centres, (k, d) float64, in a frame: how far each is from the nearest other one at least, (k,), in the
        frame's scale.
    drifting : callable
        Of `Drifts`: the kernel that keeps them.
    """

    def __init__(
        self,
        n_samples: int,
        n_features: int,
        n_clusters: int,
        separations: Callable[[np.ndarray, Frame], np.ndarray],
        drifting: Callable[[Drifts], Any],
    ) -> None:
        self._separations = separations
        self._upper = np.empty(n_samples, np.float32)
        self._gap = np.empty(n_samples, np.float32)
        self._drifts = _no_drifts(n_samples, n_clusters)
        self._kernel = drifting(self._drifts)
        self._known = False  # whether every row has bounds
        self._rest = 0
        self._cheap = n_features * n_clusters <= _CHEAP
        self._share = _settled_share(n_features, n_clusters)
        self._settled = False  # whether few rows changed their clusters in the pass before
        self._searched = n_samples
        self._centers: np.ndarray | None = None  # of the pass before, while bounds are kept; never written to
        self._idle, self._next_idle = 0, 1  # passes in which it is not computed, now and when it has held few rows

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
        if self._rest or (self._cheap and not self._known and not self._settled):
            self._rest = max(0, self._rest - 1)
            self._known, self._centers = False, None
            self._drifts.separation.fill(-np.inf)
            return None
        self._move(centers, frame)
        if self._known:
            self._separate(centers, frame, labels)
        in_blocks = self._kernel.tighten(self._known and self._searched <= self._quiet)
        drifts = self._drifts
        of_centers = drifts.drift, drifts.spread, drifts.near, drifts.far
        tests = Tests(self._upper, self._gap, *of_centers, self._known, None, 0.0, None)
        if self._known:
            tests = tests._replace(look=second_look(tests, drifts.moved, centers, frame, rows, labels))
        return self._in_blocks(tests) if in_blocks else tests

    def ahead(self, most: int, tol: float) -> Ahead | None:
        """How far a pass with bounds may go on by itself: where no row is looked at twice."""
        if not self._cheap:
            return None
        k = self._drifts.drift.size
        bounds = BoundsAhead(self._kernel, self._quiet, self._idle, k * _SEPARATION, _LOOSE)
        return Ahead(most, tol, searched=int(_WORTH * self._gap.size), bounds=bounds)

    @property
    def is_resting(self) -> bool:
        """Whether the passes are counted until bounds are tried again."""
        return self._rest > 0

    @property
    def settled_below(self) -> int:
        """The number of new labels in a pass below which bounds begin."""
        return int(np.ceil(self._share * self._gap.size))

    @property
    def _quiet(self) -> int:
        """The number of rows searched up to which blocks of them are held in the next pass."""
        return int(_QUIET * self._gap.size)

    def learn(self, tests: Tests | None, searched: int, changed: int, done: int, centers: np.ndarray | None) -> None:
        """Take note of a pass with these tests.

        Parameters
        ----------
        tests : Tests or None
        searched, changed : int
            How many rows it had to search, and how many got a new label.
        done, centers
            How many passes came before, if it went on by itself, and the centres of the last one.
        """
        self._settled = changed < self._share * self._gap.size
        if tests is None:
            return
        self._known, self._searched = True, searched
        if done:
            self._centers, self._idle = centers, max(0, self._idle - done)
        if (tests.filter or done) and self._cheap and searched > _WORTH * self._gap.size:
            self._rest = _REST

    def _move(self, centers: np.ndarray, frame: Frame) -> None:
        """Add the way from the centres of the pass before to the drift."""
        if self._centers is not None:
            self._kernel.move(self._centers, centers, frame.scale)
        self._centers = centers

    def _in_blocks(self, tests: Tests) -> Tests:
        """The same tests, also of blocks of rows."""
        return tests._replace(slack=self._drifts.slack, tightened=self._kernel.tightened)

    def _separate(self, centers: np.ndarray, frame: Frame, labels: np.ndarray) -> None:
        """Half the distance from each centre to the nearest other one, anew where that may hold rows."""
        if self._idle:
            self._idle -= 1
            return
        k, drifts = centers.shape[0], self._drifts
        if k * _SEPARATION > self._searched or not self._kernel.is_loose(_LOOSE):
            return  # the old ones, less what the centres have moved since, still are bounds
        drifts.separation[:], drifts.separated[:] = 0.5 * self._separations(centers, frame), drifts.spread
        near = np.array([self._kernel.nearness(j) for j in range(k)], np.float32)
        sample = slice(None, None, max(1, self._gap.size // _SAMPLE))
        held = self._upper[sample] < near[labels[sample]]
        useful = np.count_nonzero(held) * _USEFUL >= held.size
        self._idle, self._next_idle = (0, 1) if useful else (self._next_idle, 2 * self._next_idle + 1)


def worth_keeping(n_features: int, n_clusters: int) -> bool:
    """Whether computing a row's distances costs more than looking at its bounds."""
    return n_clusters > 1 and n_features * n_clusters >= _LEAST


def _settled_share(n_features: int, n_clusters: int) -> float:
    few = n_features <= _FEW_FEATURES and n_features * n_clusters < _FEW_PRODUCTS
    return _SETTLED_FEW if few else _SETTLED
