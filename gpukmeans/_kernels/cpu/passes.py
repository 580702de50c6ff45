"""Passes over the rows by the compiled kernels: one call a thread, whole lanes, nothing handed back between.

What a pass adds up, it adds in the order of the rows inside a lane; the lanes lie in the rows' order
and depend on the shape of the problem alone. So no number of threads changes a bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..._frame import Frame, Lanes, Request, Searched, sample_step, trust
from ..._sums import Moments
from ..._threads import Workers
from . import native, taken_as_they_are

# About so many rows a lane at least, fewer where each costs more; but for the last one in whole tiles of any
# instruction set, or nearly: what is missing to a tile is computed all the same. And of rows that are added together,
# `added_rows` of the kernels: parts of converted rows are such, too.
_LANE_ROWS, _FEW_LANE_ROWS, _LANE_WORK, _WHOLE_ROWS = 1024, 256, 1 << 24, 64
_PART_ELEMENTS = 1 << 18  # of rows that are converted at once (2 MB)
_CALL = 4  # lanes a call, at most
_RESTS = 1 << 20  # rests of the sums of all lanes that are kept, at most (8 MB)
_MOVED_ALONE = 1 << 17  # numbers of all lanes from which on threads share moving the centres
_ADD = {"nothing": 0, "all": 1, "begin": 1, "moves": 2}


def lane_edges(rows: np.ndarray, n_clusters: int) -> np.ndarray:
    """First row of each lane, and n, read-only; at most 64 lanes, or 8 where 2 MB of sums are reached before."""
    return _edges(*rows.shape, n_clusters)


@lru_cache(maxsize=64)
def _edges(n: int, d: int, n_clusters: int) -> np.ndarray:
    wanted = max(8, min(64, (1 << 18) // (n_clusters * d)))
    least = max(_FEW_LANE_ROWS, min(_LANE_ROWS, _LANE_WORK // (n_clusters * d)))
    lanes = min(wanted, 1 << max(0, n // least - 1).bit_length())  # powers of two go round the threads evenly
    whole = -(-n // _WHOLE_ROWS)
    edges = np.minimum(np.arange(lanes + 1, dtype=np.int64) * whole // lanes * _WHOLE_ROWS, n)
    edges.flags.writeable = False
    return edges


def search_pass(request: Request, workers: Workers) -> Searched:
    """Label every row with its nearest centre and add up the clusters; labels are written in place."""
    return _search(request, None, workers)


def draw_pass(request: Request, source: np.ndarray, which: np.ndarray, workers: Workers) -> Searched:
    """The same for a batch: its rows are first fetched into `request.rows`, those of `source` numbered in `which`."""
    draw = None
    if taken_as_they_are(source):
        draw = native().Draw(source, which.astype(np.int64, copy=False), request.rows)
    else:
        np.take(source, which, axis=0, out=request.rows)
    return _search(request, draw, workers)


def _search(request: Request, draw: Any, workers: Workers) -> Searched:
    rows, centers, frame, tests = request.rows, request.centers, request.frame, request.tests
    k, d = centers.shape
    edges = lane_edges(rows, k)
    lanes = _lanes(request, edges.size - 1, workers)
    facts = np.zeros((edges.size - 1, 4), np.int64)
    inertia = np.zeros(edges.size - 1) if request.inertia else None
    fixed = {
        "draw": draw,
        "shift": frame.shift,
        "scale": frame.scale,
        "wide": bool(rows.dtype == np.float32 and frame.dtype == np.float64),
        "spherical": frame.spherical,
        "centers": centers,
        "trust": trust(frame.dtype, d),
        "directions": request.projection and native().Directions(*request.projection),
        "drift": tests and tests.drift,
        "spread": tests and tests.spread,
        "near": tests and tests.near,
        "far": tests and tests.far,
        "filter": bool(tests and tests.filter),
        "slack": tests.slack if tests and taken_as_they_are(rows) else None,
        "tightened": tests.tightened if tests else 0.0,
        "boxes": request.boxed and owning(request.boxed),
        "again": tests and tests.look and native().Again(*tests.look),
        "add": _ADD[request.add],
        "labelled": request.labelled,
    }
    by_row = {
        "weights": request.weights,
        "labels": request.labels,
        "upper": tests and tests.upper,
        "gap": tests and tests.gap,
        "numbers": request.boxed and request.boxed.numbers,
    }
    by_lane = {**_sums(lanes), "inertia": inertia, "facts": facts}
    done = 0
    if request.ahead and _can_go_on(rows, lanes):
        fixed["centers"] = centers = centers.copy()
        one_pass = native().SearchPass(rows=rows, edges=edges, **fixed, **by_row, **by_lane)
        crew, until = _helpers(workers, edges.size - 1), request.ahead._asdict()
        until["bounds"] = until["bounds"] and native().Ahead(*until["bounds"])
        done = one_pass.iterate(crew, centers, **until)
    else:
        run("SearchPass", rows, edges, fixed, by_row, by_lane, workers)
    changed, doubtful, searched, left = facts.sum(axis=0).tolist()
    total = 0.0 if inertia is None else _in_order(inertia)
    return Searched(lanes, changed, doubtful, searched, total, left, done, centers)


def owning(boxed: Any) -> Any:
    """The boxes of `_boxes.Boxed` as the kernels take them."""
    return native().Boxes(*boxed.grid, boxed.owners, boxed.open)


def drifting(drifts: Any) -> Any:
    """What keeps `_bounds.Drifts`."""
    return native().Drifting(*drifts)


def _can_go_on(rows: np.ndarray, lanes: Lanes | None) -> bool:
    """Whether one call may do several iterations: moves cost the sums no digits, and one thread moves the centres."""
    if lanes is None or lanes.rests is None:
        return False
    return lanes.sums.size < _MOVED_ALONE and taken_as_they_are(rows)


def move_centers(step: Any, centers: np.ndarray, frame: Frame, workers: Workers) -> tuple[np.ndarray, np.ndarray]:
    """The centres that a step leads to, (k, d), and what the host must know: see `_lloyd.Record`."""
    centers = np.ascontiguousarray(centers)
    moved = np.empty(centers.shape)
    one_pass = native().MovePass(*step.lanes, centers, frame.shift, moved)
    drive(one_pass, _CALL, workers, one_pass.size)
    empty, shift = one_pass.found()
    return moved, np.array((step.changed, empty, step.doubtful, step.undecided, shift))


def learn(centers: np.ndarray, weights: np.ndarray, lanes: Lanes, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centres as means that the rows of a batch have joined, and what these weigh: see `_batches.learn`."""
    moved, gained = np.empty(centers.shape), np.empty(weights.shape)
    native().learn(*lanes[:3], centers, weights, shift, moved, gained)
    return moved, gained


