"""Compute what pytabkit's RealMLP-TD-S does in ten epochs in float64, step by step.

``python tests/data/realmlp/compute.py`` (with pytabkit 1.7) writes ``td_s.npz`` beside this file.

A table of 250 rows is made up, with what its preparation must cope with: numbers of very different
scales, one with heavy tails, one that is mostly zero, a constant one, and categories of which some
have two values and some are missing. Two networks learn from it, one three classes, the other
values. Everything is as RealMLP_TD_S has it by default, except that

- the hidden layers are small, of different widths, and batches have 32 rows, of which an epoch of
  200 has six and leaves eight rows out;
- there are 10 epochs in all, so that they go through the whole schedule;
- Adam's epsilon is 1e-30: pytabkit divides products by the root of the number of inputs where
  others divide the initial weights, which is the same only as long as epsilon plays no part;
- all is float64, for which pytabkit has no setting.

The arrays, with ``classes/`` or ``values/`` before the names of the second part:

- ``numbers`` (250, 5), ``categories`` (250, 3) of whole numbers from 1, with 0 where missing;
- ``train`` and ``validation``: the rows of both parts;
- ``inputs`` (250, n): the prepared columns, by the training rows' statistics;
- ``targets``: classes, or values as they were given;
- ``batches`` (60, 32): the rows of every step, by their numbers in the table;
- ``scale`` (11, n), ``weights0`` (11, n, 24) to ``weights3`` and ``biases0`` to ``biases3``: the
  parameters at the start and after every epoch, with z = x @ weights / sqrt(n_in) + biases;
- ``losses`` (60,): of every step, before it; ``validation_error`` (10,) after every epoch;
- ``best_epoch``: which one of them is kept, counted from 1.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytabkit.models.alg_interfaces.base import InterfaceResources, SplitIdxs
from pytabkit.models.alg_interfaces.nn_interfaces import NNAlgInterface
from pytabkit.models.data.data import DictDataset, TensorInfo
from pytabkit.models.sklearn.default_params import DefaultParams
from pytabkit.models.training.lightning_modules import TabNNModule
from pytabkit.models.training.logging import StdoutLogger
from pytabkit.models.training.metrics import Metrics

FILE = Path(__file__).with_name("td_s.npz")
N_ROWS = 250
N_TRAIN = 200
SETTINGS: dict[str, Any] = {
    "hidden_sizes": [24, 20, 16],
    "batch_size": 32,
    "n_epochs": 10,
    "opt_eps": 1e-30,
}


def table() -> dict[str, np.ndarray]:
    """Return the made-up table: numbers, categories (0 is missing), classes and values."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=N_ROWS)
    numbers = np.column_stack(
        [
            x,
            1000 + 50 * rng.normal(size=N_ROWS),
            np.exp(2 * rng.normal(size=N_ROWS)),
            np.where(rng.random(N_ROWS) < 0.9, 0, rng.normal(size=N_ROWS)),
            np.full(N_ROWS, 7.0),
        ]
    ).round(3)
    categories = np.column_stack(
        [
            rng.integers(1, 3, N_ROWS),  # two values
            rng.integers(0, 3, N_ROWS),  # two values, or missing
            rng.choice(5, N_ROWS, p=[0.1, 0.5, 0.25, 0.13, 0.02]),  # four values, or missing
        ]
    )
    signal = np.sin(2 * x) + 0.5 * (categories[:, 2] == 2) - 0.5 * categories[:, 0]
    values = 200 + 30 * (signal + 0.3 * np.log(numbers[:, 2]) + 0.2 * rng.normal(size=N_ROWS))
    classes = np.searchsorted(np.quantile(values, [0.3, 0.7]), values)
    return {
        "numbers": numbers,
        "categories": categories,
        "classes": classes,
        "values": values.round(3),
    }


