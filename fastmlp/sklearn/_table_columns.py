"""Columns of tables in one of four forms: numbers, categories, moments, and lengths of time.

The same values have the same form in a frame of pandas or polars and in an array of objects.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _frames
from fastmlp._schema import shown
from fastmlp._settings import own_scalar

Array = NDArray[Any]

_MICROSECONDS = 10**6  # of a second
_LARGEST = float(np.finfo(np.float64).max)
#: Numbers beyond are taken for it, so that differences are finite.
_MOST = _LARGEST / 4
_TRUTHS = (bool, np.bool_)
_INTEGERS = (int, np.integer)
_FLOATS = (float, Decimal, np.floating)
_DURATIONS = (dt.timedelta, dt.time, np.timedelta64)
_MOMENTS = (dt.date, np.datetime64)
#: What objects of a column may be.
_KNOWN = (str, *_TRUTHS, *_INTEGERS, *_FLOATS, *_DURATIONS, *_MOMENTS)


class ColumnError(ValueError):
    """What a column holds that it may not; the message lacks the column's name."""


@dataclass(frozen=True)
class Column(ABC):
    """Values of one column, some of which may be missing.

    Each method returns the values as one kind takes them.

    Parameters
    ----------
    missing : ndarray of bool and shape (n_rows,)

    Raises
    ------
    ColumnError
        If a value is not of that kind, or infinite.
    """

    missing: Array

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the values are by themselves: "number", "duration", "time" or "category"."""

    @abstractmethod
    def value(self, row: int) -> Any:
        """Return a value that is not missing, as a message shows it."""

    @abstractmethod
    def categories(self) -> tuple[Array, list[Any]]:
        """Return the number of each row's category, -1 where missing, and the categories.

        They are Python's own text, numbers and truth values, in any order.
        """

    def numbers(self) -> Array:
        """Return the values as float64, NaN where missing."""
        return self._if_all_are_missing("numbers")

    def seconds(self) -> Array:
        """Return lengths of time in seconds as float64, NaN where missing."""
        return self._if_all_are_missing("lengths of time")

    def moments(self) -> tuple[Array, Array]:
        """Return microseconds since 1970: in UTC, and on the clock of the values' own zone."""
        nothing = self._if_all_are_missing("times").astype("datetime64[us]").astype(np.int64)
        return nothing, nothing

    def _if_all_are_missing(self, wanted: str) -> Array:
        """Return NaN for each row: what is missing is of every kind."""
        if self.missing.all():
            return np.full(len(self.missing), np.nan)
        row = int(np.argmin(self.missing))
        raise unexpected(self.value(row), row, wanted)


def unexpected(value: Any, row: int, wanted: str) -> ColumnError:
    """Return the error of a value that is of another kind than at fit."""
    return ColumnError(
        f"holds {shown(value)} in row {row}, but held {wanted} when the encoder was fitted"
    )


@dataclass(frozen=True)
class Numbers(Column):
    """Numbers or truth values.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
        Of booleans, integers, floats, or of Python's numbers where none of these can hold them.
    """

    values: Array

    @property
    def kind(self) -> str:
        return "category" if self.values.dtype.kind == "b" else "number"

    def value(self, row: int) -> Any:
        return own_scalar(self.values[row])

    def numbers(self) -> Array:
        try:
            with np.errstate(over="ignore"):
                values = self.values.astype(np.float64)
        except OverflowError:
            raise ColumnError("holds an integer beyond what float64 can hold") from None
        values[self.missing] = np.nan
        if np.isinf(values).any():
            row = int(np.argmax(np.isinf(values)))
            raise ColumnError(
                f"holds an infinite value in row {row}; make it missing, or a finite number"
            )
        return np.clip(values, -_MOST, _MOST, out=values)

    def categories(self) -> tuple[Array, list[Any]]:
        there = ~self.missing
        codes = np.full(len(self.values), -1)
        distinct, codes[there] = np.unique(self.values[there], return_inverse=True)
        return codes, _finite([_category(value) for value in distinct.tolist()])