def loop(
    rows: np.ndarray,
    weights: Any,
    frame: Frame,
    centers: np.ndarray,
    labels: np.ndarray,
    max_iter: int,
    tol: float,
) -> tuple[int, float | None]:
    """Lloyd's loop and last assignment in one call and thread; centres are updated in place, labels written.

    Returns
    -------
    done : int
        Iterations.
    inertia : float or None
        Of the labels for the centres as they are published; None where the next iteration leaves a
        cluster empty, which is not done here.
    """
    if not taken_as_they_are(rows):
        return 0, None
    edges = lane_edges(rows, centers.shape[0])
    done, inertia = native().loop(
        rows=rows,
        weights=weights,
        shift=frame.shift,
        scale=frame.scale,
        wide=bool(rows.dtype == np.float32 and frame.dtype == np.float64),
        centers=centers,
        trust=trust(frame.dtype, rows.shape[1]),
        labels=labels,
        edges=edges,
        rests=_has_rests(edges.size - 1, *centers.shape),
        max_iter=max_iter,
        tol=tol,
    )
    return done, None if inertia < 0 else inertia


def add_pass(rows: np.ndarray, weights: Any, labels: np.ndarray, frame: Frame, k: int, workers: Workers) -> Lanes:
    """Sums of the clusters of any labels, from all rows."""
    edges = lane_edges(rows, k)
    lanes = _zeros_with_rests(workers, edges.size - 1, k, rows.shape[1])
    by_row = {"weights": weights, "labels": labels}
    run("AddPass", rows, edges, {"shift": frame.shift}, by_row, _sums(lanes), workers)
    return lanes


def reference(points: np.ndarray, single: bool) -> np.ndarray:
    """See `_frame.reference`."""
    step = sample_step(*points.shape)
    if not taken_as_they_are(points):
        with np.errstate(all="ignore"):
            points, step = np.ascontiguousarray(points[::step], np.float64), 1
    near = np.empty(points.shape[1])
    native().reference(points, step, single, near)
    return near


def moments_pass(rows: np.ndarray, frame: Frame, workers: Workers) -> Moments:
    """See `Plan.moments`."""
    edges = lane_edges(rows, 1)
    lanes, d = edges.size - 1, rows.shape[1]
    mean, variance = np.empty(d), np.empty(d)
    if lanes == 1 and taken_as_they_are(rows):
        return Moments(mean, variance, native().moments(rows, frame.shift, mean, variance))
    first, second, largest = np.zeros((lanes, d)), np.zeros((lanes, d)), np.zeros(lanes)
    by_lane = {"first": first, "second": second, "largest": largest}
    run("MomentsPass", rows, edges, {"shift": frame.shift}, {}, by_lane, workers)
    peak = native().moments_of_lanes(first, second, largest, rows.shape[0], frame.shift, mean, variance)
    return Moments(mean, variance, peak)


