"""The idx format of the MNIST files: a short header, then unsigned bytes, all in gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Labeled: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]
Split: TypeAlias = tuple[Labeled, Labeled]

UNSIGNED_BYTE = 0x08
#: Five times what MNIST's largest file holds, so that no small file fills the memory.
MOST_BYTES = 2**28
_BYTES_AT_ONCE = 2**20
_MOST_AXES = 8


def unpack(path: Path) -> bytes:
    """Return the content of a gzip file.

    Parameters
    ----------
    path : Path
        The packed file.

    Returns
    -------
    bytes
        What was packed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not gzip, is damaged or is cut short, or unpacks to more than 256 MiB.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "hello.gz"
    ...     _ = path.write_bytes(gzip.compress(b"hello"))
    ...     unpack(path)
    b'hello'
    """
    try:
        with gzip.open(path) as file:
            blocks, n_bytes = [], 0
            while n_bytes <= MOST_BYTES and (block := file.read(_BYTES_AT_ONCE)):
                blocks.append(block)
                n_bytes += len(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file: {error}") from error
    if n_bytes > MOST_BYTES:
        raise ValueError(f"{path} unpacks to more than {MOST_BYTES} bytes, the most that is read")
    return b"".join(blocks)


def parse_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """Read the content of an idx file of unsigned bytes.

    Parameters
    ----------
    content : bytes
        The unpacked file.
    name : str
        The file's name, for messages.

    Returns
    -------
    ndarray of uint8
        The array in the shape that the header gives; a read-only view of `content`.

    Raises
    ------
    ValueError
        If the content is not idx of unsigned bytes, or its size is not what its header announces.

    References
    ----------
    Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section
    "File formats".

    Examples
    --------
    >>> header = bytes([0, 0, 8, 1]) + (3).to_bytes(4, "big")
    >>> parse_idx(header + bytes([7, 2, 1]), "labels")
    array([7, 2, 1], dtype=uint8)
    """
    n_axes = content[3] if len(content) >= 4 else 0
    header_size = 4 + 4 * n_axes
    is_idx = content[:3] == bytes([0, 0, UNSIGNED_BYTE]) and 0 < n_axes <= _MOST_AXES
    if not is_idx or len(content) < header_size:
        raise ValueError(f"{name} is not an idx file of unsigned bytes")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", n_axes, offset=4))
    n_values = len(content) - header_size
    if n_values != math.prod(shape):
        raise ValueError(
            f"{name} is incomplete or damaged: its header announces {math.prod(shape)} values "
            f"(shape {shape}), but {n_values} follow"
        )
    if n_values == 0:
        raise ValueError(f"{name} holds no value: its shape is {shape}")
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)


def scaled_rows(images: NDArray[np.uint8], white: int) -> NDArray[np.float32]:
    """Return images as rows of numbers from 0 to 1.

    Parameters
    ----------
    images : ndarray of uint8, shape (n_images, height, width)
        Pixels from 0 to `white`.
    white : int
        The pixel value that becomes 1.

    Returns
    -------
    ndarray of float32, shape (n_images, height * width)
        The pixels, row by row, divided by `white`.

    Examples
    --------
    >>> scaled_rows(np.array([[[0, 51], [102, 255]]], dtype=np.uint8), white=255)
    array([[0. , 0.2, 0.4, 1. ]], dtype=float32)
    """
    return np.divide(images.reshape(len(images), -1), np.float32(white), dtype=np.float32)
