"""CUDA and CuPy code executed on a machine without a GPU: see README.md beside this file."""
