"""`compare_devices`: every device and peer on the same rows, interleaved, with the answers judged."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import KMeans, _kernels
from .._device import to_host
from .._files import InputError
from .._rows import is_sparse
from .._validation import check_rows
from . import _contest
from ._answers import Reference, judge, judge_fit
from ._clocks import count, pool_growth
from ._comparison import DeviceComparison, identify
from ._contest import SILHOUETTE_ROWS, STAGES, Contestant, Settings
from ._environment import commit, environment
from ._measure import calls_for, foresee, peak_memory, race, seconds_of
from ._peers import REFERENCE, Answer, Stop, first_line
from ._rooflines import rooflines
from ._rows import KINDS, Rows, Shape, check_shape, digest, given_rows, make_rows, parse_shape

SHAPES = (Shape(500, 2, 3), Shape(100_000, 3, 16), Shape(20_000, 64, 64))  # what the command compares on
_DTYPES = ("float32", "float64")
_TELLING = 100_000  # n * d from which on the peak memory of a fit can be told from noise


class Order(NamedTuple):
    """What is to be measured, of every case."""

    devices: Sequence[str] | None
    peers: Sequence[str] | None
    repeat: int
    max_iter: int
    seed: int
    stages: Sequence[str]
    memory: bool
    limit: float


def compare_devices(
    data: Any = None,
    n_clusters: int | None = None,
    *,
    devices: Sequence[str] | None = None,
    peers: Sequence[str] | None = None,
    repeat: int = 5,
    max_iter: int = 10,
    dtype: str = "float32",
    kind: str = "blobs",
    random_state: int = 0,
    stages: Sequence[str] = STAGES,
    memory: bool = True,
    limit: float = 2.0,
    progress: Callable[[str], Any] | None = None,
) -> DeviceComparison:
    """Time k-means on every device and by every peer, each with the proof that it gave the same answer.

    All start from the same rows, with a tolerance of zero, and take turns in every round. What is timed:
    seeding, a fit of one iteration, the whole fit, predicting and silhouettes of the first 2,000 rows; on a
    CUDA device by its events, with rows that lie there, and the transfers apart. Nothing is timed on the
    stand-in for a CUDA device, whose launches and copies are counted instead.

    Parameters
    ----------
    data : array-like of shape (n_samples, n_features), or shapes
        Rows; or sizes of rows to be made from a seed: a text as ``"100000x16x64"`` (rows, features,
        clusters) or a sequence of such texts or of `Shape`. Three sizes that take a CPU about half a
        minute together when None.
    n_clusters : int, optional
        For rows; shapes have their own.
    devices : sequence of str, optional
        ``"cpu"`` (compiled kernels), ``"cpu:numpy"`` (what serves without a compiler), ``"cpu:arrays"``
        (array bodies: what any array-API namespace runs), ``"cuda"``, ``"cuda:N"``; all there are when None.
    peers : sequence of str, optional
        Other packages, by name (`gpukmeans.compare.PEER_NAMES`); all that are installed when None.
    repeat : int, default=5
        Rounds.
    max_iter : int, default=10
        Iterations of a fit, fewer where it settles before.
    dtype : {'float32', 'float64'}, default='float32'
        Of rows that are made.
    kind : {'blobs', 'uniform'}, default='blobs'
        Of rows that are made: overlapping blobs, or rows without structure.
    random_state : int, default=0
        Seed of the rows, of the initial rows and of k-means++.
    stages : sequence of str, optional
        What is timed, of `STAGES`.
    memory : bool, default=True
        Whether the peak memory of a fit is measured, each in a process of its own, where n * d is at
        least 100,000; of fewer values it cannot be told from noise.
    limit : float, default=2.0
        Seconds for one contestant and stage. Peers that need longer for a fit are left out and named;
        our paths sit out rounds.
    progress : callable, optional
        Called with a line of text at each step.

    Returns
    -------
    comparison : DeviceComparison

    Raises
    ------
    InputError
        (a ValueError) For shapes, devices, peers or settings that mean nothing.

    Examples
    --------
    >>> from gpukmeans.compare import compare_devices
    >>> comparison = compare_devices("500x2x3", devices=["cpu:numpy", "cpu:arrays"], peers=["scikit-learn"], repeat=1,
    ...                              memory=False)
    >>> comparison.same_answer("scikit-learn")
    True
    """
    order = Order(devices, peers, repeat, max_iter, random_state, tuple(stages), memory, limit)
    _check(order, dtype, kind)
    say = progress or (lambda text: None)
    here = environment()
    name = identify(here)
    stamp = {"environment": name, "commit": commit(), "date": time.strftime("%Y-%m-%d")}
    runs = []
    for case, rows in _cases(data, n_clusters, dtype, kind, order):
        say(f"{case['n']:,} x {case['d']}, k = {case['k']}")
        runs.append({**_measure(case, rows, order, say), **stamp, "command": _command(case, order)})
    say("what the machine could do at best")
    return DeviceComparison({name: here}, tuple(runs), {name: rooflines(devices)})


def _check(order: Order, dtype: str, kind: str) -> None:
    for name, number, least in (("repeat", order.repeat, 1), ("max_iter", order.max_iter, 2)):
        if not isinstance(number, (int, np.integer)) or number < least:
            raise InputError(f"{name}={number!r} is no whole number from {least}")
    if not isinstance(order.seed, (int, np.integer)) or order.seed < 0:
        raise InputError(f"random_state={order.seed!r} is no whole number from 0: the rows must be made again from it")
    for name, value, known in (("dtype", dtype, _DTYPES), ("kind", kind, KINDS)):
        if value not in known:
            raise InputError(f"{name}={value!r} is not known: give {' or '.join(known)}")
    unknown = [stage for stage in order.stages if stage not in STAGES]
    if unknown or "fit" not in order.stages:
        raise InputError(f"stages={list(order.stages)} cannot be timed: give 'fit', and others of {', '.join(STAGES)}")
    paths, skipped = _contest.paths(order.devices)
    peers, missing = _contest.peers(order.peers, dtype)
    if not paths and not peers:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in {**skipped, **missing}.items())
        raise InputError(f"there is nobody to compare ({reasons or 'no device and no peer was named'})")


def _cases(data: Any, n_clusters: int | None, dtype: str, kind: str, order: Order) -> Iterable[tuple[dict, Rows]]:
    """What is compared on: the case as it is stored, and its rows."""
    common = {"seed": order.seed, "max_iter": order.max_iter}
    shapes = _shapes(data)
    if shapes is not None:
        if n_clusters is not None:
            raise InputError("n_clusters goes with rows; a shape has its own, as in 100000x16x64")
        for shape in shapes:
            rows = make_rows(shape, kind, dtype, order.seed)
            yield {**shape._asdict(), "dtype": dtype, "kind": kind, **common, "digest": digest(rows.X)}, rows
        return
    X = check_rows(data)
    if is_sparse(X):
        raise InputError("data is sparse, and not every contestant takes sparse rows: give data.toarray(), or a shape")
    X = to_host(X)
    X = np.ascontiguousarray(X, dtype=np.float32 if X.dtype == np.float32 else np.float64)
    if not isinstance(n_clusters, (int, np.integer)):
        raise InputError(f"n_clusters={n_clusters!r}: give the number of clusters to fit the rows with")
    shape = check_shape(Shape(X.shape[0], X.shape[1], int(n_clusters)))
    case = {**shape._asdict(), "dtype": str(X.dtype), "kind": "given", **common, "digest": digest(X)}
    yield case, given_rows(X, shape.k, order.seed)


def _shapes(data: Any) -> list[Shape] | None:
    """Shapes, if that is what was given."""
    if data is None:
        return list(SHAPES)
    several = [data] if isinstance(data, (str, Shape)) else data
    if not isinstance(several, (list, tuple)) or not several:
        return None
    if not all(isinstance(one, (str, Shape)) for one in several):
        return None
    return [check_shape(one) if isinstance(one, Shape) else parse_shape(one) for one in several]


def _command(case: dict[str, Any], order: Order) -> str:
    """What measures a case again."""
    if case["kind"] == "given":
        settings = {"devices": order.devices, "peers": order.peers, "repeat": order.repeat, "max_iter": order.max_iter}
        told = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
        return f"compare_devices(X, {case['k']}, {told}, random_state={order.seed})"
    words = ["gpukmeans", "compare", "--shapes", f"{case['n']}x{case['d']}x{case['k']}", "--dtype", case["dtype"]]
    words += ["--kind", case["kind"], "--iterations", str(order.max_iter), "--repeat", str(order.repeat)]
    words += ["--seed", str(order.seed), "--limit", f"{order.limit:g}"]
    for option, names in (("--devices", order.devices), ("--peers", order.peers)):
        words += [] if names is None else [option, ",".join(names) or "none"]
    words += [] if order.memory else ["--no-memory"]
    return shlex.join(words)


# --- one case -----------------------------------------------------------------------------------


def _measure(case: dict[str, Any], rows: Rows, order: Order, say: Callable[[str], Any]) -> dict[str, Any]:
    reference = _reference(rows, order)
    settings = Settings(order.max_iter, reference.n_iter, order.seed, reference.labels)
    contestants, skipped = _gather(rows, settings, case["dtype"], order, say)
    found: dict[str, dict[str, Any]] = {one.name: {**one.facts, "seconds": {}, "counts": {}} for one in contestants}
    failed: dict[str, str] = {}
    labels: dict[str, Any] = {}  # of the fits, which predictions are compared with
    for stage in [stage for stage in STAGES if stage in order.stages]:
        say(f"  {stage}")
        for name, answer in _stage(stage, contestants, found, failed, order).items():
            if stage == "fit":
                answer = _on_host(answer)
                labels[name] = answer.labels
            found[name] |= _judged(stage, rows.X, answer, reference, labels.get(name))
    for name, reason in failed.items():
        skipped[name], _ = reason, found.pop(name)
    if order.memory and rows.X.size >= _TELLING:
        say("  memory")
        _memory(rows, settings, [one for one in contestants if one.name in found], found)
    told = {"n_iter": reference.n_iter, "inertia": reference.inertia}
    return {"case": case, "reference": told, "contestants": found, "skipped": skipped}


def _reference(rows: Rows, order: Order) -> Reference:
    """The run that the others are compared with: float64, by the array bodies, which are the specification."""
    from sklearn.cluster import kmeans_plusplus
    from sklearn.metrics import silhouette_samples

    X, k = rows.X.astype(np.float64), len(rows.init)
    init = rows.init.astype(np.float64)
    with _kernels.using("0"):
        fit = KMeans(k, init=init, n_init=1, max_iter=order.max_iter, tol=0, device="cpu").fit(X)
    picks = silhouettes = None
    if "seeding" in order.stages:
        picks = kmeans_plusplus(X, k, random_state=order.seed)[1]
    few = fit.labels_[:SILHOUETTE_ROWS]
    if "silhouette" in order.stages and 1 < len(np.unique(few)) < len(few):
        silhouettes = silhouette_samples(X[:SILHOUETTE_ROWS], few)
    inertia, _ = judge(X, fit.cluster_centers_)
    return Reference(fit.cluster_centers_, fit.labels_, fit.n_iter_, inertia, picks, silhouettes)


def _gather(
    rows: Rows, settings: Settings, dtype: str, order: Order, say: Callable[[str], Any]
) -> tuple[list[Contestant], dict[str, str]]:
    """All who take part, warmed up, and why others do not."""
    paths, skipped = _contest.paths(order.devices)
    peers, missing = _contest.peers(order.peers, dtype)
    skipped |= missing
    contestants = []
    makers: list[tuple[str, Callable[[], Contestant | str]]] = []
    makers += [(path.name, partial(_contest.ours, path, rows, settings)) for path in paths]
    makers += [(one.name, partial(_peer, one, rows, settings, order.limit)) for one in peers]
    for name, make in makers:
        say(f"  warming up {name}")
        made: Contestant | str
        try:
            made = make()
        except Exception as error:  # one that fails must not take the others' figures with it
            made = first_line(error)
        if isinstance(made, Contestant):
            stages = {stage: run for stage, run in made.runs.items() if stage in order.stages}
            contestants.append(made._replace(runs=stages))
        else:
            skipped[name] = made
    return contestants, skipped


def _peer(one: Any, rows: Rows, settings: Settings, limit: float) -> Contestant | str:
    seconds = foresee(one, rows, Stop(settings.max_iter, settings.given))
    if seconds > limit and one.name != REFERENCE:
        return f"would take about {seconds:.1f} s a fit, more than the limit of {limit:g} s"
    return _contest.peer(one, rows, settings)


def _stage(
    stage: str, contestants: Sequence[Contestant], found: dict[str, Any], failed: dict[str, str], order: Order
) -> dict[str, Any]:
    """Time (or count) one stage of all contestants; what they answered."""
    takes_part = [one for one in contestants if stage in one.runs and one.name not in failed]
    timed = {one.name: one.runs[stage] for one in takes_part if one.clock is not None}
    answers: dict[str, Any] = {}
    if timed:
        clocks = {one.name: one.clock for one in takes_part if one.clock is not None}
        calls: dict[str, int] = {}
        for name, run in timed.items():
            try:
                calls[name] = calls_for(seconds_of(run, clocks[name]))  # and the stage is warm
            except Exception as error:  # as in `race`
                failed[name] = f"{stage}: {first_line(error)}"
        done = race({name: timed[name] for name in calls}, order.repeat, calls=calls, limit=order.limit, clocks=clocks)
        for name, seconds in done.seconds.items():
            found[name]["seconds"][stage] = [None if t is None else float(f"{t:.5g}") for t in seconds]
        answers |= done.answers
        failed |= {name: f"{stage}: {reason}" for name, reason in done.failed.items()}
    for one in takes_part:
        if one.clock is None:
            try:
                counts, answers[one.name] = count(one.runs[stage])
                found[one.name]["counts"][stage] = counts._asdict()
            except Exception as error:  # as in `race`
                failed[one.name] = f"{stage}: {first_line(error)}"
    return answers


def _on_host(answer: Answer) -> Answer:
    labels = None if answer.labels is None else to_host(answer.labels)
    return answer._replace(centers=to_host(answer.centers), labels=labels)


def _judged(stage: str, X: np.ndarray, answer: Any, reference: Reference, labels: Any) -> dict[str, Any]:
    """What is told of the answer of a stage, which gave these labels before."""
    if stage == "first":
        return {"first_iter": answer.n_iter}
    if stage == "fit":
        return {"answer": judge_fit(X, answer, reference)}
    if stage == "seeding" and reference.picks is not None:
        return {"different": int((to_host(answer) != reference.picks).sum())}
    if stage == "predict":
        return {"differ": int((to_host(answer) != labels).sum())}
    if stage == "silhouette" and reference.silhouettes is not None:
        return {"error": float(np.abs(to_host(answer) - reference.silhouettes).max())}
    return {}


def _memory(rows: Rows, settings: Settings, contestants: Sequence[Contestant], found: dict[str, Any]) -> None:
    """Peaks of a fit: on the host in a process of its own, on a device as CuPy's pool grows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npz"
        np.savez(file, X=rows.X, init=rows.init, indices=rows.indices)
        words = ["-m", "gpukmeans.compare._peak", str(file), str(settings.max_iter), str(settings.given)]
        peaks = peak_memory([*words, *found])
    for one in contestants:
        peak = peaks.get(one.name)
        found[one.name]["host_mib"] = None if peak is None else round(peak, 1)
        if one.device.kind == "cuda":
            found[one.name]["device_mib"] = round(pool_growth(one.device, one.runs["fit"]), 1)
