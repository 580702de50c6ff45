"""The command line: real runs, their files, messages and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_blobs

import gpukmeans
from gpukmeans import _device, _model_file, cli
from gpukmeans.cli import main

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

PICTURES = {"elbow.png", "silhouette.png", "scatter.png", "confusion.png"}
TABLES = {"labels.csv", "centers.csv", "summary.json"}
PAGE = {"report.html"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def points():
    """60 rows in three far groups of different size, and their group; saved as points.npz."""
    X, y = make_blobs([30, 20, 10], centers=[(0, 0), (9, 1), (3, 8)], cluster_std=0.5, random_state=3)
    np.savez("points.npz", X=X, y=y)
    return X, y


def files(folder: str = ".") -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def column(path: str, name: str) -> list[str]:
    header, *lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [line.split(",")[header.split(",").index(name)] for line in lines]


def error_of(capsys, *arguments: str) -> str:
    """The message of a command that must fail with code 2, one line, and print nothing else."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gpukmeans: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def command(*arguments: str, script: str = "", **options) -> subprocess.Popen:
    """`python -m gpukmeans`, or a script that calls it, with the package under test."""
    home = str(Path(gpukmeans.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    options["env"] = {**os.environ, "PYTHONPATH": path, **options.get("env", {})}
    start = ["-c", script] if script else ["-m", "gpukmeans"]
    return subprocess.Popen([sys.executable, *start, *arguments], **options)


# --- report -----------------------------------------------------------------------------------


def test_report_is_the_tutorial(capsys):
    assert main(["report"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "K               3 (highest mean silhouette for K = 2 to 10)" in out
    assert "0.998 matched, 1 of 500 wrong" in out
    assert "to gpukmeans-report/" in out.replace(os.sep, "/")
    assert max(map(len, out.splitlines())) <= 80
    assert files("gpukmeans-report") == TABLES | PICTURES | PAGE
    assert all(name in out for name in TABLES | PICTURES | PAGE)


def test_report_of_a_file_with_options(points, capsys):
    pandas = pytest.importorskip("pandas")
    X, y = points
    frame = pandas.DataFrame(X, columns=["length", "width"]).assign(noise=0.5, kind=np.array(list("uvw"))[y])
    frame.to_csv("flowers.csv", index=False)
    arguments = ["--label", "kind", "--columns", "width,length", "--k", "2:4", "--seed", "7", "--no-scale"]
    assert main(["report", "flowers.csv", *arguments, "--device", "cpu", "--out", "deep/er"]) == 0
    summary = json.loads(Path("deep/er/summary.json").read_text())
    assert (summary["n_clusters"], summary["wrong"], summary["seed"]) == (3, 0, 7)
    assert (summary["columns"], summary["standardised"]) == (["width", "length"], False)
    assert summary["device"] == "cpu"
    assert column("deep/er/labels.csv", "label") == column("deep/er/labels.csv", "matched")
    center = {name: column("deep/er/centers.csv", name) for name in ("length", "width")}
    np.testing.assert_allclose(sorted(map(float, center["length"])), [0, 3, 9], atol=0.4)
    assert "not scaled" in capsys.readouterr().out


def test_quiet_prints_nothing(points, capsys):
    for arguments in (
        ["report", "points.npz", "--k", "1:4", "--quiet"],
        ["fit", "points.npz", "--k", "3", "--out", "m", "--quiet"],
        ["predict", "m/model.npz", "points.npz", "--out", "c.csv", "--quiet"],
    ):
        assert main(arguments) == 0
        assert capsys.readouterr() == ("", "")


def test_a_shortened_range_is_told(capsys):
    np.save("few.npy", np.array([[0.0], [1], [5], [6], [7]]))
    assert main(["report", "few.npy"]) == 0
    assert "K ends at 4 instead of 10, because there are only 5 rows" in capsys.readouterr().out


def test_a_pipe_gets_no_bar_and_no_warning(points):
    with command("report", "points.npz", "--k", "2:5") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err == b""
    assert b"\r" not in out
    assert b"%|" not in out


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar_and_without_tqdm_none(monkeypatch):
    pytest.importorskip("tqdm")
    import fcntl
    import struct
    import termios

    main_end, terminal = os.openpty()
    os.set_blocking(main_end, False)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert cli._progress(quiet=True) is None
        bar = cli._progress(quiet=False)
        seen = []
        for number in bar([4, 5, 6], "fitting"):
            seen.append(number)
            time.sleep(0.3)  # bars appear for long work only
        text = os.read(main_end, 10_000)
        monkeypatch.setitem(sys.modules, "tqdm", None)
        assert cli._progress(quiet=False) is None
    os.close(main_end)
    assert seen == [4, 5, 6]
    assert b"fitting" in text


# --- fit and predict --------------------------------------------------------------------------


@pytest.mark.usefixtures("points")
def test_fit_writes_a_model_that_predict_reads(capsys):
    assert main(["fit", "points.npz", "--k", "3", "--out", "m"]) == 0
    assert files("m") == TABLES | {"model.npz"}
    assert "K               3 (given)" in capsys.readouterr().out
    assert main(["predict", "m/model.npz", "points.npz"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "row,cluster"
    fitted = column("m/labels.csv", "cluster")
    assert [line.split(",")[1] for line in out.splitlines()[1:]] == fitted
    assert main(["predict", "m/model.npz", "points.npz", "--out", "to/clusters.csv"]) == 0
    assert Path("to/clusters.csv").read_text() == out
    assert "60 rows" in capsys.readouterr().out


def test_report_and_fit_of_the_same_k_agree(points):
    assert main(["report", "points.npz", "--k", "2:4", "--seed", "5", "--quiet"]) == 0
    assert main(["fit", "points.npz", "--k", "3", "--seed", "5", "--out", "m", "--quiet"]) == 0
    assert Path("m/labels.csv").read_bytes() == Path("gpukmeans-report/labels.csv").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_file_needs_no_pickle(dtype):
    X, _ = make_blobs(200, n_features=3, centers=4, random_state=1)
    np.save("d.npy", (X * [1, 10, 100] + 500).astype(dtype))
    assert main(["fit", "d.npy", "--k", "4", "--seed", "2", "--out", "m", "--quiet"]) == 0
    with np.load("m/model.npz", allow_pickle=False) as archive:
        model = {name: archive[name] for name in archive.files}
    assert model["gpukmeans_schema"] == _model_file.SCHEMA
    assert model["gpukmeans_version"] == gpukmeans.__version__
    assert model["centers"].dtype == dtype
    assert model["centers"].shape == (4, 3)
    assert model["feature_names"].tolist() == ["x0", "x1", "x2"]
    assert model["seed"] == 2
    np.testing.assert_allclose(model["mean"], np.load("d.npy").astype(float).mean(axis=0), rtol=1e-12)
    centers = np.loadtxt("m/centers.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_allclose(model["centers"] * model["scale"] + model["mean"], centers, rtol=1e-6)
    assert model["inertia"] == json.loads(Path("m/summary.json").read_text())["wcss"]


def test_predict_finds_columns_by_name(points, capsys):
    pandas = pytest.importorskip("pandas")
    X, y = points
    frame = pandas.DataFrame(X, columns=["a", "b"]).assign(kind=np.array(list("uvw"))[y])
    frame.to_csv("d.csv", index=False)
    assert main(["fit", "d.csv", "--label", "kind", "--k", "3", "--out", "m", "--quiet"]) == 0
    frame[["kind", "b", "a"]].to_csv("other-order.csv", index=False)
    np.save("nameless.npy", X)
    for data in ("other-order.csv", "nameless.npy"):
        assert main(["predict", "m/model.npz", data, "--out", "c.csv", "--quiet"]) == 0
        assert column("c.csv", "cluster") == column("m/labels.csv", "cluster")
    frame.rename(columns={"b": "c"}).to_csv("renamed.csv", index=False)
    assert "renamed.csv lacks 1 column that the model needs: 'b'" in error_of(
        capsys, "predict", "m/model.npz", "renamed.csv"
    )
    np.save("wide.npy", np.zeros((4, 3)))
    assert "wide.npy has 3 columns, but the model was fitted on 2" in error_of(
        capsys, "predict", "m/model.npz", "wide.npy"
    )
    frame.assign(a=np.nan).to_csv("missing.csv", index=False)
    assert "column 'a' has 60 missing values" in error_of(capsys, "predict", "m/model.npz", "missing.csv")


@pytest.fixture
def model(points):
    assert main(["fit", "points.npz", "--k", "3", "--out", "m", "--quiet"]) == 0
    with np.load("m/model.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpukmeans_schema": 2}, "written by a newer gpukmeans (schema 2, this one reads up to 1)"),
        ({"gpukmeans_schema": 0}, "is a damaged model"),
        ({"gpukmeans_schema": "one"}, "damaged"),
        ({"scale": None}, "it lacks 'scale'"),
        ({"scale": np.ones(3)}, "do not fit each other"),
        ({"scale": np.array([1.0, 0.0])}, "do not fit each other"),
        ({"centers": np.full((3, 2), np.nan)}, "do not fit each other"),
        ({"centers": np.zeros(3)}, "do not fit each other"),
        ({"mean": np.array(["a", "b"])}, "do not fit each other"),
        ({"seed": np.array([None])}, "damaged"),
        ({"gpukmeans_schema": None}, "is not a gpukmeans model"),
    ],
)
def test_models_that_cannot_be_used(model, capsys, change, words):
    np.savez("bad.npz", **{name: value for name, value in (model | change).items() if value is not None})
    assert words in error_of(capsys, "predict", "bad.npz", "points.npz")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_half_a_model_is_refused(model, capsys, share):
    content = Path("m/model.npz").read_bytes()
    Path("half.npz").write_bytes(content[: int(share * len(content))])
    assert "half.npz" in error_of(capsys, "predict", "half.npz", "points.npz")
    damaged = bytearray(content)
    damaged[int(0.3 * len(content)) : int(0.3 * len(content)) + 40] = bytes(40)
    Path("half.npz").write_bytes(damaged)
    assert "half.npz" in error_of(capsys, "predict", "half.npz", "points.npz")


def test_a_model_is_no_data(model, capsys):
    assert "use it as in: gpukmeans predict" in error_of(capsys, "report", "m/model.npz")
    assert "there is no file 'no.npz'" in error_of(capsys, "predict", "no.npz", "points.npz")
    assert "is a folder" in error_of(capsys, "predict", "m", "points.npz")
    assert "has a folder called 'm'" in error_of(capsys, "predict", "m/model.npz", "points.npz", "--out", "m")


# --- wrong input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "no.csv"], "there is no file 'no.csv'"),
        (["report", "iriss"], "did you mean 'iris'?"),
        (["report", "."], "is a folder"),
        (["report", "points.npz", "--k", "0:4"], "with 60 rows K can be 2 to 59"),
        (["report", "points.npz", "--k", "60"], "with 60 rows K can be 2 to 59"),
        (["report", "points.npz", "--k", "9:3"], "write 3:9"),
        (["report", "points.npz", "--k", "many"], "neither a number nor a range"),
        (["report", "points.npz", "--label", "kind"], "has no column 'kind'"),
        (["report", "points.npz", "--columns", "x0,x7"], "has no column 'x7'"),
        (["report", "points.npz", "--seed", "-3"], "whole number"),
        (["report", "points.npz", "--device", "tpu"], "'auto', 'cpu', 'cuda'"),
        (["report", "points.npz", "--out", "points.npz"], "is a file; give a folder"),
        (["report", "points.npz", "--out", "points.npz/x"], "cannot be made"),
        (["report", "points.npz", "--out", ""], "--out is empty"),
        (["report", "--colour"], "unrecognized arguments: --colour"),
        (["fit", "points.npz", "--k", "1", "--out", "m"], "with 60 rows K can be 2 to 59"),
        (["fit", "points.npz", "--out", "m"], "required: --k"),
        (["fit", "points.npz", "--k", "3"], "required: --out"),
        (["predict", "points.npz", "points.npz"], "is not a gpukmeans model"),
        (["predict", "points.npz"], "required: DATA"),
        (["cluster"], "invalid choice: 'cluster'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(points, capsys, arguments, words):
    assert words in error_of(capsys, *arguments)
    assert files() == {"points.npz"}


def test_a_gpu_that_is_not_there(points, capsys):
    if _device.describe()["devices"]:
        pytest.skip("this machine has a usable GPU")
    for arguments in (["report"], ["fit", "points.npz", "--k", "3", "--out", "m"]):
        assert "needs a usable CUDA GPU" in error_of(capsys, *arguments, "--device", "cuda")
    assert files() == {"points.npz"}
    assert main(["fit", "points.npz", "--k", "3", "--out", "m", "--quiet"]) == 0
    for device, words in (("cuda", "needs a usable CUDA GPU"), ("tpu", "'auto', 'cpu', 'cuda'")):
        assert words in error_of(capsys, "predict", "m/model.npz", "points.npz", "--device", device)


def test_a_message_is_one_line_whatever_the_names(capsys):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"two\nlines": ["x\ny", "z", "z"]}).to_csv("d.csv", index=False)
    assert "'two lines' is not numeric: row 1 holds 'x y'" in error_of(capsys, "report", "d.csv")


def test_missing_matplotlib_is_told_before_the_work(points, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    words = error_of(capsys, "report", "points.npz")
    assert "needs matplotlib: python -m pip install matplotlib" in words
    assert files() == {"points.npz"}
    assert main(["fit", "points.npz", "--k", "3", "--out", "m", "--quiet"]) == 0


def test_no_memory_is_one_line(points, capsys, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(gpukmeans.metrics, "wcss_curve", fail)
    assert "not enough memory (Unable to allocate 9 TiB)" in error_of(capsys, "report", "points.npz")
    assert files() == {"points.npz"}


# --- the process ------------------------------------------------------------------------------


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gpukmeans {gpukmeans.__version__}\n"
    for arguments, words in (
        (["--help"], "report"),
        (["report", "--help"], "--columns"),
        (["fit", "--help"], "model.npz"),
        (["predict", "--help"], "MODEL"),
        (["doctor", "--help"], "versions"),
    ):
        assert main(arguments) == 0
        assert words in capsys.readouterr().out


def test_doctor_fits_80_columns(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for words in (
        "numpy",
        "scikit-learn",
        "scipy",
        "CuPy",
        "CUDA",
        "threads of a fit",
        "auto",
        "nearest",
        "blas",
    ):
        assert words in out
    assert gpukmeans.__version__ in out
    assert np.__version__ in out


def test_doctor_shows_the_bound_of_auto_and_its_source(points):
    for value, shown in (("", "1e+09 (built in)"), ("3.1e7", "3.1e+07 (GPUKMEANS_WORTH_A_GPU)")):
        with command("doctor", env={"GPUKMEANS_WORTH_A_GPU": value}) as process:
            out, err = process.communicate(timeout=60)
        assert err == b""
        assert shown in out.decode()
    with command("fit", "points.npz", "--k", "3", "--out", "m", env={"GPUKMEANS_WORTH_A_GPU": "lots"}) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.decode().startswith("gpukmeans: error: GPUKMEANS_WORTH_A_GPU='lots'")
    assert err.count(b"\n") == 1


def test_names_the_terminal_cannot_show_are_escaped(points):
    np.savez("größe.npz", X=points[0])
    with command("fit", "größe.npz", "--k", "3", "--out", "m", env={"PYTHONIOENCODING": "ascii"}) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"")
    assert rb"gr\xf6\xdfe.npz" in out


def test_a_reader_that_goes_away_is_quiet(points):
    assert main(["fit", "points.npz", "--k", "3", "--out", "m", "--quiet"]) == 0
    np.savez("many.npz", X=np.tile(points[0], (5000, 1)))
    with command("predict", "m/model.npz", "many.npz") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(120) == cli.BROKEN_PIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(points):
    assert main(["fit", "points.npz", "--k", "3", "--out", "m", "--quiet"]) == 0
    with (
        open("/dev/full", "wb") as full,
        command("predict", "m/model.npz", "points.npz", stdout=full) as process,
    ):
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err == b"gpukmeans: error: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_one_line_and_leaves_nothing():
    X, _ = make_blobs(8000, n_features=12, centers=40, cluster_std=3, random_state=0)
    np.save("long.npy", X)
    # a shell may have started the tests with SIGINT ignored, which a child inherits
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from gpukmeans.cli import main; print('ready', flush=True); sys.exit(main())"
    )
    with command("report", "long.npy", "--k", "20:400", script=script) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == b"gpukmeans: error: interrupted\n"
    assert files() == {"long.npy"}
