"""Data sets for examples, tests and benchmarks, split into training and test data."""

from fastmlp.datasets.digits import load_digits
from fastmlp.datasets.mnist import load_fashion_mnist, load_mnist

__all__ = ["load_digits", "load_mnist", "load_fashion_mnist"]
