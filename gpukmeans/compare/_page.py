"""A comparison as one HTML page: pictures, the tables of the terminal, the method, and what repeats it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._comparison_display import DeviceComparisonDisplay
from .._files import write_files
from .._page import Picture, fill, picture
from .._pictures import figure_for, png
from .._scaling_display import RooflineDisplay, ScalingDisplay
from ._answers import SAME
from ._comparison import DeviceComparison
from ._figures import SHOWN, Run, all_series, asked_of, baseline_of, points, ratio, timing, why_not_same
from ._standin import LABEL
from ._text import crossover_text, left_out, one_each, proof, remarks, seconds, spread_text, title, why_no_crossover

NONE, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


def write(comparison: DeviceComparison, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written, or Jinja is not installed.
    """
    write_files(path.parent, {path.name: render(comparison).encode()})


def render(comparison: DeviceComparison) -> str:
    """The page as text."""
    found = one_each(comparison.crossovers())
    several = len(comparison.environments) > 1
    return fill(
        "compare.html",
        conclusion=[crossover_text(one) for one in found] or [why_no_crossover(comparison)],
        bounds=[one.line for one in found],
        growth=list(_growth(comparison)),
        rooflines=list(_rooflines(comparison)),
        cases=[_case(comparison, i, several) for i in range(len(comparison.runs))],
        same=SAME,
        machines=[list(_facts(name, facts)) for name, facts in comparison.environments.items()],
    )


def _growth(comparison: DeviceComparison) -> Iterable[Picture]:
    """How time grows, of each axis along which problems grow."""
    for axis in dict.fromkeys(series.axis for series in all_series(comparison.runs) if len(series.runs) > 2):
        figure, ax = figure_for(8.6, 4.8)
        ScalingDisplay.from_comparison(comparison, axis=axis, ax=ax)
        alt = f"Seconds against {axis}, one line for each device and peer."
        reading = "Lower is faster; where a device's line crosses the CPU's, it begins to pay."
        yield picture(f"How time grows with {axis}", png(figure), alt, reading)


def _rooflines(comparison: DeviceComparison) -> Iterable[Picture]:
    """The rooflines that were measured, where there are points to put under them."""
    for environment, places in comparison.rooflines.items():
        runs = [run for run in comparison.runs if run["environment"] == environment]
        for place in [place for place in places if any(points(run, place) for run in runs)]:
            figure, ax = figure_for(8.6, 4.8)
            RooflineDisplay.from_comparison(comparison, place=place, environment=environment, ax=ax)
            alt = f"Iterations below the roof that copies and products of matrices make on {place}."
            reading = "The line is what the machine could do at best; points above it skip work that is counted."
            yield picture(f"How far from the best ({place})", png(figure), alt, reading)


def _case(comparison: DeviceComparison, number: int, several: bool) -> dict[str, Any]:
    run = comparison.runs[number]
    figure, ax = figure_for(10.0, 1.7 + 0.42 * len(run["contestants"]))
    DeviceComparisonDisplay.from_comparison(comparison, number, ax=ax)
    about = title(run).replace(" x ", f" {TIMES} ")
    reading = f"{run['reference']['n_iter']} iterations from the same rows. A dotted, empty bar is another answer."
    return {
        "title": about,
        "where": comparison.environments[run["environment"]]["cpu"] if several else "",
        "picture": picture(about, png(figure), f"Seconds of a fit by everybody, {about}.", reading),
        "tables": [table for table in (_times(run), _answers(run), *_counts(run)) if table["rows"]],
        "left_out": left_out(run),
        "command": [f"--{part}" if i else part for i, part in enumerate(run["command"].split(" --"))],
        **{name: run[name] for name in ("commit", "date")},
    }


def _times(run: Run) -> dict[str, Any]:
    names = [name for name in run["contestants"] if timing(run, name, "fit")]
    stages = [stage for stage in SHOWN if any(timing(run, name, stage) for name in names)]
    base = baseline_of(run)
    rows = []
    for name in names:
        cells = [_median(run, name, stage) for stage in stages]
        fast = ratio(run, name, "total", base) if base else None
        cells.append((spread_text(fast) if fast else NONE, "wrong" if why_not_same(run, name) else ""))
        rows.append((run["contestants"][name]["label"], cells, remarks(run, name)))
    return {"caption": "Median seconds", "heads": [*stages, f"speed, {base} = 1"], "rows": rows}


def _median(run: Run, name: str, stage: str) -> tuple[str, str]:
    found = timing(run, name, stage)
    return NONE if found is None else seconds(found.median), "wrong" if why_not_same(run, name, stage) else ""


def _answers(run: Run) -> dict[str, Any]:
    heads = ["iterations", "inertia", "adjusted Rand", "centres off by", "warm-up", "host memory", "device memory"]
    rows: list[tuple] = [
        (one["label"], [(cell, "") for cell in proof(one, NONE)], []) for one in run["contestants"].values()
    ]
    return {"caption": "Answers beside the reference's", "heads": heads, "rows": rows}


def _counts(run: Run) -> Iterable[dict[str, Any]]:
    heads = ["launches", "products", "copies up", "bytes", "copies down", "bytes"]
    keys = ("launches", "products", "uploads", "upload_bytes", "downloads", "download_bytes")
    for name, one in run["contestants"].items():
        if one["stand_in"]:
            asked = asked_of(run, name).items()
            rows = [(stage, [(f"{counts[key]:,g}", "") for key in keys], ()) for stage, counts in asked]
            yield {"caption": f"{one['label']}, {LABEL}: what it was asked to do", "heads": heads, "rows": rows}


def _facts(name: str, facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "environment", name
    yield "CPU", f"{facts['cpu']}, {facts.get('usable_cores')} cores, {', '.join(facts.get('instruction_sets', ()))}"
    yield "threads", str(facts.get("threads"))
    yield "BLAS", "; ".join(facts.get("blas", ())) or NONE
    cuda = facts.get("cuda", {})
    for device in cuda.get("devices", ()):
        yield (
            "CUDA device",
            f"{device['name']}, {device['memory_mib']:,} MiB, compute capability {device['capability']}",
        )
    if cuda.get("devices"):
        yield "CUDA", f"CuPy {cuda['cupy']}, CUDA {cuda['runtime']}, driver {cuda['driver']}"
    if "stand_in" in cuda:
        yield "CUDA code", cuda["stand_in"]
    yield "kernels", ", ".join(sorted(set(facts.get("kernels", {}).values()))) or NONE
    yield "system", f"{facts.get('system')}, Python {facts.get('python')}"
    yield "versions", ", ".join(f"{name} {number}" for name, number in facts.get("versions", {}).items())
    if facts.get("variables"):
        yield "variables", ", ".join(f"{name}={value}" for name, value in facts["variables"].items())
