"""Checks of arguments that every room shares: one clear sentence for each bad value."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def listing(names: Any) -> str:
    """Return the names quoted and joined by commas, for an error message."""
    return ", ".join(repr(name) for name in names)


def plain(name: str) -> str:
    """Return a name as it is compared: without case, and with letters and digits alone."""
    return "".join(character for character in name.lower() if character.isalnum())


class Vocabulary(Mapping[str, T]):
    """Descriptions by name, which also answer to the names that people know from elsewhere.

    Upper and lower case, underscores, hyphens and spaces make no difference.

    Parameters
    ----------
    named : mapping of str to description
        In the order in which they are listed.
    aliases : mapping of str to names, optional
        What scikit-learn, Keras or PyTorch call the description of that name.
    """

    def __init__(
        self, named: Mapping[str, T], aliases: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self._named = dict(named)
        #: Every name as it is compared, with the name that it stands for and as it is written.
        self._known = {plain(name): (name, name) for name in named}
        for name, others in (aliases or {}).items():
            self._known.update({plain(other): (name, other) for other in others})

    def __getitem__(self, name: str) -> T:
        if not isinstance(name, str) or plain(name) not in self._known:
            raise KeyError(name)
        return self._named[self._known[plain(name)][0]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def nearest(self, name: str) -> str | None:
        """Return the name that a typo may stand for."""
        found = nearest(plain(name), self._known)
        return None if found is None else self._known[found][1]


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of the names that a typo may stand for; None if none is near."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(names), n=1, cutoff=0.7)), None)


def hint(near: str | None) -> str:
    """Return the question whether the nearest name is meant, for an error message."""
    return "" if near is None else f"did you mean {near!r}? Otherwise, "


def choose(value: object, kind: type[T], named: Vocabulary[T], what: str) -> T:
    """Return the description that a name or an instance stands for.

    Parameters
    ----------
    value : str or instance of `kind`
    kind : type
        The class that instances must have.
    named : Vocabulary
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
        near = hint(named.nearest(value))
        raise ValueError(f"unknown {what} {value!r}; {near}choose one of {listing(named)}")
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


def boolean(value: object, what: str) -> bool:
    """Return `value`, which is True or False, as Python's own.

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{what} must be True or False, got {value!r}")


def text(value: object, what: str) -> str:
    """Return `value` as Python's own string.

    Raises
    ------
    TypeError
        If it is no string.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, got {value!r}")
    return str(value)


def not_masked(values: object, what: str) -> None:
    """Raise ValueError if an array is masked somewhere: what lies below a mask means nothing."""
    masked = sys.modules.get("numpy.ma")  # not imported: nobody has made such an array
    if masked is None:
        return
    # NumPy drops the masks of rows in a list.
    rows = values if isinstance(values, list | tuple) else (values,)
    if any(isinstance(row, masked.MaskedArray) and masked.is_masked(row) for row in rows):
        raise ValueError(f"{what} has masked values; fill them, or leave out their rows")


#: By which attribute tables are known that others hold or are yet to be computed, what brings
#: their rows, and what applies a function part by part.
_LAZY = {
    "__dask_graph__": ("compute", "map_blocks or map_partitions"),
    "mapInPandas": ("toPandas", "mapInPandas"),
    "collect": ("collect", None),
    "map_batches": ("to_pandas", "map_batches"),
}


def in_memory(values: object, what: str) -> None:
    """Raise TypeError for a table of Dask, Ray, Spark or polars whose rows are not here.

    NumPy would bring all of them without being asked, or take the table for a single value.
    """
    if values is None or isinstance(values, np.ndarray | list | tuple):
        return
    for sign, (brings, maps) in _LAZY.items():
        method = getattr(values, sign, None)
        if not callable(method) or (sign == "__dask_graph__" and method() is None):
            continue
        kind = f"{type(values).__module__.partition('.')[0]} {type(values).__name__}"
        parts = f", or predict part by part, with {maps}" if maps and what == "X" else ""
        raise TypeError(f"{what} is a {kind}, which holds no rows yet: {brings}() it{parts}")


def mode(value: object) -> str:
    """Return whether less or more of a metric is better, as a user may say it.

    Raises
    ------
    ValueError
        If it is none of "auto", "min" and "max".
    """
    if not isinstance(value, str) or value not in ("auto", "min", "max"):
        raise ValueError(f"mode must be 'auto', 'min' or 'max', got {value!r}")
    return str(value)
