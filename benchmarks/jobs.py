"""The jobs: who is timed on what, and how the answers are judged.

A job is told by a spec, a small dictionary: `job`, `case`, `kind`, `dtype`, `max_iter` (0 where it
means nothing). `build` turns it into a `Contest`; `measure` runs that and returns a result to store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cases
import numpy as np

from gpukmeans.compare import _answers
from gpukmeans.compare._measure import calls_for, foresee, gemm_peak, peak_memory, race, seconds_of
from gpukmeans.compare._peers import OURS, PEERS, REFERENCE, Answer, Stop, first_line, usable

CONVERGE = 300  # iterations that stand for "to convergence"
SEED = 0  # of the k-means++ draws


class Contest(NamedTuple):
    """Contestants and their judge."""

    runs: dict[str, Callable[[], Any]]
    judge: Callable[[dict[str, Any]], dict[str, dict[str, Any]]]
    facts: dict[str, Any]
    skipped: dict[str, str]


def build(spec: Mapping[str, Any], names: Sequence[str] | None, limit: float = np.inf) -> Contest:
    """The contest of a spec between some peers, warmed up.

    Parameters
    ----------
    spec : mapping
    names : sequence of str or None
        Peers that take part; all that are installed when None.
    limit : float
        Peers that would take more seconds a call than this, judging by a short run, are left out.
    """
    return JOBS[spec["job"]](spec, names, limit)


def measure(
    spec: dict[str, Any], names: Sequence[str] | None, *, rounds: int, limit: float, memory: bool
) -> dict[str, Any]:
    """Race the peers of a spec and judge their answers; a result as `results` stores it."""
    contest = build(spec, names, limit)
    facts, compute = dict(contest.facts), spec["job"] == "lloyd" and spec["case"] in cases.COMPUTE_BOUND
    peaks = [gemm_peak(spec["dtype"])] if compute else []
    done = race(contest.runs, rounds, calls=facts.pop("calls"), limit=limit, must=(OURS, REFERENCE))
    if compute:
        facts["gemm_gflops"] = round(max(*peaks, gemm_peak(spec["dtype"])), 1)
    peers = contest.judge(done.answers)
    for name, taken in done.seconds.items():
        peers[name]["seconds"] = [None if t is None else float(f"{t:.5g}") for t in taken]
        peers[name]["validates"] = _PEER[name].validates
        if memory:
            told = spec | {key: facts[key] for key in ("given",) if key in facts}
            peak = peak_memory([str(Path(__file__).with_name("run.py")), "peak", json.dumps(told), name]).get(name)
            peers[name]["peak_mib"] = None if peak is None else round(peak, 1)
    return {**spec, **facts, "peers": peers, "skipped": contest.skipped | done.failed}


_PEER = {peer.name: peer for peer in PEERS}


# --- k-means ------------------------------------------------------------------------------------


def _lloyd(spec: Mapping[str, Any], names: Sequence[str] | None, limit: float) -> Contest:
    """Fits from the same initial rows."""
    rows = cases.make(spec["case"], spec["kind"], spec["dtype"])
    peers, skipped = usable(names, spec["dtype"])
    stop = Stop(spec["max_iter"], spec.get("given", spec["max_iter"]), spec["max_iter"] >= CONVERGE)
    facts = {"n": rows.X.shape[0], "d": rows.X.shape[1], "k": len(rows.init), "data_mib": rows.X.nbytes / 2**20}
    facts["budget_mib"] = budget(*rows.X.shape, len(rows.init))
    if "given" not in spec:
        reference = _PEER[REFERENCE].prepare(rows, stop)
        stop = stop._replace(given=reference().n_iter)  # what it took, and warm
        few = len(rows.X) < 100_000  # only the seconds of short fits matter
        facts |= {"given": stop.given, "calls": calls_for(seconds_of(reference)) if few else 1}
    runs = {}
    for peer in peers:
        try:
            expected = foresee(peer, rows, stop)
            if expected > limit and peer.name not in (OURS, REFERENCE):
                skipped[peer.name] = f"would take about {expected:.0f} s a fit, more than --limit allows"
                continue
            runs[peer.name] = peer.prepare(rows, stop)
        except Exception as error:  # see `race`
            skipped[peer.name] = first_line(error)

    def judge(answers: dict[str, Answer]) -> dict[str, dict[str, Any]]:
        return {name: _judge_fit(rows.X, answer) for name, answer in answers.items()}

    return Contest(runs, judge, facts, skipped)


def _judge_fit(X: np.ndarray, answer: Answer) -> dict[str, Any]:
    inertia, wrong = _answers.judge(X, answer.centers, _answers.labels_of(answer))
    n_iter = None if answer.n_iter is None else int(answer.n_iter)
    # JSON has no infinity: centres that are not finite have no inertia.
    return {"n_iter": n_iter, "inertia": inertia if np.isfinite(inertia) else None, "wrong_labels": wrong}


def budget(n: int, d: int, k: int) -> float:
    """MiB a fit of ours may take: 12 bytes a row, the sums of the lanes, 16 MiB of buffers, 16 to spare."""
    from gpukmeans._sums import make_grid

    return (12 * n + len(make_grid(n, d, k, "cpu").lanes) * k * d * 8) / 2**20 + 32


# --- k-means++ ----------------------------------------------------------------------------------


def _seeding(spec: Mapping[str, Any], names: Sequence[str] | None, limit: float) -> Contest:
    """The k-means++ draws of the same seed; in float64 scikit-learn's are the answer for both dtypes."""
    import sklearn.cluster

    import gpukmeans

    X, init, _ = cases.make(spec["case"], spec["kind"], spec["dtype"])
    k = len(init)
    runs = {
        OURS: lambda: gpukmeans.kmeans_plusplus(X, k, random_state=SEED, device="cpu")[1],
        REFERENCE: lambda: sklearn.cluster.kmeans_plusplus(X, k, random_state=SEED)[1],
    }
    runs = _wanted(runs, names)
    few = X[: max(2000, 4 * k)].copy()
    gpukmeans.kmeans_plusplus(few, k, random_state=SEED, device="cpu")
    sklearn.cluster.kmeans_plusplus(few, k, random_state=SEED)

    def judge(answers: dict[str, Any]) -> dict[str, dict[str, Any]]:
        true = answers.get(REFERENCE) if X.dtype == np.float64 else None  # saves the run
        if true is None:
            true = sklearn.cluster.kmeans_plusplus(X.astype(np.float64), k, random_state=SEED)[1]
        return {
            name: {"different": int((found != true).sum()), "inertia": _answers.judge(X, X[found])[0]}
            for name, found in answers.items()
        }

    return Contest(runs, judge, {"n": len(X), "d": X.shape[1], "k": k, "calls": 1}, {})


