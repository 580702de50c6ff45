"""Mini-batches: scikit-learn's batches, centres and stopping; float64 sums; the same on every namespace."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
import sklearn.cluster
import strict_cupy
from cuda_standin import device
from cuda_standin.marks import standin
from scipy import sparse
from sklearn.base import clone

import gpukmeans._batches as batches
from gpukmeans import KMeans, MiniBatchKMeans, _kernels
from gpukmeans._batches import Draws, light_clusters

Theirs = sklearn.cluster.MiniBatchKMeans


def rows(n, d, k, seed=0, spread=3.0):
    """Blobs of unequal sizes and lengths, (n, d) float64: no ties."""
    rng = np.random.default_rng([n, d, k, seed])
    sizes = rng.random(k) + 0.05
    centers = rng.normal(size=(k, d)) * spread * np.linspace(0.5, 2, d)
    return centers[rng.choice(k, n, p=sizes / sizes.sum())] + rng.normal(size=(n, d))


def assert_same(ours, theirs, labels=True):
    assert ours.n_steps_ == theirs.n_steps_
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-10, atol=1e-10)
    if labels:
        assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)


def same_path(ours, theirs):
    """Whether nothing has led two fits apart."""
    return ours.n_steps_ == theirs.n_steps_ and np.allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9)


@pytest.mark.parametrize("kernels", ["1", "numpy", "0"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e9, 5e15, 1e17])
@pytest.mark.parametrize("d", [8, 32])
def test_a_row_far_from_all_that_are_sampled(monkeypatch, d, size, dtype, kernels):
    """It is a centre of its own, of which it is the nearest row."""
    monkeypatch.setenv("GPUKMEANS_KERNELS", kernels)
    X = np.random.default_rng(0).normal(size=(5000, d))
    X[1234] = size  # the reference point comes from every ninth row
    X = X.astype(dtype)
    init = X[[*range(19), 1234]]
    model = MiniBatchKMeans(20, init=init, n_init=1, random_state=0, max_iter=3).fit(X)
    squared = ((X[:, None].astype(np.float64) - model.cluster_centers_) ** 2).sum(axis=2)
    assert model.labels_[1234] == squared[1234].argmin()
    own = squared[np.arange(5000), model.labels_]
    assert (own <= squared.min(axis=1) * (1 + 1e-12)).all()


# --- as scikit-learn's ----------------------------------------------------------------------------

SETTINGS = {
    "default": {},
    "a batch of all rows": {"batch_size": 5000},
    "small batches": {"batch_size": 37},
    "random rows": {"init": "random", "batch_size": 100},
    "random rows, one start": {"init": "random", "n_init": 1},
    "five starts": {"n_init": 5, "init_size": 60},
    "few rows for the start": {"init_size": 15, "batch_size": 64},
    "tolerance": {"tol": 1e-2, "batch_size": 200},
    "no early end": {"max_no_improvement": None, "max_iter": 2, "batch_size": 90},
    "ends at once": {"max_no_improvement": 0},
    "one batch": {"max_iter": 1, "batch_size": 5000},
    "many reassigned": {"reassignment_ratio": 0.5, "batch_size": 40},
    "more than half the batch": {"reassignment_ratio": 1.0, "batch_size": 10},
    "none reassigned": {"reassignment_ratio": 0, "init": "random", "batch_size": 30},
    "no labels": {"compute_labels": False},
}


@pytest.mark.parametrize("kernels", ["1", "numpy", "0"])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_sparse_rows(monkeypatch, kernels, init):
    """The same batches of them, and the centres of the same rows as a dense array."""
    monkeypatch.setenv("GPUKMEANS_KERNELS", kernels)
    X = sparse.random_array((1500, 60), density=0.08, rng=np.random.default_rng(5), format="csr")
    weights = np.random.default_rng(6).random(1500)
    settings = {"n_clusters": 6, "init": init, "batch_size": 100, "random_state": 3}
    ours = MiniBatchKMeans(**settings).fit(X, sample_weight=weights)
    assert_same(ours, Theirs(**settings).fit(X, sample_weight=weights))
    assert_same(ours, MiniBatchKMeans(**settings).fit(X.toarray(), sample_weight=weights))
    ours, theirs = MiniBatchKMeans(**settings), Theirs(**settings)
    for a in range(0, 1500, 100):  # sparse and dense in turn
        batch = X[a : a + 100] if a % 200 else X[a : a + 100].toarray()
        assert_same(ours.partial_fit(batch), theirs.partial_fit(batch))
    assert np.array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("n", "d", "k"), [(1501, 3, 11), (997, 2, 4), (1203, 19, 7)])
def test_fits_are_scikit_learns(monkeypatch, name, weighted, n, d, k):
    """But where a light cluster is put on a row that is another centre already: rounding decides such ties there."""
    twins, learn = [], batches.Stream.learn

    def watched(stream, *arguments):
        inertia = learn(stream, *arguments)
        twins.append(len(np.unique(stream.centers, axis=0)) < k)
        return inertia

    monkeypatch.setattr(batches.Stream, "learn", watched)
    X = rows(n, d, k)
    weights = np.random.default_rng(1).random(n) * (np.arange(n) % 7 > 0) if weighted else None
    for seed in range(2):
        settings = {"n_clusters": k, "random_state": seed, **SETTINGS[name]}
        ours, theirs = (K(**settings).fit(X, sample_weight=weights) for K in (MiniBatchKMeans, Theirs))
        tied = any(twins)
        twins.clear()
        if tied and name == "more than half the batch" and not same_path(ours, theirs):
            continue
        assert_same(ours, theirs, labels=name != "no labels")
        assert ours.n_iter_ == theirs.n_iter_
        assert hasattr(ours, "labels_") == (name != "no labels")


def test_centres_given_and_callables():
    X, seen = rows(900, 4, 5), []

    def init(some, n_clusters, random_state):
        seen.append(some.copy())
        return some[random_state.permutation(len(some))[:n_clusters]]

    for given in (X[:5], init, X[:5].tolist()):
        ours, theirs = (
            K(5, init=given, n_init=1, batch_size=80, random_state=3).fit(X) for K in (MiniBatchKMeans, Theirs)
        )
        assert_same(ours, theirs)
    assert np.array_equal(seen[0], seen[1])
    assert len(seen[0]) == 240


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("init", ["k-means++", "random", "array"])
def test_streams_are_scikit_learns(init, weighted):
    X = rows(4000, 5, 9)
    weights = np.random.default_rng(1).random(4000) if weighted else None
    settings = {"n_clusters": 9, "random_state": 5, "reassignment_ratio": 0.2, "batch_size": 50, "n_init": 1}
    settings["init"] = X[:9] if init == "array" else init
    ours, theirs = (K(**settings) for K in (MiniBatchKMeans, Theirs))
    edges = [0, 200, 203, 204, 500, 900, 2000, 2050, 2100, 4000]
    for a, b in pairwise(edges):
        for model in (ours, theirs):
            model.partial_fit(X[a:b], sample_weight=None if weights is None else weights[a:b])
        assert_same(ours, theirs)
        assert len(ours.labels_) == b - a
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-7, atol=1e-6)
    assert not hasattr(ours, "n_iter_")


def test_streams_go_on_after_fits_and_fits_begin_anew():
    X = rows(2000, 3, 6)
    ours, theirs = (K(6, random_state=2, batch_size=70, reassignment_ratio=0.3) for K in (MiniBatchKMeans, Theirs))
    for model in (ours, theirs):
        model.fit(X[:900])
    for a in range(900, 2000, 110):
        for model in (ours, theirs):
            model.partial_fit(X[a : a + 110])
        assert_same(ours, theirs)
    for model in (ours, theirs):
        model.fit(X).partial_fit(X[:400])
    assert_same(ours, theirs)
    fresh = clone(ours).fit(X).cluster_centers_
    assert np.array_equal(ours.fit(X).cluster_centers_, fresh)


def test_the_callers_generator_is_left_where_scikit_learn_leaves_it():
    X, after = rows(900, 3, 4), []
    for K in (MiniBatchKMeans, Theirs):
        random_state = np.random.RandomState(11)
        K(4, batch_size=50, random_state=random_state).fit(X)
        after.append(random_state.random_sample())
    assert after[0] == after[1]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 1000, 99_991, 1_000_000])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_draws_are_those_of_choice(n, weighted):
    """Also at the edges between two rows, where rounding of the cumulated shares decides."""
    weights = np.random.default_rng(n).random(n) * (np.arange(n) % 3 != 1) if weighted else None
    shares = np.full(n, 1.0) if weights is None else weights
    ours, theirs = np.random.RandomState(4), np.random.RandomState(4)
    draws = Draws(n, weights)
    for size in (1, 1024):
        assert np.array_equal(draws.draw(size, ours), theirs.choice(n, size, p=shares / shares.sum()))
    cumulative = np.cumsum(shares / shares.sum())
    cumulative /= cumulative[-1]

    class Edges:
        def random_sample(self, size):
            return np.concatenate([[0.0], cumulative[:-1], np.nextafter(cumulative, 0), [np.nextafter(1.0, 0)]])

    found = draws.draw(0, Edges())
    assert np.array_equal(found, cumulative.searchsorted(Edges().random_sample(0), side="right"))


def test_light_clusters():
    assert light_clusters(np.array([0.0, 5, 1, 10]), 0.2, 100).tolist() == [True, False, True, False]
    assert light_clusters(np.array([3.0, 0, 1, 10]), 1.0, 4).tolist() == [False, True, True, False]  # two of four rows
    assert light_clusters(np.array([3.0, 0, 1, 10]), 1.0, 1).tolist() == [False] * 4
    assert light_clusters(np.array([2.0, 4, 4]), 2.0, 100).tolist() == [True, False, True]  # one has to stay


# --- numbers --------------------------------------------------------------------------------------


def brute(X, centers):
    """Labels by float64 differences."""
    X, centers = X.astype(np.float64), centers.astype(np.float64)
    return np.array([((x - centers) ** 2).sum(axis=1).argmin() for x in X])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.uint8])
def test_dtypes_and_labels_of_the_published_centres(dtype):
    X = (rows(1100, 4, 6) * 9 + 100).astype(dtype)
    model = MiniBatchKMeans(6, random_state=0, batch_size=100).fit(X)
    assert model.cluster_centers_.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert model.labels_.dtype == np.int32
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))
    assert np.array_equal(model.labels_, model.predict(X))
    assert model.inertia_ == pytest.approx(-model.score(X), rel=1e-12)
    wide = MiniBatchKMeans(6, random_state=0, batch_size=100).fit(X.astype(np.float64))
    np.testing.assert_allclose(model.cluster_centers_, wide.cluster_centers_, rtol=1e-6)


@pytest.mark.parametrize("layout", ["fortran", "strided", "swapped"])
def test_layouts(layout):
    X = rows(1100, 4, 6)
    other = {
        "fortran": np.asfortranarray(X),
        "strided": np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
        "swapped": X.astype(X.dtype.newbyteorder()),
    }[layout]
    a, b = (MiniBatchKMeans(6, random_state=0, batch_size=100).fit(x) for x in (X, other))
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, rtol=1e-14)
    assert np.array_equal(a.labels_, b.labels_)


def test_far_from_the_origin_in_float32():
    """Two groups far apart, fine structure in each: the labels are the nearest centres all the same."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 8, 3000)
    middle = rng.normal(size=(8, 16)) * 3 + np.where(np.arange(8) < 4, 1e4, -1e4)[:, None]
    X = (middle[y] + rng.normal(size=(3000, 16))).astype(np.float32)
    model = MiniBatchKMeans(8, init=middle, n_init=1, batch_size=200, random_state=0).fit(X)
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))
    assert (model.labels_ == y).all()
    np.testing.assert_allclose(model.cluster_centers_, middle, atol=0.5)


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_rows_beyond_the_sample_of_the_frame(size):
    """A few rows whose squares leave float32's range, where the sample that chooses the scale has none of them."""
    X = rows(5000, 3, 4).astype(np.float32)
    if size > 1:
        X[1::977] *= np.float32(size)  # the sample takes every ninth row, from the first
    else:
        X *= np.float32(size)
    model = MiniBatchKMeans(4, random_state=0, batch_size=300, init=X[:4], n_init=1).fit(X)
    assert np.isfinite(model.cluster_centers_).all()
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))


