"""Lloyd iterations against scikit-learn, from the same initial rows, interleaved in one run.

    python benchmarks/lloyd.py                     # cases a to g, 20 iterations, float32
    python benchmarks/lloyd.py --cases beg --dtype float64 --repeat 7 --json results.json

For each case: the median seconds of both, the ratio (above 1: gpukmeans is faster), the spread, the
peak memory of one fit above what the process held before (in a process of its own, Linux only), and
the inertia of the centres, recomputed in float64 for both. Speed is never shown without the answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

# OpenBLAS picks its kernel from the machine; an override in the environment would slow both.
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import sklearn.cluster
from cases import CASES, KINDS, inertia, make
from threadpoolctl import threadpool_info

import gpukmeans

ESTIMATORS = {"gpukmeans": gpukmeans.KMeans, "scikit-learn": sklearn.cluster.KMeans}


def fit(peer, X, init, iterations):
    """One fit, seconds and estimator."""
    extra = {"device": "cpu"} if peer == "gpukmeans" else {}
    model = ESTIMATORS[peer](len(init), init=init, n_init=1, max_iter=iterations, tol=0, **extra)
    start = time.perf_counter()
    model.fit(X)
    return time.perf_counter() - start, model


def status(field):
    """A figure of this process in MiB, from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def peak_memory(peer, case, kind, dtype, iterations):
    """MiB that one fit needs at its peak, in a fresh process; None where the kernel does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, __file__, "--peak", peer, "--cases", case, "--kinds", kind, "--dtype", dtype]
    run = subprocess.run([*command, "--iterations", str(iterations)], capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def print_peak(options):
    X, init = make(options.cases, options.kinds[0], options.dtype)
    fit(options.peak, X[: max(2000, 2 * len(init))].copy(), init, 2)  # imports and buffers of libraries
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    fit(options.peak, X, init, options.iterations)
    print(status("VmHWM") - before)


def compare(case, kind, options):
    """One row of the table."""
    X, init = make(case, kind, options.dtype)
    for peer in ESTIMATORS:
        fit(peer, X[: max(2000, 2 * len(init))], init, 2)
    seconds, models = {peer: [] for peer in ESTIMATORS}, {}
    calls = 50 if CASES[case].n < 10_000 else 1  # a fit of 500 rows is over before the clock ticks
    for _ in range(options.repeat):
        for peer in ESTIMATORS:
            taken = [fit(peer, X, init, options.iterations) for _ in range(calls)]
            seconds[peer].append(statistics.median(t for t, _ in taken))
            models[peer] = taken[-1][1]
    row = {"case": case, "kind": kind, "dtype": options.dtype, **CASES[case]._asdict()}
    for peer, model in models.items():
        row[peer] = {
            "seconds": statistics.median(seconds[peer]),
            "least": min(seconds[peer]),
            "most": max(seconds[peer]),
            "n_iter": model.n_iter_,
            "inertia": inertia(X, model.cluster_centers_),
            "peak_mib": peak_memory(peer, case, kind, options.dtype, options.iterations) if options.memory else None,
        }
    ratios = [b / a for a, b in zip(seconds["gpukmeans"], seconds["scikit-learn"], strict=True)]
    row["ratio"], row["data_mib"] = statistics.median(ratios), X.nbytes / 2**20
    row["ratio_spread"] = [min(ratios), max(ratios)]
    row["budget_mib"] = budget(case)
    return row


def budget(case):
    """The memory a fit may take: 12 bytes a row, the partial sums of the lanes, 16 MiB of buffers, 16 to spare."""
    from gpukmeans._plan import make_grid

    n, d, k = CASES[case]
    return (12 * n + len(make_grid(n, d, k, "cpu").lanes) * k * d * 8) / 2**20 + 32


def show(row):
    ours, theirs = row["gpukmeans"], row["scikit-learn"]
    memory = (
        ""
        if ours["peak_mib"] is None
        else f"{ours['peak_mib']:7.1f} {theirs['peak_mib']:8.1f} {row['budget_mib']:7.1f}"
    )
    print(
        f"{row['case']} {row['kind']:8} {row['n']:8d} {row['d']:4d} {row['k']:5d} "
        f"{ours['seconds']:9.4f} {theirs['seconds']:9.4f} {row['ratio']:6.2f} "
        f"[{row['ratio_spread'][0]:5.2f}, {row['ratio_spread'][1]:5.2f}] "
        f"{ours['n_iter']:4d} {theirs['n_iter']:4d} {ours['inertia'] / theirs['inertia'] - 1:+10.1e} {memory}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="abcdefg")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", choices=list(ESTIMATORS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        return print_peak(options)
    kernels = {info.get("architecture") for info in threadpool_info() if info["user_api"] == "blas"}
    print(f"{options.dtype}, {options.iterations} iterations, {os.cpu_count()} cores, BLAS kernels {kernels}")
    print(
        "case kind         n    d     k      ours  sklearn   ratio   [of the runs]  iter  iter  inertia-1"
        "   MiB  sklearn  budget"
    )
    rows = []
    for case in options.cases:
        for kind in options.kinds:
            rows.append(compare(case, kind, options))
            show(rows[-1])
    if options.json:
        options.json.write_text(json.dumps({"versions": versions(), "rows": rows}, indent=1) + "\n")


def versions():
    import numpy
    import scipy

    modules = (gpukmeans, numpy, scipy, sklearn)
    return {module.__name__: module.__version__ for module in modules} | {"python": sys.version.split()[0]}


if __name__ == "__main__":
    main()
