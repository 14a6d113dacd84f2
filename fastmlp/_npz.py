"""Reading NumPy's NPZ files that may be damaged or hostile: one class of error, bounded memory."""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: A table of contents of so many bytes lists more than ten thousand arrays.
_MOST_DIRECTORY_BYTES = 2**20
_MOST_HEADER_BYTES = 10_000
#: The record at an archive's end; the one before it in large archives, with what points at it.
_END_BYTES, _LARGE_END_BYTES = 22, 76
#: Deflate packs no more than so many bytes into one.
_MOST_DEFLATED = 1032
_ENCRYPTED = 0x1
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}

#: What stands behind an array's magic number and version, as every writer of the format puts it.
_HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<dtype>[<>|=]?[biufcSUmM][0-9]{1,9}(\[\w{1,9}\])?)',"
    r"\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9, ]*)\)\s*,?\s*\}\s*",
    re.ASCII,
)


class NpzError(ValueError):
    """A file is no whole NPZ file of plain arrays.

    Parameters
    ----------
    path : Path
    reason : str
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is not a complete NPZ file of plain arrays: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[NpzError], tuple[Path, str]]:
        return NpzError, (self.path, self.reason)


class NpzFile(Mapping[str, Array]):
    """The arrays of an NPZ file by name, each read when it is asked for.

    Like ``numpy.load``, for files that nobody vouches for: whatever is wrong is an `NpzError`, and
    nothing is allocated before the sizes in the file have been found to agree with each other and
    with the file's own. Objects and records are refused.

    Parameters
    ----------
    path : str or Path
    packed : bool, default True
        Whether arrays may be compressed. If not, they take no more memory than the file on disk.

    Raises
    ------
    OSError
        If the file cannot be opened.
    NpzError
        If it is no NPZ file, or damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.npz")
    ...     np.savez(path, x=np.arange(3))
    ...     with NpzFile(path) as arrays:
    ...         print(list(arrays), arrays["x"])
    ['x'] [0 1 2]
    """

    def __init__(self, path: str | Path, *, packed: bool = True) -> None:
        self.path = Path(path)
        self._file = self.path.open("rb")
        try:
            with self._refusing():
                _check_directory(self._file)
                self._archive = zipfile.ZipFile(self._file)
                self._members = _checked_members(
                    self._archive.infolist(), os.fstat(self._file.fileno()).st_size, packed
                )
        except BaseException:
            self._file.close()
            raise

    def __getitem__(self, name: str) -> Array:
        member = self._members[name]
        with self._refusing(), self._archive.open(member) as file:
            return _read_array(file, member.file_size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn every error into an `NpzError`: damaged archives raise a dozen kinds."""
        try:
            yield
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise NpzError(self.path, reason) from error


def _check_directory(file: BinaryIO) -> None:
    """Raise ValueError if an archive's table of contents is too long to be read.

    The table's size stands in the record at the end of the archive, and in a second one before
    that where the archive is large (APPNOTE.TXT of PKWARE, sections 4.3.14 to 4.3.16).
    """
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(size - 2**16 - _END_BYTES - _LARGE_END_BYTES, 0))
    tail = file.read(size - start)
    end = len(tail) - _END_BYTES
    if not (tail[-_END_BYTES:].startswith(b"PK\x05\x06") and tail.endswith(b"\0\0")):
        end = tail.rfind(b"PK\x05\x06")  # a comment follows
    if end < 0 or len(tail) < end + _END_BYTES:
        raise ValueError("it is no ZIP archive, or its end is missing")
    (n_bytes,) = struct.unpack_from("<L", tail, end + 12)
    large = end - _LARGE_END_BYTES
    is_large = tail.startswith(b"PK\x06\x06", large) and tail.startswith(b"PK\x06\x07", end - 20)
    if large >= 0 and is_large:
        (n_bytes,) = struct.unpack_from("<Q", tail, large + 40)
    if n_bytes > _MOST_DIRECTORY_BYTES:
        raise ValueError(f"its table of contents takes {n_bytes} bytes")


def _checked_members(
    members: list[zipfile.ZipInfo], file_size: int, packed: bool
) -> dict[str, zipfile.ZipInfo]:
    """Return members by the names of their arrays, their sizes checked."""
    for member in members:
        name, most = member.filename, member.compress_size
        if not name.endswith(".npy"):
            raise ValueError(f"{name!r} is no array")
        if member.flag_bits & _ENCRYPTED:
            raise ValueError(f"{name!r} is encrypted")
        if member.compress_type not in _METHODS:
            raise ValueError(f"{name!r} is compressed by an unknown method")
        if member.compress_type == zipfile.ZIP_DEFLATED:
            if not packed:
                raise ValueError(f"{name!r} is compressed")
            most *= _MOST_DEFLATED
        if member.file_size > most:
            raise ValueError(f"{name!r} is to hold {member.file_size} bytes, which cannot be")
    if sum(member.compress_size for member in members) > file_size:
        raise ValueError("its arrays overlap, or are longer than the file")
    named = {member.filename.removesuffix(".npy"): member for member in members}
    if len(named) < len(members):
        raise ValueError("two of its arrays have one name")
    return named


def _read_array(file: Any, size: int) -> Array:
    """Read a member that is `size` bytes long, as its directory entry says."""
    dtype, shape, fortran, header_size = _read_header(file)
    n_bytes = math.prod(shape) * dtype.itemsize
    if header_size + n_bytes != size:
        raise ValueError(
            f"an array of {dtype} and shape {shape} takes {n_bytes} bytes, "
            f"but {size - header_size} follow its header"
        )
    flat = np.empty(math.prod(shape), dtype=dtype)
    data = flat.view(np.uint8).data
    filled = 0
    while filled < n_bytes:
        block = file.read(min(n_bytes - filled, 2**24))
        if not block:
            raise ValueError(f"an array ends after {filled} of {n_bytes} bytes")
        data[filled : filled + len(block)] = block
        filled += len(block)
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_header(file: Any) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Return the dtype, the shape, whether in Fortran's order, and the header's whole size."""
    start = file.read(8)
    if start not in (b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00"):
        raise ValueError("a member is no array in NumPy's format")
    length_format = "<H" if start[6] == 1 else "<L"
    width = struct.calcsize(length_format)
    (length,) = struct.unpack(length_format, file.read(width))
    if length > _MOST_HEADER_BYTES:
        raise ValueError(f"an array's header takes {length} bytes")
    header = _HEADER.fullmatch(file.read(length).decode("utf-8"))
    if header is None:
        raise ValueError("an array is not of plain numbers or text, or its header is damaged")
    dtype = np.dtype(header["dtype"])
    shape = tuple(int(n) for n in header["shape"].replace(" ", "").split(",") if n)
    if dtype.itemsize == 0:
        raise ValueError(f"an array has elements of no size ({dtype})")
    return dtype, shape, header["fortran"] == "True", len(start) + width + length
