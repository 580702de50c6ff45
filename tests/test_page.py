"""The HTML page: one file that holds all it shows, and shows what the record says."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from gpukmeans import _page, metrics
from gpukmeans._files import InputError
from gpukmeans._results import amount
from gpukmeans.cli import main
from gpukmeans.report import KRange, build, write

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from gpukmeans._pictures import draw

VOID = {"meta", "link", "img", "br", "hr", "input"}
NASTY = "<script>alert('x')</script>"
COMMAND = ["gpukmeans", "report", "it's here.csv", "--label", NASTY]


class Page(HTMLParser):
    """A page taken apart: tables as rows of cells, images, and every attribute; tags must be balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.texts: list[str] = []
        self.chosen: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"<{tag}> repeats an attribute"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
            if dict(attrs).get("class") == "chosen":
                self.chosen.append(self.tables[-1][-1])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def table(self, corner: str) -> list[list[str]]:
        """The rows of all tables with that heading in the corner, put side by side."""
        return [row for table in self.tables if table[0][0] == corner for row in table[1:]]


@pytest.fixture(scope="module")
def blobs():
    return build("blobs", k=KRange(2, 4))


@pytest.fixture(scope="module")
def pictures(blobs):
    return draw(blobs)


@pytest.fixture(scope="module")
def page(blobs, pictures):
    return Page(_page.render(blobs, pictures, COMMAND))


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """Markup in the names of the file, a column, the label and a class."""
    pandas = pytest.importorskip("pandas")
    X, y = make_blobs(60, n_features=3, centers=3, random_state=1)
    frame = pandas.DataFrame(X, columns=[NASTY, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }} & co"])
    frame["<b>kind"] = np.array([NASTY, "a&amp;b", "it's"])[y]
    path = tmp_path_factory.mktemp("nasty") / "<i>x & 'y'.csv"
    frame.to_csv(path, index=False)
    return build(str(path), label="<b>kind", k=KRange(2, 4))


# --- one file ---------------------------------------------------------------------------------


def test_nothing_is_fetched_and_nothing_runs(page, blobs, pictures):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, name)
        assert not any(name.startswith("on") for name in attributes)
    assert page.all("script") == page.all("iframe") == []
    text = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", _page.render(blobs, pictures))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert text.lstrip().startswith("<!DOCTYPE html>")


def test_all_pictures_are_in_it_with_their_size_and_a_text(page, pictures):
    images = page.all("img")
    held = {base64.b64decode(image["src"].partition("base64,")[2]) for image in images}
    assert held == set(pictures.values())
    assert len(images) == 4
    for image in images:
        assert len(image["alt"]) > 40
        assert min(int(image["width"]), int(image["height"])) >= 400
    assert len(page.all("figcaption")) == 4


def test_a_given_k_has_no_elbow_and_no_classes_no_matrix(tmp_path):
    X, _ = make_blobs(50, centers=3, random_state=1)
    np.save(tmp_path / "d.npy", X)
    report = build(str(tmp_path / "d.npy"), k=KRange(3, 3))
    page = Page(_page.render(report, draw(report)))
    assert len(page.all("img")) == 2
    assert page.table("known class") == []
    assert "K was given, not chosen" in page.text
    assert [row[0] for row in page.chosen] == ["3given"]
    assert page.all("pre") == []


# --- what it says -----------------------------------------------------------------------------


