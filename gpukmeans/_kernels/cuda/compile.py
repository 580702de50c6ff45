"""From a `.cu` file beside this one to a launch: read, compiled by NVRTC through CuPy, started on the current stream.

A file is compiled once for each device architecture and set of constants, when it is first needed; CuPy keeps
the result on disk (`CUPY_CACHE_DIR`). Nothing here waits for the device. A file that does not compile raises:
no other path is taken in its place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent

# Shared memory that every device gives a block without being asked for more.
SHARED_BYTES = 48 << 10

_C_NAMES = {"float32": "float", "float64": "double"}


def c_name(dtype: Any) -> str:
    """What C++ calls the elements of rows of that dtype."""
    return _C_NAMES[np.dtype(dtype).name]


def source(name: str) -> str:
    """The text of `name`.cu with the files beside it that it includes put in place.

    So the text alone decides what is compiled, and is all that CuPy has to know a stored result by.
    """
    text = (FOLDER / f"{name}.cu").read_text(encoding="utf-8")

    def included(found: re.Match) -> str:
        return (FOLDER / found[1]).read_text(encoding="utf-8")

    return re.sub(r'^#include "(.+)"$', included, text, flags=re.MULTILINE)


@cache
def kernel(name: str, entry: str, constants: tuple[tuple[str, Any], ...]) -> Any:
    """The kernel `entry` of `name`.cu, a `cupy.RawKernel`, compiled with these macros.

    Raises
    ------
    RuntimeError
        If it does not compile; the text holds the compiler's log.
    """
    import cupy

    options = ("-std=c++17", *(f"-D{macro}={value}" for macro, value in constants))
    module = cupy.RawModule(code=source(name), options=options)
    try:
        return module.get_function(entry)
    except cupy.cuda.compiler.CompileException as error:
        device = cupy.cuda.Device()
        raise RuntimeError(
            f"The CUDA kernel {name}.cu of gpukmeans does not compile for compute capability "
            f"{device.compute_capability} with {' '.join(options)}. The compiler says:\n{error}\n"
            "Please report this. Until then GPUKMEANS_KERNELS=0 computes with CuPy alone."
        ) from error


def launch(
    name: str,
    entry: str,
    grid: int,
    block: int | tuple[int, ...],
    arguments: Sequence[Any],
    shared: int = 0,
    **constants: Any,
) -> None:
    """Start a kernel on the current stream of the current device.

    Parameters
    ----------
    name : str
        The file, without its suffix.
    entry : str
        The `extern "C"` function in it.
    grid : int
        Blocks.
    block : int or tuple of int
        Threads of a block.
    arguments : sequence
        CuPy arrays (None is a null pointer), and numbers: int becomes `long long`, float `double`.
    shared : int
        Bytes of dynamic shared memory.
    **constants : int or str
        Macros that it is compiled with.
    """
    threads = (block,) if isinstance(block, int) else block
    plain = tuple(_argument(value) for value in arguments)
    kernel(name, entry, tuple(sorted(constants.items())))((grid,), threads, plain, shared_mem=shared)


def _argument(value: Any) -> Any:
    """A number as the type that `launch` promises; arrays as they are."""
    if value is None:
        return np.uint64(0)
    if isinstance(value, (bool, int, np.integer)):
        return np.int64(value)
    return np.float64(value) if isinstance(value, float) else value
