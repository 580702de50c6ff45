"""K-means on a CUDA device when there is one, on the CPU otherwise, with the same answer.

>>> from gpukmeans import KMeans
>>> KMeans(2, random_state=0).fit([[0.0], [0.1], [5.0], [5.1]]).inertia_ < 0.011
True
"""

from typing import Any

from . import metrics
from ._functions import k_means, kmeans_plusplus
from .kmeans import KMeans
from .minibatch import MiniBatchKMeans

__version__ = "0.1.0"

_IN_PATCH = ["patch_sklearn", "patched_sklearn", "unpatch_sklearn"]

__all__ = ["KMeans", "MiniBatchKMeans", "__version__", "k_means", "kmeans_plusplus", "metrics", *_IN_PATCH]


def __getattr__(name: str) -> Any:
    if name not in _IN_PATCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import patch  # only then: scikit-learn's clustering takes longer to import than all of this package

    return getattr(patch, name)
