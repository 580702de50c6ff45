"""A `Report` as one HTML page: the answer, the pictures, the tables, and how to repeat it.

The page holds all it shows: pictures as data URLs, no script, nothing that is fetched. Everything
from the data passes through Jinja's autoescaping; the template lies in `templates/report.html`.
"""

from __future__ import annotations

import base64
import shlex
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._files import InputError, count, short
from ._pictures import colors
from ._results import amount, versions
from ._threads import uninterrupted

if TYPE_CHECKING:
    from .report import Judgement, KScore, Report

PAGE = "report.html"

# A page is read, not searched: longer tables end here and say which file holds the rest.
MAX_ROWS = 100
MAX_ACROSS = 40
MAX_CLASSES = 30
_BLOCK = 10  # columns of numbers side by side, as many as fit on a sheet of paper

_NAME = 80  # characters of a name in a table

# L. Kaufman and P. J. Rousseeuw, "Finding Groups in Data" (1990), table 4 of chapter 2
_STRUCTURE = (
    (0.70, "strong structure"),
    (0.50, "reasonable structure"),
    (0.25, "weak structure that may be artificial"),
    (-1.0, "no substantial structure"),
)


class Grid(NamedTuple):
    """A part of a wide table: its column headings and its rows."""

    heads: tuple[tuple[str, str], ...]  # name, and a remark under it
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]  # name; text and CSS class of each cell


class Picture(NamedTuple):
    """One picture of the page."""

    title: str
    url: str
    width: int
    height: int
    alt: str
    reading: str


def require_jinja2() -> None:
    """Complain before the work starts, not after it, if there is no Jinja."""
    try:
        with uninterrupted():
            import jinja2  # noqa: F401
    except ImportError as error:
        raise InputError("the HTML report needs jinja2: python -m pip install 'gpukmeans[report]'") from error


def render(report: Report, pictures: Mapping[str, bytes], command: Sequence[str] | None = None) -> str:
    """The page as text.

    Parameters
    ----------
    report : Report
    pictures : mapping of str to bytes
        PNG files by name, as `_pictures.draw` makes them.
    command : sequence of str, optional
        The command line that made the report, shown quoted for a shell.

    Raises
    ------
    InputError
        If Jinja is not installed.
    """
    return fill(
        PAGE,
        report=report,
        table=report.table,
        n=len(report.table.X),
        against=report.judgement,
        counted=count,
        amount=amount,
        answer=_answer(report),
        pictures=list(_pictures(report, pictures)),
        scores=_scores(report),
        clusters=_clusters(report),
        classes=None if report.judgement is None else _classes(report.judgement),
        centers=_centers(report),
        command=None if command is None else shlex.join(command),
        facts=_facts(report),
    )


def fill(template: str, **values: Any) -> str:
    """A page from a template beside this module; an InputError if Jinja is not installed."""
    require_jinja2()
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files(__package__).joinpath("templates")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(**values)


def picture(title: str, png: bytes, alt: str, reading: str) -> Picture:
    """A PNG as a part of a page."""
    width, height = struct.unpack(">II", png[16:24])  # the first chunk of a PNG
    return Picture(title, f"data:image/png;base64,{base64.b64encode(png).decode()}", width, height, alt, reading)


# --- the answer -------------------------------------------------------------------------------


def _answer(report: Report) -> dict[str, str]:
    """How K was found and how good the clusters are, in words."""
    low, high = report.tried
    chosen = f"the highest mean silhouette of K = {low} to {high}"
    return {
        "rule": "K was given, not chosen" if report.tried.given else f"chosen by {chosen}",
        "structure": "needs at least two distinct clusters" if report.silhouette is None else words(report.silhouette),
        "rows": "" if report.silhouettes is None else _judged(len(report.silhouettes.values), report.silhouettes.exact),
        "share": f"{100 * report.wcss / report.total_ss:.1f}" if report.total_ss else "0.0",
    }


def words(silhouette: float) -> str:
    """A mean silhouette by the usual rule of thumb.

    Examples
    --------
    >>> from gpukmeans._page import words
    >>> words(0.63)
    'reasonable structure'
    """
    return next(text for low, text in _STRUCTURE if silhouette > low or low == -1)


def _judged(n_rows: int, exact: bool) -> str:
    return f"exact, all {n_rows:,} rows" if exact else f"on a seeded sample of {n_rows:,} rows"


