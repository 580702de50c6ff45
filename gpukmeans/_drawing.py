"""What the displays share: colours, room for text, rows to draw. Matplotlib is imported where it is used.

Text needs room in points, while data lie where the axes put them. So the helpers that place text let
the figure lay itself out first (`settle`), then work in points: numbers stay apart at any size and dpi.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._device import to_host

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

INK, FAINT = "#333333", "#999999"
N_HUES = 24

# ColorBrewer's Dark2; then colours chosen one by one, each farthest (in Oklab) from those before it,
# not too pale for paper. No two are closer than Dark2's own closest pair.
_HUES = (
    "#1b9e77 #d95f02 #7570b3 #e7298a #66a61e #e6ab02 #a6761d #666666 "
    "#220088 #660000 #22ccff #dd99ff #004400 #770077 #ff9999 #004466 "
    "#aa2233 #88cc99 #0055bb #007700 #bb7788 #0099ff #aa44aa #442244"
)


def one_per_row(values: Any, n_samples: int | None, name: str) -> np.ndarray:
    """Values as a host vector, (n,), with one entry for each row."""
    values = to_host(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} needs one entry for each row, in one dimension, but has shape {values.shape}.")
    if n_samples is not None and values.size != n_samples:
        raise ValueError(f"{name} needs one entry for each of the {n_samples} rows, but has {values.size}.")
    return values


def shorten(name: Any, width: int = 24) -> str:
    """A name to print: its ends if it is long, and no dollar sign read as mathematics."""
    text = " ".join(str(name).split())
    half = (width - 3) // 2
    text = text if len(text) <= width else f"{text[:half]}...{text[-half:]}"
    return text.replace("$", r"\$")


def predictions(estimator: Any, X: Any) -> tuple[Any, Any, Any]:
    """The estimator that clusters (a pipeline's last step), the rows as it gets them, and their clusters."""
    if isinstance(estimator, type) or not any(hasattr(estimator, name) for name in ("fit", "predict", "labels_")):
        what = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {type(estimator).__name__}"
        raise TypeError(
            f"estimator is {what}, but a fitted clustering estimator or pipeline is needed, such as "
            "gpukmeans.KMeans(3).fit(X). For clusters that are known already use from_predictions."
        )
    if hasattr(estimator, "steps"):
        X, estimator = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X, estimator[-1]
    if hasattr(estimator, "predict"):
        return estimator, X, estimator.predict(X)
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator, "labels_")
    return estimator, X, estimator.labels_


# --- axes -------------------------------------------------------------------------------------


def given_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes to draw on; without any, those of a new pyplot figure of this size in inches."""
    if ax is None:
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.pyplot import subplots

        margin = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)  # inches: nothing touches the edge
        _, ax = subplots(figsize=(width, height), layout=margin)
    return ax


def dress(ax: Axes, title: str, xlabel: str, ylabel: str, *, pad: float = 6.0) -> None:
    """Title at the left, names of the axes, no frame at the top and right."""
    ax.set_title(title, loc="left", fontsize=11, color=INK, pad=pad)
    ax.set_xlabel(xlabel, color=INK)
    ax.set_ylabel(ylabel, color=INK)
    ax.spines[["top", "right"]].set_visible(False)


def settle(ax: Axes) -> tuple[float, float]:
    """Let the figure lay itself out; the width and height of the axes in points."""
    figure: Any = ax.figure.canvas.figure  # the whole one, where the axes are in a subfigure
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    ax.apply_aspect()
    scale = 72 / figure.dpi
    return ax.bbox.width * scale, ax.bbox.height * scale


def make_room(ax: Axes, legend: Legend) -> None:
    """Raise the upper limit of y (the lower one is 0) until falling lines pass below a legend in the right corner."""
    _, height = settle(ax)
    box = legend.get_window_extent().transformed(ax.transAxes.inverted())
    left = ax.transData.inverted().transform(ax.transAxes.transform((box.x0, 0)))[0]
    top = 0.0
    for line in ax.lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if x[-1] >= left:
            top = max(top, y[x >= left].max(initial=0.0), float(np.interp(left, x, y)))
    free = max(0.3, box.y0 - 12 / height)
    ax.set_ylim(0, max(ax.get_ylim()[1], top / free))


# --- colours ----------------------------------------------------------------------------------


def palette(n_colors: int) -> np.ndarray:
    """Colours by number, (n_colors, 3): Dark2 for eight, 24 different ones, then these again."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(hue) for hue in _HUES.split()])[np.arange(n_colors) % N_HUES]


def colors_apart(centers: np.ndarray) -> np.ndarray:
    """Colours for clusters in the plane, (k, 3), such that those of neighbours differ most.

    Up to eight are Dark2 by number. More are chosen greedily, crowded clusters first; a colour comes
    again only when all have been used.
    """
    k = len(centers)
    if k <= 8:
        return palette(k)
    hues = palette(N_HUES)[: max(k, 12)]
    contrast = np.square((hues[:, None] - hues) * [1.4, 2.0, 1.7]).sum(axis=2)  # the eye's weights, roughly
    distances = np.linalg.norm(centers[:, None] - centers, axis=2)
    reach = 2 * np.median(np.partition(distances, 1, axis=1)[:, 1]) or 1.0
    near = np.exp(-np.square(distances / reach))
    chosen, used = np.zeros(k, int), np.zeros(len(hues), int)
    done: list[int] = []
    for cluster in np.argsort(-near.sum(axis=1), kind="stable").tolist():
        clash = near[cluster, done] @ (1 / (contrast[chosen[done]] + 0.01))
        chosen[cluster] = np.where(used == used.min(), clash, np.inf).argmin()
        used[chosen[cluster]] += 1
        done.append(cluster)
    return hues[chosen]


def ink_on(color: Any) -> str:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = color[:3]
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.62 else "black"


# --- places -----------------------------------------------------------------------------------


def spread_line(places: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Rising places moved as little as possible (least squares) to lie `gap` apart within low..high."""
    from sklearn.isotonic import isotonic_regression

    steps = gap * np.arange(len(places))
    return isotonic_regression(places - steps, y_min=low, y_max=max(low, high - steps[-1])) + steps
