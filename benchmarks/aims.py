"""How many times as fast as scikit-learn we mean to be: what the page measures shortfalls against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs import CONVERGE

_FITS = {  # case -> (uniform, blobs), float32
    "a": (4, 4),
    "b": (9, 10),
    "c": (3, 6),
    "d": (1.7, 5),
    "e": (2, 8),
    "f": (2, 5),
    "g": (9, 10),
    "h": (1.6, 4),
}
_CONVERGED = {"b": (14, 18), "c": (3, 10), "g": (12, 14)}
_OTHERS = {"seeding": 6.0, "silhouette": 20.0, "nine": 60.0}


def aim(result: Mapping[str, Any]) -> float | None:
    """The aim for a result; half of it in float64, but never below 1.2. None where there is none."""
    job, case = result["job"], result["case"]
    if job == "random":
        return 0.95
    if job == "lloyd":
        pair = (_CONVERGED if result["max_iter"] >= CONVERGE else _FITS).get(case)
        value = None if pair is None else pair[result["kind"] == "blobs"]
    else:
        value = None if case.endswith("t") else _OTHERS.get(job)
    if value is None or result["dtype"] == "float32":
        return value
    return max(1.2, value / 2)
