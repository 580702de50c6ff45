"""Bad input is refused with a text that says what was given and what is allowed, and nothing is left behind."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import weakref
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
import sklearn.metrics
from scipy import sparse
from sklearn.exceptions import NotFittedError

from gpukmeans import KMeans, k_means, kmeans_plusplus, metrics

X = np.random.default_rng(0).normal(size=(11, 3))
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
LABELS = np.array([0] * 5 + [1] * 6)


def with_value(value: float, dtype: Any = np.float64) -> np.ndarray:
    rows = X.astype(dtype)
    rows[3, 1] = value
    return rows


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def failure(action: Any) -> Exception:
    """The exception that an action ends in."""
    try:
        action()
    except Exception as error:
        return error
    return pytest.fail("nothing was raised")


def content(data: Any) -> bytes:
    """All bytes of the values, and of the names if they have any."""
    if sparse.issparse(data):  # SciPy notes on them what it found out
        data = data.toarray()
    return pickle.dumps(data.to_dict("list") if isinstance(data, pd.DataFrame) else data)


def results_of(model: Any) -> set[str]:
    return {name for name in vars(model) if name.endswith("_")} - {"n_features_in_", "feature_names_in_"}


def refused(rows: Any, error: type[Exception], match: str, weights: Any = None, **parameters: Any) -> Exception:
    """Fit, and check what is raised, that rows and weights are as before and that nothing looks fitted."""
    model = KMeans(**{"n_clusters": 2, "random_state": 0, "n_init": 1, **parameters})
    before = content(rows), content(weights)
    with pytest.raises(error, match=match) as caught:
        model.fit(rows, sample_weight=weights)
    assert (content(rows), content(weights)) == before
    assert results_of(model) == set()
    return caught.value


def scikit_learn_refuses(rows: Any, weights: Any = None, **parameters: Any) -> Exception:
    model = sklearn.cluster.KMeans(**{"n_clusters": 2, "random_state": 0, "n_init": 1, **parameters})
    return failure(lambda: model.fit(rows, sample_weight=weights))


class Case(NamedTuple):
    """Rows that cannot be clustered."""

    rows: Any
    match: str
    error: type[Exception] = ValueError
    parity: bool = True  # the first line is the one of scikit-learn's KMeans


# --- rows ---------------------------------------------------------------------------------------

ROWS = {
    "NaN": Case(with_value(np.nan), r"Input X contains NaN"),
    "NaN float32": Case(with_value(np.nan, np.float32), r"Input X contains NaN"),
    "NaN float16": Case(with_value(np.nan, np.float16), r"Input X contains NaN"),
    "NaN long double": Case(with_value(np.nan, np.longdouble), r"Input X contains NaN"),
    "NaN in a list": Case([[1.0, 2.0], [float("nan"), 3.0]], r"Input X contains NaN"),
    "NaN in a frame": Case(FRAME.mask(FRAME > 1), r"Input X contains NaN"),
    "missing integer": Case(pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64")}), r"Input X contains NaN"),
    "None among objects": Case(np.array([[1, None], [2, 3]], dtype=object), r"Input X contains NaN"),
    "infinity": Case(with_value(np.inf), r"Input X contains infinity.*float64"),
    "minus infinity float32": Case(with_value(-np.inf, np.float32), r"Input X contains infinity.*float32"),
    "infinity float16": Case(with_value(np.inf, np.float16), r"Input X contains infinity.*float16", parity=False),
    "scalar": Case(3.0, r"Expected 2D array, got scalar array"),
    "one dimension": Case(X[:, 0], r"(?s)Expected 2D array, got 1D array instead.*reshape\(-1, 1\)"),
    "three dimensions": Case(X[None], r"Found array with dim 3"),
    "empty list": Case([], r"Expected 2D array, got 1D array"),
    "no rows": Case(X[:0], r"Found array with 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
    "no columns": Case(X[:, :0], r"Found array with 0 feature\(s\) \(shape=\(11, 0\)\) while a minimum of 1"),
    "ragged list": Case([[1.0, 2.0], [3.0]], r"inhomogeneous shape"),
    "strings": Case(np.array([["a", "b"], ["c", "d"]]), r"strings.*[Cc]onvert", parity=False),
    "bytes": Case(np.array([[b"a", b"b"], [b"c", b"d"]]), r"strings.*[Cc]onvert", parity=False),
    "list with text": Case([["a", 1.0], ["b", 2.0]], r"strings.*[Cc]onvert", parity=False),
    "objects with text": Case(np.array([["a", 1.0], ["b", 2.0]], dtype=object), r"string to float: 'a'"),
    "text column": Case(FRAME.assign(b="tall"), r"string to float: 'tall'"),
    "categories": Case(FRAME.assign(b=pd.Categorical(["tall"] * 11)), r"tall|real numbers", parity=False),
    "complex": Case(X + 1j, r"Complex data not supported"),
    "complex list": Case([[1 + 2j, 2.0], [3.0, 4.0]], r"Complex data not supported", parity=False),
    "dates": Case(X.astype("datetime64[D]"), r"datetime64\[D\].*real numbers.*Convert", parity=False),
    "durations": Case(X.astype("timedelta64[s]"), r"timedelta64\[s\].*real numbers.*Convert", parity=False),
    "date columns": Case(
        pd.DataFrame({"t": pd.date_range("2024-05-01", periods=4)}), r"datetime64.*real numbers", parity=False
    ),
    "date among numbers": Case(
        FRAME.assign(t=pd.date_range("2024-05-01", periods=11)), r"(?i)datetime64", (TypeError, ValueError)
    ),
    "column names of two types": Case(
        pd.DataFrame(X, columns=["a", 1, 2]), r"Feature names are only supported if all.*string names", TypeError
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name):
    case = ROWS[name]
    error = refused(case.rows, case.error, case.match)
    if case.parity:
        theirs = scikit_learn_refuses(case.rows)
        assert first_line(error) == first_line(theirs)
        assert isinstance(error, type(theirs))


def spoilt(value, form=sparse.csr_array):
    rows = form(np.where(X > 0, X, 0.0))
    rows.data[3] = value
    return rows


SPARSE = {
    "NaN": Case(spoilt(np.nan), "contains NaN"),
    "infinity": Case(spoilt(np.inf, sparse.csc_matrix), "contains infinity"),
    "huge": Case(spoilt(1e200), "Scale the data", parity=False),
    "complex": Case(spoilt(1.0).astype(complex), "Complex data not supported"),
    "one dimension": Case(sparse.coo_array(X[0]), "2D"),
    "no rows": Case(sparse.csr_array((0, 3)), "minimum of 1 is required"),
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_rows(name):
    case = SPARSE[name]
    error = refused(case.rows, case.error, case.match)
    if case.parity:
        assert first_line(error) == first_line(scikit_learn_refuses(case.rows))
    fitted = KMeans(2, random_state=0).fit(X)
    for action in (fitted.predict, fitted.transform, fitted.score, lambda rows: kmeans_plusplus(rows, 2)):
        with pytest.raises(case.error, match=case.match):
            action(case.rows)
    with pytest.raises(case.error, match=case.match):
        metrics.silhouette_score(case.rows, LABELS)


def too_large(action: Any) -> None:
    """An error that says to scale, and in which the values are numbers."""
    with pytest.raises(ValueError, match=r"[Ss]cale") as caught:
        action()
    assert "inf" not in str(caught.value).split()
    assert "nan" not in str(caught.value).split()


@pytest.mark.parametrize("size", [1e160, 1e200, 1e307])
def test_rows_too_large_to_square(size):
    """One huge value among moderate ones, and all of them huge."""
    for rows in (X * size, with_value(size)):
        refused(rows, ValueError, r"overflow float64.*Scale the data")
        too_large(lambda rows=rows: KMeans(2).fit(rows))
        too_large(lambda rows=rows: kmeans_plusplus(rows, 2, random_state=0))
        too_large(lambda rows=rows: metrics.wcss_curve(rows, [2]))
        too_large(lambda rows=rows: metrics.silhouette_score(rows, LABELS))


@pytest.mark.parametrize("method", ["predict", "transform", "score"])
def test_new_rows_too_large_to_square(method):
    """No made-up label, no distance of zero: rows far beyond those of the fit are refused as in `fit`."""
    model = KMeans(2, random_state=0).fit(X)
    for rows in (X * 1e200, with_value(1e200)):
        too_large(lambda rows=rows: getattr(model, method)(rows))


@pytest.mark.parametrize("centers", [X[:2] * 1e200, lambda X, n_clusters, random_state: X[:n_clusters] * 1e200])
def test_initial_centres_too_large_to_square(centers):
    too_large(lambda: KMeans(2, init=centers, n_init=1).fit(X))


# --- the same rows on a device --------------------------------------------------------------------

DEVICE_ROWS = {
    "NaN": (with_value(np.nan), r"Input X contains NaN\."),
    "NaN float32": (with_value(np.nan, np.float32), r"Input X contains NaN\."),
    "infinity": (with_value(-np.inf), r"Input X contains infinity"),
    "one dimension": (X[:, 0], r"Expected 2D array, got 1D array instead.*reshape"),
    "three dimensions": (X[None], r"3D array|dim 3"),
    "no rows": (X[:0], r"Found array with 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
    "no columns": (X[:, :0], r"Found array with 0 feature\(s\) \(shape=\(11, 0\)\) while a minimum of 1"),
    "complex": (X + 1j, r"Complex data not supported"),
    "too few": (X[:1], r"n_samples=1 should be >= n_clusters=2\."),
    "too large": (X * 1e200, r"overflow float64.*Scale"),
}


@pytest.mark.parametrize("name", DEVICE_ROWS)
def test_device_rows(name):
    """Arrays of other namespaces are checked where they live, in the same words."""
    xp = pytest.importorskip("array_api_strict")
    rows, match = DEVICE_ROWS[name]
    model = KMeans(2, random_state=0)
    with pytest.raises(ValueError, match=match):
        model.fit(xp.asarray(rows))
    assert results_of(model) == set()
    if name != "too few":
        fitted = KMeans(2, random_state=0).fit(X)
        with pytest.raises(ValueError, match=match):
            fitted.predict(xp.asarray(rows))


def test_device_rows_of_another_width():
    xp = pytest.importorskip("array_api_strict")
    model = KMeans(2, random_state=0).fit(xp.asarray(X))
    theirs = failure(lambda: sklearn.cluster.KMeans(2).fit(X).predict(X[:, :2]))
    for method in (model.predict, model.transform, model.score):
        assert str(failure(lambda method=method: method(xp.asarray(X[:, :2])))) == str(theirs)


def test_device_weights():
    xp = pytest.importorskip("array_api_strict")
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(2,\), expected \(11,\)"):
        KMeans(2).fit(xp.asarray(X), sample_weight=xp.asarray([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"Negative values.*sample_weight"):
        KMeans(2).fit(xp.asarray(X), sample_weight=xp.asarray(-LABELS.astype(float)))


# --- parameters ---------------------------------------------------------------------------------

PARAMETERS = [
    *[{"n_clusters": value} for value in (0, -1, 2.5, 2.0, "3", None, [2], np.nan)],
    *[{"init": value} for value in ("kmeans++", "K-Means++", 3, None)],
    *[{"n_init": value} for value in (0, -2, 1.5, "best", None)],
    *[{"max_iter": value} for value in (0, -1, 1.5, "many")],
    *[{"tol": value} for value in (-1e-9, np.nan, np.inf, "fine", None)],
    *[{"random_state": value} for value in ("seed", -1, 1.5)],
    *[{"algorithm": value} for value in ("full", "auto", None)],
    {"copy_x": "yes"},
    {"verbose": -1},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_parameters_in_the_words_of_scikit_learn(parameters):
    ((name, value),) = parameters.items()
    error = refused(X, ValueError, rf"The '{name}' parameter of KMeans must be .*\. Got .* instead\.", **parameters)
    theirs = scikit_learn_refuses(X, **parameters)
    assert type(error) is type(theirs)
    assert set(str(error).split()) == set(str(theirs).split())  # sets of strings have no order
    assert repr(value) in str(error)
    k_means_parameters = {"n_clusters": 2, **parameters}
    with pytest.raises(ValueError, match=rf"The '{name}' parameter of \w+ must be .*\. Got .* instead\."):
        k_means(X, **k_means_parameters)


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_equal_values_that_passed_before_vouch_for_nothing(parameters):
    """Parameters that passed once are not checked again; values that compare equal to them are other values."""
    for good in ({}, {"max_iter": 1}, {"verbose": 1}, {"n_init": 2}, {"tol": 1}, {"random_state": 1}):
        KMeans(2, **good).fit(X)
        refused(X, ValueError, r"parameter of KMeans must be", **parameters)


def test_checked_parameters_are_not_kept_alive():
    class Init:
        def __call__(self, X, n_clusters, random_state):
            return X[:n_clusters]

    init = Init()
    alive = weakref.ref(init)
    KMeans(2, init=init, n_init=1).fit(X)
    del init
    gc.collect()
    assert alive() is None


def test_arrays_are_checked_where_no_array_is_allowed():
    for name in ("n_clusters", "tol", "algorithm", "device", "verbose"):
        error = refused(X, ValueError, rf"The '{name}' parameter of KMeans must be", **{name: np.array([1.0, 2.0])})
        assert "array([1., 2.])" in str(error)


def test_rows_whose_sum_is_beyond_float32_are_rows():
    rows = np.full((4, 2), 3e38, np.float32)
    rows[:2] = 1e38
    assert set(KMeans(2, random_state=0).fit(rows).labels_[[0, 3]]) == {0, 1}
    for bad in (np.nan, np.inf):
        spoiled = rows.copy()
        spoiled[1, 1] = bad
        refused(spoiled, ValueError, "NaN|infinity")


def test_true_is_no_number_of_clusters():
    """A bool passes scikit-learn's check of parameters; whatever then happens is not a fit of True clusters."""
    error = refused(X, (TypeError, ValueError), r"integer|n_clusters", n_clusters=True)
    assert isinstance(scikit_learn_refuses(X, n_clusters=True), (TypeError, ValueError))
    assert str(error)


