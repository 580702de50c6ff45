"""A second look at rows that bounds do not hold, where a search is dear.

How far such a row is from its own centre now is computed, instead of bounded by what the centre has moved. And where
few centres moved much farther than all others (the *movers*, such as one that was given a far row because its cluster
was empty), the row's distances to these are, too. Then all others count only by what they have moved at most. A row
whose own centre is nearer than that keeps it, and gets new bounds. Like the bounds, this is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._frame import SMALL, Frame, local
from ._rows import dense, take

if TYPE_CHECKING:
    from ._bounds import Tests

_DEAR, _LARGE = 4096, 1e9  # products of a search and of a pass from which on a look may pay
_MOVERS = (0, 4, 8, 16, 32, 64)  # numbers of them that are tried, up to a part of the centres ...
_PART = 8
_SAMPLE = 512  # ... on so many rows

# What a look costs: for a feature of the row, for each of its features where there are movers, for a row. In products,
# of which a search costs less: most of its products are rounded (`coarse.h` of the compiled kernels).
_FEATURE, _PACKED, _ROW = 20, 16, 2500
_SEARCH = 0.7
_WORTH = 0.04  # of a search: what it has to save for a row that fails


class Look(NamedTuple):
    """What one pass needs for second looks; distances in the frame's scale."""

    rest: np.ndarray  # (k,) what `Tests.spread` were if the movers had kept still since the pass before
    movers: np.ndarray  # (f,) int64


def second_look(
    tests: Tests, moved: np.ndarray, centers: np.ndarray, frame: Frame, rows: Any, labels: np.ndarray
) -> Look | None:
    """The second look that saves most, by a sample of the rows, or None where it would cost more.

    Parameters
    ----------
    tests : Tests
        Those that the rows fail.
    moved : array of shape (k,)
        How far each centre has moved since the pass before.
    centers : array of shape (k, d), float64
    frame : Frame
    rows : array of shape (n, d)
    labels : array of shape (n,), int32
    """
    k, d = centers.shape
    if d * k < _DEAR or labels.size * d * k < _LARGE or frame.scale > SMALL:
        return None
    sample = np.arange(0, labels.size, -(-labels.size // _SAMPLE))
    own = labels[sample]
    fails = ~((tests.gap[sample] > tests.far[own]) | (tests.upper[sample] < tests.near[own]))
    sample, own = sample[fails], own[fails]
    if sample.size * 16 < fails.size:
        return None
    x = local(dense(take(rows, sample)), frame).astype(np.float64)
    now = np.sqrt(((x - (centers[own] - frame.shift) * frame.scale) ** 2).sum(axis=1))
    least = tests.upper[sample] + tests.gap[sample] + tests.drift[own]
    numbers = [number for number in _MOVERS if number * _PART <= k]
    order = np.argsort(-moved, kind="stable")[: numbers[-1]]
    c = (centers[order] - frame.shift) * frame.scale
    squared = (x**2).sum(axis=1)[:, None] - 2 * x @ c.T + (c**2).sum(axis=1)
    squared[own[:, None] == order] = np.inf
    distances, best, most = np.sqrt(np.maximum(squared, 0)), None, _WORTH * d * k
    for number in numbers:
        look = Look(_rest(tests.spread, moved, order[:number]), order[:number])
        other = np.minimum(least - look.rest[own], distances[:, :number].min(axis=1, initial=np.inf))
        held = (now < other) | (now - tests.drift[own] < tests.near[own])
        saved = held.mean() * _SEARCH * d * k - _ROW - _FEATURE * d - (number and (number + _PACKED) * d)
        if saved > most:
            best, most = look, saved
    return best


def farthest_others(moved: np.ndarray) -> np.ndarray:
    """How far any other centre has moved at most, for each centre, (k,)."""
    farthest, others = int(moved.argmax()), moved.copy()
    others[farthest] = 0.0
    second = others.max()
    others.fill(moved[farthest])
    others[farthest] = second
    return others


def _rest(spread: np.ndarray, moved: np.ndarray, movers: np.ndarray) -> np.ndarray:
    """The spread without the ways of the movers, rounded up."""
    still = moved.copy()
    still[movers] = 0.0
    return spread - (farthest_others(moved) - farthest_others(still)) * (1 - 1e-12) + spread * 1e-12
