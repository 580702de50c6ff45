"""Mini-batch k-means: parameters and results, no arithmetic."""

from __future__ import annotations

import math
import operator
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from ._batches import Draws, Progress, Stream, run
from ._device import Device, home_of, result_dtype, to_device, to_host
from ._estimator import AllOrNothing, BaseKMeans
from ._lloyd import rounded
from ._plan import Plan
from ._prepare import prepare_for_batches
from ._rows import some_of
from ._validation import check_centers, check_n_clusters, check_rows, check_weights


class MiniBatchKMeans(BaseKMeans):
    """K-means that looks at a batch of rows at a time, on a CUDA device or on the CPU.

    The parameters, methods, attributes and stopping rules are those of
    :class:`sklearn.cluster.MiniBatchKMeans`, plus `device`. For the same `random_state` the batches are
    scikit-learn's, and so, in float64 and wherever no row lies on a tie, are the centres.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    init : {'k-means++', 'random'}, callable or array-like of shape (n_clusters, n_features), \
default='k-means++'
        Initial centres, found on `init_size` rows: 'k-means++' is the greedy variant of Arthur and
        Vassilvitskii (2007); 'random' draws different rows; a callable gets `X, n_clusters, random_state`
        (those rows of X) and returns centres.
    max_iter : int, default=100
        Passes over the data at most, counted by the rows of the batches.
    batch_size : int, default=1024
        Rows of a batch.
    verbose : int, default=0
        Non-zero prints the inertia of each batch.
    compute_labels : bool, default=True
        Whether a fit ends with the labels and the inertia of all rows.
    random_state : int, RandomState instance or None, default=None
        Randomness of the initialisation, the batches and the rows for light clusters; an int makes the
        result repeatable, bit for bit, for any number of threads.
    tol : float, default=0.0
        Stop when the centres' squared moves in a batch sum to at most `tol` times the mean variance of the
        features; 0 for no such rule.
    max_no_improvement : int, default=10
        Stop after so many batches in a row without a new lowest smoothed inertia; None for no such rule.
    init_size : int, default=None
        Rows drawn for the initialisation; None means 3 * `batch_size`, or 3 * `n_clusters` if that is less
        than `n_clusters`.
    n_init : 'auto' or int, default='auto'
        Initialisations, of which the one with the lowest inertia on other rows is used. 'auto' is 3 for
        'random' and callables, otherwise 1.
    reassignment_ratio : float, default=0.01
        A cluster that weighs less than this part of the heaviest is given another row of the batch now and
        then; 0 for never.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'
        Where the arithmetic happens. 'auto' follows an input that lives on a device; host data goes to
        the first usable CUDA device if the problem is large enough. 'cuda' never falls back.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, n_features)
        Centres, float32 for float32 rows, otherwise float64. Like all results, in the array namespace
        of the input: NumPy in, NumPy out; CuPy in, CuPy out.
    labels_ : array of shape (n_samples,), int32
        Index of each row's nearest centre (the lowest on an exact tie), the same as `predict(X)`; of the
        batch after `partial_fit`. Only with `compute_labels`.
    inertia_ : float
        Weighted sum of squared distances of rows to their centres, in squared units of the data. Without
        `compute_labels` an estimate from the smoothed inertia of the batches.
    n_iter_ : int
        Passes over the data, rounded up.
    n_steps_ : int
        Batches.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had names.
    device_ : str
        Where it ran: "cpu", "cuda:0 NVIDIA H100".

    References
    ----------
    D. Sculley, "Web-scale k-means clustering", WWW 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import MiniBatchKMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = MiniBatchKMeans(n_clusters=2, random_state=0, batch_size=6, max_iter=10).fit(X)
    >>> model.predict([[0, 0], [12, 3]])
    array([1, 0], dtype=int32)

    Batches that arrive one after the other:

    >>> model = MiniBatchKMeans(n_clusters=2, random_state=0)
    >>> for batch in (X[::2], X[1::2]):
    ...     model = model.partial_fit(batch)
    >>> model.n_steps_
    2
    """

    _parameter_constraints: dict = {
        **BaseKMeans._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "compute_labels": ["boolean"],
        "max_no_improvement": [Interval(Integral, 0, None, closed="left"), None],
        "init_size": [Interval(Integral, 1, None, closed="left"), None],
        "reassignment_ratio": [Interval(Real, 0, None, closed="left")],
    }

    _fitted_arrays = (*BaseKMeans._fitted_arrays, "_counts", "_rounding")

    def __init__(
        self,
        n_clusters=8,
        *,
        init="k-means++",
        max_iter=100,
        batch_size=1024,
        verbose=0,
        compute_labels=True,
        random_state=None,
        tol=0.0,
        max_no_improvement=10,
        init_size=None,
        n_init="auto",
        reassignment_ratio=0.01,
        device="auto",
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.device = device

    def fit(self, X, y=None, sample_weight=None):
        """Cluster the rows of X, a batch drawn at random at a time.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows of any real dtype and memory layout; NumPy, CuPy or another array-API array, a data
            frame, a list of lists.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights: rows are drawn in proportion to them.

        Returns
        -------
        self : MiniBatchKMeans

        Raises
        ------
        ValueError
            For rows, weights or parameters that cannot be used; the text says what is allowed.
        RuntimeError
            If `device` names a CUDA device and none can be used.
        """
        self._check_parameters()
        with AllOrNothing(self):
            return self._fit(check_rows(X, estimator=self), home_of(X), sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        """Move the centres with one batch; the first one also gives the initial centres.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows of the batch, at least `n_clusters` in the first one.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        Returns
        -------
        self : MiniBatchKMeans

        Raises
        ------
        ValueError
            For rows, weights or parameters that cannot be used; the text says what is allowed.
        RuntimeError
            If `device` names a CUDA device and none can be used.
        """
        first = not hasattr(self, "cluster_centers_")
        if first:
            self._check_parameters()
        with AllOrNothing(self):
            return self._partial_fit(check_rows(X, estimator=self, reset=first), home_of(X), sample_weight, first)

    def _fit(self, X: Any, home: Device, sample_weight: Any) -> MiniBatchKMeans:
        """Fit on checked rows; the results go home."""
        n, k = X.shape[0], operator.index(self.n_clusters)
        check_n_clusters(n, k)
        n_init, init_size = self._number_of_runs(3), self._check_sizes(n, k)
        random_state = check_random_state(self.random_state)
        weights = check_weights(sample_weight, X)
        given = check_centers(self.init, X, k) if self._init_is_array() else None
        with prepare_for_batches(X, weights, k, self._where_to_fit(X, k)) as plan:
            tol = float(self.tol) * float(plan.moments().variance.mean()) if self.tol else 0.0
            n_steps = operator.index(self.max_iter) * n // self._batch_size
            progress = Progress(n, self._batch_size, n_steps, tol, self.max_no_improvement, bool(self.verbose))
            centers = self._best_start(X, plan, given, random_state, weights, n_init, init_size)
            stream = self._stream(centers, np.zeros(k), 0)
            self.n_steps_ = run(plan, stream, Draws(n, weights), progress, random_state)
            self.n_iter_ = math.ceil(self.n_steps_ * self._batch_size / n)
            if not self.compute_labels:
                self.inertia_ = progress.inertia * (n if weights is None else float(weights.sum()))
            self._publish(stream, plan, home, result_dtype(X))
        return self

    def _partial_fit(self, X: Any, home: Device, sample_weight: Any, first: bool) -> MiniBatchKMeans:
        """Learn one batch of checked rows."""
        k = operator.index(self.n_clusters) if first else self.cluster_centers_.shape[0]
        weights = check_weights(sample_weight, X)
        self._random_state = getattr(self, "_random_state", check_random_state(self.random_state))
        given, init_size = None, 0
        if first:
            check_n_clusters(X.shape[0], k)
            self._number_of_runs(3)  # for what it warns of
            init_size = self._check_sizes(X.shape[0], k)
            given = check_centers(self.init, X, k) if self._init_is_array() else None
        with prepare_for_batches(X, weights, k, self._where_to_fit(X, k)) as plan:
            if first:
                centers = self._start(X, plan, given, self._random_state, weights, init_size)
                stream = self._stream(centers, np.zeros(k), 0)
            else:
                stream = self._stream(self._exact_centers(plan), to_host(self._counts), self._n_since_last_reassign)
            stream.learn(plan, self._random_state)
            self.n_steps_ = getattr(self, "n_steps_", 0) + 1
            if not self.compute_labels:
                self.__dict__.pop("inertia_", None)
            self._publish(stream, plan, home, result_dtype(X if first else self.cluster_centers_))
        return self

    def _check_sizes(self, n: int, k: int) -> int:
        """On how many rows to initialise; the batch size is kept."""
        self._batch_size = min(operator.index(self.batch_size), n)
        size = 3 * self._batch_size if self.init_size is None else operator.index(self.init_size)
        if size < k:
            if self.init_size is not None:
                warnings.warn(
                    f"init_size={self.init_size} should be larger than n_clusters={k}. Setting it to "
                    "min(3*n_clusters, n_samples)",
                    RuntimeWarning,
                    stacklevel=4,
                )
            size = 3 * k
        return min(size, n)

    def _best_start(
        self, X: Any, plan: Plan, given: Any, random_state: Any, weights: Any, n_init: int, init_size: int
    ) -> Any:
        """The best of several initial centres on rows drawn for that, (k, d) float64 on the device."""
        which = random_state.randint(0, X.shape[0], init_size)
        best, lowest = None, np.inf
        for number in range(1, n_init + 1):
            if self.verbose:
                init = self.init if given is None else given.astype(result_dtype(X))
                print(f"Init {number}/{n_init} with method {init}")
            centers = self._start(X, plan, given, random_state, weights, init_size)
            if n_init == 1 and not self.verbose:
                return centers
            with plan.part(which, _some(weights, which)) as judges:
                _, inertia = judges.judge(centers)
            if self.verbose:
                print(f"Inertia for init {number}/{n_init}: {inertia}")
            if best is None or inertia < lowest:
                best, lowest = centers, inertia
        return best

    def _start(self, X: Any, plan: Plan, given: Any, random_state: Any, weights: Any, init_size: int) -> Any:
        """Initial centres from rows drawn at random, or from all of them if that is all."""
        if init_size >= X.shape[0]:
            return self._initial_centers(X, plan, given, random_state, weights)
        which = random_state.randint(0, X.shape[0], init_size)
        some = _some(weights, which)
        if given is None and some is not None and not some.any():
            raise ValueError(
                f"The init_size={init_size} rows drawn for the initial centres all have weight zero. "
                "Give a larger init_size, centres as init, or leave rows without weight out."
            )
        with plan.part(which, some) as part:
            rows = some_of(X, which)
            return self._initial_centers(rows, part, given, random_state, some)

    def _stream(self, centers: Any, weights: np.ndarray, since: int) -> Stream:
        return Stream(centers, weights, since, self._batch_size, float(self.reassignment_ratio), bool(self.verbose))

    def _exact_centers(self, plan: Plan) -> Any:
        """The centres as they were before they were published, (k, d) float64 on the plan's device."""
        centers = self._centers_on(plan)
        return centers if self._rounding is None else centers + to_device(self._rounding, plan.device)

    def _publish(self, stream: Stream, plan: Plan, home: Device, dtype: Any) -> None:
        """Set the fitted attributes, where they are at home; labels are those of the published centres."""
        centers = rounded(stream.centers, dtype)
        self.cluster_centers_ = to_device(plan.xp.astype(centers, getattr(plan.xp, dtype.__name__)), home)
        # What a float32 centre has lost: a long stream would stand still without it.
        self._rounding = None if dtype is np.float64 else to_device(stream.centers - centers, home)
        self._counts, self._n_since_last_reassign = to_device(stream.weights, home), stream.since
        self._n_features_out = centers.shape[0]
        self.device_ = plan.device.name
        if self.compute_labels:
            labels, self.inertia_ = plan.judge(centers)
            self.labels_ = to_device(labels, home)
        else:
            self.__dict__.pop("labels_", None)  # of another batch or fit


def _some(weights: Any, which: np.ndarray) -> Any:
    return None if weights is None else weights[which]
