"""The command `gpukmeans compare`: its options, and what they start."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .._files import InputError, check_folder

DESCRIPTION = """\
Time k-means by the CPU's kernels and array bodies, on every CUDA device and by other packages, on the
same rows from the same start, taking turns. Beside each time stand inertia, adjusted Rand index and
centres against a float64 run. Who gave another answer is told so, and gets no ratio."""

EXAMPLES = """examples:
  gpukmeans compare                                   three sizes, everything there is, under a minute
  gpukmeans compare --shapes 1000000x16x64 --peers scikit-learn,faiss
  gpukmeans compare --sweep n                         where a CUDA device overtakes the CPU
  gpukmeans compare --json mine.json --html mine.html
  gpukmeans compare --merge mine.json theirs.json     measures nothing, shows what files hold
"""


def add(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "compare",
        help="time devices and other packages, each with the proof of its answer",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shapes", metavar="NxDxK", nargs="+", help="rows x features x clusters, such as 100000x16x64")
    parser.add_argument("--sweep", metavar="AXIS", choices=("n", "d", "k"), help="grow n, d or k by fours, fits only")
    parser.add_argument("--devices", metavar="A,B", type=_names, help="cpu, cpu:numpy, cpu:arrays, cuda, cuda:N")
    parser.add_argument("--peers", metavar="A,B", type=_names, help="other packages, or none; default: all installed")
    parser.add_argument("--dtype", metavar="DTYPE", default="float32", help="float32 or float64; default: float32")
    parser.add_argument("--kind", metavar="KIND", default="blobs", help="blobs or uniform rows; default: blobs")
    parser.add_argument("--iterations", metavar="N", type=int, default=10, help="of a fit; default: 10")
    parser.add_argument("--repeat", metavar="N", type=int, help="rounds; default: 5, and 3 with --sweep")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of rows and starts; default: 0")
    parser.add_argument("--limit", metavar="S", type=float, default=1.0, help="seconds for each of all; default: 1")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="do not measure peak memory")
    parser.add_argument("--json", metavar="FILE", type=Path, help="add the results to this file")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page with tables and pictures")
    parser.add_argument("--merge", metavar="FILE", type=Path, nargs="+", help="measure nothing: show what files hold")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(command=run)


def _names(text: str) -> list[str]:
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def run(options: argparse.Namespace) -> None:
    """Measure (or read), print, and write the files that are asked for."""
    from ..report import print_lines
    from ._comparison import DeviceComparison
    from ._text import lines

    _check(options)
    if options.merge:
        first, *others = (DeviceComparison.from_json(file) for file in options.merge)
        comparison = first.merge(*others)
    else:
        comparison = _measure(options)
    if not options.quiet:
        print_lines(lines(comparison))
    if options.json is not None:
        before = DeviceComparison.from_json(options.json) if options.json.exists() else comparison
        before.merge(comparison).to_json(options.json)
    if options.html is not None:
        from ._page import write

        write(comparison, options.html)
    written = [str(file) for file in (options.json, options.html) if file is not None]
    if written and not options.quiet:
        print_lines(["", f"wrote {' and '.join(written)}"])


def _check(options: argparse.Namespace) -> None:
    """Complain before the work, not after it."""
    from ._comparison import DeviceComparison

    for file in (options.json, options.html):
        if file is not None:
            if not file.name:
                raise InputError("--json and --html take the name of a file")
            check_folder(file.parent, [file.name])
    if options.json is not None and options.json.exists():
        DeviceComparison.from_json(options.json)
    if options.html is not None:
        from .._page import require_jinja2
        from .._pictures import require_matplotlib

        require_matplotlib()
        require_jinja2()
    if options.sweep and len(options.shapes or [0]) != 1:
        raise InputError("--sweep grows one shape: give one with --shapes, or none")


def _measure(options: argparse.Namespace) -> Any:
    from ._contest import STAGES
    from ._rows import Shape, parse_shape, sweep
    from ._run import SHAPES, compare_devices

    shapes, stages = list(SHAPES), list(STAGES)
    memory, repeat = options.memory, options.repeat or 5
    if options.shapes:
        shapes = [parse_shape(text) for text in options.shapes]
    if options.sweep:
        base = shapes[0] if options.shapes else Shape(256_000, 16, 64)
        shapes, memory, repeat = sweep(base, options.sweep), False, options.repeat or 3
        stages = ["upload", "first", "fit", "download"]
    return compare_devices(
        shapes,
        devices=options.devices,
        peers=options.peers,
        repeat=repeat,
        max_iter=options.iterations,
        dtype=options.dtype,
        kind=options.kind,
        random_state=options.seed,
        stages=stages,
        memory=memory,
        limit=options.limit,
        progress=None if options.quiet or not sys.stderr.isatty() else _say,
    )


def _say(text: str) -> None:
    """Progress, in a line that the next one replaces."""
    sys.stderr.write(f"\r\x1b[K{text.strip()}\r")
    sys.stderr.flush()
