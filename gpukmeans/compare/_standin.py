"""The counters of the CUDA stand-in of `tests/cuda_standin`: what executes CUDA code on a CPU has counts, but no speed.

Its time tells nothing about a GPU, so whoever measures has to know that this is what runs.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, NamedTuple

LABEL = "executed on a CPU stand-in, never on GPU hardware"


class Counters(NamedTuple):
    """Totals since the process began, in the order of the stand-in's native/device.h."""

    launches: int
    threads: int
    h2d_count: int  # copies from the host to the device, and their bytes
    h2d_bytes: int
    d2h_count: int
    d2h_bytes: int
    d2d_count: int
    d2d_bytes: int
    memsets: int
    syncs: int
    allocations: int  # by cudaMalloc: CuPy's pool asks for few
    live_bytes: int
    peak_bytes: int
    products: int  # by cuBLAS
    errors: int
    loaded_bytes: int  # of global memory, by the threads of kernels
    stored_bytes: int


@cache
def driver() -> Any:
    """The stand-in for CUDA's driver if it is the one in use, else None."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return library if hasattr(library, "standin_counters") else None


def counters() -> Counters:
    """The totals now."""
    return Counters(*(ctypes.c_uint64 * len(Counters._fields)).in_dll(driver(), "standin_counters"))
