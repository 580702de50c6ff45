"""Pictures of a clustering, as scikit-learn's displays: `from_estimator`, `from_predictions`, `plot(ax=)`.

Matplotlib is imported when something is drawn. Settings (`rcParams`) and estimators are left as they
are; arrays on a device are copied to the host once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import metrics
from ._device import is_device_array, to_host
from ._drawing import (
    FAINT,
    INK,
    badges,
    colors_apart,
    dress,
    given_or_new,
    ink_on,
    make_room,
    one_per_row,
    palette,
    plane_of,
    settle,
    shorten,
    spread_line,
    stratified_rows,
)
from ._validation import check_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ClusterDisplay", "ElbowDisplay", "MatchedConfusionDisplay", "SilhouetteDisplay"]


class ElbowDisplay:
    """Within-cluster sum of squares (WCSS) against the number of clusters K.

    The knee of such a curve is no evidence: there is one on noise, too. So the K with the best
    variance ratio and the curve of data without structure are shown beside it.

    Parameters
    ----------
    ks : array-like of shape (n_ks,)
        Numbers of clusters.
    wcss : array-like of shape (n_ks,)
        WCSS of each, in squared units of the data.
    total_ss : float, optional
        Sum of squares about the mean: WCSS of one cluster.
    n_samples, n_features : int, optional
        Shape of the data. With `total_ss`, the first gives the variance ratio and the second the
        reference `total_ss * K ** (-2 / n_features)`: how WCSS falls for evenly spread rows.
    knee : int, optional
        K to mark as the knee, see :func:`gpukmeans.metrics.find_knee`.

    Attributes
    ----------
    variance_ratios : ndarray of shape (n_ks,) or None
        Calinski-Harabasz index of each K, `nan` for K = 1.
    best_k : int or None
        The K with the largest, if two or more can be compared.
    line_, reference_line_, knee_mark_, best_mark_ : matplotlib Line2D or None
    legend_ : matplotlib Legend
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    T. Calinski and J. Harabasz, "A dendrite method for cluster analysis", Communications in
    Statistics 3 (1974).

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from gpukmeans.plotting import ElbowDisplay
    >>> display = ElbowDisplay([1, 2, 3], [82.0, 9.0, 8.0], total_ss=82.0, n_samples=20, n_features=2).plot()
    >>> display.best_k
    2
    >>> plt.close(display.figure_)
    """

    def __init__(self, ks, wcss, *, total_ss=None, n_samples=None, n_features=None, knee=None):
        self.ks = ks
        self.wcss = wcss
        self.total_ss = total_ss
        self.n_samples = n_samples
        self.n_features = n_features
        self.knee = knee

    @property
    def variance_ratios(self) -> np.ndarray | None:
        if self.total_ss is None or self.n_samples is None:
            return None
        ks, wcss = (np.asarray(values, dtype=np.float64) for values in (self.ks, self.wcss))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = (self.total_ss - wcss) / wcss * (self.n_samples - ks) / (ks - 1)
        return np.where((ks > 1) & (ks < self.n_samples), ratios, np.nan)

    @property
    def best_k(self) -> int | None:
        ratios = self.variance_ratios
        if ratios is None or np.count_nonzero(~np.isnan(ratios)) < 2:
            return None
        return int(np.asarray(self.ks)[np.nanargmax(ratios)])

    @classmethod
    def from_curve(
        cls, curve: metrics.WCSSCurve, *, n_samples: int | None = None, n_features: int | None = None, ax=None, **kwargs
    ) -> ElbowDisplay:
        """Draw a curve of :func:`gpukmeans.metrics.wcss_curve`.

        Parameters
        ----------
        curve : WCSSCurve
        n_samples, n_features : int, optional
            Shape of the data; read off the curve's models if it has any. For weighted rows give the
            sum of the weights as `n_samples`.
        ax : matplotlib Axes, optional
        **kwargs
            Of the curve's line: `color`, `linewidth`, ...

        Returns
        -------
        display : ElbowDisplay

        Raises
        ------
        TypeError
            If `curve` is not a curve.
        """
        if not isinstance(curve, metrics.WCSSCurve):
            raise TypeError(
                f"curve is a {type(curve).__name__}, but from_curve draws what gpukmeans.metrics.wcss_curve "
                "returns. For rows use ElbowDisplay.from_data(X, ks), for numbers ElbowDisplay(ks, wcss).plot()."
            )
        if curve.models:
            n_samples = n_samples or curve.models[0].labels_.shape[0]
            n_features = n_features or curve.models[0].n_features_in_
        knee = metrics.find_knee(curve.ks, curve.wcss)
        display = cls(
            curve.ks, curve.wcss, total_ss=curve.total_ss, n_samples=n_samples, n_features=n_features, knee=knee
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_data(cls, X: Any, ks: Iterable[int], *, ax=None, **settings) -> ElbowDisplay:
        """Fit k-means for each K, and draw the curve.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        ks : iterable of int
        ax : matplotlib Axes, optional
        **settings
            Of :func:`gpukmeans.metrics.wcss_curve`: `device`, `random_state`, `n_init`, ...

        Returns
        -------
        display : ElbowDisplay

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import make_blobs
        >>> from gpukmeans.plotting import ElbowDisplay
        >>> X, _ = make_blobs(200, centers=[[0, 0], [5, 5], [0, 9]], random_state=0)
        >>> display = ElbowDisplay.from_data(X, range(1, 7), random_state=0)
        >>> display.best_k
        3
        >>> plt.close(display.figure_)
        """
        return cls.from_curve(metrics.wcss_curve(X, ks, **settings), ax=ax)

    def plot(self, ax: Axes | None = None, *, reference: bool = True, **kwargs) -> ElbowDisplay:
        """Draw the curve, its marks and a legend.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure when None.
        reference : bool, default=True
            Whether to draw the curve of data without structure, where it is known.
        **kwargs
            Of the curve's line.

        Returns
        -------
        self : ElbowDisplay
        """
        from matplotlib.ticker import MaxNLocator, StrMethodFormatter

        ks, wcss = self._sorted()
        self.ax_ = ax = given_or_new(ax, 6.4, 4.4)
        self.figure_ = ax.figure
        dress(ax, "WCSS against the number of clusters", "number of clusters K", "WCSS (inertia)")
        style = {"color": palette(1)[0], "marker": "o", "markersize": 5, "linewidth": 1.6, "label": "WCSS of k-means"}
        self.reference_line_ = self._plot_reference(ks) if reference else None
        (self.line_,) = ax.plot(ks, wcss, **{**style, **kwargs})
        self.knee_mark_ = self._mark(self.knee, "knee of the curve", marker="D", markersize=9, color=palette(3)[2])
        ring = {"marker": "o", "markersize": 16, "markerfacecolor": "none", "markeredgewidth": 2, "color": palette(2)[1]}
        self.best_mark_ = self._mark(self.best_k, "best variance ratio (Calinski-Harabasz)", **ring)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        ax.set_ylim(0, 1.06 * max(line.get_ydata().max() for line in ax.lines) or 1.0)
        self.legend_ = ax.legend(loc="upper right", frameon=False, fontsize=9)
        make_room(ax, self.legend_)
        return self

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        ks, wcss = np.asarray(self.ks), np.asarray(self.wcss, dtype=np.float64)
        if ks.ndim != 1 or ks.size == 0 or ks.shape != wcss.shape:
            raise ValueError(f"ks has shape {ks.shape} and wcss {wcss.shape}: give one WCSS for each K, at least one.")
        order = np.argsort(ks, kind="stable")
        return ks[order], wcss[order]

    def _plot_reference(self, ks: np.ndarray) -> Any:
        if self.total_ss is None or self.n_features is None or ks[0] == ks[-1]:
            return None
        k = np.linspace(ks[0], ks[-1], 200)
        label = f"no structure: $W(1)\\,K^{{-2/d}}$, $d={self.n_features}$"
        falling = self.total_ss * k ** (-2 / self.n_features)
        return self.ax_.plot(k, falling, "--", color=FAINT, linewidth=1.3, label=label, zorder=1.5)[0]

    def _mark(self, k: int | None, meaning: str, **style: Any) -> Any:
        if k is None:
            return None
        ks, wcss = self._sorted()
        if k not in ks:
            raise ValueError(f"knee={k!r} is not one of the numbers of clusters {ks.tolist()}.")
        at = wcss[ks == k][:1]
        return self.ax_.plot([k], at, linestyle="none", label=f"{meaning}: K = {k}", zorder=3, **style)[0]


class SilhouetteDisplay:
    """Silhouettes of the rows, sorted in each cluster: wide, even blades are well separated clusters.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        Silhouettes, from -1 to 1.
    labels : array-like of shape (n_samples,)
        Cluster of each row, of any type.
    n_total : int, optional
        Rows that the silhouettes were sampled from, for the title.

    Attributes
    ----------
    clusters_ : ndarray of shape (n_clusters,)
        Clusters from top to bottom.
    bands_ : list of matplotlib PolyCollection
        The blade of each, as high as it has rows.
    mean_line_ : matplotlib Line2D
    mean_text_ : matplotlib Text
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis", J. Computational and Applied Mathematics 20 (1987).

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from gpukmeans.plotting import SilhouetteDisplay
    >>> display = SilhouetteDisplay.from_predictions([[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1])
    >>> display.mean_text_.get_text()
    'mean 0.889'
    >>> plt.close(display.figure_)
    """

    QUANTILES_FROM = 4_000  # rows from which on a blade is drawn from quantiles
    N_QUANTILES = 200

    def __init__(self, values, labels, *, n_total=None):
        self.values = values
        self.labels = labels
        self.n_total = n_total

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, **kwargs) -> SilhouetteDisplay:
        """Draw the silhouettes of the clusters that a fitted estimator finds in X.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted; clusters come from its `predict`, or from `labels_` if it has none. Of a pipeline, X
            goes through the steps before the last, and distances are those of the result.
        X : array-like of shape (n_samples, n_features)
        **kwargs
            As in `from_predictions`.

        Returns
        -------
        display : SilhouetteDisplay
        """
        last, X, labels = _predictions(estimator, X)
        return cls.from_predictions(X, labels, **kwargs)

    @classmethod
    def from_predictions(
        cls, X: Any, labels: Any, *, sample_size=None, random_state=None, device="auto", ax=None, **kwargs
    ) -> SilhouetteDisplay:
        """Draw the silhouettes of rows in given clusters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        labels : array-like of shape (n_samples,)
        sample_size : int, optional
            Rows to draw without replacement, as :func:`gpukmeans.metrics.silhouette_score` draws them:
            time grows with the square of the rows. All rows when None.
        random_state : int, RandomState instance or None, default=None
        device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'
        ax : matplotlib Axes, optional
        **kwargs
            As in `plot`.

        Returns
        -------
        display : SilhouetteDisplay
        """
        from sklearn.utils import check_random_state

        X = check_rows(X)
        n_samples = X.shape[0]
        labels = one_per_row(labels, n_samples, "labels")
        if sample_size is not None and sample_size < n_samples:
            drawn = check_random_state(random_state).permutation(n_samples)[:sample_size]
            X, labels = to_host(X)[drawn], labels[drawn]
        values = metrics.silhouette_samples(X, labels, device=device)
        return cls.from_samples(values, labels, n_total=n_samples, ax=ax, **kwargs)

    @classmethod
    def from_samples(cls, values: Any, labels: Any, *, n_total=None, ax=None, **kwargs) -> SilhouetteDisplay:
        """Draw silhouettes that are known already.

        Parameters
        ----------
        values : array-like of shape (n_samples,)
            From :func:`gpukmeans.metrics.silhouette_samples`.
        labels : array-like of shape (n_samples,)
        n_total : int, optional
            Rows that they were sampled from.
        ax : matplotlib Axes, optional
        **kwargs
            As in `plot`.

        Returns
        -------
        display : SilhouetteDisplay

        Raises
        ------
        ValueError
            For values that are not silhouettes, or another number of labels.
        """
        values = one_per_row(values, None, "values")
        if values.dtype.kind not in "fiu" or not (np.abs(values) <= 1 + 1e-6).all():
            raise ValueError(
                "values are no silhouettes: those are numbers from -1 to 1. Compute them with "
                "gpukmeans.metrics.silhouette_samples(X, labels), or call from_predictions(X, labels)."
            )
        display = cls(values, one_per_row(labels, values.size, "labels"), n_total=n_total)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, colors: Any = None) -> SilhouetteDisplay:
        """Draw the blades, their clusters' names and the mean.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure when None.
        colors : sequence of colours, optional
            One for each cluster: `ClusterDisplay.colors_` gives both pictures the same ones.

        Returns
        -------
        self : SilhouetteDisplay
        """
        values, labels = np.asarray(self.values, dtype=np.float64), np.asarray(self.labels)
        self.clusters_, codes = np.unique(labels, return_inverse=True)
        n, k, mean = values.size, len(self.clusters_), float(values.mean())
        self.ax_ = ax = given_or_new(ax, 6.4, float(np.clip(1.6 + 0.14 * k, 4.4, 9.5)))
        self.figure_ = ax.figure
        of = "" if self.n_total in (None, n) else f" of {self.n_total:,}"
        title = f"Silhouettes of {n:,}{of} rows in {k} clusters"
        dress(ax, title, "silhouette", "cluster (height: its rows)", pad=20)
        sizes, gap = np.bincount(codes), n * min(0.02, 0.25 / k)
        tops = np.concatenate([[0.0], np.cumsum(sizes[:-1] + gap)])
        self.bands_ = []
        for cluster, color in enumerate(self._colors(colors)):
            x, y = self._blade(values[codes == cluster], n)
            self.bands_.append(ax.fill_betweenx(tops[cluster] + y, 0, x, color=color, linewidth=0.4))
        self._plot_mean(mean)
        low, high = min(0.0, values.min()), max(0.05, values.max())
        ax.set_xlim(low - 0.02 * (high - low), min(1.0, high + 0.04 * (high - low)))
        ax.set_ylim(tops[-1] + sizes[-1] + gap, -gap)  # the first cluster on top
        self._name_bands(tops + sizes / 2)
        return self

    def _colors(self, colors: Any) -> Any:
        """One for each cluster: by its number, if clusters are numbered, so that a missing one shifts none."""
        k = len(self.clusters_)
        if colors is None:
            colors = palette(24)
        numbered = self.clusters_.dtype.kind in "iu" and self.clusters_[0] >= 0
        index = self.clusters_ if numbered and (self.clusters_[-1] < len(colors) or k > len(colors)) else np.arange(k)
        return [colors[int(i) % len(colors)] for i in index]

    def _blade(self, values: np.ndarray, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
        """Outline of a cluster's silhouettes: x falling, y from 0 to its size."""
        size = values.size
        if n_samples > self.QUANTILES_FROM and size > self.N_QUANTILES:
            at = np.linspace(0, 1, self.N_QUANTILES)
            return np.quantile(values, 1 - at), size * at
        x = np.sort(values)[::-1]
        return np.concatenate([x[:1], x, x[-1:]]), np.concatenate([[0.0], np.arange(size) + 0.5, [size]])

    def _plot_mean(self, mean: float) -> None:
        ax = self.ax_
        self.mean_line_ = ax.axvline(mean, color=INK, linestyle="--", linewidth=1)
        where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        self.mean_text_ = ax.annotate(
            f"mean {mean:.3f}", (mean, 1), (0, 3), **where, ha="center", va="bottom", fontsize=9, color=INK
        )

    def _name_bands(self, middles: np.ndarray) -> None:
        """Names left of the blades; those of thin blades move apart, with a line to their blade."""
        ax, k = self.ax_, len(middles)
        _, height = settle(ax)
        font = float(np.clip(height / k / 1.3, 5, 9))
        step = int(np.ceil(1.25 * font * k / (height + font)))  # too many for any size: name each step-th
        points = height / abs(np.subtract(*ax.get_ylim()))
        shown, top = middles[::step], ax.get_ylim()[1]
        places = spread_line((shown - top) * points, 1.25 * font, font / 2, height - font / 2) / points + top
        names = [shorten(name, 16) for name in self.clusters_[::step].tolist()]
        moved = bool((np.abs(places - shown) * points > 1).any())
        ax.set_yticks(places, names, fontsize=font)
        ax.tick_params(axis="y", length=0, pad=14 if moved else 4)
        for middle, place in zip(shown, places, strict=True) if moved else ():
            line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
            ends: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": ("axes points", "data")}
            ax.annotate("", (0, middle), (-12, place), **ends, arrowprops=line, annotation_clip=False)


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
    'principal component 1 (92.5% of variance)'
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
        last, X, labels = _predictions(estimator, X)
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
            rows = stratified_rows(_codes(labels, clusters), cls.MAX_POINTS, rng)
        elif n_samples > cls.MAX_BINNED:
            rows = np.sort(rng.choice(n_samples, cls.MAX_BINNED, replace=False))
        plane = plane_of(X, names, rng)
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

    def plot(self, ax: Axes | None = None, *, kind: str = "auto", equal_aspect: bool | str = "auto", **kwargs):
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
            self.badges_ = badges(ax, centers, [shorten(name, 8) for name in clusters.tolist()], self.colors_)
        else:
            ax.scatter(*centers.T, s=14, c=self.colors_, edgecolors="black", linewidths=0.8, zorder=4)
        return self

    def _plot_points(self, points: np.ndarray, codes: np.ndarray, spans: np.ndarray, **kwargs: Any) -> Any:
        """All rows in one shuffled collection: no cluster lies over the others."""
        order = np.random.default_rng(0).permutation(len(points))
        style = {"s": float(np.clip(12_000 / len(points), 5, 28)), "alpha": 0.7, "linewidths": 0}
        style |= {"rasterized": len(points) > 2_000, **kwargs}
        return self.ax_.scatter(*points[order].T, c=self.colors_[codes[order]], **style)

    def _plot_hexagons(self, points: np.ndarray, codes: np.ndarray, spans: np.ndarray, **kwargs: Any) -> Any:
        """Hexagons in the colour of the cluster most of their rows are in, paler where rows are few."""
        n = len(points)

        def most(found: Any) -> float:  # the cluster, and the share of all rows behind the point
            counts = np.bincount(np.asarray(found, dtype=int))
            return float(counts.argmax() + len(found) / (n + 1))

        tall = spans[1] / spans[0] if self.ax_.get_aspect() != "auto" and spans.all() else 0.7
        wide = 80 if tall <= 1 else round(80 / tall)
        grid = (wide, max(4, round(wide * tall / np.sqrt(3))))
        found = self.ax_.hexbin(*points.T, codes, reduce_C_function=most, gridsize=grid, linewidths=0.2)
        share, cluster = np.modf(np.asarray(found.get_array()))
        weight = 0.3 + 0.7 * np.log1p(share * (n + 1)) / np.log1p(share.max() * (n + 1))
        found.set_array(None)
        faces = 1 - weight[:, None] * (1 - self.colors_[cluster.astype(int)])
        found.set(facecolor=faces, edgecolor=faces, **kwargs)
        return found


class MatchedConfusionDisplay:
    """Rows counted by class and by the cluster that stands for a class.

    Parameters
    ----------
    matrix : array-like of shape (n_classes, n_classes + n_left_over)
        From :func:`gpukmeans.metrics.matched_confusion_matrix`.
    classes : array-like of shape (n_classes,)
        Names of the classes, in the order of the rows.
    clusters : array-like of shape (n_classes + n_left_over,), optional
        The cluster of each column, None for a class without one.

    Attributes
    ----------
    accuracy, n_wrong : float, int
        Matched accuracy and the rows outside the diagonal.
    im_ : matplotlib AxesImage
        Shares of each class.
    text_ : ndarray of matplotlib Text, of the matrix' shape, or None
        Counts; None where cells are too small for them, and a colour bar takes their place.
    colorbar_ : matplotlib Colorbar or None
    gap_line_ : matplotlib Line2D or None
        Between matched and left-over clusters.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from gpukmeans.plotting import MatchedConfusionDisplay
    >>> display = MatchedConfusionDisplay.from_predictions(["a", "a", "b", "b", "b"], [1, 1, 0, 0, 1])
    >>> print(display.ax_.get_title(loc="left"))
    matched accuracy 0.800
    1 of 5 rows wrong
    >>> plt.close(display.figure_)
    """

    def __init__(self, matrix, *, classes, clusters=None):
        self.matrix = matrix
        self.classes = classes
        self.clusters = clusters

    @property
    def n_wrong(self) -> int:
        matrix = np.asarray(self.matrix)
        return int(matrix.sum() - np.trace(matrix))

    @property
    def accuracy(self) -> float:
        matrix = np.asarray(self.matrix)
        return float(np.trace(matrix) / matrix.sum())

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, **kwargs) -> MatchedConfusionDisplay:
        """Draw known classes against the clusters that a fitted estimator (or pipeline) finds in X.

        Parameters
        ----------
        estimator : estimator or Pipeline
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Known classes.
        **kwargs
            As in `from_predictions`.

        Returns
        -------
        display : MatchedConfusionDisplay
        """
        _, _, labels = _predictions(estimator, X)
        return cls.from_predictions(y, labels, **kwargs)

    @classmethod
    def from_predictions(
        cls, y_true: Any, labels: Any, *, display_labels: Sequence[Any] | None = None, ax=None, **kwargs
    ) -> MatchedConfusionDisplay:
        """Draw known classes against given clusters.

        Parameters
        ----------
        y_true, labels : array-like of shape (n_samples,)
            Known classes and clusters, of any type.
        display_labels : sequence of str, optional
            Names to print, one for each of the sorted classes.
        ax : matplotlib Axes, optional
        **kwargs
            As in `plot`.

        Returns
        -------
        display : MatchedConfusionDisplay

        Raises
        ------
        ValueError
            For another number of labels or names.
        """
        y_true = one_per_row(y_true, None, "y_true")
        labels = one_per_row(labels, y_true.size, "labels")
        matrix = metrics.matched_confusion_matrix(y_true, labels)
        class_of = metrics.match_labels(y_true, labels)
        stands = {matched: cluster for cluster, matched in class_of.items() if matched is not None}
        classes = sorted_labels(y_true)
        left_over = [cluster for cluster, matched in class_of.items() if matched is None]
        clusters = [*(stands.get(name) for name in classes), *left_over]
        names = classes if display_labels is None else list(display_labels)
        if len(names) != len(classes):
            raise ValueError(f"display_labels has {len(names)} names for {len(classes)} classes: give one for each.")
        return cls(matrix, classes=names, clusters=clusters).plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, cmap: Any = "Blues") -> MatchedConfusionDisplay:
        """Draw the matrix, with counts in the cells where these are large enough to be read.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure when None.
        cmap : str or Colormap, default="Blues"
            Of the share of its class that a cell holds.

        Returns
        -------
        self : MatchedConfusionDisplay
        """
        from matplotlib.colors import PowerNorm

        matrix = np.asarray(self.matrix)
        n_rows, n_columns = matrix.shape
        names = [shorten(name) for name in self.classes]
        side = np.clip(0.42 * np.array([n_columns, n_rows]), 2.2, 7.5)
        letters = 0.075 * max(map(len, names))
        self.ax_ = ax = given_or_new(ax, side[0] + 1.2 + letters, side[1] + 1.4 + letters)
        self.figure_ = ax.figure
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        self.im_ = ax.imshow(shares, cmap=cmap, norm=PowerNorm(0.5, 0, 1), aspect="equal")  # few wrong rows show, too
        rows = "row" if matrix.sum() == 1 else "rows"
        title = f"matched accuracy {near_one(self.accuracy)}\n{self.n_wrong:,} of {matrix.sum():,} {rows} wrong"
        dress(ax, title, "cluster \N{RIGHTWARDS ARROW} the class it stands for", "known class")
        ax.spines[:].set_visible(False)
        self._name_axes(names)
        self.gap_line_ = None
        if n_columns > n_rows:
            ax.axvline(n_rows - 0.5, color="white", linewidth=6)
            self.gap_line_ = ax.axvline(n_rows - 0.5, color=INK, linewidth=1)
        self._write_counts(matrix, shares)
        return self

    def _name_axes(self, names: list[str]) -> None:
        ax, n_rows = self.ax_, len(names)
        n_columns = np.asarray(self.matrix).shape[1]
        clusters = [None] * n_columns if self.clusters is None else [*self.clusters]
        columns = [f"{'none' if c is None else shorten(c, 16)} \N{RIGHTWARDS ARROW} {names[j]}" if j < n_rows else f"{shorten(c, 16)} (left over)" for j, c in enumerate(clusters)]
        ...