def test_a_long_float32_stream_keeps_its_digits():
    """A centre of much weight moves by less than float32 can tell; what is lost is kept for the next batch."""
    first = np.full((1000, 1), 1000.0, np.float32)
    settings = {"n_clusters": 1, "init": [[1000.0]], "n_init": 1, "compute_labels": False}
    narrow, wide, theirs = MiniBatchKMeans(**settings), MiniBatchKMeans(**settings), Theirs(**settings)
    theirs.partial_fit(first, sample_weight=np.full(1000, 1e4))
    narrow.partial_fit(first, sample_weight=np.full(1000, 1e4))
    wide.partial_fit(first.astype(np.float64), sample_weight=np.full(1000, 1e4))
    for _ in range(300):
        narrow.partial_fit(np.float32([[1100.0]]), sample_weight=[1.0])
        theirs.partial_fit(np.float32([[1100.0]]), sample_weight=[1.0])
        wide.partial_fit([[1100.0]], sample_weight=[1.0])
    moved = 100 * 300 / (1e7 + 300)
    assert abs(theirs.cluster_centers_[0, 0] - (1000 + moved)) > moved  # farther off than if it had not moved
    assert narrow.cluster_centers_.dtype == np.float32
    assert narrow.cluster_centers_[0, 0] == np.float32(wide.cluster_centers_[0, 0]) != 1000
    stored = pickle.loads(pickle.dumps(narrow)).partial_fit(np.float32([[1100.0]]))
    assert np.array_equal(stored.cluster_centers_, narrow.partial_fit(np.float32([[1100.0]])).cluster_centers_)


