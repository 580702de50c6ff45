"""NumPy outside the array-API standard: `out=`, sparse one-hot products, shapes that depend on data.

Distances are laid out (k, m), rows of the data along the last axis: every reduction over clusters
is then a few vectorised passes instead of m short ones (20 to 30 times faster than `argmin(axis=1)`
for k = 10).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csc_array

from .._frame import Frame, Nearest, Targets, doubt_limit, first_of_each, make_targets, nearest_directly, reach_bound
from .._threads import Workspace

# One row in so many may be in doubt by a block's common bound before each row gets its own.
_SHARE = 64

# Up to so many features NumPy is faster on columns than on rows.
_FEW_FEATURES = 8

# Elements of float64 rows held at once (2 MB).
_PRECISE_ELEMENTS = 1 << 18

# Rows times features times centres up to which a float64 product costs more than direct differences.
_FEW = 1 << 16


def nearest(
    rows: np.ndarray, frame: Frame, targets: Targets, capacity: int, longest: float | None, space: Workspace
) -> Nearest:
    """See `_distances.nearest`; here every doubtful row is decided, whatever `capacity`.

    One bound for the whole block is tried first, from its longest row. If an outlier makes it leave
    many rows in doubt, each row gets its own.
    """
    m = rows.shape[0]
    x, fast = _fast_distances(rows, frame, targets, space)
    best = np.minimum.reduce(fast, axis=0, out=space.array("best", (m,), fast.dtype))
    few = found = m + m // _SHARE + 1
    if longest is not None:
        limit = np.add(best, best.dtype.type(reach_bound(longest, targets)), out=space.array("limit", (m,), fast.dtype))
        close, found = _close(fast, limit, space)
    if found >= few:
        close, found = _close(fast, _row_limits(x, best, targets, space), space)
    labels = _lowest(close, space)
    if found == m:  # exactly one centre a row
        return Nearest(labels, 0, 0)
    counts = np.add.reduce(close.view(np.uint8), axis=0, dtype=_count_dtype(fast.shape[0]))
    doubtful = np.flatnonzero(counts != 1)
    labels[doubtful] = _decide_again(rows[doubtful], frame, targets, space)
    return Nearest(labels, doubtful.size, 0)


def _fast_distances(
    rows: np.ndarray, frame: Frame, targets: Targets, space: Workspace
) -> tuple[np.ndarray, np.ndarray]:
    """The rows in local coordinates as (d, m), a view, and |c|^2 - 2 x.c as (k, m).

    Whichever of the rows and the distances is smaller gets transposed. Transposed rows are copied
    anyway, so they get a row of ones that brings in the norms of the centres.
    """
    (m, d), k = rows.shape, targets.centers.shape[0]
    fast = space.array("distances", (k, m), frame.dtype)
    if d <= k:
        x = space.array("rows", (d + 1, m), frame.dtype)
        _look_from(frame, rows.T, x[:d], column=True)
        x[d] = 1
        np.matmul(targets.augmented, x, out=fast)
        return x[:d], fast
    x = space.array("rows", (m, d), frame.dtype)
    _look_from(frame, rows, x, column=False)
    product = np.matmul(x, targets.augmented[:, :d].T, out=space.array("product", (m, k), frame.dtype))
    np.add(product.T, targets.augmented[:, d:], out=fast)
    return x.T, fast


def _look_from(frame: Frame, rows: np.ndarray, out: np.ndarray, column: bool) -> None:
    """Write rows in local coordinates; `column` for features along the first axis."""
    shift = (frame.shift * frame.scale).astype(frame.dtype)
    if column:
        shift = shift[:, None]
    if frame.scale == 1.0:
        np.subtract(rows, shift, out=out, dtype=frame.dtype, casting="unsafe")
    else:
        np.multiply(rows, frame.scale, out=out, dtype=frame.dtype, casting="unsafe")
        out -= shift


def _row_limits(x: np.ndarray, best: np.ndarray, targets: Targets, space: Workspace) -> np.ndarray:
    """`_frame.doubt_limit`: x is (d, m)."""
    return doubt_limit(best, np.einsum("ij,ij->j", x, x), targets)


def _close(fast: np.ndarray, limit: np.ndarray, space: Workspace) -> tuple[np.ndarray, int]:
    """Which centres lie within the error bound of the best, (k, m) bool, and how many in all."""
    close = np.less_equal(fast, limit, out=space.array("close", fast.shape, np.bool_))
    return close, int(np.count_nonzero(close))


def _lowest(close: np.ndarray, space: Workspace) -> np.ndarray:
    """The lowest index set in each column, (m,) int32: it carries the largest mark."""
    k = close.shape[0]
    dtype = _count_dtype(k)
    falling: np.ndarray = np.arange(k, 0, -1, dtype=dtype)[:, None]
    marks = np.multiply(close.view(np.uint8), falling, out=space.array("marks", close.shape, dtype))
    return np.subtract(k, np.maximum.reduce(marks, axis=0), dtype=np.int32, casting="unsafe")


def _count_dtype(k: int) -> type:
    """The smallest unsigned integer that counts to k."""
    return np.uint8 if k < 256 else np.uint16 if k < 65536 else np.uint32


def _decide_again(rows: np.ndarray, frame: Frame, targets: Targets, space: Workspace) -> np.ndarray:
    """Labels of rows that the fast distances left open: float64, then direct differences.

    Copies of a centre can never win against the first of them, so they are left out: otherwise
    every row of a cluster with a copy would have to be compared directly.
    """
    if frame.spherical:
        return nearest_directly(rows, targets.centers, spherical=True)
    if rows.size * targets.centers.shape[0] <= _FEW:
        difference = rows[:, None, :] - targets.centers  # float64, as the centres are
        return np.einsum("mkd,mkd->mk", difference, difference).argmin(axis=1)
    keep = first_of_each(targets.centers, targets.augmented[:, -1])
    if frame.dtype == np.float64 and keep.size == targets.centers.shape[0]:
        return nearest_directly(rows, targets.centers, frame.spherical)
    precise = frame.precise()
    found = nearest(rows, precise, make_targets(targets.centers[keep], precise), 0, None, space)
    return keep[found.labels]


def accumulate(
    rows: np.ndarray,
    weights: np.ndarray | None,
    labels: np.ndarray,
    frame: Frame,
    n_clusters: int,
    space: Workspace,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `_distances.accumulate`; one product with the sparse one-hot matrix, rows in order."""
    places = labels.astype(np.intp)  # what bincount works with
    sums = np.zeros((n_clusters, rows.shape[1]))
    for part in _parts(rows):
        some = None if weights is None else weights[part]
        sums = sums + _sum_by_cluster(_precise(rows[part], frame, space), places[part], some, n_clusters)
    if weights is None:
        counts = np.bincount(places, minlength=n_clusters)
        return sums, counts.astype(np.float64), counts
    counts = np.bincount(places[weights > 0], minlength=n_clusters)
    return sums, np.bincount(places, weights, n_clusters), counts


