"""What follows from a stored comparison: figures, crossovers, files. The figures were made up, but for one fixture."""

from __future__ import annotations

import getpass
import json
import pathlib
import platform
import sys

import pytest
from comparisons import comparison_of, run_of, series, timed

from gpukmeans._files import InputError
from gpukmeans.compare import DeviceComparison, _figures, compare_devices
from gpukmeans.compare import _comparison as stored
from gpukmeans.compare._text import lines

STORED_BY_BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks" / "results" / "cpu.json"


@pytest.fixture(scope="module")
def small():
    """A comparison of the CPU's array code with scikit-learn."""
    return compare_devices("2000x3x4", devices=["cpu:numpy", "cpu:arrays"], peers=["scikit-learn"], repeat=2)


# --- figures ------------------------------------------------------------------------------------


def test_figures_follow_from_the_rounds():
    cuda = timed([2.0, 4.0, 3.0], "cuda")
    run = run_of({"cpu": timed([9.0, 8.0, 18.0]), "cuda:0": cuda, "faiss": timed([1.0, None, 2.0][:1], "peer")})
    assert _figures.timing(run, "cuda:0", "transfer") == (0.75, 0.75, 0.75)
    assert _figures.timing(run, "cuda:0", "total") == (3.75, 2.75, 4.75)
    assert _figures.timing(run, "cuda:0", "iteration") == pytest.approx(
        (0.25, 1 / 6, 1 / 3)
    )  # 9 iterations, 3/4 of a fit
    assert _figures.ratio(run, "cuda:0") == pytest.approx((9 / 2.75, 8 / 4.75, 18 / 3.75))
    assert _figures.timing(run, "cpu", "transfer") is None
    assert _figures.ratio(run, "faiss").median == 9  # the rounds that both ran
    cuda["answer"]["rand"] = 0.5
    assert _figures.ratio(run, "cuda:0") is None
    assert _figures.baseline_of(run_of({"faiss": timed([1.0], "peer"), "cpu:arrays": timed([1.0])})) == "cpu:arrays"


def test_the_crossover_is_where_the_lines_cross():
    (one,) = series(0.1, 10.0).crossovers()
    assert (one.axis, one.name, one.baseline, one.measured) == ("n", "cuda:0", "cpu", True)
    assert one.value == pytest.approx(10**3.5)
    assert one.work == pytest.approx(10**3.5 * 20)
    assert one.line == "export GPUKMEANS_WORTH_A_GPU=6.3e+04"
    assert float(one.line.partition("=")[2]) == pytest.approx(one.work, rel=0.05)
    assert "overtakes cpu, transfers included, at about n = 3,162" in "\n".join(lines(series(0.1, 10.0)))


def test_crossovers_that_are_at_the_ends_or_not_there():
    assert series(0.5, 0.9).crossovers() == []
    assert series(2.0, 0.9).crossovers() == []  # ahead in small problems only
    assert "does not" not in "\n".join(lines(series(2.0, 0.9)))
    assert any("had better stay on the CPU" in line for line in lines(series(0.5, 0.9)))
    (one,) = series(2.0, 4.0).crossovers()
    assert (one.measured, one.value) == (False, 1000)
    (one,) = series(2.0, 0.5, 2.0, axis="k").crossovers()
    assert 10_000 < one.value < 100_000  # from which on it stays ahead
    (other,) = series(0.1, 10.0).crossovers("cpu", baseline="cuda:0") or [None]
    assert other is None


def test_wrong_answers_have_no_crossover():
    wrong = series(0.1, 10.0)
    wrong.runs[1]["contestants"]["cuda:0"]["answer"]["rand"] = 0.9
    assert wrong.crossovers() == []


def test_rooflines_count_what_an_iteration_cannot_do_without():
    run = run_of({"cpu": timed([4.0]), "cuda:0": timed([4.0], "cuda"), "scikit-learn": timed([4.0], "peer")})
    (point,) = _figures.points(run, "cpu")
    assert point.intensity == 2 * 2 * 10 / (2 * 4 + 4)
    assert point.gflops == pytest.approx(2e-9 * 1000 * 2 * 10 / (3.0 / 9))
    assert [point.name for point in _figures.points(run, "cuda:0")] == ["cuda:0"]


def test_a_frame_has_a_row_for_each_figure(small):
    pytest.importorskip("pandas")
    frame = small.to_frame()
    assert set(frame["stage"]) >= {"seeding", "fit", "predict", "silhouette"}
    assert len(frame) == len(frame[["contestant", "stage"]].drop_duplicates())
    fits = frame[frame["stage"] == "fit"].set_index("contestant")
    assert fits.loc["cpu:numpy", "times_as_fast"] == 1
    assert fits["same_answer"].all()
    assert fits.loc["scikit-learn", "seconds"] == _figures.timing(small.runs[0], "scikit-learn", "fit").median


