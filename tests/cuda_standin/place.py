"""Where the stand-in is built, whether it is, and the environment of a process that runs under it."""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform
import sys
import sysconfig

HERE = pathlib.Path(__file__).resolve().parent
NATIVE = HERE / "native"
ROOT = HERE.parent.parent
SETUP = "python -m tests.cuda_standin setup"
RUN = "python -m tests.cuda_standin run -- pytest"

CUPY = "14.2.0"  # the stand-in replaces one of its extension modules, so the version is fixed
PACKAGES = [
    f"cupy-cuda12x=={CUPY}",
    "cuda-pathfinder==1.9.0",
    "nvidia-cuda-nvrtc-cu12==12.9.86",
    "nvidia-cuda-runtime-cu12==12.9.79",  # headers, as the next two
    "nvidia-cuda-nvcc-cu12==12.9.86",
    "nvidia-cuda-profiler-api-cu12==12.9.79",
    "coverage>=7.10",
]
CYTHON = "Cython==3.2.9"

# -mfma, -mf16c: PTX has both in one instruction. No contraction: PTX says itself what is fused.
KERNEL_FLAGS = ["-O1", "-w", "-std=c++17", "-mfma", "-mf16c", "-ffp-contract=off", "-fno-strict-aliasing"]
KERNEL_FLAGS += ["-fPIC", "-shared"]


def compiler() -> str:
    return os.environ.get("CXX") or "g++"


def folder() -> pathlib.Path:
    """Where it is built for this Python: under build/, or where GPUKMEANS_STANDIN says."""
    base = os.environ.get("GPUKMEANS_STANDIN")
    tag = f"{sys.implementation.cache_tag}-{platform.machine()}"
    return (pathlib.Path(base) if base else ROOT / "build" / "cuda-standin") / tag


def digest(*parts: str | pathlib.Path) -> str:
    """A short hash of texts and of the contents of files."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.read_bytes() if isinstance(part, pathlib.Path) else part.encode())
        total.update(b"\0")
    return total.hexdigest()[:16]


def packages_key() -> str:
    """Changes when the installed packages have to."""
    return digest(CYTHON, *PACKAGES, sysconfig.get_config_var("EXT_SUFFIX"))


def native_key() -> str:
    """Changes when the driver's libraries have to be compiled again."""
    sources = [NATIVE / name for name in ("device.h", "memory.cpp", "driver.cpp", "cublas.cpp")]
    return digest(packages_key(), compiler(), *sources)


def kernel_cache() -> pathlib.Path:
    """Translated kernels, by the translation that made them."""
    sources = [HERE / "translate.py", HERE / "ptx.py", HERE / "ptx_instructions.py"]
    sources += [NATIVE / "ptx.h", NATIVE / "fibers.h", NATIVE / "fibers.cpp"]
    return folder() / f"kernels-{digest(compiler(), *KERNEL_FLAGS, *sources)}"


def why_not() -> str:
    """Why nothing can run under the stand-in here; '' if it can."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return "the CUDA stand-in needs x86-64 Linux"
    for name, key in (("packages", packages_key()), ("native", native_key())):
        marker = folder() / name
        if not marker.exists():
            return f"the CUDA stand-in is not built (to build it: {SETUP})"
        if marker.read_text() != key:
            return f"the CUDA stand-in is older than its sources (to build it again: {SETUP})"
    return ""


def environment(**knobs: object) -> dict[str, str]:
    """The environment of a process under the stand-in; knobs as `seed=1` for STANDIN_SEED=1, None to unset."""
    here, place = dict(os.environ), folder()
    for name, added in (("PYTHONPATH", place / "site"), ("LD_LIBRARY_PATH", place / "lib")):
        paths = [path for path in here.get(name, "").split(os.pathsep) if path and path != str(added)]
        here[name] = os.pathsep.join([str(added), *paths])
    here |= {
        "PYTHONSAFEPATH": "1",  # the installed package, not the checkout
        "CUDA_PATH": str(place),
        "CUPY_CACHE_DIR": str(place / "cupy"),
        "CUPY_ACCELERATORS": "",  # precompiled CUB and cuTENSOR kernels are machine code
        "CUPY_COMPILE_WITH_PTX": "1",
        "STANDIN_CACHE": str(kernel_cache()),
        "STANDIN_TRANSLATOR": f"'{sys.executable}' '{HERE / 'translate.py'}'",
    }
    kernel_cache().mkdir(parents=True, exist_ok=True)
    for knob, value in knobs.items():
        here.pop(f"STANDIN_{knob.upper()}", None)
        if value is not None:
            here[f"STANDIN_{knob.upper()}"] = str(value)
    return here


def active() -> bool:
    """Whether this process runs under the stand-in."""
    return "STANDIN_TRANSLATOR" in os.environ
