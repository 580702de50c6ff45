"""Four plain pictures of a `Report`, drawn with Matplotlib objects only: no pyplot, no rcParams.

Each function returns a `Figure`; `draw` turns them into PNG files.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ._files import InputError, short
from ._tables import Table, sample_rows
from ._threads import uninterrupted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .report import Report

DPI = 150
SCATTER_POINTS = 5_000  # more only blacken the picture; above it a seeded sample is drawn

# ColorBrewer's Dark2
_DARK2 = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")
_MARKERS = "osD^vP"
_INK, _GRID = "#333333", "#dddddd"


def require_matplotlib() -> None:
    """Complain before the work starts, not after it, if there is no Matplotlib."""
    try:
        with uninterrupted():
            import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("drawing the report needs matplotlib: python -m pip install matplotlib") from error


def draw(report: Report) -> dict[str, bytes]:
    """PNG files by name; no elbow where K was given, no confusion matrix without labels."""
    require_matplotlib()
    figures = {"scatter.png": scatter(report)}
    if not report.tried.given:
        figures["elbow.png"] = elbow(report)
    if report.silhouettes is not None:
        figures["silhouette.png"] = silhouette(report)
    if report.judgement is not None:
        figures["confusion.png"] = confusion(report)
    return {name: png(figure) for name, figure in figures.items()}


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names in a script the font lacks show as boxes
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def figure_for(width: float, height: float) -> tuple[Figure, Any]:
    """A figure to be stored, not shown, and its axes."""
    figure, ax = _figure(width, height)
    return figure, ax


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches, so that nothing touches the edge
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _dress(ax: Axes, title: str, xlabel: str, ylabel: str, grid: bool = True) -> None:
    ax.set_title(title, loc="left", fontsize=11, color=_INK)
    ax.set_xlabel(xlabel, color=_INK)
    ax.set_ylabel(ylabel, color=_INK)
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(color=_GRID, linewidth=0.6)
        ax.set_axisbelow(True)


def _plain(text: str, width: int = 40) -> str:
    """A name from the data, shortened, with no dollar sign read as mathematics and no half characters."""
    return short(text, width).encode("utf-8", "replace").decode().replace("$", r"\$")


def colors(n_clusters: int) -> list[tuple[float, float, float]]:
    """Dark2 for eight clusters; then the same hues lighter and darker, then a fresh wheel of hues."""
    from matplotlib.colors import hsv_to_rgb, to_rgb

    base = np.array([to_rgb(color) for color in _DARK2])
    palette = np.concatenate([base, base + 0.5 * (1 - base), 0.55 * base])
    if n_clusters > len(palette):
        hues = np.linspace(0, 1, n_clusters, endpoint=False)
        light = np.resize([0.85, 0.55, 0.7], n_clusters)
        palette = hsv_to_rgb(np.stack([hues, np.full(n_clusters, 0.75), light], axis=1))
    return [(float(r), float(g), float(b)) for r, g, b in palette[:n_clusters]]


# --- curves -----------------------------------------------------------------------------------


def elbow(report: Report) -> Figure:
    """WCSS against K, the chosen K marked; from K=1 (the total), unless the range starts far from it."""
    figure, ax = _figure(6.4, 4.4)
    scores = [score for score in report.curve if score.k > 1 or report.tried.low == 2]
    total = "" if scores[0].k == 1 else f" (K = 1: {report.total_ss:,.4g})"
    title = f"{_plain(report.table.name)}\nwithin-cluster sum of squares, chosen: K = {report.n_clusters}{total}"
    _dress(ax, title, "number of clusters K", "WCSS")
    _curve(ax, [score.k for score in scores], [score.wcss for score in scores], report.n_clusters)
    ax.set_ylim(0, 1.06 * max(score.wcss for score in scores))
    ax.yaxis.set_major_formatter(_number)
    return figure


def _number(value: float, position: int | None = None) -> str:
    """A tick label with thousands set apart, never as a difference to some offset."""
    text = f"{value:,.10g}" if abs(value) < 1e8 else f"{value:.6g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _curve(ax: Axes, ks: list[int], values: list[float], chosen: int) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.plot(ks, values, color=_DARK2[0], marker="o", markersize=5, linewidth=1.6)
    at = ks.index(chosen)
    ring: dict[str, Any] = {
        "markersize": 11,
        "markerfacecolor": "none",
        "markeredgecolor": _DARK2[1],
        "markeredgewidth": 2,
    }
    ax.plot([chosen], [values[at]], "o", **ring)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))


def silhouette(report: Report) -> Figure:
    """Mean silhouette against K (where K was chosen), and the profile of every cluster."""
    rated = [(score.k, score.silhouette) for score in report.curve if score.silhouette is not None]
    panels = 1 if report.tried.given or not rated else 2
    figure, axes = _figure(5.2 * panels, 4.4, panels)
    name, profile = _plain(report.table.name), axes if panels == 1 else axes[1]
    if panels == 2:
        title = f"{name}\nmean silhouette, chosen: K = {report.n_clusters}"
        _dress(axes[0], title, "number of clusters K", "mean silhouette")
        _curve(axes[0], [k for k, _ in rated], [value for _, value in rated], report.n_clusters)
        axes[0].margins(y=0.12)
        name = ""  # it stands over the other panel
    _profile(profile, report, name)
    return figure


def _profile(ax: Axes, report: Report, name: str) -> None:
    """Sorted silhouettes, cluster above cluster: wide, even blades are well separated clusters."""
    found = report.silhouettes
    assert found is not None
    m = len(found.values)
    mean = float(found.values.mean())
    rows = "each row" if found.exact else f"{m:,} sampled rows"
    title = f"{name}\nsilhouette of {rows}, K = {report.n_clusters}, mean {mean:.3f}"
    _dress(ax, title, "silhouette", "rows, by cluster")
    gap, bottom = max(1, m // max(60, 4 * report.n_clusters)), 0
    for cluster, color in enumerate(colors(report.n_clusters)):
        values = np.sort(found.values[found.clusters == cluster])
        if len(values) == 0:
            continue
        ax.fill_betweenx(bottom + np.arange(len(values)), 0, values, color=color, step="mid", linewidth=0.5)
        if len(values) >= m / 30:  # thinner blades have no room for a number
            ax.text(
                min(0.0, values[0]) - 0.01,
                bottom + len(values) / 2,
                str(cluster),
                ha="right",
                va="center",
                fontsize=8,
            )
        bottom += len(values) + gap
    ax.axvline(mean, color=_INK, linestyle="--", linewidth=1)
    ax.set_yticks([])
    ax.set_ylim(-gap, bottom)
    low, high = float(found.values.min()), float(found.values.max())
    ax.set_xlim(min(0.0, low) - 0.08, min(1.0, high + 0.05))


# --- points -----------------------------------------------------------------------------------


def scatter(report: Report) -> Figure:
    """Rows coloured by cluster, and the centroids with their numbers.

    Two columns are drawn as they are; more are projected on their first two principal components
    (of the scaled data); a single one is drawn against the row number.
    """
    from matplotlib.ticker import MaxNLocator

    n, k = len(report.table.X), report.n_clusters
    shown = np.arange(n) if n <= SCATTER_POINTS else sample_rows(n, SCATTER_POINTS, report.seed)
    points, centers, names = _plane(report, shown)
    figure, ax = _figure(7.2 if k <= 16 else 8.4, 4.8)
    title = f"{_plain(report.table.name)}: {n:,} rows in {k} clusters"
    _dress(ax, title + (f" ({len(shown):,} drawn)" if len(shown) < n else ""), *names)
    labels = report.labels[shown]
    size = float(np.clip(12_000 / len(shown), 5, 26))
    for cluster, color in enumerate(colors(k)):
        rows = points[labels == cluster]
        marker = _MARKERS[cluster // len(_DARK2) % len(_MARKERS)]
        ax.scatter(*rows.T, s=size, color=color, marker=marker, alpha=0.75, linewidths=0, label=f"{cluster}")
    if len(report.table.columns) < 3:
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(6))
            axis.set_major_formatter(_number)
    _centroids(ax, centers, upright=len(report.table.columns) == 1)
    if k <= 32:
        _cluster_legend(figure, ax, report)
    return figure


def _cluster_legend(figure: Figure, ax: Axes, report: Report) -> None:
    """Colours, numbers and sizes of the clusters, beside the picture so that it covers no point."""
    handles, numbers = ax.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        [f"{number}  ({report.sizes[int(number)]:,})" for number in numbers],
        title="cluster (rows)",
        loc="outside right upper",
        frameon=False,
        alignment="left",
        handletextpad=0.2,
        ncols=1 if len(numbers) <= 16 else 2,
    )
    for handle in filter(None, legend.legend_handles):
        handle.set(sizes=[36], alpha=1)


def _centroids(ax: Axes, centers: np.ndarray, upright: bool) -> None:
    """White discs with the cluster's number (up to 100): told from points of any colour."""
    k = len(centers)
    area, font = (190, 8.5) if k <= 16 else (110, 6.5) if k <= 40 else (60, 4.5) if k <= 100 else (12, 0)
    x, y = centers.T
    ax.scatter(x, y, s=area, color="white", edgecolors="black", linewidths=1.3 if font else 0.8, zorder=4)
    for cluster, (x, y) in enumerate(centers):
        style: dict[str, Any] = {"fontsize": font, "fontweight": "bold", "zorder": 5, "clip_on": True}
        if font:
            ax.text(x, y, str(cluster), ha="center", va="center", **style)
        if upright:  # one column: only x means something
            ax.axvline(x, color="black", linewidth=1)


