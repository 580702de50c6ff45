"""The benchmarks: one command, jobs by name, results added to one JSON file.

    python benchmarks/run.py lloyd --cases bg --kinds blobs        # 20 iterations from the same rows
    python benchmarks/run.py lloyd --cases bg --converge --dtype float32 float64
    python benchmarks/run.py seeding                               # k-means++
    python benchmarks/run.py silhouette                            # and nine silhouettes in one pass
    python benchmarks/run.py random                                # 30 random shapes, none below 0.95
    python benchmarks/run.py roofline                              # what the machine could do at best
    python benchmarks/run.py all --quick --json benchmarks/results/cpu.json
    python benchmarks/page.py benchmarks/results/cpu.json          # docs/performance.md and its picture

Runs of the peers are interleaved. For each: median seconds [least, most], how many times as fast as
scikit-learn [of the rounds], iterations, inertia of its centres in float64 relative to ours, rows with
a label that is not the nearest centre, and peak memory above what the process held. A result is stored
as soon as it is there, in place of an earlier one about the same; what is missing can be run later.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# OpenBLAS picks its kernel from the machine; an override in the environment would slow all that use it.
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

import cases
import results
from jobs import CONVERGE, build, measure
from table import heading, lines, shape_line

from gpukmeans.compare._environment import commit, environment
from gpukmeans.compare._measure import copy_bandwidth, gemm_peak, peak_of
from gpukmeans.compare._peers import OURS, PEERS, REFERENCE

FLOOR = 0.95  # the ratio to scikit-learn that no random shape may fall below
_JOBS = ("lloyd", "seeding", "silhouette", "random", "roofline", "all")
ROOT = Path(__file__).resolve().parent.parent
_DTYPES = ("float32", "float64")


def main(argv: Sequence[str] | None = None, before: Sequence[str] = ()) -> int:
    """Read the command line, with some words before it, and run; the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv[:1] == ["peak"]:
            return _print_peak(json.loads(argv[1]), argv[2])
        options = _parser().parse_args([*before, *argv])
        _check(options)
        return _run(options, argv)
    except (results.ResultError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: results so far are stored", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=_JOBS)
    letters = "".join(name for name in cases.CASES if name != "t")
    parser.add_argument("--cases", default=letters, help=f"letters of {letters}; t tries the harness")
    parser.add_argument("--kinds", nargs="+", default=list(cases.KINDS), choices=cases.KINDS)
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=_DTYPES)
    parser.add_argument("--iterations", type=_positive, help="default: 20, and 5 for case h")
    parser.add_argument("--converge", action="store_true", help=f"tol=0 and at most {CONVERGE} iterations")
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS], help="default: all installed")
    parser.add_argument("--repeat", type=_positive, help="rounds; default: 5, and 7 for random shapes")
    parser.add_argument("--quick", action="store_true", help="2 rounds, no memory, --limit 10")
    parser.add_argument("--limit", type=float, help="seconds for a peer in a row; default: 60")
    parser.add_argument("--shapes", type=_span, default=range(30), metavar="FROM:TO", help="of the random ones")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--json", type=Path, help="file that results are added to")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _span(text: str) -> range:
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last) <= 30):
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM:TO with 0 <= FROM < TO <= 30")
    return range(int(first), int(last))


def _check(options: argparse.Namespace) -> None:
    unknown = sorted(set(options.cases) - set(cases.CASES))
    if unknown:
        raise results.ResultError(f"no case {', '.join(unknown)}: give letters of {''.join(cases.CASES)}.")
    if options.converge and options.iterations:
        raise results.ResultError("--converge runs to convergence: leave --iterations out.")
    if options.json is not None:  # before an hour of work, not after it
        if options.json.exists():
            results.load(options.json)
        elif not options.json.parent.is_dir():
            raise results.ResultError(f"there is no folder for --json {options.json.name}: make it first.")
    options.memory &= not options.quick
    options.limit = options.limit if options.limit is not None else 10.0 if options.quick else 60.0


