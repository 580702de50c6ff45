"""`python -m tests.cuda_standin COMMAND`: see README.md beside this file."""

from __future__ import annotations

import argparse
import os
import sys

from . import build, place


def _run(command: list[str], knobs: dict[str, object]) -> None:
    """Become the command, under the stand-in."""
    reason = place.why_not()
    if reason:
        sys.exit(reason)
    if not command:
        sys.exit("give a command after `--`, such as: run -- pytest -k cuda")
    if command[0] in ("python", "pytest"):
        command = [sys.executable, *(["-m", "pytest"] if command[0] == "pytest" else []), *command[1:]]
    os.execvpe(command[0], command, place.environment(**knobs))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cuda_standin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="build the stand-in (again where its sources are newer)")
    run = commands.add_parser("run", help="run a command under the stand-in: run [--seed N] -- COMMAND")
    run.add_argument("--seed", help="shuffle the order of threads and blocks")
    run.add_argument("--memory", help="bytes of device memory (2e9)")
    run.add_argument("--memcheck", action="store_const", const=1, help="check every access of global memory")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    given = parser.parse_args(arguments)
    if given.command == "setup":
        build.build()
    elif given.command == "run":
        words = given.words[1:] if given.words[:1] == ["--"] else given.words
        knobs = {"seed": given.seed, "memory": given.memory, "memcheck": given.memcheck}
        _run(words, {name: value for name, value in knobs.items() if value is not None})


if __name__ == "__main__":
    main(sys.argv[1:])