def test_parameter_that_does_not_exist():
    with pytest.raises(TypeError, match="n_jobs"):
        KMeans(2, n_jobs=4)
    with pytest.raises(ValueError, match=r"Invalid parameter 'k' for estimator KMeans"):
        KMeans(2).set_params(k=3)
    with pytest.raises(TypeError, match="positional"):
        KMeans(2, "random")


@pytest.mark.parametrize("k", [12, 1000])
def test_more_clusters_than_rows(k):
    expected = f"n_samples=11 should be >= n_clusters={k}."
    for init in ("k-means++", "random", X, lambda X, n_clusters, random_state: X):
        error = refused(X, ValueError, "n_samples=11", n_clusters=k, init=init)
        assert str(error) == expected == str(scikit_learn_refuses(X, n_clusters=k, init=init))
    for action in (lambda: k_means(X, k), lambda: kmeans_plusplus(X, k), lambda: metrics.wcss_curve(X, [2, k])):
        assert str(failure(action)) == expected


INITS = {
    "too many rows": (X[:3], r"initial centers \(3, 3\) does not match the number of clusters 2\.", True),
    "too few rows": (X[:1], r"initial centers \(1, 3\) does not match the number of clusters 2\.", True),
    "too few columns": (X[:2, :2], r"\(2, 2\) does not match the number of features of the data 3\.", True),
    "too many columns": (np.ones((2, 4)), r"\(2, 4\) does not match the number of features of the data 3\.", True),
    "one dimension": (X[0], r"Expected 2D array, got 1D array", True),
    "flat list": ([1.0, 2.0], r"Expected 2D array, got 1D array", True),
    "empty": (X[:0], r"Found array with 0 sample\(s\)", True),
    "NaN": (with_value(np.nan)[2:4], r"Input init contains NaN", False),
    "infinity": (with_value(np.inf)[2:4], r"Input init contains infinity", False),
    "text": ([["a"] * 3, ["b"] * 3], r"could not convert string to float: 'a'", True),
    "complex": (X[:2] + 1j, r"Complex data not supported", True),
}


