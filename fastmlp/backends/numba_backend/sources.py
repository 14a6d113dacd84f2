"""What compiled code is made of: a hash of it, by which code of other sources is told."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import marshal
import pkgutil
from collections.abc import Iterator
from typing import Any

from fastmlp import __version__

#: What compiled code is made of: this package with all below it, and the modules of the vocabulary
#: whose constants kernels take.
_PACKAGE = "fastmlp.backends.numba_backend"
_VOCABULARY = ("fastmlp.activations", "fastmlp.regularization")


@functools.cache
def sources_fingerprint() -> str:
    """Return a hash of the version and of all sources that compiled code depends on.

    Examples
    --------
    >>> len(sources_fingerprint())
    64
    """
    digest = hashlib.sha256(__version__.encode())
    found = dict(modules_below(importlib.util.find_spec(_PACKAGE)))
    found.update((name, importlib.util.find_spec(name)) for name in _VOCABULARY)
    for name in sorted(found):
        digest.update(name.encode())
        digest.update(_content_of(found[name]))
    return digest.hexdigest()


def modules_below(package: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and specs of all modules of a package, wherever it was loaded from.

    None of them is imported.
    """
    locations = package.submodule_search_locations
    for finder, name, is_package in pkgutil.iter_modules(locations, f"{package.name}."):
        spec: Any = finder.find_spec(name, None)
        yield name, spec
        if is_package:
            yield from modules_below(spec)


def _content_of(spec: Any) -> bytes:
    """Return a module's source, or its code where it came without."""
    source = spec.loader.get_source(spec.name)
    return marshal.dumps(spec.loader.get_code(spec.name)) if source is None else source.encode()
