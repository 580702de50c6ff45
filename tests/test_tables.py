"""Reading DATA: every kind of file, the choice of columns, labels, and what wrong input is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from gpukmeans._files import InputError, check_folder, write_files
from gpukmeans._tables import Scaling, fit_scaling, load, no_scaling

pandas = pytest.importorskip("pandas")

X = np.random.default_rng(5).normal(size=(37, 3)) * [1.0, 30.0, 1e-3]
SPECIES = np.array(["setosa", "virginica"])[(np.arange(37) % 3 == 0).astype(int)]


@pytest.fixture
def frame():
    return pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "species": SPECIES, "c": X[:, 2]})


def text_file(folder: Path, text: str, name: str = "data.csv") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "y_name"),
    [
        ("blobs", (500, 2), 3, "blob"),
        ("iris", (150, 4), 3, "species"),
        ("wine", (178, 13), 3, "cultivar"),
        ("breast_cancer", (569, 30), 2, "diagnosis"),
        ("digits", (1797, 64), 10, "digit"),
    ],
)
def test_built_in_data_come_with_their_labels(name, shape, classes, y_name):
    table = load(name)
    assert table.X.shape == shape
    assert (len(table.columns), table.y_name) == (shape[1], y_name)
    assert table.y.shape == shape[:1]
    assert len(np.unique(table.y)) == classes


def test_iris_classes_have_names():
    assert set(load("iris").y) == {"setosa", "versicolor", "virginica"}


def test_all_kinds_of_file_give_the_same_numbers(tmp_path, frame):
    pytest.importorskip("pyarrow")
    frame.to_csv(tmp_path / "d.csv", index=False)
    frame.to_csv(tmp_path / "d.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "d.parquet")
    np.save(tmp_path / "d.npy", X)
    np.savez(tmp_path / "d.npz", X=X, y=SPECIES)
    for kind in ("csv", "tsv", "parquet", "npy", "npz"):
        label = "species" if kind in ("csv", "tsv", "parquet") else None
        table = load(str(tmp_path / f"d.{kind}"), label=label)
        np.testing.assert_array_equal(table.X, X)
        assert table.X.dtype == np.float64
        if kind != "npy":
            np.testing.assert_array_equal(table.y, SPECIES)
        assert table.columns == (("a", "b", "c") if label else ("x0", "x1", "x2"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [("f2", "f4"), ("f4", "f4"), (">f4", "f4"), ("f8", "f8"), ("i2", "f8"), ("u8", "f8"), ("?", "f8")],
)
def test_single_precision_stays_single(tmp_path, given, kept):
    values = np.arange(12).reshape(6, 2).astype(given)
    np.save(tmp_path / "d.npy", values)
    table = load(str(tmp_path / "d.npy"))
    assert table.X.dtype == np.dtype(kept)
    np.testing.assert_array_equal(table.X, values)


def test_frames_keep_the_common_precision(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": np.arange(4, dtype="f4"), "b": np.arange(4, dtype="i1"), "c": range(4)})
    frame.to_parquet(tmp_path / "d.parquet")
    path = str(tmp_path / "d.parquet")
    assert load(path, columns="a,b").X.dtype == np.float32
    assert load(path).X.dtype == np.float64


def test_nullable_and_boolean_columns_are_numbers(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": pandas.array([1, 2, 3], dtype="Int64"), "b": [True, False, True]})
    frame.to_parquet(tmp_path / "d.parquet")
    np.testing.assert_array_equal(load(str(tmp_path / "d.parquet")).X, [[1, 1], [2, 0], [3, 1]])


def test_columns_are_chosen_in_the_order_asked_for(tmp_path, frame):
    frame = frame.rename(columns={"b": "width, mm"})
    frame.to_csv(tmp_path / "d.csv", index=False)
    table = load(str(tmp_path / "d.csv"), columns='c, "width, mm"', label="species")
    assert table.columns == ("c", "width, mm")
    np.testing.assert_array_equal(table.X, X[:, [2, 1]])


def test_array_columns_are_called_x0_x1(tmp_path):
    np.save(tmp_path / "d.npy", np.column_stack([X, np.arange(37) % 2]))
    table = load(str(tmp_path / "d.npy"), label="x3", columns="x2,x0")
    np.testing.assert_array_equal(table.X, X[:, [2, 0]])
    np.testing.assert_array_equal(table.y, np.arange(37) % 2)
    assert table.y.dtype == np.int64


def test_one_dimension_is_one_column(tmp_path):
    np.save(tmp_path / "d.npy", X[:, 0])
    np.testing.assert_array_equal(load(str(tmp_path / "d.npy")).X, X[:, :1])


def test_npz_takes_the_only_matrix(tmp_path):
    np.savez(tmp_path / "d.npz", rows=X, target=np.arange(37) % 4, other=np.zeros(3))
    table = load(str(tmp_path / "d.npz"))
    np.testing.assert_array_equal(table.X, X)
    assert table.y_name == "target"


def test_a_first_line_of_numbers_is_data(tmp_path):
    table = load(text_file(tmp_path, "1,2\n3,4\n5,7\n"))
    np.testing.assert_array_equal(table.X, [[1, 2], [3, 4], [5, 7]])
    assert table.columns == ("x0", "x1")
    assert "first line is all numbers" in table.notes[0]


def test_semicolons_with_decimal_commas(tmp_path):
    table = load(text_file(tmp_path, "\ufeffa;b\n1,5;2\n3,25;4\n5;7\n"))
    np.testing.assert_array_equal(table.X, [[1.5, 2], [3.25, 4], [5, 7]])
    assert table.columns == ("a", "b")


def test_a_row_index_is_not_guessed(tmp_path):
    """A field more in every row than in the header must not silently become an index."""
    with pytest.raises(InputError, match="more fields than the header"):
        load(text_file(tmp_path, "a,b\n1,2,3\n4,5,6\n7,8,9\n"))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["u", "v", "u"], np.array(["u", "v", "u"])),
        (["2", "10", "2"], np.array([2, 10, 2])),
        (["1.0", "0.0", "1.0"], np.array([1, 0, 1])),
        (["0.5", "1.5", "0.5"], np.array([0.5, 1.5, 0.5])),
        (["True", "False", "True"], np.array([True, False, True])),
    ],
)
def test_labels_may_be_text_numbers_or_booleans(tmp_path, labels, expected):
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(labels))
    y = load(text_file(tmp_path, "a,kind\n" + rows), label="kind").y
    assert y.dtype.kind == expected.dtype.kind
    np.testing.assert_array_equal(y, expected)


def test_categories_and_bytes_are_text(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": [1.0, 2, 3], "kind": pandas.Categorical(["u", "v", "u"])})
    frame.to_parquet(tmp_path / "d.parquet")
    np.savez(tmp_path / "d.npz", X=X[:3], y=np.array([b"u", b"v", b"u"]))
    assert load(str(tmp_path / "d.parquet"), label="kind").y.tolist() == ["u", "v", "u"]
    assert load(str(tmp_path / "d.npz")).y.tolist() == ["u", "v", "u"]


def test_missing_values_are_named_counted_and_located(tmp_path):
    path = text_file(tmp_path, "a,b\n1,2\n3,\n,7\n1,inf\n4,\n")
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert "column 'a' has 1 missing value (row 3)" in message
    assert "column 'b' has 2 missing and 1 infinite values (rows 2, 4, 5)" in message
    assert "data rows count from 1" in message


def test_long_lists_are_cut(tmp_path):
    values = np.full((50, 6), np.nan)
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(InputError, match=r"50 missing values \(rows 1, 2, 3, 4, 5, 6, \.\.\.\).*3 more columns"):
        load(str(tmp_path / "d.npy"))


def test_missing_labels_are_an_error(tmp_path):
    with pytest.raises(InputError, match=r"label column 'kind' has 1 missing value \(row 2\)"):
        load(text_file(tmp_path, "a,kind\n1,u\n2,\n3,v\n"), label="kind")
    np.savez(tmp_path / "d.npz", X=X[:3], y=[0, np.nan, 1])
    with pytest.raises(InputError, match=r"label column 'y' has 1 missing value \(row 2\)"):
        load(str(tmp_path / "d.npz"))


def test_an_identifier_is_no_label(tmp_path):
    np.savez(tmp_path / "d.npz", X=np.zeros((1500, 1)), y=np.arange(1500))
    with pytest.raises(InputError, match="1,500 different values"):
        load(str(tmp_path / "d.npz"))


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,b\n", {}, "has no rows"),
        ("", {}, "is empty"),
        (
            "a,b\n1,2\n3,oops\n",
            {},
            "column 'b' is not numeric: row 2 holds 'oops'. Choose numeric columns with",
        ),
        ("a,b,c\n1,x,y\n2,x,y\n", {}, "nor is 'c'"),
        ("a,kind\n1,u\n2,v\n", {}, "--label kind"),
        ("a,kind\n1,u\n2,v\n", {"label": "kin"}, "did you mean 'kind'?"),
        ("a,kind\n1,u\n2,v\n", {"columns": "a,z"}, "has no column 'z'"),
        ("a,kind\n1,u\n2,v\n", {"columns": "a,a"}, "more than once"),
        ("a,kind\n1,u\n2,v\n", {"columns": " , "}, "names no column"),
        ("a,kind\n1,3\n2,4\n", {"columns": "a,kind", "label": "kind"}, "both the label and in --columns"),
        ("kind\nu\nv\n", {"label": "kind"}, "no columns besides the label"),
        ("a,b\n1,2\n3,4,5\n", {}, "Expected 2 fields in line 3, saw 3"),
    ],
)
def test_wrong_csv_is_told_what_is_wrong(tmp_path, text, options, words):
    with pytest.raises(InputError) as caught:
        load(text_file(tmp_path, text), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((2, 2, 2)), "has shape (2, 2, 2)"),
        (np.zeros((0, 2)), "has no rows"),
        (np.ones((4, 2), complex), "complex128"),
        (np.array([["u", "v"]]), "real numbers are needed"),
        (np.zeros(3, [("a", float)]), "structured"),
        (np.array([[None, 1]], dtype=object), "a pickle"),
    ],
)
def test_wrong_arrays_are_told_what_is_wrong(tmp_path, values, words):
    np.save(tmp_path / "d.npy", values, allow_pickle=True)
    with pytest.raises(InputError) as caught:
        load(str(tmp_path / "d.npy"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"p": X, "q": X}, "2 two-dimensional arrays ('p', 'q')"),
        ({"p": np.zeros(3)}, "no two-dimensional array"),
        ({"X": X, "y": np.zeros(36)}, "array 'y' has shape (36,), but 'X' has 37 rows"),
        ({"X": X, "y": np.array([None] * 37)}, "array 'y'"),
        ({"X": X, "gpukmeans_schema": 1}, "is a gpukmeans model"),
    ],
)
def test_wrong_archives_are_told_what_is_wrong(tmp_path, arrays, words):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError) as caught:
        load(str(tmp_path / "d.npz"))
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 0.98])
def test_half_written_files_are_refused(tmp_path, frame, kind, share):
    whole = tmp_path / f"whole.{kind}"
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(whole)
    else:
        np.save(whole, X) if kind == "npy" else np.savez(whole, X=X)
    content = whole.read_bytes()
    part = tmp_path / f"part.{kind}"
    part.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError) as caught:
        load(str(part))
    assert "part" in str(caught.value)


def test_an_absurd_size_in_a_header_is_no_crash(tmp_path):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999, 3), }".ljust(117) + "\n"
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.encode())
    with pytest.raises(InputError, match=r"d\.npy"):
        load(str(tmp_path / "d.npy"))


def test_paths_that_are_no_data_file(tmp_path):
    for name, words in (
        (str(tmp_path / "no.csv"), "there is no file"),
        (str(tmp_path), "is a folder"),
        ("iriss", "did you mean 'iris'?"),
        (text_file(tmp_path, "1", "d.xlsx"), ".xlsx"),
        (text_file(tmp_path, "1", "plain"), "without a suffix"),
        (text_file(tmp_path, "hello", "d.npy"), "is not an NPY file"),
    ):
        with pytest.raises(InputError) as caught:
            load(name)
        assert words in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files(tmp_path):
    path = text_file(tmp_path, "a\n1\n")
    os.chmod(path, 0)
    with pytest.raises(InputError, match="may not be read"):
        load(path)


def test_without_pandas_arrays_are_read_and_csv_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # import pandas now fails as if not installed
    np.save(tmp_path / "d.npy", X)
    np.testing.assert_array_equal(load(str(tmp_path / "d.npy")).X, X)
    assert load("wine").X.shape == (178, 13)
    for name, package in (("d.csv", "pandas"), ("d.parquet", "pandas and pyarrow")):
        with pytest.raises(InputError) as caught:
            load(text_file(tmp_path, "a\n1\n", name))
        assert f"needs {package}: python -m pip install 'gpukmeans[report]'" in str(caught.value)


# --- scaling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaling_is_scikit_learns_over_several_blocks(dtype):
    rows = (np.random.default_rng(3).normal(size=(140_001, 2)) * [1, 50] + [1e3, -7]).astype(dtype)
    scaling = fit_scaling(rows, ["a", "b"])
    expected = StandardScaler().fit(rows.astype(np.float64))
    np.testing.assert_allclose(scaling.mean, expected.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaling.scale, expected.scale_, rtol=1e-12)
    scaled = scaling.apply(rows)
    assert scaled.dtype == dtype
    np.testing.assert_allclose(scaled, expected.transform(rows.astype(np.float64)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scaling.invert(scaled[:5]), rows[:5], rtol=1e-6)


def test_a_constant_column_has_scale_one():
    rows = np.column_stack([np.arange(9.0), np.full(9, 0.1)])
    scaling = fit_scaling(rows, ["a", "b"])
    assert scaling.scale[1] == 1
    np.testing.assert_allclose(scaling.apply(rows)[:, 1], 0, atol=1e-15)


def test_no_scaling_copies_nothing():
    assert no_scaling(3).apply(X) is X
    assert Scaling(np.zeros(3), np.array([1.0, 1.0, 2.0])).apply(X) is not X


def test_values_too_large_to_standardise_are_named():
    with pytest.raises(InputError, match="values of 'b' are too large"):
        fit_scaling(np.column_stack([np.arange(3.0), [1e200, -1e200, 0]]), ["a", "b"])


# --- writing ----------------------------------------------------------------------------------


def test_files_are_written_whole_with_the_usual_permissions(tmp_path):
    folder = tmp_path / "new" / "deeper"
    write_files(folder, {"a.txt": b"one", "b.txt": b"two"})
    write_files(folder, {"a.txt": b"three"})
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"]
    assert (folder / "a.txt").read_bytes() == b"three"
    (tmp_path / "plain").write_bytes(b"")
    assert (folder / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="cannot write to"):
        write_files(tmp_path / "new" / "deeper", {"a.txt": b"one", "no/such/folder.txt": b"two"})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept.txt").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write to"):
        write_files(tmp_path, {"a.txt": b"one", "no/such/folder.txt": b"two"})
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_folders_that_cannot_be_written_are_found_early(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "out" / "labels.csv").mkdir(parents=True)
    for folder, words in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "deeper", "cannot be made"),
        (tmp_path / "out", "has a folder called 'labels.csv'"),
    ):
        with pytest.raises(InputError) as caught:
            check_folder(folder, ["labels.csv"])
        assert words in str(caught.value)
    check_folder(tmp_path / "new" / "deeper", ["labels.csv"])
    assert not (tmp_path / "new").exists()
