"""The Numba backend: vectors, tiles, threads and whole epochs as compiled programs."""

from fastmlp.backends.numba_backend.session import NumbaBackend

__all__ = ["NumbaBackend"]
