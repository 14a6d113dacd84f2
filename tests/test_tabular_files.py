"""Model files of the estimators for tables: what loads predicts the same bits."""

from __future__ import annotations

import datetime as dt
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold

from fastmlp import MLP, Ensemble, ModelFileError
from fastmlp.model_file import _digest, load_model
from fastmlp.sklearn import (
    MLPClassifier,
    OutOfFoldDisplay,
    TabularClassifier,
    TabularRegressor,
)

pytest.importorskip("safetensors")

DATA = Path(__file__).parent / "data"
RNG = np.random.default_rng(0)
QUICK: dict[str, Any] = {
    "n_members": 2,
    "n_epochs": 3,
    "hidden_layer_sizes": (8,),
    "random_state": 0,
    "backend": "numpy",
}
N = 60
TABLE = pd.DataFrame(
    {
        "size": np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N)),
        "colour": RNG.choice(["red", "green", None], N),
        "sold": RNG.random(N) < 0.5,
        "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 900, N), unit="D"),
        "rooms": RNG.integers(1, 4, N),
    }
)
LABELS = {
    "text": np.array(["low", "middle", "high"])[RNG.integers(0, 3, N)],
    "objects": np.array(["no", "yes"], dtype=object)[RNG.integers(0, 2, N)],
    "integers": RNG.integers(0, 3, N).astype(np.int16) * 10 - 5,
    "booleans": RNG.integers(0, 2, N).astype(bool),
    "floats": RNG.integers(0, 3, N).astype(np.float32),
}
VALUES = {"one": RNG.normal(size=N), "several": np.exp(RNG.normal(size=(N, 2)) * 3)}


def reloaded(model: Any, folder: Path) -> Any:
    model.save(folder / "model.safetensors")
    return type(model).load(folder / "model.safetensors")


@pytest.mark.parametrize("kind", list(LABELS))
def test_a_classifier_comes_back_with_labels_of_every_kind(kind: str, tmp_path: Path):
    model = TabularClassifier(**QUICK, categorical_features=["rooms"]).fit(TABLE, LABELS[kind])
    loaded = reloaded(model, tmp_path)
    assert loaded.classes_.dtype == model.classes_.dtype
    for method in ("predict", "predict_proba", "predict_log_proba", "predict_set"):
        ours, theirs = getattr(loaded, method)(TABLE), getattr(model, method)(TABLE)
        assert ours.dtype == theirs.dtype
        assert ours.tolist() == theirs.tolist()
    assert loaded.temperature_ == model.temperature_
    assert_what_a_fit_tells_is_there(loaded, model)


@pytest.mark.parametrize("kind", list(VALUES))
def test_a_regressor_comes_back(kind: str, tmp_path: Path, backend: Any):
    model = TabularRegressor(**QUICK | {"backend": backend.name}).fit(TABLE, VALUES[kind])
    loaded = reloaded(model, tmp_path)
    assert loaded.predict(TABLE).tobytes() == model.predict(TABLE).tobytes()
    for ours, theirs in zip(
        loaded.predict_interval(TABLE, 0.8), model.predict_interval(TABLE, 0.8), strict=True
    ):
        assert ours.tobytes() == theirs.tobytes()
    assert_what_a_fit_tells_is_there(loaded, model)


def assert_what_a_fit_tells_is_there(loaded: Any, model: Any) -> None:
    assert loaded.get_params() == model.get_params() | {
        "categorical_features": loaded.categorical_features
    }
    assert loaded.feature_names_in_.tolist() == model.feature_names_in_.tolist()
    assert loaded.n_features_in_ == model.n_features_in_
    assert loaded.watched_ == model.watched_
    assert loaded.best_epochs_.tolist() == model.best_epochs_.tolist()
    assert loaded.fold_scores_.tolist() == model.fold_scores_.tolist()
    assert loaded.ensemble_.members[0].network.training == (
        model.ensemble_.members[0].network.training
    )


def test_arrays_of_numbers_come_back(tmp_path: Path):
    X = RNG.normal(size=(40, 3))
    model = TabularRegressor(**QUICK).fit(X, X[:, 0])
    loaded = reloaded(model, tmp_path)
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert not hasattr(loaded, "feature_names_in_")


