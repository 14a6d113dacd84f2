"""Tables of mixed columns, as the estimators for tables take them, and models that such made."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._progress import progress_bar
from fastmlp.cli.rows import MOST_NUMBERS, Rows, match_columns, read_any_model, single
from fastmlp.datasets.cells import CellRules, Column
from fastmlp.datasets.files import has_polars, is_text, needs_polars
from fastmlp.datasets.pieces import Piece, Pieces, feature_values
from fastmlp.model_file import ModelFile
from fastmlp.preprocessing import Feature, Preprocessing, RowError, missing

Array = NDArray[Any]

#: What model files call the estimators for tables, and what they are for.
TASKS_BY_KIND = {"TabularClassifier": "classification", "TabularRegressor": "regression"}
#: What the encoder calls kinds of columns, as readers do; an empty one has no categories.
_READ_AS = {"time": "date", "category": "category", "empty": "category"}
_MICROSECONDS_A_DAY = 86_400 * 10**6


def estimators() -> Mapping[str, Any]:
    """Return the estimators for tables by name.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.

    Examples
    --------
    >>> list(estimators())
    ['TabularClassifier', 'TabularRegressor']
    """
    from fastmlp.sklearn import TabularClassifier, TabularRegressor

    return {one.__name__: one for one in (TabularClassifier, TabularRegressor)}


def is_tabular(model: ModelFile) -> bool:
    """Return whether a model file is of an estimator for tables.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> is_tabular(ModelFile(MLP([4, 3])))
    False
    """
    return model.estimator is not None and model.estimator.get("kind") in TASKS_BY_KIND


@dataclass(frozen=True)
class TableModel:
    """An estimator for tables that was read from a file.

    Parameters
    ----------
    estimator : TabularClassifier or TabularRegressor
    file : ModelFile
        Of it, with what it takes as a table's columns.
    """

    estimator: Any
    file: ModelFile

    @classmethod
    def of(
        cls, model: ModelFile, backend: str = "auto", n_threads: int | None = None
    ) -> TableModel:
        """Return the model of a file, which predicts on a backend.

        Raises
        ------
        ImportError, ValueError
            If an installation is wrong, or the content does not hang together.
        """
        content = dict(model.estimator or {})
        parameters = content.get("parameters")
        if isinstance(parameters, dict):
            content["parameters"] = parameters | {"backend": backend, "n_threads": n_threads}
        estimator = estimators()[content["kind"]].of_model_file(replace(model, estimator=content))
        encoder, source = content["fitted"]["encoder"], content["fitted"]["source"]
        names = encoder["names"] or map(str, range(estimator.n_features_in_))
        features = tuple(
            _feature(name, feature, source["date_formats"].get(name))
            for name, feature in zip(names, encoder["features"], strict=True)
        )
        task = TASKS_BY_KIND[content["kind"]]
        columns = Preprocessing(features, target=tuple(source["target"]), task=task)
        network = model.network.copy()
        if task == "regression" and len(set(columns.target)) == network.n_outputs:
            network.label_names = columns.target
        return cls(estimator, replace(model, network=network, preprocessing=columns))

    def answers(self, frame: Any) -> tuple[Array, Array | None]:
        """Return what a table's rows are predicted to be, and the probabilities of classes."""
        if self.file.task == "regression":
            return self.estimator.predict(frame), None
        probabilities = self.estimator.predict_proba(frame)
        return self.estimator.classes_[probabilities.argmax(axis=1)], probabilities


def _feature(name: str, feature: Mapping[str, Any], date_format: str | None) -> Feature:
    kind = _READ_AS.get(feature["kind"], "number")
    return Feature(name, kind, tuple(feature.get("categories", ())), date_format)


