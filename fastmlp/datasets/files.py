"""Files that hold tables, read as columns: text, NumPy's arrays, and what polars reads."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp._npz import NpzFile
from fastmlp.datasets.cells import Array, Column, is_number

DELIMITERS = ",;\t"
TEXT = (".csv", ".tsv", ".txt")
COLUMNAR = (".parquet", ".feather", ".arrow")
ARRAYS = (".npz", ".npy")

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
    rows : list of list of str
    lines : list of int
        The line of the file, from 1, that each row ends on.
    delimiter : str
    notes : list of str
        How the file was read, where that is not plain.
    """

    names: list[str]
    rows: list[list[str]]
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
    path: Path, *, encoding: str | None = None, comment: str = "#", header: bool | None = None
) -> TextTable:
    """Read the cells of a text file, packed by gzip or not.

    Parameters
    ----------
    path : Path
    encoding : str, optional
        By default UTF-8, else UTF-16 where the file is marked so, else Windows-1252 (Latin-1).
    comment : str, default "#"
        Lines that begin so are left out; the last of them before the rows is the header if it
        has as many cells. Nothing is a comment if empty.
    header : bool, optional
        Whether the first line names the columns. By default if none of its cells is a number.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no such table.
    """
    notes: list[str] = []
    text = _decoded(path, encoding, notes)
    lines = text.splitlines(keepends=True)
    remarks = [i for i, line in enumerate(lines) if comment and line.startswith(comment)]
    if remarks:
        notes.append(f"{len(remarks)} comment lines that begin with {comment!r} are left out")
    kept = [line for i, line in enumerate(lines) if i not in set(remarks)]
    numbers = [i + 1 for i in range(len(lines)) if i not in set(remarks)]
    start = next((line for line in kept if line.strip()), "")
    delimiter = "\t" if kind_of(path) == ".tsv" else max(DELIMITERS, key=start.count)
    reader = csv.reader(kept, delimiter=delimiter, strict=True)
    rows, places = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row) or len(row) > 1:
                rows.append([cell.strip() for cell in row])
                places.append(numbers[reader.line_num - 1])
    except csv.Error as error:
        line = numbers[min(reader.line_num, len(numbers)) - 1]
        raise ValueError(f"{path}, line {line}: the table cannot be read ({error})") from error
    if header is None:
        header = bool(rows) and not any(is_number(cell, ".,") for cell in rows[0])
    names: list[str] = []
    if header and rows:
        names, places = rows.pop(0), places[1:]
    if not rows:
        raise ValueError(f"{path} holds no row of values")
    width = len(names) or len(rows[0])
    above = [i for i in remarks if i + 1 < places[0]]
    if not names and above:
        said = lines[above[-1]].removeprefix(comment)
        cells = [cell.strip() for cell in next(csv.reader([said], delimiter=delimiter), [])]
        names = cells if len(cells) == width else []
    for line, row in zip(places, rows, strict=True):
        if len(row) != width:
            raise ValueError(f"{path}, line {line}: {len(row)} cells, where {width} are wanted")
    return TextTable(names, rows, places, delimiter, notes)


def _decoded(path: Path, encoding: str | None, notes: list[str]) -> str:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file: {error}") from error
    try:
        if encoding is not None:
            return content.decode(encoding)
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return content.decode("utf-16")
        if b"\0" in content:
            raise ValueError(f"{path} is not a text file in UTF-8: it holds zero bytes")
        return content.decode("utf-8-sig")
    except LookupError as error:
        raise ValueError(f"there is no encoding {encoding!r}") from error
    except UnicodeDecodeError as error:
        if encoding is not None or b"\0" in content:
            raise ValueError(f"{path} is not a text file in UTF-8: {error}") from error
        notes.append("not UTF-8: read as Windows-1252 (Latin-1)")
        # Five bytes have no meaning in Windows-1252, and one in Latin-1.
        return content.decode("cp1252", errors="replace")


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


def read_columnar(path: Path) -> list[Column]:
    """Read a Parquet, Feather or Arrow file with polars.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Column
        Text as it is written.

    Raises
    ------
    ImportError
        If polars is not installed.
    ValueError
        If the file is damaged, or a column holds what is neither number, text nor date.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise ImportError(
            f"reading {path.suffix} files needs polars: pip install 'fastmlp[tables]'"
        ) from error
    content = io.BytesIO(path.read_bytes())
    try:
        frame = (pl.read_parquet if path.suffix == ".parquet" else pl.read_ipc)(content)
    # A damaged file can make polars panic, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, *_DAMAGE) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is not a complete {path.suffix} file: {reason}") from error
    return [_polars_column(path, series, pl) for series in frame.iter_columns()]


def _polars_column(path: Path, series: Any, polars: Any) -> Column:
    kind = series.dtype
    if kind in (polars.String, polars.Categorical, polars.Enum):
        cells = series.cast(polars.String).fill_null("").to_list()
        return Column(series.name, np.array(cells, dtype=np.str_))
    if kind == polars.Boolean and not series.null_count():
        return Column(series.name, series.to_numpy())
    if kind in (polars.Date, polars.Datetime):
        milliseconds = series.cast(polars.Datetime("ms")).dt.timestamp("ms").cast(polars.Float64)
        days = (milliseconds / 86_400_000).fill_null(np.nan).to_numpy()
        return Column(series.name, days, "dates are read as days since 1970-01-01")
    if kind.is_integer() and not series.null_count():
        return Column(series.name, series.to_numpy())
    if kind.is_numeric() or kind in (polars.Boolean, polars.Null):
        values = series.cast(polars.Float64).fill_null(np.nan).to_numpy()
        return Column(series.name, values)
    raise ValueError(f"{path}, column {series.name!r}: it holds {kind}, which is no number or text")
