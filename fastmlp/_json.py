"""JSON of files that nobody vouches for."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from fastmlp._schema import shown


def read_json(text: str, *, finite: bool = False) -> Any:
    """Return what a text of JSON says.

    Parameters
    ----------
    text : str
    finite : bool, default False
        Whether NaN and infinite numbers, which JSON's standard does not know, are refused.

    Raises
    ------
    ValueError
        If it is no JSON, or a name stands twice in a mapping.
    RecursionError
        If it is nested too deeply.

    Examples
    --------
    >>> read_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
        ...
    ValueError: the name 'a' stands twice in a mapping
    """
    constant = _refused if finite else float
    return json.loads(text, object_pairs_hook=_without_twins, parse_constant=constant)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {shown(twice)} stands twice in a mapping")
    return made


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
