"""The peers of k-means: how each is driven from the same initial rows for the same iterations.

One *iteration* is scikit-learn's: assign every row, then move the centres. After the last one every
row is assigned once more, to the centres that are returned. How the peers map onto that:

* scikit-learn, scikit-learn-intelex and gpukmeans: `max_iter` and ``tol=0``, nothing else.
* faiss, scipy: a fixed number of iterations, as many as scikit-learn took; their own assignment to the
  final centres is called after it, because it is not part of theirs. (In faiss the check that stops
  when the float32 objective no longer falls is left on in runs to convergence.)
* opencv starts from labels: the first assignment is made for it, outside the clock. At most 100
  iterations, whatever is asked.
* fastkmeans, geokmeans pick their initial rows by a seed. The rows are put in an order, outside the
  clock, in which they pick ours.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._rows import Rows


class Stop(NamedTuple):
    """When a fit ends."""

    max_iter: int
    given: int  # what scikit-learn took: for peers that cannot stop by themselves
    converge: bool = False


class Answer(NamedTuple):
    """What a fit returns."""

    centers: Any  # (k, d)
    labels: Any  # (n,) or None
    n_iter: int | None  # None: the peer does not tell
    order: np.ndarray | None = None  # labels[i] belongs to row order[i]


Run = Callable[[], Answer]


class Peer(NamedTuple):
    """An implementation of k-means."""

    name: str
    module: str
    package: str  # what pip installs
    prepare: Callable[[Rows, Stop], Run]  # outside the clock -> what is timed
    validates: bool = True  # refuses rows that are not finite
    dtypes: tuple[str, ...] = ("float32", "float64")
    note: str = ""


OURS, REFERENCE = "gpukmeans", "scikit-learn"


def _estimator(module: str, **settings: Any) -> Callable[[Rows, Stop], Run]:
    def prepare(rows: Rows, stop: Stop) -> Run:
        kmeans = importlib.import_module(module).KMeans

        def run() -> Answer:
            model = kmeans(len(rows.init), init=rows.init, n_init=1, max_iter=stop.max_iter, tol=0, **settings)
            model.fit(rows.X)
            return Answer(model.cluster_centers_, model.labels_, model.n_iter_)

        return run

    return prepare


def _faiss(rows: Rows, stop: Stop) -> Run:
    import faiss

    # No subsampling; a negative threshold never stops early.
    settings: dict[str, Any] = {"niter": stop.given, "min_points_per_centroid": 1, "max_points_per_centroid": 1 << 30}
    if hasattr(faiss.ClusteringParameters(), "early_stop_threshold"):
        settings["early_stop_threshold"] = 0.0 if stop.converge else -1.0

    def run() -> Answer:
        model: Any = faiss.Kmeans(rows.X.shape[1], len(rows.init), **settings)
        model.train(rows.X, init_centroids=rows.init)
        return Answer(model.centroids, model.assign(rows.X)[1], len(model.obj))

    return run


def _scipy(rows: Rows, stop: Stop) -> Run:
    from scipy.cluster.vq import kmeans2, vq

    def run() -> Answer:
        centers, _ = kmeans2(rows.X, rows.init, iter=stop.given, minit="matrix")
        return Answer(centers, vq(rows.X, centers)[0], stop.given)

    return run


def _opencv(rows: Rows, stop: Stop) -> Run:
    import cv2
    from sklearn.metrics import pairwise_distances_argmin

    first = pairwise_distances_argmin(rows.X, rows.init).astype(np.int32)[:, None]
    ends = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, max(2, stop.max_iter), 0.0)

    def run() -> Answer:
        flags = cv2.KMEANS_USE_INITIAL_LABELS
        _, labels, centers = cv2.kmeans(rows.X, len(rows.init), first.copy(), ends, 1, flags)
        return Answer(centers, labels[:, 0], None)

    return run


def _in_order(rows: Rows, picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows in an order in which a peer that picks the positions `picked` gets our initial rows."""
    order = np.empty(len(rows.X), dtype=np.int64)
    free = np.ones(len(order), dtype=bool)
    free[picked] = False
    left = np.ones(len(order), dtype=bool)
    left[rows.indices] = False
    order[picked], order[free] = rows.indices, np.flatnonzero(left)
    return rows.X[order], order


