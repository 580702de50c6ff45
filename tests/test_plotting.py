"""The displays, tested by what they draw: data, texts, and the room that texts have."""

from __future__ import annotations

import pickle
import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import calinski_harabasz_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from strict_cupy import counting

from gpukmeans import KMeans, metrics
from gpukmeans.plotting import ClusterDisplay, ElbowDisplay, MatchedConfusionDisplay, SilhouetteDisplay

mpl.use("Agg")


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def clustered(k, n=None, d=2, seed=5):
    """Rows of very unequal clusters, their classes, and a model of k clusters: (X, y, model)."""
    rng = np.random.default_rng(seed)
    n = 40 * k if n is None else n
    y = np.concatenate([np.arange(k), rng.choice(k, n - k, p=np.arange(1, k + 1) / (k * (k + 1) / 2))])
    X = rng.uniform(-2, 2, (k, d))[y] * np.sqrt(k) + rng.normal(size=(n, d)) * 0.7
    return X, y, KMeans(k, random_state=0, max_iter=20).fit(X)


@pytest.fixture(scope="module")
def iris():
    data = load_iris()
    return data.data, data.target_names[data.target], KMeans(3, random_state=0, n_init=3).fit(data.data)


# --- the room that texts have -----------------------------------------------------------------


def visible_texts(figure):
    """All texts that show: (artist, extent in pixels)."""
    texts = []
    for ax in figure.axes:
        texts += [ax.title, ax._left_title, ax._right_title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [axis.get_offset_text()]
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        if ax.get_legend() is not None:
            texts += ax.get_legend().get_texts()
    shown = [text for text in texts if text.get_visible() and text.get_text()]
    return [(text, text.get_window_extent()) for text in shown]


def assert_room(figure):
    """No text leaves the figure, and no two overlap (slanted ones are told apart by their distance)."""
    figure.draw_without_rendering()
    found = visible_texts(figure)
    boxes = np.array([box.extents for _, box in found])
    width, height = figure.bbox.size
    outside = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2:] > [width, height]).any(axis=1)
    assert [found[i][0].get_text() for i in np.flatnonzero(outside)] == []
    over = (boxes[:, None, :2] < boxes[None, :, 2:] - 0.5).all(axis=2)
    over &= over.T & ~np.eye(len(boxes), dtype=bool)
    slanted = np.array([text.get_rotation() % 90 != 0 for text, _ in found])
    over &= ~(slanted[:, None] & slanted)
    assert [(found[i][0].get_text(), found[j][0].get_text()) for i, j in np.argwhere(over)] == []


def discs(display):
    """Centres and radii of the badges' discs, in pixels."""
    display.figure_.draw_without_rendering()
    boxes = [badge.get_bbox_patch().get_window_extent() for badge in display.badges_]
    centers = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    return centers, np.array([box.width / 2 for box in boxes])


def assert_discs_apart(display):
    centers, radii = discs(display)
    distances = np.linalg.norm(centers[:, None] - centers, axis=2) + 1e9 * np.eye(len(centers))
    assert (distances > radii[:, None] + radii - 1).all()


@pytest.mark.parametrize("k", [3, 8, 40])
def test_no_two_texts_collide(k):
    X, y, model = clustered(k)
    wcss = model.inertia_ * np.linspace(9, 1, k + 5) ** 2 / 10
    elbow = ElbowDisplay(range(1, k + 6), wcss, total_ss=wcss[0], n_samples=len(X), n_features=60, knee=2)
    pictures = [
        elbow.plot(),
        SilhouetteDisplay.from_estimator(model, X),
        ClusterDisplay.from_estimator(model, X),
        MatchedConfusionDisplay.from_estimator(model, X, y),
    ]
    for picture in pictures:
        assert_room(picture.figure_)
    assert_discs_apart(pictures[2])


def test_no_two_texts_collide_in_axes_that_were_given():
    X, y, model = clustered(8)
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.5), layout="constrained")
    ElbowDisplay.from_data(X, range(1, 9), random_state=0, max_iter=5, ax=axes[0, 0])
    SilhouetteDisplay.from_estimator(model, X, ax=axes[0, 1])
    display = ClusterDisplay.from_estimator(model, X, ax=axes[1, 0])
    MatchedConfusionDisplay.from_estimator(model, X, y, ax=axes[1, 1])
    assert display.ax_ is axes[1, 0]
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert_room(figure)


