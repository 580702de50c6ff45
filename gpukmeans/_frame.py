"""Coordinates: the local frame of a fit, centres seen from it, and how far fast distances can be trusted.

Squared distances by the expanded formula |c|^2 - 2 x.c lose digits when the data lie far from the
origin. So every block of rows is looked at from a reference point near the data (the *shift*), and
scaled by a power of two when squares would leave the range of the dtype. Both are exact to undo.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ._device import is_single, namespace, to_host

# A squared norm no row of a frame comes near (rows are scaled to at most 1e10 a feature): a centre
# beyond it wins only where all are, and then direct differences decide.
FAR = 1e30

# A scale beyond which squares of the rows, in their own units, are too small for float64.
SMALL = 2.0**450

# Added to what a fast distance may be off by: products below 1e-38 vanish, or are flushed to zero, one a feature.
UNDERFLOW = 1e-33

# Rows that the reference point is taken from: of so many values, but not more nor fewer rows than these.
_VALUES, _MOST, _LEAST = 1 << 16, 512, 64

# Elements of the largest temporary of a direct comparison (4 MB of float64).
_DIRECT_ELEMENTS = 1 << 19


class Frame(NamedTuple):
    """Local coordinates: x_local = (x - shift) * scale, in `dtype`."""

    shift: Any  # (d,) float64, each entry representable in dtype
    scale: float  # a power of two; 1.0 unless squares would overflow or underflow
    dtype: Any  # what distances are computed in: float32 for float32 rows, else float64
    spherical: bool = False  # rows and centres are of length 1: exact products decide, not exact differences

    def precise(self) -> Frame:
        """The same frame in float64."""
        return self._replace(dtype=namespace(self.shift).float64)


class Targets(NamedTuple):
    """Centres made ready for one pass over the rows."""

    centers: Any  # (k, d) float64, original coordinates: what decides in the end
    augmented: Any  # (k, d + 1) frame.dtype, local: [-2 c | |c|^2]
    reach: Any  # () float64: the largest |c|, local
    trust: float  # unit roundoff times the length of the sums: relative error of a fast distance


class Nearest(NamedTuple):
    """What one block's search for nearest centres found."""

    labels: Any  # (m,) int32
    doubtful: Any  # int: rows that fast distances could not decide
    undecided: Any  # int: doubtful rows beyond the capacity, whose labels are not certified


class BoundsAhead(NamedTuple):
    """What a kernel needs to keep bounds from pass to pass."""

    drifts: Any  # kernel of `_bounds.Drifts`
    quiet: int  # rows searched in a pass up to which blocks of them are held in the next one
    idle: int  # passes in which distances between centres are not asked for
    separated: int  # rows searched in a pass from which on they are, ...
    loose: float  # ... once centres have moved so much of them


class Ahead(NamedTuple):
    """How far a kernel may go on with Lloyd's algorithm by itself."""

    most: int  # passes
    tol: float  # it stops at moves of the centres whose squares sum up to no more
    settled: int = 0  # it stops after a pass that changes fewer labels
    searched: int = 0  # or that searches more rows, where boxes or bounds might have held them
    bounds: BoundsAhead | None = None  # where they hold rows


class Request(NamedTuple):
    """One pass over all rows, for kernels that run a whole pass."""

    rows: Any  # (n, d)
    weights: Any  # (n,) float64, or None for ones
    frame: Frame
    centers: Any  # (k, d) float64, original coordinates
    labels: Any  # (n,) int32, of the pass before; the new ones are written there
    add: str  # what to add up: "nothing", "all" rows, all to "begin" with, or the "moves" since the pass before
    lanes: Any  # the sums of the pass before, by lanes, or None; "moves" are added to them in place
    tests: Any  # `_bounds.Tests`, or None
    inertia: bool  # whether to compute it, for the new labels
    boxed: Any = None  # `_boxes.Boxed`, or None
    projection: Any = None  # `_leading.Projection`, or None
    labelled: bool = True  # whether labels are those of a pass before, or -1; else they are uninitialised
    ahead: Ahead | None = None


class Lanes(NamedTuple):
    """Sums of the clusters by lanes; `Partial` for each, side by side, and what rounding has taken from them."""

    sums: Any  # (lanes, k, d) float64
    masses: Any  # (lanes, k) float64
    counts: Any  # (lanes, k) int64
    rests: Any = None  # (lanes, k, d + 1) float64, of the sums and, last, of the masses: so moves cost them no digits


class Searched(NamedTuple):
    """What such a pass found."""

    lanes: Any  # Lanes, or None where nothing was added up
    changed: Any  # rows with a new label; by lanes, on the device, where `move_centers` takes the step on
    doubtful: Any  # rows that fast distances could not decide, likewise
    searched: int  # rows that no bound held to their centres
    inertia: Any  # float, or on the device
    left: int = 0  # rows searched that neither leading directions nor coarse products decided
    done: int = 0  # iterations that came before this pass, if the kernel went on by itself,
    centers: Any = None  # and the centres of this one