def specs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is to be measured, one after the other."""

    def spec(job: str, case: str, kind: str, dtype: str, max_iter: int = 0) -> dict[str, Any]:
        return dict(zip(results.KEY, (job, case, kind, dtype, max_iter), strict=True))

    everything, job = options.job == "all", options.job
    dtypes = _DTYPES if everything else options.dtype
    for dtype in dtypes:
        if job == "lloyd" or everything:
            for case in options.cases:
                for kind in options.kinds:
                    given = options.iterations or cases.CASES[case].iterations
                    if everything or not options.converge:
                        yield spec("lloyd", case, kind, dtype, given)
                    if options.converge or (everything and case in "bcg"):
                        yield spec("lloyd", case, kind, dtype, CONVERGE)
        if job == "seeding" or everything:
            for case in [case for case in options.cases if case in "bcdgt"]:
                yield from (spec("seeding", case, kind, dtype) for kind in options.kinds)
        if job == "silhouette" or everything:
            tried = set(options.cases) == {"t"}
            for case in ("st",) if tried else ("s10", "s50"):
                yield spec("silhouette", case, "blobs", dtype)
            yield spec("nine", "ninet" if tried else "nine", "blobs", dtype)
        if job == "random" or everything:
            for number in options.shapes:
                yield spec("random", f"r{number:02d}", cases.random_shapes()[number][1], dtype, 20)
    if job == "roofline" or everything:
        yield spec("roofline", "", "", "")


def _run(options: argparse.Namespace, argv: list[str]) -> int:
    here = environment()
    kernels = ", ".join(sorted(set(here["kernels"].values())))  # a build without a compiler is to be noticed here
    print(f"{here['cpu']}, {here['usable_cores']} cores, {'; '.join(here['blas'])}; gpukmeans: {kernels}", flush=True)
    stamp = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "command": command(argv)}
    shapes, reasons = [], {}
    for spec in specs(options):
        result = _measure(spec, options) | stamp
        for name, reason in result["skipped"].items():
            if reasons.get(name) != reason:  # said once, and again when it changes
                print(f"  without {name}: {reason}", flush=True)
        reasons |= result["skipped"]
        if spec["job"] == "random":
            shapes.append(result)
        print(*_shown(result), sep="\n", flush=True)
        if options.json is not None:
            results.add(options.json, result, environment())
    return _verdict(shapes) if shapes else 0


def _measure(spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    if spec["job"] == "roofline":
        peaks = {dtype: round(gemm_peak(dtype, repeat=10), 1) for dtype in _DTYPES}
        return {**spec, "gemm": peaks, "copy_gb_s": round(copy_bandwidth(), 1), "peers": {}, "skipped": {}}
    shape = spec["job"] == "random"
    rounds = options.repeat or (2 if options.quick else 7 if shape else 5)
    names = [OURS, REFERENCE] if shape else options.peers
    # Memory does not depend on the number of iterations: it is measured with the shorter runs.
    memory = options.memory and not shape and spec["max_iter"] < CONVERGE
    return measure(spec, names, rounds=rounds, limit=options.limit, memory=memory)


def command(argv: list[str]) -> str:
    """The command that was typed; folders of this machine are left out of it."""

    def portable(word: str) -> str:
        if not os.path.isabs(word):
            return word
        path = Path(word).resolve()
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name

    script = portable(str(Path(sys.argv[0]).resolve())) if sys.argv and sys.argv[0] else "benchmarks/run.py"
    return shlex.join(["python", script, *map(portable, argv)])


def _shown(result: dict[str, Any]) -> list[str]:
    if result["job"] == "roofline":
        peaks = ", ".join(f"{dtype} {peak:.0f} GFLOP/s" for dtype, peak in result["gemm"].items())
        return [f"gemm of 2000 x 2000: {peaks}; copy, read and written: {result['copy_gb_s']:.1f} GB/s"]
    return [shape_line(result)] if result["job"] == "random" else [heading(result), *lines(result)]


def _verdict(shapes: list[dict[str, Any]]) -> int:
    """The worst of the random shapes; 1 if it is below the floor."""
    found = [(results.ratio(result, OURS)[0], result) for result in shapes if OURS in result["peers"]]
    if len(found) < len(shapes):
        print(f"{len(shapes) - len(found)} shapes could not be run")
        return 1
    worst, result = min(found, key=lambda pair: pair[0])
    below = [result["case"] for value, result in found if value < FLOOR]
    print(f"worst of {len(found)} shapes: {result['case']}, {worst:.2f}; floor {FLOOR}; below it: {below or 'none'}")
    return 1 if below else 0


def _print_peak(spec: dict[str, Any], name: str) -> int:
    """Of a process of its own, started by `measure.peak_memory`."""
    print(name, peak_of(build(spec, [name]).runs[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