def own_pass(
    rows: np.ndarray, weights: Any, labels: np.ndarray, centers: np.ndarray, squared: Any, workers: Workers
) -> float:
    """Weighted sum of the squared distances of the rows to their own centres; each of them in `squared`, if given."""
    edges = lane_edges(rows, 1)
    inertia = np.zeros(edges.size - 1)
    by_row = {"weights": weights, "labels": labels, "squared": squared}
    run("OwnPass", rows, edges, {"centers": centers}, by_row, {"inertia": inertia}, workers)
    return _in_order(inertia)


def run(
    name: str,
    rows: np.ndarray,
    edges: np.ndarray,
    fixed: dict[str, Any],
    by_row: dict[str, Any],
    by_lane: dict[str, Any],
    workers: Workers,
) -> None:
    """Run a pass over rows as they are, or converted part by part."""
    make = getattr(native(), name)
    if not taken_as_they_are(rows):
        workers.run(
            lambda lane, space: _run_lane(make, rows, edges, lane, fixed, by_row, by_lane), range(edges.size - 1)
        )
        return
    one_pass = make(rows=rows, edges=edges, **fixed, **by_row, **by_lane)
    drive(one_pass, _CALL, workers, edges.size - 1)


def drive(one_pass: Any, tasks: int, workers: Workers, most: int) -> None:
    """Run a pass in all threads, or in one where it has no more than one task.

    The one that calls comes back after so many tasks: then it looks for Ctrl-C, upon which those that
    nobody has begun are left out.
    """
    crew = _helpers(workers, most)
    try:
        if crew:
            crew.begin(one_pass)
        while one_pass.run(tasks):
            pass
    except BaseException:
        one_pass.stop()
        raise
    finally:
        if crew:
            crew.end()


def _helpers(workers: Workers, tasks: int) -> Any:
    """The native threads that help in a pass of so many tasks, or None."""
    if tasks < 2 or workers.threads < 2:
        return None
    return workers.crew or workers.take(lambda: native().Crew(workers.threads - 1))


def _run_lane(
    make: Any,
    rows: np.ndarray,
    edges: np.ndarray,
    lane: int,
    fixed: dict[str, Any],
    by_row: dict[str, Any],
    by_lane: dict[str, Any],
) -> None:
    """One lane of rows of another type or in odd memory, converted part by part.

    A part goes on with the sums where the part before ended, so parts change no bit.
    """
    dtype = np.float32 if rows.dtype == np.float32 else np.float64
    sums = {key: value if value is None else value[lane : lane + 1] for key, value in by_lane.items()}
    step = max(1, _PART_ELEMENTS // rows.shape[1] // _WHOLE_ROWS) * _WHOLE_ROWS
    for a in range(edges[lane], edges[lane + 1], step):
        part = slice(a, min(a + step, edges[lane + 1]))
        some = {key: value if value is None else value[part] for key, value in by_row.items()}
        x = np.ascontiguousarray(rows[part], dtype=dtype)
        make(rows=x, edges=np.array([0, x.shape[0]]), **fixed, **some, **sums).run()


def _sums(lanes: Lanes | None) -> dict[str, Any]:
    return dict.fromkeys(Lanes._fields) if lanes is None else lanes._asdict()


def _lanes(request: Request, number: int, workers: Workers) -> Lanes | None:
    """Where the pass adds up: zeros, or the lanes of the pass before, to which the moves are added."""
    if request.add == "nothing":
        return None
    if request.add == "moves":
        return request.lanes
    k, d = request.centers.shape
    return (_zeros if request.add == "all" else _zeros_with_rests)(workers, number, k, d)


def _zeros_with_rests(workers: Workers, number: int, k: int, d: int) -> Lanes:
    """The same, and rests of zero where these are kept: none is left of sums that were there before."""
    lanes = _zeros(workers, number, k, d)
    if not _has_rests(number, k, d):
        return lanes
    rests = workers.space.array("rests", (number, k, d + 1), np.float64)
    rests.fill(0)
    return lanes._replace(rests=rests)


def _has_rests(number: int, k: int, d: int) -> bool:
    """Whether so many lanes keep the rests of their sums, so that moves cost them no digits."""
    return number * k * (d + 1) <= _RESTS


def _zeros(workers: Workers, number: int, k: int, d: int) -> Lanes:
    """Lanes of zeros, in the memory of those before: nobody wants these any more."""
    shapes = (
        ("sums", (number, k, d), np.float64),
        ("masses", (number, k), np.float64),
        ("counts", (number, k), np.int64),
    )
    arrays = [workers.space.array(*shape) for shape in shapes]
    for sums in arrays:
        sums.fill(0)
    return Lanes(*arrays)


def _in_order(lanes: np.ndarray) -> float:
    total = 0.0
    for lane in lanes.tolist():
        total += lane
    return total
