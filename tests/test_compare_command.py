"""`gpukmeans compare`: what it prints and writes, its complaints, and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from comparisons import comparison_of, run_of, series, timed

from gpukmeans.cli import main
from gpukmeans.compare import DeviceComparison
from gpukmeans.compare._page import render

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

FAST = ["--devices", "cpu:numpy,cpu:arrays", "--peers", "scikit-learn", "--repeat", "1", "--no-memory"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def error_of(capsys, *arguments: str) -> str:
    """The message of a command that must fail with code 2, one line, and print nothing else."""
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gpukmeans: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_machine_without_a_gpu_compares_its_paths_and_peers(capsys):
    assert main(["compare", "--shapes", "500x2x3", "3000x5x4", *FAST, "--json", "c.json", "--html", "c.html"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 100
    for words in ("500 x 2, k = 3, float32 (blobs)", "3,000 x 5, k = 4", "cpu:arrays", "scikit-learn", "adj. Rand"):
        assert words in out
    if "no CUDA device" in out:
        assert "No CUDA device was measured, so no bound for device='auto' follows." in out
    assert "wrote c.json and c.html" in out
    assert {path.name for path in Path().iterdir()} == {"c.json", "c.html"}
    assert "3,000 \N{MULTIPLICATION SIGN} 5, k = 4" in Path("c.html").read_text()


def test_the_printed_command_measures_the_same_again(capsys):
    assert main(["compare", "--shapes", "300x2x3", *FAST, "--json", "a.json", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    (run,) = DeviceComparison.from_json("a.json").runs
    words = run["command"].split()
    assert words[:2] == ["gpukmeans", "compare"]
    assert main([*words[1:], "--json", "b.json", "--quiet"]) == 0
    (again,) = DeviceComparison.from_json("b.json").runs
    assert again["case"] == run["case"]
    assert again["reference"] == run["reference"]
    assert again["command"] == run["command"]
    assert list(again["contestants"]) == list(run["contestants"])


def test_results_are_added_to_a_file(capsys):
    for shape in ("300x2x3", "400x2x3", "300x2x3"):
        assert main(["compare", "--shapes", shape, *FAST, "--json", "c.json", "--quiet"]) == 0
    assert [run["case"]["n"] for run in DeviceComparison.from_json("c.json").runs] == [300, 400]
    comparison_of(run_of({"cpu": timed([1.0])}, environment="other")).to_json("theirs.json")
    capsys.readouterr()
    assert main(["compare", "--merge", "c.json", "theirs.json", "--json", "all.json"]) == 0
    assert "other: A processor other" in capsys.readouterr().out
    assert len(json.loads(Path("all.json").read_text())["runs"]) == 3


def test_a_sweep_is_one_table(capsys):
    assert main(["compare", "--sweep", "k", "--shapes", "600x2x64", *FAST]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^k = +1 +4 +16 +64$", out, re.M)
    assert re.search(r"^cpu:arrays( +[\d.]+ (us|ms|s)){4}$", out, re.M)
    assert "--shapes 600x2x1 600x2x4 600x2x16 600x2x64" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100


def test_a_sweep_tells_the_line_that_sets_the_bound(capsys):
    series(0.1, 0.5, 10.0).to_json("c.json")
    assert main(["compare", "--merge", "c.json"]) == 0
    out = capsys.readouterr().out
    assert "cuda:0 overtakes cpu, transfers included, at about n = 17" in out
    (line,) = re.findall(r"^  export (GPUKMEANS_WORTH_A_GPU=\S+)$", out, re.M)
    assert 1e5 < float(line.partition("=")[2]) < 1e6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shapes", "10x2"], "'10x2' is no shape"),
        (["--devices", "gpu"], "'gpu' is no device to compare"),
        (["--peers", "scikit"], "did you mean 'scikit-learn'"),
        (["--sweep", "m"], "invalid choice: 'm'"),
        (["--sweep", "n", "--shapes", "300x2x3", "400x2x3"], "--sweep grows one shape"),
        (["--repeat", "none"], "invalid int value"),
        (["--dtype", "half"], "give float32 or float64"),
        (["--json", "nowhere.json/c.json"], "nowhere.json is a file"),
        (["--json", "damaged.json"], "damaged.json is damaged"),
        (["--merge", "damaged.json"], "damaged.json is damaged"),
        (["--merge", "missing.json"], "missing.json cannot be read"),
        (["--merge", "newer.json"], "schema 99, but this version reads 1 to 2"),
    ],
)
def test_wrong_input_is_one_line(arguments, said, capsys):
    Path("nowhere.json").write_text("")
    Path("damaged.json").write_text('{"schema": 2, ')
    Path("newer.json").write_text('{"schema": 99}')
    before = {path.name: path.read_text() for path in Path().iterdir()}
    assert said in error_of(capsys, *arguments)
    assert {path.name: path.read_text() for path in Path().iterdir()} == before


# --- the page -----------------------------------------------------------------------------------


def page_of(comparison):
    text = render(comparison)
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    return text


def test_the_page_flags_another_answer_and_gives_it_no_ratio():
    wrong = timed([0.5], "peer", "opencv")
    wrong["answer"]["rand"] = 0.9
    text = page_of(comparison_of(run_of({"cpu": timed([1.0]), "opencv": wrong})))
    row = re.search(r"<tr><th scope=\"row\">opencv</th>(.*)</tr>", text)[1]
    assert re.findall(r"<td class=\"num (\w*)\">([^<]*)</td>", row)[-1] == ("wrong", "\N{EN DASH}")
    assert "NOT THE SAME ANSWER: adjusted Rand 0.9000" in text
    assert re.search(r"<tr><th scope=\"row\">cpu</th>.*1\.00 \[1\.00, 1\.00\]", text)


def test_the_page_shows_growth_rooflines_and_the_bound():
    grown = series(0.1, 0.5, 10.0)
    roofs = {"e1": {"cpu": {"copy_gb_s": 10.0, "gemm": {"float32": 80.0}}}}
    text = page_of(DeviceComparison(grown.environments, grown.runs, roofs))
    assert "How time grows with n" in text
    assert "How far from the best (cpu)" in text
    assert "export GPUKMEANS_WORTH_A_GPU=" in text
    assert text.count("<img") == 5
    assert text.count("gpukmeans compare</span>") == 3  # what repeats each of the runs


def test_names_are_text_and_never_markup():
    text = page_of(comparison_of(run_of({"cpu": timed([1.0], name="<b>bold</b>")}, skipped={"x<i>": "why & how"})))
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "without x&lt;i&gt;: why &amp; how" in text


def test_counts_of_the_stand_in_are_a_table_and_no_times():
    counts = {"launches": 42, "products": 0, "uploads": 2, "upload_bytes": 1200, "downloads": 15}
    counts |= {"download_bytes": 19577, "waits": 3}
    emulated = timed([], "cuda", "cuda:0 CPU stand-in", stand_in=True, seconds={}, counts={"fit": counts})
    text = page_of(comparison_of(run_of({"cpu": timed([1.0]), "cuda:0": emulated})))
    assert "executed on a CPU stand-in, never on GPU hardware: what it was asked to do" in text
    assert "tells nothing about speed" in text
    assert re.search(r"<th scope=\"row\">fit</th>.*42<.*1,200<.*19,577<", text)
