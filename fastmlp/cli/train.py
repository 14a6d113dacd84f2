"""`fastmlp train`: train a network on a data set or a file, or a model for tables on a table."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp import _checks
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from fastmlp.backends import DataParallel
from fastmlp.callbacks import EarlyStopping
from fastmlp.cli.files import check_folder, check_model_file, is_model_file
from fastmlp.cli.options import described, number, whole_number
from fastmlp.cli.problem import DATA_SETS, Problem, load_problem, split
from fastmlp.cli.reading import add_reading
from fastmlp.cli.recipe import OF_NETWORKS, RECIPES, choose_recipe, of_network
from fastmlp.cli.train_tabular import add_tabular, train_table
from fastmlp.datasets.cells import Array
from fastmlp.errors import TrainingInterrupted
from fastmlp.history import History, format_value
from fastmlp.lbfgs import LBFGS
from fastmlp.losses import LOSSES
from fastmlp.metrics import score_name
from fastmlp.model_file import ModelFile, save_model
from fastmlp.network import MLP
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.preprocessing import TASKS
from fastmlp.regularization import Regularization
from fastmlp.schedules import SCHEDULES
from fastmlp.trainer import Trainer

#: Options of files, for processes that write none.
_NOT_WRITTEN = {"save": None, "history": None}
_OPTIMIZERS: _checks.Vocabulary[Optimizer | LBFGS] = _checks.Vocabulary(
    {**OPTIMIZERS, LBFGS.name: LBFGS()}, {LBFGS.name: ("L-BFGS",)}
)


def add_train(commands: Any) -> None:
    """Add the command `train`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_train(parser.add_subparsers())
    >>> parser.parse_args(["train", "--layers", "32", "16"]).layers
    [32, 16]
    """
    parser = commands.add_parser(
        "train",
        help="train a network on a data set or a file, or a model for tables on a table",
        usage="%(prog)s [TABLE] [OPTION ...]",
        description="Train a network and print its accuracy (or loss) on held-out test data. "
        "With no options it learns the bundled handwritten digits in seconds. With a table, such "
        "as `fastmlp train flats.csv --target rent`, and no option that describes a network, it "
        "trains a TabularClassifier or a TabularRegressor on the table as it is, and prints how "
        "good they are about rows that were held out; see --recipe.",
    )
    parser.add_argument(
        "table",
        nargs="?",
        metavar="TABLE",
        help="a .csv, .tsv, .csv.gz, .parquet, .feather or .arrow file with columns of any kind",
    )
    parser.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help="tabular, networks on folds that need no choices, or network, one as options describe "
        "it (by default tabular for a TABLE, but network with --data, or with options of a "
        "network, of its training, of preparing its data or of its test)",
    )
    _add_data(parser.add_argument_group("data"))
    _add_reading(parser.add_argument_group("reading a file"))
    add_tabular(parser.add_argument_group("recipe tabular"))
    _add_network(parser.add_argument_group("network"))
    _add_training(parser.add_argument_group("training"))
    _add_regularization(parser.add_argument_group("regularization"))
    _add_stopping(parser.add_argument_group("early stopping and scores"))
    _add_running(parser.add_argument_group("running and output"))
    # What is given tells recipes apart; what is not, is filled in later.
    parser.set_defaults(run=train, **dict.fromkeys(OF_NETWORKS))


def _add_data(data: Any) -> None:
    data.add_argument(
        "--data",
        metavar="NAME_OR_FILE",
        help=f"{', '.join(DATA_SETS)}, or a .csv, .tsv, .csv.gz, .npz, .npy or .parquet file, for "
        "a network (digits)",
    )
    data.add_argument(
        "--target",
        nargs="+",
        metavar="COLUMN",
        help="name or index of the target's column, or of several for multi-label or several "
        "values (by default the last column), or name of an NPZ file's target array (by default y)",
    )
    data.add_argument("--features", metavar="NAME", help="an NPZ file's array (X)")
    data.add_argument(
        "--columns", nargs="+", default=[], metavar="COLUMN", help="features (by default all)"
    )
    data.add_argument(
        "--drop", nargs="+", default=[], metavar="COLUMN", help="columns that are no features"
    )
    data.add_argument(
        "--categorical",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns whose numbers are names of categories, as text is anyway",
    )
    data.add_argument(
        "--task",
        choices=list(TASKS),
        help="by default guessed from the target, and said: classification if it is text or "
        "whole numbers of few values, multilabel if it is several columns of 0 and 1",
    )
    data.add_argument(
        "--test-fraction",
        type=number,
        metavar="SHARE",
        help="share of a file that is held out (0.2)",
    )
    data.add_argument(
        "--stratify", action="store_true", help="hold out the same share of every class"
    )
    data.add_argument(
        "--standardize",
        action="store_true",
        help="shift and scale every feature to mean 0 and deviation 1 over the training data",
    )


def _add_reading(data: Any) -> None:
    data.add_argument(
        "--missing",
        choices=["error", "drop", "mean"],
        help="what to do where a value is missing: stop, leave out the row, or put the training "
        "data's mean (error)",
    )
    add_reading(data)


def _add_network(network: Any) -> None:
    network.add_argument(
        "--layers",
        type=whole_number,
        nargs="*",
        metavar="WIDTH",
        help="hidden layers' widths (128)",
    )
    network.add_argument(
        "--hidden-activation",
        nargs="+",
        choices=list(ACTIVATIONS),
        metavar="NAME",
        help=f"one for all hidden layers, or one per layer: {', '.join(ACTIVATIONS)} (relu)",
    )
    network.add_argument(
        "--output-activation",
        choices=list(OUTPUT_ACTIVATIONS),
        help="by default softmax for classification, sigmoid for multilabel, linear for regression",
    )
    network.add_argument("--dtype", choices=["float32", "float64"], help="precision (float32)")


def _add_training(training: Any) -> None:
    for option, names, usual in (
        ("--loss", LOSSES, "by default what suits the output"),
        ("--optimizer", _OPTIMIZERS, "adam"),
        ("--schedule", SCHEDULES, "of the learning rate; constant"),
    ):
        training.add_argument(
            option,
            nargs="+",
            metavar=("NAME", "PARAMETER=VALUE"),
            help=f"{', '.join(names)} ({usual})",
        )
    training.add_argument(
        "--learning-rate", type=number, metavar="RATE", help="by default the optimizer's own"
    )
    training.add_argument(
        "--momentum", type=number, metavar="M", help="of sgd and rmsprop (by default 0)"
    )
    training.add_argument(
        "--nesterov", action="store_true", default=None, help="Nesterov's momentum, with sgd"
    )
    training.add_argument(
        "--batch-size",
        type=whole_number,
        metavar="N",
        help="samples per step (32); lbfgs takes all",
    )
    training.add_argument(
        "--epochs",
        type=whole_number,
        metavar="N",
        help="passes over the data (20, and 128 of recipe tabular); of lbfgs, 20 steps each",
    )
    training.add_argument(
        "--class-weight",
        nargs="+",
        metavar="CLASS=W",
        help="balanced, or weights of classes; others weigh 1",
    )
    training.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="of weights, order and held-out share (%(default)s)",
    )


def _add_regularization(group: Any) -> None:
    group.add_argument(
        "--weight-decay", type=number, metavar="W", help="by default the optimizer's own"
    )
    group.add_argument("--l1", type=number, metavar="W", help="weight of sum |w| (0)")
    group.add_argument("--l2", type=number, metavar="W", help="weight of half the sum of w^2 (0)")
    group.add_argument(
        "--dropout",
        type=number,
        nargs="+",
        metavar="SHARE",
        help="of units dropped in every hidden layer, or one for the input and each of them (0)",
    )
    group.add_argument(
        "--input-noise", type=number, metavar="DEVIATION", help="added to features (0)"
    )
    group.add_argument(
        "--clip-norm", type=number, metavar="N", help="longest gradient (by default any)"
    )
    group.add_argument(
        "--clip-value", type=number, metavar="N", help="largest element of a gradient"
    )
    group.add_argument(
        "--max-norm", type=number, metavar="N", help="longest weights into a unit (by default any)"
    )
    group.add_argument(
        "--ema", type=number, metavar="DECAY", help="keep a moving average of the weights"
    )


def _add_stopping(group: Any) -> None:
    group.add_argument(
        "--early-stopping",
        type=whole_number,
        nargs="?",
        const=10,
        metavar="EPOCHS",
        help="stop after so many epochs (%(const)s) in which validation rows did not score better, "
        "and keep the best epoch",
    )
    group.add_argument(
        "--monitor",
        metavar="NAME",
        help="the score that --early-stopping watches: loss, accuracy, r2, or as for --metrics "
        "(by default loss)",
    )
    group.add_argument(
        "--validation-fraction",
        type=number,
        metavar="SHARE",
        help="of the training rows, for --early-stopping (0.1)",
    )
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="more scores: label_accuracy, or scikit-learn's scorers, such as f1_macro",
    )


def _add_running(group: Any) -> None:
    group.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="auto, or a name that `fastmlp info` lists (%(default)s)",
    )
    group.add_argument(
        "--threads", type=whole_number, metavar="N", help="by default the backend chooses"
    )
    group.add_argument(
        "--mpi",
        action="store_true",
        help="share every batch among the processes of `mpirun -n N fastmlp train --mpi ...`; the "
        "first one prints and writes files",
    )
    group.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="write a model file for `fastmlp predict` and MLP.load if it ends in .safetensors, "
        "else a checkpoint, which Trainer.load_checkpoint reads; also after Ctrl-C",
    )
    group.add_argument(
        "--history", type=Path, metavar="FILE", help="write the epochs to a .csv, or plot to a .png"
    )
    group.add_argument(
        "--quiet", action="store_true", help="print results and errors alone, no progress or notes"
    )


def train(options: argparse.Namespace) -> None:
    """Train a network as the options of `fastmlp train` say, and print how well it does.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_train` defines.

    Raises
    ------
    ImportError, OSError, ValueError
        If an option, the data or an installation is wrong.
    TrainingInterrupted
        After Ctrl-C, when everything that was asked for is written.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_train(parser.add_subparsers())
    >>> train(parser.parse_args(["train", "--epochs", "1", "--backend", "numpy"]))
    data: ...
    """
    recipe, note = choose_recipe(options)
    if recipe == "tabular":
        train_table(options)
        return
    options = of_network(options)
    _check_history_file(options.history)
    check_model_file(options.save)
    problem = load_problem(options)
    trainer = _make_trainer(problem, options)
    if not trainer.backend.leads:
        options = argparse.Namespace(**vars(options) | {"quiet": True, **_NOT_WRITTEN})
    for one in [*([note] if note else []), *problem.notes]:
        _say(one, options)
    if not options.quiet:
        print(problem)
        print(trainer.network, flush=True)
    center, scale = _unit(problem, trainer.network)
    if np.any(center != 0) or np.any(scale != 1):
        _say("the losses of epochs are in standard deviations of the target", options)
    started = time.perf_counter()
    try:
        try:
            _fit(trainer, problem, center, scale, options)
        finally:
            _take_unit(trainer.network, center, scale)
        if trainer.backend.leads:
            _report(trainer, problem, time.perf_counter() - started)
    except TrainingInterrupted:
        done, files = len(trainer.history), _asked_for(options)
        fate = f"written: {', '.join(files)}" if files else "nothing is saved without --save FILE"
        fate = fate if done else "none is whole"
        raise TrainingInterrupted(
            f"interrupted after epoch {done} of {options.epochs}; {fate}"
        ) from None
    finally:
        # Whatever ended it, an error or a reader that went away: what was trained is kept.
        if len(trainer.history) or not options.epochs:
            _save(trainer, problem, options)
    for file in _asked_for(options):
        print(f"{file} is written")


def _report(trainer: Trainer, problem: Problem, seconds: float) -> None:
    y_test = _targets(problem.y_test, problem, trainer.network, np.zeros(1), np.ones(1))
    for name, value in trainer.evaluate(problem.X_test, y_test).items():
        print(f"test {name}: {format_value(name, value)}")
    if problem.task == "regression":
        error = np.abs(trainer.predict(problem.X_test) - problem.y_test).mean(dtype=np.float64)
        print(f"test mean absolute error: {format_value('error', float(error))}")
    print(f"elapsed time: {seconds:.2f} s")


def _make_trainer(problem: Problem, options: argparse.Namespace) -> Trainer:
    outputs = {"classification": "softmax", "multilabel": "sigmoid", "regression": "linear"}
    network = MLP(
        [problem.X_train.shape[1], *options.layers, problem.n_outputs],
        hidden_activation=_one_or_several(options.hidden_activation),
        output_activation=options.output_activation or outputs[problem.task],
        dtype=options.dtype,
        seed=options.seed,
    )
    return Trainer(
        network,
        loss=None if options.loss is None else described("--loss", options.loss, LOSSES, {}),
        optimizer=_choose_optimizer(options),
        batch_size=options.batch_size,
        backend=DataParallel(options.backend) if options.mpi else options.backend,
        n_threads=options.threads,
        seed=options.seed,
        schedule=described("--schedule", options.schedule or ["constant"], SCHEDULES, {}),
        regularization=_regularization(options),
        class_weight=_class_weight(options.class_weight, problem),
        metrics=_metrics(options, network),
    )


def _regularization(options: argparse.Namespace) -> Regularization:
    given = {field.name: getattr(options, field.name) for field in fields(Regularization)}
    shares = options.dropout
    return Regularization(**given | {"dropout": shares[0] if len(shares) == 1 else tuple(shares)})


def _metrics(options: argparse.Namespace, network: MLP) -> list[str]:
    """Return the names of the scores that are asked for, but for those of every training."""
    asked = [*options.metrics, _monitored(options)]
    usual = ("loss", score_name(network.output_activation))
    return [name for name in dict.fromkeys(asked) if name not in usual]


def _monitored(options: argparse.Namespace) -> str:
    """Return the score to watch; its name in the history, which says val_, is one too."""
    return str(options.monitor or "loss").removeprefix("val_")


def _fit(
    trainer: Trainer, problem: Problem, center: Array, scale: Array, options: argparse.Namespace
) -> None:
    """Train, and hold out validation rows where early stopping needs them."""
    X, y = problem.X_train, problem.y_train
    X_val, y_val = problem.X_test, problem.y_test
    callbacks = []
    if options.early_stopping is not None:
        strata = y if options.stratify else None
        try:
            kept, held = split(len(X), options.validation_fraction, options.seed, strata)
        except ValueError as error:
            message = str(error).replace("--test-", "--validation-").replace("test", "validation")
            raise ValueError(message) from None
        X, y, X_val, y_val = X[kept], y[kept], X[held], y[held]
        watched = f"val_{_monitored(options)}"
        callbacks.append(EarlyStopping(watched, patience=options.early_stopping))
    elif options.monitor is not None:
        raise ValueError("--monitor is what --early-stopping watches; give that, too")
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingInterrupted)
        trainer.fit(
            X,
            _targets(y, problem, trainer.network, center, scale),
            epochs=options.epochs,
            validation_data=(X_val, _targets(y_val, problem, trainer.network, center, scale)),
            callbacks=callbacks,
            verbose=not options.quiet,
        )
    if callbacks and len(trainer.history) < options.epochs:
        _say(
            f"stopped after epoch {len(trainer.history)}, the best was epoch "
            f"{callbacks[0].best_epoch}, which is kept",
            options,
        )


def _unit(problem: Problem, network: MLP) -> tuple[Array, Array]:
    """Return mean and deviation of a regression's target; 0 and 1 where it is not scaled."""
    if problem.task != "regression" or network.output_activation.name != "linear":
        return np.zeros(1), np.ones(1)
    y = problem.y_train.astype(np.float64)
    scale = np.atleast_1d(y.std(axis=0))
    return np.atleast_1d(y.mean(axis=0)), np.where(scale > 0, scale, 1.0)


def _take_unit(network: MLP, center: Array, scale: Array) -> None:
    """Let a network that learned a standardized target answer in the target's own unit."""
    network.weights[-1][:] = network.weights[-1] * scale
    network.biases[-1][:] = network.biases[-1] * scale + center


def _one_or_several(names: list[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else names


def _targets(y: Array, problem: Problem, network: MLP, center: Array, scale: Array) -> Array:
    """Return targets as the trainer takes them: standardized, or classes as 0 and 1."""
    if problem.task == "regression":
        rows = y.reshape(len(y), -1).astype(np.float64)
        return ((rows - center) / scale).astype(network.dtype)
    if problem.classes is not None and network.output_activation.name != "softmax":
        return np.eye(len(problem.classes), dtype=network.dtype)[y]
    return y


def _choose_optimizer(options: argparse.Namespace) -> Optimizer | LBFGS:
    own = ("learning_rate", "momentum", "nesterov", "weight_decay")
    given = {name: getattr(options, name) for name in own}
    return described("--optimizer", options.optimizer or ["adam"], _OPTIMIZERS, given)


def _class_weight(words: list[str] | None, problem: Problem) -> dict[int, float] | str | None:
    if words is None or words == ["balanced"]:
        return None if words is None else "balanced"
    if problem.classes is None:
        raise ValueError("--class-weight needs classes")
    numbers = {str(label): i for i, label in enumerate(problem.classes)}
    weights = {}
    for word in words:
        label, _, weight = word.rpartition("=")
        if label not in numbers:
            raise ValueError(
                f"--class-weight wants balanced, or CLASS=WEIGHT of the classes "
                f"{', '.join(list(numbers)[:20])}, got {word!r}"
            )
        try:
            weights[numbers[label]] = number(weight)
        except argparse.ArgumentTypeError:
            raise ValueError(f"--class-weight wants a number behind '=', got {word!r}") from None
    return weights


def _say(note: str, options: argparse.Namespace) -> None:
    if not options.quiet:
        print(f"fastmlp: {note}", file=sys.stderr, flush=True)


def _asked_for(options: argparse.Namespace) -> list[str]:
    return [str(path) for path in (options.save, options.history) if path is not None]


def _save(trainer: Trainer, problem: Problem, options: argparse.Namespace) -> None:
    """Write the files that are asked for."""
    if options.save and is_model_file(options.save):
        _save_model(trainer.network, problem, options.save)
    elif options.save:
        trainer.save_checkpoint(options.save)
        if options.standardize:
            _say("the saved network takes features as --standardize makes them", options)
    if options.history and len(trainer.history):
        _save_history(trainer.history, options.history)


def _save_model(network: MLP, problem: Problem, path: Path) -> None:
    made = problem.preprocessing
    if made is not None and not all(feature.name.isdecimal() for feature in made.features):
        network.feature_names = tuple(made.encoded_names)
    network.label_names = problem.label_names
    save_model(path, ModelFile(network, made))


def _check_history_file(path: Path | None) -> None:
    """Refuse what could not be written, before the training rather than after it."""
    if path is None:
        return
    if path.suffix.lower() not in (".csv", ".png"):
        raise ValueError(f"--history must end in .csv or .png, got {str(path)!r}")
    check_folder("--history", path)
    if path.suffix.lower() == ".png" and importlib.util.find_spec("matplotlib") is None:
        raise ImportError("--history FILE.png needs matplotlib: pip install 'fastmlp[plot]'")


def _save_history(history: History, path: Path) -> None:
    if path.suffix.lower() == ".csv":
        history.to_csv(path)
    else:
        history.plot(path)
