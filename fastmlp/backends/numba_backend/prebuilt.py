"""Which kernels this process runs: a library of compiled ones that fits, or those Numba compiles.

``python -m fastmlp.build_kernels`` builds libraries, one for each level of processors. One is taken
if it is whole, made of the very sources that are installed, and of the highest level that this
processor has. It is loaded when the backend is imported; neither Numba nor llvmlite is then.
``FASTMLP_KERNELS`` chooses: "auto", a library if one fits; "prebuilt", a library or an error;
"jit", what Numba compiles. ``FASTMLP_KERNELS_DIR`` names another folder of libraries than the
package's.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp import _checks
from fastmlp.backends.numba_backend.processor import LEVELS, Level, fitting_levels
from fastmlp.backends.numba_backend.sources import sources_fingerprint

CHOICES = ("auto", "jit", "prebuilt")
#: How a program's name ends in a library, by the dtype it is for.
SUFFIXES = {"float32": "f32", "float64": "f64"}


def _is_jit_disabled() -> bool:
    """Return what Numba says, or will say where it is not loaded."""
    config = sys.modules.get("numba.core.config")
    if config is not None:
        return bool(config.DISABLE_JIT)
    return os.environ.get("NUMBA_DISABLE_JIT", "").strip() not in ("", "0")


#: Whether programs run as plain Python, for stepping through kernels and counting coverage.
JIT_DISABLED = _is_jit_disabled()
#: What Numba is told of another processor with, or of none: libraries know nothing of it.
_NUMBA_VARIABLES = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX")


def libraries_folder() -> Path:
    """Return where libraries of kernels are looked for.

    Examples
    --------
    >>> isinstance(libraries_folder(), Path)
    True
    """
    chosen = os.environ.get("FASTMLP_KERNELS_DIR")
    return Path(chosen) if chosen else Path(__file__).parent / "libraries"


def wanted_vectors() -> str | None:
    """Return the vectors that ``FASTMLP_SIMD`` names.

    Examples
    --------
    >>> isinstance(wanted_vectors(), str | None)
    True
    """
    return os.environ.get("FASTMLP_SIMD", "").strip().lower() or None


def library_name(level: str) -> str:
    """Return the name of a level's library; that of the facts about it ends in .json instead.

    Examples
    --------
    >>> library_name("x86-64-v3").startswith("x86-64-v3-")
    True
    """
    ending = {"win32": "dll", "darwin": "dylib"}.get(sys.platform, "so")
    return f"{level}-{sys.platform}.{ending}"


class UnfitError(Exception):
    """A library that is not to be used, and why."""


@dataclass(frozen=True)
class Library:
    """Kernels that came compiled.

    Parameters
    ----------
    path : Path
    level : Level
    """

    path: Path
    level: Level

    @classmethod
    def load(cls, folder: Path, level: Level) -> Library:
        """Return the library of a level.

        Raises
        ------
        UnfitError
            If there is none, or it is damaged or made of other sources.
        """
        path = folder / library_name(level.name)
        try:
            facts = dict(json.loads(path.with_suffix(".json").read_bytes()))
            content = path.read_bytes()
        except FileNotFoundError:
            raise UnfitError(f"there is no {path.name} in {folder}") from None
        except (OSError, ValueError, TypeError) as error:
            raise UnfitError(f"{path.name} cannot be read ({error})") from error
        if facts.get("sources") != sources_fingerprint():
            raise UnfitError(f"{path.name} was built from other sources than those installed")
        # Before it is loaded: one damaged bit of machine code ends the process.
        if facts.get("sha256") != hashlib.sha256(content).hexdigest():
            raise UnfitError(f"{path.name} is damaged")
        library = cls(path, level)
        try:
            library._loaded  # noqa: B018
        except OSError as error:
            raise UnfitError(f"{path.name} cannot be loaded ({error})") from error
        return library

    @functools.cached_property
    def _loaded(self) -> ctypes.CDLL:
        return ctypes.CDLL(str(self.path))

    def program(self, name: str, dtype: np.dtype[Any], kinds: Iterable[Any]) -> Callable[..., Any]:
        """Return a program, which takes int64 and addresses.

        Parameters
        ----------
        name : str
        dtype : dtype
        kinds : iterable
            What each of its arguments is: int, or anything else for an address.
        """
        function: Any = self._loaded[f"fastmlp_{name}_{SUFFIXES[dtype.name]}"]  # a new one
        function.argtypes = [ctypes.c_int64 if kind is int else ctypes.c_void_p for kind in kinds]
        function.restype = bool  # of C's int; of nothing, anything
        return function


@dataclass(frozen=True)
class Kernels:
    """Which kernels this process runs, and why.

    Parameters
    ----------
    library : Library or None
        None where Numba compiles, or kernels run as plain Python.
    reason : str
    """

    library: Library | None
    reason: str

    def __str__(self) -> str:
        return f"{'jit' if self.library is None else 'prebuilt'}: {self.reason}"


def choose_kernels(wanted: str, folder: Path) -> Kernels:
    """Return which kernels a process runs.

    Parameters
    ----------
    wanted : {"auto", "jit", "prebuilt"}
    folder : Path
        Of libraries.

    Raises
    ------
    ValueError
        If `wanted` is something else.

    Examples
    --------
    >>> str(choose_kernels("jit", Path("anywhere")))
    'jit: FASTMLP_KERNELS=jit'
    """
    if wanted not in CHOICES:
        raise ValueError(
            f"FASTMLP_KERNELS must be one of {_checks.listing(CHOICES)}, got {wanted!r}"
        )
    if wanted == "jit":
        return Kernels(None, "FASTMLP_KERNELS=jit")
    told = next((name for name in _NUMBA_VARIABLES if os.environ.get(name)), None)
    if told is not None:
        return Kernels(None, f"{told} is set, for what Numba compiles")
    if JIT_DISABLED:
        return Kernels(None, "NUMBA_DISABLE_JIT is set: kernels run as plain Python")
    vectors, levels = wanted_vectors(), fitting_levels()
    if vectors is not None:
        levels = [level for level in levels if level.vectors == vectors]
    if not levels:
        what = f"FASTMLP_SIMD={vectors} here" if vectors else "this processor"
        return Kernels(None, f"libraries are built for {_checks.listing(LEVELS)}, not for {what}")
    refused = []
    for level in levels:
        try:
            library = Library.load(folder, level)
        except UnfitError as error:
            refused.append(str(error))
        else:
            return Kernels(library, "; ".join([str(library.path), *refused]))
    return Kernels(None, refused[0])


#: Those of this process.
KERNELS = choose_kernels(
    os.environ.get("FASTMLP_KERNELS", "").strip().lower() or "auto", libraries_folder()
)


def passed(argument: Any) -> Any:
    """Return what a program takes for an argument.

    Programs that Numba compiled, and plain Python, take arrays and named tuples themselves. A
    library takes the address of an array's first element, and of a struct of such addresses and
    int64 for a named tuple. Whoever passes it keeps the arrays alive.

    Parameters
    ----------
    argument : ndarray or named tuple of arrays and numbers

    Examples
    --------
    >>> passed(np.ones(2)) is None
    False
    """
    if KERNELS.library is None:
        return argument
    if isinstance(argument, np.ndarray):
        return address_of(argument)
    fields = [one if type(one) is int else address_of(one) for one in argument]
    return struct.pack(f"{len(fields)}q", *fields)


def address_of(array: Any) -> int:
    """Return the address of an array's first element; 0 where there is none.

    Examples
    --------
    >>> numbers = np.arange(3)
    >>> address_of(numbers) == numbers.ctypes.data
    True
    """
    if array.size == 0:
        return 0
    try:  # five times as quick as what NumPy offers
        return ctypes.addressof(_first_byte(array))
    except (TypeError, ValueError):  # of an array that is read-only
        return int(array.ctypes.data)


_first_byte = ctypes.c_char.from_buffer


def check_kernels() -> None:
    """Make sure that this process has kernels to run.

    Raises
    ------
    ImportError
        If there is no library that fits, and none else is wanted, or no Numba to compile.
    """
    if KERNELS.library is not None:
        return
    if os.environ.get("FASTMLP_KERNELS", "").strip().lower() == "prebuilt":
        raise ImportError(f"FASTMLP_KERNELS=prebuilt, but {KERNELS.reason}")
    if importlib.util.find_spec("numba") is None:
        raise ModuleNotFoundError(
            f"Numba is not installed, and no kernels came compiled: {KERNELS.reason}", name="numba"
        )
