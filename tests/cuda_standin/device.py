"""What the stand-in device was asked to do: counters, and the events in their order. For tests that run under it.

Knobs are environment variables, which the stand-in reads when it needs them, so `monkeypatch.setenv` turns them:
STANDIN_SEED (order of threads and blocks), STANDIN_MEMORY (bytes), STANDIN_MEMCHECK=1 (with `exact_allocations`),
STANDIN_PROCESSORS (multiprocessors, 4), STANDIN_CAPABILITY (80).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from gpukmeans.compare._standin import Counters, counters, driver

__all__ = ["Counters", "Event", "counters", "exact_allocations", "recorded", "traffic"]


class Event(NamedTuple):
    """One thing that the device was asked to do."""

    kind: str  # "launch", "h2d", "d2h", "d2d", "memset", "sync", "alloc" or "product"
    name: str  # of the kernel; the shape (m x n x k) of a product
    stream: int  # 0 for the default stream
    bytes: int  # copied, set or allocated
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int  # bytes of shared memory, static and dynamic
    loaded: int  # bytes of global memory that the threads of a kernel loaded, and stored
    stored: int


class _Event(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_char * 8),
        ("name", ctypes.c_char * 120),
        ("stream", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint32),
        ("loaded", ctypes.c_uint64),
        ("stored", ctypes.c_uint64),
    ]


@cache
def _driver() -> Any:
    library = driver()
    library.standin_event_count.restype = ctypes.c_uint64
    library.standin_event.argtypes = [ctypes.c_uint64]
    library.standin_event.restype = ctypes.POINTER(_Event)
    return library


@contextmanager
def recorded() -> Iterator[list[Event]]:
    """A list that holds, when the block has ended, all that happened in it."""
    events: list[Event] = []
    _driver().standin_record(1)
    try:
        yield events
    finally:
        _driver().standin_record(0)
        for i in range(_driver().standin_event_count()):
            e = _driver().standin_event(i).contents
            shape = tuple(e.grid), tuple(e.block), e.shared
            events.append(Event(e.kind.decode(), e.name.decode(), e.stream, e.bytes, *shape, e.loaded, e.stored))


def traffic(array: Any) -> tuple[int, int]:
    """Bytes that kernels loaded from and stored to the allocation of a CuPy array, under STANDIN_MEMCHECK."""
    loaded, stored = ctypes.c_uint64(), ctypes.c_uint64()
    address = ctypes.c_uint64(array.data.ptr)
    if not _driver().standin_traffic(address, ctypes.byref(loaded), ctypes.byref(stored)):
        raise ValueError("the array lies in no live allocation")
    return loaded.value, stored.value


def exact_allocations(cupy: Any) -> None:
    """Turn CuPy's memory pool off: an allocation then ends where its array ends."""
    cupy.cuda.set_allocator(None)
