"""What the figures were measured on: machine, GPU, versions, threads, BLAS, kernels, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from .. import _kernels, _threads
from .._device import cuda_facts
from ._peers import PEERS
from ._standin import LABEL, driver

PACKAGE = Path(__file__).resolve().parents[1]
_SETS = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "asimd", "sve")
_VARIABLES = ("GPUKMEANS_NUM_THREADS", "GPUKMEANS_KERNELS", "GPUKMEANS_ISA", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment() -> dict[str, Any]:
    """Facts about machine and software, of JSON types, without names of hosts or folders."""
    model, flags = _processor()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "instruction_sets": [name for name in _SETS if name in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "threads": _threads.n_threads(),
        "blas": _blas(),
        "kernels": {str(op): str(name) for op, name in _kernels.in_use("cpu").items()},
        "cuda": cuda_facts() | ({"stand_in": LABEL} if driver() else {}),
    }


def _processor() -> tuple[str, set[str]]:
    """Name and instruction sets, as far as the system tells."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return platform.processor() or platform.machine(), set()
    facts = {key.strip(): value.strip() for key, _, value in reversed(lines)}
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return facts.get("model name") or platform.machine(), flags


def _versions() -> dict[str, str]:
    found = {}
    for package in dict.fromkeys(["numpy", "threadpoolctl", "torch", *(peer.package for peer in PEERS)]):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _blas() -> list[str]:
    """The BLAS of NumPy and SciPy, with the kernel it chose for this machine."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    ours = [pool for pool in pools if any(name in str(pool["filepath"]) for name in ("numpy", "scipy"))]
    return sorted(
        {
            f"{p['internal_api']} {p['version']}, {p.get('architecture')} kernel, {p['num_threads']} threads"
            for p in ours or pools
        }
    )


def commit() -> str:
    """The short hash of the checkout that the package runs from, with ``-changed`` where files that matter differ.

    "unknown" for a package that was installed: then the versions tell.
    """
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")  # not some other checkout that holds a virtual environment
        head = _git("rev-parse", "--short", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", ".", "../benchmarks", ":!../benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-changed" if changed.strip() else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=True).stdout
