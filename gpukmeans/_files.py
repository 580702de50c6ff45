"""Files for the command line: reading DATA as it stands, and writing results whole or not at all.

Every complaint is an `InputError`: one line that says what was given, what is allowed and what to
do next. Choosing columns and checking numbers is the work of `_tables`.
"""

from __future__ import annotations

import difflib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._threads import uninterrupted

BUILT_IN = ("blobs", "iris", "wine", "breast_cancer", "digits")
FILE_KINDS = (".csv", ".tsv", ".parquet", ".npy", ".npz")

_SHOWN = 6  # names in a message before "and N more"


class InputError(ValueError):
    """Something the user gave cannot be used; the text is one line, written for them."""


class Source(NamedTuple):
    """Columns as they were read, before any of them is chosen."""

    name: str
    columns: tuple[str, ...]
    named: bool  # False where the names x0, x1, ... are ours, not the data's
    values: Any  # (n, d) array, or a pandas DataFrame
    y: np.ndarray | None = None
    y_name: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_frame(self) -> bool:
        """Whether the values are a DataFrame."""
        return not isinstance(self.values, np.ndarray)


def quoted(names: Iterable[Any], shown: int = _SHOWN) -> str:
    """Names for a message: the first few in quotes, then how many more there are."""
    names = [short(str(name)) for name in names]
    text = ", ".join(f"'{name}'" for name in names[:shown])
    return text + (f" and {len(names) - shown} more" if len(names) > shown else "")


