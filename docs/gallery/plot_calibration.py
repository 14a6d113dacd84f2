"""
Calibration
===========

Of the samples to which a calibrated network gives 0.8, eight in ten are of the class. A network
that is trained for long on few samples is too sure of itself; early stopping and label smoothing
help.
"""

import matplotlib.pyplot as plt
from sklearn.calibration import calibration_curve
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split

from fastmlp.sklearn import MLPClassifier

X, y = make_classification(
    6000, n_features=20, n_informative=5, flip_y=0.15, class_sep=0.7, random_state=0
)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype("float32"), y, train_size=1000, random_state=0
)

figure, ax = plt.subplots(figsize=(5, 5), layout="constrained")
ax.plot([0, 1], [0, 1], color="gray", linestyle=":", label="calibrated")
for name, settings in {
    "as it comes": {"max_iter": 1000},
    "early stopping": {"early_stopping": True, "scoring": "loss"},
    "label smoothing 0.2": {"max_iter": 1000, "label_smoothing": 0.2},
}.items():
    model = MLPClassifier((64, 64), random_state=0, **settings)
    probability = model.fit(X_train, y_train).predict_proba(X_test)[:, 1]
    right, said = calibration_curve(y_test, probability, n_bins=8)
    ax.plot(said, right, marker=".", label=name)
ax.set(xlabel="probability that the network gives", ylabel="share that is of the class")
ax.legend()
plt.show()
