"""
Quantile bands
==============

One network, three outputs: the levels 0.1, 0.5 and 0.9 of a curve whose noise grows outwards. See
the guide to quantiles for what to watch.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastmlp.losses import Quantile
from fastmlp.sklearn import MLPRegressor

rng = np.random.default_rng(0)
x = rng.uniform(-3, 3, 1500)
y = np.sin(x) + rng.normal(0, 0.1 + 0.1 * np.abs(x))

model = MLPRegressor(
    loss=Quantile(levels=(0.1, 0.5, 0.9)),
    hidden_layer_sizes=(64, 64),
    early_stopping=True,
    random_state=0,
)
model.fit(x[:, None], y)

line = np.linspace(-3, 3, 300)
low, middle, high = model.predict(line[:, None]).T
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.scatter(x, y, s=4, color="gray", alpha=0.5)
ax.fill_between(line, low, high, alpha=0.3, label="0.1 to 0.9")
ax.plot(line, middle, label="0.5")
ax.plot(line, np.sin(line), color="black", linestyle=":", label="without noise")
ax.set(xlabel="x", ylabel="y")
ax.legend()
plt.show()
