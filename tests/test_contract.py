"""Member by member as the installed scikit-learn; what differs is in differences.py, and nothing else does.

Each comparison gives the names of what differs; together they have to be those of the record. A difference that is not
recorded fails, and so does a record of what no longer differs, or a table in the docs that says otherwise.
"""

from __future__ import annotations

import dataclasses
import inspect
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
from differences import DIFFERENCES, table
from lender import Lent
from scipy import sparse
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

import gpukmeans

CLASSES = ["KMeans", "MiniBatchKMeans"]
NAMES = [*CLASSES, "k_means", "kmeans_plusplus"]
RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 3)) + RNG.choice(3, size=(60, 1)) * [7.0, 4.0, 1.0]
WEIGHTS = RNG.random(60) + 0.1
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
TESTS = pathlib.Path(__file__).parent


def both(name: str) -> tuple[Any, Any]:
    return getattr(gpukmeans, name), getattr(sklearn.cluster, name)


# --- what there is --------------------------------------------------------------------------------


def parameters(thing: Any) -> dict[str, tuple[Any, Any]]:
    return {p.name: (p.kind, p.default) for p in inspect.signature(thing).parameters.values()}


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """Names that only one has, or whose values differ."""
    for name in [*ours, *(theirs.keys() - ours.keys())]:
        if name not in ours or name not in theirs or ours[name] != theirs[name]:
            yield name


def differing_parameters() -> Iterator[str]:
    for name in NAMES:
        ours, theirs = map(parameters, both(name))
        assert [p for p in ours if p in theirs] == list(theirs), "another order"
        yield from (f"parameter {name} {p}" for p in compared(ours, theirs))


def methods(K: Any) -> set[str]:
    return {name for name, _ in inspect.getmembers(K, callable) if not name.startswith("_")}


def differing_methods() -> Iterator[str]:
    for name in CLASSES:
        ours, theirs = both(name)
        yield from (f"method {name} {method}" for method in methods(ours) ^ methods(theirs))
        for method in methods(ours) & methods(theirs):
            if parameters(getattr(ours, method)) != parameters(getattr(theirs, method)):
                yield f"signature {name}.{method}"


def results(model: Any) -> dict[str, tuple[Any, ...]]:
    """Public fitted attributes: their type, dtype and shape."""
    public = {name: v for name, v in vars(model).items() if name.endswith("_") and not name.startswith("_")}
    return {name: (type(v), getattr(v, "dtype", None), getattr(v, "shape", None)) for name, v in public.items()}


DTYPES = [np.float64, np.float32, np.float16, np.int64, np.uint8, bool, np.longdouble]