def test_the_same_model_is_the_same_file(tmp_path: Path):
    model = TabularClassifier(**QUICK).fit(TABLE, LABELS["text"])
    model.save(tmp_path / "first")
    TabularClassifier.load(tmp_path / "first").save(tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_loaded_estimator_can_be_fitted_again(tmp_path: Path):
    model = TabularClassifier(**QUICK, class_weight={"low": 2.0, "high": 1.0, "middle": 1.0})
    model.fit(TABLE, LABELS["text"])
    loaded = reloaded(model, tmp_path).fit(TABLE, LABELS["text"])
    assert loaded.predict_proba(TABLE).tobytes() == model.predict_proba(TABLE).tobytes()


def test_parameters_that_are_set_after_the_fit_do_not_matter(tmp_path: Path):
    model = TabularRegressor(**QUICK).fit(TABLE, VALUES["one"])
    before = model.predict(TABLE)
    model.set_params(n_members=5, hidden_layer_sizes=(3, 3), activation="relu")
    loaded = reloaded(model, tmp_path)
    assert loaded.predict(TABLE).tobytes() == before.tobytes()
    assert loaded.n_members == 5


def test_what_no_file_holds_is_left_out_with_a_warning(tmp_path: Path):
    model = TabularClassifier(**QUICK, cv=GroupKFold(2))
    model.fit(TABLE, LABELS["text"], groups=np.arange(N) % 7)
    with pytest.warns(UserWarning, match="cv cannot be kept in a model file"):
        loaded = reloaded(model, tmp_path)
    assert loaded.cv is None
    assert loaded.predict(TABLE).tolist() == model.predict(TABLE).tolist()


def test_folds_of_many_rows_are_no_setting(tmp_path: Path):
    X = np.linspace(0, 1, 20_004).reshape(-1, 1)
    folds = [(np.arange(20_000), np.arange(20_000, 20_004))] * 2
    model = TabularRegressor(**QUICK | {"n_epochs": 1, "batch_size": 20_000}, cv=folds)
    model.fit(X, X[:, 0])
    with pytest.warns(UserWarning, match="cv cannot be kept"):
        reloaded(model, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 10_000


def test_predictions_of_rows_held_out_are_not_kept(tmp_path: Path):
    pytest.importorskip("matplotlib")
    loaded = reloaded(TabularRegressor(**QUICK).fit(TABLE, VALUES["one"]), tmp_path)
    assert not hasattr(loaded, "oof_predictions_")
    with pytest.raises(ValueError, match="has no"):
        OutOfFoldDisplay.from_estimator(loaded, VALUES["one"])


def test_each_file_is_read_by_what_wrote_it(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    model = TabularClassifier(**QUICK).fit(TABLE, LABELS["text"])
    model.save(path)
    for other in (TabularRegressor, MLPClassifier):
        with pytest.raises(ModelFileError, match="holds another estimator, 'TabularClassifier'"):
            other.load(path)
    with pytest.raises(ModelFileError, match=r"an ensemble of 2 networks, which Ensemble\.load"):
        MLP.load(path)
    encoded = model.encoder_.transform(TABLE)
    ensemble = Ensemble.load(path, backend="numpy")
    assert ensemble.member_outputs(encoded).tobytes() == (
        model.ensemble_.member_outputs(encoded).tobytes()
    )
    model.ensemble_.save(path)
    with pytest.raises(ModelFileError, match="and no TabularClassifier; fastmlp"):
        TabularClassifier.load(path)
    MLP([2, 3]).save(path)
    with pytest.raises(ModelFileError, match="and no TabularClassifier; fastmlp"):
        TabularClassifier.load(path)


def test_classes_that_no_file_holds_are_not_written(tmp_path: Path):
    days = np.array([dt.date(2020, 1, 1), dt.date(2021, 1, 1)], dtype="datetime64[D]")
    model = TabularClassifier(**QUICK).fit(TABLE, days[RNG.integers(0, 2, N)])
    with pytest.raises(ModelFileError, match="is not written: classes of dtype datetime64"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


# What is not read ------------------------------------------------------------------------------


def forged(whole: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return a file with another description, and the checksum that fits it."""
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    description = json.loads(header["__metadata__"]["fastmlp"])
    change(description["estimator"])
    names = ["weights.0", "biases.0", "weights.1", "biases.1", "scale"]
    places = [header[name]["data_offsets"] for name in names]
    arrays = {
        name: np.frombuffer(data[start:end], "<f4")
        for name, (start, end) in zip(names, places, strict=True)
    }
    description["sha256"] = _digest(description, arrays)
    header["__metadata__"]["fastmlp"] = json.dumps(description)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def setting(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return change


ANY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no encoder": lambda content: content["fitted"].pop("encoder"),
    "another key": setting("fitted", "code", to="import os"),
    "an encoder of fewer columns": lambda content: content["fitted"]["encoder"].update(
        features=content["fitted"]["encoder"]["features"][:-1], names=None
    ),
    "an encoder that is none": setting("fitted", "encoder", to=[1]),
    "a huge best epoch": setting("fitted", "best_epochs", to=[10**30, 1]),
    "best epochs of others": setting("fitted", "best_epochs", to=[1, 1, 1]),
    "fold scores of others": setting("fitted", "fold_scores", to=[0.5]),
    "a fold score that is text": setting("fitted", "fold_scores", 0, to="1"),
    "a source that is none": setting("fitted", "source", to=None),
    "an unknown parameter": setting("parameters", "n_jobs", to=2),
    "a parameter out of range": setting("parameters", "n_epochs", to=0),
    "an unknown backend": setting("parameters", "backend", to="os.system"),
    "an activation that is none": setting("parameters", "activation", to={"kind": "eval"}),
}
OF_CLASSES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no temperature": setting("fitted", "temperature", to=0.0),
    "a temperature that none has": setting("fitted", "temperature", to=1e30),
    "scores not in order": setting("fitted", "scores", 0, to=[0.5, 0.25]),
    "negative scores": setting("fitted", "scores", 0, to=[-1.0]),
    "scores of fewer members": setting("fitted", "scores", to=[[0.5]]),
    "labels of another dtype": setting("labels", "dtype", to="int64"),
    "labels that are several": setting("labels", "several", to=True),
    "no labels": setting("labels", to=None),
}
OF_VALUES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a scale of 0": setting("fitted", "target", "scale", to=[0.0]),
    "means of more targets": setting("fitted", "target", "mean", to=[0.0, 0.0]),
    "an empty range": setting("fitted", "target", "max", to=[-1e9]),
    "scores of no target": setting("fitted", "scores", to=[]),
    "several that is a number": setting("fitted", "several", to=1),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[type, bytes]:
    folder, found = tmp_path_factory.mktemp("files"), {}
    for kind, y in ((TabularClassifier, LABELS["text"]), (TabularRegressor, VALUES["one"])):
        kind(**QUICK).fit(TABLE, y).save(folder / "valid")
        found[kind] = (folder / "valid").read_bytes()
    return found


HOSTILE = [
    *(
        (kind, name, change)
        for kind in (TabularClassifier, TabularRegressor)
        for name, change in ANY.items()
    ),
    *((TabularClassifier, name, change) for name, change in OF_CLASSES.items()),
    *((TabularRegressor, name, change) for name, change in OF_VALUES.items()),
]


@pytest.mark.parametrize(
    ("kind", "change"),
    [pytest.param(kind, change, id=f"{kind.__name__}-{name}") for kind, name, change in HOSTILE],
)
def test_hostile_files_are_one_error(kind: Any, change: Any, files: Any, tmp_path: Path):
    path = tmp_path / "model"
    path.write_bytes(forged(files[kind], lambda content: None))
    kind.load(path)
    path.write_bytes(forged(files[kind], change))
    with pytest.raises(ModelFileError) as raised:
        kind.load(path)
    assert type(raised.value) is ModelFileError
    assert len(str(raised.value)) < 700


@pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])
def test_no_bit_of_a_file_changes_a_model_silently(kind: Any, files: Any, tmp_path: Path):
    path, whole = tmp_path / "model", files[kind]
    path.write_bytes(whole)
    wanted = kind.load(path).predict(TABLE).tolist()
    for place in np.linspace(0, len(whole) - 1, 150).astype(int):
        changed = bytearray(whole)
        changed[place] ^= 1
        for content in (bytes(changed), whole[:place]):
            path.write_bytes(content)
            try:
                loaded = kind.load(path)
            except ModelFileError:
                continue
            assert content is not whole[:place]
            assert loaded.predict(TABLE).tolist() == wanted


# Files of earlier versions ---------------------------------------------------------------------


def small_table() -> tuple[Any, Any]:
    """Return a table of rows that say which class they are."""
    rows = [[1.0, "red", None], [2.0, "blue", True], [None, "red", False], [8.0, None, True]] * 6
    return np.array(rows, dtype=object), np.array(["low", "mid", "low", "high"] * 6)


def write_files(folder: Path) -> None:
    """Write what `tests/data` holds."""
    X, y = small_table()
    settings = QUICK | {"n_epochs": 64}
    TabularClassifier(**settings).fit(X, y).save(folder / "tabular-classifier-3.safetensors")
    TabularRegressor(**settings).fit(X, np.array([1.0, 2.0, 1.0, 8.0] * 6)).save(
        folder / "tabular-regressor-3.safetensors"
    )


def test_files_of_version_3_keep_loading():
    """Made by `write_files`, when 3 was the latest version of the format."""
    X, y = small_table()
    assert load_model(DATA / "tabular-classifier-3.safetensors", ensemble=None).members is not None
    classifier = TabularClassifier.load(DATA / "tabular-classifier-3.safetensors")
    assert classifier.predict(X).tolist() == y.tolist()
    assert classifier.predict_set(X).any(axis=1).all()
    regressor = TabularRegressor.load(DATA / "tabular-regressor-3.safetensors")
    np.testing.assert_allclose(regressor.predict(X), [1.0, 2.0, 1.0, 8.0] * 6, atol=1.5)
    lower, upper = regressor.predict_interval(X, 0.8)
    assert (lower < upper).all()


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))