@dataclass(frozen=True)
class Moments(Column):
    """Moments in time, or days.

    Parameters
    ----------
    instants, clock : ndarray of int64 and shape (n_rows,)
        Microseconds since 1970, in UTC and on the clock of the values' own zone.
    """

    instants: Array
    clock: Array

    @property
    def kind(self) -> str:
        return "time"

    def value(self, row: int) -> Any:
        return str(self.clock[row].astype("datetime64[us]"))

    def moments(self) -> tuple[Array, Array]:
        return self.instants, self.clock

    def categories(self) -> tuple[Array, list[Any]]:
        codes, clock = Numbers(self.missing, self.clock).categories()
        return codes, [str(np.datetime64(one, "us")) for one in clock]


@dataclass(frozen=True)
class Durations(Column):
    """Lengths of time, or times of the day.

    Parameters
    ----------
    microseconds : ndarray of int64 and shape (n_rows,)
    """

    microseconds: Array

    @property
    def kind(self) -> str:
        return "duration"

    def value(self, row: int) -> Any:
        return str(self.microseconds[row].astype("timedelta64[us]"))

    def seconds(self) -> Array:
        return np.where(self.missing, np.nan, self.microseconds / _MICROSECONDS)

    def categories(self) -> tuple[Array, list[Any]]:
        return Numbers(self.missing, self.seconds()).categories()


@dataclass(frozen=True)
class Categories(Column):
    """Text, or what a frame calls categories.

    Parameters
    ----------
    codes : ndarray of int and shape (n_rows,)
        -1 where missing.
    distinct : list
        The categories by number: Python's own text, numbers and truth values.
    """

    codes: Array
    distinct: list[Any]

    @property
    def kind(self) -> str:
        return "category"

    def value(self, row: int) -> Any:
        return self.distinct[self.codes[row]]

    def numbers(self) -> Array:
        is_text = np.array([isinstance(one, str) for one in self.distinct] + [False])
        if is_text[self.codes].any():
            row = int(np.argmax(is_text[self.codes]))
            raise unexpected(self.value(row), row, "numbers")
        # What stands for text, and last for what is missing, is not used.
        numbers = [0 if isinstance(one, str) else one for one in self.distinct] + [0]
        return Numbers(self.missing, _numbers(numbers)[self.codes]).numbers()

    def categories(self) -> tuple[Array, list[Any]]:
        return self.codes, _finite(self.distinct)


class MixedNumbers(Categories):
    """Numbers of several types, which are told apart where they are categories."""

    @property
    def kind(self) -> str:
        return "number"


def read_columns(X: Any) -> list[Any]:
    """Return the columns of a table, each as its table has it.

    Parameters
    ----------
    X : frame of pandas or polars, or ndarray or sparse matrix of two dimensions
    """
    if hasattr(X, "get_columns"):
        return X.get_columns()
    if hasattr(X, "iloc"):
        return [X.iloc[:, i] for i in range(X.shape[1])]
    if hasattr(X, "tocsc"):
        return [X[:, [i]].toarray().ravel() for i in range(X.shape[1])]
    return list(X.T)


def read_column(values: Any) -> Column:
    """Return a column in the form that fits its values.

    Parameters
    ----------
    values : Series of pandas or polars, or ndarray of one dimension

    Raises
    ------
    ColumnError
        If it holds what is no number, text, truth value, time or length of time, or times beside
        others.

    Examples
    --------
    >>> read_column(np.array([2, None, 3.5], dtype=object)).numbers()
    array([2. , nan, 3.5])
    """
    if isinstance(values, np.ndarray):
        return _of_array(values)
    return _of_pandas(values) if hasattr(values, "iloc") else _of_polars(values)


def _of_array(values: Array) -> Column:
    if values.dtype.kind in "biu":
        return Numbers(np.zeros(len(values), dtype=bool), values)
    if values.dtype.kind == "f":
        return Numbers(np.isnan(values), values)
    if values.dtype.kind == "M":
        clock = values.astype("datetime64[us]").astype(np.int64)
        return Moments(np.isnat(values), clock, clock)
    if values.dtype.kind == "m":
        return Durations(np.isnat(values), values.astype("timedelta64[us]").astype(np.int64))
    if values.dtype.kind in "OUT":
        return _of_objects(values.tolist())
    raise ColumnError(f"holds {values.dtype}, and no numbers, text or times")


