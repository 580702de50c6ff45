"""scikit-learn's KMeans replaced in code that cannot be edited, and put back."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import types

import joblib
import numpy as np
import pytest
import sklearn.cluster
from scipy import sparse
from sklearn.base import clone
from sklearn.preprocessing import KBinsDiscretizer
from sklearn.utils._test_common.instance_generator import _get_expected_failed_checks
from sklearn.utils.estimator_checks import check_estimator

import gpukmeans
from gpukmeans import patch, patch_sklearn, patched_sklearn, unpatch_sklearn
from gpukmeans.patch.__main__ import main

ROWS = np.random.default_rng(0).normal(size=(120, 4)) + np.repeat([[0], [6], [13]], 40, axis=0)
SPARSE = sparse.csr_array(np.where(ROWS > 1, ROWS, 0.0))
SETTINGS = {"n_clusters": 3, "random_state": 0}


CLASSES = ["KMeans", "MiniBatchKMeans"]


def original(name="KMeans"):
    """scikit-learn's class; a name of it in this module would change as those of any module do."""
    return getattr(sklearn.cluster._kmeans, name)


@pytest.fixture(autouse=True)
def unpatched():
    """Every test begins with scikit-learn as it is, and leaves nothing of ours behind."""
    before = dict(vars(sklearn.cluster))
    yield
    unpatch_sklearn()
    assert vars(sklearn.cluster) == before
    assert all(getattr(sklearn.cluster, name) is original(name) for name in CLASSES)
    ours = [patch.KMeans, patch.MiniBatchKMeans]
    modules = [(name, list(getattr(module, "__dict__", {}).values())) for name, module in list(sys.modules.items())]
    assert [name for name, values in modules if any(value in ours for value in values if isinstance(value, type))] == [
        "gpukmeans.patch"
    ]


@pytest.fixture
def module(monkeypatch):
    """A module that imports KMeans before the patch, under two names."""
    made = types.ModuleType("somebodys_code")
    monkeypatch.setitem(sys.modules, "somebodys_code", made)
    exec("from sklearn.cluster import KMeans, MiniBatchKMeans", vars(made))
    exec("import sklearn.cluster as c; Clusterer = KMeans", vars(made))
    return made


# --- patching and unpatching ----------------------------------------------------------------------


def test_names_change_places(module):
    others = {name: value for name, value in vars(sklearn.cluster).items() if name not in CLASSES}
    patch_sklearn()
    patch_sklearn()
    assert sklearn.cluster.KMeans is module.KMeans is module.Clusterer is module.c.KMeans is patch.KMeans
    exec("from sklearn.cluster import KMeans as Late", vars(module))
    assert module.Late is patch.KMeans
    assert {name: value for name, value in vars(sklearn.cluster).items() if name not in CLASSES} == others
    assert module.MiniBatchKMeans is sklearn.cluster.MiniBatchKMeans is patch.MiniBatchKMeans
    assert sklearn.cluster._kmeans.KMeans is original()  # where scikit-learn's pickles look for it
    assert issubclass(gpukmeans.KMeans, gpukmeans.KMeans)
    assert not issubclass(gpukmeans.KMeans, original())
    unpatch_sklearn()
    unpatch_sklearn()
    assert module.KMeans is module.Clusterer is module.Late is module.c.KMeans is sklearn.cluster.KMeans is original()


def test_context(module):
    with patched_sklearn():
        with patched_sklearn():
            assert module.KMeans is patch.KMeans
        assert module.KMeans is sklearn.cluster.KMeans is patch.KMeans
    assert module.KMeans is sklearn.cluster.KMeans is original()
    with pytest.raises(LookupError), patched_sklearn():
        raise LookupError
    assert module.KMeans is original()
    patch_sklearn()
    with patched_sklearn():
        pass
    assert module.KMeans is patch.KMeans  # as before the context


def test_importing_the_package_does_not_import_scikit_learns_clustering():
    script = "import sys, gpukmeans; print('sklearn.cluster' in sys.modules, gpukmeans.patch_sklearn.__module__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "gpukmeans.patch"]
    with pytest.raises(AttributeError, match="has no attribute 'patch_everything'"):
        gpukmeans.patch_everything  # noqa: B018


# --- a patched class ------------------------------------------------------------------------------


def test_dense_rows_are_ours(module):
    expected = gpukmeans.KMeans(**SETTINGS).fit(ROWS)
    with patched_sklearn():
        model = module.KMeans(**SETTINGS).fit(ROWS)
        assert isinstance(model, module.KMeans)
    assert isinstance(model, original())
    assert isinstance(model, gpukmeans.KMeans)
    assert model.device_ == "cpu"
    assert np.array_equal(model.labels_, expected.labels_)
    assert np.array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert model.inertia_ == expected.inertia_
    for method in ("predict", "transform", "fit_predict", "fit_transform"):  # after the patch is gone, too
        assert np.array_equal(getattr(model, method)(ROWS), getattr(expected, method)(ROWS))
    assert model.score(ROWS) == -expected.inertia_
    assert clone(model).get_params() == expected.get_params()
    assert (
        repr(module.KMeans(2))
        == repr(clone(model).set_params(n_clusters=2, random_state=None))
        == "KMeans(n_clusters=2)"
    )


