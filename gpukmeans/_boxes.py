"""Boxes that all rows of which have the same nearest centre, for rows of few features.

A grid of boxes is laid over the rows, and for each row the number of its box is kept. Before a pass, boxes are found
that lie nearer to one centre than to any other as a whole: that centre owns the box. A row that has this
label already keeps it, and is not looked at; all others are searched as ever. Of two centres, one is nearer to all of a
box if it is nearer to the corner where it does worst, which a difference of squared distances, linear in the place,
tells exactly but for rounding; that is allowed for. So labels are the same as without. Large boxes are tried first, and
divided where several centres are left.

Unlike `_bounds`, this needs no pass before and does not mind how far centres move, so it serves until these
settle. Whether it pays is tried on a sample of the rows.

References
----------
T. Kanungo, D. M. Mount, N. S. Netanyahu, C. D. Piatko, R. Silverman, A. Y. Wu, "An efficient k-means clustering
algorithm: analysis and implementation", IEEE Transactions on Pattern Analysis and Machine Intelligence 24 (2002).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._device import is_single
from ._frame import Ahead, Frame
from ._rows import dense, take

_FEATURES = 4  # at most
_PRODUCTS = 512  # n_features * n_clusters up to which: with more, bounds are kept from the first pass
_LEAST = 4_000_000  # n * k from which boxes may pay
_BITS = 16  # the number of boxes, as a power of two, at most ...
_PAIRS_A_BOX = 200  # ... and of distances in a pass for each, at least

_SAMPLE = 2048  # rows that the grid is laid by, and that tell whether it pays
_TAILS = 1 / 256  # of these, on each side it need not hold
_MARGIN = 1 / 64  # of the width of the others, how much wider it is on each side

# Boxes do not pay where they leave without an owner, or search in a pass, more than these shares of the rows. Bounds
# hold more once less than the last share gets a new label.
_OPEN, _SEARCHED, _SETTLED = 0.3, 0.6, 0.0005


class BoxGrid(NamedTuple):
    """Boxes beside each other: 2**level along each feature."""

    low: np.ndarray  # (d,) float64, of values of the rows' dtype: where the first begin
    steps: np.ndarray  # (d,) float64, likewise: boxes a unit of length
    level: int

    @property
    def size(self) -> int:
        """The number of boxes."""
        return 1 << self.level * self.low.size


class Boxed(NamedTuple):
    """What one pass needs of the boxes."""

    grid: BoxGrid
    numbers: np.ndarray  # (n,) uint16: the box that each row is in; the last one for rows outside of all
    owners: np.ndarray  # (boxes,) int16: the centre that all of a box is nearest to, or -1
    open: np.ndarray  # (boxes,) uint8: 1 where the rows of a box have to be searched


class BoxKernels(NamedTuple):
    """The kernels."""

    number_rows: Callable[[Any, BoxGrid], np.ndarray]  # the box of each row
    find_owners: Callable[[Boxed, np.ndarray], None]  # the owners for centres (k, d), and which boxes are open


class Boxes:
    """The boxes of the runs on one set of rows.

    Parameters
    ----------
    n_samples, n_features, n_clusters : int
        For which they are `worth_trying`.
    kernels : BoxKernels
    """

    def __init__(self, n_samples: int, n_features: int, n_clusters: int, kernels: BoxKernels) -> None:
        self._n = n_samples
        bits = min(_BITS, (n_samples * n_clusters // _PAIRS_A_BOX).bit_length() - 1)
        self._level = max(0, bits) // n_features
        self._kernels = kernels
        self._laid: Boxed | None = None  # for the centres of the pass before
        self._known = False  # whether the owners are those of the labels there are
        self.pay = True  # as far as is known
        self.serve = False  # whether they did in the pass before, and shall until labels hardly change

    def start(self) -> None:
        """Nothing is known of the labels that the next pass begins with."""
        self._known = self.serve = False

    def prepare(self, rows: Any, centers: np.ndarray, frame: Frame, stay: bool) -> Boxed | None:
        """For a pass over rows (n, d) with these centres, (k, d) float64; None where no row would be held.

        Every pass from `start` on has to be told of before and, by `learn`, after it; or `forget` be called.

        Parameters
        ----------
        rows, centers : array
        frame : Frame
        stay : bool
            Whether there may be another pass after this one: else a grid that is not there yet is not worth its price.
        """
        known, self._known = self._known, False
        if not self.pay or frame.scale != 1.0:
            self.pay, self._laid = False, None
        elif self._laid:
            self._kernels.find_owners(self._laid, centers)
            return self._laid if known else None
        elif stay:
            self._laid = self._lay(rows, centers)
            self.pay = self._laid is not None
        return None

    def learn(self, boxed: Boxed | None, searched: int, changed: int) -> None:
        """Take note of a pass that is done: how many rows it had to search, and how many got a new label."""
        self._known = self._laid is not None
        if boxed:
            self.pay = searched < _SEARCHED * self._n
            self.serve = self.pay and changed >= _SETTLED * self._n

    def ahead(self, most: int, tol: float) -> Ahead:
        """How far a pass with boxes may go on by itself: as long as they serve, see `learn`."""
        return Ahead(most, tol, math.ceil(_SETTLED * self._n), math.ceil(_SEARCHED * self._n) - 1)

    def forget(self) -> None:
        """Forget the rows."""
        self._laid = None
        self.start()

    def _lay(self, rows: Any, centers: np.ndarray) -> Boxed | None:
        """A grid, if its boxes would hold enough of a sample of the rows with these centres, whose owners it has."""
        sample = dense(take(rows, np.arange(0, self._n, -(-self._n // _SAMPLE))))
        grid = _lay_grid(sample, np.float32 if is_single(rows.dtype) else np.float64, self._level)
        owners = np.full(grid.size, -1, np.int16)
        of_sample = Boxed(grid, self._kernels.number_rows(sample, grid), owners, np.empty(grid.size, np.uint8))
        self._kernels.find_owners(of_sample, centers)
        if (owners[of_sample.numbers] < 0).mean() >= _OPEN:
            return None
        return of_sample._replace(numbers=self._kernels.number_rows(rows, grid))


def worth_trying(n_samples: int, n_features: int, n_clusters: int) -> bool:
    """Whether a pass takes long enough."""
    products = n_features * n_clusters
    return n_features <= _FEATURES and n_clusters > 1 and products <= _PRODUCTS and n_samples * n_clusters >= _LEAST


def _lay_grid(sample: np.ndarray, dtype: type, level: int) -> BoxGrid:
    """A grid that holds nearly all rows, of that dtype, by a sample (m, d) of them."""
    with np.errstate(all="ignore"):  # rows that lie too close together are outside of all boxes
        low, high = np.quantile(sample.astype(np.float64), [_TAILS, 1 - _TAILS], axis=0)
        width = np.where(high > low, high - low, 1.0)
        low = (low - _MARGIN * width).astype(dtype)
        steps: np.ndarray = (2.0**level / ((1 + 2 * _MARGIN) * width)).astype(dtype)
    return BoxGrid(low.astype(np.float64), steps.astype(np.float64), level)
