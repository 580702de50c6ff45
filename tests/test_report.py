"""The workflow on the user's data: the record, its files and its pictures."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler

from gpukmeans import report
from gpukmeans._files import InputError
from gpukmeans._results import aligned, summarise, table_lines
from gpukmeans.report import KRange, KScore, build, choose, judge, write

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
from matplotlib.image import imread

from gpukmeans import _pictures


@pytest.fixture(scope="module")
def blobs():
    return build("blobs")


def saved(folder: Path, X: np.ndarray, y: np.ndarray | None = None, name: str = "d.npz") -> str:
    path = folder / name
    np.savez(path, X=X) if y is None else np.savez(path, X=X, y=y)
    return str(path)


def csv_rows(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]


# --- the tutorial -----------------------------------------------------------------------------


def test_the_tutorial_in_one_call(blobs):
    assert blobs.n_clusters == 3
    assert blobs.rule == "highest mean silhouette for K = 2 to 10"
    assert [score.k for score in blobs.curve] == list(range(1, 11))
    assert blobs.judgement.matched_accuracy == 0.998
    assert blobs.judgement.wrong == 1
    assert blobs.judgement.confusion.sum() - np.trace(blobs.judgement.confusion) == 1
    assert blobs.judgement.adjusted_rand == pytest.approx(0.994, abs=5e-4)


def test_the_curves_are_scikit_learns(blobs):
    rows = StandardScaler().fit_transform(blobs.table.X)
    assert blobs.curve[0].wcss == pytest.approx(rows.size)
    assert blobs.curve[0].silhouette is None
    assert blobs.total_ss == pytest.approx(rows.size)
    assert blobs.wcss == pytest.approx(153.1068629612329)
    assert blobs.silhouette == pytest.approx(silhouette_score(rows, blobs.labels))
    assert blobs.curve[2].silhouette == blobs.silhouette
    wcss = [score.wcss for score in blobs.curve]
    assert wcss == sorted(wcss, reverse=True)


def test_centers_are_in_the_units_of_the_data(blobs):
    for cluster, center in enumerate(blobs.centers):
        np.testing.assert_allclose(center, blobs.table.X[blobs.labels == cluster].mean(axis=0), rtol=1e-9)
    assert blobs.sizes.tolist() == np.bincount(blobs.labels).tolist()


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name in ("one", "two"):
        write(build("iris", k=KRange(2, 4), seed=3), tmp_path / name)
    for name in ("labels.csv", "centers.csv", "scatter.png", "silhouette.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# --- choosing K -------------------------------------------------------------------------------


def score(k: int, silhouette: float | None) -> KScore:
    return KScore(k, 1.0, silhouette, 1, 0.0)


def test_ties_go_to_the_smallest_k():
    assert choose([score(1, None), score(2, 0.25), score(3, 0.5), score(4, 0.5)]) == 3
    assert choose([score(7, None)]) == 7


def test_a_given_k_is_not_questioned():
    given = build("blobs", k=KRange(4, 4))
    assert given.n_clusters == 4
    assert given.rule == "given"
    assert [entry.k for entry in given.curve] == [4]
    assert given.total_ss == pytest.approx(1000)


@pytest.mark.parametrize(
    ("asked", "used", "words"),
    [
        (KRange(2, 10), KRange(2, 4), "K ends at 4 instead of 10"),
        (KRange(1, 3), KRange(2, 3), "starts at K=2"),
        (KRange(2, 3), KRange(2, 3), None),
    ],
)
def test_ranges_are_shortened_with_a_note(tmp_path, asked, used, words):
    result = build(saved(tmp_path, np.array([[0.0], [1], [5], [6], [7]])), k=asked)
    assert result.tried == used
    assert words is None or any(words in note for note in result.notes)


def test_a_choice_at_the_end_of_the_range_is_told():
    words = "is at the end of the range"
    assert build("blobs", k=KRange(2, 2)).notes == ()
    assert any(f"K=4 {words} 4:6" in note for note in build("blobs", k=KRange(4, 6)).notes)
    assert any(f"K=3 {words} 2:3" in note for note in build("blobs", k=KRange(2, 3)).notes)
    assert build("blobs", k=KRange(2, 4)).notes == ()


@pytest.mark.parametrize("k", [(1, 1), (5, 5), (0, 3), (5, 9), (-2, 4)])
def test_k_outside_the_rows_is_refused(tmp_path, k):
    with pytest.raises(InputError, match="with 5 rows K can be 2 to 4"):
        build(saved(tmp_path, np.array([[0.0], [1], [5], [6], [7]])), k=KRange(*k))


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.ones((9, 2)), "all 9 rows"),
        (np.array([[0.0], [1]]), "2 rows; at least 3"),
        (np.arange(4.0)[:, None] * 1e200, "too large"),
        (np.arange(4.0)[:, None] * 1e-200, "too close to each other"),
    ],
)
def test_nothing_to_cluster(tmp_path, X, words):
    with pytest.raises(InputError, match=words):
        build(saved(tmp_path, X), scale=False)


def test_duplicate_rows_form_no_more_clusters_than_they_can(tmp_path):
    """Two different rows, forty times each: K=2 is perfect, and larger K say why they are not tried."""
    X = np.repeat([[0.0, 1], [3, 1]], [45, 35], axis=0)
    result = build(saved(tmp_path, X), k=KRange(2, 5))
    assert result.n_clusters == 2
    assert result.silhouette == pytest.approx(1)
    assert [entry.silhouette for entry in result.curve[2:]] == [None, None, None]
    assert any("many rows are equal" in note for note in result.notes)
    write(result, tmp_path / "out")


def test_a_given_k_beyond_the_distinct_rows_still_reports(tmp_path):
    X = np.repeat([[0.0, 1], [3, 1]], [45, 35], axis=0)
    result = build(saved(tmp_path, X), k=KRange(3, 3))
    assert sorted(result.sizes.tolist()) == [0, 35, 45]
    write(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_clusters"] == 3


# --- samples and precision --------------------------------------------------------------------


def test_silhouettes_of_many_rows_are_sampled_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SILHOUETTE_ROWS", 400)
    X, _ = make_blobs(3001, centers=[(0, 0), (6, 6), (0, 6)], cluster_std=1.0, random_state=4)
    path = saved(tmp_path, X)
    result = build(path, k=KRange(2, 4), seed=1)
    assert not result.silhouettes.exact
    assert len(result.silhouettes.values) == 400
    assert result.n_clusters == 3
    assert result.silhouette == pytest.approx(silhouette_score(X, result.labels), abs=0.05)
    assert result.silhouette == build(path, k=KRange(2, 4), seed=1).silhouette
    assert any("seeded sample of 400 rows" in line for line in table_lines(result))
    assert summarise(result)["silhouette_exact"] is False


def test_silhouettes_do_not_depend_on_the_passes_they_share(monkeypatch):
    """Many K in one pass, or each in its own: the same values, which are scikit-learn's."""
    shared = build("iris", k=KRange(2, 6))
    monkeypatch.setattr(report, "PASS_CLUSTERS", 7)
    split = build("iris", k=KRange(2, 6))
    rows = StandardScaler().fit_transform(shared.table.X)
    assert silhouette_score(rows, shared.labels) == pytest.approx(shared.silhouette, rel=1e-12)
    for one, other in zip(shared.curve[1:], split.curve[1:], strict=True):
        assert one.silhouette == pytest.approx(other.silhouette, rel=1e-12)
    assert report._groups({2: 2, 3: 3, 4: 4, 5: 5, 9: 9}) == [[2, 3], [4], [5], [9]]