def test_code_inside_scikit_learn_gets_it():
    """KBinsDiscretizer imports KMeans when it needs it."""
    expected = KBinsDiscretizer(4, strategy="kmeans", encode="ordinal").fit(ROWS)
    calls = []

    class Counted(patch.KMeans):
        def fit(self, X, y=None, sample_weight=None):
            calls.append(X.shape)
            return super().fit(X, y, sample_weight)

    with patched_sklearn(), pytest.MonkeyPatch.context() as change:
        binned = KBinsDiscretizer(4, strategy="kmeans", encode="ordinal").fit(ROWS)
        change.setattr(sklearn.cluster, "KMeans", Counted)
        KBinsDiscretizer(4, strategy="kmeans", encode="ordinal").fit(ROWS)
    assert calls == [(120, 1)] * 4
    for ours, theirs in zip(binned.bin_edges_, expected.bin_edges_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_subclasses_of_the_patched_class():
    with patched_sklearn():

        class Named(sklearn.cluster.KMeans):
            def __init__(self, n_clusters=3, *, name="x", random_state=None):
                super().__init__(n_clusters=n_clusters, random_state=random_state)
                self.name = name

    model = clone(Named(name="y", random_state=0)).fit(ROWS)
    assert (model.name, model.device_) == ("y", "cpu")
    assert np.array_equal(model.labels_, gpukmeans.KMeans(**SETTINGS).fit(ROWS).labels_)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.filterwarnings("ignore")
def test_estimator_checks(name):
    allowed = _get_expected_failed_checks(original(name)())
    found = check_estimator(getattr(patch, name)(n_clusters=2, n_init=2, max_iter=5), on_fail=None, on_skip=None)
    failed = {each["check_name"] for each in found if each["status"] == "failed"}
    assert failed == set(allowed)
    assert "check_sample_weight_equivalence_on_sparse_data" in failed  # it was made
    assert sum(each["status"] == "passed" for each in found) > 50


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_are_ours(module, dtype):
    rows = ROWS.astype(dtype)
    with patched_sklearn():
        model = module.MiniBatchKMeans(**SETTINGS).fit(rows)
        stream = sklearn.cluster.MiniBatchKMeans(**SETTINGS).partial_fit(rows).partial_fit(rows[:50])
    assert isinstance(model, original("MiniBatchKMeans"))
    assert isinstance(model, gpukmeans.MiniBatchKMeans)
    assert model.device_ == stream.device_ == "cpu"
    expected = gpukmeans.MiniBatchKMeans(**SETTINGS).fit(rows)
    assert np.array_equal(model.labels_, expected.labels_)
    assert np.array_equal(model.cluster_centers_, expected.cluster_centers_)
    expected = gpukmeans.MiniBatchKMeans(**SETTINGS).partial_fit(rows).partial_fit(rows[:50])
    assert np.array_equal(stream.cluster_centers_, expected.cluster_centers_)
    assert type(pickle.loads(pickle.dumps(model))) is patch.MiniBatchKMeans


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("first", ["dense", "sparse"])
def test_a_stream_of_dense_and_sparse_batches(first, dtype):
    rows = SPARSE.toarray().astype(dtype)
    theirs, model = original("MiniBatchKMeans")(**SETTINGS), patch.MiniBatchKMeans(**SETTINGS)
    for number, a in enumerate(range(0, 120, 20)):
        batch = sparse.csr_array(rows[a : a + 20]) if (number % 2 == 0) == (first == "sparse") else rows[a : a + 20]
        theirs.partial_fit(batch)
        model.partial_fit(batch)
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(model.cluster_centers_, theirs.cluster_centers_, rtol=tolerance, atol=tolerance)
    assert (model.n_steps_, model.device_) == (6, "cpu")
    assert np.array_equal(model.predict(SPARSE.astype(dtype)), model.predict(rows))


# --- pickles --------------------------------------------------------------------------------------


def test_pickles():
    old = original()(**SETTINGS).fit(ROWS)
    stored = pickle.dumps(old)
    with patched_sklearn():
        assert type(pickle.loads(stored)) is original()
        assert type(pickle.loads(pickle.dumps(old))) is original()
        model = sklearn.cluster.KMeans(**SETTINGS).fit(ROWS)
        made = pickle.dumps(model)
    assert type(pickle.loads(made)) is patch.KMeans
    script = (
        "import pickle, sys; model, rows = pickle.load(sys.stdin.buffer); import sklearn.cluster as c; "
        "print((model.predict(rows) == model.labels_).all(), c.KMeans.__module__)"
    )
    child = subprocess.run([sys.executable, "-c", script], input=pickle.dumps((model, ROWS)), capture_output=True)
    assert child.stdout.split() == [b"True", b"sklearn.cluster._kmeans"], child.stderr.decode()


def test_in_other_threads():
    with patched_sklearn():
        jobs = (joblib.delayed(sklearn.cluster.KMeans(**SETTINGS).fit)(ROWS) for _ in range(4))
        models = joblib.Parallel(n_jobs=2, backend="threading")(jobs)
    assert {type(model) for model in models} == {patch.KMeans}


# --- the command ----------------------------------------------------------------------------------

SCRIPT = """
import sys
from sklearn.cluster import KMeans
import neighbour

print(__name__, sys.argv[1:], KMeans.__module__, neighbour.KMeans is KMeans)
print(KMeans(2, random_state=0).fit([[0.0], [1.0], [9.0]]).inertia_)
sys.exit(3)
"""


def test_command(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "neighbour.py").write_text("from sklearn.cluster import KMeans\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-m", "gpukmeans.patch", str(tmp_path / "script.py"), "--k", "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path.parent)
    assert done.stdout.splitlines() == ["__main__ ['--k', '3'] gpukmeans.patch True", "0.5"], done.stderr
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "usage: python -m gpukmeans.patch script.py"),
        (["--help"], 0, "usage: python -m gpukmeans.patch script.py"),
        (["missing.py"], "missing.py is not a file. Give the path of a Python script, then its arguments.", ""),
    ],
    ids=["nothing", "help", "missing"],
)
def test_command_without_a_script(arguments, code, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpukmeans.patch", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert (capsys.readouterr()[0 if code == 0 else 1]).startswith(told)
