"""Leading directions prove what they skip: labels are those of brute force, whatever the rows look like."""

from __future__ import annotations

import numpy as np
import pytest
from test_bounds import KINDS, brute, check_every_iteration, data

import gpukmeans._leading
from gpukmeans import KMeans, k_means
from gpukmeans._device import CPU
from gpukmeans._frame import Frame
from gpukmeans._kernels.cpu import native
from gpukmeans._leading import Leading, ranks
from gpukmeans._prepare import prepare

pytestmark = pytest.mark.skipif(native() is None, reason="the compiled kernels were not built")


@pytest.fixture
def always(monkeypatch):
    """Directions are used whether or not they pay, from two features and clusters up."""
    monkeypatch.setattr(gpukmeans._leading, "_LEAST", 2)
    monkeypatch.setattr(gpukmeans._leading, "_WORTH", np.inf)
    monkeypatch.setattr(gpukmeans._leading, "_PART", np.inf)
    monkeypatch.setattr(gpukmeans._leading, "_FEATURES_A_RANK", 1)
    monkeypatch.setattr(gpukmeans._leading, "_RANKS", (1, 2, 5, 13, 24))


@pytest.fixture
def told(monkeypatch):
    """What each pass used, and how many rows it searched and left open."""
    passes, learn = [], Leading.learn
    monkeypatch.setattr(
        Leading,
        "learn",
        lambda self, used, searched, left: passes.append((used, searched, left)) or learn(self, used, searched, left),
    )
    return passes


def embeddings(rng, n, d, directions, noise=0.05):
    """Rows near a few directions of falling size."""
    mixing = rng.normal(size=(directions, d)) * np.linspace(1.2, 0.4, directions)[:, None]
    return rng.normal(size=(n, directions)) @ mixing / np.sqrt(d) + noise / np.sqrt(d) * rng.normal(size=(n, d))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [*KINDS, "embeddings"])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(1500, 6, 40), (1000, 33, 17), (700, 50, 70), (500, 130, 16), (300, 200, 90)]
)
def test_labels_of_every_iteration(always, told, isa, dtype, kind, n, d, k):
    rng = np.random.default_rng([n, d, k])
    if kind == "embeddings":
        X, rows = embeddings(rng, n, d, 5), rng.choice(n, k, replace=False)
    else:
        X, rows = data(rng, kind, n, d, k)
    X = X.astype(dtype)
    check_every_iteration(X, X[rows], 6, rng.random(len(X)) if k % 2 else None)
    assert told
    assert all(used is not None for used, *_ in told)


@pytest.mark.parametrize(
    ("offset", "scale"), [(1e4, 1.0), (0.0, 1e-25), (0.0, 1e25), (0.0, 1e-37), (0.0, 1e37), (-3e3, 1e-3)]
)
def test_far_large_and_small_rows(always, told, offset, scale):
    rng = np.random.default_rng(0)
    X = ((embeddings(rng, 2000, 60, 6) + offset) * scale).astype(np.float32)
    check_every_iteration(X, X[:50], 4)
    assert any(used for used, *_ in told)


def test_a_frame_that_turns_precise(always, told, monkeypatch):
    """Most rows are in a clump far from the others: fast distances leave them in doubt, and float64 takes over."""
    monkeypatch.setattr(gpukmeans._leading, "_TRIES", (12, 12))
    monkeypatch.setattr(gpukmeans._leading, "_RANKS", (24,))
    rng = np.random.default_rng(9)
    X = embeddings(rng, 2000, 80, 6)
    X[:900] = 3 + 1e-5 * rng.normal(size=(900, 80))
    X = X.astype(np.float32)
    first = np.r_[0:16, 900:930]  # more centres in the clump than may be measured for a row, but not twice as many
    check_every_iteration(X, X[first], 5)
    assert told[0][0].trust > 1e-7
    assert any(used.trust < 1e-9 for used, *_ in told[1:])


@pytest.mark.parametrize("huge", [-3.4e38, 1e25])
def test_new_rows_that_overflow_are_left_open(always, told, huge):
    """The scale of predictions comes from the centres; squares of rows may then exceed float32."""
    rng = np.random.default_rng(10)
    X = embeddings(rng, 3000, 40, 6).astype(np.float32)
    model = KMeans(60, init=X[:60], max_iter=2, tol=0).fit(X)
    new = X[:500].copy()
    new[::7, 3] = huge
    told.clear()
    labels = model.predict(new)
    assert told[0][0] is not None
    assert told[0][2] >= len(new[::7])
    assert np.array_equal(labels, brute(new, model.cluster_centers_))


@pytest.mark.parametrize("n", [1, 2, 23, 24, 25, 63, 64, 65, 4095, 4096, 4097])
def test_any_number_of_rows(always, told, n):
    rng = np.random.default_rng(n)
    X = embeddings(rng, n, 20, 4).astype(np.float32)
    centers = embeddings(rng, 12, 20, 4)
    with prepare(X, None, 12, CPU) as (plan, _):
        assert np.array_equal(plan.assign(centers), brute(X, centers))
    assert told[0][0] is not None


