"""The scatter plot of a clustering: rows in the plane, centres as numbered badges that stay apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._device import is_device_array, to_host
from ._drawing import INK, colors_apart, dress, given_or_new, ink_on, one_per_row, predictions, settle, shorten
from ._validation import check_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ClusterDisplay:
    """Rows coloured by cluster, and the centres as numbered badges.

    Parameters
    ----------
    points : array-like of shape (n_drawn, 2)
        The rows to draw, in the plane.
    labels : array-like of shape (n_drawn,)
        Cluster of each.
    centers : array-like of shape (n_clusters, 2)
    clusters : array-like of shape (n_clusters,), optional
        The labels that the centres belong to; 0 to n_clusters - 1 when None.
    axis_labels : pair of str, default=("feature 0", "feature 1")
    shares_units : bool, default=False
        Whether both axes have the same units, as principal components do.
    n_total : int, optional
        Rows that the points were sampled from, for the title.

    Attributes
    ----------
    points_ : matplotlib PathCollection or PolyCollection
        The rows, or the hexagons.
    badges_ : list of matplotlib Annotation
        The clusters' numbers, in the order of `centers`; anchored (`xy`) at the centres.
    colors_ : ndarray of shape (n_clusters, 3)
        Dark2 for up to eight clusters; for more, colours of neighbours in the plane differ most.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from gpukmeans import KMeans
    >>> from gpukmeans.plotting import ClusterDisplay
    >>> X = load_iris().data
    >>> display = ClusterDisplay.from_estimator(KMeans(3, random_state=0).fit(X), X)
    >>> display.ax_.get_xlabel()
    'PC 1 (92.5% of variance)'
    >>> plt.close(display.figure_)
    """

    MAX_POINTS = 5_000  # more only blacken a picture: above it a sample is drawn
    HEXAGONS_FROM = 100_000  # rows from which on hexagons show their density
    MAX_BINNED = 1_000_000
    MAX_BADGES = 200  # above it centres are dots

    def __init__(
        self,
        points,
        labels,
        centers,
        *,
        clusters=None,
        axis_labels=("feature 0", "feature 1"),
        shares_units=False,
        n_total=None,
    ):
        self.points = points
        self.labels = labels
        self.centers = centers
        self.clusters = clusters
        self.axis_labels = axis_labels
        self.shares_units = shares_units
        self.n_total = n_total

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, **kwargs) -> ClusterDisplay:
        """Draw the clusters that a fitted estimator finds in X.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted; clusters come from its `predict`, or from `labels_` if it has none, centres from
            `cluster_centers_`, or they are the clusters' means. Of a pipeline the last step is drawn, in
            the space that the steps before make of X.
        X : array-like of shape (n_samples, n_features)
        **kwargs
            As in `from_predictions`.

        Returns
        -------
        display : ClusterDisplay
        """
        last, X, labels = predictions(estimator, X)
        kwargs.setdefault("feature_names", getattr(last, "feature_names_in_", None))
        return cls.from_predictions(X, labels, getattr(last, "cluster_centers_", None), **kwargs)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        labels: Any,
        centers: Any = None,
        *,
        feature_names: Sequence[Any] | None = None,
        random_state: Any = 0,
        kind: str = "auto",
        ax: Axes | None = None,
        **kwargs,
    ) -> ClusterDisplay:
        """Draw rows in given clusters.

        Two features are drawn as they are, more as their first two principal components, a single
        one against the row number.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        labels : array-like of shape (n_samples,)
        centers : array-like of shape (n_clusters, n_features), optional
            In the order of the sorted labels, or row `i` of label `i`. The clusters' means when None.
        feature_names : sequence of str, optional
            The columns of a data frame when None.
        random_state : int, RandomState instance or None, default=0
            Of the sample: above `MAX_POINTS` rows each cluster's share of so many is drawn, and at least
            20 rows of a small cluster. An int draws the same picture again.
        kind : {'auto', 'points', 'hexbin'}, default='auto'
            'hexbin' colours hexagons by the cluster most of their rows are in, darker where rows are
            many; 'auto' does so from `HEXAGONS_FROM` rows on.
        ax : matplotlib Axes, optional
        **kwargs
            As in `plot`.

        Returns
        -------
        display : ClusterDisplay

        Raises
        ------
        ValueError
            For numbers of labels, centres, features or names that do not fit together.
        """
        from sklearn.utils import check_random_state

        names = getattr(X, "columns", None) if feature_names is None else feature_names
        X = check_rows(to_host(X) if is_device_array(X) else X)
        n_samples = X.shape[0]
        labels = one_per_row(labels, n_samples, "labels")
        clusters, centers = _named_centers(X, labels, centers)
        kind = _check_kind(kind, n_samples >= cls.HEXAGONS_FROM)
        rng = check_random_state(random_state)
        rows: Any = slice(None)
        if kind == "points" and n_samples > cls.MAX_POINTS:
            rows = _stratified_rows(_codes(labels, clusters), cls.MAX_POINTS, rng)
        elif n_samples > cls.MAX_BINNED:
            rows = np.sort(rng.choice(n_samples, cls.MAX_BINNED, replace=False))
        plane = _plane_of(X, names, rng)
        points, centers = plane.project(X[rows]), plane.project(centers)
        axis_labels = plane.axis_labels
        if X.shape[1] == 1:
            points[:, 1], centers[:, 1] = np.arange(n_samples)[rows], (n_samples - 1) / 2
            axis_labels = (axis_labels[0], "row")
        display = cls(
            points,
            labels[rows],
            centers,
            clusters=clusters,
            axis_labels=axis_labels,
            shares_units=plane.shares_units,
            n_total=n_samples,
        )
        return display.plot(ax=ax, kind=kind, **kwargs)

    def plot(
        self, ax: Axes | None = None, *, kind: str = "auto", equal_aspect: bool | str = "auto", **kwargs
    ) -> ClusterDisplay:
        """Draw the rows, then the centres.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure, shaped after the data, when None.
        kind : {'auto', 'points', 'hexbin'}, default='auto'
        equal_aspect : bool or 'auto', default='auto'
            Whether a unit is the same length on both axes, as it is in the distances of k-means. 'auto'
            does so unless the picture would become a narrow strip.
        **kwargs
            Of the scatter plot: `s`, `alpha`, ...

        Returns
        -------
        self : ClusterDisplay
        """
        points, centers = (np.asarray(x, dtype=np.float64) for x in (self.points, self.centers))
        k = len(centers)
        clusters = np.arange(k) if self.clusters is None else np.asarray(self.clusters)
        codes = _codes(one_per_row(self.labels, len(points), "labels"), clusters)
        spans = np.ptp(np.concatenate([points, centers]), axis=0)
        strip = 0.12 if self.shares_units else 0.25
        equal = equal_aspect if equal_aspect != "auto" else bool(spans.min() > strip * spans.max())
        self.ax_ = ax = given_or_new(ax, *_figure_size(spans, bool(equal)))
        self.figure_ = ax.figure
        total = self.n_total or len(points)
        hexbin = _check_kind(kind, len(points) >= self.HEXAGONS_FROM) == "hexbin"
        note = "colour: most rows of a hexagon" if hexbin else f"{len(points):,} drawn" if len(points) < total else ""
        dress(ax, f"{total:,} rows in {k} clusters" + (f" ({note})" if note else ""), *self.axis_labels)
        if equal:
            ax.set_aspect("equal", adjustable="box")
        self.colors_ = colors_apart(centers)
        self.points_ = (self._plot_hexagons if hexbin else self._plot_points)(points, codes, spans, **kwargs)
        ax.update_datalim(centers)
        ax.margins(0.06)
        ax.autoscale_view()
        self.badges_ = []
        if k <= self.MAX_BADGES:
            self.badges_ = _badges(ax, centers, [shorten(name, 8) for name in clusters.tolist()], self.colors_)
        else:
            ax.scatter(centers[:, 0], centers[:, 1], s=14, c=self.colors_, edgecolors="black", linewidths=0.8, zorder=4)
        return self

    def _plot_points(self, points: np.ndarray, codes: np.ndarray, spans: np.ndarray, **kwargs: Any) -> Any:
        """All rows in one shuffled collection: no cluster lies over the others."""
        order = np.random.default_rng(0).permutation(len(points))
        style: dict[str, Any] = {"s": float(np.clip(12_000 / len(points), 5, 28)), "alpha": 0.7, "linewidths": 0}
        style |= {"rasterized": len(points) > 2_000, **kwargs}
        return self.ax_.scatter(points[order, 0], points[order, 1], c=self.colors_[codes[order]], **style)

    def _plot_hexagons(self, points: np.ndarray, codes: np.ndarray, spans: np.ndarray, **kwargs: Any) -> Any:
        """Hexagons in the colour of the cluster most of their rows are in, paler where rows are few."""
        n = len(points)

        def most(found: Any) -> float:  # the cluster, and the share of all rows behind the point
            counts = np.bincount(np.asarray(found, dtype=int))
            return float(counts.argmax() + len(found) / (n + 1))

        tall = spans[1] / spans[0] if self.ax_.get_aspect() != "auto" and spans.all() else 0.7
        wide = 80 if tall <= 1 else round(80 / tall)
        grid = (wide, max(4, round(wide * tall / np.sqrt(3))))
        found: Any = self.ax_.hexbin(
            points[:, 0], points[:, 1], codes, reduce_C_function=most, gridsize=grid, linewidths=0.2
        )
        share, cluster = np.modf(np.asarray(found.get_array()))
        weight = 0.3 + 0.7 * np.log1p(share * (n + 1)) / np.log1p(share.max() * (n + 1))
        found.set_array(None)
        faces = 1 - weight[:, None] * (1 - self.colors_[cluster.astype(int)])
        found.set(facecolor=faces, edgecolor=faces, **kwargs)
        return found


def _check_kind(kind: str, many: bool) -> str:
    if kind not in ("auto", "points", "hexbin"):
        raise ValueError(f"kind={kind!r} is not known. Give 'auto', 'points' or 'hexbin'.")
    return kind if kind != "auto" else "hexbin" if many else "points"


def _figure_size(spans: np.ndarray, equal: bool) -> tuple[float, float]:
    """Width and height in inches, such that axes of equal units fill the figure."""
    if not equal or not spans.all():
        return 6.8, 5.0
    side = 5.8 * spans / spans.max()
    return max(4.4, side[0] + 0.9), max(3.0, side[1] + 1.0)


# --- clusters and rows ------------------------------------------------------------------------


def _named_centers(X: np.ndarray, labels: np.ndarray, centers: Any) -> tuple[np.ndarray, np.ndarray]:
    """The label of each centre, (k,), and the centres, (k, d) float64."""
    found = np.unique(labels)
    if centers is None:
        return found, np.stack([X[labels == cluster].mean(axis=0, dtype=np.float64) for cluster in found])
    centers = np.asarray(to_host(centers), dtype=np.float64)
    if centers.ndim != 2 or centers.shape[1] != X.shape[1]:
        raise ValueError(
            f"centers has shape {centers.shape}, but X has {X.shape[1]} features: give (n_clusters, {X.shape[1]})."
        )
    k = len(centers)
    if labels.dtype.kind in "iu" and found[0] >= 0 and found[-1] < k:
        return np.arange(k), centers
    if len(found) != k:
        raise ValueError(f"{k} centers do not fit labels with {len(found)} different values: give one center for each.")
    return found, centers


def _codes(labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The place of each label in `clusters`."""
    order = np.argsort(clusters, kind="stable")
    codes = order[np.minimum(np.searchsorted(clusters, labels, sorter=order), len(clusters) - 1)]
    strange = labels[clusters[codes] != labels]
    if strange.size:
        raise ValueError(f"labels has {strange.tolist()[0]!r}, which is none of the {len(clusters)} clusters.")
    return codes


