"""Making a plan: rows and weights go to the device, and a reference point near the rows is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._device import Device, is_single, scope, to_device, to_host
from ._frame import Frame
from ._plan import Moments, Plan
from ._rows import is_sparse, on_device, on_the_sphere

_SAMPLE = 512  # rows that the reference point is taken from

# What is done with the rows so that distances between them are those of a metric.
_METRICS: dict[str, Callable[[Any], Any]] = {"euclidean": lambda rows: rows, "cosine": on_the_sphere}


def prepare(X: Any, weights: Any, n_clusters: int, device: Device, metric: str = "euclidean") -> tuple[Plan, Moments]:
    """A plan for fitting rows on a device, and the moments of the rows.

    Parameters
    ----------
    X : array of shape (n, d), validated, anywhere
    weights : array of shape (n,) float64, anywhere, or None
    n_clusters : int
    device : Device
    metric : {"euclidean", "cosine"}
        "cosine" puts the rows on the unit sphere.
    """
    with scope(device):
        rows = _METRICS[metric](on_device(X, device))
        if weights is not None:
            weights = to_device(weights, device)
        xp = device.xp
        dtype = xp.float32 if is_single(rows.dtype) else xp.float64
        shift = np.zeros(X.shape[1]) if is_sparse(X) else _reference(rows, dtype)
        frame = Frame(to_device(shift, device), 1.0, dtype, metric == "cosine")
        plan = Plan(rows, weights, n_clusters, frame, device)
        with plan:
            moments = plan.moments()
        plan.frame = plan.frame._replace(scale=_scale(moments.peak))
        return plan, moments


def plan_about(X: Any, centers: Any, device: Device, metric: str = "euclidean") -> Plan:
    """A plan for assigning rows to given centres (`predict`, `transform`, `score`)."""
    with scope(device):
        rows = _METRICS[metric](on_device(X, device))
        xp = device.xp
        dtype = xp.float32 if is_single(rows.dtype) else xp.float64
        host = to_host(centers).astype(np.float64)
        shift = np.zeros(X.shape[1]) if is_sparse(X) else _reference(host, dtype)
        scale = _scale(float(np.abs(host - shift).max()))
        frame = Frame(to_device(shift, device), scale, dtype, metric == "cosine")
        return Plan(rows, None, centers.shape[0], frame, device)


def _reference(rows: Any, dtype: Any) -> np.ndarray:
    """A point near the middle of the rows, (d,) float64, of few significant digits.

    It only has to be within a fraction of the spread; on a grid of an eighth of that, rows of
    integers or short decimals stay exact when it is subtracted.
    """
    step = max(1, rows.shape[0] // _SAMPLE)
    with np.errstate(all="ignore"):
        sample = np.array(to_host(rows[::step, :]).T, dtype=np.float64, order="C")  # rows of few features add slowly
        mean, low, high = sample.sum(axis=1) / sample.shape[1], sample.min(axis=1), sample.max(axis=1)
        centred = sample - mean[:, None]
        variance = np.einsum("ij,ij->i", centred, centred) / sample.shape[1]
        known = np.isfinite(mean) & np.isfinite(variance)
        grid = np.ldexp(1.0, np.frexp(np.where(known, variance, 1.0))[1] // 2 - 4)
        near = np.where(known, np.rint(mean / grid) * grid, mean)
        near = np.where(low == high, sample[:, 0], near)
        if is_single(dtype):
            near = near.astype(np.float32).astype(np.float64)
    return np.where(np.isfinite(near), near, 0.0)


def _scale(peak: float) -> float:
    """A power of two that brings `peak` near 1, if squares of it leave float32's comfortable range."""
    if peak == 0.0 or 1e-10 < peak < 1e10:
        return 1.0
    return float(np.ldexp(1.0, -int(np.frexp(peak)[1])))
