"""A `Report` as text: CSV and JSON files, and the table on the terminal."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from ._files import count

if TYPE_CHECKING:
    from .report import Judgement, Report

TABLE_FILES = ("labels.csv", "centers.csv", "summary.json")

_WIDTH = 80
_CURVE_LINES = 20  # more values of K than this are in summary.json only


def table_files(report: Report, others: dict[str, bytes]) -> dict[str, bytes]:
    """The other files and labels.csv, centers.csv and summary.json, which lists them all."""
    summary = {**summarise(report), "files": sorted([*TABLE_FILES, *others])}
    text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    return {
        "labels.csv": labels_csv(report.labels, report.table.y, report.judgement),
        "centers.csv": _centers_csv(report),
        "summary.json": (text + "\n").encode("utf-8", "backslashreplace"),  # a half character: JSON's own escape
        **others,
    }


def labels_csv(labels: np.ndarray, y: np.ndarray | None = None, judgement: Judgement | None = None) -> bytes:
    """One line a row: its number from 1, its cluster; with known classes also these and the match."""
    numbers = range(1, len(labels) + 1)
    if y is None or judgement is None:
        return _csv(("row", "cluster"), zip(numbers, labels.tolist(), strict=True))
    matched = {cluster: name or "" for cluster, name in judgement.matching.items()}
    clusters = labels.tolist()
    lines = zip(numbers, clusters, y.tolist(), (matched[cluster] for cluster in clusters), strict=True)
    return _csv(("row", "cluster", "label", "matched"), lines)


def _centers_csv(report: Report) -> bytes:
    # str, not repr or format: the shortest digits that give back the value in its own precision
    lines = ([cluster, *map(str, center)] for cluster, center in enumerate(report.centers))
    return _csv(("cluster", *report.table.columns), lines)


def _csv(header: Sequence[str], lines: Iterable[Iterable[Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return buffer.getvalue().encode()


def summarise(report: Report) -> dict[str, Any]:
    """The report's numbers as JSON takes them: no arrays of n rows, no NaN."""
    table, against = report.table, report.judgement
    summary: dict[str, Any] = {
        "gpukmeans_version": __version__,
        "data": table.name,
        "n_samples": len(table.X),
        "n_features": table.X.shape[1],
        "columns": list(table.columns),
        "dtype": str(table.X.dtype),
        "standardised": report.scaled,
        "device": report.device,
        "device_reason": report.device_reason,
        "seed": report.seed,
        "starts": report.starts,
        "n_clusters": report.n_clusters,
        "k_rule": report.rule,
        "wcss": report.wcss,
        "total_ss": report.total_ss,
        "n_iter": report.n_iter,
        "cluster_sizes": report.sizes.tolist(),
        "silhouette": report.silhouette,
        "silhouette_rows": 0 if report.silhouettes is None else len(report.silhouettes.values),
        "silhouette_exact": report.silhouettes is not None and report.silhouettes.exact,
        "curve": [score._asdict() for score in report.curve],
        "label": table.y_name,
    }
    if against is not None:
        summary |= {
            "classes": list(against.classes),
            "matched_accuracy": against.matched_accuracy,
            "wrong": against.wrong,
            "accuracy": against.accuracy,
            "adjusted_rand": against.adjusted_rand,
            "matching": {str(cluster): name for cluster, name in sorted(against.matching.items())},
            "confusion_matrix": against.confusion.tolist(),
        }
    return {**summary, "notes": list(report.notes), "seconds": round(report.seconds, 3)}


def aligned(pairs: Iterable[tuple[str, str]], width: int = 14, total: int = _WIDTH) -> list[str]:
    """Lines of names and values in two columns, wrapped at `total` characters."""
    lines = []
    for name, value in pairs:
        indent = " " * (width + 2)
        first = f"{name:<{width}}  "
        wrapped = textwrap.wrap(value, total, initial_indent=first, subsequent_indent=indent)
        lines += wrapped or [first.rstrip()]
    return lines


def table_lines(report: Report) -> list[str]:
    """The report for the terminal: facts in two columns, then the curves."""
    table = report.table
    scaled = "standardised" if report.scaled else "not scaled"
    share = 100 * report.wcss / report.total_ss if report.total_ss else 0.0
    best = f", best of {report.starts} starts" if report.starts > 1 else ""
    pairs = [
        (
            "data",
            f"{table.name}: {count(len(table.X), 'row')}, {count(table.X.shape[1], 'column')}, {scaled}",
        ),
        ("device", f"{report.device} ({report.device_reason})"),
        ("K", f"{report.n_clusters} ({report.rule})"),
        ("WCSS", f"{amount(report.wcss)}, {share:.1f} % of the total {amount(report.total_ss)}{best}"),
        ("silhouette", _silhouette_text(report)),
        *_judgement_pairs(report),
        *(("note", note) for note in report.notes),
    ]
    return aligned(pairs) + ([] if report.tried.given else _curve_lines(report))


def amount(value: float) -> str:
    """A number for people: six digits, or all of those before the point."""
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e12 else f"{value:,.6g}"


def versions() -> list[tuple[str, str]]:
    """Names and versions of what the numbers were computed with."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    pairs = [("gpukmeans", __version__), ("python", f"{platform.python_version()} on {platform.platform()}")]
    for name in ("numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "matplotlib", "jinja2", "tqdm"):
        try:
            pairs.append((name, version(name)))
        except PackageNotFoundError:
            pairs.append((name, "not installed"))
    return pairs


def _silhouette_text(report: Report) -> str:
    if report.silhouette is None or report.silhouettes is None:
        return "none: it needs at least two distinct clusters"
    rows = f"{len(report.silhouettes.values):,}"
    exact = f"exact, all {rows} rows" if report.silhouettes.exact else f"on a seeded sample of {rows} rows"
    return f"{report.silhouette:.4f} ({exact})"


def _judgement_pairs(report: Report) -> list[tuple[str, str]]:
    against = report.judgement
    if against is None:
        return []
    n = len(report.labels)
    pairs = [
        ("classes", f"{len(against.classes)} (label {report.table.y_name})"),
        ("accuracy", f"{against.matched_accuracy:.3f} matched, {against.wrong:,} of {n:,} wrong"),
    ]
    if against.accuracy is not None:
        pairs.append(("  unmatched", f"{against.accuracy:.3f} (cluster numbers are arbitrary)"))
    return [*pairs, ("adjusted Rand", f"{against.adjusted_rand:.3f}")]


def _curve_lines(report: Report) -> list[str]:
    """WCSS and silhouette for each K, the chosen one starred."""
    if len(report.curve) > _CURVE_LINES:
        return ["", f"WCSS and silhouette of {len(report.curve)} values of K: see summary.json"]
    lines = ["", f"{'K':>4}  {'WCSS':>15}  {'silhouette':>10}"]
    for score in report.curve:
        silhouette = "-" if score.silhouette is None else f"{score.silhouette:.4f}"
        star = "  *" if score.k == report.n_clusters else ""
        lines.append(f"{score.k:>4}  {amount(score.wcss):>15}  {silhouette:>10}{star}")
    return lines