@pytest.mark.parametrize("name", INITS)
def test_initial_centres(name):
    """Arrays, and callables that return them."""
    centers, match, parity = INITS[name]
    before = content(centers)
    error = refused(X, ValueError, match, init=centers)
    assert content(centers) == before
    made = refused(X, ValueError, match, init=lambda X, n_clusters, random_state: centers)
    assert str(made) == str(error)
    if parity:
        assert first_line(error) == first_line(scikit_learn_refuses(X, init=centers))


def test_callables_that_cannot_be_called():
    error = refused(X, TypeError, "random_state", init=lambda X, k: X[:k])
    assert str(error) == str(scikit_learn_refuses(X, init=lambda X, k: X[:k]))
    refused(X, ValueError, r"Expected 2D array, got scalar array", init=lambda X, k, random_state: None)


@pytest.mark.host
def test_an_exception_in_a_callable_comes_through_and_ends_all_threads(monkeypatch):
    monkeypatch.setenv("GPUKMEANS_NUM_THREADS", "3")
    monkeypatch.setenv("GPUKMEANS_KERNELS", "numpy")  # the compiled ones bring threads that Python does not know
    rows = np.random.default_rng(1).normal(size=(140_000, 3))
    runs = []

    def init(X, n_clusters, random_state):
        runs.append([t.name for t in threading.enumerate() if t.name.startswith("gpukmeans")])
        if len(runs) == 2:
            raise LookupError("no centres today")
        return X[:n_clusters]

    model = KMeans(4, init=init, n_init=3, max_iter=2)
    with pytest.raises(LookupError, match="no centres today"):
        model.fit(rows)
    assert runs[1]  # there were threads to end
    assert [t.name for t in threading.enumerate() if t.name.startswith("gpukmeans")] == []
    assert results_of(model) == set()


