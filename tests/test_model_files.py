"""Model files: what is saved is what is loaded, bit for bit; anything else is one error."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import LBFGS, MLP, Adam, ModelFileError, Trainer
from fastmlp.activations import (
    ACTIVATIONS,
    ELU,
    OUTPUT_ACTIVATIONS,
    Activation,
    LeakyReLU,
    ReLU,
    Softmax,
)
from fastmlp.losses import LOSSES, CrossEntropy, CustomLoss, Quantile
from fastmlp.model_file import MOST_HEADER_BYTES, VERSION, ModelFile, load_model, save_model
from fastmlp.preprocessing import Feature, Preprocessing
from fastmlp.schedules import Cosine
from fastmlp.sklearn import MLPClassifier, MLPRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
DATA = Path(__file__).with_name("data")
FUZZER = Path(__file__).with_name("fuzz_model_files.py")
KINDS = [*ACTIVATIONS.values(), LeakyReLU(0.3), ELU(np.float32(0.7))]


def same_bits(one: MLP, other: MLP) -> bool:
    return (
        one.parameters.tobytes() == other.parameters.tobytes()
        and one.parameters.dtype == other.parameters.dtype
        and one.predict_proba(X).tobytes() == other.predict_proba(X).tobytes()
    )


def saved(network: MLP, folder: Path) -> MLP:
    network.save(folder / "model.safetensors")
    return MLP.load(folder / "model.safetensors")


def wide(network: MLP) -> MLP:
    """Return the network with parameters of every size, zeros of both signs among them."""
    rng = np.random.default_rng(1)
    size = network.n_parameters
    network.parameters = rng.normal(size=size) * 10.0 ** rng.integers(-44, 1, size)
    network.biases[-1][0] = -0.0
    return network


# What comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", list(OUTPUT_ACTIVATIONS))
@pytest.mark.parametrize("hidden", KINDS, ids=repr)
def test_every_activation_output_and_dtype_comes_back(hidden, output, dtype, tmp_path: Path):
    network = wide(MLP([3, 4, 2], hidden, output, dtype=dtype, seed=5, input_scale=0.1))
    loaded = saved(network, tmp_path)
    assert same_bits(network, loaded)
    assert loaded.hidden_activations == network.hidden_activations
    assert (repr(loaded), loaded.input_scale) == (repr(network), network.input_scale)


@pytest.mark.parametrize(
    ("loss", "output"),
    [(loss, output) for loss in LOSSES.values() for output in loss.output_names],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_was_trained_by_every_loss_comes_back(loss, output, tmp_path: Path):
    labels = output == "softmax"
    network = MLP([3, 4, 2 if labels else 1], "tanh", output)
    y = (X[:, 0] > 0).astype(int) if labels else (X[:, :1] > 0).astype(float)
    trainer = Trainer(network, loss, Adam(0.01), backend="numpy")
    history = trainer.fit(X, y, 2, verbose=False)
    loaded = saved(network, tmp_path)
    assert same_bits(network, loaded)
    assert loaded.training["epochs"] == 2
    assert loaded.training["scores"]["loss"] == history["loss"][-1]
    assert loaded.training["optimizer"].startswith("Adam(learning_rate=0.01")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_scaling_layer_comes_back(dtype: str, tmp_path: Path):
    network = wide(MLP([3, 4, 2], "tanh", dtype=dtype, seed=5, scaling_layer=True))
    loaded = saved(network, tmp_path)
    assert same_bits(network, loaded)
    assert loaded.scale.tobytes() == network.scale.tobytes()
    assert repr(loaded) == repr(network)


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=5),
    st.floats(1e-30, 1e30),
    st.integers(0, 2**70),
    st.data(),
)
def test_any_network_and_any_names_come_back(sizes, scale, seed, data):
    import tempfile

    words = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
    network = MLP(sizes, "relu", "softmax", seed=seed, input_scale=scale)
    network.feature_names = tuple(data.draw(st.lists(words, min_size=sizes[0], max_size=sizes[0])))
    label = words | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
    network.label_names = data.draw(
        st.lists(label, min_size=sizes[-1], max_size=sizes[-1], unique=True)
    )
    with tempfile.TemporaryDirectory() as folder:
        loaded = saved(network, Path(folder))
    for name in ("feature_names", "label_names", "seed", "input_scale", "layer_sizes"):
        assert getattr(loaded, name) == getattr(network, name)
    assert list(map(type, loaded.label_names)) == list(map(type, network.label_names))
    assert loaded.parameters.tobytes() == network.parameters.tobytes()


def test_a_loaded_network_trains_on(tmp_path: Path):
    network = MLP([3, 4, 2], seed=1)
    loaded = saved(network, tmp_path)
    y = (X[:, 0] > 0).astype(int)
    for one in (network, loaded):
        Trainer(one, seed=3, backend="numpy").fit(X, y, 3, verbose=False)
    assert same_bits(network, loaded)


def test_the_same_model_is_the_same_file(tmp_path: Path):
    network = MLP([3, 4, 2], seed=1)
    network.label_names = ("no", "yes")
    contents = set()
    for number in range(8):
        network.copy().save(tmp_path / str(number))
        contents.add((tmp_path / str(number)).read_bytes())
    assert len(contents) == 1


def test_a_frame_s_columns_are_remembered_and_others_refused(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    network = MLP([3, 1], output_activation="linear")
    Trainer(network, backend="numpy").fit(frame, X[:, 0], 1, verbose=False)
    loaded = saved(network, tmp_path)
    assert loaded.feature_names == ("a", "b", "c")
    with pytest.raises(ValueError, match="in another order"):
        loaded.predict(frame[["b", "a", "c"]])


def test_training_ends_with_a_summary_and_numbers_that_are_none_are_none(tmp_path: Path):
    network = MLP([3, 2], output_activation="linear")
    assert saved(network, tmp_path).training is None
    loss = CustomLoss(lambda p, t: np.mean((p - t) ** 2, axis=1), lambda p, t: p - t)
    trainer = Trainer(network, loss, metrics={"odd": lambda p, t: np.nan}, backend="numpy")
    trainer.fit(X, X[:, :2], 1, verbose=False)
    training = saved(network, tmp_path).training
    assert training["loss"] == "CustomLoss()"
    assert training["scores"]["odd"] is None


def test_a_summary_of_lbfgs_says_so(tmp_path: Path):
    network = MLP([3, 2])
    trainer = Trainer(network, optimizer=LBFGS(iterations=2), backend="numpy")
    trainer.fit(X, np.arange(40) % 2, 1, verbose=False)
    assert saved(network, tmp_path).training["optimizer"].startswith("LBFGS(")


def test_a_fit_that_learned_nothing_leaves_the_summary(tmp_path: Path):
    network = MLP([3, 2])
    Trainer(network, backend="numpy").fit(X, np.arange(40) % 2, 0, verbose=False)
    assert network.training is None


def test_preprocessing_comes_back(tmp_path: Path):
    features = (
        Feature("size"),
        Feature("when", "date", date_format="%d.%m.%Y"),
        Feature("sold"),
        Feature("colour", "category", ("blue", "réd")),
        Feature("rooms", "category", (1, 2.5)),
    )
    made = Preprocessing(features, (0.1,) * 7, (0.2,) * 7, (3e-300,) * 7, ("price",), "regression")
    save_model(tmp_path / "a", ModelFile(MLP([7, 1], output_activation="linear"), made))
    loaded = load_model(tmp_path / "a")
    assert loaded.preprocessing == made
    assert loaded.task == "regression"


# Label names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "n_outputs", "names"),
    [
        ("softmax", 2, ["a"]),
        ("softmax", 1, ["a", "b"]),
        ("sigmoid", 1, ["a", "b", "c"]),
        ("linear", 2, ["a", "a"]),
        ("linear", 1, [float("nan")]),
        ("linear", 1, [None]),
        ("linear", 1, ["\ud800"]),
    ],
)
def test_label_names_must_fit_the_outputs(output, n_outputs, names):
    network = MLP([3, n_outputs], output_activation=output)
    with pytest.raises(ValueError, match="label_names"):
        network.label_names = names
    assert network.label_names is None


def test_a_single_sigmoid_may_have_two_classes():
    network = MLP([3, 1], output_activation="sigmoid")
    network.label_names = np.array(["no", "yes"])
    assert network.label_names == ("no", "yes")
    assert network.copy().label_names == ("no", "yes")
    assert ModelFile(network).task == "classification"


# Estimators ----------------------------------------------------------------------------------

LABELS = {
    "strings": np.array(["low", "middle", "high"])[RNG.integers(0, 3, 40)],
    "two strings": np.array(["no", "yes"])[RNG.integers(0, 2, 40)],
    "objects": np.array(["no", "yes"], dtype=object)[RNG.integers(0, 2, 40)],
    "integers": RNG.integers(0, 3, 40) * 10 - 5,
    "bytes": RNG.integers(0, 3, 40).astype(np.uint8),
    "large": RNG.integers(0, 3, 40).astype(np.uint64) + np.uint64(2**63),
    "booleans": RNG.integers(0, 2, 40).astype(bool),
    "floats": RNG.integers(0, 3, 40).astype(np.float32),
    "several": RNG.integers(0, 2, (40, 3)),
}


def fitted(estimator: Any, data: Any, y: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.set_params(backend="numpy", max_iter=3, random_state=0).fit(data, y)


def reloaded(estimator: Any, folder: Path) -> Any:
    estimator.save(folder / "model.safetensors")
    return type(estimator).load(folder / "model.safetensors")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", list(LABELS))
def test_classifiers_come_back_with_labels_of_every_kind(kind, dtype, tmp_path: Path):
    model = fitted(MLPClassifier((4,)), X.astype(dtype), LABELS[kind])
    loaded = reloaded(model, tmp_path)
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.classes_.dtype == model.classes_.dtype
    for method in ("predict", "predict_proba"):
        ours, theirs = getattr(loaded, method)(X), getattr(model, method)(X)
        assert ours.dtype == theirs.dtype
        assert ours.tolist() == theirs.tolist()
    assert loaded.score(X, LABELS[kind]) == model.score(X, LABELS[kind])


@pytest.mark.parametrize("y", [X[:, 0], X[:, :2], abs(X[:, 1])], ids=["one", "two", "poisson"])
def test_regressors_come_back(y, tmp_path: Path):
    loss = "poisson" if (y >= 0).all() else "squared_error"
    model = fitted(MLPRegressor(loss, (4,), "tanh", solver="lbfgs"), X, y)
    loaded = reloaded(model, tmp_path)
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert loaded.out_activation_ == model.out_activation_
    assert (loaded.n_iter_, loaded.loss_) == (model.n_iter_, model.loss_)


def test_an_estimator_keeps_its_parameters_and_trains_on(tmp_path: Path):
    model = MLPClassifier(
        [4, 3],
        [LeakyReLU(0.2), "gelu"],
        optimizer=Adam(0.02, beta_1=0.8),
        schedule=Cosine(),
        n_iter_no_change=np.inf,
        dtype=np.float32,
        class_weight={"low": 2.0, "high": 1.0, "middle": 1.5},
        loss=CrossEntropy(label_smoothing=0.1),
        tol=1e-3,
    )
    model = fitted(model, X, LABELS["strings"])
    loaded = reloaded(model, tmp_path)
    ours, theirs = loaded.get_params(), model.get_params()
    for name in ("hidden_layer_sizes", "activation"):
        ours[name], theirs[name] = list(ours[name]), list(theirs[name])
    theirs["dtype"] = "float32"
    assert ours == theirs
    before = loaded.predict_proba(X)
    assert loaded.partial_fit(X, LABELS["strings"]).t_ == model.t_ + 40
    assert (loaded.predict_proba(X) != before).any()


def test_a_regressor_of_quantiles_scores_as_before(tmp_path: Path):
    model = fitted(MLPRegressor(Quantile(levels=(0.1, 0.9)), (4,)), X, X[:, 0])
    loaded = reloaded(model, tmp_path)
    assert loaded.score(X, X[:, 0]) == model.score(X, X[:, 0])


def test_what_no_file_holds_is_left_out_with_a_warning(tmp_path: Path):
    loss = CustomLoss(lambda p, t: np.mean((p - t) ** 2, axis=1), lambda p, t: p - t)
    model = MLPRegressor(loss, (4,), callbacks=[lambda fit, record: None])
    model = fitted(model, X, X[:, 0])
    with pytest.warns(UserWarning, match="loss, callbacks cannot be kept in a model file"):
        loaded = reloaded(model, tmp_path)
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert loaded.get_params()["loss"] == "squared_error"


def test_an_estimator_remembers_a_frame_s_columns(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = fitted(MLPClassifier((4,)), frame, LABELS["integers"])
    loaded = reloaded(model, tmp_path)
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c"]
    assert loaded.predict(frame).tolist() == model.predict(frame).tolist()
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame.rename(columns={"a": "z"}))


def test_changed_coefficients_are_those_that_are_kept(tmp_path: Path):
    model = fitted(MLPRegressor(hidden_layer_sizes=(4,)), X, X[:, 0])
    model.coefs_ = [2 * w for w in model.coefs_]
    assert reloaded(model, tmp_path).predict(X).tobytes() == model.predict(X).tobytes()


def test_the_network_of_an_estimator_can_be_had_alone(tmp_path: Path):
    model = fitted(MLPClassifier((4,)), X, LABELS["two strings"])
    model.save(tmp_path / "a")
    network = MLP.load(tmp_path / "a")
    assert network.label_names == ("no", "yes")
    assert np.array_equal(network.predict_proba(X)[:, 0], model.predict_proba(X)[:, 1])


def test_an_estimator_is_loaded_as_what_it_is(tmp_path: Path):
    fitted(MLPClassifier((4,)), X, LABELS["strings"]).save(tmp_path / "classifier")
    MLP([3, 2]).save(tmp_path / "network")
    with pytest.raises(ModelFileError, match="another estimator, 'MLPClassifier'"):
        MLPRegressor.load(tmp_path / "classifier")
    with pytest.raises(ModelFileError, match=r"fastmlp\.MLP\.load reads it"):
        MLPClassifier.load(tmp_path / "network")


def test_an_estimator_that_is_not_fitted_is_not_saved(tmp_path: Path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        MLPClassifier().save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


# What is not written -------------------------------------------------------------------------


class Twice(ReLU):
    """An activation of a user's own."""


