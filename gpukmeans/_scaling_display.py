"""How time grows with a problem, and how far it is from what the machine could do: lines and a roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._comparison_display import TIMES, check_comparison, looks, tick
from ._drawing import FAINT, INK, dress, given_or_new, settle, spread_line
from ._files import InputError
from .compare import DeviceComparison
from .compare._figures import BASELINE, Crossover, Point, Series, all_series, crossover, points, timing, why_not_same

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AXES = {"n": "rows", "d": "features", "k": "clusters"}
_STAGES = {"total": "a fit with its transfers", "iteration": "an iteration", "fit": "a fit"}


class ScalingDisplay:
    """Time against the number of rows, features or clusters, with the point where a device overtakes the CPU.

    Points of another answer than the reference's are hollow and belong to no line.

    Parameters
    ----------
    series : Series
        Runs that differ along one axis, as `gpukmeans.compare._figures.all_series` finds them.
    stage : {'total', 'fit', 'iteration'}, default='total'
        "total" is a fit with its transfers.
    crossovers : sequence of Crossover, default=()
        To mark.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
    marks_ : list of matplotlib Line2D
        One for each crossover.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from gpukmeans.compare import compare_devices
    >>> from gpukmeans.plotting import ScalingDisplay
    >>> sizes = ["300x2x3", "1200x2x3"]
    >>> comparison = compare_devices(sizes, devices=["cpu:numpy"], peers=[], repeat=1, memory=False)
    >>> display = ScalingDisplay.from_comparison(comparison)
    >>> display.lines_["cpu:numpy"].get_xdata().tolist()
    [300, 1200]
    >>> plt.close(display.figure_)
    """

    def __init__(self, series: Series, *, stage: str = "total", crossovers: Any = ()):
        self.series = series
        self.stage = stage
        self.crossovers = crossovers

    @classmethod
    def from_comparison(
        cls, comparison: DeviceComparison, *, axis: str | None = None, stage: str = "total", ax=None, **kwargs
    ) -> ScalingDisplay:
        """Draw the longest series of a comparison.

        Parameters
        ----------
        comparison : DeviceComparison
        axis : {'n', 'd', 'k'}, optional
            The one that grows; that of the longest series when None.
        stage : {'total', 'fit', 'iteration'}, default='total'
        ax : matplotlib Axes, optional
        **kwargs
            As in `plot`.

        Returns
        -------
        display : ScalingDisplay

        Raises
        ------
        TypeError
            If `comparison` is none.
        InputError
            (a ValueError) If no two of its runs differ along that axis alone.
        """
        check_comparison(comparison, cls.__name__)
        found = [one for one in all_series(comparison.runs) if axis in (None, one.axis)]
        if not found:
            raise InputError(
                f"no two runs of the comparison differ in {axis or 'n, d or k'} alone: measure some, as "
                f"gpukmeans compare --sweep {axis or 'n'} does"
            )
        series = found[0]
        devices = dict.fromkeys(
            name
            for run in series.runs
            for name, facts in run["contestants"].items()
            if facts["where"] == "cuda" and BASELINE in run["contestants"]
        )
        marks = [mark for mark in (crossover(series, name) for name in devices) if mark is not None]
        return cls(series, stage=stage, crossovers=marks).plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None) -> ScalingDisplay:
        """Draw the lines, with their names at their ends, and the crossovers.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure when None.

        Returns
        -------
        self : ScalingDisplay
        """
        from matplotlib.ticker import NullFormatter

        self.ax_ = ax = given_or_new(ax, 8.0, 4.6)
        self.figure_ = ax.figure
        axis, case = self.series.axis, self.series.runs[0]["case"]
        fixed = ", ".join(f"{name} = {case[name]:,}" for name in "ndk" if name != axis)
        what = f"{_STAGES.get(self.stage, self.stage)}; {fixed}, {case['dtype']} ({case['kind']})"
        dress(ax, f"Time against the number of {_AXES[axis]}\n{what}", f"{_AXES[axis]} ({axis})", "seconds")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(tick)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        for axes in (ax.xaxis, ax.yaxis):
            axes.set_minor_formatter(NullFormatter())
        self.lines_: dict[str, Any] = {}
        hollow = False
        for name, look in looks(self.series.runs).items():
            hollow |= self._line(name, look)
        self.marks_ = [self._mark(one) for one in self.crossovers]
        self._names()
        if hollow:
            ax.plot([], [], "o", color=INK, mfc="none", label="not the same answer")
            ax.legend(loc="upper left", frameon=False, fontsize=9)
        return self

    def _line(self, name: str, look: dict[str, Any]) -> bool:
        """One contestant; whether some of its answers were others."""
        right: list[tuple[float, ...]] = []
        wrong: list[tuple[float, ...]] = []
        for run in self.series.runs:
            found = timing(run, name, self.stage) if name in run["contestants"] else None
            if found is not None:
                point = (run["case"][self.series.axis], *found)
                (wrong if why_not_same(run, name, self.stage) else right).append(point)
        if right:
            x, median, least, most = (np.array(column) for column in zip(*right, strict=True))
            (self.lines_[name],) = self.ax_.plot(x, median, markersize=5, linewidth=1.6, label=f"_{name}", **look)
            self.ax_.fill_between(x, least, most, color=look["color"], alpha=0.15, linewidth=0)
        for value, middle, *_ in wrong:
            self.ax_.plot(value, middle, look["marker"], color=look["color"], mfc="none", markersize=6)
        return bool(wrong)

    def _mark(self, one: Crossover) -> Any:
        about = f"{one.name} overtakes {one.baseline}" if one.measured else f"{one.name} ahead from here"
        line = self.ax_.axvline(one.value, color=INK, linestyle="--", linewidth=1)
        self.ax_.annotate(
            f"{about}\n{self.series.axis} = {one.value:,.0f}",
            (one.value, 0.02),
            (4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )
        return line

    def _names(self) -> None:
        """A name at the end of each line, moved apart where ends lie close."""
        ends = {name: float(line.get_ydata()[-1]) for name, line in self.lines_.items()}
        if not ends:
            return
        _, height = settle(self.ax_)
        order = sorted(ends, key=lambda name: ends[name])
        low, high = np.log(self.ax_.get_ylim())
        at = (np.log([ends[name] for name in order]) - low) / (high - low) * height
        places = spread_line(at, 12.0, 4.0, height - 4.0) / height
        for name, place in zip(order, places, strict=True):
            self.ax_.annotate(
                name,
                (1.0, place),
                (6, 0),
                xycoords="axes fraction",
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=self.lines_[name].get_color(),
                annotation_clip=False,
            )


class RooflineDisplay:
    """Iterations against what the machine could do at best: copies of memory, and products of matrices.

    Operations are counted as if nothing were skipped, so bounds that skip work lift points, even above the roof.

    Parameters
    ----------
    ceilings : dict
        ``copy_gb_s`` and ``gemm`` (GFLOP/s by dtype) of a place, as `DeviceComparison.rooflines` holds them.
    points : sequence of Point
    place : str, default='cpu'

    Attributes
    ----------
    roofs_ : dict of str to matplotlib Line2D
        By dtype.
    points_ : dict of str to matplotlib Line2D
        By contestant.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance model for multicore
    architectures", Communications of the ACM 52 (2009).

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from gpukmeans.plotting import RooflineDisplay
    >>> display = RooflineDisplay({"copy_gb_s": 20.0, "gemm": {"float32": 100.0}}, []).plot()
    >>> float(display.roofs_["float32"].get_ydata().max())
    100.0
    >>> plt.close(display.figure_)
    """

    def __init__(self, ceilings: dict[str, Any], points: Any, *, place: str = "cpu"):
        self.ceilings = ceilings
        self.points = points
        self.place = place

    @classmethod
    def from_comparison(
        cls, comparison: DeviceComparison, *, place: str = "cpu", environment: str | None = None, ax=None, **kwargs
    ) -> RooflineDisplay:
        """Draw the iterations of a comparison under the roof of a place.

        Parameters
        ----------
        comparison : DeviceComparison
        place : str, default='cpu'
            Or "cuda:0".
        environment : str, optional
            Of `comparison.environments`; the first with that place when None.
        ax : matplotlib Axes, optional
        **kwargs
            As in `plot`.

        Returns
        -------
        display : RooflineDisplay

        Raises
        ------
        TypeError
            If `comparison` is none.
        InputError
            (a ValueError) If no ceilings were measured there.
        """
        check_comparison(comparison, cls.__name__)
        measured = [name for name, places in comparison.rooflines.items() if place in places]
        chosen = [name for name in measured if environment in (None, name)]
        if not chosen:
            known = sorted({place for places in comparison.rooflines.values() for place in places})
            raise InputError(
                f"no ceilings were measured for {place!r}; there are some for: {', '.join(known) or 'none'}"
            )
        found = [one for run in comparison.runs if run["environment"] == chosen[0] for one in points(run, place)]
        return cls(comparison.rooflines[chosen[0]][place], found, place=place).plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None) -> RooflineDisplay:
        """Draw the roofs and a point for each iteration.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure when None.

        Returns
        -------
        self : RooflineDisplay
        """
        from matplotlib.ticker import NullFormatter

        self.ax_ = ax = given_or_new(ax, 8.0, 4.8)
        self.figure_ = ax.figure
        text = "GFLOP/s, as if nothing were skipped"
        dress(ax, f"Iterations under the roofline of {self.place}", "operations a byte of the rows", text)
        ax.set_xscale("log")
        ax.set_yscale("log")
        self._roofs()
        self.points_: dict[str, Any] = {}
        cases = [{"contestants": dict.fromkeys(point.name for point in self.points)}]
        for name, look in looks(cases).items():
            own = [point for point in self.points if point.name == name]
            x, y = [point.intensity for point in own], [point.gflops for point in own]
            (self.points_[name],) = ax.plot(x, y, linestyle="none", markersize=7, label=name, **look)
        if self.points:
            ax.legend(loc="lower right", frameon=False, fontsize=9)
            self._name_cases()
        ax.set_ylim(ax.get_ylim()[0] / 1.5)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(NullFormatter())
        return self

    def _roofs(self) -> None:
        bandwidth = float(self.ceilings["copy_gb_s"])
        used = {point.case["dtype"] for point in self.points} or set(self.ceilings["gemm"])
        intensities = [point.intensity for point in self.points]
        corners = [peak / bandwidth for peak in self.ceilings["gemm"].values()]
        low, high = min([*intensities, *corners]) / 4, max([*intensities, *corners]) * 6
        self.roofs_: dict[str, Any] = {}
        for dtype, peak in self.ceilings["gemm"].items():
            if dtype not in used:
                continue
            x = np.array([low, peak / bandwidth, high])
            (self.roofs_[dtype],) = self.ax_.plot(x, np.minimum(bandwidth * x, peak), color=INK, linewidth=1.4)
            where: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": INK}
            self.ax_.annotate(f"products in {dtype}, {peak:,.0f} GFLOP/s", (high, peak), (-4, 4), ha="right", **where)
        self.ax_.annotate(
            f"copies, {bandwidth:,.0f} GB/s", (low, bandwidth * low), (8, -4), va="top", ha="left", **where
        )
        self.ax_.set_xlim(low, high)

    def _name_cases(self) -> None:
        """The problem above the highest point of each, in two heights by turns."""
        top: dict[float, Point] = {}
        for point in self.points:
            if point.intensity not in top or point.gflops > top[point.intensity].gflops:
                top[point.intensity] = point
        for intensity in sorted(top):
            point = top[intensity]
            case = point.case
            self.ax_.annotate(
                f"{case['n']:,} {TIMES} {case['d']}, k = {case['k']}",
                (intensity, point.gflops),
                (0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=INK,
            )
            self.ax_.axvline(intensity, color=FAINT, linewidth=0.5, linestyle=":", zorder=0)
