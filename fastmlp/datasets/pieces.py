"""Tables read piece by piece, so that a file may be larger than memory."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastmlp._mapped import release_pages
from fastmlp.datasets.cells import Array, CellRules, parse_column
from fastmlp.datasets.files import (
    ARRAYS,
    COLUMNAR,
    TEXT,
    TextTable,
    begins_quotes,
    has_polars,
    kind_of,
    needs_polars,
    read_arrays,
    text_table,
    typed_column,
)
from fastmlp.datasets.table import TableOptions
from fastmlp.preprocessing import Feature, RowError

#: Standard input, in the place of a file's name.
STANDARD = "-"
#: Characters of text, and values of arrays, that are read at once.
_FIRST_CHARACTERS, _CHARACTERS = 2**14, 2**21
_VALUES = 2**20
#: A row that is longer is none: a quote that begins there does not end.
_MOST_IN_A_ROW = 2**25

_USUAL = CellRules()
_BAD_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Piece:
    """Some rows of a table.

    Parameters
    ----------
    columns : sequence of array-like of shape (n_rows,)
        Lists or polars Series of cells as they are written, or arrays of values; None where
        nobody wants them.
    n_rows : int
    first : int
        How many rows stand before.
    lines : sequence of int, optional
        The line of the file, from 1, that each row begins on.

    Examples
    --------
    >>> Piece([["1", "2"]], 2, 5).place(1)
    'row 6 (from 0)'
    """

    columns: Sequence[Any]
    n_rows: int
    first: int
    lines: Sequence[int] | None = None

    def cut(self, n_rows: int) -> Iterator[Piece]:
        """Yield pieces of at most so many rows.

        Examples
        --------
        >>> [part.columns for part in Piece([["1", "2", "3"]], 3, 0).cut(2)]
        [[['1', '2']], [['3']]]
        """
        for start in range(0, self.n_rows, n_rows):
            rows = slice(start, min(start + n_rows, self.n_rows))
            columns = [None if column is None else column[rows] for column in self.columns]
            lines = None if self.lines is None else self.lines[rows]
            yield Piece(columns, rows.stop - start, self.first + start, lines)

    def place(self, row: int) -> str:
        """Return where in the file a row lies."""
        if self.lines is None:
            return f"row {self.first + row} (from 0)"
        return f"line {self.lines[row]}"


@dataclass
class Pieces:
    """A table that is being read.

    Parameters
    ----------
    source : str
        Its name, for messages.
    names : list of str
        Of the columns; empty where the table has none.
    width : int
        How many columns it has.
    pieces : iterator of Piece
    size : int or None
        What `position` goes up to, where that is known.
    rules : CellRules
        How its cells are read.
    wanted : mapping of int to bool, optional
        The columns that are to be read, and whether each is to hold numbers: it may then come as
        an array where its cells plainly do. By default all, as cells.
    position : int, default 0
        How far it has been read.

    Examples
    --------
    >>> Pieces("a.csv", ["x"], 1, iter([])).column("x")
    0
    """

    source: str
    names: list[str]
    width: int
    pieces: Iterator[Piece]
    size: int | None = None
    rules: CellRules = _USUAL
    wanted: dict[int, bool] | None = None
    position: int = 0

    def column(self, name: str) -> int:
        """Return the index of a column, by its name or its index from 0.

        Raises
        ------
        ValueError
            If there is none, or several.
        """
        if self.names.count(name) > 1:
            raise ValueError(f"{self.source} has {self.names.count(name)} columns {name!r}")
        if name in self.names:
            return self.names.index(name)
        if name.removeprefix("-").isdecimal() and -self.width <= int(name) < self.width:
            return int(name) % self.width
        known = f"named {', '.join(self.names)}, or " if self.names else ""
        raise ValueError(
            f"{self.source} has no column {name!r}; its columns are {known}0 to {self.width - 1}"
        )


@contextlib.contextmanager
def open_pieces(source: str, options: TableOptions, *, native: bool = False) -> Iterator[Pieces]:
    r"""Open a table to be read piece by piece.

    Parameters
    ----------
    source : str
        A text file (.csv, .tsv, .txt, packed by gzip or not), a .npy or .npz file, whose array
        `options.features` it is, a .parquet, .feather or .arrow file; or "-" for text on standard
        input. Arrays of an NPZ file are read whole.
    options : TableOptions
        Says how text is read, and names the arrays of an NPZ file; its target's columns stand
        behind the features, if it names one.
    native : bool, default False
        Whether columns that have a type of their own are left as polars has them, or become
        numbers.

    Yields
    ------
    Pieces

    Raises
    ------
    OSError
        If the file cannot be read.
    ImportError
        If it needs polars, which is not installed.
    ValueError
        If its content is no such table.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "flowers.csv"
    ...     _ = path.write_text("length,width\n5.1,3.5\n")
    ...     with open_pieces(str(path), TableOptions()) as table:
    ...         print(table.names, next(table.pieces).n_rows)
    ['length', 'width'] 1
    """
    path = Path(source)
    kind = ".csv" if source == STANDARD else kind_of(path)
    if kind in ARRAYS:
        yield _arrays(path, options)
    elif kind in COLUMNAR:
        yield _columnar(path, native)
    elif kind in TEXT:
        with contextlib.ExitStack() as stack:
            raw: Any = sys.stdin.buffer
            if source != STANDARD:
                raw = stack.enter_context(path.open("rb"))
                if options.encoding is None and not _is_unicode(path):
                    options = replace(options, encoding="cp1252")
            name = "standard input" if source == STANDARD else source
            text = _decoded(raw, name, options, stack)
            yield _text(raw, text, name, "\t" if kind == ".tsv" else None, options)
    else:
        known = ", ".join((*TEXT, *ARRAYS, *COLUMNAR))
        raise ValueError(f"a table must end in one of {known}, or be -, got {source!r}")


def feature_values(feature: Feature, cells: Any, rules: CellRules = _USUAL) -> Array:
    """Return the values of a feature, from the cells or the values of its column.

    Parameters
    ----------
    feature : Feature
    cells : list of str, polars Series of str, or ndarray
    rules : CellRules, optional

    Raises
    ------
    RowError
        If a cell is none of a column of this kind.
    ImportError
        If they are dates or need a decimal comma, and polars is not installed.

    Examples
    --------
    >>> feature_values(Feature("a"), ["1.5", "", "1e3"])
    array([   1.5,    nan, 1000. ])
    """
    if not isinstance(cells, list | np.ndarray) and str(cells.dtype) != "String":
        cells = plain_cells(cells)
    if isinstance(cells, np.ndarray):
        if feature.is_text:
            return cells.astype(np.str_)
        if cells.dtype.kind != "U":
            return cells
    missing = {"", *(word.lower() for word in rules.missing)}
    if feature.is_text:
        stripped = (cell.strip() for cell in plain_cells(cells))
        return np.array(["" if cell.lower() in missing else cell for cell in stripped], np.str_)
    if feature.kind != "date" and "," not in rules.decimal:
        plain = _plain_numbers(plain_cells(cells), missing)
        if plain is not None:
            return plain
    return _parsed(feature, cells, rules)


def plain_cells(column: Any) -> Any:
    """Return cells as a list of str, columns of polars' other types and arrays as arrays.

    Examples
    --------
    >>> plain_cells(["a"])
    ['a']
    """
    if isinstance(column, list | np.ndarray):
        return column
    if str(column.dtype) != "String":
        return typed_column(Path(), column, _USUAL).values
    return column.fill_null("").to_list()


def _parsed(feature: Feature, cells: Any, rules: CellRules) -> Array:
    """Return what `parse_column` makes of cells that are no plain numbers."""
    if not has_polars():
        raise needs_polars(f"column {feature.name!r}, which holds more than plain numbers")
    import polars as pl

    series = pl.Series(plain_cells(cells)) if isinstance(cells, list | np.ndarray) else cells
    if feature.date_format is not None and rules.format_of(feature.name) is None:
        rules = replace(rules, date_format=[f"{feature.name}={feature.date_format}"])
    column = parse_column(feature.name, series, rules)
    if not column.is_text and column.is_date == (feature.kind == "date"):
        return column.values
    if column.missing.all():
        return np.full(len(series), np.nan)
    row = int(np.argmax(~column.missing)) if column.odd is None else column.odd.row
    kind = "date" if feature.kind == "date" else "number"
    raise RowError(row, f"column {feature.name!r} holds {series[row]!r}, and no {kind}")


def _plain_numbers(cells: Sequence[str], missing: set[str]) -> Array | None:
    """Return cells as numbers if all are plainly so: what `parse_column` makes, and quicker."""
    try:
        values = np.array(list(map(float, cells)))
    except ValueError:
        cells = ["nan" if cell.strip().lower() in missing else cell for cell in cells]
        try:
            values = np.array(list(map(float, cells)))
        except ValueError:
            return None
    # What Python takes besides: 1_000, other scripts' digits, nan and infinity.
    joined = "".join(cells)
    if "_" in joined or not joined.isascii():
        return None
    odd = ~np.isfinite(values)
    if odd.any() and {cells[row].strip().lower() for row in np.flatnonzero(odd).tolist()} - missing:
        return None
    return values


# Text ----------------------------------------------------------------------------------------


def _is_unicode(path: Path) -> bool:
    """Return whether a text file is in UTF-8, or marked as UTF-16; else it is in Windows-1252."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with contextlib.ExitStack() as stack:
        file = _unpacked(stack.enter_context(path.open("rb")), stack)
        try:
            if _encoding(file.peek(2)[:2]) == "utf-16":
                return True
            while block := file.read(2**20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
        except _BAD_GZIP:  # said when it is read
            return True
    return True


def _unpacked(raw: BinaryIO, stack: contextlib.ExitStack) -> Any:
    file: Any = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
    if file.peek(2)[:2] == b"\x1f\x8b":
        return io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=file)))
    return file


