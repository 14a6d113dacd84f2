"""
Cost as networks grow
=====================

Seconds of an epoch of 2000 rows, by the width of two hidden layers, measured where this page was
built: times on your machine are others. A network twice as wide has four times the
multiply-adds; small ones cost less than that by far, for there is more between the products than in
them.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastmlp import MLP, Trainer

rng = np.random.default_rng(0)
X = rng.normal(size=(2000, 64)).astype(np.float32)
y = rng.integers(0, 10, 2000)
widths = [8, 16, 32, 64, 128, 256, 512]

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for backend in ("numpy", "numba"):
    seconds = []
    for width in widths:
        trainer = Trainer(MLP([64, width, width, 10]), batch_size=64, backend=backend, n_threads=1)
        history = trainer.fit(X, y, epochs=4, verbose=False)
        seconds.append(min(history["seconds"]))
    ax.loglog(widths, seconds, marker=".", label=backend)
ax.set(xlabel="units of each hidden layer", ylabel="seconds of an epoch", xticks=widths)
ax.set_xticklabels(widths)
ax.minorticks_off()
ax.legend()
plt.show()
