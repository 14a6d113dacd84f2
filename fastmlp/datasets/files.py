"""Files that hold tables, read as columns: text, NumPy's arrays, and what polars reads."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmlp._npz import NpzFile
from fastmlp.datasets.cells import (
    DATES_NOTE,
    Array,
    CellRules,
    Column,
    is_value,
    parse_column,
)

#: Those that are looked for, in this order: a comma may be a decimal mark between the others.
DELIMITERS = "\t;,"
TEXT = (".csv", ".tsv", ".txt")
COLUMNAR = (".parquet", ".feather", ".arrow")
ARRAYS = (".npz", ".npy")

#: What Excel takes, and others write, as a first line.
_SAID_DELIMITER = re.compile(r'"?sep=([^\w\s"]|\t)"?', re.IGNORECASE)
_QUOTED_TEXT = re.compile(r'"[^"]*"')

#: What a damaged file of arrays raises, by where its damage lies.
_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    SyntaxError,
    RuntimeError,
    NotImplementedError,
    RecursionError,
    MemoryError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class TextTable:
    """The cells of a text file.

    Parameters
    ----------
    names : list of str
        Of the columns; empty if the file has no header.
    columns : list of polars Series, or of lists of str
        Lists where polars is not installed.
    lines : list of int
        The line of the file, from 1, that each row begins on.
    delimiter : str
    notes : list of str
        How the file was read, where that is not plain.
    """

    names: list[str]
    columns: list[Any]
    lines: list[int]
    delimiter: str
    notes: list[str]


def kind_of(path: Path) -> str:
    """Return the ending that says what a file holds; ``.gz`` behind it does not count.

    Examples
    --------
    >>> kind_of(Path("table.CSV.gz"))
    '.csv'
    """
    suffix = path.suffix.lower()
    if suffix == ".gz":
        inner = path.with_suffix("").suffix.lower()
        return inner if inner in TEXT else suffix
    return suffix


def read_text_table(
    path: Path,
    *,
    encoding: str | None = None,
    comment: str = "#",
    header: bool | None = None,
    delimiter: str | None = None,
) -> TextTable:
    """Read the cells of a text file, packed by gzip or not.

    polars reads them. Without it, a file without quotes is read, which says the same either way.

    Parameters
    ----------
    path : Path
    encoding : str, optional
        By default UTF-8, else UTF-16 where the file is marked so, else Windows-1252 (Latin-1).
    comment : str, default "#"
        Lines that begin so are left out; the last of them before the rows is the header if it
        has as many cells. Nothing is a comment if empty.
    header : bool, optional
        Whether the first line names the columns. By default if none of its cells is a
        number, a truth value or a date.
    delimiter : str, optional
        By default tab, semicolon or comma, as in the first rows.

    Raises
    ------
    OSError
        If the file cannot be read.
    ImportError
        If quotes enclose cells, and polars is not installed.
    ValueError
        If it is no such table.
    """
    notes: list[str] = []
    text = _decoded(path, encoding, notes)
    if delimiter is None and kind_of(path) == ".tsv":
        delimiter = "\t"
    table = text_table(str(path), text, comment=comment, header=header, delimiter=delimiter)
    if not table.lines:
        raise ValueError(f"{path} holds no row of values")
    table.notes[:0] = notes
    return table


def text_table(
    source: str,
    text: str,
    *,
    comment: str = "#",
    header: bool | None = None,
    delimiter: str | None = None,
    before: int = 0,
    width: int | None = None,
) -> TextTable:
    r"""Return the cells of a text.

    Parameters
    ----------
    source : str
        Where it is from, for messages.
    text : str
        With a line feed at the end of lines.
    comment, header, delimiter
        As for `read_text_table`.
    before : int, default 0
        How many lines stand before it.
    width : int, optional
        How many cells rows have, by default as the first.

    Raises
    ------
    ValueError
        If it has no row, not even a header, or is no table.

    Examples
    --------
    >>> text_table("a.csv", "a;b\n1;2\n").names
    ['a', 'b']
    """
    notes: list[str] = []
    file = _parted(source, text, comment, before)
    if file.rows and (excel := _SAID_DELIMITER.fullmatch(file.rows[0])):
        delimiter = delimiter or excel[1]
        file = file._replace(rows=file.rows[1:], lines=file.lines[1:])
    if not file.rows:
        raise ValueError(f"{source} holds no row of values")
    if delimiter is None:
        delimiter = _delimiter_of(file.rows[:50])
    file = _squared(source, file, delimiter, notes, width)
    if file.remarks:
        notes.append(f"lines that begin with {comment!r} are left out: {len(file.remarks)}")
    columns = _split(source, file, delimiter)
    lines = file.lines
    first = [str(column[0] or "").strip() for column in columns]
    guessed = header is None
    if guessed:
        header = not any(is_value(cell) for cell in first)
    names: list[str] = []
    if header:
        names, columns, lines = first, [column[1:] for column in columns], lines[1:]
    above = [remark for line, remark in file.remarks if line < file.lines[0]]
    if not names and above:
        said = [cell.strip() for cell in above[-1].removeprefix(comment).split(delimiter)]
        names = said if len(said) == len(columns) else []
    if guessed and not names:
        notes.append("the first row holds values, so columns have no names; see --header")
    return TextTable(names, columns, lines, delimiter, notes)


class _Parted(NamedTuple):
    """A text's rows, which polars' errors do not number, and the lines that they begin on."""

    rows: list[str]
    lines: list[int]
    #: Lines of comments, with their numbers.
    remarks: list[tuple[int, str]]
    #: Whether quotes enclose cells.
    quoted: bool


def begins_quotes(text: str, comment: str) -> bool:
    """Return whether quotes enclose cells of a text, rather than mean inches.

    Examples
    --------
    >>> begins_quotes('1,"a, b"', "#"), begins_quotes('5" pipe,1', "#")
    (True, False)
    """
    return any(_begins_cell(line, comment) for line in text.split("\n") if '"' in line)


def _parted(path: str, text: str, comment: str, before: int) -> _Parted:
    all_lines = text.split("\n")
    quoted = begins_quotes(text, comment)
    rows: list[str] = []
    lines: list[int] = []
    remarks: list[tuple[int, str]] = []
    inside = False
    for number, line in enumerate(all_lines, before + 1):
        if inside:
            rows[-1] += "\n" + line
        elif comment and line.startswith(comment):
            remarks.append((number, line))
            continue
        elif not line or line.isspace():
            continue
        else:
            rows.append(line)
            lines.append(number)
        if quoted and '"' in line:
            inside ^= line.count('"') % 2 == 1
    if inside:
        raise ValueError(f"{path}, line {lines[-1]}: a quote that begins there does not end")
    return _Parted(rows, lines, remarks, quoted)


def _begins_cell(line: str, comment: str) -> bool:
    """Return whether the first quote of a line begins a cell; else it may mean inches."""
    if comment and line.startswith(comment):
        return False
    before = line.partition('"')[0].rstrip(" ")
    return not before or not before[-1].isalnum()


def _delimiter_of(rows: list[str]) -> str:
    """Return the delimiter that occurs in every row equally often, else most in the first."""
    bare = [_QUOTED_TEXT.sub("", row) for row in rows]
    for mark in DELIMITERS:
        if bare[0].count(mark) and len({row.count(mark) for row in bare}) == 1:
            return mark
    return max(reversed(DELIMITERS), key=bare[0].count)


def _squared(
    path: str, file: _Parted, delimiter: str, notes: list[str], wanted: int | None
) -> _Parted:
    """Return the rows with as many cells each, without spaces around quotes."""
    rows, bare = file.rows, file.rows
    if file.quoted:
        mark = re.escape(delimiter)
        cell = re.compile(rf'(^|{mark}) *("(?:[^"]|"")*") *(?={mark}|$(?!\n))')
        rows = [cell.sub(r"\1\2", row) for row in rows]
        bare = [cell.sub(r"\1", row) for row in rows]
        _check_quotes(path, file.lines, bare)
    widths = [row.count(delimiter) + 1 for row in bare]
    may_be_wider = wanted in (None, widths[0] - 1) and widths[0] > 2
    if may_be_wider and all(row.endswith(delimiter) for row in rows):
        notes.append(f"every line ends in {delimiter!r}, which is left out")
        rows = [row.removesuffix(delimiter) for row in rows]
        widths = [width - 1 for width in widths]
    wanted = wanted or widths[0]
    for line, width in zip(file.lines, widths, strict=True):
        if width != wanted:
            raise ValueError(f"{path}, line {line}: {width} cells, where {wanted} are wanted")
    return file._replace(rows=rows)


def _check_quotes(path: str, lines: list[int], bare: list[str]) -> None:
    for line, row in zip(lines, bare, strict=True):
        if '"' in row:
            raise ValueError(
                f"{path}, line {line}: a quote within a cell; quotes must enclose the whole cell, "
                "and those inside be doubled"
            )


def _split(path: str, file: _Parted, delimiter: str) -> list[Any]:
    """Return the columns of cells."""
    if not has_polars():
        if file.quoted:
            raise needs_polars(f"{path}: quotes enclose cells")
        return [list(cells) for cells in zip(*(r.split(delimiter) for r in file.rows), strict=True)]
    import polars as pl

    content = io.BytesIO("\n".join(file.rows).encode())
    quote = '"' if file.quoted else None
    try:
        frame = pl.read_csv(
            content, has_header=False, separator=delimiter, quote_char=quote, infer_schema_length=0
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: the table cannot be read ({reason})") from error
    return list(frame.iter_columns())


def has_polars() -> bool:
    """Return whether polars can be imported.

    Examples
    --------
    >>> isinstance(has_polars(), bool)
    True
    """
    try:
        import polars as pl  # noqa: F401
    except ImportError:
        return False
    return True


def needs_polars(what: str) -> ImportError:
    """Return the error that names the extra.

    Parameters
    ----------
    what : str
        What cannot be read without it.

    Examples
    --------
    >>> print(needs_polars("table.parquet"))
    table.parquet: reading this needs polars: pip install 'fastmlp[tables]'
    """
    return ImportError(f"{what}: reading this needs polars: pip install 'fastmlp[tables]'")


def _decoded(path: Path, encoding: str | None, notes: list[str]) -> str:
    """Return the text of a file, with line ends of one kind."""
    try:
        packed = path.suffix.lower() == ".gz"
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file: {error}") from error
    marked = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    assumed = encoding or ("utf-16" if marked else "utf-8")
    if encoding is None and not marked and b"\0" in content:
        raise ValueError(
            f"{path} is not a text file in UTF-8: it holds zero bytes; "
            "UTF-16 without a mark needs --encoding utf-16-le or utf-16-be"
        )
    try:
        text = content.decode(assumed)
    except LookupError as error:
        raise ValueError(f"there is no encoding {encoding!r}") from error
    except UnicodeDecodeError as error:
        if encoding is not None or marked:
            raise ValueError(f"{path} is not a text file in {assumed.upper()}: {error}") from error
        notes.append("not UTF-8: read as Windows-1252 (Latin-1)")
        # Five bytes have no meaning in Windows-1252, and one in Latin-1.
        text = content.decode("cp1252", errors="replace")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of an NPZ file by name, or an NPY file's one under the name "".

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If it is damaged, or no such file.
    """
    if path.suffix.lower() != ".npy":
        with NpzFile(path) as arrays:
            return dict(arrays)
    content = path.read_bytes()
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is not a complete NPY file: {reason}") from error
    if not isinstance(loaded, np.ndarray):
        raise ValueError(f"{path} is not a complete NPY file")
    return {"": loaded}