def _decoded(
    raw: BinaryIO, source: str, options: TableOptions, stack: contextlib.ExitStack
) -> io.TextIOWrapper:
    """Return the text of a file, which stays open when that is closed."""
    file = _unpacked(raw, stack)
    try:
        start = file.peek(2)[:2]
        encoding = options.encoding or _encoding(start)
        # Five bytes have no meaning in Windows-1252.
        errors = "replace" if encoding == "cp1252" else "strict"
        text = io.TextIOWrapper(file, encoding, errors)  # with line ends of one kind
    except LookupError as error:
        raise ValueError(f"there is no encoding {options.encoding!r}") from error
    except _BAD_GZIP as error:
        raise ValueError(f"{source} is not a complete gzip file: {error}") from error
    stack.callback(text.detach)
    return text


def _text(
    raw: BinaryIO,
    text: io.TextIOWrapper,
    source: str,
    delimiter: str | None,
    options: TableOptions,
) -> Pieces:
    blocks = _blocks(text, source, options.comment)
    first = ""
    for block in blocks:
        first += block.text
        if _has_row(first, options.comment):
            break
    head = text_table(
        source,
        first,
        comment=options.comment,
        header=options.header,
        delimiter=options.delimiter or delimiter,
    )
    made = Pieces(
        source,
        head.names,
        len(head.columns),
        iter(()),
        _size(raw),
        CellRules(
            options.decimal or (".," if head.delimiter == ";" else "."),
            options.na_values,
            options.date_format,
        ),
    )
    made.pieces = _text_pieces(made, raw, head, blocks, options)
    return made


