"""Tables read piece by piece, so that a file may be larger than memory."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastmlp._mapped import release_pages
from fastmlp.datasets.cells import Array, is_number, parse_column
from fastmlp.datasets.files import (
    ARRAYS,
    COLUMNAR,
    DELIMITERS,
    TEXT,
    kind_of,
    polars_column,
    read_arrays,
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

_BAD_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Piece:
    """Some rows of a table.

    Parameters
    ----------
    columns : sequence of list of str, or of ndarray, each of shape (n_rows,)
        Cells of text as they are written, or values; nothing where nobody wants them.
    n_rows : int
    first : int
        How many rows stand before.
    lines : sequence of int, optional
        The line of the file, from 1, that each row ends on.

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
    decimal : str
        The decimal mark of its cells, as `parse_column` takes it.
    wanted : mapping of int to bool, optional
        The columns that are to be read, and whether each is to hold numbers: it may then come as
        an array where its cells plainly do. By default all, as cells.

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
    decimal: str = "."
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
def open_pieces(source: str, options: TableOptions) -> Iterator[Pieces]:
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
    ...         print(table.names, next(table.pieces).columns)
    ['length', 'width'] [['5.1'], ['3.5']]
    """
    path = Path(source)
    kind = ".csv" if source == STANDARD else kind_of(path)
    if kind in ARRAYS:
        yield _arrays(path, options)
    elif kind in COLUMNAR:
        yield _columnar(path)
    elif kind in TEXT:
        with contextlib.ExitStack() as stack:
            raw: Any = sys.stdin.buffer
            if source != STANDARD:
                raw = stack.enter_context(path.open("rb"))
            name = "standard input" if source == STANDARD else source
            text = _decoded(raw, name, options, stack)
            yield _text(raw, text, name, "\t" if kind == ".tsv" else None, options)
    else:
        known = ", ".join((*TEXT, *ARRAYS, *COLUMNAR))
        raise ValueError(f"a table must end in one of {known}, or be -, got {source!r}")


def feature_values(
    feature: Feature, cells: Any, options: TableOptions, decimal: str = "."
) -> Array:
    """Return the values of a feature, from the cells or the values of its column.

    Parameters
    ----------
    feature : Feature
    cells : list of str, or ndarray
    options : TableOptions
        Says what stands for a missing value.
    decimal : str, default "."
        As for `parse_column`.

    Raises
    ------
    RowError
        If a cell is none of a column of this kind.

    Examples
    --------
    >>> feature_values(Feature("a"), ["1.5", "", "1e3"], TableOptions())
    array([   1.5,    nan, 1000. ])
    """
    if not isinstance(cells, list):
        if feature.is_text:
            return np.asarray(cells).astype(np.str_)
        if cells.dtype.kind != "U":
            return np.asarray(cells)
        cells = cells.tolist()
    missing = [word.lower() for word in options.na_values]
    if feature.is_text:
        stripped = (cell.strip() for cell in cells)
        return np.array(["" if cell.lower() in missing else cell for cell in stripped])
    plain = None if feature.kind == "date" or decimal == "," else _plain_numbers(cells)
    if plain is not None:
        return plain
    column = parse_column(feature.name, cells, decimal=decimal, missing=missing)
    if not column.is_text and column.is_date == (feature.kind == "date"):
        return column.values
    if column.missing.all():
        return np.full(len(cells), np.nan)
    row = _first_odd(feature, cells, decimal, missing)
    kind = "date" if feature.kind == "date" else "number"
    raise RowError(row, f"column {feature.name!r} holds {cells[row]!r}, and no {kind}")


def _first_odd(feature: Feature, cells: list[str], decimal: str, missing: Sequence[str]) -> int:
    """Return the first cell that is none of the feature's kind."""
    for row, cell in enumerate(cells):
        column = parse_column(feature.name, [cell], decimal=decimal, missing=missing)
        fits = not column.is_text and column.is_date == (feature.kind == "date")
        if not fits and not column.missing.all():
            return row
    return 0


def _plain_numbers(cells: list[str]) -> Array | None:
    """Return cells as numbers if all are plainly so: what `parse_column` makes, and quicker."""
    try:
        values = np.array(list(map(float, cells)))
    except ValueError:
        return None
    # What Python takes besides: 1_000, other scripts' digits, nan and infinity.
    joined = "".join(cells)
    if not np.isfinite(values).all() or "_" in joined or not joined.isascii():
        return None
    return values


# Text ----------------------------------------------------------------------------------------


def _decoded(
    raw: BinaryIO, source: str, options: TableOptions, stack: contextlib.ExitStack
) -> io.TextIOWrapper:
    """Return the text of a file, which stays open when that is closed."""
    file: Any = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
    if file.peek(2)[:2] == b"\x1f\x8b":
        file = io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=file)))
    try:
        start = file.peek(2)[:2]
        encoding = options.encoding or _encoding(start)
        text = io.TextIOWrapper(file, encoding=encoding, newline="")
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
    blocks = _blocks(text, source)
    first = _Block("", 0)
    for first in blocks:
        if first.rows(source, delimiter or ",", options.comment):
            break
    start = next((line for line in first.lines(options.comment) if line.strip()), "")
    mark = delimiter or max(DELIMITERS, key=start.count)
    rows = first.rows(source, mark, options.comment)
    if not rows:
        raise ValueError(f"{source} holds no row of values")
    header = options.header
    if header is None:
        header = not any(is_number(cell.strip(), ".,") for cell in rows[0][1])
    names = [cell.strip() for cell in rows[0][1]] if header else []
    made = Pieces(
        source,
        names,
        len(rows[0][1]),
        iter(()),
        _size(raw),
        options.decimal or (".," if mark == ";" else "."),
    )
    made.pieces = _text_pieces(made, raw, first, blocks, mark, options, bool(header))
    return made


