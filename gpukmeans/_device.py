"""Where the arithmetic happens, and why there.

The only module that imports CuPy (`_kernels` may, too). Everything else asks `namespace(x)` for
the array module of an array and writes array-API-standard code against it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from sklearn import get_config

logger = logging.getLogger("gpukmeans")

# `device="auto"` sends host data to a GPU from this n_samples * n_features * n_clusters on, unless the environment
# says another number (see `bound`). Arithmetic, not a measurement: twenty iterations of this size take a CPU core
# about a second, which is what a first CUDA context and its kernels cost.
WORTH_A_GPU = 1_000_000_000

_INSTALL = "install CuPy with: python -m pip install 'gpukmeans[cuda12x]' (or 'gpukmeans[cuda13x]')"


class Device(NamedTuple):
    """A place for arrays: the CPU, a CUDA device, or another array-API namespace's device."""

    kind: str  # "cpu", "cuda" or "array"
    name: str  # what `device_` says: "cpu", "cuda:0 NVIDIA H100", "array_api_strict ..."
    reason: str  # why this one, for `doctor` and the log
    xp: Any = np  # the array module that computes there
    number: int = 0  # of the CUDA device
    target: Any = None  # the standard's device object, for kind "array"


CPU = Device("cpu", "cpu", "asked for with device='cpu'")

# DLPack's numbers of devices: plain and pinned memory of the host, memory of a CUDA device and CUDA's managed memory
_DLPACK_HOST, _DLPACK_CUDA = (1, 3), (2, 13)


# --- arrays -----------------------------------------------------------------------------------


def is_cupy(x: Any) -> bool:
    """Whether x is a CuPy array (without importing CuPy)."""
    return type(x).__module__.partition(".")[0] == "cupy"


def is_cupy_sparse(x: Any) -> bool:
    """Whether x is a sparse matrix of CuPy's."""
    return type(x).__module__.startswith("cupyx.scipy.sparse")


def is_device_array(x: Any) -> bool:
    """Whether x is an array of a namespace other than NumPy: results go back to that namespace."""
    return is_cupy(x) or (hasattr(x, "__array_namespace__") and not isinstance(x, (np.ndarray, np.generic)))


def is_foreign(x: Any) -> bool:
    """Whether x is an array of a package that is no array-API namespace but lends its memory: a torch tensor."""
    if isinstance(x, (np.ndarray, np.generic)) or is_device_array(x):
        return False
    return hasattr(x, "__dlpack__") or hasattr(x, "__cuda_array_interface__")


def adopt(x: Any) -> Any:
    """The values of a foreign array as a NumPy or CuPy array, not copied; anything else as it is.

    Raises
    ------
    RuntimeError
        If it lives on a CUDA device, and CuPy cannot be used.
    TypeError
        If it lives on another device, or NumPy cannot read it.
    """
    if not is_foreign(x):
        return x
    what = f"A {type(x).__module__.partition('.')[0]}.{type(x).__name__}"
    kind = x.__dlpack_device__()[0] if hasattr(x, "__dlpack__") else _DLPACK_CUDA[0]
    if kind in _DLPACK_CUDA:
        _, why_not = _cuda_state()
        if why_not:
            raise RuntimeError(f"{what} on a CUDA device is read through CuPy: {why_not}. Or move it to the CPU first.")
        import cupy

        return cupy.from_dlpack(x) if hasattr(x, "__dlpack__") else cupy.asarray(x)
    if kind not in _DLPACK_HOST:
        raise TypeError(f"{what} on a device other than a CPU's or CUDA's cannot be read. Move it to the CPU first.")
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError):  # gradients, missing values, types NumPy has not
        try:
            return np.asarray(x)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{what} cannot be read: {error}\nPass a dense float32 or float64 array.") from error


def namespace(x: Any) -> Any:
    """The array module of x: `numpy`, `cupy`, or what the array itself names."""
    if is_cupy(x):
        import cupy

        return cupy
    return x.__array_namespace__() if is_device_array(x) else np


def is_single(dtype: Any) -> bool:
    """Whether a dtype of any namespace is float32."""
    return dtype == np.float32 if isinstance(dtype, (type, np.dtype)) else "float32" in str(dtype)


def result_dtype(X: Any) -> type:
    """The dtype of published centres: float32 for float32 rows, else float64 (scikit-learn's rule)."""
    return np.float32 if is_single(X.dtype) else np.float64


def placement(x: Any) -> dict[str, Any]:
    """Keyword arguments that make a creation function put its result where x is."""
    return {"device": x.device} if is_device_array(x) and not is_cupy(x) else {}


def put(x: Any, index: Any, value: float) -> Any:
    """x with `value` at the places of an integer array; in place where the namespace can do that."""
    if isinstance(x, np.ndarray) or is_cupy(x):
        x[index] = value
        return x
    xp = namespace(x)
    places = xp.arange(x.shape[0], dtype=index.dtype, **placement(x))
    return xp.where(xp.any(places[:, None] == index[None, :], axis=1), value, x)


