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
    cache = library.parent
    _make_once(cache / "ptx.h.gch", "-x", "c++-header", str(NATIVE / "ptx.h"))  # g++ reads it at once
    _make_once(cache / "libfibers.so", str(NATIVE / "fibers.cpp"))
    link = [f"-L{cache}", "-l:libfibers.so", f"-Wl,-rpath,{cache}"]
    _compile(f"-I{cache}", f"-I{NATIVE}", str(cpp), "-o", str(unfinished), *link)
    unfinished.rename(library)
    cpp.unlink()


def _make_once(path: pathlib.Path, *arguments: str) -> None:
    """What all kernels share: it takes nine tenths of the time of compiling a small one."""
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        _compile(*arguments, "-o", str(unfinished))
        unfinished.rename(path)


def _compile(*arguments: str) -> None:
    subprocess.run([compiler(), *KERNEL_FLAGS, *arguments], check=True)


if __name__ == "__main__":
    os.environ.pop("LD_PRELOAD", None)
    try:
        compile_ptx(*map(pathlib.Path, sys.argv[1:]))
    except (NotImplementedError, subprocess.CalledProcessError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
