"""A comparison as text for a terminal of 100 columns: times, and under them the answers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .._files import count, short
from ._answers import rand_text
from ._figures import SHOWN, Crossover, Run, Series, all_series, asked_of, baseline_of, ratio, timing, why_not_same
from ._measure import Spread
from ._standin import LABEL

if TYPE_CHECKING:
    from ._comparison import DeviceComparison

WIDTH = 100
NONE, TIMES = "-", "x"
_NAME, _FAST = 21, 22  # columns
_ACROSS = 6  # problems that grow, side by side
_MIB = "{:.1f} MiB".format
_OF_THE_ANSWER = (("n_iter", str), ("off", "{:+.0e}".format), ("rand", rand_text), ("center", "{:.0e}".format))
_CELLS = {"seeding": 9, "iteration": 10, "fit": 9, "transfer": 9, "predict": 9, "silhouette": 11}


def lines(comparison: DeviceComparison) -> list[str]:
    """The whole comparison."""
    found: list[str] = []
    for name, environment in comparison.environments.items():
        found += [*machine(environment, name if len(comparison.environments) > 1 else ""), ""]
    told: list[Run] = []
    for series in all_series(comparison.runs):
        if len(series.runs) > 2 and not any(run is other for run in series.runs for other in told):
            told += series.runs
            found += [*_growth(series, _where(comparison, series.environment)), ""]
    for run in comparison.runs:
        if not any(run is other for other in told):
            found += [*_case(run, _where(comparison, run["environment"])), ""]
    return [*found, *conclusion(comparison)]


def _where(comparison: DeviceComparison, environment: str) -> str:
    return f" (on {environment})" if len(comparison.environments) > 1 else ""


def _growth(series: Series, where: str) -> list[str]:
    """Problems that grow along one axis: a line for each contestant, sizes across."""
    axis, runs = series.axis, series.runs[-_ACROSS:]
    case = runs[-1]["case"]
    fixed = ", ".join(f"{name} = {case[name]:,}" for name in "ndk" if name != axis)
    found = [f"{fixed}, {case['dtype']} ({case['kind']}){where}: median seconds of a fit with its transfers", ""]
    sizes = [f"{run['case'][axis]:,}" for run in runs]
    found.append(f"{axis + ' =':{_NAME}}{''.join(f'{size:>11} ' for size in sizes)}".rstrip())
    names = dict.fromkeys(name for run in runs for name in run["contestants"])
    for name in names:
        found.append(f"{short(name, _NAME - 1):{_NAME}}{''.join(_grown(run, name) for run in runs)}".rstrip())
    for name in names:
        for run in [run for run in runs if name in run["contestants"]]:
            notes = [note for note in remarks(run, name) if "ANSWER" in note]
            found += [f"  * {name}, {axis} = {run['case'][axis]:,}: {note}" for note in notes]
            if run["contestants"][name]["stand_in"]:
                found += ["", f"{axis} = {run['case'][axis]:,}: {counted(run, name)[0]}", *counted(run, name)[1:]]
    absent = dict.fromkeys(text for run in runs for text in left_out(run))
    found += [line for text in absent for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    shapes = " ".join(f"{one['n']}x{one['d']}x{one['k']}" for one in (run["case"] for run in runs))
    own = f"{case['n']}x{case['d']}x{case['k']}"
    again = f"again: {runs[-1]['command'].replace(own, shapes)}"
    return found + textwrap.wrap(again, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _grown(run: Run, name: str) -> str:
    """Seconds in a cell, starred where the answer is another one."""
    found = timing(run, name, "total") if name in run["contestants"] else None
    if found is None:
        return f"{NONE:>11} "
    return f"{seconds(found.median) + ('*' if why_not_same(run, name) else ' '):>12}"


def machine(environment: Mapping[str, Any], name: str = "") -> list[str]:
    """What was measured on, and whether there is a GPU."""
    cuda = environment.get("cuda", {})
    devices = ", ".join(device["name"] for device in cuda.get("devices", ()))
    text = f"{name + ': ' if name else ''}{environment['cpu']}, {environment.get('usable_cores')} cores, "
    text += f"{environment.get('threads')} threads; "
    if devices:
        text += f"{devices}, CuPy {cuda['cupy']}, CUDA {cuda['runtime']}, driver {cuda['driver']}"
        text += f" - {cuda['stand_in']}" if "stand_in" in cuda else ""
    else:
        text += f"no CUDA device, so only the CPU's paths and the peers ({cuda.get('why_not', 'not looked for')})"
    return textwrap.wrap(text, WIDTH)


def title(run: Run) -> str:
    """A case in words."""
    case = run["case"]
    return f"{case['n']:,} {TIMES} {case['d']}, k = {case['k']}, {case['dtype']} ({case['kind']})"


def _case(run: Run, where: str) -> list[str]:
    about = f"{count(run['reference']['n_iter'], 'iteration')} of a fit; median seconds"
    found = [f"{title(run)}{where}: {about}", ""]
    found += [*_times(run), "", *_answers(run)]
    for name in [name for name, one in run["contestants"].items() if one["stand_in"]]:
        found += ["", *counted(run, name)]
    found += [line for text in left_out(run) for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    return found + textwrap.wrap(f"again: {run['command']}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def left_out(run: Run) -> list[str]:
    """Who did not take part, and why; those that are not installed in one sentence."""
    missing = [name for name, reason in run["skipped"].items() if reason.startswith("not installed")]
    others = {name: reason for name, reason in run["skipped"].items() if name not in missing}
    found = [f"without {name}: {reason}" for name, reason in others.items()]
    hint = "python -m pip install 'gpukmeans[bench]'"
    return found + ([f"not installed: {', '.join(missing)} ({hint})"] if missing else [])


def counted(run: Run, name: str) -> list[str]:
    """What the stand-in for a CUDA device was asked to do: a line for each stage."""
    found = [f"{name} {LABEL}", f"  {'counts':11}{'launches':>9}{'products':>9}{'copies up':>10}{'bytes':>12}"]
    found[1] += f"{'copies down':>13}{'bytes':>12}"
    for stage, counts in asked_of(run, name).items():
        copies = (f"{counts['uploads']:>10g}{counts['upload_bytes']:>12,g}", f"{counts['downloads']:>13g}")
        line = f"  {stage:11}{counts['launches']:>9g}{counts['products']:>9g}{''.join(copies)}"
        found.append(f"{line}{counts['download_bytes']:>12,g}")
    return found


def _times(run: Run) -> list[str]:
    """Seconds of the stages, a line for each contestant; stages that nobody was timed on are left out."""
    stages = [stage for stage in SHOWN if any(timing(run, name, stage) for name in run["contestants"])]
    base = baseline_of(run)
    fast = f"speed, {base} = 1" if base else ""
    heads = [f"{stage:>{_CELLS[stage]}}" for stage in stages]
    found = [f"{'seconds':{_NAME}}{''.join(heads)}{fast:>{_FAST}}".rstrip()]
    for name, one in run["contestants"].items():
        if one["stand_in"]:
            found.append(f"{short(name, _NAME - 1):{_NAME}}  no times: what it was asked to do is counted below")
            continue
        cells = [f"{_cell(run, name, stage):>{_CELLS[stage]}}" for stage in stages]
        found.append(f"{short(name, _NAME - 1):{_NAME}}{''.join(cells)}{_fast(run, name, base):>{_FAST}}".rstrip())
    return found


def _cell(run: Run, name: str, stage: str) -> str:
    found = timing(run, name, stage)
    return NONE if found is None else seconds(found.median)


def _fast(run: Run, name: str, base: str | None) -> str:
    """How many times as fast, transfers included; nothing for another answer."""
    times = ratio(run, name, "total", base) if base else None
    return NONE if times is None else spread_text(times)


def spread_text(times: Spread) -> str:
    """A ratio with the least and most of the rounds."""
    return f"{times.median:.2f} [{times.least:.2f}, {times.most:.2f}]"


def seconds(value: float) -> str:
    """Seconds with three digits and a unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 0.9995 or unit == "us":
            return f"{value * factor:#.3g}".rstrip(".") + f" {unit}"
    return ""


