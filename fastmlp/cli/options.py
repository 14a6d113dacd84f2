"""Words of the command line: plain numbers, and names with parameters."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from fastmlp import _checks
from fastmlp.datasets.cells import is_number

T = TypeVar("T")


def whole_number(text: str) -> int:
    """Return the whole number that a word plainly is; ``int`` also takes 1_0 and other scripts.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.

    Examples
    --------
    >>> whole_number("-12")
    -12
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not plainly a whole number")
    return int(text)


def number(text: str) -> float:
    """Return the finite number that a word plainly is.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.

    Examples
    --------
    >>> number("1e-3")
    0.001
    """
    if "," in text or not is_number(text) or math.isinf(value := float(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not plainly a number")
    return value


def described(
    option: str, words: Sequence[str], named: _checks.Vocabulary[T], given: dict[str, Any]
) -> T:
    """Return the description of a name, with the parameters that follow it.

    Parameters
    ----------
    option : str
        For messages, such as "--schedule".
    words : sequence of str
        A name, and parameters as ``name=value``.
    named : Vocabulary
    given : dict
        Parameters that options of their own set; None where they do not.

    Raises
    ------
    ValueError
        If a name, a parameter or its value is unknown.

    Examples
    --------
    >>> from fastmlp.schedules import SCHEDULES
    >>> described("--schedule", ["step", "epochs=5"], SCHEDULES, {})
    StepDecay(epochs=5, factor=0.1)
    """
    name, *pairs = words
    if name not in named:
        near = _checks.hint(named.nearest(name))
        raise ValueError(f"{option}: unknown name {name!r}; {near}choose one of {', '.join(named)}")
    found: Any = named[name]
    parameters = {name: value for name, value in given.items() if value is not None}
    for pair in pairs:
        parameter, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{option} wants PARAMETER=VALUE behind {name}, got {pair!r}")
        parameters[parameter] = _value(value)
    # A description within a description has no words.
    known = [field.name for field in fields(found) if "kind" not in field.metadata]
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(
                f"{option} {name} has no {parameter.replace('_', ' ')}; "
                f"its parameters are {', '.join(known) or 'none'}"
            )
    try:
        made: T = replace(found, **parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{option} {name}: {error}") from None
    return made


def _value(text: str) -> Any:
    """Return a truth value, a number, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (whole_number, number):
        try:
            return kind(text)
        except argparse.ArgumentTypeError:
            continue
    return text
