"""K-means on a CUDA device when there is one, on the CPU otherwise, with the same answer.

>>> from gpukmeans import KMeans
>>> KMeans(2, random_state=0).fit([[0.0], [0.1], [5.0], [5.1]]).inertia_ < 0.011
True
"""

from . import metrics
from .kmeans import KMeans, k_means, kmeans_plusplus

__version__ = "0.1.0"

__all__ = ["KMeans", "__version__", "k_means", "kmeans_plusplus", "metrics"]
