"""Clocks of CUDA devices: events in the device's own stream; under the stand-in counts, for it has no time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .._device import Device, scope
from ._measure import Clock
from ._standin import counters


class Counts(NamedTuple):
    """What a CUDA device was asked to do."""

    launches: int  # of kernels
    products: int  # by cuBLAS
    uploads: int  # copies from the host to the device, and their bytes
    upload_bytes: int
    downloads: int
    download_bytes: int
    waits: int  # of the host for the device


def event_clock(device: Device) -> Clock:
    """Seconds between two events of a CUDA device: from when it gets to the work until all of that is done."""
    cuda = device.xp.cuda

    def clock(run: Callable[[], Any]) -> tuple[float, Any]:
        with scope(device):
            begin, end = cuda.Event(), cuda.Event()
            begin.record()
            answer = run()
            end.record()
            end.synchronize()
            return cuda.get_elapsed_time(begin, end) / 1e3, answer

    return clock


def count(run: Callable[[], Any]) -> tuple[Counts, Any]:
    """What a call asks of the stand-in, and what it returned."""
    before = counters()
    answer = run()
    now = counters()
    new = {name: getattr(now, name) - getattr(before, name) for name in now._fields}
    return Counts(
        new["launches"],
        new["products"],
        new["h2d_count"],
        new["h2d_bytes"],
        new["d2h_count"],
        new["d2h_bytes"],
        new["syncs"],
    ), answer


def pool_growth(device: Device, run: Callable[[], Any]) -> float:
    """MiB that CuPy's pool asks of a device for a call, above what it holds for the arrays that live already."""
    with scope(device):
        pool = device.xp.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        answer = run()
        grown = pool.total_bytes() - before
        del answer
        return max(0, grown) / 2**20
