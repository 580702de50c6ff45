"""What the pages under docs/ say about names holds: each of them exists."""

from __future__ import annotations

import functools
import importlib
import pathlib
import re

import numpy as np
import pytest

import gpukmeans
from gpukmeans import KMeans, MiniBatchKMeans, compare, metrics, plotting

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
SOURCES = "".join(path.read_text() for path in DOCS.parent.glob("gpukmeans/*.py"))
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
PAPERS = ["Lloyd", "Arthur", "Higham", "Rousseeuw", "Cali.ski", "Hruschka", "Satop", "Kuhn", "Sculley", "Dhillon"]
CUDA = {path.name: path.read_text() for path in (DOCS.parent / "gpukmeans/_kernels/cuda").glob("*.cu")}
NOT_OURS = {"None", "RandomState", "tol", "code"}  # `code`: how the page shows what a name looks like
NOT_OURS |= {"pytest", "cuda", "cuda13x", "unique", "cupy.random"}  # a command, a mark, an extra, and CuPy's


@functools.cache
def _fitted() -> KMeans:
    return KMeans(2, random_state=0).fit(np.array([[0.0], [1.0], [9.0]]))


def _public(name: str) -> bool:
    """Whether a bare name is public, a parameter of an estimator, or what a fit or a curve carries."""
    return (
        any(name in module.__all__ for module in (gpukmeans, compare, metrics, plotting))
        or hasattr(_fitted(), name)
        or hasattr(MiniBatchKMeans(), name)
        or name in metrics.WCSSCurve._fields
        or name == "sample_weight"
    )


def _resolves(name: str) -> bool:
    """Whether a dotted name leads to a module, class, function or field; ours need no `gpukmeans.` in front."""
    parts = name.split(".")
    for root in ([], ["gpukmeans"]):
        path = root + parts
        for length in range(len(path), 0, -1):
            try:
                found = importlib.import_module(".".join(path[:length]))
            except ImportError:
                continue
            try:
                functools.reduce(getattr, path[length:], found)
            except AttributeError:
                break
            return True
    return False


def _of_cuda(name: str) -> bool:
    """Whether it is a file of CUDA kernels, or one of them."""
    kernels = re.findall(r"__global__ void(?: __launch_bounds__\(.*\))?\s+(\w+)\(", "".join(CUDA.values()))
    return name in CUDA or name in kernels


def _exists(name: str) -> bool:
    return name in NOT_OURS or _of_cuda(name) or (_resolves(name) if "." in name else _public(name))


def _names(page: pathlib.Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = (code.removesuffix("()") for code in re.findall(r"`([^`\n]+)`", text))
    return sorted({name for name in found if NAME.fullmatch(name)})


def test_resolver_knows_wrong_names():
    assert _resolves("_lloyd.lloyd")
    assert _resolves("_plan.Plan.step")
    assert _resolves("sklearn.cluster.KMeans")
    assert not _resolves("_lloyd.elkan")
    assert not _resolves("_plan.Plan.steps")
    assert not _public("predict_all")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_exist(page):
    missing = [name for name in _names(page) if not _exists(name)]
    assert not missing, f"{page.name} names what is not there: {missing}"


def test_algorithm_covers_the_papers_and_the_main_functions():
    text = (DOCS / "algorithm.md").read_text()
    assert not [paper for paper in PAPERS if not re.search(paper, text)]
    assert len([name for name in _names(DOCS / "algorithm.md") if name.startswith("_")]) > 25


def test_fixed_numbers_are_those_of_the_code():
    """Figures that the page repeats from the code."""
    text = " ".join((DOCS / "algorithm.md").read_text().split())
    for said, written in {
        "at most 64 of them": "max(8, min(64,",
        "every sixteenth pass": "self._age < 15",
        "fewer than a quarter of the rows": "shape[0] // 4",
        "within $10^{-12}$": "(1 + 1e-12)",
        r"$8 \sqrt{d} u$": "8 * n_features**0.5) + 10",
        "16 b |x|^2": "row_norms * (16 * b)",
    }.items():
        assert said in text, said
        assert written in SOURCES, f"docs/algorithm.md says {said!r}; the code no longer has {written!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_a_page_lead_somewhere(page):
    text = page.read_text()
    heads = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)}
    assert {link for link in re.findall(r"\]\(#([^)]+)\)", text)} <= heads