def _stratified_rows(codes: np.ndarray, n_drawn: int, random_state: Any, at_least: int = 20) -> np.ndarray:
    """About `n_drawn` rows in rising order: each cluster's share of them, and `at_least` where it has so many."""
    from sklearn.utils import check_random_state

    rng = check_random_state(random_state)
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    at_least = max(1, min(at_least, n_drawn // len(groups)))
    wanted = [min(len(rows), max(at_least, round(n_drawn * len(rows) / len(codes)))) for rows in groups]
    drawn = [rng.choice(rows, n, replace=False) for rows, n in zip(groups, wanted, strict=True) if n]
    return np.sort(np.concatenate(drawn))


class _Plane(NamedTuple):
    """How rows become points: a projection, and the names of the two axes."""

    origin: np.ndarray  # (d,)
    across: np.ndarray  # (d, 2)
    axis_labels: tuple[str, str]
    shares_units: bool

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Points of rows, (m, 2) float64, in blocks."""
        blocks = [rows[at : at + 65_536] for at in range(0, len(rows), 65_536)]
        return np.concatenate([(block - self.origin) @ self.across for block in blocks])


def _plane_of(X: np.ndarray, feature_names: Sequence[Any] | None, random_state: Any, n_fit: int = 100_000) -> _Plane:
    """Two features as they are; the first two principal components (of at most `n_fit` rows) of more."""
    from sklearn.decomposition import PCA
    from sklearn.utils import check_random_state

    d = X.shape[1]
    names = [f"feature {j}" for j in range(d)] if feature_names is None else [shorten(name) for name in feature_names]
    if len(names) != d:
        raise ValueError(f"feature_names has {len(names)} names for {d} features: give one for each.")
    if d <= 2:
        return _Plane(np.zeros(d), np.eye(d, 2), (names[0], names[1] if d == 2 else ""), False)
    rng = check_random_state(random_state)
    few = X if len(X) <= n_fit else X[np.sort(rng.choice(len(X), n_fit, replace=False))]
    origin = few.mean(axis=0, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # rows that are all the same have no variance
        pca = PCA(min(2, len(few)), random_state=rng).fit(few - origin)
    across = np.zeros((d, 2))
    across[:, : len(pca.components_)] = pca.components_.T
    shares = [*np.nan_to_num(pca.explained_variance_ratio_), 0.0][:2]
    first, second = (f"PC {i} ({share:.1%} of variance)" for i, share in enumerate(shares, 1))
    return _Plane(origin + pca.mean_, across, (first, second), True)


# --- badges -----------------------------------------------------------------------------------


def _spread(places: np.ndarray, gap: float, width: float, height: float) -> np.ndarray:
    """Places (k, 2) pushed apart, pair by pair, until they are `gap` apart inside width x height."""
    k = len(places)
    turn = 2.4 * np.arange(k)  # a direction for centres that coincide
    moved = places + 1e-3 * gap * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    inside = np.minimum(gap, [width, height]) / 2
    for _ in range(1000):
        apart = moved[:, None] - moved
        distance = np.linalg.norm(apart, axis=2) + 2 * gap * np.eye(k)
        overlap = np.maximum(0, 1.02 * gap - distance)
        if overlap.max(initial=0) <= 0.02 * gap:
            break
        push = (apart * (overlap / np.maximum(distance, 1e-9))[:, :, None]).sum(axis=1)
        moved += push / np.maximum(2, np.count_nonzero(overlap, axis=1))[:, None]  # the mean: a crowd does not burst
        moved = np.clip(moved, inside, [width, height] - inside)
    return moved


class _Disc(NamedTuple):
    """A Matplotlib box style: a disc of one size for all numbers, in multiples of the font size."""

    radius: float

    def __call__(self, x0: float, y0: float, width: float, height: float, mutation_size: float) -> Any:
        from matplotlib.path import Path

        middle = y0 + height / 2 + 0.08 * mutation_size  # of a digit: the box has room for descenders
        return Path.circle((x0 + width / 2, middle), self.radius * mutation_size)


def _badges(ax: Axes, centers: np.ndarray, names: Sequence[str], colors: np.ndarray) -> list[Any]:
    """A disc with a name at each centre; discs that would touch move apart, tied to their centre by a line."""
    k, room = len(centers), settle(ax)
    letters = max(map(len, names))
    font = 9.0 if k <= 12 else 7.5 if k <= 40 else 6.0 if k <= 100 else 5.0
    radius = font * (0.42 + 0.27 * max(letters, 2))  # in points
    scale = 72 / ax.figure.canvas.figure.dpi
    places = (ax.transData.transform(centers) - [ax.bbox.x0, ax.bbox.y0]) * scale
    offsets = _spread(places, 2 * radius + 2, *room) - places
    texts = []
    for center, offset, name, color in zip(centers, offsets, names, colors, strict=True):
        moved = np.hypot(*offset) > 0.6 * radius
        if moved:
            ax.plot(*center, "o", color=color, markersize=4, markeredgecolor="white", markeredgewidth=0.8, zorder=4)
        text = ax.annotate(
            name,
            center,
            offset,
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
