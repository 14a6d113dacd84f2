"""Model files: a network and all that its predictions need, in the safetensors format.

A file is what the safetensors library writes: a header of JSON, then the arrays ``weights.0``,
``biases.0``, ``weights.1`` and so on, of shapes (n_in, n_out) and (n_out,), and behind them, where
there is a scaling layer, ``scale`` of shape (n_inputs,). The header's ``__metadata__`` holds one
entry, ``fastmlp``: a description in JSON with the version of its form. That is 2 for networks with
a scaling layer, which earlier readers would take for others, and 1 for those without. It is 3 for
ensembles, networks of one shape: each array has an axis more in front, of so many members; and 4
for networks and ensembles of another precision than "full".
Its ``sha256`` is the digest of the rest of it, as JSON with sorted keys, and of all arrays' bytes
in the order of layers; so the same model is the same file.

Reading such a file runs nothing that the file could choose: whatever it names is looked up among
the library's own activations, and what it may hold is said place by place below.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import struct
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastmlp._files import write_atomically
from fastmlp._json import read_json
from fastmlp._schema import (
    Anything,
    Exactly,
    Fields,
    Integer,
    Items,
    Maybe,
    Number,
    OneOf,
    Scalar,
    Text,
    Truth,
    shown,
)
from fastmlp._settings import described, own_scalar, readable, recreated
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from fastmlp.errors import ModelFileError
from fastmlp.network import MLP
from fastmlp.preprocessing import SCHEMA as PREPROCESSING
from fastmlp.preprocessing import Feature, Preprocessing

Array = NDArray[Any]

#: The latest version that there is; `_described` chooses the earliest that will do.
VERSION = 4
#: Text takes up to 25 times its size when it is read: this is 200 MB.
MOST_HEADER_BYTES = 2**23

_LENGTH = struct.Struct("<Q")
_DTYPES = {"float32": "F32", "float64": "F64"}
_MOST_UNITS = 2**48
#: Characters of a message, which may quote the file.
_MOST_REASON = 500
#: Characters of an optimizer or a loss that a summary shows.
_MOST_SETTING = 200

_HIDDEN = {type(one).__name__: type(one) for one in ACTIVATIONS.values()}
_OUTPUTS = {type(one).__name__: type(one) for one in OUTPUT_ACTIVATIONS.values()}
_NAMES = Maybe(Items(Text()))
_KIND = Fields({"kind": Text()}, Anything())

#: What `Trainer.fit` and the estimators say of how a network was trained.
TRAINING = Fields(
    {
        "epochs": Integer(),
        "scores": Fields(others=Maybe(Number())),
        "loss": Text(),
        "optimizer": Text(),
        "fastmlp": Text(),
    }
)
_FIRST_FIELDS = {
    "version": Exactly(1),
    "sha256": Text(),
    "layer_sizes": Items(Integer(1, _MOST_UNITS)),
    "hidden_activations": Items(_KIND),
    "output_activation": _KIND,
    "dtype": OneOf(("float32", "float64")),
    "seed": Integer(),
    "input_scale": Number(least=0),
    "feature_names": _NAMES,
    "label_names": Maybe(Items(Scalar())),
    "preprocessing": Maybe(PREPROCESSING),
    "estimator": Maybe(Fields(others=Anything())),
    "training": Maybe(TRAINING),
}
_SCHEMAS = {
    1: Fields(_FIRST_FIELDS),
    2: Fields(_FIRST_FIELDS | {"version": Exactly(2), "scaling_layer": Exactly(True)}),
    3: Fields(
        _FIRST_FIELDS
        | {"version": Exactly(3), "scaling_layer": Truth(), "n_members": Integer(1, _MOST_UNITS)}
    ),
    4: Fields(
        _FIRST_FIELDS
        | {
            "version": Exactly(4),
            "scaling_layer": Truth(),
            "n_members": Maybe(Integer(1, _MOST_UNITS)),
            "precision": Exactly("bfloat16"),
        }
    ),
}
#: The library looks at what stands beside it.
_HEADER = Fields({"__metadata__": Fields({"fastmlp": Text()})}, others=Anything())


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds.

    Parameters
    ----------
    network : MLP
        With its names and what it tells of its training.
    preprocessing : Preprocessing or None
        What makes the network's inputs of a table's columns.
    estimator : mapping or None
        What an estimator of `fastmlp.sklearn` is made again from.
    members : ndarray of shape (n_members, n_parameters) or None
        The parameters of an ensemble, whose networks all are of the shape of `network`, the first.

    Examples
    --------
    >>> ModelFile(MLP([4, 3])).task
    'classification'
    """

    network: MLP
    preprocessing: Preprocessing | None = None
    estimator: Mapping[str, Any] | None = None
    members: Array | None = None

    @property
    def task(self) -> str:
        """What the network is for: "classification", "multilabel" or "regression"."""
        if self.preprocessing is not None:
            return self.preprocessing.task
        output, labels = self.network.output_activation.name, self.network.label_names
        if output == "softmax" or (labels is not None and len(labels) > self.network.n_outputs):
            return "classification"
        return "multilabel" if output == "sigmoid" else "regression"

    @property
    def columns(self) -> Preprocessing:
        """What makes its inputs of a table's columns; by their numbers where it knows no names."""
        if self.preprocessing is not None:
            return self.preprocessing
        names = self.network.feature_names or map(str, range(self.network.n_inputs))
        return Preprocessing(tuple(map(Feature, names)))

    @property
    def labels(self) -> tuple[Any, ...]:
        """Classes, labels or targets: their names, or their numbers from 0."""
        names = self.network.label_names
        return tuple(range(self.network.n_outputs)) if names is None else names

    @property
    def probability_labels(self) -> tuple[Any, ...] | None:
        """What the columns of `answers`' probabilities stand for; None where it gives none."""
        output = self.network.output_activation.name
        if self.task == "regression" or output not in ("softmax", "sigmoid"):
            return None
        if self.task == "classification" and len(self.labels) == 1:
            return f"not {self.labels[0]}", self.labels[0]
        return self.labels

    def answers(self, logits: Array) -> tuple[Array, Array | None]:
        """Return what rows are predicted to be, and the probabilities of that.

        Parameters
        ----------
        logits : ndarray of shape (n_samples, n_outputs)

        Returns
        -------
        predictions : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Labels of a classification; 0 and 1 for each of several labels; or values.
        probabilities : ndarray of shape (n_samples, n_labels) or None
            None where outputs are none.

        Examples
        --------
        >>> network = MLP([4, 2])
        >>> network.label_names = ("low", "high")
        >>> ModelFile(network).answers(np.array([[0.0, 0.0], [-1.0, 1.0]]))[0]
        array(['low', 'high'], dtype='<U4')
        """
        network, task = self.network, self.task
        output = network.output_activation
        outputs = output.forward(logits, out=np.empty_like(logits))
        if task == "regression":
            return outputs[:, 0] if network.n_outputs == 1 else outputs, None
        # scikit-learn takes a probability of one half for the first class, or for no label.
        positive = logits >= 0 if self.estimator is None else outputs > 0.5
        probabilities = outputs if output.name in ("softmax", "sigmoid") else None
        if task == "multilabel":
            return positive.astype(np.int64), probabilities
        if network.n_outputs > 1:
            return np.array(self.labels)[logits.argmax(axis=1)], probabilities
        number = np.minimum(positive[:, 0], len(self.labels) - 1).astype(np.int64)
        return np.array(self.labels)[number], np.hstack([1 - outputs, outputs])


