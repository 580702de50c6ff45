"""Initial centres: greedy k-means++ with scikit-learn's draws, and random rows.

All random numbers are drawn on the host, in scikit-learn's order, from a `RandomState`. None of
them depends on the data, so the uniforms of k-means++ are uploaded once and no centre is waited for.

References
----------
D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._device import to_device, to_host
from ._plan import Plan
from ._rows import dense, take


def plus_plus(
    plan: Plan,
    random_state: np.random.RandomState,
    weights: np.ndarray | None,
    n_local_trials: int | None = None,
) -> Any:
    """Indices of the rows that greedy k-means++ picks, (k,) int64, on the plan's device.

    Parameters
    ----------
    plan : Plan
    random_state : RandomState
    weights : array of shape (n,) float64, on the host, or None for ones
        The same weights as the plan's.
    n_local_trials : int, optional
        Candidates a centre; 2 + log(k) when None.
    """
    xp, k = plan.xp, plan.n_clusters
    trials = n_local_trials or 2 + int(np.log(k))
    first = np.asarray([_weighted_draw(random_state, plan.rows.shape[0], weights)])
    uniforms = to_device(random_state.uniform(size=(k - 1, trials)), plan.device)
    winner = to_device(first, plan.device)
    seeding, chosen = plan.seeding(), [winner]
    masses = seeding.lower(None, winner)[:, 0]
    for c in range(k - 1):
        candidates = seeding.draw(winner, masses, uniforms[c, :])
        winner, masses = seeding.pick(candidates, seeding.lower(winner, candidates))
        chosen.append(winner)
    return xp.concat(chosen)


def _weighted_draw(random_state: np.random.RandomState, n: int, weights: np.ndarray | None) -> int:
    """One index as `random_state.choice(n, p=weights / weights.sum())` draws it, in less memory."""
    uniform = random_state.random_sample()
    if weights is None:
        return min(int(uniform * n), n - 1)
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]
    return int(np.searchsorted(cumulative, uniform, side="right"))


def random_rows(
    n_samples: int, n_clusters: int, random_state: np.random.RandomState, weights: np.ndarray | None
) -> np.ndarray:
    """Indices of k different rows drawn as scikit-learn draws them, (k,) int64, on the host."""
    weights = np.ones(n_samples) if weights is None else weights
    return random_state.choice(n_samples, size=n_clusters, replace=False, p=weights / weights.sum())


def take_rows(plan: Plan, indices: Any) -> Any:
    """Rows of the plan as float64 centres, (k, d), on the plan's device."""
    return dense(take(plan.rows, to_device(indices, plan.device)))


def host_indices(indices: Any) -> np.ndarray:
    """Row indices on the host, as integers NumPy likes to index with."""
    return to_host(indices).astype(np.intp)
