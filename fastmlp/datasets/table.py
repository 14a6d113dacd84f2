"""Tables from files: features, and a target that is classes or numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmlp._checks import listing
from fastmlp.datasets.cells import (
    MISSING,
    Array,
    CellRules,
    Column,
    NotPlainError,
    Odd,
    parse_column,
    parse_plain_column,
)
from fastmlp.datasets.dates import check_date_format
from fastmlp.datasets.files import (
    ARRAYS,
    COLUMNAR,
    TEXT,
    is_text,
    kind_of,
    needs_polars,
    read_arrays,
    read_columnar,
    read_text_table,
    typed_column,
)
from fastmlp.preprocessing import Feature

#: More values than this are no categories.
MOST_CATEGORIES = 100


@dataclass(frozen=True)
class TableOptions:
    """How a file is read.

    Parameters
    ----------
    target : sequence of str, default ()
        The target's columns, by name or by index from 0 (negative from the end), by default the
        last; in an NPZ file the name of the target's array, by default ``y``.
    features : str, default "X"
        The name of an NPZ file's array of features.
    columns, drop : sequence of str, default ()
        The columns that are features, by default all but the target; and those that are not.
    categorical : sequence of str, default ()
        Columns whose numbers are names of categories.
    missing : {"error", "drop", "mean"}, default "error"
        What a missing value does: it is refused, its row is left out, or it stays NaN in `X`, for
        the caller to replace by a mean. A row without a target is refused or left out.
    na_values : sequence of str
        Words that stand for a missing value, in any case.
    decimal : {".", ","} or None, default None
        The decimal mark; by default a point, and a comma where semicolons separate.
    date_format : sequence of str, default ()
        Of dates that are not plain, as for `CellRules`.
    encoding, comment, header, delimiter
        As for `read_text_table`.

    Examples
    --------
    >>> TableOptions(target=["price"]).missing
    'error'
    """

    target: Sequence[str] = ()
    features: str = "X"
    columns: Sequence[str] = ()
    drop: Sequence[str] = ()
    categorical: Sequence[str] = ()
    missing: str = "error"
    na_values: Sequence[str] = MISSING
    decimal: str | None = None
    date_format: Sequence[str] = ()
    encoding: str | None = None
    comment: str = "#"
    header: bool | None = None
    delimiter: str | None = None


@dataclass(frozen=True)
class Table:
    """Features and target.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Finite, but for NaN where ``missing="mean"`` leaves a value open.
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Integers, floats, truth values or text.
    features : list of Feature
        What the columns of `X` were made of.
    target : str
        Name of the target, for messages.
    place : callable
        Says where in the file a row lies.
    notes : list of str
        What was read how, where that is not plain.
    targets : tuple of str
        Names of the target's columns.

    Examples
    --------
    >>> Table(np.ones((2, 1)), np.arange(2), [Feature("a")], "b", str).notes
    []
    """

    X: Array
    y: Array
    features: list[Feature]
    target: str
    place: Callable[[int], str]
    notes: list[str] = field(default_factory=list)
    targets: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the columns of `X`."""
        return [name for feature in self.features for name in feature.encoded_names]


def read_table(path: str | Path, options: TableOptions = TableOptions()) -> Table:
    r"""Read features and target from a file.

    A text file (.csv, .tsv, .txt, packed as .gz or not) has one sample per line; comma, semicolon
    and tab separate. NPZ and NPY files hold arrays; Parquet, Feather and Arrow files need
    ``fastmlp[tables]``. Truth values become 0 and 1, dates days, and a column of text becomes a
    column of 0 and 1 for each of its values.

    Parameters
    ----------
    path : str or Path
    options : TableOptions, optional

    Returns
    -------
    Table

    Raises
    ------
    OSError
        If the file cannot be read.
    ImportError
        If it needs polars, which is not installed.
    ValueError
        If its content is not such a table: names file, line and column.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "flowers.csv"
    ...     _ = path.write_text("length,width,kind\n5.1,3.5,setosa\n6.2,2.9,virginica\n")
    ...     table = read_table(path, TableOptions(target=["kind"]))
    >>> table.X
    array([[5.1, 3.5],
           [6.2, 2.9]])
    >>> table.y.tolist()
    ['setosa', 'virginica']
    """
    path = Path(path)
    if kind_of(path) in ARRAYS:
        return _table(path, _read_array_file(path, options), options)
    return _table(path, _read_columns(path, options, ARRAYS, native=False), options)


