"""The cases of the benchmarks: rows that need no network, made from a seed.

Uniform rows have no structure (the hard case for bounds, the easy one for ties); blobs are what
people cluster. Case e has 24 latent dimensions, like images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """Rows, features and clusters."""

    n: int
    d: int
    k: int


CASES = {
    "a": Case(500, 2, 3),
    "b": Case(1_000_000, 2, 10),
    "c": Case(1_000_000, 16, 64),
    "d": Case(200_000, 128, 256),
    "e": Case(100_000, 784, 10),
    "f": Case(100_000, 64, 1024),
    "g": Case(2_000_000, 3, 16),
}
KINDS = ("uniform", "blobs")


def make(name: str, kind: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) and the initial centres (k, d), which are rows of them."""
    n, d, k = CASES[name]
    rng = np.random.default_rng([ord(name), KINDS.index(kind)])
    if name == "e":
        mixing = rng.normal(size=(24, d)).astype(np.float32) / 5
        latent = rng.standard_normal((n, 24), dtype=np.float32)
        if kind == "blobs":
            latent += (rng.normal(size=(k, 24)) * 4).astype(np.float32)[rng.integers(0, k, n)]
        X = latent @ mixing
        X += 0.1 * rng.standard_normal((n, d), dtype=np.float32)
        if kind == "uniform":
            np.maximum(X, 0, out=X)
    elif kind == "blobs":
        X = rng.uniform(-10, 10, size=(k, d)).astype(np.float32)[rng.integers(0, k, n)]
        X += rng.standard_normal((n, d), dtype=np.float32)
    else:
        X = rng.random((n, d), dtype=np.float32)
    X = X.astype(dtype, copy=False)
    return X, X[rng.choice(n, k, replace=False)]


def inertia(X: np.ndarray, centers: np.ndarray) -> float:
    """Inertia of centres by direct float64 differences to the nearest, in blocks."""
    centers, total = centers.astype(np.float64), 0.0
    shift = centers.mean(axis=0)
    for a in range(0, len(X), 8192):
        x = X[a : a + 8192].astype(np.float64) - shift
        c = centers - shift
        nearest = ((c * c).sum(1) - 2 * x @ c.T).argmin(1)
        total += float(((x - c[nearest]) ** 2).sum())
    return total