def test_a_sample_has_no_repeats_and_is_sorted():
    rows = report.sample_rows(1000, 300, seed=8)
    assert len(np.unique(rows)) == 300
    assert (np.diff(rows) > 0).all()


def test_single_precision_data_give_single_precision_centers(tmp_path):
    X, _ = make_blobs(300, centers=3, random_state=0)
    result = build(saved(tmp_path, X.astype(np.float32)), k=KRange(2, 4))
    assert result.centers.dtype == np.float32
    write(result, tmp_path / "out")
    written = csv_rows(tmp_path / "out" / "centers.csv")[1:]
    assert np.array_equal(np.array(written)[:, 1:].astype(np.float32), result.centers)
    assert max(len(cell) for line in written for cell in line) <= 13  # digits of a float32, not a float64


def test_without_scaling_the_wcss_is_in_the_units_of_the_data(tmp_path):
    X, _ = make_blobs(120, centers=3, random_state=0)
    result = build(saved(tmp_path, X * [1, 100]), k=KRange(3, 3), scale=False)
    own = (X * [1, 100] - result.centers[result.labels]) ** 2
    assert result.wcss == pytest.approx(own.sum())


# --- known classes ----------------------------------------------------------------------------


def test_left_over_clusters_count_as_wrong():
    y = np.array(["u"] * 6 + ["v"] * 4)
    labels = np.array([2, 2, 2, 2, 1, 1, 0, 0, 0, 0], dtype=np.int32)
    against = judge(y, labels)
    assert against.matching == {0: "v", 1: None, 2: "u"}
    assert against.leftover == (1,)
    assert against.wrong == 2
    assert against.matched_accuracy == 0.8
    assert against.accuracy is None
    np.testing.assert_array_equal(against.confusion, [[4, 0, 2], [0, 4, 0]])


