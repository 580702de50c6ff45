"""The notebooks: run from a clean kernel, with the numbers they tell; committed with outputs that fit the code."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE = re.compile(r"/home/|/root/|/tmp/|/Users/|/usr/|/opt/|[A-Z]:\\|site-packages|\.py:\d+|\b0x[0-9a-f]{6,}")

# Cell id -> what it must print, in each notebook.
TOLD = {
    "01_tutorial.ipynb": {
        "elbow-plot": "knee: K = 3",
        "noise": "noise has a knee at K = 4",
        "reference": "lowest for the blobs at K = 3",
        "silhouette": "best: K=3",
        "fit": "K=3, 3 iterations",
        "plain": "plain accuracy:   0.002\nmatched accuracy: 0.998\n",
        "confusion": "matched accuracy 0.998 - 1 wrong",
        "devices": "device='cpu'   ran on cpu: WCSS 153.106863, same labels as the CPU: True",
    },
    "03_device_comparison.ipynb": {
        "compare": "20,000 x 16, k = 16, float32 (blobs): 10 iterations of a fit",
        "same": "scikit-learn  the same answer: True",
        "half": "adjusted Rand index 0.998, allowed: 0.9999",
        "recorded": "No measurements of a GPU machine are here",
    },
}
ON_THIS_MACHINE = {"devices", "compare", "crossover"}  # cells that say what the machine has


def _stored(path: pathlib.Path) -> list[Any]:
    """The code cells of a notebook as it is committed."""
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def _printed(cell: Any) -> str:
    streams = [out for out in cell["outputs"] if out["output_type"] == "stream" and out["name"] == "stdout"]
    return "".join("".join(out["text"]) for out in streams)


def _pictures(cell: Any) -> int:
    return sum("image/png" in out.get("data", {}) for out in cell["outputs"])


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.name)
def executed(request, tmp_path_factory):
    """A notebook's name, and its code cells as a new kernel in an empty folder leaves them."""
    for name in ("nbclient", "ipykernel"):
        pytest.importorskip(name, reason=f"running a notebook needs {name}: python -m pip install '.[notebooks]'")
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(request.param, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # the kernel chooses the backend that stores pictures
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(folder / name.lower()))  # no start-up files of whoever runs this
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True, resources=resources).execute()
    return request.param, [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_notebook_is_spoken_for():
    assert {path.name for path in NOTEBOOKS} == set(TOLD)


def test_runs_without_errors(executed):
    _, cells = executed
    wrong = [(cell.id, out.evalue) for cell in cells for out in cell.outputs if out.output_type == "error"]
    noise = [(cell.id, out.text) for cell in cells for out in cell.outputs if out.get("name") == "stderr"]
    assert not wrong
    assert not noise


def test_tells_the_numbers(executed):
    path, cells = executed
    printed = {cell.id: _printed(cell) for cell in cells}
    for cell, text in TOLD[path.name].items():
        assert text in printed[cell]


def test_committed_outputs_are_those_of_the_code(executed):
    """The same words, the same numbers within two in a thousand, as many pictures."""
    path, cells = executed
    number = re.compile(r"-?\d+(?:\.\d+)?")
    for old, new in zip(_stored(path), cells, strict=True):
        assert "".join(old["source"]) == new.source
        assert _pictures(old) == _pictures(new), new.id
        if new.id in ON_THIS_MACHINE:
            continue
        was, now = _printed(old), _printed(new)
        assert number.sub("#", was).split() == number.sub("#", now).split(), new.id
        values = [np.array(number.findall(text), dtype=float) for text in (was, now)]
        np.testing.assert_allclose(*values, rtol=0.002, atol=0.002, err_msg=new.id)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_committed_as_run_from_a_clean_kernel(path):
    cells = _stored(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [out for cell in cells for out in cell["outputs"]]
    assert not [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]
    for cell, text in TOLD[path.name].items():
        assert text in next(_printed(one) for one in cells if one["id"] == cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_committed_without_traces_of_a_machine(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "version" not in notebook["metadata"].get("language_info", {})
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    texts = [line for cell in notebook["cells"] for line in cell["source"]] + [_printed(cell) for cell in _stored(path)]
    pictures = [out.get("data", {}).get("text/plain", "") for cell in _stored(path) for out in cell["outputs"]]
    texts += ["".join(text) for text in pictures]
    assert not [text for text in texts if MACHINE.search(text)]
    assert path.stat().st_size < 600_000