# --- weights ------------------------------------------------------------------------------------


def weights_with(value: float) -> np.ndarray:
    weights = np.linspace(1.0, 2.0, 11)
    weights[4] = value
    return weights


WEIGHTS = {
    "negative": (weights_with(-1.0), r"Negative values in data passed to `sample_weight`", False),
    "negative scalar": (-2.0, r"Negative values in data passed to `sample_weight`", False),
    "NaN": (weights_with(np.nan), r"Input sample_weight contains NaN", True),
    "NaN in a list": (weights_with(np.nan).tolist(), r"Input sample_weight contains NaN", True),
    "infinity": (weights_with(np.inf), r"Input sample_weight contains infinity", True),
    "all zero": (np.zeros(11), r"at least one non-zero", True),
    "zero scalar": (0, r"at least one non-zero", True),
    "too short": (np.ones(10), r"sample_weight.shape == \(10,\), expected \(11,\)", True),
    "too long": ([1.0] * 12, r"sample_weight.shape == \(12,\), expected \(11,\)", True),
    "empty": ([], r"0 sample\(s\)", True),
    "a column": (np.ones((11, 1)), r"1D array or scalar, got 2D array.*length 11", True),
    "text": (["a"] * 11, r"could not convert string to float: 'a'", True),
    "complex": (np.ones(11) * 1j, r"Complex data not supported", True),
    "too large to add": (np.full(11, 1e308), r"sums to inf.*positive and finite.*moderate", False),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name):
    weights, match, parity = WEIGHTS[name]
    error = refused(X, ValueError, match, weights=weights)
    if parity:
        assert str(error) == str(scikit_learn_refuses(X, weights=weights))
    model = KMeans(2, random_state=0).fit(X)
    for action in (
        lambda: model.score(X, sample_weight=weights),
        lambda: metrics.wcss_curve(X, [2], sample_weight=weights),
        lambda: KMeans(2, init="random").fit_transform(X, sample_weight=weights),
    ):
        assert str(failure(action)) == str(error)
    for ours, theirs in ((k_means, sklearn.cluster.k_means), (kmeans_plusplus, sklearn.cluster.kmeans_plusplus)):
        message = str(failure(lambda ours=ours: ours(X, 2, sample_weight=weights)))
        if np.isscalar(weights):  # these two take no number for all rows
            assert message == str(failure(lambda theirs=theirs: theirs(X, 2, sample_weight=weights)))
        else:
            assert message == str(error)


