"""
Decision boundaries
===================

What a network of two hidden layers makes of two half moons, by its activation (above) and by how
strongly its weights are held back (below). ReLU draws corners, tanh and SiLU draw curves; a penalty
on the weights smooths a boundary that follows single points.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from fastmlp import MLP, Adam, Regularization, Trainer

X, y = make_moons(150, noise=0.3, random_state=0)
X = X.astype(np.float32)
grid = np.stack(np.meshgrid(np.linspace(-2, 3, 150), np.linspace(-1.8, 2.3, 150)), axis=-1)
points = grid.reshape(-1, 2).astype(np.float32)


def draw(ax, title, activation="tanh", **regularization):
    network = MLP([2, 32, 32, 2], activation, seed=0)
    trainer = Trainer(
        network, optimizer=Adam(0.01), regularization=Regularization(**regularization)
    )
    trainer.fit(X, y, epochs=300, verbose=False)
    probability = network.predict_proba(points)[:, 1].reshape(grid.shape[:2])
    ax.contourf(*grid.transpose(2, 0, 1), probability, levels=11, cmap="RdBu", alpha=0.8)
    ax.scatter(*X.T, c=y, cmap="RdBu", edgecolors="white", s=18)
    ax.set(title=title, xticks=[], yticks=[])


figure, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for ax, activation in zip(axes[0], ("relu", "tanh", "silu"), strict=True):
    draw(ax, activation, activation)
for ax, l2 in zip(axes[1], (0.0, 0.003, 0.03), strict=True):
    draw(ax, f"tanh, l2={l2}", l2=l2)
plt.show()
