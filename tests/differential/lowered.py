"""Sizes that choose a path in the kernels lowered, so that small networks take every path."""

from __future__ import annotations

import importlib
import pkgutil

#: By the module that names them; DENSE_TERMS so that terms are always listed.
LOWERED = {
    "tiles": {"DEPTH": 16, "ROWS": 16, "WORTH_PACKING": 2, "BEYOND_CACHE": 64},
    "terms": {"SPAN": 48, "MOST_ROWS": 20, "DENSE_TERMS": 1.1},
    "columns": {"NARROW": 1},
    "program": {"CHUNK": 48, "FAR": 256, "LARGE": 64, "PACKED_ROWS": 48 * 24, "ABOUT_EVEN": 1},
    "session": {"_PREDICT_ROWS": 7, "_PORTION_BYTES": 512, "_WORTH_A_TEAM": 500},
}


def lower_thresholds() -> None:
    """Replace them in every module that has them; no kernel may be compiled before."""
    package = importlib.import_module("fastmlp.backends.numba_backend")
    modules = {
        info.name: importlib.import_module(f"{package.__name__}.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    }
    for home, values in LOWERED.items():
        for name, value in values.items():
            real = getattr(modules[home], name)
            assert value != real
            for module in modules.values():
                if getattr(module, name, None) == real:
                    setattr(module, name, value)