def test_a_subfigure_will_do(iris):
    X, _, model = iris
    left, right = plt.figure(figsize=(9, 4), layout="constrained").subfigures(1, 2)
    assert SilhouetteDisplay.from_estimator(model, X, ax=left.subplots()).figure_ is left
    ClusterDisplay.from_estimator(model, X, ax=right.subplots())
    assert_room(left.figure)


# --- what all displays keep to ----------------------------------------------------------------


def test_import_does_not_load_matplotlib():
    code = "import sys, gpukmeans.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_and_estimators_stay_as_they_are(iris):
    X, y, model = iris
    pipeline = make_pipeline(StandardScaler(), KMeans(3, random_state=0)).fit(X)
    before = pickle.dumps((model, pipeline, X))
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever was set by tests before this one
        settings = dict(mpl.rcParams)
        for estimator in (model, pipeline):
            SilhouetteDisplay.from_estimator(estimator, X)
            ClusterDisplay.from_estimator(estimator, X)
            MatchedConfusionDisplay.from_estimator(estimator, X, y)
        ElbowDisplay.from_data(X, [1, 2, 3], random_state=0)
        assert dict(mpl.rcParams) == settings
    assert pickle.dumps((model, pipeline, X)) == before


@pytest.mark.parametrize("display", [SilhouetteDisplay, ClusterDisplay, MatchedConfusionDisplay])
class TestFromEstimator:
    def arguments(self, display, X, y):
        return (X, y) if display is MatchedConfusionDisplay else (X,)

    def test_same_picture_as_from_predictions(self, display, iris):
        X, y, model = iris
        left = display.from_estimator(model, *self.arguments(display, X, y)).figure_
        given = {
            SilhouetteDisplay: (X, model.labels_),
            ClusterDisplay: (X, model.labels_, model.cluster_centers_),
            MatchedConfusionDisplay: (y, model.labels_),
        }[display]
        right = display.from_predictions(*given).figure_
        for figure in (left, right):
            figure.canvas.draw()
        assert (np.asarray(left.canvas.buffer_rgba()) == np.asarray(right.canvas.buffer_rgba())).all()

    @pytest.mark.parametrize("estimator", [KMeans, "k-means", 3, None])
    def test_refuses_what_does_not_cluster(self, display, estimator, iris):
        X, y, _ = iris
        with pytest.raises(TypeError, match="a fitted clustering estimator or pipeline is needed"):
            display.from_estimator(estimator, *self.arguments(display, X, y))

    @pytest.mark.parametrize("estimator", [KMeans(3), DBSCAN()])
    def test_refuses_an_unfitted_estimator(self, display, estimator, iris):
        X, y, _ = iris
        with pytest.raises(NotFittedError):
            display.from_estimator(estimator, *self.arguments(display, X, y))

    def test_labels_of_another_length(self, display, iris):
        X, y, _ = iris
        with pytest.raises(ValueError, match=r"one entry for each of the 99 rows, but has 150"):
            display.from_estimator(DBSCAN().fit(X), *self.arguments(display, X[:99], y[:99]))


def test_device_arrays_are_copied_once(cupy_double, iris):
    X, y, model = iris
    device = [cupy_double.asarray(x) for x in (X, model.labels_, model.cluster_centers_)]
    with counting() as stats:
        drawn = ClusterDisplay.from_predictions(*device)
    assert (stats.h2d, stats.d2h) == (0, 3)
    assert stats.d2h_bytes == X.nbytes + model.labels_.nbytes + model.cluster_centers_.nbytes
    np.testing.assert_allclose(drawn.points, ClusterDisplay.from_estimator(model, X).points)
    with counting() as stats:
        MatchedConfusionDisplay.from_predictions(y, device[1])
    assert (stats.h2d, stats.d2h) == (0, 1)
    values = cupy_double.asarray(metrics.silhouette_samples(X, model.labels_))
    with counting() as stats:
        SilhouetteDisplay.from_samples(values, device[1])
    assert (stats.h2d, stats.d2h) == (0, 2)


