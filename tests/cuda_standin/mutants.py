"""Planted faults: each is put into a copy of the kernels, and the tests have to notice.

A fault that no test notices says that the tests do not look there.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from typing import Any, NamedTuple

from . import place

# In the order in which they notice most at the least cost. The allocations of memcheck end where arrays end.
_CONDITIONS: list[dict[str, object]] = [{"memcheck": 1, "seed": 1}, {"memcheck": 1, "seed": None}, {"seed": 2}]
_PASSED, _FAILED = 0, 1  # of pytest; other codes are neither
_SECONDS = 600


class Table(NamedTuple):
    """Faults in one folder of sources."""

    path: pathlib.Path
    folder: pathlib.Path  # of the sources
    variable: str  # "module:NAME": where the tests look for that folder
    tests: list[str]  # arguments of pytest
    mutants: list[dict[str, Any]]  # with file, fault, old, new, and perhaps tests of its own


def read(path: pathlib.Path) -> Table:
    """Read a table of faults.

    Raises
    ------
    ValueError
        If the text that a fault replaces is not in its file, or more than once.
    """
    raw = tomllib.loads(path.read_text())
    table = Table(path, place.ROOT / raw["folder"], raw["variable"], raw["tests"], raw["mutant"])
    for mutant in table.mutants:
        times = (table.folder / mutant["file"]).read_text().count(mutant["old"])
        if times != 1:
            raise ValueError(
                f"{path.name}: what the fault {mutant['fault']!r} replaces is {times} times in {mutant['file']}, "
                "and has to be there once: adjust `old`."
            )
    return table


def run(paths: list[pathlib.Path], chosen: str = "") -> int:
    """Try the faults whose description or file contains `chosen`; the number that survive."""
    survivors = tried = 0
    for path in paths:
        table = read(path)
        print(f"{path.name}: without a fault", flush=True)
        for knobs in _CONDITIONS:
            code, output = _tests(table, table.tests, table.folder, knobs)
            if code != _PASSED:
                sys.exit(f"{output}\nthe tests fail without a fault, so they can tell nothing")
        for mutant in table.mutants:
            if chosen in mutant["fault"] or chosen in mutant["file"]:
                tried += 1
                survivors += not _caught(table, mutant)
    print(f"{tried} faults, {tried - survivors} caught, {survivors} survive")
    return survivors if tried else 1


def _caught(table: Table, mutant: dict[str, Any]) -> bool:
    """Whether the tests notice one fault, under any condition; prints which test did."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "sources"
        shutil.copytree(table.folder, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        source = folder / mutant["file"]
        source.write_text(source.read_text().replace(mutant["old"], mutant["new"]))
        for knobs in _CONDITIONS:
            code, output = _tests(table, mutant.get("tests", table.tests), folder, knobs)
            if code != _PASSED:
                break
    if code not in (_PASSED, _FAILED) and code > 0:
        sys.exit(f"{output}\npytest could not run (exit status {code})")
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    by = lines[0].split(" - ")[0] if lines else "the end of the process" if code else "NOTHING: it survives"
    print(f"  {mutant['file']}: {mutant['fault']}\n    noticed by {by}", flush=True)
    return code != _PASSED


def _tests(table: Table, tests: list[str], folder: pathlib.Path, knobs: dict[str, object]) -> tuple[int, str]:
    """pytest's exit status and output; -1 where the kernel never ends."""
    environment = place.environment(**knobs)
    environment["STANDIN_MUTANT"] = f"{table.variable}={folder}"
    environment["PYTHONPATH"] += f":{place.HERE.parent}"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "cuda_standin.plugin", "--require-cuda", *tests]
    try:
        done = subprocess.run(
            command, cwd=place.ROOT, env=environment, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return -1, ""
    return done.returncode, done.stdout + done.stderr
