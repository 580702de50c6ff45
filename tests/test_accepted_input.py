"""What is accepted works: every form of the same values gives the result of a C-contiguous float array."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.cluster
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gpukmeans import KMeans, k_means, kmeans_plusplus
from gpukmeans._kernels.cpu import native
from gpukmeans.metrics import silhouette_samples

K = 4


def make_rows() -> np.ndarray:
    """Four groups of different sizes: (203, 3) float64."""
    rng = np.random.default_rng(11)
    centers = np.array([[0.0, 9.0, 1.0], [7.0, -3.0, 2.0], [-8.0, 1.0, 12.0], [3.0, 4.0, -9.0]])
    y = rng.choice(K, size=203, p=[0.4, 0.3, 0.2, 0.1])
    return centers[y] + rng.normal(size=(203, 3))


X = make_rows()
WHOLE = np.rint(X * 4)  # from -47 to 61: fits into int8
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
WEIGHTS = np.random.default_rng(2).random(203) + 0.1


def content(data: Any) -> bytes:
    """All bytes of the values, and of the names if they have any."""
    if isinstance(data, pd.DataFrame):
        data = data.to_dict("list")
    elif isinstance(data, pl.DataFrame):
        data = data.to_dict(as_series=False)
    return pickle.dumps(data)


def like_a_plain_array(rows: Any, plain: np.ndarray, **parameters: Any) -> KMeans:
    """Fit and use rows of some form; compare with the same values in a C-contiguous array."""
    assert plain.flags.c_contiguous
    assert plain.dtype in (np.float64, np.float32)
    parameters = {"n_clusters": K, "random_state": 0, **parameters}
    expected, model = KMeans(**parameters).fit(plain), KMeans(**parameters)
    before = content(rows)
    assert model.fit(rows) is model
    assert np.array_equal(model.labels_, expected.labels_)
    assert np.array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert model.cluster_centers_.dtype == plain.dtype
    assert model.n_iter_ == expected.n_iter_
    # on a device rows of other types than float32 and float64 run the array bodies, which sum in another order
    assert model.inertia_ == pytest.approx(expected.inertia_, rel=0 if model.device_ == "cpu" else 1e-12)
    assert np.array_equal(model.predict(rows), expected.labels_)
    close = {"rtol": 1e-12, "atol": 1e-12} if plain.dtype == np.float64 else {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(model.transform(rows), expected.transform(plain), **close)
    assert model.transform(rows).dtype == plain.dtype
    assert model.score(rows) == -model.inertia_
    assert np.array_equal(model.fit_predict(rows), expected.labels_)
    assert content(rows) == before
    for array in (model.labels_, model.cluster_centers_):
        assert type(array) is np.ndarray
        assert array.flags.writeable
        assert array.dtype.isnative
    return model


# --- memory layouts and dtypes ------------------------------------------------------------------


def strided(rows: np.ndarray) -> np.ndarray:
    """Every third row and every second column of something larger."""
    large = np.full((3 * len(rows), 2 * rows.shape[1]), 99, rows.dtype)
    large[::3, ::2] = rows
    return large[::3, ::2]


def backwards(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows[::-1, ::-1])[::-1, ::-1]


def read_only(rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows.flags.writeable = False
    return rows


def unaligned(rows: np.ndarray) -> np.ndarray:
    rows = np.frombuffer(b"x" + rows.tobytes(), np.uint8)[1:].view(rows.dtype).reshape(rows.shape)
    assert not rows.flags.aligned
    return rows


def packed(rows: np.ndarray) -> np.ndarray:
    """A field of records: steps between rows that are no multiple of the size of a number."""
    records = np.zeros(len(rows), [("mark", "i1"), ("row", rows.dtype, rows.shape[1:])])
    records["row"] = rows
    return records["row"]


LAYOUTS = [np.asfortranarray, strided, backwards, read_only, unaligned, packed]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    plain = X.astype(dtype)
    like_a_plain_array(layout(plain), plain)


@pytest.mark.parametrize("layout", [np.asfortranarray, strided, backwards])
def test_layouts_of_integers(layout):
    like_a_plain_array(layout(WHOLE.astype(np.int16)), WHOLE)


@pytest.mark.parametrize("dtype", [">f8", np.longdouble, object, ">i4", "i1", "i2", "i4", "i8", "f2"])
def test_dtypes(dtype):
    like_a_plain_array(WHOLE.astype(dtype), WHOLE)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", ">u2"])
def test_unsigned_dtypes(dtype):
    """Differences of unsigned numbers must not wrap around."""
    rows = WHOLE - WHOLE.min()
    assert rows.max() < 256
    like_a_plain_array(rows.astype(dtype), rows)


def test_big_endian_and_long_doubles_keep_their_digits():
    like_a_plain_array(X.astype(">f8"), X)
    like_a_plain_array(X.astype(np.longdouble), X)
    like_a_plain_array(X.astype(">f4"), X.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_the_whole_range_of_small_integers(dtype):
    """Differences and squares leave the range of the dtype."""
    limits = np.iinfo(dtype)
    rows = np.random.default_rng(3).integers(limits.min, limits.max, size=(151, 2), endpoint=True).astype(dtype)
    rows[:2] = [[limits.min, limits.max], [limits.max, limits.min]]
    like_a_plain_array(rows, rows.astype(np.float64))


def test_float16_beyond_the_root_of_its_largest_value():
    rows = (X * 4000).astype(np.float16)
    assert np.square(rows.max(), dtype=float) > np.finfo(np.float16).max
    like_a_plain_array(rows, rows.astype(np.float64))


@pytest.mark.parametrize("dtype", ["i4", "i8", "u4", "u8"])
def test_integers_that_float32_cannot_tell_apart(dtype):
    """Groups one apart, above 2**24: in float32 they would be the same rows."""
    group = np.random.default_rng(4).integers(0, 3, size=(97, 1))
    rows = np.hstack([2**24 + group, 2**26 - group]).astype(dtype)
    assert len(np.unique(rows.astype(np.float32), axis=0)) < len(np.unique(rows, axis=0)) == 3
    model = like_a_plain_array(rows, rows.astype(np.float64), n_clusters=3)
    assert model.inertia_ == 0.0
    assert set(zip(model.labels_.tolist(), group.ravel().tolist(), strict=True)) == {
        (label, int(group[model.labels_ == label][0, 0])) for label in range(3)
    }


def test_integers_near_the_end_of_64_bits():
    rows = WHOLE.astype(np.int64) * 2**56
    like_a_plain_array(rows, rows.astype(np.float64))
    unsigned = (WHOLE - WHOLE.min()).astype(np.uint64) * np.uint64(2**56)
    assert unsigned.max() > 2**62
    like_a_plain_array(unsigned, unsigned.astype(np.float64))


def test_booleans():
    rows = np.random.default_rng(5).random((190, 6)) < [0.1, 0.9, 0.5, 0.5, 0.3, 0.7]
    like_a_plain_array(rows, rows.astype(np.float64))


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_memory_mapped_files(tmp_path, mode):
    path = tmp_path / "rows.bin"
    path.write_bytes(X.tobytes())
    rows = np.memmap(path, mode=mode, dtype=np.float64, shape=X.shape)
    like_a_plain_array(rows, X)
    del rows
    assert path.read_bytes() == X.tobytes()


def test_npy_opened_as_a_map(tmp_path):
    np.save(tmp_path / "rows.npy", np.asfortranarray(X.astype(np.float32)))
    like_a_plain_array(np.load(tmp_path / "rows.npy", mmap_mode="r"), X.astype(np.float32))


def lists_of_tuples(rows: np.ndarray) -> list:
    return [tuple(row) for row in rows.tolist()]


@pytest.mark.parametrize("make", [np.ndarray.tolist, list, tuple, lists_of_tuples])
def test_sequences(make):
    like_a_plain_array(make(X), X)


def test_lists_of_whole_numbers_and_booleans():
    like_a_plain_array(WHOLE.astype(int).tolist(), WHOLE)
    like_a_plain_array((X > 0).tolist(), (X > 0).astype(float), n_clusters=2)


@pytest.mark.parametrize("copy_x", [True, False])
@pytest.mark.parametrize("init", ["k-means++", "random", X[[3, 50, 100, 150]], lambda X, k, random_state: X[:k]])
def test_rows_and_centres_are_never_written_to(copy_x, init):
    rows, before = X.copy(), content(init) if isinstance(init, np.ndarray) else None
    model = KMeans(K, init=init, n_init=1, copy_x=copy_x, random_state=0).fit(rows, sample_weight=WEIGHTS)
    k_means(rows, K, init=init, n_init=1, copy_x=copy_x, sample_weight=WEIGHTS)
    kmeans_plusplus(rows, K, sample_weight=WEIGHTS)
    silhouette_samples(rows, model.labels_)
    model.cluster_centers_ += 1  # results share no memory with what was given
    model.labels_ += 1
    assert rows.tobytes() == X.tobytes()
    assert before is None or content(init) == before


# --- data frames --------------------------------------------------------------------------------


def frames() -> dict[str, tuple[Any, np.ndarray]]:
    mixed = FRAME.assign(b=WHOLE[:, 1].astype(np.int64))
    values = mixed.to_numpy(np.float64)
    whole = pd.DataFrame(WHOLE, columns=["a", "b", "c"])
    return {
        "float64": (FRAME, X),
        "float32": (FRAME.astype(np.float32), X.astype(np.float32)),
        "integers": (whole.astype(np.int32), WHOLE),
        "integers and floats": (mixed, values),
        "float32 and float64": (FRAME.assign(b=WHOLE[:, 1].astype(np.float32)), values),
        "booleans and floats": (FRAME.assign(b=X[:, 1] > 0), np.column_stack([X[:, 0], X[:, 1] > 0, X[:, 2]])),
        "Float64": (FRAME.astype("Float64"), X),
        "Int64": (whole.astype("Int64"), WHOLE),
        "Float64 and Int64": (FRAME.astype("Float64").assign(b=WHOLE[:, 1].astype(int)).astype({"b": "Int64"}), values),
        "Arrow": (FRAME.astype("float64[pyarrow]"), X),
        "objects": (FRAME.astype(object), X),
        "categories of numbers": (whole.assign(b=pd.Categorical(WHOLE[:, 1])), WHOLE),
        "every second row": (pd.concat([FRAME, FRAME]).sort_index(kind="stable")[::2], X),
        "polars": (pl.DataFrame(X, schema=["a", "b", "c"]), X),
        "polars float32": (pl.DataFrame(X.astype(np.float32), schema=["a", "b", "c"]), X.astype(np.float32)),
        "polars integers and floats": (pl.DataFrame(mixed), values),
    }


@pytest.mark.parametrize("name", frames())
def test_frames(name):
    rows, plain = frames()[name]
    model = like_a_plain_array(rows, np.ascontiguousarray(plain))
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert model.n_features_in_ == 3


def test_names_are_those_of_the_last_fit():
    model = KMeans(K, random_state=0).fit(FRAME)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        assert np.array_equal(model.predict(X), model.labels_)
    model.fit(X)
    assert not hasattr(model, "feature_names_in_")
    model.fit(pd.DataFrame(X))  # numbered columns are no names
    assert not hasattr(model, "feature_names_in_")


def test_names_are_forgotten_with_device_rows():
    xp = pytest.importorskip("array_api_strict")
    model = KMeans(K, random_state=0).fit(FRAME)
    assert not hasattr(model.fit(xp.asarray(X)), "feature_names_in_")


# --- awkward data -------------------------------------------------------------------------------


def warned(model: Any, rows: np.ndarray) -> str:
    """The text of the one warning of a fit."""
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(rows)
    (warning,) = caught
    if isinstance(model, KMeans):
        assert warning.filename == __file__  # it points at the call, not into the package
    return str(warning.message)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e6, 1e30, 1e-30])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_constant_data(value, dtype):
    rows = np.full((57, 3), value, dtype)
    model = KMeans(1).fit(rows)
    assert model.inertia_ == 0.0
    assert np.array_equal(model.cluster_centers_, rows[:1])
    several = KMeans(3, random_state=0)
    assert warned(several, rows) == warned(sklearn.cluster.KMeans(3, random_state=0), np.ones((57, 3)))
    assert several.inertia_ == 0.0
    assert set(several.labels_) == {0}
    assert np.array_equal(several.cluster_centers_, rows[:3])
    assert np.array_equal(several.predict(rows), several.labels_)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "fractions"])
@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("k", [6, 40])
def test_fewer_different_rows_than_clusters(init, k, whole):
    rng = np.random.default_rng(6)
    different = rng.normal(size=(5, 2)) * 100
    different = np.rint(different) if whole else different
    which = np.concatenate([np.arange(5), rng.choice(5, size=66, p=[0.5, 0.2, 0.15, 0.1, 0.05])])
    rows = different[which]
    model = KMeans(k, init=init, random_state=0)
    text = warned(model, rows)
    assert text == warned(sklearn.cluster.KMeans(k, init=init, random_state=0), rows)
    assert text.startswith(f"Number of distinct clusters (5) found smaller than n_clusters ({k}).")
    assert len(set(zip(which, model.labels_, strict=True))) == 5 == len(set(model.labels_))
    # A mean of copies of a fraction is rounded; a mean of copies of a whole number is not.
    rounding = 0.0 if whole else 2**-49 * np.abs(rows).max()
    assert model.inertia_ <= rows.size * rounding**2
    assert model.cluster_centers_.shape == (k, 2)
    gaps = np.abs(model.cluster_centers_[:, None, :] - different).max(axis=2)
    assert (gaps.min(axis=1) <= rounding).all()  # every centre is one of the rows
    assert (gaps.min(axis=0) <= rounding).all()  # every row has a centre
    assert model.transform(rows).shape == (71, k)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
def test_a_cluster_for_every_row(dtype):
    rows = np.unique(WHOLE[:41], axis=0).astype(dtype)
    n = len(rows)
    for init in ("k-means++", "random", rows):
        model = KMeans(n, init=init, n_init=1, random_state=0).fit(rows)
        assert sorted(model.labels_) == list(range(n))
        assert model.inertia_ == 0.0
        assert np.array_equal(model.cluster_centers_[model.labels_], rows)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, bool])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_one_row(dtype, init):
    row = np.array([[3, 0, 1]]).astype(dtype)
    model = KMeans(1, init=init).fit(row)
    assert (model.labels_.tolist(), model.inertia_, model.n_iter_) == ([0], 0.0, 1)
    assert np.array_equal(model.cluster_centers_, row)
    assert model.predict(np.array([[9.0, 9.0, 9.0]])).tolist() == [0]


def test_one_feature():
    model = like_a_plain_array(X[:, :1], np.ascontiguousarray(X[:, :1]))
    assert model.cluster_centers_.shape == (K, 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_cluster(dtype):
    rows = X.astype(dtype)
    model = KMeans(1, random_state=0).fit(rows)
    assert set(model.labels_) == {0}
    np.testing.assert_allclose(model.cluster_centers_[0], rows.mean(axis=0, dtype=np.float64), rtol=1e-6)
    assert model.inertia_ == pytest.approx(((rows - rows.mean(axis=0, dtype=np.float64)) ** 2).sum(), rel=1e-7)


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (np.float32, 1e30),
        (np.float32, 1e-30),
        pytest.param(np.float32, 1e-37, marks=pytest.mark.host),  # CUDA code of CuPy takes values below 1e-38 for zero
        (np.float64, 1e100),
        (np.float64, 1e-100),
    ],
)
@pytest.mark.parametrize("init", ["k-means++", "random", "array"])
def test_scale(dtype, factor, init):
    """Squares of these leave the range of the dtype."""
    factor = 2.0 ** np.round(np.log2(factor))  # so that scaling is exact
    plain = X.astype(dtype)
    rows = plain * dtype(factor)
    inits = {"init": plain[[3, 50, 100, 150]] if init == "array" else init, "n_init": 1, "random_state": 1}
    expected = KMeans(K, **inits).fit(plain)
    if init == "array":
        inits["init"] = inits["init"] * dtype(factor)
    model = KMeans(K, **inits).fit(rows)
    assert np.array_equal(model.labels_, expected.labels_)
    assert model.n_iter_ == expected.n_iter_
    assert np.array_equal(model.predict(rows), expected.labels_)
    rtol = 1e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(model.cluster_centers_ / dtype(factor), expected.cluster_centers_, rtol=rtol)
    np.testing.assert_allclose(model.transform(rows) / dtype(factor), expected.transform(plain), rtol=rtol)
    assert model.inertia_ / factor / factor == pytest.approx(expected.inertia_, rel=rtol)
    assert model.score(rows) == -model.inertia_


@pytest.mark.parametrize("factor", [2.0**20, 2.0**-20, 2.0**-100, 2.0**-400])
def test_scale_of_new_rows(factor):
    """Rows and centres of very different size."""
    model = KMeans(K, random_state=0).fit(X)
    rows = X * factor
    expected = ((rows[:, None, :] - model.cluster_centers_) ** 2).sum(axis=2)
    assert np.array_equal(model.predict(rows), expected.argmin(axis=1))
    np.testing.assert_allclose(model.transform(rows), np.sqrt(expected), rtol=1e-9)
    assert model.score(rows) == pytest.approx(-expected.min(axis=1).sum())


# --- weights ------------------------------------------------------------------------------------


FORMS = {
    "list": list,
    "tuple": tuple,
    "pandas": pd.Series,
    "polars": pl.Series,
    "pandas, in another order of labels": lambda w: pd.Series(w, index=np.arange(len(w))[::-1]),
    "read-only": read_only,
    "every second": lambda w: np.repeat(w, 2)[::2],
    "objects": lambda w: w.astype(object),
    "big-endian": lambda w: w.astype(">f8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_weights(form):
    expected = KMeans(K, random_state=0).fit(X, sample_weight=WEIGHTS)
    weights = FORMS[form](WEIGHTS)
    model = KMeans(K, random_state=0).fit(X, sample_weight=weights)
    assert np.array_equal(model.labels_, expected.labels_)
    assert np.array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert model.inertia_ == expected.inertia_
    assert model.score(X, sample_weight=weights) == -model.inertia_
    assert np.array_equal(np.asarray(weights, dtype=float), WEIGHTS)


@pytest.mark.parametrize("weight", [1, 2.5, np.float32(0.5), True])
def test_one_weight_for_all(weight):
    expected = KMeans(K, random_state=0).fit(X, sample_weight=np.full(len(X), float(weight)))
    model = KMeans(K, random_state=0).fit(X, sample_weight=weight)
    assert np.array_equal(model.labels_, expected.labels_)
    assert np.array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert model.inertia_ == expected.inertia_
    assert model.inertia_ == pytest.approx(float(weight) * KMeans(K, random_state=0).fit(X).inertia_)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64])
def test_whole_weights(dtype):
    weights = (np.arange(len(X)) % 3 > 0).astype(dtype)
    model = KMeans(K, random_state=0).fit(X, sample_weight=weights)
    expected = KMeans(K, random_state=0).fit(X, sample_weight=weights.astype(float))
    assert np.array_equal(model.labels_, expected.labels_)
    assert model.inertia_ == expected.inertia_


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("far", [1.0, 1e4])
def test_rows_of_weight_zero_do_not_count(dtype, far):
    rng = np.random.default_rng(8)
    rows = X.astype(dtype)
    order = rng.permutation(len(rows) + 60)
    more = np.concatenate([rows, (rng.normal(size=(60, 3)) * 10 + 500 * far).astype(dtype)])[order]
    weights = np.concatenate([WEIGHTS, np.zeros(60)])[order]
    start = {"init": rows[[3, 50, 100, 150]], "tol": 0}
    expected = KMeans(K, **start).fit(rows, sample_weight=WEIGHTS)
    model = KMeans(K, **start).fit(more, sample_weight=weights)
    rtol = 1e-5 if dtype == np.float32 else 1e-10
    atol = 1e-15 * np.abs(more).max()  # all rows are seen from one point
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=rtol, atol=atol)
    assert model.inertia_ == pytest.approx(expected.inertia_, rel=rtol)
    assert np.array_equal(model.labels_[order < len(rows)], expected.labels_[order[order < len(rows)]])


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_seeds_have_a_positive_weight(init):
    weights = np.where(np.arange(len(X)) % 10 == 0, 1.0, 0.0)
    for seed in range(20):
        model = KMeans(K, init=init, n_init=1, max_iter=1, random_state=seed)
        assert np.isfinite(model.fit(X, sample_weight=weights).cluster_centers_).all()
        _, indices = kmeans_plusplus(X, K, sample_weight=weights, random_state=seed)
        assert (weights[indices] > 0).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_weight_two_is_two_rows(dtype):
    rows = WHOLE.astype(dtype)
    times = np.random.default_rng(9).integers(0, 4, size=len(rows))
    times[[3, 50, 100, 150]] = 1
    start = {"init": WHOLE[[3, 50, 100, 150]], "tol": 0}
    weighted = KMeans(K, **start).fit(rows, sample_weight=times)
    repeated = KMeans(K, **start).fit(np.repeat(rows, times, axis=0))
    assert np.array_equal(np.repeat(weighted.labels_, times), repeated.labels_)
    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-6, atol=1e-6)
    assert weighted.inertia_ == pytest.approx(repeated.inertia_, rel=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("factor", [2.0**200, 2.0**-200])
def test_only_the_ratios_of_weights_matter(factor):
    expected = KMeans(K, random_state=0).fit(X, sample_weight=WEIGHTS)
    model = KMeans(K, random_state=0).fit(X, sample_weight=WEIGHTS * factor)
    assert np.array_equal(model.labels_, expected.labels_)
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-12)
    assert model.inertia_ / factor == pytest.approx(expected.inertia_)


# --- the estimator's methods --------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
def test_methods_agree(dtype, weights):
    rows = WHOLE.astype(dtype)

    def model() -> KMeans:
        return KMeans(K, random_state=0)

    fitted = model().fit(rows, sample_weight=weights)
    assert np.array_equal(fitted.labels_, fitted.predict(rows))
    assert np.array_equal(fitted.labels_, model().fit_predict(rows, sample_weight=weights))
    assert np.array_equal(fitted.transform(rows), model().fit_transform(rows, sample_weight=weights))
    assert np.array_equal(fitted.transform(rows).argmin(axis=1), fitted.labels_)
    assert fitted.score(rows, sample_weight=weights) == -fitted.inertia_
    assert isinstance(fitted.inertia_, float)
    assert isinstance(fitted.n_iter_, int)
    assert fitted.labels_.dtype == np.int32
    centers, labels, inertia, n_iter = k_means(rows, K, sample_weight=weights, random_state=0, return_n_iter=True)
    assert np.array_equal(centers, fitted.cluster_centers_)
    assert np.array_equal(labels, fitted.labels_)
    assert (inertia, n_iter) == (fitted.inertia_, fitted.n_iter_)
    assert model().fit(rows, y="ignored").inertia_ == model().fit(rows).inertia_


def test_one_new_row_at_a_time():
    model = KMeans(K, random_state=0).fit(X)
    assert [int(model.predict(row[None])[0]) for row in X[:50]] == model.labels_[:50].tolist()


def pickled(model: KMeans) -> KMeans:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("carry", [pickled, copy.deepcopy, copy.copy])
def test_copies(carry):
    model = KMeans(K, random_state=0, tol=1e-3).fit(FRAME)
    twin = carry(model)
    assert twin.get_params() == model.get_params()
    assert twin.feature_names_in_.tolist() == ["a", "b", "c"]
    assert twin.device_ == model.device_
    assert (twin.inertia_, twin.n_iter_) == (model.inertia_, model.n_iter_)
    assert np.array_equal(twin.labels_, model.labels_)
    assert np.array_equal(twin.transform(FRAME), model.transform(FRAME))
    twin.fit(FRAME[:50])  # the first is not touched
    assert model.labels_.shape == (203,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_protocols(protocol):
    model = KMeans(K, random_state=0).fit(X)
    assert np.array_equal(pickle.loads(pickle.dumps(model, protocol)).predict(X), model.labels_)


def test_pickle_of_an_unfitted_model():
    opened = pickle.loads(pickle.dumps(KMeans(5, init="random", random_state=3)))
    assert opened.get_params() == KMeans(5, init="random", random_state=3).get_params()


def test_to_the_cpu():
    model = KMeans(K, random_state=0, device="auto").fit(FRAME)
    moved = model.to("cpu")
    assert moved is not model
    assert (moved.device, model.device) == ("cpu", "auto")
    assert np.array_equal(moved.predict(FRAME), model.labels_)
    assert np.array_equal(moved.cluster_centers_, model.cluster_centers_)
    assert KMeans(3).to("cpu").get_params() == KMeans(3, device="cpu").get_params()


def test_parameters():
    changed = {"n_clusters": 3, "init": "random", "n_init": 2, "max_iter": 7, "tol": 0.5, "verbose": 0}
    changed |= {"random_state": 4, "copy_x": False, "algorithm": "elkan", "device": "cpu", "metric": "cosine"}
    model = KMeans().set_params(**changed)
    assert model.get_params() == changed
    theirs = sklearn.cluster.KMeans().get_params()
    ours = KMeans().get_params()
    assert {name: value for name, value in ours.items() if name not in ("device", "metric")} == theirs
    assert repr(KMeans(3, device="cpu")) == "KMeans(device='cpu', n_clusters=3)"
    fresh = clone(model.fit(X))
    assert fresh.get_params() == changed
    assert not hasattr(fresh, "cluster_centers_")


def test_clone_with_an_array_as_init():
    centers = X[[3, 50, 100, 150]]
    model = clone(KMeans(K, init=centers)).fit(X)
    assert np.array_equal(model.labels_, KMeans(K, init=centers).fit(X).labels_)


@pytest.mark.parametrize("make", [np.ndarray.tolist, pd.DataFrame, np.asfortranarray, read_only, strided])
def test_forms_of_initial_centres(make):
    expected = KMeans(K, init=X[[3, 50, 100, 150]]).fit(X)
    model = KMeans(K, init=make(X[[3, 50, 100, 150]])).fit(X)
    assert np.array_equal(model.labels_, expected.labels_)
    assert model.inertia_ == expected.inertia_


def test_a_callable_gets_what_scikit_learn_gives_it():
    """Rows (as they were given), the number of clusters and a RandomState, for each initialisation."""
    seen = []

    def init(rows, n_clusters, random_state):
        seen.append((rows, n_clusters, random_state))
        return rows[random_state.permutation(len(rows))[:n_clusters]]

    KMeans(K, init=init, n_init=3, random_state=5).fit(X)
    assert len(seen) == 3
    for rows, n_clusters, random_state in seen:
        assert np.array_equal(rows, X)
        assert n_clusters == K
        assert random_state is seen[0][2]
        assert isinstance(random_state, np.random.RandomState)


def test_random_state_instances():
    state = np.random.RandomState(0)
    first, second = (KMeans(K, init="random", n_init=1, max_iter=1, random_state=state).fit(X) for _ in range(2))
    again = KMeans(K, init="random", n_init=1, max_iter=1, random_state=np.random.RandomState(0)).fit(X)
    assert first.inertia_ == again.inertia_ != second.inertia_


# --- scikit-learn's house -----------------------------------------------------------------------


def test_pipeline():
    pipe = make_pipeline(StandardScaler(), KMeans(K, random_state=0))
    labels = pipe.fit_predict(FRAME)
    scaled = StandardScaler().fit_transform(FRAME)
    expected = KMeans(K, random_state=0).fit(scaled)
    assert np.array_equal(labels, expected.labels_)
    assert np.array_equal(pipe.predict(FRAME), labels)
    assert pipe.score(FRAME) == -expected.inertia_
    pipe.fit(FRAME, kmeans__sample_weight=WEIGHTS)
    assert pipe[-1].inertia_ == KMeans(K, random_state=0).fit(scaled, sample_weight=WEIGHTS).inertia_
    assert pipe.get_feature_names_out().tolist() == ["kmeans0", "kmeans1", "kmeans2", "kmeans3"]


def test_grid_search():
    grid = {"n_clusters": [2, 3, 4, 5], "init": ["k-means++", "random"]}
    ours = GridSearchCV(KMeans(random_state=0), grid, cv=2).fit(X)
    theirs = GridSearchCV(sklearn.cluster.KMeans(random_state=0), grid, cv=2).fit(X)
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-9)
    assert ours.best_params_ == theirs.best_params_
    assert np.array_equal(ours.best_estimator_.labels_, ours.predict(X))


def test_set_output():
    model = KMeans(K, random_state=0).set_output(transform="pandas")
    rows = FRAME.set_index(np.arange(203) * 7)
    distances = model.fit_transform(rows)
    assert isinstance(distances, pd.DataFrame)
    assert distances.columns.tolist() == model.get_feature_names_out().tolist() == [f"kmeans{i}" for i in range(K)]
    assert distances.index.equals(rows.index)
    assert np.array_equal(distances.to_numpy(), KMeans(K, random_state=0).fit_transform(X))
    assert isinstance(model.predict(rows), np.ndarray)
    assert isinstance(model.set_output(transform="polars").transform(rows), pl.DataFrame)
    assert isinstance(model.set_output(transform="default").transform(rows), np.ndarray)


# --- Ctrl-C -------------------------------------------------------------------------------------

CHILD = """
import json, signal, sys, threading, time
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits
from gpukmeans import KMeans

