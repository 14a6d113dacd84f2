"""Networks from scikit-learn's estimators, and our estimators as ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import sklearn.neural_network as theirs
from sklearn.exceptions import NotFittedError

import fastmlp.sklearn as ours
from fastmlp import MLP, ModelFileError
from fastmlp.losses import Quantile

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))
THREE = np.digitize(X[:, 0], [-0.7, 0.7])
#: Targets of classifiers by name.
CLASSES = {
    "two numbers": np.where(X[:, 0] > 0, 7, -3),
    "two texts": np.where(X[:, 0] > 0, "yes", "nö"),
    "truth": X[:, 0] > 0,
    "three numbers": THREE * 10,
    "three texts": np.array(["low", "middle", "high"])[THREE],
    "objects": np.array(["low", "middle", "high"], dtype=object)[THREE],
    "floats": THREE * 2.0,
    "bytes": THREE.astype(np.uint8),
    "one class": np.full(80, 5),
    "several labels": (X[:, :2] > 0).astype(int),
}
VALUES = {"one": X[:, 0] ** 2, "two": X[:, :2] ** 2}


def classifier(module, y, **parameters):
    return module.MLPClassifier((4,), max_iter=3, random_state=0, **parameters).fit(X, y)


def regressor(module, y, **parameters):
    made = module.MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0, **parameters)
    return made.fit(X, y)


@pytest.mark.parametrize("module", [theirs, ours], ids=["theirs", "ours"])
@pytest.mark.parametrize("activation", ["relu", "logistic", "tanh", "identity"])
@pytest.mark.parametrize("kind", CLASSES)
def test_classifiers_become_networks(kind, activation, module):
    model = classifier(module, CLASSES[kind], activation=activation)
    read = MLP.from_sklearn(model)
    for mine, weights in zip([*read.weights, *read.biases], _weights(model), strict=True):
        assert mine.tobytes() == weights.tobytes()
        assert not np.shares_memory(mine, weights)
    probabilities, labels = read.predict_proba(X), read.predict(X)
    if kind == "several labels":
        np.testing.assert_array_equal(labels, model.predict(X))
    else:
        if read.n_outputs == 1:
            probabilities = np.hstack([1 - probabilities, probabilities])
        if kind != "one class":
            np.testing.assert_array_equal(model.classes_[labels], model.predict(X))
    np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=1e-12, atol=1e-15)
    assert read.label_names == tuple(model.classes_.tolist())


def _weights(model):
    return [*model.coefs_, *model.intercepts_]


@pytest.mark.parametrize("module", [theirs, ours], ids=["theirs", "ours"])
@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_regressors_become_networks(kind, dtype, module):
    made = module.MLPRegressor(hidden_layer_sizes=(4, 3), max_iter=3, random_state=0)
    model = made.fit(X.astype(dtype), VALUES[kind].astype(dtype))
    read = MLP.from_sklearn(model)
    assert read.dtype == dtype
    np.testing.assert_allclose(
        read.predict(X.astype(dtype)), model.predict(X.astype(dtype)), rtol=1e-5, atol=1e-6
    )


def test_rates_are_exponentials():
    model = regressor(ours, VALUES["one"], loss="poisson")
    read = MLP.from_sklearn(model)
    assert read.output_activation.name == "exp"
    np.testing.assert_allclose(read.predict(X), model.predict(X), rtol=1e-14)


def test_our_own_activations_and_feature_names_come_along():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    made = ours.MLPClassifier((4, 3), activation=["gelu", "silu"], max_iter=2, random_state=0)
    read = MLP.from_sklearn(made.fit(frame, THREE))
    assert [one.name for one in read.hidden_activations] == ["gelu", "silu"]
    assert read.feature_names == ("a", "b", "c")
    with pytest.raises(ValueError, match="column"):
        read.predict(frame[["b", "a", "c"]])


def test_what_is_no_fitted_estimator_is_refused():
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(TypeError, match="takes an MLPClassifier or MLPRegressor, got Logistic"):
        MLP.from_sklearn(LogisticRegression())
    with pytest.raises(ValueError, match="MLPClassifier is not fitted"):
        MLP.from_sklearn(theirs.MLPClassifier())


def test_weights_that_are_none_are_refused():
    model = regressor(theirs, VALUES["one"])
    model.coefs_[1] = model.coefs_[1][:2]
    with pytest.raises(ValueError, match="layer 2 takes 4 values"):
        MLP.from_sklearn(model)


# ONNX ------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed")
    return tmp_path / "model.onnx"


def computed(path: Path, rows: np.ndarray, runtime: str) -> dict[str, np.ndarray]:
    import onnx

    from tests.exchange.graphs import run

    onnx.checker.check_model(str(path), full_check=True)
    return run(path, rows, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", CLASSES)
def test_classifiers_are_exported(kind, dtype, runtime, path):
    model = classifier(ours, CLASSES[kind], dtype=dtype)
    model.to_onnx(path)
    rows = np.concatenate([X, np.zeros((1, 3))]).astype(dtype)
    outputs = computed(path, rows, runtime)
    assert list(outputs) == ["label", "probabilities"]
    assert outputs["label"].tolist() == model.predict(rows).tolist()
    bound = 1e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(
        outputs["probabilities"], model.predict_proba(rows), rtol=bound, atol=bound / 10
    )
    read = MLP.from_onnx(path)
    assert read.parameters.tobytes() == model._network.parameters.tobytes()
    assert read.label_names == tuple(model.classes_.tolist())


def test_a_probability_of_one_half_is_a_no(path):
    model = classifier(ours, CLASSES["two texts"], dtype="float64")
    for array in _weights(model):
        array[:] = 0
    model.to_onnx(path)
    label = computed(path, X, "reference")["label"]
    assert set(label) == set(model.predict(X)) == {model.classes_[0]}


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "mae"])
@pytest.mark.parametrize("kind", VALUES)
def test_regressors_are_exported(kind, loss, runtime, path):
    model = regressor(ours, VALUES[kind], loss=loss)
    model.to_onnx(path)
    outputs = computed(path, X, runtime)
    assert list(outputs) == ["variable"]
    expected = model.predict(X).reshape(len(X), -1)
    np.testing.assert_allclose(outputs["variable"], expected, rtol=1e-12, atol=1e-13)


def test_levels_of_quantiles_are_columns(path):
    model = regressor(ours, VALUES["one"], loss=Quantile(levels=(0.1, 0.5, 0.9)))
    model.to_onnx(path)
    assert computed(path, X, "reference")["variable"].shape == (80, 3)


def test_weights_that_a_user_replaced_are_exported(path):
    model = regressor(ours, VALUES["one"])
    model.coefs_ = [2 * weights for weights in model.coefs_]
    model.to_onnx(path)
    expected = model.predict(X)[:, None]
    np.testing.assert_allclose(computed(path, X, "reference")["variable"], expected, rtol=1e-12)


def test_feature_names_are_kept(path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    model = ours.MLPRegressor(max_iter=2).fit(pandas.DataFrame(X, columns=list("abc")), X[:, 0])
    model.to_onnx(path)
    assert MLP.from_onnx(path).feature_names == ("a", "b", "c")


def test_only_fitted_estimators_are_exported(path):
    with pytest.raises(NotFittedError):
        ours.MLPClassifier().to_onnx(path)
    model = regressor(ours, VALUES["one"])
    model.coefs_[0][0, 0] = np.inf
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        model.to_onnx(path)
    assert not path.exists()
