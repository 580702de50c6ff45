"""The matched confusion matrix as a picture: classes against the clusters that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._drawing import FAINT, INK, dress, given_or_new, ink_on, one_per_row, predictions, settle, shorten
from ._matching import distinct, match_labels, matched_confusion_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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

    def _accuracy_text(self) -> str:
        """With as many digits as it takes not to say 1 where rows are wrong."""
        digits = 3
        while self.n_wrong and round(self.accuracy, digits) == 1:
            digits += 1
        return f"{self.accuracy:.{digits}f}"

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
        _, _, labels = predictions(estimator, X)
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
        matrix = matched_confusion_matrix(y_true, labels)
        class_of = match_labels(y_true, labels)
        stands = {matched: cluster for cluster, matched in class_of.items() if matched is not None}
        classes = distinct(y_true)[0].tolist()
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
        self.ax_ = ax = given_or_new(ax, *self._figure_size(matrix, names))
        self.figure_ = ax.figure
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        self.im_ = ax.imshow(shares, cmap=cmap, norm=PowerNorm(0.5, 0, 1), aspect="equal")  # few wrong rows show, too
        rows = "row" if matrix.sum() == 1 else "rows"
        title = f"matched accuracy {self._accuracy_text()}\n{self.n_wrong:,} of {matrix.sum():,} {rows} wrong"
        dress(ax, title, "cluster \N{RIGHTWARDS ARROW} the class it stands for", "known class")
        ax.spines[:].set_visible(False)
        self._name_axes(names)
        self.gap_line_ = None
        if n_columns > n_rows:
            ax.axvline(n_rows - 0.5, color="white", linewidth=6)
            self.gap_line_ = ax.axvline(n_rows - 0.5, color=INK, linewidth=1)
        self._write_counts(matrix, shares)
        return self

    def _figure_size(self, matrix: np.ndarray, names: list[str]) -> tuple[float, float]:
        """Inches for square cells that hold their counts, the names and, if need be, a colour bar."""
        n_rows, n_columns = matrix.shape
        cell = float(np.clip(0.08 + 0.07 * len(f"{matrix.max():,}"), 0.42, 0.8))
        cell = min(max(cell, 2.2 / n_columns), 8.0 / max(n_rows, n_columns))
        letters = 0.075 * max(map(len, names))
        if n_columns <= 5:  # wide enough for names that are not turned
            cell = max(cell, min(letters + 0.45, 1.2))
        below = 0.1 if letters + 0.4 < cell else 0.3 + 0.75 * letters
        bar = 1.0 if _count_size(72 * cell, matrix) < 5 else 0.0
        return max(3.4, cell * n_columns + 0.7 + letters + bar), cell * n_rows + 1.1 + below

    def _name_axes(self, names: list[str]) -> None:
        """Classes at the rows; at the columns clusters and what they stand for, turned where they need room."""
        ax, n_rows = self.ax_, len(names)
        n_columns = np.asarray(self.matrix).shape[1]
        clusters = range(n_columns) if self.clusters is None else self.clusters
        shown = ["none" if cluster is None else shorten(cluster, 16) for cluster in clusters]
        columns = [f"{cluster} \N{RIGHTWARDS ARROW} {name}" for cluster, name in zip(shown, names, strict=False)]
        columns += [f"{cluster} left over" for cluster in shown[n_rows:]]
        cell = settle(ax)[0] / n_columns
        longest = 5.6 * max(map(len, columns))  # points, roughly
        turn: dict[str, Any] = {"rotation": 45 if cell > 16 else 90, "ha": "right", "rotation_mode": "anchor"}
        if turn["rotation"] == 90:
            turn["va"] = "center"
        ax.set_xticks(range(n_columns), columns, **(turn if longest > cell else {}))
        ax.set_yticks(range(n_rows), names)
        cell = settle(ax)[0] / n_columns  # the names took some of it
        step = int(np.ceil(5.5 / cell))
        for axis, n in ((ax.xaxis, n_columns), (ax.yaxis, n_rows)):
            axis.set_tick_params(length=0, labelsize=float(np.clip(0.8 * cell * step, 5, 9)))
            for label in (label for j, label in enumerate(axis.get_ticklabels()) if n > 1 and j % step):
                label.set_visible(False)

    def _write_counts(self, matrix: np.ndarray, shares: np.ndarray) -> None:
        """Counts at a size that fits the cells, zeros in small matrices; a colour bar if none could be read."""
        self.text_, self.colorbar_ = None, None
        cell = settle(self.ax_)[0] / matrix.shape[1]
        size = _count_size(cell, matrix)
        if size < 5:
            self.colorbar_ = self.figure_.colorbar(self.im_, ax=self.ax_, shrink=0.6, label="share of the class")
            return
        self.text_ = np.empty(matrix.shape, dtype=object)
        for (i, j), count in np.ndenumerate(matrix):
            color = ink_on(self.im_.cmap(self.im_.norm(shares[i, j]))) if count else FAINT
            text = f"{count:,}" if count or matrix.shape[1] <= 16 else ""
            self.text_[i, j] = self.ax_.text(
                j, i, text, ha="center", va="center", fontsize=size, color=color, clip_on=True
            )


def _count_size(cell: float, matrix: np.ndarray) -> float:
    """Font size, in points, at which the widest count fits a cell of this width."""
    return min(10.0, 0.5 * cell, 0.85 * cell / (0.62 * len(f"{matrix.max():,}")))
