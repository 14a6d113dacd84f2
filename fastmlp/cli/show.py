"""`fastmlp show`: what a model file holds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.cli.rows import read_any_model, single
from fastmlp.cli.tabular import TableModel, is_tabular, load_tabular
from fastmlp.history import format_value
from fastmlp.model_file import ModelFile
from fastmlp.preprocessing import Feature

_SHOWN = 10


def add_show(commands: Any) -> None:
    """Add the command `show`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_show(parser.add_subparsers())
    >>> parser.parse_args(["show", "model.safetensors"]).model
    'model.safetensors'
    """
    parser = commands.add_parser(
        "show",
        help="print what a model file holds",
        description="Print a model file's layers and numbers of parameters, what it takes and "
        "predicts, and how it was trained.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model file (.safetensors)")
    parser.set_defaults(run=show)


def show(options: argparse.Namespace) -> None:
    """Print what a model file holds.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_show` defines.

    Raises
    ------
    ImportError, OSError, ValueError
        If there is no such file, or it is no model file.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp import MLP
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     MLP([4, 8, 3]).save(f"{folder}/model.safetensors")
    ...     show(argparse.Namespace(model=f"{folder}/model.safetensors"))
    layer  shape      activation  parameters
        1  4 x 8      relu                40
        2  8 x 3      softmax             27
    total 67 parameters of float32, 0.3 KiB
    task: classification
    features: 4
    labels: 3 (0, 1, 2)
    """
    model = read_any_model(options.model)
    more: list[tuple[str, str]] = []
    if is_tabular(model):
        made = load_tabular(model, options.model, "numpy")
        model, more = made.file, _of_members(made)
    else:
        single(model, options.model)
    model.network.summary()
    for name, text in [*_facts(model), *more]:
        print(f"{name}: {text}")


def _of_members(made: TableModel) -> list[tuple[str, str]]:
    """Return what there is to say of an estimator for tables."""
    estimator = made.estimator
    scores = estimator.fold_scores_[~np.isnan(estimator.fold_scores_)]
    facts = [
        ("networks", str(len(estimator.best_epochs_))),
        ("best epochs", ", ".join(map(str, estimator.best_epochs_))),
    ]
    if len(scores):
        name = "accuracy" if made.file.task == "classification" else "r2"
        spread = f" (from {scores.min():.4f} to {scores.max():.4f})" if len(scores) > 1 else ""
        facts.append((f"{name} on rows held out", f"{scores.mean():.4f}{spread}"))
    if made.file.task == "classification":
        facts.append(("temperature", f"{estimator.temperature_:.4g}"))
    return facts


def _facts(model: ModelFile) -> list[tuple[str, str]]:
    network, columns = model.network, model.columns
    facts = [("task", model.task)]
    if model.estimator is not None:
        facts.append(("estimator", str(model.estimator["kind"])))
    if network.input_scale != 1:
        facts.append(("input scale", f"{network.input_scale:g}"))
    if network.precision != "full":
        facts.append(("precision", network.precision))
    names = [_feature(feature) for feature in columns.features]
    if all(name.isdecimal() for name in names):
        names = []
    facts.append(("features", _listed(len(columns.features), names)))
    if columns.fill is not None:
        facts.append(("missing values", "replaced by the means of the training data"))
    if columns.mean is not None:
        facts.append(("standardized", "yes, by the training data"))
    if columns.target:
        facts.append(("target", ", ".join(columns.target)))
    if model.task != "regression":
        facts.append(("labels", _listed(len(model.labels), list(map(str, model.labels)))))
    return facts + _training(model)


def _feature(feature: Feature) -> str:
    if feature.kind == "category":
        return f"{feature.name} ({len(feature.categories)} categories)"
    return f"{feature.name} (date)" if feature.kind == "date" else feature.name


def _listed(number: int, names: Sequence[str]) -> str:
    if not names:
        return str(number)
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{number} ({', '.join(names[:_SHOWN])}{more})"


def _training(model: ModelFile) -> list[tuple[str, str]]:
    training = model.network.training
    if training is None:
        return []
    scores = [
        f"{name} {'none' if value is None else format_value(name, value)}"
        for name, value in training["scores"].items()
    ]
    return [
        ("trained", f"{training['epochs']} epochs by fastmlp {training['fastmlp']}"),
        ("last epoch", ", ".join(scores)),
        ("loss", training["loss"]),
        ("optimizer", training["optimizer"]),
    ]
