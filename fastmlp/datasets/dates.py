"""Texts that are dates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

_SECONDS_PER_DAY = 86400
_TIME = r"(?: (?P<time>\d{1,2}:\d{2}(?P<seconds>:\d{2})?)(?P<half>(?P<gap> ?)[AaPp][Mm])?)?"
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?", re.ASCII)
_YEAR_FIRST = re.compile(r"\d{4}(?P<mark>[/.-])\d{1,2}(?P=mark)\d{1,2}" + _TIME, re.ASCII)
_YEAR_LAST = re.compile(
    r"(?P<first>\d{1,2})(?P<mark>[/.-])(?P<second>\d{1,2})(?P=mark)\d{4}" + _TIME, re.ASCII
)
#: Years of two digits, and names of months.
_UNCLEAR = re.compile(
    r"\d{1,2}([/.-])\d{1,2}\1\d{2}(?!\d).*"
    r"|\d{1,2}[ .-]+[A-Za-z]{3,9}[ .,-]+(\d{2}|\d{4})(?!\d).*"
    r"|[A-Za-z]{3,9}[ .]+\d{1,2}[ ,]+\d{4}(?!\d).*",
    re.ASCII,
)


class DateError(ValueError):
    """A text among dates that cannot be read as one.

    Parameters
    ----------
    cell : str
    reason : str
        What follows the quoted cell in a sentence.

    Examples
    --------
    >>> print(DateError("soon", "is no date"))
    'soon' is no date
    """

    def __init__(self, cell: str, reason: str) -> None:
        super().__init__(f"{cell!r} {reason}")
        self.cell = cell


def days_of(cells: Iterable[str], date_format: str | None = None) -> dict[str, float] | None:
    """Return the days since 1970 of each of several dates, None where there are no dates.

    ISO 8601, the year first, and day and month before the year: the day first between points; else
    as a number above 12 in one of the dates shows. A date may have a time behind it; without a zone
    that is UTC.

    Parameters
    ----------
    cells : iterable of str
    date_format : str, optional
        As for `datetime.strptime`, of all cells.

    Raises
    ------
    DateError
        If some cells are dates and another is none, or it is open what they mean.

    Examples
    --------
    >>> days_of(["1970-01-02", "1970-01-02T12:00Z"])
    {'1970-01-02': 1.0, '1970-01-02T12:00Z': 1.5}
    >>> days_of(["1/2/1970", "1/31/1970"])
    {'1/2/1970': 1.0, '1/31/1970': 30.0}
    >>> days_of(["1 02 70"], "%d %m %y"), days_of(["a", "b"])
    ({'1 02 70': 31.0}, None)
    """
    cells = dict.fromkeys(cells)
    if date_format is not None:
        days = {cell: _days(cell, date_format) for cell in cells}
        return _all_or_none(days, f"does not fit the date format {date_format!r}")
    forms = {cell: _form_of(cell) for cell in cells}
    if not any(forms.values()):
        return None
    for cell, form in forms.items():
        if form is None:
            raise DateError(cell, "is no date, where other rows hold dates")
        if form is _UNCLEAR:
            raise DateError(
                cell,
                "looks like a date; say how to read it by --date-format, such as '%d.%m.%y' or "
                "'%d %b %Y'",
            )
    day_first = _day_first([cell for cell, form in forms.items() if form is _YEAR_LAST])
    days = {cell: _days(cell, _format_of(cell, day_first)) for cell in cells}
    return _all_or_none(days, "is no date of the calendar")


def is_date(cell: str) -> bool:
    """Return whether a text has the form of a date.

    Examples
    --------
    >>> is_date("31.12.2024"), is_date("3.14")
    (True, False)
    """
    return _form_of(cell) is not None


def format_of(cells: Iterable[str]) -> str | None:
    """Return the format of dates that `days_of` reads, None where it is ISO 8601 or they differ.

    Examples
    --------
    >>> format_of(["1/2/1970", "1/31/1970"]), format_of(["1970-01-02"])
    ('%m/%d/%Y', None)
    """
    forms = {cell: _form_of(cell) for cell in cells}
    if not all(form in (_ISO, _YEAR_FIRST, _YEAR_LAST) for form in forms.values()):
        return None
    day_first = _day_first([cell for cell, form in forms.items() if form is _YEAR_LAST])
    formats = {_format_of(cell, day_first) for cell in forms}
    return formats.pop() if len(formats) == 1 else None


def _form_of(cell: str) -> re.Pattern[str] | None:
    forms = (_ISO, _YEAR_FIRST, _YEAR_LAST, _UNCLEAR)
    return next((form for form in forms if form.fullmatch(cell)), None)


def _day_first(cells: list[str]) -> bool:
    """Return whether the day stands before the month."""
    open_ones = []
    shown = {}
    for cell in cells:
        found = _YEAR_LAST.fullmatch(cell)
        assert found is not None
        if found["mark"] == "." or int(found["first"]) > 12:
            shown[True] = cell
        elif int(found["second"]) > 12:
            shown[False] = cell
        else:
            open_ones.append(cell)
    if len(shown) == 2:
        raise DateError(shown[False], f"has the month first, where {shown[True]!r} has the day")
    if open_ones and not shown:
        mark = "-" if "-" in open_ones[0] else "/"
        forms = (mark.join(("%d", "%m", "%Y")), mark.join(("%m", "%d", "%Y")))
        raise DateError(
            open_ones[0],
            "may have the day or the month first, and no other row shows which; say it by "
            f"--date-format {forms[0]} or {forms[1]}",
        )
    return True in shown


def _format_of(cell: str, day_first: bool) -> str | None:
    """Return the format of a cell, None for ISO 8601."""
    if _ISO.fullmatch(cell):
        return None
    found = _YEAR_FIRST.fullmatch(cell)
    order = "%Y %m %d"
    if found is None:
        found = _YEAR_LAST.fullmatch(cell)
        order = "%d %m %Y" if day_first else "%m %d %Y"
    assert found is not None
    time = ""
    if found["time"]:
        time = (" %I:%M" if found["half"] else " %H:%M") + (":%S" if found["seconds"] else "")
        time += f"{found['gap']}%p" if found["half"] else ""
    return order.replace(" ", found["mark"]) + time


def _days(cell: str, date_format: str | None) -> float | None:
    try:
        if date_format is None:
            return days_since_1970(datetime.fromisoformat(cell))
        return days_since_1970(datetime.strptime(cell, date_format))
    except (ValueError, OverflowError):
        return None


def check_date_format(date_format: str) -> None:
    """Raise ValueError if dates cannot be read by a format.

    Examples
    --------
    >>> check_date_format("%d.%m.%Y")
    >>> check_date_format("%d.%Q")
    Traceback (most recent call last):
    ...
    ValueError: the date format '%d.%Q' is not one of Python's: ...
    """
    try:
        datetime.strptime("", date_format)
    except ValueError as error:
        if "does not match format" not in str(error):
            raise ValueError(
                f"the date format {date_format!r} is not one of Python's: {error}"
            ) from None
    if "%" not in date_format:
        raise ValueError(f"the date format {date_format!r} names no part of a date, such as %d")


def _all_or_none(days: dict[str, float | None], reason: str) -> dict[str, float] | None:
    if all(value is None for value in days.values()):
        return None
    known = {}
    for cell, value in days.items():
        if value is None:
            raise DateError(cell, reason)
        known[cell] = value
    return known


def days_since_1970(moment: datetime) -> float:
    """Return days since the start of 1970; a moment without a zone is taken as UTC.

    Examples
    --------
    >>> days_since_1970(datetime(1970, 1, 2, 12))
    1.5
    """
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.timestamp() / _SECONDS_PER_DAY