def save_model(path: str | os.PathLike[str], model: ModelFile) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    model : ModelFile

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ImportError
        If safetensors is not installed.
    ModelFileError
        If parameters are NaN or infinite, or something is nothing that a file can hold, such as
        an activation that is not the library's.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(Path(folder, "a.safetensors"), ModelFile(MLP([2, 3])))
    ...     load_model(Path(folder, "a.safetensors")).network
    MLP([2, 3], hidden_activation=[], output_activation='softmax', dtype='float32', seed=0)
    """
    library = _safetensors()
    network = model.network.copy()
    name = Path(path).name
    parameters = network.parameters if model.members is None else model.members
    arrays = _arrays_of(parameters, network)
    try:
        description = json.loads(json.dumps(_described(network, model), allow_nan=False))
        _check({**description, "sha256": ""})
        _check_finite(parameters)
        description["sha256"] = _digest(description, arrays)
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{name} is not written: {error}") from error
    text = json.dumps(description, ensure_ascii=False)
    content = library.numpy.save(arrays, {"fastmlp": text})
    (n_bytes,) = _LENGTH.unpack_from(content)
    if n_bytes > MOST_HEADER_BYTES:
        raise ModelFileError(
            f"{name} is not written: its header would take {n_bytes} bytes, but may take "
            f"{MOST_HEADER_BYTES}; there are too many layers or names, or they are too long"
        )
    write_atomically(path, content)


def load_model(path: str | os.PathLike[str], *, ensemble: bool | None = False) -> ModelFile:
    """Return what `save_model` wrote, of this version of the format or an earlier one.

    A file from anywhere may be given: none makes the library run what it names, or take more
    memory than the file's own size calls for.

    Parameters
    ----------
    path : str or Path
    ensemble : bool or None, default False
        Whether the file is to hold an ensemble, or a single network; None: either.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ImportError
        If safetensors is not installed.
    ModelFileError
        If it is damaged, no model file, of a later version, or holds one where the other is
        wanted. It is a ValueError.

    Examples
    --------
    >>> load_model("nowhere.safetensors")
    Traceback (most recent call last):
        ...
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.safetensors'
    """
    library = _safetensors()
    with Path(path).open("rb") as file:
        try:
            model = _read(file, library, Path(path).name)
        except ModelFileError:
            raise
        except (ValueError, RecursionError, MemoryError, library.SafetensorError) as error:
            reason = textwrap.shorten(str(error), _MOST_REASON) or type(error).__name__
            raise ModelFileError(
                f"{Path(path).name} is damaged or no model file of fastmlp ({reason})"
            ) from error
    if ensemble and model.members is None:
        raise ModelFileError(f"{Path(path).name} holds a single network, which MLP.load reads")
    if model.members is not None and ensemble is False:
        raise ModelFileError(
            f"{Path(path).name} holds an ensemble of {len(model.members)} networks, which "
            "Ensemble.load reads"
        )
    return model


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "model files need safetensors: pip install 'fastmlp[safetensors]'"
        ) from error
    return safetensors


# The description -----------------------------------------------------------------------------


def _described(network: MLP, model: ModelFile) -> dict[str, Any]:
    for activation in network.hidden_activations:
        if _HIDDEN.get(type(activation).__name__) is not type(activation):
            raise ValueError(f"the activation {activation!r} is none of the library's own")
    output = network.output_activation
    if _OUTPUTS.get(type(output).__name__) is not type(output):
        raise ValueError(f"the output activation {output!r} is none of the library's own")
    labels, preprocessing = network.label_names, model.preprocessing
    version = 1
    later: dict[str, Any] = {}
    if network.scaling_layer:
        version, later = 2, {"scaling_layer": True}
    if model.members is not None:
        version, later["n_members"] = 3, len(model.members)
        later["scaling_layer"] = network.scaling_layer
    if network.precision != "full":
        version, later = 4, {"n_members": None, **later}
        later |= {"scaling_layer": network.scaling_layer, "precision": network.precision}
    return {
        "version": version,
        "layer_sizes": list(network.layer_sizes),
        "hidden_activations": described(network.hidden_activations),
        "output_activation": described(output),
        "dtype": network.dtype.name,
        "seed": network.seed,
        "input_scale": network.input_scale,
        "feature_names": _list(network.feature_names),
        "label_names": None if labels is None else [own_scalar(label) for label in labels],
        "preprocessing": None if preprocessing is None else preprocessing.to_plain(),
        "estimator": None if model.estimator is None else dict(model.estimator),
        "training": None if network.training is None else dict(network.training),
        **later,
    }


def _list(values: Any) -> list[Any] | None:
    return None if values is None else list(values)


def training_summary(
    epochs: int, scores: Mapping[str, float], loss: object, optimizer: object
) -> dict[str, Any]:
    """Return what a network tells of its training, in the form that `TRAINING` says.

    Parameters
    ----------
    epochs : int
    scores : mapping of str to float
        Losses and metrics of the last epoch; None stands for what is not finite.
    loss, optimizer : object
        Descriptions or names; what they say of themselves is shortened.

    Examples
    --------
    >>> training_summary(3, {"loss": 0.5}, "mse", "SGD()")["scores"]
    {'loss': 0.5}
    """
    from fastmlp import __version__

    return {
        "epochs": epochs,
        "scores": {
            name: float(value) if math.isfinite(value) else None for name, value in scores.items()
        },
        "loss": readable(loss)[:_MOST_SETTING],
        "optimizer": readable(optimizer)[:_MOST_SETTING],
        "fastmlp": __version__,
    }


def _check(description: Mapping[str, Any]) -> tuple[list[Any], Any, Preprocessing | None]:
    """Return activations and preprocessing, if all of a description hangs together."""
    _SCHEMAS[description["version"]].check(description, "it")
    sizes = description["layer_sizes"]
    if len(sizes) < 2:
        raise ValueError(f"layer_sizes is {sizes}, but must be two numbers or more")
    Items(Anything(), len(sizes) - 2).check(description["hidden_activations"], "hidden_activations")
    hidden = [
        recreated(one, _HIDDEN, f"hidden_activations[{i}]")
        for i, one in enumerate(description["hidden_activations"])
    ]
    output = recreated(description["output_activation"], _OUTPUTS, "output_activation")
    Maybe(Items(Text(), sizes[0])).check(description["feature_names"], "feature_names")
    content = description["preprocessing"]
    preprocessing = None if content is None else Preprocessing.of_plain(content, sizes[0])
    return hidden, output, preprocessing


# The file ------------------------------------------------------------------------------------


def _read(file: BinaryIO, library: Any, name: str) -> ModelFile:
    """Return what a file holds; whatever else it holds is a ValueError."""
    size = os.fstat(file.fileno()).st_size
    header, start = _header(file, size)
    description = read_json(header["__metadata__"]["fastmlp"], finite=True)
    _check_version(description, name)
    parts = _check(description)
    n_members = description.get("n_members")
    front = () if n_members is None else (n_members,)
    each = _shapes(description["layer_sizes"], _has_scale(description))
    shapes = {array: (*front, *shape) for array, shape in each.items()}
    n_bytes = sum(map(math.prod, shapes.values())) * np.dtype(description["dtype"]).itemsize
    if n_bytes != size - start:
        raise ValueError(f"its layers take {n_bytes} bytes, but {size - start} follow the header")
    if set(header) != {"__metadata__", *shapes}:
        raise ValueError("it lacks arrays of its layers, or has others")
    file.seek(0)
    arrays = _arrays(library.deserialize(file.read(size)), description["dtype"], shapes)
    if description["sha256"] != _digest(description, arrays):
        raise ValueError("its checksum is another: some of it is not as it was written")
    return _model(description, parts, arrays)


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the header, and where the arrays begin."""
    first = file.read(_LENGTH.size)
    if len(first) < _LENGTH.size:
        raise ValueError(f"it ends after {len(first)} bytes")
    (n_bytes,) = _LENGTH.unpack(first)
    if n_bytes > min(MOST_HEADER_BYTES, size - _LENGTH.size):
        raise ValueError(
            f"its header is to take {n_bytes} of {size} bytes, and may take {MOST_HEADER_BYTES}"
        )
    header = read_json(file.read(n_bytes).decode("utf-8"), finite=True)
    _HEADER.check(header, "its header")
    return header, _LENGTH.size + n_bytes


