"""Build the stand-in from pip and g++: packages, CuPy's runtime module linked to it, the driver's libraries."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile

from .place import CUPY, CYTHON, NATIVE, PACKAGES, compiler, folder, kernel_cache, native_key, packages_key, why_not

_FLAGS = ["-O2", "-ftree-vectorize", "-mfma", "-w", "-std=c++17", "-fPIC"]


def build() -> None:
    """Build what is missing or out of date; quick when nothing is."""
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    if not _is(place / "packages", packages_key()):
        for name in ("packages", "native"):
            (place / name).unlink(missing_ok=True)
        _install(place)
        _generate_runtime(place)
        (place / "packages").write_text(packages_key())
    if not _is(place / "native", native_key()):
        _compile(place)
        (place / "native").write_text(native_key())
    for stale in set(place.glob("kernels-*")) - {kernel_cache()}:
        shutil.rmtree(stale)
    reason = why_not()
    if reason:
        sys.exit(reason)
    print(f"the CUDA stand-in is ready in {place}")


def _is(marker: pathlib.Path, key: str) -> bool:
    return marker.exists() and marker.read_text() == key


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "CUPY_INSTALL_USE_STUB": "1"})


def _install(place: pathlib.Path) -> None:
    """CuPy, NVRTC, CUDA headers and Cython, apart from the Python they are built with."""
    print(f"installing {', '.join(PACKAGES)}", flush=True)
    for name in ("site", "tools", "include"):
        shutil.rmtree(place / name, ignore_errors=True)
    _pip("install", "--no-deps", "--target", str(place / "site"), *PACKAGES)
    _pip("install", "--no-deps", "--target", str(place / "tools"), CYTHON)
    for headers in sorted((place / "site" / "nvidia").glob("*/include")):
        shutil.copytree(headers, place / "include", dirs_exist_ok=True)
    shutil.rmtree(place / "site" / "nvidia" / "cuda_nvcc")  # only its headers are needed
    library = place / "lib"
    library.mkdir(exist_ok=True)
    for path in (place / "site" / "nvidia" / "cuda_nvrtc" / "lib").glob("*.so*"):
        (library / path.name).unlink(missing_ok=True)
        (library / path.name).symlink_to(path)


def _generate_runtime(place: pathlib.Path) -> None:
    """C++ of `cupy_backends.cuda.api.runtime`, from CuPy's source distribution.

    It is the one module of CuPy's core that has the CUDA runtime inside; every other one calls it. So it is
    compiled again, against the stand-in; the rest of CuPy is the released wheel.
    """
    print(f"generating CuPy {CUPY}'s runtime module", flush=True)
    shutil.rmtree(place / "source", ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        _pip("download", "--no-deps", "--no-binary", "cupy", "-d", work, f"cupy=={CUPY}")
        with tarfile.open(next(pathlib.Path(work).glob("*.tar.gz"))) as archive:
            # Python before 3.11.4 has no filters
            archive.extractall(work, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        wanted = pathlib.Path(work) / f"cupy-{CUPY}" / "cupy_backends"
        shutil.copytree(wanted, place / "source" / "cupy_backends")
    script = """
import Cython, sys
from Cython.Compiler.Main import CompilationOptions, compile
settings = {"CUPY_CUDA_VERSION": 12090, "CUPY_HIP_VERSION": 0, "CUPY_USE_CUDA_PYTHON": False,
            "CUPY_CUFFT_STATIC": False, "CUPY_CYTHON_VERSION": Cython.__version__}
options = CompilationOptions(cplus=True, language_level=3, include_path=["."], output_file="runtime.cpp",
                             compile_time_env=settings)
sys.exit(compile("cupy_backends/cuda/api/runtime.pyx", options).num_errors)
"""
    # Cython warns that such settings will go; CuPy's sources need them.
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=place / "source",
        env={**os.environ, "PYTHONPATH": str(place / "tools")},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        sys.exit(run.stdout + run.stderr)


def _compile(place: pathlib.Path) -> None:
    print("compiling the driver's libraries", flush=True)
    library, source = place / "lib", place / "source"
    include = [f"-I{place / 'include'}", f"-I{NATIVE}"]
    link = [f"-L{library}", f"-Wl,-rpath,{library}", "-l:libcuda.so.1"]
    runtime = place / "site" / "cupy_backends" / "cuda" / "api" / f"runtime{sysconfig.get_config_var('EXT_SUFFIX')}"
    cublas = next((place / "site" / "cupy_backends" / "cuda" / "libs").glob("cublas.*.so"))
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        roots = [source / "cupy_backends" / "cuda" / "api", source / "cupy_backends", source]
        python = [f"-I{sysconfig.get_path('include')}", *(f"-I{root}" for root in roots), "-D_FORCE_INLINES=1"]
        _run("-O1", "-w", "-fPIC", "-c", str(source / "runtime.cpp"), "-o", f"{work}/runtime.o", *include, *python)
        driver = _objects(work, ["memory", "driver"], include, "cuda", [work / "runtime.o"])
        _link(library / "libcuda.so.1", *driver, "-ldl")
        products = _objects(work, ["cublas"], include, "cublas", [cublas])
        (work / "versions").write_text("libcublas.so.12 { global: *; };")
        _link(library / "libcublas.so.12", *products, f"-Wl,--version-script={work}/versions", *link)
        empty = work / "empty.cpp"
        empty.write_text("")
        _link(library / "libcublasLt.so.12", "-fPIC", str(empty))  # CuPy loads it before cuBLAS and calls nothing in it
        runtime.unlink(missing_ok=True)
        _run("-shared", f"{work}/runtime.o", "-o", str(runtime), *link)


def _objects(
    work: pathlib.Path, names: list[str], include: list[str], prefix: str, users: list[pathlib.Path]
) -> list[str]:
    """Compiled sources, and an object in which what `users` call and they lack answers "not supported"."""
    paths = [f"{work}/{name}.o" for name in names]
    for name, path in zip(names, paths, strict=True):
        _run(*_FLAGS, "-D__CUDA_API_VERSION_INTERNAL", *include, "-c", str(NATIVE / f"{name}.cpp"), "-o", path)
    wanted = {name for user in users for name in _symbols(user, "U") if name.startswith(prefix)}
    missing = sorted(wanted - {name for path in paths for name in _symbols(pathlib.Path(path), "T")})
    code = 15 if prefix == "cublas" else 801
    lines = [f'extern "C" int {name}() {{ return fail("the stand-in lacks {name}", {code}); }}' for name in missing]
    stubs = work / f"{prefix}_stubs.cpp"
    stubs.write_text("\n".join(['#include "device.h"', *lines]))
    _run(*_FLAGS, *include, "-c", str(stubs), "-o", str(stubs.with_suffix(".o")))
    return [*paths, str(stubs.with_suffix(".o"))]


def _symbols(path: pathlib.Path, kind: str) -> set[str]:
    """Names that an object or library uses ("U") or defines as functions ("T")."""
    dynamic = ["-D"] if ".so" in path.name else []
    listed = subprocess.run(["nm", *dynamic, str(path)], check=True, capture_output=True, text=True).stdout
    return set(re.findall(rf" {kind} (\w+)", listed))


def _link(path: pathlib.Path, *arguments: str) -> None:
    path.unlink(missing_ok=True)
    _run("-shared", f"-Wl,-soname,{path.name}", *arguments, "-o", str(path))


def _run(*arguments: str) -> None:
    subprocess.run([compiler(), *arguments], check=True)
