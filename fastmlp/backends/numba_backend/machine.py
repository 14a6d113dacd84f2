"""Which vector instructions kernels are compiled to, and how high their tiles are.

Both follow from the processor, as Numba was told of it. ``FASTMLP_SIMD`` names other ones: fewer
than the processor has are compiled to as an older one would run them; of more than it has, the
tiles get the height only. So every form of the kernels can be tried on one machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llvmlite import binding
from numba.core import config

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

    Examples
    --------
    >>> Vectors("avx2", 6, None, "avx2")
    Vectors(name='avx2', tile_rows=6, instructions=None, native='avx2')
    """

    name: str
    tile_rows: int
    instructions: str | None
    native: str

    def __str__(self) -> str:
        if self.name == self.native:
            return self.name
        return f"{self.name} (FASTMLP_SIMD; this processor has {self.native})"


#: Rows of a tile by instructions: sixteen registers of 64 bytes are 12 rows, the others operands.
TILE_ROWS: Mapping[str, int] = MappingProxyType({"sse2": 2, "avx2": 6, "avx512": 12, "neon": 6})

#: What LLVM is told to use of an x86 processor that has more.
_X86_FEATURES = {"sse2": "+sse2", "avx2": "+avx2,+fma", "neon": "+sse2"}


def told_features() -> frozenset[str]:
    """Return the features that Numba compiles for: the processor's, or the user's words for it.

    Examples
    --------
    >>> all(isinstance(name, str) for name in told_features())
    True
    """
    if config.CPU_FEATURES is not None:
        return frozenset(word[1:] for word in config.CPU_FEATURES.split(",") if word[:1] == "+")
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know
        return frozenset()
    return frozenset(
        name
        for name, present in features.items()
        if present and (config.ENABLE_AVX or not name.startswith("avx"))
    )


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
        As `told_features` returns them.

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
    return Vectors(name, TILE_ROWS[name], instructions, native)


#: Those of this process.
VECTORS = choose_vectors(
    os.environ.get("FASTMLP_SIMD", "").strip().lower() or None,
    binding.get_default_triple(),
    told_features(),
)
