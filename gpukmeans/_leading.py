"""Leading directions: what decides most rows of many features at the price of a few.

Rows and centres of many features often have most of what they share in few directions, as embeddings
do. With P an orthonormal basis of r of them,

    x.c <= Px.Pc + |x - PPx| |c - PPc|        (Cauchy and Schwarz)

bounds every distance from below by a product of r + 1 numbers instead of d. Centres whose bound is above the
distance to one that was measured are out, the few others are measured; a row that keeps too many is
searched as ever. So labels are the same as without. Whether that pays is tried on a sample of the rows,
and watched.

The bound holds for any P whose spectral norm is at most one: then I - PP^T is positive semidefinite, and
what it leaves of x, |x|^2 - |Px|^2, bounds the products of what is left. What rounding adds to that is
covered by `Projection.trust`.

References
----------
N. Halko, P. G. Martinsson, J. A. Tropp, "Finding structure with randomness: probabilistic algorithms for
constructing approximate matrix decompositions", SIAM Review 53 (2011).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ._frame import FAR, SMALL, Frame, local, trust
from ._rows import dense, take

_LEAST = 48  # features, and clusters, from which directions are looked for
_RANKS = (8, 12, 18, 24, 36, 48, 60, 72, 96, 120, 144, 192, 240, 288, 384)  # that are tried
_FEATURES_A_RANK = 5  # that each direction needs
_SAMPLE, _VALUES = 128, 1 << 18  # rows that ranks are tried on, and products of them with all centres, at most

# What looking for directions costs, in products of a search: a product of the centres with one of them, and before the
# first. It may cost that part of a pass.
_LOOKED_FOR, _BEGUN, _PART = 12, 1e8, 0.1

# What it costs to measure one of so many features, and so many features more for each centre; to look at a bound
# beyond its product. In products of a search.
_MEASURED, _A_MEASURE, _LOOKED_AT = 20, 60, 12
_WORTH = 0.55  # of the products of a search, most of which are rounded and cost less: what directions may cost at most
_TRIES = (4, 16)  # centres that are measured for a row at most: for few and for many clusters
_AGAIN = 4  # times as many passes as there were before the next search for directions
_FEW = 16  # passes that search fewer than one row in so many tell nothing


class Projection(NamedTuple):
    """What one pass needs of the directions; in the frame's scale."""

    basis: np.ndarray  # (d, r) float64, of values of the frame's dtype; spectral norm at most one
    points: np.ndarray  # (k, r + 1) float64: the centres along these, and how much of them is left at most
    trust: float  # relative error of a product of projections, against |c|^2 + 2 |x| |c|
    tries: int  # centres that are measured for a row at most


