"""The device side of `strict_cupy`: memory and its limits, faults, the counters, and ``cupy.cuda``."""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

VERSION = "14.2.0"
UNAUDITED = f"not in the audited subset of CuPy {VERSION} that strict_cupy stands in for"
_CUDA_ERRORS = {
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    100: "cudaErrorNoDevice: no CUDA-capable device is detected",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
}


class Event(NamedTuple):
    """One copy or synchronisation: ``kind`` is "h2d", "d2h" or "sync"."""

    kind: str
    nbytes: int
    why: str


@dataclass
class Stats:
    """What happened in one `counting` window. A copy to the host that waits counts as a d2h and as a sync."""

    h2d: int = 0
    h2d_bytes: int = 0
    d2h: int = 0
    d2h_bytes: int = 0
    syncs: int = 0
    launches: int = 0  # operations that run a kernel; CuPy may need several kernels for one
    allocs: int = 0
    live: int = 0  # bytes held on all devices now, by arrays from before the window too
    peak: int = 0  # the most `live` has been
    log: list[Event] = field(default_factory=list, repr=False)

    def reset(self) -> None:
        """Start again from zero; what is alive stays alive and is the new peak."""
        vars(self).update(vars(Stats(live=self.live, peak=self.live)))


class CUDARuntimeError(RuntimeError):
    """A failed call of the CUDA runtime; ``status`` is CUDA's error number."""

    __module__ = "cupy_backends.cuda.api.runtime"

    def __init__(self, status: int) -> None:
        super().__init__(_CUDA_ERRORS[status])
        self.status = status


class OutOfMemoryError(MemoryError):
    """A refused allocation, in the words of CuPy's memory pool."""

    __module__ = "cupy.cuda.memory"

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(text + (f", limit set to: {limit:,} bytes)." if limit else ")."))


class Broken(NamedTuple):
    """A fault: ``status`` fails every call that needs the driver, ``launch`` every launch, with that text."""

    status: int = 0
    launch: str = ""


def broken_driver() -> Broken:
    """CuPy is installed, but the NVIDIA driver is missing or too old."""
    return Broken(status=35)


def broken_compiler() -> Broken:
    """Devices are counted and memory works, but NVRTC is missing, so the first kernel cannot be compiled."""
    return Broken(launch='Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file: libnvrtc.so.12')


class State:
    """What one installed double knows: its devices, what lives on them, and who is counting."""

    operations: Any  # set by strict_cupy: the functions of the namespace
    module: ModuleType

    def __init__(self, devices: int = 1, broken: Broken | None = None, memory: int = 16 << 30) -> None:
        self.devices, self.memory = devices, memory
        self.broken = broken or Broken(status=0 if devices else 100)
        self.current = 0
        self.live = [0] * max(devices, 1)
        self.limits = [0] * max(devices, 1)
        self.windows: list[Stats] = []
        self.device_class = _bound(Device, self)

    def driver(self) -> State:
        """Return the state, or fail as every CUDA call does under a broken driver."""
        if self.broken.status:
            raise CUDARuntimeError(self.broken.status)
        return self

    def valid(self, device: int) -> int:
        if not 0 <= device < self.driver().devices:
            raise CUDARuntimeError(101)
        return device

    def launch(self) -> None:
        if self.driver().broken.launch:
            raise RuntimeError(self.broken.launch)
        for window in self.windows:
            window.launches += 1

    def upload(self, nbytes: int, why: str) -> None:
        for window in self.driver().windows if nbytes else ():
            window.h2d += 1
            window.h2d_bytes += nbytes
            window.log.append(Event("h2d", nbytes, why))

    def download(self, nbytes: int, why: str, blocking: bool = True) -> None:
        for window in self.driver().windows if nbytes else ():
            window.d2h += 1
            window.d2h_bytes += nbytes
            window.syncs += bool(blocking)
            window.log.append(Event("d2h", nbytes, why))

    def synchronize(self, why: str) -> None:
        for window in self.driver().windows:
            window.syncs += 1
            window.log.append(Event("sync", 0, why))

    def allocate(self, nbytes: int) -> Block:
        """Take memory of the current device in CuPy's steps of 512 bytes; nothing for an empty array."""
        size, device = -(-nbytes // 512) * 512, self.driver().current
        live, limit = self.live[device], self.limits[device]
        if size and live + size > min(limit or self.memory, self.memory):
            raise OutOfMemoryError(size, live, limit)
        self.resize(device, size)
        for window in self.windows if size else ():
            window.allocs += 1
        return Block(self, device, size)

    def resize(self, device: int, by: int) -> None:
        self.live[device] += by
        for window in self.windows:
            window.live = sum(self.live)
            window.peak = max(window.peak, window.live)

    def memory_info(self, device: int) -> tuple[int, int]:
        return self.memory - self.live[self.valid(device)], self.memory


class Block:
    """A piece of device memory, shared by an array and its views, freed with the last of them."""

    def __init__(self, state: State, device: int, size: int) -> None:
        self.state, self.device, self.size = state, device, size

    def __del__(self) -> None:
        self.state.resize(self.device, -self.size)


class Device:
    """``cupy.cuda.Device``: a context manager that makes a device the current one."""

    state: State

    def __init__(self, device: int | Device | None = None) -> None:
        self.id = self.state.driver().current if device is None else int(device)
        self._previous: list[int] = []

    def use(self) -> None:
        self.state.current = self.state.valid(self.id)

    def synchronize(self) -> None:
        self.state.valid(self.id)
        self.state.synchronize("Device.synchronize")

    mem_info = property(lambda self: self.state.memory_info(self.id))
    compute_capability = property(lambda self: "90")

    def __enter__(self) -> Device:
        previous = self.state.driver().current
        self.use()
        self._previous.append(previous)
        return self

    def __exit__(self, *exception: object) -> None:
        self.state.current = self._previous.pop()

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


class Stream:
    """``cupy.cuda.Stream``: everything has finished by the time it is asked, but asking counts."""

    state: State
    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking

    def synchronize(self) -> None:
        self.state.synchronize("Stream.synchronize")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class MemoryPool:
    """The pool of the current device. It caches nothing, so used and total bytes are the same."""

    def __init__(self, state: State) -> None:
        self._state = state

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        size = int((fraction or 0) * self._state.memory) if size is None else size
        if size < 0:
            raise ValueError(f"memory limit size out of range: {size}")
        self._state.limits[self._state.driver().current] = size

    def get_limit(self) -> int:
        return self._state.limits[self._state.driver().current]

    def used_bytes(self) -> int:
        return self._state.live[self._state.driver().current]

    total_bytes = used_bytes

    def free_bytes(self) -> int:
        return 0

    def n_free_blocks(self) -> int:
        return 0

    def free_all_blocks(self, stream: Stream | None = None) -> None:
        pass


class PinnedMemoryPool:
    """The pool of page-locked host memory, always empty here."""

    def free_all_blocks(self) -> None:
        pass

    def n_free_blocks(self) -> int:
        return 0


def _bound(cls: type, state: State, **attributes: Any) -> Any:
    """Return a subclass of `cls` that knows its double's state."""
    return type(cls.__name__, (cls,), {"__module__": "cupy.cuda", "state": state, **attributes})


def make_module(name: str, members: Mapping[str, Any]) -> ModuleType:
    """Return a module that has `members` and says of every other name that it is not audited."""

    def missing(attribute: str) -> Any:
        raise AttributeError(f"module {name!r} has no attribute {attribute!r} ({UNAUDITED})")

    module = ModuleType(name)
    vars(module).update(members, __getattr__=missing, __path__=[])
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)  # importlib.util.find_spec wants one
    return module


