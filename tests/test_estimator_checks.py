"""scikit-learn's own checks of estimators; those that may fail are those it lists for its own classes.

Once as everybody calls them, and once more in a process with array API dispatch on: SCIPY_ARRAY_API has to be set
before SciPy is imported. No model has an array as `init`, for the checks make rows of several widths.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import sklearn.cluster
from scipy.sparse import issparse
from sklearn.utils._test_common.instance_generator import _get_expected_failed_checks
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator, parametrize_with_checks

from gpukmeans import KMeans, MiniBatchKMeans


def first_rows(X: Any, n_clusters: int, random_state: Any) -> Any:
    return X[:n_clusters, :].toarray() if issparse(X) else X[:n_clusters, :]


class AsSingle:
    """Takes rows of float64 as float32, which the checks hardly make themselves."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(single(X), y, sample_weight)

    def predict(self, X):
        return super().predict(single(X))

    def transform(self, X):
        return super().transform(single(X))

    def score(self, X, y=None, sample_weight=None):
        return super().score(single(X), y, sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        tags.transformer_tags.preserves_dtype = []
        return tags


class Single(AsSingle, KMeans):
    pass


class SingleBatches(AsSingle, MiniBatchKMeans):
    def partial_fit(self, X, y=None, sample_weight=None):
        return super().partial_fit(single(X), y, sample_weight)


def single(X: Any) -> Any:
    return X.astype(np.float32) if isinstance(X, np.ndarray) and X.dtype == np.float64 else X


SMALL = {"n_clusters": 2, "n_init": 2, "max_iter": 5}  # what scikit-learn checks its own KMeans with
INITS = ["k-means++", "random", first_rows]
MODELS = [
    KMeans(),
    KMeans(device="cpu", init="random", tol=0, copy_x=False),
    *(KMeans(device="cpu", init=init, algorithm=name, **SMALL) for init in INITS for name in ("lloyd", "elkan")),
    Single(device="cpu", **SMALL),
    Single(device="cpu", init="random", algorithm="elkan"),
    MiniBatchKMeans(),
    *(MiniBatchKMeans(device="cpu", init=init, batch_size=10, tol=1e-3, **SMALL) for init in INITS),
    MiniBatchKMeans(device="cpu", max_no_improvement=None, reassignment_ratio=0.3, init_size=20, **SMALL),
    SingleBatches(device="cpu", batch_size=10, **SMALL),
]


class Outcome(NamedTuple):
    """What became of one check."""

    check: str
    status: str  # "passed", "failed" or "skipped"
    told: str  # the exception


@functools.cache
def names_of_checks(model: Any) -> set[str]:
    return {getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(model)}


def theirs(model: Any) -> type:
    """scikit-learn's class of that name."""
    return getattr(sklearn.cluster, "MiniBatchKMeans" if isinstance(model, MiniBatchKMeans) else "KMeans")


def expected_failures(model: Any) -> dict[str, str]:
    """What scikit-learn lists for its own class, of the checks that are made of ours."""
    listed = _get_expected_failed_checks(theirs(model)())
    return {name: why for name, why in listed.items() if name in names_of_checks(model)}


def without_array_api(mark: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """Each check once (scikit-learn 1.8 makes one twice), but none that needs SCIPY_ARRAY_API."""
    names, cases = mark.args[0], list(mark.args[1])
    kept = {str(getattr(case, "values", case)): case for case in cases if "array_api" not in str(case)}
    assert len(cases) / 2 < len(kept) < len(cases)
    return pytest.mark.parametrize(names, list(kept.values()), **mark.kwargs)


@pytest.mark.filterwarnings("ignore:algorithm='elkan' doesn't make sense for a single cluster:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Number of distinct clusters:sklearn.exceptions.ConvergenceWarning")
@without_array_api(parametrize_with_checks(MODELS, expected_failed_checks=expected_failures, xfail_strict=True))
def test_estimator(estimator, check):
    check(estimator)


# --- with array API dispatch ----------------------------------------------------------------------

OF_SCIKIT_LEARN = [sklearn.cluster.KMeans(**SMALL), sklearn.cluster.MiniBatchKMeans(**SMALL)]
DISPATCHED = "import test_estimator_checks; test_estimator_checks.print_outcomes()"


def print_outcomes() -> None:
    """What the other process does: all checks on all models, and on scikit-learn's own."""
    sklearn.set_config(array_api_dispatch=True)
    print(json.dumps([outcomes(model) for model in [*OF_SCIKIT_LEARN, *MODELS]]))


def outcomes(model: Any) -> list[Outcome]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(model, on_fail=None, on_skip=None)
    return [Outcome(each["check_name"], each["status"], str(each["exception"])) for each in found]


def test_with_array_api_dispatch():
    """Dispatch switched on for all checks makes some fail that have lists for rows: with scikit-learn's own as well."""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", DISPATCHED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    full, batches, *ours = ([Outcome(*each) for each in found] for found in json.loads(done.stdout))
    for model, found in zip(MODELS, ours, strict=True):
        own = batches if isinstance(model, MiniBatchKMeans) else full
        allowed = {each.check for each in own if each.status == "failed"}
        failed = {each.check for each in found if each.status == "failed"}
        assert failed <= allowed, (model, [each for each in found if each.check in failed - allowed])
        assert expected_failures(model).keys() <= failed
        dispatched = [each for each in found if "array_api" in each.check]
        needs = [each.told for each in dispatched if each.status == "skipped"]
        assert all("not installed" in told or "Skipping" in told or "not available" in told for told in needs), needs
        # at the least: NumPy and both devices of array_api_strict, and rows of another namespace than the fit's
        least = 1 if isinstance(model, AsSingle) else 4
        assert sum(each.status == "passed" for each in dispatched) >= least


def test_tags_declare_array_api_support():
    for K in (KMeans, MiniBatchKMeans):
        assert K().__sklearn_tags__().array_api_support is True