def test_silhouettes_of_device_rows_are_computed_there(cupy_double, iris):
    X, _, model = iris
    rows, labels = cupy_double.asarray(X), cupy_double.asarray(model.labels_)
    display = SilhouetteDisplay.from_predictions(rows, labels, sample_size=99, random_state=4)
    on_host = SilhouetteDisplay.from_predictions(X, model.labels_, sample_size=99, random_state=4)
    np.testing.assert_allclose(display.values, on_host.values, atol=1e-12)


# --- elbow ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curve(iris):
    return metrics.wcss_curve(iris[0], range(1, 9), random_state=0)


def test_elbow_draws_the_curve_and_its_marks(curve, iris):
    display = ElbowDisplay.from_curve(curve)
    np.testing.assert_array_equal(display.line_.get_xdata(), curve.ks)
    np.testing.assert_array_equal(display.line_.get_ydata(), curve.wcss)
    scores = [calinski_harabasz_score(iris[0], model.labels_) for model in curve.models[1:]]
    np.testing.assert_allclose(display.variance_ratios[1:], scores)
    best, knee = 2 + int(np.argmax(scores)), metrics.find_knee(curve.ks, curve.wcss)
    assert (display.best_k, display.knee) == (best, knee)
    for mark, k in ((display.best_mark_, best), (display.knee_mark_, knee)):
        assert mark.get_xydata().tolist() == [[k, curve.wcss[k - 1]]]
        assert f": K = {k}" in mark.get_label()
    texts = [text.get_text() for text in display.legend_.get_texts()]
    assert texts == [line.get_label() for line in display.ax_.lines]
    assert display.ax_.get_ylim()[0] == 0


def test_elbow_reference_is_what_evenly_spread_rows_give(curve):
    display = ElbowDisplay.from_curve(curve, n_features=2)
    k, reference = display.reference_line_.get_data()
    np.testing.assert_allclose(reference, curve.total_ss / k)
    assert display.reference_line_.get_linestyle() == "--"
    assert "d=2" in display.reference_line_.get_label()
    assert ElbowDisplay(curve.ks, curve.wcss, total_ss=9.0, n_features=2).plot(reference=False).reference_line_ is None


@pytest.mark.parametrize("n_features", [2, 60])
def test_elbow_legend_lies_over_no_line(curve, n_features):
    display = ElbowDisplay.from_curve(curve, n_features=n_features)
    display.figure_.draw_without_rendering()
    legend = display.legend_.get_window_extent()
    for line in display.ax_.lines:
        x, y = display.ax_.transData.transform(line.get_xydata()).T
        along = np.linspace(x[0], x[-1], 2000)
        inside = (along > legend.x0) & (np.interp(along, x, y) > legend.y0)
        assert not inside.any(), line.get_label()


def test_elbow_of_numbers_alone():
    display = ElbowDisplay([5, 2, 3], [1.0, 9.0, 4.0]).plot()
    assert display.line_.get_xydata().tolist() == [[2, 9], [3, 4], [5, 1]]
    assert display.variance_ratios is display.best_k is display.best_mark_ is display.reference_line_ is None
    single = ElbowDisplay([4], [3.0], total_ss=8.0, n_samples=9, n_features=2).plot(color="red")
    assert single.line_.get_color() == "red"
    assert single.best_k is None  # nothing to compare


def test_elbow_of_rows_all_the_same():
    display = ElbowDisplay.from_curve(metrics.WCSSCurve((1, 2), np.zeros(2), np.ones(2), np.ones(2), 0.0, ()))
    assert display.best_mark_ is None
    assert display.ax_.get_ylim()[1] > 0


def test_elbow_wrong_input():
    with pytest.raises(TypeError, match=r"curve is a ndarray.*from_data"):
        ElbowDisplay.from_curve(np.ones((4, 2)))
    with pytest.raises(ValueError, match="one WCSS for each K"):
        ElbowDisplay([1, 2, 3], [4.0, 1.0]).plot()
    with pytest.raises(ValueError, match=r"knee=7 is not one of the numbers of clusters \[1, 2\]"):
        ElbowDisplay([1, 2], [4.0, 1.0], knee=7).plot()


