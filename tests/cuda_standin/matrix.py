"""The suite under the stand-in under all conditions, the same bits under them, and what lines of the package it ran."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from typing import NamedTuple

from . import host, place

# Tests that name no device: with --auto-cuda they compute on the device all the same.
AUTO = [f"tests/test_{name}.py" for name in ("parity", "exactness", "lloyd", "metrics", "silhouette")]
AUTO += [f"tests/test_{name}.py" for name in ("accepted_input", "bad_input")]
MARKED = ["-m", "cuda", "tests"]


class Condition(NamedTuple):
    """What one run of the suite is run under."""

    kernels: str  # GPUKMEANS_KERNELS
    seed: int | None
    memcheck: bool
    sanitize: bool = False

    def __str__(self) -> str:
        names = {"1": "kernels on", "0": "kernels off"}
        extra = [name for name, on in (("memcheck", self.memcheck), ("sanitizers", self.sanitize)) if on]
        return ", ".join([names[self.kernels], f"seed {self.seed}", *extra])


def conditions() -> list[Condition]:
    """Kernels on and off, seeds 0 to 3, every access checked; and the kernels under the sanitizers."""
    every = [Condition(kernels, seed, True) for kernels, seed in itertools.product("10", range(4))]
    return [*every, Condition("1", 0, False, sanitize=True)]


def environment(condition: Condition) -> dict[str, str]:
    here = place.environment(seed=condition.seed, memcheck=1 if condition.memcheck else None)
    here |= {"GPUKMEANS_KERNELS": condition.kernels, "GPUKMEANS_TEST_SEEDS": "1"}
    return host.sanitizer_environment(here) if condition.sanitize else here


def answers(condition: Condition) -> str:
    """The digest of the answers under a condition, on a device with memory and multiprocessors of its own."""
    number = condition.seed or 0
    here = environment(condition) | {"STANDIN_PROCESSORS": str(number + 1), "STANDIN_MEMORY": str(80_000_000 >> number)}
    command = [sys.executable, str(place.HERE / "answers.py")]
    return subprocess.run(command, cwd=place.ROOT, env=here, stdout=subprocess.PIPE, text=True).stdout.strip()


def same_bits() -> int:
    """Compare the answers with kernels on, and those with kernels off. The number of these two that differ."""
    failed = 0
    for kernels in "10":
        # g++ rounds other sums than NVRTC's PTX, so the sanitizers' condition has bits of its own
        those = [one for one in conditions() if one.kernels == kernels and not one.sanitize]
        digests = [answers(condition) for condition in those]
        failed += len(set(digests)) != 1 or not digests[0]
        print(
            f"kernels {'on' if kernels == '1' else 'off'}, answers for {len(those)} seeds: {' '.join(digests)}",
            flush=True,
        )
    return failed


def run(words: list[str], only: str = "") -> int:
    """The full matrix; words are further arguments of pytest. Returns the number of runs that fail.

    With `only`, the conditions whose names contain it; "answers" is the comparison of these alone.
    """
    failed, passed = same_bits() if only in ("", "answers") else 0, 0
    chosen = [condition for condition in conditions() if only in str(condition)]
    for condition in chosen:
        for tests in (MARKED, ["--auto-cuda", "-m", "not cuda and not host", *AUTO]):
            began = time.monotonic()
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--require-cuda", *tests, *words]
            done = subprocess.run(
                command, cwd=place.ROOT, env=environment(condition), stdout=subprocess.PIPE, text=True
            )
            count = re.search(r"(\d+) passed", done.stdout)
            passed += int(count[1]) if count else 0
            failed += done.returncode != 0
            last = done.stdout.strip().splitlines()[-1:] or ["nothing"]
            print(f"{condition}, {'auto' if tests is not MARKED else 'marked'}: {last[0]}", flush=True)
            if done.returncode:
                print(done.stdout)
            else:
                print(f"  {time.monotonic() - began:.0f} s", flush=True)
    print(f"{passed} tests passed under {len(chosen)} of {len(conditions())} conditions; {failed} runs failed")
    return failed + (not chosen and only != "answers")


def coverage() -> int:
    """Run the marked tests, kernels on and off, and print which lines of the CuPy-only code they ran."""
    data = place.folder() / "coverage"
    include = ["--include", "*/gpukmeans/_device.py,*/gpukmeans/_kernels/cuda/*"]
    measured = {"COVERAGE_FILE": str(data)}
    subprocess.run([sys.executable, "-m", "coverage", "erase"], env=place.environment() | measured, check=True)
    for kernels in "10":
        command = [
            sys.executable,
            "-m",
            "coverage",
            "run",
            "--append",
            *include,
            "-m",
            "pytest",
            "-q",
            "--require-cuda",
        ]
        here = environment(Condition(kernels, 0, False)) | measured
        done = subprocess.run([*command, *MARKED], cwd=place.ROOT, env=here)
        if done.returncode:
            return done.returncode
    report = [sys.executable, "-m", "coverage", "report", "--show-missing", *include]
    return subprocess.run(report, cwd=place.ROOT, env=place.environment() | measured).returncode
