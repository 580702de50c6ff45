"""CUDA and CuPy code executed on a machine without a GPU: `python -m tests.cuda_standin COMMAND`, see README.md."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

from . import build, host, matrix, mutants, place


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cuda_standin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="build the stand-in, again where its sources are newer")
    run = commands.add_parser("run", help="run a command under the stand-in: run [KNOBS] -- COMMAND")
    run.add_argument("--seed", help="shuffle threads and blocks by this seed")
    run.add_argument("--memory", help="bytes of device memory (2e9)")
    run.add_argument("--memcheck", action="store_const", const=1, help="check every access of global memory")
    run.add_argument("--sanitize", action="store_true", help="the package's kernels by g++ with its sanitizers")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    full = commands.add_parser("matrix", help="the suite under all conditions; prints the count of passed tests")
    full.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="conditions whose name contains it ('kernels off, seed 2'), or the comparison of answers ('answers')",
    )
    full.add_argument("words", nargs=argparse.REMAINDER, metavar="-- ARGUMENTS OF PYTEST")
    planted = commands.add_parser("mutants", help="plant faults in kernels; fails if the tests do not notice one")
    planted.add_argument("--only", default="", metavar="WORD", help="faults whose file or description contain it")
    planted.add_argument("tables", nargs="*", type=pathlib.Path, help="default: all tables")
    commands.add_parser("coverage", help="which lines of the CuPy-only code run under the stand-in")
    given = parser.parse_args(arguments)

    if given.command == "setup":
        return build.build()
    reason = place.why_not()
    if reason:
        sys.exit(reason)
    words = [word for word in getattr(given, "words", []) if word != "--"]
    if given.command == "run":
        _become(words, given)
    elif given.command == "matrix":
        sys.exit(matrix.run(words, given.only) > 0)
    elif given.command == "coverage":
        sys.exit(matrix.coverage())
    else:
        sys.exit(mutants.run(given.tables or sorted(place.ROOT.glob("tests/**/*mutants.toml")), given.only) > 0)


def _become(command: list[str], knobs: argparse.Namespace) -> None:
    """Become the command, under the stand-in."""
    if not command:
        sys.exit("give a command after `--`, such as: run -- pytest -m cuda")
    if command[0] in ("python", "pytest"):
        command = [sys.executable, *(["-m", "pytest"] if command[0] == "pytest" else []), *command[1:]]
    given = {name: getattr(knobs, name) for name in ("seed", "memory", "memcheck")}
    environment = place.environment(**{name: value for name, value in given.items() if value is not None})
    os.execvpe(command[0], command, host.sanitizer_environment(environment) if knobs.sanitize else environment)


if __name__ == "__main__":
    main(sys.argv[1:])
