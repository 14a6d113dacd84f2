"""
First-layer weights of MNIST
============================

Each picture is what one unit of the first hidden layer looks for: its 784 weights, as an image.
Blue pixels speak for the unit, red ones against it. A penalty on the weights keeps those of the
empty rim from staying as they were drawn at first. MNIST is downloaded by
``pip install 'fastmlp[datasets]'``.
"""

import matplotlib.pyplot as plt

from fastmlp import MLP, Regularization, Trainer
from fastmlp.datasets import load_mnist

(X, y), (X_test, y_test) = load_mnist()
network = MLP([784, 32, 10], seed=0)
trainer = Trainer(network, optimizer="adam", batch_size=64, regularization=Regularization(l2=0.001))
trainer.fit(X, y, epochs=5, verbose=False)
print(trainer.evaluate(X_test, y_test))

weights = network.weights[0].T.reshape(32, 28, 28)
limit = abs(weights).max() / 2
figure, axes = plt.subplots(4, 8, figsize=(9, 4.8), layout="constrained")
for ax, image in zip(axes.flat, weights, strict=True):
    ax.imshow(image, cmap="RdBu", vmin=-limit, vmax=limit)
    ax.axis("off")
plt.show()
