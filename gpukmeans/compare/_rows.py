"""Rows to compare on, made from a seed: the same on every machine, and nothing to download."""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

import numpy as np

from .._files import InputError

KINDS = ("blobs", "uniform")


class Rows(NamedTuple):
    """Rows (n, d) and the initial centres (k, d), which are the rows at `indices` (k,)."""

    X: np.ndarray
    init: np.ndarray
    indices: np.ndarray


class Shape(NamedTuple):
    """Rows, features and clusters of a problem."""

    n: int
    d: int
    k: int

    def __str__(self) -> str:
        return f"{self.n}x{self.d}x{self.k}"


def parse_shape(text: str) -> Shape:
    """A shape from its text, as ``100000x16x64`` (rows, features, clusters).

    Raises
    ------
    InputError
        If it is none.

    Examples
    --------
    >>> from gpukmeans.compare._rows import parse_shape
    >>> parse_shape("500x2x3")
    Shape(n=500, d=2, k=3)
    """
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip())
    if found is None:
        raise InputError(f"{text!r} is no shape: give rows x features x clusters, such as 100000x16x64")
    return check_shape(Shape(*map(int, found.groups())))


def check_shape(shape: Shape) -> Shape:
    """The shape, if k-means has something to do on it."""
    n, d, k = shape
    if d < 1 or not 1 <= k <= n:
        raise InputError(f"{shape} is no shape to cluster: it needs a feature, and 1 to {n} clusters in its {n} rows")
    return shape


def sweep(base: Shape, axis: str, points: int = 6) -> list[Shape]:
    """Shapes that grow along one axis ("n", "d" or "k") by factors of four, up to about the base's own.

    Examples
    --------
    >>> from gpukmeans.compare._rows import Shape, sweep
    >>> [shape.k for shape in sweep(Shape(10_000, 8, 64), "k", points=3)]
    [4, 16, 64]
    """
    top = getattr(base, axis)
    least = base.k if axis == "n" else 1
    values = sorted({max(least, top // 4**step) for step in range(points)})
    return [check_shape(base._replace(**{axis: value})) for value in values]


def make_rows(shape: Shape, kind: str = "blobs", dtype: str = "float32", seed: int = 0) -> Rows:
    """Rows of a shape.

    Parameters
    ----------
    shape : Shape
    kind : {'blobs', 'uniform'}
        Blobs overlap, and one initial row is of each: such fits take several iterations, and rounding
        does not decide where they go. Uniform rows have no structure: bounds skip little on them.
    dtype : {'float32', 'float64'}
    seed : int

    Returns
    -------
    rows : Rows
    """
    n, d, k = shape
    rng = np.random.default_rng([seed, n, d, k, KINDS.index(kind)])
    if kind == "uniform":
        X, indices = rng.random((n, d), dtype=np.float32), rng.choice(n, k, replace=False)
    else:
        blob = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
        width = 6 / np.sqrt(d)  # centres are about five standard deviations apart, whatever d is
        X = rng.uniform(-width, width, size=(k, d)).astype(np.float32)[blob]
        X += rng.standard_normal((n, d), dtype=np.float32)
        order = rng.permutation(n)
        X, indices = X[order], np.argsort(order)[:k]
    X = X.astype(dtype, copy=False)
    return Rows(X, X[indices], indices)


def given_rows(X: np.ndarray, k: int, seed: int) -> Rows:
    """Somebody's rows, with initial rows drawn from a seed."""
    indices = np.random.default_rng([seed, k]).choice(len(X), k, replace=False)
    return Rows(X, X[indices], indices)


def digest(X: Any) -> str:
    """A short hash of rows: two machines that show the same one had the same rows."""
    return hashlib.sha256(np.ascontiguousarray(X).data).hexdigest()[:12]