def test_the_page_says_what_the_summary_says(tmp_path):
    write(build("iris", k=KRange(2, 5), seed=3), tmp_path, ["gpukmeans", "report", "iris"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    for words in (
        f"{summary['n_clusters']} clusters",
        "K = 2, chosen by the highest mean silhouette of K = 2 to 5",
        f"{summary['silhouette']:.3f} reasonable structure (exact, all 150 rows)",
        f"{summary['matched_accuracy']:.3f} {summary['wrong']} of 150 wrong",
        f"adjusted Rand {summary['adjusted_rand']:.3f}",
        summary["device_reason"],
        summary["gpukmeans_version"],
        "seed 3",
        "gpukmeans report iris",
    ):
        assert words in page.text
    curve = [[str(one["k"]), amount(one["wcss"])] for one in summary["curve"]]
    assert [[row[0].removesuffix("chosen"), row[1]] for row in page.table("K")] == curve
    assert [int(row[2]) for row in page.table("cluster") if len(row) == 5 and "%" in row[3]] == summary["cluster_sizes"]
    matrix = [[int(cell) for cell in row[1:]] for row in page.table("known class")]
    assert matrix == summary["confusion_matrix"]
    assert "report.html" in summary["files"]


def test_the_table_of_k_has_the_variance_ratio_and_marks_the_choice(page, blobs):
    rows = page.table("K")
    assert rows[0][2:] == ["\N{EN DASH}", "\N{EN DASH}"]
    scaled = blobs.scaling.apply(blobs.table.X)
    assert rows[2][3] == amount(metrics.variance_ratio(scaled, blobs.labels))
    assert page.chosen == [rows[2]]
    assert rows[2][0] == "3chosen"


@pytest.mark.parametrize(
    ("silhouette", "words"),
    [
        (0.9, "strong structure"),
        (0.7, "reasonable structure"),
        (0.51, "reasonable structure"),
        (0.3, "weak structure that may be artificial"),
        (0.25, "no substantial structure"),
        (-1.0, "no substantial structure"),
    ],
)
def test_silhouettes_in_words(silhouette, words):
    assert _page.words(silhouette) == words


def test_centers_are_shown_in_the_units_of_the_data(page, blobs):
    rows = next(table for table in page.tables if table[0] == ["cluster", "x0", "x1"])[1:]
    assert rows == [[str(i), *map(amount, center)] for i, center in enumerate(blobs.centers.tolist())]


def test_wide_data_run_down_and_a_mean_of_zero_is_zero():
    report = build("digits", k=KRange(12, 12))
    page = Page(_page.render(report, draw(report)))
    rows = page.table("column")
    assert [row[0] for row in rows] == [*report.table.columns] * 2
    assert [len(row) for row in rows] == [7] * 128
    assert rows[0][1:] == ["0"] * 6
    values = np.array([left[1:] + right[1:] for left, right in zip(rows[:64], rows[64:], strict=True)], dtype=float)
    np.testing.assert_allclose(values, report.centers.T, rtol=1e-5, atol=1e-9)


def test_long_tables_end_and_say_where_the_rest_is(tmp_path, monkeypatch):
    monkeypatch.setattr(_page, "MAX_ROWS", 5)
    monkeypatch.setattr(_page, "MAX_ACROSS", 5)
    monkeypatch.setattr(_page, "MAX_CLASSES", 3)
    X, y = make_blobs(200, n_features=9, centers=8, cluster_std=4, random_state=3)
    np.savez(tmp_path / "d.npz", X=X, y=y)
    report = build(str(tmp_path / "d.npz"), k=KRange(6, 11))
    page = Page(_page.render(report, draw(report)))
    assert len(page.table("K")) == 5
    assert len(page.chosen) == 1
    assert "5 of 7 values of K" in page.text
    worst = page.table("known class")
    off = report.judgement.confusion - np.pad(
        np.diag(np.diag(report.judgement.confusion)), ((0, 0), (0, len(report.judgement.leftover)))
    )
    assert [int(row[2]) for row in worst] == np.sort(off, axis=None)[::-1][:3].tolist()
    assert f"Shown: 5 clusters of {report.n_clusters}, 5 columns of 9" in page.text


# --- names from the data ----------------------------------------------------------------------


def test_names_are_text_and_never_markup(nasty):
    text = _page.render(nasty, draw(nasty), COMMAND)
    page = Page(text)
    assert "<script" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert len(page.all("img")) == 4
    assert {tag for tag, _ in page.tags} & {"script", "b", "i"} == set()
    assert page.table("cluster")[-1]
    heads = next(table[0] for table in page.tables if table[0][1] == NASTY)
    assert heads[1:] == list(nasty.table.columns)
    assert {row[0] for row in page.table("known class")} == {NASTY, "a&amp;b", "it's"}
    assert nasty.table.name in page.text
    assert "<b>kind" in page.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_file_name_that_is_no_unicode(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.npy")
    np.save(path, np.arange(12.0).reshape(6, 2) ** 2)
    write(build(path, k=KRange(2, 2)), tmp_path / "out", ["gpukmeans", "report", path])
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "2 clusters in bad?.npy" in page.text
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["data"] == "bad\udcff.npy"


def test_the_command_can_be_pasted(page):
    assert """gpukmeans report 'it'"'"'s here.csv' --label""" in page.text


# --- the command line -------------------------------------------------------------------------


def test_the_command_line_writes_the_page_with_its_own_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "iris", "--k", "3", "--seed", "4", "--out", "a folder"]) == 0
    assert "report.html" in capsys.readouterr().out
    first = (tmp_path / "a folder" / "report.html").read_text(encoding="utf-8")
    assert "gpukmeans report iris --k 3 --seed 4 --out 'a folder'" in Page(first).text
    assert main(["report", "iris", "--k", "3", "--seed", "4", "--out", "a folder", "--quiet"]) == 0
    again = (tmp_path / "a folder" / "report.html").read_text(encoding="utf-8")
    assert again == first.replace("&#39;a folder&#39;", "&#39;a folder&#39; --quiet")


def test_missing_jinja2_is_told_before_the_work(tmp_path, monkeypatch, capsys, blobs):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["report", "blobs"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("gpukmeans: error: the HTML report needs jinja2: python -m pip install 'gpukmeans[report]'\n")
    with pytest.raises(InputError, match="needs jinja2"):
        write(blobs, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
