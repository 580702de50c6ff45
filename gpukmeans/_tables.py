"""Tables for the command line: columns chosen from DATA, checked to be finite numbers, and scaled.

Row numbers in messages count data rows from 1; a header line is not counted.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ._files import InputError, Source, count, did_you_mean, open_source, quoted, short

# A label column names a few classes; with more than this it is an identifier or a measurement,
# and a confusion matrix of it would not fit anywhere.
MAX_CLASSES = 1000

_ROWS_SHOWN = 6
_BLOCK = 65_536  # rows scaled at a time: no copy of the data in float64


@dataclass(frozen=True, eq=False)
class Table:
    """Finite numbers ready to be clustered, and the labels if there are any.

    `X` has shape (n_samples, n_features) and is float32 where the data are, float64 otherwise;
    `y` has shape (n_samples,).
    """

    name: str
    X: np.ndarray
    columns: tuple[str, ...]
    y: np.ndarray | None = None
    y_name: str | None = None
    notes: tuple[str, ...] = ()


def load(data: str, *, label: str | None = None, columns: str | Sequence[str] | None = None) -> Table:
    """Read DATA and check it.

    Parameters
    ----------
    data : str
        A path ending in one of `FILE_KINDS`, or one of `BUILT_IN`.
    label : str, optional
        The column that holds the known classes; it is kept out of the features.
    columns : str or sequence of str, optional
        The feature columns ("a,b,c", quoted as in CSV where a name has a comma); default all others.

    Raises
    ------
    InputError
        If the data cannot be read, or are not finite numbers.

    Examples
    --------
    >>> from gpukmeans._tables import load
    >>> iris = load("iris")
    >>> iris.X.shape, iris.y_name
    ((150, 4), 'species')
    """
    return table(open_source(data), label=label, columns=columns)


# --- choosing and checking --------------------------------------------------------------------


def table(source: Source, *, label: str | None = None, columns: str | Sequence[str] | None = None) -> Table:
    """Choose the feature columns and the labels of a source, and check both (see `load`)."""
    if len(source.values) == 0:
        raise InputError(f"{source.name} has no rows")
    y, y_name = _labels(source, label)
    chosen = _wanted(source, y_name, columns)
    X = _frame_numbers(source, chosen) if source.is_frame else _array_numbers(source, chosen)
    _check_finite(X, [source.columns[j] for j in chosen], source.name)
    return Table(source.name, X, tuple(source.columns[j] for j in chosen), y, y_name, source.notes)


def _position(source: Source, name: str, option: str) -> int:
    if name in source.columns:
        return source.columns.index(name)
    raise InputError(
        f"{option}: {source.name} has no column {short(name)!r}{did_you_mean(name, source.columns)}"
        f"; its columns: {quoted(source.columns, 12)}"
    )


def _wanted(source: Source, y_name: str | None, columns: str | Sequence[str] | None) -> list[int]:
    """Positions of the feature columns: those asked for, or all but the label."""
    if columns is None:
        chosen = [j for j, name in enumerate(source.columns) if name != y_name]
        if not chosen:
            raise InputError(f"{source.name} has no columns besides the label column {y_name!r}")
        return chosen
    names = next(csv.reader([columns], skipinitialspace=True)) if isinstance(columns, str) else list(columns)
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise InputError("--columns names no column; give them as a,b,c")
    doubled = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if doubled:
        raise InputError(f"--columns names {quoted(doubled)} more than once")
    if y_name in names and y_name in source.columns:
        raise InputError(f"column {y_name!r} is both the label and in --columns; leave it out of one of them")
    return [_position(source, name, "--columns") for name in names]


def _array_numbers(source: Source, chosen: list[int]) -> np.ndarray:
    values = source.values
    if values.dtype.kind not in "fiub":
        raise InputError(f"{source.name} holds {values.dtype} values; real numbers are needed")
    if chosen != list(range(values.shape[1])):
        values = values[:, chosen]
    return values.astype(_float_type(values.dtype), copy=False)


def _float_type(dtype: np.dtype) -> np.dtype:
    """float32 for float16 and float32 (the precision the user chose), float64 for all else."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def _frame_numbers(source: Source, chosen: list[int]) -> np.ndarray:
    """The chosen columns of a DataFrame as one array; filled column by column, so never held twice."""
    series = [source.values.iloc[:, j] for j in chosen]
    text = [i for i, column in enumerate(series) if not _is_numeric(column)]
    if text:
        raise InputError(_text_message(source, chosen, series, text))
    dtypes = [getattr(column.dtype, "numpy_dtype", column.dtype) for column in series]
    X = np.empty((len(source.values), len(chosen)), _float_type(np.result_type(*set(dtypes))))
    for i, column in enumerate(series):
        X[:, i] = column.to_numpy(dtype=X.dtype, na_value=np.nan)
    return X


def _is_numeric(column: Any) -> bool:
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    return is_numeric_dtype(column.dtype) and not is_complex_dtype(column.dtype)


def _text_message(source: Source, chosen: list[int], series: list[Any], text: list[int]) -> str:
    names = [source.columns[j] for j in chosen]
    column, name = series[text[0]], names[text[0]]
    row, value = _first_text(column)
    what = f"column {short(name)!r} is not numeric: row {row:,} holds {short(str(value), 30)!r}"
    if len(text) > 1:
        what += f"; nor is {quoted([names[i] for i in text[1:]])}"
    numeric = [names[i] for i in range(len(names)) if i not in set(text)]
    example = ",".join(numeric) if 0 < len(numeric) <= 4 else "a,b,c"
    classes = f"--label {name}" if len(text) == 1 and source.y is None and " " not in name else "--label"
    return f"{what}. Choose numeric columns with --columns {example}, or name the known classes with {classes}"


