"""What the estimators share: checked parameters, initial centres, and the use of fitted centres."""

from __future__ import annotations

import copy
import logging
import operator
import warnings
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from ._device import Device, home_of, is_device_array, is_foreign, resolve, result_dtype, to_device, to_host
from ._kernels import advise, in_use
from ._plan import Plan
from ._prepare import plan_about
from ._rows import n_entries
from ._seeding import plus_plus, random_rows, take_rows
from ._validation import check_centers, check_rows, check_same_home, check_weights

logger = logging.getLogger("gpukmeans")


class BaseKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """The parameters and methods that `KMeans` and `MiniBatchKMeans` have in common."""

    _parameter_constraints: dict = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means++", "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "device": [str],
    }

    metric = "euclidean"  # also that of pickles from before there was another
    _fitted_arrays: tuple[str, ...] = ("cluster_centers_", "labels_")

    def _check_parameters(self) -> None:
        """`_validate_params`, unless scikit-learn's configuration says to skip it; a fit begins with it."""
        if not get_config()["skip_parameter_validation"]:
            self._validate_params()

    def _validate_params(self):
        """scikit-learn's check, once for the same values: it takes as long as a small fit."""
        values = [getattr(self, name) for name in self._parameter_constraints]
        types = set(map(type, values))
        if types <= _PLAIN:
            if np.ndarray in types:
                values = [_ANY_ARRAY if type(value) is np.ndarray else value for value in values]
            try:
                return _accept(type(self), *values)
            except ValueError:  # not allowed: then in its words
                pass
        super()._validate_params()

    def _where_to_fit(self, X: Any, k: int) -> Device:
        """The device for these rows; the log is told of it."""
        work = n_entries(X) * k
        device = resolve(self.device, X, work)
        if device.kind == "cpu":
            advise(work)
        if logger.isEnabledFor(logging.INFO):
            logger.info("fit on %s (%s), with %s", device.name, device.reason, in_use(device.kind))
        return device

    def _init_is_array(self) -> bool:
        return not isinstance(self.init, str) and not callable(self.init)

    def _number_of_runs(self, automatic: int) -> int:
        """`n_init`, where "auto" is that number for rows drawn at random and callables, and 1 otherwise."""
        drawn = callable(self.init) or (isinstance(self.init, str) and self.init == "random")
        n_init = self.n_init if self.n_init != "auto" else automatic if drawn else 1
        if self._init_is_array() and n_init != 1:
            warnings.warn(
                "Explicit initial center position passed: performing only one init in "
                f"{type(self).__name__} instead of n_init={n_init}.",
                RuntimeWarning,
                stacklevel=4,
            )
            return 1
        return n_init

    def _initial_centers(self, X: Any, plan: Plan, given: Any, random_state: Any, weights: Any) -> Any:
        """Centres to start from: (k, d) float64, on the plan's device."""
        if given is not None:
            return plan.place(to_device(given, plan.device))
        if callable(self.init):
            made = self.init(X, self.n_clusters, random_state=random_state)
            return plan.place(to_device(self._check_init(made, X), plan.device))
        if self.init == "random":
            indices = random_rows(X.shape[0], self.n_clusters, random_state, weights)
        else:
            indices = plus_plus(plan, random_state, weights)
        return take_rows(plan, indices)

    def _check_init(self, centers: Any, X: Any) -> np.ndarray:
        """Initial centres as `check_centers` gives them."""
        return check_centers(centers, X, operator.index(self.n_clusters))

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit, and return the labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        labels : array of shape (n_samples,), int32
            `labels_`, which `predict(X)` would give as well.
        """
        return self.fit(X, sample_weight=sample_weight).labels_

    def predict(self, X):
        """Index of the nearest centre of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        labels : array of shape (n_samples,), int32
            The true nearest centre, the lowest index on an exact tie; where X lives.
        """
        rows = self._check_new_rows(X, "predict")
        with self._plan_for(rows) as plan:
            return to_device(plan.assign(self._centers_on(plan)), home_of(X))

    def transform(self, X):
        """Distances from each row to each centre.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        distances : array of shape (n_samples, n_clusters)
            Euclidean, in units of the data; float32 for float32 rows, otherwise float64.
        """
        rows = self._check_new_rows(X, "transform")
        with self._plan_for(rows) as plan:
            dtype = getattr(plan.xp, result_dtype(rows).__name__)
            return to_device(plan.distances(self._centers_on(plan), dtype), home_of(X))

    def fit_transform(self, X, y=None, sample_weight=None):
        """Fit, and return the distances from each row to each centre.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        distances : array of shape (n_samples, n_clusters)
            What `transform(X)` gives.
        """
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def score(self, X, y=None, sample_weight=None):
        """Minus the inertia of X for these centres.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
            Minus the weighted sum of squared distances of rows to their nearest centres.
        """
        X = self._check_new_rows(X, "score")
        weights = check_weights(sample_weight, X)
        with self._plan_for(X) as plan:
            plan.weights = None if weights is None else to_device(weights, plan.device)
            centers = self._centers_on(plan)
            return -plan.judge(centers)[1]

    def to(self, device):
        """A copy whose arrays live on "cpu" or on a CUDA device, and which computes there.

        Parameters
        ----------
        device : {'cpu', 'cuda', 'cuda:N'}
        """
        place = resolve(device)
        moved = copy.copy(self)
        if hasattr(self, "_random_state"):  # of a stream, which may go on in both
            moved._random_state = copy.deepcopy(self._random_state)
        moved.device = device
        for name in self._fitted_arrays:
            if getattr(self, name, None) is not None:
                setattr(moved, name, to_device(getattr(self, name), place))
        return moved

    def _check_new_rows(self, X: Any, method: str) -> Any:
        check_is_fitted(self)
        check_same_home(X, self.cluster_centers_, f"{type(self).__name__}.{method}")
        return check_rows(X, estimator=self, reset=False)

    def _plan_for(self, X: Any) -> Plan:
        device = resolve(self.device, X, n_entries(X) * self.cluster_centers_.shape[0])
        return plan_about(X, self.cluster_centers_, device, self.metric)

    def _centers_on(self, plan: Plan) -> Any:
        return plan.place(plan.xp.astype(to_device(self.cluster_centers_, plan.device), plan.xp.float64))

    def __getstate__(self):
        """Host arrays only: a pickle opens where there is no CuPy."""
        state = super().__getstate__()
        return {name: to_host(v) if is_device_array(v) or is_foreign(v) else v for name, v in state.items()}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = True
        return tags


class AllOrNothing:
    """A context that leaves an estimator as it was if anything fails inside, or is interrupted."""

    def __init__(self, estimator: Any) -> None:
        self._estimator, self._before = estimator, estimator.__dict__.copy()

    def __enter__(self) -> None:
        pass

    def __exit__(self, error: Any, *_: Any) -> None:
        if error is not None:
            self._estimator.__dict__ = self._before


# Types whose values are remembered once they have been checked: they hold no memory of the caller's. Arrays are all
# the same to the constraints, and something stands for them.
_PLAIN = {int, float, str, bool, type(None), np.ndarray}
_ANY_ARRAY = ()


@lru_cache(maxsize=256, typed=True)
def _accept(estimator: type, *values: Any) -> None:
    """Check parameters, in the order of the constraints; what raises is not remembered."""
    constraints = estimator._parameter_constraints  # type: ignore[attr-defined]
    named = dict(zip(constraints, values, strict=True))
    validate_parameter_constraints(constraints, named, caller_name=estimator.__name__)
