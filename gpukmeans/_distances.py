"""The distance primitives over blocks of rows, in array-API-standard terms.

These bodies are the specification: they run on NumPy, CuPy and any other namespace of the standard,
read nothing back to the host, and have fixed shapes. `operations(array)` puts a faster kernel in
place of a body where there is one.

Shapes: m rows of a block, n rows in all, k centres, d features, t candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ._device import home_of, namespace, placement, to_device, to_host
from ._frame import Frame, Nearest, Targets, doubt_limit, first_lowest, local, nearest_directly
from ._frame import reference as reference
from ._kernels import OPERATIONS, choice, find
from ._rows import SparseRows, dense, take
from ._threads import Workers, Workspace

_TILE = 512  # rows whose distances to all others are looked at from one point
_BLOCK = 512  # rows they are compared with at once (2 MB of distances)


class Operations(NamedTuple):
    """The functions a plan works with: kernels where there are any, bodies elsewhere."""

    reference: Callable[..., np.ndarray]
    moments: Callable[..., tuple[Any, Any, Any]]
    nearest: Callable[..., Nearest]
    accumulate: Callable[..., tuple[Any, Any, Any]]
    accumulate_moves: Any  # a kernel or None: always add up all rows
    squared_to_own: Callable[..., Any]
    squared_to_all: Callable[..., Any]
    lower_to: Callable[..., Any]
    seeding: Callable[..., Any]
    cluster_distance_sums: Callable[..., Any]
    distance_sums: Callable[..., None]
    search_pass: Any  # kernels that run a whole pass, or None: the plan composes it from the above
    draw_pass: Any
    add_pass: Any
    moments_pass: Any
    own_pass: Any
    drifting: Any  # a kernel that keeps what centres have moved for bounds, where there is a search pass, or None
    boxing: Any  # kernels for boxes of rows, or None
    move_centers: Any  # a kernel that takes a step on to new centres, or None: `_lloyd` does it
    learn: Any  # a kernel that moves centres with a batch, or None: `_batches` does it
    loop: Any  # a kernel that runs Lloyd's whole loop on a small problem, or None


def operations(array: Any) -> Operations:
    """The kernels for this kind of array, and the bodies where there is none."""
    if isinstance(array, np.ndarray):
        chosen = _numpy_operations(array.dtype, choice())
        if array.flags.c_contiguous and array.flags.aligned:
            return chosen
        return chosen._replace(seeding=find("seeding", array) or Seeding)  # which the layout decides as well
    return _look_up(array)


@cache
def _numpy_operations(dtype: np.dtype, _choice: str) -> Operations:
    return _look_up(np.empty(0, dtype))


def _look_up(array: Any) -> Operations:
    chosen: dict[str, Any] = {op: find(op, array) or globals().get(op) for op in OPERATIONS}
    return Operations(**chosen)


def moments(rows: Any, frame: Frame, space: Any = None) -> tuple[Any, Any, Any]:
    """Sum (d,), sum of squares (d,) and largest norm of rows about the shift, in float64."""
    xp = namespace(rows)
    x = xp.astype(rows, xp.float64) - frame.shift
    return xp.sum(x, axis=0), xp.sum(x * x, axis=0), xp.sqrt(xp.max(xp.sum(x * x, axis=1)))


def nearest(
    rows: Any, frame: Frame, targets: Targets, capacity: int, longest: Any = None, space: Any = None
) -> Nearest:
    """Index of the centre nearest to each row, the lowest index on exact ties.

    Fast distances decide most rows. Rows where a second centre lies within the error bound are
    decided again by float64 differences, up to `capacity` of them: a fixed number, so that no shape
    depends on the data and nothing is read back.

    Parameters
    ----------
    rows : array of shape (m, d), any real dtype
    frame : Frame
    targets : Targets
    capacity : int
        How many doubtful rows can be decided again; m decides all.
    longest : float, optional
        A bound on the norms of the rows in the frame, for kernels; this body takes every row's own.
    space : Workspace, optional
        Scratch memory for kernels; this body does not use it.
    """
    xp = namespace(rows)
    capacity = min(capacity, rows.shape[0])
    x = local(rows, frame)
    fast = x @ xp.matrix_transpose(targets.augmented[:, :-1]) + targets.augmented[None, :, -1]
    best = xp.min(fast, axis=1)
    close = fast <= doubt_limit(best, xp.sum(x * x, axis=1), targets)[:, None]
    doubtful = xp.sum(xp.astype(close, xp.int32), axis=1) != 1
    rank = xp.cumulative_sum(xp.astype(doubtful, xp.int64))  # 1 for the first doubtful row, ...
    wanted = xp.arange(1, capacity + 1, dtype=xp.int64, **placement(rows))
    which = xp.minimum(xp.searchsorted(rank, wanted), wanted * 0 + (rows.shape[0] - 1))
    decided = nearest_directly(xp.take(rows, which, axis=0), targets.centers, frame.spherical)
    slot = xp.clip(rank - 1, 0, capacity - 1)
    labels = xp.where(
        doubtful & (rank <= capacity),
        xp.take(decided, slot),
        xp.astype(xp.argmax(xp.astype(close, xp.int8), axis=1), xp.int32),
    )
    return Nearest(labels, rank[-1], xp.clip(rank[-1] - capacity, 0, None))


def accumulate(
    rows: Any, weights: Any, labels: Any, frame: Frame, n_clusters: int, space: Any = None
) -> tuple[Any, Any, Any]:
    """Sums over the rows of each cluster.

    Parameters
    ----------
    rows : array of shape (m, d)
    weights : array of shape (m,) float64, or None for ones
    labels : array of shape (m,) int32

    Returns
    -------
    sums : (k, d) float64, of w (x - shift)
    weights : (k,) float64
    counts : (k,) int64, rows of positive weight
    """
    xp = namespace(rows)
    x = xp.astype(rows, xp.float64) - frame.shift
    clusters = xp.arange(n_clusters, dtype=xp.int32, **placement(rows))
    member = labels[:, None] == clusters[None, :]
    one_hot = xp.astype(member, xp.float64)
    if weights is not None:
        one_hot = one_hot * weights[:, None]
        member = member & (weights > 0)[:, None]
    counts = xp.sum(xp.astype(member, xp.int64), axis=0)
    return xp.matrix_transpose(one_hot) @ x, xp.sum(one_hot, axis=0), counts


def squared_to_own(rows: Any, labels: Any, centers: Any, space: Any = None) -> Any:
    """Squared distance of each row to its own centre by float64 differences, shape (m,)."""
    xp = namespace(rows)
    difference = xp.astype(rows, xp.float64) - xp.take(centers, labels, axis=0)
    return xp.sum(difference * difference, axis=1)


def squared_distances(x: Any, y: Any) -> Any:
    """Squared distances between float64 rows x (m, d) and y (q, d) near the origin, shape (m, q).

    What lies within rounding of zero is zero, so that a row and its copies are at no distance.
    """
    xp = namespace(x)
    size = xp.sum(x * x, axis=1)[:, None] + xp.sum(y * y, axis=1)[None, :]
    squared = size - 2.0 * (x @ xp.matrix_transpose(y))
    noise = 2.0**-53 * (2 * x.shape[1] + 8)
    return xp.where(squared <= noise * size, 0.0, squared)


def squared_to_all(rows: Any, frame: Frame, points: Any) -> Any:
    """Squared distances of rows to points (q, d) in the frame's scale, (m, q) float64; see `squared_distances`."""
    precise = frame.precise()
    return squared_distances(local(rows, precise), local(points, precise))


