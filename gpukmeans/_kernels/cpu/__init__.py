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


def serves(array: np.ndarray) -> bool:
    """Whether the compiled kernels take these rows: real numbers of any type and layout."""
    return array.dtype.kind in "fiub"


def __getattr__(name: str) -> Any:
    """The kernels; they need the modules above this one, so they are looked up when they are asked for."""
    if name in ("search_pass", "add_pass", "moments_pass", "own_pass", "loop"):
        from . import passes

        return getattr(passes, name)
    if name == "distance_sums":
        from .pairs import distance_sums

        return distance_sums
    raise AttributeError(name)