def rows_of(dtype: Any) -> np.ndarray:
    return (X > 3).astype(dtype) if dtype is bool else np.abs(X * 4).astype(dtype)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_of_results(name, dtype):
    rows = rows_of(dtype)
    ours, theirs = (K(2, random_state=0).fit(rows) for K in both(name))
    assert set(compared(results(ours), results(theirs))) == {"device_"}
    for method in ("predict", "transform", "fit_predict", "fit_transform", "get_feature_names_out"):
        a, b = (getattr(m, method)(*([] if "names" in method else [rows])) for m in (ours, theirs))
        assert (type(a), a.dtype, a.shape) == (type(b), b.dtype, b.shape), method
    assert type(ours.score(rows)) is type(theirs.score(rows)) is float
    if name == "MiniBatchKMeans":
        ours, theirs = (K(2, random_state=0).partial_fit(rows) for K in both(name))
        assert set(compared(results(ours), results(theirs))) == {"device_"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_types_of_results_of_functions(dtype):
    rows = rows_of(dtype)
    if dtype is not np.uint8:  # which overflows in scikit-learn's
        for a, b in zip(*(f(rows, 2, random_state=0) for f in both("kmeans_plusplus")), strict=True):
            assert (type(a), a.dtype, a.shape) == (type(b), b.dtype, b.shape)
    for a, b in zip(*(f(rows, 2, random_state=0, return_n_iter=True) for f in both("k_means")), strict=True):
        assert type(a) is type(b)


class Tensor(Lent):
    """NumPy can read it, but its dtype is not one of NumPy's: as with torch."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(values)
        self.dtype = f"lender.{values.dtype}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=copy)


def differing_results() -> Iterator[str]:
    for name in CLASSES:
        ours, theirs = (K(2, random_state=0).fit(FRAME, sample_weight=WEIGHTS) for K in both(name))
        yield from (f"attribute {name} {attribute}" for attribute in compared(results(ours), results(theirs)))
        assert ours.feature_names_in_.tolist() == theirs.feature_names_in_.tolist()
        kinds = [K(2, random_state=0).fit(Tensor(X.astype(np.float32))).cluster_centers_.dtype for K in both(name)]
        if kinds[0] != kinds[1]:
            yield f"dtype of lent float32 in {name}"


def leaves(tags: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(tags):
        value = getattr(tags, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{path}{field.name}.")
        else:
            yield path + field.name, value


def differing_tags() -> Iterator[str]:
    for name in CLASSES:
        ours, theirs = (dict(leaves(get_tags(K()))) for K in both(name))
        yield from (f"tag {name} {tag}" for tag in compared(ours, theirs))


# --- what it does ---------------------------------------------------------------------------------


def outcome(action: Callable[[], Any]) -> tuple[Any, list[tuple[type, str]]]:
    """None, or the type and the words of the first line of an error; and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
            error = None
        except Exception as raised:
            error = type(raised), sorted(str(raised).partition("\n")[0].split())  # sets of options have no order
    return error, [(warning.category, str(warning.message)) for warning in caught]


def fitted(K: Any, rows: Any, weights: Any = None, **settings: Any) -> Any:
    return K(**{"n_clusters": 2, "random_state": 0, "n_init": 1, **settings}).fit(rows, sample_weight=weights)


def what_a_callable_gets(K: Any) -> list[float]:
    seen: list[float] = []

    def init(rows, n_clusters, random_state):
        seen.extend(rows.mean(axis=0).round(6).tolist())
        return rows[:n_clusters]

    fitted(K, X, init=init)
    return seen


def after_a_failed_fit(K: Any) -> set[str]:
    model = K(100)
    assert outcome(lambda: model.fit(X))[0] is not None
    return {name for name in vars(model) if name.endswith("_")}


def bytes_after(K: Any) -> bytes:
    rows = X.copy()
    fitted(K, rows, copy_x=False)
    return rows.tobytes()


def nan_in_init() -> np.ndarray:
    init = X[:2].copy()
    init[1, 1] = np.nan
    return init


def long_indices() -> sparse.csr_array:
    rows = sparse.csr_array(X)
    rows.indices, rows.indptr = rows.indices.astype(np.int64), rows.indptr.astype(np.int64)
    return rows


def in_two_parts() -> sparse.csr_array:
    rows = sparse.csr_array(X)
    return sparse.csr_array((np.repeat(rows.data / 2, 2), np.repeat(rows.indices, 2), rows.indptr * 2), shape=X.shape)


BEHAVIOURS: dict[str, Callable[[Any], Any]] = {
    "negative weights": lambda K: outcome(lambda: fitted(K, X, weights=-WEIGHTS, init=X[:2]))[0],
    "huge weights": lambda K: outcome(lambda: fitted(K, X, weights=np.full(60, 1e308), init=X[:2]))[0],
    "huge rows": lambda K: outcome(lambda: fitted(K, X * 1e200))[0],
    "numeric text": lambda K: outcome(lambda: fitted(K, X.astype(str)))[0],
    "dates": lambda K: outcome(lambda: fitted(K, X.astype("datetime64[D]")))[0],
    "durations": lambda K: outcome(lambda: fitted(K, X.astype("timedelta64[D]")))[0],
    "sparse rows": lambda K: outcome(lambda: fitted(K, sparse.csr_array(X)))[0],
    "sparse rows with long indices": lambda K: outcome(lambda: fitted(K, long_indices()))[0],
    "entries in two parts": lambda K: round(fitted(K, in_two_parts(), init=X[:2]).inertia_, 9),
    "NaN in init": lambda K: outcome(lambda: fitted(K, X, init=nan_in_init()))[0],
    "after a failed fit": after_a_failed_fit,
    "what a callable gets": what_a_callable_gets,
    "X after copy_x=False": bytes_after,
}


def differing_behaviour() -> Iterator[str]:
    for name in CLASSES:
        ours, theirs = both(name)
        known = {behaviour: of for behaviour, of in BEHAVIOURS.items() if name == "KMeans" or "copy_x" not in behaviour}
        yield from (f"{behaviour} in {name}" for behaviour, of in known.items() if of(ours) != of(theirs))
    lists = [outcome(lambda f=f: f(X.tolist(), 2, random_state=0))[0] for f in both("kmeans_plusplus")]
    if lists[0] != lists[1]:
        yield "kmeans_plusplus of a list"


# --- the record -----------------------------------------------------------------------------------


def test_the_record_is_what_differs():
    found = [
        *(*differing_parameters(), *differing_methods(), *differing_results()),
        *(*differing_tags(), *differing_behaviour()),
    ]
    assert sorted(found) == sorted(name for row in DIFFERENCES for name in row.members)


def test_every_difference_is_shown():
    for row in DIFFERENCES:
        assert bool(row.members) != bool(row.shown_by), row
        if row.shown_by:
            file, _, name = row.shown_by.partition("::")
            assert f"\ndef {name}(" in (TESTS / file).read_text(), row


def test_the_docs_have_the_table_of_the_record():
    page = (TESTS.parent / "docs" / "algorithm.md").read_text().splitlines()
    start = page.index(table()[0])
    assert page[start : start + len(table()) + 1] == [*table(), ""], (
        "put what `python tests/differences.py` prints there"
    )


def test_elkan_is_another_name():
    lloyd, elkan = (gpukmeans.KMeans(3, algorithm=name, random_state=0).fit(X) for name in ("lloyd", "elkan"))
    assert np.array_equal(lloyd.labels_, elkan.labels_)
    assert np.array_equal(lloyd.cluster_centers_, elkan.cluster_centers_)
    assert (lloyd.inertia_, lloyd.n_iter_) == (elkan.inertia_, elkan.n_iter_)


# --- errors ---------------------------------------------------------------------------------------

# True passes scikit-learn's checks of integers and fails somewhere behind them, each time with other words.
VALUES = [None, -1, 0, 2, 1.5, np.nan, np.inf, -np.inf, "no", "auto", b"x", [1], [], (1, 2), {}, object]
VALUES += [np.array(3.0), np.float32(2), np.int64(2), np.bool_(True), [[1, 2, 3], [4, 5, 6]]]
SMALL = {"n_clusters": 2, "random_state": 0}
CALLS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "KMeans": ({**SMALL, "n_init": 1}, list(parameters(sklearn.cluster.KMeans))),
    "MiniBatchKMeans": ({**SMALL, "n_init": 1}, list(parameters(sklearn.cluster.MiniBatchKMeans))),
    "k_means": ({**SMALL, "n_init": 1, "X": X}, list(parameters(sklearn.cluster.k_means))),
    "kmeans_plusplus": ({**SMALL, "X": X}, list(parameters(sklearn.cluster.kmeans_plusplus))),
}


