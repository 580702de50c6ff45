"""Our estimators for code that says `sklearn.cluster.KMeans` or `MiniBatchKMeans` and cannot be edited.

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

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import sklearn.cluster
from sklearn.cluster import KMeans as _Theirs
from sklearn.cluster import MiniBatchKMeans as _TheirBatches

from .._threads import n_threads
from ..kmeans import KMeans as _Ours
from ..minibatch import MiniBatchKMeans as _OurBatches

__all__ = ["KMeans", "MiniBatchKMeans", "patch_sklearn", "patched_sklearn", "unpatch_sklearn"]


class KMeans(_Ours, _Theirs):
    """What `sklearn.cluster.KMeans` is while patched: ours.

    It is of both classes, so `isinstance` says yes to either; the parameters are those of
    :class:`gpukmeans.KMeans`. Its pickles open without the patch.
    """

    def fit(self, X, y=None, sample_weight=None):
        """Cluster the rows of X; see :meth:`gpukmeans.KMeans.fit`."""
        super().fit(X, y, sample_weight)
        self._n_threads = n_threads()  # scikit-learn's methods look for it
        return self


class MiniBatchKMeans(_OurBatches, _TheirBatches):
    """What `sklearn.cluster.MiniBatchKMeans` is while patched, likewise."""

    def fit(self, X, y=None, sample_weight=None):
        """Cluster the rows of X; see :meth:`gpukmeans.MiniBatchKMeans.fit`."""
        super().fit(X, y, sample_weight)
        self._n_threads = n_threads()
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        """Move the centres with one batch; see :meth:`gpukmeans.MiniBatchKMeans.partial_fit`."""
        super().partial_fit(X, y, sample_weight)
        self._n_threads = n_threads()
        return self


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