def test_plain_accuracy_only_where_classes_are_cluster_numbers():
    labels = np.array([0, 0, 1, 1, 1], dtype=np.int32)
    assert judge(np.array([1, 1, 0, 0, 1]), labels).accuracy == 0.2
    assert judge(np.array([5, 5, 6, 6, 6]), labels).accuracy is None
    assert judge(np.array([0, 0, 1, 1, 2]), labels).accuracy is None


def test_more_classes_than_clusters():
    against = judge(np.array(list("aabbc")), np.array([0, 0, 1, 1, 1], dtype=np.int32))
    assert against.confusion.shape == (3, 3)
    assert against.wrong == 1


# --- files ------------------------------------------------------------------------------------


def test_the_files_hold_the_record(tmp_path, blobs):
    names = write(blobs, tmp_path)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    labels = csv_rows(tmp_path / "labels.csv")
    assert labels[0] == ["row", "cluster", "label", "matched"]
    assert len(labels) == 501
    assert [int(line[0]) for line in labels[1:]] == list(range(1, 501))
    assert [int(line[1]) for line in labels[1:]] == blobs.labels.tolist()
    assert sum(line[2] != line[3] for line in labels[1:]) == 1
    centers = csv_rows(tmp_path / "centers.csv")
    assert centers[0] == ["cluster", "x0", "x1"]
    np.testing.assert_array_equal(np.array(centers[1:], float)[:, 1:], blobs.centers)


def numbers_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value] if isinstance(value, float) else []


def test_the_summary_is_strict_json_with_finite_numbers(tmp_path, blobs):
    write(blobs, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert all(math.isfinite(number) for number in numbers_in(summary))
    assert summary["n_clusters"] == 3
    assert summary["matched_accuracy"] == 0.998
    assert summary["wrong"] == 1
    assert summary["silhouette_exact"] is True
    assert summary["curve"][0]["silhouette"] is None
    assert summary["files"] == sorted(path.name for path in tmp_path.iterdir())
    assert {"device", "device_reason", "k_rule", "wcss", "seed", "columns", "cluster_sizes"} <= set(summary)


def test_names_with_commas_and_quotes_survive(tmp_path):
    pandas = pytest.importorskip("pandas")
    X, y = make_blobs(40, centers=2, random_state=1)
    frame = pandas.DataFrame(X, columns=['a, "b"', "é"]).assign(kind=np.array(["x,1", 'y"2'])[y])
    frame.to_csv(tmp_path / "d.csv", index=False)
    write(build(str(tmp_path / "d.csv"), label="kind"), tmp_path / "out")
    centers = pandas.read_csv(tmp_path / "out" / "centers.csv")
    assert centers.columns.tolist() == ["cluster", 'a, "b"', "é"]
    labels = pandas.read_csv(tmp_path / "out" / "labels.csv")
    assert labels["label"].tolist() == frame["kind"].tolist()


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path, blobs):
    write(blobs, tmp_path)
    (tmp_path / "mine.png").write_bytes(b"kept")
    unlabelled = saved(tmp_path, blobs.table.X)
    write(build(unlabelled, k=KRange(3, 3)), tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "mine.png", "d.npz", "labels.csv", "centers.csv", "summary.json", "scatter.png", "silhouette.png",
        "report.html",
    }  # fmt: skip


def test_pictures_that_are_not_ours_are_left_alone(tmp_path, blobs):
    (tmp_path / "confusion.png").write_bytes(b"mine")
    (tmp_path / "summary.json").write_text('{"files": ["confusion.png"]}')
    write(build(saved(tmp_path, blobs.table.X), k=KRange(3, 3)), tmp_path)
    assert (tmp_path / "confusion.png").read_bytes() == b"mine"


