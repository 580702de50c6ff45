"""The cases of the benchmarks: rows that need no network, made from a seed.

Uniform rows have no structure (the hard case for bounds, the easy one for ties); blobs are what
people cluster. Case e has 24 latent dimensions, like images; case h has unit rows near 50 dimensions,
like embeddings. Case t is there to try the harness, not to be quoted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpukmeans.compare._rows import Rows


class Case(NamedTuple):
    """Rows, features, clusters, and how many iterations are timed."""

    n: int
    d: int
    k: int
    iterations: int = 20


CASES = {
    "a": Case(500, 2, 3),
    "b": Case(1_000_000, 2, 10),
    "c": Case(1_000_000, 16, 64),
    "d": Case(200_000, 128, 256),
    "e": Case(100_000, 784, 10),
    "f": Case(100_000, 64, 1024),
    "g": Case(2_000_000, 3, 16),
    "h": Case(100_000, 768, 1000, 5),
    "t": Case(2000, 3, 4),
}
KINDS = ("uniform", "blobs")
COMPUTE_BOUND = "dfh"  # nearly all of their time goes into products: compared with the peak of `gemm`
SILHOUETTES = {"s10": Case(10_000, 16, 16), "s50": Case(50_000, 16, 16), "st": Case(400, 4, 3)}
NINE = {"nine": Case(20_000, 16, 10), "ninet": Case(400, 4, 10)}  # silhouettes of K = 2 to 10 of the same rows

_SHAPES_SEED, _SHAPES = 20_260_101, 30
_MOST_WORK = 2.5e9  # n (d + 32) k: scikit-learn takes a few seconds for 20 iterations of that
_MOST_VALUES = 1e8  # n d: 400 MB in float32


def make(name: str, kind: str, dtype: str) -> Rows:
    """The rows of a case, or of one of the random shapes.

    Parameters
    ----------
    name : str
        A key of `CASES`, or ``"r00"`` to ``"r29"``.
    kind : {'uniform', 'blobs'}
    dtype : {'float32', 'float64'}

    Returns
    -------
    rows : Rows
    """
    n, d, k, _ = case_of(name)
    seed = [int(name[1:]), _SHAPES_SEED] if name.startswith("r") else [ord(name)]
    rng = np.random.default_rng([*seed, KINDS.index(kind)])
    makers = {"e": _images, "h": _embeddings}
    X = makers.get(name, _plain)(rng, n, d, k, kind).astype(dtype, copy=False)
    indices = rng.choice(n, k, replace=False)
    return Rows(X, X[indices], indices)


def _plain(rng, n, d, k, kind):
    if kind == "uniform":
        return rng.random((n, d), dtype=np.float32)
    X = rng.uniform(-10, 10, size=(k, d)).astype(np.float32)[rng.integers(0, k, n)]
    X += rng.standard_normal((n, d), dtype=np.float32)
    return X


def _images(rng, n, d, k, kind):
    mixing = rng.normal(size=(24, d)).astype(np.float32) / 5
    latent = rng.standard_normal((n, 24), dtype=np.float32)
    if kind == "blobs":
        latent += (rng.normal(size=(k, 24)) * 4).astype(np.float32)[rng.integers(0, k, n)]
    X = latent @ mixing
    X += 0.1 * rng.standard_normal((n, d), dtype=np.float32)
    if kind == "uniform":
        np.maximum(X, 0, out=X)
    return X


def _embeddings(rng, n, d, k, kind):
    """Unit rows: 50 directions of falling weight, little noise; blobs have k topics."""
    weights = np.linspace(1.2, 0.8, 50).astype(np.float32)
    mixing = (rng.normal(size=(50, d)) / np.sqrt(50 * d)).astype(np.float32) * weights[:, None]
    latent = rng.standard_normal((n, 50), dtype=np.float32)
    if kind == "blobs":
        latent += (rng.normal(size=(k, 50)) * 2).astype(np.float32)[rng.integers(0, k, n)]
    X = latent @ mixing
    X += (0.2 / np.sqrt(d)) * rng.standard_normal((n, d), dtype=np.float32)
    X /= np.sqrt(np.einsum("ij,ij->i", X, X))[:, None]
    return X


def case_of(name: str) -> Case:
    """The case of that name; random shapes are ``"r00"``, ``"r01"``, ..."""
    return random_shapes()[int(name[1:])][0] if name.startswith("r") else CASES[name]


def random_shapes() -> list[tuple[Case, str]]:
    """Thirty shapes from a fixed seed, each with its kind: log-uniform, bounded in work and in memory."""
    rng, shapes = np.random.default_rng(_SHAPES_SEED), []
    while len(shapes) < _SHAPES:
        n, d, k = (round(10 ** rng.uniform(*np.log10(span))) for span in ((1e3, 2e6), (1, 1000), (1, 2000)))
        if k < n / 4 and n * d <= _MOST_VALUES and n * (d + 32.0) * k <= _MOST_WORK:
            shapes.append((Case(n, d, k), KINDS[len(shapes) % 2]))
    return shapes


def silhouette_rows(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping blobs, and the blob of each row as its cluster."""
    n, d, k, _ = SILHOUETTES.get(name) or NINE[name]
    rng = np.random.default_rng([n, d, k])
    labels = rng.integers(0, k, n)
    X = rng.uniform(-5, 5, size=(k, d))[labels] + 2 * rng.normal(size=(n, d))
    return X.astype(dtype), labels
