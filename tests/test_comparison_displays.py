"""Pictures of comparisons: what is drawn, what is not, and that no two texts collide. Their figures were made up."""

from __future__ import annotations

import itertools
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from comparisons import comparison_of, run_of, series, timed

from gpukmeans.compare import DeviceComparison
from gpukmeans.plotting import DeviceComparisonDisplay, RooflineDisplay, ScalingDisplay


@pytest.fixture(autouse=True)
def _agg(monkeypatch):
    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.fixture
def comparison():
    """A CPU, a CUDA device, a peer, one with another answer, and one on the stand-in."""
    wrong = timed([0.5, 0.6], "peer", "opencv")
    wrong["answer"] |= {"rand": 0.9, "off": 3e-3}
    emulated = timed([], "cuda", "cuda:1 CPU stand-in", stand_in=True, seconds={}, counts={"fit": {}})
    contestants = {"cpu": timed([4.0, 5.0]), "cuda:0": timed([1.0, 1.5], "cuda"), "faiss": timed([8.0, 9.0], "peer")}
    run = run_of(contestants | {"opencv": wrong, "cuda:1": emulated})
    return comparison_of(run, run_of({"cpu": timed([0.1])}, n=10))


def texts(display):
    return [text.get_text() for text in display.ax_.texts]


def collisions(display):
    """Pairs of texts that lie over each other."""
    figure = display.figure_
    figure.canvas.draw()
    shown = [text for text in display.ax_.texts if text.get_text()]
    shown += [label for label in display.ax_.get_yticklabels() if label.get_text()] + [display.ax_.title]
    shown += [display.ax_._left_title]
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown if text.get_text()]
    return [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)]


def test_bars_of_the_largest_problem(comparison):
    display = DeviceComparisonDisplay.from_comparison(comparison)
    assert display.run is comparison.runs[0]
    assert set(display.bars_) == {"cpu", "cuda:0", "faiss", "opencv"}
    ends = {name: bar.get_x() + bar.get_width() for name, bar in display.bars_.items()}
    assert ends == pytest.approx({"cpu": 4.5, "cuda:0": 1.25, "faiss": 8.5, "opencv": 0.55})
    assert display.ax_.get_xscale() == "log"
    assert set(display.transfers_) == {"cuda:0"}
    assert display.transfers_["cuda:0"].get_width() == pytest.approx(0.75)
    assert display.transfers_["cuda:0"].get_hatch()
    assert collisions(display) == []


def test_whiskers_span_the_rounds(comparison):
    display = DeviceComparisonDisplay.from_comparison(comparison)
    spans = [line.get_segments()[0][:, 0] for line in display.ax_.collections]
    np.testing.assert_allclose(sorted(spans, key=min), [[0.5, 0.6], [1.75, 2.25], [4, 5], [8, 9]])


def test_another_answer_is_an_empty_bar_without_a_ratio(comparison):
    display = DeviceComparisonDisplay.from_comparison(comparison)
    assert display.bars_["opencv"].get_facecolor()[3] == 0
    assert display.bars_["cpu"].get_facecolor()[3] == 1
    assert display.texts_["opencv"] == "550 ms   not the same answer: inertia +3e-03, adjusted Rand 0.9000"
    assert "\N{MULTIPLICATION SIGN}" not in display.texts_["opencv"]
    assert display.texts_["cuda:0"].startswith(
        "2.00 s   2.25\N{MULTIPLICATION SIGN}   inertia +0e+00, adj. Rand 1.0000"
    )


def test_the_stand_in_has_no_bar(comparison):
    display = DeviceComparisonDisplay.from_comparison(comparison)
    assert display.texts_["cuda:1"] == "no time: executed on a CPU stand-in, never on GPU hardware"


def test_bars_of_other_stages_and_runs(comparison):
    iteration = DeviceComparisonDisplay.from_comparison(comparison, 0, stage="iteration")
    assert iteration.ax_.get_title(loc="left").startswith("An iteration: 1,000 \N{MULTIPLICATION SIGN} 2, k = 10")
    assert iteration.transfers_ == {}
    nothing = DeviceComparisonDisplay.from_comparison(comparison, 0, stage="silhouette")
    assert nothing.bars_ == {}
    assert nothing.texts_["cpu"] == "not timed"
    given = plt.figure().add_subplot()
    assert DeviceComparisonDisplay.from_comparison(comparison, 1, ax=given).ax_ is given
    with pytest.raises(ValueError, match="run=2, but the comparison holds 2 runs"):
        DeviceComparisonDisplay.from_comparison(comparison, 2)


