"""`DeviceComparison`: what was measured, as a record that is stored, merged with others and looked at.

The file holds raw seconds; medians, ratios and verdicts are computed when it is read::

    {"schema": 2, "what": "gpukmeans comparison",
     "environments": {"<id>": {...}},
     "rooflines": {"<id>": {"cpu": {"copy_gb_s", "gemm"}}},
     "runs": [{"case": {"n", "d", "k", "dtype", "kind", "seed", "max_iter", "digest"},
               "reference": {"n_iter", "inertia"},
               "contestants": {"<name>": {"label", "where", "seconds": {"<stage>": [...]}, "counts", "answer", ...}},
               "skipped": {"<name>": "<reason>"},
               "environment", "commit", "date", "command"}]}

Files of schema 1 are those of `benchmarks/run.py`; their fits are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._files import InputError, count, read_json, write_files
from ._figures import BASELINE, SHOWN, Crossover, all_series, baseline_of, crossover, ratio, timing, why_not_same

SCHEMA = 2
WHAT = "gpukmeans comparison"


@dataclass(frozen=True, eq=False, repr=False)
class DeviceComparison:
    """Times and answers of devices and peers on one or more problems, from one or more machines.

    Parameters
    ----------
    environments : dict of str to dict
        What the figures were measured on, by a short name that follows from the facts.
    runs : tuple of dict
        One a problem and environment; the module `gpukmeans.compare._comparison` shows their fields.
    rooflines : dict of str to dict
        For each environment what its places ("cpu", "cuda:0") do at best.

    Examples
    --------
    >>> from gpukmeans.compare import DeviceComparison, compare_devices
    >>> here = compare_devices("300x2x3", devices=["cpu:numpy"], peers=["scikit-learn"], repeat=1, memory=False)
    >>> len(here.merge(here).runs)
    1
    """

    environments: dict[str, dict[str, Any]]
    runs: tuple[dict[str, Any], ...]
    rooflines: dict[str, dict[str, Any]] = field(default_factory=dict)

    # --- files --------------------------------------------------------------------------------

    def to_json(self, path: str | Path | None = None) -> str:
        """The comparison as JSON, with a line for each run; written to a file, whole or not at all, if one is named."""
        runs = ",\n".join(json.dumps(run, allow_nan=False) for run in self.runs)
        parts = {"schema": SCHEMA, "what": WHAT, "environments": self.environments, "rooflines": self.rooflines}
        head = ",\n".join(f'"{name}": {json.dumps(value, allow_nan=False)}' for name, value in parts.items())
        text = f'{{{head},\n"runs": [\n{runs}\n]}}\n'
        if path is not None:
            write_files(Path(path).parent, {Path(path).name: text.encode()})
        return text

    @classmethod
    def from_json(cls, path: str | Path) -> DeviceComparison:
        """Read a file that `to_json` wrote, or `benchmarks/run.py`.

        Raises
        ------
        InputError
            (a ValueError) If the file cannot be read, is damaged, or of a newer version.
        """
        path = Path(path)
        stored = read_json(path)
        if not isinstance(stored, dict) or not isinstance(stored.get("schema"), int):
            raise InputError(f"{path.name} is no comparison: it names no schema. gpukmeans compare --json writes one")
        if not 1 <= stored["schema"] <= SCHEMA:
            raise InputError(
                f"{path.name} has schema {stored['schema']}, but this version reads 1 to {SCHEMA}: update gpukmeans"
            )
        try:
            stored = _upgraded(stored)
            for run in stored["runs"]:
                _check(run, stored["environments"])
            rooflines = {name: dict(places) for name, places in stored["rooflines"].items()}
            return cls(dict(stored["environments"]), tuple(stored["runs"]), rooflines)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            told = f"{type(error).__name__}: {error}"
            raise InputError(f"{path.name} is damaged: an entry is incomplete or of a wrong type ({told})") from error

    def merge(self, *others: DeviceComparison) -> DeviceComparison:
        """One comparison of several; of runs of the same problem in the same environment the last one stays."""
        everything = [self, *others]
        kept = {_key(run): run for one in everything for run in one.runs}
        used = {run["environment"] for run in kept.values()}
        environments = {name: facts for one in everything for name, facts in one.environments.items() if name in used}
        rooflines = {name: places for one in everything for name, places in one.rooflines.items() if name in used}
        return DeviceComparison(environments, tuple(kept[key] for key in sorted(kept, key=_order)), rooflines)

    # --- figures ------------------------------------------------------------------------------

    def same_answer(self, name: str, stage: str = "fit") -> bool:
        """Whether a contestant gave the reference's answer in all runs it took part in.

        Parameters
        ----------
        name : str
            As "cpu", "cuda:0" or "scikit-learn".
        stage : {"fit", "seeding", "predict", "silhouette"}

        Raises
        ------
        InputError
            (a ValueError) If it took part in none.
        """
        runs = [run for run in self.runs if name in run["contestants"]]
        if not runs:
            known = sorted({one for run in self.runs for one in run["contestants"]})
            raise InputError(f"{name!r} took part in no run: these did: {', '.join(known)}")
        return not any(why_not_same(run, name, stage) for run in runs)

    def crossovers(self, name: str | None = None, baseline: str = BASELINE) -> list[Crossover]:
        """Where CUDA devices (or another contestant) overtake the baseline, along every series of problems.

        Parameters
        ----------
        name : str, optional
            Every CUDA device when None.
        baseline : str, default="cpu"
        """
        found = []
        for series in all_series(self.runs):
            names = dict.fromkeys(
                one
                for run in series.runs
                for one, facts in run["contestants"].items()
                if (facts["where"] == "cuda" if name is None else one == name)
            )
            found += [crossover(series, one, baseline) for one in names]
        return [one for one in found if one is not None]

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each run, contestant and stage.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError("to_frame needs pandas: python -m pip install 'gpukmeans[report]'") from error
        return pandas.DataFrame(list(self._rows()))

    def _rows(self) -> Iterable[dict[str, Any]]:
        for run in self.runs:
            about = {"environment": run["environment"], **run["case"]}
            for name, one in run["contestants"].items():
                answer = {key: one["answer"].get(key) for key in ("n_iter", "inertia", "off", "rand", "center")}
                memory = {key: one.get(key) for key in ("host_mib", "device_mib")}
                for stage in SHOWN:
                    times, counts = timing(run, name, stage), one["counts"].get(stage)
                    if times is None and counts is None:
                        continue
                    fast = ratio(run, name, stage, baseline_of(run) or name)
                    yield {
                        **about,
                        "contestant": name,
                        "label": one["label"],
                        "stage": stage,
                        "seconds": times and times.median,
                        "least": times and times.least,
                        "most": times and times.most,
                        "times_as_fast": fast and fast.median,
                        "same_answer": not why_not_same(run, name, stage),
                        **answer,
                        **memory,
                        "launches": counts and counts["launches"],
                        "stand_in": one["stand_in"],
                    }

    def __repr__(self) -> str:
        return f"<DeviceComparison: {count(len(self.runs), 'run')}, {count(len(self.environments), 'environment')}>"

    def __str__(self) -> str:
        from ._text import lines

        return "\n".join(lines(self))


def identify(environment: Mapping[str, Any]) -> str:
    """A short name for an environment, the same for the same facts."""
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:8]


def _key(run: Mapping[str, Any]) -> tuple:
    case = run["case"]
    return run["environment"], *(case[name] for name in ("n", "d", "k", "dtype", "kind", "max_iter", "digest"))


def _order(key: tuple) -> tuple:
    return tuple((value is None, value) if not isinstance(value, str) else (False, value) for value in key)


# --- reading ------------------------------------------------------------------------------------


def _check(run: dict[str, Any], environments: Mapping[str, Any]) -> None:
    """Raise one of the errors that `from_json` expects, if what is read of a run is not all there."""
    environments[run["environment"]]["cpu"] + ""
    for name in ("commit", "date", "command"):
        run[name] + ""
    _key(run)
    case = run["case"]
    if not all(isinstance(case[name], int) and case[name] > 0 for name in ("n", "d", "k")):
        raise ValueError(f"shape {case['n']} x {case['d']}, k = {case['k']}")
    run["reference"]["n_iter"] + run["reference"]["inertia"]
    dict(run["skipped"])
    for name, one in run["contestants"].items():
        one["label"] + one["where"]
        one["stand_in"], one["kernels"], one["validates"]
        if any(not isinstance(count, int) for counts in one["counts"].values() for count in counts.values()):
            raise ValueError(f"counts of {name}")
        for stage, seconds in one["seconds"].items():
            if not seconds or not all(t is None or t > 0 for t in seconds):
                raise ValueError(f"seconds of {name}, {stage}")
        for stage in SHOWN:
            why_not_same(run, name, stage)
            timing(run, name, stage)


def _upgraded(stored: dict[str, Any]) -> dict[str, Any]:
    """What a file of an older schema says, in the present one."""
    if stored["schema"] == SCHEMA:
        return stored
    environments = dict(stored["environments"])
    rooflines = {
        one["environment"]: {"cpu": {"copy_gb_s": one["copy_gb_s"], "gemm": one["gemm"]}}
        for one in stored["results"]
        if one["job"] == "roofline"
    }
    fits = [one for one in stored["results"] if one["job"] == "lloyd" and "scikit-learn" in one["peers"]]
    runs = [_from_benchmarks(one, environments[one["environment"]]) for one in fits]
    return {"environments": environments, "rooflines": rooflines, "runs": runs}


def _from_benchmarks(result: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """A fit of the benchmarks' harness; scikit-learn is the reference there, and labels and centres were not kept."""
    inertia = result["peers"]["scikit-learn"]["inertia"]
    case = {name: result[name] for name in ("n", "d", "k", "dtype", "kind", "max_iter")}
    contestants = {}
    for name, peer in result["peers"].items():
        ours = name == "gpukmeans"
        own = peer["inertia"]
        answer = {"n_iter": peer["n_iter"], "inertia": own, "off": None if own is None else own / inertia - 1}
        contestants["cpu" if ours else name] = {
            "label": "cpu, compiled kernels" if ours else name,
            "where": "cpu" if ours else "peer",
            "kernels": sorted(set(environment.get("kernels", {}).values())) if ours else [],
            "validates": peer["validates"],
            "stand_in": False,
            "warm_up": None,
            "seconds": {"fit": peer["seconds"]},
            "counts": {},
            "answer": answer | {"not_nearest": peer["wrong_labels"]},
            "host_mib": peer.get("peak_mib"),
        }
    stamp = {name: result[name] for name in ("skipped", "environment", "commit", "date", "command")}
    return {
        "case": {**case, "kind": f"case {result['case']}, {result['kind']}", "seed": None, "digest": None},
        "reference": {"n_iter": result["given"], "inertia": inertia},
        "contestants": contestants,
        **stamp,
    }
