"""What was measured where: processor, cores, versions and BLAS."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

_PACKAGES = (
    "fastmlp",
    "numpy",
    "numba",
    "scikit-learn",
    "torch",
    "jax",
    "onnxruntime",
)


def environment() -> dict[str, str]:
    """Return the machine, the date and the versions that a measurement holds for.

    Examples
    --------
    >>> sorted(environment())[:3]
    ['BLAS', 'Python', 'cores']
    """
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": str(usable_cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "BLAS": _blas(),
        **_versions(),
    }


def usable_cores() -> int:
    """Return the number of cores that this process may run on.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}{_vectors()}"
    return (platform.processor() or platform.machine()) + _vectors()


def _vectors() -> str:
    try:
        from fastmlp.backends.numba_backend.machine import VECTORS
    except ImportError:
        return ""
    try:
        from llvmlite import binding
    except ImportError:  # kernels came compiled
        return f" ({VECTORS})"
    return f" ({binding.get_host_cpu_name()}, {VECTORS})"


def _blas() -> str:
    blas = np.show_config("dicts")["Build Dependencies"]["blas"]
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
