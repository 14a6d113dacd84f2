"""Building libraries of kernels ahead of their use, and the header that C programs include."""