def test_scaling_marks_the_crossover():
    display = ScalingDisplay.from_comparison(series(0.1, 10.0, 500.0))
    assert list(display.lines_) == ["cpu", "cuda:0"]
    np.testing.assert_array_equal(display.lines_["cpu"].get_xdata(), [1000, 10_000, 100_000])
    np.testing.assert_allclose(display.lines_["cuda:0"].get_ydata(), 1.0)  # with its transfers
    (mark,) = display.marks_
    assert mark.get_xdata()[0] == pytest.approx(10**3.5)
    assert "cuda:0 overtakes cpu\nn = 3,162" in texts(display)
    assert collisions(display) == []
    assert ScalingDisplay.from_comparison(series(0.1, 0.2)).marks_ == []


def test_scaling_leaves_other_answers_out_of_its_lines():
    wrong = series(0.1, 10.0, 500.0)
    wrong.runs[1]["contestants"]["cuda:0"]["answer"]["rand"] = 0.9
    display = ScalingDisplay.from_comparison(wrong)
    np.testing.assert_array_equal(display.lines_["cuda:0"].get_xdata(), [1000, 100_000])
    hollow = [line for line in display.ax_.lines if str(line.get_markerfacecolor()) == "none" and len(line.get_xdata())]
    assert [line.get_xdata().tolist() for line in hollow] == [[10_000]]
    assert display.ax_.get_legend().get_texts()[0].get_text() == "not the same answer"


def test_scaling_needs_problems_that_grow(comparison):
    assert ScalingDisplay.from_comparison(comparison).series.axis == "n"
    with pytest.raises(ValueError, match=r"differ in d alone: .*gpukmeans compare --sweep d"):
        ScalingDisplay.from_comparison(comparison, axis="d")


def test_rooflines_have_their_corner_where_the_ceilings_meet(comparison):
    roofs = {"e1": {"cpu": {"copy_gb_s": 10.0, "gemm": {"float32": 80.0, "float64": 40.0}}}}
    display = RooflineDisplay.from_comparison(DeviceComparison(comparison.environments, comparison.runs, roofs))
    assert list(display.roofs_) == ["float32"]
    roof = display.roofs_["float32"]
    assert (roof.get_xdata()[1], roof.get_ydata()[1]) == pytest.approx((8.0, 80.0))
    assert len(display.points_["cpu"].get_xdata()) == 2
    assert set(display.points_) == {"cpu"}
    for place in ("cuda:0", "tpu"):
        with pytest.raises(ValueError, match=f"for '{place}'; there are some for: cpu"):
            RooflineDisplay.from_comparison(
                DeviceComparison(comparison.environments, comparison.runs, roofs), place=place
            )


@pytest.mark.parametrize("display", [DeviceComparisonDisplay, ScalingDisplay, RooflineDisplay])
def test_what_is_no_comparison(display):
    with pytest.raises(TypeError, match=f"comparison is a list, but {display.__name__}"):
        display.from_comparison([1])
    with pytest.raises(ValueError, match="holds no runs"):
        display.from_comparison(DeviceComparison({}, ()))


@pytest.mark.parametrize("display", [DeviceComparisonDisplay, ScalingDisplay])
def test_settings_stay_as_they_are(display):
    before = dict(plt.rcParams)
    display.from_comparison(series(0.1, 10.0)).figure_.canvas.draw()
    assert dict(plt.rcParams) == before


def test_comparing_loads_neither_matplotlib_nor_pandas():
    """No more than scikit-learn does."""
    code = "import sys, {}; print(sorted({{'matplotlib', 'pandas', 'jinja2'}} & set(sys.modules)))"
    loaded = [
        subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True).stdout
        for module in ("sklearn.cluster", "gpukmeans.compare", "matplotlib")
    ]
    assert loaded[0] == loaded[1] != loaded[2]
