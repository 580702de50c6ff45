"""A stand-in, on NumPy, for the part of CuPy 14 that this package uses, for machines without a GPU.

It refuses what CuPy refuses and NumPy allows: host arrays in device arithmetic, implicit conversion, keywords
that CuPy lacks, arrays of another device. It counts what costs time or memory on a device: copies either
way, synchronisations, allocations, peak bytes. It covers an audited list of names and says so of all others.
It says nothing about speed. It runs no CUDA source, so while it is installed GPUKMEANS_KERNELS turns the
compiled kernels off, and the array bodies are what it tests.

>>> import pytest
>>> with pytest.MonkeyPatch.context() as patch:
...     cupy = install(patch)
...     x = cupy.asarray(np.arange(6.0))
...     with counting() as stats:
...         total = float(x.sum())
>>> total, stats.h2d, stats.d2h, stats.d2h_bytes, stats.syncs
(15.0, 0, 1, 8, 1)
"""

from __future__ import annotations

import inspect
import operator
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from strict_cupy_array import IMPLICIT, ndarray
from strict_cupy_device import (
    VERSION,
    Broken,
    Event,
    MemoryPool,
    PinnedMemoryPool,
    State,
    Stats,
    broken_compiler,
    broken_driver,
    counting,
    cuda_modules,
    make_module,
)

if TYPE_CHECKING:
    import pytest

__all__ = ["Broken", "Event", "Stats", "broken_compiler", "broken_driver", "counting", "install", "ndarray"]

_CONSTANTS = (
    "newaxis inf nan pi e bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp float16 float32 "
    "float64 complex64 complex128 generic number integer floating inexact signedinteger unsignedinteger "
    "dtype finfo iinfo isdtype promote_types issubdtype can_cast"
)
_UFUNCS = (
    "abs absolute square sqrt exp expm1 log log1p log2 log10 floor ceil trunc rint sign signbit copysign "
    "nextafter maximum minimum fmax fmin add subtract multiply divide true_divide floor_divide remainder mod "
    "fmod power pow negative positive reciprocal hypot equal not_equal less less_equal greater greater_equal "
    "logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_xor invert bitwise_invert "
    "left_shift right_shift isfinite isnan isinf ldexp frexp matmul"
)
# CuPy's parameters and the functions that have them; what is missing CuPy lacks, or nobody audited it.
_KERNELS = {
    "a, axis=None, dtype=None, out=None, keepdims=False": "sum prod mean",
    "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False": "var std",
    "a, axis=None, out=None, keepdims=False": "min max amin amax any all",
    "a, axis=None, *, keepdims=False": "argmin argmax",
    "a, axis=None": "count_nonzero",
    "a, axis=None, dtype=None, out=None": "cumsum cumprod",
    "x, /, *, axis=None, dtype=None, out=None, include_initial=False": "cumulative_sum",
    "a, decimals=0, out=None": "round",
    "a, a_min, a_max, out=None": "clip",
    "a, axis=-1": "sort argsort",
    "a, v, side='left'": "searchsorted",
    "a, b, out=None": "dot outer",
    "a, b": "vdot inner",
    "a, b, axes=2": "tensordot",
    "a, b, rtol=1e-05, atol=1e-08, equal_nan=False": "isclose allclose",
    "a1, a2, equal_nan=False": "array_equal",
    "a, n=1, axis=-1": "diff",
    "a, shift, axis=None": "roll",
    "A, reps": "tile",
    "m, k=0": "tril triu",
    "a, order='K'": "copy",
    "tup, axis=0, out=None, *, dtype=None, casting='same_kind'": "concat concatenate stack",
    "tup, *, dtype=None, casting='same_kind'": "vstack hstack",
    "x, ord=None, axis=None, keepdims=False": "linalg.norm",
    "a": "nonzero flatnonzero argwhere",
    "ar, return_index=False, return_inverse=False, return_counts=False, axis=None": "unique",
    "x": "unique_all unique_counts unique_inverse unique_values",
    "x, weights=None, minlength=None": "bincount",
}
_VIEWS = {
    "a, axis": "expand_dims",
    "a, axis=None": "squeeze flip",
    "array, shape": "broadcast_to",
    "a, axes=None": "permute_dims transpose",
    "x, /": "matrix_transpose",
    "a, axis1, axis2": "swapaxes",
    "a, source, destination": "moveaxis",
    "a, newshape, order='C'": "reshape",
    "a, order='C'": "ravel",
    "ary, indices_or_sections, axis=0": "split",
}
_CREATION = {
    "shape, dtype=float, order='C'": "zeros ones empty",
    "shape, fill_value, dtype=None, order='C'": "full",
    "a, dtype=None, order='K', *, shape=None": "zeros_like ones_like",
    "prototype, dtype=None, order='K', *, shape=None": "empty_like",
    "a, fill_value, dtype=None, order='K', *, shape=None": "full_like",
    "start, stop=None, step=1, dtype=None": "arange",
    "start, stop, num=50, endpoint=True, *, dtype=None": "linspace",
    "N, M=None, k=0, dtype=float": "eye",
}
_METADATA = {"a": "shape ndim size", "a, b, max_work=None": "shares_memory may_share_memory"}
_SPECIAL = (
    "array asarray asnumpy ascontiguousarray astype copyto take take_along_axis where repeat "
    "broadcast_arrays einsum result_type get_array_module"
)
# Parameters that may hold a device array. Others (shape, axis, ...) are passed on, and NumPy refuses one.
_OPERANDS = {"a", "b", "x", "v", "m", "A", "ar", "a1", "a2", "a_min", "a_max", "weights", "out", "fill_value"}
_NO_KERNEL = {"zeros", "empty", "zeros_like", "empty_like"}
# Bytes the host must read before the result has a size. CuPy reads 4 for a count below 2**31; we say 8.
_SIZE_BYTES = 8
_SIZED = {"nonzero", "flatnonzero", "argwhere", "unique"} | set(_KERNELS["x"].split())
_READ_BACK = dict.fromkeys(_SIZED, (_SIZE_BYTES,)) | {"bincount": (1, 8)}  # any negative?, the largest
_EXTRA = {"sort": {"kind": "stable"}, "argsort": {"kind": "stable"}}