def _fastkmeans(rows: Rows, stop: Stop) -> Run:
    import torch
    from fastkmeans import FastKMeans

    torch.manual_seed(0)  # as the peer does, before its only draw
    X, order = _in_order(rows, torch.randperm(len(rows.X))[: len(rows.init)].numpy())

    def run() -> Answer:
        # A tolerance above zero ends a fit whose centres no longer move at all.
        model = FastKMeans(X.shape[1], len(rows.init), niter=stop.max_iter, tol=1e-30, gpu=False, seed=0)
        model.train(X)
        return Answer(model.centroids, model.predict(X), None, order)

    return run


def _geokmeans(algorithm: str) -> Callable[[Rows, Stop], Run]:
    def prepare(rows: Rows, stop: Stop) -> Run:
        from geokmeans import GeoKMeans

        X, order = _in_order(rows, _geokmeans_picks(len(rows.X), len(rows.init)))

        def run() -> Answer:
            model = GeoKMeans(len(rows.init), algorithm=algorithm, max_iter=stop.max_iter, tol=0.0, random_state=1)
            model.fit(X)
            return Answer(model.cluster_centers_, model.labels_, model.n_iter_, order)

        return run

    return prepare


def _geokmeans_picks(n: int, k: int) -> np.ndarray:
    """Positions that the peer takes for seed 1: the first k of a shuffle by the C library's `rand`.

    Of a million rows or more it shuffles the first ten thousand only.
    """
    libc, size = ctypes.CDLL(None), n if n < 1_000_000 else 10_000
    libc.srand(1)
    moved: dict[int, int] = {}
    for i in range(min(k, size - 1)):
        j = i + libc.rand() // (0x7FFFFFFF // (size - i) + 1)
        moved[i], moved[j] = moved.get(j, j), moved.get(i, i)
    return np.array([moved.get(i, i) for i in range(k)])


PEERS = (
    Peer(OURS, "gpukmeans", "gpukmeans", _estimator("gpukmeans", device="cpu")),
    Peer(REFERENCE, "sklearn", "scikit-learn", _estimator("sklearn.cluster")),
    Peer("scikit-learn-elkan", "sklearn", "scikit-learn", _estimator("sklearn.cluster", algorithm="elkan")),
    Peer("scikit-learn-intelex", "sklearnex", "scikit-learn-intelex", _estimator("sklearnex.cluster")),
    Peer("faiss", "faiss", "faiss-cpu", _faiss, dtypes=("float32",)),
    Peer("scipy", "scipy", "scipy", _scipy),
    Peer("opencv", "cv2", "opencv-python-headless", _opencv, validates=False, dtypes=("float32",)),
    Peer("fastkmeans", "fastkmeans", "fastkmeans", _fastkmeans, validates=False, dtypes=("float32",)),
    Peer(
        "geokmeans",
        "geokmeans",
        "geokmeans",
        _geokmeans("geo"),
        dtypes=("float32",),
        note="returns centres at the origin from a fit that ends at max_iter",
    ),
    Peer("geokmeans-annulus", "geokmeans", "geokmeans", _geokmeans("annulus"), dtypes=("float32",)),
)


def why_missing(peer: Peer) -> str | None:
    """Why a peer cannot be used here, or None if it can."""
    if importlib.util.find_spec(peer.module) is None:
        return f"not installed (python -m pip install {peer.package})"
    try:
        importlib.import_module(peer.module)
    except Exception as error:  # a broken binary may raise anything; a benchmark goes on without it
        return f"does not import: {first_line(error)}"
    return None


def first_line(error: BaseException) -> str:
    """Type and first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def usable(names: Sequence[str] | None, dtype: str) -> tuple[list[Peer], dict[str, str]]:
    """Peers to run, and reasons for those that cannot be.

    Parameters
    ----------
    names : sequence of str or None
        Names of `PEERS`; all when None.
    dtype : {'float32', 'float64'}

    Returns
    -------
    peers : list of Peer
    skipped : dict of str to str
        Name -> reason.
    """
    peers, skipped = [], {}
    for peer in PEERS:
        if names is not None and peer.name not in names:
            continue
        reason = "computes in float32 only" if dtype not in peer.dtypes else why_missing(peer)
        if reason is None:
            peers.append(peer)
        else:
            skipped[peer.name] = reason
    return peers, skipped