def _has_row(text: str, comment: str) -> bool:
    """Return whether a text has a row that says what its columns are."""
    lines = [line for line in text.split("\n") if line.strip()]
    return any(
        not (comment and line.startswith(comment)) and not line.lower().startswith("sep=")
        for line in lines
    )


def _encoding(start: bytes) -> str:
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _size(raw: BinaryIO) -> int | None:
    """Return how many bytes a regular file has."""
    with contextlib.suppress(OSError, ValueError):
        return os.fstat(raw.fileno()).st_size or None
    return None


class _Block(NamedTuple):
    """Whole rows of a text, and how many lines stand before them."""

    text: str
    before: int


def _blocks(text: io.TextIOWrapper, source: str, comment: str) -> Iterator[_Block]:
    """Yield blocks that end where a row ends."""
    rest, before, quoted = "", 0, False
    size = _FIRST_CHARACTERS  # they tell what the columns are
    while True:
        try:
            read = text.read(size)
        except UnicodeError as error:
            name = text.encoding.removesuffix("-sig").upper()
            raise ValueError(
                f"{source} is not a text file in {name}: {error}; say its encoding by --encoding, "
                "such as cp1252"
            ) from error
        except _BAD_GZIP as error:
            raise ValueError(f"{source} is not a complete gzip file: {error}") from error
        size = _CHARACTERS
        if "\0" in read:
            raise ValueError(f"{source} is not a text file: it holds zero bytes")
        rest += read
        quoted = quoted or ('"' in read and begins_quotes(rest, comment))
        end = len(rest) if not read else _end_of_rows(rest, quoted)
        if end:
            block, rest = rest[:end], rest[end:]
            yield _Block(block, before)
            before += block.count("\n")
        elif len(rest) > _MOST_IN_A_ROW:
            raise ValueError(
                f"{source}, line {before + 1}: a row that begins there does not end within "
                f"{_MOST_IN_A_ROW} characters; is a quote left open?"
            )
        if not read:
            return


