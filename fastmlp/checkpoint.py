"""Checkpoint files: arrays and plain values by name, in NumPy's npz format without pickles."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._checks import not_masked
from fastmlp._files import write_atomically
from fastmlp._json import read_json
from fastmlp._npz import NpzError, NpzFile
from fastmlp._schema import (
    Anything,
    Exactly,
    Fields,
    Floats,
    Integer,
    Items,
    Kind,
    Maybe,
    Number,
    Texts,
    shown,
)
from fastmlp._settings import check_settings, described, own_scalar, settings_of_text
from fastmlp.backends.base import TrainingState
from fastmlp.callbacks import state_schema
from fastmlp.errors import CheckpointError
from fastmlp.lbfgs import LBFGS
from fastmlp.optimizers import Optimizer
from fastmlp.schedules import ReduceOnPlateau, Schedule

Array = NDArray[Any]

_FORMAT = "fastmlp checkpoint 2"
#: Of earlier versions: arrays without checksums, settings as text.
_OLD_FORMAT = "fastmlp checkpoint 1"
#: Text takes up to 25 times its size when it is read: this is the record of 400,000 epochs.
_MOST_TEXT_BYTES = 2**26
#: Settings that earlier versions did not keep, and what they were.
_LATER_SETTINGS = {"scaling_layer": False, "precision": "full"}
_ARRAY_KINDS = "biufcSUmM"


# The file ------------------------------------------------------------------------------------


def write_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write nested mappings of arrays and plain values, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    content : mapping
        Keys are strings; values are arrays, mappings, lists, or what JSON can hold (integers of
        any size and floats come back exactly). NumPy's scalars come back as Python's, tuples as
        lists.

    Raises
    ------
    TypeError
        If it holds anything else; the message says where.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint(Path(folder, "a.npz"), {"epoch": 2, "x": np.arange(3)})
    ...     read_checkpoint(Path(folder, "a.npz"))
    {'epoch': 2, 'x': array([0, 1, 2])}
    """
    arrays: dict[str, Array] = {}
    values = {"format": _FORMAT, "content": _without_arrays(plain(content), arrays)}
    text = json.dumps(values).encode()
    if len(text) > _MOST_TEXT_BYTES:
        raise ValueError(
            f"{Path(path).name} would hold {len(text)} bytes of text, but may hold "
            f"{_MOST_TEXT_BYTES}: keep long lists of numbers as arrays"
        )
    packed = io.BytesIO()
    stored: dict[str, Any] = {"values": np.frombuffer(text, dtype=np.uint8), **arrays}
    np.savez(packed, **stored)
    write_atomically(path, packed.getbuffer())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    CheckpointError
        If the file is damaged or no checkpoint of fastmlp.

    Examples
    --------
    >>> read_checkpoint("nowhere.npz")
    Traceback (most recent call last):
        ...
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.npz'
    """
    try:
        with NpzFile(path, packed=False) as file:
            return _content(file)
    except NpzError as error:
        raise _damaged(path, error.reason) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str | Path, reason: object) -> CheckpointError:
    return CheckpointError(f"{Path(path).name} is damaged or no checkpoint of fastmlp ({reason})")


def plain(value: Any, where: str = "content") -> Any:
    """Return nested content as `read_checkpoint` will: Python's own values, lists and arrays.

    Raises
    ------
    TypeError
        If something cannot be kept in a file; the message says where it is.
    ValueError
        If an array has masked values.

    Examples
    --------
    >>> plain({"best": np.float32(0.5), "seen": (1, np.bool_(True))})
    {'best': 0.5, 'seen': [1, True]}
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in _ARRAY_KINDS:
        not_masked(value, where)
        return np.asarray(value, order="C")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"a checkpoint holds only strings as keys, got {value!r} in {where}")
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    value = own_scalar(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(
        "a checkpoint holds numbers, strings, None, arrays of them, lists and mappings, "
        f"got {value!r} as {where}"
    )


def _without_arrays(value: Any, arrays: dict[str, Array]) -> Any:
    """Return plain content with arrays moved into `arrays`, and their names in their places."""
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {"array": name, "crc32": _crc32(value)}
    if isinstance(value, dict):
        return {"map": {key: _without_arrays(item, arrays) for key, item in value.items()}}
    if isinstance(value, list):
        return [_without_arrays(item, arrays) for item in value]
    return value


def _content(file: NpzFile) -> dict[str, Any]:
    """Return what an archive holds; whatever else it holds is a ValueError."""
    if "values" not in file:
        raise ValueError("it has no array 'values'")
    text = file["values"]
    if text.dtype != np.uint8 or text.ndim != 1 or len(text) > _MOST_TEXT_BYTES:
        raise ValueError(f"its values are {shown(text)}")
    values = read_json(text.tobytes().decode("utf-8"))
    Fields({"format": Anything(), "content": _MAP}).check(values, "it")
    if values["format"] not in (_FORMAT, _OLD_FORMAT):
        raise ValueError(f"its format is {shown(values['format'])}, not {_FORMAT!r}")
    arrays = {name: file[name] for name in file if name != "values"}
    content = _with_arrays(values["content"], arrays, has_checksums=values["format"] == _FORMAT)
    if arrays:
        raise ValueError(f"it holds arrays that have no place: {', '.join(arrays)}")
    return dict(content)


_MAP = Fields({"map": Fields(others=Anything())})


def _with_arrays(value: Any, arrays: dict[str, Array], *, has_checksums: bool) -> Any:
    """Return `value` with arrays in the places of their names; they leave `arrays`."""
    if isinstance(value, list):
        return [_with_arrays(item, arrays, has_checksums=has_checksums) for item in value]
    if not isinstance(value, dict):
        return value
    if "map" in value:
        _MAP.check(value, "a mapping")
        return {
            key: _with_arrays(item, arrays, has_checksums=has_checksums)
            for key, item in value["map"].items()
        }
    name = value.get("array")
    if not isinstance(name, str) or name not in arrays:
        raise ValueError(f"it lacks the array {shown(name)}, or names it twice")
    array = arrays.pop(name)
    wanted = {"array": name, "crc32": _crc32(array)} if has_checksums else {"array": name}
    if value != wanted:
        raise ValueError(f"the array {name!r} is not the one that was written")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _crc32(array: Array) -> int:
    """Return the checksum of an array, which ties it to its place in the text.

    The checksums of a ZIP archive do not tell one array from another.
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    form = f"{little.dtype.str} {array.shape}".encode()
    return zlib.crc32(little.view(np.uint8).data, zlib.crc32(form))


# What a trainer's file holds -----------------------------------------------------------------

_PCG64 = Fields(
    {
        "bit_generator": Exactly("PCG64"),
        "state": Fields({"state": Integer(0, 2**128 - 1), "inc": Integer(1, 2**128 - 1, odd=True)}),
        "has_uint32": Integer(0, 1),
        "uinteger": Integer(0, 2**32 - 1),
    }
)


@dataclass(frozen=True)
class Owner:
    """What a checkpoint must fit: the trainer that writes or reads it.

    Parameters
    ----------
    state : TrainingState
        Shapes, dtype, and whether there is an average are to be the same.
    optimizer : Optimizer or LBFGS
    schedule : Schedule
    score : str
        The name of the score that every epoch records.
    n_inputs : int
        The network's: a file may hold the names of so many columns.
    settings : mapping
        What must be the same by value, by name.

    Examples
    --------
    >>> from fastmlp.network import MLP
    >>> from fastmlp.optimizers import SGD
    >>> from fastmlp.regularization import Regularization
    >>> from fastmlp.schedules import Constant
    >>> state = TrainingState.initial(MLP([2, 3]), SGD(), Regularization())
    >>> owner = Owner(state, SGD(), Constant(), "accuracy", 2, {})
    >>> owner.schema.fields["parameters"].allowed
    'an array of float32 and shape (9,), all finite'
    """

    state: TrainingState
    optimizer: Optimizer | LBFGS
    schedule: Schedule
    score: str
    n_inputs: int
    settings: Mapping[str, Any]

    @property
    def schema(self) -> Fields:
        """What must be in the file, place by place."""
        state, updates = self.state, self.optimizer
        vector = Floats(state.parameters.shape, state.parameters.dtype)
        squares = () if isinstance(updates, LBFGS) else updates.squares
        moments = Floats(state.moments.shape, state.moments.dtype, True, squares)
        has_plateau = isinstance(self.schedule, ReduceOnPlateau)
        best = Maybe(Number(infinite=True)) if has_plateau else Exactly(None)
        waited = Integer(0) if has_plateau else Integer(0, 0)
        return Fields(
            {
                "settings": Fields({name: Anything() for name in self.settings}),
                "parameters": vector,
                "moments": moments,
                "average": Exactly(None) if state.average is None else vector,
                "step": Integer(0, 2**62),
                "generator": _PCG64,
                "records": Items(self._record_schema),
                "planned_epochs": Integer(0, 2**62),
                "plateau": Fields({"best": best, "waited": waited}),
                "plateau_factor": Number(0, 1) if has_plateau else Number(1, 1),
                "callbacks": Fields(others=Fields(others=Anything())),
                "feature_names": Maybe(Texts(self.n_inputs)),
            }
        )

    @property
    def _record_schema(self) -> Fields:
        any_number = Number(infinite=True, nan=True)
        known: dict[str, Kind] = {"epoch": Integer(1), "loss": Number()}
        if isinstance(self.optimizer, LBFGS):
            known["loss"] = any_number  # nothing looks at it before the next epoch
        else:
            known["learning_rate"] = Number(0)
        known |= {self.score: any_number, "seconds": Number(0)}
        return Fields(known, others=any_number)

    def check(self, content: Mapping[str, Any]) -> None:
        """Raise ValueError unless a file's content fits the schema, and hangs together."""
        self.schema.check(content)
        records, plateau = content["records"], content["plateau"]
        for i, record in enumerate(records):
            Integer(i + 1, i + 1).check(record["epoch"], f"content.records[{i}].epoch")
        Integer(len(records)).check(content["planned_epochs"], "content.planned_epochs")
        least = 0 if isinstance(self.optimizer, LBFGS) else len(records)
        Integer(least, None if records else 0).check(content["step"], "content.step")
        Integer(0, len(records)).check(plateau["waited"], "content.plateau.waited")
        if isinstance(self.schedule, ReduceOnPlateau) and plateau["best"] is not None:
            seen = [record.get(self.schedule.metric) for record in records]
            if plateau["best"] not in seen:
                raise ValueError(
                    f"content.plateau.best is {shown(plateau['best'])}, but must be a value of "
                    f"{self.schedule.metric!r} in content.records"
                )
        for name, state in content["callbacks"].items():
            schema = state_schema(name, self.schema.fields["parameters"], len(records))
            if schema is not None:
                schema.check(state, f"content.callbacks.{name}")


def save(path: str | Path, content: Mapping[str, Any], owner: Owner) -> None:
    """Write a trainer's checkpoint, if `load` would take it.

    Parameters
    ----------
    path : str or Path
    content : mapping
        As `Owner.schema` says, but for the settings.
    owner : Owner

    Raises
    ------
    CheckpointError
        If the trainer is in no state that training could go on from.
    TypeError
        If a callback's state is nothing that a file can hold.

    Examples
    --------
    `Trainer.save_checkpoint` and `Trainer.load_checkpoint` call it:

    >>> import tempfile
    >>> from fastmlp import MLP, Trainer
    >>> trainer = Trainer(MLP([1, 1], output_activation="linear"), backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer.save_checkpoint(Path(folder, "run.npz"))
    ...     sorted(read_checkpoint(Path(folder, "run.npz")))[:3]
    ['average', 'callbacks', 'feature_names']
    """
    settings = {name: described(setting) for name, setting in owner.settings.items()}
    whole = plain({"settings": settings, **content})
    try:
        owner.check(whole)
    except ValueError as error:
        raise CheckpointError(f"{Path(path).name} is not written: {error}") from None
    write_checkpoint(path, whole)


def load(path: str | Path, owner: Owner) -> dict[str, Any]:
    """Return what `save` wrote, if it is as the owner needs it.

    Raises
    ------
    OSError
        If the file cannot be opened.
    CheckpointError
        If it is damaged, no checkpoint, or of a trainer with other settings.

    Examples
    --------
    `Trainer.save_checkpoint` and `Trainer.load_checkpoint` call it:

    >>> import tempfile
    >>> from fastmlp import MLP, Trainer
    >>> trainer = Trainer(MLP([1, 1], output_activation="linear"), backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer.save_checkpoint(Path(folder, "run.npz"))
    ...     trainer.load_checkpoint(Path(folder, "run.npz"))
    """
    content = read_checkpoint(path)
    name = Path(path).name
    try:
        if "configuration" in content:
            content["settings"] = settings_of_text(content.pop("configuration"))
            content.setdefault("feature_names", None)  # which earlier versions did not keep
        Fields({"settings": Fields(others=Anything())}, Anything()).check(content)
        for setting in _LATER_SETTINGS.keys() & owner.settings.keys():
            content["settings"].setdefault(setting, _LATER_SETTINGS[setting])
        owner.schema.fields["settings"].check(content["settings"], "content.settings")
        check_settings(content["settings"], owner.settings)
    except ValueError as error:
        raise CheckpointError(f"{name} {error}") from None
    try:
        owner.check(content)
    except ValueError as error:
        raise CheckpointError(f"{name} holds no state of this trainer: {error}") from None
    return content