@dataclass(frozen=True)
class TableRows:
    """A model for tables that is given the rows of one.

    Parameters
    ----------
    model : TableModel
    table : Pieces
    indices : list of int
        Which column of the table is each of the model's.
    quiet : bool
    """

    model: TableModel
    table: Pieces
    indices: list[int]
    quiet: bool = False

    @classmethod
    def of(
        cls,
        model: TableModel,
        table: Pieces,
        options: argparse.Namespace,
        targets: Sequence[int] = (),
        kept: Sequence[int] = (),
    ) -> TableRows:
        """Return the rows as the options of a command say; other columns are read as cells."""
        if not has_polars():
            raise needs_polars(f"{table.source}, as a table of mixed columns")
        indices = match_columns(model.file, table, options.columns, targets)
        features = zip(indices, model.file.columns.features, strict=True)
        table.wanted = {
            **{index: feature.kind == "number" for index, feature in features},
            **dict.fromkeys((*targets, *kept), False),
        }
        return cls(model, table, indices, options.quiet)

    def answers(self) -> Iterator[tuple[Piece, Array, Array | None]]:
        """Yield each piece of the table with the model's predictions and probabilities.

        Raises
        ------
        ValueError
            If a row cannot be taken; says where it is.
        """
        n_rows = max(1, MOST_NUMBERS // self.model.file.network.n_inputs)
        with progress_bar(self.table.size, shown=not self.quiet) as move_to:
            parts = (part for piece in self.table.pieces for part in piece.cut(n_rows))
            for piece in parts:
                try:
                    predictions, probabilities = self.model.answers(self.frame(piece))
                except RowError as error:
                    where = f"{self.table.source}, {piece.place(error.row)}"
                    raise ValueError(f"{where}: {error.reason}") from error
                except ValueError as error:
                    where = f"{self.table.source}, from {piece.place(0)} on"
                    raise ValueError(f"{where}: {error}") from error
                yield piece, predictions, probabilities
                move_to(self.table.position)

    def frame(self, piece: Piece) -> Any:
        """Return a piece as the estimator takes it: a frame of polars, or an array."""
        import polars as pl

        features = self.model.file.columns.features
        made = pl.DataFrame(
            [
                _series(feature, piece.columns[index], self.table.rules)
                for feature, index in zip(features, self.indices, strict=True)
            ]
        )
        named = hasattr(self.model.estimator, "feature_names_in_")
        return made if named else made.to_numpy()


def _series(feature: Feature, cells: Any, rules: CellRules) -> Any:
    """Return a column as its file has it, or what its cells are where they are text."""
    import polars as pl

    if isinstance(cells, pl.Series) and not is_text(cells):
        return cells.alias(feature.name)
    if isinstance(cells, np.ndarray) and cells.dtype.kind != "U":
        return pl.Series(feature.name, cells)
    if feature.kind == "category" and not feature.categories:
        return pl.Series(feature.name, [None] * len(cells), dtype=pl.String)
    truths = {type(one) for one in feature.categories} == {bool}
    read = replace(feature, kind="number") if not feature.is_text and truths else feature
    values = feature_values(read, cells, rules)
    made = series_of(Column(feature.name, values), is_date=feature.kind == "date")
    return made.cast(pl.Boolean) if truths and not feature.is_text else made


def series_of(column: Column, *, is_date: bool) -> Any:
    """Return what a reader made of a column as polars has it: null where a value is missing.

    Parameters
    ----------
    column : Column
    is_date : bool
        Whether its numbers are days since 1970.

    Examples
    --------
    >>> series_of(Column("colour", np.array(["red", ""])), is_date=False).to_list()
    ['red', None]
    """
    import polars as pl

    gone = missing(column.values)
    if column.is_text:
        texts = column.values.astype(object)
        texts[gone] = None
        return pl.Series(column.name, texts.tolist(), pl.String)
    if is_date:
        moments = np.where(gone, 0, column.values) * _MICROSECONDS_A_DAY
        microseconds = np.round(moments).astype(np.int64).astype("datetime64[us]")
        made = pl.Series(column.name, microseconds)
    else:
        made = pl.Series(column.name, column.values)
    return made if not gone.any() else made.set(pl.Series(gone), None)


def read_predicting(
    options: argparse.Namespace,
) -> tuple[ModelFile, Callable[..., Rows | TableRows]]:
    """Return the model that a command is to predict by, and what gives it the rows of a table.

    The latter takes the table, the options, and columns of targets and those to keep.

    Raises
    ------
    ImportError, OSError, ValueError
        If there is no such model, or an installation is wrong.
    """
    model = read_any_model(options.model)
    if not is_tabular(model):
        return model, partial(Rows.of, single(model, options.model))
    made = load_tabular(model, options.model, options.backend, options.threads)
    return made.file, partial(TableRows.of, made)


def load_tabular(
    model: ModelFile, path: str, backend: str = "auto", n_threads: int | None = None
) -> TableModel:
    """Return the model for tables of a file; an error names the file."""
    from fastmlp.sklearn._model_files import named

    with named(path):
        return TableModel.of(model, backend, n_threads)