# --- silhouettes ------------------------------------------------------------------------------


def outline(band):
    """The vertices of a band, (m, 2)."""
    (path,) = band.get_paths()
    return path.vertices


def test_silhouette_bands_hold_the_sorted_values():
    X, y, _ = clustered(5)
    values = metrics.silhouette_samples(X, y)
    display = SilhouetteDisplay.from_predictions(X, y)
    edges = []
    for cluster, band in enumerate(display.bands_):
        points, own = outline(band), np.sort(values[y == cluster])[::-1]
        top, bottom = points[:, 1].min(), points[:, 1].max()
        assert bottom - top == pytest.approx(own.size)
        drawn = np.array([x for x, at in points if x != 0 and (at - top) % 1 == pytest.approx(0.5, abs=1e-6)])
        np.testing.assert_allclose(np.sort(drawn)[::-1], own)
        edges += [top, bottom]
    assert all(low < high for low, high in pairwise(edges))
    assert display.mean_line_.get_xdata()[0] == pytest.approx(values.mean())
    assert display.mean_text_.get_text() == f"mean {values.mean():.3f}"
    low, high = display.ax_.get_xlim()
    assert low < values.min()
    assert high > values.max()


def test_silhouette_of_many_rows_is_drawn_from_quantiles():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [30_000, 8_000, 5])
    values = np.clip(rng.normal(0.3, 0.2, labels.size), -1, 1)
    display = SilhouetteDisplay.from_samples(values, labels)
    assert [len(outline(band)) for band in display.bands_] == [2 * 200 + 3, 2 * 200 + 3, 2 * (5 + 2) + 3]
    heights = [np.ptp(outline(band)[:, 1]) for band in display.bands_]
    np.testing.assert_allclose(heights, [30_000, 8_000, 5])
    first = outline(display.bands_[0])
    assert first[:, 0].max() == pytest.approx(values[:30_000].max())
    middle = np.median(values[:30_000])
    near = first[np.abs(first[:, 1] - first[:, 1].min() - 15_000) < 200]
    assert near[near[:, 0] != 0][:, 0] == pytest.approx(middle, abs=0.01)


def test_silhouette_of_a_sample_is_that_of_the_score(iris):
    X, _, model = iris
    display = SilhouetteDisplay.from_predictions(X, model.labels_, sample_size=70, random_state=3)
    score = metrics.silhouette_score(X, model.labels_, sample_size=70, random_state=3)
    assert display.mean_line_.get_xdata()[0] == pytest.approx(score)
    assert display.ax_.get_title(loc="left") == "Silhouettes of 70 of 150 rows in 3 clusters"


def test_silhouette_names_of_slivers_stay_apart_and_in_order():
    labels = np.repeat(np.arange(40), [5_000] + [2] * 39)
    values = np.linspace(0.9, -0.1, labels.size)
    display = SilhouetteDisplay.from_samples(values, labels)
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == [str(cluster) for cluster in range(40)]
    assert_room(display.figure_)
    leaders = [text.xy[1] for text in display.ax_.texts if text.get_text() == ""]
    middles = [outline(band)[:, 1].min() + np.ptp(outline(band)[:, 1]) / 2 for band in display.bands_]
    np.testing.assert_allclose(leaders, middles)


def test_silhouette_of_very_many_clusters_names_some():
    labels = np.repeat(np.arange(300), 3)
    display = SilhouetteDisplay.from_samples(np.full(900, 0.4), labels)
    names = [int(label.get_text()) for label in display.ax_.get_yticklabels()]
    assert 30 < len(names) < 300
    assert len({b - a for a, b in pairwise(names)}) == 1
    assert_room(display.figure_)


def test_silhouette_takes_the_colours_of_the_clusters():
    X, _, model = clustered(11)
    clusters = ClusterDisplay.from_estimator(model, X)
    display = SilhouetteDisplay.from_estimator(model, X, colors=clusters.colors_)
    bands = np.array([band.get_facecolor()[0, :3] for band in display.bands_])
    np.testing.assert_allclose(bands, clusters.colors_)


