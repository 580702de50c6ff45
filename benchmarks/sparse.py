"""Sparse rows against scikit-learn: k-means++ and Lloyd's iterations on the same rows, in one race.

    python benchmarks/sparse.py                          # n=100k, 20k features, 100 entries a row, k=50
    python benchmarks/sparse.py --dtype float64 --rows 20000 --repeat 5

Rows are like TF-IDF of texts: of unit length, with frequent and rare features and one of k topics each. The
contestants are this package with its compiled kernels, without them (SciPy's products), and scikit-learn, in turn;
printed are the seconds of each round, the ratio of the medians to scikit-learn's, the inertia, and the
peak of memory above the rows, for one call in a process of its own, in MiB and as a share of the rows.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import sklearn.cluster
from scipy.sparse import csr_array

from gpukmeans import KMeans
from gpukmeans.compare._measure import peak_memory, peak_of, race

CONTESTANTS = {"compiled": ("1", KMeans), "SciPy": ("numpy", KMeans), "scikit-learn": ("1", sklearn.cluster.KMeans)}
REFERENCE = "scikit-learn"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=20_000)
    parser.add_argument("--entries", type=int, default=100, help="of each row")
    parser.add_argument("--clusters", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--peak", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    X = make(options.rows, options.features, options.entries, options.clusters, options.dtype)
    runs = {name: contestant(name, X, options.clusters, options.iterations) for name in CONTESTANTS}
    if options.peak:  # a process of its own
        print(options.peak, peak_of(runs[options.peak]))
        return 0
    size = (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / 2**20
    print(f"{X.shape[0]} x {X.shape[1]}, {X.nnz} entries, {options.dtype}, {size:.0f} MiB, k={options.clusters}")
    done = race(runs, options.repeat)
    for name, reason in done.failed.items():
        print(f"{name} failed: {reason}")
    if done.failed:
        return 1
    theirs = median(filter(None, done.seconds[REFERENCE]))
    words = sys.argv[1:] if arguments is None else arguments
    for name, taken in done.seconds.items():
        peak = peak_memory([__file__, *words, "--peak", name]).get(name, float("nan"))
        told = " ".join(f"{t:7.2f}" for t in taken if t is not None)
        print(
            f"{name:13}{told} s   ratio {theirs / median(filter(None, taken)):5.2f}   "
            f"inertia {done.answers[name].inertia_:.10g}   peak {peak:.0f} MiB, {peak / size:.2f} of the rows"
        )
    return 0


def contestant(name: str, X: csr_array, k: int, iterations: int) -> Callable[[], Any]:
    """A fit by one of the contestants."""
    kernels, estimator = CONTESTANTS[name]

    def fit() -> Any:
        os.environ["GPUKMEANS_KERNELS"] = kernels
        return estimator(k, n_init=1, max_iter=iterations, tol=0, random_state=0).fit(X)

    return fit


def make(n: int, d: int, entries: int, k: int, dtype: str) -> csr_array:
    """Rows of unit length, of k topics; each entry has a range of features, narrow where they are frequent."""
    rng = np.random.default_rng(0)
    edges = np.arange(entries + 1) + ((d - entries) * (np.arange(entries + 1) / entries) ** 3).astype(int)
    widths, topics = np.diff(edges), rng.random((k, entries))
    data, indices = np.empty((n, entries), dtype), np.empty((n, entries), np.int32)
    for a in range(0, n, 4096):
        part = slice(a, min(a + 4096, n))
        places = rng.random((part.stop - a, entries))
        topical = rng.random(places.shape) < 0.4
        own = topics[rng.integers(0, k, len(places))] + 0.02 * places
        indices[part] = edges[:-1] + np.where(topical, own % 1, places) * widths
        values = rng.gamma(2.0, size=places.shape)
        data[part] = values / np.linalg.norm(values, axis=1, keepdims=True)
    starts = np.arange(0, n * entries + 1, entries, dtype=np.int32)  # scikit-learn takes no longer integers
    return csr_array((data.ravel(), indices.ravel(), starts), shape=(n, d))


if __name__ == "__main__":
    sys.exit(main())
