"""A training run that goes on from its checkpoint, however often it is killed.

Run by test_checkpoint.py in a process of its own: ``python checkpoint_child.py PATH EPOCHS``.
With ``--forked``, in a new child of that process for every line that it reads.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from fastmlp import MLP, Adam, Checkpoint, Regularization, Trainer
from fastmlp.schedules import ReduceOnPlateau

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = RNG.integers(0, 2, 60)


def make_trainer() -> Trainer:
    return Trainer(
        MLP([4, 6, 2], seed=3),
        optimizer=Adam(0.02),
        batch_size=16,
        backend="numpy",
        schedule=ReduceOnPlateau(factor=0.9, patience=3),
        regularization=Regularization(dropout=0.2, ema=0.99),
    )


def main(path: Path, epochs: int) -> None:
    trainer = make_trainer()
    if path.exists():
        trainer.load_checkpoint(path)
    print("ready", os.getpid(), flush=True)
    left = epochs - len(trainer.history)
    trainer.fit(X, Y, left, callbacks=[Checkpoint(path)], verbose=False)


def main_forked(path: Path, epochs: int) -> None:
    """Run again and again, without the time in which Python starts and imports."""
    for _ in sys.stdin:
        run = os.fork()
        if run == 0:
            main(path, epochs)
            os._exit(0)
        status = os.waitpid(run, 0)[1]
        print("ended by", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    chosen = main_forked if "--forked" in sys.argv else main
    chosen(Path(sys.argv[1]), int(sys.argv[2]))
