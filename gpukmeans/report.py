"""The whole workflow on one table: load, scale, curve, choose, fit, judge, record, then write.

`build` computes everything and returns a `Report`; `write` and `print_table` only read it. The
command `gpukmeans report` is `build`, `write` and a print; `gpukmeans fit` is the same with one K.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from . import _device, metrics
from ._files import InputError, check_folder, count, write_files
from ._page import PAGE, render
from ._results import table_files, table_lines
from ._silhouette import labeling, silhouettes
from ._tables import Scaling, Table, fit_scaling, load, no_scaling, sample_rows

# Silhouettes need the distances between all pairs of rows: exact up to this many rows, above it
# on a seeded sample of this many, whose mean is within about 0.005 of the exact one.
SILHOUETTE_ROWS = 20_000

# Clusters, over all K, whose silhouettes share a pass over the distances: K = 2 to 21 do.
PASS_CLUSTERS = 256

# One k-means++ start may end in a poor local optimum, which shows as a kink in the elbow. Up to
# this many rows further starts cost next to nothing, so the best of STARTS is kept.
STARTS = 10
STARTS_ROWS = 20_000

PICTURES = ("elbow.png", "silhouette.png", "scatter.png", "confusion.png")
DRAWN = (*PICTURES, PAGE)

Progress = Callable[[Iterable[int], str], Iterable[int]]


class KRange(NamedTuple):
    """Numbers of clusters to try, both ends included; one number means it was given, not to be chosen."""

    low: int
    high: int

    @property
    def given(self) -> bool:
        """Whether there is nothing to choose."""
        return self.low == self.high


class KScore(NamedTuple):
    """One point of the curves: the WCSS and the mean silhouette (None where it has no meaning)."""

    k: int
    wcss: float
    silhouette: float | None
    n_iter: int
    seconds: float


class Silhouettes(NamedTuple):
    """Silhouettes of the chosen clustering: values (m,), clusters (m,), and whether m is all rows."""

    values: np.ndarray
    clusters: np.ndarray
    exact: bool


class Judgement(NamedTuple):
    """The clustering against known classes, after each cluster was matched to a class."""

    classes: tuple[str, ...]
    confusion: np.ndarray  # (n_classes, n_classes + left-over clusters), int64
    leftover: tuple[int, ...]  # clusters matched to no class: the last columns of `confusion`
    matching: dict[int, str | None]
    matched_accuracy: float
    wrong: int
    accuracy: float | None  # labels compared as they are; None unless the classes are 0..K-1
    adjusted_rand: float


@dataclass(frozen=True, eq=False)
class Report:
    """Everything the workflow found out about one table (n rows, d columns, K clusters).

    `labels` (n,) int32; `centers` (K, d) in the units of the data; `scaled_centers` (K, d) and `wcss`
    in scaled units; `total_ss` is the WCSS of K=1.
    """

    table: Table
    scaling: Scaling
    scaled: bool
    device: str
    device_reason: str
    seed: int
    starts: int
    tried: KRange
    curve: tuple[KScore, ...]
    n_clusters: int
    labels: np.ndarray
    centers: np.ndarray
    scaled_centers: np.ndarray
    sizes: np.ndarray
    wcss: float
    total_ss: float
    n_iter: int
    silhouette: float | None
    silhouettes: Silhouettes | None
    judgement: Judgement | None
    notes: tuple[str, ...]
    seconds: float

    @property
    def rule(self) -> str:
        """How K was chosen."""
        if self.tried.given:
            return "given"
        return f"highest mean silhouette for K = {self.tried.low} to {self.tried.high}"


def build(
    data: str,
    *,
    k: KRange = KRange(2, 10),  # noqa: B008 - immutable
    label: str | None = None,
    columns: str | Sequence[str] | None = None,
    scale: bool = True,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Run the workflow on DATA.

    Parameters
    ----------
    data : str
        A file or a built-in name, see `gpukmeans._tables.load`.
    k : KRange, default=KRange(2, 10)
        Numbers of clusters to choose from; a range past what the rows allow is shortened, with a note.
    label, columns : str, optional
        The column of known classes and the feature columns.
    scale : bool, default=True
        Standardise the columns.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'
    seed : int, default=0
        Seeds the starts of k-means and the samples.
    progress : callable, optional
        `progress(numbers, text)` iterates over numbers and shows how far it is.

    Raises
    ------
    InputError
        If the data or the options cannot be used; the text is one line.

    Examples
    --------
    >>> from gpukmeans.report import build
    >>> report = build("blobs")
    >>> report.n_clusters, report.judgement.wrong
    (3, 1)
    """
    start = time.perf_counter()
    show = progress or (lambda numbers, text: numbers)
    table = load(data, label=label, columns=columns)
    k, notes = clip(k, table)
    place = _resolve(device, table.X.size * k.high)
    scaling = fit_scaling(table.X, table.columns) if scale else no_scaling(table.X.shape[1])
    rows = scaling.apply(table.X)
    _check_spread(rows, table.name)
    curve = _wcss_curve(rows, k, place, seed, show)
    models = dict(zip((int(number) for number in curve.ks), curve.models, strict=True))
    found = _silhouettes(rows, {number: m.labels_ for number, m in models.items()}, place, seed, show)
    scores = _scores(curve, found)
    chosen = choose(scores)
    model, values = models[chosen], found.get(chosen)
    sizes = np.bincount(model.labels_, minlength=chosen)
    return Report(
        table=table,
        scaling=scaling,
        scaled=scale,
        device=model.device_,
        device_reason=place.reason,
        seed=seed,
        starts=starts(len(rows)),
        tried=k,
        curve=scores,
        n_clusters=chosen,
        labels=model.labels_,
        centers=scaling.invert(model.cluster_centers_).astype(rows.dtype),
        scaled_centers=model.cluster_centers_,
        sizes=sizes,
        wcss=float(model.inertia_),
        total_ss=float(curve.total_ss),
        n_iter=int(model.n_iter_),
        silhouette=None if values is None else float(values.values.mean()),
        silhouettes=values,
        judgement=None if table.y is None else judge(table.y, model.labels_),
        notes=(*table.notes, *notes, *_at_the_end(chosen, k, len(rows)), *_duplicates(models)),
        seconds=time.perf_counter() - start,
    )