def _answers(run: Run) -> list[str]:
    """The proof: a line for each contestant."""
    head = f"{'answer':{_NAME}}{'iterations':>11}{'inertia':>10}{'adj. Rand':>11}{'centres':>9}{'warm-up':>10}"
    found = [f"{head}{'host':>11}{'device':>10}"]
    for name, one in run["contestants"].items():
        cells = [f"{cell:>{width}}" for cell, width in zip(proof(one), (11, 10, 11, 9, 10, 11, 10), strict=True)]
        found.append(f"{short(name, _NAME - 1):{_NAME}}{''.join(cells)}".rstrip())
        found += [f"  {remark}" for remark in remarks(run, name)]
    return found


def proof(one: Mapping[str, Any], none: str = NONE) -> list[str]:
    """Of a contestant: iterations, inertia, adjusted Rand, centres, warm-up, and the memory of host and device."""
    facts = [
        *((one["answer"].get(key), form) for key, form in _OF_THE_ANSWER),
        (one.get("warm_up"), seconds),
        (one.get("host_mib"), _MIB),
        (one.get("device_mib"), _MIB),
    ]
    return [none if value is None else form(value) for value, form in facts]


def remarks(run: Run, name: str) -> list[str]:
    """What has to be said beside a contestant's speed."""
    found = []
    for stage in ("fit", "seeding", "predict", "silhouette"):
        reasons = why_not_same(run, name, stage)
        if reasons:
            which = "" if stage == "fit" else f" in {stage}"
            found.append(f"NOT THE SAME ANSWER{which}: {', '.join(reasons)}")
    return found + ([] if run["contestants"][name]["validates"] else ["does not check its input"])