def _of_pandas(series: Any) -> Column:
    dtype = series.dtype
    if dtype.name == "category":
        codes = series.cat.codes.to_numpy()
        return Categories(codes < 0, codes, [_category(one) for one in series.cat.categories])
    if dtype.name.startswith("interval"):
        return _of_pandas(series.astype("category"))
    if dtype.name.startswith("period"):
        return _of_pandas(series.dt.to_timestamp())
    if dtype.name.startswith(("date32", "date64")):  # Arrow's
        return _of_objects(series.to_numpy(dtype=object).tolist())
    if dtype.kind == "M" and series.dt.tz is not None:
        instants, clock = (
            _of_array(there.to_numpy(dtype="datetime64[us]"))
            for there in (series.dt.tz_convert(None), series.dt.tz_localize(None))
        )
        return Moments(instants.missing, instants.moments()[0], clock.moments()[1])
    if dtype.kind == "M":
        return _of_array(series.to_numpy(dtype="datetime64[us]"))
    if dtype.kind == "m":
        return _of_array(series.to_numpy(dtype="timedelta64[us]"))
    if dtype.kind in "biuf" and hasattr(dtype, "numpy_dtype"):  # those that know missing values
        zero = dtype.numpy_dtype.type(0).item()
        values = series.to_numpy(dtype=dtype.numpy_dtype, na_value=zero)
        return Numbers(series.isna().to_numpy(dtype=bool), values)
    if dtype.kind in "biufc":
        return _of_array(np.asarray(series))
    return _of_objects(series.to_numpy(dtype=object).tolist())


