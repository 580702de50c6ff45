"""Make docs/performance.md and its picture from stored results.

    python benchmarks/page.py benchmarks/results/*.json

Nothing is measured. Notes that say what bounds a row come from notes.md beside the first file, word for word.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cases
import results
from figures import TIMES, describe, fits, peers_table, roofline, seedings, shapes, silhouettes, slower
from plot import draw
from results import SAME

ROOT = Path(__file__).resolve().parent.parent

METHOD = f"""\
Figures are ratios to scikit-learn's Lloyd, measured in one run on one machine. A figure says nothing
about another machine, so each comes with the command that makes it.

- **The same work.** All start from the same rows, which are rows of the data, with a tolerance of zero.
  An iteration assigns every row and then moves the centres; after the last one every row is assigned
  once more. Peers that cannot stop by themselves (scipy, and faiss outside runs to convergence) get as
  many iterations as scikit-learn took. opencv is given its first assignment and makes at most 100
  iterations. fastkmeans and geokmeans choose their initial rows by a seed: the rows are put in an order
  in which they choose ours. None of that is on the clock. Everything else is: checks of the input,
  conversions, labels.
- **Interleaved.** In each round every peer runs once, each time beginning with another one, so that a
  slow minute hits all. Ratios are taken round by round; given are the median and, in brackets, the
  least and the most. A round of a short fit is the median of up to 50 calls; where fits take long,
  fewer rounds are run, but at least three, and slow peers sit out after a minute.
- **The answer beside the speed.** The inertia of every peer's centres is computed again by float64
  differences; (+1e-7) means that it is larger than ours by that part. ✗ marks *not the same answer*:
  inertia more than {SAME["inertia"]:.0e} from scikit-learn's, or another silhouette by more than
  {SAME["error"]:.0e}. Most such peers treat empty clusters in another way. "Not nearest" counts labels
  that float64 brute force does not confirm.
- **† does not check its input.** Rows with NaN are clustered without a word, or crash the process; the
  others refuse them.
- **Memory** is the peak of one fit above what the process held before, the rows themselves not
  included, in a process of its own.
- Peers that compute in float32 only are left out in float64. Peers that would take more than a minute
  for a fit are left out too, and named.
"""

CASES = f"""\
Rows are made from a seed (`benchmarks/cases.py`). *Uniform* rows have no structure, which is hard for
bounds; *blobs* are what people cluster. Rows of e lie near 24 dimensions, like images; rows of h are
unit rows near 50, like embeddings.

| case | {" | ".join(name for name in cases.CASES if name != "t")} |
|---|{"---|" * (len(cases.CASES) - 1)}
| rows {TIMES} features | {" | ".join(f"{c.n:,} {TIMES} {c.d}" for name, c in cases.CASES.items() if name != "t")} |
| clusters | {" | ".join(str(c.k) for name, c in cases.CASES.items() if name != "t")} |
"""

ALL = """\
```bash
python -m pip install -e '.[bench]'
python benchmarks/run.py all --json benchmarks/results/cpu.json
python benchmarks/page.py benchmarks/results/cpu.json
```
"""


_TRIALS = {"t", "st", "ninet"}  # cases that try the harness


def page(store: Mapping[str, Any], notes: str = "", picture: bool = True) -> str:
    """The text of the page.

    Parameters
    ----------
    store : mapping
        As `results.load` returns it.
    notes : str
        Markdown on what bounds the rows that fall short.
    picture : bool
        Whether there is a picture to show.
    """
    found = [result for result in store["results"] if result["case"] not in _TRIALS]
    parts = ["# Performance on the CPU", "Made by `python benchmarks/page.py` from stored results; not edited by hand."]
    parts += ["## Method", METHOD, "Everything on this page, some hours on two cores:", ALL]
    parts += ["### The cases", CASES, "### The machine", *map(describe, _measured(store)), *roofline(found)]
    parts += ["## Figures"]
    if picture:
        parts += ["![Ratios to scikit-learn for each case and peer](images/performance.png)"]
    for dtype in ("float32", "float64"):
        parts += [*fits(found, dtype), *peers_table(found, dtype)]
    parts += [*seedings(found), *silhouettes(found), *shapes(found)]
    parts += ["## What we are slower at", *slower(found)]
    if notes.strip():
        parts += ["## What bounds it", notes.strip()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _measured(store: Mapping[str, Any]) -> Iterable[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each environment with the results from it."""
    for name, environment in store["environments"].items():
        yield environment, [result for result in store["results"] if result["environment"] == name]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and write the page; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="files that run.py --json wrote")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the page; default: docs")
    options = parser.parse_args(argv)
    try:
        store = results.empty()
        for file in options.files:
            more = results.load(file)
            store = results.merge(store, more["results"], more["environments"])
        if not store["results"]:
            raise results.ResultError(f"{options.files[0].name} holds no results: run benchmarks/run.py first.")
        notes = options.files[0].with_name("notes.md")
        drawn = draw(store, options.out / "images" / "performance.png")
        text = page(store, notes.read_text(encoding="utf-8") if notes.exists() else "", drawn)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "performance.md").write_text(text, encoding="utf-8")
    except (results.ResultError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote performance.md{' and images/performance.png' if drawn else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
