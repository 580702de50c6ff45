"""The estimator: parameters and results, no arithmetic."""

from __future__ import annotations

import copy
import logging
import operator
import warnings
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from ._device import (
    Device,
    home_of,
    is_device_array,
    is_foreign,
    resolve,
    result_dtype,
    to_device,
    to_host,
)
from ._kernels import advise, in_use
from ._lloyd import Fit, lloyd
from ._plan import Plan
from ._prepare import plan_about, prepare
from ._rows import n_entries
from ._seeding import plus_plus, random_rows, take_rows
from ._validation import check_centers, check_n_clusters, check_rows, check_same_home, check_weights

logger = logging.getLogger("gpukmeans")

# What `verbose` prints for an iteration: scikit-learn's lines, to the full stop.
_LINES = {"lloyd": "Iteration {}, inertia {}.", "elkan": "Iteration {}, inertia {}"}


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-means clustering on a CUDA device when there is one, on the CPU otherwise.

    The parameters, methods, attributes and stopping rules are those of
    :class:`sklearn.cluster.KMeans`, plus `device`. For the same `random_state` the initial rows are
    scikit-learn's, and so, wherever no row lies on a tie, are the labels.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    init : {'k-means++', 'random'}, callable or array-like of shape (n_clusters, n_features), \
default='k-means++'
        Initial centres. 'k-means++' is the greedy variant of Arthur and Vassilvitskii (2007);
        'random' draws different rows; a callable gets `X, n_clusters, random_state` (X as it was
        given, not centred) and returns centres.
    n_init : 'auto' or int, default='auto'
        Initialisations, of which the one with the lowest inertia is kept. 'auto' is 10 for 'random'
        and callables, otherwise 1.
    max_iter : int, default=300
        Iterations of one run at most.
    tol : float, default=1e-4
        Stop when the centres' squared moves sum to at most `tol` times the mean variance of the features.
    verbose : int, default=0
        Non-zero prints the inertia of each iteration.
    random_state : int, RandomState instance or None, default=None
        Randomness of the initialisation; an int makes the result repeatable, bit for bit, for any
        number of threads.
    copy_x : bool, default=True
        Accepted for compatibility. X is never written to and never copied whole.
    algorithm : {'lloyd', 'elkan'}, default='lloyd'
        Names a result, and both names mean the same one.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'
        Where the arithmetic happens. 'auto' follows an input that lives on a device; host data goes to
        the first usable CUDA device if the problem is large enough. 'cuda' never falls back.
    metric : {'euclidean', 'cosine'}, default='euclidean'
        'cosine' is spherical k-means (Dhillon and Modha, 2001): rows count by their direction alone, centres
        are directions (of length 1), and labels are those of the largest cosine. All distances are
        between points on the unit sphere: the square of one is 2 (1 - cosine). Rows of zeros are refused.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, n_features)
        Centres, float32 for float32 rows, otherwise float64. Like all results, in the array namespace
        of the input: NumPy in, NumPy out; CuPy in, CuPy out.
    labels_ : array of shape (n_samples,), int32
        Index of each row's nearest centre (the lowest on an exact tie), the same as `predict(X)`.
    inertia_ : float
        Weighted sum of squared distances of rows to their centres, in squared units of the data.
    n_iter_ : int
        Iterations of the run that was kept.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names.
    device_ : str
        Where it ran: "cpu", "cuda:0 NVIDIA H100".

    References
    ----------
    S. P. Lloyd, "Least squares quantization in PCM", IEEE Trans. Information Theory 28 (1982).

    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    I. S. Dhillon and D. S. Modha, "Concept decompositions for large sparse text data using clustering", Machine
    Learning 42 (2001).

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> model.labels_
    array([1, 1, 1, 0, 0, 0], dtype=int32)
    >>> model.predict([[0, 0], [12, 3]])
    array([1, 0], dtype=int32)
    >>> model.cluster_centers_
    array([[10.,  2.],
           [ 1.,  2.]])
    """

    _parameter_constraints: dict = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means++", "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
        "device": [str],
        "metric": [StrOptions({"euclidean", "cosine"})],
    }

    def __init__(
        self,
        n_clusters=8,
        *,
        init="k-means++",
        n_init="auto",
        max_iter=300,
        tol=1e-4,
        verbose=0,
        random_state=None,
        copy_x=True,
        algorithm="lloyd",
        device="auto",
        metric="euclidean",
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.device = device
        self.metric = metric

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Cluster the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows of any real dtype and memory layout; NumPy, CuPy or another array-API array, a data
            frame, a list of lists; SciPy's or CuPy's sparse rows, which are converted to CSR of float32 or
            float64 if they are not.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights, used in seeding, centres and inertia.

        Returns
        -------
        self : KMeans

        Raises
        ------
        ValueError
            For rows, weights or parameters that cannot be used; the text says what is allowed.
        RuntimeError
            If `device` names a CUDA device and none can be used.
        """
        before = self.__dict__.copy()
        try:
            return self._fit(check_rows(X, estimator=self), home_of(X), sample_weight)
        except BaseException:  # Ctrl-C as well: a fit that failed leaves the estimator as it was
            self.__dict__ = before
            raise

    def _fit(self, X: Any, home: Device, sample_weight: Any) -> KMeans:
        """Fit on checked rows; the results go home."""
        k = operator.index(self.n_clusters)  # of any integer type
        check_n_clusters(X.shape[0], k)
        n_init = self._number_of_runs()
        if self.algorithm == "elkan" and k == 1:
            warnings.warn(
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.",
                RuntimeWarning,
                stacklevel=4,
            )
        random_state = check_random_state(self.random_state)
        weights = check_weights(sample_weight, X)
        given = self._check_init(self.init, X) if self._init_is_array() else None
        work = n_entries(X) * k
        device = resolve(self.device, X, work)
        if device.kind == "cpu":
            advise(work)
        if logger.isEnabledFor(logging.INFO):
            logger.info("fit on %s (%s), with %s", device.name, device.reason, in_use(device.kind))
        line = _LINES["lloyd" if k == 1 else self.algorithm] if self.verbose else ""
        plan, moments = prepare(X, weights, k, device, self.metric)
        with plan:
            best: Any = None
            for _ in range(n_init):
                centers = self._initial_centers(X, plan, given, random_state, weights)
                if self.verbose:
                    print("Initialization complete")
                tol = float(self.tol) * float(moments.variance.mean())
                run = lloyd(plan, centers, max_iter=self.max_iter, tol=tol, line=line)
                if best is None or (run.inertia < best.inertia and not _same_clustering(run, best)):
                    best = run
            self._publish(best, X, home, device)
        return self

    def _validate_params(self):
        """scikit-learn's check, once for the same values: it takes as long as a small fit."""
        values = [getattr(self, name) for name in self._parameter_constraints]
        if all(type(value) in _PLAIN for value in values):
            try:
                return _accept(type(self), *(_ANY_ARRAY if type(value) is np.ndarray else value for value in values))
            except ValueError:  # not allowed: then in its words
                pass
        super()._validate_params()

    def _init_is_array(self) -> bool:
        return not isinstance(self.init, str) and not callable(self.init)

    def _number_of_runs(self) -> int:
        automatic = 10 if callable(self.init) or (isinstance(self.init, str) and self.init == "random") else 1
        n_init = automatic if self.n_init == "auto" else self.n_init
        if self._init_is_array() and n_init != 1:
            warnings.warn(
                "Explicit initial center position passed: performing only one init in "
                f"{type(self).__name__} instead of n_init={n_init}.",
                RuntimeWarning,
                stacklevel=5,
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
        """Initial centres as `check_centers` gives them; for cosines they need directions."""
        centers = check_centers(centers, X, operator.index(self.n_clusters))
        if self.metric == "cosine" and not centers.any(axis=1).all():
            raise ValueError(
                f"init has a centre of zeros (number {int(centers.any(axis=1).argmin())}), but metric='cosine' needs "
                "centres that have a direction. Give other ones, or use metric='euclidean'."
            )
        return centers

    def _publish(self, best: Fit, X: Any, home: Device, device: Device) -> None:
        """Set the fitted attributes, where they are at home."""
        distinct = _number_of_distinct(to_host(best.labels), self.n_clusters)
        if distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({distinct}) found smaller than n_clusters "
                f"({self.n_clusters}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=5,
            )
        dtype = getattr(device.xp, result_dtype(X).__name__)
        self.cluster_centers_ = to_device(device.xp.astype(best.centers, dtype), home)
        self.labels_ = to_device(best.labels, home)
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.device_ = device.name
        self._n_features_out = self.n_clusters

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
            Euclidean, in units of the data, or for metric='cosine' on the unit sphere; float32 for float32
            rows, otherwise float64.
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
        moved.device = device
        for name in ("cluster_centers_", "labels_"):
            if hasattr(self, name):
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

    def __setstate__(self, state):
        super().__setstate__({"metric": "euclidean", **state})  # which models of earlier versions do not know

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = True
        return tags