class Leading:
    """The leading directions of the runs on one set of rows.

    Parameters
    ----------
    n_samples, n_features, n_clusters : int
        For which there are `ranks`.
    """

    def __init__(self, n_samples: int, n_features: int, n_clusters: int) -> None:
        self._n, self._d, self._k = n_samples, n_features, n_clusters
        self._search = n_features * n_clusters
        few, many = _TRIES
        self._tries = min(many, max(few, n_clusters // 64))
        self._ranks = ranks(n_samples, n_features, n_clusters)
        self._basis: np.ndarray | None = None
        self._passes, self._next = 0, 1  # that were, and the one before which directions are looked for

    def prepare(self, rows: Any, centers: np.ndarray, frame: Frame) -> Projection | None:
        """For a pass over rows (n, d) with these centres, (k, d) float64; None where it would not pay."""
        self._passes += 1
        if (self._basis is None and self._passes < self._next) or frame.scale > SMALL:
            return None
        with np.errstate(all="ignore"):  # rows that overflow are left open
            seen = _seen(centers, frame)
            if self._basis is None:
                self._next = _AGAIN * self._passes
                self._basis = self._find(rows, seen, frame)
            if self._basis is None:
                return None
            basis = self._basis.astype(frame.dtype)  # which may have changed since
            points, b = _project(seen, basis, frame), _trust(frame, *basis.shape)
        return Projection(basis.astype(np.float64), points, b, self._tries)

    def learn(self, projection: Projection | None, searched: int, left: int) -> None:
        """Take note of how many rows a pass with this projection had to search, and how many it left open."""
        if projection is None or searched < self._n // _FEW:
            return
        if _cost(projection.basis.shape[1], self._d, self._k) + left / searched * self._search > _WORTH * self._search:
            self._basis, self._next = None, _AGAIN * self._passes

    def _find(self, rows: Any, seen: np.ndarray, frame: Frame) -> np.ndarray | None:
        """The first directions that pay best for a sample of the rows, if any do."""
        basis = _directions(seen, self._ranks[-1])
        if basis is None:
            return None
        size = max(16, min(_SAMPLE, _VALUES // self._k))
        x = local(dense(take(rows, np.arange(0, self._n, -(-self._n // size)))), frame)
        best, least = 0, _WORTH * self._search
        for rank, cost in zip(self._ranks, self._costs(x, seen, basis, frame), strict=True):
            if cost < least:
                best, least = rank, cost
            elif best:  # more directions exclude next to nothing more
                break
        return basis[:, :best] if best else None

    def _costs(self, x: np.ndarray, seen: np.ndarray, basis: np.ndarray, frame: Frame) -> Iterator[float]:
        """What a row costs with so many directions, in products, from local rows (m, d) and centres (k, d)."""
        b, c = _trust(frame, *basis.shape), seen
        sizes, norms = np.einsum("ij,ij->i", x, x)[:, None], np.einsum("ij,ij->i", c, c)
        nearest = np.maximum((norms - 2 * x @ c.T).min(axis=1, keepdims=True) + sizes, 0)
        limit = nearest + b * (6 * sizes + 4 * nearest)
        x, c, before = x @ basis, c @ basis, 0
        lost = norms + sizes
        x_left, c_left = sizes * (1 + 2 * b), norms * (1 + 2 * b)
        for rank in self._ranks:
            along = slice(before, rank)
            before = rank
            lost = lost - 2 * x[:, along] @ c[:, along].T
            x_left = x_left - (x[:, along] ** 2).sum(axis=1, keepdims=True)
            c_left = c_left - (c[:, along] ** 2).sum(axis=1)
            lows = lost - 2 * np.sqrt(np.maximum(x_left, 0)) * np.sqrt(np.maximum(c_left, 0))
            number = (lows <= limit).sum(axis=1)
            open_ = (number > self._tries).mean()
            measured = _MEASURED * (self._d + _A_MEASURE) * np.minimum(number, self._tries).mean()
            yield _cost(rank, self._d, self._k) + measured * (1 - open_) + open_ * self._search


def ranks(n_samples: int, n_features: int, n_clusters: int) -> list[int]:
    """Numbers of directions that are worth trying, ascending; none where looking for them would cost too much."""
    if min(n_features, n_clusters) < _LEAST:
        return []
    search = n_features * n_clusters
    affordable = (n_samples * search * _PART - _BEGUN - _SAMPLE * search) / (_LOOKED_FOR * search)
    most = min(n_features // _FEATURES_A_RANK, n_clusters, affordable)
    return [rank for rank in _RANKS if rank <= most and _cost(rank, n_features, n_clusters) < _WORTH * search]


def _cost(rank: int, n_features: int, n_clusters: int) -> float:
    """What all centres' bounds cost for a row, in products."""
    return rank * (n_features + n_clusters) + _LOOKED_AT * n_clusters


def _directions(seen: np.ndarray, most: int) -> np.ndarray | None:
    """An orthonormal basis (d, most) of what is largest in the centres (k, d), the largest first; their dtype."""
    reach = np.abs(seen).max(initial=0.0)
    if reach == 0:
        return None
    unit = seen / reach
    probes = unit[:: unit.shape[0] // most][:most]
    basis = np.linalg.qr(unit.T @ (unit @ probes.T))[0]
    along = unit @ basis
    basis = basis @ np.linalg.eigh(along.T @ along)[1][:, ::-1]
    exact = basis.astype(np.float64)
    norm = np.sqrt(np.abs(exact.T @ exact).sum(axis=1).max())  # at least the spectral norm
    return (exact / (norm * (1 + most**0.5 * 4 * np.finfo(basis.dtype).eps))).astype(basis.dtype)


def _seen(centers: np.ndarray, frame: Frame) -> np.ndarray:
    """Centres (k, d) in local coordinates and the frame's dtype; zero where they are far away."""
    seen, step = np.empty(centers.shape, frame.dtype), 1024
    for start in range(0, centers.shape[0], step):
        part = (centers[start : start + step] - frame.shift) * frame.scale
        part[~(np.einsum("ij,ij->i", part, part) <= FAR)] = 0.0
        seen[start : start + step] = part
    return seen


def _trust(frame: Frame, d: int, rank: int) -> float:
    """Relative error of |c|^2 - 2 x.c by so many directions, against |c|^2 + 2 |x| |c|, in the frame's dtype.

    Each of the products that project a row errs by `trust` of its length, so the row's projection by the root of
    the rank times that, the centre's likewise; then these are multiplied.
    """
    return trust(frame.dtype, d) * (2 + 2 * rank**0.5) + trust(frame.dtype, rank + 1)


def _project(values: np.ndarray, basis: np.ndarray, frame: Frame) -> np.ndarray:
    """Local values (m, d) along the directions and, last, how much of each is left at most; float64."""
    b = _trust(frame, *basis.shape)
    along = (values @ basis).astype(np.float64)
    left = np.einsum("ij,ij->i", values, values, dtype=np.float64) * (1 + 2 * b) - np.einsum("ij,ij->i", along, along)
    return np.column_stack([along, np.sqrt(np.maximum(left, 0.0))])