def home_of(x: Any) -> Device:
    """The place where x lives, and where results computed from it go back to."""
    if type(x) is np.ndarray:
        return CPU
    if is_cupy_sparse(x):
        return home_of(x.data)
    if is_cupy(x):
        return _cuda_device(int(x.device.id), "the input lives there")
    if is_device_array(x):
        xp = namespace(x)
        name = f"{xp.__name__} {x.device}"
        return Device("array", name, "the input lives there", xp=xp, target=x.device)
    return _foreign_home(x) if is_foreign(x) else CPU


def _foreign_home(x: Any) -> Device:
    """scikit-learn's rule: with array API dispatch on, results are of x's package; otherwise NumPy's (or CuPy's)."""
    name = type(x).__module__.partition(".")[0]
    package = sys.modules[name]
    if get_config()["array_api_dispatch"] and hasattr(package, "asarray") and hasattr(x, "device"):
        return Device("array", f"{name} {x.device}", "the input lives there", xp=package, target=x.device)
    return home_of(adopt(x))


def to_host(x: Any) -> np.ndarray:
    """x as a NumPy array; a copy only if it lives elsewhere."""
    if type(x) is np.ndarray:  # at once: it is asked often in a small fit
        return x
    x = adopt(x)
    if is_cupy(x):
        return x.get()
    if not is_device_array(x):
        return np.asarray(x)
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError):
        host = x.__array_namespace__().__array_namespace_info__().default_device()
        return np.asarray(x.to_device(host))


def to_device(x: Any, device: Device) -> Any:
    """x as an array on `device`; the same object if it is there already."""
    if device.kind == "cpu":
        return to_host(x)
    x = adopt(x)
    if device.kind == "cuda":
        with device.xp.cuda.Device(device.number):
            if not is_cupy(x):
                return device.xp.asarray(_of_known_type(to_host(x)))
            return x if int(x.device.id) == device.number else device.xp.array(x)
    if is_device_array(x) and namespace(x) is device.xp and x.device == device.target:
        return x
    return device.xp.asarray(_of_known_type(to_host(x)), device=device.target)


def _of_known_type(x: np.ndarray) -> np.ndarray:
    """x as it is, but for long doubles and swapped bytes, which no device has: in float64, as on the CPU."""
    known = x.dtype.kind != "f" or (x.dtype.itemsize <= 8 and x.dtype.isnative)
    return x if known else x.astype(np.float64)


def scope(device: Device) -> Any:
    """A context in which `device` is CUDA's current device (nothing for other kinds).

    Where its memory does not suffice, the MemoryError says what was needed, what was free and what to do.
    """
    return _cuda_scope(device) if device.kind == "cuda" else nullcontext()


@contextmanager
def _cuda_scope(device: Device) -> Iterator[None]:
    cuda = device.xp.cuda
    with cuda.Device(device.number):
        try:
            yield
        except cuda.memory.OutOfMemoryError as error:
            free, total = cuda.runtime.memGetInfo()
            raise MemoryError(
                f"{device.name} has too little memory: {str(error).rstrip('.')}; {free:,} of its {total:,} bytes are "
                "free. Free arrays that are not needed and then the pool "
                "(cupy.get_default_memory_pool().free_all_blocks()), give float32 rows or fewer of them, or compute "
                "with device='cpu'."
            ) from error


# --- choosing a device ------------------------------------------------------------------------


class Bound(NamedTuple):
    """The size of a problem from which "auto" sends host data to a GPU."""

    work: float  # n_samples * n_features * n_clusters
    source: str  # where the number comes from


@cache
def bound() -> Bound:
    """`GPUKMEANS_WORTH_A_GPU`, read once, or the built-in `WORTH_A_GPU`.

    Raises
    ------
    ValueError
        If the variable is set to something else than a number from 0 on, or `inf`.
    """
    text = os.environ.get("GPUKMEANS_WORTH_A_GPU", "").strip()
    if not text:
        return Bound(WORTH_A_GPU, "built in")
    try:
        work = float(text)
    except ValueError:
        work = -1.0
    if not work >= 0:
        raise ValueError(
            f"GPUKMEANS_WORTH_A_GPU={text!r}, but it is the n_samples * n_features * n_clusters from which "
            "device='auto' uses a GPU: a number such as 1e9, 0 (always) or inf (never). `gpukmeans compare --sweep n` "
            "measures it."
        )
    return Bound(work, "GPUKMEANS_WORTH_A_GPU")


