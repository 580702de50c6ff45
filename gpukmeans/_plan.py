"""What lives as long as a fit: the grid of rows, the frame, the chosen kernels, the threads.

`_prepare.prepare` makes a `Plan` once; the loops then ask it for passes over the rows. Floating-point sums
depend on their order, so the order is fixed here, once for all: rows are cut into *tiles*, tiles
into *lanes*, both from (n, d, k, dtype, device kind) alone. A tile is summed by one call, a lane
adds its tiles in order, lanes are added in order. Threads, blocks and memory limits only change
who computes which tile when, and never a bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import numpy as np
from sklearn import get_config

from ._device import Device, is_single, placement, result_dtype, scope, to_device, to_host
from ._distances import Operations, Seeding, operations
from ._frame import Ahead, Frame, Lanes, Request, Searched, make_targets
from ._pruning import Pruning
from ._rows import SparseRows, UnitRows, directions, take
from ._sums import Grid, Moments, Partial, Step, make_grid, moments_from, plus, side_by_side, total
from ._threads import Workers, Workspace, n_threads, one_blas_thread

_BUFFER_BYTES = 16 << 20  # scratch memory of all threads together
_SMALL_BLOCK = 64  # rows whose distances a device must have memory for
_SEEDING_TILE = 256  # rows that k-means++ adds up, and reads again to draw one of them
_SEEDING_TILES = 1 << 14  # more of them make larger tiles, so that the sums of all tiles stay small
_ONE_THREAD = 200_000  # n * d * k below which a second thread costs more than it brings
_IN_ONE_CALL = 3_000_000  # n * d * k up to which Lloyd's loop is one call, in one thread


def buffer_bytes() -> int:
    """Scratch memory for all threads: 16 MB, or less if scikit-learn's `working_memory` is less."""
    return int(min(_BUFFER_BYTES, get_config()["working_memory"] * 2**20))


