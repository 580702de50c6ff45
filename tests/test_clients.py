"""Code that takes scikit-learn's k-means, as it is, with ours in its place: the same outcome, to rounding.

The rows have no ties, so labels are compared as they are. Pipelines, a grid search, `set_output`, copies and pickles of
one model alone are in test_accepted_input.py.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from itertools import product
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.inspection import DecisionBoundaryDisplay, partial_dependence, permutation_importance
from sklearn.metrics import make_scorer, rand_score, silhouette_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gpukmeans import KMeans, MiniBatchKMeans

# No two rows alike, no row between two centres.
ROWS = load_iris().data + np.random.default_rng(0).normal(size=(150, 4)) * 1e-3
FRAME = pd.DataFrame(ROWS, columns=["sepal length", "sepal width", "petal length", "petal width"])
CLASSES = load_iris().target
BOTH = [KMeans, sklearn.cluster.KMeans]
BATCHES = [MiniBatchKMeans, sklearn.cluster.MiniBatchKMeans]


# --- scikit-learn's tools -------------------------------------------------------------------------


def search_in_columns(K: Any) -> Any:
    """Distances of two pairs of columns as features; the numbers of clusters are searched."""
    petals, sepals = (make_pipeline(StandardScaler(), K(3, random_state=0)) for _ in range(2))
    columns = ColumnTransformer([("petals", petals, [2, 3]), ("sepals", sepals, ["sepal length"])], remainder="drop")
    model = make_pipeline(columns, KNeighborsClassifier())
    grid = {"columntransformer__petals__kmeans__n_clusters": [2, 3, 5], "columntransformer__sepals": [sepals, "drop"]}
    search = GridSearchCV(model, grid, cv=3).fit(FRAME, CLASSES)
    return [*search.cv_results_["mean_test_score"], search.best_index_]


def union_in(frame: str) -> Any:
    def union(K: Any) -> Any:
        parts = [("few", K(2, random_state=0)), ("many", K(6, random_state=1))]
        found = FeatureUnion(parts).set_output(transform=frame).fit_transform(FRAME)
        assert type(found).__module__.startswith(frame)
        assert list(found.columns)[:3] == ["few__kmeans0", "few__kmeans1", "many__kmeans0"]
        return found.to_numpy()

    return union


def cross_validation(K: Any) -> Any:
    scoring = {"agreement": make_scorer(rand_score), "named": "rand_score"}
    found = cross_validate(K(3, random_state=0), ROWS, CLASSES, cv=3, scoring=scoring)
    assert np.array_equal(found["test_agreement"], found["test_named"])
    return [*found["test_named"], *cross_val_score(K(3, random_state=0), ROWS, cv=4)]


def importance(K: Any) -> Any:
    model = K(3, random_state=0).fit(ROWS)
    agreement = permutation_importance(model, ROWS, CLASSES, scoring="rand_score", n_repeats=3, random_state=0)
    inertia = permutation_importance(model, ROWS, None, n_repeats=2, random_state=0)
    return np.vstack([agreement.importances.T, inertia.importances.T])


def dependence(K: Any) -> Any:
    model = make_pipeline(K(4, random_state=0), KNeighborsClassifier()).fit(FRAME, CLASSES)
    return partial_dependence(model, FRAME, ["petal length"], grid_resolution=7)["average"]


def boundary(K: Any) -> Any:
    petals = ROWS[:, 2:]
    model = K(3, random_state=0).fit(petals)
    return DecisionBoundaryDisplay.from_estimator(model, petals, grid_resolution=20, response_method="predict").response


def votes(K: Any) -> Any:
    members = [(f"k{k}", make_pipeline(K(k, random_state=k), KNeighborsClassifier())) for k in (2, 4, 7)]
    return VotingClassifier(members, voting="soft").fit(ROWS, CLASSES).predict_proba(ROWS)


def codebook(K: Any) -> Any:
    """Cluster numbers as categories."""
    numbers = OneHotEncoder().fit_transform(K(4, random_state=0).fit_predict(ROWS)[:, None])
    return KNeighborsClassifier().fit(numbers, CLASSES).score(numbers, CLASSES)


def selection(K: Any) -> Any:
    model = make_pipeline(K(3, random_state=0), KNeighborsClassifier())
    return SequentialFeatureSelector(model, n_features_to_select=2, cv=3).fit(ROWS, CLASSES).get_support()


class Bisecting(ClusterMixin, BaseEstimator):
    """Splits the cluster with the largest inertia in two until there are enough: any k-means will do."""

    def __init__(self, splitter: Any, n_clusters: int = 5) -> None:
        self.splitter, self.n_clusters = splitter, n_clusters

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Bisecting:
        weights = np.ones(len(X)) if sample_weight is None else sample_weight
        self.labels_, inertias = np.zeros(len(X), int), {0: np.inf}
        for new in range(1, self.n_clusters):
            worst = max(inertias, key=inertias.__getitem__)
            rows = np.flatnonzero(self.labels_ == worst)
            halves = clone(self.splitter).fit(X[rows], sample_weight=weights[rows])
            self.labels_[rows[halves.labels_ == 1]] = new
            for half, name in ((0, worst), (1, new)):
                part = rows[halves.labels_ == half]
                inertias[name] = -halves.score(X[part], sample_weight=weights[part])
        return self


def bisecting(K: Any) -> Any:
    weights = np.random.default_rng(1).random(150)
    return Bisecting(K(2, random_state=3)).fit(ROWS, sample_weight=weights).labels_


def stream_of_features(K: Any) -> Any:
    """Batches of rows as a generator gives them; the distances feed a classifier that learns by batches, too."""
    clusters, classifier = K(6, random_state=0), GaussianNB()
    order = np.random.default_rng(2).permutation(150)
    for some in np.array_split(order, 5):
        distances = clusters.partial_fit(ROWS[some]).transform(ROWS[some])
        classifier.partial_fit(distances, CLASSES[some], classes=np.unique(CLASSES))
    return classifier.predict_proba(clusters.transform(ROWS))


def search_of_batches(K: Any) -> Any:
    model = make_pipeline(StandardScaler(), K(3, random_state=0, batch_size=32), KNeighborsClassifier())
    grid = {f"{K.__name__.lower()}__batch_size": [16, 64], f"{K.__name__.lower()}__n_clusters": [3, 6]}
    return GridSearchCV(model, grid, cv=3).fit(FRAME, CLASSES).cv_results_["mean_test_score"]


def choice_of_k(K: Any) -> Any:
    return [silhouette_score(ROWS, K(k, random_state=0).fit_predict(ROWS)) for k in range(2, 6)]


CLIENTS = {
    "grid search over a column transformer": search_in_columns,
    "feature union, pandas": union_in("pandas"),
    "feature union, polars": union_in("polars"),
    "cross-validation": cross_validation,
    "permutation importance": importance,
    "partial dependence": dependence,
    "decision boundary": boundary,
    "votes of distances": votes,
    "labels as categories": codebook,
    "feature selection": selection,
    "bisecting": bisecting,
    "choice of k": choice_of_k,
}


OF_BATCHES = {
    "stream": stream_of_features,
    "grid search of batches": search_of_batches,
    "votes of distances": votes,
    "bisecting": bisecting,
    "choice of k": choice_of_k,
}


@pytest.mark.parametrize(("client", "classes"), [*product(CLIENTS, [BOTH]), *product(OF_BATCHES, [BATCHES])])
def test_same_outcome(client, classes):
    known = CLIENTS if classes is BOTH else OF_BATCHES
    ours, theirs = (np.asarray(known[client](K), dtype=float) for K in classes)
    assert ours.size > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


# --- imbalanced-learn -----------------------------------------------------------------------------

FEW = np.r_[0:50, 50:62, 100:150]  # rows of iris of which one class is rare


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_cluster_centroids(voting):
    from imblearn.under_sampling import ClusterCentroids

    made = []
    for K in BOTH:
        sampler = ClusterCentroids(estimator=K(random_state=0), voting=voting, random_state=0)
        made.append(sampler.fit_resample(ROWS[FEW], CLASSES[FEW]))
        assert isinstance(sampler.estimator_, K)
    np.testing.assert_allclose(made[0][0], made[1][0], rtol=1e-9)
    assert np.array_equal(made[0][1], made[1][1])
    assert np.bincount(made[0][1]).tolist() == [12, 12, 12]


@pytest.mark.parametrize("classes", [BOTH, BATCHES], ids=["all rows", "batches"])
def test_kmeans_smote(classes):
    from imblearn.over_sampling import KMeansSMOTE

    made = []
    for K in classes:
        settings = {"cluster_balance_threshold": 0.1, "k_neighbors": 3, "random_state": 0}
        sampler = KMeansSMOTE(kmeans_estimator=K(4, random_state=0), **settings)
        made.append(sampler.fit_resample(ROWS[FEW], CLASSES[FEW]))
        assert isinstance(sampler.kmeans_estimator_, K)
    np.testing.assert_allclose(made[0][0], made[1][0], rtol=1e-9)
    assert np.array_equal(made[0][1], made[1][1])
    assert len(made[0][0]) > len(FEW)


# --- yellowbrick ----------------------------------------------------------------------------------


@pytest.fixture
def yellowbrick():
    """Its last release is older than scikit-learn's tags and Matplotlib's registry of colour maps."""
    plt = pytest.importorskip("matplotlib.pyplot")
    with plt.rc_context({"backend": "agg"}):  # yellowbrick sets a style when it is imported
        yield pytest.importorskip("yellowbrick.cluster", reason="does not import here", exc_type=ImportError)
        plt.close("all")


def drawn(make: Any, yellowbrick: Any) -> list[Any]:
    """A visualizer fitted with each class; skipped where scikit-learn's own is not drawn either."""
    try:
        theirs = make(yellowbrick, sklearn.cluster.KMeans).fit(ROWS)
        theirs.finalize()
    except (AttributeError, ImportError, TypeError) as error:
        pytest.skip(f"yellowbrick does not draw scikit-learn's KMeans here: {error}")
    ours = make(yellowbrick, KMeans).fit(ROWS)
    ours.finalize()
    return [ours, theirs]