def test_silhouette_colours_follow_the_numbers():
    shown = SilhouetteDisplay.from_samples([0.1, 0.2, 0.3], [0, 2, 2])
    second = shown.bands_[1].get_facecolor()[0, :3]
    np.testing.assert_allclose(second, to_rgb("#7570b3"))  # cluster 1 has no rows, 2 keeps its colour
    named = SilhouetteDisplay.from_samples([0.1, 0.2, 0.3], ["south", "north", "south"])
    assert [label.get_text() for label in named.ax_.get_yticklabels()] == ["north", "south"]


def test_silhouette_wrong_input(iris):
    with pytest.raises(ValueError, match=r"numbers from -1 to 1\. .*silhouette_samples"):
        SilhouetteDisplay.from_samples([0.1, 3.0], [0, 1])
    with pytest.raises(ValueError, match="numbers from -1 to 1"):
        SilhouetteDisplay.from_samples([0.1, np.nan], [0, 1])
    with pytest.raises(ValueError, match="each of the 2 rows, but has 3"):
        SilhouetteDisplay.from_samples([0.1, 0.2], [0, 1, 1])
    with pytest.raises(ValueError, match=r"one dimension, but has shape \(150, 4\)"):
        SilhouetteDisplay.from_samples(iris[0], [0, 1])
    with pytest.raises(ValueError, match="Number of labels is 1"):
        SilhouetteDisplay.from_predictions(iris[0], np.zeros(150, int))


# --- clusters ---------------------------------------------------------------------------------


def drawn_rows(display):
    """Points and their colours, in the order of their coordinates."""
    points, colors = display.points_.get_offsets().data, display.points_.get_facecolor()[:, :3]
    order = np.lexsort(points.T)
    return points[order], colors[order]


def test_two_features_are_drawn_as_they_are():
    X, _, model = clustered(6)
    display = ClusterDisplay.from_estimator(model, X)
    points, colors = drawn_rows(display)
    order = np.lexsort(X.T)
    np.testing.assert_array_equal(points, X[order])
    np.testing.assert_allclose(colors, display.colors_[model.labels_[order]])
    assert [badge.get_text() for badge in display.badges_] == [str(j) for j in range(6)]
    np.testing.assert_allclose([badge.xy for badge in display.badges_], model.cluster_centers_)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("feature 0", "feature 1")
    assert display.ax_.get_title(loc="left") == "240 rows in 6 clusters"


def test_more_features_are_drawn_as_principal_components(iris):
    X, _, model = iris
    display = ClusterDisplay.from_estimator(model, X)
    pca = PCA(2).fit(X)
    signs = np.sign((pca.transform(X) * display.points).sum(axis=0))
    np.testing.assert_allclose(display.points, pca.transform(X) * signs, atol=1e-9)
    np.testing.assert_allclose(display.centers, pca.transform(model.cluster_centers_) * signs, atol=1e-9)
    first, second = pca.explained_variance_ratio_
    assert display.ax_.get_xlabel() == f"PC 1 ({first:.1%} of variance)"
    assert display.ax_.get_ylabel() == f"PC 2 ({second:.1%} of variance)"
    assert display.ax_.get_aspect() == 1


def test_projection_of_rows_far_from_the_origin(iris):
    X, _, model = iris
    near = ClusterDisplay.from_predictions(X, model.labels_)
    far = ClusterDisplay.from_predictions(X.astype(np.float64) + 1e7, model.labels_)
    np.testing.assert_allclose(far.points, near.points, atol=1e-6)


def test_a_narrow_strip_gets_axes_of_their_own():
    X = np.random.default_rng(2).normal(size=(200, 5)) * [90, 1, 1, 1, 1]
    labels = (X[:, 0] > 0).astype(int)
    assert ClusterDisplay.from_predictions(X, labels).ax_.get_aspect() == "auto"
    display = ClusterDisplay(X[:, :2], labels, [[-50, 0], [50, 0]]).plot(equal_aspect=True)
    assert display.ax_.get_aspect() == 1


