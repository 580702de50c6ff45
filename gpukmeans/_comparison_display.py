"""A comparison of devices as bars: seconds, with the proof of the answer beside each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._drawing import FAINT, INK, dress, given_or_new, palette, shorten
from ._files import InputError
from .compare import DeviceComparison
from .compare._answers import rand_text
from .compare._figures import Run, baseline_of, ratio, timing, why_not_same
from .compare._standin import LABEL
from .compare._text import seconds, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMES = "\N{MULTIPLICATION SIGN}"
WRONG = "#b3261e"
_WHAT = {"fit": "A fit", "iteration": "An iteration", "seeding": "k-means++", "silhouette": "Silhouettes"}
_WHAT["predict"] = "Labels of all rows"
_COLUMNS = (8, 62, 114)  # points right of the axes
_MARKERS = "os^DvP<>hX"


def check_comparison(comparison: Any, name: str) -> None:
    """Complain about what is no comparison."""
    if not isinstance(comparison, DeviceComparison):
        raise TypeError(
            f"comparison is a {type(comparison).__name__}, but {name}.from_comparison draws what "
            "gpukmeans.compare.compare_devices or DeviceComparison.from_json returns."
        )
    if not comparison.runs:
        raise InputError("the comparison holds no runs: measure some with gpukmeans.compare.compare_devices")


def looks(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each contestant, the same in all pictures of these runs."""
    found = dict.fromkeys(name for run in runs for name in run["contestants"])
    hues = palette(len(found))
    return {name: {"color": hues[i], "marker": _MARKERS[i % len(_MARKERS)]} for i, name in enumerate(found)}


def work_of(run: Run) -> int:
    """n * d * k of a run."""
    case = run["case"]
    return case["n"] * case["d"] * case["k"]


