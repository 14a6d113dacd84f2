"""Descriptions of plain content, such as JSON holds, and of arrays: what is allowed where.

Every description is a small frozen object. Its `check` raises a ValueError that says where the
content differs, what was seen and what is allowed; its `allowed` says the last in words.
"""

from __future__ import annotations

import math
import reprlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Characters of a name that a message shows.
_MOST_NAME = 100


@dataclass(frozen=True)
class Kind(ABC):
    """What is allowed in one place."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What is allowed, in words."""

    @abstractmethod
    def accepts(self, value: Any) -> bool:
        """Return whether a value is allowed, but for what is inside it."""

    def check(self, value: Any, where: str = "content") -> None:
        """Raise ValueError unless the value, and all inside it, is allowed."""
        if not self.accepts(value):
            raise ValueError(f"{where} is {shown(value)}, but must be {self.allowed}")


@dataclass(frozen=True)
class Integer(Kind):
    """An integer from `least` to `most`.

    Examples
    --------
    >>> Integer(0).check(-1, "step")
    Traceback (most recent call last):
        ...
    ValueError: step is -1, but must be an integer of at least 0
    """

    least: int = 0
    most: int | None = None
    odd: bool = False

    @property
    def allowed(self) -> str:
        kind = "an odd integer" if self.odd else "an integer"
        if self.most is None:
            return f"{kind} of at least {self.least}"
        return f"{kind} from {self.least} to {self.most}"

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        in_range = self.least <= value and (self.most is None or value <= self.most)
        return in_range and not (self.odd and value % 2 == 0)


@dataclass(frozen=True)
class Number(Kind):
    """A number from `least` to `most`, neither NaN nor, unless said so, infinite.

    Examples
    --------
    >>> Number().check(1.5)
    """

    least: float = -math.inf
    most: float = math.inf
    infinite: bool = False
    nan: bool = False

    @property
    def allowed(self) -> str:
        kind = "a number" if self.infinite or self.nan else "a finite number"
        if self.most < math.inf:
            return f"{kind} from {self.least:g} to {self.most:g}"
        return kind if self.least == -math.inf else f"{kind} of at least {self.least:g}"

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if value != value:
            return self.nan
        # Python's integers go beyond what a float can hold.
        finite = abs(value) <= sys.float_info.max
        may_be = finite or (self.infinite and isinstance(value, float))
        return may_be and self.least <= value <= self.most


@dataclass(frozen=True)
class Truth(Kind):
    """A truth value.

    Examples
    --------
    >>> Truth().accepts(False), Truth().accepts(0)
    (True, False)
    """

    @property
    def allowed(self) -> str:
        return "a truth value"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Exactly(Kind):
    """One value.

    Examples
    --------
    >>> Exactly("PCG64").allowed
    "'PCG64'"
    """

    value: Any

    @property
    def allowed(self) -> str:
        return repr(self.value)

    def accepts(self, value: Any) -> bool:
        return type(value) is type(self.value) and value == self.value


@dataclass(frozen=True)
class Maybe(Kind):
    """What another description allows, or None.

    Examples
    --------
    >>> Maybe(Integer()).allowed
    'None or an integer of at least 0'
    """

    kind: Kind

    @property
    def allowed(self) -> str:
        return f"None or {self.kind.allowed}"

    def accepts(self, value: Any) -> bool:
        return value is None or self.kind.accepts(value)

    def check(self, value: Any, where: str = "content") -> None:
        super().check(value, where)
        if value is not None:
            self.kind.check(value, where)


@dataclass(frozen=True)
class Text(Kind):
    """Text that can be printed: no half of a pair of surrogates.

    Examples
    --------
    >>> Text().check(3, "name")
    Traceback (most recent call last):
        ...
    ValueError: name is 3, but must be text
    """

    @property
    def allowed(self) -> str:
        return "text"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


@dataclass(frozen=True)
class OneOf(Kind):
    """One of some words.

    Examples
    --------
    >>> OneOf(("float32", "float64")).allowed
    "one of 'float32', 'float64'"
    """

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(map(repr, self.words))}"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words


@dataclass(frozen=True)
class Scalar(Kind):
    """Text, a truth value or a finite number.

    Examples
    --------
    >>> Scalar().accepts("a"), Scalar().accepts(math.inf)
    (True, False)
    """

    @property
    def allowed(self) -> str:
        return "text, a truth value or a finite number"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool) or Number().accepts(value) or Text().accepts(value)


