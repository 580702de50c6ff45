"""What a fit asks of the device: copies, launches, streams, memory. They run under the stand-in, which counts."""

from __future__ import annotations

import re
from contextlib import contextmanager

import numpy as np
import pytest
from cuda_standin import device, figures
from cuda_standin.figures import rows
from cuda_standin.marks import kernels, standin

import gpukmeans._lloyd as lloyd
from gpukmeans import KMeans
from gpukmeans._kernels.cuda import compile as loader
from gpukmeans._kernels.cuda import passes

pytestmark = [pytest.mark.cuda, standin, kernels]

SHAPES = {"fused": (3, 5), "chunks": (40, 6)}  # d, k


def of_kind(events, *kinds):
    return [event for event in events if event.kind in kinds]


@pytest.mark.parametrize("path", SHAPES)
def test_one_small_read_an_iteration_and_no_upload(cp, monkeypatch, path):
    d, k = SHAPES[path]
    X = rows(d)
    seen, original = [], lloyd._iterate

    def watched(*arguments):
        with device.recorded() as events:
            outcome = original(*arguments)
        seen.append(events)
        return outcome

    monkeypatch.setattr(lloyd, "_iterate", watched)
    model = KMeans(k, init=X[:k], tol=0).fit(cp.asarray(X))
    assert len(seen) == model.n_iter_ > 3
    for events in seen:
        assert not of_kind(events, "h2d")
        assert [event.bytes for event in of_kind(events, "d2h")] == [40]
        names = [event.name for event in of_kind(events, "launch")]
        if path == "fused":
            assert names == ["assign", "move", "record"]
        else:
            assert names[-4:] == ["sort", "add", "move", "record"]
            assert names.count("decide") == names.count("localize") == len(of_kind(events, "product")) == 1


@pytest.mark.parametrize("path", SHAPES)
def test_rows_are_uploaded_once_or_not_at_all(cp, path):
    d, k = SHAPES[path]
    X = rows(d)
    for x, expected in ((X, X.nbytes), (cp.asarray(X), 0)):
        with device.recorded() as events:
            KMeans(k, init=X[:k], device="cuda", max_iter=3).fit(x)
        uploaded = sum(event.bytes for event in of_kind(events, "h2d"))
        assert expected <= uploaded <= expected + 8 * d * (k + 2)  # the centres and the reference point


@pytest.mark.parametrize("path", SHAPES)
def test_all_work_is_on_the_callers_stream(cp, path):
    d, k = SHAPES[path]
    X = rows(d)
    stream = cp.cuda.Stream(non_blocking=True)
    with device.recorded() as events, stream:
        KMeans(k, init=X[:k], max_iter=3).fit(cp.asarray(X)).predict(cp.asarray(X))
    assert {event.stream for event in of_kind(events, "launch", "product", "memset", "d2d")} == {stream.ptr}


@pytest.mark.parametrize("path", SHAPES)
def test_all_memory_is_from_the_callers_pool(cp, path):
    d, k = SHAPES[path]
    X, pool = rows(d), cp.cuda.MemoryPool()
    default = cp.get_default_memory_pool()
    default.free_all_blocks()
    with cp.cuda.using_allocator(pool.malloc):
        x, before = cp.asarray(X), default.total_bytes()
        KMeans(k, init=X[:k], max_iter=3).fit(x)
        assert pool.total_bytes() > X.nbytes
    assert default.total_bytes() == before


@pytest.mark.parametrize("shape", figures.SHAPES, ids=str)
def test_the_fused_pass_reads_and_writes_little_more_than_it_must(cp, shape):
    """Bytes by the PTX that ran: the rows once, labels read, and written where they change."""
    found = figures.traffic(shape)
    assert found.moved <= 1.15 * found.floor


# --- memory -------------------------------------------------------------------------------------


TOO_LITTLE = r"has too little memory: Out of memory allocating .*bytes are free.*or compute with device='cpu'\.$"


@contextmanager
def memory(cp, monkeypatch, of, kilobytes):
    """So much memory: in a pool of its own, or on the whole device."""
    pool = cp.cuda.MemoryPool()
    if of == "pool":
        pool.set_limit(size=kilobytes << 10)
    else:
        cp.get_default_memory_pool().free_all_blocks()
        monkeypatch.setenv("STANDIN_MEMORY", str((kilobytes << 10) + device.counters().live_bytes))
    with cp.cuda.using_allocator(pool.malloc):
        yield
    monkeypatch.delenv("STANDIN_MEMORY", raising=False)


def fit_bytes(cp, X, k):
    model = KMeans(k, init=X[:k], max_iter=2, tol=0).fit(cp.asarray(X))
    return model.labels_.get().tobytes() + model.cluster_centers_.get().tobytes() + np.float64(model.inertia_).tobytes()


@pytest.mark.parametrize("of", ["pool", "device"])
@pytest.mark.parametrize("kernels", ["1", pytest.param("0", marks=pytest.mark.long)])
def test_less_memory_gives_the_same_bits_until_a_clear_error(cp, monkeypatch, kernels, of):
    monkeypatch.setenv("GPUKMEANS_KERNELS", kernels)
    X, k = rows(40, 1500), 64
    reference = fit_bytes(cp, X, k)
    ends = ""
    for kilobytes in (8000, 5000, 3000, 2000, 1000, 300):
        with memory(cp, monkeypatch, of, kilobytes):
            try:
                same, words = fit_bytes(cp, X, k) == reference, ""
            except MemoryError as error:
                same, words = False, str(error)
        ends += "=" if same else "!" if re.search(TOO_LITTLE, words) else "?"
    assert re.fullmatch("={2,}!+", ends), ends