@pytest.mark.parametrize(("name", "parameter"), [(name, p) for name, (_, ps) in CALLS.items() for p in ps if p != "X"])
def test_values_of_parameters(name, parameter, capsys):
    """Refused with the same type of error and the same words, or accepted with the same warnings."""
    for value in VALUES:
        if parameter == "x_squared_norms" and value == {}:
            continue  # NumPy's error in one, scikit-learn's in the other
        if parameter == "reassignment_ratio" and isinstance(value, Real) and value > 1:
            continue  # see the record
        seen = []
        for call in both(name):
            settings = {**CALLS[name][0], parameter: value}
            run = (lambda K=call, s=settings: K(**s).fit(X)) if name in CLASSES else lambda f=call, s=settings: f(**s)
            seen.append(outcome(run))
        assert seen[0] == seen[1], (parameter, value)


@pytest.mark.parametrize("name", ["k_means", "kmeans_plusplus"])
@pytest.mark.parametrize("value", [None, 3, "no", object, np.array(3.0)], ids=str)
def test_what_cannot_be_rows(name, value):
    ours, theirs = (outcome(lambda f=f: f(value, 2)) for f in both(name))
    assert ours == theirs
    assert ours[0] is not None


@pytest.mark.parametrize("name", CLASSES)
def test_unknown_parameters(name):
    for settings in ({"n_jobs": 2}, {"precompute_distances": True}):
        ours, theirs = (outcome(lambda K=K, s=settings: K(**s)) for K in both(name))
        assert ours[0][0] is theirs[0][0] is TypeError
    ours, theirs = (outcome(lambda K=K: K().set_params(k=3)) for K in both(name))
    assert ours[0][0] is theirs[0][0] is ValueError


