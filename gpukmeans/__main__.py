"""`python -m gpukmeans`: the command line."""

import sys

from gpukmeans.cli import main

if __name__ == "__main__":
    sys.exit(main())