def read_columnar(path: Path) -> list[Any]:
    """Read a Parquet, Feather or Arrow file with polars.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of polars Series

    Raises
    ------
    ImportError
        If polars is not installed.
    ValueError
        If the file is damaged.
    """
    if not has_polars():
        raise needs_polars(str(path))
    import polars as pl

    content = io.BytesIO(path.read_bytes())
    try:
        frame = (pl.read_parquet if path.suffix == ".parquet" else pl.read_ipc)(content)
    # A damaged file can make polars panic, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, *_DAMAGE) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is not a complete {path.suffix} file: {reason}") from error
    return list(frame.iter_columns())


def is_text(series: Any) -> bool:
    """Return whether a polars Series holds text, or what polars calls categories.

    Examples
    --------
    >>> import polars as pl
    >>> is_text(pl.Series(["a"])), is_text(pl.Series([1]))
    (True, False)
    """
    return str(series.dtype.base_type()) in ("String", "Categorical", "Enum")


def typed_column(path: Path, series: Any, rules: CellRules, *, labels: bool = False) -> Column:
    """Return a column that has a type of its own; one of text as `parse_column` does.

    Parameters
    ----------
    path : Path
        For messages.
    series : polars Series
    rules : CellRules
    labels : bool, default False

    Raises
    ------
    ValueError
        If it holds what is neither number, text nor date.
    """
    import polars as pl

    kind = series.dtype
    gaps_in_names = labels and kind.is_integer() and series.null_count()
    if is_text(series) or gaps_in_names:
        return parse_column(series.name, series.cast(pl.String), rules, labels=labels)
    if kind == pl.Boolean and not series.null_count():
        return Column(series.name, series.to_numpy())
    if kind in (pl.Date, pl.Datetime):
        milliseconds = series.cast(pl.Datetime("ms")).dt.timestamp("ms").cast(pl.Float64)
        days = (milliseconds / 86_400_000).fill_null(np.nan).to_numpy()
        return Column(series.name, days, DATES_NOTE)
    if kind.is_integer() and not series.null_count():
        return Column(series.name, series.to_numpy())
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        values = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
        return Column(series.name, values)
    raise ValueError(f"{path}, column {series.name!r}: it holds {kind}, which is no number or text")
