"""The estimator: parameters and results, no arithmetic."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions

from ._device import Device, home_of, result_dtype, to_device, to_host
from ._estimator import AllOrNothing, BaseKMeans
from ._lloyd import Fit, lloyd
from ._prepare import prepare
from ._validation import check_form, check_n_clusters, check_rows, check_weights, surely_finite

# What `verbose` prints for an iteration: scikit-learn's lines, to the full stop.
_LINES = {"lloyd": "Iteration {}, inertia {}.", "elkan": "Iteration {}, inertia {}"}


class KMeans(BaseKMeans):
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
        **BaseKMeans._parameter_constraints,
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
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
        self._check_parameters()
        with AllOrNothing(self):
            home = home_of(X)
            X, unread = check_form(X, self) if self.metric == "euclidean" else (check_rows(X, estimator=self), False)
            try:
                return self._fit(X, unread, home, sample_weight)
            except ValueError:
                if unread:  # what is wrong with the rows comes first
                    check_rows(X, estimator=self)
                raise

    def _fit(self, X: Any, unread: bool, home: Device, sample_weight: Any) -> KMeans:
        """Fit on rows that are checked but for values which nobody has read; the results go home."""
        k = operator.index(self.n_clusters)  # of any integer type
        check_n_clusters(X.shape[0], k)
        n_init = self._number_of_runs(10)
        if self.algorithm == "elkan" and k == 1:
            warnings.warn(
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.",
                RuntimeWarning,
                stacklevel=3,
            )
        random_state = check_random_state(self.random_state)
        weights = check_weights(sample_weight, X)
        given = self._check_init(self.init, X) if self._init_is_array() else None
        device = self._where_to_fit(X, k)
        line = _LINES["lloyd" if k == 1 else self.algorithm] if self.verbose else ""
        with prepare(X, weights, k, device, self.metric) as (plan, moments):
            if unread and not surely_finite(moments.mean, moments.peak):
                check_rows(X, estimator=self)
            best: Any = None
            for _ in range(n_init):
                centers = self._initial_centers(X, plan, given, random_state, weights)
                if self.verbose:
                    print("Initialization complete")
                tol = float(self.tol) * float(moments.variance.mean()) if self.tol else 0.0
                run = lloyd(plan, centers, max_iter=self.max_iter, tol=tol, line=line)
                if best is None or (run.inertia < best.inertia and not _same_clustering(run, best)):
                    best = run
            self._publish(best, X, home, device)
        return self

    def _check_init(self, centers: Any, X: Any) -> np.ndarray:
        """For cosines they need directions, too."""
        centers = super()._check_init(centers, X)
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
                stacklevel=4,
            )
        dtype = getattr(device.xp, result_dtype(X).__name__)
        self.cluster_centers_ = to_device(device.xp.astype(best.centers, dtype), home)
        self.labels_ = to_device(best.labels, home)
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.device_ = device.name
        self._n_features_out = self.n_clusters


def _number_of_distinct(labels: np.ndarray, n_clusters: int) -> int:
    """How many clusters have a row; as few rows are looked at as that takes."""
    step = 1 << 16
    sizes = np.bincount(labels[:step], minlength=n_clusters)
    for start in range(step, labels.size, step):
        if np.count_nonzero(sizes) == n_clusters:
            break
        sizes += np.bincount(labels[start : start + step], minlength=n_clusters)
    return int(np.count_nonzero(sizes))


def _same_clustering(run: Fit, best: Fit) -> bool:
    """Whether the clusters of a run are those of the best, whatever their numbers."""
    ours, theirs = to_host(run.labels), to_host(best.labels)
    names = np.full(ours.max() + 1, -1)
    names[ours[::-1]] = theirs[::-1]
    return bool((names[ours] == theirs).all())
