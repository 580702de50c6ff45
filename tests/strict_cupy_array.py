"""The array of `strict_cupy`: NumPy data that host code reaches only by asking, and asking is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from strict_cupy_device import UNAUDITED, Block

IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)


@dataclass(frozen=True)
class Flags:
    """The flags CuPy has; ``writeable`` is not one of them."""

    c_contiguous: bool
    f_contiguous: bool
    owndata: bool

    def __getitem__(self, name: str) -> bool:
        return vars(self)[name.lower()]


class ndarray:
    """``cupy.ndarray``: `Operations` does the arithmetic, `Block` holds the memory and names the device."""

    __module__ = "cupy"
    __slots__ = ("_a", "_block")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, a: np.ndarray, block: Block) -> None:
        self._a, self._block = a, block

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    device = property(lambda self: self._block.state.device_class(self._block.device))
    T = property(lambda self: self._view(self._a.T))
    mT = property(lambda self: self._view(self._a.mT))
    _ops = property(lambda self: self._block.state.operations)

    @property
    def flags(self) -> Flags:
        flags = self._a.flags
        return Flags(flags.c_contiguous, flags.f_contiguous, flags.owndata)

    def _view(self, a: np.ndarray) -> ndarray:
        return ndarray(a, self._block)

    # Leaving and entering the device: by name only, and counted.

    def _read(self, why: str) -> np.ndarray:
        self._block.state.download(self.nbytes, why)
        return self._a

    def get(self, stream: Any = None, order: Any = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        if out is None:
            out = np.empty_like(self._a, order=order)
        elif not isinstance(out, np.ndarray) or self.dtype != out.dtype:
            kind = getattr(out, "dtype", type(out).__name__)
            raise TypeError(f"{kind} array cannot be obtained from {self.dtype} array")
        elif self.shape != out.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        self._block.state.download(self.nbytes, "get", blocking)
        out[...] = self._a
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        self._block.state.upload(self.nbytes, "set")
        self._a[...] = arr

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._read("item").item()

    def tolist(self) -> Any:
        return self._read("tolist").tolist()

    def __bool__(self) -> bool:
        if self.size > 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        return self.size == 1 and bool(self._read("bool").item())

    def _scalar(self, why: str) -> np.ndarray:
        if self.ndim:
            raise TypeError("only 0-dimensional arrays can be converted to Python scalars")
        return self._read(why)

    def __float__(self) -> float:
        return float(self._scalar("float"))

    def __int__(self) -> int:
        return int(self._scalar("int"))

    def __repr__(self) -> str:
        return repr(self._read("repr"))

    def __format__(self, spec: str) -> str:
        return format(self._read("format").item(), spec) if self.ndim == 0 else repr(self)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(IMPLICIT)

    def __dlpack__(self, **kwargs: Any) -> NoReturn:
        raise BufferError("a CUDA array has no host memory to share; use `.get()`")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._block.device  # kDLCUDA

    def __reduce__(self) -> NoReturn:
        raise TypeError("a device array went into a pickle: pickles hold host arrays only; use `.get()`")

    # Indexing. A host index array is uploaded, a mask reads a size back: CuPy does both without a word.

    def __len__(self) -> int:
        return len(self._a)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> ndarray:
        return self._ops.finish(self._a[self._ops.key(self, key)], self)

    def __setitem__(self, key: Any, value: Any) -> None:
        own, host_key = self._ops.data(self), self._ops.key(self, key)
        if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        source = self._ops.data(value) if isinstance(value, ndarray) else value
        if np.size(source) > 1:
            self._refuse_duplicates(host_key)
        self._block.state.launch()
        with np.errstate(all="ignore"):
            own[host_key] = source

    def _refuse_duplicates(self, key: tuple[Any, ...]) -> None:
        """NumPy keeps the last of several values written to one cell; on a device any of them may win."""
        if any(isinstance(k, np.ndarray) and k.dtype.kind in "iu" for k in key):
            writes = np.zeros(self.shape, np.intp)
            np.add.at(writes, key, 1)
            if np.any(writes > 1):
                raise ValueError("the index names a cell twice: on a device either value may win")

    # NumPy's own functions come back here and stay on the device, as with CuPy.

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (None,), **kw: Any) -> Any:
        run = self._ops.functions.get(ufunc.__name__)
        return NotImplemented if run is None or method != "__call__" else run(*inputs, out=out[0], **kw)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        run = self._ops.functions.get(".".join([*func.__module__.split(".")[1:], func.__name__]))
        return NotImplemented if run is None else run(*args, **kwargs)

    # Methods whose arguments are not those of the function of that name.

    def astype(self, dtype: Any, order: Any = "K", casting: None = None, subok: None = None, copy: bool = True) -> Any:
        if casting is not None:
            raise TypeError("casting is not supported yet")
        self._ops.data(self)
        return self._ops.array(self, dtype, copy, order)

    def copy(self, order: Any = "C") -> Any:
        return self._ops.array(self, order=order)

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def fill(self, value: Any) -> None:
        self[...] = value

    def flatten(self, order: Any = "C") -> Any:
        return self.copy(order).ravel(order)

    def reshape(self, *shape: Any, order: Any = "C") -> Any:
        return self._ops.functions["reshape"](self, shape[0] if len(shape) == 1 else shape, order)

    def transpose(self, *axes: Any) -> ndarray:
        return self._view(self._a.transpose(*axes))

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._a.view(self.dtype if dtype is None else dtype))

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> Any:
        return self._ops.functions["clip"](self, min, max, out)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"'ndarray' object has no attribute {name!r} ({UNAUDITED})")


def _method(name: str) -> Callable[..., Any]:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        return self._ops.functions[name](self, *args, **kwargs)

    return method


def _reflected(name: str) -> Callable[..., Any]:
    return lambda self, other: self._ops.functions[name](other, self)


def _in_place(name: str) -> Callable[..., Any]:
    return lambda self, other: self._ops.functions[name](self, other, out=self)


_METHODS = (
    "all any argmax argmin argsort cumprod cumsum dot max mean min nonzero prod ravel repeat round "
    "searchsorted squeeze std sum swapaxes take var"
)
_OPERATORS = (
    "add=add sub=subtract mul=multiply truediv=divide floordiv=floor_divide mod=remainder pow=power "
    "matmul=matmul and=bitwise_and or=bitwise_or xor=bitwise_xor lshift=left_shift rshift=right_shift"
)
_COMPARISONS = "lt=less le=less_equal gt=greater ge=greater_equal eq=equal ne=not_equal"
_UNARY = "neg=negative pos=positive abs=absolute invert=invert"

for _name in _METHODS.split():
    setattr(ndarray, _name, _method(_name))
for _name, _ufunc in (pair.split("=") for pair in f"{_OPERATORS} {_COMPARISONS} {_UNARY}".split()):
    setattr(ndarray, f"__{_name}__", _method(_ufunc))
for _name, _ufunc in (pair.split("=") for pair in _OPERATORS.split()):
    setattr(ndarray, f"__r{_name}__", _reflected(_ufunc))
    setattr(ndarray, f"__i{_name}__", _in_place(_ufunc))