def blas():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

def ours():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gpukmeans")]

# a shell may have started the tests with SIGINT ignored, which a child inherits
signal.signal(signal.SIGINT, signal.default_int_handler)
runs, during = 0, {}

def init(rows, n_clusters, random_state):
    global runs
    runs += 1
    if runs == 3:  # in the middle of the fit, with all threads started
        during.update(blas=blas(), threads=ours())
        print("fitting", flush=True)
    return rows[random_state.randint(0, len(rows), n_clusters)]

def interrupted(rows):
    model = KMeans(16, init=init, n_init=10**6, random_state=0)
    try:
        model.fit(rows)
    except KeyboardInterrupt:
        return model, ours()

rows = np.random.default_rng(0).normal(size=(300_000, 4))
threadpool_limits(3, user_api="blas")
before = blas()
"""

FROM_OUTSIDE = """
model, left = interrupted(rows)
facts = {"before": before, "during": during, "left": left, "after": blas(), "fitted": hasattr(model, "labels_")}
facts["next"] = KMeans(2, random_state=0).fit([[0.0], [1.0], [9.0]]).inertia_
print(json.dumps(facts), flush=True)
"""

posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")


def run_child(script: str, threads: int, kernels: str) -> subprocess.Popen:
    environment = {
        **os.environ,
        "GPUKMEANS_NUM_THREADS": str(threads),
        "GPUKMEANS_KERNELS": kernels,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.Popen([sys.executable, "-c", CHILD + script], stdout=subprocess.PIPE, text=True, env=environment)


@posix
@pytest.mark.parametrize("kernels", ["1", "numpy"])
@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c_ends_a_fit_and_its_threads(threads, kernels):
    """No thread of Python's stays, BLAS has its old number of threads, nothing looks fitted, and the next fit works."""
    with run_child(FROM_OUTSIDE, threads, kernels) as child:
        try:
            assert child.stdout.readline() == "fitting\n"
            child.send_signal(signal.SIGINT)
            output, _ = child.communicate(timeout=60)  # the fit itself would take days
        finally:
            child.kill()
    assert child.returncode == 0
    facts = json.loads(output)
    assert set(facts["before"]) == {3}
    assert set(facts["during"]["blas"]) == {1}
    compiled = kernels == "1" and native() is not None  # these bring threads that Python does not know
    assert bool(facts["during"]["threads"]) == (threads > 1 and not compiled)
    assert facts["left"] == []
    assert facts["after"] == facts["before"]
    assert facts["fitted"] is False
    assert facts["next"] == 0.5
