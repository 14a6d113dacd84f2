"""What the text in a cell of a table means: a number, a truth value, a date, nothing, or a name."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.datasets.dates import DateError, days_of, format_of, is_date

Array = NDArray[Any]

#: What a column's note begins with that holds dates.
DATES_NOTE = "dates are read as days since 1970-01-01"
#: What stands for a missing value, in any case of letters.
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "?")

# Patterns that Python and polars read alike. Python's float() also takes underscores, other
# scripts' digits, "nan" and "infinity".
_NUMBER = {
    mark: rf"[+-]?([0-9]+{mark}?[0-9]*|{mark}[0-9]+)([eE][+-]?[0-9]+)?" for mark in (r"\.", ",")
}
#: Float64 tells whole numbers apart below this.
_EXACT = 2**53
_INTEGER = r"[+-]?[0-9]+"
#: An identifier rather than a number: 007 is not 7.
_PADDED = r"[+-]?0[0-9]+"
_INFINITY = r"[+-]?(?i:inf(inity)?)"
_TRUTH = r"(?i:true|false)"
#: Numbers with marks of thousands, another decimal mark, percent or currency.
_MARKED = r"[+-]?[$€£]? ?[0-9]+([,.' ][0-9]{3})*([.,][0-9]+)? ?[%$€£]?"
#: A name that can be nothing else, if it is none of the words above.
_PLAIN_NAME = r"[A-Za-z][A-Za-z0-9_-]*"


@dataclass(frozen=True)
class CellRules:
    """How cells are read.

    Parameters
    ----------
    decimal : {".", ",", ".,"}, default "."
        The decimal mark; with ".," a comma where the column has one.
    missing : sequence of str
        Words that stand for nothing, in any case.
    date_format : sequence of str, default ()
        Formats of dates as for `datetime.strptime`: of one column as ``COLUMN=FORMAT``, or of all
        that are no numbers.

    Examples
    --------
    >>> CellRules(date_format=["born=%Y%m%d"]).format_of("born")
    '%Y%m%d'
    """

    decimal: str = "."
    missing: Sequence[str] = MISSING
    date_format: Sequence[str] = ()

    def format_of(self, column: str) -> str | None:
        """Return the format of the dates that a column is said to hold."""
        prefix = f"{column}="
        own = (word for word in self.date_format if word.startswith(prefix))
        return next((word.removeprefix(prefix) for word in own), None)

    @property
    def common_format(self) -> str | None:
        """The format of all columns."""
        return next((word for word in self.date_format if "=" not in word), None)


@dataclass(frozen=True)
class Odd:
    """A cell that keeps a column from being numbers, or dates.

    Parameters
    ----------
    row : int
    reason : str
        Such as "'x' is no number, where other rows hold numbers".

    Examples
    --------
    >>> Odd(3, "'x' is no number").row
    3
    """

    row: int
    reason: str


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table.

    Parameters
    ----------
    name : str
    values : ndarray of shape (n_rows,)
        Numbers, float64 with NaN where a value is missing; integers or truth values where none
        is; or text, the empty string where a value is missing.
    note : str, default ""
        How it was read, where that is not plain.
    odd : Odd or None, default None
        Why it is text, where it seems to be something else.
    date_format : str or None, default None
        Of dates, as for `datetime.strptime`, where all have the same.

    Examples
    --------
    >>> Column("width", np.array([0.5, np.nan])).missing
    array([False,  True])
    """

    name: str
    values: Array
    note: str = ""
    odd: Odd | None = None
    date_format: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return self.values.dtype.kind == "U"

    @property
    def is_date(self) -> bool:
        """Whether the values are days, of dates."""
        return self.note.startswith(DATES_NOTE)

    @property
    def missing(self) -> Array:
        """Where a value is missing."""
        if self.is_text:
            return np.asarray(self.values == "")
        if self.values.dtype.kind == "f":
            return np.asarray(np.isnan(self.values))
        return np.zeros(len(self.values), dtype=bool)


