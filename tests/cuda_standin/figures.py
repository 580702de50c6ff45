"""The tables of docs/gpu.md: `python -m tests.cuda_standin run -- python -m tests.cuda_standin.figures`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import device, nvrtc


class Shape(NamedTuple):
    """A problem that the fused kernel takes."""

    n: int
    d: int
    k: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.n:,} x {self.d}, k={self.k}, {self.dtype}"


SHAPES = [Shape(200_000, 2, 10, "float32"), Shape(100_000, 3, 16, "float32"), Shape(60_000, 8, 4, "float64")]


class Traffic(NamedTuple):
    """Bytes of global memory, loaded and stored by the threads of a pass in which every label changes."""

    moved: int
    floor: int  # the rows once, and their labels read and written


def rows(d: int, n: int = 1003, dtype: str | type = np.float32) -> np.ndarray:
    """Rows in five groups on the diagonal."""
    rng = np.random.default_rng(d)
    return (rng.normal(size=(n, d)) + 3 * rng.integers(0, 5, size=(n, 1))).astype(dtype)


def traffic(shape: Shape) -> Traffic:
    """Of the fused pass, by executing its PTX."""
    import cupy

    from gpukmeans import KMeans

    X = rows(shape.d, shape.n, shape.dtype)
    with device.recorded() as events:
        KMeans(shape.k, init=X[: shape.k], max_iter=1).fit(cupy.asarray(X))
    launch = next(event for event in events if event.name == "assign")
    return Traffic(launch.loaded + launch.stored, shape.n * (shape.d * X.itemsize + 8))


def registers() -> list[tuple[str, str, int, int, int]]:
    """Of each build and kernel: the least and the most registers of a thread, and bytes spilled, over architectures."""
    from gpukmeans._kernels.cuda.compile import source

    from .builds import BUILDS

    found = []
    for build in BUILDS:
        every = [nvrtc.usage(source(build.name), capability, build.options) for capability in nvrtc.capabilities()]
        for kernel in build.budget:
            used = [one for usage in every for one in usage if one.kernel == kernel]
            counts = [one.registers for one in used]
            found.append((str(build), kernel, min(counts), max(counts), sum(one.spilled for one in used)))
    return found


def main() -> None:
    print("| rows, clusters | bytes loaded and stored | floor | ratio |\n|---|---:|---:|---:|")
    for shape in SHAPES:
        moved, floor = traffic(shape)
        print(f"| {shape} | {moved:,} | {floor:,} | {moved / floor:.3f} |")
    architectures = nvrtc.capabilities()
    print(
        f"\nRegisters of a thread on the {len(architectures)} architectures {architectures[0]} to {architectures[-1]}:"
    )
    print("\n| file, constants | kernel | least | most | bytes spilled |\n|---|---|---:|---:|---:|")
    for build, kernel, least, most, spilled in registers():
        print(f"| {build} | {kernel} | {least} | {most} | {spilled} |")


if __name__ == "__main__":
    main()