def tick(value: float, _: Any = None) -> str:
    """Seconds at an axis, with a unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1 or unit == "us":
            return f"{value * factor:g} {unit}"
    return ""


class DeviceComparisonDisplay:
    """Seconds of every device and peer on one problem, as bars on a logarithmic axis.

    Transfers to and from a CUDA device are hatched, whiskers span the rounds. At each bar stands how many times as
    fast it is as the baseline and how its answer agrees; a bar of another answer is empty and has no ratio. What ran
    on the stand-in for a CUDA device has no bar.

    Parameters
    ----------
    run : dict
        One of `DeviceComparison.runs`.
    stage : {'fit', 'seeding', 'iteration', 'predict', 'silhouette'}, default='fit'
    labels : mapping of str to str, optional
        Names to print; those of the run when None.

    Attributes
    ----------
    bars_ : dict of str to matplotlib Rectangle
        By contestant; only of those that were timed.
    transfers_ : dict of str to matplotlib Rectangle
        The hatched parts.
    texts_ : dict of str to str
        What is said beside each.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from gpukmeans.compare import compare_devices
    >>> from gpukmeans.plotting import DeviceComparisonDisplay
    >>> comparison = compare_devices("300x2x3", devices=["cpu:numpy"], peers=["scikit-learn"], repeat=1, memory=False)
    >>> display = DeviceComparisonDisplay.from_comparison(comparison)
    >>> list(display.bars_)
    ['cpu:numpy', 'scikit-learn']
    >>> plt.close(display.figure_)
    """

    def __init__(self, run: Run, *, stage: str = "fit", labels: Mapping[str, str] | None = None):
        self.run = run
        self.stage = stage
        self.labels = labels

    @classmethod
    def from_comparison(
        cls, comparison: DeviceComparison, run: int | None = None, *, stage: str = "fit", ax=None, **kwargs
    ) -> DeviceComparisonDisplay:
        """Draw one problem of a comparison.

        Parameters
        ----------
        comparison : DeviceComparison
        run : int, optional
            Index of `comparison.runs`; the largest problem when None.
        stage : str, default='fit'
        ax : matplotlib Axes, optional
        **kwargs
            As in `plot`.

        Returns
        -------
        display : DeviceComparisonDisplay

        Raises
        ------
        TypeError
            If `comparison` is none.
        InputError
            (a ValueError) If it holds no such run.
        """
        check_comparison(comparison, cls.__name__)
        runs = comparison.runs
        if run is None:
            run = max(range(len(runs)), key=lambda i: work_of(runs[i]))
        if not -len(runs) <= run < len(runs):
            raise InputError(f"run={run}, but the comparison holds {len(runs)} runs, numbered from 0")
        return cls(runs[run], stage=stage).plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, baseline: str | None = None) -> DeviceComparisonDisplay:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure when None.
        baseline : str, optional
            The contestant that ratios are to; the compiled kernels when None, or the first that was timed.

        Returns
        -------
        self : DeviceComparisonDisplay
        """
        from matplotlib.ticker import NullFormatter

        names = list(self.run["contestants"])
        self.ax_ = ax = given_or_new(ax, 10.0, 1.6 + 0.42 * len(names))
        self.figure_ = ax.figure
        base = baseline or baseline_of(self.run)
        dress(
            ax, f"{_WHAT.get(self.stage, self.stage)}: {title(self.run).replace(' x ', f' {TIMES} ')}", "", "", pad=20
        )
        self.bars_: dict[str, Any] = {}
        self.transfers_: dict[str, Any] = {}
        self.texts_: dict[str, str] = {}
        timed = [self._bar(y, name) for y, name in enumerate(names)]
        ends = [end for pair in timed for end in pair]
        if ends:
            ax.set_xscale("log")
            ax.set_xlim(min(ends) / 2, max(ends) * 1.3)
            ax.xaxis.set_major_formatter(tick)
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.set_xticks([])
        self._say(-0.72, ("time", f"{base} = 1" if base else "", "answer"), FAINT)
        for y, name in enumerate(names):
            words, color = self._words(name, base)
            self._say(y, words, color)
            self.texts_[name] = "   ".join(filter(None, words))
        ax.set_yticks(range(len(names)), [shorten(self._label(name), 30) for name in names])
        ax.set_ylim(len(names) - 0.5, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        hatched = "; hatched: transfers" if self.transfers_ else ""
        ax.set_xlabel(f"seconds, less is better{hatched}", color=INK)
        return self

    def _label(self, name: str) -> str:
        return (self.labels or {}).get(name) or self.run["contestants"][name]["label"]

    def _bar(self, y: int, name: str) -> tuple[float, ...]:
        """One bar; where it and its whisker end."""
        own, moved = timing(self.run, name, self.stage), timing(self.run, name, "transfer")
        if own is None:
            return ()
        whole = timing(self.run, name, "total") if self.stage == "fit" and moved else own
        assert whole is not None
        same = not why_not_same(self.run, name, self.stage)
        where = self.run["contestants"][name]["where"]
        color = palette(2)[1] if where == "cuda" else palette(1)[0] if where == "cpu" else FAINT
        # Far left of anything the axis shows: bars on a logarithmic axis have no zero to begin at.
        least, style = 1e-12, dict[str, Any](edgecolor=color, linewidth=1.2)
        bar = self.ax_.barh(y, own.median - least, 0.62, least, color=color if same else "none", **style)[0]
        bar.set_linestyle("-" if same else ":")
        self.bars_[name] = bar
        if whole is not own:
            more = max(whole.median - own.median, 0.0)
            self.transfers_[name] = self.ax_.barh(y, more, 0.62, own.median, color="none", hatch="////", **style)[0]
        spans = [[whole.median - whole.least], [whole.most - whole.median]]
        self.ax_.errorbar(whole.median, y, xerr=spans, color=INK, linewidth=1, capsize=3)
        return own.median, whole.least, whole.most

    def _say(self, y: float, words: Sequence[str], color: str) -> None:
        """Time, ratio and agreement, in columns at the right."""
        for word, place in zip(words, _COLUMNS, strict=False):
            where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            self.ax_.annotate(
                word, (1, y), (place, 0), **where, va="center", fontsize=8.5, color=color, annotation_clip=False
            )

    def _words(self, name: str, base: str | None) -> tuple[tuple[str, ...], str]:
        """What stands in the columns; no ratio beside another answer."""
        one, own = self.run["contestants"][name], timing(self.run, name, self.stage)
        if one["stand_in"]:
            return (f"no time: {LABEL}",), FAINT
        if own is None:
            return ("not timed",), FAINT
        reasons = why_not_same(self.run, name, self.stage)
        stage = "total" if self.stage == "fit" else self.stage
        told = seconds((timing(self.run, name, stage) or own).median)
        if reasons:
            return (told, "", f"not the same answer: {', '.join(reasons)}"), WRONG
        times = ratio(self.run, name, stage, base) if base else None
        return (told, "" if times is None else times_text(times.median), agreement(one, self.stage)), INK


def times_text(times: float) -> str:
    """A ratio with two digits or more."""
    return f"{times:.2f}{TIMES}" if times >= 0.1 else f"{times:.2g}{TIMES}"


def agreement(one: Mapping[str, Any], stage: str) -> str:
    """How an answer that is the same agrees, in a few words."""
    if stage == "seeding":
        return "the same rows" if "different" in one else ""
    if stage == "silhouette":
        return f"error {one['error']:.0e}" if "error" in one else ""
    if stage == "predict":
        return "the labels of the fit" if "differ" in one else ""
    answer = one["answer"]
    off = "" if answer.get("off") is None else f"inertia {answer['off']:+.0e}"
    rand = "" if answer.get("rand") is None else f"adj. Rand {rand_text(answer['rand'])}"
    return ", ".join(filter(None, [off, rand]))
