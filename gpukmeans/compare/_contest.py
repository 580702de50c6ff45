"""Who takes part: our paths (kernels and array bodies on the CPU, CUDA devices) and the peers, and in what."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from .. import KMeans, _kernels, kmeans_plusplus, metrics
from .._device import CPU, Device, cuda_devices, scope, to_device, to_host
from .._files import InputError, did_you_mean
from . import _peers
from ._clocks import event_clock
from ._measure import Clock, host_clock
from ._peers import OURS, REFERENCE, Answer, Peer, Stop, usable
from ._rows import Rows
from ._standin import driver

# What is timed, in this order. "first" is a fit of one iteration: with the whole fit it gives the time of an iteration.
STAGES = ("upload", "seeding", "first", "fit", "predict", "silhouette", "download")
SILHOUETTE_ROWS = 2000  # their time grows with the square of the rows

# Paths on the CPU -> the kernels that serve (see `_kernels.using`), and what they are.
CPU_PATHS = {
    "cpu": ("1", "compiled kernels"),
    "cpu:numpy": ("numpy", "NumPy kernels"),
    "cpu:arrays": ("0", "array bodies"),
}


class Path(NamedTuple):
    """A way for our code to run."""

    name: str  # as `devices=` takes it
    label: str  # "cpu, compiled kernels (avx512)", "cuda:0 NVIDIA H100"
    device: Device
    kernels: str | None = None  # of a CPU path


class Settings(NamedTuple):
    """What everybody is asked to do."""

    max_iter: int
    given: int  # iterations that the reference took: for peers that cannot stop by themselves
    seed: int
    labels: Any  # of the reference, for silhouettes: everybody judges the same clusters


class Contestant(NamedTuple):
    """One who takes part, warmed up."""

    name: str
    facts: dict[str, Any]  # for the record: label, where, kernels, validates, stand_in, warm_up
    runs: dict[str, Callable[[], Any]]  # stage -> what is timed
    clock: Clock | None = host_clock  # None: it has no time (the stand-in)
    device: Device = CPU


def paths(names: Sequence[str] | None) -> tuple[list[Path], dict[str, str]]:
    """Our paths, and the reasons for those that cannot run here.

    Parameters
    ----------
    names : sequence of str or None
        Keys of `CPU_PATHS`, "cuda" for every CUDA device, "cuda:N"; all that there are when None.
    """
    cuda, why_not = cuda_devices()
    known = [*CPU_PATHS, "cuda", *(f"cuda:{device.number}" for device in cuda)]
    for name in names or ():
        if name not in known and not (name.startswith("cuda:") and name[5:].isdigit()):
            hint = did_you_mean(name, known)
            raise InputError(f"{name!r} is no device to compare: give {', '.join(known)}{hint}")
    found, skipped = [], {}
    for name, (kernels, what) in CPU_PATHS.items():
        if names is not None and name not in names:
            continue
        if name == "cpu" and _kernels.cpu.native() is None:
            skipped[name] = f"compiled kernels: {_kernels.cpu.why_not()}"
            continue
        exact = f" ({_kernels.cpu.native().instruction_set()})" if name == "cpu" else ""
        found.append(Path(name, f"cpu, {what}{exact}", CPU, kernels))
    chosen = [d for d in cuda if names is None or {"cuda", f"cuda:{d.number}"} & set(names)]
    found += [Path(f"cuda:{device.number}", device.name, device) for device in chosen]
    there = {path.name for path in found}
    for name in ["cuda"] if names is None else [name for name in names if name.startswith("cuda")]:
        if name not in there and not (name == "cuda" and chosen):
            skipped[name] = why_not or f"there is no {name}: {len(cuda)} CUDA device(s), numbered from 0"
    return found, skipped


def peers(names: Sequence[str] | None, dtype: str) -> tuple[list[Peer], dict[str, str]]:
    """Other packages to run, and the reasons for those that cannot be; all that are installed when None."""
    known = [peer.name for peer in _peers.PEERS if peer.name != OURS]
    for name in names or ():
        if name not in known:
            raise InputError(f"{name!r} is no peer: give {', '.join(known)}{did_you_mean(name, known)}")
    return usable(known if names is None else names, dtype)


# --- ours ---------------------------------------------------------------------------------------


def ours(path: Path, rows: Rows, settings: Settings) -> Contestant:
    """One of our paths on the rows, which lie on its device; warmed up by a whole fit."""
    device, k, where = path.device, len(rows.init), _where(path)
    X, init = placed(path, rows)
    model = _model(path, init, settings.max_iter)
    start = time.perf_counter()
    _alone(path, lambda: model.fit(X))()
    warm_up = time.perf_counter() - start
    few, labels = X[:SILHOUETTE_ROWS], settings.labels[:SILHOUETTE_ROWS]
    runs: dict[str, Callable[[], Any]] = {
        "seeding": lambda: kmeans_plusplus(X, k, random_state=settings.seed, device=where)[1],
        "first": fit_of(path, X, init, 1),
        "fit": fit_of(path, X, init, settings.max_iter),
        "predict": lambda: model.predict(X),
        "silhouette": lambda: metrics.silhouette_samples(few, labels, device=where),
    }
    if device.kind == "cuda":
        runs |= {"upload": lambda: to_device(rows.X, device), "download": lambda: to_host(model.labels_)}
    stand_in = device.kind == "cuda" and driver() is not None
    clock = None if stand_in else event_clock(device) if device.kind == "cuda" else host_clock
    with _kernels_of(path):
        kernels = sorted(set(_kernels.in_use(device.kind).values()))
    facts = {"label": path.label, "where": device.kind, "kernels": kernels, "validates": True}
    facts |= {"stand_in": stand_in, "warm_up": None if stand_in else warm_up}
    return Contestant(path.name, facts, {name: _alone(path, run) for name, run in runs.items()}, clock, device)


def placed(path: Path, rows: Rows) -> tuple[Any, Any]:
    """The rows and the initial rows on the device of a path."""
    with scope(path.device):
        return to_device(rows.X, path.device), to_device(rows.init, path.device)


def fit_of(path: Path, X: Any, init: Any, max_iter: int) -> Callable[[], Answer]:
    """A fit of one of our paths, to be timed."""
    model = _model(path, init, max_iter)

    def fit() -> Answer:
        model.fit(X)
        return Answer(model.cluster_centers_, model.labels_, model.n_iter_)

    return _alone(path, fit)


def _model(path: Path, init: Any, max_iter: int) -> KMeans:
    return KMeans(init.shape[0], init=init, n_init=1, max_iter=max_iter, tol=0, device=_where(path))


def _where(path: Path) -> str:
    """A path as `device=` of a fit."""
    return "cpu" if path.device.kind == "cpu" else path.name


def _kernels_of(path: Path) -> Any:
    return nullcontext() if path.kernels is None else _kernels.using(path.kernels)


def _alone(path: Path, run: Callable[[], Any]) -> Callable[[], Any]:
    """A call with the kernels and on the device of a path, without warnings of fits that stop early."""

    def there() -> Any:
        with _kernels_of(path), scope(path.device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()

    return there


# --- peers --------------------------------------------------------------------------------------


def peer(one: Peer, rows: Rows, settings: Settings) -> Contestant:
    """A peer on the rows, warmed up by a whole fit. Only of scikit-learn more than fits is timed."""
    whole = one.prepare(rows, Stop(settings.max_iter, settings.given))
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole()
    warm_up = time.perf_counter() - start
    runs: dict[str, Callable[[], Any]] = {"first": one.prepare(rows, Stop(1, 1)), "fit": whole}
    if one.name == REFERENCE:
        runs |= _of_scikit_learn(rows, settings)
    facts = {"label": one.name, "where": "peer", "kernels": [], "validates": one.validates}
    return Contestant(one.name, facts | {"stand_in": False, "warm_up": warm_up}, runs)


def _of_scikit_learn(rows: Rows, settings: Settings) -> dict[str, Callable[[], Any]]:
    from sklearn.cluster import KMeans as Theirs
    from sklearn.cluster import kmeans_plusplus as their_seeding
    from sklearn.metrics import silhouette_samples

    k = len(rows.init)
    model = Theirs(k, init=rows.init, n_init=1, max_iter=settings.max_iter, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows.X)
    few, labels = rows.X[:SILHOUETTE_ROWS], settings.labels[:SILHOUETTE_ROWS]
    return {
        "seeding": lambda: their_seeding(rows.X, k, random_state=settings.seed)[1],
        "predict": lambda: model.predict(rows.X),
        "silhouette": lambda: silhouette_samples(few, labels),
    }
