"""From a `.cu` file to a launch: constants, includes, the current stream, and what happens when it does not compile."""

from __future__ import annotations

import os

import numpy as np
import pytest
from conftest import cuda_or_skip

from gpukmeans import _kernels
from gpukmeans._kernels import cuda
from gpukmeans._kernels.cuda import compile as loader

TWICE = """
#include "helper.cuh"
extern "C" __global__ void twice(const REAL *x, long long n, double add, const REAL *more, REAL *out) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < n) out[i] = helped(x[i]) + (REAL)add + (more ? more[i] : (REAL)0);
}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of sources in place of the package's."""
    (tmp_path / "twice.cu").write_text(TWICE)
    (tmp_path / "helper.cuh").write_text("__device__ REAL helped(REAL x) { return FACTOR * x; }\n")
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    loader.kernel.cache_clear()
    yield tmp_path
    loader.kernel.cache_clear()


def test_included_files_are_part_of_the_text(folder):
    text = loader.source("twice")
    assert "#include" not in text
    assert text.index("return FACTOR * x") < text.index("__global__")


def test_only_float_rows_in_whole_elements(cupy_double):
    assert cuda.serves(cupy_double.zeros((3, 2), dtype=np.float32))
    assert cuda.serves(cupy_double.zeros((3, 4))[:, ::2].T)
    assert not cuda.serves(cupy_double.zeros((3, 2), dtype=np.float16))
    assert not cuda.serves(cupy_double.zeros((3, 2), dtype=np.int64))


def test_the_double_of_cupy_runs_the_array_bodies(cupy_double):
    assert _kernels.choice() == "numpy"
    assert not any(_kernels.find(op, cupy_double.zeros((3, 2))) for op in _kernels.OPERATIONS)
    assert set(_kernels.in_use("cuda").values()) == {"array body"}


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_launch(request, folder, dtype):
    cp = cuda_or_skip(request)
    x, out = cp.arange(100, dtype=dtype), cp.zeros(100, dtype=dtype)
    sizes = {"REAL": loader.c_name(dtype), "FACTOR": 2}
    loader.launch("twice", "twice", 4, 32, (x, 100, 0.5, None, out), **sizes)
    assert np.array_equal(out.get(), 2 * np.arange(100) + 0.5)
    with cp.cuda.Stream():
        loader.launch("twice", "twice", 4, 32, (x, np.int64(7), 1.0, x, out), **sizes | {"FACTOR": 3})
    assert out.get()[:8].tolist() == [1, 5, 9, 13, 17, 21, 25, 14.5]


@pytest.mark.cuda
def test_a_file_that_does_not_compile_raises_with_the_log(request, folder):
    cp = cuda_or_skip(request)
    if "STANDIN_SANITIZE" in os.environ:
        pytest.skip("g++ compiles in NVRTC's place")
    with pytest.raises(
        RuntimeError, match=r"(?s)twice\.cu of gpukmeans does not compile.*nonsense.*GPUKMEANS_KERNELS=0"
    ):
        loader.launch("twice", "twice", 1, 1, (cp.zeros(1), 1, 0.0, None, cp.zeros(1)), REAL="nonsense", FACTOR=2)
