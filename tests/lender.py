"""A package of arrays that lend their memory through DLPack, name their device, and can do nothing else.

What a tensor is to this package, without the weight of one that makes tensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Lent:
    """Values on the host; `kind` is DLPack's number of the device it says it is on."""

    def __init__(self, values: Any, kind: int = 1, device: str = "cpu:0") -> None:
        self.values, self.kind, self.device = values, kind, device
        self.shape, self.dtype = values.shape, values.dtype

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0


class Interface:
    """An array of CUDA's array interface alone, such as Numba's."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return getattr(self.values, "__cuda_array_interface__", {})  # {}: NumPy, in tests that come to nothing


def asarray(values: Any, device: str | None = None) -> Lent:
    return Lent(np.asarray(values), device=device or "cpu:0")
