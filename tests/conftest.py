"""Fixtures: the array namespaces that the suite runs over, and data that is hard in known ways."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import pytest
import strict_cupy
from cuda_standin import device, host

from gpukmeans._device import Bound
from gpukmeans._kernels.cpu import native

# Processes that tests start in the checkout import the installed package, not the checkout, where
# there are no compiled kernels. `pytest` itself does so too, unlike `python -m pytest`.
os.environ["PYTHONSAFEPATH"] = "1"


def pytest_addoption(parser):
    parser.addoption(
        "--require-cuda", action="store_true", help="fail, instead of skip, what needs a usable CUDA device"
    )
    parser.addoption(
        "--auto-cuda", action="store_true", help="device='auto' sends host data of any size to the CUDA device"
    )


@pytest.fixture(autouse=True)
def auto_cuda(request, monkeypatch):
    """With --auto-cuda, tests that name no device compute on the first CUDA device."""
    if request.config.getoption("--auto-cuda"):
        cuda_or_skip(request)
        monkeypatch.setattr("gpukmeans._device.bound", lambda: Bound(0.0, "--auto-cuda"))


@pytest.fixture(params=native().instruction_sets() if native() else [])
def isa(request):
    """Each instruction set that compiled kernels run with on this machine, in turn."""
    before = native().instruction_set()
    native().use(request.param)
    yield request.param
    native().use(before)


def cuda_or_skip(request) -> Any:
    """The real CuPy where a device is usable; otherwise a skip (or failure) that says why."""
    from gpukmeans._device import _cuda_state

    count, why_not = _cuda_state()
    if count == 0 and request.config.getoption("--require-cuda"):
        pytest.fail(f"--require-cuda: no usable CUDA device: {why_not}")
    if count == 0:
        pytest.skip(f"no usable CUDA device: {why_not}")
    import cupy

    if os.environ.get("STANDIN_MEMCHECK"):  # see tests/cuda_standin
        device.exact_allocations(cupy)
    if os.environ.get("STANDIN_SANITIZE"):
        host.substitute(cupy)
    return cupy


@pytest.fixture
def cp(request):
    """The real CuPy, on a usable CUDA device or under the stand-in for one."""
    return cuda_or_skip(request)


class Space(NamedTuple):
    """An array namespace under test."""

    name: str
    xp: Any
    put: Any  # NumPy array -> array of the namespace
    get: Any  # array of the namespace -> NumPy array
    device: str  # the `device=` that computes there

    def owns(self, x: Any) -> bool:
        """Whether x is an array of this namespace, on the device that `put` puts arrays on."""
        return type(x) is type(self.put(np.zeros(1))) and str(x.device) == str(self.put(np.zeros(1)).device)


def _readonly(x):
    x = np.array(x)
    x.flags.writeable = False
    return x


def _make_space(name, request):
    if name == "numpy":
        return Space(name, np, np.asarray, np.asarray, "cpu")
    if name == "numpy-bodies":  # NumPy without kernels: the array bodies
        request.getfixturevalue("monkeypatch").setenv("GPUKMEANS_KERNELS", "0")
        return Space(name, np, np.asarray, np.asarray, "cpu")
    if name == "numpy-readonly":
        return Space(name, np, _readonly, np.asarray, "cpu")
    if name == "strict":
        xp = pytest.importorskip("array_api_strict")
        cpu, device = xp.__array_namespace_info__().devices()[:2]
        return Space(
            name, xp, lambda x: xp.asarray(np.array(x), device=device), lambda x: np.asarray(x.to_device(cpu)), "auto"
        )
    cp = strict_cupy.install(request.getfixturevalue("monkeypatch")) if name == "strict-cupy" else cuda_or_skip(request)
    return Space(name, cp, cp.asarray, cp.asnumpy, "cuda")


@pytest.fixture(
    params=[
        "numpy",
        "numpy-bodies",
        "numpy-readonly",
        "strict",
        "strict-cupy",
        pytest.param("cuda", marks=pytest.mark.cuda),
    ]
)
def space(request):
    """Each array namespace in turn; real CuPy where a CUDA device is usable."""
    return _make_space(request.param, request)


@pytest.fixture
def cupy_double(monkeypatch):
    """The strict CuPy double, in place of `cupy`."""
    return strict_cupy.install(monkeypatch)


@pytest.fixture(scope="session")
def blobs():
    """Asymmetric blobs of an awkward number of rows: (1003, 5) float64, seven centres, seven classes."""
    rng = np.random.default_rng(7)
    centers = rng.normal(size=(7, 5)) * np.array([5.0, 3.0, 1.0, 4.0, 2.0])
    y = rng.choice(7, size=1003, p=[0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05])
    return centers[y] + rng.normal(size=(1003, 5)), y
