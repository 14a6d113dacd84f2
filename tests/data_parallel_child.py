"""What processes of MPI do together: ``mpirun -n N python data_parallel_child.py SCENE FOLDER``.

Run by test_data_parallel.py. Every process writes what it has seen to FOLDER/SCENE-N-RANK.json.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from fastmlp import LBFGS, MLP, SGD, Adam, Checkpoint, EarlyStopping, Regularization, Trainer
from fastmlp.backends import DataParallel
from fastmlp.backends.data_parallel.processes import all_processes
from fastmlp.schedules import ReduceOnPlateau, StepDecay

WORLD = all_processes()
RNG = np.random.default_rng(0)
#: 266 rows remain to train on: four batches of 64 and one of 10, or 88 of 3 and one of 2.
X = RNG.normal(size=(333, 20)).astype(np.float32)
Y = RNG.integers(0, 5, 333)
WEIGHTS = RNG.uniform(0, 2, 333)
EVERYTHING = Regularization(
    l2=0.01, dropout=(0.1, 0.3, 0.2), input_noise=0.1, clip_norm=0.5, ema=0.9
)


def make(**options: Any) -> Trainer:
    backend = DataParallel(options.pop("inner", "numba"), options.pop("n_chunks", 4))
    network = MLP(options.pop("sizes", [20, 300, 70, 5]), dtype=options.pop("dtype", "float32"))
    return Trainer(network, backend=backend, **{"batch_size": 64, **options})


def bits(trainer: Trainer) -> str:
    return hashlib.sha256(trainer.network.parameters.tobytes()).hexdigest()


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def equal_bits(folder: Path) -> dict[str, Any]:
    """Train in every way; the names say what must be the same."""
    found: dict[str, Any] = {}

    def fit(name: str, trainer: Trainer, given_X: Any = X, **options: Any) -> None:
        given = {"validation_split": 0.2, "sample_weight": WEIGHTS, **options}
        history = trainer.fit(given_X, Y, 3, verbose=False, **given)
        scores = [{**record, "seconds": 0} for record in history.records]
        found[name] = [bits(trainer), scores]

    adam = {"optimizer": Adam(0.01), "regularization": EVERYTHING}
    for dtype in ("float32", "float64"):
        for inner in ("numpy", "numba"):
            for threads in (1, 2):
                of = {"dtype": dtype, "inner": inner, "n_threads": threads}
                fit(f"sgd {dtype} {inner} {threads}", make(optimizer=SGD(0.1), **of))
                fit(f"adam {dtype} {inner} {threads}", make(**adam, **of))
    fit("small network", make(sizes=[20, 7, 5]))
    fit("empty chunks", make(batch_size=3, n_chunks=5, **adam))
    fit("one batch", make(batch_size=999, n_chunks=7))
    fit("full-batch steps", make(optimizer=LBFGS()))
    fit("metrics", make(metrics=["log_loss"], schedule=ReduceOnPlateau(patience=1)))
    mapped = np.load(folder / "X.npy", mmap_mode="r")
    fit("memory map", make(**adam), mapped)
    chosen = np.arange(300)[::-1]
    fit("rows of a memory map", make(**adam), mapped, rows=chosen)
    fit("rows", make(**adam), rows=chosen)
    fit("no weights", make(class_weight="balanced"), sample_weight=None)
    return found


def own_rows(folder: Path) -> dict[str, Any]:
    """Train on rows of which every process has some, in other shares than those of batches."""
    cuts = np.linspace(0, 1, WORLD.size + 1) ** 3 * 333
    mine = slice(*cuts.astype(int)[WORLD.rank : WORLD.rank + 2])  # few in the first, or none
    found: dict[str, Any] = {}

    def fit(name: str, given_X: Any, mine: slice = mine, **options: Any) -> None:
        trainer = make(**options.pop("made", {"optimizer": Adam(0.01)}))
        own_X, y, weights = trainer.backend.pool(given_X[mine], Y[mine], WEIGHTS[mine])
        given = {"validation_split": 0.2, "sample_weight": weights, **options}
        if given.pop("validates", False):
            given["validation_data"] = (own_X, y)
        history = trainer.fit(own_X, y, 3, verbose=False, **given)
        found[name] = [bits(trainer), [{**one, "seconds": 0} for one in history.records]]

    everything = {"optimizer": Adam(0.01), "regularization": EVERYTHING}
    fit("adam float32 numba 1", X, made=everything)
    last = slice(333 * (WORLD.rank == WORLD.size - 1))
    fit("all in the last process", X, last if WORLD.size > 1 else slice(None), made=everything)
    fit("memory map", np.load(folder / "X.npy", mmap_mode="r"), made=everything)
    fit("full-batch steps", X, made={"optimizer": LBFGS()})
    fit("empty chunks", X, made={"batch_size": 3, "n_chunks": 5, **everything})
    fit("rows", X, made=everything, rows=np.arange(300)[::-1])
    fit("bytes", (X * 10).astype(np.int8), made={"inner": "numpy"})
    fit("validation data", X, validation_split=0, validates=True)
    table, share = pl.scan_parquet(folder / "X.parquet"), DataParallel("numba").share(333)
    part = table.slice(share.start, len(share)).collect()
    trainer = make(**everything)
    given, y, weights = trainer.backend.pool(part, *(one[list(share)] for one in (Y, WEIGHTS)))
    trainer.fit(given, y, 3, sample_weight=weights, validation_split=0.2, verbose=False)
    found["slices of a Parquet file"] = bits(trainer)
    trainer = make()
    names = [f"column {i}" for i in range(20)]
    given, y = trainer.backend.pool(pd.DataFrame(X[mine], columns=names), Y[mine])
    trainer.fit(given, y, 1, verbose=False)
    found["names"] = trainer.network.feature_names == tuple(names)
    found["predict"] = outcome(lambda: trainer.predict(given)) if WORLD.size > 1 else ""
    scores = trainer.evaluate(*trainer.backend.pool(X[mine], Y[mine], WEIGHTS[mine]))
    found["scores"] = [float(one) for one in scores]
    found["scores here"] = [float(one) for one in trainer.evaluate(X, Y, WEIGHTS)]
    odd = WORLD.rank == WORLD.size - 1
    backend = trainer.backend
    found["width"] = outcome(lambda: backend.pool(X[mine, : 20 - odd], Y[mine]))
    found["length"] = outcome(lambda: backend.pool(X[mine], Y[mine][odd:]))
    holed = X[mine].copy()
    holed[:odd] = np.nan
    found["holes"] = outcome(lambda: trainer.fit(*backend.pool(holed, Y[mine]), 1, verbose=False))
    found["holed scores"] = outcome(lambda: trainer.evaluate(*backend.pool(holed, Y[mine])))
    found["good"] = outcome(lambda: trainer.fit(*backend.pool(X[mine], Y[mine]), 1, verbose=False))
    return found


def partitions(folder: Path) -> dict[str, Any]:
    """Train on tables of Dask, of which every process computes its share."""
    import dask.array as da
    import dask.dataframe as dd

    found = {}
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(20)])
    frame["label"] = Y
    table = dd.from_pandas(frame, npartitions=3)  # of four processes, one has none
    tables = {
        "array": (da.from_array(X, chunks=(100, 7)), da.from_array(Y, chunks=100)),
        "frame": (table.drop(columns="label"), table["label"]),
        "here": (X, Y) if WORLD.size == 1 else None,
    }
    for name, pair in tables.items():
        if pair is not None:
            trainer = make(optimizer=Adam(0.01))
            given, y = trainer.backend.pool(*pair)
            trainer.fit(given, y, 2, validation_split=0.2, verbose=False)
            found[name] = bits(trainer)
    return found


def callbacks(folder: Path) -> dict[str, Any]:
    """Let callbacks decide everything that they can."""
    calls: list[int] = []

    def decide(trainer: Trainer, record: dict[str, float]) -> None:
        calls.append(int(record["epoch"]))
        trainer.evaluate(X[:9], Y[:9])  # which is no affair of the others
        if record["epoch"] == 2:
            trainer.network.parameters *= 0.5
        if record["epoch"] == 3:
            trainer.optimizer = Adam(0.02)
            trainer.schedule = StepDecay(2)
        if record["epoch"] == 4:
            trainer.stop(after=6)

    trainer = make(optimizer=Adam(0.01))
    trainer.fit(X, Y, 20, callbacks=[decide], verbose=False)
    stopped = make(optimizer=SGD(1.0))
    early = EarlyStopping("val_loss", patience=2)
    stopped.fit(X, Y, 50, validation_split=0.2, callbacks=[early], verbose=False)
    return {
        "calls": calls,
        "epochs": [len(trainer.history), len(stopped.history)],
        "bits": [bits(trainer), bits(stopped), outcome(lambda: trainer.fit(X, Y, 1))],
        "rates": trainer.history["learning_rate"],
        "seconds": trainer.history["seconds"],
    }


def alone(folder: Path) -> dict[str, Any]:
    """Predict in the first process only, then train on together."""
    trainer = make()
    trainer.fit(X, Y, 1, verbose=False)
    if trainer.backend.leads:
        trainer.predict(X)
        trainer.evaluate(X, Y)
    trainer.fit(X, Y, 1, verbose=False)
    return {"bits": bits(trainer)}


def mistakes(folder: Path) -> dict[str, Any]:
    """Train unlike each other, or fail together; go on after each."""
    odd = WORLD.rank == WORLD.size - 1 and WORLD.size > 1
    other = X.copy()
    other[0] += odd
    rows = X[: 333 - odd]

    def fail(trainer: Trainer, record: Any) -> None:
        raise RuntimeError("the disk is full")

    def fit(given: Any = X, epochs: int = 1, **options: Any) -> str:
        callbacks = options.pop("callbacks", [])
        return outcome(
            lambda: make(**options).fit(given, Y, epochs, callbacks=callbacks, verbose=False)
        )

    return {
        "batch size": fit(batch_size=32 + odd),
        "rate": fit(optimizer=SGD(0.1 + odd)),
        "seed": fit(seed=3 + int(odd)),
        "data": fit(other),
        "epochs": fit(epochs=1 + odd),
        "too few rows": fit(rows),
        "callback": fit(callbacks=[fail]),
        "divergence": fit(optimizer=SGD(1e30), epochs=9),
        "good": fit(),
    }


def train_on(folder: Path) -> dict[str, Any]:
    """Train three epochs more, from the checkpoint if there is one."""
    trainer = make(optimizer=Adam(0.01), regularization=EVERYTHING, schedule="cosine")
    path = folder / "run.npz"
    if path.exists():
        trainer.load_checkpoint(path)
    epochs = 3 if path.exists() else 6
    stop = [lambda trainer, record: record["epoch"] == 3] if epochs == 6 else []
    early = EarlyStopping("loss", patience=9)
    trainer.fit(X, Y, epochs, callbacks=[early, *stop, Checkpoint(path)], verbose=False)
    return {"bits": bits(trainer), "epochs": len(trainer.history)}


def whole_run(folder: Path) -> dict[str, Any]:
    """Train the same six epochs at once."""
    trainer = make(optimizer=Adam(0.01), regularization=EVERYTHING, schedule="cosine")
    trainer.fit(X, Y, 6, verbose=False)
    return {"bits": bits(trainer)}


def fails_in_one(folder: Path) -> dict[str, Any]:
    """Let the last process fail in the middle of a fit, where the others wait for it."""

    def metric(y_true: Any, y_pred: Any) -> float:
        if WORLD.rank == WORLD.size - 1 and len(trainer.history) == 2:
            raise RuntimeError("process out of luck")
        return 0.0

    trainer = make(metrics=[metric])
    trainer.fit(X, Y, 10_000, verbose=False)
    return {}


def forever(folder: Path) -> dict[str, Any]:
    """Train until someone ends it, with a checkpoint every epoch."""
    path = folder / "run.npz"
    trainer = make(optimizer=Adam(1e-5), regularization=EVERYTHING)
    if path.exists():
        trainer.load_checkpoint(path)
    if trainer.backend.leads:
        print("ready", flush=True)
    trainer.fit(X, Y, 100_000, callbacks=[Checkpoint(path)], verbose=False)
    return {}


def like_the_reference(folder: Path) -> dict[str, Any]:
    """Compare a process's training with the reference's, in float64."""
    found = {}
    for regularization in (Regularization(), EVERYTHING):
        # Neither divides by what may be next to nothing.
        options = {"optimizer": SGD(0.1, momentum=0.9), "regularization": regularization}
        ours = make(dtype="float64", **options)
        network = MLP([20, 300, 70, 5], dtype="float64")
        theirs = Trainer(network, batch_size=64, backend="numpy", **options)
        for trainer in (ours, theirs):
            trainer.fit(X, Y, 2, sample_weight=WEIGHTS, verbose=False)
        a, b = ours.network.parameters, theirs.network.parameters
        found[str(regularization)] = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return found


if __name__ == "__main__":
    scenes, folder = sys.argv[1].split(","), Path(sys.argv[2])
    for scene in scenes:
        seen = globals()[scene](folder)
        file = folder / f"{scene}-{WORLD.size}-{WORLD.rank}.json"
        file.write_text(json.dumps(seen))
