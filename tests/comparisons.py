"""Comparisons whose figures were made up for the tests."""

from __future__ import annotations

from gpukmeans.compare import DeviceComparison


def timed(fit, where="cpu", name="", **changes):
    """A contestant as a run holds it, of the given seconds of a fit; its answer is the reference's."""
    answer = {"n_iter": 10, "inertia": 100.0, "off": 0.0, "rand": 1.0, "center": 0.0, "not_nearest": 0}
    seconds = {"fit": fit, "first": [t / 4 for t in fit]}
    if where == "cuda":
        seconds |= {"upload": [0.5] * len(fit), "download": [0.25] * len(fit)}
    facts = {"label": name or where, "where": where, "kernels": [], "validates": True, "stand_in": False}
    return {**facts, "warm_up": 1.0, "seconds": seconds, "counts": {}, "answer": answer, "first_iter": 1, **changes}


def run_of(contestants, n=1000, d=2, k=10, environment="e1", **changes):
    """A run as a file holds it; its figures were made up for the tests."""
    case = {"n": n, "d": d, "k": k, "dtype": "float32", "kind": "blobs", "seed": 0, "max_iter": 10, "digest": "d1"}
    stamp = {"environment": environment, "commit": "abc1234", "date": "2026-01-01", "command": "gpukmeans compare"}
    reference = {"n_iter": 10, "inertia": 100.0}
    return {"case": case, "reference": reference, "contestants": contestants, "skipped": {}, **stamp, **changes}


def comparison_of(*runs):
    names = dict.fromkeys(run["environment"] for run in runs)
    return DeviceComparison({name: {"cpu": f"A processor {name}"} for name in names}, tuple(runs))


def series(*speeds, axis="n", **changes):
    """Runs whose sizes grow tenfold, with a CUDA device that many times as fast as the CPU."""
    runs = []
    for i, speed in enumerate(speeds):
        contestants = {"cpu": timed([speed]), "cuda:0": timed([0.25], "cuda", **changes)}
        runs.append(run_of(contestants, **{axis: 1000 * 10**i}))
    return comparison_of(*runs)
