"""NVRTC compiles the kernels for every architecture: no spills, few registers, no sums in an order of their own."""

from __future__ import annotations

import pytest
from cuda_standin import nvrtc

from gpukmeans._kernels.cuda.compile import SHARED_BYTES, source

pytestmark = pytest.mark.cuda

# File, constants, and the most registers of each kernel in it.
BUDGETS = [
    ("pairs", {"ROW": "float"}, {"distance_sums": 128}),
    ("pairs", {"ROW": "double"}, {"distance_sums": 128}),
    ("seeding", {"ROW": "float", "POINTS": 8}, {"lower": 96, "pick": 64, "draw": 96}),
    ("seeding", {"ROW": "double", "POINTS": 8}, {"lower": 96, "pick": 64, "draw": 96}),
    ("seeding", {"ROW": "float", "POINTS": 16}, {"lower": 168, "pick": 64, "draw": 96}),
    ("seeding", {"ROW": "double", "POINTS": 16}, {"lower": 168, "pick": 64, "draw": 96}),
]
each = pytest.mark.parametrize(
    ("name", "constants", "budget"), BUDGETS, ids=[" ".join(map(str, (name, *c.values()))) for name, c, _ in BUDGETS]
)


@pytest.fixture(autouse=True)
def compiler():
    """NVRTC, which needs no device."""
    pytest.importorskip("cupy")
    try:
        nvrtc.capabilities()
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")


def options(constants):
    return ("-std=c++17", *(f"-D{macro}={value}" for macro, value in constants.items()))


@each
def test_kernels_keep_to_their_budgets(name, constants, budget):
    for capability in nvrtc.capabilities():
        used = nvrtc.usage(source(name), capability, options(constants))
        assert {one.kernel for one in used} == budget.keys()
        for one in used:
            assert (one.spilled, one.stack) == (0, 0), one
            assert one.registers <= budget[one.kernel], one
            assert one.shared <= SHARED_BYTES, one


@each
def test_floats_are_not_added_by_atomics(name, constants, budget):
    assert nvrtc.float_atomics(nvrtc.ptx(source(name), 80, options(constants))) == []
