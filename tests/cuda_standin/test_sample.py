"""The sample kernel through every tool: compiled for all architectures, by g++, and run by CuPy under the stand-in."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from conftest import cuda_or_skip

from cuda_standin import device, host, nvrtc
from cuda_standin.marks import counted, standin

FOLDER = pathlib.Path(__file__).parent  # of the kernel: a mutant's is another
REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}

pytestmark = [
    pytest.mark.cuda,
    standin,
]
BOTH = pytest.mark.parametrize("dtype", REALS)


def source():
    return (FOLDER / "sample.cu").read_text()


def options(dtype):
    return ("-std=c++17", f"-DREAL={REALS[np.dtype(dtype)]}")


def data(dtype, n=203, k=37, d=5):
    """Integers, so that distances are exact; duplicate centres, so that there are ties; weights that differ."""
    rng = np.random.default_rng(n)
    X, C = rng.integers(-9, 9, (n, d)).astype(dtype), rng.integers(-9, 9, (k, d)).astype(dtype)
    C[20:25] = C[7:12]
    X[:5] = C[20:25][:n]
    return X, C, rng.random(n)


def expected(X, C, w, rows=3):
    labels = ((X[:, None].astype(float) - C) ** 2).sum(2).argmin(1)
    mass = np.zeros((-(-len(X) // rows), len(C)))
    np.add.at(mass, (np.arange(len(X)) // rows, labels), w)
    return labels, mass


def launch(kernel, X, C, w, labels, mass, row_step=None):
    """Blocks of three warps, so that the last one has rows to spare."""
    (n, d), k = X.shape, len(C)
    sizes = np.int64(n), np.int32(k), np.int32(d)
    arguments = (X, np.int64(row_step or d), C, w, *sizes, labels, mass)
    kernel((len(mass),), (96,), arguments, shared_mem=k * d * X.itemsize + 3 * 4)


def fit(cp, X, C, w):
    """Labels and mass by the kernel, through CuPy."""
    kernel = cp.RawModule(code=source(), options=options(X.dtype)).get_function("nearest")
    labels, mass = cp.full(len(X), -1, cp.int32), cp.full((-(-len(X) // 3), len(C)), cp.nan)
    launch(kernel, *map(cp.asarray, (X, C, w)), labels, mass)
    return labels.get(), mass.get()


@BOTH
@pytest.mark.parametrize("seed", ["", "0", "1", "2"])
def test_executed_under_the_stand_in(request, monkeypatch, dtype, seed):
    monkeypatch.setenv("STANDIN_SEED", seed)
    X, C, w = data(dtype)
    labels, mass = fit(cuda_or_skip(request), X, C, w)
    expected_labels, expected_mass = expected(X, C, w)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(mass, expected_mass)


@BOTH
def test_rows_far_apart_need_indices_of_64_bits(request, monkeypatch, dtype):
    """Three rows 2^31 elements apart, in an allocation of which only what is touched takes memory."""
    cp = cuda_or_skip(request)
    monkeypatch.setenv("STANDIN_MEMORY", "1e12")
    X, C, w = data(dtype, n=3)
    step = 2**31 + 64
    base = cp.cuda.Memory(3 * step * X.itemsize)
    far = [cp.ndarray(5, dtype, cp.cuda.MemoryPointer(base, i * step * X.itemsize)) for i in range(3)]
    for row, values in zip(far, X, strict=True):
        row.set(values)
    kernel = cp.RawModule(code=source(), options=options(dtype)).get_function("nearest")
    labels, mass = cp.full(3, -1, cp.int32), cp.zeros((1, len(C)))
    whole = cp.ndarray((3, 5), dtype, cp.cuda.MemoryPointer(base, 0))
    launch(kernel, whole, cp.asarray(C), cp.asarray(w), labels, mass, row_step=step)
    np.testing.assert_array_equal(labels.get(), expected(X, C, w)[0])


def test_what_happened_is_recorded(request):
    cp = cuda_or_skip(request)
    X, C, w = data(np.float32)
    fit(cp, X, C, w)
    before = device.counters()
    with device.recorded() as events, cp.cuda.Stream() as stream:
        fit(cp, X, C, w)
    ours = [event for event in events if event.name == "nearest"]
    assert [(event.grid, event.block, event.stream) for event in ours] == [((68, 1, 1), (96, 1, 1), stream.ptr)]
    assert ours[0].shared == 37 * 5 * 4 + 12
    copied = [event.bytes for event in events if event.kind == "h2d"]
    assert copied == [X.nbytes, C.nbytes, w.nbytes]
    assert [event.bytes for event in events if event.kind == "d2h"] == [4 * 203, 8 * 68 * 37]
    after = device.counters()
    assert after.h2d_bytes - before.h2d_bytes == sum(copied)
    assert after.launches - before.launches == sum(event.kind == "launch" for event in events)


@counted
def test_bytes_of_global_memory_are_counted(request, monkeypatch):
    cp = cuda_or_skip(request)
    monkeypatch.setenv("STANDIN_MEMCHECK", "1")
    device.exact_allocations(cp)
    request.addfinalizer(lambda: cp.cuda.set_allocator(cp.get_default_memory_pool().malloc))  # as CuPy has it
    x, c, w = map(cp.asarray, data(np.float32))
    labels, mass = cp.full(203, -1, cp.int32), cp.empty((68, 37))
    kernel = cp.RawModule(code=source(), options=options(np.float32)).get_function("nearest")
    before = [device.traffic(array) for array in (x, c, w, labels, mass)]
    with device.recorded() as events:
        launch(kernel, x, c, w, labels, mass)
    after = [device.traffic(array) for array in (x, c, w, labels, mass)]
    moved = [tuple(np.subtract(a, b).tolist()) for a, b in zip(after, before, strict=True)]
    # every lane with a centre reads the row; each block reads all centres
    assert moved == [(37 * x.nbytes, 0), (68 * c.nbytes, 0), (w.nbytes, 0), (0, 4 * 203), (0, mass.nbytes)]
    assert (events[-1].loaded, events[-1].stored) == tuple(map(sum, zip(*moved, strict=True)))


@BOTH
@pytest.mark.parametrize("capability", [70, 75, 80, 86, 89, 90, 100, 120])
def test_compiled_for_every_architecture(dtype, capability):
    assert capability in nvrtc.capabilities()
    (used,) = nvrtc.usage(source(), capability, options(dtype))
    assert (used.kernel, used.spilled, used.stack, used.shared) == ("nearest", 0, 0, 0)
    assert used.registers <= 64


def test_only_the_float64_kernel_has_float64_distances():
    for dtype, expected_some in ((np.float32, False), (np.float64, True)):
        text = nvrtc.ptx(source(), 80, options(dtype))
        found = nvrtc.float64_between(text, source(), "distances begin", "distances end")
        assert bool(found) is expected_some
        assert nvrtc.float_atomics(text) == []
    slow = source().replace("squared += difference", "squared += (REAL)1.5 * 1.0 * difference")
    assert nvrtc.float64_between(nvrtc.ptx(slow, 80, options(np.float32)), slow, "distances begin", "distances end")
    with pytest.raises(ValueError, match="no instruction comes from between 'a mark' and 'another'"):
        nvrtc.float64_between(text, source(), "a mark", "another")
    atomic = 'extern "C" __global__ void f(float *x) { atomicAdd(x, 1.0f); }'
    assert len(nvrtc.float_atomics(nvrtc.ptx(atomic, 80))) == 1


@BOTH
@pytest.mark.parametrize("seed", ["", "0", "3"])
def test_compiled_by_gcc(monkeypatch, dtype, seed):
    monkeypatch.setenv("STANDIN_SEED", seed)
    X, C, w = data(dtype)
    labels, mass = np.full(len(X), -1, np.int32), np.full((68, 37), np.nan)
    kernel = host.RawModule(source(), options(dtype)).get_function("nearest")
    launch(kernel, X, C, w, labels, mass)
    expected_labels, expected_mass = expected(X, C, w)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(mass, expected_mass)