# `force_model`: it looks for scikit-learn's old mark of clusterers, which scikit-learn's own lost as well.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_elbow(yellowbrick):
    ours, theirs = drawn(
        lambda y, K: y.KElbowVisualizer(K(random_state=0), k=(2, 8), timings=False, force_model=True), yellowbrick
    )
    np.testing.assert_allclose(ours.k_scores_, theirs.k_scores_, rtol=1e-9)
    assert ours.elbow_value_ == theirs.elbow_value_


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_silhouettes(yellowbrick):
    colours = ["red", "green", "blue"]
    ours, theirs = drawn(
        lambda y, K: y.SilhouetteVisualizer(K(3, random_state=0), colors=colours, force_model=True), yellowbrick
    )
    assert ours.silhouette_score_ == pytest.approx(theirs.silhouette_score_, rel=1e-9)


# --- other threads and processes ------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def no_workers_left():
    yield
    get_reusable_executor().shutdown(wait=True)


def fitted(k: int, seed: int) -> KMeans:
    return KMeans(k, random_state=seed, n_init=2).fit(ROWS)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_parallel_fits(backend):
    jobs = [(k, seed) for k in (2, 3, 5, 9) for seed in range(3)]
    models = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(fitted)(k, seed) for k, seed in jobs)
    for (k, seed), model in zip(jobs, models, strict=True):
        alone = fitted(k, seed)
        assert np.array_equal(model.labels_, alone.labels_)
        assert np.array_equal(model.cluster_centers_, alone.cluster_centers_)
        assert np.array_equal(model.predict(ROWS), alone.labels_)


