"""The command by which the stand-in driver turns PTX into a library: translate.py KERNEL.ptx LIBRARY.so"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cuda_standin.place import KERNEL_FLAGS, NATIVE, compiler
from cuda_standin.ptx import translate


def compile_ptx(source: pathlib.Path, library: pathlib.Path) -> None:
    """Translate and compile; the library appears whole or not at all."""
    cpp, unfinished = source.with_suffix(".cpp"), source.with_suffix(".so")
    cpp.write_text(translate(source.read_text()))
    subprocess.run([compiler(), *KERNEL_FLAGS, f"-I{NATIVE}", str(cpp), "-o", str(unfinished)], check=True)
    unfinished.rename(library)
    cpp.unlink()


if __name__ == "__main__":
    os.environ.pop("LD_PRELOAD", None)
    try:
        compile_ptx(*map(pathlib.Path, sys.argv[1:]))
    except (NotImplementedError, subprocess.CalledProcessError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
