"""Every code block of the README runs."""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]


def test_every_block_is_covered():
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
    assert all(line.startswith(("gpukmeans ", "python -m pip install ")) for line in COMMANDS)


@pytest.mark.parametrize("code", PYTHON)
def test_python_blocks(code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out


def test_commands_on_data(tmp_path):
    """The `gpukmeans` lines, in order, on a file like the one they speak of."""
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{s}" for s, c in (("x", 0), ("y", 5)) for a, b in rng.normal(c, 1, size=(30, 2))]
    (tmp_path / "measurements.csv").write_text("length,width,species\n" + "\n".join(rows) + "\n")
    for line in COMMANDS:
        if line.startswith("gpukmeans "):
            command = [sys.executable, "-m", *shlex.split(line)]
            run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert run.returncode == 0, f"{line}\n{run.stderr}"
    assert (tmp_path / "labels.csv").exists()
    assert (tmp_path / "iris-report" / "report.html").exists()


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_install_lines_name_real_extras():
    """The two set-up commands are word for word what a new machine runs; their extras exist."""
    import importlib.metadata

    extras = set(importlib.metadata.metadata("gpukmeans").get_all("Provides-Extra"))
    named = {extra for line in COMMANDS for extra in re.findall(r"\[(\w+)\]", line)}
    assert {"report", "test", "cuda12x", "cuda13x"} == named <= extras
    assert "python -m pip install '.[report]' && gpukmeans report" in COMMANDS
    assert "python -m pip install '.[test]' && pytest" in COMMANDS
