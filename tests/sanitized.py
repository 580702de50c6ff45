"""The compiled kernels under the address and undefined-behaviour sanitizers of g++ or Clang.

`python tests/sanitized.py [ARGUMENTS OF PYTEST]`, from the root of a checkout in which the package is installed: builds
the kernels once more, with the sanitizers, into a folder that is deleted afterwards, and runs the tests that reach all
of them. Arrays are allocated under the sanitizer too, so a kernel that leaves one is noticed.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
# With its sanitizers g++ takes minutes a file for more than -O1.
FLAGS = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -g1"
TESTS = [f"tests/test_{name}.py" for name in ("sanitized", "bounds", "leading", "seeding_kernels")]
TESTS += [f"tests/test_coarse.py::test_{name}" for name in ("rows_of_any_length", "rows_in_any_memory")]
TESTS += [f"tests/test_boxes.py::test_{name}" for name in ("rows_of_a_box_have_its_owner", "the_same_fit_as_without")]


# The editable package comes before PYTHONPATH, so its finder has to go.
START = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def install(place: str) -> None:
    """The package with sanitized kernels, without what it depends on."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place, str(ROOT)]
    command += ["-C", "cmake.build-type=Debug"]  # which adds no -O
    flags = {"CXXFLAGS": FLAGS, "LDFLAGS": FLAGS, "GPUKMEANS_REQUIRE_KERNELS": "1"}
    subprocess.run(command, check=True, env=os.environ | flags)


def runtime() -> str:
    """The library of the address sanitizer, which has to be there before the interpreter allocates."""
    compiler = os.environ.get("CXX", "g++")
    found = subprocess.run([compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    return found.stdout.strip()


def main(words: list[str]) -> int:
    with tempfile.TemporaryDirectory() as place:
        install(place)
        paths = [place, os.environ.get("PYTHONPATH", "")]
        here = {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONSAFEPATH": "1",
            "LD_PRELOAD": runtime(),
            "ASAN_OPTIONS": "detect_leaks=0,abort_on_error=0",  # the interpreter never frees all it has
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "GPUKMEANS_SANITIZED": place,
        }
        command = [sys.executable, "-c", START, "-q", "-p", "no:cacheprovider", *(words or TESTS)]
        return subprocess.run(command, cwd=ROOT, env=os.environ | here).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
