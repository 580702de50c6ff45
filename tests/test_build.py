"""The package is built with the compiled kernels where there is a compiler, and without them elsewhere."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import py_compile
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from typing import NamedTuple

import numpy as np
import pytest

import gpukmeans
from gpukmeans import KMeans, _kernels
from gpukmeans._kernels import cpu

for tool in ("pip", "scikit_build_core", "nanobind"):
    pytest.importorskip(tool)

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "gpukmeans"

# A large fit, with what the log says on stderr.
FIT = """
import sys
import numpy as np
import gpukmeans
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 8))[rng.integers(40, size=40_000)] * 5 + rng.normal(size=(40_000, 8))
for _ in range(2):
    models = [gpukmeans.KMeans(40, max_iter=5, random_state=0).fit(X.astype(t)) for t in ("f4", "f8")]
np.save(sys.argv[1], [model.labels_ for model in models])
print(gpukmeans.__file__)
"""


# The import hook of an editable install comes before every folder: what a wheel holds is tested without it.
UNHOOK = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
"""


def environment(**changes: str) -> dict[str, str]:
    """The environment without what steers builds and kernels, changed."""
    ours = ("GPUKMEANS_", "CMAKE_", "SKBUILD_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | changes


def run(*command: str, env: dict[str, str], cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], env=env, cwd=cwd, capture_output=True, text=True, check=False)