class OwnSoftmax(Softmax):
    """An output of a user's own."""


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (MLP([3, 2, 2], Twice()), "none of the library's own"),
        (MLP([3, 2], output_activation=OwnSoftmax()), "none of the library's own"),
        (MLP([3, 2]), "NaN or infinite"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(network, message, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    MLP([3, 2]).save(path)
    before = path.read_bytes()
    if network.n_layers == 1 and type(network.output_activation) is Softmax:
        network.weights[0][0, 0] = np.nan
    with pytest.raises(ModelFileError, match=rf"model\.safetensors is not written: .*{message}"):
        network.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", 3), ("a", "b", "\ud800")])
def test_names_that_no_file_holds_are_said(names, tmp_path: Path):
    network = MLP([3, 2])
    network.feature_names = names
    with pytest.raises(ModelFileError, match="feature_names"):
        network.save(tmp_path / "a")


def test_too_many_names_are_said(tmp_path: Path):
    network = MLP([3, 2])
    network.feature_names = ("a" * MOST_HEADER_BYTES, "b", "c")
    with pytest.raises(ModelFileError, match="header would take"):
        network.save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch):
    path = tmp_path / "model.safetensors"
    MLP([3, 2]).save(path)
    before = path.read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        MLP([3, 2], seed=1).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_safetensors_the_extra_is_named(tmp_path: Path, monkeypatch):
    MLP([3, 2]).save(tmp_path / "a")
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.delattr("safetensors.numpy", raising=False)
    for use in (MLP([3, 2]).save, MLP.load):
        with pytest.raises(ImportError, match=r"fastmlp\[safetensors\]"):
            use(tmp_path / "a")


# What is not read ----------------------------------------------------------------------------


def pieces(whole: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["fastmlp"]), whole[8 + length :]


def whole_of(header: Any, data: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """Return what changes the description of a file."""

    def apply(whole: bytes) -> bytes:
        header, description, data = pieces(whole)
        change(description)
        header["__metadata__"]["fastmlp"] = json.dumps(description)
        return whole_of(header, data)

    return apply


def text_of_description(text: str) -> Callable[[bytes], bytes]:
    def apply(whole: bytes) -> bytes:
        header, _, data = pieces(whole)
        header["__metadata__"]["fastmlp"] = text
        return whole_of(header, data)

    return apply


def with_entries(whole: bytes) -> bytes:
    header, _, data = pieces(whole)
    header |= {
        f"x.{i}": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]} for i in range(100_000)
    }
    return whole_of(header, data)


