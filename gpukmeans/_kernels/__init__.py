"""Faster bodies for a handful of primitives, behind one lookup.

A kernel has the name, the arguments, the outputs and the tie-break of the body in `_distances`
that it stands in for. `GPUKMEANS_KERNELS=0` turns all of them off: then the array bodies serve.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from . import cpu

OPERATIONS = (
    "moments",
    "nearest",
    "accumulate",
    "accumulate_moves",
    "squared_to_own",
    "lower_to",
    "seeding",
    "cluster_distance_sums",
    "search_pass",
    "add_pass",
    "moments_pass",
    "own_pass",
    "loop",
)


def find(op: str, array: Any) -> Callable[..., Any] | None:
    """The kernel for an operation on this kind of array, or None: the array body serves."""
    choice = os.environ.get("GPUKMEANS_KERNELS", "1")
    if choice == "0" or not isinstance(array, np.ndarray):
        return None
    if choice == "1" and hasattr(cpu, op) and cpu.native() is not None and cpu.serves(op, array):
        return getattr(cpu, op)
    from . import numpy as numpy_kernels

    return getattr(numpy_kernels, op, None)


def in_use(kind: str) -> dict[str, str]:
    """Operation -> the name of what serves it on that kind of device ("cpu", "cuda", "array")."""
    probe = np.empty(0) if kind == "cpu" else None
    ops = OPERATIONS if kind == "cpu" else [op for op in OPERATIONS if op != "accumulate_moves"]
    return {op: "numpy kernel" if find(op, probe) else "array body" for op in ops}
