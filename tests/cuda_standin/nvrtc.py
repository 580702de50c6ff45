"""NVIDIA's own compiler over CUDA sources, as CuPy calls it, for every architecture: what it made of a kernel.

Needs CuPy and NVRTC, not a device: so it runs under the stand-in and elsewhere alike.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import NamedTuple

# What CuPy 14.2 adds to the options of a RawModule, besides the architecture; a test compares it with CuPy.
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")

_USAGE = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)'.*?(?P<stack>\d+) bytes stack frame, (?P<stored>\d+) bytes spill "
    r"stores, (?P<loaded>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)
_FLOAT_ATOMIC = re.compile(r"^.*\b(?:atom|red)\.\S*\.(?:f16|f16x2|bf16|bf16x2|f32|f64)\b.*$", re.MULTILINE)


class Usage(NamedTuple):
    """What a kernel takes on one architecture."""

    kernel: str
    capability: int  # 80 for compute capability 8.0
    registers: int  # of a thread
    spilled: int  # bytes, stored and loaded
    stack: int  # bytes of a thread
    shared: int  # bytes of static shared memory


def capabilities(least: int = 70) -> list[int]:
    """The architectures that this NVRTC compiles for."""
    from cupy.cuda import nvrtc

    return [number for number in nvrtc.getSupportedArchs() if number >= least]


def usage(source: str, capability: int, options: Sequence[str] = ()) -> list[Usage]:
    """Compile to machine code; what each kernel takes.

    Raises
    ------
    cupy.cuda.compiler.CompileException
        With the compiler's log, if it does not compile.
    ValueError
        If the compiler warns, or reports on no kernel.
    """
    _, log = _compile(source, "cubin", f"-arch=sm_{capability}", "--ptxas-options=-v", *options)
    deprecated = "deprecated and may be removed"  # about old architectures as such
    warnings = [line for line in log.splitlines() if "warning" in line.lower() and deprecated not in line]
    found = list(_USAGE.finditer(log))
    if warnings or not found:
        raise ValueError("\n".join(warnings) or f"the compiler reports on no kernel:\n{log}")
    return [_usage(match, capability) for match in found]


def _usage(match: re.Match[str], capability: int) -> Usage:
    shared = re.search(r"(\d+) bytes smem", match["rest"])
    spilled = int(match["stored"]) + int(match["loaded"])
    numbers = int(match["registers"]), spilled, int(match["stack"]), int(shared[1]) if shared else 0
    return Usage(match["kernel"], capability, *numbers)


def ptx(source: str, capability: int, options: Sequence[str] = ()) -> str:
    """Compile to PTX, in which each instruction tells its line of the source."""
    code, _ = _compile(source, "ptx", f"-arch=compute_{capability}", "-lineinfo", *options)
    return code.decode().rstrip("\0")


def _compile(source: str, method: str, *options: str) -> tuple[bytes, str]:
    from cupy.cuda import compiler

    log = io.StringIO()
    program = compiler._NVRTCProgram(source, "kernel.cu", method=method)
    code, _ = program.compile((*options, *CUPY_OPTIONS), log)
    return code, log.getvalue()


def float_atomics(text: str) -> list[str]:
    """Lines of PTX that add up floating-point numbers in no fixed order."""
    return [line.strip() for line in _FLOAT_ATOMIC.findall(text)]


def float64_between(text: str, source: str, begin: str, end: str) -> list[str]:
    """Instructions on float64 that come from between two marks of the source.

    Parameters
    ----------
    text : str
        PTX of the source, from `ptx`.
    source : str
    begin, end : str
        What the lines before and after the marked ones contain. There may be several marked pieces.

    Raises
    ------
    ValueError
        If nothing is marked, or no instruction comes from there: then this would tell nothing.
    """
    marked: set[int] = set()
    start = 0
    for number, line in enumerate(source.splitlines(), 1):
        if begin in line:
            start = number
        elif end in line and start:
            marked |= set(range(start + 1, number))
            start = 0
    inside, seen, found = False, 0, []
    for line in text.splitlines():
        if line.strip().startswith(".loc"):
            # `.loc FILE LINE COLUMN, function_name ..., inlined_at FILE LINE COLUMN`: either line may be marked.
            numbers = re.findall(r"(?:\.loc|inlined_at)\s+\d+\s+(\d+)\s+\d+", line)
            inside = any(int(number) in marked for number in numbers)
        elif inside and line.strip():
            seen += 1
            if re.search(r"\.f64\b", line):
                found.append(line.strip())
    if not seen:
        raise ValueError(f"no instruction comes from between {begin!r} and {end!r} ({len(marked)} lines)")
    return found
