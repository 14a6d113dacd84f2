"""Backends: ways to compute, behind one interface."""

from fastmlp.backends.base import (
    Backend,
    Session,
    TrainingState,
    available_backends,
    backend_names,
    get_backend,
)

__all__ = [
    "Backend",
    "Session",
    "TrainingState",
    "available_backends",
    "backend_names",
    "get_backend",
]