def _first_text(column: Any) -> tuple[int, Any]:
    """Row (from 1) and value of the first entry that is no number."""
    import pandas

    numbers = pandas.to_numeric(column.astype(object), errors="coerce")
    wrong = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    at = int(wrong[0]) if len(wrong) else 0
    return at + 1, column.iloc[at]


def _rows(mask: np.ndarray) -> str:
    at = np.flatnonzero(mask)
    listed = ", ".join(f"{row + 1}" for row in at[:_ROWS_SHOWN]) + (", ..." if len(at) > _ROWS_SHOWN else "")
    return f"row{'' if len(at) == 1 else 's'} {listed}"


def _check_finite(X: np.ndarray, names: Sequence[str], where: str) -> None:
    """Name the columns with missing or infinite values, how many, and in which rows."""
    finite = np.isfinite(X)
    if finite.all():
        return
    bad = np.flatnonzero(~finite.all(axis=0))
    parts = []
    for j in bad[:3]:
        missing = int(np.isnan(X[:, j]).sum())
        infinite = len(X) - int(finite[:, j].sum()) - missing
        kinds = [f"{n:,} {kind}" for n, kind in ((missing, "missing"), (infinite, "infinite")) if n]
        values = "value" if missing + infinite == 1 else "values"
        what = f"column {short(names[j])!r} has {' and '.join(kinds)} {values}"
        parts.append(f"{what} ({_rows(~finite[:, j])})")
    if len(bad) > 3:
        parts.append(f"{count(len(bad) - 3, 'more column')} likewise")
    advice = "Fill them in or drop those rows (data rows count from 1, the header is not one)"
    raise InputError(f"{where}: {'; '.join(parts)}. {advice}")


# --- labels -----------------------------------------------------------------------------------


def _labels(source: Source, label: str | None) -> tuple[np.ndarray | None, str | None]:
    """The labels and their name: the column asked for, or what came with the data."""
    if label is None or label == source.y_name:
        name, values = source.y_name, source.y
    else:
        name = label
        j = _position(source, label, "--label")
        values = source.values.iloc[:, j] if source.is_frame else source.values[:, j]
    if values is None:
        return None, None
    y = _label_values(values, str(name))
    classes = len(np.unique(y))
    if classes > MAX_CLASSES:
        raise InputError(
            f"label column {name!r} has {classes:,} different values; known classes: at most {MAX_CLASSES:,}"
        )
    return y, name


def _label_values(values: Any, name: str) -> np.ndarray:
    """Labels as bool, int64, float64 or text, without missing values."""
    missing = np.asarray(values.isna()) if hasattr(values, "isna") else _missing(values)
    if missing.any():
        raise InputError(
            f"label column {name!r} has {count(int(missing.sum()), 'missing value')} ({_rows(missing)}); "
            "fill them in or drop those rows ('NA' and 'None' in a CSV count as missing)"
        )
    kind = getattr(values.dtype, "numpy_dtype", values.dtype)
    array = np.asarray(values if getattr(kind, "kind", "O") not in "fiub" else values.astype(kind))
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        whole = np.array_equal(array, np.trunc(array)) and np.abs(array).max() < 2**53
        return array.astype(np.int64 if whole else np.float64)
    return np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array.astype(str)


def _missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "mM":
        return np.isnat(values)
    return np.isnan(values) if values.dtype.kind in "fc" else np.zeros(len(values), bool)


# --- scaling ----------------------------------------------------------------------------------


class Scaling(NamedTuple):
    """Standardisation `(x - mean) / scale`: two float64 arrays of shape (n_features,)."""

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, X: np.ndarray) -> np.ndarray:
        """X standardised, in its own dtype; X itself if there is nothing to do."""
        if not self.mean.any() and (self.scale == 1).all():
            return X
        scaled = np.empty(X.shape, X.dtype)
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, start + _BLOCK)
            scaled[rows] = (X[rows].astype(np.float64) - self.mean) / self.scale
        return scaled

    def invert(self, centers: np.ndarray) -> np.ndarray:
        """Centres in the units of the data, float64."""
        return np.asarray(centers, np.float64) * self.scale + self.mean


def no_scaling(n_features: int) -> Scaling:
    """Leaves the data as they are."""
    return Scaling(np.zeros(n_features), np.ones(n_features))


def fit_scaling(X: np.ndarray, columns: Sequence[str]) -> Scaling:
    """Means and standard deviations as scikit-learn's StandardScaler: a constant column has scale 1.

    Raises
    ------
    InputError
        If a column is so large that its variance overflows.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    with np.errstate(all="ignore"):
        for start in range(0, len(X), _BLOCK):
            scaler.partial_fit(X[start : start + _BLOCK])
    huge = ~np.isfinite(scaler.var_) | ~np.isfinite(scaler.mean_)
    if huge.any():
        names = quoted([name for name, bad in zip(columns, huge, strict=True) if bad])
        raise InputError(f"the values of {names} are too large to standardise; divide them by a power of ten first")
    return Scaling(scaler.mean_, scaler.scale_)


def sample_rows(n_samples: int, size: int, seed: int) -> np.ndarray:
    """Indices of a seeded sample of rows without repeats, in ascending order."""
    return np.sort(np.random.default_rng(seed).choice(n_samples, size, replace=False))
