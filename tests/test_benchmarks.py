"""The benchmarks' harness: cases, judging, storing, the page. Nothing here depends on how long a thing takes."""

# ruff: noqa: E402 - the modules are found only after their folder is
from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import cases
import figures
import jobs
import minibatch
import page
import passes
import results
import run
import sparse

from gpukmeans._kernels.cpu import native
from gpukmeans.compare import _answers
from gpukmeans.compare import _measure as measure
from gpukmeans.compare import _peers as peers

TWO = ("gpukmeans", "scikit-learn")


def stored(case="b", kind="blobs", dtype="float32", max_iter=20, **changes):
    """A result as the file holds it; ours twice as fast."""
    named = {
        "gpukmeans": {"seconds": [0.5, 0.6, 0.4], "n_iter": 20, "inertia": 100.0, "wrong_labels": 0, "peak_mib": 9.0},
        "scikit-learn": {"seconds": [1.0, 1.2, 1.0], "n_iter": 20, "inertia": 100.0, "wrong_labels": 3},
        "faiss": {"seconds": [2.0, None, 2.0], "n_iter": 20, "inertia": 100.0001, "wrong_labels": 0},
        "opencv": {"seconds": [0.1, 0.1, 0.1], "n_iter": None, "inertia": 140.0, "wrong_labels": 0},
    }
    for name, peer in named.items():
        peer["validates"] = name != "opencv"
    key = {"job": "lloyd", "case": case, "kind": kind, "dtype": dtype, "max_iter": max_iter}
    facts = {"n": 1000, "d": 2, "k": 10, "given": 20, "data_mib": 1.0, "budget_mib": 40.0}
    stamp = {"environment": "e1", "commit": "abc1234", "date": "2026-01-01", "command": "python benchmarks/run.py"}
    skipped = {"scipy": "not installed (python -m pip install scipy)"}
    return {**key, **facts, "peers": named, "skipped": skipped, **stamp, **changes}


def store_of(*found):
    return results.merge(results.empty(), found, {"e1": {"cpu": "A processor"}})


@pytest.fixture
def small(monkeypatch):
    """The smallest random shape, whichever it is, for all."""
    monkeypatch.setattr(cases, "random_shapes", lambda: [(cases.Case(300, 3, 4), "blobs")] * 30)