# --- the steps --------------------------------------------------------------------------------


def clip(k: KRange, table: Table) -> tuple[KRange, tuple[str, ...]]:
    """The numbers of clusters this table allows, and a note if they are fewer than asked for."""
    n, largest = len(table.X), len(table.X) - 1
    if n < 3:
        raise InputError(f"{table.name} has {count(n, 'row')}; at least 3 are needed to form 2 clusters")
    if all(np.ptp(column) == 0 for column in table.X.T):
        raise InputError(f"all {n:,} rows of {table.name} are equal; there is nothing to cluster")
    if not 1 <= k.low <= k.high or k.low > largest or k.high < 2:
        asked = f"{k.low}" if k.given else f"{k.low}:{k.high}"
        raise InputError(f"--k {asked}: with {n:,} rows K can be 2 to {largest:,} (a number or a range as 2:10)")
    shortened = KRange(max(k.low, 2), min(k.high, largest))
    notes = []
    if k.low < 2:
        notes.append("K=1 has no silhouette, so the choice starts at K=2")
    if k.high > largest:
        notes.append(f"K ends at {largest} instead of {k.high}, because there are only {n} rows")
    return shortened, tuple(notes)


def _check_spread(rows: np.ndarray, name: str) -> None:
    """Complain about numbers whose squares overflow, or vanish, in float64."""
    low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    if max(-low.min(), high.max()) > 1e140 or (high - low).max() < 1e-140:
        size = "large" if high.max() > 1 or low.min() < -1 else "close to each other"
        raise InputError(f"the values of {name} are too {size} to be squared; scale them by a power of ten first")


def starts(n_samples: int) -> int:
    """How many k-means++ starts a fit of that many rows takes."""
    return STARTS if n_samples <= STARTS_ROWS else 1


def _resolve(device: str, work: float) -> Any:
    try:
        return _device.resolve(device, work=work)
    except (ValueError, RuntimeError) as error:
        raise InputError(str(error)) from error


def _on(place: Any) -> str:
    """The name of a resolved device as `device=` takes it, so that all steps run on the same one."""
    return place.name.split()[0]


