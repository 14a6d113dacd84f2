"""What kernels compute with, as Numba values: vectors, pointers, records, atomic operations."""
