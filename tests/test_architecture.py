"""The house keeps its shape: imports run one way, and CuPy is spoken of in two places."""

from __future__ import annotations

import ast
import doctest
import importlib
import pathlib

import pytest

import gpukmeans

PACKAGE = pathlib.Path(gpukmeans.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)

# Lower floors first; a module imports from its own floor or below.
FLOORS = [
    {"_device", "_threads"},
    {"_files", "_frame", "_rows"},
    {"_bounds", "_boxes", "_leading", "_pruning", "_second_look", "_sums"},
    {
        "_kernels",
        "_kernels.cpu",
        "_kernels.cpu.boxes",
        "_kernels.cpu.csr",
        "_kernels.cpu.pairs",
        "_kernels.cpu.passes",
        "_kernels.cpu.plus_plus",
        "_kernels.csr",
        "_kernels.csr_scipy",
        "_kernels.cuda",
        "_kernels.cuda.compile",
        "_kernels.cuda.pairs",
        "_kernels.cuda.plus_plus",
        "_kernels.cuda.passes",
        "_kernels.numpy",
    },
    {"_distances"},
    {"_plan", "_validation"},
    {"_prepare"},
    {"_batches", "_lloyd", "_matching", "_seeding", "_silhouette"},
    {"_estimator"},
    {"kmeans", "minibatch"},
    {"_functions", "metrics", "patch"},
    {"compare._rows", "compare._standin"},
    {"compare._peers"},
    {"compare._answers", "compare._environment", "compare._measure"},
    {"compare._clocks", "compare._figures"},
    {"compare._comparison", "compare._contest", "compare._rooflines", "compare._text"},
    {"compare._peak", "compare._run"},
    {"compare"},
    {"_drawing"},
    {"_cluster_display", "_comparison_display", "_confusion_display"},
    {"_scaling_display"},
    {"plotting"},
    {"_tables"},
    {"_pictures", "_results", "_page", "_model_file"},
    {"compare._page", "report"},
    {"compare._command"},
    {"cli"},
]
FLOOR = {f"gpukmeans.{name}": level for level, names in enumerate(FLOORS) for name in names}


def sources():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        yield name, path, ast.parse(path.read_text())


def at_run_time(node):
    """All nodes but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from at_run_time(child)


def imports(name, path, tree):
    """Absolute names of the package's modules that a module imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in at_run_time(tree):
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            target = ".".join(part for part in (base, node.module or "") if part)
            for alias in node.names:
                full = f"{target}.{alias.name}"
                yield full if full in MODULES else target
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_module_has_a_floor():
    assert {name for name in MODULES if name != "gpukmeans"} == set(FLOOR)


def test_imports_run_one_way():
    wrong = [
        f"{name} imports {target}"
        for name, path, tree in sources()
        if name in FLOOR
        for target in imports(name, path, tree)
        if FLOOR.get(target, -1) > FLOOR[name]
    ]
    assert wrong == []


def test_only_device_and_kernels_speak_of_cupy():
    for name, path, tree in sources():
        if name.startswith(("gpukmeans._device", "gpukmeans._kernels")):
            continue
        assert not any(target.partition(".")[0] == "cupy" for target in imports(name, path, tree)), name


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("name", [name for name in MODULES if not name.rpartition(".")[2].startswith("_")])
def test_public_functions_have_docstrings(name):
    module = importlib.import_module(name)
    for item in getattr(module, "__all__", []):
        assert getattr(module, item).__doc__, item
