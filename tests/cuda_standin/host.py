"""CUDA sources compiled by g++ and run on the CPU, optionally with the address and undefined-behaviour sanitizers.

`RawModule` is called as CuPy's, so `substitute(cupy)` puts it in its place: the package's launchers then run its
kernels, and the sanitizer watches every access to device memory, which is host memory under the stand-in.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import place

_ALIGNED = r"(?:(?:__align__|alignas)\s*\(\s*\d+\s*\)\s*)?"
_DYNAMIC = re.compile(rf"extern\s+__shared__\s+{_ALIGNED}([\w:<> ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_KERNEL = re.compile(r"__global__\s+(?:void\s+)?(?:__launch_bounds__\s*\([^)]*\)\s*)?(?:void\s+)?(\w+)\s*\(")
_FLAGS = ["-std=c++20", "-g1", "-fPIC", "-shared", "-w", "-ffp-contract=off", "-fno-strict-aliasing", "-mfma"]
_SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


class RawModule:
    """Kernels of one source.

    Parameters
    ----------
    code : str
        CUDA C++.
    options : sequence of str
        As for CuPy; macros are passed on.
    sanitize : bool, optional
        Compile with the sanitizers; the process has to have been started with `sanitizer_environment`. Whether
        that is so, if not given.

    Raises
    ------
    RuntimeError
        With g++'s messages, if it does not compile.
    """

    def __init__(self, code: str, options: Sequence[str] = (), sanitize: bool | None = None) -> None:
        sanitize = "STANDIN_SANITIZE" in os.environ if sanitize is None else sanitize
        names = sorted(set(_KERNEL.findall(code)))
        body = _DYNAMIC.sub(r"\1* \2 = (\1*)shim_dynamic().get();", code)
        exports = "\n".join(f"SHIM_EXPORT({name}, {name})" for name in names)
        flags = [*_FLAGS, *(["-O1", *_SANITIZERS] if sanitize else ["-O2"])]
        flags += [option for option in options if option.startswith("-D")]
        self._library = ctypes.CDLL(_compile(f'#include "shim.h"\n#line 1 "kernel.cu"\n{body}\n{exports}\n', flags))
        self.names = names

    def get_function(self, name: str) -> Callable[..., None]:
        """A kernel, to be called as `(grid, block, arguments, shared_mem=0)` with NumPy or CuPy arrays and numbers.

        Raises
        ------
        AttributeError
            If there is none of that name.
        """
        run = getattr(self._library, f"standin_run_{name}")
        run.restype = ctypes.c_char_p

        def launch(grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
            held = [_argument(value) for value in args]
            pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
            shape = (ctypes.c_uint * 6)(*_three(grid), *_three(block))
            _note(name, shape, shared_mem)
            error = run(pointers, shape, ctypes.c_size_t(shared_mem))
            if error:
                raise RuntimeError(f"{name}: {error.decode()}")

        return launch


def _three(sizes: Sequence[int]) -> tuple[int, ...]:
    return (*sizes, 1, 1)[:3]


def _argument(value: Any) -> Any:
    """An argument in memory, as CuPy passes it: int as int64, float as float64, arrays as pointers."""
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, np.generic):
        return (ctypes.c_char * value.itemsize).from_buffer_copy(value.tobytes())
    if isinstance(value, bool):
        return ctypes.c_bool(value)
    if isinstance(value, int):
        return ctypes.c_longlong(value)
    if isinstance(value, float):
        return ctypes.c_double(value)
    return ctypes.c_void_p(value.data.ptr)


def _note(name: str, shape: Any, shared: int) -> None:
    """Count the launch among the device's, under the stand-in."""
    if place.active():
        import cupy

        stream = ctypes.c_uint64(cupy.cuda.get_current_stream().ptr)
        ctypes.CDLL("libcuda.so.1").standin_launched(name.encode(), shape, ctypes.c_uint(shared), stream)


def _compile(source: str, flags: list[str]) -> str:
    """The library of a source, compiled now or before."""
    headers = [place.NATIVE / name for name in ("shim.h", "fibers.h", "fibers.cpp")]
    folder = place.folder() / f"host-{place.digest(place.compiler(), *headers)}"
    folder.mkdir(parents=True, exist_ok=True)
    fibers = folder / "libfibers.so"
    if not fibers.exists():
        _gcc("-O2", "-fPIC", "-shared", str(place.NATIVE / "fibers.cpp"), to=fibers)
    library = folder / f"{place.digest(source, *flags)}.so"
    if not library.exists():
        text = library.with_suffix(".cpp")
        text.write_text(source)
        link = [f"-L{folder}", "-l:libfibers.so", f"-Wl,-rpath,{folder}"]
        _gcc(*flags, f"-I{place.NATIVE}", str(text), *link, to=library)
    return str(library)


def _gcc(*arguments: str, to: Path) -> None:
    """Compile; the library appears whole or not at all."""
    unfinished = to.with_suffix(f".{os.getpid()}")
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [place.compiler(), *arguments, "-o", str(unfinished)]
    run = subprocess.run(command, capture_output=True, text=True, env=plain)
    if run.returncode:
        raise RuntimeError(f"g++ does not compile the kernels:\n{run.stderr}")
    unfinished.rename(to)


def substitute(cupy: Any) -> None:
    """Put `RawModule` in the place of CuPy's, for the rest of the process."""
    cupy.RawModule = RawModule


def sanitizer_environment(environment: dict[str, str]) -> dict[str, str]:
    """What a process needs in which sanitized kernels are to be loaded."""
    libraries = [
        subprocess.run(
            [place.compiler(), f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    return environment | {
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",  # Python frees little on its way out
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "STANDIN_SANITIZE": "1",
        "PYTHONMALLOC": "malloc",  # so that the end of every NumPy array is known
    }
