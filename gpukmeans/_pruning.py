"""Searches by kernels that run whole passes, spared what is known of the rows from the passes before.

Boxes hold rows to their centres (`_boxes`), and so do bounds once labels settle (`_bounds`); leading directions rule
centres out (`_leading`). As long as nothing else is to be decided, a kernel does several iterations of Lloyd's
algorithm in one call, and keeps boxes and bounds meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._bounds import Bounds, Drifts, Tests, first_tests, worth_keeping
from ._boxes import Boxed, Boxes, BoxKernels, worth_trying
from ._frame import Ahead, Frame, Request, Searched
from ._leading import Leading, ranks

_AHEAD = 1 << 31  # n * d * k of the passes that one call makes, at most: Ctrl-C waits until it returns


class Pruning:
    """What is kept of rows on the CPU from pass to pass.

    Parameters
    ----------
    n_samples, n_features, n_clusters : int
    search : callable
        Runs one pass: takes a `Request`, returns what it `Searched`.
    drifting : callable
        Of `Drifts`: the kernel that keeps them.
    boxing : BoxKernels or None
        The kernels for boxes of rows, where there are any.
    ready : callable
        Called before anything is multiplied by NumPy between the passes.
    """

    def __init__(
        self,
        n_samples: int,
        n_features: int,
        n_clusters: int,
        search: Callable[[Request], Searched],
        drifting: Callable[[Drifts], Any],
        boxing: BoxKernels | None,
        ready: Callable[[], None],
    ) -> None:
        self._shape = n_samples, n_features, n_clusters
        self._search, self._drifting, self._ready = search, drifting, ready
        self._boxes = Boxes(*self._shape, boxing) if boxing and worth_trying(*self._shape) else None
        self.bounds: Bounds | None = None
        self._leading: Leading | None = None

    def forget(self) -> None:
        """Forget what only holds from pass to pass of one run."""
        self.bounds = None
        if self._boxes:
            self._boxes.start()

    def keep_bounds(self) -> None:
        """From now on, until `forget`, if that pays."""
        if self.bounds is None and worth_keeping(*self._shape[1:]):
            self.bounds = Bounds(*self._shape, self.separations, self._drifting)
            self._ready()  # for second looks

    def search(self, request: Request) -> Searched:
        """A pass, and those after it that `request.ahead` allows and that need nothing between them."""
        bounds, tests = self.bounds, None
        if bounds and not (self._boxes and self._boxes.serve):
            tests = bounds.prepare(request.centers, request.frame, request.rows, request.labels)
        boxed = self._boxed(request, tests)
        ahead = self._ahead(request, tests, boxed)
        found = self._search_by_directions(request._replace(tests=tests, boxed=boxed, ahead=ahead))
        if self._boxes:
            self._boxes.learn(boxed, found.searched, found.changed)
        if bounds:
            bounds.learn(tests, found.searched, found.changed, found.done, found.centers)
        return found

    def separations(self, centers: np.ndarray, frame: Frame) -> np.ndarray:
        """How far each centre is from the nearest other one at least, (k,) float32, in the frame's scale."""
        k = centers.shape[0]
        tests, labels = first_tests(k, k), np.full(k, -1, np.int32)
        self._search(Request(centers, None, frame.precise(), centers, labels, "nothing", None, tests, False))
        return np.maximum(tests.gap, 0)

    def _boxed(self, request: Request, tests: Tests | None) -> Boxed | None:
        """The boxes of the rows for a pass with these tests: until bounds hold the rows."""
        if self._boxes is None:
            return None
        if tests:
            self._boxes.forget()
            return None
        return self._boxes.prepare(request.rows, request.centers, request.frame, request.ahead is not None)

    def _ahead(self, request: Request, tests: Tests | None, boxed: Boxed | None) -> Ahead | None:
        """How far a pass may go on, with what holds rows in it: until something else has to, or is to be given up."""
        n, d, k = self._shape
        if request.ahead is None or request.frame.spherical:
            return None
        most, tol = min(request.ahead.most, _AHEAD // (n * d * k)), request.ahead.tol
        if most < 2:
            return None
        if tests and self.bounds:
            return self.bounds.ahead(most, tol)
        if boxed and self._boxes:
            return self._boxes.ahead(most, tol)
        awaited = (self._boxes and self._boxes.pay) or (self.bounds and self.bounds.is_resting)
        return None if awaited else Ahead(most, tol, self.bounds.settled_below if self.bounds else 0)

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
