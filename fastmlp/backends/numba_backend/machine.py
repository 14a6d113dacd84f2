"""Which vector instructions kernels of this process have, and how high their tiles are.

Both follow from the library of kernels that serves, or from the processor as Numba was told of it.
``FASTMLP_SIMD`` names other ones: fewer than the processor has are compiled to as an older one
would run them; of more than it has, the tiles get the height only. So every form of the kernels can
be tried on one machine.
"""

from __future__ import annotations

from fastmlp.backends.numba_backend.prebuilt import KERNELS, wanted_vectors
from fastmlp.backends.numba_backend.processor import (
    TILE_ROWS,
    Vectors,
    choose_vectors,
    fitting_levels,
)


def told_features() -> frozenset[str]:
    """Return the features that Numba compiles for: the processor's, or the user's words for it.

    Examples
    --------
    >>> all(isinstance(name, str) for name in told_features())
    True
    """
    from llvmlite import binding
    from numba.core import config

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


def _known_features() -> frozenset[str]:
    """Return those of them that the LLVM at hand has the functions of that kernels call."""
    from llvmlite import binding

    features = told_features()
    return features if binding.llvm_version_info >= (20,) else features - {"avx512bf16"}


def _of_this_process() -> Vectors:
    if KERNELS.library is not None:
        name = KERNELS.library.level.vectors
        native = fitting_levels()[0].vectors if wanted_vectors() else name
        return Vectors(name, TILE_ROWS[name], None, native)
    from llvmlite import binding

    return choose_vectors(wanted_vectors(), binding.get_default_triple(), _known_features())


#: Those of this process.
VECTORS = _of_this_process()