@dataclass(frozen=True)
class Floats(Kind):
    """An array of one shape and dtype without NaN, and without infinite values unless said so.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    infinite : bool, default False
    not_negative : tuple of int, default ()
        Rows that are never below 0.

    Examples
    --------
    >>> Floats((2,), np.dtype("float32")).check(np.zeros(2))
    Traceback (most recent call last):
        ...
    ValueError: content is an array of float64 and shape (2,), but must be an array of float32
    and shape (2,), all finite
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    infinite: bool = False
    not_negative: tuple[int, ...] = ()

    @property
    def allowed(self) -> str:
        rest = "without NaN" if self.infinite else "all finite"
        if self.not_negative:
            rest += f", at least 0 in rows {', '.join(map(str, self.not_negative))}"
        return f"{_array_shown(self.dtype, self.shape)}, {rest}"

    def accepts(self, value: Any) -> bool:
        return (
            isinstance(value, np.ndarray)
            and value.shape == self.shape
            and value.dtype == self.dtype
            and not np.any(np.isnan(value) if self.infinite else ~np.isfinite(value))
            and all(np.all(value[row] >= 0) for row in self.not_negative)
        )


@dataclass(frozen=True)
class Items(Kind):
    """A list, every item of one kind.

    Parameters
    ----------
    kind : Kind
    n_items : int or None, default None
        How many; None for any number.

    Examples
    --------
    >>> Items(Integer()).check([1, "2"], "sizes")
    Traceback (most recent call last):
        ...
    ValueError: sizes[1] is '2', but must be an integer of at least 0
    """

    kind: Kind
    n_items: int | None = None

    @property
    def allowed(self) -> str:
        return "a list" if self.n_items is None else f"a list of {self.n_items}"

    def accepts(self, value: Any) -> bool:
        fits = isinstance(value, list | tuple)
        return fits and self.n_items in (None, len(value))

    def check(self, value: Any, where: str = "content") -> None:
        super().check(value, where)
        for i, item in enumerate(value):
            self.kind.check(item, f"{where}[{i}]")


@dataclass(frozen=True)
class Texts(Kind):
    """A list of so many strings.

    Examples
    --------
    >>> Texts(2).check(["a"], "names")
    Traceback (most recent call last):
        ...
    ValueError: names is ['a'], but must be a list of 2 strings
    """

    length: int

    @property
    def allowed(self) -> str:
        return f"a list of {self.length} strings"

    def accepts(self, value: Any) -> bool:
        is_list = isinstance(value, list) and len(value) == self.length
        return is_list and all(isinstance(text, str) for text in value)


@dataclass(frozen=True)
class Fields(Kind):
    """A mapping from names to what each name is to hold.

    Parameters
    ----------
    fields : mapping of str to Kind
        All must be there.
    others : Kind, optional
        What further names may hold. Default: there may be none.

    Examples
    --------
    >>> Fields({"step": Integer()}).check({}, "state")
    Traceback (most recent call last):
        ...
    ValueError: state has no 'step', which must be an integer of at least 0
    """

    fields: Mapping[str, Kind] = field(default_factory=dict)
    others: Kind | None = None

    @property
    def allowed(self) -> str:
        return f"a mapping that holds {', '.join(self.fields)}" if self.fields else "a mapping"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)

    def check(self, value: Any, where: str = "content") -> None:
        super().check(value, where)
        for name, kind in self.fields.items():
            if name not in value:
                raise ValueError(f"{where} has no {name!r}, which must be {kind.allowed}")
        for name, item in value.items():
            kind_of_name = self.fields.get(name, self.others)
            if kind_of_name is None:
                known = ", ".join(map(repr, self.fields))
                raise ValueError(
                    f"{where} has {shown(name)}, but may hold only {known or 'nothing'}"
                )
            kind_of_name.check(item, f"{where}.{name[:_MOST_NAME]}")


@dataclass(frozen=True)
class Anything(Kind):
    """Whatever a file can hold.

    Examples
    --------
    >>> Anything().check([None, {"x": np.zeros(3)}])
    """

    @property
    def allowed(self) -> str:
        return "anything"

    def accepts(self, value: Any) -> bool:
        return True


def shown(value: Any) -> str:
    """Return a value as a message shows it: shortly.

    Examples
    --------
    >>> shown(np.zeros((2, 3)))
    'an array of float64 and shape (2, 3)'
    """
    if isinstance(value, np.ndarray):
        text = _array_shown(value.dtype, value.shape)
        if value.dtype.kind == "f" and not np.all(np.isfinite(value)):
            text += " with NaN" if np.any(np.isnan(value)) else " with infinite values"
        return text
    return reprlib.repr(value)


def _array_shown(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"an array of {dtype} and shape {shape}"
