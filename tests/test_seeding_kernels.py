"""The compiled passes of k-means++ against the array bodies, and whole seedings against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
import sklearn.cluster

from gpukmeans import _distances, kmeans_plusplus
from gpukmeans._device import resolve
from gpukmeans._kernels import find
from gpukmeans._kernels.cpu import native
from gpukmeans._kernels.cpu import plus_plus as compiled
from gpukmeans._prepare import prepare
from gpukmeans._threads import Workers

pytestmark = pytest.mark.skipif(native() is None, reason="the package was installed without compiled kernels")


@pytest.fixture
def sketching(monkeypatch):
    """Sketch the rows from the second pass on, whatever their features, and never give up on the sketch."""

    def always(seeding, points):
        if seeding._done == 0 or len(seeding._rows) < 2:
            return False
        spread = np.abs(seeding._rows.astype(np.float64) - seeding._frame.shift).max() * seeding._frame.scale
        seeding._pass.sketch(seeding._frame.shift, 127 / spread)
        return True

    monkeypatch.setattr(compiled.Seeding, "_pays", always)
    monkeypatch.setattr(compiled.Seeding, "_wait", property(lambda self: 0, lambda self, value: None), raising=False)


def data(kind, n, d, dtype, seed=0):
    """Rows that are hard in a known way."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + rng.normal(size=(5, d))[rng.integers(0, 5, n)] * 6
    if kind == "duplicates":
        X = X[rng.integers(0, max(1, n // 3), n)]
    elif kind == "offset":
        X += 1e4
    elif kind == "two groups":
        X += np.where(rng.random((n, 1)) < 0.5, 1e4, -1e4)
    elif kind == "outlier":
        X[n // 2] += 1e7
    elif kind in ("tiny", "huge"):
        X *= 1e-30 if kind == "tiny" else 1e30
    return X.astype(dtype)


def passes(X, w, k=12, tile=256, workers=None, kernel=True):
    """Potentials and masses of a seeding with fixed choices, for k centres of which every other is new."""
    with prepare(X, w, k, resolve("cpu", X, X.size * k)) as (plan, _):
        frame = plan.frame
    cls = find("seeding", X) if kernel else _distances.Seeding
    assert cls is (compiled.Seeding if kernel else _distances.Seeding)
    workers = workers or Workers(1)
    lanes = [[(a, min(a + 1024, len(X)))] for a in range(0, len(X), 1024)]
    seeding = cls(X, w, frame, k, tile, lanes, workers)
    tiles = np.arange(-(-len(X) // tile))[::-1].copy()
    rng, winner, out = np.random.default_rng(5), None, []
    for _ in range(k):
        candidates = rng.integers(0, len(X), 3)
        out.append(seeding.lower(winner, candidates))
        winner = candidates[1:2]
        out.append(seeding.masses(tiles, winner))
    workers.close()
    return out, frame.scale


def brute(X, w, scale, k=12, tile=256):
    """What `passes` returns, by direct differences."""
    rng, n = np.random.default_rng(5), len(X)
    rows, w = X.astype(np.float64) * scale, np.ones(n) if w is None else w
    tiles, out = -(-n // tile), []
    closest = np.full(n, np.inf)
    for _ in range(k):
        points = rows[rng.integers(0, n, 3)]
        squared = np.stack([((rows - c) ** 2).sum(1) for c in points])
        padded = np.zeros((3, tiles * tile))
        padded[:, :n] = w * np.minimum(squared, closest)
        sums = padded.reshape(3, tiles, tile)
        out.append(sums.sum(axis=2).T)
        out.append(sums[1, ::-1])
        closest = np.minimum(closest, squared[1])
    return out


SHAPES = [
    (n, d)
    for d, ns in {
        1: (1, 63, 64, 65, 700),
        2: (255, 256, 257),
        3: (1023, 1025),
        5: (1, 64, 257),
        16: (1, 65, 1025),
        17: (2, 63),
        33: (1, 257, 700),
        130: (1, 65, 511),
    }.items()
    for n in ns
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("sketched", [False, True], ids=["as it comes", "sketched"])
def test_kernel_is_right_on_awkward_sizes(request, isa, dtype, weighted, sketched):
    if sketched:
        request.getfixturevalue("sketching")
    for n, d in SHAPES:
        X = data("plain", n, d, dtype, seed=n)
        w = np.random.default_rng(n).integers(0, 3, n) * 0.7 if weighted else None
        found, scale = passes(X, w)
        for a, b in zip(found, brute(X, w, scale), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=0, err_msg=f"{n} x {d}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["duplicates", "offset", "two groups", "outlier", "tiny", "huge"])
@pytest.mark.parametrize("sketched", [False, True], ids=["as it comes", "sketched"])
def test_kernel_is_right_on_hard_data(request, dtype, kind, sketched):
    if sketched:
        request.getfixturevalue("sketching")
    for d in (2, 16, 40):
        X = data(kind, 700, d, dtype)
        found, scale = passes(X, None)
        for a, b in zip(found, brute(X, None, scale), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=0, err_msg=f"d = {d}")


@pytest.mark.parametrize("kind", ["plain", "duplicates"])
@pytest.mark.parametrize("n", [1, 255, 257, 1100])
def test_draws_are_those_of_the_array_body(kind, n):
    """Also at the ends: the first row with any mass, and the last one."""
    X = data(kind, n, 3, np.float64)
    w = np.random.default_rng(1).integers(0, 2, n) * 1.0 + (np.arange(n) == n - 1)
    uniforms = np.concatenate([[0.0, 1.0, np.nextafter(1.0, 0)], np.random.default_rng(2).random(200)])
    with prepare(X, w, 4, resolve("cpu", X, n)) as (plan, _):
        frame = plan.frame
    drawn = []
    for cls in (compiled.Seeding, _distances.Seeding):
        seeding = cls(X, w, frame, 4, 256, [[(0, n)]], Workers(1))
        first, second = np.array([n // 2]), np.array([0])
        masses = seeding.lower(None, first)[:, 0]
        drawn.append([seeding.draw(first, masses, uniforms), seeding.lower(first, second)])
        drawn[-1] += [seeding.draw(second, drawn[-1][1][:, 0].copy(), uniforms)]
    assert np.array_equal(drawn[0][0], drawn[1][0])
    assert np.array_equal(drawn[0][2], drawn[1][2])


@pytest.mark.parametrize("d", [2, 40])
def test_array_body_agrees(d):
    X = data("plain", 1100, d, np.float64)
    w = np.random.default_rng(0).random(len(X))
    theirs, _ = passes(X, w, kernel=False)
    for a, b in zip(passes(X, w)[0], theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [3, 16, 33])
def test_sketch_threads_and_layout_change_no_bit(request, dtype, d):
    X = data("outlier", 3000, d, dtype)
    reference = passes(X, None)[0]
    wide = np.zeros((3000, 2 * d), dtype)
    wide[:, ::2] = X
    for other in (np.asfortranarray(X), wide[:, ::2]):
        assert all(np.array_equal(a, b) for a, b in zip(reference, passes(other, None)[0], strict=True))
    for threads in (2, 3, 8):
        found = passes(X, None, workers=Workers(threads))[0]
        assert all(np.array_equal(a, b) for a, b in zip(reference, found, strict=True)), threads
    request.getfixturevalue("sketching")
    for threads in (1, 3):
        found = passes(X, None, workers=Workers(threads))[0]
        assert all(np.array_equal(a, b) for a, b in zip(reference, found, strict=True)), threads


def test_sketch_rules_rows_out(sketching, monkeypatch):
    """Otherwise the tests above would compare the plain pass with itself."""
    read = []
    drive = compiled.drive
    monkeypatch.setattr(compiled, "drive", lambda one, *rest: drive(one, *rest) or read.append(one.read))
    X = data("plain", 4000, 20, np.float32)
    passes(X, None, k=20)
    assert read[:2] == [4000, 4000]
    assert 0 < min(read[10:]) < 2000


def test_instruction_sets_with_fused_multiply_add_agree_to_the_bit():
    fused = [name for name in native().instruction_sets() if name != "plain"]
    X = data("plain", 1000, 33, np.float32)
    before, results = native().instruction_set(), []
    for name in fused:
        native().use(name)
        results.append(passes(X, None)[0])
    native().use(before)
    assert all(np.array_equal(a, b) for other in results for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(("n", "d", "k"), [(700, 2, 7), (3000, 3, 16), (2500, 16, 64), (1500, 40, 90)])
def test_picks_are_those_of_scikit_learn(isa, n, d, k):
    X = np.random.default_rng(d).random((n, d))
    for seed in range(6):
        w = np.random.default_rng(seed).integers(0, 3, n).astype(np.float64) if seed % 2 else None
        theirs = sklearn.cluster.kmeans_plusplus(X, k, random_state=seed, sample_weight=w)[1]
        assert np.array_equal(kmeans_plusplus(X, k, random_state=seed, sample_weight=w)[1], theirs), seed


@pytest.mark.parametrize("kind", ["plain", "offset", "two groups", "outlier", "huge"])
def test_float32_picks_what_float64_would(kind):
    for d, k in ((2, 9), (16, 60), (40, 90)):
        X = data(kind, 1200, d, np.float32)
        for seed in range(4):
            ours = kmeans_plusplus(X, k, random_state=seed)[1]
            assert np.array_equal(ours, kmeans_plusplus(X.astype(np.float64), k, random_state=seed)[1]), (d, seed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_picks_do_not_depend_on_kernels_or_memory(monkeypatch, dtype):
    X = data("plain", 5000, 24, dtype)
    expected = kmeans_plusplus(X, 80, random_state=3)[1]
    with sklearn.config_context(working_memory=0):  # no room for a sketch
        assert np.array_equal(kmeans_plusplus(X, 80, random_state=3)[1], expected)
    monkeypatch.setenv("GPUKMEANS_KERNELS", "0")
    assert np.array_equal(kmeans_plusplus(X, 80, random_state=3)[1], expected)


def test_an_interrupt_stops_the_pass(monkeypatch):
    stopped = []
    X = data("plain", 5000, 3, np.float64)

    class Pass:
        begin = staticmethod(lambda *args: None)
        run = staticmethod(lambda most: (_ for _ in ()).throw(KeyboardInterrupt))
        stop = staticmethod(lambda: stopped.append(True))

    monkeypatch.setattr(compiled, "native", lambda: type("M", (), {"SeedingPass": staticmethod(lambda *args: Pass)}))
    with pytest.raises(KeyboardInterrupt):
        kmeans_plusplus(X, 4, random_state=0)
    assert stopped == [True]
