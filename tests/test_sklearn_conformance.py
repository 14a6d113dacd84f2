"""scikit-learn's checks of estimators, and its own tests of its MLP, run on our classes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from types import ModuleType
from unittest import mock

import pytest
import sklearn.neural_network
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmlp.sklearn import (
    MLPClassifier,
    MLPRegressor,
    TableEncoder,
    TabularClassifier,
    TabularRegressor,
)

BACKENDS = ("numpy", "numba")

#: scikit-learn's tests that call its private methods, with the reason why ours has none.
PRIVATE = {
    "test_gradient": "calls _loss_grad_lbfgs; here a session has the gradient, and finite "
    "differences confirm it for every activation and loss in test_gradients.py",
}

#: Members draw folds and batches by the rows' numbers: a row twice is not a row of weight 2.
BY_ROW_NUMBERS = {
    f"check_sample_weight_equivalence_on_{kind}_data": "folds and batches are drawn by row numbers"
    for kind in ("dense", "sparse")
}

# Under scikit-learn too they warn, of a fit that did not converge for one.
pytestmark = pytest.mark.filterwarnings("ignore")


@parametrize_with_checks(
    [
        kind(max_iter=100, backend=backend)
        for backend in BACKENDS
        for kind in (MLPClassifier, MLPRegressor)
    ]
    + [TableEncoder()]
)
def test_scikit_learns_checks(estimator: object, check: Callable[[object], None]):
    check(estimator)


@parametrize_with_checks(
    [
        kind(n_members=2, n_epochs=n_epochs, hidden_layer_sizes=(24,))
        for kind, n_epochs in ((TabularClassifier, 24), (TabularRegressor, 40))
    ],
    expected_failed_checks=lambda estimator: BY_ROW_NUMBERS,
)
def test_scikit_learns_checks_of_estimators_for_tables(
    estimator: object, check: Callable[[object], None]
):
    check(estimator)


@pytest.fixture
def global_random_seed() -> int:
    """Stand in for scikit-learn's own fixture."""
    return 42


def sklearns_tests(backend: str) -> ModuleType:
    """Return a copy of scikit-learn's test file that was loaded with our classes in place."""
    ours = {
        "MLPClassifier": partial(MLPClassifier, backend=backend),
        "MLPRegressor": partial(MLPRegressor, backend=backend),
    }
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(sklearn.neural_network, **ours):
        spec.loader.exec_module(module)
    assert module.MLPClassifier is ours["MLPClassifier"]
    return module


for _backend in BACKENDS:
    for _name, _test in vars(sklearns_tests(_backend)).items():
        if _name.startswith("test_") and _name not in PRIVATE:
            globals()[f"test_as_scikit_learns_{_backend}_{_name[5:]}"] = _test


@pytest.mark.parametrize("name", PRIVATE)
def test_left_out_tests_do_use_what_is_private(name: str):
    test = getattr(sklearns_tests("numpy"), name)
    with pytest.raises(AttributeError, match=r"object has no attribute '_"):
        test()
