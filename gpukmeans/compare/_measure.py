"""Clocks and memory: interleaved races, the peak of one call, and what the machine could do at best."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._peers import Peer, Stop, first_line
from ._rows import Rows

_PAUSE = 0.02  # seconds between two contestants: thread pools spin for a while after their work
_CLEAR = Path("/proc/self/clear_refs")


Clock = Callable[[Callable[[], Any]], tuple[float, Any]]  # runs it; seconds, and what it returned


def host_clock(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds by the host's clock."""
    start = time.perf_counter()
    answer = run()
    return time.perf_counter() - start, answer


class Race(NamedTuple):
    """What came of a race."""

    seconds: dict[str, list[float | None]]  # one entry a round, None for rounds a contestant sat out
    answers: dict[str, Any]  # what each returned last
    failed: dict[str, str]  # name -> reason


def race(
    runs: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    calls: int | Mapping[str, int] = 1,
    limit: float = np.inf,
    must: Sequence[str] = (),
    clocks: Mapping[str, Clock] | None = None,
) -> Race:
    """Run all contestants in turn, again and again, so that a slow minute hits all of them.

    Parameters
    ----------
    runs : mapping of str to callable
    rounds : int
    calls : int or mapping of str to int, default=1
        Calls in a round, of all or of each, of which the median counts: for calls shorter than the clock's noise.
    limit : float, default=inf
        Seconds of all rounds together after which a contestant sits out. After three times as many
        for all contestants together, and at least three rounds, no other round begins.
    must : sequence of str
        Contestants that never sit out.
    clocks : mapping of str to callable, optional
        Of contestants that the host's clock does not time.

    Returns
    -------
    race : Race
    """
    seconds: dict[str, list[float | None]] = {name: [] for name in runs}
    answers, failed, names = {}, {}, list(runs)
    each = dict.fromkeys(names, calls) if isinstance(calls, int) else calls
    begin = time.perf_counter()
    for number in range(rounds):
        if number >= 3 and time.perf_counter() - begin > 3 * limit:
            break
        turn = number % max(1, len(names))
        for name in names[turn:] + names[:turn]:  # each comes after each other one in some round
            ran = [t for t in seconds[name] if t is not None]
            if name in failed or (ran and name not in must and each[name] * (sum(ran) + max(ran)) > limit):
                seconds[name].append(None)
                continue
            time.sleep(_PAUSE)
            try:
                taken, answers[name] = _timed(runs[name], each[name], (clocks or {}).get(name, host_clock))
            except Exception as error:  # a peer that fails must not take the others' figures with it
                failed[name], taken = first_line(error), None
            seconds[name].append(taken)
    return Race(
        {name: taken for name, taken in seconds.items() if name not in failed},
        {name: answer for name, answer in answers.items() if name not in failed},
        failed,
    )


def _timed(run: Callable[[], Any], calls: int, clock: Clock = host_clock) -> tuple[float, Any]:
    taken, answer = [], None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(calls):
            answer = None  # the memory of the answer before is free while the next is found
            seconds, answer = clock(run)
            taken.append(seconds)
    return float(np.median(taken)), answer


def seconds_of(run: Callable[[], Any], clock: Clock = host_clock) -> float:
    """One call, in seconds."""
    return _timed(run, 1, clock)[0]


def foresee(peer: Peer, rows: Rows, stop: Stop) -> float:
    """Let a peer load what it needs on a part of the rows; the seconds that a fit of all rows would take."""
    n, k = len(rows.X), len(rows.init)
    part = min(n, max(2000, 4 * k, n // 50))
    run = peer.prepare(Rows(rows.X[:part].copy(), rows.X[:k].copy(), np.arange(k)), Stop(2, 2))
    seconds_of(run)
    return seconds_of(run) * n / part * (stop.given + 1) / 3


def calls_for(seconds: float) -> int:
    """Calls in a round, for a call of that length."""
    return max(1, min(50, round(0.02 / max(seconds, 1e-9))))


def peak_memory(arguments: Sequence[str]) -> dict[str, float]:
    """MiB that one call of each contestant needs above what the process held before, measured in a fresh process.

    Empty where the kernel does not tell (it is Linux that does); without those that fail.

    Parameters
    ----------
    arguments : sequence of str
        Of Python, for a process that prints a name and `peak_of` its call in each line.
    """
    if not _CLEAR.exists():
        return {}
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    lines = (line.split() for line in run.stdout.splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) == 2}


def peak_of(run: Callable[[], Any]) -> float:
    """MiB of this process at its peak during a call, above what it held before."""
    gc.collect()
    _CLEAR.write_text("5")
    before = _status("VmRSS")
    answer = run()
    peak = _status("VmHWM") - before
    del answer
    return max(0.0, peak)


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def gemm_peak(dtype: str, size: int = 2000, repeat: int = 4) -> float:
    """The most GFLOP/s that NumPy's BLAS reaches on square matrices, with all its threads."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((size, size)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    a @ b  # threads start
    return 2e-9 * size**3 / min(seconds_of(lambda: np.matmul(a, b, out=out)) for _ in range(repeat))


def copy_bandwidth(mib: int = 256, repeat: int = 7) -> float:
    """GB/s read and written by copying memory, with one thread a core."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pieces = [(np.ones(mib << 17), np.zeros(mib << 17)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda piece: np.copyto(piece[1], piece[0]), pieces))

        copy()
        return 2e-9 * threads * (mib << 20) / min(seconds_of(copy) for _ in range(repeat))


# --- what follows from the seconds of the rounds --------------------------------------------------


class Spread(NamedTuple):
    """Median, least and most of the rounds."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """The spread of the rounds that were run; None if there was none."""
    found = [value for value in values if value is not None]
    return Spread(statistics.median(found), min(found), max(found)) if found else None


def times_as_fast(own: Sequence[float | None], base: Sequence[float | None]) -> Spread | None:
    """How many times as fast as another one: the spread of the ratios of the rounds in which both ran."""
    pairs = zip(base, own, strict=False)  # a round that did not begin is missing at the end
    return spread([theirs / ours for theirs, ours in pairs if theirs is not None and ours])
