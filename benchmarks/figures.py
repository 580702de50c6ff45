"""Sections of the page: tables in Markdown, each with the command that makes its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aims import aim
from jobs import CONVERGE
from results import deviation, gemm_share, ratio, same_answer, spread

from gpukmeans.compare._peers import OURS, PEERS, REFERENCE

Result = Mapping[str, Any]
TIMES, NONE = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"
_MODES = ((False, "the same few iterations"), (True, "to convergence"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, figures to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def command(result: Result) -> str:
    """The command that measures a result again."""
    job = {"nine": "silhouette"}.get(result["job"], result["job"])
    words = ["python benchmarks/run.py", job]
    if job in ("lloyd", "seeding"):
        words += ["--cases", result["case"], "--kinds", result["kind"]]
    if job == "lloyd":
        words.append("--converge" if result["max_iter"] >= CONVERGE else f"--iterations {result['max_iter']}")
    if job == "random":
        number = int(result["case"][1:])
        words += ["--shapes", f"{number}:{number + 1}"]
    if job != "roofline":
        words += ["--dtype", result["dtype"]]
    return " ".join(words)


def describe(measured: tuple[Mapping[str, Any], Sequence[Result]]) -> str:
    """One environment and what was measured in it."""
    facts, found = measured
    kernels = sorted(set(facts.get("kernels", {}).values()))
    lines = [
        f"- {facts['cpu']}, {facts.get('usable_cores')} cores, {', '.join(facts.get('instruction_sets', []))}; "
        f"{facts.get('system')}, Python {facts.get('python')}, {facts.get('threads')} threads",
        f"- BLAS: {'; '.join(facts.get('blas', [])) or 'unknown'}",
        f"- kernels of gpukmeans: {', '.join(kernels) or 'unknown'}",
        f"- {', '.join(f'{name} {version}' for name, version in facts.get('versions', {}).items())}",
        f"- commit {_several(r['commit'] for r in found)}; {_several(r['date'] for r in found)}",
    ]
    if facts.get("variables"):
        lines.append(f"- environment: {', '.join(f'{k}={v}' for k, v in facts['variables'].items())}")
    return "\n".join(lines)


def _several(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def roofline(found: Sequence[Result]) -> list[str]:
    """What the machine could do at best."""
    return [
        f"Best of several, all threads: products of 2000 {TIMES} 2000 matrices "
        + ", ".join(f"{peak:.0f} GFLOP/s in {dtype}" for dtype, peak in r["gemm"].items())
        + f"; copying memory {r['copy_gb_s']:.0f} GB/s read and written. `{command(r)}`"
        for r in found
        if r["job"] == "roofline"
    ]


def fits(found: Sequence[Result], dtype: str) -> list[str]:
    """Our fits beside scikit-learn's."""
    parts = []
    for converged, title in _MODES:
        chosen = _chosen(found, dtype, converged)
        if chosen:
            parts += [f"### {dtype}, {title}: gpukmeans and scikit-learn", _fits_table(chosen), _again(chosen[0])]
    return parts


def _fits_table(chosen: Sequence[Result]) -> str:
    head = ["case", "iterations", "seconds", "scikit-learn", "times as fast", "aim", "its inertia", "not nearest"]
    with_memory = any("peak_mib" in r["peers"][OURS] for r in chosen)
    with_share = any(gemm_share(r) is not None for r in chosen)
    head += ["peak MiB (budget)", "scikit-learn's"] * with_memory + ["of the gemm peak"] * with_share
    rows = []
    for r in chosen:
        ours, theirs = r["peers"][OURS], r["peers"][REFERENCE]
        row = [_case(r), str(ours["n_iter"]), _seconds(r, OURS), _seconds(r, REFERENCE), _ratio(r), _aim(r)]
        row += [f"{deviation(r, REFERENCE):+.0e}", str(ours["wrong_labels"])]
        if with_memory:
            row += [f"{_mib(ours)} ({r['budget_mib']:.0f})", _mib(theirs)]
        if with_share:
            share = gemm_share(r)
            row.append("" if share is None else f"{share:.0%}")
        rows.append(row)
    text = table(head, rows)
    if with_share:
        text += (
            "\n\nThe last column is the part of the peak of gemm, measured before and after the row, that "
            "is reached if 2 n d k operations an iteration are counted **as if nothing were skipped**: bounds "
            "that skip work show as more than 100 %. The last assignment is not counted."
        )
    return text


