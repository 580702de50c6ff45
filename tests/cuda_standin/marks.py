"""Marks of tests that only the stand-in can run."""

from __future__ import annotations

import os

import pytest

from . import place

standin = pytest.mark.skipif(not place.active(), reason=f"only the CUDA stand-in tells: {place.RUN}")

# The kernels that g++ compiled for its sanitizers count no bytes.
counted = pytest.mark.skipif(
    not place.active() or "STANDIN_SANITIZE" in os.environ,
    reason=f"only the CUDA stand-in counts, where it runs PTX: {place.RUN}",
)

kernels = pytest.mark.skipif(
    os.environ.get("GPUKMEANS_KERNELS", "1") != "1", reason="tests the CUDA kernels, which GPUKMEANS_KERNELS turns off"
)
