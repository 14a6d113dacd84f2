"""A model file holds all networks of an ensemble."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, Ensemble, ModelFileError, TrainingInterrupted
from fastmlp.backends import Backend
from fastmlp.model_file import ModelFile, load_model, save_model

pytest.importorskip("safetensors")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
Y = np.argmax(X[:, :3], axis=1)


def trained(backend: Backend | str = "numpy", **shape: Any) -> Ensemble:
    ensemble = Ensemble(MLP([4, 5, 3], "tanh", seed=2, **shape), 3, backend=backend)
    ensemble.fit(X, Y, 2, verbose=False)
    return ensemble


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scaling_layer", [False, True])
def test_a_loaded_ensemble_predicts_the_same(
    backend: Backend, dtype: str, scaling_layer: bool, tmp_path: Path
) -> None:
    shape = {"dtype": dtype, "scaling_layer": scaling_layer}
    ensemble, path = trained(backend, **shape), tmp_path / "model"
    drawn = MLP([4, 5, 3], "tanh", seed=3, **shape).parameters
    untrained = MLP([4, 5, 3], "tanh", seed=2, **shape).drawn_anew(3)
    np.testing.assert_array_equal(untrained.parameters, drawn)
    ensemble.save(path)
    twin = Ensemble.load(path, backend=backend, optimizer="adam")
    np.testing.assert_array_equal(twin.parameters, ensemble.parameters)
    np.testing.assert_array_equal(twin.logits(X), ensemble.logits(X))
    assert twin.members[1].network.scaling_layer == scaling_layer
    twin.fit(X, Y, 1, verbose=False)
    twin.save(path)
    assert np.any(Ensemble.load(path).parameters != ensemble.parameters)


def test_names_are_kept(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    network = MLP([4, 3])
    network.label_names = ("low", "middle", "high")
    ensemble = Ensemble(network, 2, backend="numpy")
    ensemble.fit(pandas.DataFrame(X, columns=list("abcd")), Y, 1, verbose=False)
    ensemble.save(tmp_path / "model")
    for member in Ensemble.load(tmp_path / "model", backend="numpy").members:
        assert member.network.label_names == network.label_names
        assert member.network.feature_names == ("a", "b", "c", "d")


def test_the_arrays_have_an_axis_of_the_members(tmp_path: Path) -> None:
    numpy_of = pytest.importorskip("safetensors.numpy")
    ensemble = trained()
    ensemble.save(tmp_path / "model")
    arrays = numpy_of.load_file(tmp_path / "model")
    for i, member in enumerate(ensemble.members):
        np.testing.assert_array_equal(arrays["weights.1"][i], member.network.weights[1])
        np.testing.assert_array_equal(arrays["biases.0"][i], member.network.biases[0])


def test_a_file_of_one_is_not_taken_for_one_of_many(tmp_path: Path) -> None:
    trained().save(tmp_path / "many")
    MLP([4, 3]).save(tmp_path / "one")
    for load in (MLP.load, load_model):
        with pytest.raises(ModelFileError, match=r"many holds an ensemble of 3 networks, which En"):
            load(tmp_path / "many")
    with pytest.raises(ModelFileError, match=r"one holds a single network, which MLP\.load reads"):
        Ensemble.load(tmp_path / "one")


def test_a_member_that_was_not_trained_is_not_written(tmp_path: Path) -> None:
    ensemble = Ensemble(MLP([4, 3]), 3, backend="numpy", n_threads=1)

    def interrupt(number: int) -> list[Any]:
        if number == 2:
            raise KeyboardInterrupt
        return []

    with pytest.warns(TrainingInterrupted, match="epochs: 1, 1, 0"):
        ensemble.fit(X, Y, 1, callbacks=interrupt, verbose=False)
    ensemble.save(tmp_path / "model")
    twin = Ensemble.load(tmp_path / "model", backend="numpy")
    assert twin.n_members == 2
    np.testing.assert_array_equal(twin.predict_proba(X), ensemble.predict_proba(X))


def test_parameters_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    ensemble = trained()
    ensemble.members[2].network.parameters[0] = np.nan
    with pytest.raises(ModelFileError, match="NaN"):
        ensemble.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def described(content: bytes) -> tuple[dict[str, Any], int]:
    (n_bytes,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + n_bytes]), 8 + n_bytes


@pytest.mark.parametrize("n_members", [0, 1, 2, 4, 2**62, True, "3", None])
def test_another_number_of_members_is_refused(n_members: Any, tmp_path: Path) -> None:
    path = tmp_path / "model"
    trained().save(path)
    content = path.read_bytes()
    header, start = described(content)
    description = json.loads(header["__metadata__"]["fastmlp"])
    assert description["version"] == 3
    description["n_members"] = n_members
    header["__metadata__"]["fastmlp"] = json.dumps(description)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[start:])
    with pytest.raises(ModelFileError, match="damaged"):
        Ensemble.load(path)


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model"
    trained().save(path)
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 60).astype(int):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        try:
            same = Ensemble.load(path)
        except ModelFileError:
            continue
        # A space between two words of the header may be another.
        assert same.parameters.tobytes() == load_bytes(content, tmp_path).parameters.tobytes()


def load_bytes(content: bytes, folder: Path) -> Ensemble:
    (folder / "whole").write_bytes(content)
    return Ensemble.load(folder / "whole")


def test_a_model_file_may_hold_what_else_a_model_needs(tmp_path: Path) -> None:
    ensemble = trained()
    network = ensemble.members[0].network
    model = ModelFile(network, estimator={"of": "mine"}, members=ensemble.parameters)
    save_model(tmp_path / "model", model)
    loaded = load_model(tmp_path / "model", ensemble=True)
    assert loaded.estimator == {"of": "mine"}
    np.testing.assert_array_equal(loaded.members, ensemble.parameters)
    np.testing.assert_array_equal(loaded.answers(ensemble.logits(X))[0], ensemble.predict(X))