def _parts(rows: np.ndarray) -> Iterator[slice]:
    """Parts of a block whose float64 copy stays in a core's cache; from d alone, since they order sums."""
    step = max(64, _PRECISE_ELEMENTS // rows.shape[1])
    return (slice(a, a + step) for a in range(0, rows.shape[0], step))


def _precise(rows: np.ndarray, frame: Frame, space: Workspace) -> np.ndarray:
    """Rows about the shift in float64 and original units, (m, d)."""
    return _local(rows, frame.precise()._replace(scale=1.0), space)


def _local(rows: np.ndarray, frame: Frame, space: Workspace) -> np.ndarray:
    """Rows in a frame's coordinates, (m, d): stored by columns if those are few."""
    m, d = rows.shape
    if d > _FEW_FEATURES:
        x = space.array("precise", (m, d), frame.dtype)
        _look_from(frame, rows, x, column=False)
        return x
    x = space.array("precise", (d, m), frame.dtype)
    _look_from(frame, rows.T, x, column=True)
    return x.T


def _sum_by_cluster(x: np.ndarray, places: np.ndarray, weights: np.ndarray | None, n_clusters: int) -> np.ndarray:
    """Sums of w x over the rows of each cluster, rows in order: (k, d) float64.

    `bincount` a feature for a few features; for more, one product with the sparse one-hot matrix.
    """
    m, d = x.shape
    if d <= _FEW_FEATURES:
        features = x.T if weights is None else x.T * weights
        return np.stack([np.bincount(places, feature, n_clusters) for feature in features], axis=1)
    values = np.ones(m) if weights is None else weights
    edges = np.arange(m + 1, dtype=np.int32)
    return csc_array((values, places.astype(np.int32, copy=False), edges), shape=(n_clusters, m)) @ x


def accumulate_moves(
    rows: np.ndarray,
    weights: np.ndarray | None,
    labels: np.ndarray,
    before: np.ndarray,
    frame: Frame,
    n_clusters: int,
    space: Workspace,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `accumulate` gives for `labels` less what it gives for `before`, from the moved rows alone."""
    moved = np.flatnonzero(labels != before)
    if moved.size == 0:
        return np.zeros((n_clusters, rows.shape[1])), np.zeros(n_clusters), np.zeros(n_clusters, np.int64)
    m = moved.size
    x = _precise(rows.take(moved, axis=0), frame, space)
    x = np.concatenate([x.T, -x.T], axis=1).T if x.flags.f_contiguous else np.concatenate([x, -x])
    places = np.concatenate([labels[moved], before[moved]]).astype(np.intp)  # come to, taken from
    signs = np.repeat([1.0, -1.0], m)
    if weights is None:
        gain = np.bincount(places, signs, n_clusters)
        return _sum_by_cluster(x, places, None, n_clusters), gain, gain.astype(np.int64)
    values = np.tile(weights[moved], 2)
    counts = np.bincount(places, signs * (values > 0), n_clusters).astype(np.int64)
    sums = _sum_by_cluster(x, places, values, n_clusters)
    return sums, np.bincount(places, signs * values, n_clusters), counts


def moments(rows: np.ndarray, frame: Frame, space: Workspace) -> tuple:
    """See `_distances.moments`."""
    first, second, longest = 0.0, 0.0, 0.0
    for part in _parts(rows):
        x = _precise(rows[part], frame, space)
        first = first + x.sum(axis=0)
        second = second + np.einsum("ij,ij->j", x, x)
        longest = max(longest, np.einsum("ij,ij->i", x, x).max())
    return first, second, np.sqrt(longest)


def squared_to_own(rows: np.ndarray, labels: np.ndarray, centers: np.ndarray, space: Workspace) -> np.ndarray:
    """See `_distances.squared_to_own`."""
    out = np.empty(rows.shape[0])
    for part in _parts(rows):
        own = np.take(centers, labels[part], axis=0)
        difference = np.subtract(rows[part], own, out=own, dtype=np.float64, casting="unsafe")
        np.einsum("ij,ij->i", difference, difference, out=out[part])
    return out


def lower_to(
    rows: np.ndarray, closest: np.ndarray, frame: Frame, candidates: np.ndarray, space: Workspace
) -> np.ndarray:
    """See `_distances.lower_to`; parts of the rows stay in cache between the steps, (t, m)."""
    (m, d), t = rows.shape, candidates.shape[0]
    precise = frame.precise()
    c = np.empty((t, d))
    _look_from(precise, candidates, c, column=False)
    c_norms = np.einsum("ij,ij->i", c, c)[:, None]
    c *= -2
    lowered = space.array("lowered", (t, m), np.float64)
    for part in _parts(rows):
        x = _local(rows[part], precise, space)
        norms = np.einsum("ij,ij->i", x, x)
        squared = c @ x.T
        squared += norms
        squared += c_norms
        _silence(squared, norms, d, space)
        np.minimum(squared, closest[part], out=lowered[:, part])
    return lowered


def _silence(squared: np.ndarray, norms: np.ndarray, n_features: int, space: Workspace) -> None:
    """Set to zero what is within rounding of zero: there |x|^2 and |y|^2 agree, so |x|^2 tells."""
    noise = 2.0**-53 * (2 * n_features + 8) * 2
    heard = np.greater(squared, noise * norms, out=space.array("close", squared.shape, np.bool_))
    np.multiply(squared, heard, out=squared)


def cluster_distance_sums(x: np.ndarray, y: np.ndarray, one_hot: np.ndarray, space: Workspace) -> np.ndarray:
    """See `_distances.cluster_distance_sums`."""
    m, q = x.shape[0], y.shape[0]
    x_norms, y_norms = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
    squared = np.dot(x * -2.0, y.T, out=space.array("distances", (m, q), np.float64))
    squared += x_norms[:, None]
    squared += y_norms
    _silence(squared, y_norms, x.shape[1], space)
    return np.sqrt(squared, out=squared) @ one_hot
