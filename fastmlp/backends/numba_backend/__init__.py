"""The Numba backend: vectors, tiles, threads and whole epochs as compiled programs."""

from fastmlp.backends.numba_backend.prebuilt import check_kernels

check_kernels()

from fastmlp.backends.numba_backend.session import NumbaBackend  # noqa: E402

__all__ = ["NumbaBackend"]
