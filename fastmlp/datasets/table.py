"""Tables from CSV and NPZ files: features, and a target that is classes or numbers."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DELIMITERS = ",;\t"


def read_table(path: str | Path, target: str | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    r"""Read features and target from a CSV or NPZ file.

    A CSV file has one sample per line; comma, semicolon and tab separate. Its first line is a
    header if none of its cells is a number. Every column but the target's must hold numbers.
    An NPZ file holds the features as an array named ``X``, with samples as rows.

    Parameters
    ----------
    path : str or Path
        A file that ends in .csv or .npz.
    target : str, optional
        The target's column, by name or by index from 0 (negative from the end), by default the
        last; in an NPZ file the name of the target's array, by default ``y``.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        float64 from a CSV file, as stored in an NPZ file.
    y : ndarray of shape (n_samples,) or, from an NPZ file, (n_samples, n_targets)
        From a CSV file int64 if every cell is a whole number, else float64 if every cell is a
        number, else text.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If its content is not such a table.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "flowers.csv"
    ...     _ = path.write_text("length,width,kind\n5.1,3.5,setosa\n6.2,2.9,virginica\n")
    ...     X, y = read_table(path, target="kind")
    >>> X
    array([[5.1, 3.5],
           [6.2, 2.9]])
    >>> y.tolist()
    ['setosa', 'virginica']
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path, target)
    if path.suffix.lower() == ".npz":
        return _read_npz(path, "y" if target is None else target)
    raise ValueError(f"a table must end in .csv or .npz, got {str(path)!r}")


def _read_csv(path: Path, target: str | None) -> tuple[NDArray[Any], NDArray[Any]]:
    names, rows, first_line = _csv_rows(path)
    column = _target_column(path, names, target, n_columns=len(rows[0]))
    labels = [row.pop(column) for row in rows]
    try:
        X = np.array(rows, dtype=np.float64)
    except ValueError:
        raise ValueError(_first_bad_cell(path, rows, first_line)) from None
    return X, _as_numbers_or_text(labels)


def _csv_rows(path: Path) -> tuple[list[str], list[list[str]], int]:
    """Return the header (empty if there is none), the rows, and the first row's line number."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            start = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=start.count)
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=delimiter)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    rows = [row for row in rows if row]
    header = rows.pop(0) if rows and not any(_is_number(cell) for cell in rows[0]) else []
    if not rows:
        raise ValueError(f"{path} holds no line of numbers")
    first_line = 2 if header else 1
    width = len(header) or len(rows[0])
    for line, row in enumerate(rows, start=first_line):
        if len(row) != width:
            raise ValueError(f"{path} has {len(row)} cells in row {line}, where {width} are wanted")
    if width < 2:
        raise ValueError(f"{path} has one column; a feature column and a target column are wanted")
    return header, rows, first_line


def _target_column(path: Path, names: list[str], target: str | None, n_columns: int) -> int:
    if target is None:
        return n_columns - 1
    if target in names:
        return names.index(target)
    try:
        return range(n_columns)[int(target)]
    except (ValueError, IndexError):
        known = f"named {', '.join(names)}, or " if names else ""
        raise ValueError(
            f"{path} has no column {target!r}; its columns are {known}0 to {n_columns - 1}"
        ) from None


def _first_bad_cell(path: Path, rows: Sequence[Sequence[str]], first_line: int) -> str:
    line, cell = next(
        (line, cell)
        for line, row in enumerate(rows, start=first_line)
        for cell in row
        if not _is_number(cell)
    )
    return f"{path} has {cell!r} in row {line}, where a number is wanted: features must be numbers"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _as_numbers_or_text(cells: list[str]) -> NDArray[Any]:
    for dtype in (np.int64, np.float64):
        try:
            return np.array(cells, dtype=np.str_).astype(dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(cells, dtype=np.str_)


def _read_npz(path: Path, target: str) -> tuple[NDArray[Any], NDArray[Any]]:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path} is not a complete NPZ file")
    with np.load(path, allow_pickle=False) as arrays:
        for name in ("X", target):
            if name not in arrays.files:
                raise ValueError(f"{path} has no array {name!r}; it holds {arrays.files}")
        X, y = arrays["X"], arrays[target]
    if X.ndim != 2 or y.ndim not in (1, 2) or len(X) != len(y):
        raise ValueError(
            f"{path} must hold X of shape (n_samples, n_features) and {target} of as many rows, "
            f"got shapes {X.shape} and {y.shape}"
        )
    return X, y
