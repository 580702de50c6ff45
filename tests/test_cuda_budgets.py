"""NVRTC compiles every kernel for every architecture: no spills, few registers, no sums in an order of their own."""

from __future__ import annotations

import re

import pytest

from gpukmeans._kernels.cuda.compile import SHARED_BYTES, source

pytestmark = pytest.mark.cuda

OLDEST = 70

# File, constants, and the most registers of each kernel in it: threads of a block times blocks that should fit.
BUDGETS = [
    ("pairs", {"REAL": "float"}, {"distance_sums": 128}),
    ("pairs", {"REAL": "double"}, {"distance_sums": 128}),
    ("seeding", {"REAL": "float", "POINTS": 8}, {"lower": 96, "pick": 64, "draw": 96}),
    ("seeding", {"REAL": "double", "POINTS": 8}, {"lower": 96, "pick": 64, "draw": 96}),
    ("seeding", {"REAL": "float", "POINTS": 16}, {"lower": 168, "pick": 64, "draw": 96}),
    ("seeding", {"REAL": "double", "POINTS": 16}, {"lower": 168, "pick": 64, "draw": 96}),
]
NAMES = [" ".join([name, *map(str, constants.values())]) for name, constants, _ in BUDGETS]

FACTS = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers(?:, used \d+ barriers)?(?:, (\d+) bytes smem)?",
    re.DOTALL,
)


class Log(list):
    write = list.append


def compiled(name, constants, architecture, method="cubin"):
    """What CuPy would load on that architecture, and the log."""
    compiler = pytest.importorskip("cupy.cuda.compiler")
    log = Log()
    target = f"-arch={'sm' if method == 'cubin' else 'compute'}_{architecture}"
    options = (target, "-std=c++17", *(f"-D{macro}={value}" for macro, value in constants.items()))
    options += ("-ftz=true", "--device-as-default-execution-space", "--ptxas-options=-v")
    program = compiler._NVRTCProgram(source(name), f"{name}.cu", method=method)
    return program.compile(options, log)[0], "".join(log)


@pytest.mark.parametrize(("name", "constants", "budget"), BUDGETS, ids=NAMES)
def test_kernels_keep_to_their_budgets(name, constants, budget):
    nvrtc = pytest.importorskip("cupy.cuda").nvrtc
    for architecture in nvrtc.getSupportedArchs():
        if architecture < OLDEST:
            continue
        image, log = compiled(name, constants, architecture)
        assert image[:4] == b"\x7fELF"
        found = {facts[0]: [int(fact or 0) for fact in facts[1:]] for facts in FACTS.findall(log)}
        assert found.keys() == budget.keys()
        for entry, (stack, stores, loads, registers, shared) in found.items():
            assert (stack, stores, loads) == (0, 0, 0), (entry, architecture)
            assert registers <= budget[entry], (entry, architecture)
            assert shared <= SHARED_BYTES, (entry, architecture)


@pytest.mark.parametrize(("name", "constants", "budget"), BUDGETS, ids=NAMES)
def test_floats_are_not_added_by_atomics(name, constants, budget):
    ptx = compiled(name, constants, 80, "ptx")[0].decode()
    assert not re.findall(r"\b(?:atom|red)\.[\w.]*\.f(?:16|32|64)", ptx)
