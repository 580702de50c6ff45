"""Sums over the rows: what passes add up, and the order they add it in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ._device import namespace, to_host
from ._frame import Lanes


class Partial(NamedTuple):
    """What one pass over the rows adds up for the new centres."""

    sums: Any  # (k, d) float64, of w (x - shift)
    weights: Any  # (k,) float64
    counts: Any  # (k,) int64, rows of positive weight


class Step(NamedTuple):
    """One pass: every row's nearest centre, and the sums of the clusters so formed."""

    partial: Any  # Partial, or None from a pass that adds nothing up or leaves it to `move_centers`
    lanes: Any  # the lanes that `partial` is the sum of
    exact: bool  # the sums are as good as those of all rows; not where moves cost them digits
    labels: Any  # (n,) int32
    changed: Any  # rows whose label is not the plan's; by lanes for `move_centers`
    doubtful: Any  # rows that fast distances could not decide, likewise
    undecided: Any  # rows left uncertified: the pass has to be repeated
    done: int = 0  # iterations that were done before this pass without being asked for one by one,
    centers: Any = None  # and the centres of this one


class Moments(NamedTuple):
    """Facts about the rows that a fit needs before it starts (float64, on the host)."""

    mean: np.ndarray  # (d,), unweighted
    variance: np.ndarray  # (d,), unweighted, with divisor n
    peak: float  # the largest norm of a row about the shift


def moments_from(n_samples: int, shift: Any, first: np.ndarray, second: np.ndarray, peak: float) -> Moments:
    """Moments from the sums of so many rows, and of their squares, about the shift."""
    with np.errstate(all="ignore"):  # values are checked by what comes out
        offset = first / n_samples
        variance = np.maximum(second / n_samples - offset * offset, 0.0)
    return Moments(to_host(shift) + offset, variance, peak)


class Grid(NamedTuple):
    """Lanes of tiles of rows: the order of all sums."""

    tile: int
    lanes: list[list[tuple[int, int]]]


def make_grid(n_samples: int, n_features: int, n_clusters: int, kind: str) -> Grid:
    """Cut rows into tiles (a power of two, at most 2**21 elements on the CPU) and tiles into lanes."""
    if kind == "cpu":
        rows, most = min((1 << 21) // n_features, (1 << 22) // n_clusters), 1 << 17
    else:
        rows, most = (1 << 22) // max(n_features, n_clusters), 1 << 17
    tile = max(64, min(most, 1 << (max(rows, 1).bit_length() - 1)))
    tiles = [(a, min(a + tile, n_samples)) for a in range(0, n_samples, tile)]
    wanted = max(8, min(64, (1 << 19) // (n_clusters * n_features)))  # 4 MB of partial sums
    n_lanes = min(len(tiles), wanted)
    edges = [len(tiles) * i // n_lanes for i in range(n_lanes + 1)]
    return Grid(tile, [tiles[a:b] for a, b in pairwise(edges)])


def plus(total: Partial | None, more: Partial) -> Partial:
    """The sum of two; None is nothing."""
    if total is None:
        return more
    return Partial(*(a + b for a, b in zip(total, more, strict=True)))


def side_by_side(lanes: Lanes) -> Partial:
    """The same of lanes that lie in one array, with their rests."""
    xp = namespace(lanes.sums)
    whole = Partial(*(sums[0, ...] if sums.shape[0] == 1 else xp.sum(sums, axis=0) for sums in lanes[:3]))
    if lanes.rests is None:
        return whole
    rests = xp.sum(lanes.rests, axis=0)
    return whole._replace(sums=whole.sums + rests[:, :-1], weights=whole.weights + rests[:, -1])


def total(lanes: Sequence[Partial]) -> Partial:
    """The sum of the lanes, in their order."""
    whole = lanes[0]
    for lane in lanes[1:]:
        whole = plus(whole, lane)
    return whole
