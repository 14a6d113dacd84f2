"""Sizes that choose a path in the kernels lowered, so that small networks take every path."""

from __future__ import annotations

import importlib
import pkgutil

#: By the module that names them; DENSE_TERMS so that terms are always listed.
LOWERED = {
    "products.packing": {"DEPTH": 16, "ROWS": 16, "WORTH_PACKING": 2, "PACKED_ROWS": 48 * 24},
    "products.rows": {"BEYOND_CACHE": 64},
    "products.pairs": {"PAIRED_WIDTH": 8, "PAIRED_ROWS": 2, "MOST_PAIRS": 6},
    "products.chunks": {"CHUNK": 48, "FAR": 256, "LARGE": 64, "ABOUT_EVEN": 1},
    "first_layer.nonzeros": {"SPAN": 48, "MOST_ROWS": 20, "DENSE_TERMS": 1.1},
    "first_layer.columns": {"NARROW": 1},
    "session": {"PREDICT_ROWS": 7},
    "inputs": {"PORTION_BYTES": 512},
    "team.choice": {"WORTH_A_THREAD": 250, "WORTH_WAKING": 600},
}


def lower_thresholds() -> None:
    """Replace them in every module that has them; no kernel may be compiled before."""
    package = importlib.import_module("fastmlp.backends.numba_backend")
    prefix = f"{package.__name__}."
    modules = {
        info.name.removeprefix(prefix): importlib.import_module(info.name)
        for info in pkgutil.walk_packages(package.__path__, prefix)
    }
    for home, values in LOWERED.items():
        for name, value in values.items():
            real = getattr(modules[home], name)
            assert value != real
            for module in modules.values():
                if getattr(module, name, None) == real:
                    setattr(module, name, value)