def _end_of_rows(text: str, quoted: bool) -> int:
    """Return where the last row ends: at a line's end with as many quotes open as closed."""
    end = text.rfind("\n") + 1
    while quoted and end and text.count('"', 0, end) % 2:
        end = text.rfind("\n", 0, end - 1) + 1
    return end


def _text_pieces(
    table: Pieces,
    raw: BinaryIO,
    head: TextTable,
    blocks: Iterator[_Block],
    options: TableOptions,
) -> Iterator[Piece]:
    n_rows = len(head.lines)
    if n_rows:
        yield Piece(head.columns, n_rows, 0, head.lines)
    for block in blocks:
        if not _has_row(block.text, options.comment):
            continue
        piece = _plain_piece(table, block, n_rows, head.delimiter, options)
        if piece is None:
            piece = _piece(table, block, n_rows, head.delimiter, options)
        if table.size is not None:
            table.position = raw.tell()
        yield piece
        n_rows += piece.n_rows


def _piece(
    table: Pieces, block: _Block, first: int, delimiter: str, options: TableOptions
) -> Piece:
    """Return a block's columns."""
    made = text_table(
        table.source,
        block.text,
        comment=options.comment,
        header=False,
        delimiter=delimiter,
        before=block.before,
        width=table.width,
    )
    return Piece(made.columns, len(made.lines), first, made.lines)


