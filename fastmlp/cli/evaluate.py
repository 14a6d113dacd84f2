"""`fastmlp evaluate`: how well a model predicts the rows of a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import default_loss
from fastmlp.cli.rows import Rows, add_rows, encoded, table_options, target_features
from fastmlp.cli.tabular import TableRows, is_tabular, read_predicting
from fastmlp.datasets.pieces import Piece, Pieces, open_pieces
from fastmlp.history import format_value
from fastmlp.losses import Loss
from fastmlp.metrics import RunningScore, running_score, score_name, score_targets
from fastmlp.model_file import ModelFile
from fastmlp.targets import dense_targets, prepare_targets

Array = NDArray[Any]


def add_evaluate(commands: Any) -> None:
    """Add the command `evaluate`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_evaluate(parser.add_subparsers())
    >>> parser.parse_args(["evaluate", "model.safetensors", "data.csv"]).target
    []
    """
    parser = commands.add_parser(
        "evaluate",
        help="say how well a model file predicts a table",
        description="Print the loss and the score of a model on the rows of a table that holds the "
        "target too. Read in pieces, so that a file may be larger than memory.",
    )
    parser.set_defaults(run=evaluate)
    add_rows(parser)
    parser.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="the target's columns (by default those that the model learned from, or the last), or "
        "an NPZ file's array (by default y)",
    )


def evaluate(options: argparse.Namespace) -> None:
    r"""Print how well a model predicts, as the options of `fastmlp evaluate` say.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_evaluate` defines.

    Raises
    ------
    ImportError, OSError, ValueError
        If the model, an option, the data or an installation is wrong.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastmlp import MLP
    >>> parser = argparse.ArgumentParser()
    >>> add_evaluate(parser.add_subparsers())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model, data = Path(folder, "model.safetensors"), Path(folder, "data.csv")
    ...     MLP([1, 2]).save(model)
    ...     _ = data.write_text("a,kind\n0,0\n0,1\n")
    ...     evaluate(parser.parse_args(["evaluate", str(model), str(data), "--backend", "numpy"]))
    2 rows
    loss (cross_entropy): 0.6931
    accuracy: 0.5000
    """
    model, rows_of = read_predicting(options)
    array = (options.target or ["y"])[:1] if options.data.lower().endswith(".npz") else []
    chosen = table_options(options, array)
    with open_pieces(options.data, chosen, native=is_tabular(model)) as table:
        targets = _targets(model, table, [] if array else options.target)
        rows = rows_of(table, options, targets)
        names = [table.names[i] if table.names else str(i) for i in targets]
        made = target_features(model, names)
        if isinstance(rows, Rows):
            judge = _Judge(model)
            for piece, logits in rows.logits():
                judge.add(logits, encoded(table, piece, made, targets))
            print(judge)
        else:
            print("\n".join(_judged(rows, lambda piece: encoded(table, piece, made, targets))))


def _targets(model: ModelFile, table: Pieces, chosen: Sequence[str]) -> list[int]:
    """Return the columns of the target."""
    learned = model.columns.target
    if not chosen and learned and all(name in table.names for name in learned):
        chosen = learned
    if chosen:
        return [table.column(name) for name in chosen]
    of_arrays = [i for i, name in enumerate(table.names) if name.startswith("target ")]
    if of_arrays:
        return of_arrays
    n_targets = 1 if model.task == "classification" else model.network.n_outputs
    return list(range(max(table.width - n_targets, 0), table.width))


def _judged(rows: TableRows, targets_of: Callable[[Piece], Array]) -> list[str]:
    """Return what there is to say of a model for tables; its outputs have no logits."""
    from sklearn.metrics import r2_score

    found = [
        (targets_of(piece), predictions, probabilities)
        for piece, predictions, probabilities in rows.answers()
    ]
    targets, predictions = (np.concatenate([one[i] for one in found]) for i in (0, 1))
    lines = [f"{len(targets)} row{'s'[: len(targets) > 1]}"]
    if rows.model.file.task == "classification":
        probabilities = np.concatenate([one[2] for one in found if one[2] is not None])
        numbers = targets.argmax(axis=1)
        own = probabilities[np.arange(len(numbers)), numbers].astype(np.float64)
        loss = -np.log(np.maximum(own, np.finfo(probabilities.dtype).tiny)).mean()
        hits = predictions == rows.model.estimator.classes_[numbers]
        scores = {"log loss": loss, "accuracy": hits.mean()}
    else:
        errors = targets - predictions.reshape(targets.shape)
        scores = {
            "r2": r2_score(targets, targets - errors) if len(targets) > 1 else np.nan,
            "root mean squared error": np.sqrt(np.square(errors).mean()),
            "mean absolute error": np.abs(errors).mean(),
        }
    return lines + [f"{name}: {format_value(name, float(value))}" for name, value in scores.items()]


class _Judge:
    """Sums up the loss and the score of rows."""

    def __init__(self, model: ModelFile) -> None:
        self._model = model
        self._loss: Loss = default_loss(model.network)
        self._score: RunningScore | None = None
        self._sum = self._absolute = 0.0
        self._n_rows = 0

    def add(self, logits: Array, y: Array) -> None:
        """Take in some rows; classes as columns of 0 and 1."""
        network = self._model.network
        output = network.output_activation
        if self._model.task == "classification" and network.n_outputs == 1:
            y = y[:, -1:]
        targets = prepare_targets(y, self._loss, output, network.n_outputs, network.dtype)
        outputs = output.forward(logits, out=np.empty_like(logits))
        dense = dense_targets(targets, network.n_outputs, network.dtype)
        values = self._loss.value(logits, outputs, dense, output)
        self._sum += float(values.sum(dtype=np.float64))
        self._absolute += float(np.abs(outputs - dense).mean(axis=1, dtype=np.float64).sum())
        right = score_targets(output, targets)
        if self._score is None:
            self._score = running_score(output, right, len(right))
        self._score.add(logits, right, None)
        self._n_rows += len(logits)

    def __str__(self) -> str:
        output = self._model.network.output_activation
        assert self._score is not None  # a table has a row
        loss, name, n_rows = self._sum / self._n_rows, score_name(output), self._n_rows
        lines = [
            f"{n_rows} row{'s' if n_rows > 1 else ''}",
            f"loss ({self._loss.name}): {format_value('loss', loss)}",
            f"{name}: {format_value(name, self._score.value())}",
        ]
        if self._model.task == "regression":
            error = self._absolute / self._n_rows
            lines.append(f"mean absolute error: {format_value('error', error)}")
        return "\n".join(lines)
