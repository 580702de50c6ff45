"""The kernels with the constants that they are compiled with, and the registers that they may take."""

from __future__ import annotations

from typing import Any, NamedTuple

from gpukmeans._kernels.cuda import passes

TYPES = [("float", "float"), ("float", "double"), ("double", "double")]  # ROW, REAL
SIZE = {"float": 4, "double": 8}


class Build(NamedTuple):
    """A file, the macros that it is compiled with, and the most registers that a thread of each kernel may take."""

    name: str
    macros: dict[str, Any]
    budget: dict[str, int]

    @property
    def options(self) -> tuple[str, ...]:
        return ("-std=c++17", *(f"-D{macro}={value}" for macro, value in self.macros.items()))

    def __str__(self) -> str:
        return " ".join(map(str, (self.name, *self.macros.values())))


def assign(row: str, real: str, d: int) -> Build:
    """The fused kernel; the longer a row, the more of the registers hold it."""
    chosen = passes.fused(d, 2, SIZE[row], SIZE[real])
    most = 255 if d * SIZE[real] > 128 else 168 if chosen.threads == 128 else 128
    return Build("assign", {"ROW": row, "REAL": real, "FEATURES": d, "THREADS": chosen.threads}, {"assign": most})


def seeding(row: str, points: int, lower: int) -> Build:
    return Build("seeding", {"ROW": row, "POINTS": points}, {"lower": lower, "pick": 64, "draw": 96})


BUILDS = [
    *(assign(row, real, d) for row, real in TYPES for d in (4, 16)),
    *(Build("decide", {"ROW": row, "REAL": real}, {"localize": 64, "decide": 64}) for row, real in TYPES),
    *(Build("sums", {"ROW": row}, {"sort": 64, "add": 64}) for row in ("float", "double")),
    *(Build("own", {"ROW": row}, {"own": 64}) for row in ("float", "double")),
    Build("update", {}, {"move": 64, "record": 64}),
    *(Build("pairs", {"ROW": row}, {"distance_sums": 128}) for row in ("float", "double")),
    *(seeding(row, points, lower) for row in ("float", "double") for points, lower in ((8, 96), (16, 168))),
]
