"""`fastmlp predict`: what a model says of the rows of a table."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp._files import writing
from fastmlp.cli.files import check_folder
from fastmlp.cli.rows import add_rows, table_options
from fastmlp.cli.tabular import is_tabular, read_predicting
from fastmlp.datasets.files import COLUMNAR
from fastmlp.datasets.pieces import STANDARD, open_pieces, plain_cells
from fastmlp.model_file import ModelFile

Array = NDArray[Any]

_PREDICTION, _PROBABILITY = "prediction", "probability"


def add_predict(commands: Any) -> None:
    """Add the command `predict`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_predict(parser.add_subparsers())
    >>> parser.parse_args(["predict", "model.safetensors", "data.csv"]).out
    '-'
    """
    parser = commands.add_parser(
        "predict",
        help="predict the rows of a table by a model file",
        description="Predict the rows of a table: for each one a line with its label and the "
        "probability of every label, or its values. Columns are matched by name where the model "
        "has names; others are left aside. Read and written in pieces, so that a file may be "
        "larger than memory.",
    )
    parser.set_defaults(run=predict)
    add_rows(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        default=STANDARD,
        metavar="FILE",
        help="a .csv, .npz or .parquet file, or - for text on standard output (%(default)s)",
    )
    output.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns of the data to write in front, such as one that identifies rows",
    )
    output.add_argument("--no-probabilities", action="store_true", help="write predictions alone")


def predict(options: argparse.Namespace) -> None:
    r"""Predict the rows of a table as the options of `fastmlp predict` say.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_predict` defines.

    Raises
    ------
    ImportError, OSError, ValueError
        If the model, an option, the data or an installation is wrong. No file is written then.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp import MLP
    >>> parser = argparse.ArgumentParser()
    >>> add_predict(parser.add_subparsers())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model, data = Path(folder, "model.safetensors"), Path(folder, "data.csv")
    ...     MLP([2, 2]).save(model)
    ...     _ = data.write_text("a,b\n0,0\n")
    ...     predict(parser.parse_args(["predict", str(model), str(data), "--backend", "numpy"]))
    prediction,probability_0,probability_1
    0,0.5,0.5
    """
    model, rows_of = read_predicting(options)
    if options.out != STANDARD:
        check_folder("--out", Path(options.out))
    with open_pieces(options.data, table_options(options), native=is_tabular(model)) as table:
        kept = [table.column(name) for name in options.keep]
        rows = rows_of(table, options, kept=kept)
        names = [table.names[i] if table.names else str(i) for i in kept]
        with _writer(options.out) as writer:
            writer.begin([*names, *answer_names(model, not options.no_probabilities)])
            for piece, predictions, probabilities in rows.answers():
                answers = [predictions] if predictions.ndim == 1 else list(predictions.T)
                if probabilities is not None and not options.no_probabilities:
                    answers += list(probabilities.T)
                writer.write([*(plain_cells(piece.columns[i]) for i in kept), *answers])


def answer_names(model: ModelFile, with_probabilities: bool) -> list[str]:
    """Return the names of the columns of predictions and probabilities.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> answer_names(ModelFile(MLP([4, 2])), True)
    ['prediction', 'probability_0', 'probability_1']
    """
    names = [_PREDICTION]
    if model.task != "classification" and model.network.n_outputs > 1:
        names = [f"{_PREDICTION}_{label}" for label in model.labels]
    labels = (model.probability_labels or ()) if with_probabilities else ()
    return names + [f"{_PROBABILITY}_{label}" for label in labels]


# Writing -------------------------------------------------------------------------------------


class _Writer(Protocol):
    """Is given columns, piece by piece."""

    def begin(self, names: list[str]) -> None:
        """Name the columns."""

    def write(self, columns: Sequence[Any]) -> None:
        """Write some rows."""

    def end(self) -> None:
        """Write the rest."""


@contextlib.contextmanager
def _writer(out: str) -> Iterator[_Writer]:
    """Return what writes predictions; a file appears when it is whole."""
    if out == STANDARD:
        yield _Text(sys.stdout)
        sys.stdout.flush()
        return
    kind = Path(out).suffix.lower()
    kinds: dict[str, Any] = {
        ".csv": _text_in,
        ".npz": _Arrays,
        **dict.fromkeys(COLUMNAR, _Columnar),
    }
    if kind not in kinds:
        raise ValueError(f"--out must end in {', '.join(kinds)}, or be -, got {out!r}")
    if kind in COLUMNAR:
        _polars()
    with writing(out) as file:
        made = kinds[kind](file) if kind not in COLUMNAR else _Columnar(file, kind)
        yield made
        made.end()


def _text_in(file: Any) -> _Text:
    return _Text(io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True))


class _Text:
    """Writes CSV."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def begin(self, names: list[str]) -> None:
        csv.writer(self._file, lineterminator="\n").writerow(names)

    def write(self, columns: Sequence[Any]) -> None:
        texts = [_texts(column) for column in columns]
        self._file.write("".join(f"{','.join(row)}\n" for row in zip(*texts, strict=True)))

    def end(self) -> None:
        self._file.flush()
        self._file.detach()


def _texts(column: Any) -> list[str]:
    """Return a column as cells of CSV; numbers as shortly as they can be read again."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        if column.dtype == np.float32:
            return [f"{value:.9g}" for value in column.tolist()]
        return list(map(repr, column.tolist()))
    quoted = {cell: _quoted(cell) for cell in set(column)}
    return [quoted[cell] for cell in column]


def _quoted(cell: str) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([cell, ""])
    return text.getvalue()[:-1]


class _Arrays:
    """Writes an NPZ file: an array for each column."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._names: list[str] = []
        self._pieces: list[Sequence[Any]] = []

    def begin(self, names: list[str]) -> None:
        self._names = names

    def write(self, columns: Sequence[Any]) -> None:
        self._pieces.append([np.asarray(column) for column in columns])

    def end(self) -> None:
        arrays = [np.concatenate(column) for column in zip(*self._pieces, strict=True)]
        named: dict[str, Any] = dict(zip(self._names, arrays, strict=True))
        np.savez(self._file, **named)


class _Columnar(_Arrays):
    """Writes what polars writes."""

    def __init__(self, file: Any, kind: str) -> None:
        super().__init__(file)
        self._kind = kind

    def end(self) -> None:
        polars = _polars()
        arrays = [np.concatenate(column) for column in zip(*self._pieces, strict=True)]
        frame = polars.DataFrame(dict(zip(self._names, arrays, strict=True)))
        if self._kind == ".parquet":
            frame.write_parquet(self._file)
        else:
            frame.write_ipc(self._file)


def _polars() -> Any:
    try:
        import polars as pl
    except ImportError as error:
        raise ImportError(
            "writing .parquet and .arrow files needs polars: pip install 'fastmlp[tables]'"
        ) from error
    return pl
