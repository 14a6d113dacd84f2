"""Settings in a form that a file can hold, compared by value, and made again from it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from fastmlp._schema import Anything, Fields, Kind, OneOf, Scalar, shown


def described(thing: Any) -> Any:
    """Return a setting in a form that a file can hold, and that compares by value.

    A description of the vocabulary becomes a mapping of its fields, with its class as ``kind``;
    functions, which cannot be compared, are left out. Mappings become sorted pairs.

    Examples
    --------
    >>> from fastmlp.optimizers import SGD
    >>> described(SGD(np.float64(0.5)))["learning_rate"], described({1: 2.0, 0: 1.0})
    (0.5, [[0, 1.0], [1, 2.0]])
    """
    if is_dataclass(thing):
        values = {item.name: getattr(thing, item.name) for item in fields(thing)}
        kept = {name: described(item) for name, item in values.items() if not callable(item)}
        return {"kind": type(thing).__name__, **kept}
    if isinstance(thing, Mapping):
        pairs = [[own_scalar(key), described(item)] for key, item in thing.items()]
        return sorted(pairs, key=lambda pair: (str(type(pair[0])), pair[0]))
    if isinstance(thing, list | tuple | np.ndarray):
        return [described(item) for item in thing]
    scalar = own_scalar(thing)
    is_plain = scalar is None or isinstance(scalar, str | bool | int | float)
    return scalar if is_plain else repr(scalar)


def recreated(description: Any, kinds: Mapping[str, type], where: str = "content") -> Any:
    """Return the object that `described` described, if its class is one of `kinds`.

    Nothing is looked up by a name but in `kinds`, and a field's metadata, whose ``kind`` is the
    class of the description that the field may be. Fields that the description lacks have their
    defaults; lists become tuples.

    Parameters
    ----------
    description : mapping
        From a file that nobody vouches for.
    kinds : mapping of str to type
        Frozen dataclasses of plain fields that check themselves.
    where : str
        The place in the file, for the message.

    Raises
    ------
    ValueError
        If the description is none of such an object.

    Examples
    --------
    >>> from fastmlp.optimizers import SGD
    >>> recreated({"kind": "SGD", "learning_rate": 0.5}, {"SGD": SGD}).learning_rate
    0.5
    """
    Fields({"kind": OneOf(tuple(kinds))}, Anything()).check(description, where)
    kind = kinds[description["kind"]]
    known = {item.name: item for item in fields(kind)}
    given = {}
    for name, value in description.items():
        if name == "kind":
            continue
        if name not in known:
            raise ValueError(f"{where} has {shown(name)}, which no {kind.__name__} has")
        given[name] = _field_value(known[name], value, f"{where}.{name}")
    try:
        return kind(**given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where} is no {kind.__name__}: {error}") from error


def _field_value(item: Field[Any], value: Any, where: str) -> Any:
    """Return what a description's field is made of, which may be one description more."""
    inner = item.metadata.get("kind")
    if inner is not None and isinstance(value, dict):
        return recreated(value, {inner.__name__: inner}, where)
    _Setting(is_truth=isinstance(item.default, bool)).check(value, where)
    return _as_tuples(value)


@dataclass(frozen=True)
class _Setting(Kind):
    """A plain value of a description's field."""

    is_truth: bool

    @property
    def allowed(self) -> str:
        return "a truth value" if self.is_truth else "None, text, a finite number, or a list"

    def accepts(self, value: Any) -> bool:
        if self.is_truth or isinstance(value, bool):
            return self.is_truth and isinstance(value, bool)
        if isinstance(value, list):
            return all(self.accepts(item) for item in value)
        return value is None or Scalar().accepts(value)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def check_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise ValueError if a checkpoint is of a trainer with other settings.

    Parameters
    ----------
    theirs : mapping
        What `described` made of the settings of the trainer that wrote the file. A description's
        fields that did not exist then have their defaults.
    ours : mapping
        The settings themselves.

    Examples
    --------
    >>> check_settings({"seed": 3}, {"seed": np.int64(3)})
    >>> check_settings({"seed": 3}, {"seed": 4})
    Traceback (most recent call last):
        ...
    ValueError: was saved with seed 3, but this trainer has 4
    """
    for name, setting in ours.items():
        wanted = described(setting)
        seen = _completed(theirs[name], setting)
        if seen != wanted:
            raise ValueError(
                f"was saved with {name} {_readable(seen)}, but this trainer has {_readable(wanted)}"
            )


def settings_of_text(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as `described` gives them, from the texts of a file of format 1.

    Raises
    ------
    ValueError
        If something is not such a text.

    Examples
    --------
    >>> settings_of_text({"optimizer": "SGD(learning_rate=0.5)", "dtype": "float32"})
    {'optimizer': {'kind': 'SGD', 'learning_rate': 0.5}, 'dtype': 'float32'}
    """
    Fields(others=Anything()).check(texts, "content.configuration")
    return {name: _of_text(text, f"content.configuration.{name}") for name, text in texts.items()}


def own_scalar(value: Any) -> Any:
    """Return Python's own number or string where `value` is one of NumPy's.

    Examples
    --------
    >>> own_scalar(np.float32(0.5)), own_scalar("text")
    (0.5, 'text')
    """
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.timedelta64):  # an integer to NumPy
        return value
    for kind, theirs in ((int, np.integer), (float, np.floating), (str, np.str_)):
        if isinstance(value, theirs):
            return kind(value)
    return value


def _of_text(text: Any, where: str) -> Any:
    if text == "custom":  # the whole text of a custom loss
        return {"kind": "CustomLoss"}
    try:
        return _of_node(ast.parse(text, mode="eval").body)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where} is {shown(text)}, but must be a setting's text") from error


def _of_node(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.List | ast.Tuple):
        return [_of_node(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return described({_of_node(k): _of_node(v) for k, v in pairs if k is not None})
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):  # np.float64(0.5)
            return ast.literal_eval(node.args[0]) if node.args else None
        return {
            "kind": _of_node(node.func),
            **{str(item.arg): _of_node(item.value) for item in node.keywords},
        }
    return ast.literal_eval(node)


def _completed(theirs: Any, ours: Any) -> Any:
    """Return `theirs` with the defaults of the fields that it lacks."""
    if is_dataclass(ours) and isinstance(theirs, dict):
        if theirs.get("kind") != type(ours).__name__:
            return theirs
        defaults = {item.name: item.default for item in fields(ours)}
        known = {name: described(v) for name, v in defaults.items() if v is not MISSING}
        return known | theirs
    if isinstance(ours, list | tuple) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [_completed(*pair) for pair in zip(theirs, ours, strict=True)]
    return theirs


def readable(thing: Any) -> str:
    """Return a setting as a person would write it: what is None is left out.

    Examples
    --------
    >>> from fastmlp.optimizers import SGD
    >>> readable(SGD(0.5))
    'SGD(learning_rate=0.5, momentum=0.0, nesterov=False, weight_decay=0.0)'
    """
    return _readable(described(thing))


def _readable(setting: Any) -> str:
    if isinstance(setting, dict) and "kind" in setting:
        items = ", ".join(
            f"{name}={_readable(item)}"
            for name, item in setting.items()
            if name != "kind" and item is not None
        )
        return f"{setting['kind']}({items})"
    if isinstance(setting, list):
        return f"[{', '.join(map(_readable, setting))}]"
    return setting if isinstance(setting, str) else shown(setting)
