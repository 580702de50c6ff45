"""NVIDIA's compiler on every kernel, for every architecture it knows from compute capability 7.0 on.

It needs CuPy and NVRTC, and no device: registers, spills and instructions are facts about the text.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
from cuda_standin import nvrtc

from gpukmeans._kernels.cuda import passes
from gpukmeans._kernels.cuda.compile import SHARED_BYTES, source

pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)

try:
    CAPABILITIES = nvrtc.capabilities()
except RuntimeError as error:
    pytest.skip(f"NVRTC is not installed: {error}", allow_module_level=True)

pytestmark = pytest.mark.cuda

TYPES = [("float", "float"), ("float", "double"), ("double", "double")]  # ROW, REAL
SIZE = {"float": 4, "double": 8}


class Build(NamedTuple):
    """A file, the macros that it is compiled with, and the most registers that a thread of each kernel may take."""

    name: str
    macros: dict[str, Any]
    budget: dict[str, int]

    @property
    def options(self) -> tuple[str, ...]:
        return ("-std=c++17", *(f"-D{macro}={value}" for macro, value in self.macros.items()))

    def __str__(self) -> str:
        return " ".join(map(str, (self.name, *self.macros.values())))


def assign(row: str, real: str, d: int) -> Build:
    """The fused kernel; the longer a row, the more of the registers hold it."""
    chosen = passes.fused(d, 2, SIZE[row], SIZE[real])
    most = 255 if d * SIZE[real] > 128 else 168 if chosen.threads == 128 else 128
    return Build("assign", {"ROW": row, "REAL": real, "FEATURES": d, "THREADS": chosen.threads}, {"assign": most})


def seeding(row: str, points: int, lower: int) -> Build:
    return Build("seeding", {"ROW": row, "POINTS": points}, {"lower": lower, "pick": 64, "draw": 96})


BUILDS = [
    *(assign(row, real, d) for row, real in TYPES for d in (4, 16)),
    *(Build("decide", {"ROW": row, "REAL": real}, {"localize": 64, "decide": 64}) for row, real in TYPES),
    *(Build("sums", {"ROW": row}, {"sort": 64, "add": 64}) for row in ("float", "double")),
    *(Build("own", {"ROW": row}, {"own": 64}) for row in ("float", "double")),
    Build("update", {}, {"move": 64, "record": 64}),
    *(Build("pairs", {"ROW": row}, {"distance_sums": 128}) for row in ("float", "double")),
    *(seeding(row, points, lower) for row in ("float", "double") for points, lower in ((8, 96), (16, 168))),
]


def check(build: Build, capability: int) -> None:
    """No warning, no spills, no stack, and no more than the budget."""
    used = nvrtc.usage(source(build.name), capability, build.options)
    assert {one.kernel for one in used} == build.budget.keys()
    for one in used:
        assert (one.spilled, one.stack) == (0, 0), one
        assert one.registers <= build.budget[one.kernel], one
        assert one.shared <= SHARED_BYTES, one


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("build", BUILDS, ids=str)
def test_every_architecture(build, capability):
    check(build, capability)


@pytest.mark.parametrize(("row", "real"), TYPES)
@pytest.mark.parametrize("capability", [70, 90])
def test_rows_short_and_long(capability, row, real):
    for d in (1, 3, 6, 9, 13, 17, 24, passes._FUSED_FEATURES):
        check(assign(row, real, d), capability)


def test_the_search_for_float32_rows_has_no_float64_instruction():
    text, marks = source("assign"), ("// distance begins", "// distance ends")
    for d in (2, 16):
        single, double = (nvrtc.ptx(text, 80, assign("float", real, d).options) for real in ("float", "double"))
        assert nvrtc.float64_between(single, text, *marks) == []
        assert nvrtc.float64_between(double, text, *marks)


def test_nothing_is_added_by_atomics_but_integers():
    texts = [nvrtc.ptx(source(build.name), 80, build.options) for build in BUILDS]
    assert [nvrtc.float_atomics(text) for text in texts] == [[]] * len(texts)
    assert re.search(r"\b(?:atom|red)\.", " ".join(texts))  # the counters of decide and sort


def test_shared_memory_is_what_every_device_has():
    for d in range(1, 33):
        for k in (1, 2, 7, 64, 650, 2000):
            for row, real in TYPES:
                chosen = passes.fused(d, k, SIZE[row], SIZE[real])
                assert chosen is None or chosen.shared + 24 * chosen.threads // 32 <= SHARED_BYTES
    assert passes.fused(16, 64, 4, 4)
    assert passes.fused(2, 500, 4, 4)
    assert passes.fused(33, 2, 4, 4) is None
    assert passes.fused(16, 1000, 4, 4) is None