def test_ties_go_to_the_lowest_index(always, told):
    rng = np.random.default_rng(1)
    X = rng.integers(-1, 2, (3000, 12)).astype(np.float32)
    centers = rng.integers(-1, 2, (300, 12)).astype(float)  # with copies
    with prepare(X, None, 300, CPU) as (plan, _):
        assert np.array_equal(plan.assign(centers), brute(X, centers))
    assert told[0][0] is not None


def test_embeddings_are_decided_by_their_directions(told):
    rng = np.random.default_rng(2)
    X = embeddings(rng, 30_000, 256, 20).astype(np.float32)
    model = KMeans(200, init=X[:200], max_iter=4, tol=0).fit(X)
    assert np.array_equal(model.labels_, brute(X, model.cluster_centers_))
    assert [used.basis.shape[1] for used, *_ in told] == [told[0][0].basis.shape[1]] * len(told)
    assert 18 <= told[0][0].basis.shape[1] <= 36
    assert all(left < 0.05 * searched for _, searched, left in told)


def test_noise_is_searched_as_ever(told):
    rng = np.random.default_rng(3)
    X = rng.random((60_000, 64), dtype=np.float32)
    KMeans(300, init=X[:300], max_iter=4, tol=0).fit(X)
    assert ranks(*X.shape, 300)
    assert told
    assert all(used is None for used, *_ in told)


def test_small_problems_look_for_none():
    assert not ranks(3000, 640, 200)
    assert not ranks(1024, 768, 100)
    assert ranks(100_000, 768, 1000)


def test_cosines(always, told):
    rng = np.random.default_rng(4)
    X = embeddings(rng, 3000, 40, 6).astype(np.float32)
    fits = []
    for choice in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if choice:
                patch.setattr(gpukmeans._leading, "_LEAST", 10**9)
            fits.append(KMeans(30, metric="cosine", init=X[:30], max_iter=5, tol=0).fit(X))
    assert any(used for used, *_ in told)
    assert np.array_equal(fits[0].labels_, fits[1].labels_)
    assert np.array_equal(fits[0].cluster_centers_, fits[1].cluster_centers_)


def test_they_change_no_bit(always, told):
    rng = np.random.default_rng(5)
    X = embeddings(rng, 5000, 30, 5)
    with_them = k_means(X, 40, init=X[:40], max_iter=20, tol=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpukmeans._leading, "_LEAST", 10**9)
        without = k_means(X, 40, init=X[:40], max_iter=20, tol=0)
    assert told
    assert all(used for used, *_ in told)
    for one, other in zip(with_them, without, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("part", ["left", "trust"])
def test_the_checker_catches_directions_that_are_too_bold(always, monkeypatch, part):
    """Without what the directions leave of the centres, or far less of it, brute force must notice."""
    prepare_ = Leading.prepare

    def bold(self, rows, centers, frame):
        projection = prepare_(self, rows, centers, frame)
        if part == "left":
            projection.points[:, -1] = 0
            return projection
        return projection._replace(trust=-0.3)

    monkeypatch.setattr(Leading, "prepare", bold)
    rng = np.random.default_rng(6)
    X = embeddings(rng, 3000, 40, 30, noise=1.0).astype(np.float32)
    with pytest.raises(AssertionError):
        check_every_iteration(X, X[:60], 3)


def test_directions_that_do_not_pay_are_dropped_and_looked_for_again_later():
    rng = np.random.default_rng(7)
    X = embeddings(rng, 30_000, 256, 20).astype(np.float32)
    frame, centers = Frame(np.zeros(256), 1.0, np.float32), X[:200].astype(float)
    leading = Leading(30_000, 256, 200)
    used = leading.prepare(X, centers, frame)
    leading.learn(used, 30_000, 300)
    assert leading.prepare(X, centers, frame).basis is not None
    leading.learn(used, 1500, 1500)  # too few to tell
    assert leading.prepare(X, centers, frame) is not None
    leading.learn(used, 30_000, 26_000)
    assert [leading.prepare(X, centers, frame) is None for _ in range(10)] == [True] * 8 + [False] * 2


def test_a_basis_has_a_norm_of_one_at_most():
    rng = np.random.default_rng(8)
    for dtype in (np.float32, np.float64):
        basis = gpukmeans._leading._directions(embeddings(rng, 90, 70, 30).astype(dtype), 48)
        assert basis.dtype == dtype
        norm = np.linalg.norm(basis.astype(np.longdouble).astype(float), 2)
        assert 1 - 1e-3 < norm <= 1
    assert gpukmeans._leading._directions(np.zeros((5, 4)), 2) is None
