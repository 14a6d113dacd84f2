"""
Learning curves
===============

A history holds every epoch's losses and scores, and draws them. Here the same network is trained
without dropout and with it: with it the training loss is higher, and nearer to the validation loss.
"""

from fastmlp import MLP, Regularization, Trainer
from fastmlp.datasets import load_digits

(X, y), validation = load_digits()
X, y = X[:300], y[:300]  # few samples, so that there is something to overfit

for dropout in (0.0, 0.4):
    network = MLP([64, 128, 10], seed=0)
    trainer = Trainer(network, optimizer="adam", regularization=Regularization(dropout=dropout))
    history = trainer.fit(X, y, epochs=60, validation_data=validation, verbose=False)
    axes = history.plot()
    axes[0].figure.suptitle(f"dropout {dropout}")
