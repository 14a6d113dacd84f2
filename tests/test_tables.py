"""Data as people keep it: every sparse format, frames of mixed columns, columns of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, SGD, Predictor, Trainer
from fastmlp.backends import Backend

DENSE = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
DENSE[np.random.default_rng(1).random(DENSE.shape) < 0.5] = 0
y = (DENSE[:, 0] > 0).astype(np.int64)


def trained(backend: Backend, X: Any, labels: Any = y) -> np.ndarray:
    trainer = Trainer(MLP([4, 5, 2]), optimizer=SGD(0.1), batch_size=7, backend=backend)
    trainer.fit(X, labels, epochs=2, validation_data=(X, labels), verbose=False)
    return trainer.network.parameters


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("name", ["coo", "dok", "bsr", "dia", "csc", "lil", "csr"])
def test_every_sparse_format_is_the_same_rows(backend: Backend, name: str, kind: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X = getattr(sparse, f"{name}_{kind}")(DENSE)
    np.testing.assert_allclose(trained(backend, X), trained(backend, DENSE), rtol=1e-5, atol=1e-6)
    network = MLP([4, 5, 2])
    want = network.predict_proba(DENSE)
    session = backend.bind(network)
    predictors = (network, Trainer(network, backend=backend), Predictor(network, backend))
    for got in [*(one.predict_proba(X) for one in predictors), session.outputs(X)]:
        np.testing.assert_allclose(got, want, rtol=1e-5)
    gradient, wanted = np.empty((2, network.n_parameters), dtype=np.float32)
    assert session.loss_and_gradient(X, y, gradient) == pytest.approx(
        session.loss_and_gradient(DENSE, y, wanted)
    )
    np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)


def mixed_frame(pandas: Any) -> Any:
    return pandas.DataFrame(
        {
            "dummy": pandas.Series(DENSE[:, 0] > 0),
            "float": DENSE[:, 1],
            "nullable": pandas.array(DENSE[:, 2], dtype="Float64"),
            "integer": pandas.array(np.arange(24) % 5, dtype="Int64"),
        }
    )


def test_frames_of_mixed_columns_are_their_numbers(backend: Backend) -> None:
    pandas = pytest.importorskip("pandas")
    frame = mixed_frame(pandas)
    rows = np.column_stack([DENSE[:, 0] > 0, DENSE[:, 1], DENSE[:, 2], np.arange(24) % 5])
    np.testing.assert_array_equal(trained(backend, frame), trained(backend, rows))
    network = MLP([4, 2])
    np.testing.assert_array_equal(network.predict(frame), network.predict(rows))
    np.testing.assert_array_equal(Predictor(network, backend).predict(frame), network.predict(rows))


def test_dummies_are_numbers(backend: Backend) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.get_dummies(pandas.DataFrame({"x": DENSE[:, 0], "c": list("abc") * 8}))
    np.testing.assert_array_equal(trained(backend, frame), trained(backend, frame.astype(float)))


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean", "object", "bool"])
def test_labels_may_be_a_column_of_any_numeric_kind(backend: Backend, kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    labels = pandas.Series(y.astype(bool) if kind.startswith("bool") else y).astype(kind)
    np.testing.assert_array_equal(trained(backend, DENSE, labels), trained(backend, DENSE))


def test_polars_frames_are_their_numbers(backend: Backend) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": DENSE[:, 0] > 0, "b": DENSE[:, 1], "c": y, "d": DENSE[:, 3]})
    rows = np.column_stack([DENSE[:, 0] > 0, DENSE[:, 1], y, DENSE[:, 3]])
    np.testing.assert_array_equal(trained(backend, frame, frame["c"]), trained(backend, rows))


@pytest.mark.parametrize("values", [list("abcd") * 6, ["1"] * 24, ["2024-01-01"] * 24])
def test_a_column_of_text_is_named(values: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": DENSE[:, 0], "city": values, "b": True, "c": 1})
    with pytest.raises(ValueError, match="column 'city' holds no numbers"):
        Trainer(MLP([4, 2]), backend="numpy").fit(frame, y, verbose=False)
    frame["city"] = pandas.to_datetime("2024-01-01")
    with pytest.raises(ValueError, match="column 'city' holds no numbers"):
        MLP([4, 2]).predict(frame)


def test_missing_values_of_nullable_columns_are_refused_as_nan() -> None:
    pandas = pytest.importorskip("pandas")
    frame = mixed_frame(pandas)
    frame.loc[3, "integer"] = pandas.NA
    with pytest.raises(ValueError, match=r"NaN or infinite values \(first in row 3\)"):
        MLP([4, 2]).predict(frame)


@pytest.mark.parametrize("labels", [np.array(["no", "yes"] * 12), ["no", "yes"] * 12])
def test_text_labels_are_pointed_to_the_estimators(labels: Any) -> None:
    pandas = pytest.importorskip("pandas")
    for given in (labels, pandas.Series(labels), np.asarray(labels, dtype=object)):
        with pytest.raises(ValueError, match=r"text such as 'no'.*MLPClassifier"):
            Trainer(MLP([4, 2]), backend="numpy").fit(DENSE, given, verbose=False)


def frame_of(pandas: Any, columns: str) -> Any:
    return pandas.DataFrame({name: DENSE[:, "abcdx".index(name) % 4] for name in columns})


@pytest.mark.parametrize("wrong", ["badc", "abcx", "dcba"])
def test_other_columns_than_those_of_training_are_refused(backend: Backend, wrong: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame, other = frame_of(pandas, "abcd"), frame_of(pandas, wrong)
    network = MLP([4, 2])
    trainer = Trainer(network, backend=backend)
    with pytest.raises(ValueError, match="columns"):
        trainer.fit(frame, y, validation_data=(other, y), verbose=False)
    assert network.feature_names is None
    trainer.fit(frame, y, epochs=1, verbose=False)
    users = (network, network.copy(), trainer, Predictor(network, backend))
    for user in users:
        with pytest.raises(ValueError, match=r"another order|lacks 'd', has 'x'"):
            user.predict(other)
        np.testing.assert_array_equal(user.predict(frame), network.predict(DENSE))
    for call in (trainer.evaluate, trainer.fit):
        with pytest.raises(ValueError, match="columns"):
            call(other, y)
    assert network.feature_names == ("a", "b", "c", "d")


def test_columns_without_names_are_not_compared() -> None:
    pandas = pytest.importorskip("pandas")
    trainer = Trainer(MLP([4, 2]), backend="numpy")
    trainer.fit(pandas.DataFrame(DENSE), y, epochs=1, verbose=False)
    assert trainer.network.feature_names is None
