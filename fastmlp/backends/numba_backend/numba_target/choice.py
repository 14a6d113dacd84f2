"""Which of two ways compiles programs."""

from __future__ import annotations

import importlib

from fastmlp import _checks

COMPILERS = ("lean", "numba")


def check_name(wanted: str | None) -> str | None:
    """Return a name of `COMPILERS`, or None for none.

    Raises
    ------
    ValueError
        If there is no compiler of that name.

    Examples
    --------
    >>> check_name("numba")
    'numba'
    """
    if wanted is not None and wanted not in COMPILERS:
        choices = _checks.listing(COMPILERS)
        raise ValueError(f"FASTMLP_COMPILER must be one of {choices}, got {wanted!r}")
    return wanted


def choose_compiler(wanted: str | None) -> str:
    """Return how programs are compiled.

    Parameters
    ----------
    wanted : str or None
        A name of `COMPILERS`; None for the first that this Numba can serve.

    Examples
    --------
    >>> choose_compiler("numba")
    'numba'
    """
    return wanted or ("lean" if _has_known_insides() else "numba")


def _has_known_insides() -> bool:
    """Return whether this Numba has all the names that compiling on an own target needs."""
    try:
        importlib.import_module("fastmlp.backends.numba_backend.numba_target.lean")
    except ImportError:
        return False
    return True