def _plane(report: Report, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """The shown rows (m, 2) and the centroids (k, 2) in the plane of the picture, and its axes' names."""
    table: Table = report.table
    X, columns = table.X[shown], tuple(_plain(name) for name in table.columns)
    if len(columns) == 2:
        return X, report.centers, (columns[0], columns[1])
    if len(columns) == 1:
        middle = np.full(report.n_clusters, len(table.X) / 2)
        across = np.stack([X[:, 0].astype(np.float64), shown + 1.0], axis=1)
        return (
            across,
            np.stack([report.centers[:, 0].astype(np.float64), middle], axis=1),
            (columns[0], "row"),
        )
    from sklearn.decomposition import PCA

    rows = report.scaling.apply(X).astype(np.float64)
    pca = PCA(2, svd_solver="full" if rows.size < 1e6 else "randomized", random_state=report.seed)
    points = pca.fit_transform(rows)
    first, second = (f"{100 * share:.1f} % of the variance" for share in pca.explained_variance_ratio_)
    centers = pca.transform(report.scaled_centers.astype(np.float64))
    return points, centers, (f"principal component 1 ({first})", f"principal component 2 ({second})")


# --- classes ----------------------------------------------------------------------------------


def confusion(report: Report) -> Figure:
    """Known classes against the classes their clusters were matched to; colour is the share of a row."""
    against = report.judgement
    assert against is not None
    counts = against.confusion
    width, height = (float(np.clip(0.6 * side, 2.0, 11.0)) for side in counts.shape[::-1])
    rows = [_plain(_middle_cut(name)) for name in against.classes]
    figure, ax = _figure(max(width, 3.6) + 1.9 + 0.08 * max(map(len, rows)), height + 1.6)
    title = f"{against.wrong:,} of {counts.sum():,} rows wrong, matched accuracy {against.matched_accuracy:.3f}"
    label = f"known class ({_plain(report.table.y_name or 'label')})"
    _dress(ax, f"{_plain(report.table.name)}\n{title}", "class of the matched cluster", label, grid=False)
    shares = counts / counts.sum(axis=1, keepdims=True)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=ax, fraction=0.06, aspect=25, label="share of the class")
    _ticks(ax.xaxis, [*rows, *(f"cluster {number}" for number in against.leftover)], rotate=True)
    _ticks(ax.yaxis, rows)
    _cell_numbers(ax, counts, shares, room=0.9 * 72 * max(width, 3.6) / counts.shape[1])
    return figure


def _middle_cut(name: str) -> str:
    """Long class names often differ at the end only: keep both ends."""
    return name if len(name) <= 20 else f"{name[:9]}...{name[-8:]}"


def _ticks(axis: Any, names: list[str], rotate: bool = False) -> None:
    step = -(-len(names) // 40)
    slanted = rotate and len(names) * max(map(len, names)) > 45
    turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axis.set_ticks(range(0, len(names), step), names[::step], fontsize=9 if len(names) <= 20 else 7, **turn)


def _cell_numbers(ax: Axes, counts: np.ndarray, shares: np.ndarray, room: float) -> None:
    """Counts in the cells, if the widest fits into `room` points at a size that can be read."""
    size = min(10.0, room / (0.68 * len(f"{counts.max():,}")))
    if size < 5:
        return
    for (i, j), number in np.ndenumerate(counts):
        color = "white" if shares[i, j] > 0.55 else _INK if number else "#aaaaaa"
        ax.text(j, i, f"{number:,}", ha="center", va="center", fontsize=size, color=color)