def test_one_model_in_many_threads():
    """`predict` of one fitted model at the same time from several threads."""
    model = fitted(5, 0)
    found = joblib.Parallel(n_jobs=4, backend="threading")(joblib.delayed(model.predict)(ROWS) for _ in range(24))
    assert all(np.array_equal(labels, model.labels_) for labels in found)


def test_search_in_processes():
    grid = {"n_clusters": [2, 3, 4]}
    one, two = (GridSearchCV(KMeans(random_state=0), grid, cv=2, n_jobs=n).fit(ROWS) for n in (1, 2))
    assert np.array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])


OPEN = """
import sys, cloudpickle
model, rows = cloudpickle.load(sys.stdin.buffer)
assert type(model).__name__ == "Twice"
assert (model.predict(rows) == model.labels_).all()
assert (model.fit(rows).labels_ == model.predict(rows)).all()
print(type(model).__mro__[1].__module__, model.n_iter_)
"""


def test_cloudpickle_of_a_class_and_a_function_from_nowhere():
    """A subclass and an `init` that the other process cannot import."""

    class Twice(KMeans):
        def fit(self, X, y=None, sample_weight=None):
            return super().fit(X * 2, y, sample_weight)

        def predict(self, X):
            return super().predict(X * 2)

    model = Twice(3, init=lambda X, k, random_state: X[[0, 60, 120]], n_init=1).fit(ROWS)
    child = subprocess.run(
        [sys.executable, "-c", OPEN], input=cloudpickle.dumps((model, ROWS)), capture_output=True, check=False
    )
    assert child.returncode == 0, child.stderr.decode()
    assert child.stdout.decode().split() == ["gpukmeans.kmeans", str(model.n_iter_)]


def test_joblib_files(tmp_path):
    """Arrays mapped from the file, which cannot be written to."""
    model = fitted(4, 1)
    joblib.dump(model, tmp_path / "model.joblib")
    opened = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert isinstance(opened.cluster_centers_, np.memmap)
    assert np.array_equal(opened.predict(ROWS), model.labels_)
    assert np.array_equal(pickle.loads(pickle.dumps(opened)).transform(ROWS), model.transform(ROWS))
