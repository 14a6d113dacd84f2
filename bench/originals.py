"""Train the two original networks on MNIST; print test accuracy and elapsed time.

``python bench/originals.py [--backend numpy] [--epochs N]``

The first is [784, 128, 64, 10] with ReLU, softmax and cross entropy. The second is
[784, 16, 16, 10] with sigmoid, softmax and MSE, from one-hot labels: at the first one's learning
rate it hardly moves, at 1 to 3 it learns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastmlp import SGD, Trainer
from fastmlp.benchmark.workloads import WORKLOADS
from fastmlp.datasets import load_mnist

#: Each network with its epochs.
RUNS = (
    (replace(WORKLOADS["first"], optimizer=SGD(0.01)), 10),
    *((replace(WORKLOADS["second"], optimizer=SGD(rate)), 20) for rate in (0.01, 1.0, 3.0)),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--epochs", type=int, help="instead of 10 for the first, 20 for the second")
    options = parser.parse_args(arguments)

    (X, y), test = load_mnist()
    one_hot = np.eye(10, dtype="float32")[y]
    for workload, epochs in RUNS:
        trainer = Trainer(
            workload.network(),
            workload.loss,
            workload.optimizer,
            batch_size=workload.batch_size,
            backend=options.backend,
        )
        targets = one_hot if workload.loss == "mse" else y
        start = time.perf_counter()
        history = trainer.fit(
            X, targets, epochs=epochs if options.epochs is None else options.epochs, verbose=False
        )
        seconds = time.perf_counter() - start
        print(
            f"{list(workload.layer_sizes)}, {workload.hidden_activation}, {workload.loss}, "
            f"learning rate {workload.optimizer.learning_rate:g}, {len(history)} epochs: "
            f"test accuracy {trainer.evaluate(*test).accuracy:.4f}, {seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
