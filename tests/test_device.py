"""Where a fit runs, and why: CuPy absent, CuPy without a driver, CuPy usable."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys

import numpy as np
import pytest
import strict_cupy
from conftest import cuda_or_skip

import gpukmeans._device as device
from gpukmeans import KMeans

BIG = 2e9


@pytest.fixture
def no_cupy(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "cupy"]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "cupy":
                raise ModuleNotFoundError("No module named 'cupy'", name="cupy")

    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])


def test_cupy_absent(no_cupy):
    assert device.resolve("auto", work=BIG).kind == "cpu"
    assert "not installed" in device.resolve("auto", work=BIG).reason
    with pytest.raises(RuntimeError, match=r"CuPy is not installed .*gpukmeans\[cuda12x\].*device='auto'"):
        device.resolve("cuda")
    assert device.describe()["cupy"] is None


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="the real CuPy is not installed here")
def test_real_cupy_without_a_driver():
    """The released wheel imports with no driver; that is a reason, not an error."""
    count, why_not = device._cuda_state()
    if count:
        pytest.skip("a CUDA device is usable here")
    assert "cudaErrorInsufficientDriver" in why_not or "cudaErrorNoDevice" in why_not
    assert device.resolve("auto", work=BIG).kind == "cpu"
    with pytest.raises(RuntimeError, match="needs a usable CUDA GPU: CUDARuntimeError"):
        KMeans(2, device="cuda").fit(np.eye(3))
    assert device.describe()["cupy"] is not None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"broken": strict_cupy.broken_driver()}, "cudaErrorInsufficientDriver"),
        ({"broken": strict_cupy.broken_compiler()}, "nvrtc|NVRTC"),
        ({"devices": 0}, "cudaErrorNoDevice|no device"),
    ],
)
def test_unusable_devices_give_their_reason(monkeypatch, options, reason):
    strict_cupy.install(monkeypatch, **options)
    with pytest.raises(RuntimeError, match=reason):
        device.resolve("cuda")
    assert device.resolve("auto", work=BIG).kind == "cpu"


def test_auto_weighs_the_size_of_the_problem(cupy_double):
    small, large = device.resolve("auto", work=1000), device.resolve("auto", work=BIG)
    assert (small.kind, large.kind) == ("cpu", "cuda")
    assert "below" in small.reason
    assert large.name == "cuda:0 Strict double"


@pytest.fixture
def fresh_bound():
    """The environment is read again, in this test and after it."""
    device.bound.cache_clear()
    yield
    device.bound.cache_clear()


@pytest.mark.parametrize(("value", "kinds"), [("2e3", "pcc"), ("0", "ccc"), ("inf", "ppp"), ("", "ppc")])
def test_the_bound_of_auto_is_read_from_the_environment(value, kinds, cupy_double, fresh_bound, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_WORTH_A_GPU", value)
    found = [device.resolve("auto", work=work).kind for work in (1999, 2000, BIG)]
    assert found == [{"p": "cpu", "c": "cuda"}[letter] for letter in kinds]
    monkeypatch.setenv("GPUKMEANS_WORTH_A_GPU", "5")
    assert device.bound().work != 5  # read once


def test_the_bound_names_its_source(cupy_double, fresh_bound, monkeypatch):
    assert device.bound() == (device.WORTH_A_GPU, "built in")
    device.bound.cache_clear()
    monkeypatch.setenv("GPUKMEANS_WORTH_A_GPU", "3.1e7")
    assert "below 3.1e+07 (GPUKMEANS_WORTH_A_GPU)" in device.resolve("auto", work=10).reason


@pytest.mark.parametrize("value", ["many", "-1", "nan", "1e9 rows"])
def test_bounds_that_are_none(value, fresh_bound, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_WORTH_A_GPU", value)
    with pytest.raises(ValueError, match=rf"GPUKMEANS_WORTH_A_GPU='{value}'.*such as 1e9.*compare --sweep n"):
        device.resolve("auto", work=1)


def test_auto_follows_the_input(cupy_double):
    x = cupy_double.zeros((3, 2))
    assert device.resolve("auto", x, work=1).kind == "cuda"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="'auto', 'cpu', 'cuda' or 'cuda:N'"):
        device.resolve(name)


def test_device_that_does_not_exist(cupy_double):
    with pytest.raises(RuntimeError, match=r"device='cuda:3' does not exist: 1 CUDA device"):
        device.resolve("cuda:3")


def test_falling_back_is_logged_once(monkeypatch, caplog):
    strict_cupy.install(monkeypatch, broken=strict_cupy.broken_driver())
    device._log_fallback.cache_clear()
    with caplog.at_level(logging.INFO, logger="gpukmeans"):
        device.resolve("auto", work=BIG)
        device.resolve("auto", work=BIG)
    assert [r.getMessage() for r in caplog.records if "computes on the CPU" in r.getMessage()] == [
        "device='auto' computes on the CPU: CUDARuntimeError: cudaErrorInsufficientDriver: "
        "CUDA driver version is insufficient for CUDA runtime version"
    ]


def test_on_a_real_gpu(request, blobs):
    cp = cuda_or_skip(request)
    X = blobs[0].astype(np.float32)
    there, here = KMeans(7, random_state=0).fit(cp.asarray(X)), KMeans(7, random_state=0, device="cpu").fit(X)
    assert np.array_equal(there.labels_.get(), here.labels_)


# --- importing ----------------------------------------------------------------------------------

EXTRA = """
import sys
import sklearn
before = set(sys.modules)
import {module}
extra = sorted(m for m in set(sys.modules) - before if m.partition(".")[0] != "gpukmeans")
print(" ".join(extra))
"""


def imported(module):
    run = subprocess.run(
        [sys.executable, "-c", EXTRA.format(module=module)], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_importing_brings_in_nothing_that_scikit_learn_does_not():
    assert imported("gpukmeans") == []


def test_the_import_test_can_fail():
    assert "matplotlib" in imported("gpukmeans, matplotlib")