def _runtime(state: State) -> dict[str, Callable[..., Any]]:
    """Return the functions of ``cupy.cuda.runtime``."""

    def properties(device: int) -> dict[str, Any]:
        state.valid(device)
        return {
            "name": b"Strict double",
            "totalGlobalMem": state.memory,
            "multiProcessorCount": 1,
            "major": 9,
            "minor": 0,
            "warpSize": 32,
            "sharedMemPerBlock": 49152,
            "maxThreadsPerBlock": 1024,
            "l2CacheSize": 1 << 20,
        }

    return {
        "CUDARuntimeError": CUDARuntimeError,
        "getDeviceCount": lambda: state.driver().devices,
        "getDevice": lambda: state.driver().current,
        "setDevice": lambda device: state.device_class(device).use(),
        "getDeviceProperties": properties,
        "memGetInfo": lambda: state.memory_info(state.driver().current),
        "driverGetVersion": lambda: 0 if state.broken.status == 35 else 12090,
        "runtimeGetVersion": lambda: 12090,
        "deviceSynchronize": lambda: state.synchronize("deviceSynchronize"),
    }


def cuda_modules(state: State) -> dict[str, ModuleType]:
    """Return ``cupy.cuda`` and the modules below it by full name."""

    def is_available() -> bool:
        return not state.broken.status and state.devices > 0

    stream = _bound(Stream, state)
    stream.null = stream()
    runtime = make_module("cupy.cuda.runtime", _runtime(state))
    memory = make_module("cupy.cuda.memory", {"OutOfMemoryError": OutOfMemoryError})
    members = {
        "is_available": is_available,
        "runtime": runtime,
        "memory": memory,
        "Device": state.device_class,
        "Stream": stream,
        "get_device_id": lambda: state.driver().current,
        "get_current_stream": lambda: stream.null,
    }
    cuda = make_module("cupy.cuda", members)
    return {module.__name__: module for module in (cuda, runtime, memory)}


@contextlib.contextmanager
def counting(module: ModuleType | None = None) -> Iterator[Stats]:
    """Count what a double (by default the installed one) does inside the ``with`` block; blocks may nest."""
    state = (module or sys.modules["cupy"])._double
    stats = Stats(live=sum(state.live), peak=sum(state.live))
    state.windows.append(stats)
    try:
        yield stats
    finally:
        # By identity: two windows with the same counts compare equal.
        state.windows[:] = [window for window in state.windows if window is not stats]