# Types whose values are remembered once they have been checked: they hold no memory of the caller's. Arrays are all
# the same to the constraints, and something stands for them.
_PLAIN = (int, float, str, bool, type(None), np.ndarray)
_ANY_ARRAY = ()


@lru_cache(maxsize=256, typed=True)
def _accept(estimator: type, *values: Any) -> None:
    """Check parameters, in the order of the constraints; what raises is not remembered."""
    constraints = estimator._parameter_constraints  # type: ignore[attr-defined]
    named = dict(zip(constraints, values, strict=True))
    validate_parameter_constraints(constraints, named, caller_name=estimator.__name__)


def _number_of_distinct(labels: np.ndarray, n_clusters: int) -> int:
    """How many clusters have a row; as few rows are looked at as that takes."""
    seen, step = np.zeros(n_clusters, bool), 1 << 16
    for start in range(0, labels.size, step):
        seen[labels[start : start + step]] = True
        if seen.all():
            break
    return int(np.count_nonzero(seen))


def _same_clustering(run: Fit, best: Fit) -> bool:
    """Whether the clusters of a run are those of the best, whatever their numbers."""
    ours, theirs = to_host(run.labels), to_host(best.labels)
    names = np.full(ours.max() + 1, -1)
    names[ours[::-1]] = theirs[::-1]
    return bool((names[ours] == theirs).all())
