"""Pickles of this and earlier versions open, need no CuPy, and predict as they did."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import stored

import gpukmeans
from gpukmeans import KMeans, MiniBatchKMeans

FILES = sorted(stored.DATA.glob("models-*.pickle"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def file(request):
    return request.param


def same(found, expected):
    assert found.keys() >= expected.keys()
    for name, value in expected.items():
        if name == "parameters":  # a later version may have more of them
            assert all(np.array_equal(found[name][key], wanted) for key, wanted in value.items())
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert found[name].dtype == value.dtype
            np.testing.assert_allclose(found[name], value, rtol=1e-6 if value.dtype == np.float32 else 1e-12)
        elif isinstance(value, float):
            assert found[name] == pytest.approx(value, rel=1e-12)
        else:
            assert np.array_equal(found[name], value), name


def test_there_is_a_file_of_this_version():
    assert stored.path_of(gpukmeans.__version__) in FILES, "write it with `python tests/stored.py`"


def test_stored_models(file):
    assert file.stat().st_size < 50_000
    for name, (model, facts) in pickle.loads(file.read_bytes()).items():
        assert type(model) is (MiniBatchKMeans if name in ("batches", "stream") else KMeans), name
        same(stored.facts(model), facts)
        twin = pickle.loads(pickle.dumps(model))
        same(stored.facts(twin), facts)
        rows = stored.FRAME if facts.get("columns") else stored.ROWS
        assert len(model.fit(rows).labels_) == 150  # and can be fitted again


def test_the_file_of_this_version_is_what_it_pickles_now():
    """Within rounding. Before a release, a change of what is pickled deletes the file and writes it again."""
    opened = pickle.loads(stored.path_of(gpukmeans.__version__).read_bytes())
    now = stored.models()
    assert opened.keys() == now.keys()
    for name, model in now.items():
        assert vars(opened[name][0]).keys() == vars(model).keys(), name
        same(stored.facts(model), opened[name][1])


class Watched(pickle.Unpickler):
    """Remembers what a pickle asks for."""

    def __init__(self, file):
        super().__init__(file)
        self.needed = set()

    def find_class(self, module, name):
        self.needed.add(f"{module}.{name}")
        return super().find_class(module, name)


def test_what_the_files_need(file):
    """The classes and NumPy: no CuPy, no scikit-learn, nothing private of ours."""
    with file.open("rb") as stream:
        watched = Watched(stream)
        watched.load()
    classes = {"gpukmeans.kmeans.KMeans", "gpukmeans.minibatch.MiniBatchKMeans"}
    assert {name for name in watched.needed if not name.startswith("numpy.")} == classes


OPEN = """
import pickle, sys
sys.modules["cupy"] = None  # importing it fails
model, facts = pickle.load(open(sys.argv[1], "rb"))["on a device"]
assert facts["device_"] == model.device_ == "cuda:0 Strict double"
rows = pickle.load(sys.stdin.buffer)
print((model.predict(rows) == facts["labels_"]).all(), (model.to("cpu").predict(rows) == facts["labels_"]).all())
"""


def test_a_device_fit_opens_without_cupy(file):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", OPEN, str(file)]
    done = subprocess.run(command, input=pickle.dumps(stored.ROWS), capture_output=True, env=environment)
    assert done.stdout.split() == [b"True", b"True"], done.stderr.decode()


@pytest.mark.cuda
def test_a_fit_on_a_real_device_opens_without_cupy(cp, tmp_path):
    model = KMeans(3, random_state=0).fit(cp.asarray(stored.ROWS))
    facts = {"labels_": model.labels_.get(), "device_": model.device_}
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps({"on a device": (model, facts)}))
    script = OPEN.replace("cuda:0 Strict double", model.device_)
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, input=pickle.dumps(stored.ROWS), capture_output=True)
    assert done.stdout.split() == [b"True", b"True"], done.stderr.decode()