# --- pictures ---------------------------------------------------------------------------------


def _pictures(report: Report, pictures: Mapping[str, bytes]) -> Iterator[Picture]:
    """The pictures there are, each with what it shows and how to read it."""
    for name, title, describe in (
        ("scatter.png", "The clusters", _scatter_text),
        ("elbow.png", "The elbow", _elbow_text),
        ("silhouette.png", "The silhouette", _silhouette_text),
        ("confusion.png", "Against the known classes", _confusion_text),
    ):
        if name in pictures:
            yield picture(title, pictures[name], *describe(report))


def _scatter_text(report: Report) -> tuple[str, str]:
    d = len(report.table.columns)
    alt = f"Scatter plot of the rows in {report.n_clusters} colours, one for each cluster, with numbered centroids."
    start = "Each point is a row, each numbered disc the centroid of a cluster"
    if d == 1:
        return alt, f"{start}; only the horizontal position counts, the vertical one is the number of the row."
    if d == 2:
        return alt, f"{start}; good clusters are dense and have gaps between them."
    return alt, (
        f"{start}, seen along the two directions in which the {d} columns vary most; "
        "clusters that overlap here may be apart in the others."
    )


def _elbow_text(report: Report) -> tuple[str, str]:
    first, last = report.curve[0], report.curve[-1]
    alt = (
        f"Line chart of the within-cluster sum of squares: {amount(first.wcss)} at K = {first.k}, "
        f"{amount(last.wcss)} at K = {last.k}; K = {report.n_clusters} is marked."
    )
    return alt, (
        "WCSS, the sum of squared distances to the centroids, falls with every further cluster, even in data "
        "without any groups; so a bend hints at a K but proves nothing without the silhouette beside it."
    )


def _silhouette_text(report: Report) -> tuple[str, str]:
    alt = f"Silhouettes of the rows, sorted within each of {report.n_clusters} clusters, the mean as a dashed line."
    if not report.tried.given:
        alt = "Line chart of the mean silhouette against K, and: " + alt[0].lower() + alt[1:]
    return alt, (
        "In a good profile every cluster forms a full blade that reaches past the dashed mean; thin tips, and rows "
        "left of zero, lie nearer to another cluster than they should."
    )


def _confusion_text(report: Report) -> tuple[str, str]:
    against = report.judgement
    assert against is not None
    wrong, total = count(against.wrong, "row"), len(report.labels)
    alt = f"Known classes against matched classes as a map of shades: {wrong} of {total:,} off the diagonal."
    return alt, (
        "Each cluster was matched to the one class it fits best; rows on the diagonal agree, a dark field beside it "
        "shows two classes that the columns do not tell apart."
    )


# --- tables -----------------------------------------------------------------------------------