def test_chunks_are_halved_where_memory_is_short(cp, monkeypatch):
    monkeypatch.setattr(passes, "_chunk_rows", lambda *sizes: 4096)
    pool = cp.cuda.MemoryPool()
    pool.set_limit(size=4 << 20)
    with cp.cuda.using_allocator(pool.malloc):
        seen, norms, products = passes._chunk_buffers(4096, 100, 200, np.float32)
    assert len(seen) == len(norms) == len(products) == 2048
    pool = cp.cuda.MemoryPool()
    pool.set_limit(size=100 << 10)
    with cp.cuda.using_allocator(pool.malloc), pytest.raises(MemoryError):
        passes._chunk_buffers(4096, 100, 200, np.float32)


# --- indices beyond 31 bits ---------------------------------------------------------------------


@pytest.fixture
def from_lane(tmp_path, monkeypatch):
    """Kernels whose blocks begin at lane `FIRST_LANE`: arrays are then told to begin that much earlier."""
    for path in loader.FOLDER.glob("*.cu*"):
        (tmp_path / path.name).write_text(path.read_text().replace("= blockIdx.x;", "= blockIdx.x + FIRST_LANE;"))
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    loader.kernel.cache_clear()
    yield
    loader.kernel.cache_clear()


class Before:
    """A pointer to where an array would begin if it had as many bytes more in front."""

    def __init__(self, array, nbytes):
        self.array, self.address = array, array.data.ptr - nbytes


def told(*arguments):
    return tuple(np.uint64(a.address % 2**64) if isinstance(a, Before) else a for a in arguments)


def test_rows_beyond_31_bits(cp, from_lane):
    """The last lanes of 3 * 2**31 rows, of which only those lanes are there."""
    d, k, tile = 3, 4, 256
    n = 3 * 2**31 + 77
    lanes = n // (3 * tile)
    tiles = -(-n // tile)
    first_lane = lanes - 2
    first = tiles * first_lane // lanes * tile
    m = n - first
    X, C = rows(d, m), rows(d)[:k].astype(np.float64)
    x, centers, shift = cp.asarray(X), cp.asarray(C), cp.zeros(d)
    labels, start = cp.full(m, -1, cp.int32), cp.zeros((2, k + 1), cp.int32)
    order, scratch, inertia = cp.zeros(m, cp.int32), cp.zeros((2, k), cp.int32), cp.zeros(2)
    types = {"ROW": "float", "REAL": "float", "FIRST_LANE": f"{first_lane}LL"}
    expected = ((X.astype(np.float64)[:, None] - C) ** 2).sum(2)
    hot = expected.argmin(1)[:, None] == np.arange(k)
    where = Before(x, 4 * d * first), d, 1, n
    lane_sums = [(cp.zeros((2, k, d)), 8 * k * d), (cp.zeros((2, k)), 8 * k), (cp.zeros((2, k), cp.int64), 8 * k)]
    sums = [Before(array, first_lane * each) for array, each in lane_sums]
    facts = [Before(array, first_lane * 8) for array in cp.zeros((2, 2), cp.int64)]
    chosen = passes.fused(d, k, 4, 4)
    assert chosen.threads == tile
    own = Before(labels, 4 * first)
    arguments = (*where, None, shift, 1.0, centers, k, 1e-6, own, lanes, chosen.splits, *sums, *facts)
    sizes = {"FEATURES": d, "THREADS": tile}
    loader.launch("assign", "assign", 2, tile, told(*arguments), chosen.shared, **types, **sizes)
    assert np.array_equal(labels.get(), expected.argmin(1))
    assert sum(int(fact.array.sum()) for fact in facts[:1]) == m

    def check_sums():
        got_sums, masses, counts = (part.array.sum(axis=0).get() for part in sums)
        np.testing.assert_allclose(got_sums, hot.T.astype(float) @ X, rtol=1e-10)
        assert masses.tolist() == counts.tolist() == hot.sum(0).tolist()

    check_sums()
    for part in sums:
        part.array[:] = 0
    begin, scratch_told = Before(start, first_lane * 4 * (k + 1)), Before(scratch, first_lane * 4 * k)
    arguments = (own, n, k, lanes, begin, Before(order, 4 * first), scratch_told)
    loader.launch("sums", "sort", 2, 256, told(*arguments), **types)
    arguments = (*where, None, shift, begin, Before(order, 4 * first), k, d, lanes, *sums)
    segments = types | {"FIRST_LANE": f"{first_lane * k}LL"}
    loader.launch("sums", "add", 2 * k, 256, told(*arguments), **segments)
    check_sums()
    arguments = (*where, d, None, own, centers, lanes, None, Before(inertia, 8 * first_lane))
    loader.launch("own", "own", 2, 256, told(*arguments), **types)
    assert float(inertia.sum()) == pytest.approx(expected.min(1).sum(), rel=1e-12)