@pytest.mark.parametrize(("d", "k", "size"), [(2, 10, 1024), (130, 200, 1024), (40, 300, 2500)])
def test_threads_and_memory_do_not_change_a_bit(d, k, size, monkeypatch):
    X = rows(6000, d, k).astype(np.float32)
    found = []
    for threads, memory in (("1", 1024), ("2", 1024), ("5", 1)):
        monkeypatch.setenv("GPUKMEANS_NUM_THREADS", threads)
        with sklearn.config_context(working_memory=memory):
            found.append(MiniBatchKMeans(k, random_state=0, batch_size=size, max_iter=3).fit(X))
    for model in found[1:]:
        assert np.array_equal(model.cluster_centers_, found[0].cluster_centers_)
        assert np.array_equal(model.labels_, found[0].labels_)
        assert model.inertia_ == found[0].inertia_


def test_inertia_is_close_to_that_of_scikit_learn_in_float32():
    X = rows(6000, 8, 12).astype(np.float32)
    ours, theirs = (
        np.mean([K(12, random_state=seed).fit(X).inertia_ for seed in range(20)]) for K in (MiniBatchKMeans, Theirs)
    )
    assert ours == pytest.approx(theirs, rel=0.01)


# --- what is refused, and what a failure leaves behind ---------------------------------------------