class Plan:
    """Passes over one set of rows. Use as a context: at its end threads are joined, or left to the next fit.

    Parameters
    ----------
    rows : array of shape (n, d) on the device, any real dtype; never written to
    weights : array of shape (n,) float64 on the device, or None for ones
    n_clusters : int
    frame : Frame
    device : Device
    operations : Operations
        Those for the rows.
    """

    def __init__(
        self, rows: Any, weights: Any, n_clusters: int, frame: Frame, device: Device, operations: Operations
    ) -> None:
        self.rows, self.weights, self.n_clusters = rows, weights, n_clusters
        self.frame, self.device, self.xp = frame, device, device.xp
        self.operations = operations
        work = rows.shape[0] * self._width * n_clusters
        threads = n_threads() if device.kind == "cpu" and work > _ONE_THREAD else 1
        self._workers = Workers(threads)
        self._prunes = device.kind == "cpu" and bool(operations.search_pass) and not isinstance(rows, SparseRows)
        self._forget()
        self._capacity = max(16, (1 << 21) // (n_clusters * rows.shape[1]))
        self._longest: list[float] | None = None  # a bound on the norms of the rows of each tile
        self._held = ExitStack()
        self._one_blas_thread = False

    @cached_property
    def pruning(self) -> Pruning | None:
        """What is kept of the rows from pass to pass, where a kernel runs these."""
        if not self._prunes:
            return None
        boxing = self.operations.boxing and self.operations.boxing(self._workers)
        kernels = self._search_pass, self.operations.drifting, boxing
        n, d = self.rows.shape
        return Pruning(n, d, self.n_clusters, *kernels, self._hold_blas)

    @cached_property
    def grid(self) -> Grid:
        """The lanes of the array bodies' passes and of k-means++."""
        return make_grid(self.rows.shape[0], self._width, self.n_clusters, self.device.kind)

    @property
    def _width(self) -> int:
        """Numbers of a row that a pass reads."""
        return self.rows.width if isinstance(self.rows, SparseRows) else self.rows.shape[1]

    @cached_property
    def _block(self) -> int:
        """Rows whose distances are held at once: as many as the scratch memory of a thread takes."""
        k, size = self.n_clusters, 4 if is_single(self.frame.dtype) else 8
        each = k * (size + 3) + 2 * self.rows.shape[1] * size
        if self.device.kind == "cpu":
            # Large blocks: each NumPy call hands the interpreter lock over, which costs more than cache misses.
            most = max(16, min(buffer_bytes() // self._workers.threads, 6 << 20) // each)
            return -(-self.grid.tile // -(-self.grid.tile // most))  # equal parts of a tile
        return self.grid.tile

    def __enter__(self) -> Plan:
        try:
            self._held.enter_context(scope(self.device))
            self._held.callback(self._workers.close)
            if self.operations.search_pass is None:
                self._hold_blas()
        except BaseException:  # Ctrl-C between two of them: the context was not entered
            self._held.close()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._one_blas_thread = False
        self._held.__exit__(*error)

    def _hold_blas(self) -> None:
        """Hold BLAS at one thread until the end: the plan's own threads need the cores, also from its idle ones."""
        if self.device.kind == "cpu" and not self._one_blas_thread:
            self._held.enter_context(one_blas_thread())
            self._one_blas_thread = True

    def _forget(self) -> None:
        self._labels: Any = None
        self._lanes: Any = None
        if "pruning" in self.__dict__ and self.pruning:  # made when it is needed: a fit in one call needs none
            self.pruning.forget()
        self._age, self._moved = 0, 0
        self._drawn: tuple[Any, np.ndarray] | None = None

    def start(self) -> None:
        """Forget the labels of an earlier run."""
        self._forget()
        if not self._prunes:  # else the first pass makes them
            self._labels = self._no_labels()

    def _no_labels(self) -> Any:
        return self.xp.full(self.rows.shape[:1], -1, dtype=self.xp.int32, **placement(self.frame.shift))

    @property
    def labels(self) -> Any:
        """Of the pass before, (n,) int32; -1 before the first."""
        if self._labels is None:
            self._labels = self._no_labels()
        return self._labels

    def part(self, indices: np.ndarray, weights: np.ndarray | None) -> Plan:
        """A plan of some of the rows, in the same frame.

        Parameters
        ----------
        indices : array of shape (m,), integers, on the host
        weights : array of shape (m,) float64, on the host, or None for ones
        """
        rows = take(self.rows, to_device(indices, self.device))
        weights = None if weights is None else to_device(weights, self.device)
        return Plan(rows, weights, self.n_clusters, self.frame, self.device, operations(rows))

    def draw(self, rows: Any, which: np.ndarray) -> None:
        """Take other rows instead for `gather`: as many of these as the plan has, of the same kind.

        Parameters
        ----------
        rows : array of shape (n, d), on the device
        which : array of shape (m,), integers, on the host
        """
        if self.operations.draw_pass:  # the pass fetches them, in all threads
            self._drawn = rows, which
        else:
            self.rows = take(rows, to_device(which, self.device))

    def keep(self, step: Step, changed: int) -> None:
        """Make a step's labels the plan's; the next step may add up only the rows that move from them."""
        first = self._lanes is None and not step.done  # where all labels are new; that tells nothing of the next
        self._labels, self._lanes, self._moved = step.labels, step.lanes, 0 if first else changed
        self._age = 0 if step.exact else self._age + 1

    @property
    def result_dtype(self) -> type:
        """The dtype of published centres."""
        return result_dtype(self.rows.rows if isinstance(self.rows, UnitRows) else self.rows)

    def place(self, centers: Any, otherwise: Any = None) -> Any:
        """Centres where they have to be: anywhere, or for cosines on the unit sphere.

        Parameters
        ----------
        centers : array of shape (k, d), float64
        otherwise : array of shape (k, d), float64, optional
            What stands for centres without a direction; themselves when None.
        """
        if not self.frame.spherical:
            return centers
        return directions(centers, centers if otherwise is None else otherwise)

    # --- passes -------------------------------------------------------------------------------

    def step(self, centers: Any, most: int = 1, tol: float = 0.0) -> Step:
        """Find each row's nearest centre and add up the clusters.

        Where few rows moved in the step before, only the rows that move now are added to and taken
        from their clusters; where such sums lose digits, all rows again every sixteenth time.

        Of up to `most` iterations, kernels may do all but the last on their way, while nothing has to be decided but
        whether the centres move by more than `tol`.
        """
        few = self._lanes is not None and self._moved < self.rows.shape[0] // 4 and self._age < 15
        exact = self.operations.accumulate_moves is None or not few
        if self.operations.search_pass:
            return self._step_in_one(centers, "begin" if exact else "moves", Ahead(most, tol))
        return self._search(centers, self._add_up if exact else self._add_moves)._replace(exact=exact)

    def move_centers(self, step: Step, centers: Any) -> tuple[Any, Any]:
        """The centres that a step leads to, and what the host must know of it, where a kernel does that."""
        return self.operations.move_centers(step, centers, self.frame, self._workers)

    def gather(self, centers: Any) -> tuple[Lanes, Any]:
        """Sums of the clusters that the rows form around given centres, by lanes, and the inertia (on the device)."""
        if self.operations.search_pass:
            found = self._pass(centers, "all", inertia=True)
            self._lanes = found.lanes  # memory for the next batch
            return found.lanes, found.inertia
        while True:
            step = self._search(centers, self._add_up)
            if not self._has_to_repeat(step):
                return Lanes(*(sums[None, ...] for sums in step.partial)), self._inertia(step.labels, centers)

    def loop(self, centers: Any, max_iter: int, tol: float) -> tuple[Any, int, float | None]:
        """Begin Lloyd's algorithm: in one call, as far as that goes, if the problem is small.

        Returns
        -------
        centers : (k, d) float64
        done : int
            Iterations.
        inertia : float or None
            If the algorithm has ended: then the centres are rounded to the dtype of the results, and the
            plan's labels are for these. Otherwise the next iteration has to be done by `step`.
        """
        if self.operations.loop is None or self.rows.shape[0] * centers.size > _IN_ONE_CALL:
            return centers, 0, None
        centers, labels = centers.copy(), np.empty(self.rows.shape[0], np.int32)
        done, inertia = self.operations.loop(self.rows, self.weights, self.frame, centers, labels, max_iter, tol)
        if done:
            self._labels = labels
        return centers, done, inertia

    def add_up(self, labels: Any) -> Partial:
        """Sums of the clusters of any labels, from all rows; compiled kernels take the memory of the step before."""
        if self.operations.add_pass:
            where = labels, self.frame, self.n_clusters
            return side_by_side(self.operations.add_pass(self.rows, self.weights, *where, self._workers))

        def lane(number: int, space: Workspace) -> Partial | None:
            part: Partial | None = None
            for a, b in self.grid.lanes[number]:
                part = plus(part, self._add_up(a, b, labels[a:b], space))
            return part

        return total(self._sweep(lane))

    def assign(self, centers: Any) -> Any:
        """Label every row with its nearest centre; (n,) int32, certified."""
        if self.operations.search_pass:
            self._pass(centers, "nothing", inertia=False)
            return self.labels
        while True:
            found = self._search(centers, None)
            if not self._has_to_repeat(found):
                return found.labels

    def judge(self, centers: Any) -> tuple[Any, float]:
        """Labels as `assign` gives them, and their inertia."""
        if self.operations.search_pass:
            found = self._pass(centers, "nothing", inertia=True)
            return self.labels, float(found.inertia)
        labels = self.assign(centers)
        return labels, self.inertia(labels, centers)

    def repeat(self, undecided: int, doubtful: int) -> bool:
        """Learn from a pass; whether it has to be done again with all doubtful rows decided."""
        if doubtful > self.rows.shape[0] // 4:
            self.frame = self.frame.precise()  # cheaper than deciding that many rows twice
        if undecided:
            self._capacity = self._block
        return undecided > 0

    def _has_to_repeat(self, step: Step) -> bool:
        """The same, from what a pass has counted on the device."""
        undecided, doubtful = to_host(self.xp.stack([step.undecided, step.doubtful]))
        return self.repeat(int(undecided), int(doubtful))

    def moments(self) -> Moments:
        """Mean, variance and range of the features, in one pass."""
        if self.operations.moments_pass:
            return self.operations.moments_pass(self.rows, self.frame, self._workers)
        xp = self.xp

        def lane(number: int, space: Workspace) -> list:
            tiles = self.grid.lanes[number]
            return [self.operations.moments(self.rows[a:b, :], self.frame, space) for a, b in tiles]

        lanes = self._sweep(lane)
        firsts, seconds, longest = zip(*(tile for tiles in lanes for tile in tiles), strict=True)
        if self.device.kind == "cpu":  # 1e-12: they are compared with norms that were rounded otherwise
            self._longest = [float(norm) * (1 + 1e-12) for norm in longest]
        n, peak = self.rows.shape[0], float(xp.max(xp.stack(longest)))
        return moments_from(n, self.frame.shift, to_host(sum(firsts)), to_host(sum(seconds)), peak)

    def squared_to_own(self, labels: Any, centers: Any) -> Any:
        """Squared distance of each row to its own centre, (n,) float64."""
        out = self.xp.empty(labels.shape, dtype=self.xp.float64, **placement(labels))
        if self.operations.own_pass:
            self.operations.own_pass(self.rows, self.weights, labels, centers, out, self._workers)
            return out

        def lane(number: int, space: Workspace) -> None:
            for a, b in self.grid.lanes[number]:
                out[a:b] = self.operations.squared_to_own(self.rows[a:b, :], labels[a:b], centers, space)

        self._sweep(lane)
        return out

    def inertia(self, labels: Any, centers: Any) -> float:
        """Weighted sum of squared distances to the own centres, in original units."""
        return float(self._inertia(labels, centers))

    def _inertia(self, labels: Any, centers: Any) -> Any:
        """The same, on the device."""
        if self.operations.own_pass:
            return self.operations.own_pass(self.rows, self.weights, labels, centers, None, self._workers)

        def lane(number: int, space: Workspace) -> Any:
            mass = 0.0
            for a, b in self.grid.lanes[number]:
                own = self.operations.squared_to_own(self.rows[a:b, :], labels[a:b], centers, space)
                mass = mass + self._mass(own, a, b)
            return mass

        return sum(self._sweep(lane))

    def nearest_other(self, labels: Any, centers: Any) -> Any:
        """Distance from each row to the nearest centre that is not its own, (n,) float64."""
        xp = self.xp
        clusters = xp.arange(centers.shape[0], dtype=labels.dtype, **placement(labels))
        out = xp.empty(labels.shape, dtype=xp.float64, **placement(labels))

        def lane(number: int, space: Workspace) -> None:
            for a, b in self.grid.lanes[number]:
                squared = self.operations.squared_to_all(self.rows[a:b, :], self.frame, centers)
                others = xp.where(labels[a:b, None] == clusters[None, :], xp.inf, squared)
                out[a:b] = xp.sqrt(xp.min(others, axis=1)) / self.frame.scale

        self._sweep(lane)
        return out

    def distances(self, centers: Any, dtype: Any) -> Any:
        """Distances from each row to each centre, (n, k), for `transform`."""
        shape = (self.rows.shape[0], centers.shape[0])
        out = self.xp.empty(shape, dtype=dtype, **placement(self.frame.shift))

        def lane(number: int, space: Workspace) -> None:
            for a, b in self.grid.lanes[number]:
                squared = self.operations.squared_to_all(self.rows[a:b, :], self.frame, centers)
                out[a:b, :] = self.xp.astype(self.xp.sqrt(squared) / self.frame.scale, dtype)

        self._sweep(lane)
        return out

    def seeding(self) -> Any:
        """The passes of one k-means++, see `_distances.Seeding`."""
        n = self.rows.shape[0]
        tile = min(self.grid.tile, max(_SEEDING_TILE, 1 << (n // _SEEDING_TILES).bit_length()))
        if self.operations.seeding is Seeding:
            self._hold_blas()
        passes, lanes = self.n_clusters, self.grid.lanes
        return self.operations.seeding(self.rows, self.weights, self.frame, passes, tile, lanes, self._workers)

    # --- how a pass runs ----------------------------------------------------------------------

    def _sweep(self, lane: Callable[[int, Workspace], Any]) -> list[Any]:
        """Run `lane` over the numbers of the lanes; results in their order."""
        self._hold_blas()

        def quietly(number: int, space: Workspace) -> Any:
            with np.errstate(all="ignore"):  # what overflows is decided again; a thread has its own state
                return lane(number, space)

        return self._workers.run(quietly, range(len(self.grid.lanes)))

    def _step_in_one(self, centers: Any, add: str, ahead: Ahead) -> Step:
        """A step by a kernel that runs the whole pass."""
        if self.pruning:
            self.pruning.keep_bounds()
        found = self._pass(centers, add, inertia=False, ahead=ahead)
        partial = None if self.operations.move_centers else side_by_side(found.lanes)
        exact = add == "begin" or found.lanes.rests is not None
        facts = found.changed, found.doubtful, 0
        return Step(partial, found.lanes, exact, self.labels, *facts, found.done, found.centers)

    def _pass(self, centers: Any, add: str, inertia: bool, ahead: Ahead | None = None) -> Searched:
        labelled = self._labels is not None or not self._prunes
        if not labelled:
            self._labels = np.empty(self.rows.shape[0], np.int32)
        request = Request(self.rows, self.weights, self.frame, centers, self.labels, add, self._lanes, None, inertia)
        request = request._replace(labelled=labelled)
        if self._drawn:
            found = self.operations.draw_pass(request, *self._drawn, self._workers)
            self._drawn = None
            return found
        return self.pruning.search(request._replace(ahead=ahead)) if self.pruning else self._search_pass(request)

    def _search_pass(self, request: Request) -> Searched:
        return self.operations.search_pass(request, self._workers)

    def _search(self, centers: Any, add_up: Callable[..., Partial] | None) -> Step:
        """One pass in blocks; in halves of them where a device has no memory for their distances."""
        while True:
            try:
                return self._search_in_blocks(centers, add_up)
            except MemoryError:
                if self.device.kind != "cuda" or self._block <= _SMALL_BLOCK:
                    raise
                self._block = max(_SMALL_BLOCK, self._block // 2)

    def _search_in_blocks(self, centers: Any, add_up: Callable[..., Partial] | None) -> Step:
        """One pass: label every row and, with `add_up`, add up the clusters."""
        targets = make_targets(centers, self.frame)
        labels = self.xp.empty(self.labels.shape, dtype=self.xp.int32, **placement(self.labels))

        def lane(number: int, space: Workspace) -> tuple:
            part: Partial | None = None
            changed, doubtful, undecided = 0, 0, 0
            for start, stop in self.grid.lanes[number]:
                longest = self._longest and self._longest[start // self.grid.tile] * self.frame.scale
                for a in range(start, stop, self._block):
                    b = min(a + self._block, stop)
                    found = self.operations.nearest(
                        self.rows[a:b, :], self.frame, targets, self._capacity, longest, space
                    )
                    labels[a:b] = found.labels
                    doubtful = doubtful + found.doubtful
                    undecided = undecided + found.undecided
                moved = labels[start:stop] != self.labels[start:stop]
                changed = changed + self.xp.count_nonzero(moved)
                if add_up is not None:
                    part = plus(part, add_up(start, stop, labels[start:stop], space))
            if part is not None and add_up == self._add_moves:
                part = plus(self._lanes[number], part)
            return part, changed, doubtful, undecided

        lanes, *counts = zip(*self._sweep(lane), strict=True)
        whole = total(lanes) if add_up is not None else None
        return Step(whole, lanes, True, labels, *(sum(count) for count in counts))

    def _add_up(self, start: int, stop: int, labels: Any, space: Workspace) -> Partial:
        rows, weights = self._rows_and_weights(start, stop)
        accumulate = self.operations.accumulate
        return Partial(*accumulate(rows, weights, labels, self.frame, self.n_clusters, space))

    def _add_moves(self, start: int, stop: int, labels: Any, space: Workspace) -> Partial:
        rows, weights = self._rows_and_weights(start, stop)
        before, accumulate = self.labels[start:stop], self.operations.accumulate_moves
        return Partial(*accumulate(rows, weights, labels, before, self.frame, self.n_clusters, space))

    def _rows_and_weights(self, start: int, stop: int) -> tuple[Any, Any]:
        return self.rows[start:stop, :], None if self.weights is None else self.weights[start:stop]

    def _mass(self, values: Any, start: int, stop: int) -> Any:
        """Weighted sum along the last axis, which holds the rows start to stop."""
        if self.weights is not None:
            values = values * self.weights[start:stop]
        return self.xp.sum(values, axis=-1)
