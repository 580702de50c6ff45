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

INSTRUCTION_SETS = ("avx512", "avx2", "plain", "neon")  # of all machines together

_PASSES = (
    "reference",
    "search_pass",
    "draw_pass",
    "add_pass",
    "moments_pass",
    "own_pass",
    "drifting",
    "move_centers",
    "learn",
    "loop",
)


@cache
def _load() -> tuple[Any, str]:
    """The compiled module and "", or None and why there is none."""
    try:
        return import_module("._native", __name__), ""
    except ModuleNotFoundError:
        return None, "not built when gpukmeans was installed"
    except ImportError as error:
        return None, f"cannot be loaded ({error})"


@cache
def native() -> Any:
    """The compiled module, or None; `GPUKMEANS_ISA` names an instruction set other than the fastest."""
    module, _ = _load()
    wanted = os.environ.get("GPUKMEANS_ISA", "")
    known = module.instruction_sets() if module else INSTRUCTION_SETS
    if wanted and wanted not in known:
        raise ValueError(
            f"GPUKMEANS_ISA={wanted!r}, but {'this machine' if module else 'a machine'} can run: "
            f"{', '.join(known)}. Set one of these, or nothing for the fastest."
        )
    if wanted and module:
        module.use(wanted)
    return module


def why_not() -> str:
    """Why `native()` is None, and what to do."""
    _, reason = _load()
    return f"{reason}; install a C++ compiler (GCC 12, Clang 13 or newer) and reinstall gpukmeans"


def serves(op: str, array: np.ndarray) -> bool:
    """Whether the compiled kernel takes these rows: real numbers of any type and layout, but for k-means++."""
    return array.dtype.kind in "fiub" and (op != "seeding" or taken_as_they_are(array))


def taken_as_they_are(rows: Any) -> bool:
    """Whether the kernels read these rows where they lie."""
    if not isinstance(rows, np.ndarray) or rows.dtype not in (np.float32, np.float64):
        return False
    flags, size = rows.flags, rows.itemsize
    return flags.carray or (flags.aligned and all(step % size == 0 for step in rows.strides))


def __getattr__(name: str) -> Any:
    """The kernels; they need the modules above this one, so they are looked up when they are asked for."""
    if name in _PASSES:
        from . import passes

        return getattr(passes, name)
    if name == "boxing":
        from .boxes import boxing

        return boxing
    if name == "seeding":
        from . import plus_plus

        return plus_plus.Seeding
    if name == "distance_sums":
        from .pairs import distance_sums

        return distance_sums
    raise AttributeError(name)
