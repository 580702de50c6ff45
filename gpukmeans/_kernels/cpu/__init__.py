"""Compiled kernels for float32 and float64 rows on the CPU: `module.cpp` and the headers beside it.

The extension is built when the package is installed with a C++ compiler at hand. Where it is absent
`native()` is None and NumPy serves.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np


@cache
def native() -> Any:
    """The compiled module, or None; `GPUKMEANS_ISA` names an instruction set other than the fastest."""
    try:
        _native: Any = import_module("._native", __name__)
    except ImportError:
        return None
    wanted = os.environ.get("GPUKMEANS_ISA", "")
    if wanted:
        known = _native.instruction_sets()
        if wanted not in known:
            raise ValueError(f"GPUKMEANS_ISA={wanted!r}, but this machine can run: {', '.join(known)}.")
        _native.use(wanted)
    return _native


def serves(op: str, array: np.ndarray) -> bool:
    """Whether the compiled kernel takes these rows: real numbers of any type and layout, but for k-means++."""
    return array.dtype.kind in "fiub" and (op != "seeding" or taken_as_they_are(array))


def taken_as_they_are(rows: np.ndarray) -> bool:
    """Whether the kernels read these rows where they lie."""
    size = rows.itemsize
    whole = all(step % size == 0 for step in rows.strides)
    return rows.dtype in (np.float32, np.float64) and rows.dtype.isnative and rows.flags.aligned and whole


def __getattr__(name: str) -> Any:
    """The kernels; they need the modules above this one, so they are looked up when they are asked for."""
    if name in ("search_pass", "add_pass", "moments_pass", "own_pass", "loop"):
        from . import passes

        return getattr(passes, name)
    if name == "seeding":
        from . import plus_plus

        return plus_plus.Seeding
    raise AttributeError(name)
