"""Pictures of a clustering, as scikit-learn's displays: `from_estimator`, `from_predictions`, `plot(ax=)`.

Matplotlib is imported when something is drawn. Settings (`rcParams`) and estimators are left as they
are; arrays on a device are copied to the host once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import metrics
from ._cluster_display import ClusterDisplay
from ._comparison_display import DeviceComparisonDisplay
from ._confusion_display import MatchedConfusionDisplay
from ._device import home_of, namespace, scope, to_device
from ._drawing import (
    FAINT,
    INK,
    N_HUES,
    dress,
    given_or_new,
    make_room,
    one_per_row,
    palette,
    predictions,
    settle,
    shorten,
    spread_line,
)
from ._scaling_display import RooflineDisplay, ScalingDisplay
from ._validation import check_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "ClusterDisplay",
    "DeviceComparisonDisplay",
    "ElbowDisplay",
    "MatchedConfusionDisplay",
    "RooflineDisplay",
    "ScalingDisplay",
    "SilhouetteDisplay",
]


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
        ring = {
            "marker": "o",
            "markersize": 16,
            "markerfacecolor": "none",
            "markeredgewidth": 2,
            "clip_on": False,
            "color": palette(2)[1],
        }
        self.best_mark_ = self._mark(self.best_k, "best variance ratio (Calinski-Harabasz)", **ring)
        ticks = MaxNLocator(nbins=12, integer=True, min_n_ticks=1).tick_values(ks[0], ks[-1])
        ax.set_xticks(ticks[(ticks >= ks[0]) & (ticks <= ks[-1])])
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        ax.set_ylim(0, 1.06 * max(np.max(line.get_ydata()) for line in ax.lines) or 1.0)
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
        _, X, labels = predictions(estimator, X)
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
            with scope(home_of(X)):
                X = namespace(X).take(X, to_device(drawn, home_of(X)), axis=0)
            labels = labels[drawn]
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
            colors = palette(N_HUES)
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
