"""The CuPy stand-in itself: what it refuses, what it counts, and that it has no name CuPy lacks."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import operator
import pickle
import sys

import numpy as np
import pytest
import strict_cupy
from strict_cupy import broken_compiler, broken_driver, counting, install


@pytest.fixture
def cp(monkeypatch):
    return install(monkeypatch)


@pytest.fixture
def x(cp):
    return cp.asarray(np.arange(5, dtype=np.float32))


@pytest.fixture
def host():
    return np.ones(5, np.float32)


def totals(stats):
    return stats.h2d, stats.h2d_bytes, stats.d2h, stats.d2h_bytes, stats.syncs


# Refusals.

REFUSED_OPERATORS = "add sub mul truediv floordiv mod pow matmul and_ or_ lshift lt le gt ge eq ne iadd imul"


@pytest.mark.parametrize("name", REFUSED_OPERATORS.split())
@pytest.mark.parametrize("shape", [(5,), ()])
def test_operators_refuse_host_arrays_on_either_side(x, name, shape):
    other = np.ones(shape, np.float32)
    for left, right in [(x, other), (other, x)]:
        with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy\.ndarray'>"):
            getattr(operator, name)(left, right)


REFUSED_CALLS = {
    "where": lambda cp, x, h: cp.where(x > 0, x, h),
    "where, condition": lambda cp, x, h: cp.where(h > 0, x, x),
    "concat": lambda cp, x, h: cp.concat([x, h]),
    "stack": lambda cp, x, h: cp.stack([h, h]),
    "maximum": lambda cp, x, h: cp.maximum(x, h),
    "sqrt": lambda cp, x, h: cp.sqrt(h),
    "out=": lambda cp, x, h: cp.add(x, x, out=h),
    "sum": lambda cp, x, h: cp.sum(h),
    "sum, out=": lambda cp, x, h: cp.sum(x, out=h),
    "matmul": lambda cp, x, h: cp.matmul(x, h),
    "dot": lambda cp, x, h: x.dot(h),
    "clip": lambda cp, x, h: cp.clip(x, h, 1),
    "searchsorted": lambda cp, x, h: cp.searchsorted(x, h),
    "bincount": lambda cp, x, h: cp.bincount(x.astype(cp.int64), weights=h),
    "reshape": lambda cp, x, h: cp.reshape(h, (5, 1)),
    "full": lambda cp, x, h: cp.full((5,), h),
    "copyto": lambda cp, x, h: cp.copyto(h, x),
    "list operand": lambda cp, x, h: x * [1, 2, 3, 4, 5],
    "None operand": lambda cp, x, h: x == None,  # noqa: E711
    "text operand": lambda cp, x, h: x == "k-means++",
    "list for an array": lambda cp, x, h: cp.sum([1, 2]),
    "numpy ufunc with host": lambda cp, x, h: np.add(x, h),
    "numpy ufunc into host": lambda cp, x, h: np.sqrt(x, out=h),
    "numpy concatenate": lambda cp, x, h: np.concatenate([x, h]),
    "numpy reduce": lambda cp, x, h: np.add.reduce(x),
    "numpy without a device body": lambda cp, x, h: np.percentile(x, 50),
    "device axis": lambda cp, x, h: x.sum(axis=cp.asarray(0)),
    "device shape": lambda cp, x, h: cp.zeros(cp.asarray(3)),
    "range": lambda cp, x, h: range(cp.asarray(3)),
    "index": lambda cp, x, h: operator.index(cp.asarray(3)),
    "host indexed by 0-d": lambda cp, x, h: h[cp.asarray(3)],
    "hash": lambda cp, x, h: {x: 1},
    "float of many": lambda cp, x, h: float(x),
    "float of one in 1-d": lambda cp, x, h: float(x[:1]),
    "len of 0-d": lambda cp, x, h: len(x[0]),
    "pickle": lambda cp, x, h: pickle.dumps(x),
    "where= of a ufunc": lambda cp, x, h: cp.add(x, x, where=x > 0),
    "initial=": lambda cp, x, h: cp.min(x, initial=0),
    "device=": lambda cp, x, h: cp.zeros(3, device="cpu"),
    "stable=": lambda cp, x, h: cp.argsort(x, stable=True),
    "min= of clip": lambda cp, x, h: cp.clip(x, min=0, max=1),
    "casting= of astype": lambda cp, x, h: x.astype(cp.float64, casting="safe"),
}


@pytest.mark.parametrize("call", REFUSED_CALLS.values(), ids=REFUSED_CALLS)
def test_calls_that_cupy_refuses_raise_type_errors(cp, x, host, call):
    with pytest.raises(TypeError):
        call(cp, x, host)


IMPLICIT_CALLS = {
    "np.asarray": lambda cp, x, h: np.asarray(x),
    "np.array of elements": lambda cp, x, h: np.array([x[0], x[1]]),
    "host[device]": lambda cp, x, h: h[x.astype(cp.int64)],
    "host[:] = device": lambda cp, x, h: h.__setitem__(slice(None), x),
    "list of both": lambda cp, x, h: cp.asarray([x, h]),
}


@pytest.mark.parametrize("call", IMPLICIT_CALLS.values(), ids=IMPLICIT_CALLS)
def test_implicit_conversion_names_get(cp, x, host, call):
    with counting() as stats, pytest.raises(TypeError, match=r"Implicit conversion .* use `\.get\(\)`"):
        call(cp, x, host)
    assert stats.d2h == 0


def test_values_that_cupy_refuses(cp, x, host):
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(ValueError, match="size 1"):
        x.item()
    for call in (lambda: x.__setitem__(slice(None), host), lambda: cp.copyto(x, host)):
        with pytest.raises(ValueError, match=r"non-scalar numpy\.ndarray"):
            call()
    with pytest.raises(ValueError, match="Unsupported dtype"):
        cp.asarray(np.array(["a"]))
    with pytest.raises(BufferError):
        np.from_dlpack(x)
    with pytest.raises(IndexError):
        x[cp.asarray([7])]  # CuPy wraps around; nobody means that
    with pytest.raises(ValueError, match="twice"):
        x[cp.asarray([1, 1])] = x[:2]
    with pytest.raises(TypeError, match="float64 array cannot be set"):
        x.set(np.ones(5))
    with pytest.raises(RuntimeError, match="non-contiguous"):
        cp.zeros((5, 2), cp.float32)[:, 0].set(host)


def test_names_outside_the_audit_say_so(cp, x):
    owners = cp, cp.cuda, cp.cuda.runtime, cp.linalg, x
    names = "vecdot", "nvrtc", "malloc", "svd", "argpartition"
    for owner, name in zip(owners, names, strict=True):
        with pytest.raises(AttributeError, match="not in the audited subset"):
            getattr(owner, name)
    for name in ("__array_namespace__", "__array_interface__", "__cuda_array_interface__", "to_device"):
        assert not hasattr(x, name)
    assert not hasattr(x.flags, "writeable")
    with pytest.raises(ImportError):
        importlib.import_module("cupy.random")
    with pytest.raises(ImportError):
        importlib.import_module("cupyx")


# Counts.

COPIES = {
    "asarray": (lambda cp, x: cp.asarray(np.ones((3, 7), np.float32)), (1, 84, 0, 0, 0)),
    "asarray, dtype": (lambda cp, x: cp.asarray(np.ones(3, np.float32), cp.float64), (1, 24, 0, 0, 0)),
    "asarray of a list": (lambda cp, x: cp.asarray([1.0, 2.0]), (1, 16, 0, 0, 0)),
    "asarray of a scalar": (lambda cp, x: cp.asarray(3.0), (0, 0, 0, 0, 0)),
    "asarray of device arrays": (lambda cp, x: cp.asarray([x, x]), (0, 0, 0, 0, 0)),
    "set": (lambda cp, x: x[:3].set(np.zeros(3, np.float32)), (1, 12, 0, 0, 0)),
    "host index": (lambda cp, x: x[np.array([0, 2])], (1, 16, 0, 0, 0)),
    "host index, assigned": (lambda cp, x: x.__setitem__([0, 2], 1), (1, 16, 0, 0, 0)),
    "take, host index": (lambda cp, x: cp.take(x, np.array([0, 2])), (1, 16, 0, 0, 0)),
    "host mask": (lambda cp, x: x[np.arange(5) > 2], (1, 5, 1, 8, 1)),
    "einsum, host operand": (lambda cp, x: cp.einsum("i,i->", x, np.ones(5)), (1, 40, 0, 0, 0)),
    "get": (lambda cp, x: x.get(), (0, 0, 1, 20, 1)),
    "get, not blocking": (lambda cp, x: x.get(blocking=False), (0, 0, 1, 20, 0)),
    "asnumpy": (lambda cp, x: cp.asnumpy(x[::2]), (0, 0, 1, 12, 1)),
    "tolist": (lambda cp, x: x.tolist(), (0, 0, 1, 20, 1)),
    "item": (lambda cp, x: x[1].item(), (0, 0, 1, 4, 1)),
    "float": (lambda cp, x: float(x.sum()), (0, 0, 1, 4, 1)),
    "int": (lambda cp, x: int(x.argmin()), (0, 0, 1, 8, 1)),
    "bool": (lambda cp, x: bool((x > 0).any()), (0, 0, 1, 1, 1)),
    "in": (lambda cp, x: 1 in x, (0, 0, 2, 2, 2)),
    "format": (lambda cp, x: f"{x[1]:.1f}", (0, 0, 1, 4, 1)),
    "repr": (lambda cp, x: repr(x), (0, 0, 1, 20, 1)),
    "mask": (lambda cp, x: x[x > 2], (0, 0, 1, 8, 1)),
    "mask, assigned": (lambda cp, x: x.__setitem__(x > 2, 0), (0, 0, 1, 8, 1)),
    "nonzero": (lambda cp, x: cp.nonzero(x), (0, 0, 1, 8, 1)),
    "flatnonzero": (lambda cp, x: cp.flatnonzero(x), (0, 0, 1, 8, 1)),
    "argwhere": (lambda cp, x: cp.argwhere(x), (0, 0, 1, 8, 1)),
    "where, one argument": (lambda cp, x: cp.where(x > 2), (0, 0, 1, 8, 1)),
    "unique": (lambda cp, x: cp.unique(x), (0, 0, 1, 8, 1)),
    "unique_counts": (lambda cp, x: cp.unique_counts(x), (0, 0, 1, 8, 1)),
    "bincount": (lambda cp, x: cp.bincount(x.astype(cp.int32), minlength=9), (0, 0, 2, 9, 2)),
    "Device.synchronize": (lambda cp, x: cp.cuda.Device(0).synchronize(), (0, 0, 0, 0, 1)),
    "Stream.synchronize": (lambda cp, x: cp.cuda.Stream.null.synchronize(), (0, 0, 0, 0, 1)),
    "current stream": (lambda cp, x: cp.cuda.get_current_stream().synchronize(), (0, 0, 0, 0, 1)),
    "deviceSynchronize": (lambda cp, x: cp.cuda.runtime.deviceSynchronize(), (0, 0, 0, 0, 1)),
    "an empty array": (lambda cp, x: cp.asarray(np.zeros((0, 3))).get(), (0, 0, 0, 0, 0)),
}


@pytest.mark.parametrize(("call", "expected"), COPIES.values(), ids=COPIES)
def test_copies_and_synchronisations_are_counted(cp, x, call, expected):
    with counting() as stats:
        call(cp, x)
    assert totals(stats) == expected
    assert sum(event.nbytes for event in stats.log) == stats.h2d_bytes + stats.d2h_bytes
    assert all(event.why for event in stats.log)


def test_device_work_copies_nothing_and_agrees_with_numpy(cp):
    X = np.random.default_rng(0).normal(size=(37, 3))
    mask = X[:, 0] > 0
    Y, C = cp.asarray(X), cp.asarray(X[:4])
    with counting() as stats:
        squared = (Y * Y).sum(axis=1, keepdims=True) - 2 * Y @ C.T + cp.sum(C * C, axis=-1)
        labels = cp.argmin(squared, axis=1)
        hot = (labels[:, None] == cp.arange(4)).astype(Y.dtype)
        sums = cp.einsum("nk,nd->kd", hot, Y) + np.float64(0)
        order = np.argsort(labels)  # a NumPy function stays on the device, and ties keep their order
        picked = cp.take_along_axis(cp.where(cp.asarray(True), Y, -Y), labels[:, None] % 3, axis=1)
    assert totals(stats) == (0, 0, 0, 0, 0)
    assert stats.launches > 10
    nearest = np.argmin(((X[:, None] - X[:4]) ** 2).sum(-1), axis=1)
    np.testing.assert_array_equal(labels.get(), nearest)
    np.testing.assert_allclose(sums.get(), [X[nearest == j].sum(0) for j in range(4)], rtol=1e-12)
    np.testing.assert_array_equal(order.get(), np.argsort(nearest, kind="stable"))
    np.testing.assert_array_equal(picked.get()[:, 0], X[np.arange(37), nearest % 3])
    np.testing.assert_array_equal(Y[cp.asarray(mask)].get(), X[mask])


@pytest.mark.parametrize("name", strict_cupy._UFUNCS.split())
def test_elementwise_functions_agree_with_numpy(cp, name):
    ufunc = getattr(np, name)
    integer = "shift" in name or "bitwise" in name or name in ("invert", "ldexp")
    A = np.arange(9).reshape(3, 3) if integer else np.linspace(0.25, 4, 9).reshape(3, 3)
    got = getattr(cp, name)(*[cp.asarray(A)] * ufunc.nin)
    expected = ufunc(*[A] * ufunc.nin)
    pairs = zip(got, expected, strict=True) if ufunc.nout == 2 else [(got, expected)]
    for ours, numpys in pairs:
        np.testing.assert_array_equal(ours.get(), numpys, strict=True)


def test_results_are_device_arrays_and_views_share_memory(cp, x):
    for result in (x.sum(), cp.count_nonzero(x), np.sqrt(x), x[0], np.float64(2) * x, cp.array_equal(x, x)):
        assert isinstance(result, cp.ndarray)
    assert (type(x).__module__, type(x).__name__) == ("cupy", "ndarray")
    assert (np.float64(2) * x).dtype == cp.float64
    assert (2.0 * x).dtype == cp.float32
    with counting() as stats:
        grid = x[1:].reshape(2, 2).T
        cp.expand_dims(grid, 0)[0, 0, 0] = 9
        assert (stats.allocs, stats.launches) == (0, 1)
    assert x.tolist() == [0, 9, 2, 3, 4]
    assert copy.deepcopy(x) is not x
    assert cp.asarray(x) is x
    assert cp.get_array_module(x) is cp
    assert cp.get_array_module(np.ones(1)) is np
    assert (np.shape(grid), cp.shares_memory(x, grid), cp.result_type(x, cp.int8)) == (
        (2, 2),
        True,
        cp.float32,
    )


def test_out_is_returned_and_takes_no_memory(cp, x):
    with counting() as stats:
        for result in (
            cp.add(x, 1, out=x),
            cp.clip(x, 2, 4, out=x),
            cp.cumsum(x, out=x),
            x.take([0, 1, 2, 3, 4], out=x),
        ):
            assert result is x
        assert len(x[:0]) == 0
    assert (stats.allocs, stats.launches) == (0, 4)
    assert x.tolist() == [2, 4, 7, 11, 15]


def test_unset_memory_is_poison_and_a_device_gives_no_warnings(cp):
    assert np.isnan(cp.empty(3).get()).all()
    assert cp.empty_like(cp.zeros(2, cp.int32)).tolist() == [-(2**31)] * 2
    assert cp.empty((), cp.uint8).item() == 255
    assert (cp.log(cp.zeros(2)) / 0).tolist() == [-np.inf, -np.inf]


# Memory, devices, faults.


def test_allocations_and_peak_bytes(cp):
    with counting() as stats:
        a = cp.zeros((100, 100))
        b = a + 1
        del a
        c = b * 2
        del b, c
        cp.zeros(3)
    assert (stats.allocs, stats.peak, stats.live) == (4, 2 * 80384, 0)  # blocks are multiples of 512 bytes


def test_counting_windows_nest_and_reset(cp, x):
    with counting() as outer:
        x.get()
        with counting(cp) as inner:
            x.get()
        outer.reset()
        assert (outer.d2h, outer.log, outer.live, outer.peak) == (0, [], 512, 512)
        x.get()
    x.get()
    assert (outer.d2h, inner.d2h) == (1, 1)


def test_memory_limit_raises_in_cupys_words_and_frees(monkeypatch):
    cp = install(monkeypatch, memory=1 << 20)
    pool = cp.get_default_memory_pool()
    kept = cp.zeros(1000, cp.float32)
    pool.set_limit(size=10_000)
    text = r"allocating 8,192 bytes \(allocated so far: 4,096 bytes, limit set to: 10,000 bytes\)"
    with pytest.raises(cp.cuda.memory.OutOfMemoryError, match=text):
        kept.astype(cp.float64)
    pool.set_limit(size=0)
    assert kept.astype(cp.float64).shape == (1000,)
    assert pool.used_bytes() == 4096
    assert cp.cuda.runtime.memGetInfo() == ((1 << 20) - 4096, 1 << 20)
    with pytest.raises(MemoryError, match=r"allocated so far: 4,096 bytes\)"):
        cp.ones((1 << 20,), cp.uint8)
    pool.free_all_blocks()
    cp.get_default_pinned_memory_pool().free_all_blocks()


def test_arrays_of_two_devices_do_not_mix(monkeypatch):
    cp = install(monkeypatch, devices=2)
    first = cp.ones((3, 2))
    with cp.cuda.Device(1) as device:
        second = cp.ones((3, 2))
        assert cp.cuda.get_device_id() == device.id == second.device.id == 1
    assert first.device == cp.cuda.Device(0) != second.device
    message = r"resides \(1\) is different from the current device \(0\)\. Peer access is unavailable"
    mixed = (
        lambda: first + second,
        lambda: cp.where(first > 0, first, second),
        lambda: cp.concat([first, second]),
        lambda: first @ second.T,
        lambda: first[cp.asarray([0]), :].fill(second.sum()),
        lambda: second.sum(),  # its kernel would run on device 0
        lambda: second.__setitem__(0, 0),
    )
    for call in mixed:
        with pytest.raises(ValueError, match=message):
            call()
    assert second.reshape(-1)[2:].get().tolist() == [
        1,
        1,
        1,
        1,
    ]  # views and copies to the host are free to go
    assert cp.asarray(second).device == first.device
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorInvalidDevice"):
        cp.cuda.Device(2).use()


def test_device_properties(cp):
    properties = cp.cuda.runtime.getDeviceProperties(0)
    assert properties["name"] == b"Strict double"
    assert properties["multiProcessorCount"] == 1
    assert (cp.cuda.is_available(), cp.is_available(), cp.cuda.runtime.getDeviceCount()) == (True, True, 1)
    assert (cp.__version__, cp.cuda.runtime.runtimeGetVersion()) == ("14.2.0", 12090)
    with pytest.raises(RuntimeError, match="cudaErrorInvalidDevice"):
        cp.cuda.runtime.getDeviceProperties(1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"broken": broken_driver()}, "cudaErrorInsufficientDriver: CUDA driver"),
        ({"devices": 0}, "cudaErrorNoDevice"),
    ],
)
def test_without_a_driver_or_device_cupy_imports_and_nothing_else_works(monkeypatch, options, text):
    cp = install(monkeypatch, **options)
    assert not cp.cuda.is_available()
    runtime = cp.cuda.runtime
    calls = (
        runtime.getDeviceCount,
        runtime.memGetInfo,
        cp.cuda.Device,
        lambda: cp.zeros(3),
        lambda: cp.asarray([1]),
    )
    for call in calls:
        with pytest.raises(runtime.CUDARuntimeError, match=text):
            call()


def test_without_a_compiler_memory_works_and_the_first_kernel_fails(monkeypatch, host):
    cp = install(monkeypatch, broken=broken_compiler())
    x = cp.asarray(host)
    assert cp.cuda.is_available()
    assert cp.zeros(3).get().tolist() == [0, 0, 0]
    for call in (lambda: x + 1, lambda: x.sum(), lambda: cp.arange(3), lambda: x.fill(2)):
        with pytest.raises(RuntimeError, match="libnvrtc"):
            call()


def test_each_installation_is_fresh_and_leaves_nothing_behind():
    before = {name: module for name, module in sys.modules.items() if name.startswith("cupy")}
    with pytest.MonkeyPatch.context() as patch:
        first = install(patch)
        x = first.ones(3)
        first.get_default_memory_pool().set_limit(size=4096)
        second = install(patch)
        assert sys.modules["cupy"] is second
        assert importlib.util.find_spec("cupy") is second.__spec__
        assert sys.modules["cupy.cuda"] is second.cuda
        assert (second.get_default_memory_pool().get_limit(), second._double.live) == (0, [0])
        with pytest.raises(ValueError, match="another installed double"):
            second.sqrt(x)
    assert {name: module for name, module in sys.modules.items() if name.startswith("cupy")} == before


# The real thing.


def public(owner):
    return {name for name in dir(owner) if not name.startswith("_")}


def accepts(real, double):
    """Say whether every way of passing arguments to `double` is one `real` has."""
    positional = [p.name for p in double.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    theirs = [p.name for p in real.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    anything = any(p.kind is p.VAR_KEYWORD for p in real.parameters.values())
    return theirs[: len(positional)] == positional and (anything or double.parameters.keys() <= real.parameters.keys())


def test_every_name_and_parameter_exists_in_the_real_cupy(monkeypatch):
    real = pytest.importorskip("cupy", reason="the real CuPy is not installed", exc_type=ImportError)
    real_linalg, real_cuda = importlib.import_module("cupy.linalg"), importlib.import_module("cupy.cuda")
    cp = install(monkeypatch)
    pool = cp.get_default_memory_pool()
    pairs = [
        *[(cp, real), (cp.cuda, real_cuda), (cp.linalg, real_linalg), (cp.ndarray, real.ndarray)],
        *[
            (cp.cuda.runtime, real_cuda.runtime),
            (cp.cuda.memory, real_cuda.memory),
            (pool, real_cuda.MemoryPool),
        ],
        *[(cp.cuda.Device, real_cuda.Device), (cp.cuda.Stream, real_cuda.Stream)],
    ]
    unknown = {str(owner): public(double) - public(owner) - {"state"} for double, owner in pairs}
    assert not any(unknown.values()), unknown
    checked = 0
    for name, function in cp._double.operations.functions.items():
        theirs = operator.attrgetter(name)(real)
        if inspect.isfunction(theirs):
            assert accepts(inspect.signature(theirs), inspect.signature(function)), name
            checked += 1
    assert checked > 80
    assert strict_cupy.VERSION.split(".")[0] == real.__version__.split(".")[0]
