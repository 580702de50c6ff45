"""Input checks, in one place: scikit-learn's own where it has one, in its words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils.validation import _check_sample_weight, check_array, column_or_1d, validate_data

from ._device import (
    adopt,
    home_of,
    is_cupy_sparse,
    is_device_array,
    is_foreign,
    namespace,
    result_dtype,
    scope,
    to_host,
)

# Largest magnitude whose square, summed over a great many rows, still fits into float64.
LARGEST = 1e140


def check_rows(X: Any, *, estimator: Any = None, reset: bool = True, min_samples: int = 1) -> Any:
    """X as an array of shape (n, d) of any real dtype, where it lives and not copied if it is one.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    estimator : estimator, optional
        Gets `n_features_in_` and `feature_names_in_` (`reset=True`) or has X compared with them.
    reset : bool
    min_samples : int

    Raises
    ------
    ValueError, TypeError
        scikit-learn's, for NaN, infinities, one dimension, no rows, text, complex or sparse data, and
        another number of features than in `fit`.
    """
    if _is_plain(X, min_samples) and (estimator is None or reset or _as_in_fit(X, estimator)):
        if estimator is not None:
            _check_feature_count(X, estimator, reset)
        return X
    if is_cupy_sparse(X):
        with scope(home_of(X)):
            return _check_sparse_device_rows(X, estimator, reset, min_samples)
    if type(X).__name__ == "LazyFrame":
        raise TypeError("X is a lazy frame, which has no rows before it is collected. Pass X.collect().")
    X = adopt(X)
    if is_device_array(X):
        with scope(home_of(X)):
            return _check_device_rows(X, estimator, reset, min_samples)
    options: dict[str, Any] = {
        "accept_sparse": "csr",
        "dtype": [np.float64, np.float32] if issparse(X) or hasattr(X, "sparse") else "numeric",
        "order": None,
        "copy": False,
        "ensure_min_samples": min_samples,
    }
    X = check_array(X, **options) if estimator is None else validate_data(estimator, X, reset=reset, **options)
    if issparse(X):
        _check_places(X)
        _check_magnitude(X.data, "X")
        return _each_once(X)
    if X.dtype.kind == "O":  # columns of a table that is not pandas'
        X = check_array(X, **{**options, "dtype": np.float64}, input_name="X")
    if X.dtype.kind not in "fiub":
        raise ValueError(f"X has dtype {X.dtype}, but rows of real numbers are needed. Convert it to float64 first.")
    _check_magnitude(X, "X")
    return X


def check_form(X: Any, estimator: Any) -> tuple[Any, bool]:
    """`check_rows` for a fit that reads all rows anyway; and whether it did not look at the values yet.

    Then somebody has to ask `surely_finite` after the first pass over the rows, and `check_rows` if that says no.
    """
    if not _is_matrix(X):
        return check_rows(X, estimator=estimator), False
    _check_feature_count(X, estimator, reset=True)
    return X, True


def surely_finite(mean: np.ndarray, peak: float) -> bool:
    """Whether values of this mean, none of which lies farther from a point than `peak`, are such as can be squared.

    Parameters
    ----------
    mean : array of shape (d,)
    peak : float
        The largest norm of a row about a point among them.
    """
    return math.hypot(*mean.tolist()) + 2 * peak <= LARGEST  # NaN is not


def _check_places(X: Any) -> None:
    """Sparse rows whose entries lie outside would be read from memory that is not theirs; SciPy does not look."""
    xp, (n, d) = namespace(X.indices), X.shape
    edges = to_host(X.indptr)
    inside = edges.size == n + 1 and edges[0] == 0 and bool((np.diff(edges) >= 0).all())
    inside = inside and edges[-1] <= min(X.indices.size, X.data.size)
    if inside and edges[-1] > 0:
        stored = X.indices[: int(edges[-1])]
        inside = int(xp.min(stored)) >= 0 and int(xp.max(stored)) < d
    if not inside:
        raise ValueError(
            f"X is no valid CSR matrix of shape {X.shape}: column indices have to be from 0 to {d - 1}, and indptr "
            "must rise from 0 to the number of entries. X.check_format() says what is wrong."
        )


def _each_once(X: Any) -> Any:
    """Sparse rows with no entry stored in two parts, which would have two squares; a copy only if there is one."""
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def _is_matrix(x: Any, min_samples: int = 1) -> bool:
    """Whether all checks of x but those of its values would pass."""
    if type(x) is not np.ndarray or x.ndim != 2 or x.dtype not in (np.float32, np.float64):
        return False
    return x.shape[0] >= max(1, min_samples) and x.shape[1] >= 1


def _is_plain(x: Any, min_samples: int = 1) -> bool:
    """Whether x is a matrix that all checks would pass and give back as it is; they cost more than a small fit."""
    if not _is_matrix(x, min_samples):
        return False
    with np.errstate(all="ignore"):
        if x.dtype == np.float32:
            return bool(np.isfinite(x.sum()))
        return max(float(x.max()), -float(x.min())) <= LARGEST  # NaN is not


def _as_in_fit(X: np.ndarray, estimator: Any) -> bool:
    return X.shape[1] == estimator.n_features_in_ and not hasattr(estimator, "feature_names_in_")


def _check_magnitude(values: Any, name: str) -> None:
    """Refuse what overflows float64 when it is squared and added up; float32 and integers never do."""
    if "float32" in str(values.dtype) or "float" not in str(values.dtype) or 0 in values.shape:
        return
    xp = namespace(values)
    largest = float(xp.maximum(xp.max(values), -xp.min(values)))
    if largest > LARGEST:
        raise ValueError(
            f"{name} has values of magnitude {largest:.3g}, but sums of squares of values above {LARGEST:g} "
            "overflow float64. Scale the data to a moderate range first."
        )


def _check_device_rows(X: Any, estimator: Any, reset: bool, min_samples: int) -> Any:
    """The same checks on an array of another namespace, where it lives; one flag is read back."""
    _check_shape(X, min_samples)
    _check_values(X, X.dtype)
    if "bool" in str(X.dtype):
        X = namespace(X).astype(X, namespace(X).float64)
    if estimator is not None:
        _check_feature_count(X, estimator, reset)
    return X


def _check_sparse_device_rows(X: Any, estimator: Any, reset: bool, min_samples: int) -> Any:
    """The same of CuPy's sparse rows: CSR of float32 or float64, as scikit-learn makes of SciPy's."""
    _check_shape(X, min_samples)
    _check_values(X.data, X.dtype)
    X = X.tocsr()
    if X.dtype.name not in ("float32", "float64"):
        X = X.astype(np.float64)
    _check_places(X)
    if estimator is not None:
        _check_feature_count(X, estimator, reset)
    return _each_once(X)


def _check_shape(X: Any, min_samples: int) -> None:
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead. Reshape your data either using "
            "reshape(X, (-1, 1)) if it has a single feature or reshape(X, (1, -1)) if it is a single sample."
        )
    if X.shape[0] < min_samples or X.shape[1] < 1:
        kind, length = ("sample", X.shape[0]) if X.shape[0] < min_samples else ("feature", X.shape[1])
        least = min_samples if kind == "sample" else 1
        raise ValueError(
            f"Found array with {length} {kind}(s) (shape={tuple(X.shape)}) while a minimum of {least} is required."
        )


def _check_values(values: Any, dtype: Any) -> None:
    xp, name = namespace(values), str(dtype)
    if "complex" in name:
        raise ValueError(f"Complex data not supported\nX has dtype {name}; pass its real part or its modulus.")
    if "float" in name and not bool(xp.all(xp.isfinite(values))):
        what = "NaN" if bool(xp.any(xp.isnan(values))) else "infinity"
        raise ValueError(f"Input X contains {what}.\nRemove or fill those rows before clustering.")
    _check_magnitude(values, "X")


def _check_feature_count(X: Any, estimator: Any, reset: bool) -> None:
    if reset:
        estimator.n_features_in_ = X.shape[1]
        estimator.__dict__.pop("feature_names_in_", None)  # an array has no names
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )


def check_same_home(X: Any, fitted: Any, call: str) -> None:
    """Refuse, while scikit-learn's array API dispatch is on, rows that do not live where the results of the fit do.

    Parameters
    ----------
    X : array-like
        As given, before `check_rows`.
    fitted : array
    call : str
        The method for the text of the error, such as "KMeans.predict".
    """
    if not get_config()["array_api_dispatch"]:
        return
    here, there = home_of(X).name, home_of(fitted).name
    if here != there:
        raise ValueError(
            f"Inputs passed to {call}() must use the same namespace and the same device as those passed to fit(). "
            f"They are on {here}, but what was fitted is on {there}. Move them there, or switch array_api_dispatch "
            "off: then any rows are accepted, and results go where the rows are."
        )


def check_weights(sample_weight: Any, X: Any) -> np.ndarray | None:
    """Weights as float64 on the host, (n,), or None for ones.

    Raises
    ------
    ValueError
        For weights that are negative, not finite, all zero, or of the wrong length.
    """
    if sample_weight is None:
        return None
    sample_weight = _on_host(sample_weight)
    stand_in = X if isinstance(X, np.ndarray) else np.empty((X.shape[0], 1))
    weights = _check_sample_weight(sample_weight, stand_in, dtype=np.float64, ensure_non_negative=True)
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not 0 < total < np.inf:
        raise ValueError(
            f"sample_weight sums to {total:g}, but the total must be positive and finite. "
            "Give at least one row a positive weight, of moderate size."
        )
    return weights


def check_n_clusters(n_samples: int, n_clusters: int) -> None:
    """Refuse more clusters than rows."""
    if n_samples < n_clusters:
        raise ValueError(f"n_samples={n_samples} should be >= n_clusters={n_clusters}.")


def check_centers(centers: Any, X: Any, n_clusters: int) -> np.ndarray:
    """Initial centres as float64 of shape (k, d) on the host, rounded to the dtype of the results.

    Raises
    ------
    ValueError
        If the shape does not fit X and n_clusters, or values are not finite.
    """
    centers, dtype = _on_host(centers), result_dtype(X)
    exact = centers.astype(np.float64, order="C") if _is_matrix(centers) and centers.dtype == dtype else None
    if exact is None or not np.vdot(exact, exact) <= LARGEST:  # so no value is too large, nor is one not a number
        centers = check_array(centers, dtype=dtype, order="C", input_name="init")
        _check_magnitude(centers, "init")
        exact = centers.astype(np.float64, order="C")
    wanted = n_clusters, X.shape[1]
    if exact.shape != wanted:
        axis = int(exact.shape[0] == n_clusters)
        what = ("the number of clusters", "the number of features of the data")[axis]
        raise ValueError(f"The shape of the initial centers {exact.shape} does not match {what} {wanted[axis]}.")
    return exact


def check_labels(labels: Any, n_samples: int | None, name: str = "labels") -> np.ndarray:
    """Labels of any type, (n,), on the host; of any number for None."""
    labels = column_or_1d(_on_host(labels))
    if n_samples is not None and labels.shape[0] != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {[n_samples, labels.shape[0]]}\n"
            f"{name} needs one entry for each of the {n_samples} rows, but has {labels.shape[0]}."
        )
    return labels


def _on_host(x: Any) -> Any:
    """An array of whatever package as a NumPy array; anything else, frames and lists, as it is."""
    return to_host(x) if type(x) is not np.ndarray and (is_device_array(x) or is_foreign(x)) else x
