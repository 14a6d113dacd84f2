"""Training by several processes, which share every batch and exchange gradients by MPI."""

from fastmlp.backends.data_parallel.backend import DataParallel

__all__ = ["DataParallel"]