def _encoding(start: bytes) -> str:
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _size(raw: BinaryIO) -> int | None:
    """Return how many bytes a regular file has."""
    with contextlib.suppress(OSError, ValueError):
        return os.fstat(raw.fileno()).st_size or None
    return None


@dataclass(frozen=True)
class _Block:
    """Whole lines of a text, and how many stand before them."""

    text: str
    before: int

    def lines(self, comment: str) -> list[str]:
        """Return the lines, those of comments empty."""
        lines = list(io.StringIO(self.text, newline=""))
        if not comment or comment not in self.text:
            return lines
        return ["\n" if line.startswith(comment) else line for line in lines]

    def rows(self, source: str, delimiter: str, comment: str) -> list[tuple[int, list[str]]]:
        """Return the lines that rows end on, and their cells."""
        reader = csv.reader(self.lines(comment), delimiter=delimiter, strict=True)
        try:
            return [
                (self.before + reader.line_num, row)
                for row in reader
                if len(row) > 1 or (row and row[0].strip())
            ]
        except csv.Error as error:
            line = self.before + reader.line_num
            raise ValueError(
                f"{source}, line {line}: the table cannot be read ({error})"
            ) from error


def _blocks(text: io.TextIOWrapper, source: str) -> Iterator[_Block]:
    """Yield blocks that end where a row ends."""
    rest, before = "", 0
    size = _FIRST_CHARACTERS  # they tell what the columns are
    while True:
        try:
            read = text.read(size)
        except UnicodeError as error:
            raise ValueError(
                f"{source} is not a text file in {text.encoding.upper()}: {error}; "
                "say its encoding by --encoding"
            ) from error
        except _BAD_GZIP as error:
            raise ValueError(f"{source} is not a complete gzip file: {error}") from error
        size = _CHARACTERS
        if "\0" in read:
            raise ValueError(f"{source} is not a text file: it holds zero bytes")
        rest += read
        end = len(rest) if not read else _end_of_rows(rest)
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


def _end_of_rows(text: str) -> int:
    """Return where the last row ends: at a line's end with as many quotes open as closed."""
    end = text.rfind("\n") + 1
    if '"' not in text:
        return end
    while end and text.count('"', 0, end) % 2:
        end = text.rfind("\n", 0, end - 1) + 1
    return end


def _text_pieces(
    table: Pieces,
    raw: BinaryIO,
    first: _Block,
    blocks: Iterator[_Block],
    delimiter: str,
    options: TableOptions,
    header: bool,
) -> Iterator[Piece]:
    n_rows = 0
    for number, block in enumerate(_chain(first, blocks)):
        skipped = int(header and not number)
        piece = None if skipped else _plain_piece(table, block, n_rows, delimiter, options)
        if piece is None:
            rows = block.rows(table.source, delimiter, options.comment)[skipped:]
            piece = _piece(table, rows, n_rows)
        if table.size is not None:
            table.position = raw.tell()
        if piece.n_rows:
            yield piece
        n_rows += piece.n_rows


def _piece(table: Pieces, rows: list[tuple[int, list[str]]], first: int) -> Piece:
    """Return rows of cells as columns."""
    for line, row in rows:
        if len(row) != table.width:
            raise ValueError(
                f"{table.source}, line {line}: {len(row)} cells, where {table.width} are wanted"
            )
    columns = [list(cells) for cells in zip(*(row for _, row in rows), strict=True)]
    return Piece(columns, len(rows), first, [line for line, _ in rows])


def _plain_piece(
    table: Pieces, block: _Block, first: int, delimiter: str, options: TableOptions
) -> Piece | None:
    """Return a block's columns by polars, None where it is not there or would read otherwise.

    It reads what is plain many times quicker: no quotes and no comments, as many cells in every
    row, and numbers where numbers are wanted.
    """
    text, wanted = block.text.replace("\r\n", "\n"), table.wanted
    n_lines = text.count("\n") + (not text.endswith("\n"))
    plain = text.isascii() and not any(mark in text for mark in '"\r\x0b\x0c')
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
            columns[int(series.name)] = series.fill_null("").to_list()
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


def _chain(first: _Block, blocks: Iterator[_Block]) -> Iterator[_Block]:
    yield first
    yield from blocks


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


def _columnar(path: Path) -> Pieces:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import polars as pl
    except ImportError as error:
        raise ImportError(
            f"reading {path.suffix} files needs polars: pip install 'fastmlp[tables]'"
        ) from error
    try:
        frame = (pl.scan_parquet if path.suffix.lower() == ".parquet" else pl.scan_ipc)(path)
        names = frame.collect_schema().names()
        (size,) = frame.select(pl.len()).collect().row(0)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _damaged(path, error) from error
    made = Pieces(str(path), names, len(names), iter(()), size)
    made.pieces = _columnar_pieces(made, path, frame)
    return made


def _damaged(path: Path, error: BaseException) -> ValueError:
    reason = str(error).partition("\n")[0]
    return ValueError(f"{path} is not a complete {path.suffix} file: {reason}")


def _columnar_pieces(table: Pieces, path: Path, frame: Any) -> Iterator[Piece]:
    import polars as pl

    step = _rows_at_once(table.width)
    for start in range(0, table.size or 0, step):
        try:
            part = frame.slice(start, step).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise _damaged(path, error) from error
        columns = [polars_column(path, series, pl).values for series in part.iter_columns()]
        table.position = start + len(part)
        yield Piece(columns, len(part), start)
