"""Starting: importing, compiling, and the first fit of a fresh process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

_FIRST_FIT = """
import time
start = time.perf_counter()
import numpy as np
from fastmlp import MLP, Trainer
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 20), dtype=np.float32), rng.integers(0, 2, 1000)
Trainer(MLP([20, 32, 2]), backend={backend!r}).fit(X, y, epochs=1, verbose=False)
print(time.perf_counter() - start)
"""
_IMPORT = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


def import_seconds(module: str) -> float:
    """Return the seconds of importing a module in a fresh process.

    Raises
    ------
    RuntimeError
        If that fails.

    Examples
    --------
    >>> import_seconds("json") < import_seconds("fastmlp") < 60
    True
    """
    return _printed(_IMPORT.format(module=module), {})


def first_fit_seconds(backend: str, *, cold: bool) -> float:
    """Return the seconds from importing fastmlp to the end of a small fit, in a fresh process.

    Parameters
    ----------
    backend : str
    cold : bool
        Whether nothing is compiled yet (an empty cache), or everything.

    Raises
    ------
    RuntimeError
        If the fit fails.

    Examples
    --------
    >>> first_fit_seconds("numpy", cold=True) > 0
    True
    """
    code = _FIRST_FIT.format(backend=backend)
    if cold:
        with tempfile.TemporaryDirectory() as folder:
            return _printed(code, {"FASTMLP_CACHE_DIR": folder})
    _printed(code, {})  # fills the cache
    return _printed(code, {})


def start_times(backends: list[str], *, cold: bool) -> dict[str, float | str]:
    """Return the seconds of importing fastmlp and of each backend's first fits, by name.

    Where that fails, the reason stands in their place.

    Examples
    --------
    >>> list(start_times(["numpy"], cold=False))
    ['import', 'first fit numpy']
    """
    measurements: dict[str, Callable[[], float]] = {"import": lambda: import_seconds("fastmlp")}
    for backend in backends:
        measurements[f"first fit {backend}"] = functools.partial(
            first_fit_seconds, backend, cold=False
        )
    if cold and "numba" in backends:
        measurements["first fit numba, compiling"] = functools.partial(
            first_fit_seconds, "numba", cold=True
        )
    times: dict[str, float | str] = {}
    for name, measurement in measurements.items():
        try:
            times[name] = measurement()
        except RuntimeError as error:
            times[name] = str(error)
    return times


def _printed(code: str, variables: dict[str, str]) -> float:
    """Return the number that a fresh Python prints last."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        check=False,
    )
    if run.returncode:
        raise RuntimeError(run.stderr.strip().rpartition("\n")[2])
    return float(run.stdout.split()[-1])