def test_random_centres_need_as_many_positive_weights():
    weights = np.zeros(11)
    weights[:2] = 1.0
    error = refused(X, ValueError, r"[Ff]ewer non-zero", weights=weights, n_clusters=3, init="random")
    assert first_line(error) == first_line(scikit_learn_refuses(X, weights, n_clusters=3, init="random"))


# --- after a fit ----------------------------------------------------------------------------------

NEW_ROWS = {
    "fewer columns": FRAME[["a", "b"]],
    "more columns": FRAME.assign(d=1.0),
    "another name": FRAME.rename(columns={"a": "z"}),
    "another order": FRAME[["c", "b", "a"]],
    "NaN": FRAME.mask(FRAME > 1),
    "no rows": FRAME.iloc[:0],
}
NEW_ARRAYS = {
    "fewer columns": X[:, :2],
    "more columns": np.ones((2, 4)),
    "one row, not in a list": X[0],
    "no rows": X[:0],
    "infinity": with_value(np.inf),
    "complex": X + 1j,
    "text": np.array([["a", 1.0, 2.0]], dtype=object),
}


@pytest.mark.parametrize("method", ["predict", "transform", "score"])
@pytest.mark.parametrize("name", NEW_ROWS)
def test_new_frames(method, name):
    ours, theirs = KMeans(2, random_state=0).fit(FRAME), sklearn.cluster.KMeans(2, random_state=0).fit(FRAME)
    with pytest.raises(ValueError, match=r"X has|feature names|contains NaN|0 sample") as caught:
        getattr(ours, method)(NEW_ROWS[name])
    assert str(caught.value) == str(failure(lambda: getattr(theirs, method)(NEW_ROWS[name])))


