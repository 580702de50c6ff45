"""What the figures were measured on: machine, versions, threads, BLAS, kernels, commit."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers import PEERS
from threadpoolctl import threadpool_info

ROOT = Path(__file__).resolve().parent.parent
_SETS = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "asimd", "sve")
_VARIABLES = ("GPUKMEANS_NUM_THREADS", "GPUKMEANS_KERNELS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
        "threads": _threads(),
        "blas": _blas(),
        "kernels": _kernels(),
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


def _threads() -> int | None:
    """Threads of a fit of ours; None if this version does not tell."""
    try:
        from gpukmeans._threads import n_threads
    except ImportError:
        return None
    return n_threads()


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


def _kernels() -> dict[str, str]:
    """Operation -> what serves it, as `gpukmeans doctor` shows."""
    try:
        from gpukmeans._kernels import in_use
    except ImportError:
        return {}
    return {str(op): str(name) for op, name in in_use("cpu").items()}


def commit() -> str:
    """The short hash of the checkout, with ``-changed`` where files that matter differ from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", "gpukmeans", "benchmarks", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-changed" if changed.strip() else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout


def command(argv: list[str]) -> str:
    """The command that was typed; folders of this machine are left out of it."""

    def portable(word: str) -> str:
        if not os.path.isabs(word):
            return word
        path = Path(word).resolve()
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name

    script = portable(str(Path(sys.argv[0]).resolve())) if sys.argv and sys.argv[0] else "benchmarks/run.py"
    return shlex.join(["python", script, *map(portable, argv)])
