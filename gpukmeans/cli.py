"""The command `gpukmeans`: report, fit, predict, compare and doctor.

This module only reads arguments, calls the work and turns problems into one line on stderr. The
work is imported inside the commands, so that `--help` answers at once and Ctrl-C finds us ready.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ._files import BUILT_IN, InputError
from .compare import _command

DATA_HELP = (
    "a .csv, .tsv, .parquet, .npy or .npz file (an NPZ holds X and optionally y), "
    f"or built-in data: {', '.join(BUILT_IN)}"
)

USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # exit codes; the last two as shells report the signals

_PIECE = 32_768  # characters a write: an unbuffered stdout loses the rest of a longer one when its reader goes


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, like every other wrong input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; default `sys.argv[1:]`.

    Returns
    -------
    code : int
        0; 2 for input that cannot be used (one line on stderr); 130 after Ctrl-C; 141 if the reader
        of stdout went away.

    Examples
    --------
    >>> from gpukmeans.cli import main
    >>> main(["report", "no-such-file.csv"])
    2
    """
    try:
        arguments = list(sys.argv[1:] if argv is None else argv)
        options = _parser().parse_args(arguments)
        options.line = ["gpukmeans", *arguments]
        _check_environment()
        with _no_log(getattr(options, "quiet", False)):
            options.command(options)
        sys.stdout.flush()
    except InputError as error:
        return _complain(str(error))
    except MemoryError as error:
        return _complain(f"not enough memory ({error}); use fewer rows, fewer columns or a smaller K")
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _discard_stdout()
        return BROKEN_PIPE
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    except OSError as error:
        _discard_stdout()
        return _complain(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    return 0


def _check_environment() -> None:
    """Refuse values of our environment variables that mean nothing before the work begins."""
    from . import _device, _kernels

    try:
        _kernels.check_environment()
        _device.bound()
    except ValueError as error:
        raise InputError(str(error)) from None


@contextmanager
def _no_log(quiet: bool) -> Iterator[None]:
    """If quiet, keep log messages that nobody listens to from stderr."""
    logger, handler = logging.getLogger("gpukmeans"), logging.NullHandler()
    if quiet:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _complain(message: str, code: int = USAGE) -> int:
    print(f"gpukmeans: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _discard_stdout() -> None:
    """Send what is still buffered nowhere; else the interpreter complains about it on exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no real file
        return


# --- arguments --------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = _Parser(
        prog="gpukmeans",
        description="K-means on a CUDA device when there is one, on the CPU otherwise, and how good it is.",
    )
    parser.add_argument("--version", action="version", version=f"gpukmeans {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_report(commands)
    _add_fit(commands)
    _add_predict(commands)
    _command.add(commands)
    doctor = commands.add_parser(
        "doctor",
        help="show versions, threads, kernels and devices",
        description="Show versions, threads, kernels, and which device would be used and why.",
    )
    doctor.set_defaults(command=_doctor)
    return parser


def _add_report(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="choose K, cluster, judge, and write tables, pictures and a page",
        description="Standardise the data, compute WCSS and silhouette for each K, choose the K with the "
        "highest mean silhouette, fit, compare with known classes if there are any, and write labels.csv, "
        "centers.csv (in the units of the data), summary.json, pictures (PNG) and report.html, a page with all of it.",
        epilog="example: gpukmeans report flowers.csv --label species --k 2:8 --out flowers",
    )
    parser.add_argument("data", metavar="DATA", nargs="?", default="blobs", help=DATA_HELP + "; default: blobs")
    _add_data_options(parser)
    parser.add_argument(
        "--k",
        metavar="K",
        type=_k_range,
        default="2:10",
        help="numbers of clusters to choose from, both ends included, or one number that is taken as it is; "
        "default: 2:10",
    )
    _add_run_options(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="gpukmeans-report",
        help="folder for the files; default: gpukmeans-report",
    )
    parser.set_defaults(command=_report)


def _add_fit(commands: Any) -> None:
    parser = commands.add_parser(
        "fit",
        help="cluster with a given K and save the model",
        description="Standardise the data, fit K clusters and write model.npz (model and scaling), "
        "labels.csv, centers.csv (in the units of the data) and summary.json.",
        epilog="example: gpukmeans fit flowers.csv --label species --k 3 --out flowers-model",
    )
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    _add_data_options(parser)
    parser.add_argument("--k", metavar="K", type=int, required=True, help="number of clusters")
    _add_run_options(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the files, made if need be")
    parser.set_defaults(command=_fit)


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser(
        "predict",
        help="assign new rows to the clusters of a saved model",
        description="Assign each row of DATA to the nearest centre of a saved model. Columns are found by "
        "name where both have names; others are left aside.",
        epilog="example: gpukmeans predict flowers-model/model.npz new.csv --out clusters.csv",
    )
    parser.add_argument("model", metavar="MODEL", help="a model.npz that gpukmeans fit wrote")
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument("--out", metavar="FILE.csv", help="file for row,cluster; default: standard output")
    _add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing but the result and errors")
    parser.set_defaults(command=_predict)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", metavar="COLUMN", help="column of known classes; kept out of the clustering")
    parser.add_argument("--columns", metavar="a,b,c", help="columns to cluster; default: all but the label")
    parser.add_argument("--no-scale", dest="scale", action="store_false", help="do not standardise the columns")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    parser.add_argument("--seed", metavar="N", type=_seed, default=0, help="seed of all random choices; default: 0")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        default="auto",
        help="auto (a GPU if there is one and the data are large enough), cpu, cuda or cuda:N; default: auto",
    )


def _k_range(text: str) -> Any:
    from .report import KRange

    low, colon, high = text.partition(":")
    try:
        numbers = KRange(int(low), int(high if colon else low))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a range as 2:10") from None
    if numbers.low > numbers.high:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins; write {high}:{low}")
    return numbers


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


# --- commands ---------------------------------------------------------------------------------


def _report(options: argparse.Namespace) -> None:
    from . import report
    from ._page import require_jinja2
    from ._pictures import require_matplotlib

    require_matplotlib()
    require_jinja2()
    folder = _folder(options.out)
    result = _build(options, options.k, folder, report.DRAWN)
    names = report.write(result, folder, options.line)
    if not options.quiet:
        report.print_table(result)
        report.print_lines(_wrote(names, folder))


def _fit(options: argparse.Namespace) -> None:
    from . import _model_file, report
    from ._files import write_files
    from ._results import table_files

    folder = _folder(options.out)
    result = _build(options, report.KRange(options.k, options.k), folder, ("model.npz",))
    model = _model_file.from_report(result)
    files = table_files(result, {"model.npz": _model_file.dump(model)})
    write_files(folder, files)
    if not options.quiet:
        report.print_table(result)
        report.print_lines(_wrote(files, folder))


def _build(options: argparse.Namespace, k: Any, folder: Path, others: Iterable[str]) -> Any:
    """The report both commands write; the folder is looked at first, before the long work."""
    from . import report
    from ._files import check_folder
    from ._results import TABLE_FILES

    check_folder(folder, (*TABLE_FILES, *others))
    return report.build(
        options.data,
        k=k,
        label=options.label,
        columns=options.columns,
        scale=options.scale,
        device=options.device,
        seed=options.seed,
        progress=_progress(options.quiet),
    )


def _folder(text: str) -> Path:
    if not text.strip():
        raise InputError("--out is empty; give the name of a folder")
    return Path(text)


def _wrote(names: Iterable[str], folder: Path) -> list[str]:
    import textwrap

    text = f"wrote {', '.join(sorted(names))} to {folder}{os.sep}"
    return ["", *textwrap.wrap(text, 80, break_long_words=False, break_on_hyphens=False)]


def _progress(quiet: bool) -> Any:
    """A function that shows a bar on a terminal, or None: no bar when quiet, in a pipe, or without tqdm."""
    if quiet or not (sys.stdout.isatty() and sys.stderr.isatty()):
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    shape = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
    return lambda numbers, text: tqdm(numbers, desc=text, bar_format=shape, leave=False, delay=0.5)


def _predict(options: argparse.Namespace) -> None:
    from . import _model_file
    from ._files import check_folder, open_source, write_files
    from ._results import labels_csv
    from ._tables import table

    target = Path(options.out) if options.out else None
    if target is not None:
        check_folder(target.parent, [target.name])
    model = _model_file.read(Path(options.model))
    source = open_source(options.data)
    rows = table(source, columns=_model_file.matching_columns(model, source)).X
    lines = labels_csv(_model_file.predict(model, rows, options.device))
    if target is None:
        text = lines.decode()
        for start in range(0, len(text), _PIECE):
            sys.stdout.write(text[start : start + _PIECE])
        return
    write_files(target.parent, {target.name: lines})
    if not options.quiet:
        print(f"wrote the clusters of {len(rows):,} rows to {target}")


def _doctor(options: argparse.Namespace) -> None:
    from ._results import aligned
    from .report import print_lines

    for title, pairs in _facts():
        print_lines([title, *(f"  {line}" for line in aligned(pairs, 28, 78)), ""])


def _facts() -> list[tuple[str, list[tuple[str, str]]]]:
    """What `doctor` shows: sections of names and values."""
    from . import _device, _kernels, _threads
    from ._results import versions

    state = _device.describe()
    devices = [("CuPy", state["cupy"] or "not installed"), ("CUDA", state["cuda"])]
    devices += [("device", name) for name in state["devices"]]
    work, source = state["bound"]
    devices += [("device='auto' (large)", state["auto"]), ("large is n*d*k from", f"{work:.3g} ({source})")]
    kinds = ["cpu", "cuda"] if state["devices"] else ["cpu"]
    kernels = [("compiled for the CPU", _kernels.compiled_state())]
    kernels += [(f"{kind}: {op}", name) for kind in kinds for op, name in _kernels.in_use(kind).items()]
    threads = [("threads of a fit", str(_threads.n_threads())), *_blas()]
    return [("versions", versions()), ("threads", threads), ("kernels", kernels), ("devices", devices)]


def _blas() -> list[tuple[str, str]]:
    import scipy.linalg  # noqa: F401 - loads the BLAS that is to be shown
    from threadpoolctl import threadpool_info

    pairs = []
    for pool in threadpool_info():
        if pool["internal_api"] == "gpukmeans":  # told above
            continue
        library = " ".join(filter(None, (pool["internal_api"], pool["version"])))
        pairs.append((pool["user_api"], f"{library}, {pool['num_threads']} threads"))
    return sorted(pairs)
