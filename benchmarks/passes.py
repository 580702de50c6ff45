"""The passes of one fit, one by one: where its time goes.

    python benchmarks/passes.py g --kind blobs
    python benchmarks/passes.py c --kind uniform --iterations 40 --dtype float64

For each pass over the rows by the compiled kernels (small problems: the whole loop in one):
milliseconds, nanoseconds a row, the share of the rows that no bound held to their centres (searched),
and the rows with a new label. The fit is the second one in its process, with a tolerance of zero.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import cases

from gpukmeans._device import CPU
from gpukmeans._lloyd import lloyd
from gpukmeans._plan import Plan
from gpukmeans._prepare import prepare

PASSES = ("moments_pass", "search_pass", "add_pass", "loop")


class Pass(NamedTuple):
    """One pass: its operation, seconds, and what it found (None but for searches)."""

    name: str
    seconds: float
    found: Any


def main(arguments: list[str] | None = None) -> int:
    """Print the passes of a fit; 2 where there are no compiled kernels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("case", choices=sorted(cases.CASES))
    parser.add_argument("--kind", choices=cases.KINDS, default="uniform")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--iterations", type=int, help="default: those of the case")
    options = parser.parse_args(arguments)
    rows = cases.make(options.case, options.kind, options.dtype)
    iterations = options.iterations or cases.CASES[options.case].iterations
    fit(rows, iterations)
    passes, seconds = fit(rows, iterations)
    if not passes:
        print("No pass over all rows in one call: the compiled kernels are missing or turned off.")
        return 2
    print(*(line(one, len(rows.X)) for one in passes), sep="\n")
    held = sum(one.seconds for one in passes)
    print(f"{len(passes)} passes {1e3 * held:.1f} ms, between them {1e3 * (seconds - held):.1f} ms")
    return 0


def fit(rows: cases.Rows, iterations: int) -> tuple[list[Pass], float]:
    """The passes of a fit from the given rows, in their order, and the seconds that all of it takes."""
    passes: list[Pass] = []
    with prepare(rows.X, None, len(rows.init), CPU) as (plan, _):
        watch(plan, passes)
        began = time.perf_counter()
        plan.moments()  # again, now that it is watched
        lloyd(plan, rows.init.astype("float64"), max_iter=iterations, tol=0.0, line="")
    return passes, time.perf_counter() - began


def watch(plan: Plan, passes: list[Pass]) -> None:
    """Have every pass of the plan noted."""

    def timed(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            if name == "search_pass":  # one by one, not several in a call
                arguments = (arguments[0]._replace(ahead=None), *arguments[1:])
            began = time.perf_counter()
            result = run(*arguments)
            if name == "search_pass" and arguments[0].labels is not plan.labels:
                return result  # of the centres, to tell how far they are apart: counted as time between passes
            passes.append(Pass(name, time.perf_counter() - began, result if name == "search_pass" else None))
            return result

        return one

    known = plan.operations._asdict()
    plan.operations = plan.operations._replace(
        **{name: timed(name, known[name]) for name in PASSES if known[name] is not None}
    )


def line(one: Pass, n: int) -> str:
    """A pass in one line."""
    told = f"{one.name:13}{1e3 * one.seconds:9.2f} ms {1e9 * one.seconds / n:7.2f} ns a row"
    if one.found is None:
        return told
    return f"{told}{one.found.searched / n:8.1%} searched{one.found.changed:10} new labels"


if __name__ == "__main__":
    sys.exit(main())
