"""Lloyd iterations against scikit-learn alone: `run.py lloyd` with two peers and cases a to g.

    python benchmarks/lloyd.py                     # 20 iterations, float32
    python benchmarks/lloyd.py --cases beg --dtype float64 --repeat 7 --json results.json

All options of `run.py` are taken; those given win.
"""

import sys

from run import main

if __name__ == "__main__":
    sys.exit(main(before=["lloyd", "--peers", "gpukmeans", "scikit-learn", "--cases", "abcdefg"]))
