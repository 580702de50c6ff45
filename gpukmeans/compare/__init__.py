"""Comparing devices: is a GPU worth it here, and is its answer the same?

>>> from gpukmeans.compare import compare_devices
>>> comparison = compare_devices("300x2x3", devices=["cpu:numpy"], peers=["scikit-learn"], repeat=1, memory=False)
>>> comparison.same_answer("cpu:numpy"), comparison.same_answer("scikit-learn")
(True, True)
"""

from ._comparison import DeviceComparison
from ._contest import STAGES
from ._figures import Crossover
from ._peers import OURS, PEERS
from ._rows import Shape
from ._run import compare_devices

PEER_NAMES = tuple(peer.name for peer in PEERS if peer.name != OURS)

__all__ = ["PEER_NAMES", "STAGES", "Crossover", "DeviceComparison", "Shape", "compare_devices"]
