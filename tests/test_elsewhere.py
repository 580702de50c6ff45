"""Rows, weights and centres from other packages: PyArrow, polars, whatever lends its memory, torch.

pandas and polars frames of all kinds of columns are in test_accepted_input.py, arrays of the array API standard in
test_namespaces.py. Arrays on a CUDA device need a real CuPy: without one, their tests are skipped.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn.cluster
from conftest import cuda_or_skip
from lender import Interface, Lent

from gpukmeans import KMeans, k_means, kmeans_plusplus
from gpukmeans._device import adopt
from gpukmeans.metrics import matched_accuracy, silhouette_samples, wcss_curve

RNG = np.random.default_rng(5)
X = RNG.normal(size=(101, 3)) + RNG.choice(3, size=(101, 1)) * [9.0, 5.0, 2.0]
WEIGHTS = RNG.random(101) + 0.1
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]})
PLAIN = KMeans(3, random_state=0).fit(X, sample_weight=WEIGHTS)


def like_plain(rows, weights=WEIGHTS, **parameters):
    """A fit on rows from elsewhere: the results of the same values in a NumPy array, as NumPy arrays."""
    model = KMeans(3, random_state=0, **parameters).fit(rows, sample_weight=weights)
    for name in ("cluster_centers_", "labels_"):
        assert type(getattr(model, name)) is np.ndarray
        assert np.array_equal(getattr(model, name), getattr(PLAIN, name))
    assert (model.inertia_, model.n_iter_, model.device_) == (PLAIN.inertia_, PLAIN.n_iter_, "cpu")
    assert np.array_equal(model.predict(rows), PLAIN.labels_)
    assert np.array_equal(model.transform(rows), PLAIN.transform(X))
    assert model.score(rows, sample_weight=weights) == -model.inertia_
    return model


def functions_like_plain(rows):
    centers, indices = kmeans_plusplus(rows, 3, random_state=0)
    assert np.array_equal(indices, kmeans_plusplus(X, 3, random_state=0)[1])
    assert np.array_equal(centers, X[indices])
    assert k_means(rows, 3, random_state=0)[2] == k_means(X, 3, random_state=0)[2]
    assert wcss_curve(rows, [2], random_state=0).wcss == wcss_curve(X, [2], random_state=0).wcss
    assert np.array_equal(silhouette_samples(rows, PLAIN.labels_), silhouette_samples(X, PLAIN.labels_))


# --- tables ---------------------------------------------------------------------------------------


def test_arrow_table():
    model = like_plain(TABLE)
    functions_like_plain(TABLE)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert np.array_equal(model.predict(pl.from_arrow(TABLE)), PLAIN.labels_)  # the same names, another package
    assert np.array_equal(model.predict(TABLE.to_pandas()), PLAIN.labels_)


@pytest.mark.parametrize("make", [TABLE.to_batches, lambda: [pa.concat_tables([TABLE[:40], TABLE[40:]])]])
def test_arrow_batches_and_chunks(make):
    (rows,) = make()
    like_plain(rows)


def columns(values):
    """One column in the packages that have columns."""
    return [pa.array(values), pa.chunked_array([values[:7], values[7:]]), pl.Series(values), pd.Series(values)]


@pytest.mark.parametrize("number", range(4))
def test_weights_in_a_column(number):
    like_plain(TABLE, weights=columns(WEIGHTS)[number])


def test_labels_and_classes_in_a_column():
    labels = PLAIN.labels_
    expected = silhouette_samples(X, labels)
    for column in [*columns(labels), Lent(labels)]:
        assert np.array_equal(silhouette_samples(X, column), expected)
        assert matched_accuracy(column, column) == 1.0


def test_centres_in_a_table():
    init = X[[3, 50, 100]]
    expected = KMeans(3, init=init).fit(X)
    for rows in (pa.table({"a": init[:, 0], "b": init[:, 1], "c": init[:, 2]}), pl.DataFrame(init), Lent(init)):
        assert np.array_equal(KMeans(3, init=rows).fit(X).labels_, expected.labels_)


def test_arrow_columns_that_cannot_be_clustered():
    with pytest.raises(ValueError, match="Input X contains NaN"):
        KMeans(2).fit(pa.table({"a": pa.array([1.0, None, 3.0])}))
    with pytest.raises(ValueError, match="string to float: 'tall'"):
        KMeans(2).fit(pa.table({"a": pa.array([1.0, 2.0]), "b": pa.array(["tall", "short"])}))
    decimals = pa.table({"a": pa.array(["0.5", "1.5", "9"]).cast(pa.decimal128(4, 2))})
    assert KMeans(2, random_state=0).fit(decimals).inertia_ == 0.5
    model = KMeans(2, random_state=0).fit(TABLE)
    with pytest.raises(ValueError, match=r"(?s)feature names should match.*same order"):
        model.predict(TABLE.select(["c", "b", "a"]))
    with pytest.raises(ValueError, match=r"feature names should match|expecting 3 features"):
        model.predict(TABLE.select(["a", "b"]))


def test_lazy_frames_are_not_collected_for_you():
    with pytest.raises(TypeError, match=r"lazy frame.*Pass X\.collect\(\)"):
        KMeans(2).fit(pl.from_arrow(TABLE).lazy())
    like_plain(pl.from_arrow(TABLE).lazy().collect())


FORMS = {"arrow": TABLE, "polars": pl.from_arrow(TABLE), "pandas": TABLE.to_pandas(), "numpy": X, "lent": Lent(X)}


@pytest.mark.parametrize(("kind", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
@pytest.mark.parametrize("form", FORMS)
def test_set_output(kind, frame, form):
    model = KMeans(3, random_state=0).set_output(transform=kind)
    distances = model.fit_transform(FORMS[form], sample_weight=WEIGHTS)
    assert isinstance(distances, frame)
    assert list(distances.columns) == ["kmeans0", "kmeans1", "kmeans2"]
    assert np.array_equal(distances.to_numpy(), PLAIN.transform(X))


# --- arrays of other packages -----------------------------------------------------------------------


def test_lent_rows():
    like_plain(Lent(X))
    like_plain(X, weights=Lent(WEIGHTS))
    functions_like_plain(Lent(X))
    assert KMeans(3, random_state=0).fit(Lent(X.astype(np.float32))).cluster_centers_.dtype == np.float32


def test_lent_rows_are_neither_copied_nor_written_to():
    rows = Lent(X.copy())
    assert np.shares_memory(adopt(rows), rows.values)
    model = like_plain(rows)
    model.cluster_centers_ += 1
    model.labels_ += 1
    assert np.array_equal(rows.values, X)


def test_lent_rows_are_checked():
    with pytest.raises(ValueError, match="Input X contains NaN"):
        KMeans(2).fit(Lent(np.where(X > 8, np.nan, X)))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        KMeans(2).fit(Lent(X[:, 0]))
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 3"):
        PLAIN.predict(Lent(X[:, :2]))
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(2,\), expected \(101,\)"):
        KMeans(2).fit(X, sample_weight=Lent(np.ones(2)))


def test_memory_of_unknown_devices():
    with pytest.raises(TypeError, match=r"A lender\.Lent on a device other.*Move it to the CPU first"):
        KMeans(2).fit(Lent(X, kind=8))  # Metal


@pytest.mark.parametrize(
    "rows", [Lent(X, kind=2), Lent(X, kind=13), Interface(X)], ids=["CUDA", "managed", "interface"]
)
def test_cuda_memory_without_cupy(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    match = r"A lender\.\w+ on a CUDA device is read through CuPy: CuPy is not installed.*gpukmeans\[cuda12x\]"
    with pytest.raises(RuntimeError, match=match):
        KMeans(2).fit(rows)
    with pytest.raises(RuntimeError, match=match):
        PLAIN.predict(rows)


def test_cuda_memory_through_a_double_of_cupy(cupy_double, monkeypatch):
    """The way of rows on a device, with a double that cannot read DLPack but for this line."""
    monkeypatch.setattr(cupy_double, "from_dlpack", lambda lent: lent.values, raising=False)
    rows = Lent(cupy_double.asarray(X), kind=2)
    model = KMeans(3, random_state=0).fit(rows, sample_weight=WEIGHTS)
    assert model.device_ == "cuda:0 Strict double"
    assert isinstance(model.labels_, cupy_double.ndarray)
    assert np.array_equal(model.labels_.get(), PLAIN.labels_)
    assert np.array_equal(model.predict(rows).get(), PLAIN.labels_)


@pytest.mark.parametrize("make", [lambda x: Lent(x, kind=2), Interface], ids=["DLPack", "interface"])
def test_cuda_memory(make, request):
    """On hardware only."""
    cupy = cuda_or_skip(request)
    rows = make(cupy.asarray(X))
    model = KMeans(3, random_state=0).fit(rows, sample_weight=WEIGHTS)
    assert isinstance(model.labels_, cupy.ndarray)
    assert np.array_equal(model.labels_.get(), PLAIN.labels_)
    assert np.array_equal(model.predict(rows).get(), PLAIN.labels_)


# --- torch ------------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="its wheels are too large for the extra `test`; any version will do")


def test_tensors(torch):
    tensor = torch.tensor(X)
    assert np.shares_memory(adopt(tensor), tensor.numpy())
    like_plain(tensor)
    like_plain(tensor, weights=torch.tensor(WEIGHTS))
    functions_like_plain(tensor)
    init = torch.tensor(X[[3, 50, 100]])
    assert np.array_equal(KMeans(3, init=init).fit(tensor).labels_, KMeans(3, init=init.numpy()).fit(X).labels_)
    assert KMeans(3, random_state=0).fit(tensor.to(torch.float32)).cluster_centers_.dtype == np.float32


def test_tensors_of_other_types_and_layouts(torch):
    whole = torch.tensor(np.rint(X * 4)).to(torch.int16)
    expected = KMeans(3, random_state=0).fit(whole.numpy().astype(np.float64))
    assert np.array_equal(KMeans(3, random_state=0).fit(whole).labels_, expected.labels_)
    like_plain(torch.tensor(X.T.copy()).T)
    like_plain(torch.tensor(np.repeat(X, 2, axis=0))[::2])


def test_tensors_that_cannot_be_read(torch):
    with pytest.raises(TypeError, match=r"(?s)A torch\.Tensor cannot be read.*BFloat16.*Pass a dense float32"):
        KMeans(2).fit(torch.tensor(X).to(torch.bfloat16))
    with pytest.raises(TypeError, match=r"(?s)A torch\.Tensor cannot be read.*detach"):
        KMeans(2).fit(torch.tensor(X, requires_grad=True))
    with pytest.raises(TypeError, match=r"(?s)A torch\.Tensor cannot be read.*to_dense"):
        KMeans(2).fit(torch.tensor(X).to_sparse())


def test_cuda_tensors(torch, request):
    """On hardware only."""
    cupy = cuda_or_skip(request)
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    rows = torch.tensor(X, device="cuda")
    model = KMeans(3, random_state=0).fit(rows, sample_weight=torch.tensor(WEIGHTS, device="cuda"))
    assert isinstance(model.labels_, cupy.ndarray)
    assert np.array_equal(model.labels_.get(), PLAIN.labels_)


# --- scikit-learn's array API dispatch ----------------------------------------------------------------

DISPATCHED = """
import pickle, sys
import numpy as np
import sklearn
from gpukmeans import KMeans, kmeans_plusplus
from gpukmeans.metrics import silhouette_samples

