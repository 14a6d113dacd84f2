"""How commands are told to read the text of a file."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from fastmlp.datasets.table import TableOptions


def add_reading(data: Any) -> None:
    """Add the options that say how text is read.

    Parameters
    ----------
    data : ArgumentParser or argument group

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_reading(parser)
    >>> parser.parse_args(["--decimal", ","]).decimal
    ','
    """
    data.add_argument(
        "--na-values",
        nargs="+",
        metavar="WORD",
        help="what stands for a missing value (by default nothing, NA, NaN, null, None, ? ...)",
    )
    data.add_argument(
        "--decimal", choices=[".", ","], help="by default a comma in a file of semicolons too"
    )
    data.add_argument(
        "--encoding", metavar="NAME", help="by default UTF-8, else Windows-1252 (Latin-1)"
    )
    data.add_argument(
        "--comment", default="#", metavar="MARK", help="begins lines to leave out (%(default)s)"
    )
    data.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line names the columns (by default if it holds no value)",
    )
    data.add_argument(
        "--delimiter", metavar="MARK", help="between cells, or tab (by default tab, ; or , as seen)"
    )
    data.add_argument(
        "--date-format",
        nargs="+",
        default=[],
        metavar="FORMAT",
        help="of dates whose day and month are unclear, such as %%d/%%m/%%Y, or COLUMN=FORMAT",
    )


def reading_options(options: argparse.Namespace) -> TableOptions:
    r"""Return what the options of `add_reading` say.

    Raises
    ------
    ValueError
        If the delimiter is no mark.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_reading(parser)
    >>> reading_options(parser.parse_args(["--delimiter", "tab"])).delimiter
    '\t'
    """
    chosen = TableOptions(
        decimal=options.decimal,
        encoding=options.encoding,
        comment=options.comment,
        header=options.header,
        delimiter=_delimiter(options.delimiter),
        date_format=options.date_format,
    )
    if options.na_values is None:
        return chosen
    return replace(chosen, na_values=[word.lower() for word in options.na_values])


def _delimiter(word: str | None) -> str | None:
    mark = "\t" if word in ("tab", r"\t") else word
    if mark is not None and (
        len(mark) != 1 or not mark.isascii() or mark.isalnum() or mark in '"\n'
    ):
        raise ValueError(f"--delimiter must be one mark, such as ';' or tab, got {word!r}")
    return mark