def lower_to(rows: Any, closest: Any, frame: Frame, candidates: Any, space: Any = None) -> Any:
    """For each candidate, the squared distances of the rows to the nearest centre if it joined.

    Each row is read once for all candidates (k-means++).

    Parameters
    ----------
    rows : array of shape (m, d)
    closest : array of shape (m,) float64
        Squared distance to the nearest centre chosen so far, in the frame's scale.
    frame : Frame
    candidates : array of shape (t, d), rows of the data

    Returns
    -------
    lowered : (t, m) float64
    """
    xp = namespace(rows)
    squared = squared_distances(local(candidates, frame.precise()), local(rows, frame.precise()))
    return xp.minimum(squared, closest[None, :])


class Seeding:
    """The passes of one k-means++: how near each row is to the centres chosen so far.

    A pass lowers the distances to the centre chosen last while it evaluates the next candidates, so
    that the rows are read once a centre.

    Parameters
    ----------
    rows : array of shape (n, d)
    weights : array of shape (n,) float64, or None for ones
    frame : Frame
    n_clusters : int
        How many passes to expect, for kernels that prepare something.
    tile : int
        Rows that are added up together; it divides the lengths of all blocks but the last.
    lanes : list of lists of (start, stop)
        Blocks of rows, in order.
    workers : Workers
    """

    def __init__(self, rows: Any, weights: Any, frame: Frame, n_clusters: int, tile: int, lanes: Any, workers: Any):
        xp = namespace(frame.shift)
        self.tile, self.n_samples = tile, rows.shape[0]
        self._rows, self._weights, self._frame, self._lanes, self._workers = rows, weights, frame, lanes, workers
        self._closest = xp.full(rows.shape[:1], xp.inf, dtype=xp.float64, **placement(frame.shift))
        self._lower_to = find("lower_to", rows) or lower_to
        self._squared_to_all = find("squared_to_all", rows) or squared_to_all

    def lower(self, winner: Any, candidates: Any) -> Any:
        """Potentials of the rows for each candidate, tile by tile, (n_tiles, t) float64.

        Parameters
        ----------
        winner : array of shape (1,) int64, the row chosen last; None before the first
        candidates : array of shape (t,) int64, rows
        """
        xp, settle = namespace(candidates), winner is not None
        points = dense(take(self._rows, xp.concat([winner, candidates]) if settle else candidates))

        def lane(number: int, space: Any) -> list:
            return [self._block(a, b, points, settle, space) for a, b in self._lanes[number]]

        lanes = self._workers.run(lane, range(len(self._lanes)))
        return xp.concat([potentials for blocks in lanes for potentials in blocks])

    def _block(self, start: int, stop: int, points: Any, settle: bool, space: Any) -> Any:
        """Potentials of the tiles of a block; the first point is final with `settle`."""
        xp, closest = namespace(points), self._closest[start:stop]
        with np.errstate(all="ignore"):  # a thread has its own state
            lowered = self._lower_to(self._rows[start:stop, :], closest, self._frame, points, space)
        if settle:
            closest[:] = lowered[0, :]
            lowered = xp.minimum(lowered[1:, :], closest[None, :])
        if self._weights is not None:
            lowered = lowered * self._weights[start:stop]
        whole = (stop - start) // self.tile * self.tile
        sums = [xp.sum(xp.reshape(lowered[:, :whole], (lowered.shape[0], -1, self.tile)), axis=2)] if whole else []
        if whole < stop - start:
            sums.append(xp.sum(lowered[:, whole:], axis=1)[:, None])
        return xp.matrix_transpose(xp.concat(sums, axis=1))

    def pick(self, candidates: Any, potentials: Any) -> tuple[Any, Any]:
        """The candidate of lowest potential, (1,) int64, and its column of potentials, (n_tiles,).

        Parameters
        ----------
        candidates : array of shape (t,) int64
        potentials : array of shape (n_tiles, t) float64, from `lower`
        """
        xp = namespace(potentials)
        best = first_lowest(xp.sum(potentials, axis=0))
        return xp.take(candidates, best), xp.take(potentials, best, axis=1)[:, 0]

    def draw(self, winner: Any, masses: Any, uniforms: Any) -> Any:
        """Rows drawn with probability proportional to weight times squared distance, (t,) int64.

        The cumulated masses of the tiles find the tile, those of its rows the row: no array of n
        cumulated masses is made.

        Parameters
        ----------
        winner : array of shape (1,) int64, the row chosen last
        masses : array of shape (n_tiles,) float64
            The potentials that `lower` gave for that row.
        uniforms : array of shape (t,) float64
        """
        xp = namespace(masses)
        cumulative = xp.cumulative_sum(masses, include_initial=True)
        wanted = uniforms * cumulative[-1]
        tile = xp.sum(xp.astype(cumulative[None, 1:] < wanted[:, None], xp.int64), axis=1)
        tile = xp.clip(tile, 0, masses.shape[0] - 1)
        within = wanted - xp.take(cumulative, tile)
        passed = xp.cumulative_sum(self.masses(tile, winner), axis=1) < within[:, None]
        position = xp.clip(xp.sum(xp.astype(passed, xp.int64), axis=1), 0, self.tile - 1)
        return xp.clip(tile * self.tile + position, 0, self.n_samples - 1)

    def masses(self, tiles: Any, winner: Any) -> Any:
        """Weight times squared distance of the rows of some tiles, (q, tile); zero beyond the last row.

        Parameters
        ----------
        tiles : array of shape (q,) int64
        winner : array of shape (1,) int64, the row chosen last
        """
        xp = namespace(tiles)
        rows_of_tile = xp.arange(self.tile, dtype=xp.int64, **placement(tiles))
        index = xp.reshape(tiles[:, None] * self.tile + rows_of_tile[None, :], (-1,))
        inside = index < self.n_samples
        index = xp.clip(index, 0, self.n_samples - 1)
        rows, centre = take(self._rows, index)[:, :], dense(take(self._rows, winner))
        mass = xp.minimum(self._squared_to_all(rows, self._frame, centre)[:, 0], xp.take(self._closest, index))
        if self._weights is not None:
            mass = mass * xp.take(self._weights, index)
        return xp.reshape(xp.where(inside, mass, 0.0), (-1, self.tile))


