"""All programs of one dtype for one level, compiled to objects.

Run as a program, because how high tiles are is settled once a process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.backends.numba_backend.ahead.sizes import SIZES
from fastmlp.backends.numba_backend.compiled import PROGRAMS
from fastmlp.backends.numba_backend.prebuilt import SUFFIXES
from fastmlp.backends.numba_backend.processor import LEVELS
from fastmlp.backends.numba_backend.programs.arguments import addresses_of


def functions_of(dtype: np.dtype[Any]) -> dict[str, Callable[..., Any]]:
    """Return what a library has for a dtype, by the names that C calls it.

    Examples
    --------
    >>> "fastmlp_train_f32" in functions_of(np.dtype("float32"))
    True
    """
    suffix = SUFFIXES[dtype.name]
    named = {f"fastmlp_{name}_{suffix}": program for name, program in PROGRAMS.items()}
    if dtype == np.float32:  # once: numbers of elements, the same for all dtypes
        named |= {f"fastmlp_{name}": size for name, size in SIZES.items()}
    return named


def main(level: str, dtype: str, folder: str) -> None:
    """Write an object for each program into a folder.

    Parameters
    ----------
    level : str
    dtype : str
    folder : str
    """
    from fastmlp.backends.numba_backend.numba_target.foreign_functions import compile_object

    for name, function in functions_of(np.dtype(dtype)).items():
        arguments = addresses_of(function, np.dtype(dtype))
        code = compile_object(function, arguments, name, LEVELS[level])
        Path(folder, f"{name}.o").write_bytes(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
