"""What `fastmlp train` trains: a network as its options describe it, or a model for tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastmlp.cli.problem import DATA_SETS
from fastmlp.datasets.files import ARRAYS, kind_of

RECIPES = ("tabular", "network")

#: Options that describe a network, its training or its test, and what they are by default.
OF_NETWORKS: dict[str, Any] = {
    "features": "X",
    "test_fraction": 0.2,
    "stratify": False,
    "standardize": False,
    "missing": "error",
    "layers": [128],
    "hidden_activation": ["relu"],
    "output_activation": None,
    "dtype": "float32",
    "loss": None,
    "optimizer": None,
    "schedule": None,
    "learning_rate": None,
    "momentum": None,
    "nesterov": None,
    "batch_size": 32,
    "class_weight": None,
    "weight_decay": None,
    "l1": 0.0,
    "l2": 0.0,
    "dropout": [0.0],
    "input_noise": 0.0,
    "clip_norm": None,
    "clip_value": None,
    "max_norm": None,
    "ema": None,
    "early_stopping": None,
    "monitor": None,
    "validation_fraction": 0.1,
    "metrics": [],
    "history": None,
    "mpi": False,
}
#: Those of models for tables.
OF_TABLES = ("members", "time_limit", "scoring")
_EPOCHS = 20


def choose_recipe(options: argparse.Namespace) -> tuple[str, str]:
    """Return what is to be trained, and a note where an option decided that otherwise.

    `--recipe` decides. Else it is what options describe; else a file that is given as the first
    word is a table, and all other data are a network's.

    Raises
    ------
    ValueError
        If options of both are given, or some that are not of the recipe.

    Examples
    --------
    >>> none = dict.fromkeys((*OF_NETWORKS, *OF_TABLES, "recipe", "data"))
    >>> choose_recipe(argparse.Namespace(**none | {"table": "flats.csv"}))
    ('tabular', '')
    >>> choose_recipe(argparse.Namespace(**none | {"table": "flats.csv", "layers": [32]}))
    ('network', '--layers describes a network, so one is trained; see --recipe')
    """
    if options.table is not None and options.data is not None:
        raise ValueError(f"the data are {options.table!r} or {options.data!r}, not both")
    given = {
        "network": [name for name in OF_NETWORKS if getattr(options, name) is not None],
        "tabular": [name for name in OF_TABLES if getattr(options, name) is not None],
    }
    words = {name: [f"--{one.replace('_', '-')}" for one in own] for name, own in given.items()}
    recipe = options.recipe
    if recipe is None and words["network"] and words["tabular"]:
        raise ValueError(
            f"{words['network'][0]} is for --recipe network, and {words['tabular'][0]} for "
            "--recipe tabular"
        )
    note = ""
    if recipe is None:
        is_table = options.table is not None and _may_be_table(options.table)
        recipe = "tabular" if words["tabular"] or (is_table and not words["network"]) else "network"
        if is_table and recipe == "network":
            note = f"{words['network'][0]} describes a network, so one is trained; see --recipe"
    (other,) = (name for name in RECIPES if name != recipe)
    if words[other]:
        raise ValueError(f"{words[other][0]} is for --recipe {other}, not for {recipe}")
    return recipe, note


def _may_be_table(name: str) -> bool:
    return name not in DATA_SETS and kind_of(Path(name)) not in ARRAYS


def of_network(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options of a network's training, with what they are by default.

    Examples
    --------
    >>> none = dict.fromkeys((*OF_NETWORKS, "data", "table", "epochs"))
    >>> of_network(argparse.Namespace(**none)).layers
    [128]
    """
    usual = OF_NETWORKS | {"epochs": _EPOCHS, "data": options.table or "digits"}
    chosen = {name: value for name, value in vars(options).items() if value is not None}
    return argparse.Namespace(**vars(options) | usual | chosen)