@pytest.mark.parametrize("k", [8, 40])
def test_badges_of_centers_at_one_place_stay_apart(k):
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(900, 2)), rng.integers(k, size=900)
    centers = np.zeros((k, 2))
    centers[-1] = [3, 2]
    display = ClusterDisplay.from_predictions(X, y, centers)
    assert_discs_apart(display)
    assert_room(display.figure_)
    places, radii = discs(display)
    anchors = display.ax_.transData.transform(centers)
    moved = np.linalg.norm(places - anchors, axis=1)
    assert moved[-1] < 2  # nothing near: it stays
    assert moved.max() < 2.2 * radii[0] * np.sqrt(k)  # a heap, not a burst
    leaders = [text for text in display.ax_.texts if text.get_text() == ""]
    assert len(leaders) == np.count_nonzero(moved > 0.7 * radii[0])
    inside = display.ax_.get_window_extent().padded(1)
    assert all(inside.contains(*place) for place in places)


def test_a_large_table_is_sampled_by_cluster_and_repeatably():
    rng = np.random.default_rng(6)
    labels = np.repeat([0, 1, 2, 3], [15_000, 4_000, 30, 3])
    X = rng.normal(size=(labels.size, 3)) + 9 * labels[:, None]
    display = ClusterDisplay.from_predictions(X, labels)
    drawn = np.bincount(display.labels)
    assert drawn.tolist() == [round(5_000 * 15_000 / labels.size), round(5_000 * 4_000 / labels.size), 20, 3]
    assert display.ax_.get_title(loc="left") == f"19,033 rows in 4 clusters ({drawn.sum():,} drawn)"
    again, other = (ClusterDisplay.from_predictions(X, labels, random_state=seed) for seed in (0, 1))
    np.testing.assert_array_equal(again.points, display.points)
    assert not np.array_equal(other.points[:50], display.points[:50])


def test_hexagons_take_the_colour_of_most_of_their_rows():
    rng = np.random.default_rng(8)
    X = rng.uniform(-1, 1, (120_000, 2)).astype(np.float32)
    labels = (X[:, 0] > 0).astype(int)
    display = ClusterDisplay.from_predictions(X, labels)
    at, faces = np.asarray(display.points_.get_offsets()), display.points_.get_facecolor()[:, :3]
    for cluster, side in ((0, at[:, 0] < -0.1), (1, at[:, 0] > 0.1)):
        pale = 1 - faces[side]
        full = 1 - display.colors_[cluster]
        ratio = pale / full
        np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(3))  # the hue, paler
        assert ratio.max() <= 1 + 1e-9
    assert "hexagon" in display.ax_.get_title(loc="left")
    few = ClusterDisplay.from_predictions(X[:300], labels[:300], kind="hexbin")
    assert len(few.points_.get_offsets()) < 300


def test_neighbours_can_be_told_apart():
    X, _, model = clustered(40)
    display = ClusterDisplay.from_estimator(model, X)
    distances = np.linalg.norm(display.centers[:, None] - display.centers, axis=2) + 1e9 * np.eye(40)
    contrast = np.linalg.norm(display.colors_[:, None] - display.colors_, axis=2)
    assert contrast[np.arange(40), distances.argmin(axis=1)].min() > 0.3
    assert len(np.unique(display.colors_, axis=0)) == 24
    few = ClusterDisplay.from_predictions(X, model.labels_ % 8)
    np.testing.assert_allclose(few.colors_[[0, 7]], [to_rgb("#1b9e77"), to_rgb("#666666")])


def test_a_pipeline_is_drawn_in_the_space_of_its_last_step():
    X, _, _ = clustered(3)
    X = X * [1, 1000]
    pipeline = make_pipeline(StandardScaler(), KMeans(3, random_state=0)).fit(X)
    display = ClusterDisplay.from_estimator(pipeline, X)
    np.testing.assert_allclose(display.points, StandardScaler().fit_transform(X))
    np.testing.assert_allclose(display.centers, pipeline[-1].cluster_centers_)