@dataclass(frozen=True)
class MixedTable:
    """Columns of a file as they are, and a target.

    Parameters
    ----------
    source : str
        Name of the file.
    features : list of Column or polars Series
        A Series where the file gives a column a type of its own.
    targets : list of Column
        None of whose values is missing.
    categorical : list of str
        Names of features that hold categories, whatever they look like.
    notes : list of str
        What was read how, where that is not plain.

    Examples
    --------
    >>> MixedTable("a.csv", [], [Column("price", np.ones(2))], [], []).y
    array([1., 1.])
    """

    source: str
    features: list[Any]
    targets: list[Column]
    categorical: list[str]
    notes: list[str]

    @property
    def y(self) -> Array:
        """The target, of shape (n_samples,) or (n_samples, n_targets)."""
        values = [column.values for column in self.targets]
        return values[0] if len(values) == 1 else np.column_stack(values)

    @property
    def target(self) -> str:
        """Name of the target, for messages."""
        return ", ".join(column.name for column in self.targets)


def read_mixed_table(path: str | Path, options: TableOptions = TableOptions()) -> MixedTable:
    r"""Read the columns of a text, Parquet, Feather or Arrow file as they are, and a target.

    Values may be missing; a row without a target is left out, which is noted. It needs
    ``fastmlp[tables]``.

    Parameters
    ----------
    path : str or Path
    options : TableOptions, optional
        `missing` is not used.

    Raises
    ------
    OSError, ImportError, ValueError
        As `read_table`; numbers beside text in one column are refused here, too.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "flats.csv"
    ...     _ = path.write_text("size,kind,rent\n51.5,loft,3.5\n,,2.9\n")
    ...     table = read_mixed_table(path)
    >>> [column.values.tolist() for column in table.features]
    [[51.5, nan], ['loft', '']]
    """
    path = Path(path)
    found = _read_columns(path, options, (), native=True)
    names = [column.name for column in found.features]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"{path} has several columns of one name: {listing(twice[:6])}; leave some out by "
            "--drop and their indices"
        )
    lacking = np.any([column.missing for column in found.targets], axis=0)
    if lacking.all():
        raise ValueError(f"{path}: every row lacks a target")
    categorical = [found.names[i] for i in found.chosen.features if i in found.chosen.categorical]
    notes = list(found.notes)
    for column in (*found.features, *found.targets):
        if isinstance(column, Column):
            _check_infinite(path, column, found.place)
            if column.note:
                notes.append(f"column {column.name!r}: {column.note}")
    for column in found.features:
        odd = column.odd if isinstance(column, Column) else None
        if odd is not None and column.name not in categorical:
            raise _odd(path, column.name, odd, found.place)
    if lacking.any():
        notes.append(f"{lacking.sum()} of {len(lacking)} rows lack a target and are left out")
    rows = np.flatnonzero(~lacking)
    features = [_some(column, rows) if lacking.any() else column for column in found.features]
    targets = [_some(column, rows) for column in found.targets]
    return MixedTable(str(path), features, targets, categorical, notes)


def _some(column: Any, rows: Array) -> Any:
    return (
        replace(column, values=column.values[rows]) if isinstance(column, Column) else column[rows]
    )


def _odd(path: Path, name: str, odd: Odd, place: Callable[[int], str]) -> ValueError:
    return ValueError(
        f"{path}, {place(odd.row)}, column {name!r}: {odd.reason}; "
        "mend it, or leave the column out by --drop, or take it as names by --categorical"
    )


class _Columns(NamedTuple):
    """What is read of a file."""

    chosen: _Chosen
    features: list[Any]
    targets: list[Column]
    place: Callable[[int], str]
    notes: list[str]
    #: Of all columns.
    names: list[str]


def _read_columns(
    path: Path, options: TableOptions, others: Sequence[str], *, native: bool
) -> _Columns:
    """Return the columns of a file; `others` are further endings that a caller takes."""
    kind = kind_of(path)
    if kind in TEXT:
        return _read_text_file(path, options)
    if kind in COLUMNAR:
        return _read_columnar_file(path, options, native)
    known = ", ".join((*TEXT, *others, *COLUMNAR))
    raise ValueError(f"a table must end in one of {known}, got {str(path)!r}")