def with_metadata(whole: bytes) -> bytes:
    header, _, data = pieces(whole)
    header["__metadata__"] |= {f"x.{i}": "" for i in range(100_000)}
    return whole_of(header, data)


def with_exchanged_names(whole: bytes) -> bytes:
    header, _, data = pieces(whole)
    header["weights.1"], header["weights.2"] = header["weights.2"], header["weights.1"]
    return whole_of(header, data)


def with_nan(whole: bytes) -> bytes:
    return whole[:-4] + struct.pack("<f", np.nan)


def with_other_dtype(whole: bytes) -> bytes:
    return whole.replace(b'"F32"', b'"I32"')


def with_other_shape(whole: bytes) -> bytes:
    return whole.replace(b'"shape":[3,4]', b'"shape":[4,3]')


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "seven bytes": lambda whole: whole[:7],
    "no header": lambda whole: whole[:8],
    "half of the header": lambda whole: whole[:200],
    "the last byte is missing": lambda whole: whole[:-1],
    "a byte more": lambda whole: whole + b"\0",
    "a header of 2**64 - 1 bytes": lambda whole: b"\xff" * 8 + whole[8:],
    "a header of 2**40 bytes": lambda whole: struct.pack("<Q", 2**40) + whole[8:],
    "a header beyond the end": lambda whole: struct.pack("<Q", len(whole)) + whole[8:],
    "a header that is not UTF-8": lambda whole: whole[:8] + b"\xff" + whole[9:],
    "a header that is no JSON": lambda whole: whole_of("{", b""),
    "a header that is a list": lambda whole: whole_of([], b""),
    "a header that is nested deeply": lambda whole: whole_of("[" * 1_000_000, b""),
    "no description": lambda whole: whole_of({"a": 1}, b""),
    "names that stand twice": lambda whole: whole.replace(b"biases.0", b"biases.1"),
    "100,000 arrays": with_entries,
    "100,000 metadata": with_metadata,
    "two layers exchanged": with_exchanged_names,
    "a pickle": lambda whole: b"\x80\x04cos\nsystem\n(S'false'\ntR.",
    "NaN": with_nan,
    "another dtype": with_other_dtype,
    "another shape": with_other_shape,
    "a bit of a weight": lambda whole: whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
    "a description that is no JSON": text_of_description("relu"),
    "a description that is a list": text_of_description("[]"),
    "a description that is nested deeply": text_of_description('{"a":' * 100_000),
    "a description of NaN": text_of_description('{"version": NaN}'),
    "twins in the description": text_of_description('{"version": 1, "version": 1}'),
    "a number of a million digits": text_of_description('{"version": ' + "9" * 10**6 + "}"),
    "version 0": changed(lambda d: d.update(version=0)),
    "version 1.0": changed(lambda d: d.update(version=1.0)),
    "version true": changed(lambda d: d.update(version=True)),
    "huge layers": changed(lambda d: d.update(layer_sizes=[2**40, 2**40])),
    "layers of 10**400": changed(lambda d: d.update(layer_sizes=[10**400, 1])),
    "a million layers": changed(lambda d: d.update(layer_sizes=[1] * 10**6)),
    "layers of half": changed(lambda d: d.update(layer_sizes=[3, 4.5, 2])),
    "one layer": changed(lambda d: d.update(layer_sizes=[3])),
    "an unknown activation": changed(lambda d: d.update(output_activation={"kind": "os.system"})),
    "an activation too many": changed(lambda d: d["hidden_activations"].append({"kind": "ReLU"})),
    "a slope below 0": changed(lambda d: d["hidden_activations"][0].update(negative_slope=-1)),
    "an infinite slope": changed(lambda d: d["hidden_activations"][0].update(negative_slope=1e999)),
    "a slope of 10**400": changed(
        lambda d: d["hidden_activations"][0].update(negative_slope=10**400)
    ),
    "a slope of text": changed(lambda d: d["hidden_activations"][0].update(negative_slope="1")),
    "a field of nothing": changed(lambda d: d["hidden_activations"][0].update(__class__="x")),
    "a scale of 0": changed(lambda d: d.update(input_scale=0)),
    "another scale": changed(lambda d: d.update(input_scale=2.0)),
    "another dtype in the description": changed(lambda d: d.update(dtype="float64")),
    "names too many": changed(lambda d: d.update(feature_names=["a"] * 4)),
    "labels that are equal": changed(lambda d: d.update(label_names=["a", "a"])),
    "labels that are lists": changed(lambda d: d.update(label_names=[[], []])),
    "one more entry": changed(lambda d: d.update(code="import os")),
    "an entry less": changed(lambda d: d.pop("training")),
    "an estimator of nothing": changed(lambda d: d.update(estimator=[])),
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("valid") / "a"
    MLP([3, 4, 4, 4, 2], LeakyReLU(0.2), seed=1).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_damaged_and_hostile_files_are_one_error(kind: str, valid: bytes, tmp_path: Path):
    path = tmp_path / "hostile.safetensors"
    content = HOSTILE[kind](valid)
    assert content != valid
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"^hostile\.safetensors is ") as error:
        MLP.load(path)
    assert len(str(error.value)) < 1000


