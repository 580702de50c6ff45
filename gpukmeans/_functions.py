"""K-means and its seeding as functions, like scikit-learn's."""

from __future__ import annotations

import operator
from numbers import Integral

from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_array

from ._device import home_of, resolve, scope, to_device
from ._prepare import prepare
from ._rows import is_sparse, n_entries, on_device, take
from ._seeding import host_indices, plus_plus
from ._validation import check_n_clusters, check_rows, check_weights
from .kmeans import KMeans


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "sample_weight": ["array-like", None],
        "return_n_iter": [bool],
    },
    prefer_skip_nested_validation=False,
)
def k_means(
    X,
    n_clusters,
    *,
    sample_weight=None,
    init="k-means++",
    n_init="auto",
    max_iter=300,
    verbose=False,
    tol=1e-4,
    random_state=None,
    copy_x=True,
    algorithm="lloyd",
    return_n_iter=False,
    device="auto",
):
    """K-means in one call.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    n_clusters : int
    sample_weight : array-like of shape (n_samples,), default=None
    init, n_init, max_iter, verbose, tol, random_state, copy_x, algorithm
        Those of `KMeans`.
    return_n_iter : bool, default=False
        Whether the number of iterations is returned, too.
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'

    Returns
    -------
    centroid : array of shape (n_clusters, n_features)
    label : array of shape (n_samples,), int32
    inertia : float
    best_n_iter : int
        Only if `return_n_iter`.

    Examples
    --------
    >>> from gpukmeans import k_means
    >>> centroid, label, inertia = k_means([[1, 2], [1, 4], [10, 2], [10, 4]], 2, random_state=0)
    >>> inertia
    4.0
    """
    model = KMeans(
        n_clusters,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        verbose=verbose,
        tol=tol,
        random_state=random_state,
        copy_x=copy_x,
        algorithm=algorithm,
        device=device,
    ).fit(X, sample_weight=sample_weight)
    result = (model.cluster_centers_, model.labels_, model.inertia_)
    return (*result, model.n_iter_) if return_n_iter else result


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "sample_weight": ["array-like", None],
        "x_squared_norms": ["array-like", None],
        "random_state": ["random_state"],
        "n_local_trials": [Interval(Integral, 1, None, closed="left"), None],
        "device": [str],
    },
    prefer_skip_nested_validation=True,
)
def kmeans_plusplus(
    X,
    n_clusters,
    *,
    sample_weight=None,
    x_squared_norms=None,
    random_state=None,
    n_local_trials=None,
    device="auto",
):
    """Pick initial centres by greedy k-means++.

    In float64 the rows are those of :func:`sklearn.cluster.kmeans_plusplus` for the same
    `random_state`; in float32 they are the ones float64 would pick.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    n_clusters : int
    sample_weight : array-like of shape (n_samples,), default=None
    x_squared_norms : array-like of shape (n_samples,), default=None
        Accepted for compatibility; not needed.
    random_state : int, RandomState instance or None, default=None
    n_local_trials : int, default=None
        Candidates a centre; None means 2 + log(n_clusters).
    device : {'auto', 'cpu', 'cuda', 'cuda:N'}, default='auto'

    Returns
    -------
    centers : array of shape (n_clusters, n_features), dtype of X
    indices : array of shape (n_clusters,), int
        `X[indices]` are the centres.

    References
    ----------
    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from gpukmeans import kmeans_plusplus
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> centers, indices = kmeans_plusplus(X, n_clusters=2, random_state=0)
    >>> indices
    array([3, 2])
    """
    rows, k = check_rows(X), operator.index(n_clusters)
    weights = check_weights(sample_weight, rows)
    check_n_clusters(rows.shape[0], k)
    if x_squared_norms is not None:
        norms = check_array(x_squared_norms, ensure_2d=False)
        if norms.shape[0] != rows.shape[0]:
            raise ValueError(
                f"The length of x_squared_norms {norms.shape[0]} should be equal to the length of "
                f"n_samples {rows.shape[0]}."
            )
    random_state = check_random_state(random_state)
    place = resolve(device, rows, n_entries(rows) * k)
    with prepare(rows, weights, k, place) as (plan, _):
        indices = host_indices(plus_plus(plan, random_state, weights, n_local_trials))
    home = home_of(rows)
    with scope(home):
        centers = take(on_device(rows, home), to_device(indices, home))[:, :]
        centers = centers.toarray() if is_sparse(centers) else centers
        return to_device(centers, home_of(X)), to_device(indices, home_of(X))
