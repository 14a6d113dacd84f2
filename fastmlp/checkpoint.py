"""Checkpoint files: arrays and plain values by name, in NumPy's npz format without pickles."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp._files import write_atomically

_FORMAT = "fastmlp checkpoint 1"


def write_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write nested mappings of arrays and plain values, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    content : mapping
        Keys are strings; values are arrays, mappings, or what JSON can hold (integers of any
        size and floats come back exactly).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint(Path(folder, "a.npz"), {"epoch": 2, "x": np.arange(3)})
    ...     read_checkpoint(Path(folder, "a.npz"))
    {'epoch': 2, 'x': array([0, 1, 2])}
    """
    arrays: dict[str, Any] = {}
    values = {"format": _FORMAT, "content": _without_arrays(content, arrays)}
    packed = io.BytesIO()
    text = np.frombuffer(json.dumps(values).encode(), dtype=np.uint8)
    np.savez(packed, values=text, **arrays)
    write_atomically(path, packed.getvalue())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is damaged or no checkpoint of fastmlp.

    Examples
    --------
    >>> read_checkpoint("nowhere.npz")
    Traceback (most recent call last):
        ...
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.npz'
    """
    packed = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(packed, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        values = json.loads(arrays.pop("values").tobytes())
        if values["format"] != _FORMAT:
            raise ValueError(f"its format is {values['format']!r}, not {_FORMAT!r}")
        content = _with_arrays(values["content"], arrays)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(
            f"{Path(path).name} is damaged or no checkpoint of fastmlp ({error})"
        ) from error
    return dict(content)


def _without_arrays(value: Any, arrays: dict[str, Any]) -> Any:
    """Return `value` with arrays moved into `arrays`, and their names in their places."""
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, Mapping):
        return {"map": {key: _without_arrays(item, arrays) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return [_without_arrays(item, arrays) for item in value]
    return value


def _with_arrays(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {key: _with_arrays(item, arrays) for key, item in value["map"].items()}
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    return value