#: What is wrong with a file of a network with a scaling layer.
WRONGLY_SCALED = {
    "no scaling layer": changed(lambda d: d.update(scaling_layer=False)),
    "a scaling layer of text": changed(lambda d: d.update(scaling_layer="True")),
    "no word of its scaling layer": changed(lambda d: d.pop("scaling_layer")),
    "version 1": changed(lambda d: d.update(version=1)),
    "version 1, and no word": changed(lambda d: (d.update(version=1), d.pop("scaling_layer"))),
    "factors of another name": lambda whole: whole.replace(b'"scale"', b'"scall"'),
    "a bit of a factor": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
}


@pytest.mark.parametrize("kind", list(WRONGLY_SCALED))
def test_damaged_files_of_scaling_layers_are_refused(kind: str, tmp_path: Path):
    path = tmp_path / "a"
    MLP([3, 4, 2], seed=1, scaling_layer=True).save(path)
    content = path.read_bytes()
    path.write_bytes(WRONGLY_SCALED[kind](content))
    assert path.read_bytes() != content
    with pytest.raises(ModelFileError, match=r"^a is damaged or no model file"):
        MLP.load(path)


def test_a_scaling_layer_told_of_but_not_there_is_refused(valid: bytes, tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(changed(lambda d: d.update(version=2, scaling_layer=True))(valid))
    with pytest.raises(ModelFileError, match="its layers take"):
        MLP.load(path)


def test_nan_is_refused_with_a_right_checksum_too(tmp_path: Path, monkeypatch):
    network = MLP([3, 2])
    network.weights[0][0, 0] = np.nan
    with monkeypatch.context() as careless:
        careless.setattr("fastmlp.model_file._check_finite", lambda parameters: None)
        network.save(tmp_path / "a")
    with pytest.raises(ModelFileError, match="parameters are NaN or infinite"):
        MLP.load(tmp_path / "a")


def test_a_later_version_says_what_is_needed(valid: bytes, tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(changed(lambda d: d.update(version=VERSION + 1, new="field"))(valid))
    with pytest.raises(ModelFileError, match=f"version {VERSION + 1} .* a newer fastmlp is needed"):
        MLP.load(path)


@given(st.data())
def test_no_bit_of_a_file_changes_a_model_silently(valid: bytes, tmp_path_factory, data):
    """A flipped bit is refused, or it is in the header's own form and the model is the same."""
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.write_bytes(valid)
    same = MLP.load(path)
    bit = data.draw(st.integers(0, 8 * len(valid) - 1))
    flipped = bytearray(valid)
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(flipped))
    try:
        loaded = MLP.load(path)
    except ModelFileError:
        return
    assert same_bits(loaded, same)
    assert repr(loaded) == repr(same)


def test_a_file_that_is_only_its_own_claims_takes_no_memory(valid: bytes, tmp_path: Path):
    """Claims of huge sizes are refused within a limit that the claims would break."""
    pytest.importorskip("resource")
    for number, kind in enumerate(kind for kind in HOSTILE if "2**" in kind or "huge" in kind):
        (tmp_path / str(number)).write_bytes(HOSTILE[kind](valid))
    script = f"""
import pathlib, resource
from fastmlp import MLP, ModelFileError
import safetensors.numpy
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, used + 50_000_000))
for path in pathlib.Path({str(tmp_path)!r}).iterdir():
    try:
        MLP.load(path)
    except ModelFileError as error:
        print(error)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("there is no /proc that says how much is in use")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("is damaged") == len(list(tmp_path.iterdir()))
    assert "MemoryError" not in run.stdout


@pytest.mark.slow
def test_ten_thousand_mutated_files_are_refused_or_the_same():
    """In a process of its own, whose memory is limited and where code that runs is noticed."""
    command = [sys.executable, str(FUZZER), "--tries", "10000", "--seed", "7"]
    if sys.platform == "linux":
        command = ["sh", "-c", 'ulimit -v 4000000; exec "$@"', "sh", *command]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "'refused'" in run.stdout


# Files of earlier versions --------------------------------------------------------------------


def test_files_of_version_1_keep_loading():
    """Made by the functions below, when version 1 was the format."""
    network = MLP.load(DATA / "network-1.safetensors")
    assert same_bits(network, network_of_version_1())
    assert network.hidden_activations == (LeakyReLU(0.125), ACTIVATIONS["gelu"])
    assert (network.input_scale, network.seed) == (0.5, 11)
    assert network.feature_names == ("a", "b", "c")
    assert network.label_names == ("no", "yes")
    assert network.training["epochs"] == 2


def test_networks_without_a_scaling_layer_are_files_of_version_1_byte_for_byte(tmp_path: Path):
    network_of_version_1().save(tmp_path / "a")
    save_model(tmp_path / "b", table_of_version_1())
    assert (tmp_path / "a").read_bytes() == (DATA / "network-1.safetensors").read_bytes()
    assert (tmp_path / "b").read_bytes() == (DATA / "table-1.safetensors").read_bytes()


def test_a_file_of_version_2_keeps_loading(tmp_path: Path):
    """Made by the function below, when version 2 was the latest."""
    network = MLP.load(DATA / "network-2.safetensors")
    assert same_bits(network, network_of_version_2())
    assert network.scale.tolist() == [0.5, -1.0, 2.0]
    network_of_version_2().save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == (DATA / "network-2.safetensors").read_bytes()


def test_an_estimator_of_version_1_keeps_loading():
    model = MLPClassifier.load(DATA / "classifier-1.safetensors")
    assert model.classes_.tolist() == ["high", "low", "mid"]
    assert model.get_params()["optimizer"] == Adam(0.01)
    assert model.predict([[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]]).tolist() == ["high", "low", "mid"]


def test_a_table_s_model_of_version_1_keeps_loading():
    model = load_model(DATA / "table-1.safetensors")
    wanted = table_of_version_1()
    assert model.preprocessing == wanted.preprocessing
    assert same_bits_of(model.network, wanted.network)
    columns = [np.array([2.0]), np.array([9.0]), np.array(["red"]), np.array([4])]
    assert model.columns.transform(columns).tolist() == [[1, 9, 0, 1, 1, 0]]


def same_bits_of(one: MLP, other: MLP) -> bool:
    return one.parameters.tobytes() == other.parameters.tobytes()


def table_of_version_1() -> ModelFile:
    """Return what ``table-1.safetensors`` holds."""
    network = MLP([6, 1], output_activation="linear")
    network.parameters = np.arange(7) / 8
    network.label_names = ("price",)
    features = (
        Feature("size"),
        Feature("built", "date", date_format="%d.%m.%Y"),
        Feature("colour", "category", ("blue", "red")),
        Feature("rooms", "category", (4, 5)),
    )
    mean, deviation = (0.0,) * 6, (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    fill = (0.5, 1.5, 0.25, 0.75, 0.5, 0.5)
    return ModelFile(network, Preprocessing(features, fill, mean, deviation, ("price",)))


def network_of_version_1() -> MLP:
    """Return what ``network-1.safetensors`` holds: parameters that any machine computes alike."""
    hidden: list[Activation] = [LeakyReLU(0.125), ACTIVATIONS["gelu"]]
    network = MLP([3, 4, 2, 2], hidden, dtype="float64", seed=11, input_scale=0.5)
    network.parameters = np.arange(network.n_parameters) / 16 - 1
    network.feature_names, network.label_names = ("a", "b", "c"), ("no", "yes")
    network.training = {
        "epochs": 2,
        "scores": {"loss": 0.5, "val_loss": None},
        "loss": "CrossEntropy(label_smoothing=0.0)",
        "optimizer": "SGD(learning_rate=0.1)",
        "fastmlp": "0.1.0",
    }
    return network


def network_of_version_2() -> MLP:
    """Return what ``network-2.safetensors`` holds."""
    network = MLP([3, 4, 2], "relu", dtype="float64", seed=11, scaling_layer=True)
    network.parameters = np.arange(network.n_parameters) / 16 - 1
    network.scale = [0.5, -1.0, 2.0]
    return network


def write_version_1(folder: Path) -> None:
    """Write the files of version 1; not run again, as they are to stay what they were."""
    network_of_version_1().save(folder / "network-1.safetensors")
    save_model(folder / "table-1.safetensors", table_of_version_1())
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 2)) * 0.3 + np.repeat([-1.0, 0.0, 1.0], 100)[:, None]
    names = np.repeat(["low", "mid", "high"], 100)
    model = MLPClassifier((4,), optimizer=Adam(0.01), max_iter=300, random_state=0, dtype="float32")
    model.fit(points, names).save(folder / "classifier-1.safetensors")
