"""Of a process of its own: the peak memory of one fit of each contestant. `_run` starts it, with the rows in a file.

Each is measured in a copy of this process that has done nothing before but import: memory that another one has
freed would hide what the next one takes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _contest
from ._measure import peak_of
from ._peers import Stop
from ._rows import Rows


def main(arguments: Sequence[str]) -> None:
    """Print a line for each contestant: its name, and the MiB that a fit needs at its peak."""
    file, max_iter, given, *names = arguments
    with np.load(file) as stored:
        rows = Rows(stored["X"], stored["init"], stored["indices"])
    for name in names:
        if (child := os.fork()) == 0:
            try:
                print(name, peak(name, rows, Stop(int(max_iter), int(given))), flush=True)
            finally:
                os._exit(0)
        os.waitpid(child, 0)


def peak(name: str, rows: Rows, stop: Stop) -> float:
    """MiB of a fit, after a first one on a few rows."""
    k = len(rows.init)
    fit(name, Rows(rows.X[: max(2000, 4 * k)].copy(), rows.X[:k].copy(), np.arange(k)), stop)()
    return peak_of(fit(name, rows, stop))


def fit(name: str, rows: Rows, stop: Stop) -> Callable[[], Any]:
    """The fit of a contestant, by its name."""
    if name.startswith(("cpu", "cuda")):
        (path,), _ = _contest.paths([name])
        return _contest.fit_of(path, *_contest.placed(path, rows), stop.max_iter)
    (one,), _ = _contest.peers([name], str(rows.X.dtype))
    return one.prepare(rows, stop)


if __name__ == "__main__":
    main(sys.argv[1:])