def resolve(device: str, X: Any = None, work: float | None = None) -> Device:
    """Choose where to compute.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:N"}
        "auto" stays where X lives if that is a device; host data goes to the first usable CUDA
        device when `work` is at least `bound()`, otherwise to the CPU. "cuda" never falls back.
    X : array, optional
        The input.
    work : float, optional
        n_samples * n_features * n_clusters; None counts as large.

    Raises
    ------
    ValueError
        If the name is not one of the above.
    RuntimeError
        If a CUDA device is asked for and none can be used; the message says why.
    """
    if device == "cpu":
        return CPU
    if device == "auto":
        return home_of(X) if is_device_array(X) or is_cupy_sparse(X) else _auto(work)
    match = re.fullmatch(r"cuda(?::(\d+))?", device) if isinstance(device, str) else None
    if match is None:
        raise ValueError(
            f"device={device!r} is not known. Give 'auto', 'cpu', 'cuda' or 'cuda:N' (N is a device number)."
        )
    count, why_not = _cuda_state()
    if why_not:
        raise RuntimeError(f"device={device!r} needs a usable CUDA GPU: {why_not}. Or use device='auto'.")
    index = int(match[1] or 0)
    if index >= count:
        raise RuntimeError(f"device={device!r} does not exist: {count} CUDA device(s), numbered from 0.")
    return _cuda_device(index, f"asked for with device={device!r}")


def _auto(work: float | None) -> Device:
    least, source = bound()
    if work is not None and work < least:
        return _too_small(work, least, source)
    _, why_not = _cuda_state()
    if not why_not:
        return _cuda_device(0, "the first usable CUDA device, and the problem is large enough")
    _log_fallback(why_not)
    return CPU._replace(reason=f"no usable CUDA device: {why_not}")


@lru_cache(maxsize=64)
def _too_small(work: float, least: float, source: str) -> Device:
    return CPU._replace(reason=f"n*d*k = {work:.3g} is below {least:.3g} ({source}), where a GPU starts to pay")


@cache
def _log_fallback(why_not: str) -> None:  # cached: said once for each reason
    logger.info("device='auto' computes on the CPU: %s", why_not)


def _cuda_device(index: int, reason: str) -> Device:
    import cupy

    label = cupy.cuda.runtime.getDeviceProperties(index)["name"]
    label = label.decode() if isinstance(label, bytes) else str(label)
    return Device("cuda", f"cuda:{index} {label}", reason, xp=cupy, number=index)


def _cuda_state() -> tuple[int, str]:
    """The number of usable CUDA devices, and why none can be used ('' if one can)."""
    try:
        import cupy
    except ImportError as error:
        missing = getattr(error, "name", None) == "cupy"
        return 0, f"CuPy is not installed ({_INSTALL})" if missing else f"CuPy does not import ({error})"
    return _probe(cupy)


@cache
def _probe(cupy: Any) -> tuple[int, str]:
    """Count devices and run one tiny kernel: a driver alone does not make a device usable."""
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
        if count == 0:
            return 0, "the driver lists no device"
        with cupy.cuda.Device(0):
            answer = int((cupy.arange(4) * 2).sum().get())
    except Exception as error:  # CuPy raises many types here; each of them means "not usable"
        return 0, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else 'no message'}"
    return (count, "") if answer == 12 else (0, f"a test kernel gave {answer} instead of 12")


def cuda_devices() -> tuple[list[Device], str]:
    """The usable CUDA devices, and why there is none ('' if there is one)."""
    count, why_not = _cuda_state()
    return [_cuda_device(i, "") for i in range(count)], why_not


def cuda_facts() -> dict[str, Any]:
    """Devices, driver and versions, of JSON types; why no device can be used where none can."""
    devices, why_not = cuda_devices()
    if not devices:
        return {"devices": [], "why_not": why_not}
    cupy = devices[0].xp
    runtime = cupy.cuda.runtime
    facts = []
    for device in devices:
        found = runtime.getDeviceProperties(device.number)
        facts.append(
            {
                "name": device.name,
                "memory_mib": int(found["totalGlobalMem"]) >> 20,
                "capability": f"{found['major']}.{found['minor']}",
                "multiprocessors": int(found["multiProcessorCount"]),
            }
        )
    versions = {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()}
    told = {name: f"{value // 1000}.{value % 1000 // 10}" for name, value in versions.items()}
    return {"devices": facts, "cupy": cupy.__version__, **told}


def describe() -> dict[str, Any]:
    """Facts about devices for `gpukmeans doctor`."""
    devices, why_not = cuda_devices()
    version = None
    if "not installed" not in why_not:
        try:
            import cupy

            version = cupy.__version__
        except ImportError:
            version = "does not import"
    choice = _auto(None)
    return {
        "cupy": version,
        "cuda": why_not or f"{len(devices)} usable device(s)",
        "devices": [device.name for device in devices],
        "auto": f"{choice.name}: {choice.reason}",
        "bound": bound(),
    }
