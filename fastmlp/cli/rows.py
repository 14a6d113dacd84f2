"""From a table to a model's rows, piece by piece: for predictions and their judgement."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from fastmlp._checks import listing
from fastmlp._progress import progress_bar
from fastmlp.cli.options import whole_number
from fastmlp.cli.reading import add_reading, reading_options
from fastmlp.datasets.pieces import Piece, Pieces, feature_values
from fastmlp.datasets.table import TableOptions
from fastmlp.errors import ModelFileError
from fastmlp.model_file import ModelFile, load_model
from fastmlp.predictor import Predictor
from fastmlp.preprocessing import Feature, Preprocessing, RowError

Array = NDArray[Any]

_SHOWN_NAMES = 20
#: Characters of an estimator's name.
_MOST_KIND = 40
#: Of a network's inputs that are in memory at once.
MOST_NUMBERS = 2**21


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add what commands take that let a model predict the rows of a table.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_rows(parser)
    >>> parser.parse_args(["model.safetensors", "-"]).data
    '-'
    """
    parser.add_argument("model", metavar="MODEL", help="a model file (.safetensors)")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a .csv, .tsv, .csv.gz, .npz, .npy or .parquet file, or - for text on standard input",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="the model's features in its order, by name or index (by default by the model's "
        "names, where it has them)",
    )
    data.add_argument(
        "--features", default="X", metavar="NAME", help="an NPZ file's array (%(default)s)"
    )
    data.add_argument(
        "--ignore-unknown",
        action="store_true",
        help="take names that the model does not know as none of those that it knows, not as an "
        "error",
    )
    add_reading(parser.add_argument_group("reading a file"))
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="auto, or a name that `fastmlp info` lists (%(default)s)",
    )
    computing.add_argument(
        "--threads", type=whole_number, metavar="N", help="by default the backend chooses"
    )
    computing.add_argument("--quiet", action="store_true", help="show no progress")


def table_options(options: argparse.Namespace, target: Sequence[str] = ()) -> TableOptions:
    """Return how the table is read.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_rows(parser)
    >>> table_options(parser.parse_args(["a.safetensors", "b.csv"])).features
    'X'
    """
    return replace(reading_options(options), target=target, features=options.features)


def match_columns(
    model: ModelFile, table: Pieces, chosen: Sequence[str] = (), targets: Sequence[int] = ()
) -> list[int]:
    """Return which column of a table is each of a model's features.

    Parameters
    ----------
    model : ModelFile
    table : Pieces
    chosen : sequence of str, default ()
        Columns in the model's order, by name or index; by default those of the model's names, or
        all but the targets where it knows none.
    targets : sequence of int, default ()
        Columns that are no features.

    Raises
    ------
    ValueError
        If the table lacks columns: says which.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> network = MLP([2, 1])
    >>> network.feature_names = ("width", "height")
    >>> match_columns(ModelFile(network), Pieces("a.csv", ["height", "id"], 2, iter([])))
    Traceback (most recent call last):
        ...
    ValueError: a.csv lacks 1 of the 2 columns that the model takes: 'width'; it has 'height', 'id'
    """
    names = [feature.name for feature in model.columns.features]
    if chosen:
        if len(chosen) != len(names):
            raise ValueError(
                f"--columns must be the model's {len(names)} features, {_some(names)}, got "
                f"{len(chosen)}"
            )
        return [table.column(name) for name in chosen]
    if table.names and not all(name.isdecimal() for name in names):
        lacking = [name for name in names if name not in table.names]
        if lacking:
            raise ValueError(
                f"{table.source} lacks {len(lacking)} of the {len(names)} columns that the model "
                f"takes: {_some(lacking)}; it has {_some(table.names)}"
            )
        return [table.column(name) for name in names]
    others = [i for i in range(table.width) if i not in targets]
    if len(others) == len(names):
        return others
    known = model.preprocessing is not None and all(name.isdecimal() for name in names)
    if known and max(map(int, names)) < table.width:  # as in the file that it learned from
        return list(map(int, names))
    raise ValueError(
        f"{table.source} has {len(others)} columns{' besides the target' if targets else ''}, but "
        f"the model takes {len(names)}: {_some(names)}; choose by --columns"
    )