def test_rows_of_weight_zero_for_the_start():
    X, weights = rows(1000, 2, 3), np.zeros(1000)
    weights[:3] = 1
    with pytest.raises(ValueError, match=r"The init_size=4 rows drawn .* weight zero. Give a larger init_size"):
        MiniBatchKMeans(3, init_size=4, batch_size=4, random_state=0).fit(X, sample_weight=weights)
    MiniBatchKMeans(3, init=X[:3], n_init=1, init_size=4, batch_size=4).fit(X, sample_weight=weights)


def test_a_failed_batch_leaves_the_stream_as_it_was():
    X = rows(500, 2, 3)
    model = MiniBatchKMeans(3, random_state=0)
    for bad in (X[:2], np.full((5, 2), np.nan)):
        with pytest.raises(ValueError, match=r"n_samples=2 should be|contains NaN"):
            model.partial_fit(bad)
        assert vars(model) == vars(clone(model))
    model.partial_fit(X)
    before = {name: np.copy(value) for name, value in vars(model).items() if isinstance(value, np.ndarray)}
    for bad, message in ((X[:, :1], "MiniBatchKMeans is expecting 2"), (np.full((9, 2), np.inf), "infinity")):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(bad)
    with pytest.raises(ValueError, match="Negative values in data passed to"):
        model.partial_fit(X, sample_weight=-np.ones(500))
    assert all(np.array_equal(vars(model)[name], value) for name, value in before.items())
    assert model.n_steps_ == 1