def test_centers_are_means_where_there_are_none():
    X, y, _ = clustered(4)
    named = np.array(list("wxyz"))[y]
    display = ClusterDisplay.from_predictions(X, named)
    np.testing.assert_allclose(display.centers, [X[y == j].mean(axis=0) for j in range(4)])
    assert [badge.get_text() for badge in display.badges_] == list("wxyz")
    noisy = ClusterDisplay.from_estimator(DBSCAN(eps=0.4).fit(X), X)
    assert noisy.badges_[0].get_text() == "-1"


def test_a_single_feature_is_drawn_against_the_row():
    X = np.array([[3.0], [1.0], [2.0], [9.0]])
    display = ClusterDisplay.from_predictions(X, [0, 0, 0, 1])
    assert display.points.tolist() == [[3, 0], [1, 1], [2, 2], [9, 3]]
    assert display.centers.tolist() == [[2, 1.5], [9, 1.5]]
    assert display.ax_.get_ylabel() == "row"


def test_rows_all_the_same():
    display = ClusterDisplay.from_predictions(np.full((5, 3), 7.0), [0, 0, 1, 1, 1])
    assert_discs_apart(display)


def test_names_of_features_reach_the_axes():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"width": [0.0, 1.0, 9.0], "price in $ and $": [1.0, 2.0, 3.0]})
    model = KMeans(2, random_state=0).fit(X)
    display = ClusterDisplay.from_estimator(model, X)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("width", r"price in \$ and \$")
    other = ClusterDisplay.from_predictions(X, model.labels_, feature_names=["a", "b"])
    assert (other.ax_.get_xlabel(), other.ax_.get_ylabel()) == ("a", "b")


def test_more_centers_than_badges_are_dots():
    rng = np.random.default_rng(9)
    centers = rng.normal(size=(230, 2))
    display = ClusterDisplay.from_predictions(centers, np.arange(230), centers)
    assert display.badges_ == []
    np.testing.assert_array_equal(display.ax_.collections[-1].get_offsets().data, centers)


def test_clusters_wrong_input(iris):
    X, _, model = iris
    with pytest.raises(ValueError, match="each of the 150 rows, but has 149"):
        ClusterDisplay.from_predictions(X, model.labels_[1:])
    with pytest.raises(ValueError, match=r"centers has shape \(3, 2\), but X has 4 features"):
        ClusterDisplay.from_predictions(X, model.labels_, model.cluster_centers_[:, :2])
    with pytest.raises(ValueError, match="2 centers do not fit labels with 3 different values"):
        ClusterDisplay.from_predictions(X, model.labels_, model.cluster_centers_[:2])
    with pytest.raises(ValueError, match="labels has 5, which is none of the 2 clusters"):
        ClusterDisplay([[0, 0], [1, 1]], [0, 5], [[0, 0], [1, 1]]).plot()
    with pytest.raises(ValueError, match="feature_names has 1 names for 4 features"):
        ClusterDisplay.from_predictions(X, model.labels_, feature_names=["a"])
    with pytest.raises(ValueError, match="kind='cloud' is not known"):
        ClusterDisplay.from_predictions(X, model.labels_, kind="cloud")
    with pytest.raises(ValueError, match="NaN"):
        ClusterDisplay.from_predictions(np.full((150, 2), np.nan), model.labels_)


# --- classes ----------------------------------------------------------------------------------


def test_confusion_counts_names_and_title(iris):
    X, y, model = iris
    display = MatchedConfusionDisplay.from_estimator(model, X, y)
    matrix = metrics.matched_confusion_matrix(y, model.labels_)
    texts = np.vectorize(lambda text: int(text.get_text()))(display.text_)
    np.testing.assert_array_equal(texts, matrix)
    np.testing.assert_allclose(display.im_.get_array(), matrix / 50)
    assert [text.get_position() for text in display.text_[1]] == [(0, 1), (1, 1), (2, 1)]
    stands = {name: cluster for cluster, name in metrics.match_labels(y, model.labels_).items()}
    columns = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert columns == [f"{stands[name]} → {name}" for name in ("setosa", "versicolor", "virginica")]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["setosa", "versicolor", "virginica"]
    accuracy = metrics.matched_accuracy(y, model.labels_)
    wrong = round(150 * (1 - accuracy))
    assert display.ax_.get_title(loc="left") == f"matched accuracy {accuracy:.3f}\n{wrong} of 150 rows wrong"
    assert (display.accuracy, display.n_wrong) == (pytest.approx(accuracy), wrong)
    assert display.gap_line_ is display.colorbar_ is None


