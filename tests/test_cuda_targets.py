"""NVIDIA's compiler on every kernel, for every architecture it knows from compute capability 7.0 on.

It needs CuPy and NVRTC, and no device: registers, spills and instructions are facts about the text.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import pytest

from gpukmeans._kernels.cuda import compile as loader
from gpukmeans._kernels.cuda import passes

pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
from cupy.cuda import compiler, nvrtc

try:
    ARCHITECTURES = [arch for arch in nvrtc.getSupportedArchs() if arch >= 70]
except RuntimeError as error:
    pytest.skip(f"NVRTC is not installed: {error}", allow_module_level=True)

AS_CUPY_DOES = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space")
TYPES = [("float", "float"), ("float", "double"), ("double", "double")]  # ROW, REAL

# Registers that a thread may take, by entry.
BUDGET = {"localize": 64, "decide": 64, "sort": 64, "add": 64, "own": 64, "move": 64, "record": 64, "assign": 255}


class Resources(NamedTuple):
    entry: str
    stack: int
    spilled: int
    registers: int


class _Log(list):
    def write(self, text):
        self.append(text)


@cache
def build(name: str, arch: int, method: str = "cubin", **macros: str | int) -> tuple[str, list[Resources]]:
    return _build(name, arch, method, tuple(macros.items()))


@cache
def _build(name, arch, method, macros):
    """The text of a kernel's PTX (for "ptx"), and what its entries take (for "cubin"). No warning is let pass."""
    log = _Log()
    target = f"-arch={'sm' if method == 'cubin' else 'compute'}_{arch}"
    options = (target, *AS_CUPY_DOES, "--ptxas-options=-v", *(f"-D{macro}={value}" for macro, value in macros))
    program = compiler._NVRTCProgram(loader.source(name), f"{name}.cu", method=method)
    built, _ = program.compile(options, log)
    text = "".join(log)
    warnings = [line for line in text.splitlines() if "warning" in line.lower() and "deprecated" not in line]
    assert not warnings, warnings
    entries = re.findall(
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers",
        text,
        re.DOTALL,
    )
    resources = [Resources(e, int(stack), int(st) + int(ld), int(used)) for e, stack, st, ld, used in entries]
    return (built.decode() if method == "ptx" else ""), resources


def fused_macros(row, real, d):
    size = 4 if row == "float" else 8
    chosen = passes.fused(d, 2, size, 4 if real == "float" else 8)
    return {"ROW": row, "REAL": real, "FEATURES": d, "THREADS": chosen.threads}


def check(resources, entries):
    assert {r.entry for r in resources} == entries
    for r in resources:
        assert (r.stack, r.spilled) == (0, 0), r
        assert r.registers <= BUDGET[r.entry], r


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("row", "real"), TYPES)
def test_every_architecture(arch, row, real):
    for d in (4, 16):
        check(build("assign", arch, **fused_macros(row, real, d))[1], {"assign"})
    check(build("decide", arch, ROW=row, REAL=real)[1], {"localize", "decide"})
    if row == real:
        check(build("sums", arch, ROW=row)[1], {"sort", "add"})
        check(build("own", arch, ROW=row)[1], {"own"})
        check(build("update", arch)[1], {"move", "record"})


@pytest.mark.parametrize(("row", "real"), TYPES)
@pytest.mark.parametrize("arch", [70, 90])
def test_rows_short_and_long(arch, row, real):
    for d in (1, 3, 6, 9, 13, 17, 24, passes._FUSED_FEATURES):
        check(build("assign", arch, **fused_macros(row, real, d))[1], {"assign"})


def marked(text: str) -> str:
    """What the compiler put between the marks of the loop over the centres."""
    found = re.findall(r"// distance begins(.*?)// distance ends", text, re.DOTALL)
    assert found
    return "".join(found)


def test_the_search_for_float32_rows_has_no_float64_instruction():
    ptx = build("assign", 80, "ptx", MARKS=1, **fused_macros("float", "float", 5))[0]
    assert "fma.rn.ftz.f32" in marked(ptx)
    assert ".f64" not in marked(ptx)
    assert ".f64" in ptx  # the sums
    assert ".f64" in marked(build("assign", 80, "ptx", MARKS=1, **fused_macros("float", "double", 5))[0])


@pytest.mark.parametrize(("row", "real"), TYPES)
def test_nothing_is_added_by_atomics_but_integers(row, real):
    texts = [build("assign", 80, "ptx", **fused_macros(row, real, 3))[0]]
    texts += [build(name, 80, "ptx", ROW=row, REAL=real)[0] for name in ("decide", "sums", "own", "update")]
    atomics = re.findall(r"\b(?:atom|red)\.[\w.:]+", " ".join(texts))
    assert atomics  # the counters of decide and sort
    assert not [name for name in atomics if re.search(r"f(16|32|64)", name)], atomics


def test_shared_memory_is_what_every_device_has():
    for d in range(1, 33):
        for k in (1, 2, 7, 64, 650, 2000):
            for row, real in ((4, 4), (4, 8), (8, 8)):
                chosen = passes.fused(d, k, row, real)
                assert chosen is None or chosen.shared + 24 * chosen.threads // 32 <= 48 << 10
    assert passes.fused(16, 64, 4, 4)
    assert passes.fused(2, 500, 4, 4)
    assert passes.fused(33, 2, 4, 4) is None
    assert passes.fused(16, 1000, 4, 4) is None
