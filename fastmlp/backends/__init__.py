"""Backends: ways to compute, behind one interface."""

from fastmlp.backends.base import (
    Backend,
    Session,
    TrainingState,
    available_backends,
    backend_names,
    get_backend,
)
from fastmlp.backends.data_parallel import DataParallel

__all__ = [
    "Backend",
    "DataParallel",
    "Session",
    "TrainingState",
    "available_backends",
    "backend_names",
    "get_backend",
]
