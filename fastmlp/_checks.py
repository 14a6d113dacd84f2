"""Checks of arguments that every room shares: one clear sentence for each bad value."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

T = TypeVar("T")


def listing(names: Any) -> str:
    """Return the names quoted and joined by commas, for an error message."""
    return ", ".join(repr(name) for name in names)


def choose(value: object, kind: type[T], named: Mapping[str, T], what: str) -> T:
    """Return the description that a name or an instance stands for.

    Parameters
    ----------
    value : str or instance of `kind`
    kind : type
        The class that instances must have.
    named : mapping of str to instance
        The closed vocabulary of names.
    what : str
        What is chosen, for the message.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If the value is neither a name nor an instance.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        if value in named:
            return named[value]
        raise ValueError(f"unknown {what} {value!r}; choose one of {listing(named)}")
    raise TypeError(
        f"{what} must be a name ({listing(named)}) or a {kind.__name__} instance, got {value!r}"
    )


def real(
    value: object,
    what: str,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> float:
    """Return `value` as a finite float inside the stated range.

    Raises
    ------
    TypeError
        If the value is not a real number.
    ValueError
        If it is not finite or lies outside the range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{what} must be a number, got {value!r}")
    number = float(value)
    if math.isfinite(number) and above < number < below and at_least <= number <= at_most:
        return number
    bounds = [
        (above, "greater than"),
        (at_least, "at least"),
        (below, "less than"),
        (at_most, "at most"),
    ]
    wanted = " and ".join(f"{word} {bound:g}" for bound, word in bounds if math.isfinite(bound))
    raise ValueError(f"{what} must be {wanted or 'finite'}, got {value!r}")


def integer(value: object, what: str, *, at_least: int) -> int:
    """Return `value` as an int of at least `at_least`.

    Raises
    ------
    TypeError
        If the value is not an integer.
    ValueError
        If it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{what} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{what} must be at least {at_least}, got {value!r}")
    return int(value)


def not_masked(values: object, what: str) -> None:
    """Raise ValueError if an array is masked somewhere: what lies below a mask means nothing."""
    masked = sys.modules.get("numpy.ma")  # not imported: nobody has made such an array
    if masked is not None and isinstance(values, masked.MaskedArray) and masked.is_masked(values):
        raise ValueError(f"{what} has masked values; fill them, or leave out their rows")