def train(task: str, data: dict[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    """Let pytabkit learn `task`, and return what it went through."""
    y = torch.as_tensor(data[task])[:, None]
    categories = data["categories"]
    shapes = {
        "x_cont": TensorInfo(feat_shape=[data["numbers"].shape[1]]),
        "x_cat": TensorInfo(cat_sizes=(categories.max(axis=0) + 1).tolist()),
        "y": TensorInfo(cat_sizes=[3]) if task == "classes" else TensorInfo(feat_shape=[1]),
    }
    tensors = {
        "x_cont": torch.as_tensor(data["numbers"]),
        "x_cat": torch.as_tensor(categories),
        "y": y,
    }
    rows = torch.as_tensor(order)[None, :]
    idxs = SplitIdxs(
        train_idxs=rows[:, :N_TRAIN],
        val_idxs=rows[:, N_TRAIN:],
        test_idxs=None,
        split_seed=0,
        sub_split_seeds=[1],
        split_id=0,
    )
    kind = "CLASS" if task == "classes" else "REG"
    settings = {**getattr(DefaultParams, f"RealMLP_TD_S_{kind}"), **SETTINGS}
    with Recorder() as seen:
        interface = NNAlgInterface(**settings)
        interface.fit(
            DictDataset(tensors, shapes),
            [idxs],
            InterfaceResources(n_threads=1, gpu_devices=[]),
            StdoutLogger(),
            [None],
            task,
        )
    best = next(iter(interface.fit_params[0]["stop_epoch"].values()))
    return {
        "inputs": seen.inputs,
        "targets": data[task],
        "batches": np.array(seen.batches),
        "losses": np.array(seen.losses),
        "validation_error": np.array(seen.errors),
        "best_epoch": np.array(best),
        **{name: np.stack(values) for name, values in seen.parameters.items()},
    }


class Recorder:
    """Look over pytabkit's shoulder: at its batches, losses, parameters and validation errors."""

    def __init__(self) -> None:
        self.inputs = np.empty(0)
        self.batches: list[np.ndarray] = []
        self.losses: list[float] = []
        self.errors: list[float] = []
        self.parameters: dict[str, list[np.ndarray]] = {}

    def __enter__(self) -> Recorder:
        self._originals = DictDataset.get_batch, TabNNModule.training_step
        self._ends = TabNNModule.on_fit_start, TabNNModule.on_validation_epoch_end
        get_batch, training_step = self._originals
        on_fit_start, on_validation_epoch_end = self._ends

        def recorded_batch(dataset: Any, idxs: torch.Tensor) -> Any:
            # Batches for training have inputs and targets, and rows for each of the networks.
            if idxs.dim() == 2 and {"x_cont", "y"} <= dataset.tensors.keys():
                self.inputs = dataset.tensors["x_cont"].numpy()
                self.batches.append(idxs[0].numpy().copy())
            return get_batch(dataset, idxs)

        def recorded_step(module: Any, batch: Any, batch_idx: int) -> Any:
            loss = training_step(module, batch, batch_idx)
            self.losses.append(loss.item())
            return loss

        def recorded_start(module: Any) -> None:
            on_fit_start(module)
            self._keep_parameters(module)

        def recorded_end(module: Any) -> None:
            predicted, targets = torch.cat(module.val_preds, dim=-2), module.val_dl.val_y
            error = Metrics.apply(predicted[0], targets[0], module.val_metric_names[0])
            self.errors.append(error.item())
            on_validation_epoch_end(module)
            self._keep_parameters(module)

        DictDataset.get_batch, TabNNModule.training_step = recorded_batch, recorded_step
        TabNNModule.on_fit_start = recorded_start
        TabNNModule.on_validation_epoch_end = recorded_end
        return self

    def __exit__(self, *_: object) -> None:
        DictDataset.get_batch, TabNNModule.training_step = self._originals
        TabNNModule.on_fit_start, TabNNModule.on_validation_epoch_end = self._ends

    def _keep_parameters(self, module: Any) -> None:
        learned = [p for p in module.model.parameters() if p.trainable]
        names = ["scale", *(f"{kind}{i}" for i in range(4) for kind in ("weights", "biases"))]
        for name, parameter in zip(names, learned, strict=True):
            value = parameter.detach().numpy()[0].copy()
            kept = value if name.startswith("weights") else value[0]
            self.parameters.setdefault(name, []).append(kept)


def main() -> None:
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # one-hot targets, before they are smoothed
    data = table()
    order = np.random.default_rng(1).permutation(N_ROWS)
    arrays = {
        "numbers": data["numbers"],
        "categories": data["categories"].astype(np.int8),
        "train": order[:N_TRAIN],
        "validation": order[N_TRAIN:],
    }
    for task in ("classes", "values"):
        for name, array in train(task, data, order).items():
            small = array.astype(np.int16) if array.dtype.kind == "i" else array
            arrays[f"{task}/{name}"] = small
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