def sample_step(n_samples: int, n_features: int) -> int:
    """Every how many rows one is looked at for the reference point."""
    return max(1, n_samples // min(_MOST, max(_LEAST, _VALUES // n_features)))


def reference(points: Any, single: bool) -> np.ndarray:
    """A point near the middle of a sample of some points, of few significant digits, (d,) float64 on the host.

    It only has to be within a fraction of the spread; on a grid of an eighth of that, rows of
    integers or short decimals stay exact when it is subtracted.

    Parameters
    ----------
    points : array of shape (m, d), any real dtype, anywhere
    single : bool
        Whether its coordinates have to be numbers of float32.
    """
    step = sample_step(*points.shape)
    with np.errstate(all="ignore"):
        sample = np.array(to_host(points[::step, :]).T, dtype=np.float64, order="C")  # few features add slowly by rows
        mean, low, high = sample.sum(axis=1) / sample.shape[1], sample.min(axis=1), sample.max(axis=1)
        centred = sample - mean[:, None]
        variance = np.einsum("ij,ij->i", centred, centred) / sample.shape[1]
        known = np.isfinite(mean) & np.isfinite(variance)
        grid = np.ldexp(1.0, np.frexp(np.where(known, variance, 1.0))[1] // 2 - 4)
        near = np.where(known, np.rint(mean / grid) * grid, mean)
        near = np.where(low == high, sample[:, 0], near)
        if single:
            near = near.astype(np.float32).astype(np.float64)
        return np.where(np.isfinite(near), near, 0.0)


def local(rows: Any, frame: Frame) -> Any:
    """Rows of any real dtype and layout in the frame's coordinates, shape (m, d)."""
    xp = namespace(rows)
    x = xp.astype(rows, frame.dtype)
    x = x if frame.scale == 1.0 else x * frame.scale
    return x - xp.astype(frame.shift * frame.scale, frame.dtype)


def make_targets(centers: Any, frame: Frame) -> Targets:
    """Centres of shape (k, d), float64 and original coordinates, seen from the frame."""
    xp = namespace(centers)
    seen = (centers - frame.shift) * frame.scale
    norms = xp.sum(seen * seen, axis=1)
    far = norms > FAR
    seen = xp.where(far[:, None], 0.0, seen)
    norms = xp.where(far, FAR, norms)
    augmented = xp.astype(xp.concat([-2.0 * seen, norms[:, None]], axis=1), frame.dtype)
    return Targets(centers, augmented, xp.sqrt(xp.max(norms)), trust(frame.dtype, centers.shape[1]))


@lru_cache(maxsize=64)
def trust(dtype: Any, n_features: int) -> float:
    """Relative error bound of |c|^2 - 2 x.c in that dtype, against |c|^2 + 2 |x| |c|.

    A sum of d products in any order errs by at most d u; a sum of many errs by more than 8 sqrt(d) u
    with a probability below d 1e-13 (Higham and Mary, "A new approach to probabilistic rounding error
    analysis", SIAM J. Sci. Comput. 41, 2019). Rounding the row, the centre and the norm adds a few
    units. In float64 the norm is itself such a sum, hence the factor 2.
    """
    length = min(n_features, 8 * n_features**0.5) + 10
    return 2.0**-24 * length if is_single(dtype) else 2.0**-53 * 2 * length


def doubt_limit(best: Any, row_norms: Any, targets: Targets) -> Any:
    """The value below which another centre may in truth be as near as the best one, per row.

    With b the relative error, a centre of norm |c| has its distance known to b (2|x||c| + |c|^2).
    The true nearest centre cannot be farther from the row than the best one, so its norm is at most
    |x| + dist(x, best), whatever other centres do: a far outlier does not spoil a row. Adding the
    two errors gives b (16 |x|^2 + 6 best) for `best` without |x|^2; the norm is also at most the
    largest centre's, which is the better bound for data of many features.
    """
    xp = namespace(best)
    b = targets.trust
    by_row = best * (1 + 6 * b) + (row_norms * (16 * b) + UNDERFLOW)
    return xp.minimum(by_row, best + xp.astype(reach_bound(xp.sqrt(xp.max(row_norms)), targets), best.dtype))


def reach_bound(longest: Any, targets: Targets) -> Any:
    """The largest difference from the best that leaves a centre in doubt, for rows of norm <= longest."""
    return 2 * targets.trust * targets.reach * (2 * longest + targets.reach) + UNDERFLOW


def nearest_directly(rows: Any, centers: Any, spherical: bool = False) -> Any:
    """Nearest centre by float64 differences in original coordinates, shape (m,) int32.

    Of points on the unit sphere products decide: rows at a right angle to several centres tie, whatever
    rounding has left of the centres' lengths.
    """
    xp = namespace(rows)
    (m, d), k = rows.shape, centers.shape[0]
    step = max(1, _DIRECT_ELEMENTS // (k * d))
    parts = []
    for start in range(0, m, step):
        x, c = xp.astype(rows[start : min(start + step, m), :], xp.float64)[:, None, :], centers[None, :, :]
        terms = -x * c if spherical else (x - c) * (x - c)
        parts.append(xp.astype(xp.argmin(xp.sum(terms, axis=2), axis=1), xp.int32))
    return parts[0] if len(parts) == 1 else xp.concat(parts)


def first_of_each(centers: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Indices of the distinct centres, each at its first place, ascending, int32; on the host, by their norms."""
    if np.unique(norms).size == norms.size:  # the cheap and usual case
        return np.arange(norms.size, dtype=np.int32)
    return np.sort(np.unique(centers, axis=0, return_index=True)[1]).astype(np.int32)


def first_lowest(potentials: Any) -> Any:
    """Position of the lowest potential, (1,); the first of those that agree with it within rounding.

    Two rows close to each other and far from all others leave the same potential, whichever is
    picked: without this, rounding would decide, differently on each device.
    """
    xp = namespace(potentials)
    lowest = potentials <= xp.min(potentials) * (1 + 1e-12)
    return xp.reshape(xp.argmax(xp.astype(lowest, xp.int8)), (1,))
