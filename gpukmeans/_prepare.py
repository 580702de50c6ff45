"""Making a plan: rows and weights go to the device, and a reference point near the rows is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._device import Device, is_single, namespace, scope, to_device, to_host
from ._distances import Operations, operations
from ._frame import Frame
from ._plan import Plan
from ._rows import SparseRows, on_device, on_the_sphere
from ._sums import Moments

# What is done with the rows so that distances between them are those of a metric.
_METRICS: dict[str, Callable[[Any], Any]] = {"euclidean": lambda rows: rows, "cosine": on_the_sphere}


@contextmanager
def prepare(
    X: Any, weights: Any, n_clusters: int, device: Device, metric: str = "euclidean"
) -> Iterator[tuple[Plan, Moments]]:
    """A plan for fitting rows on a device, inside its context, and the moments of the rows.

    Parameters
    ----------
    X : array of shape (n, d), validated, anywhere
    weights : array of shape (n,) float64, anywhere, or None
    n_clusters : int
    device : Device
    metric : {"euclidean", "cosine"}
        "cosine" puts the rows on the unit sphere.
    """
    with scope(device), _about_sample(X, weights, n_clusters, device, metric) as plan:
        moments = plan.moments()
        scale = _scale(moments.peak, plan.frame.dtype)
        if scale != 1.0:  # which is rare, and a copy takes its time
            plan.frame = plan.frame._replace(scale=scale)
        yield plan, moments


def prepare_for_batches(X: Any, weights: Any, n_clusters: int, device: Device) -> Plan:
    """A plan for a fit that reads some of the rows only; its reference point comes from a sample of them.

    Its scale does not: a row outside the sample may become a centre, of which no row may come near `_frame.FAR`.
    """
    with scope(device):
        plan = _about_sample(X, weights, n_clusters, device, "euclidean")
        plan.frame = plan.frame._replace(scale=_scale(_largest(plan.rows), plan.frame.dtype))
        return plan


def plan_about(X: Any, centers: Any, device: Device, metric: str = "euclidean") -> Plan:
    """A plan for assigning rows to given centres (`predict`, `transform`, `score`)."""
    with scope(device):
        rows, host = _METRICS[metric](on_device(X, device)), to_host(centers).astype(np.float64)
        shift = _middle(host, rows, operations(host))
        frame = _frame_at(shift, rows, device, metric)
        scale = _scale(float(np.abs(host - shift).max()), frame.dtype)
        return Plan(rows, None, centers.shape[0], frame._replace(scale=scale), device, operations(rows))


def _about_sample(X: Any, weights: Any, n_clusters: int, device: Device, metric: str) -> Plan:
    """A plan that looks at the rows from near the middle of a sample of them."""
    rows = _METRICS[metric](on_device(X, device))
    weights = None if weights is None else to_device(weights, device)
    chosen = operations(rows)
    frame = _frame_at(_middle(rows, rows, chosen), rows, device, metric)
    return Plan(rows, weights, n_clusters, frame, device, chosen)


def _frame_at(shift: np.ndarray, rows: Any, device: Device, metric: str) -> Frame:
    """A frame for the rows from a reference point, in the units of the data."""
    dtype = device.xp.float32 if is_single(rows.dtype) else device.xp.float64
    return Frame(to_device(shift, device), 1.0, dtype, metric == "cosine")


def _middle(points: Any, rows: Any, chosen: Operations) -> np.ndarray:
    """The point that rows are looked at from, (d,) float64: near the middle of some points, or zero for sparse rows.

    `chosen` are the operations for the points.
    """
    if isinstance(rows, SparseRows):
        return np.zeros(rows.shape[1])
    return chosen.reference(points, is_single(rows.dtype))


def _largest(rows: Any) -> float:
    """The largest magnitude of an entry."""
    values = rows.data if isinstance(rows, SparseRows) else rows
    if 0 in values.shape:
        return 0.0
    xp = namespace(values)
    high, low = to_host(xp.stack([xp.max(values), xp.min(values)])).tolist()  # one small copy
    return max(float(high), -float(low))


def _scale(peak: float, dtype: Any) -> float:
    """A power of two that brings `peak` near 1, if squares of it leave float32's comfortable range.

    It is a normal number of the dtype itself, since devices may take others for zero.
    """
    if peak == 0.0 or 1e-10 < peak < 1e10:
        return 1.0
    most = 126 if is_single(dtype) else 1022
    return float(np.ldexp(1.0, np.clip(-int(np.frexp(peak)[1]), -most, most)))