def _check_version(description: Any, name: str) -> None:
    from fastmlp import __version__

    Fields({"version": Integer(1)}, Anything()).check(description, "it")
    if description["version"] > VERSION:
        raise ModelFileError(
            f"{name} is of version {shown(description['version'])} of the format, but fastmlp "
            f"{__version__} reads versions up to {VERSION}: a newer fastmlp is needed"
        )


def _has_scale(description: Mapping[str, Any]) -> bool:
    return bool(description.get("scaling_layer", False))


def _shapes(sizes: Sequence[int], has_scale: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of a network by its name, in the order of the parameters."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        shapes[f"weights.{layer}"] = n_in, n_out
        shapes[f"biases.{layer}"] = (n_out,)
    return {**shapes, "scale": (sizes[0],)} if has_scale else shapes


def _arrays_of(parameters: Array, network: MLP) -> dict[str, Array]:
    """Return the arrays of a file, in the order of the parameters, of one network or of many."""
    shapes = _shapes(network.layer_sizes, network.scaling_layer)
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(parameters, ends[:-1], axis=-1)
    return {
        name: np.ascontiguousarray(part.reshape(part.shape[:-1] + shape))
        for part, (name, shape) in zip(parts, shapes.items(), strict=True)
    }


def _arrays(
    tensors: list[tuple[str, Mapping[str, Any]]], dtype: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Return what the library read, in the order of the parameters and as the layers are."""
    named = dict(tensors)
    kind = np.dtype(dtype)
    arrays = {}
    for name, shape in shapes.items():
        seen = named[name]["dtype"], tuple(named[name]["shape"])
        if seen != (_DTYPES[dtype], shape):
            raise ValueError(f"{name} is {seen}, but must be {(_DTYPES[dtype], shape)}")
        little = np.frombuffer(named[name]["data"], kind.newbyteorder("<"))
        arrays[name] = little.reshape(shape).astype(kind, copy=False)
    return arrays


def _digest(description: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    rest = {name: value for name, value in description.items() if name != "sha256"}
    text = json.dumps(rest, allow_nan=False, ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for array in arrays.values():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _model(
    description: Mapping[str, Any],
    checked: tuple[list[Any], Any, Preprocessing | None],
    arrays: Mapping[str, Array],
) -> ModelFile:
    hidden, output, preprocessing = checked
    network = MLP(
        description["layer_sizes"],
        hidden,
        output,
        dtype=description["dtype"],
        seed=description["seed"],
        input_scale=description["input_scale"],
        scaling_layer=_has_scale(description),
        precision=description.get("precision"),
    )
    n_members = description.get("n_members")
    parts = [array.reshape(n_members or 1, -1) for array in arrays.values()]
    parameters = np.concatenate(parts, axis=1)
    _check_finite(parameters)
    network.parameters = parameters[0]
    names = description["feature_names"]
    network.feature_names = None if names is None else tuple(names)
    network.label_names = description["label_names"]
    network.training = description["training"]
    members = None if n_members is None else parameters
    return ModelFile(network, preprocessing, description["estimator"], members)


def _check_finite(parameters: Array) -> None:
    if not np.all(np.isfinite(parameters)):
        raise ValueError("its parameters are NaN or infinite")
