"""The answers beside the speed: what is computed again in float64, and the one rule by which answers are the same.

**The rule.** The answer of a fit is the reference run's if all of these hold, as far as they are known:

* it took as many iterations,
* the inertia of its centres, computed again by float64 differences, is within 1e-4 of the reference's, relatively,
* the adjusted Rand index of the two labelings is at least 1 - 1e-4,
* no centre is farther from the reference's than 5e-4 of the distance of a row from its centre (root mean square).

Float32 that sums in float64 passes with room to spare; half precision, another start or one iteration less do not,
unless the fit has settled and they make no difference. Seedings have to pick the reference's rows, predictions may
differ from the labels of the fit for one row in ten thousand, and silhouettes by 1e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ._peers import Answer

SAME = {"inertia": 1e-4, "rand": 1e-4, "center": 5e-4, "differ": 1e-4, "error": 1e-5}
FITS = ("fit", "iteration", "total")  # stages that the answer of the fit speaks for


class Reference(NamedTuple):
    """What the others are compared with: a float64 fit by the array bodies on the CPU, and scikit-learn's float64."""

    centers: np.ndarray  # (k, d) float64
    labels: np.ndarray  # (n,)
    n_iter: int
    inertia: float
    picks: np.ndarray | None  # rows that scikit-learn's k-means++ picks in float64
    silhouettes: np.ndarray | None  # of the first rows, by scikit-learn in float64


def judge(X: np.ndarray, centers: np.ndarray, labels: np.ndarray | None = None) -> tuple[float, int | None]:
    """What centres are worth, by float64 brute force.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    centers : ndarray of shape (k, d)
    labels : ndarray of shape (n,), optional

    Returns
    -------
    inertia : float
        Direct squared differences of each row to its nearest centre, summed; infinite for centres
        that are not finite.
    wrong : int or None
        Rows whose label names a centre that is farther than another one by more than rounding.
    """
    centers = np.asarray(centers, dtype=np.float64)
    if not np.isfinite(centers).all():
        return float("inf"), None if labels is None else len(X)
    shift = centers.mean(axis=0)
    near = centers - shift
    norms, total, wrong = (near * near).sum(axis=1), 0.0, 0
    block = max(64, (1 << 23) // max(near.shape))
    for a in range(0, len(X), block):
        x = X[a : a + block].astype(np.float64)
        nearest = (norms - 2 * (x - shift) @ near.T).argmin(axis=1)
        least = ((x - centers[nearest]) ** 2).sum(axis=1)
        total += float(least.sum())
        if labels is not None:
            own = labels[a : a + block]
            other = np.flatnonzero(own != nearest)
            taken = ((x[other] - centers[own[other]]) ** 2).sum(axis=1)
            wrong += int((taken > least[other] * (1 + 1e-12)).sum())
    return total, None if labels is None else wrong


def labels_of(answer: Answer) -> np.ndarray | None:
    """The labels in the order of the rows that were given."""
    if answer.labels is None or answer.order is None:
        return answer.labels
    labels = np.empty_like(answer.labels)
    labels[answer.order] = answer.labels
    return labels


def judge_fit(X: np.ndarray, answer: Answer, reference: Reference) -> dict[str, Any]:
    """What a fit is worth and how far it is from the reference, of JSON's types (None: not finite, or not told).

    Returns
    -------
    found : dict
        ``n_iter``; ``inertia`` in float64 and ``off``, its relative difference; ``rand``, the adjusted
        Rand index; ``center``, the largest distance of a centre from the reference's, in root mean
        square distances of a row from its centre; ``not_nearest``, labels that brute force does not confirm.
    """
    from sklearn.metrics import adjusted_rand_score

    centers = np.asarray(answer.centers, dtype=np.float64)
    labels = labels_of(answer)
    inertia, wrong = judge(X, centers, labels)
    scale = np.sqrt(reference.inertia / len(X)) or 1.0
    moved = np.sqrt(((centers - reference.centers) ** 2).sum(axis=1)).max() / scale
    return {
        "n_iter": None if answer.n_iter is None else int(answer.n_iter),
        "inertia": _finite(inertia),
        "off": _finite(_relative(inertia, reference.inertia)),
        "rand": None if labels is None else float(adjusted_rand_score(reference.labels, labels)),
        "center": _finite(moved),
        "not_nearest": wrong,
    }


def _relative(value: float, base: float) -> float:
    return 0.0 if value == base else value / base - 1 if base else float("inf")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def differences(found: Mapping[str, Any], stage: str, run: Mapping[str, Any]) -> list[str]:
    """Why an answer is not the reference's, in words; nothing if it is.

    Parameters
    ----------
    found : mapping
        Of a contestant, as a run stores it.
    stage : str
        "fit", "iteration", "total" (by the answer of the fit), "seeding", "predict" or "silhouette".
    run : mapping
        With the `case` and the `reference`.
    """
    if stage == "seeding":
        count = found.get("different")
        return [f"{count} of {run['case']['k']} rows differ"] if count else []
    if stage == "predict":
        count = found.get("differ") or 0
        return [f"{count} labels are not the fit's"] if count > SAME["differ"] * run["case"]["n"] else []
    if stage == "silhouette":
        error = found.get("error")
        return [f"off by {error:.0e}"] if error is not None and not error <= SAME["error"] else []
    return _fit_differences(found["answer"], run["reference"]) if stage in FITS else []


def _fit_differences(answer: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    parts = []
    if answer.get("n_iter") is not None and answer["n_iter"] != reference["n_iter"]:
        parts.append(f"{answer['n_iter']} iterations, not {reference['n_iter']}")
    if answer["off"] is None:
        parts.append("centres that are not finite")
    elif not abs(answer["off"]) <= SAME["inertia"]:
        parts.append(f"inertia {answer['off']:+.0e}")
    if answer.get("rand") is not None and not answer["rand"] >= 1 - SAME["rand"]:
        parts.append(f"adjusted Rand {rand_text(answer['rand'])}")
    if answer["off"] is not None and "center" in answer and not (answer["center"] or 0) <= SAME["center"]:
        parts.append(f"centres {answer['center']:.0e} off")
    return parts


def rand_text(value: float) -> str:
    """An adjusted Rand index that does not read as 1 where labels differ."""
    digits = 4
    while value < 1 and round(value, digits) == 1 and digits < 9:
        digits += 1
    return f"{value:.{digits}f}"