def build_wheel(source: pathlib.Path, folder: pathlib.Path, **changes: str) -> tuple[pathlib.Path, str]:
    """The wheel that pip builds, from the tools that are installed, and what the build printed."""
    options = ("--verbose", "--no-index", "--no-cache-dir", "--no-build-isolation", "--no-deps")
    made = run("-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(source), env=environment(**changes))
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = folder.glob("*.whl")
    if keep := os.environ.get("GPUKMEANS_KEEP_WHEELS"):  # a folder: for whoever goes on with them, such as CI
        shutil.copy(wheel, keep)
    return wheel, made.stdout + made.stderr


class Installed(NamedTuple):
    """The package in a folder of its own; its dependencies are those of the tests."""

    home: pathlib.Path
    wheel: pathlib.Path

    def run(self, *command: str, **changes: str) -> subprocess.CompletedProcess:
        done = run(*command, env=environment(PYTHONPATH=str(self.home), **changes), cwd=self.home)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def fit(self, **changes: str) -> tuple[np.ndarray, str]:
        """Labels of `FIT`, and what it logged."""
        done = self.run("-c", FIT, "labels.npy", **changes)
        assert self.home in pathlib.Path(done.stdout.strip()).parents
        return np.load(self.home / "labels.npy"), done.stderr

    def doctor(self, **changes: str) -> str:
        return " ".join(self.run("-m", "gpukmeans", "doctor", **changes).stdout.split())


def install(wheel: pathlib.Path, home: pathlib.Path) -> Installed:
    done = run("-m", "pip", "install", "--no-index", "--no-deps", "--target", str(home), str(wheel), env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    (home / "sitecustomize.py").write_text(UNHOOK)
    return Installed(home, wheel)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution of a checkout that has been used, unpacked."""
    py_compile.compile(str(ROOT / "tests" / "test_build.py"))
    folder = tmp_path_factory.mktemp("sdist")
    script = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    done = run("-c", script, str(folder), env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        # Python before 3.11.4 has no filters
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory, sdist):
    """Built from the source distribution by the machine's compiler; a skip only where there is none."""
    found = [name for name in (os.environ.get("CXX", "c++"), "c++", "g++", "clang++", "cl") if shutil.which(name)]
    if not found:
        pytest.skip("no C++ compiler on this machine")
    folder = tmp_path_factory.mktemp("compiled")
    wheel, output = build_wheel(sdist, folder)
    if wheel.name.endswith("-none-any.whl") and "The compiled kernels need" in output:
        pytest.skip(output[output.index("The compiled kernels need") :].partition("\n")[0])
    assert not wheel.name.endswith("-none-any.whl"), output
    return install(wheel, folder / "home")


@pytest.fixture(scope="module")
def pure(tmp_path_factory):
    """Built from the checkout on what looks like a machine without a compiler."""
    folder = tmp_path_factory.mktemp("pure")
    missing = str(folder / "no-compiler")
    wheel, output = build_wheel(ROOT, folder, CC=missing, CXX=missing, PATH=str(folder))
    assert "gpukmeans: the compiled kernels were not built (why: above), NumPy serves instead." in output
    return install(wheel, folder / "home")


def test_the_tests_run_what_was_installed():
    """The extension that was installed is in use, and not the checkout, which has none."""
    built = [file for file in importlib.metadata.files("gpukmeans") or [] if file.name.startswith("_native.")]
    if built:
        assert cpu.native() is not None, f"{gpukmeans.__file__} has no extension: run `pytest`, not `python -m pytest`"
        assert pathlib.Path(cpu.native().__file__).samefile(built[0].locate())
    code = "import gpukmeans; print(gpukmeans.__file__)"
    child = run("-c", code, env={**os.environ})
    assert child.stdout.strip() == gpukmeans.__file__, "a child process imports another package than the tests"


def test_the_source_distribution_is_whole(sdist):
    for pattern in ("*.py", "*.h", "*.cpp", "*.html", "py.typed"):
        wanted = {
            path.relative_to(ROOT) for folder in ("gpukmeans", "tests") for path in (ROOT / folder).rglob(pattern)
        }
        assert wanted <= {path.relative_to(sdist) for path in sdist.rglob(pattern)}
    for name in ("CMakeLists.txt", "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "docs/algorithm.md"):
        assert (sdist / name).is_file(), name
    assert not [path for path in sdist.rglob("*") if path.suffix in {".so", ".pyc", ".o"}]


@pytest.mark.parametrize("kind", ["compiled", "pure"])
def test_a_wheel_holds_what_runs_and_no_sources(kind, request):
    wheel = request.getfixturevalue(kind).wheel
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    files = [path for kind in ("*.py", "*.cu", "*.cuh") for path in PACKAGE.rglob(kind)]  # CUDA is compiled at run time
    assert len({path.suffix for path in files}) == 3
    package = {str(path.relative_to(ROOT).as_posix()) for path in files}
    assert package | {"gpukmeans/py.typed", "gpukmeans/templates/report.html"} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"gpukmeans"}
    assert not [name for name in names if name.endswith((".h", ".cpp", ".o", ".a", "CMakeLists.txt"))]
    assert sum("/_native." in name for name in names) == (kind == "compiled")
    assert wheel.name.endswith("-py3-none-any.whl") == (kind == "pure")


def test_with_and_without_compiled_kernels_alike(compiled, pure):
    ours, log = compiled.fit()
    assert log == ""
    theirs, log = pure.fit()
    assert log.count("\n") == 1, log  # four fits, one line
    assert "not built when gpukmeans was installed; install a C++ compiler" in log
    assert pure.fit(GPUKMEANS_KERNELS="numpy")[1] == ""
    np.testing.assert_array_equal(ours, theirs)


def test_doctor_without_compiled_kernels(pure):
    text = pure.doctor()
    assert "compiled for the CPU not built when gpukmeans was installed; install a C++ compiler" in text
    assert "cpu: nearest numpy kernel" in text
    assert "compiled (" not in text
    assert "plain, neon" not in pure.doctor(GPUKMEANS_ISA="plain")


def test_doctor_with_compiled_kernels(compiled):
    text = compiled.doctor()
    found = re.search(r"compiled for the CPU (\w+) \(this machine can run: ([\w, ]+)\)", text)
    fastest, sets = found[1], found[2].split(", ")
    assert fastest == sets[0]
    assert f"cpu: nearest compiled ({fastest})" in text
    assert set(sets) <= set(cpu.INSTRUCTION_SETS)
    assert f"{sets[-1]}, chosen by GPUKMEANS_ISA (this" in compiled.doctor(GPUKMEANS_ISA=sets[-1])
    assert "turned off by GPUKMEANS_KERNELS=numpy" in compiled.doctor(GPUKMEANS_KERNELS="numpy")


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for a compiler is a shell script")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 1", "is not able to compile"),
        pytest.param(
            'exec g++ -U__GNUC__ -D__GNUC__=10 "$@"',
            "The compiled kernels need GNU 12 or newer, not 10.",
            marks=pytest.mark.skipif(not shutil.which("g++"), reason="needs g++, to make it look old"),
        ),
    ],
)
def test_a_compiler_that_does_not_do(script, words, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    wheel, output = build_wheel(ROOT, tmp_path, CXX=str(compiler))
    assert wheel.name.endswith("-py3-none-any.whl")
    assert words in " ".join(output.split())


# --- the lookup -------------------------------------------------------------------------------


class Module:
    """What the lookup asks of the compiled module, on any machine."""

    def instruction_set(self):
        return "avx2"

    def instruction_sets(self):
        return ["avx2", "plain"]


def test_compiled_kernels_come_first(monkeypatch):
    for op in ("search_pass", "seeding", "distance_sums"):  # their modules keep the real `native`
        assert callable(getattr(cpu, op))
    monkeypatch.setattr(cpu, "native", Module)
    rows = np.ones((3, 2))
    for same in ("1", ""):
        monkeypatch.setenv("GPUKMEANS_KERNELS", same)
        assert _kernels.find("search_pass", rows) is cpu.search_pass
    assert _kernels.find("search_pass", rows.astype(complex)) is None
    assert _kernels.find("search_pass", rows.tolist()) is None
    assert _kernels.in_use("cpu")["nearest"] == _kernels.in_use("cpu")["loop"] == "compiled (avx2)"
    assert _kernels.in_use("cuda")["lower_to"] == _kernels.in_use("cuda")["cluster_distance_sums"] == "CUDA kernel"
    assert _kernels.in_use("cuda")["nearest"] == _kernels.in_use("cuda")["move_centers"] == "CUDA kernel"
    assert "loop" not in _kernels.in_use("cuda")
    monkeypatch.setenv("GPUKMEANS_KERNELS", "numpy")
    assert set(_kernels.in_use("cuda").values()) == {"array body"}
    assert _kernels.find("search_pass", rows) is None
    assert set(_kernels.in_use("cpu").values()) == {"numpy kernel"}
    monkeypatch.setenv("GPUKMEANS_KERNELS", "0")
    assert set(_kernels.in_use("cpu").values()) == {"array body"}


def test_a_block_chooses_its_kernels_for_itself(monkeypatch):
    monkeypatch.setattr(cpu, "native", Module)
    monkeypatch.setenv("GPUKMEANS_KERNELS", "1")
    elsewhere = []
    with _kernels.using("0"):
        assert set(_kernels.in_use("cpu").values()) == {"array body"}
        with _kernels.using("numpy"):
            assert set(_kernels.in_use("cpu").values()) == {"numpy kernel"}
            thread = threading.Thread(target=lambda: elsewhere.append(_kernels.choice()))
            thread.start()
            thread.join()
        assert _kernels.choice() == "0"
        with pytest.raises(ValueError, match="kernels='2', but it chooses the kernels and can be: 1"):
            _kernels.using("2").__enter__()
    assert (_kernels.choice(), elsewhere) == ("1", ["1"])


@pytest.mark.parametrize("name", ["GPUKMEANS_KERNELS", "GPUKMEANS_ISA"])
def test_wrong_values_are_refused(name):
    code = "from gpukmeans import KMeans; KMeans(1).fit([[0.0], [1.0]])"
    child = run("-c", code, env=environment(**{name: "sse9"}))
    assert child.returncode == 1
    assert f"ValueError: {name}='sse9', but " in child.stderr
    command = run("-m", "gpukmeans", "doctor", env=environment(**{name: "sse9"}))
    assert (command.returncode, command.stdout) == (2, "")
    assert command.stderr.startswith(f"gpukmeans: error: {name}='sse9', but ")
    assert command.stderr.count("\n") == 1


def test_an_extension_that_does_not_load_is_told(monkeypatch):
    def fail(*names):
        raise ImportError("version `GLIBC_9.9' not found")

    cpu._load.cache_clear()
    monkeypatch.setattr(cpu, "import_module", fail)
    try:
        assert cpu.why_not().startswith("cannot be loaded (version `GLIBC_9.9' not found); install")
    finally:
        cpu._load.cache_clear()


def test_quiet_commands_log_nothing(tmp_path):
    start = "import sys; from gpukmeans import _kernels, cli; _kernels._LARGE = 10; "
    script = start + "_kernels.cpu.native = lambda: None; sys.exit(cli.main(sys.argv[1:]))"
    arguments = ("fit", "iris", "--k", "3", "--out", str(tmp_path / "m"))
    told = run("-c", script, *arguments, env=environment())
    assert told.stderr.count("C++ compiler") == 1
    quiet = run("-c", script, *arguments, "--quiet", env=environment())
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_small_fits_say_nothing(monkeypatch, caplog):
    monkeypatch.delenv("GPUKMEANS_KERNELS", raising=False)
    monkeypatch.setattr(cpu, "native", lambda: None)
    _kernels._advise_once.cache_clear()
    KMeans(2).fit(np.arange(10.0)[:, None])
    assert caplog.text == ""
    monkeypatch.setattr(_kernels, "_LARGE", 10)
    KMeans(2).fit(np.arange(10.0)[:, None])
    KMeans(2).fit(np.arange(10.0)[:, None])
    assert caplog.text.count("C++ compiler") == 1