def is_number(cell: str) -> bool:
    """Return whether a cell is plainly a finite number, with a point or a comma.

    Examples
    --------
    >>> [is_number(cell) for cell in ("7", "-.5e3", "1,5", "1_1", "nan", "0x10")]
    [True, True, True, False, False, False]
    """
    return any(re.fullmatch(pattern, cell) for pattern in _NUMBER.values())


def is_value(cell: str) -> bool:
    """Return whether a cell is a number, a truth value or a date, and so no name of a column.

    Examples
    --------
    >>> [is_value(cell) for cell in ("7", "true", "2024-12-31", "length")]
    [True, True, True, False]
    """
    special = re.fullmatch(f"{_INFINITY}|{_TRUTH}", cell) is not None
    return special or is_number(cell) or is_date(cell)


def parse_column(
    name: str, cells: Any, rules: CellRules = CellRules(), *, labels: bool = False
) -> Column:
    """Return a column of cells as what all of them are, else as text.

    Parameters
    ----------
    name : str
    cells : polars Series of str
        Spaces around them do not count; null is a missing value.
    rules : CellRules, optional
    labels : bool, default False
        Whether the cells are names, of classes or categories: then 007 and 7 are different, and
        so are whole numbers beyond int64. Dates stay text.

    Examples
    --------
    >>> import polars as pl
    >>> parse_column("a", pl.Series(["1", " 2.5", "1e3", "NA"])).values
    array([   1. ,    2.5, 1000. ,    nan])
    >>> parse_column("a", pl.Series(["1_1", "11"]), labels=True).values
    array(['1_1', '11'], dtype='<U3')
    >>> parse_column("a", pl.Series(["True", "false"])).values
    array([ True, False])
    """
    import polars as pl

    cells = cells.str.strip_chars()
    missing = ["", *(word.lower() for word in rules.missing)]
    cells = pl.select(
        pl.when(~cells.str.to_lowercase().is_in(missing)).then(cells).alias(name)
    ).to_series()
    given = cells.drop_nulls()
    if not len(given) or (labels and _are_names(cells, given)):
        return _text(name, cells)
    own_format = None if labels else rules.format_of(name)
    mark = _mark(given, rules.decimal)
    made, odd = None, None
    if own_format is None:
        made = _numbers(name, cells, mark, labels) or _truths(name, cells)
        odd = None if made else _odd_number(cells, mark)
    if made is None and odd is None and not labels:
        try:
            made = _dates(name, cells, own_format, rules.common_format)
        except DateError as error:
            odd = Odd((cells == error.cell).arg_max(), str(error))
    return made or _text(name, cells, odd)


def _matches(cells: Any, pattern: str) -> Any:
    return cells.str.contains(f"^(?:{pattern})$").fill_null(False)


def _are_names(cells: Any, given: Any) -> bool:
    """Return whether cells that look like numbers would lose what tells them apart."""
    import polars as pl

    whole = given.filter(_matches(given, _INTEGER))
    if not len(whole) or _matches(whole, _PADDED).any():
        return len(whole) > 0
    integers = whole.cast(pl.Int64, strict=False)
    kept = len(whole) == len(cells) and not integers.null_count()
    return not kept and bool(whole.cast(pl.Float64).abs().max() >= _EXACT)


def _text(name: str, cells: Any, odd: Odd | None = None) -> Column:
    return Column(name, np.array(cells.fill_null("").to_list(), dtype=np.str_), odd=odd)


def _mark(cells: Any, decimal: str) -> str:
    """Return the pattern of the decimal mark."""
    comma = "," in decimal and (decimal == "," or cells.str.contains(",", literal=True).any())
    return "," if comma else r"\."


def _numbers(name: str, cells: Any, mark: str, labels: bool) -> Column | None:
    import polars as pl

    given = cells.drop_nulls()
    if labels and not cells.null_count() and _matches(cells, _INTEGER).all():
        return Column(name, cells.cast(pl.Int64).to_numpy())
    # An infinite value is a number that its reader refuses; as text it would become a category.
    infinite = _matches(given, _INFINITY)
    if (labels and infinite.all()) or not (infinite | _matches(given, _NUMBER[mark])).all():
        return None
    changed = mark == "," and given.str.contains(",", literal=True).any()
    plain = cells.str.replace(",", ".", literal=True) if changed else cells
    note = "',' is read as the decimal mark" if changed else ""
    return Column(name, _floats(plain), note)


