"""Passes over sparse rows on the host, in parts of about as many entries; only entries that are stored are read.

What is done with a part has two bodies of the same names: the compiled one (`cpu.csr`) and SciPy's (`csr_scipy`).

- Search: the product of the rows with a table of the centres side by side, (d, k): each entry of a row reads k
  neighbouring numbers.
- Sums: rows are sorted by cluster, and a cluster is added up by one thread in the order of its rows. So there
  is one lane, (1, k, d), and no number of threads changes a bit.
- Exact distances: the sum over the entries of (x - c)^2, and |c|^2 less the c^2 of these features. The latter
  difference is one of sums in twice the digits, so that nothing cancels: what is left is as good as the sum of
  the other c^2. These distances decide what the products leave in doubt, and make up the inertia.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._frame import FAR, Frame, Lanes, Request, Searched, first_of_each
from .._rows import SparseRows, dense
from .._sums import Moments, moments_from
from .._threads import Workers, Workspace
from . import choice, cpu, csr_scipy

_PART = 1 << 18  # entries of a part, about: small enough to go round the threads
_GROUPS = 64  # groups of clusters that are added up, at most
_TILE_ELEMENTS = 1 << 20  # of dense rows that all others are compared with (8 MB)
_TILE = 512  # such rows at most


class Targets(NamedTuple):
    """Centres made ready for one pass over sparse rows."""

    centers: np.ndarray  # (k, d) float64
    table: np.ndarray  # (d, k or more) frame.dtype: -2 c, in the frame's scale
    norms: np.ndarray  # (k,) float64: |c|^2 in that scale, infinite for a copy of an earlier centre
    squares: Any  # |c|^2 in twice the digits, see the bodies
    scale: float
    reach: float  # the largest |c| in that scale


def bodies() -> Any:
    """The module whose functions work on a part."""
    if choice() == "1" and cpu.native() is not None:
        from .cpu import csr

        return csr
    return csr_scipy


def parts(rows: SparseRows) -> list[tuple[int, int]]:
    """Bounds of parts of the rows; from the rows alone."""
    n = rows.shape[0]
    size = rows.edges + np.arange(n + 1)  # an empty row is some work, too
    inner = np.searchsorted(size, np.arange(_PART, size[-1], _PART))
    edges = np.unique(np.concatenate([[0], inner, [n]])).tolist()
    return list(pairwise(edges))


def search_pass(request: Request, workers: Workers) -> Searched:
    """Label every row with its nearest centre and add up the clusters; labels are written in place."""
    rows, centers, labels = request.rows, request.centers, request.labels
    body, targets = bodies(), _make_targets(centers, request.frame)
    fresh = np.empty_like(labels)
    found = _each(parts(rows), lambda a, b: body.nearest(rows, a, b, targets, fresh[a:b]), workers)
    moved = np.flatnonzero(fresh != labels)
    lanes = None
    if request.add in ("all", "begin"):
        lanes = _add_all(rows, request.weights, fresh, centers.shape[0], workers)
    elif request.add == "moves":
        which, places = np.concatenate([moved, moved]), np.concatenate([fresh[moved], labels[moved]])
        lanes = request.lanes
        _add(rows, request.weights, which, places, np.repeat([1.0, -1.0], moved.size), lanes, workers)
    labels[moved] = fresh[moved]
    inertia = own_pass(rows, request.weights, labels, centers, None, workers) if request.inertia else 0.0
    return Searched(lanes, moved.size, sum(found), labels.size, inertia)


def _make_targets(centers: np.ndarray, frame: Frame) -> Targets:
    body = bodies()
    squares = body.make_squares(centers)
    norms = (squares.high + squares.low) * frame.scale**2  # rounded once: a row's bound knows nothing of d
    far = norms > FAR
    norms = np.where(far, FAR, norms)
    reach = float(np.sqrt(norms.max()))
    norms[np.setdiff1d(np.arange(norms.size), first_of_each(centers, norms))] = np.inf
    table = body.make_table(centers, np.where(far, 0.0, -2.0 * frame.scale), frame.dtype)
    return Targets(centers, table, norms, squares, frame.scale, reach)


def add_pass(rows: SparseRows, weights: Any, labels: np.ndarray, frame: Frame, k: int, workers: Workers) -> Lanes:
    """Sums of the clusters of any labels, from all rows."""
    return _add_all(rows, weights, labels, k, workers)


def _add_all(rows: SparseRows, weights: Any, labels: np.ndarray, k: int, workers: Workers) -> Lanes:
    lanes = Lanes(np.zeros((1, k, rows.shape[1])), np.zeros((1, k)), np.zeros((1, k), np.int64))
    _add(rows, weights, np.arange(labels.size), labels, None, lanes, workers)
    return lanes


def _add(
    rows: SparseRows, weights: Any, which: np.ndarray, places: np.ndarray, signs: Any, lanes: Lanes, workers: Workers
) -> None:
    """Add the rows `which` to the clusters `places`, or take them away (sign -1)."""
    k = lanes.masses.shape[1]
    mass = np.ones(which.size) if weights is None else weights[which]
    sign = 1.0 if signs is None else signs
    lanes.counts[0] += np.bincount(places, sign * (mass > 0), k).astype(np.int64)
    mass *= sign
    lanes.masses[0] += np.bincount(places, mass, k)
    order = np.argsort(places.astype(np.uint16) if k <= 1 << 16 else places, kind="stable")
    which, mass = which[order], mass[order]
    edges = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=k))])
    body, step = bodies(), -(-k // _GROUPS)

    def group(a: int, b: int) -> None:
        body.add(rows, which, mass, edges[a : b + 1], lanes.sums[0, a:b])

    _each([(a, min(a + step, k)) for a in range(0, k, step)], group, workers)


def moments_pass(rows: SparseRows, frame: Frame, workers: Workers) -> Moments:
    """See `Plan.moments`."""
    first, second, longest = np.zeros(rows.shape[1]), np.zeros(rows.shape[1]), 0.0
    for a, b in parts(rows):
        block = rows[a:b, :]
        x, d = block.data.astype(np.float64), rows.shape[1]
        first += np.bincount(block.indices, x, d)
        x *= x
        second += np.bincount(block.indices, x, d)
        longest = max(longest, float(csr_scipy.by_row(x, block.indptr).max()))
    return moments_from(rows.shape[0], frame.shift, first, second, float(np.sqrt(longest)))


def own_pass(
    rows: SparseRows, weights: Any, labels: np.ndarray, centers: np.ndarray, squared: Any, workers: Workers
) -> float:
    """Weighted sum of the squared distances of the rows to their own centres; each of them in `squared`, if given."""
    body = bodies()
    squares, own = body.make_squares(centers), np.empty(labels.size) if squared is None else squared
    _each(parts(rows), lambda a, b: body.squared_to_own(rows, a, b, labels[a:b], centers, squares, own[a:b]), workers)
    return float(own.sum() if weights is None else np.add.reduce(own * weights))


def lower_to(rows: Any, closest: np.ndarray, frame: Frame, candidates: np.ndarray, space: Any = None) -> np.ndarray:
    """See `_distances.lower_to`; of a block of sparse rows and dense candidates."""
    return bodies().lower_to(rows, closest, frame.scale, candidates, _noise(rows))


def squared_to_all(rows: Any, frame: Frame, points: np.ndarray) -> np.ndarray:
    """See `_distances.squared_to_all`; of a block of sparse rows and dense points."""
    return bodies().lower_to(rows, np.full(rows.shape[0], np.inf), frame.scale, points, _noise(rows)).T


def _noise(rows: Any) -> float:
    """What rounding may leave of a squared distance of nothing, relative to |x|^2 + |y|^2."""
    d = rows.shape[1]
    return 2.0**-53 * (2 * min(d, 8 * d**0.5) + 8)


def distance_sums(rows: SparseRows, cells: Any, done: Callable[..., None], workers: Workers) -> None:
    """See `_distances.distance_sums`."""
    ordered, frame = rows.take(cells.order), Frame(np.zeros(rows.shape[1]), 1.0, np.float64)
    height = max(16, min(_TILE, _TILE_ELEMENTS // rows.shape[1]))
    bounds = parts(ordered)
    places = np.repeat(cells.columns, np.diff(cells.edges), axis=0)

    def tile(start: int, stop: int) -> None:
        x, sums = dense(ordered[start:stop, :]), np.zeros((cells.n_columns, stop - start))
        for a, b in bounds:
            distances = np.sqrt(squared_to_all(ordered[a:b, :], frame, x))
            for column in places[a:b].T:
                member = csr_scipy.one_hot(column, cells.n_columns)
                sums += member @ distances
        done(start, sums)

    n = rows.shape[0]
    _each([(a, min(a + height, n)) for a in range(0, n, height)], tile, workers)


def _each(ranges: list[tuple[int, int]], work: Callable[[int, int], Any], workers: Workers) -> list[Any]:
    """Call work(a, b) for every range, in all threads; results in the order of the ranges."""

    def one(bounds: tuple[int, int], space: Workspace) -> Any:
        with np.errstate(all="ignore"):  # what overflows is decided again; a thread has its own state
            return work(*bounds)

    return workers.run(one, ranges)
