"""Boxes of a grid by the compiled kernels, see `_boxes`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._boxes import BoxGrid, BoxKernels
from ..._threads import Workers
from . import native
from .passes import drive, lane_edges, run

_CALL = 8  # tasks a call, at most


def boxing(workers: Workers) -> BoxKernels:
    """What numbers rows and finds owners, in these threads."""

    def number_rows(rows: Any, grid: BoxGrid) -> np.ndarray:
        numbers = np.empty(rows.shape[0], np.uint16)
        run("NumberPass", rows, lane_edges(rows, 1), grid._asdict(), {"numbers": numbers}, {}, workers)
        return numbers

    def find_owners(grid: BoxGrid, centers: np.ndarray, owners: np.ndarray) -> np.ndarray:
        is_open = np.empty(grid.size, np.uint8)
        one_pass = native().OwnersPass(*grid, np.ascontiguousarray(centers), owners, is_open)
        drive(one_pass, _CALL, workers, one_pass.size)
        owners[-1], is_open[-1] = -1, 1  # of the rows outside
        return is_open

    return BoxKernels(number_rows, find_owners)
