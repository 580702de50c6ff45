"""A fitted model and its scaling in one NPZ file, readable with `allow_pickle=False`.

Arrays of schema 1 (k clusters, d features):

===================  ==================  =========================================================
gpukmeans_schema     int64               number of this layout; files with a higher one are refused
gpukmeans_version    text                the package that wrote the file
centers              (k, d) float32/64   centres in scaled units, dtype of the clustered data
mean, scale          (d,) float64        the clustered rows were (x - mean) / scale
feature_names        (d,) text           columns, in the order of `centers`
inertia              float64             sum of squared distances, in scaled units
n_iter, seed         int64               iterations of the fit, its random_state
===================  ==================  =========================================================
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import KMeans, __version__, _device
from ._files import InputError, Source, check_file, check_magic, count, quoted
from ._tables import Scaling

if TYPE_CHECKING:
    from .report import Report

SCHEMA = 1

_MEMBERS = ("centers", "mean", "scale", "feature_names", "inertia", "n_iter", "seed", "gpukmeans_version")


@dataclass(frozen=True, eq=False)
class SavedModel:
    """What a model file holds; `centers` has shape (n_clusters, n_features), in scaled units."""

    centers: np.ndarray
    scaling: Scaling
    feature_names: tuple[str, ...]
    inertia: float
    n_iter: int
    seed: int
    version: str

    @property
    def named(self) -> bool:
        """Whether the feature names came with the data, rather than being x0, x1, ..."""
        return self.feature_names != tuple(f"x{j}" for j in range(len(self.feature_names)))


def from_report(report: Report) -> SavedModel:
    """What a report says about its model."""
    return SavedModel(
        report.scaled_centers,
        report.scaling,
        report.table.columns,
        report.wcss,
        report.n_iter,
        report.seed,
        __version__,
    )


def predict(model: SavedModel, X: np.ndarray, device: str = "auto") -> np.ndarray:
    """Cluster of each row of X (n_samples, n_features), given in its own units: (n_samples,) int32."""
    try:
        _device.resolve(device, work=0)
    except (ValueError, RuntimeError) as error:
        raise InputError(str(error)) from error
    estimator = KMeans(len(model.centers), device=device)
    estimator.cluster_centers_ = model.centers
    estimator.n_features_in_ = model.centers.shape[1]
    return estimator.predict(model.scaling.apply(X))


def dump(model: SavedModel) -> bytes:
    """The bytes of a model file."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        gpukmeans_schema=np.int64(SCHEMA),
        gpukmeans_version=np.array(model.version),
        centers=model.centers,
        mean=model.scaling.mean,
        scale=model.scaling.scale,
        feature_names=np.array(model.feature_names, dtype=np.str_),
        inertia=np.float64(model.inertia),
        n_iter=np.int64(model.n_iter),
        seed=np.int64(model.seed),
    )
    return buffer.getvalue()


def read(path: Path) -> SavedModel:
    """The model in a file.

    Raises
    ------
    InputError
        If the file is missing, damaged, no gpukmeans model, or of a newer schema.
    """
    check_file(path)
    check_magic(path, b"PK", "a gpukmeans model (an NPZ)")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _checked(path, _members(path, archive))
    except InputError:
        raise
    except Exception as error:  # a damaged file raises whatever the reader stumbles over
        raise InputError(f"{path} is a damaged NPZ file; make the model again with gpukmeans fit") from error


def _members(path: Path, archive: Any) -> dict[str, np.ndarray]:
    """All arrays of a model file whose schema we know."""
    if "gpukmeans_schema" not in archive.files:
        raise InputError(f"{path} is not a gpukmeans model; make one with gpukmeans fit DATA --k K --out DIR")
    schema = int(archive["gpukmeans_schema"])
    if schema > SCHEMA:
        raise InputError(
            f"{path} was written by a newer gpukmeans (schema {schema}, this one reads up to {SCHEMA}); "
            "upgrade gpukmeans"
        )
    missing = [name for name in _MEMBERS if name not in archive.files]
    if schema < 1 or missing:
        raise InputError(f"{path} is a damaged model: it lacks {quoted(missing) or 'a valid schema number'}")
    return {name: archive[name] for name in _MEMBERS}


def _checked(path: Path, arrays: dict[str, np.ndarray]) -> SavedModel:
    """The record, if the arrays fit each other."""
    centers, mean, scale, names = (arrays[name] for name in ("centers", "mean", "scale", "feature_names"))
    d = centers.shape[1] if centers.ndim == 2 else 0
    sound = (
        d > 0
        and len(centers) > 0
        and names.dtype.kind == "U"
        and mean.shape == scale.shape == names.shape == (d,)
        and all(part.dtype.kind == "f" and bool(np.isfinite(part).all()) for part in (centers, mean, scale))
        and bool((scale > 0).all())
        and all(arrays[name].shape == () for name in ("inertia", "n_iter", "seed", "gpukmeans_version"))
    )
    if not sound:
        raise InputError(f"{path} is a damaged model: its arrays do not fit each other; run gpukmeans fit again")
    return SavedModel(
        centers,
        Scaling(mean, scale),
        tuple(names.tolist()),
        float(arrays["inertia"]),
        int(arrays["n_iter"]),
        int(arrays["seed"]),
        str(arrays["gpukmeans_version"]),
    )


def matching_columns(model: SavedModel, source: Source) -> list[str]:
    """The columns of a source that the model was fitted on, in its order.

    By name where both have names (further columns are left aside), otherwise all, by number.

    Raises
    ------
    InputError
        If columns are missing or their number differs.
    """
    wanted = model.feature_names
    if source.named and model.named:
        missing = [name for name in wanted if name not in source.columns]
        if missing:
            raise InputError(
                f"{source.name} lacks {count(len(missing), 'column')} that the model needs: {quoted(missing)}"
                f"; its columns: {quoted(source.columns)}"
            )
        return list(wanted)
    if len(source.columns) != len(wanted):
        raise InputError(
            f"{source.name} has {count(len(source.columns), 'column')}, but the model was fitted on "
            f"{len(wanted)}: {quoted(wanted)}"
        )
    return list(source.columns)
