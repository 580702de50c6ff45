"""`python -m gpukmeans.patch script.py ...`: run a script as Python would, with scikit-learn patched."""

import pathlib
import runpy
import sys

from gpukmeans.patch import patch_sklearn

USAGE = """usage: python -m gpukmeans.patch script.py [arguments of the script]

Runs the script with gpukmeans.KMeans in place of sklearn.cluster.KMeans, and MiniBatchKMeans likewise."""


def main() -> None:
    """Run the script that the command line names; 2 without one, 1 where it is not a file."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if len(sys.argv) > 1 else sys.stderr)
        sys.exit(0 if len(sys.argv) > 1 else 2)
    script = pathlib.Path(sys.argv[1])
    if not script.is_file():
        sys.exit(f"{script} is not a file. Give the path of a Python script, then its arguments.")
    sys.argv = sys.argv[1:]
    if not sys.flags.safe_path:
        sys.path[0] = str(script.resolve().parent)
    patch_sklearn()
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