def peers_table(found: Sequence[Result], dtype: str) -> list[str]:
    """Every peer: how many times as fast as scikit-learn, and its inertia relative to ours."""
    parts = []
    for converged, title in _MODES:
        chosen = _chosen(found, dtype, converged)
        names = [p.name for p in PEERS if p.name != REFERENCE and any(p.name in r["peers"] for r in chosen)]
        if len(names) < 2:
            continue
        marked = {p.name for p in PEERS if not p.validates}
        head = ["case", *(name + " †" * (name in marked) for name in names)]
        rows = [[_case(r), *(_cell(r, name) for name in names)] for r in chosen]
        parts += [f"### {dtype}, {title}: every peer", table(head, rows)]
        left_out = _left_out(chosen)
        parts += [left_out] * bool(left_out) + [_again(chosen[0])]
    return parts


def _cell(result: Result, name: str) -> str:
    if name not in result["peers"]:
        return NONE
    times = ratio(result, name)
    off = "" if name == OURS else f" ({deviation(result, name):+.0e})"
    wrong = "" if same_answer(result, name) else " ✗"
    text = f"{times[0]:.2f}{wrong}" if times else NONE
    return f"**{text}**" if name == OURS else text + off


def _left_out(chosen: Sequence[Result]) -> str:
    """Who is missing, and why; the same reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for r in chosen:
        for name, reason in r["skipped"].items():
            kind = "would take too long" if reason.startswith("would take") else reason
            reasons.setdefault((name, kind), []).append(f"{r['case']} {r['kind']}")
    everywhere = len(chosen)
    said = [
        f"{name}: {reason}" + ("" if len(where) == everywhere else f" ({', '.join(where)})")
        for (name, reason), where in reasons.items()
    ]
    return f"Left out ({NONE}): {'; '.join(said)}." if said else ""


def seedings(found: Sequence[Result]) -> list[str]:
    """k-means++ against scikit-learn's."""
    chosen = [r for r in found if r["job"] == "seeding" and _both(r)]
    if not chosen:
        return []
    head = ["case", "dtype", "seconds", "scikit-learn", "times as fast", "aim", "other rows than in float64", "its own"]
    rows = [
        [
            *(_case(r), r["dtype"], _seconds(r, OURS), _seconds(r, REFERENCE), _ratio(r), _aim(r)),
            *(f"{r['peers'][name]['different']} of {r['k']}" for name in (OURS, REFERENCE)),
        ]
        for r in chosen
    ]
    text = "The same seed. The last columns count chosen rows that are not those scikit-learn chooses in float64."
    return ["### k-means++", text, table(head, rows), _again(chosen[0])]


def silhouettes(found: Sequence[Result]) -> list[str]:
    """Silhouettes against scikit-learn's."""
    chosen = [r for r in found if r["job"] in ("silhouette", "nine") and _both(r)]
    if not chosen:
        return []
    head = ["rows", "dtype", "seconds", "scikit-learn", "times as fast", "aim", "largest error", "scikit-learn's"]
    rows = [
        [
            f"{r['n']:,} {TIMES} {r['d']}" + (", K = 2 to 10" if r["job"] == "nine" else f", {r['k']} clusters"),
            *(r["dtype"], _seconds(r, OURS), _seconds(r, REFERENCE), _ratio(r), _aim(r)),
            *(f"{r['peers'][name]['error']:.0e}" for name in (OURS, REFERENCE)),
        ]
        for r in chosen
    ]
    text = (
        "All rows, exact. K = 2 to 10: one call of `silhouette_curve` against nine of "
        "`sklearn.metrics.silhouette_score`. Errors are against scikit-learn in float64."
    )
    return ["### Silhouettes", text, table(head, rows), _again(chosen[0])]