@pytest.mark.parametrize("method", ["predict", "transform", "score"])
@pytest.mark.parametrize("name", NEW_ARRAYS)
def test_new_arrays(method, name):
    ours, theirs = KMeans(2, random_state=0).fit(X), sklearn.cluster.KMeans(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"X has|Expected 2D|contains|0 sample|Complex|could not") as caught:
        getattr(ours, method)(NEW_ARRAYS[name])
    assert str(caught.value) == str(failure(lambda: getattr(theirs, method)(NEW_ARRAYS[name])))


def test_unfitted():
    model = KMeans(2)
    theirs = str(failure(lambda: sklearn.cluster.KMeans(2).predict(X)))
    for method in (model.predict, model.transform, model.score, lambda _: model.get_feature_names_out()):
        with pytest.raises(NotFittedError, match=r"This KMeans instance is not fitted yet\. Call 'fit'") as caught:
            method(X)
        assert str(caught.value) == theirs


FAILING = {
    "too few rows": (X[:1, :2], None, {}),
    "too large": (X[:, :2] * 1e200, None, {}),
    "weights": (X[:, :2], np.zeros(11), {}),
    "init": (X[:, :2], None, {"init": X[:2]}),
    "device": (X[:, :2], None, {"device": "gpu"}),
    "text": (FRAME.assign(d="text"), None, {}),
    "NaN": (with_value(np.nan), None, {}),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failed_first_fit_leaves_nothing(name):
    """The model says that it is not fitted, as if `fit` had not been called."""
    rows, weights, parameters = FAILING[name]
    model = KMeans(2, random_state=0, **parameters)
    failure(lambda: model.fit(rows, sample_weight=weights))
    for method in (model.predict, model.transform, model.score):
        with pytest.raises(NotFittedError, match=r"not fitted yet"):
            method(X)


@pytest.mark.parametrize("name", FAILING)
def test_a_failed_second_fit_leaves_the_first_whole_or_nothing(name):
    """Never the width or names of the rows that failed beside the centres of those before."""
    rows, weights, parameters = FAILING[name]
    model = KMeans(2, random_state=0).fit(FRAME)
    first = model.labels_.copy()
    settings = model.get_params()
    failure(lambda: model.set_params(**parameters).fit(rows, sample_weight=weights))
    model.set_params(**settings)
    if "cluster_centers_" in vars(model):
        assert np.array_equal(model.predict(FRAME), first)
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    else:
        with pytest.raises(NotFittedError):
            model.predict(FRAME)


# --- devices --------------------------------------------------------------------------------------


def calls_with(device: str) -> list[Any]:
    fitted = KMeans(2, random_state=0, device="cpu").fit(X)
    return [
        lambda: KMeans(2, device=device).fit(X),
        lambda: fitted.to(device),
        lambda: KMeans(2, device="cpu").fit(X).set_params(device=device).predict(X),
        lambda: k_means(X, 2, device=device),
        lambda: kmeans_plusplus(X, 2, device=device),
        lambda: metrics.wcss_curve(X, [2], device=device),
        lambda: metrics.silhouette_samples(X, LABELS, device=device),
        lambda: metrics.silhouette_score(X, LABELS, device=device),
    ]


def test_cuda_without_cupy(monkeypatch):
    """The reason, and the extras that bring CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    for device in ("cuda", "cuda:7"):
        match = rf"device='{device}' needs a usable CUDA GPU: CuPy is not installed.*pip install 'gpukmeans\[cuda12x\]'"
        refused(X, RuntimeError, match, device=device)
        for call in calls_with(device):
            with pytest.raises(RuntimeError, match=match):
                call()


def test_cuda_with_cupy_and_no_device():
    from gpukmeans._device import _cuda_state

    pytest.importorskip("cupy")
    count, why_not = _cuda_state()
    if count:
        pytest.skip("there is a usable CUDA device")
    for call in calls_with("cuda"):
        with pytest.raises(RuntimeError, match=r"device='cuda' needs a usable CUDA GPU: .*device='auto'") as caught:
            call()
        assert why_not in str(caught.value)


@pytest.mark.parametrize("device", ["gpu", "CPU", "", "cuda:", "cuda:-1", "cuda:1.0", "cuda:x", "cpu:0", " cuda"])
def test_unknown_devices(device):
    match = rf"device='{device}' is not known\. Give 'auto', 'cpu', 'cuda' or 'cuda:N'"
    refused(X, ValueError, match, device=device)
    for call in calls_with(device):
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize("device", [0, None, ["cpu"]])
def test_devices_that_are_no_text(device):
    refused(X, ValueError, r"The 'device' parameter of KMeans must be an instance of 'str'\. Got", device=device)


def test_device_number_that_does_not_exist(cupy_double):
    for call in calls_with("cuda:7"):
        with pytest.raises(RuntimeError, match=r"device='cuda:7' does not exist: 1 CUDA device\(s\)"):
            call()


# --- seeding on its own -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_local_trials": 0},
        {"n_local_trials": 1.5},
        {"n_clusters": 0},
        {"n_clusters": 2.5},
        {"n_clusters": 12},
        {"random_state": "seed"},
        {"x_squared_norms": np.ones(3)},
        {"x_squared_norms": np.ones((3, 11))},
        {"x_squared_norms": np.full(11, np.nan)},
    ],
    ids=str,
)
def test_kmeans_plusplus(parameters):
    parameters = {"n_clusters": 2, "random_state": 0, **parameters}
    error = failure(lambda: kmeans_plusplus(X, **parameters))
    theirs = failure(lambda: sklearn.cluster.kmeans_plusplus(X, **parameters))
    assert isinstance(error, ValueError)
    assert str(error) == str(theirs)


def test_kmeans_plusplus_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"'n_local_trials'.*\[1, inf\) or None\. Got 0 instead"):
        kmeans_plusplus(X, 2, n_local_trials=0)
    with pytest.raises(ValueError, match=r"length of x_squared_norms 3 .* length of n_samples 11"):
        kmeans_plusplus(X, 2, x_squared_norms=np.ones(3))
    with pytest.raises(ValueError, match=r"Input contains NaN|Input X contains NaN"):
        kmeans_plusplus(with_value(np.nan), 2)


# --- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, 2.5, 2.0, True, "2", None, np.nan])
def test_curve_over_numbers_that_are_none(k):
    """Refused before the first fit, not after hours of it."""
    begun = []

    def progress(ks):
        begun.append(ks)
        return ks

    with pytest.raises(ValueError, match=rf"K={k!r} is not a number of clusters: give whole numbers from 1 to 11"):
        metrics.wcss_curve(X, [2, 3, k], progress=progress)
    with pytest.raises(ValueError, match="n_samples=11 should be >= n_clusters=12"):
        metrics.wcss_curve(X, [2, 12], progress=progress)
    assert begun == []


SILHOUETTES = {
    "one cluster": [7] * 11,
    "a cluster for every row": list(range(11)),
    "too few labels": [0, 1],
    "too many labels": [0, 1] * 6,
    "two columns": np.zeros((11, 2)),
}


@pytest.mark.parametrize("name", SILHOUETTES)
def test_silhouette_labels(name):
    labels = SILHOUETTES[name]
    for ours, theirs in (
        (metrics.silhouette_samples, sklearn.metrics.silhouette_samples),
        (metrics.silhouette_score, sklearn.metrics.silhouette_score),
    ):
        with pytest.raises(ValueError, match=r"Valid values are 2 to n_samples - 1|inconsistent|1d array") as caught:
            ours(X, labels)
        assert first_line(caught.value) == first_line(failure(lambda theirs=theirs: theirs(X, labels)))


def test_silhouette_says_what_is_allowed():
    with pytest.raises(ValueError, match=r"(?s)Number of labels is 1\..*2 to 10 of them"):
        metrics.silhouette_score(X, [0] * 11)
    with pytest.raises(ValueError, match=r"(?s)\[11, 2\].*one entry for each of the 11 rows, but has 2"):
        metrics.silhouette_samples(X, [0, 1])
    with pytest.raises(ValueError, match=r"contains NaN"):
        metrics.silhouette_score(with_value(np.nan), LABELS)
    with pytest.raises(ValueError, match=r"Expected 2D array"):
        metrics.silhouette_score(X[:, 0], LABELS)


@pytest.mark.parametrize("size", [0, -1, 2.5, "all"])
def test_silhouette_sample_size(size):
    with pytest.raises(ValueError, match=rf"sample_size.*{size}"):
        metrics.silhouette_score(X, LABELS, sample_size=size, random_state=0)
    assert "sample_size" in str(failure(lambda: sklearn.metrics.silhouette_score(X, LABELS, sample_size=size)))


MATCHING = [metrics.matched_accuracy, metrics.match_labels, metrics.matched_confusion_matrix]


@pytest.mark.parametrize("function", MATCHING)
def test_matching(function):
    theirs = failure(lambda: sklearn.metrics.accuracy_score([0, 1, 1], [0, 1]))
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 2\]") as caught:
        function([0, 1, 1], [0, 1])
    assert first_line(caught.value) == first_line(theirs)
    assert "3 rows, but has 2" in str(caught.value)
    for y_true, labels in (([[0, 1], [1, 0]], [0, 1]), ([0, 1], [[0, 1], [1, 0]]), (3, 3), (None, [0])):
        with pytest.raises(ValueError, match=r"1d array"):
            function(y_true, labels)


@pytest.mark.parametrize("function", MATCHING)
@pytest.mark.parametrize(
    "empty", [[], np.empty(0, dtype=int), np.empty(0, dtype=object)], ids=["list", "int", "object"]
)
def test_matching_nothing(function, empty):
    """No rows: an accuracy of 0 / 0 is no number."""
    with pytest.raises(ValueError, match=r"empty|0 sample|at least one|minimum of 1"):
        function(empty, empty)
