"""A digest of what fits, seeding and silhouettes give: the same bits for every seed, grid, memory and thread count.

The matrix compares what this prints under its conditions: `python -m tests.cuda_standin matrix --only answers`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def rows(d: int, n: int, dtype: type) -> np.ndarray:
    """Rows about the origin, each with its opposite: there the order of a sum decides ties."""
    half = np.random.default_rng(d).normal(size=(n // 2, d)) * np.linspace(1, 2, d)
    return np.concatenate([half, -half]).astype(dtype)


def parts(x: Any, k: int, weights: Any) -> list[Any]:
    """Everything that is computed from the rows."""
    from gpukmeans import KMeans, kmeans_plusplus
    from gpukmeans.metrics import silhouette_samples

    given = KMeans(k, init=x[:k], tol=0, max_iter=12).fit(x, sample_weight=weights)
    drawn = KMeans(k, init="random", n_init=2, random_state=1).fit(x, sample_weight=weights)
    fits = [part for model in (given, drawn) for part in (model.cluster_centers_, model.labels_, model.inertia_)]
    seeds = kmeans_plusplus(x, k, sample_weight=weights, random_state=2)
    return [*fits, *seeds, silhouette_samples(x, given.labels_)]


def digest() -> str:
    """Of few features and of many, of float32 and float64, with weights and without."""
    import cupy

    total = hashlib.sha256()
    for d, k in ((2, 3), (16, 9), (40, 6)):
        for dtype in (np.float32, np.float64):
            x = cupy.asarray(rows(d, 1202, dtype))
            for weights in (None, np.random.default_rng(k).random(1202)):
                for part in parts(x, k, weights):
                    total.update(cupy.asnumpy(part).tobytes())
    return total.hexdigest()[:16]


if __name__ == "__main__":
    print(digest())
