"""Faster bodies for a handful of primitives, behind one lookup.

A kernel has the name, the arguments, the outputs and the tie-break of the body in `_distances`
that it stands in for. Compiled kernels (C++ for NumPy arrays, CUDA C++ for CuPy arrays) come before NumPy's.
`GPUKMEANS_KERNELS=numpy` turns the compiled ones off, `GPUKMEANS_KERNELS=0` all of them: then the array
bodies serve. `using` chooses for a block of code.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np

from .._device import is_cupy
from .._rows import SparseRows, UnitRows
from . import cpu, cuda

logger = logging.getLogger("gpukmeans")

OPERATIONS = (
    "reference",
    "moments",
    "nearest",
    "accumulate",
    "accumulate_moves",
    "squared_to_own",
    "squared_to_all",
    "lower_to",
    "seeding",
    "cluster_distance_sums",
    "distance_sums",
    "search_pass",
    "draw_pass",
    "add_pass",
    "moments_pass",
    "own_pass",
    "drifting",
    "boxing",
    "move_centers",
    "learn",
    "loop",
)

# Operations that are only told of where there is a kernel for them: elsewhere the others do them, one by one, or
# nothing is gained; and one that only sparse rows have a kernel for.
_OPTIONAL = (
    "reference",
    "accumulate_moves",
    "draw_pass",
    "drifting",
    "boxing",
    "move_centers",
    "learn",
    "loop",
    "squared_to_all",
)

# Operations on a block of rows -> the kernel that takes their place in a pass over all rows.
_WHOLE = {
    "moments": "moments_pass",
    "nearest": "search_pass",
    "accumulate": "add_pass",
    "accumulate_moves": "search_pass",
    "squared_to_own": "own_pass",
    "lower_to": "seeding",
    "cluster_distance_sums": "distance_sums",
}

# Kernels that read the rows where they lie, or that would move centres off the unit sphere.
_OF_ARRAYS = ("reference", "seeding", "distance_sums", "draw_pass", "boxing", "move_centers", "learn", "loop")

_CHOICES = {"1": "all", "numpy": "all but the compiled ones", "0": "none"}

_LARGE = 10_000_000  # n * d * k of a fit above which it is worth telling that compiled kernels are missing


_in_block: ContextVar[str] = ContextVar("kernels of a block", default="")


def choice() -> str:
    """Which kernels may serve: a key of `_CHOICES`, from the innermost `using`, else from `GPUKMEANS_KERNELS`."""
    return _in_block.get() or _checked(os.environ.get("GPUKMEANS_KERNELS") or "1", "GPUKMEANS_KERNELS")


@contextmanager
def using(kernels: str) -> Iterator[None]:
    """Let only these kernels serve the fits that begin in a block, whatever the environment says.

    Parameters
    ----------
    kernels : {'1', 'numpy', '0'}
        What `GPUKMEANS_KERNELS` takes. The choice holds for this thread (and task), not for others.

    Examples
    --------
    >>> from gpukmeans import _kernels
    >>> with _kernels.using("0"):
    ...     _kernels.in_use("cpu")["nearest"]
    'array body'
    """
    before = _in_block.set(_checked(kernels, "kernels"))
    try:
        yield
    finally:
        _in_block.reset(before)


def _checked(value: str, name: str) -> str:
    if value not in _CHOICES:
        allowed = ", ".join(f"{name} ({meaning})" for name, meaning in _CHOICES.items())
        raise ValueError(f"{name}={value!r}, but it chooses the kernels and can be: {allowed}.")
    return value


def check_environment() -> None:
    """Raise ValueError, with what is allowed, for a value of `GPUKMEANS_KERNELS` or `GPUKMEANS_ISA` that is not."""
    choice()
    cpu.native()


def find(op: str, array: Any) -> Callable[..., Any] | None:
    """The kernel for an operation on this kind of array, or None: the array body serves."""
    chosen = choice()
    if isinstance(array, SparseRows):
        from . import csr

        return getattr(csr, op, None) if array.on_host else None
    if isinstance(array, UnitRows):  # whose blocks are arrays of float64
        return find(op, np.empty((0, 0))) if array.on_host and op not in _OF_ARRAYS else None
    if chosen == "1" and is_cupy(array):
        return cuda.lookup(op) if cuda.serves(array) else None
    if chosen == "0" or not isinstance(array, np.ndarray):
        return None
    if chosen == "1" and cpu.native() is not None and hasattr(cpu, op) and cpu.serves(op, array):
        return getattr(cpu, op)
    from . import numpy as numpy_kernels

    return getattr(numpy_kernels, op, None)


def in_use(kind: str) -> dict[str, str]:
    """Operation -> the name of what serves it on that kind of device ("cpu", "cuda", "array").

    For float32 and float64 rows; an operation that a kernel does for all rows in one call goes by its own name.
    """
    ops = [op for op in OPERATIONS if op not in _WHOLE.values() and (kind == "cpu" or op != "accumulate_moves")]
    served = {op: _find_for(kind, _WHOLE.get(op, op)) or _find_for(kind, op) for op in ops}
    return {op: _name(kernel) for op, kernel in served.items() if kernel or op not in _OPTIONAL}


def _find_for(kind: str, op: str) -> Callable[..., Any] | None:
    """What `find` finds for rows on that kind of device."""
    if kind == "cuda":
        return cuda.lookup(op) if choice() == "1" else None
    return find(op, np.empty(0) if kind == "cpu" else None)


def _name(kernel: Callable[..., Any] | None) -> str:
    if kernel is None:
        return "array body"
    if kernel.__module__.startswith(cuda.__name__):
        return "CUDA kernel"
    if kernel.__module__.startswith(cpu.__name__):
        return f"compiled ({cpu.native().instruction_set()})"
    return "numpy kernel"


def compiled_state() -> str:
    """For `doctor`: the instruction set of the compiled kernels and those of this machine, or why they are not used."""
    module = cpu.native()
    if module is None:
        return cpu.why_not()
    if choice() != "1":
        return f"turned off by GPUKMEANS_KERNELS={choice()}"
    chosen = ", chosen by GPUKMEANS_ISA" if os.environ.get("GPUKMEANS_ISA") else ""
    return f"{module.instruction_set()}{chosen} (this machine can run: {', '.join(module.instruction_sets())})"


def advise(work: int) -> None:
    """Log, at the first large fit (n * d * k) of a process, that the compiled kernels are missing."""
    if work > _LARGE and choice() == "1" and cpu.native() is None:
        _advise_once()


@cache
def _advise_once() -> None:
    logger.warning(
        "gpukmeans: NumPy computes this fit, more slowly than the compiled kernels would: %s. "
        "GPUKMEANS_KERNELS=numpy silences this.",
        cpu.why_not(),
    )
