"""What processors have, and what kernels make of it: vector instructions and heights of tiles."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fastmlp import _checks


@dataclass(frozen=True)
class Vectors:
    """A set of vector instructions, and what kernels make of it.

    Parameters
    ----------
    name : str
    tile_rows : int
        How many rows of accumulators, each of 64 bytes, the registers hold.
    instructions : str or None
        What LLVM may use where that is less than Numba was told, as attributes of functions.
    native : str
        The name of what the processor has.
    multiplies_pairs : bool, default False
        Whether kernels may multiply pairs of bfloat16 by an instruction.

    Examples
    --------
    >>> Vectors("avx2", 6, None, "avx2")
    Vectors(name='avx2', tile_rows=6, instructions=None, native='avx2', multiplies_pairs=False)
    """

    name: str
    tile_rows: int
    instructions: str | None
    native: str
    multiplies_pairs: bool = False

    def __str__(self) -> str:
        if self.name == self.native:
            return self.name
        return f"{self.name} (FASTMLP_SIMD; this processor has {self.native})"


#: Rows of a tile by instructions: sixteen registers of 64 bytes are 12 rows, the others operands.
TILE_ROWS: Mapping[str, int] = MappingProxyType({"sse2": 2, "avx2": 6, "avx512": 12, "neon": 6})

#: What LLVM is told to use of an x86 processor that has more.
_X86_FEATURES = {"sse2": "+sse2", "avx2": "+avx2,+fma", "neon": "+sse2"}


def _native(triple: str, features: frozenset[str]) -> str:
    if "arm" in triple or "aarch64" in triple:
        return "neon"
    if "avx512f" in features:
        return "avx512"
    return "avx2" if "avx2" in features else "sse2"


def choose_vectors(wanted: str | None, triple: str, features: frozenset[str]) -> Vectors:
    """Return the vectors of a processor, or those that are wanted instead.

    Parameters
    ----------
    wanted : str or None
        A name of `TILE_ROWS`.
    triple : str
        LLVM's name of the machine, such as "x86_64-unknown-linux-gnu".
    features : frozenset of str
        LLVM's names of what the processor has, such as "avx2".

    Raises
    ------
    ValueError
        If there are no vectors of that name.

    Examples
    --------
    >>> choose_vectors(None, "x86_64-linux-gnu", frozenset({"avx2", "fma"})).tile_rows
    6
    >>> choose_vectors("sse2", "x86_64-linux-gnu", frozenset({"avx2", "fma"})).tile_rows
    2
    """
    native = _native(triple, features)
    name = wanted or native
    if name not in TILE_ROWS:
        raise ValueError(f"FASTMLP_SIMD must be one of {_checks.listing(TILE_ROWS)}, got {name!r}")
    has_no_more = native == "sse2" or name == native or (name, native) == ("avx512", "avx2")
    instructions = None
    if native != "neon" and not has_no_more:
        instructions = f'"target-cpu"="x86-64" "target-features"="{_X86_FEATURES[name]}"'
    multiplies_pairs = name == native == "avx512" and "avx512bf16" in features
    return Vectors(name, TILE_ROWS[name], instructions, native, multiplies_pairs)


@dataclass(frozen=True)
class Level:
    """A kind of processors that one library of kernels serves.

    Parameters
    ----------
    name : str
        As LLVM and C compilers call it.
    machine : str
        As `platform.machine` calls it, in lower case.
    vectors : str
        A name of `TILE_ROWS`.
    needs : frozenset of str
        NumPy's names of the instructions that kernels use.
    """

    name: str
    machine: str
    vectors: str
    needs: frozenset[str]


_V3 = frozenset({"AVX", "AVX2", "FMA3", "F16C"})
_V4 = _V3 | {"AVX512F", "AVX512CD", "AVX512BW", "AVX512DQ", "AVX512VL"}
#: All that there are, the most capable first.
LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        level.name: level
        for level in (
            Level("x86-64-v4", "x86_64", "avx512", _V4),
            Level("x86-64-v3", "x86_64", "avx2", _V3),
            Level("aarch64", "aarch64", "neon", frozenset({"ASIMD"})),
        )
    }
)
#: Other names of machines.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def machine() -> str:
    """Return this machine's kind, by one name on all systems.

    Examples
    --------
    >>> machine() == machine().lower()
    True
    """
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


def present_features() -> frozenset[str]:
    """Return NumPy's names of the instructions that this processor and its system have.

    Examples
    --------
    >>> all(isinstance(name, str) for name in present_features())
    True
    """
    try:
        umath = importlib.import_module("numpy._core._multiarray_umath")
        features: dict[str, bool] = umath.__cpu_features__
    except (ImportError, AttributeError):  # they lie elsewhere: no library is known to fit
        return frozenset()
    return frozenset(name for name, present in features.items() if present)


def fitting_levels() -> list[Level]:
    """Return the levels that this processor has, the most capable first.

    Examples
    --------
    >>> isinstance(fitting_levels(), list)
    True
    """
    features = present_features()
    return [
        level for level in LEVELS.values() if level.machine == machine() and level.needs <= features
    ]