def _scores(report: Report) -> dict[str, Any]:
    """The curves as a table: those around the chosen K if there are too many."""
    curve = report.curve
    at = next(i for i, score in enumerate(curve) if score.k == report.n_clusters)
    start = max(0, min(at - MAX_ROWS // 2, len(curve) - MAX_ROWS))
    rows = [(score, variance_ratio(score, report)) for score in curve[start : start + MAX_ROWS]]
    return {"rows": rows, "all": len(curve)}


def variance_ratio(score: KScore, report: Report) -> float | None:
    """Calinski-Harabasz index from the WCSS; None where `metrics.variance_ratio` has no meaning either."""
    n = len(report.table.X)
    if score.silhouette is None or score.wcss <= 0:
        return None
    return ((report.total_ss - score.wcss) / (score.k - 1)) / (score.wcss / (n - score.k))


def _clusters(report: Report) -> dict[str, Any]:
    """Sizes of the clusters with bars, the largest ones if there are too many."""
    sizes, k = report.sizes, report.n_clusters
    shown = np.arange(k) if k <= MAX_ROWS else np.sort(np.argsort(-sizes, kind="stable")[:MAX_ROWS])
    means = _mean_silhouettes(report)
    palette = ["#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in color)) for color in colors(k)]
    rows = [
        {
            "cluster": cluster,
            "size": int(sizes[cluster]),
            "share": f"{100 * sizes[cluster] / sizes.sum():.1f}",
            "bar": f"{100 * sizes[cluster] / sizes.max():.1f}",
            "color": palette[cluster],
            "silhouette": means.get(cluster),
            "matched": None if report.judgement is None else report.judgement.matching.get(cluster),
        }
        for cluster in shown.tolist()
    ]
    return {"rows": rows, "all": k}


def _mean_silhouettes(report: Report) -> dict[int, float]:
    found = report.silhouettes
    if found is None:
        return {}
    numbers = np.bincount(found.clusters, minlength=report.n_clusters)
    sums = np.bincount(found.clusters, weights=found.values, minlength=report.n_clusters)
    return {cluster: float(sums[cluster] / n) for cluster, n in enumerate(numbers.tolist()) if n}


def _classes(against: Judgement) -> dict[str, Any]:
    """The confusion matrix as tables, or the most frequent confusions if it is too large to be read."""
    counts, names = against.confusion, against.classes
    cluster_of = {name: cluster for cluster, name in against.matching.items() if name is not None}
    heads = [(name, f"cluster {cluster_of[name]}" if name in cluster_of else "no cluster") for name in names]
    heads += [(f"cluster {cluster}", "no class") for cluster in against.leftover]
    if len(names) > MAX_CLASSES or len(heads) > MAX_ACROSS:
        return {"grids": [], "worst": _worst(counts, names, heads)}
    rows = [(name, [_cell(i, j, int(number)) for j, number in enumerate(counts[i])]) for i, name in enumerate(names)]
    return {"grids": list(_grids(heads, rows)), "worst": []}


def _cell(i: int, j: int, number: int) -> tuple[str, str]:
    return f"{number:,}", "none" if number == 0 else "right" if i == j else "wrong"


def _worst(counts: np.ndarray, names: Sequence[str], heads: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """The most frequent confusions: known class, class it was taken for, rows."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CLASSES]
    pairs = [divmod(int(at), wrong.shape[1]) for at in order]
    return [(names[i], heads[j][0], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


def _centers(report: Report) -> dict[str, Any]:
    """The centres in the units of the data; the shorter side runs across, so that wide data run down."""
    k, d = report.centers.shape
    down = d <= 6 or d <= k
    n_rows, n_across = (k, d) if down else (d, k)
    rows, across = min(n_rows, MAX_ROWS), min(n_across, MAX_ACROSS)
    values = report.centers.astype(np.float64)
    dust = 1e-9 * np.ptp(report.table.X, axis=0).astype(np.float64)  # rounding errors of a mean of zero
    values = np.where(np.abs(values) < dust, 0.0, values)
    values = values if down else values.T
    columns = list(report.table.columns)
    row_names = [str(cluster) for cluster in range(k)] if down else columns
    across_names = columns if down else [f"cluster {cluster}" for cluster in range(k)]
    lines = [(row_names[i], [(amount(v), "") for v in values[i, :across].tolist()]) for i in range(rows)]
    return {
        "grids": list(_grids([(name, "") for name in across_names[:across]], lines)),
        "corner": "cluster" if down else "column",
        "clusters": min(k, rows if down else across),
        "columns": min(d, across if down else rows),
        "whole": (rows, across) == (n_rows, n_across),
    }


def _grids(heads: Sequence[tuple[str, str]], rows: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> Iterator[Grid]:
    """The table in parts of nearly equal width, none wider than a sheet of paper."""
    heads = [(short(name, _NAME), remark) for name, remark in heads]
    rows = [(short(name, _NAME), cells) for name, cells in rows]
    for part in np.array_split(np.arange(len(heads)), -(-len(heads) // _BLOCK)):
        cut = slice(int(part[0]), int(part[-1]) + 1)
        yield Grid(tuple(heads[cut]), tuple((name, tuple(cells[cut])) for name, cells in rows))


# --- how to repeat it -------------------------------------------------------------------------


def _facts(report: Report) -> list[tuple[str, str]]:
    """What the numbers depend on besides the data."""
    scaled = "standardised (mean 0, standard deviation 1)" if report.scaled else "not scaled"
    return [
        ("seed", str(report.seed)),
        ("starts", f"{report.starts} by k-means++, the best one kept" if report.starts > 1 else "1 by k-means++"),
        ("columns", f"{count(len(report.table.columns), 'column')} of {report.table.X.dtype}, {scaled}"),
        ("device", f"{report.device}: {short(report.device_reason, 200)}"),
        *versions(),
    ]
