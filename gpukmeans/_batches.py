"""Mini-batch k-means: centres that move a little with every batch of rows.

Each centre is the mean of the rows that it has been given so far. What has to be decided between two batches
is decided on the host, from one small array that is read back a batch.

References
----------
D. Sculley, "Web-scale k-means clustering", WWW 2010.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._device import namespace, placement, to_device, to_host
from ._frame import Lanes
from ._plan import Plan
from ._rows import dense, take
from ._sums import side_by_side

# Up to so many rows of equal weight the sum of the shares up to a row is off by less than a share: n^2 u / 2 < 1.
_EVEN = 1 << 26


class Draws:
    """Draws rows with probability proportional to their weights, with scikit-learn's numbers.

    Parameters
    ----------
    n_samples : int
    weights : array of shape (n_samples,) float64, on the host, or None for ones
    """

    def __init__(self, n_samples: int, weights: np.ndarray | None) -> None:
        shares = np.full(n_samples, 1 / n_samples) if weights is None else weights / weights.sum()
        self._cumulative = np.cumsum(shares, out=shares)
        self._cumulative /= self._cumulative[-1]
        self._even = weights is None and n_samples <= _EVEN

    def draw(self, size: int, random_state: np.random.RandomState) -> np.ndarray:
        """Numbers of rows, (size,), as `random_state.choice(n_samples, size, p=shares)` gives them."""
        cumulative, uniforms = self._cumulative, random_state.random_sample(size)
        if not self._even:
            return cumulative.searchsorted(uniforms, side="right")
        rows = np.minimum((uniforms * cumulative.size).astype(np.intp), cumulative.size - 1)
        rows += cumulative[rows] <= uniforms
        rows -= (cumulative[rows - 1] > uniforms) & (rows > 0)
        return rows


class Stream:
    """Centres that are the means of the rows they have been given so far.

    Parameters
    ----------
    centers : array of shape (k, d), float64, on the device
    weights : array of shape (k,), float64, on the host
        What the rows weigh that each centre is the mean of.
    since : int
        Rows since light clusters were last looked for.
    batch_size : int
        What a batch counts for in `since`.
    ratio : float
        Clusters lighter than this part of the heaviest are given another row now and then; 0 for never.
    verbose : bool
    """

    def __init__(
        self, centers: Any, weights: np.ndarray, since: int, batch_size: int, ratio: float, verbose: bool
    ) -> None:
        self.centers, self.weights, self.since = centers, weights, since
        self._batch_size, self._ratio, self._verbose = batch_size, ratio, verbose

    def learn(self, plan: Plan, random_state: np.random.RandomState) -> float:
        """Move the centres with the rows of a plan, one batch; the inertia before they moved."""
        look = self._is_due()
        lanes, inertia = plan.gather(self.centers)
        move = plan.operations.learn or learn
        self.centers, gained = move(self.centers, to_device(self.weights, plan.device), lanes, plan.frame.shift)
        gained, inertia = _read(gained, inertia)
        self.weights = self.weights + gained
        if look and self._ratio > 0:
            self._reassign(plan, random_state)
        return inertia

    def _is_due(self) -> bool:
        """Whether to look for light clusters after this batch: every 10 k rows, and while one is empty."""
        self.since += self._batch_size
        due = self.since >= 10 * self.weights.size or bool((self.weights == 0).any())
        self.since = 0 if due else self.since
        return due

    def _reassign(self, plan: Plan, random_state: np.random.RandomState) -> None:
        """Put light clusters on rows of the batch, with the weight of the lightest of the others."""
        light = light_clusters(self.weights, self._ratio, plan.rows.shape[0])
        count = np.count_nonzero(light)
        if not count:
            return
        rows = np.zeros(light.size, np.int64)
        rows[light] = random_state.choice(plan.rows.shape[0], replace=False, size=count)
        if self._verbose:
            print(f"[MiniBatchKMeans] Reassigning {count} cluster centers.")
        xp, place = plan.xp, plan.device
        taken = dense(take(plan.rows, to_device(rows, place)))
        self.centers = xp.where(to_device(light, place)[:, None], taken, self.centers)
        self.weights = np.where(light, self.weights[~light].min(), self.weights)


def learn(centers: Any, weights: Any, lanes: Lanes, shift: Any) -> tuple[Any, Any]:
    """The centres as means that the rows of a batch have joined, and the weights, (k,), of these rows.

    Those that none have joined stay where they are.

    Parameters
    ----------
    centers : array of shape (k, d), float64
    weights : array of shape (k,), float64
        Of the rows that they were the means of.
    lanes : Lanes
        Of the batch.
    shift : array of shape (d,), float64
        Reference point of the sums.
    """
    xp, partial = namespace(centers), side_by_side(lanes)
    total = weights + partial.weights
    moved = centers - shift
    moved *= -partial.weights[:, None]
    moved += partial.sums
    moved /= xp.where(total > 0, total, 1.0)[:, None]
    moved += centers
    return moved, partial.weights


def _read(weights: Any, inertia: Any) -> tuple[np.ndarray, float]:
    """Fetch the weights of a batch and its inertia in one small copy."""
    xp = namespace(weights)
    if xp is np:
        return weights, float(inertia)
    last = xp.full((1,), inertia, **placement(weights)) if isinstance(inertia, float) else xp.reshape(inertia, (1,))
    facts = to_host(xp.concat([weights, last]))
    return facts[:-1], float(facts[-1])


def light_clusters(weights: np.ndarray, ratio: float, n_samples: int) -> np.ndarray:
    """Which clusters are to be given another row, (k,) bool.

    Those lighter than `ratio` times the heaviest; if these are more than half as many as the rows of the
    batch, only so many, the lightest. Where all would be, the heaviest stays.
    """
    light = weights < ratio * weights.max()
    if np.count_nonzero(light) > 0.5 * n_samples:
        light[np.argsort(weights)[int(0.5 * n_samples) :]] = False
    if light.all():
        light[weights.argmax()] = False
    return light


class Progress:
    """When to stop: the inertia of the batches, smoothed, no longer falls, or the centres hardly move.

    Parameters
    ----------
    n_samples, batch_size, n_steps : int
    tol : float
        Bound on the sum of squared moves of the centres, in squared units of the data; 0 for none.
    patience : int or None
        Batches in a row without a new lowest inertia after which a fit ends; None for no end.
    verbose : bool
    """

    def __init__(
        self, n_samples: int, batch_size: int, n_steps: int, tol: float, patience: int | None, verbose: bool
    ) -> None:
        self.batch_size, self.n_steps, self.tol = batch_size, n_steps, tol
        self._patience, self._verbose = patience, verbose
        self._newest = min(1.0, 2.0 * batch_size / (n_samples + 1))  # the weight of the newest batch
        self._lowest, self._since = np.inf, 0
        self.inertia = np.nan  # of a row, smoothed

    def ends(self, step: int, inertia: float, shift: float) -> bool:
        """Take note of a batch; whether it is the last.

        Parameters
        ----------
        step : int
            From 1.
        inertia : float
            Of the batch.
        shift : float
            Sum of the squared moves of the centres.
        """
        mean = inertia / self.batch_size
        smooth = step > 2  # the first is that of the initial centres
        self.inertia = self.inertia * (1 - self._newest) + mean * self._newest if smooth else mean
        line = f"Minibatch step {step}/{self.n_steps}: mean batch inertia: {mean}"
        if step == 1:
            self._say(line)
            return False
        self._say(f"{line}, ewa inertia: {self.inertia}")
        if self.tol > 0.0 and shift <= self.tol:
            self._say(f"Converged (small centers change) at step {step}/{self.n_steps}")
            return True
        self._since = 0 if self.inertia < self._lowest else self._since + 1
        self._lowest = min(self._lowest, self.inertia)
        if self._patience is not None and self._since >= self._patience:
            self._say(f"Converged (lack of improvement in inertia) at step {step}/{self.n_steps}")
            return True
        return False

    def _say(self, line: str) -> None:
        if self._verbose:
            print(line)


def run(plan: Plan, stream: Stream, draws: Draws, progress: Progress, random_state: np.random.RandomState) -> int:
    """Learn batches of the rows of a plan to the end; how many.

    Rows are drawn in proportion to their weights, and then count the same, whatever the weights of the plan.
    """
    size, xp = progress.batch_size, plan.xp
    with plan.part(np.arange(size), None) as batch:
        for step in range(1, progress.n_steps + 1):
            batch.draw(plan.rows, draws.draw(size, random_state))
            before = stream.centers
            inertia = stream.learn(batch, random_state)
            shift = float(xp.sum((stream.centers - before) ** 2)) if progress.tol else 0.0
            if progress.ends(step, inertia, shift):
                break
    return step