def test_nothing_is_written_when_a_picture_fails(tmp_path, blobs, monkeypatch):
    def fail(report):
        raise InputError("no picture today")

    monkeypatch.setattr(_pictures, "scatter", fail)
    with pytest.raises(InputError, match="no picture today"):
        write(blobs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the table on the terminal ----------------------------------------------------------------


def test_the_table_says_what_was_found(blobs):
    lines = table_lines(blobs)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert all(ord(character) < 128 for character in text)
    for words in (
        "blobs: 500 rows, 2 columns, standardised",
        "3 (highest mean silhouette for K = 2 to 10)",
        "153.107, 15.3 % of the total 1,000",
        "0.6339 (exact, all 500 rows)",
        "0.998 matched, 1 of 500 wrong",
        "cluster numbers are arbitrary",
        blobs.device,
    ):
        assert words in text
    assert [line.split()[0] for line in lines if line.endswith("*")] == ["3"]


def test_long_values_wrap_under_themselves():
    lines = aligned([("name", "word " * 40), ("empty", "")])
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("name            word")
    assert lines[1].startswith(" " * 16 + "word")
    assert lines[-1] == "empty"


# --- pictures ---------------------------------------------------------------------------------


def drawn_points(figure) -> np.ndarray:
    """All points of the clusters: every collection but the centroids, which come last."""
    return np.concatenate([part.get_offsets() for part in figure.axes[0].collections[:-1]])


def test_the_scatter_shows_the_data(blobs):
    figure = _pictures.scatter(blobs)
    ax = figure.axes[0]
    for cluster, part in enumerate(ax.collections[:-1]):
        np.testing.assert_array_equal(part.get_offsets(), blobs.table.X[blobs.labels == cluster])
    np.testing.assert_array_equal(ax.collections[-1].get_offsets(), blobs.centers)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x0", "x1")


def test_more_columns_are_projected_on_principal_components():
    iris = build("iris", k=KRange(3, 3))
    figure = _pictures.scatter(iris)
    rows = StandardScaler().fit_transform(iris.table.X)
    _, values, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    expected = np.concatenate([(rows @ axes[:2].T)[iris.labels == cluster] for cluster in range(3)])
    np.testing.assert_allclose(np.abs(drawn_points(figure)), np.abs(expected), atol=1e-9)
    share = 100 * values[0] ** 2 / (values**2).sum()
    assert figure.axes[0].get_xlabel() == f"principal component 1 ({share:.1f} % of the variance)"


def test_many_points_are_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(_pictures, "SCATTER_POINTS", 150)
    X, _ = make_blobs(1000, centers=3, random_state=0)
    figure = _pictures.scatter(build(saved(tmp_path, X), k=KRange(3, 3)))
    assert len(drawn_points(figure)) == 150
    assert "150 drawn" in figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize("n_clusters", [3, 8, 9, 24, 25, 60])
def test_every_cluster_has_its_own_colour(n_clusters):
    palette = np.array(_pictures.colors(n_clusters))
    assert palette.shape == (n_clusters, 3)
    assert palette.min() >= 0
    assert palette.max() <= 1
    gaps = np.abs(palette[:, None] - palette[None]).sum(axis=2) + 9 * np.eye(n_clusters)
    assert gaps.min() > 0.05


def test_pictures_open_and_have_content(tmp_path):
    """Awkward names, one column, many clusters: each picture can be drawn and is not blank."""
    rng = np.random.default_rng(0)
    pandas = pytest.importorskip("pandas")
    y = rng.integers(0, 14, 300)
    frame = pandas.DataFrame({"cost ($), price ($x)": y * 5 + rng.normal(size=300), "数_": rng.normal(size=300)})
    frame = frame.assign(kind=[f"_a rather long $name$ for a class, number {i}" for i in y])
    frame.to_csv(tmp_path / "awk$ward$.csv", index=False)
    for columns in (None, "数_"):
        result = build(str(tmp_path / "awk$ward$.csv"), label="kind", columns=columns, k=KRange(13, 14))
        for name, png in _pictures.draw(result).items():
            image = imread(io.BytesIO(png))
            assert min(image.shape[:2]) >= 400, name
            assert max(image.shape[:2]) <= 2400, name
            assert image[..., :3].std() > 0.02, name


def test_pictures_change_no_settings(blobs):
    import matplotlib

    before = dict(matplotlib.rcParams)
    _pictures.draw(blobs)
    assert dict(matplotlib.rcParams) == before
