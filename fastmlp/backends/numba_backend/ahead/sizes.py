"""How much memory C programs have to allocate for a session, by the kernels' own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fastmlp.backends.numba_backend.first_layer.columns import N_PARTS, list_size
from fastmlp.backends.numba_backend.first_layer.nonzeros import lists_size, n_words
from fastmlp.backends.numba_backend.products.chunks import CHUNK
from fastmlp.backends.numba_backend.products.packing import PACKED_SIZE
from fastmlp.backends.numba_backend.products.prefetch import N_LISTS, ahead_size
from fastmlp.backends.numba_backend.team.barrier import ABANDONED, N_SYNC
from fastmlp.backends.numba_backend.vectors.types import LANES_BYTES

#: Functions of int64 that a library has beside the programs.
SIZES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {function.__name__: function for function in (list_size, n_words, lists_size, ahead_size)}
)
#: Numbers by which the caller lays out memory.
CONSTANTS: Mapping[str, int] = MappingProxyType(
    {
        "lanes_bytes": LANES_BYTES,
        "chunk": CHUNK,
        "packed_size": PACKED_SIZE,
        "n_parts": N_PARTS,
        "n_lists": N_LISTS,
        "n_sync": N_SYNC,
        "abandoned": ABANDONED,
    }
)