def test_confusion_counts_can_be_read_on_their_cells():
    y = np.repeat([0, 1, 2, 3], [90, 50, 40, 60])
    labels = np.random.default_rng(3).permutation(np.where(np.arange(240) % 3, y, 3 - y))
    display = MatchedConfusionDisplay.from_predictions(y, labels)
    shares = display.im_.get_array()
    for (i, j), text in np.ndenumerate(display.text_):
        cell, ink = (np.array(to_rgb(color)) for color in (display.im_.to_rgba(shares)[i, j, :3], text.get_color()))
        if text.get_text() != "0":
            assert abs((cell - ink) @ [0.3, 0.59, 0.11]) > 0.35


def test_left_over_clusters_stand_apart_on_the_right():
    y = np.repeat(["a", "b"], [6, 9])
    labels = np.array([3, 3, 3, 3, 5, 5, 1, 1, 1, 1, 1, 1, 9, 9, 9])
    display = MatchedConfusionDisplay.from_predictions(y, labels)
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == [
        "3 → a",
        "1 → b",
        "5 left over",
        "9 left over",
    ]
    assert display.gap_line_.get_xdata() == [1.5, 1.5]
    assert display.n_wrong == 5


def test_a_class_without_a_cluster():
    display = MatchedConfusionDisplay.from_predictions([0, 0, 1, 2], [7, 7, 7, 4], display_labels=["x", "y", "z"])
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["7 → x", "none → y", "4 → z"]


def test_sixty_classes_get_a_colour_bar_in_place_of_counts():
    rng = np.random.default_rng(5)
    y = rng.integers(60, size=90_000)
    display = MatchedConfusionDisplay.from_predictions(y, np.where(rng.random(90_000) < 0.9, y, (y + 1) % 63))
    assert display.text_ is None
    assert display.colorbar_.ax.get_ylabel() == "share of the class"
    assert_room(display.figure_)


def test_slanted_names_have_room():
    names = ["Northern Territory", "Western Australia", "Tasmania", "Queensland", "Victoria", "New South Wales"]
    y = np.repeat(names, [9, 8, 7, 6, 5, 4])
    display = MatchedConfusionDisplay.from_predictions(y, np.unique(y, return_inverse=True)[1])
    assert_room(display.figure_)
    labels = display.ax_.get_xticklabels()
    assert labels[0].get_rotation() == 45
    cell = display.ax_.get_window_extent().width / 6
    assert cell * np.sin(np.pi / 4) > labels[0].get_fontsize() * display.figure_.dpi / 72


def test_accuracy_is_not_rounded_to_one():
    y = np.repeat([0, 1], [30_000, 20_000])
    labels = y.copy()
    labels[0] = 1
    title = MatchedConfusionDisplay.from_predictions(y, labels).ax_.get_title(loc="left")
    assert title == "matched accuracy 0.99998\n1 of 50,000 rows wrong"
    right = MatchedConfusionDisplay.from_predictions(y, y).ax_.get_title(loc="left")
    assert right == "matched accuracy 1.000\n0 of 50,000 rows wrong"


def test_classes_of_mixed_types():
    display = MatchedConfusionDisplay.from_predictions(np.array([1, 1, "b", "b"], dtype=object), [0, 0, 1, 1])
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["1", "b"]


def test_confusion_wrong_input():
    with pytest.raises(ValueError, match="labels needs one entry for each of the 3 rows, but has 2"):
        MatchedConfusionDisplay.from_predictions([0, 1, 1], [0, 1])
    with pytest.raises(ValueError, match="display_labels has 1 names for 2 classes"):
        MatchedConfusionDisplay.from_predictions([0, 1, 1], [0, 1, 1], display_labels=["a"])
    with pytest.raises(ValueError, match="y_true needs one entry for each row, in one dimension"):
        MatchedConfusionDisplay.from_predictions(np.eye(3), [0, 1, 1])