sklearn.set_config(array_api_dispatch=True)
package = __import__(sys.argv[1])
host = np.random.default_rng(5).normal(size=(101, 3))
rows, type_ = package.asarray(host), type(package.asarray(host))
plain, model = KMeans(3, random_state=0).fit(host), KMeans(3, random_state=0).fit(rows)
centers, indices = kmeans_plusplus(rows, 3, random_state=0)
results = {
    "labels": (model.labels_, plain.labels_),
    "centres": (model.cluster_centers_, plain.cluster_centers_),
    "predict": (model.predict(rows), plain.predict(host)),
    "transform": (model.transform(rows), plain.transform(host)),
    "seeds": (centers, host[kmeans_plusplus(host, 3, random_state=0)[1]]),
    "indices": (indices, kmeans_plusplus(host, 3, random_state=0)[1]),
    "silhouettes": (silhouette_samples(rows, model.labels_), silhouette_samples(host, plain.labels_)),
}
for name, (ours, expected) in results.items():
    assert type(ours) is type_, (name, type(ours))
    assert np.array_equal(np.from_dlpack(ours), expected), name
assert model.inertia_ == plain.inertia_ == -model.score(rows)
for method in (model.predict, model.transform, model.score):
    try:
        method(host)
    except ValueError as error:
        assert f"KMeans.{method.__name__}() must use the same namespace" in str(error), error
        assert "on cpu, but what was fitted is on " + sys.argv[1] in str(error), error
    else:
        raise AssertionError("rows of another namespace were accepted")
opened = pickle.loads(pickle.dumps(model))
assert type(opened.labels_) is type(opened.cluster_centers_) is np.ndarray
assert np.array_equal(opened.predict(host), plain.labels_)
print("as expected")
"""


@pytest.mark.parametrize("package", ["lender", "torch"])
def test_with_dispatch_results_are_of_the_package_of_the_rows(package):
    pytest.importorskip(package)
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DISPATCHED, package]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "as expected\n"), done.stderr


def test_without_dispatch_a_model_takes_rows_from_anywhere():
    for rows in (X, X.tolist(), TABLE.to_pandas().to_numpy(), Lent(X)):
        assert np.array_equal(PLAIN.predict(rows), PLAIN.labels_)
    assert np.array_equal(pickle.loads(pickle.dumps(PLAIN)).predict(Lent(X)), PLAIN.labels_)
    theirs = sklearn.cluster.KMeans(3, random_state=0).fit(TABLE, sample_weight=WEIGHTS)
    assert np.array_equal(theirs.labels_, PLAIN.labels_)