def shapes(found: Sequence[Result]) -> list[str]:
    """The random shapes, the slowest first."""
    chosen = sorted(
        (r for r in found if r["job"] == "random" and _both(r)), key=lambda r: (r["dtype"], ratio(r, OURS)[0])
    )
    if not chosen:
        return []
    head = ["shape", "kind", "dtype", "n", "d", "k", "seconds", "times as fast", "its inertia"]
    rows = [
        [
            *(r["case"], r["kind"], r["dtype"], f"{r['n']:,}", str(r["d"]), str(r["k"])),
            *(_seconds(r, OURS), _ratio(r), f"{deviation(r, REFERENCE):+.0e}"),
        ]
        for r in chosen
    ]
    text = (
        "Thirty shapes drawn from a fixed seed, 20 iterations, slowest first: none may be below 0.95. "
        "`python benchmarks/run.py random` exits with code 1 if one is."
    )
    return ["### Random shapes", text, table(head, rows), _again(chosen[0])]


def slower(found: Sequence[Result]) -> list[str]:
    """Where a peer with the same answer is faster, where an aim is missed, where more memory is taken."""
    rows = [r for r in found if _both(r)]
    faster = [
        f"{_name(r)}: {name} is {ratio(r, name)[0] / ratio(r, OURS)[0]:.2f} times as fast as gpukmeans"
        + ("" if peer["validates"] else " (†, does not check its input)")
        for r in rows
        for name, peer in r["peers"].items()
        if name != OURS and same_answer(r, name) and ratio(r, name) and ratio(r, name)[0] > ratio(r, OURS)[0]
    ]
    short = [
        f"{_name(r)}: {ratio(r, OURS)[0]:.2f} of {aim(r):g}"
        for r in rows
        if aim(r) is not None and ratio(r, OURS)[0] < aim(r)
    ]
    wrong = [f"{_name(r)}" for r in rows if not same_answer(r, OURS)]
    over = [
        f"{_name(r)}: {_mib(r['peers'][OURS])} of {r['budget_mib']:.0f} MiB"
        for r in rows
        if (r["peers"][OURS].get("peak_mib") or 0) > r.get("budget_mib", float("inf"))
    ]
    return [
        _listed("Peers with the same answer that are faster", faster),
        _listed("Below the aim, in times scikit-learn", short),
        _listed("Above the memory budget", over),
        _listed("Not scikit-learn's answer", wrong),
    ]


def _listed(title: str, items: Sequence[str]) -> str:
    return f"{title}: none." if not items else "\n".join([f"{title}:", "", *(f"- {item}" for item in items)])


def _chosen(found: Sequence[Result], dtype: str, converged: bool) -> list[Result]:
    fits = [r for r in found if r["job"] == "lloyd" and r["dtype"] == dtype and _both(r)]
    fits = [r for r in fits if (r["max_iter"] >= CONVERGE) == converged]
    return sorted(fits, key=lambda r: (r["case"], r["kind"] == "blobs", r["max_iter"]))


def _both(result: Result) -> bool:
    return {OURS, REFERENCE} <= set(result["peers"])


def _case(result: Result) -> str:
    return f"{result['case']} {result['kind']}"


def _name(result: Result) -> str:
    until = "" if not result["max_iter"] else ", converged" if result["max_iter"] >= CONVERGE else ""
    return f"{result['job']} {_case(result)}, {result['dtype']}{until}"


def _seconds(result: Result, name: str) -> str:
    median, least, most = spread(result, name)
    return f"{median:.3g} [{least:.3g}, {most:.3g}]"


def _ratio(result: Result, name: str = OURS) -> str:
    times = ratio(result, name)
    wrong = "" if same_answer(result, name) else " ✗"
    return f"**{times[0]:.2f}**{wrong} [{times[1]:.2f}, {times[2]:.2f}]"


def _aim(result: Result) -> str:
    value = aim(result)
    return "" if value is None else f"{value:g}"


def _mib(peer: Mapping[str, Any]) -> str:
    return NONE if peer.get("peak_mib") is None else f"{peer['peak_mib']:.0f}"


def _again(result: Result) -> str:
    return f"A row again, here the first: `{command(result)}`"
