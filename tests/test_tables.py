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


@pytest.mark.parametrize("kind", ["bool and float", "int and float", "numpy", "float"])
def test_arrays_of_objects_are_their_numbers(backend: Backend, kind: str) -> None:
    """As ``frame.values`` gives them."""
    rows = DENSE.astype(np.float64)
    rows[:, 0] = rows[:, 0] > 0
    objects = rows.astype(object)
    if kind == "bool and float":
        objects[:, 0] = [bool(value) for value in rows[:, 0]]
    elif kind == "int and float":
        objects[:, 0] = [int(value) for value in rows[:, 0]]
    elif kind == "numpy":
        objects[:, 1] = [np.float32(value) for value in rows[:, 1]]
    got = trained(backend, objects, y.astype(object))
    np.testing.assert_array_equal(got, trained(backend, rows))


@pytest.mark.parametrize("value", [None, "text", (1, 2), np.datetime64("2024-01-01")])
def test_arrays_of_other_objects_are_refused(value: Any) -> None:
    objects = DENSE.astype(object)
    objects[3, 1] = value
    with pytest.raises(ValueError, match="X must hold numbers, got an array of dtype object"):
        MLP([4, 2]).predict(objects)


@pytest.mark.parametrize("kind", ["date", "time", "duration"])
def test_dates_of_polars_are_no_numbers(kind: str) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(DENSE, schema=list("abcd"))
    when = {
        "date": polars.date(2024, 1, 1),
        "time": polars.time(1, 2, 3),
        "duration": polars.duration(days=1),
    }
    frame = frame.with_columns(b=when[kind])
    with pytest.raises(ValueError, match="column 'b' holds no numbers"):
        Trainer(MLP([4, 2]), backend="numpy").fit(frame, y, verbose=False)


@pytest.mark.parametrize("kind", ["unsorted", "twice", "int64 indices", "read-only"])
def test_rows_of_csr_may_be_in_any_state(backend: Backend, kind: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.csr_array(DENSE)
    if kind == "unsorted":
        for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
            X.indices[start:stop] = X.indices[start:stop][::-1]
            X.data[start:stop] = X.data[start:stop][::-1]
        X.has_sorted_indices = False
    elif kind == "twice":
        halves = np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr
        X = sparse.csr_array(halves, shape=X.shape)
    elif kind == "int64 indices":
        X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    else:
        for part in (X.data, X.indices, X.indptr):
            part.flags.writeable = False
    np.testing.assert_allclose(trained(backend, X), trained(backend, DENSE), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        Predictor(MLP([4, 2]), backend).predict_proba(X), MLP([4, 2]).predict_proba(DENSE), 1e-5
    )


def test_the_index_of_a_frame_is_no_order(backend: Backend) -> None:
    pandas = pytest.importorskip("pandas")
    index = np.arange(24)[::-1]
    frame, labels = pandas.DataFrame(DENSE, index=index), pandas.Series(y, index=index)
    np.testing.assert_array_equal(trained(backend, frame, labels), trained(backend, DENSE))


@pytest.mark.parametrize("shape", [(24,), (24, 0), (24, 4, 1), (), (4, 24)])
def test_another_shape_is_refused_with_the_shape_that_is_wanted(
    backend: Backend, shape: tuple[int, ...]
) -> None:
    trainer = Trainer(MLP([4, 2]), backend=backend)
    for call in (trainer.fit, trainer.evaluate):
        with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 4\)"):
            call(np.zeros(shape), y)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", ">f8", ">i2", ">u4", "longdouble"])
def test_numbers_of_any_order_and_width_are_the_same(backend: Backend, dtype: str) -> None:
    rows = (DENSE * 8).round()
    given = np.abs(rows) if "u" in dtype[:2] else rows
    labels = y.astype(dtype)
    np.testing.assert_array_equal(
        trained(backend, given.astype(dtype), labels), trained(backend, given)
    )