def _of_polars(series: Any) -> Column:
    missing = series.is_null().to_numpy()
    kind = str(series.dtype.base_type())
    if series.dtype.is_float():
        return _of_array(series.to_numpy())
    if series.dtype.is_integer() and kind not in ("Int128", "UInt128"):
        return Numbers(missing, series.fill_null(0).to_numpy())
    if kind == "Boolean":
        return Numbers(missing, series.fill_null(False).to_numpy())
    if kind in ("Date", "Datetime"):
        moments = series.cast(_microsecond_dtype(series.dtype))
        clock = moments.dt.replace_time_zone(None)
        return Moments(missing, _physical(moments), _physical(clock))
    if kind == "Duration":
        return Durations(missing, _physical(series.dt.cast_time_unit("us")))
    if kind == "Time":  # in nanoseconds
        return Durations(missing, _physical(series) // 1000)
    if kind in ("Categorical", "Enum"):
        series = series.cast(str)
    return _of_objects(series.to_list())


def _microsecond_dtype(dtype: Any) -> Any:
    import polars as pl

    return pl.Datetime("us", getattr(dtype, "time_zone", None))


def _physical(series: Any) -> Array:
    return series.to_physical().fill_null(0).to_numpy()


def _of_objects(objects: list[Any]) -> Column:
    """Return a column of Python's objects; types decide, for there are fewer than values."""
    values = _none_where_missing(objects)
    missing = np.array([one is None for one in values], dtype=bool)
    types = set(map(type, values)) - {type(None)}
    if not types:
        return Categories(missing, np.full(len(values), -1), [])
    if _all_are(types, _DURATIONS):
        return Durations(missing, np.array([_length(one) for one in values]))
    if _all_are(types, _MOMENTS):
        return _moments(missing, values)
    if any(issubclass(one, (*_DURATIONS, *_MOMENTS)) for one in types):
        row, first = _first(values, (*_DURATIONS, *_MOMENTS))
        raise ColumnError(f"mixes times, such as {first} in row {row}, with other values")
    return _of_scalars(missing, values, types)


def _of_scalars(missing: Array, values: list[Any], types: set[type]) -> Column:
    """Return a column of text, truth values and numbers."""
    # A truth value is also an integer to Python, so the order matters.
    sorts = {
        next(sort for sort in ((str,), _TRUTHS, _INTEGERS, _FLOATS) if issubclass(one, sort))
        for one in types
    }
    texts_only = sorts == {(str,)}
    if len(sorts) == 1 and not texts_only:
        present = _numbers([one for one in values if one is not None])
        numbers = np.zeros(len(values), dtype=present.dtype)
        numbers[~missing] = present
        return Numbers(missing, numbers)
    form = Categories if (str,) in sorts else MixedNumbers
    return form(missing, *_numbered(values, texts_only=texts_only))


def _none_where_missing(objects: list[Any]) -> list[Any]:
    """Return objects of known types, None where one is missing."""
    types = set(map(type, objects))
    gone = set(filter(_frames.is_missing_type, types))
    strange = tuple(one for one in types - gone if not issubclass(one, _KNOWN))
    if strange:
        row, first = _first(objects, strange)
        raise ColumnError(
            f"holds {shown(first)} in row {row}, which is no number, text, truth value or time"
        )
    # NaN and NaT are unequal to themselves.
    return [None if type(one) in gone or one != one else one for one in objects]


def _first(values: list[Any], types: tuple[type, ...]) -> tuple[int, Any]:
    return next((row, one) for row, one in enumerate(values) if isinstance(one, types))


def _all_are(types: set[type], kinds: tuple[type, ...]) -> bool:
    return all(issubclass(one, kinds) for one in types)


def _length(value: Any) -> int:
    """Return microseconds of a length of time, 0 where it is missing."""
    if value is None:
        return 0
    if isinstance(value, dt.time):
        value = dt.timedelta(
            hours=value.hour,
            minutes=value.minute,
            seconds=value.second,
            microseconds=value.microsecond,
        )
    return int(np.timedelta64(value).astype("timedelta64[us]").astype(np.int64))


def _moments(missing: Array, values: list[Any]) -> Moments:
    filled = [dt.datetime(1970, 1, 1) if one is None else one for one in values]
    instants, clock = (
        np.array([at(one) for one in filled], dtype="datetime64[us]").astype(np.int64)
        for at in (_in_utc, _without_zone)
    )
    return Moments(missing, instants, clock)


def _in_utc(moment: Any) -> Any:
    zoned = getattr(moment, "tzinfo", None) is not None
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if zoned else moment


def _without_zone(moment: Any) -> Any:
    zoned = getattr(moment, "tzinfo", None) is not None
    return moment.replace(tzinfo=None) if zoned else moment


def _numbers(values: list[Any]) -> Array:
    """Return an array of numbers in which none of them changes, if there is one."""
    types = set(map(type, values))
    try:
        if _all_are(types, _TRUTHS):
            return np.array(values, dtype=bool)
        whole = _all_are(types, (*_INTEGERS, *_TRUTHS))
        return np.array(values, dtype=np.int64 if whole else np.float64)
    except OverflowError:
        return np.array(values, dtype=object)


def _numbered(values: list[Any], *, texts_only: bool) -> tuple[Array, list[Any]]:
    """Return the number of each value, -1 where it is None, and the values as categories."""
    # 1 and True are one key of a dict.
    keys = values if texts_only else [None if one is None else (type(one), one) for one in values]
    numbers: dict[Any, int] = {None: -1}
    codes = np.array([numbers.setdefault(key, len(numbers) - 1) for key in keys])
    del numbers[None]
    return codes, [_category(key if texts_only else key[1]) for key in numbers]


def _category(value: Any) -> Any:
    """Return a category as Python's own text, number or truth value; whole floats are integers."""
    value = float(value) if isinstance(value, Decimal) else own_scalar(value)
    if not isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _finite(categories: list[Any]) -> list[Any]:
    """Return categories of which no number is beyond what a file holds."""
    for one in categories:
        if not isinstance(one, str) and abs(one) > _LARGEST:
            raise ColumnError(f"holds {shown(one)}, and a category must be finite")
    return categories
