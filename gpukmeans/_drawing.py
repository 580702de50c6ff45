"""What the displays share: colours, room for text, rows to draw. Matplotlib is imported where it is used.

Text needs room in points, while data lie where the axes put them. So the helpers that place text let
the figure lay itself out first (`settle`), then work in points: numbers stay apart at any size and dpi.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._device import to_host

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

INK, FAINT = "#333333", "#999999"

# ColorBrewer's Dark2; then colours chosen one by one, each farthest (in Oklab) from those before it,
# not too pale for paper. No two are closer than Dark2's own closest pair.
_HUES = (
    "#1b9e77 #d95f02 #7570b3 #e7298a #66a61e #e6ab02 #a6761d #666666 #220088 #660000 #22ccff #dd99ff "
    "#004400 #770077 #ff9999 #004466 #aa2233 #88cc99 #0055bb #007700 #bb7788 #0099ff #aa44aa #442244"
).split()


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


# --- axes -------------------------------------------------------------------------------------


def given_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes to draw on; without any, those of a new pyplot figure of this size in inches."""
    if ax is None:
        from matplotlib.pyplot import subplots

        _, ax = subplots(figsize=(width, height), layout="constrained")
    return ax


def dress(ax: Axes, title: str, xlabel: str, ylabel: str, *, pad: float = 6.0) -> None:
    ax.set_title(title, loc="left", fontsize=11, color=INK, pad=pad)
    ax.set_xlabel(xlabel, color=INK)
    ax.set_ylabel(ylabel, color=INK)
    ax.spines[["top", "right"]].set_visible(False)


def settle(ax: Axes) -> tuple[float, float]:
    """Let the figure lay itself out; the width and height of the axes in points."""
    figure: Any = ax.figure.canvas.figure  # the whole one, where the axes are in a subfigure
    figure.draw_without_rendering()
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

    return np.array([to_rgb(hue) for hue in _HUES])[np.arange(n_colors) % len(_HUES)]


def colors_apart(centers: np.ndarray) -> np.ndarray:
    """Colours for clusters in the plane, (k, 3), such that those of neighbours differ most.

    Up to eight are Dark2 by number. More are chosen greedily, crowded clusters first; a colour comes
    again only when all have been used.
    """
    k = len(centers)
    if k <= 8:
        return palette(k)
    hues = palette(len(_HUES))[: max(k, 12)]
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


def spread_plane(places: np.ndarray, gap: float, width: float, height: float) -> np.ndarray:
    """Places (k, 2) pushed apart, pair by pair, until they are `gap` apart inside width x height."""
    moved, k = places.astype(float).copy(), len(places)
    turn = 2.4 * np.arange(k)  # a direction for centres that coincide
    moved += 1e-3 * gap * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    inside = np.minimum([[gap / 2], [gap / 2]], [[width / 2], [height / 2]]).ravel()
    for _ in range(500):
        apart = moved[:, None] - moved
        distance = np.linalg.norm(apart, axis=2) + gap * np.eye(k)
        overlap = np.maximum(0, 1.02 * gap - distance) * (1 - np.eye(k))
        if overlap.max() <= 0.02 * gap:
            break
        moved += 0.5 * (apart * (overlap / np.maximum(distance, 1e-9))[:, :, None]).sum(axis=1)
        moved = np.clip(moved, inside, [width, height] - inside)
    return moved


class _Disc(NamedTuple):
    """A Matplotlib box style: a disc of one size for all numbers, in multiples of the font size."""

    radius: float

    def __call__(self, x0: float, y0: float, width: float, height: float, mutation_size: float) -> Any:
        from matplotlib.path import Path

        return Path.circle((x0 + width / 2, y0 + height / 2), self.radius * mutation_size)