# --- warnings -------------------------------------------------------------------------------------

COPIES = np.repeat(X[:2], 5, axis=0)
WARNING: dict[str, Callable[[Any], Any]] = {
    "none": lambda K: fitted(K, X),
    "elkan, one cluster": lambda K: fitted(K, X, n_clusters=1, algorithm="elkan"),
    "copies": lambda K: fitted(K, COPIES, n_clusters=4),
    "centres and n_init": lambda K: fitted(K, X, init=X[:2], n_init=3),
    "all at once": lambda K: fitted(K, X * 0, n_clusters=1, init=X[:1], n_init=3, algorithm="elkan"),
    "copies, several runs": lambda K: fitted(K, COPIES, n_clusters=4, init="random", n_init=3),
    "names, then none": lambda K: fitted(K, FRAME).predict(X),
    "none, then names": lambda K: fitted(K, X).transform(FRAME),
    "float16": lambda K: fitted(K, X.astype(np.float16)),
}


OF_BATCHES: dict[str, Callable[[Any], Any]] = {
    **{
        name: WARNING[name]
        for name in ("none", "centres and n_init", "names, then none", "none, then names", "float16")
    },
    "few rows for the start": lambda K: fitted(K, X, n_clusters=5, init_size=3),
    "few rows for the start, array": lambda K: fitted(K, X, init=X[:2], init_size=1, n_init=4),
    "stream": lambda K: K(5, init_size=3, init=X[:5], n_init=2).partial_fit(X).partial_fit(X),
    "stream, names then none": lambda K: K(5, random_state=0).partial_fit(FRAME).partial_fit(X),
}


@pytest.mark.parametrize(
    ("name", "of", "K"),
    [(n, of, "KMeans") for n, of in WARNING.items()] + [(n, of, "MiniBatchKMeans") for n, of in OF_BATCHES.items()],
)
def test_warnings(name, of, K):
    ours, theirs = (outcome(lambda K=K: of(K)) for K in both(K))
    assert ours == theirs
    assert bool(ours[1]) == (name not in ("none", "float16"))


# --- verbose --------------------------------------------------------------------------------------

PRINTING: dict[str, dict[str, Any]] = {
    "strict convergence": {"init": X[:4], "tol": 0},
    "tolerance": {"init": X[:4], "tol": 0.1},
    "out of iterations": {"init": X[:4], "tol": 0, "max_iter": 2},
    "elkan": {"init": X[:4], "tol": 0, "algorithm": "elkan"},
    "elkan, tolerance": {"init": X[:4], "tol": 0.1, "algorithm": "elkan"},
    "one cluster": {"n_clusters": 1},
    "seeds of k-means++": {"n_init": 2},
    "random seeds": {"init": "random", "n_init": 3},
    "empty clusters": {"init": np.vstack([X[:1], X[1:4] + 100]), "tol": 0},
}


PRINTING_BATCHES: dict[str, dict[str, Any]] = {
    "no improvement": {"batch_size": 20},
    "tolerance": {"batch_size": 30, "tol": 0.1, "max_no_improvement": None},
    "out of batches": {"batch_size": 25, "max_iter": 2, "max_no_improvement": None},
    "one batch": {"max_iter": 1},
    "several starts": {"init": "random", "n_init": 3, "batch_size": 20},
    "centres given": {"init": X[:4], "batch_size": 20},
    "reassigned": {"reassignment_ratio": 0.7, "batch_size": 15},
    "no labels": {"compute_labels": False, "batch_size": 20},
}


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", PRINTING)
def test_verbose_lines(name, weights, capsys):
    text = compare_lines("KMeans", PRINTING[name], weights, capsys)
    assert text.startswith("Initialization complete\nIteration 0, inertia ")


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", PRINTING_BATCHES)
def test_verbose_lines_of_batches(name, weights, capsys):
    text = compare_lines("MiniBatchKMeans", PRINTING_BATCHES[name], weights, capsys)
    assert text.startswith("Init 1/")
    assert "\nMinibatch step 1/" in text
    assert name != "reassigned" or "Reassigning" in text