class Operations:
    """The functions of the namespace for one `State`: those of the tables, and the public methods."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.functions: dict[str, Callable[..., Any]] = {name: self._ufunc(name) for name in _UFUNCS.split()}
        self.functions |= {name: getattr(self, name) for name in _SPECIAL.split()}
        runs = [(_KERNELS, self._kernel), (_VIEWS, self._view), (_CREATION, self._create)]
        for table, run in [*runs, (_METADATA, self._peek)]:
            for parameters, names in table.items():
                self.functions |= {name: _checked(name, parameters, run) for name in names.split()}

    # From arguments to NumPy and back.

    def data(self, value: Any, anywhere: bool = False) -> np.ndarray:
        """Unwrap a device array, which a kernel may read only on its own device."""
        if not isinstance(value, ndarray):
            raise TypeError(f"Unsupported type {type(value)}")
        if value._block.state is not self.state:
            raise ValueError("the array belongs to another installed double")
        there, here = value._block.device, self.state.current
        if there != here and not anywhere:
            raise ValueError(
                f"The device where the array resides ({there}) is different from the current device "
                f"({here}). Peer access is unavailable between these devices."
            )
        return value._a

    def operand(self, value: Any) -> Any:
        """Unwrap an argument of a kernel: a device array or a scalar."""
        scalar = isinstance(value, (bool, int, float, complex, np.number, np.bool))
        return value if scalar else self.data(value)

    def finish(self, result: Any, source: Any = None, out: ndarray | None = None) -> Any:
        """Wrap a result: a view shares the memory of `source`, all else is a launch and new memory."""
        if out is not None:
            self.state.launch()
            return out
        if isinstance(result, (tuple, list)):
            items = [self.finish(item, source) for item in result]
            return items if isinstance(result, list) else getattr(type(result), "_make", tuple)(items)
        array = np.asarray(result)
        if isinstance(source, ndarray):
            if not array.size or np.may_share_memory(array, source._a):
                return ndarray(array, source._block)
            self.data(source)
        self.state.launch()
        return ndarray(array, self.state.allocate(array.nbytes))

    def _ufunc(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, out: Any = None, dtype: Any = None) -> Any:
            given = {} if out is None else {"out": self.data(out)}
            return self.finish(_numpy(name, *map(self.operand, args), dtype=dtype, **given), out=out)

        return call

    def _kernel(self, name: str, bound: inspect.BoundArguments) -> Any:
        first, out = next(iter(bound.arguments.values())), bound.arguments.get("out")
        if "tup" in bound.arguments:
            bound.arguments["tup"] = [self.data(item) for item in first]
        else:
            self.data(first)
        for parameter in _OPERANDS & bound.arguments.keys():
            value = bound.arguments[parameter]
            bound.arguments[parameter] = None if value is None else self.operand(value)
        for nbytes in _READ_BACK.get(name, ()):
            self.state.download(nbytes, f"size of {name}")
        return self.finish(_numpy(name, *bound.args, **bound.kwargs, **_EXTRA.get(name, {})), first, out)

    def _view(self, name: str, bound: inspect.BoundArguments) -> Any:
        parameter, array = next(iter(bound.arguments.items()))
        bound.arguments[parameter] = self.data(array, anywhere=True)
        return self.finish(_numpy(name, *bound.args, **bound.kwargs), array)

    def _create(self, name: str, bound: inspect.BoundArguments) -> Any:
        """Make an array. A prototype may be a host array: only its shape and dtype are read."""
        for parameter, value in bound.arguments.items():
            if parameter == "fill_value" or isinstance(value, ndarray):
                known = parameter in ("fill_value", "a", "prototype")
                bound.arguments[parameter] = self.operand(value) if known else operator.index(value)
        if name not in _NO_KERNEL:
            self.state.launch()
        result = _numpy(name, *bound.args, **bound.kwargs)
        return ndarray(_poisoned(result) if "empty" in name else result, self.state.allocate(result.nbytes))

    def _peek(self, name: str, bound: inspect.BoundArguments) -> Any:
        return _numpy(name, *(self.data(value, anywhere=True) for value in bound.args))

    def key(self, array: ndarray, key: Any) -> tuple[Any, ...]:
        """Return NumPy's index for `key`, counting what CuPy copies for it."""
        parts = list(key) if isinstance(key, tuple) else [key]
        for i, part in enumerate(parts):
            if isinstance(part, (ndarray, list)) or (isinstance(part, np.ndarray) and part.ndim):
                self.data(array)
                parts[i] = self._indices(part)
        if not any(part is Ellipsis for part in parts):
            parts.append(Ellipsis)  # a single cell stays a 0-d array, and a view
        return tuple(parts)

    def _indices(self, indices: Any) -> np.ndarray:
        """Unwrap an index array. One from the host is uploaded; a mask reads back how many it selects."""
        if isinstance(indices, ndarray):
            result = self.data(indices)
        else:
            result = np.asarray(indices, dtype=None if np.size(indices) else np.intp)
            self.state.upload(result.nbytes, "host index array")
        if result.dtype == np.bool:
            self.state.download(_SIZE_BYTES, "size of a boolean index")
        return result

    def _uploaded(self, host: np.ndarray, why: str) -> ndarray:
        if host.dtype.char not in "?bhilqBHILQefdFD":
            raise ValueError(f"Unsupported dtype {host.dtype}")
        block = self.state.allocate(host.nbytes)
        if host.ndim:
            self.state.upload(host.nbytes, why)
        else:
            self.state.launch()  # a scalar travels as an argument of the kernel that fills the array
        return ndarray(host, block)

    def _moved(self, array: ndarray, dtype: Any, copy: Any, order: Any, ndmin: int = 0) -> ndarray:
        """Return `array` on the current device with this dtype and order, itself if nothing changes."""
        fits = order in (None, "K", "A") or array.flags[f"{order}_contiguous"]
        same = fits and (dtype is None or array.dtype == dtype) and array.ndim >= ndmin
        if same and not copy and array._block.device == self.state.current:
            return array
        with np.errstate(all="ignore"):
            return self.finish(np.array(array._a, dtype=dtype, order=order or "K", ndmin=ndmin))

    # Functions that fit no table.

    def array(
        self,
        obj: Any,
        dtype: Any = None,
        copy: Any = True,
        order: Any = "K",
        *,
        ndmin: int = 0,
    ) -> Any:
        if isinstance(obj, (list, tuple)) and any(isinstance(item, ndarray) for item in obj):
            if not all(isinstance(item, ndarray) for item in obj):
                raise TypeError(IMPLICIT)
            obj, copy = self.functions["stack"](obj), False
        if isinstance(obj, ndarray):
            return self._moved(obj, dtype, copy, order, ndmin)
        return self._uploaded(np.array(obj, dtype=dtype, order=order or "K", ndmin=ndmin), "array")

    def asarray(self, a: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None) -> Any:
        return self.array(a, dtype, copy, order)

    def asnumpy(self, a: Any, stream: Any = None, order: Any = "C", out: Any = None, *, blocking: bool = True) -> Any:
        return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a, order=order)

    def ascontiguousarray(self, a: Any, dtype: Any = None) -> Any:
        self.data(a)
        return self._moved(a, dtype, copy=False, order="C")

    def astype(self, x: Any, dtype: Any, /, *, copy: bool = True) -> Any:
        self.data(x)
        return self._moved(x, dtype, copy, order="K")

    def copyto(self, dst: Any, src: Any, casting: Any = "same_kind", where: Any = None) -> None:
        if isinstance(src, np.ndarray) and src.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
        mask = True if where is None else self.data(where)
        np.copyto(self.data(dst), self.operand(src), casting=casting, where=mask)
        self.state.launch()

    def take(self, a: Any, indices: Any, axis: int | None = None, out: Any = None) -> Any:
        host = indices if isinstance(indices, (int, np.integer)) else self._indices(indices)
        target = None if out is None else self.data(out)
        return self.finish(np.take(self.data(a), host, axis=axis, out=target), out=out)

    def take_along_axis(self, a: Any, indices: Any, axis: int | None) -> Any:
        return self.finish(np.take_along_axis(self.data(a), self._indices(indices), axis))

    def where(self, condition: Any, x: Any = None, y: Any = None) -> Any:
        if x is None and y is None:
            return self.functions["nonzero"](condition)
        return self.finish(np.where(self.data(condition), self.operand(x), self.operand(y)))

    def repeat(self, a: Any, repeats: int, axis: int | None = None) -> Any:
        """Repeat a fixed number of times; an array of numbers synchronises in CuPy and is not audited."""
        return self.finish(np.repeat(self.data(a), operator.index(repeats), axis))

    def broadcast_arrays(self, *args: Any) -> list[Any]:
        shape = np.broadcast_shapes(*(arg.shape for arg in args))
        return [self.functions["broadcast_to"](arg, shape) for arg in args]

    def einsum(self, *operands: Any, out: Any = None, optimize: Any = False) -> Any:
        """Contract. CuPy uploads host operands here without a word, so they are counted, not refused."""
        given = [self._uploaded(v, "einsum operand") if isinstance(v, np.ndarray) else v for v in operands]
        host = [self.data(v) if isinstance(v, ndarray) else v for v in given]
        target = None if out is None else self.data(out)
        first = next((v for v in given if isinstance(v, ndarray)), None)
        return self.finish(_numpy("einsum", *host, out=target, optimize=optimize), first, out)

    def result_type(self, *arrays_and_dtypes: Any) -> Any:
        return np.result_type(*(v._a if isinstance(v, ndarray) else v for v in arrays_and_dtypes))

    def get_array_module(self, *args: Any) -> ModuleType:
        return self.state.module if any(isinstance(arg, ndarray) for arg in args) else np


