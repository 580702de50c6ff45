"""`MiniBatchKMeans` against scikit-learn's: default parameters, a seed a round.

    python benchmarks/minibatch.py                               # cases b, c and d, float32, 20 seeds
    python benchmarks/minibatch.py --cases d --kinds blobs --seeds 5
    OMP_NUM_THREADS=1 python benchmarks/minibatch.py             # both with one thread

The two take turns, each round with another seed. For each: median seconds [least, most], how many times as
fast as scikit-learn [of the rounds], batches, the mean inertia of all rounds (of the centres, in float64)
relative to ours, and peak memory above what the process held, from a process of its own. The exit code is 1
if the mean inertia is more than 1 % above scikit-learn's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

# As in run.py: OpenBLAS picks its kernel from the machine.
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

import cases
import numpy as np
from sklearn.cluster import MiniBatchKMeans as Theirs

from gpukmeans import MiniBatchKMeans
from gpukmeans._threads import n_threads
from gpukmeans.compare import _answers
from gpukmeans.compare._measure import peak_memory, peak_of, race, spread, times_as_fast
from gpukmeans.compare._peers import OURS, REFERENCE

CLASSES = {OURS: MiniBatchKMeans, REFERENCE: Theirs}
_WARM = 5000  # rows of a fit before the clock runs
_WORSE = 0.01  # by how much the mean inertia may be above scikit-learn's


class Fitted(NamedTuple):
    """What is kept of a fit."""

    centers: np.ndarray
    n_steps: int


def main(arguments: list[str] | None = None) -> int:
    """Print the races; 1 if the answer is worse than scikit-learn's in one of them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["peak"]:  # a process of its own, started by `peak`
        case, kind, dtype, name = arguments[1:]
        fit = fitter(name, cases.make(case, kind, dtype))
        print(name, peak_of(lambda: fit(0)))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--cases", default="bcd", help="letters; default: bcd")
    parser.add_argument("--kinds", nargs="+", default=list(cases.KINDS), choices=cases.KINDS)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--seeds", type=int, default=20, help="rounds; default: 20")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.cases) - set(cases.CASES))
    if unknown or options.seeds < 1:
        parser.error(f"no case {', '.join(unknown)}" if unknown else "--seeds: give a whole number from 1")
    print(f"{n_threads()} threads", flush=True)
    worse = [compare(case, kind, options) > _WORSE for case in options.cases for kind in options.kinds]
    return int(any(worse))


def fitter(name: str, rows: cases.Rows) -> Callable[[int], Fitted]:
    """What fits the rows from a seed, warmed up."""
    settings: dict[str, Any] = {"device": "cpu"} if name == OURS else {}

    def fit(seed: int, X: np.ndarray = rows.X) -> Fitted:
        model = CLASSES[name](len(rows.init), random_state=seed, **settings).fit(X)
        return Fitted(model.cluster_centers_, model.n_steps_)

    fit(0, rows.X[:_WARM])
    return fit


def compare(case: str, kind: str, options: argparse.Namespace) -> float:
    """Race the two on a case and print what came of it; by how much our mean inertia is above scikit-learn's."""
    rows = cases.make(case, kind, options.dtype)
    found: dict[str, list[Fitted]] = {name: [] for name in CLASSES}
    fits = {name: fitter(name, rows) for name in CLASSES}

    def turn(name: str) -> Callable[[], None]:
        return lambda: found[name].append(fits[name](len(found[name])))

    done = race({name: turn(name) for name in CLASSES}, options.seeds)
    if done.failed:
        raise SystemExit(f"{case} {kind}: {done.failed}")
    means = {name: statistics.fmean(_answers.judge(rows.X, one.centers)[0] for one in found[name]) for name in CLASSES}
    print(f"\n{case} {kind}, {rows.X.shape[0]} x {rows.X.shape[1]}, k={len(rows.init)}, {options.dtype}; ", end="")
    print(f"rows {rows.X.nbytes / 2**20:.0f} MiB")
    for name in CLASSES:
        ratio = times_as_fast(done.seconds[name], done.seconds[REFERENCE])
        steps = statistics.median(one.n_steps for one in found[name])
        told = f"{_told(spread(done.seconds[name]), 4):28}{_told(ratio, 2):24}"
        text = f"  {name:13}{told}{steps:7.0f} batches, mean inertia "
        text += f"{means[name]:.8g}" if name == OURS else f"{means[name] / means[OURS] - 1:+.1e}"
        if options.memory:
            peak = peak_memory([__file__, "peak", case, kind, options.dtype, name]).get(name)
            text += ", peak unknown" if peak is None else f", peak {peak:.1f} MiB"
        print(text, flush=True)
    return means[OURS] / means[REFERENCE] - 1


def _told(values: Any, digits: int) -> str:
    """A spread: median, least and most."""
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*values, d=digits)


if __name__ == "__main__":
    sys.exit(main())
