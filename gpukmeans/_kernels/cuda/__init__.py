"""CUDA kernels for float32 and float64 rows: the `.cu` files beside this one, compiled when they are first used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

# Operation -> the module beside this one that has the function of that name. The modules need what lies above
# `_kernels`, so they are imported when they are asked for.
_HOMES = {
    "distance_sums": "pairs",
    "seeding": "plus_plus",
    "search_pass": "passes",
    "add_pass": "passes",
    "own_pass": "passes",
    "move_centers": "passes",
}


def lookup(op: str) -> Callable[..., Any] | None:
    """The function that serves an operation, or None."""
    return getattr(import_module(f".{_HOMES[op]}", __name__), op) if op in _HOMES else None


def serves(array: Any) -> bool:
    """Whether the kernels take these rows: float32 or float64, in whole elements from row to row."""
    whole = all(step % array.dtype.itemsize == 0 for step in array.strides)
    return array.dtype.name in ("float32", "float64") and whole