def _plain_piece(
    table: Pieces, block: _Block, first: int, delimiter: str, options: TableOptions
) -> Piece | None:
    """Return a block's columns by polars, None where it is not there or would read otherwise.

    It reads what is plain many times quicker: no quotes and no comments, as many cells in every
    row, and numbers where numbers are wanted.
    """
    text, wanted = block.text, table.wanted
    n_lines = text.count("\n") + (not text.endswith("\n"))
    plain = text.isascii() and '"' not in text
    if (
        wanted is None
        or not plain
        or (options.comment and options.comment in text)
        or text.count(delimiter) != n_lines * (table.width - 1)
        or not has_polars()
        or table.width == 1
    ):
        return None
    import polars as pl

    kinds = [pl.Float64 if wanted.get(i) else pl.String for i in range(table.width)]
    try:
        frame = pl.read_csv(
            text.encode(),
            has_header=False,
            separator=delimiter,
            quote_char=None,
            schema={str(i): kind for i, kind in enumerate(kinds)},
            columns=sorted(wanted),
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    columns: list[Any] = [None] * table.width
    for series in frame.iter_columns():
        if series.dtype == pl.String:
            columns[int(series.name)] = series
            continue
        values = series.to_numpy()  # NaN where a cell is empty
        # Cells such as "nan" are left to those who know which words are missing values.
        if np.count_nonzero(np.isfinite(values)) < len(values) - series.null_count():
            return None
        columns[int(series.name)] = values
    if len(frame) != n_lines:
        return None
    lines = range(block.before + 1, block.before + n_lines + 1)
    return Piece(columns, n_lines, first, lines)


# Arrays and what polars reads ----------------------------------------------------------------


def _arrays(path: Path, options: TableOptions) -> Pieces:
    if path.suffix.lower() == ".npy":
        try:
            X = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a complete NPY file: {error}") from error
        parts, names = [X], []
    else:
        arrays = read_arrays(path)
        wanted = [options.features, *options.target]
        for name in wanted:
            if name not in arrays:
                raise ValueError(f"{path} has no array {name!r}; it holds {list(arrays)}")
        parts = [_matrix(path, name, arrays[name]) for name in wanted]
        names = [str(i) for i in range(parts[0].shape[1])]
        names += [f"target {i}" for i in range(sum(part.shape[1] for part in parts[1:]))]
    if any(len(part) != len(parts[0]) for part in parts) or parts[0].ndim != 2:
        raise ValueError(f"{path}: its arrays must have rows, and as many each")
    width = sum(part.shape[1] for part in parts)
    made = Pieces(str(path), names, width, iter(()), len(parts[0]))
    made.pieces = _array_pieces(made, parts)
    return made


def _matrix(path: Path, name: str, array: Array) -> Array:
    array = array.astype(np.str_) if array.dtype.kind == "S" else array
    if array.ndim not in (1, 2) or array.dtype.kind not in "biufU":
        raise ValueError(
            f"{path}: {name} must be numbers or names of shape (n_samples, n_columns), got "
            f"{array.dtype} of shape {array.shape}"
        )
    return array.reshape(len(array), -1)


def _array_pieces(table: Pieces, parts: list[Array]) -> Iterator[Piece]:
    step = _rows_at_once(table.width)
    for start in range(0, len(parts[0]), step):
        columns = [column for part in parts for column in np.asarray(part[start : start + step]).T]
        table.position = start + len(columns[0])
        yield Piece(columns, len(columns[0]), start)
        release_pages(parts[0])


def _rows_at_once(width: int) -> int:
    return max(1, _VALUES // width)


def _columnar(path: Path, native: bool) -> Pieces:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not has_polars():
        raise needs_polars(str(path))
    import polars as pl

    try:
        frame = (pl.scan_parquet if path.suffix.lower() == ".parquet" else pl.scan_ipc)(path)
        names = frame.collect_schema().names()
        (size,) = frame.select(pl.len()).collect().row(0)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _damaged(path, error) from error
    made = Pieces(str(path), names, len(names), iter(()), size)
    made.pieces = _columnar_pieces(made, path, frame, native)
    return made


def _damaged(path: Path, error: BaseException) -> ValueError:
    reason = str(error).partition("\n")[0]
    return ValueError(f"{path} is not a complete {path.suffix} file: {reason}")


def _columnar_pieces(table: Pieces, path: Path, frame: Any, native: bool) -> Iterator[Piece]:
    import polars as pl

    step = _rows_at_once(table.width)
    for start in range(0, table.size or 0, step):
        try:
            part = frame.slice(start, step).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise _damaged(path, error) from error
        columns = [
            series
            if native or series.dtype == pl.String
            else typed_column(path, series, table.rules).values
            for series in part.iter_columns()
        ]
        table.position = start + len(part)
        yield Piece(columns, len(part), start)
