"""Models as the releases pickled them: tests/data/models-VERSION.pickle, one file a release, never written again.

`python tests/stored.py` writes the file of the version that is installed, unless there is one.
"""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import strict_cupy
from sklearn.datasets import load_iris

import gpukmeans
from gpukmeans import KMeans, MiniBatchKMeans

DATA = pathlib.Path(__file__).parent / "data"
ROWS = load_iris().data
FRAME = pd.DataFrame(ROWS, columns=["sepal length", "sepal width", "petal length", "petal width"])
WEIGHTS = np.linspace(0.5, 2.0, 150)


def on_a_device() -> KMeans:
    """Fitted on a double of CuPy: what is pickled is on the host all the same."""
    with pytest.MonkeyPatch.context() as patch:
        model = KMeans(3, random_state=0).fit(strict_cupy.install(patch).asarray(ROWS))
        return pickle.loads(pickle.dumps(model))


def models() -> dict[str, KMeans | MiniBatchKMeans]:
    single = ROWS.astype(np.float32)
    return {
        "not fitted": KMeans(5, init="random", n_init=3, tol=1e-6, algorithm="elkan", random_state=7),
        "names and weights": KMeans(3, random_state=0).fit(FRAME, sample_weight=WEIGHTS),
        "float32": KMeans(4, random_state=1, device="cpu").fit(single),
        "centres given": KMeans(3, init=ROWS[[0, 60, 120]], copy_x=False).fit(ROWS),
        "frames out": KMeans(2, random_state=0).set_output(transform="pandas").fit(FRAME),
        "on a device": on_a_device(),
        "batches": MiniBatchKMeans(3, random_state=0, batch_size=40).fit(FRAME, sample_weight=WEIGHTS),
        "stream": MiniBatchKMeans(3, random_state=0).partial_fit(single[::2]).partial_fit(single[1::2]),
    }


def facts(model: KMeans | MiniBatchKMeans) -> dict[str, Any]:
    """What has to be the same in every later version."""
    found = {"parameters": model.get_params()}
    if hasattr(model, "labels_"):
        rows = FRAME if hasattr(model, "feature_names_in_") else ROWS.astype(model.cluster_centers_.dtype)
        names = ("cluster_centers_", "labels_", "inertia_", "n_iter_", "n_steps_", "device_")
        found |= {name: getattr(model, name) for name in names if hasattr(model, name)}
        found |= {
            "predict": model.predict(rows),
            "score": model.score(rows),
            "transform": np.asarray(model.transform(rows)),
        }
        found |= {
            "next batch": next_batch(model, rows) if isinstance(model, MiniBatchKMeans) else None,
            "names": list(model.get_feature_names_out()),
            "columns": list(getattr(model, "feature_names_in_", [])),
        }
    return found


def next_batch(model: MiniBatchKMeans, rows: Any) -> np.ndarray:
    """Centres after one batch more; the model is left as it is."""
    return pickle.loads(pickle.dumps(model)).partial_fit(rows[:30]).cluster_centers_


def path_of(version: str) -> pathlib.Path:
    return DATA / f"models-{version}.pickle"


if __name__ == "__main__":
    path = path_of(gpukmeans.__version__)
    if path.exists():
        raise SystemExit(f"{path} is there: what a release pickled is not written again.")
    DATA.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps({name: (model, facts(model)) for name, model in models().items()}, protocol=4))
    print(f"{path}: {path.stat().st_size:,} bytes")
