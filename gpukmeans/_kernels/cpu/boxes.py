"""Boxes of a grid by the compiled kernels, see `_boxes`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._boxes import Boxed, BoxGrid, BoxKernels
from ..._threads import Workers
from . import native
from .passes import drive, lane_edges, owning, run

_CALL = 8  # tasks a call, at most


def boxing(workers: Workers) -> BoxKernels:
    """What numbers rows and finds owners, in these threads."""

    def number_rows(rows: Any, grid: BoxGrid) -> np.ndarray:
        numbers = np.empty(rows.shape[0], np.uint16)
        run("NumberPass", rows, lane_edges(rows, 1), grid._asdict(), {"numbers": numbers}, {}, workers)
        return numbers

    def find_owners(boxed: Boxed, centers: np.ndarray) -> None:
        one_pass = native().OwnersPass(owning(boxed), np.ascontiguousarray(centers))
        drive(one_pass, _CALL, workers, one_pass.size)

    return BoxKernels(number_rows, find_owners)