def _wanted(runs: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    return {name: run for name, run in runs.items() if names is None or name in names}


# --- silhouettes --------------------------------------------------------------------------------


def _silhouette(spec: Mapping[str, Any], names: Sequence[str] | None, limit: float) -> Contest:
    """Silhouettes of all rows, exact."""
    import sklearn.metrics

    import gpukmeans.metrics

    X, labels = cases.silhouette_rows(spec["case"], spec["dtype"])
    runs = {
        OURS: lambda: gpukmeans.metrics.silhouette_samples(X, labels, device="cpu"),
        REFERENCE: lambda: sklearn.metrics.silhouette_samples(X, labels),
    }
    return _silhouettes(X, labels, runs, names, lambda: sklearn.metrics.silhouette_samples(_wide(X), labels))


def _nine(spec: Mapping[str, Any], names: Sequence[str] | None, limit: float) -> Contest:
    """Silhouette scores of K = 2 to 10: one call of ours, nine of scikit-learn's."""
    import sklearn.cluster
    import sklearn.metrics

    import gpukmeans.metrics

    X, _ = cases.silhouette_rows(spec["case"], spec["dtype"])
    fits = (sklearn.cluster.KMeans(k, n_init=1, max_iter=10, random_state=SEED) for k in range(2, 11))
    labelings = [fit.fit(X.astype(np.float64)).labels_ for fit in fits]

    def scores(rows: np.ndarray) -> np.ndarray:
        return np.array([sklearn.metrics.silhouette_score(rows, labels) for labels in labelings])

    runs = {
        OURS: lambda: gpukmeans.metrics.silhouette_curve(X, labelings, device="cpu"),
        REFERENCE: lambda: scores(X),
    }
    return _silhouettes(X, labelings[-1], runs, names, lambda: scores(_wide(X)))


def _wide(X: np.ndarray) -> np.ndarray:
    """Float64 rows about their mean: what the best that scikit-learn can do is computed from."""
    X = X.astype(np.float64)
    return X - X.mean(axis=0)


def _silhouettes(
    X: np.ndarray, labels: np.ndarray, runs: dict, names: Sequence[str] | None, truth: Callable[[], Any]
) -> Contest:
    import sklearn.metrics

    import gpukmeans.metrics

    few = slice(0, 400)  # imports and thread pools
    sklearn.metrics.silhouette_samples(X[few], labels[few])
    gpukmeans.metrics.silhouette_samples(X[few], labels[few], device="cpu")

    def judge(answers: dict[str, Any]) -> dict[str, dict[str, Any]]:
        # In float64 scikit-learn's own answer is the truth; the run is saved.
        true = truth() if X.dtype != np.float64 or REFERENCE not in answers else answers[REFERENCE]
        return {name: {"error": float(np.abs(np.asarray(found) - true).max())} for name, found in answers.items()}

    k = int(labels.max()) + 1
    return Contest(_wanted(runs, names), judge, {"n": len(X), "d": X.shape[1], "k": k, "calls": 1}, {})


JOBS = {"lloyd": _lloyd, "random": _lloyd, "seeding": _seeding, "silhouette": _silhouette, "nine": _nine}
