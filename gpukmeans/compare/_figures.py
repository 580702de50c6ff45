"""The figures that follow from a stored run: spreads, ratios, verdicts, where a device overtakes the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._answers import differences
from ._measure import Spread, spread, times_as_fast

Run = Mapping[str, Any]
BASELINE = "cpu"
SHOWN = ("seeding", "iteration", "fit", "transfer", "predict", "silhouette")  # stages of a table


def rounds(run: Run, name: str, stage: str) -> list[float | None]:
    """Seconds of a stage in each round; empty where it was not timed.

    Besides those that are stored: "iteration" (a fit less a fit of one iteration, by the iterations between
    them), "transfer" (rows to the device and labels back) and "total" (the fit and its transfers).
    """
    found = run["contestants"][name]
    seconds = found["seconds"]
    if stage == "iteration":
        more = _iterations(found)
        return (
            [each / more for each in _together(seconds, ("fit", "first"), (1, -1)) if each is not None] if more else []
        )
    if stage == "transfer":
        return _together(seconds, ("upload", "download"), (1, 1))
    if stage == "total":
        parts = ("fit", "upload", "download") if found["where"] == "cuda" else ("fit",)
        return _together(seconds, parts, (1,) * len(parts))
    return list(seconds.get(stage, ()))


def _iterations(found: Mapping[str, Any]) -> int:
    """Iterations that a fit makes after the first; 0 where it is not known."""
    last, first = found.get("answer", {}).get("n_iter"), found.get("first_iter")
    return last - first if last is not None and first is not None else 0


def _together(seconds: Mapping[str, Sequence], stages: Sequence[str], signs: Sequence[int]) -> list[float | None]:
    """Sums over stages, round by round, as far as all of them were run."""
    if any(stage not in seconds for stage in stages):
        return []
    columns = zip(*(seconds[stage] for stage in stages), strict=False)
    return [
        None if any(t is None for t in column) else sum(sign * t for sign, t in zip(signs, column, strict=True))
        for column in columns
    ]


def asked_of(run: Run, name: str) -> dict[str, dict[str, float]]:
    """Counts of a contestant on the stand-in, by stage; an iteration's are those of a fit less a fit of one."""
    found = run["contestants"][name]
    counts = {stage: dict(some) for stage, some in found["counts"].items()}
    more = _iterations(found)
    if more > 0 and {"fit", "first"} <= set(counts):
        each = {what: (number - counts["first"][what]) / more for what, number in counts["fit"].items()}
        counts["iteration"] = each
    order = ("upload", "seeding", "first", "iteration", "fit", "predict", "silhouette", "download")
    return {stage: counts[stage] for stage in order if stage in counts}


def timing(run: Run, name: str, stage: str) -> Spread | None:
    """Median, least and most seconds; None where nothing was timed, or less than the clock's noise."""
    found = spread(rounds(run, name, stage))
    return found if found is not None and found.median > 0 else None


def why_not_same(run: Run, name: str, stage: str = "fit") -> list[str]:
    """Why the answer is not the reference's; empty if it is. See `_answers` for the rule."""
    return differences(run["contestants"][name], stage, run)


def ratio(run: Run, name: str, stage: str = "total", baseline: str = BASELINE) -> Spread | None:
    """How many times as fast as the baseline; None unless both gave the same answer and were timed."""
    if baseline not in run["contestants"] or why_not_same(run, name, stage) or why_not_same(run, baseline, stage):
        return None
    if timing(run, name, stage) is None or timing(run, baseline, stage) is None:
        return None
    return times_as_fast(rounds(run, name, stage), rounds(run, baseline, stage))


def baseline_of(run: Run) -> str | None:
    """Who the others are measured by: the compiled kernels, else the first of ours, else the first that was timed."""
    timed = [name for name in run["contestants"] if timing(run, name, "fit")]
    ours = [name for name in timed if run["contestants"][name]["where"] == "cpu"]
    return next(iter(ours or timed), None)


# --- growing problems ---------------------------------------------------------------------------


class Series(NamedTuple):
    """Runs of one environment that differ along one axis only."""

    environment: str
    axis: str  # "n", "d" or "k"
    runs: list[Run]  # by rising value


class Crossover(NamedTuple):
    """Where one contestant overtakes another, transfers included."""

    axis: str
    value: float  # of n, d or k
    work: float  # n * d * k there
    measured: bool  # False: it is the smallest problem measured, and the faster one was ahead there already
    name: str
    baseline: str
    environment: str

    @property
    def line(self) -> str:
        """The line for a shell that sets the bound of ``device="auto"``."""
        return f"export GPUKMEANS_WORTH_A_GPU={self.work:.2g}"


def all_series(runs: Iterable[Run]) -> list[Series]:
    """All series of two runs or more, the longest first."""
    groups: dict[tuple, dict[int, Run]] = {}
    for run in runs:
        case = run["case"]
        rest = tuple(case[name] for name in ("dtype", "kind", "max_iter"))
        for axis in "ndk":
            others = tuple(case[other] for other in "ndk" if other != axis)
            groups.setdefault((run["environment"], axis, others, rest), {})[case[axis]] = run
    found = [Series(key[0], key[1], [runs[v] for v in sorted(runs)]) for key, runs in groups.items() if len(runs) > 1]
    return sorted(found, key=lambda series: -len(series.runs))


def crossover(series: Series, name: str, baseline: str = BASELINE) -> Crossover | None:
    """The point from which on a contestant is faster than the baseline; None if it is not in the largest problem.

    Between two problems it is where straight lines on logarithmic axes cross. Only runs count in which both
    gave the same answer.
    """
    points = []
    for run in series.runs:
        times = ratio(run, name, "total", baseline) if name in run["contestants"] else None
        if times is not None:
            case = run["case"]
            points.append((case[series.axis], case["n"] * case["d"] * case["k"], times.median))
    ahead = [times > 1 for _, _, times in points]
    if not points or not ahead[-1]:
        return None
    start = len(ahead) - next((i for i, won in enumerate(reversed(ahead)) if not won), len(ahead))
    if start == 0:
        return Crossover(series.axis, points[0][0], points[0][1], False, name, baseline, series.environment)
    (low, low_work, below), (high, high_work, above) = points[start - 1], points[start]
    part = np.log(1 / below) / np.log(above / below)
    value, work = (float(a * (b / a) ** part) for a, b in ((low, high), (low_work, high_work)))
    return Crossover(series.axis, value, work, True, name, baseline, series.environment)


# --- rooflines ----------------------------------------------------------------------------------


class Point(NamedTuple):
    """An iteration in the plane of a roofline."""

    name: str
    case: Mapping[str, Any]
    intensity: float  # operations a byte
    gflops: float


def points(run: Run, place: str) -> list[Point]:
    """The iterations of our paths on a place ("cpu", "cuda:0"), of those that gave the same answer.

    Counted are 2 n d k operations **as if nothing were skipped**, and the bytes of the rows and of their labels:
    what an iteration cannot do without.
    """
    case = run["case"]
    n, d, k = (case[name] for name in "ndk")
    size = 4 if case["dtype"] == "float32" else 8
    found = []
    for name, one in run["contestants"].items():
        here = name.startswith("cpu") if place == "cpu" else name == place
        seconds = timing(run, name, "iteration")
        if here and one["where"] != "peer" and seconds and not why_not_same(run, name):
            intensity = 2 * d * k / (d * size + 4)
            found.append(Point(name, case, intensity, 2e-9 * n * d * k / seconds.median))
    return found