# --- the file -----------------------------------------------------------------------------------


def test_files_round_trip_whole_or_not_at_all(small, tmp_path):
    file = tmp_path / "c.json"
    text = small.to_json(file)
    again = DeviceComparison.from_json(file)
    assert again.to_json() == text
    assert str(again) == str(small)
    assert repr(again) == "<DeviceComparison: 1 run, 1 environment>"
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]
    with pytest.raises(InputError, match="cannot write"):
        small.to_json(tmp_path / "c.json" / "d.json")
    assert file.read_text() == text


def test_files_name_no_host_user_or_folder(small):
    text = small.to_json()
    names = {platform.node(), getpass.getuser(), str(pathlib.Path.home()), str(pathlib.Path.cwd()), sys.prefix}
    assert [name for name in names if len(name) > 3 and name not in ("root", "runner") and name in text] == []


def test_runs_of_several_machines_merge(small):
    here = comparison_of(run_of({"cpu": timed([1.0])}), run_of({"cpu": timed([2.0])}, k=5))
    there = comparison_of(run_of({"cpu": timed([3.0])}, environment="e2"))
    newer = comparison_of(run_of({"cpu": timed([4.0])}))
    merged = here.merge(there, newer, small)
    assert len(merged.runs) == 4
    assert set(merged.environments) == {"e1", "e2", *small.environments}
    replaced = [run for run in merged.runs if run["case"]["k"] == 10 and run["environment"] == "e1"]
    assert [run["contestants"]["cpu"]["seconds"]["fit"] for run in replaced] == [[4.0]]
    assert merged.rooflines == small.rooflines
    text = "\n".join(lines(merged))
    assert "e2: A processor e2" in text
    assert "(on e2)" in text
    assert max(map(len, text.splitlines())) <= 100


def test_files_of_the_first_schema_are_read():
    old = DeviceComparison.from_json(STORED_BY_BENCHMARKS)
    raw = json.loads(STORED_BY_BENCHMARKS.read_text())
    assert raw["schema"] == 1 < stored.SCHEMA
    fits = [one for one in raw["results"] if one["job"] == "lloyd"]
    assert len(old.runs) == len(fits) > 0
    one = next(run for run in old.runs if run["case"]["kind"] == "case a, blobs")
    was = next(result for result in fits if (result["case"], result["kind"]) == ("a", "blobs"))
    assert one["contestants"]["cpu"]["seconds"]["fit"] == was["peers"]["gpukmeans"]["seconds"]
    assert one["command"] == was["command"]
    assert json.loads(old.to_json())["schema"] == stored.SCHEMA
    assert "no CUDA device" in str(old)


def damage(text, how):
    if isinstance(how, tuple):
        assert how[0] in text
        return text.replace(*how)
    return how(text)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda text: "", "no JSON"),
        (lambda text: text[:-60], "no JSON"),
        (lambda text: "[1]", "names no schema"),
        (lambda text: '{"schema": "two"}', "names no schema"),
        (lambda text: '{"schema": 99}', "schema 99, but this version reads 1 to 2: update gpukmeans"),
        (lambda text: '{"schema": 2}', "damaged"),
        (lambda text: '{"schema": 1}', "damaged"),
        (lambda text: '{"schema": 2, "environments": {}, "rooflines": {}, "runs": [7]}', "damaged"),
        (('"environment": "e1"', '"environment": "e9"'), "damaged"),
        (('"fit": [1.0]', '"fit": []'), "seconds of cpu, fit"),
        (('"fit": [1.0]', '"fit": [-1.0]'), "seconds of cpu, fit"),
        (('"fit": [1.0]', '"fit": "1.0"'), "damaged"),
        (('"n": 1000', '"n": "many"'), "shape many"),
        (('"n": 1000, ', ""), "damaged"),
        (('"answer": {', '"replies": {'), "damaged"),
        (('"rand": 1.0', '"rand": "high"'), "damaged"),
        (('"commit": "abc1234"', '"commit": 7'), "damaged"),
    ],
    ids=range(17),
)
def test_damaged_files_are_told_in_one_line(how, said, tmp_path):
    file = tmp_path / "c.json"
    file.write_text(damage(comparison_of(run_of({"cpu": timed([1.0])})).to_json(), how))
    with pytest.raises(InputError, match=r"^c\.json") as raised:
        DeviceComparison.from_json(file)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
