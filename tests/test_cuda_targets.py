"""NVIDIA's compiler on every kernel, for every architecture it knows from compute capability 7.0 on.

It needs CuPy and NVRTC, and no device: registers, spills and instructions are facts about the text.
"""

from __future__ import annotations

import re

import pytest
from cuda_standin import nvrtc
from cuda_standin.builds import BUILDS, SIZE, TYPES, Build, assign

from gpukmeans._kernels.cuda import passes
from gpukmeans._kernels.cuda.compile import SHARED_BYTES, source

pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)

try:
    CAPABILITIES = nvrtc.capabilities()
except RuntimeError as error:
    pytest.skip(f"NVRTC is not installed: {error}", allow_module_level=True)

pytestmark = pytest.mark.cuda


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