def _wcss_curve(rows: np.ndarray, k: KRange, place: Any, seed: int, show: Progress) -> Any:
    """Fits for every K to try, and for K=1 where there is a choice (the elbow starts there)."""
    ks = [k.low] if k.given else [1, *range(k.low, k.high + 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told once, by `_duplicates`
        return metrics.wcss_curve(
            rows,
            ks,
            device=_on(place),
            random_state=seed,
            n_init=starts(len(rows)),
            progress=lambda numbers: show(numbers, "fitting"),
        )


def _silhouettes(
    rows: np.ndarray, labelings: dict[int, np.ndarray], place: Any, seed: int, show: Progress
) -> dict[int, Silhouettes]:
    """Silhouettes for every K that has them, on the same rows for all K, from as few passes as possible."""
    exact = len(rows) <= SILHOUETTE_ROWS
    chosen = slice(None) if exact else sample_rows(len(rows), SILHOUETTE_ROWS, seed)
    sample = rows[chosen]
    clusters = {k: labels[chosen] for k, labels in labelings.items()}
    codes = {k: labeling(np.unique(labels, return_inverse=True)[1]) for k, labels in clusters.items()}
    groups = _groups({k: one.sizes.size for k, one in codes.items() if 2 <= one.sizes.size < len(sample)})
    found: dict[int, Silhouettes] = {}
    for group in show(range(len(groups)), "silhouettes"):
        values = silhouettes(sample, [codes[k] for k in groups[group]], place)
        found |= {k: Silhouettes(v, clusters[k], exact) for k, v in zip(groups[group], values, strict=True)}
    return found


def _groups(sizes: dict[int, int]) -> list[list[int]]:
    """Values of K for one pass each: what a pass holds grows with the clusters of all its labelings."""
    groups: list[list[int]] = []
    room = 0
    for k, size in sizes.items():
        if not groups or size > room:
            groups.append([])
            room = PASS_CLUSTERS
        groups[-1].append(k)
        room -= size
    return groups


def _scores(curve: Any, found: dict[int, Silhouettes]) -> tuple[KScore, ...]:
    """The curves as records. A K that ended with fewer clusters repeats a smaller one: no silhouette."""
    scores = []
    for k, model, n_iter, seconds in zip(curve.ks, curve.models, curve.n_iter, curve.seconds, strict=True):
        whole = int(k) in found and (len(curve.models) == 1 or len(np.unique(model.labels_)) == k)
        silhouette = float(found[int(k)].values.mean()) if whole else None
        scores.append(KScore(int(k), float(model.inertia_), silhouette, int(n_iter), float(seconds)))
    return tuple(scores)


def choose(scores: Sequence[KScore]) -> int:
    """The K with the highest mean silhouette, the smallest on a tie; the only one if there is one."""
    rated = [score for score in scores if score.silhouette is not None]
    if not rated:
        return scores[-1].k
    return max(rated, key=lambda score: (score.silhouette, -score.k)).k


def _at_the_end(chosen: int, k: KRange, n_samples: int) -> tuple[str, ...]:
    """A note if a K that was not tried, next to the chosen one, might be better still."""
    further = (chosen == k.low and k.low > 2) or (chosen == k.high and k.high < n_samples - 1)
    if k.given or not further:
        return ()
    return (f"K={chosen} is at the end of the range {k.low}:{k.high}; try a wider --k",)


def _duplicates(models: dict[int, Any]) -> tuple[str, ...]:
    """A note if rows are too alike to form as many clusters as asked for."""
    short = [k for k, model in models.items() if len(np.unique(model.labels_)) < k]
    if not short:
        return ()
    which = f"K={short[0]}" if len(short) == 1 else f"{len(short)} values of K from {short[0]} on"
    return (f"{which}: fewer distinct clusters than K, because many rows are equal",)


def judge(y: np.ndarray, labels: np.ndarray) -> Judgement:
    """Compare cluster labels (n,) with known classes (n,), cluster numbers being arbitrary."""
    classes, codes = np.unique(y, return_inverse=True)
    names = tuple(str(name) for name in classes.tolist())
    matching = metrics.match_labels(codes, labels)
    confusion = metrics.matched_confusion_matrix(codes, labels)
    in_range = y.dtype.kind in "biu" and int(classes[0]) >= 0 and int(classes[-1]) <= int(labels.max())
    return Judgement(
        classes=names,
        confusion=confusion,
        leftover=tuple(sorted(int(c) for c, code in matching.items() if code is None)),
        matching={int(c): None if code is None else names[int(code)] for c, code in matching.items()},
        matched_accuracy=float(metrics.matched_accuracy(codes, labels)),
        wrong=len(y) - int(np.trace(confusion[:, : len(names)])),
        accuracy=float(np.mean(y == labels)) if in_range else None,
        adjusted_rand=float(adjusted_rand_score(codes, labels)),
    )


# --- writing ----------------------------------------------------------------------------------


def write(report: Report, folder: Path, command: Sequence[str] | None = None) -> tuple[str, ...]:
    """Write tables, pictures and the page of a report; all are made before the first file is written.

    Pictures of an earlier report in the folder that this one has no counterpart for are removed.

    Parameters
    ----------
    report : Report
    folder : Path
        Made if need be.
    command : sequence of str, optional
        The command line that made the report, for the page to show.

    Returns
    -------
    names : tuple of str
        The files written.

    Raises
    ------
    InputError
        If the folder cannot be written to, or Matplotlib or Jinja is not installed.
    """
    from ._pictures import draw

    pictures = draw(report)
    page = render(report, pictures, command).encode("utf-8", "replace")
    files = table_files(report, {**pictures, PAGE: page})
    check_folder(folder, files)
    stale = [name for name in _earlier_drawings(folder) if name not in files]
    write_files(folder, files)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    return tuple(files)


def _earlier_drawings(folder: Path) -> list[str]:
    """The pictures and the page an earlier report wrote there, by its own summary."""
    try:
        earlier = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return [name for name in DRAWN if name in earlier["files"] and "gpukmeans_version" in earlier]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def print_table(report: Report) -> None:
    """Print the report as a table for a terminal of 80 columns."""
    print_lines(table_lines(report))


def print_lines(lines: Iterable[str]) -> None:
    """Print, with characters the terminal's encoding lacks written as escapes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for line in lines:
        print(line.encode(encoding, "backslashreplace").decode(encoding))