def _read_text_file(path: Path, options: TableOptions) -> _Columns:
    text = read_text_table(
        path,
        encoding=options.encoding,
        comment=options.comment,
        header=options.header,
        delimiter=options.delimiter,
    )
    width = len(text.columns)
    if width < 2:
        raise ValueError(
            f"{path} has one column; a feature column and a target column are wanted, separated by "
            "comma, semicolon or tab, or as --delimiter says"
        )
    names = text.names or [str(i) for i in range(width)]
    chosen = _choose(path, names, options, named=bool(text.names))
    rules = _rules(path, names, options, ".," if text.delimiter == ";" else ".")

    def place(row: int) -> str:
        line = text.lines[row]
        return f"line {line}" if line == row + 1 else f"line {line} (row {row + 1} of the table)"

    def column(index: int, labels: bool) -> Column:
        name, cells = names[index], text.columns[index]
        if not isinstance(cells, list):
            return parse_column(name, cells, rules, labels=labels)
        if options.decimal == "," or options.date_format:
            raise needs_polars(f"{path}: --decimal ',' or --date-format")
        try:
            return parse_plain_column(name, cells, rules.missing, labels=labels)
        except NotPlainError as error:
            where = f"{path}, {place(error.row)}, column {name!r}"
            raise needs_polars(f"{where}: {error}") from error

    return _Columns(chosen, *chosen.columns(column), place, text.notes, names)


def _read_columnar_file(path: Path, options: TableOptions, native: bool) -> _Columns:
    columns = read_columnar(path)
    names = [column.name for column in columns]
    chosen = _choose(path, names, options)
    rules = _rules(path, names, options, ".")

    def column(index: int, labels: bool) -> Any:
        series = columns[index]
        if native and index not in chosen.targets and not is_text(series):
            return series
        return typed_column(path, series, rules, labels=labels)

    return _Columns(chosen, *chosen.columns(column), _index_of, [], names)


def _rules(path: Path, names: list[str], options: TableOptions, decimal: str) -> CellRules:
    for word in options.date_format:
        name, equals, date_format = word.rpartition("=")
        if equals and name not in names:
            raise ValueError(f"{path} has no column {name!r}, of which --date-format speaks")
        check_date_format(date_format)
    return CellRules(options.decimal or decimal, options.na_values, options.date_format)


def _index_of(row: int) -> str:
    return f"row {row} (from 0)"


