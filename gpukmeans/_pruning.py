"""Searches by kernels that run whole passes, spared what is known of the rows from the passes before.

Bounds hold rows to their centres (`_bounds`), leading directions rule centres out (`_leading`), and while neither is
there to be kept, a kernel may do several iterations of Lloyd's algorithm in one call.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._bounds import Bounds, Tests, first_tests, worth_keeping
from ._frame import Ahead, Frame, Request, Searched
from ._leading import Leading, ranks

_AHEAD = 1 << 29  # n * d * k of the passes that one call makes, at most: Ctrl-C waits until it returns


class Pruning:
    """What is kept of rows on the CPU from pass to pass.

    Parameters
    ----------
    n_samples, n_features, n_clusters : int
    search : callable
        Runs one pass: takes a `Request`, returns what it `Searched`.
    ready : callable
        Called before anything is multiplied by NumPy between the passes.
    """

    def __init__(
        self,
        n_samples: int,
        n_features: int,
        n_clusters: int,
        search: Callable[[Request], Searched],
        ready: Callable[[], None],
    ) -> None:
        self._shape = n_samples, n_features, n_clusters
        self._search, self._ready = search, ready
        self.bounds: Bounds | None = None
        self._leading: Leading | None = None

    def forget(self) -> None:
        """Forget what only holds from pass to pass of one run."""
        self.bounds = None

    def keep_bounds(self) -> None:
        """From now on, until `forget`, if that pays."""
        if self.bounds is None and worth_keeping(*self._shape[1:]):
            self.bounds = Bounds(*self._shape, self.separations)
            self._ready()  # for second looks

    def search(self, request: Request) -> Searched:
        """A pass, and those after it that `request.ahead` allows and that need nothing between them."""
        bounds, tests = self.bounds, None
        if bounds:
            tests = bounds.prepare(request.centers, request.frame, request.rows, request.labels)
        ahead = request.ahead and self._ahead(request.ahead, tests, request.frame)
        found = self._search_by_directions(request._replace(tests=tests, ahead=ahead))
        if bounds:
            bounds.learn(tests, found.searched, found.changed)
        return found

    def separations(self, centers: np.ndarray, frame: Frame) -> np.ndarray:
        """How far each centre is from the nearest other one at least, (k,) float32, in the frame's scale."""
        k = centers.shape[0]
        tests, labels = first_tests(k, k), np.full(k, -1, np.int32)
        self._search(Request(centers, None, frame.precise(), centers, labels, "nothing", None, tests, False))
        return np.maximum(tests.gap, 0)

    def _ahead(self, wanted: Ahead, tests: Tests | None, frame: Frame) -> Ahead | None:
        """How far a pass with these tests may go on."""
        n, d, k = self._shape
        most = min(wanted.most, _AHEAD // (n * d * k))
        if tests or most < 2 or frame.spherical or (self.bounds and self.bounds.is_resting):
            return None
        return wanted._replace(most=most, settled=self.bounds.settled_below if self.bounds else 0)

    def _search_by_directions(self, request: Request) -> Searched:
        """A pass by the leading directions of the rows, where that pays."""
        if self._leading is None and ranks(*self._shape):
            self._leading = Leading(*self._shape)
            self._ready()
        if self._leading is None:
            return self._search(request)
        projection = self._leading.prepare(request.rows, request.centers, request.frame)
        found = self._search(request._replace(projection=projection, ahead=None))
        self._leading.learn(projection, found.searched, found.left)
        return found
