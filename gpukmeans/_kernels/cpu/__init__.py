"""Compiled kernels for float32 and float64 rows on the CPU: `module.cpp` and the headers beside it.

The extension is built when the package is installed with a C++ compiler at hand. Where it is absent
`native()` is None and NumPy serves.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np


@cache
def native() -> Any:
    """The compiled module, or None; `GPUKMEANS_ISA` names an instruction set other than the fastest."""
    try:
        from . import _native  # type: ignore[attr-defined]
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
    """Whether the compiled kernels take these rows."""
    return array.dtype in (np.float32, np.float64) and array.dtype.isnative and array.flags.aligned