def _read_array_file(path: Path, options: TableOptions) -> _Columns:
    arrays = read_arrays(path)
    if "" in arrays and path.suffix.lower() == ".npy":
        X = arrays[""]
        if X.ndim != 2 or X.shape[1] < 2:
            raise ValueError(f"{path} must hold rows of two columns or more, got shape {X.shape}")
        names = [str(i) for i in range(X.shape[1])]
        chosen = _choose(path, names, options, named=False)
        X, y, target = X[:, chosen.features], X[:, chosen.targets], names[chosen.targets[0]]
    else:
        if len(options.target) > 1:
            raise ValueError(f"{path} holds arrays: --target names one of them")
        target = options.target[0] if options.target else "y"
        for name, option in ((options.features, "--features"), (target, "--target")):
            if name not in arrays:
                raise ValueError(
                    f"{path} has no array {name!r}; it holds {list(arrays)}: choose by {option}"
                )
        X, y = arrays[options.features], arrays[target]
        if X.ndim != 2 or y.ndim not in (1, 2) or len(X) != len(y):
            raise ValueError(
                f"{path} must hold {options.features} of shape (n_samples, n_features) and "
                f"{target} of as many rows, got shapes {X.shape} and {y.shape}"
            )
        names = [str(i) for i in range(X.shape[1])]
        chosen = _choose(path, names, options, named=False, any_target=False)
        X = X[:, chosen.features]
    for name, array, allowed in (("features", X, "biuf"), ("target", y, "biufUS")):
        if array.dtype.kind not in allowed:
            raise ValueError(f"{path}: the {name} must be numbers, got {array.dtype}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    y = y.astype(np.str_) if y.dtype.kind == "S" else y
    columns = [Column(names[i], values) for i, values in zip(chosen.features, X.T, strict=True)]
    wanted = (
        [Column(target, y)]
        if y.ndim == 1
        else [Column(f"{target}[{i}]", y[:, i]) for i in range(y.shape[1])]
    )
    return _Columns(chosen, columns, wanted, _index_of, [], names)


class _Chosen(NamedTuple):
    """Indices of columns."""

    targets: list[int]
    features: list[int]
    #: Features that are names, whatever they look like.
    categorical: set[int]

    def columns(self, column: Callable[[int, bool], Any]) -> tuple[list[Any], list[Column]]:
        """Return the features and the targets; `column` takes an index, and if it holds names."""
        features = [column(i, i in self.categorical) for i in self.features]
        return features, [column(i, True) for i in self.targets]


def _choose(
    path: Path,
    names: list[str],
    options: TableOptions,
    *,
    named: bool = True,
    any_target: bool = True,
) -> _Chosen:
    """Return which columns are the target's and which are features."""

    def find(wanted: str) -> int:
        if named and names.count(wanted) > 1:
            raise ValueError(f"{path} has {names.count(wanted)} columns {wanted!r}; use an index")
        if named and wanted in names:
            return names.index(wanted)
        if re.fullmatch(r"-?\d+", wanted, re.ASCII) and -len(names) <= int(wanted) < len(names):
            return int(wanted) % len(names)
        known = f"named {', '.join(names)}, or " if named else ""
        raise ValueError(
            f"{path} has no column {wanted!r}; its columns are {known}0 to {len(names) - 1}"
        )

    targets: list[int] = []
    if any_target:
        dropped = {find(name) for name in options.drop}
        last = [i for i in range(len(names)) if i not in dropped][-1:]
        targets = [find(name) for name in options.target] or last
    drop = {find(name) for name in options.drop} | set(targets)
    chosen = [find(name) for name in options.columns] or list(range(len(names)))
    features = [i for i in dict.fromkeys(chosen) if i not in drop]
    if not features:
        raise ValueError(f"{path}: no column is left as a feature")
    categorical = {find(name) for name in options.categorical}
    return _Chosen(list(dict.fromkeys(targets)), features, categorical)


def _table(path: Path, read: _Columns, options: TableOptions) -> Table:
    chosen, features, targets, place, notes, _ = read
    n_rows = len(targets[0].values)
    kept = np.ones(n_rows, dtype=bool)
    for column in (*features, *targets):
        gaps = column.missing
        if gaps.all():
            raise ValueError(
                f"{path}, column {column.name!r}: there is no value in any row"
                + ("" if column in targets else "; leave the column out by --drop")
            )
        if options.missing == "drop":
            kept &= ~gaps
        elif gaps.any() and (options.missing == "error" or column in targets):
            row = int(np.argmax(gaps))
            raise ValueError(
                f"{path}, {place(row)}, column {column.name!r}: a value is missing; "
                "--missing drop leaves such rows out"
                + ("" if column in targets else ", --missing mean puts the column's mean there")
            )
        _check_infinite(path, column, place)
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise ValueError(f"{path}: every row lacks a value")
    notes = list(notes)
    if len(rows) < n_rows:
        notes.append(f"{n_rows - len(rows)} of {n_rows} rows lack a value and are left out")
    for column in (*features, *targets):
        if column.note:
            notes.append(f"column {column.name!r}: {column.note}")
    made = [
        _feature(path, column, index in chosen.categorical, rows, place, notes)
        for index, column in zip(chosen.features, features, strict=True)
    ]
    pairs = zip(made, features, strict=True)
    X = np.column_stack([feature.encode(column.values[rows]) for feature, column in pairs])
    for column in targets:
        if column.odd is not None:
            notes.append(
                f"target {column.name!r} is taken as text: {place(column.odd.row)}: "
                f"{column.odd.reason}"
            )
    if len(targets) == 1:
        y = targets[0].values[rows]
    else:
        y = np.column_stack([column.values[rows] for column in targets])
    names = tuple(column.name for column in targets)
    return Table(X, y, made, ", ".join(names), lambda row: place(int(rows[row])), notes, names)


def _check_infinite(path: Path, column: Column, place: Callable[[int], str]) -> None:
    if column.values.dtype.kind == "f" and np.isinf(column.values).any():
        row = int(np.argmax(np.isinf(column.values)))
        raise ValueError(
            f"{path}, {place(row)}, column {column.name!r}: "
            "a number is infinite, or too large for float64"
        )


def _feature(
    path: Path,
    column: Column,
    categorical: bool,
    rows: Array,
    place: Callable[[int], str],
    notes: list[str],
) -> Feature:
    """Return what a column is as a feature: numbers, or names of categories."""
    values = column.values[rows]
    if not column.is_text and not categorical:
        kind = "date" if column.is_date else "number"
        return Feature(column.name, kind, date_format=column.date_format)
    if column.odd is not None and not categorical:
        raise _odd(path, column.name, column.odd, place)
    known = values[~column.missing[rows]]
    categories = np.unique(known)
    if len(categories) > MOST_CATEGORIES or len(categories) == len(rows) > 2:
        raise ValueError(
            f"{path}, column {column.name!r}: {len(categories)} different texts, such as "
            f"{str(categories[0])!r}, are too many for categories; leave it out by --drop, or say "
            "how to read dates by --date-format"
        )
    notes.append(
        f"column {column.name!r} is text: one column of 0 and 1 for each of "
        f"{len(categories)} values"
    )
    return Feature(column.name, "category", tuple(categories.tolist()))