@pytest.fixture
def script_path(monkeypatch):
    """Processes find the modules beside the script they run; the checkout is not among its folders."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)


# --- cases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", cases.KINDS)
@pytest.mark.parametrize("name", "abcdefgh")
def test_cases_come_from_their_seed(name, kind, monkeypatch):
    monkeypatch.setitem(cases.CASES, name, cases.CASES[name]._replace(n=1500, k=5))
    first, again = (cases.make(name, kind, "float32") for _ in range(2))
    assert first.X.shape == (1500, cases.CASES[name].d)
    assert first.X.dtype == np.float32
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.X[first.indices], first.init)
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.X, cases.make(name, kind, "float64").X)
    assert len(np.unique(first.indices)) == 5


def test_kinds_and_cases_differ():
    assert not np.array_equal(cases.make("a", "uniform", "float32").X, cases.make("a", "blobs", "float32").X)


def test_embeddings_are_unit_rows_near_few_dimensions(monkeypatch):
    monkeypatch.setitem(cases.CASES, "h", cases.Case(1500, 768, 5))
    X = cases.make("h", "uniform", "float64").X
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, rtol=1e-5)
    parts = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2
    assert 0.9 < parts[:60].sum() / parts.sum() < 1
    assert parts[:40].sum() / parts.sum() < 0.9


def test_random_shapes_keep_their_bounds():
    shapes = cases.random_shapes()
    assert shapes == cases.random_shapes()
    assert len(set(shapes)) == 30
    for (n, d, k, iterations), kind in shapes:
        assert 1e3 <= n <= 2e6
        assert 1 <= d <= 1000
        assert 1 <= k < n / 4
        assert n * d * k < 3e9
        assert iterations == 20
        assert kind in cases.KINDS


def test_judge_finds_inertia_and_wrong_labels():
    X = np.array([[0.0], [1.0], [9.0], [10.0]], np.float32)
    centers = np.array([[0.5], [9.5]])
    assert _answers.judge(X, centers) == (1.0, None)
    assert _answers.judge(X, centers, np.array([0, 0, 1, 1])) == (1.0, 0)
    assert _answers.judge(X, centers, np.array([0, 1, 1, 1])) == (1.0, 1)
    tie = np.array([[5.0]])
    assert _answers.judge(tie, centers, np.array([1])) == (20.25, 0)
    assert _answers.judge(X, np.full((2, 1), np.nan), np.zeros(4, int)) == (np.inf, 4)


# --- peers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_peers_start_from_the_same_rows_and_answer_alike(peer):
    if (reason := peers.why_missing(peer)) is not None:
        pytest.skip(reason)
    rows = cases.make("a", "blobs", "float32")
    stop = peers.Stop(100, 100, True)
    expected = _answers.judge(rows.X, peers._estimator("sklearn.cluster")(rows, stop)().centers)[0]
    answer = jobs._judge_fit(rows.X, peer.prepare(rows, stop)())
    assert answer["inertia"] == pytest.approx(expected, rel=1e-6)
    assert answer["wrong_labels"] == 0


@pytest.mark.parametrize("peer", [p for p in peers.PEERS if p.validates], ids=lambda peer: peer.name)
def test_what_is_said_of_checks_is_true(peer):
    if (reason := peers.why_missing(peer)) is not None:
        pytest.skip(reason)
    rows, late = cases.make("a", "blobs", "float32"), peer.module in ("fastkmeans", "geokmeans")
    ready = peer.prepare(rows, peers.Stop(2, 2))
    rows.X[7, 1] = np.nan
    ready = peer.prepare(rows, peers.Stop(2, 2)) if late else ready  # they take a copy of the rows
    with pytest.raises((ValueError, RuntimeError)):
        ready()


def test_order_puts_our_rows_where_a_peer_picks():
    rows = cases.make("a", "uniform", "float32")
    picked = np.array([400, 3, 77])
    X, order = peers._in_order(rows, picked)
    np.testing.assert_array_equal(X[picked], rows.init)
    np.testing.assert_array_equal(np.sort(order), np.arange(500))
    np.testing.assert_array_equal(X, rows.X[order])


def test_missing_and_single_precision_peers_have_reasons(monkeypatch):
    absent = peers.Peer("absent", "no_such_module", "no-such", peers._scipy)
    single = peers.Peer("single", "numpy", "numpy", peers._scipy, dtypes=("float32",))
    monkeypatch.setattr(peers, "PEERS", (*peers.PEERS[:2], absent, single))
    found, skipped = peers.usable(None, "float64")
    assert [peer.name for peer in found] == list(TWO)
    assert skipped == {
        "absent": "not installed (python -m pip install no-such)",
        "single": "computes in float32 only",
    }


# --- races and verdicts -------------------------------------------------------------------------


def test_race_takes_turns_and_survives_a_failure():
    turns = []

    def fail():
        raise MemoryError("no room\nmore")

    done = measure.race({"a": lambda: turns.append("a"), "b": lambda: turns.append("b"), "bad": fail}, 3)
    assert turns == ["a", "b", "b", "a", "a", "b"]
    assert done.failed == {"bad": "MemoryError: no room"}
    assert {name: len(taken) for name, taken in done.seconds.items()} == {"a": 3, "b": 3}


def test_race_without_contestants_ends():
    assert measure.race({}, 3) == ({}, {}, {})


def test_race_lets_slow_contestants_sit_out_unless_they_must_run():
    done = measure.race({"a": lambda: 1, "b": lambda: 2}, 3, limit=0.0, must=("a",))
    assert None not in done.seconds["a"]
    assert done.seconds["b"][1:] == [None, None]
    done = measure.race({"a": lambda: 1}, 9, limit=0.0, must=("a",))
    assert len(done.seconds["a"]) == 3  # as many as a spread needs


def test_planted_wrong_peer_is_not_the_same_answer(monkeypatch, capsys):
    def half_done(rows, stop):
        return lambda: peers.Answer(rows.init, None, 0)

    wrong = peers.Peer("wrong", "numpy", "numpy", half_done, validates=False)
    monkeypatch.setattr(peers, "PEERS", (*peers.PEERS[:2], wrong))
    monkeypatch.setitem(jobs._PEER, "wrong", wrong)
    result = jobs.measure(
        {"job": "lloyd", "case": "t", "kind": "blobs", "dtype": "float32", "max_iter": 20},
        None,
        rounds=1,
        limit=np.inf,
        memory=False,
    )
    assert results.same_answer(result, "gpukmeans")
    assert not results.same_answer(result, "wrong")
    shown = [line for line in run._shown(result) if "NOT THE SAME ANSWER" in line]
    assert len(shown) == 1
    assert shown[0].split()[0] == "wrong"
    assert "input not checked" in shown[0]
    assert result["peers"]["gpukmeans"]["wrong_labels"] == 0


def test_ratios_are_of_rounds_and_shares_of_the_peak():
    result = stored(gemm_gflops=2.0)
    assert results.ratio(result, "gpukmeans") == pytest.approx((2.0, 2.0, 2.5))
    assert results.ratio(result, "faiss") == pytest.approx((0.5, 0.5, 0.5))
    assert results.spread(result, "faiss") == (2.0, 2.0, 2.0)
    assert results.gemm_share(result) == pytest.approx(2e-9 * 1000 * 2 * 10 * 20 / 0.5 / 2.0)
    assert results.gemm_share(stored()) is None
    assert results.same_answer(result, "faiss")
    assert not results.same_answer(result, "opencv")
    result["peers"]["faiss"]["inertia"] = None  # centres that are not finite
    assert not results.same_answer(result, "faiss")


# --- the file -----------------------------------------------------------------------------------


def test_results_round_trip_and_merge(tmp_path):
    file = tmp_path / "cpu.json"
    for result in (stored(), stored("c"), stored(max_iter=300), stored(dtype="float64"), stored(kind="uniform")):
        results.add(file, result, {"cpu": "first"})
    results.add(file, stored("c", given=7), {"cpu": "second"})
    store = results.load(file)
    assert len(store["results"]) == 5
    replaced = next(result for result in store["results"] if result["case"] == "c")
    assert replaced["given"] == 7
    assert store["environments"][replaced["environment"]] == {"cpu": "second"}
    assert json.loads(results.dumps(store)) == store
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cpu.json"]


def test_environments_that_nothing_was_measured_in_are_dropped(tmp_path):
    file = tmp_path / "cpu.json"
    results.add(file, stored(), {"cpu": "first"})
    results.add(file, stored(), {"cpu": "second"})
    assert list(results.load(file)["environments"].values()) == [{"cpu": "second"}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        (results.dumps(store_of(stored()))[:-40], "no JSON"),
        ("[1]", "names no schema"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1, "results": []}', None),
        ('{"schema": 1, "environments": {}, "results": [{"job": "lloyd"}]}', "damaged"),
        (results.dumps(store_of(stored())).replace("[0.5, 0.6, 0.4]", "[]"), "damaged"),
        (results.dumps(store_of(stored())).replace('"abc1234"', "7"), "damaged"),
        (results.dumps(store_of(stored())).replace('"environment": "e1"', '"environment": "e2"'), "damaged"),
    ],
)
def test_damaged_files_are_told_in_one_line(text, said, tmp_path, capsys):
    file = tmp_path / "cpu.json"
    file.write_text(text)
    code = run.main(["lloyd", "--cases", "t", "--json", str(file)]) if said else page.main([str(file)])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: cpu.json")
    assert error.count("\n") == 1
    assert (said or "damaged") in error or "no results" in error
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lloyd", "--cases", "xyz"], "no case x, y, z"),
        (["lloyd", "--converge", "--iterations", "3"], "--converge"),
        (["lloyd", "--json", "nowhere/at/all.json"], "no folder"),
    ],
)
def test_wrong_options_are_told_in_one_line(words, said, capsys):
    assert run.main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["lloyd", "--repeat", "0"], ["random", "--shapes", "9:3"], ["race"]])
def test_wrong_words_exit_with_two(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(words)
    assert "Traceback" not in capsys.readouterr().err


# --- the command --------------------------------------------------------------------------------


def test_tiny_jobs_run_and_are_stored(tmp_path, capsys):
    file = tmp_path / "cpu.json"
    common = ["--cases", "t", "--kinds", "blobs", "--repeat", "2", "--no-memory", "--json", str(file)]
    for words in (["lloyd", "--peers", *TWO], ["lloyd", "--converge", "--peers", *TWO], ["seeding"], ["silhouette"]):
        assert run.main([*words, "--dtype", "float32", "float64", *common]) == 0
    store = results.load(file)
    assert len(store["results"]) == 10
    assert all(results.same_answer(result, "gpukmeans") for result in store["results"])
    assert all(str(tmp_path) not in result["command"] for result in store["results"])
    (environment,) = store["environments"].values()
    assert environment["versions"]["gpukmeans"]
    assert "labels not nearest" in capsys.readouterr().out


def test_all_names_every_job():
    options = run._parser().parse_args(["all"])
    found = list(run.specs(options))
    assert len({results.key_of(spec) for spec in found}) == len(found)
    count = {job: sum(spec["job"] == job for spec in found) for job in (*jobs.JOBS, "roofline")}
    assert count == {"lloyd": 44, "random": 60, "seeding": 16, "silhouette": 4, "nine": 2, "roofline": 1}
    assert {spec["max_iter"] for spec in found if spec["case"] == "h"} == {5}


@pytest.mark.parametrize(("ratio", "code"), [(2.0, 0), (0.94, 1)])
def test_random_shapes_fail_below_the_floor(ratio, code, small, monkeypatch, capsys):
    def measured(spec, names, **settings):
        result = stored(spec["case"])
        result["peers"]["gpukmeans"]["seconds"] = [t / ratio for t in result["peers"]["scikit-learn"]["seconds"]]
        return result

    monkeypatch.setattr(run, "measure", measured)
    assert run.main(["random", "--shapes", "0:2"]) == code
    assert f"worst of 2 shapes: r00, {ratio:.2f}" in capsys.readouterr().out


def test_lloyd_command_keeps_its_options(tmp_path, script_path):
    file = tmp_path / "results.json"
    words = [
        "--cases",
        "t",
        "--kinds",
        "blobs",
        "--dtype",
        "float64",
        "--repeat",
        "1",
        "--iterations",
        "4",
        "--no-memory",
    ]
    command = [sys.executable, str(BENCHMARKS / "lloyd.py"), *words, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (result,) = results.load(file)["results"]
    assert list(result["peers"]) == list(TWO)
    assert (result["max_iter"], result["dtype"]) == (4, "float64")
    assert result["command"] == f"python benchmarks/lloyd.py {' '.join(words)} --json results.json"


@pytest.mark.skipif(not measure._CLEAR.exists(), reason="the kernel does not tell peak memory")
def test_peak_memory_is_measured_in_a_process_of_its_own(script_path):
    spec = {"job": "seeding", "case": "t", "kind": "blobs", "dtype": "float32", "max_iter": 0}
    peaks = measure.peak_memory([str(BENCHMARKS / "run.py"), "peak", json.dumps(spec), "gpukmeans"])
    assert 0 <= peaks["gpukmeans"] < 100
    # in a fresh process: this one has freed memory that a new array would be put into
    code = (
        "import numpy; from gpukmeans.compare import _measure; block = [numpy.ones(1)]; "
        "print(_measure.peak_of(lambda: block.append(numpy.ones(4 << 20))))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 20 < float(child.stdout) < 64


# --- the page -----------------------------------------------------------------------------------


def test_page_is_made_from_stored_results(tmp_path, capsys):
    share = stored("d", "uniform", gemm_gflops=2.0)
    roofline = stored("", "", "", 0, job="roofline", gemm={"float32": 80.0}, copy_gb_s=30.0, peers={}, skipped={})
    shape = stored("r03", job="random")
    seeding = stored("b", max_iter=0, job="seeding")
    silhouette = stored("s10", max_iter=0, job="silhouette")
    for result, facts in ((seeding, {"different": 0}), (silhouette, {"error": 1e-9})):
        result["peers"] = {name: {"seconds": [1.0], "validates": True, **facts} for name in TWO}
    file = tmp_path / "cpu.json"
    found = (stored(), stored(kind="uniform"), stored(max_iter=300), share, roofline, shape, seeding, silhouette)
    file.write_text(results.dumps(store_of(*found)))
    (tmp_path / "notes.md").write_text("The copy bandwidth bounds b.\n")
    assert page.main([str(file), "--out", str(tmp_path / "docs")]) == 0
    assert (tmp_path / "docs" / "images" / "performance.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "docs" / "performance.md").read_text()
    parts = [text.index(title) for title in ("## Method", "## Figures", "## What we are slower at", "## What bounds")]
    assert parts == sorted(parts)
    assert "| b blobs | **2.00** | 0.50 (+1e-06) |" in text
    assert "10.00 \N{BALLOT X} (+4e-01)" in text
    assert "lloyd b blobs, float32: 2.00 of 10" in text
    assert "as if nothing were skipped" in text
    assert "The copy bandwidth bounds b." in text
    assert "opencv \N{DAGGER}" in text
    assert "opencv is" not in text.partition("## What we are slower at")[2]  # faster, but not with the same answer
    for result in found:
        assert figures.command(result).startswith(f"python benchmarks/run.py {result['job']}")
    assert all(line.count("|") > 2 for line in text.splitlines() if line.startswith("|"))


def test_commands_of_the_page_are_understood():
    for result in (stored(), stored(max_iter=300), stored("r07", job="random"), stored("nine", job="nine")):
        words = figures.command(result).split()
        options = run._parser().parse_args(words[2:])
        found = [results.key_of(spec) for spec in run.specs(options)]
        result = result if result["job"] != "random" else result | {"kind": cases.random_shapes()[7][1]}
        assert results.key_of(result | ({"max_iter": 0} if result["job"] == "nine" else {})) in found


@pytest.mark.skipif(native() is None, reason="the compiled kernels were not built")
def test_the_passes_of_a_fit_are_told_one_by_one(capsys, monkeypatch):
    monkeypatch.setattr("gpukmeans._plan._IN_ONE_CALL", 0)
    assert passes.main(["t", "--kind", "blobs", "--iterations", "3"]) == 0
    *told, total = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in told]
    assert names[0] == "moments_pass"
    assert names.count("search_pass") == 4  # three iterations, and the last assignment
    assert f"{len(told)} passes" in total
    assert "100.0% searched      2000 new labels" in told[1]


def test_array_code_has_no_passes_to_tell(capsys, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_KERNELS", "numpy")
    assert passes.main(["t", "--iterations", "1"]) == 2
    assert "turned off" in capsys.readouterr().out


# --- mini-batches -------------------------------------------------------------------------------


@pytest.mark.skipif(not measure._CLEAR.exists(), reason="the kernel does not tell peak memory")
def test_the_race_of_mini_batches(script_path, capsys):
    assert minibatch.main(["--cases", "t", "--kinds", "blobs", "--seeds", "3", "--dtype", "float64"]) == 0
    threads, _, heading, *lines = capsys.readouterr().out.splitlines()
    assert threads.endswith(" threads")
    assert heading == "t blobs, 2000 x 3, k=4, float64; rows 0 MiB"
    assert [line.split()[0] for line in lines] == list(TWO)
    batches = [line.partition(" batches")[0].split()[-1] for line in lines]
    assert batches[0] == batches[1] != "1"
    assert all(0 <= float(line.rpartition("peak ")[2].removesuffix(" MiB")) < 100 for line in lines)
    assert abs(float(lines[1].partition("mean inertia ")[2].partition(",")[0])) < 1e-9


def test_a_worse_answer_of_mini_batches_is_told(capsys, monkeypatch):
    class Lazy(minibatch.MiniBatchKMeans):
        def fit(self, X, y=None, sample_weight=None):
            return super().fit(X[:50], y, sample_weight)

    monkeypatch.setitem(minibatch.CLASSES, "gpukmeans", Lazy)
    assert minibatch.main(["--cases", "t", "--kinds", "uniform", "--seeds", "2", "--no-memory"]) == 1
    assert "MiB" not in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(("words", "told"), [(["--cases", "xt"], "no case x"), (["--seeds", "0"], "--seeds")])
def test_words_that_the_race_does_not_know(words, told, capsys):
    with pytest.raises(SystemExit) as ended:
        minibatch.main(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


# --- sparse rows ----------------------------------------------------------------------------------


@pytest.mark.skipif(not measure._CLEAR.exists(), reason="the kernel does not tell peak memory")
def test_sparse_rows_race_and_answer_alike(script_path, capsys, monkeypatch):
    monkeypatch.setenv("GPUKMEANS_KERNELS", "1")  # which the contestants set, and is put back
    words = "--rows 300 --features 200 --entries 10 --clusters 3 --repeat 1 --iterations 4 --dtype float64"
    assert sparse.main(words.split()) == 0
    told, *contestants = capsys.readouterr().out.splitlines()
    assert told.startswith("300 x 200, 3000 entries, float64")
    assert [line.split()[0] for line in contestants] == list(sparse.CONTESTANTS)
    inertias = [float(line.partition("inertia ")[2].split()[0]) for line in contestants]
    assert inertias == pytest.approx([inertias[0]] * 3, rel=1e-9)
    rows = sparse.make(50, 200, 10, 3, "float32")
    assert (np.diff(rows.indptr) == 10).all()
    assert rows.has_canonical_format
