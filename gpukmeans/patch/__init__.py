"""Our estimators for code that says `sklearn.cluster.KMeans` or `MiniBatchKMeans` and cannot be edited.

Sparse rows, which we cannot cluster yet, are clustered by scikit-learn's own classes; the first time is logged.
`python -m gpukmeans.patch script.py` runs a script with the patch.

>>> import sklearn.cluster
>>> from gpukmeans import patched_sklearn
>>> with patched_sklearn():
...     sklearn.cluster.KMeans(2, random_state=0).fit([[0.0], [0.1], [5.0]]).device_
'cpu'
>>> sklearn.cluster.KMeans.__module__
'sklearn.cluster._kmeans'
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import sklearn.cluster
from scipy.sparse import issparse
from sklearn.cluster import KMeans as _Theirs
from sklearn.cluster import MiniBatchKMeans as _TheirBatches

from .._threads import n_threads
from ..kmeans import KMeans as _Ours
from ..minibatch import MiniBatchKMeans as _OurBatches

__all__ = ["KMeans", "MiniBatchKMeans", "patch_sklearn", "patched_sklearn", "unpatch_sklearn"]

logger = logging.getLogger("gpukmeans")


class _Either:
    """Ours, and scikit-learn's own for sparse rows; a subclass says which two."""

    _ours: Any
    _theirs: Any

    def fit(self, X, y=None, sample_weight=None):
        """Cluster the rows of X; see :meth:`gpukmeans.KMeans.fit`."""
        self._engine(X).fit(self, X, y, sample_weight)
        return self._ready(X)

    def predict(self, X):
        """Index of the nearest centre of each row."""
        return self._engine(X).predict(self, X)

    def transform(self, X):
        """Distances from each row to each centre."""
        return self._engine(X).transform(self, X)

    def score(self, X, y=None, sample_weight=None):
        """Minus the inertia of X for these centres."""
        return self._engine(X).score(self, X, y, sample_weight)

    def _engine(self, X: Any) -> Any:
        """The class whose methods can deal with X."""
        if not _is_sparse(X):
            return self._ours
        _log_sparse()
        return self._theirs

    def _ready(self, X: Any) -> Any:
        """After a fit by either, ready for the methods of both."""
        if not hasattr(self, "_n_threads"):
            self._n_threads = n_threads()  # scikit-learn's methods look for it
        if _is_sparse(X):
            self.device_ = "cpu"
        return self


class KMeans(_Either, _Ours, _Theirs):
    """What `sklearn.cluster.KMeans` is while patched: ours, and scikit-learn's own for sparse rows.

    It is of both classes, so `isinstance` says yes to either; the parameters are those of
    :class:`gpukmeans.KMeans`. Its pickles open without the patch.
    """

    _ours, _theirs = _Ours, _Theirs


class MiniBatchKMeans(_Either, _OurBatches, _TheirBatches):
    """What `sklearn.cluster.MiniBatchKMeans` is while patched, likewise.

    A stream may have dense and sparse batches in turn.
    """

    _ours, _theirs = _OurBatches, _TheirBatches

    def partial_fit(self, X, y=None, sample_weight=None):
        """Move the centres with one batch; see :meth:`gpukmeans.MiniBatchKMeans.partial_fit`."""
        engine = self._engine(X)
        if engine is self._theirs and hasattr(self, "cluster_centers_"):
            self._counts = self._counts.astype(self.cluster_centers_.dtype)  # scikit-learn wants the same of both
        engine.partial_fit(self, X, y, sample_weight)
        return self._ready(X)

    def _ready(self, X: Any) -> Any:
        if _is_sparse(X):
            self._rounding = None  # scikit-learn keeps no digits beyond those it publishes
        return super()._ready(X)


def _is_sparse(X: Any) -> bool:
    return issparse(X) or hasattr(X, "sparse")  # the latter: a pandas frame of sparse columns


@cache
def _log_sparse() -> None:  # cached: said once
    logger.warning("gpukmeans: sparse rows are clustered by scikit-learn itself, for they are not supported yet")


# The classes that change places.
_PAIRS: list[tuple[type, type]] = [(_Theirs, KMeans), (_TheirBatches, MiniBatchKMeans)]


def patch_sklearn() -> None:
    """Make scikit-learn's two classes ours, also where modules have imported them under names of theirs.

    Models made before stay what they are, and scikit-learn's own modules keep its classes. Patching twice is
    patching once.
    """
    for theirs, ours in _PAIRS:
        _replace(theirs, ours)


def unpatch_sklearn() -> None:
    """Take back `patch_sklearn`, also in modules that were imported since; models made meanwhile go on working."""
    for theirs, ours in _PAIRS:
        _replace(ours, theirs)


@contextmanager
def patched_sklearn() -> Iterator[None]:
    """A context in which scikit-learn is patched; where it is already, it stays so afterwards."""
    before = sklearn.cluster.KMeans is KMeans
    patch_sklearn()
    try:
        yield
    finally:
        if not before:
            unpatch_sklearn()


def _replace(old: type, new: type) -> None:
    """Replace a class under all names of modules; this package and scikit-learn's inner modules keep theirs."""
    for module_name, module in list(sys.modules.items()):
        package = module_name.partition(".")[0]
        if package == "gpukmeans" or (package == "sklearn" and module_name != "sklearn.cluster"):
            continue
        names = getattr(module, "__dict__", {})
        for name in [name for name, value in list(names.items()) if value is old]:
            names[name] = new
