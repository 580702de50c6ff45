"""Every compiled kernel at sizes about those of its tiles, against the array bodies.

They are ordinary tests; `python tests/sanitized.py` runs them, and others, under the sanitizers.
"""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest

from gpukmeans import KMeans, kmeans_plusplus
from gpukmeans._kernels.cpu import native
from gpukmeans.metrics import silhouette_samples

pytestmark = pytest.mark.skipif(native() is None, reason="no compiled kernels")

# Rows of a tile are 3 or 4 registers of 2 to 16 elements; of a chunk of seeding, 64; of a block of silhouettes, 64.
ROWS = [1, 2, 5, 6, 7, 11, 12, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 4095, 4097]
# Features and centres that lead to each way of searching: by differences, by dot products, by tiles.
SHAPES = [(1, 1), (2, 7), (4, 65), (5, 3), (17, 64), (31, 5), (32, 16), (33, 2), (25, 17), (100, 33)]


def everything(X, k, weights):
    """The labels, centres and silhouettes of a short fit, and the rows that k-means++ picks."""
    model = KMeans(k, init=X[:k], max_iter=3, tol=0).fit(X, sample_weight=weights)
    parts = [model.labels_, model.predict(X), kmeans_plusplus(X, k, random_state=0, sample_weight=weights)[1]]
    if 1 < len(np.unique(model.labels_)) < len(X) <= 200:
        parts.append(silhouette_samples(X, model.labels_))
    return [*parts, model.cluster_centers_]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("d", "k"), SHAPES)
def test_sizes_about_those_of_tiles(monkeypatch, d, k, dtype):
    rng = np.random.default_rng(d)
    for n in ROWS:
        if n < k:
            continue
        X = rng.normal(size=(n, d)).astype(dtype)
        weights = None if n % 2 else rng.random(n) + 0.1
        found = everything(X, k, weights)
        with monkeypatch.context() as patch:
            patch.setenv("GPUKMEANS_KERNELS", "0")
            expected = everything(X, k, weights)
        for a, b in zip(found, expected, strict=True):
            rounding = 1e-5 if a.dtype == np.float32 else 1e-9 if a.dtype == np.float64 else 0
            np.testing.assert_allclose(a, b, rtol=0, atol=rounding, err_msg=f"{n} rows")


@pytest.mark.skipif("GPUKMEANS_SANITIZED" not in os.environ, reason="not under the sanitizers")
def test_the_kernels_are_the_sanitized_ones():
    where = pathlib.Path(native().__file__)
    assert pathlib.Path(os.environ["GPUKMEANS_SANITIZED"]) in where.parents
    assert b"__asan_" in where.read_bytes()
    assert b"__ubsan_" in where.read_bytes()