seeding = Seeding  # the operation


def cluster_distance_sums(x: Any, y: Any, one_hot: Any, space: Any = None) -> Any:
    """Sums of the distances from each row of x to the members of each cluster among the rows of y.

    Parameters
    ----------
    x : array of shape (m, d), float64, near the origin
    y : array of shape (q, d), float64, in the same coordinates
    one_hot : array of shape (q, k), float64
        Membership of the rows of y; several labelings may stand side by side.

    Returns
    -------
    sums : (m, k) float64
    """
    xp = namespace(x)
    return xp.sqrt(squared_distances(x, y)) @ one_hot


class Cells(NamedTuple):
    """Rows in an order in which those with the same clusters in every labeling lie side by side.

    A row's *place* is its number in that order, a *cell* a run of places with the same clusters. The
    clusters of all labelings have one column of sums each.
    """

    order: np.ndarray  # (n,) int64, on the host: the row at each place
    edges: np.ndarray  # (cells + 1,) int64: first place of each cell, and n
    columns: np.ndarray  # (cells, labelings) int64: the columns of the clusters that a cell lies in
    n_columns: int


def distance_sums(rows: Any, cells: Cells, done: Callable[[int, np.ndarray], None], workers: Workers) -> None:
    """Sums of the distances from every row to the members of every cluster.

    Parameters
    ----------
    rows : array of shape (n, d), any real dtype
    cells : Cells
    done : callable
        Called with the first place of a tile, and the sums of its rows as a host array of shape
        (n_columns, m) float64, to be used before it returns. Several threads may call it at once.
    workers : Workers
    """
    place = home_of(rows.data if isinstance(rows, SparseRows) else rows)
    xp = place.xp
    ordered = take(rows, to_device(cells.order, place))
    clusters = to_device(np.repeat(cells.columns, np.diff(cells.edges), axis=0), place)
    columns = xp.arange(cells.n_columns, dtype=clusters.dtype, **placement(clusters))
    op = operations(rows).cluster_distance_sums

    def tile(bounds: tuple[int, int], space: Workspace) -> None:
        x = xp.astype(ordered[bounds[0] : bounds[1], :], xp.float64)
        origin = xp.mean(x, axis=0)
        total = 0.0
        for a in range(0, ordered.shape[0], _BLOCK):
            b = min(a + _BLOCK, ordered.shape[0])
            y = xp.astype(ordered[a:b, :], xp.float64) - origin
            member = xp.any(clusters[a:b, :, None] == columns[None, None, :], axis=1)
            total = total + op(x - origin, y, xp.astype(member, xp.float64), space)
        done(bounds[0], to_host(total).T)

    workers.run(tile, list(_tiles(cells)))


def _tiles(cells: Cells) -> Iterator[tuple[int, int]]:
    """Bounds of tiles of places; no tile holds rows of two clusters of the first labeling.

    So distances inside a cluster keep their digits however far it lies from the others.
    """
    starts = np.flatnonzero(np.diff(cells.columns[:, 0], prepend=-1))
    for start, stop in pairwise([*cells.edges[starts].tolist(), cells.order.size]):
        for a in range(start, stop, _TILE):
            yield a, min(a + _TILE, stop)
