"""Trains and predicts in many ways and prints hashes: the same for any kernels that are right.

Run as a program; where kernels come compiled, Numba must not be needed.
"""

from __future__ import annotations

import hashlib
import sys

if __name__ == "__main__" and sys.argv[1] == "prebuilt":
    sys.modules["numba"] = sys.modules["llvmlite"] = None  # type: ignore[assignment]

import numpy as np

from fastmlp import MLP, SGD, Adam, AdamW, RateFactors, Regularization
from fastmlp.backends import get_backend
from fastmlp.backends.numba_backend.prebuilt import KERNELS
from fastmlp.backends.numba_backend.team import choice
from fastmlp.losses import CrossEntropy, CustomLoss, Huber

SETTINGS = {
    "many kernels": (
        ([30, 24, 17, 3], ["gelu", "tanh"], "softmax"),
        CrossEntropy(label_smoothing=0.1),
        AdamW(0.01),
        Regularization(dropout=(0.1, 0.3, 0.3), clip_norm=1.0, ema=0.9, l2=0.01),
    ),
    "a narrow first layer": (([300, 16, 5], "sigmoid", "softmax"), None, SGD(0.1), None),
    "panels": (([20, 150, 140, 4], "relu", "softmax"), None, Adam(0.01), None),
    "a scaling layer, and a rate for each layer": (
        ([20, 24, 17, 3], "mish", "softmax", True),
        None,
        Adam(0.01, rate_factors=RateFactors((0.5, 0.0, 2.0), (0.1, 3.0, 1.0), scale=6.0)),
        Regularization(l1=0.001, clip_value=0.5, max_norm=1.0, input_noise=0.1),
    ),
    "wide layers, of float32 in bfloat16": (
        ([70, 150, 140, 4], ["relu", "tanh"], "softmax", False, "bfloat16"),
        None,
        Adam(0.01),
        Regularization(dropout=0.2),
    ),
    "regression": (([9, 12, 2], "elu", "linear"), Huber(), SGD(0.01, momentum=0.9), None),
    "a loss of one's own": (
        ([9, 12, 2], "silu", "linear"),
        CustomLoss(lambda z, y: ((z - y) ** 4).sum(axis=1) / 4, lambda z, y: (z - y) ** 3),
        SGD(0.001),
        None,
    ),
}


def results(setting: str, dtype: str, n_threads: int) -> list[np.ndarray]:
    """Return what all programs write in a setting."""
    (widths, hidden, output, *others), loss, optimizer, regularization = SETTINGS[setting]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, widths[0])).astype(dtype)
    X[X < -0.3] = 0
    X[:, ::7] = 0
    X.setflags(write=False)
    y = rng.integers(0, widths[-1], 90)
    if output == "linear":
        y = rng.standard_normal((90, widths[-1])).astype(dtype)
    options = {"output_activation": output, "dtype": dtype}
    options |= dict(zip(("scaling_layer", "precision"), others, strict=False))
    if dtype == "float64":
        options["precision"] = "full"
    network = MLP(widths, hidden, seed=0, **options)
    session = get_backend("numba").bind(
        network, loss, optimizer, regularization, batch_size=32, n_threads=n_threads
    )
    losses = session.train(X, y, rng.permutation(90), np.full(3, 0.01))
    gradient, row = np.empty(session.n_parameters, dtype), np.empty(widths[-1], dtype)
    loss_value = session.loss_and_gradient(X, y, gradient)
    session.update(gradient.copy(), 0.01)
    state = session.store()
    session.row_function("linear")(X[0], row)
    predicted = [session.predict(X, kind) for kind in ("decisions", "outputs", "logits")]
    bad = np.full((1, widths[0]), np.nan, dtype)
    assert not session.row_function("linear")(bad[0], row.copy())
    return [
        losses,
        np.array(loss_value),
        gradient,
        state.parameters,
        state.moments,
        row,
        *predicted,
    ]


if __name__ == "__main__":
    choice.WORTH_A_THREAD = 1  # several threads also for little work
    for setting in SETTINGS:
        for dtype in ("float32", "float64"):
            for n_threads in (1, 2, 3):
                arrays = results(setting, dtype, n_threads)
                digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
                print(setting, dtype, n_threads, digest)
    print(
        get_backend("auto").name, "jit" if KERNELS.library is None else KERNELS.library.level.name
    )
