"""The compiled backend: whole epochs in SIMD kernels, jitted by Numba."""