def test_a_fit_without_labels_forgets_old_ones():
    X = rows(500, 2, 3)
    model = MiniBatchKMeans(3, random_state=0).fit(X)
    assert not hasattr(model.set_params(compute_labels=False).fit(X), "labels_")


def test_a_ratio_above_one_leaves_the_heaviest_cluster():
    """scikit-learn's fails on the minimum of nothing."""
    X = rows(800, 2, 3)
    with pytest.raises(ValueError, match="zero-size array"):
        Theirs(3, reassignment_ratio=2.0, random_state=0).fit(X)
    assert np.isfinite(MiniBatchKMeans(3, reassignment_ratio=2.0, random_state=0).fit(X).inertia_)


def test_one_batch_without_labels():
    """scikit-learn's has no smoothed inertia to multiply."""
    X = rows(300, 2, 3)
    settings = {"n_clusters": 3, "compute_labels": False, "max_iter": 1, "batch_size": 300, "random_state": 0}
    with pytest.raises(TypeError):
        Theirs(**settings).fit(X)
    assert 0 < MiniBatchKMeans(**settings).fit(X).inertia_ < KMeans(1).fit(X).inertia_


# --- every namespace ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_same_fit_everywhere(space, blobs, dtype, weighted):
    X = blobs[0].astype(dtype)
    weights = np.random.default_rng(1).random(len(X)) if weighted else None
    settings = {"random_state": 3, "batch_size": 90, "reassignment_ratio": 0.3, "init": "random", "tol": 1e-4}
    reference = MiniBatchKMeans(7, device="cpu", **settings).fit(X, sample_weight=weights)
    model = MiniBatchKMeans(7, device=space.device, **settings).fit(space.put(X), sample_weight=weights)
    assert space.owns(model.labels_)
    assert space.owns(model.cluster_centers_)
    assert np.array_equal(space.get(model.labels_), reference.labels_)
    assert (model.n_steps_, model.n_iter_) == (reference.n_steps_, reference.n_iter_)
    centers = space.get(model.cluster_centers_)
    assert centers.dtype == dtype
    np.testing.assert_allclose(centers, reference.cluster_centers_, rtol=1e-5 if dtype == np.float32 else 1e-11)
    assert model.inertia_ == pytest.approx(reference.inertia_, rel=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_stream_everywhere(space, blobs, dtype):
    X = blobs[0].astype(dtype)
    settings = {"n_clusters": 7, "random_state": 3, "batch_size": 90, "reassignment_ratio": 0.3}
    reference, model = MiniBatchKMeans(device="cpu", **settings), MiniBatchKMeans(device=space.device, **settings)
    for a in range(0, 1000, 125):
        reference.partial_fit(X[a : a + 125])
        model.partial_fit(space.put(X[a : a + 125]))
        assert space.owns(model.labels_)
        assert np.array_equal(space.get(model.labels_), reference.labels_)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(space.get(model.cluster_centers_), reference.cluster_centers_, rtol=tolerance)


def test_a_stream_moves_between_devices(cupy_double, blobs):
    X = blobs[0]
    reference = MiniBatchKMeans(5, random_state=0, device="cpu").partial_fit(X[:500]).partial_fit(X[500:])
    model = MiniBatchKMeans(5, random_state=0).partial_fit(cupy_double.asarray(X[:500]))
    moved = pickle.loads(pickle.dumps(model)).to("cpu").partial_fit(X[500:])
    assert isinstance(moved.cluster_centers_, np.ndarray)
    np.testing.assert_allclose(moved.cluster_centers_, reference.cluster_centers_, rtol=1e-12)


def test_copies_of_a_batch(cupy_double, blobs, monkeypatch):
    """The numbers of the rows and the weights go up; the weights of the batch and its inertia come back."""
    seen, original = [], batches.Stream.learn

    def watched(*arguments):
        with strict_cupy.counting() as stats:
            outcome = original(*arguments)
        seen.append((stats.h2d, stats.h2d_bytes))
        return outcome

    monkeypatch.setattr(batches.Stream, "learn", watched)
    x = cupy_double.asarray(blobs[0])
    with strict_cupy.counting() as stats:
        model = MiniBatchKMeans(7, random_state=0, batch_size=100, reassignment_ratio=0).fit(x)
    assert len(seen) == model.n_steps_ > 3
    assert set(seen) == {(1, 7 * 8)}
    assert stats.h2d_bytes < model.n_steps_ * (100 + 7) * 8 + 8000  # X has 40 kB


@pytest.mark.cuda
@standin
@pytest.mark.parametrize(("d", "k"), [(3, 5), (40, 6)], ids=["fused", "chunks"])
def test_one_small_read_a_batch_on_cuda(cp, monkeypatch, d, k):
    seen, original = [], batches.Stream.learn

    def watched(*arguments):
        with device.recorded() as events:
            outcome = original(*arguments)
        seen.append(events)
        return outcome

    monkeypatch.setattr(batches.Stream, "learn", watched)
    X = rows(1003, d, k).astype(np.float32)
    MiniBatchKMeans(k, init=X[:k], n_init=1, batch_size=200, reassignment_ratio=0).fit(cp.asarray(X))
    assert len(seen) > 3
    decided = [] if _kernels.choice() == "1" else [16]  # without kernels also: whether rows are left undecided
    for events in seen:
        assert [event.bytes for event in events if event.kind == "d2h"] == [*decided, 8 * (k + 1)]
        assert [event.bytes for event in events if event.kind == "h2d"] == [8 * k]


def test_batches_without_labels_forget_old_ones():
    X = rows(300, 3, 4)
    model = MiniBatchKMeans(4, random_state=0).fit(X).set_params(compute_labels=False).partial_fit(X[:5])
    assert not hasattr(model, "labels_")
    assert not hasattr(model, "inertia_")


def test_a_moved_copy_goes_on_by_itself():
    X = rows(300, 3, 4)
    one = MiniBatchKMeans(4, random_state=0, reassignment_ratio=0.5, batch_size=300).partial_fit(X)
    other, alone = one.to("cpu"), pickle.loads(pickle.dumps(one))
    for _ in range(3):
        other.partial_fit(X)
    assert np.array_equal(one.partial_fit(X).cluster_centers_, alone.partial_fit(X).cluster_centers_)


def test_centres_of_any_layout_learn_alike():
    X = rows(1000, 5, 4)
    one = MiniBatchKMeans(4, random_state=0).partial_fit(X[:500])
    other = pickle.loads(pickle.dumps(one))
    other.cluster_centers_ = np.asfortranarray(other.cluster_centers_)
    assert np.array_equal(one.partial_fit(X[500:]).cluster_centers_, other.partial_fit(X[500:]).cluster_centers_)
