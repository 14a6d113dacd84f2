"""What the text in a cell of a table means: a number, a truth value, a date, nothing, or a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: What stands for a missing value, in any case of letters.
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "?")

# Python's float() also takes underscores, other scripts' digits, "nan" and "infinity".
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
#: An identifier rather than a number: 007 is not 7.
_PADDED = re.compile(r"[+-]?0\d", re.ASCII)
_INFINITY = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?", re.ASCII)
_SECONDS_PER_DAY = 86400


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
    odd_row : int or None, default None
        Of a column of text that holds numbers too: the first row that is no number.

    Examples
    --------
    >>> Column("width", np.array([0.5, np.nan])).missing
    array([False,  True])
    """

    name: str
    values: Array
    note: str = ""
    odd_row: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return self.values.dtype.kind == "U"

    @property
    def missing(self) -> Array:
        """Where a value is missing."""
        if self.is_text:
            return np.asarray(self.values == "")
        if self.values.dtype.kind == "f":
            return np.asarray(np.isnan(self.values))
        return np.zeros(len(self.values), dtype=bool)


def parse_column(
    name: str,
    cells: Sequence[str],
    *,
    decimal: str = ".",
    missing: Sequence[str] = MISSING,
    labels: bool = False,
) -> Column:
    """Return a column of cells as what all of them are, else as text.

    Parameters
    ----------
    name : str
    cells : sequence of str
        Spaces around them do not count.
    decimal : {".", ",", ".,"}, default "."
        The decimal mark; with ".," a comma where the column has no point.
    missing : sequence of str
        Lower-case words that stand for nothing.
    labels : bool, default False
        Whether the cells may be names of classes: then 007 and 7 are different, and so are
        whole numbers beyond int64. Dates stay text.

    Examples
    --------
    >>> parse_column("a", ["1", " 2.5", "1e3", "NA"]).values
    array([   1. ,    2.5, 1000. ,    nan])
    >>> parse_column("a", ["1_1", "11"]).values
    array(['1_1', '11'], dtype='<U3')
    >>> parse_column("a", ["True", "false"]).values
    array([ True, False])
    """
    cells = [cell.strip() for cell in cells]
    cells = ["" if cell.lower() in missing else cell for cell in cells]
    given = [cell for cell in cells if cell]
    padded = labels and any(_PADDED.match(cell) and _INTEGER.fullmatch(cell) for cell in given)
    if given and not padded:
        made = _numbers(name, cells, decimal, labels) or _truths(name, cells)
        if made is None and not labels:
            made = _dates(name, cells)
        if made is not None:
            return made
    odd = None
    if not padded and any(is_number(cell, decimal) for cell in given):
        odd = next(
            (i for i, cell in enumerate(cells) if cell and not is_number(cell, decimal)), None
        )
    return Column(name, np.array(cells, dtype=np.str_), odd_row=odd)


def is_number(cell: str, decimal: str = ".") -> bool:
    """Return whether a cell is plainly a finite number.

    Examples
    --------
    >>> [is_number(cell) for cell in ("7", "-.5e3", "1_1", "nan", "0x10", "1,5")]
    [True, True, False, False, False, False]
    """
    point = _NUMBER.fullmatch(cell) is not None and (decimal != "," or "." not in cell)
    return point or (
        "," in decimal and "." not in cell and bool(_NUMBER.fullmatch(cell.replace(",", ".", 1)))
    )


def _numbers(name: str, cells: list[str], decimal: str, labels: bool) -> Column | None:
    given = [cell for cell in cells if cell]
    if labels and all(_INTEGER.fullmatch(cell) for cell in cells):
        try:
            return Column(name, np.array([int(cell) for cell in cells], dtype=np.int64))
        except OverflowError:
            return None
    comma = "," in decimal and (decimal == "," or any("," in cell for cell in given))
    mark = "," if comma else "."
    # An infinite value is a number that its reader refuses; as text it would become a category.
    if not all(is_number(cell, mark) or _INFINITY.fullmatch(cell) for cell in given):
        return None
    if all(_INFINITY.fullmatch(cell) for cell in given):
        return None
    plain = [cell.replace(",", ".") or "nan" for cell in cells]
    changed = comma and any("," in cell for cell in given)
    note = "',' is read as the decimal mark" if changed else ""
    return Column(name, np.array(plain, dtype=np.float64), note)


def _truths(name: str, cells: list[str]) -> Column | None:
    if {cell.lower() for cell in cells} - {"true", "false", ""}:
        return None
    if "" in cells:
        known = {"true": 1.0, "false": 0.0, "": np.nan}
        return Column(name, np.array([known[cell.lower()] for cell in cells]))
    return Column(name, np.array([cell.lower() == "true" for cell in cells]))


def _dates(name: str, cells: list[str]) -> Column | None:
    if not all(_DATE.fullmatch(cell) for cell in cells if cell):
        return None
    try:
        days = [days_since_1970(datetime.fromisoformat(cell)) if cell else np.nan for cell in cells]
    except ValueError:
        return None
    return Column(name, np.array(days), "dates are read as days since 1970-01-01")


def days_since_1970(moment: datetime) -> float:
    """Return days since the start of 1970; a moment without a zone is taken as UTC.

    Examples
    --------
    >>> days_since_1970(datetime(1970, 1, 2, 12))
    1.5
    """
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.timestamp() / _SECONDS_PER_DAY