def _checked(name: str, parameters: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with exactly these parameters; `run` gets only the arguments that were given."""
    signature = inspect.signature(eval(f"lambda {parameters}: None"))

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        return run(name, bound)

    call.__name__ = name
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _numpy(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call NumPy without its floating-point warnings: a device gives none."""
    with np.errstate(all="ignore"):
        return operator.attrgetter(name)(np)(*args, **kwargs)


def _poisoned(a: np.ndarray) -> np.ndarray:
    """Fill unset memory with what nobody takes for a result: NaN, True, the lowest or the largest integer."""
    if a.dtype.kind in "iu":
        limits = np.iinfo(a.dtype)
        a.fill(limits.min or limits.max)
    else:
        a.fill(np.nan if a.dtype.kind in "fc" else True)
    return a


def _modules(state: State) -> dict[str, ModuleType]:
    """Return the fresh ``cupy`` and its submodules by full name."""
    functions = {name: call for name, call in state.operations.functions.items() if "." not in name}
    modules = cuda_modules(state)
    modules["cupy.linalg"] = make_module("cupy.linalg", {"norm": state.operations.functions["linalg.norm"]})
    pool, pinned = MemoryPool(state), PinnedMemoryPool()
    members = {
        "__version__": VERSION,
        "_double": state,
        "ndarray": ndarray,
        "cuda": modules["cupy.cuda"],
        "linalg": modules["cupy.linalg"],
        "is_available": modules["cupy.cuda"].is_available,
        "get_default_memory_pool": lambda: pool,
        "get_default_pinned_memory_pool": lambda: pinned,
        **{name: getattr(np, name) for name in _CONSTANTS.split()},
        **functions,
    }
    state.module = make_module("cupy", members)
    return {"cupy": state.module, **modules}


def install(
    monkeypatch: pytest.MonkeyPatch, *, devices: int = 1, broken: Broken | None = None, memory: int = 16 << 30
) -> ModuleType:
    """Put a fresh double into ``sys.modules["cupy"]`` until `monkeypatch` is undone, and return it.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
    devices : int, default=1
        How many CUDA devices to show; 0 fails as CuPy does when the driver finds none.
    broken : Broken, optional
        A fault, such as `broken_driver()` or `broken_compiler()`.
    memory : int, default=16 GiB
        Bytes on each device; an allocation beyond them raises ``OutOfMemoryError``.

    Returns
    -------
    module
    """
    state = State(devices, broken, memory)
    state.operations = Operations(state)
    for name in [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupyx", "cupy_backends")]:
        monkeypatch.delitem(sys.modules, name)
    for name, module in _modules(state).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "cupyx", None)
    if os.environ.get("GPUKMEANS_KERNELS", "1") == "1":
        monkeypatch.setenv("GPUKMEANS_KERNELS", "numpy")
    return state.module
