"""Lloyd's algorithm: assign every row to its nearest centre, move each centre to the mean of its rows.

Written once, for every array module. One small array is read back to the host per iteration; all
decisions are taken from it.

References
----------
S. P. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._device import namespace, placement, put, to_host
from ._plan import Plan
from ._rows import dense, take
from ._sums import Partial, Step


class Record(NamedTuple):
    """What the host must know of an iteration."""

    changed: int  # rows with a new label
    empty: int  # clusters without a row of positive weight
    doubtful: int  # rows that fast distances could not decide
    undecided: int  # rows whose labels are not certified
    shift: float  # sum of the squared moves of the centres


class Fit(NamedTuple):
    """The outcome of one run, on the device."""

    centers: Any  # (k, d) float64, already rounded to the dtype of the results
    labels: Any  # (n,) int32, nearest of these centres
    inertia: float
    n_iter: int


def lloyd(plan: Plan, centers: Any, *, max_iter: int, tol: float, line: str) -> Fit:
    """Run Lloyd's algorithm from given centres, with scikit-learn's stopping rules, and assign once more at its end.

    Parameters
    ----------
    plan : Plan
    centers : array of shape (k, d), float64, on the plan's device
    max_iter : int
    tol : float
        Bound on the sum of squared moves of the centres, in squared units of the data.
    line : str
        Printed for each iteration, with its number and its inertia in the two gaps; "" prints nothing.
    """
    plan.start()
    done = 0
    if not line:
        centers, done, inertia = plan.loop(centers, max_iter, tol)
        if inertia is not None:
            return Fit(centers, plan.labels, inertia, done)
    converged = False
    while done < max_iter and not converged:
        step, moved, record = _iterate(plan, centers, 1 if line else max_iter - done, tol)
        plan.keep(step, record.changed)
        if line:
            print(line.format(done, plan.inertia(step.labels, centers)))
        centers = moved
        converged = record.changed == 0 or record.shift <= tol
        if line and converged:
            within = f"center shift {record.shift} within tolerance {tol}" if record.changed else "strict convergence"
            print(f"Converged at iteration {done}: {within}.")
        done += step.done + 1
    if not step.exact:  # end on sums that no difference has rounded
        centers = _means(plan, plan.add_up(step.labels), centers)
    centers = rounded(centers, plan.result_dtype)
    return Fit(centers, *plan.judge(plan.place(centers)), done)


def rounded(centers: Any, dtype: type) -> Any:
    """float64 centres with the values they have when they are published in that dtype."""
    xp = namespace(centers)
    return xp.astype(xp.astype(centers, getattr(xp, dtype.__name__)), xp.float64)


def _iterate(plan: Plan, centers: Any, most: int, tol: float) -> tuple[Step, Any, Record]:
    """One assignment and the centres it leads to; or up to `most`, of which the last is told."""
    while True:
        step = plan.step(centers, most, tol)
        centers = step.centers if step.done else centers
        moved, record = _take_on(plan, step, centers)
        if not plan.repeat(record.undecided, record.doubtful):
            break
    if record.empty:
        known = {"changed": record.changed, "doubtful": record.doubtful, "undecided": record.undecided}
        step = step._replace(partial=plan.add_up(step.labels), exact=True, **known)
        partial = relocate_empty(plan, step, centers, record.empty)
        moved = _means(plan, partial, centers)
        record = _read(step, centers, moved)
    return step, moved, record


def _take_on(plan: Plan, step: Step, centers: Any) -> tuple[Any, Record]:
    """The centres that a step leads to, and what the host must know of it."""
    if plan.operations.move_centers:
        moved, facts = plan.move_centers(step, centers)
        return moved, _record(to_host(facts))
    moved = _means(plan, step.partial, centers)
    return moved, _read(step, centers, moved)


def _means(plan: Plan, partial: Partial, centers: Any) -> Any:
    """The centres after those given."""
    return plan.place(update_centers(partial, centers, plan.frame.shift), otherwise=centers)


def _read(step: Step, centers: Any, moved: Any) -> Record:
    """Fetch in one small copy what the host has to decide on."""
    xp = namespace(centers)
    counted = (step.changed, xp.sum(xp.astype(step.partial.counts == 0, xp.int64)), step.doubtful, step.undecided)
    shift = xp.sum((moved - centers) ** 2)
    if xp is not np:
        facts = [xp.astype(_as_array(fact, centers), xp.float64) for fact in (*counted, shift)]
        return _record(to_host(xp.stack(facts)))
    return _record((*counted, shift))


def _record(facts: Any) -> Record:
    changed, empty, doubtful, undecided, shift = facts
    return Record(int(changed), int(empty), int(doubtful), int(undecided), float(shift))


def _as_array(value: Any, like: Any) -> Any:
    xp = namespace(like)
    return xp.full((), value, dtype=xp.int64, **placement(like)) if isinstance(value, int) else value


def update_centers(partial: Partial, centers: Any, shift: Any) -> Any:
    """Means of the clusters; a cluster that is empty even so goes where the heaviest one is.

    Parameters
    ----------
    partial : Partial
    centers : array of shape (k, d), float64
        The centres before; only their shape and place are used.
    shift : array of shape (d,), float64
        Reference point of `partial.sums`.
    """
    xp = namespace(centers)
    filled = (partial.counts > 0) & (partial.weights > 0)
    weights = xp.where(filled, partial.weights, 1.0)
    means = shift + partial.sums / weights[:, None]
    heaviest = xp.take(means, xp.reshape(xp.argmax(partial.weights), (1,)), axis=0)
    return xp.where(filled[:, None], means, heaviest)


def relocate_empty(plan: Plan, step: Step, centers: Any, n_empty: int) -> Partial:
    """Give every empty cluster one of the rows farthest from their centres.

    Rows of positive weight are taken by distance descending, then index ascending. Nothing moves
    when all rows sit on their centres: there are fewer distinct rows than clusters.
    """
    xp, partial = plan.xp, step.partial
    distances = plan.squared_to_own(step.labels, centers)
    if plan.weights is not None:
        distances = xp.where(plan.weights > 0, distances, -1.0)
    hopeful = xp.astype(xp.max(distances) > 0, xp.float64)
    empty = partial.counts == 0
    rank = xp.cumulative_sum(xp.astype(empty, xp.int64))  # the i-th empty cluster takes the i-th row
    clusters = xp.arange(plan.n_clusters, dtype=xp.int32, **placement(distances))
    sums, weights, counts = partial
    for i in range(n_empty):
        row = xp.reshape(xp.argmax(distances), (1,))  # the first of equals
        distances = put(distances, row, -1.0)
        x = dense(take(plan.rows, row)) - plan.frame.shift
        weight = hopeful if plan.weights is None else hopeful * xp.take(plan.weights, row)
        gain = xp.astype(empty & (rank == i + 1), xp.float64)
        change = gain - xp.astype(clusters == xp.take(step.labels, row), xp.float64)
        weights = weights + change * weight
        sums = sums + (change * weight)[:, None] * x
        counts = counts + xp.astype(change * hopeful, xp.int64)
    return Partial(sums, weights, counts)