def compare_lines(name: str, settings: dict[str, Any], weights: Any, capsys: Any) -> str:
    """What ours prints; the same as scikit-learn's, numbers within rounding."""
    printed = []
    for K in both(name):
        fitted(K, X, weights, **{"n_clusters": 4, "verbose": 1, **settings})
        printed.append(capsys.readouterr().out)
    number = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+")
    assert number.sub("#", printed[0]) == number.sub("#", printed[1])
    ours, theirs = (np.array([float(n) for n in number.findall(text)]) for text in printed)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    return printed[0]


# --- checks of parameters -------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_checks_of_parameters_can_be_skipped(name):
    """scikit-learn's configuration says so for everybody's estimators."""
    for K in both(name):
        strange = K(2, verbose=0.0, random_state=0)
        with pytest.raises(ValueError, match="'verbose'"):
            strange.fit(X)
        with sklearn.config_context(skip_parameter_validation=True):
            assert strange.fit(X).labels_.size == len(X)


def test_parameters_are_checked_with_the_first_batch_only():
    for K in both("MiniBatchKMeans"):
        model = K(2, random_state=0, verbose=0.0)
        with pytest.raises(ValueError, match="'verbose'"):
            model.partial_fit(X)
        model.set_params(verbose=0).partial_fit(X)
        assert model.set_params(verbose=0.0).partial_fit(X) is model


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    "strange", [{"init": X[:2], "n_init": 3}, {"n_clusters": 1, "algorithm": "elkan"}, {"init_size": 1}]
)
def test_warnings_point_at_the_call(name, strange):
    model = getattr(gpukmeans, name)(n_clusters=2, random_state=0)
    if not set(strange) <= set(model.get_params()):
        pytest.skip("it has no such parameter")
    for learn in ("fit", "partial_fit"):
        if hasattr(model, learn):
            with pytest.warns(RuntimeWarning) as caught:
                getattr(model.set_params(**strange), learn)(X)
            assert [warning.filename for warning in caught] == [__file__]
            model = sklearn.clone(model)


# --- metadata -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_metadata_requests(name):
    requests = [str(K().get_metadata_routing()) for K in both(name)]
    assert requests[0] == requests[1]
    with sklearn.config_context(enable_metadata_routing=True):
        wanted = [K().set_fit_request(sample_weight=True).set_score_request(sample_weight="w") for K in both(name)]
    assert str(wanted[0].get_metadata_routing()) == str(wanted[1].get_metadata_routing())


def test_metadata_is_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        for K in both("KMeans"):
            with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
                make_pipeline(StandardScaler(), K(2, random_state=0)).fit(X, sample_weight=WEIGHTS)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        models = [K(2, random_state=0).set_fit_request(sample_weight=True) for K in both("KMeans")]
        ours, theirs = (make_pipeline(scaler, model).fit(X, sample_weight=WEIGHTS)[-1] for model in models)
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-12)
    assert ours.inertia_ != pytest.approx(fitted(gpukmeans.KMeans, StandardScaler().fit_transform(X)).inertia_)


# --- docstrings -----------------------------------------------------------------------------------


def section(thing: Any, title: str) -> list[str]:
    """The names that a section of a numpydoc docstring describes."""
    text = inspect.getdoc(thing) + "\n\n"
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-{{3,}}$|\Z)", text, re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^(?=\S)(.+?)(?: : .*)?$", found[1], re.MULTILINE) if found else []
    return [name for head in heads for name in head.split(", ")]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_described(name):
    ours, theirs = both(name)
    assert section(ours, "Parameters") == list(parameters(ours))
    assert set(section(theirs, "Parameters")) <= set(section(ours, "Parameters"))
    if name in CLASSES:
        assert set(section(theirs, "Attributes")) <= set(section(ours, "Attributes"))
        assert set(section(ours, "Attributes")) == set(results(fitted(ours, FRAME)))
    else:
        assert section(ours, "Returns") == section(theirs, "Returns")


METHODS = ["fit", "fit_predict", "predict", "transform", "fit_transform", "score", "to"]


@pytest.mark.parametrize(("K", "name"), [*product(CLASSES, METHODS), ("MiniBatchKMeans", "partial_fit")])
def test_parameters_of_methods_are_described(K, name):
    method = getattr(getattr(gpukmeans, K), name)
    assert section(method, "Parameters") == list(parameters(method))[1:]