# --- what follows -------------------------------------------------------------------------------


def conclusion(comparison: DeviceComparison) -> list[str]:
    """Where a device overtakes the CPU, and the line that tells `auto` so."""
    found: list[str] = []
    for one in one_each(comparison.crossovers()):
        found += [*textwrap.wrap(crossover_text(one), WIDTH), f"  {one.line}"]
    if not found:
        found += textwrap.wrap(why_no_crossover(comparison), WIDTH)
    return found


def one_each(crossovers: Iterable[Crossover]) -> list[Crossover]:
    """Of the series of a device the longest."""
    found: dict[tuple, Crossover] = {}
    for one in crossovers:
        found.setdefault((one.environment, one.name), one)
    return list(found.values())


def crossover_text(one: Crossover) -> str:
    """A crossover in a sentence."""
    if not one.measured:
        return (
            f"{one.name} is ahead of {one.baseline} from the smallest problem on, {one.axis} = {one.value:,.0f} "
            f"(n*d*k = {one.work:.2g}). For device='auto' to use it from there on, once it is warm:"
        )
    return (
        f"{one.name} overtakes {one.baseline}, transfers included, at about {one.axis} = {one.value:,.0f} "
        f"(n*d*k = {one.work:.2g}). For device='auto' to use it from there on, once it is warm:"
    )


def why_no_crossover(comparison: DeviceComparison) -> str:
    """Why no bound for `auto` follows."""
    cuda = [
        (run, name) for run in comparison.runs for name, one in run["contestants"].items() if one["where"] == "cuda"
    ]
    if not cuda:
        return "No CUDA device was measured, so no bound for device='auto' follows."
    if all(run["contestants"][name]["stand_in"] for run, name in cuda):
        return f"CUDA code was {LABEL}, which tells nothing about speed: no bound for device='auto' follows."
    if not all_series(comparison.runs):
        return "gpukmeans compare --sweep n finds the size from which a CUDA device is worth it."
    return "No CUDA device overtakes the CPU in the largest problem: device='auto' had better stay on the CPU."