def _some(names: Sequence[str]) -> str:
    shown = listing(names[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


@dataclass(frozen=True)
class Rows:
    """A model that is given the rows of a table.

    Parameters
    ----------
    model : ModelFile
    table : Pieces
    indices : list of int
        Which column is each feature.
    predictor : Predictor
    ignore_unknown : bool
    quiet : bool
    """

    model: ModelFile
    table: Pieces
    indices: list[int]
    predictor: Predictor
    ignore_unknown: bool = False
    quiet: bool = False

    @classmethod
    def of(
        cls,
        model: ModelFile,
        table: Pieces,
        options: argparse.Namespace,
        targets: Sequence[int] = (),
        kept: Sequence[int] = (),
    ) -> Rows:
        """Return the rows as the options of a command say; other columns are read as cells."""
        indices = match_columns(model, table, options.columns, targets)
        features = zip(indices, model.columns.features, strict=True)
        table.wanted = {
            **{index: feature.kind == "number" for index, feature in features},
            **dict.fromkeys((*targets, *kept), False),
        }
        return cls(
            model,
            table,
            indices,
            Predictor(model.network, options.backend, options.threads),
            options.ignore_unknown,
            options.quiet,
        )

    def logits(self) -> Iterator[tuple[Piece, Array]]:
        """Yield each piece of the table with the network's logits of its rows.

        Raises
        ------
        ValueError
            If a row cannot be taken; says where it is.
        """
        # Names become many columns: a small file may need much memory.
        n_rows = max(1, MOST_NUMBERS // self.model.network.n_inputs)
        with progress_bar(self.table.size, shown=not self.quiet) as move_to:
            parts = (part for piece in self.table.pieces for part in piece.cut(n_rows))
            for piece in parts:
                X = encoded(
                    self.table, piece, self.model.columns, self.indices, self.ignore_unknown
                )
                try:
                    logits = self.predictor.logits(X)
                except ValueError as error:
                    where = f"{self.table.source}, from {piece.place(0)} on"
                    raise ValueError(f"{where}: {error}") from error
                yield piece, logits
                move_to(self.table.position)

    def answers(self) -> Iterator[tuple[Piece, Array, Array | None]]:
        """Yield each piece of the table with the model's predictions and probabilities."""
        for piece, logits in self.logits():
            yield piece, *self.model.answers(logits)


def encoded(
    table: Pieces,
    piece: Piece,
    made: Preprocessing,
    indices: Sequence[int],
    ignore_unknown: bool = False,
) -> Array:
    """Return some columns of a piece as numbers.

    Raises
    ------
    ValueError
        If a cell is none of its column; says where it is.
    """
    try:
        columns = [
            feature_values(feature, piece.columns[index], table.rules)
            for feature, index in zip(made.features, indices, strict=True)
        ]
        return made.transform(columns, ignore_unknown=ignore_unknown)
    except RowError as error:
        where = f"{table.source}, {piece.place(error.row)}"
        raise ValueError(f"{where}: {error.reason}") from error


def read_any_model(path: str) -> ModelFile:
    """Return what a model file holds, of one network or of many.

    Raises
    ------
    ModelFileError
        If it is none; of a checkpoint it says what is one.
    """
    if path.lower().endswith(".npz"):
        raise ValueError(
            f"{path} is no model file but, it seems, a checkpoint of a trainer; `fastmlp train "
            "--save FILE.safetensors` or MLP.save writes a model file"
        )
    return load_model(path, ensemble=None)


def read_model(path: str) -> ModelFile:
    """Return what a model file of a single network holds.

    Raises
    ------
    ModelFileError
        If it is none, or holds many networks.
    """
    return single(read_any_model(path), path)


def single(model: ModelFile, path: str) -> ModelFile:
    """Return a model if it is a single network.

    Raises
    ------
    ModelFileError
        If it is none.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> single(ModelFile(MLP([2, 3])), "a.safetensors").members
    """
    if model.members is None:
        return model
    kind = str((model.estimator or {}).get("kind", "Ensemble"))[:_MOST_KIND]
    raise ModelFileError(
        f"{path} holds a model of {len(model.members)} networks, which this command does not take; "
        f"{kind}.load reads it, and `fastmlp predict` takes those of tables"
    )


def target_features(model: ModelFile, names: Sequence[str]) -> Preprocessing:
    """Return what reads a target: class numbers' columns of 0 and 1, labels, or values.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> target_features(ModelFile(MLP([4, 3])), ["kind"]).features[0].categories
    (0, 1, 2)
    """
    if model.task == "classification" and len(names) == 1:
        return Preprocessing((Feature(names[0], "category", model.labels),))
    return Preprocessing(tuple(map(Feature, names)))
