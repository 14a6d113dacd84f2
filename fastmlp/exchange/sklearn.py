"""Networks from the estimators of scikit-learn, and from ours, which are like them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp import _checks
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, Activation, OutputActivation
from fastmlp.exchange.layers import network_of_layers
from fastmlp.network import MLP

_FITTED = ("coefs_", "intercepts_", "out_activation_")


def from_sklearn(estimator: Any) -> MLP:
    """Return the network of a fitted estimator, with copies of its weights.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Of `sklearn.neural_network` or `fastmlp.sklearn`.

    Returns
    -------
    MLP
        With the estimator's layers as they are: two classes have a single sigmoid output, the
        probability of the second. Its labels and feature names are the estimator's.

    Raises
    ------
    TypeError
        If it is no such estimator.
    ValueError
        If it is not fitted.

    Examples
    --------
    >>> from sklearn.neural_network import MLPRegressor
    >>> model = MLPRegressor(solver="lbfgs", random_state=0).fit([[0.0], [1.0]], [0.0, 2.0])
    >>> from_sklearn(model).layer_sizes
    (1, 100, 1)
    """
    if not hasattr(estimator, "hidden_layer_sizes") or not hasattr(estimator, "activation"):
        raise TypeError(
            f"from_sklearn takes an MLPClassifier or MLPRegressor, got {type(estimator).__name__}"
        )
    if not all(hasattr(estimator, name) for name in _FITTED):
        raise ValueError(f"this {type(estimator).__name__} is not fitted; call fit first")
    n_hidden = len(estimator.coefs_) - 1
    given = estimator.activation
    hidden = list(given) if isinstance(given, list | tuple) else [given] * n_hidden
    network = network_of_layers(
        [np.asarray(w) for w in estimator.coefs_],
        [np.asarray(b) for b in estimator.intercepts_],
        [_checks.choose(one, Activation, ACTIVATIONS, "activation") for one in hidden],
        _checks.choose(
            estimator.out_activation_, OutputActivation, OUTPUT_ACTIVATIONS, "output activation"
        ),
    )
    names = getattr(estimator, "feature_names_in_", None)
    network.feature_names = None if names is None else tuple(map(str, names))
    classes = getattr(estimator, "classes_", None)
    network.label_names = None if classes is None else tuple(np.asarray(classes).tolist())
    return network
