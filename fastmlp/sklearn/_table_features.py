"""What a column of a table becomes for a network: columns of numbers of one scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fastmlp._schema import Anything, Fields, Items, Number, OneOf, Scalar, Text, Truth, shown
from fastmlp.sklearn._table_columns import Column, unexpected

Array = NDArray[Any]

_DAY = 86_400 * 10**6  # in microseconds
#: A smooth clip gives 3 for all beyond, which may be infinite.
_MOST = 1e9


@dataclass(frozen=True)
class Scaling:
    """A centre and a width of every column, and the smooth clip.

    The preprocessing of RealMLP (Holzmüller, Grinsztajn and Steinwart 2024,
    https://arxiv.org/abs/2407.04491, section 3): the width is from the first to the third quartile,
    where these are one it is half the range, and a column without any is 0.

    Parameters
    ----------
    center, width : ndarray of float64 and shape (n_columns,)

    Examples
    --------
    >>> scaling = Scaling.of(np.array([[1.0], [2.0], [3.0]]))
    >>> scaling.center, scaling.width
    (array([2.]), array([1.]))
    >>> scaling.apply(np.array([[5.0], [np.nan]]))
    array([[2.12132034],
           [0.        ]])
    """

    center: Array
    width: Array

    @classmethod
    def of(cls, rows: Array, counts: Array | None = None) -> Self:
        """Return the scaling that fits these rows.

        Parameters
        ----------
        rows : ndarray of float64 and shape (n_rows, n_columns)
            NaN where a value is missing; it counts for nothing, but not all of a column are.
        counts : ndarray of int and shape (n_rows,), optional
            How often there is each row. Default: once.
        """
        fits = np.array([_center_and_width(column, counts) for column in rows.T])
        return cls(*fits.reshape(-1, 2).T)

    def apply(self, rows: Array) -> Array:
        """Return rows at this scale, 0 where a value is missing."""
        constant = self.width == 0
        with np.errstate(over="ignore"):
            scaled = (rows - self.center) / np.where(constant, 1.0, self.width)
        scaled[:, constant] = 0
        scaled[np.isnan(scaled)] = 0
        np.clip(scaled, -_MOST, _MOST, out=scaled)
        return scaled / np.sqrt(1 + (scaled / 3) ** 2)


def _center_and_width(column: Array, counts: Array | None) -> tuple[float, float]:
    there = ~np.isnan(column)
    if counts is not None:
        there &= counts > 0
    low, first, median, third, high = (
        np.quantile(column[there], (0, 0.25, 0.5, 0.75, 1))
        if counts is None
        else _quantiles(column[there], counts[there])
    )
    return float(median), float(third - first if third > first else (high - low) / 2)


def _quantiles(values: Array, counts: Array) -> Array:
    """Return least, quartiles and greatest of values of which there are so many each."""
    order = np.argsort(values)
    values, ends = values[order], np.cumsum(counts[order])
    place = (ends[-1] - 1) * np.array((0, 0.25, 0.5, 0.75, 1))
    below, above = (
        values[np.searchsorted(ends, of, side="right")] for of in (np.floor(place), np.ceil(place))
    )
    return below + (above - below) * (place - np.floor(place))


@dataclass(frozen=True)
class Feature(ABC):
    """A column of a table, as it was learned from training data."""

    #: What files call it.
    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def of(cls, column: Column, max_categories: int) -> Self:
        """Return the feature that a column is."""

    @property
    @abstractmethod
    def suffixes(self) -> list[str]:
        """What the names of its columns of numbers add to its name."""

    @abstractmethod
    def states(self, column: Column) -> tuple[Array, Array | None]:
        """Return rows of numbers before they are scaled, and which of them each row is.

        Returns
        -------
        rows : ndarray of float64 and shape (n_states, n_columns)
            NaN where a value is missing.
        index : ndarray of int and shape (n_rows,) or None
            None: the rows themselves.

        Raises
        ------
        ColumnError
            If a value is of another kind than in training, or infinite.
        """

    def check(self, where: str) -> None:  # noqa: B027
        """Raise ValueError, with the place in a file, if it is none that `of` could make."""


@dataclass(frozen=True)
class EmptyFeature(Feature):
    """A column that had no values: it is 0, whatever it holds later."""

    kind = "empty"

    @classmethod
    def of(cls, column: Column, max_categories: int) -> Self:
        return cls()

    @property
    def suffixes(self) -> list[str]:
        return [""]

    def states(self, column: Column) -> tuple[Array, Array | None]:
        return np.zeros((len(column.missing), 1)), None


@dataclass(frozen=True)
class NumberFeature(Feature):
    """Numbers, and where they are missing.

    Parameters
    ----------
    missing : bool
        Whether values were missing in training: only then a column says where they are.
    """

    kind = "number"
    missing: bool

    @classmethod
    def of(cls, column: Column, max_categories: int) -> Self:
        return cls(bool(column.missing.any()))

    @property
    def suffixes(self) -> list[str]:
        return ["", "=missing"] if self.missing else [""]

    def states(self, column: Column) -> tuple[Array, Array | None]:
        values = [self._values(column)]
        if self.missing:
            values.append(column.missing.astype(np.float64))
        return np.column_stack(values), None

    def _values(self, column: Column) -> Array:
        return column.numbers()


class DurationFeature(NumberFeature):
    """Lengths of time, or times of the day, in seconds."""

    kind = "duration"

    def _values(self, column: Column) -> Array:
        return column.seconds()


def _of_year(clock: Array) -> Array:
    moment = clock.astype("datetime64[us]")
    year = moment.astype("datetime64[Y]")
    start, end = (one.astype("datetime64[us]") for one in (year, year + 1))
    return (moment - start) / (end - start)


def _of_week(clock: Array) -> Array:
    return (clock // _DAY + 3) % 7 / 7  # 1970 began on a Thursday


def _of_day(clock: Array) -> Array:
    return clock % _DAY / _DAY


#: What comes again, and how much of it has passed, from 0 to 1, at microseconds of a clock.
_TURNS = {"year": _of_year, "weekday": _of_week, "hour": _of_day}


@dataclass(frozen=True)
class TimeFeature(Feature):
    """Moments in time: seconds since 1970, and sine and cosine of what comes again.

    Parameters
    ----------
    turns : tuple of str
        Of "year", "weekday" and "hour".
    missing : bool
        Whether values were missing in training.
    """

    kind = "time"
    turns: tuple[str, ...]
    missing: bool

    @classmethod
    def of(cls, column: Column, max_categories: int) -> Self:
        clock = column.moments()[1][~column.missing]
        span = clock.max() - clock.min()
        varies = {
            "year": span > 365 * _DAY,
            "weekday": span > 7 * _DAY,
            "hour": bool(np.any(clock % _DAY)),
        }
        return cls(tuple(turn for turn in _TURNS if varies[turn]), bool(column.missing.any()))

    @property
    def suffixes(self) -> list[str]:
        turns = [f"={turn}_{wave}" for turn in self.turns for wave in ("sin", "cos")]
        return ["=time", *turns, *(["=missing"] if self.missing else [])]

    def check(self, where: str) -> None:
        if self.turns != tuple(turn for turn in _TURNS if turn in self.turns):
            raise ValueError(f"{where}.turns is {shown(list(self.turns))}: twice, or out of order")

    def states(self, column: Column) -> tuple[Array, Array | None]:
        instants, clock = column.moments()
        columns = [instants / 1e6]
        for turn in self.turns:
            angle = 2 * np.pi * _TURNS[turn](clock)
            columns += [np.sin(angle), np.cos(angle)]
        rows = np.column_stack(columns)
        rows[column.missing] = np.nan
        if self.missing:
            rows = np.column_stack([rows, column.missing])
        return rows, None


@dataclass(frozen=True)
class CategoryFeature(Feature):
    """Categories: one column of 0 and 1 for each; two are one column of -1 and 1.

    A missing or unknown category is 0 in all of them.

    Parameters
    ----------
    categories : tuple
        Text, numbers and truth values, in order.
    """

    kind = "category"
    categories: tuple[Any, ...]

    @classmethod
    def of(cls, column: Column, max_categories: int) -> Self:
        codes, distinct = column.categories()
        counts: dict[tuple[str, Any], int] = {}
        found = np.bincount(codes[codes >= 0], minlength=len(distinct)).tolist()
        for category, count in zip(distinct, found, strict=True):
            counts[_key(category)] = counts.get(_key(category), 0) + count
        known = sorted(key for key, count in counts.items() if count)
        kept = sorted(known, key=lambda key: -counts[key])[:max_categories]
        return cls(tuple(category for _, category in sorted(kept)))

    @property
    def suffixes(self) -> list[str]:
        several = len(set(map(_sort, self.categories))) > 1
        names = [f"={one!r}" if several else f"={one}" for one in self.categories]
        return names[1:] if len(names) == 2 else names

    def states(self, column: Column) -> tuple[Array, Array | None]:
        codes, distinct = column.categories()
        self._check_sorts(codes, distinct)
        places = {_key(category): i for i, category in enumerate(self.categories)}
        unknown = len(self.categories)
        index = np.array([places.get(_key(one), unknown) for one in distinct] + [unknown])[codes]
        if unknown == 2:
            return np.array([[-1.0], [1.0], [0.0]]), index
        return np.vstack([np.eye(unknown), np.zeros(unknown)]), index

    def check(self, where: str) -> None:
        keys = list(map(_key, self.categories))
        if not keys or keys != sorted(set(keys)):
            raise ValueError(f"{where}.categories are none, out of order, or one stands twice")

    def _check_sorts(self, codes: Array, distinct: Sequence[Any]) -> None:
        """Raise ColumnError where there are numbers, but never were, and the like."""
        known = set(map(_sort, self.categories))
        strange = np.array([_sort(one) not in known for one in distinct] + [False])[codes]
        if strange.any():
            row = int(np.argmax(strange))
            raise unexpected(distinct[codes[row]], row, " and ".join(sorted(known)))


def _sort(category: Any) -> str:
    if isinstance(category, str):
        return "text"
    return "truth values" if isinstance(category, bool) else "numbers"


def _key(category: Any) -> tuple[str, Any]:
    """Return what only equal categories of one sort share: 1 is no True."""
    return _sort(category), category


_KINDS: dict[str, type[Feature]] = {
    one.kind: one
    for one in (EmptyFeature, NumberFeature, DurationFeature, TimeFeature, CategoryFeature)
}
_SCALED = {"kind": Text(), "center": Items(Number()), "width": Items(Number(least=0))}
_SCHEMAS = {
    "empty": Fields(_SCALED),
    "number": Fields(_SCALED | {"missing": Truth()}),
    "duration": Fields(_SCALED | {"missing": Truth()}),
    "time": Fields(_SCALED | {"turns": Items(OneOf(tuple(_TURNS))), "missing": Truth()}),
    "category": Fields(_SCALED | {"categories": Items(Scalar())}),
}


@dataclass(frozen=True)
class ScaledFeature:
    """A column of a table, and the scale of what it becomes.

    Parameters
    ----------
    feature : Feature
    scaling : Scaling
    """

    feature: Feature
    scaling: Scaling

    @classmethod
    def of(cls, column: Column, max_categories: int, *, is_category: bool) -> Self:
        """Return what a column of training data is.

        Parameters
        ----------
        column : Column
        max_categories : int
            The most frequent are kept.
        is_category : bool
            Whether it holds categories, whatever it looks like.
        """
        kind = "category" if is_category else column.kind
        kind = "empty" if column.missing.all() else kind
        feature = _KINDS[kind].of(column, max_categories)
        rows, index = feature.states(column)
        counts = None if index is None else np.bincount(index, minlength=len(rows))
        return cls(feature, Scaling.of(rows, counts))

    @property
    def suffixes(self) -> list[str]:
        """What the names of its columns of numbers add to its name."""
        return self.feature.suffixes

    def encode(self, column: Column, out: Array) -> None:
        """Write a column as columns of numbers into `out`."""
        rows, index = self.feature.states(column)
        scaled = self.scaling.apply(rows)
        out[...] = scaled if index is None else scaled.astype(out.dtype)[index]

    def to_plain(self) -> dict[str, Any]:
        """Return it as values that a file can hold."""
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self.feature).items()
        }
        scale = {"center": self.scaling.center.tolist(), "width": self.scaling.width.tolist()}
        return {"kind": self.feature.kind, **plain, **scale}

    @classmethod
    def of_plain(cls, content: Mapping[str, Any], where: str) -> Self:
        """Return what `to_plain` described.

        Raises
        ------
        ValueError
            If it does not hang together.
        """
        Fields({"kind": OneOf(tuple(_KINDS))}, Anything()).check(content, where)
        _SCHEMAS[content["kind"]].check(content, where)
        feature = _KINDS[content["kind"]](
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in content.items()
                if name not in _SCALED
            }
        )
        feature.check(where)
        for name in ("center", "width"):
            Items(Number(), len(feature.suffixes)).check(content[name], f"{where}.{name}")
        return cls(
            feature,
            Scaling(*(np.array(content[name], dtype=np.float64) for name in ("center", "width"))),
        )