def _floats(cells: Any) -> Array:
    import polars as pl

    return np.asarray(cells.cast(pl.Float64).fill_null(np.nan).to_numpy())


def _truths(name: str, cells: Any) -> Column | None:
    if not _matches(cells.drop_nulls(), _TRUTH).all():
        return None
    true = cells.str.to_lowercase() == "true"
    return Column(name, _floats(true) if true.null_count() else true.to_numpy())


def _odd_number(cells: Any, mark: str) -> Odd | None:
    """Return the first cell that is no number, in a column of numbers."""
    number, marked = _matches(cells, _NUMBER[mark]), _matches(cells, _MARKED)
    if not (number.any() or (marked | cells.is_null()).all()):
        return None
    row = (~number & cells.is_not_null()).arg_max()
    reason = f"{cells[row]!r} is no number"
    if not marked[row]:
        reason += ", where other rows hold numbers"
    elif mark != "," and "," in cells[row]:
        reason += " as it stands; --decimal , reads a comma as the decimal mark"
    else:
        reason += " as it stands; marks of thousands, percent and currency are not read"
    return Odd(row, reason)


def _dates(
    name: str, cells: Any, own_format: str | None, common_format: str | None
) -> Column | None:
    given = cells.drop_nulls().unique(maintain_order=True).to_list()
    date_format = own_format or common_format
    days = None if date_format is None else days_of(given, date_format)
    if days is None and own_format is not None:
        raise DateError(given[0], f"does not fit the date format {own_format!r}")
    if days is None:
        days, date_format = days_of(given), format_of(given)
    if days is None:
        return None
    values = np.array([np.nan if cell is None else days[cell] for cell in cells.to_list()])
    date = str(np.datetime64(math.floor(days[given[0]]), "D"))
    note = DATES_NOTE if date in given[0] else f"{DATES_NOTE}, {given[0]!r} as {date}"
    return Column(name, values, note, date_format=date_format)


class NotPlainError(ValueError):
    """A cell that needs more than the small reader.

    Parameters
    ----------
    row : int
    cell : str

    Examples
    --------
    >>> NotPlainError(3, "x y").row
    3
    """

    def __init__(self, row: int, cell: str) -> None:
        super().__init__(f"{cell!r} is more than a plain number or name")
        self.row = row


def parse_plain_column(
    name: str, cells: Sequence[str], missing: Sequence[str] = MISSING, *, labels: bool = False
) -> Column:
    """Return a column of plain numbers, or of plain names, as `parse_column` does, without polars.

    Parameters
    ----------
    name : str
    cells : sequence of str
    missing : sequence of str
    labels : bool, default False

    Raises
    ------
    NotPlainError
        If the column is anything else.

    Examples
    --------
    >>> parse_plain_column("a", ["1", "2.5"]).values
    array([1. , 2.5])
    """
    cells = [cell.strip() for cell in cells]
    words = {"", *(word.lower() for word in missing)}
    is_number = re.fullmatch(_NUMBER[r"\."], cells[0]) is not None
    kind = _NUMBER[r"\."] if is_number else _PLAIN_NAME
    unlike = _PADDED if labels and is_number else f"{_INFINITY}|{_TRUTH}"
    plain = re.compile(rf"(?!({unlike})$)({kind})").fullmatch
    for row, cell in enumerate(cells):
        if not plain(cell) or cell.lower() in words:
            raise NotPlainError(row, cell)
    if not is_number:
        return Column(name, np.array(cells, dtype=np.str_))
    whole = [int(cell) for cell in cells if re.fullmatch(_INTEGER, cell)] if labels else []
    if len(whole) == len(cells) and max(map(abs, whole)) < 2**63:
        return Column(name, np.array(whole, dtype=np.int64))
    if any(abs(value) >= _EXACT for value in whole):
        raise NotPlainError(0, cells[0])
    return Column(name, np.array([float(cell) for cell in cells]))