def count(number: int, noun: str) -> str:
    """'1 row', '1,234 rows'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short(text: str, width: int = 40) -> str:
    """Text on one line, cut to `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def _generated(n_columns: int) -> tuple[str, ...]:
    return tuple(f"x{j}" for j in range(n_columns))


# --- reading ----------------------------------------------------------------------------------


def open_source(data: str) -> Source:
    """Read a file or a built-in data set, without choosing or checking columns."""
    if data in BUILT_IN:
        return _blobs() if data == "blobs" else _from_sklearn(data)
    path = Path(data)
    suffix = path.suffix.lower()
    check_file(path, hint=f"; built-in data: {', '.join(BUILT_IN)}" + did_you_mean(data, BUILT_IN))
    if suffix not in FILE_KINDS:
        kind = f"of the kind {suffix!r}, which is not known" if suffix else "without a suffix"
        raise InputError(f"{data} is a file {kind}; give a file ending in {', '.join(FILE_KINDS)}")
    read = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}.get(suffix, _read_csv)
    try:
        return read(path)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{data} does not fit in memory") from None
    except Exception as error:  # a damaged file raises whatever the reader stumbles over
        reason = short(str(error) or type(error).__name__, 150)
        raise InputError(f"cannot read {data} as a {suffix} file: {reason}") from error


def check_file(path: Path, hint: str = "") -> None:
    """Complain unless path is a regular file that may be read and holds something."""
    try:
        if not path.exists():
            raise InputError(f"there is no file {str(path)!r}{hint}")
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise InputError(f"{path} is {kind}; give the path of a file")
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot open {path}: {error.strerror}") from error
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read; check its permissions")
    if size == 0:
        raise InputError(f"{path} is empty")


def read_json(path: Path) -> Any:
    """What a JSON file holds; an InputError that names the file if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, or no JSON
        reason = short(str(error), 100)
        raise InputError(f"{path.name} is damaged, or not a file of results: it is no JSON ({reason})") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error text that names the closest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _blobs() -> Source:
    from sklearn.datasets import make_blobs

    centers = [(1, 1), (-1, -1), (1, -1)]
    X, y = make_blobs(n_samples=500, centers=centers, cluster_std=0.4, random_state=2)
    return Source("blobs", _generated(2), False, X, y, "blob")


def _from_sklearn(name: str) -> Source:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    y_name = {"iris": "species", "wine": "cultivar", "breast_cancer": "diagnosis", "digits": "digit"}[name]
    y = bunch.target_names[bunch.target]
    return Source(name, tuple(map(str, bunch.feature_names)), True, bunch.data, y, y_name)


def check_magic(path: Path, magic: bytes, kind: str) -> None:
    """np.load takes any unknown bytes for a pickle and says so; say what is really wrong."""
    with path.open("rb") as file:
        if file.read(len(magic)) != magic:
            raise InputError(f"{path} is not {kind}, or is damaged")


def _read_npy(path: Path) -> Source:
    check_magic(path, b"\x93NUMPY", "an NPY file")
    try:
        values = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise _pickled(str(path), error) from error
    values = _matrix(values, str(path))
    return Source(path.name, _generated(values.shape[1]), False, values)


def _pickled(what: str, error: ValueError) -> ValueError:
    if "allow_pickle" not in str(error):
        return error
    hint = "save plain numbers instead, as in np.save(path, X.astype(float))"
    return InputError(f"{what} holds Python objects (a pickle), which are not loaded because they can run code; {hint}")


def _read_npz(path: Path) -> Source:
    check_magic(path, b"PK", "an NPZ file")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        names = archive.files
        if "gpukmeans_schema" in names:
            raise InputError(f"{path} is a gpukmeans model, not data; use it as in: gpukmeans predict {path} DATA")
        key = _data_key(path, archive)
        values = _matrix(_member(path, archive, key), f"array {key!r} in {path}")
        y_name = next((name for name in ("y", "target", "labels") if name in names and name != key), None)
        y = _member(path, archive, y_name) if y_name else None
    if y is not None and y.shape != (len(values),):
        raise InputError(
            f"{path}: array {y_name!r} has shape {y.shape}, but {key!r} has {count(len(values), 'row')}; "
            f"labels need the shape ({len(values)},)"
        )
    return Source(path.name, _generated(values.shape[1]), False, values, y, y_name)


def _member(path: Path, archive: Any, key: str) -> np.ndarray:
    try:
        return archive[key]
    except ValueError as error:
        raise _pickled(f"array {key!r} in {path}", error) from error


def _data_key(path: Path, archive: Any) -> str:
    """The array that holds the rows: X, data, or the only two-dimensional one."""
    for key in ("X", "data"):
        if key in archive.files:
            return key
    flat = [key for key in archive.files if _member(path, archive, key).ndim == 2]
    if len(flat) != 1:
        found = "no two-dimensional array" if not flat else f"{len(flat)} two-dimensional arrays ({quoted(flat)})"
        raise InputError(f"{path} has {found} and none called 'X' or 'data'; name the data array 'X'")
    return flat[0]


def _matrix(values: np.ndarray, what: str) -> np.ndarray:
    """The array as (n_samples, n_features); one dimension is taken as one column."""
    if values.dtype.names:
        raise InputError(f"{what} holds records (a structured array); save its numbers as a plain 2-D array")
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise InputError(f"{what} has shape {values.shape}; rows and columns (2 dimensions) are needed")
    return values


def _pandas(kind: str) -> Any:
    try:
        with uninterrupted():
            import pandas
    except ImportError as error:
        extra = "pandas and pyarrow" if kind == "Parquet" else "pandas"
        raise InputError(f"reading {kind} needs {extra}: python -m pip install 'gpukmeans[report]'") from error
    return pandas


def _read_parquet(path: Path) -> Source:
    pandas = _pandas("Parquet")
    try:
        with uninterrupted():
            import pyarrow  # noqa: F401
    except ImportError as error:
        raise InputError(
            "reading Parquet needs pandas and pyarrow: python -m pip install 'gpukmeans[report]'"
        ) from error
    frame = pandas.read_parquet(path, engine="pyarrow")
    return Source(path.name, tuple(map(str, frame.columns)), True, frame)


def _read_csv(path: Path) -> Source:
    """A CSV or TSV file; a first line of numbers only is data, not a header."""
    pandas = _pandas("CSV")
    shape = _csv_shape(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        try:
            first = pandas.read_csv(path, header=None, nrows=1, dtype=str, **shape)
            headed = not all(_is_number(field, shape["decimal"]) for field in first.iloc[0])
            # index_col=False: rows longer than the header must not turn their first field into an index
            header = 0 if headed else None
            frame = pandas.read_csv(path, header=header, index_col=False, low_memory=False, **shape)
        except pandas.errors.ParserWarning as error:
            raise InputError(f"{path}: the rows have more fields than the header line has names") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    if headed:
        return Source(path.name, tuple(map(str, frame.columns)), True, frame)
    note = "the first line is all numbers, so it was taken as data; the columns are called x0, x1, ..."
    return Source(path.name, _generated(frame.shape[1]), False, frame, notes=(note,))


def _csv_shape(path: Path) -> dict[str, str]:
    """Encoding, separator and decimal mark: commas, tabs, or semicolons (then often with decimal commas)."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head, row = file.readline(), file.readline()
    sep = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    comma = sep == ";" and "," in row and "." not in row
    return {"encoding": "utf-8-sig", "sep": sep, "decimal": "," if comma else "."}


def _is_number(field: Any, decimal: str) -> bool:
    try:
        return not np.isnan(float(str(field).replace(decimal, ".")))
    except ValueError:
        return False


# --- writing ----------------------------------------------------------------------------------


def check_folder(folder: Path, names: Iterable[str] = ()) -> None:
    """Complain early about an output folder that cannot be made or written to."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: {folder} is a file; give a folder")
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"--out: {folder} cannot be made, because {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"--out: {place} may not be written to; choose another folder")
    taken = [name for name in names if (folder / name).is_dir()]
    if taken:
        raise InputError(f"--out: {folder} has a folder called {taken[0]!r}, where a file of that name is to go")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files under temporary names, then give them their own: no file is ever half there.

    Raises
    ------
    InputError
        If the folder or a file cannot be written; what was begun is removed again.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    begun: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            temporary = folder / f".{name}.{os.getpid()}.tmp"
            begun[temporary] = folder / name
            temporary.write_bytes(content)
        for temporary, final in begun.items():
            temporary.replace(final)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        for temporary in begun:
            temporary.unlink(missing_ok=True)
        _remove_empty(made)


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that were made for files which then could not be written."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # it holds the results, or was never made
            return