def badges(ax: Axes, centers: np.ndarray, names: Sequence[str], colors: np.ndarray) -> list[Any]:
    """A disc with a name at each centre; discs that would touch move apart, tied to their centre by a line."""
    k, width = len(centers), settle(ax)
    letters = max(map(len, names))
    font = 9.0 if k <= 12 else 7.5 if k <= 40 else 6.0 if k <= 100 else 5.0
    radius = font * (0.42 + 0.27 * max(letters, 2))  # in points
    scale = 72 / ax.figure.canvas.figure.dpi
    places = (ax.transData.transform(centers) - [ax.bbox.x0, ax.bbox.y0]) * scale
    offsets = spread_plane(places, 2 * radius + 2, *width) - places
    texts = []
    for center, offset, name, color in zip(centers, offsets, names, colors, strict=True):
        moved = np.hypot(*offset) > 0.6 * radius
        if moved:
            ax.plot(*center, "o", color=color, markersize=4, markeredgecolor="white", markeredgewidth=0.8, zorder=4)
        text = ax.annotate(
            name,
            center,
            offset if moved or np.hypot(*offset) > 0.1 else (0, 0),
            textcoords="offset points",
            ha="center",
            va="center_baseline",
            fontsize=font,
            fontweight="bold",
            color=ink_on(color),
            zorder=6,
            annotation_clip=False,
            bbox={"boxstyle": _Disc(radius / font), "facecolor": color, "edgecolor": "white", "linewidth": 1.2},
        )
        if moved:
            line = {"arrowstyle": "-", "color": INK, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", center, offset, textcoords="offset points", arrowprops=line, zorder=5)
        texts.append(text)
    return texts


# --- rows -------------------------------------------------------------------------------------


def stratified_rows(codes: np.ndarray, n_drawn: int, random_state: Any, at_least: int = 20) -> np.ndarray:
    """About `n_drawn` rows in rising order: each cluster's share of them, and `at_least` where it has so many."""
    from sklearn.utils import check_random_state

    rng = check_random_state(random_state)
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    wanted = [min(len(rows), max(at_least, round(n_drawn * len(rows) / len(codes)))) for rows in groups]
    drawn = [rng.choice(rows, n, replace=False) for rows, n in zip(groups, wanted, strict=True) if n]
    return np.sort(np.concatenate(drawn))


class Plane(NamedTuple):
    """How rows become points: a projection, and the names of the two axes."""

    origin: np.ndarray  # (d,)
    across: np.ndarray  # (d, 2)
    axis_labels: tuple[str, str]
    shares_units: bool

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Points of rows, (m, 2) float64, in blocks."""
        blocks = [rows[at : at + 65_536] for at in range(0, len(rows), 65_536)]
        return np.concatenate([(block - self.origin) @ self.across for block in blocks])


def plane_of(X: np.ndarray, feature_names: Sequence[Any] | None, random_state: Any, n_fit: int = 100_000) -> Plane:
    """Two features as they are; the first two principal components (of at most `n_fit` rows) of more."""
    from sklearn.decomposition import PCA
    from sklearn.utils import check_random_state

    d = X.shape[1]
    names = [f"feature {j}" for j in range(d)] if feature_names is None else [shorten(name) for name in feature_names]
    if len(names) != d:
        raise ValueError(f"feature_names has {len(names)} names for {d} features: give one for each.")
    if d <= 2:
        return Plane(np.zeros(d), np.eye(d, 2), (names[0], names[1] if d == 2 else ""), False)
    rng = check_random_state(random_state)
    few = X if len(X) <= n_fit else X[np.sort(rng.choice(len(X), n_fit, replace=False))]
    origin = few.mean(axis=0, dtype=np.float64)
    pca = PCA(min(2, len(few)), random_state=rng).fit(few - origin)
    across = np.zeros((d, 2))
    across[:, : len(pca.components_)] = pca.components_.T
    shares = [*np.nan_to_num(pca.explained_variance_ratio_), 0.0][:2]
    first, second = (f"principal component {i} ({share:.1%} of variance)" for i, share in enumerate(shares, 1))
    return Plane(origin + pca.mean_, across, (first, second), True)
