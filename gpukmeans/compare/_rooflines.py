"""What a machine could do at best: copying memory, and products of matrices, on the CPU and on each CUDA device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._device import Device, cuda_devices, scope
from ._clocks import event_clock
from ._measure import copy_bandwidth, gemm_peak
from ._standin import driver

_COPY_MIB = 64
_DTYPES = ("float32", "float64")


def rooflines(devices: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Ceilings by place ("cpu", "cuda:0"): ``copy_gb_s``, read and written, and ``gemm``, GFLOP/s by dtype.

    The stand-in for a CUDA device has none.
    """
    found = {}
    if devices is None or any(name.startswith("cpu") for name in devices):
        peaks = {dtype: round(gemm_peak(dtype, repeat=3), 1) for dtype in _DTYPES}
        found["cpu"] = {"copy_gb_s": round(copy_bandwidth(_COPY_MIB, repeat=3), 1), "gemm": peaks}
    for device in cuda_devices()[0] if driver() is None else ():
        if devices is None or {"cuda", f"cuda:{device.number}"} & set(devices):
            found[f"cuda:{device.number}"] = on_cuda(device)
    return found


def on_cuda(device: Device, size: int = 8192, mib: int = 1024, repeat: int = 5) -> dict[str, Any]:
    """The ceilings of a CUDA device, timed by its events.

    Parameters
    ----------
    device : Device
    size : int
        Of the square matrices.
    mib : int
        Of the memory that is copied.
    repeat : int
        The best of as many counts.
    """
    xp, clock = device.xp, event_clock(device)
    with scope(device):
        source = xp.zeros(mib << 17)
        target = xp.empty_like(source)

        def copy() -> None:
            target[...] = source

        copied = 2e-9 * (mib << 20) / _best(clock, copy, repeat)
        peaks = {}
        for dtype in _DTYPES:
            a = xp.ones((size, size), dtype=dtype)
            out = xp.empty_like(a)
            product = _product(xp, a, out)
            peaks[dtype] = round(2e-9 * size**3 / _best(clock, product, repeat), 1)
    return {"copy_gb_s": round(copied, 1), "gemm": peaks}


def _product(xp: Any, a: Any, out: Any) -> Any:
    return lambda: xp.matmul(a, a, out=out)


def _best(clock: Any, run: Any, repeat: int) -> float:
    clock(run)
    return min(clock(run)[0] for _ in range(repeat))
