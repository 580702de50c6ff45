"""The picture of the page: how many times as fast as scikit-learn everyone is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cases import KINDS
from figures import TIMES
from jobs import CONVERGE
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from results import ratio, same_answer

from gpukmeans.compare._peers import OURS, PEERS, REFERENCE

_TITLES = {"uniform": "uniform rows", "blobs": "blobs"}
_OURS_COLOR, _INK = "#c2410c", "#334155"
_LOOKS = {  # colours that the colour-blind can tell apart, and a shape for each
    "scikit-learn-elkan": ("#64748b", "s"),
    "scikit-learn-intelex": ("#0072b2", "D"),
    "faiss": ("#009e73", "^"),
    "scipy": ("#8b5cf6", "v"),
    "opencv": ("#b8860b", "P"),
    "fastkmeans": ("#56b4e9", "<"),
    "geokmeans": ("#111827", ">"),
    "geokmeans-annulus": ("#be185d", "h"),
}


def draw(store: Mapping[str, Any], path: Path, dtype: str = "float32") -> bool:
    """Draw the fits of one dtype.

    Parameters
    ----------
    store : mapping
        As `results.load` returns it.
    path : Path
        PNG to write.
    dtype : {'float32', 'float64'}

    Returns
    -------
    drawn : bool
        False if there is nothing to draw.
    """
    fits = [r for r in store["results"] if r["job"] == "lloyd" and r["dtype"] == dtype and r["case"] != "t"]
    fits = [r for r in fits if {OURS, REFERENCE} <= set(r["peers"])]
    halves = [[r for r in fits if (r["max_iter"] >= CONVERGE) == converged] for converged in (False, True)]
    halves = [half for half in halves if half]
    if not halves:
        return False
    counts = [len({r["case"] for r in half}) for half in halves]
    figure = Figure(figsize=(10.5, 1.9 + 0.5 * sum(counts) + 0.5 * len(halves)), layout="constrained")
    grid = figure.subplots(
        len(halves),
        2,
        sharex=True,
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": [count + 0.8 for count in counts]},
    )
    shown: set[str] = set()
    for half, axes in zip(halves, grid, strict=True):
        names = sorted({r["case"] for r in half})
        title = "to convergence" if half[0]["max_iter"] >= CONVERGE else "the same few iterations"
        for kind, ax in zip(KINDS, axes, strict=True):
            shown |= _panel(ax, [r for r in half if r["kind"] == kind], names)
            ax.set_title(f"{_TITLES[kind]}, {title}", fontsize=10.5, color=_INK, loc="left")
    for ax in grid[-1]:
        ax.set_xlabel("times as fast as scikit-learn (Lloyd)", color=_INK)
    figure.suptitle(
        f"k-means from the same initial rows, {dtype}", x=0.012, ha="left", fontsize=13, fontweight="bold", color=_INK
    )
    figure.legend(handles=_legend(shown), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return True


def _panel(ax: Any, results: list[dict[str, Any]], names: list[str]) -> set[str]:
    """One line a case, best at the right; the names of the peers that are in it."""
    shown, labels = set(), {}
    ax.set_xscale("log")
    ax.axvline(1, color=_INK, lw=1.2, zorder=1)
    for result in results:
        y = names.index(result["case"])
        labels[y] = f"{result['case']}  {_short(result['n'])} {TIMES} {result['d']}, k={result['k']}"
        ours = ratio(result, OURS)
        ax.plot([1, ours[0]], [y, y], color=_OURS_COLOR, lw=2, alpha=0.35, zorder=1, solid_capstyle="butt")
        ax.plot(ours[0], y, "o", color=_OURS_COLOR, ms=9, zorder=4)
        ax.annotate(
            f"{ours[0]:.1f}{TIMES}" if ours[0] < 9.95 else f"{ours[0]:.0f}{TIMES}",
            (ours[0], y),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            color=_OURS_COLOR,
            fontweight="bold",
        )
        for name in result["peers"]:
            times = ratio(result, name)
            if name not in _LOOKS or times is None:
                continue
            color, marker = _LOOKS[name]
            face = color if same_answer(result, name) else "none"
            ax.plot(times[0], y, marker, color=color, mfc=face, ms=6, mew=1.2, alpha=0.9, zorder=3, ls="none")
            shown.add(name)
    ax.set_ylim(len(names) - 0.5, -0.75)
    ax.set_yticks(range(len(names)), [labels.get(y, names[y]) for y in range(len(names))], fontsize=9, color=_INK)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.06)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}{TIMES}")
    ax.grid(axis="x", color="#e2e8f0", lw=0.8)
    ax.grid(axis="x", which="minor", color="#f1f5f9", lw=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, colors=_INK, which="both")
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)
    return shown


def _short(n: int) -> str:
    return f"{n // 1_000_000}M" if n >= 1_000_000 else f"{n // 1000}k" if n >= 1000 else str(n)


def _legend(shown: set[str]) -> list[Line2D]:
    def entry(name: str, color: str, marker: str, size: float, face: str) -> Line2D:
        return Line2D([], [], color=color, marker=marker, ms=size, mfc=face, ls="none", label=name)

    handles = [entry(OURS, _OURS_COLOR, "o", 9, _OURS_COLOR)]
    for peer in PEERS:
        if peer.name in shown:
            color, marker = _LOOKS[peer.name]
            handles.append(
                entry(peer.name + ("" if peer.validates else " (input not checked)"), color, marker, 6, color)
            )
    return [*handles, entry("hollow: not the same answer", _INK, "o", 6, "none")]
