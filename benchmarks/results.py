"""Results: one JSON file, to which jobs are added, and the figures that follow from it.

The file holds raw seconds; medians, ratios and verdicts are computed when it is read::

    {"schema": 1,
     "environments": {"<id>": {...}},
     "results": [{"job", "case", "kind", "dtype", "max_iter",        what was measured: the key
                  "n", "d", "k", ...,                                facts about it
                  "peers": {"<name>": {"seconds": [...], ...}},      raw seconds and the answer
                  "skipped": {"<name>": "<reason>"},
                  "environment", "commit", "date", "command"}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpukmeans._files import InputError, read_json, write_files
from gpukmeans.compare import _measure
from gpukmeans.compare._answers import SAME
from gpukmeans.compare._comparison import identify
from gpukmeans.compare._measure import Spread, times_as_fast
from gpukmeans.compare._peers import OURS, REFERENCE

SCHEMA = 1
KEY = ("job", "case", "kind", "dtype", "max_iter")

ResultError = InputError  # a file that does not hold results


def key_of(result: Mapping[str, Any]) -> tuple:
    """What a result is about; a later one about the same replaces it."""
    return tuple(result[name] for name in KEY)


def empty() -> dict[str, Any]:
    """A store without results."""
    return {"schema": SCHEMA, "environments": {}, "results": []}


def load(path: Path) -> dict[str, Any]:
    """Read a store.

    Raises
    ------
    ResultError
        If the file cannot be read, is no JSON, is damaged or of another schema.
    """
    store = read_json(path)
    if not isinstance(store, dict) or "schema" not in store:
        raise ResultError(f"{path.name} is not a file of results: it names no schema.")
    if store["schema"] != SCHEMA:
        raise ResultError(
            f"{path.name} has schema {store['schema']!r}, but this version reads {SCHEMA}: measure into a new file."
        )
    try:
        dict(store["environments"])
        for result in store["results"]:
            _check(result, store["environments"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(
            f"{path.name} is damaged: an entry is incomplete or of a wrong type ({type(error).__name__}: {error})."
        ) from error
    return store


def _check(result: dict[str, Any], environments: dict[str, Any]) -> None:
    key_of(result)
    environments[result["environment"]]["cpu"]
    for name in ("commit", "date", "command"):
        result[name] + ""
    for name, peer in result["peers"].items():
        if not all(t is None or t > 0 for t in peer["seconds"]) or not any(peer["seconds"]):
            raise ValueError(f"seconds of {name}")


def merge(store: dict[str, Any], results: Iterable[dict[str, Any]], environments: Mapping[str, Any]) -> dict[str, Any]:
    """A store with results added; each replaces an earlier one with the same key."""
    kept = {key_of(result): result for result in [*store["results"], *results]}
    ordered = sorted(kept.values(), key=lambda result: tuple(map(str, key_of(result))))
    known = {**store["environments"], **environments}
    used = {result["environment"] for result in ordered}
    return {"schema": SCHEMA, "environments": {i: known[i] for i in sorted(used)}, "results": ordered}


def add(path: Path, result: dict[str, Any], environment: dict[str, Any]) -> None:
    """Add a result to the file, which is made if it is not there; never leaves half a file."""
    name = identify(environment)
    store = merge(load(path) if path.exists() else empty(), [result | {"environment": name}], {name: environment})
    write_files(path.parent, {path.name: dumps(store).encode()})


def dumps(store: Mapping[str, Any]) -> str:
    """JSON with one line a result, so that differences can be read."""
    lines = ",\n".join(json.dumps(result) for result in store["results"])
    environments = json.dumps(store["environments"], indent=1)
    body = f"[\n{lines}\n]" if lines else "[]"
    return f'{{"schema": {store["schema"]},\n"environments": {environments},\n"results": {body}}}\n'


# --- figures ------------------------------------------------------------------------------------


def spread(result: Mapping[str, Any], name: str) -> Spread:
    """Median, least and most seconds of a peer; `_check` saw to it that there are some."""
    return Spread(*(_measure.spread(result["peers"][name]["seconds"]) or ()))


def ratio(result: Mapping[str, Any], name: str) -> Spread | None:
    """How many times as fast as scikit-learn a peer is: median, least and most of the ratios of the rounds."""
    if REFERENCE not in result["peers"]:
        return None
    return times_as_fast(result["peers"][name]["seconds"], result["peers"][REFERENCE]["seconds"])


def deviation(result: Mapping[str, Any], name: str, of: str = OURS) -> float | None:
    """Inertia of a peer's centres relative to ours (or another's), less one; infinite where there is none."""
    peers = result["peers"]
    if of not in peers or "inertia" not in peers[name]:
        return None
    own, base = peers[name]["inertia"], peers[of]["inertia"]
    if own is None or base is None:
        return float("inf")
    return 0.0 if own == base else own / base - 1 if base else float("inf")


def same_answer(result: Mapping[str, Any], name: str) -> bool:
    """Whether a peer gave the answer that scikit-learn gave, within the tolerance of `SAME`, as far as it is stored.

    Seedings have to draw scikit-learn's rows in float64; float32 draws differ where the two are
    rounded differently, in scikit-learn too.
    """
    peer = result["peers"][name]
    if "different" in peer:
        return peer["different"] == 0
    if "error" in peer:
        return peer["error"] <= SAME["error"]
    off = deviation(result, name, REFERENCE)
    return off is None or abs(off) <= SAME["inertia"]


def gemm_share(result: Mapping[str, Any], name: str = OURS) -> float | None:
    """Fraction of the peak of `gemm` reached, counting 2 n d k an iteration as if nothing were skipped."""
    peak, n_iter = result.get("gemm_gflops"), result["peers"].get(name, {}).get("n_iter")
    if peak is None or n_iter is None:
        return None
    return 2e-9 * result["n"] * result["d"] * result["k"] * n_iter / spread(result, name)[0] / peak
