"""Arrays of ONNX files, in the file or beside it; nothing is taken on the file's word."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._schema import shown

Array = NDArray[Any]

#: Element types by ONNX's number: as they lie in raw bytes, and the field that else holds them.
ELEMENTS = {
    1: ("<f4", "float_data"),
    11: ("<f8", "double_data"),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("|b1", "int32_data"),
}
TEXT = 8
_EXTERNAL = 1
_MOST_DIMENSIONS = 8


class Tensors:
    """Reads the arrays of one file.

    Parameters
    ----------
    folder : Path
        Where the file lies: arrays may lie in other files there, and nowhere else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bytes_left: dict[Path, int] = {}

    def array(self, tensor: Any) -> Array:
        """Return a tensor as an array.

        Raises
        ------
        ValueError
            If it is not as large as it says, of another type, or in a file that it may not name.
        """
        shape = tuple(tensor.dims)
        if len(shape) > _MOST_DIMENSIONS or min(shape, default=1) < 1:
            raise ValueError(f"it has the shape {shown(shape)}")
        size = math.prod(shape)
        if tensor.HasField("segment"):
            raise ValueError("it is a part of an array")
        if tensor.data_type == TEXT:
            texts = [text.decode() for text in tensor.string_data]
            return _shaped(np.array(texts, dtype=object), size, shape)
        if tensor.data_type not in ELEMENTS:
            raise ValueError(f"it is of ONNX's element type {tensor.data_type}")
        code, field = ELEMENTS[tensor.data_type]
        if tensor.data_location == _EXTERNAL:
            content = self._outside(tensor.external_data, size * np.dtype(code).itemsize)
            return np.frombuffer(content, code).reshape(shape)
        if tensor.HasField("raw_data"):
            raw = tensor.raw_data
            if len(raw) != size * np.dtype(code).itemsize:
                raise ValueError(f"it holds {len(raw)} bytes, but has the shape {shape}")
            return np.frombuffer(raw, code).reshape(shape)
        return _shaped(np.array(getattr(tensor, field), dtype=code), size, shape)

    def _outside(self, entries: Any, n_bytes: int) -> bytes:
        """Return bytes of another file in the folder."""
        described = {as_text(entry.key): as_text(entry.value) for entry in entries}
        path = self._file(described.get("location", ""))
        start = _position(described.get("offset", "0"))
        length = _position(described.get("length", str(n_bytes)))
        file_size = path.stat().st_size
        # All arrays together take no more than the file has.
        left = self._bytes_left.get(path, file_size) - length
        if length != n_bytes or start + length > file_size or left < 0:
            raise ValueError(
                f"it needs {n_bytes} bytes, but says {length} from {start} on in "
                f"{shown(path.name)}, which has {file_size}, or shares them with others"
            )
        self._bytes_left[path] = left
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(length)
        if len(content) != length:
            raise ValueError(f"{shown(path.name)} ends early")
        return content

    def _file(self, location: str) -> Path:
        try:
            folder = self._folder.resolve()
            path = (folder / location).resolve()
            is_inside = path.is_relative_to(folder) and path.is_file()
        except (OSError, RuntimeError, ValueError):  # no name for a file, or links in a circle
            is_inside = False
        if not is_inside:
            raise ValueError(f"its values lie in {shown(location)}, which is no file in the folder")
        return path


def as_text(value: str | bytes) -> str:
    """Return text of a message, which is given as bytes where it is none.

    Raises
    ------
    ValueError
        If it is no text.

    Examples
    --------
    >>> as_text("alpha")
    'alpha'
    """
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text")
    return value


def _position(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ValueError(f"it says {shown(text)} for a number of bytes")
    return int(text)


def _shaped(values: Array, size: int, shape: tuple[int, ...]) -> Array:
    if values.size != size:
        raise ValueError(f"it holds {values.size} values, but has the shape {shape}")
    return values.reshape(shape)
