"""The cache of compiled programs, which is never stale.

Numba's own cache looks at one source file, lies beside it, and fails to start where that folder
is read-only. This one is keyed by all sources of this package, the versions of Numba, LLVM and
Python, and the processor as the kernels see it; damage to its files is noticed; it lies in the
user's cache folder; and without a writable folder kernels are compiled in every process.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import marshal
import os
import pickle
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

from fastmlp import __version__
from fastmlp._files import write_atomically
from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.numba_target import COMPILER

#: Bytes before a program in its file, by which damage is seen.
_DIGEST_SIZE = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """Return the folder of compiled programs.

    ``FASTMLP_CACHE_DIR`` if set, otherwise `fastmlp` in the user's cache folder.

    Raises
    ------
    OSError
        If the user has no home folder.

    Examples
    --------
    >>> cache_folder().name
    'kernels'
    """
    chosen = os.environ.get("FASTMLP_CACHE_DIR")
    if chosen:
        return Path(chosen) / "kernels"
    try:
        return _users_cache() / "fastmlp" / "kernels"
    except RuntimeError as error:
        raise OSError("the user has no home folder; FASTMLP_CACHE_DIR can name another") from error


def _users_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


#: What compiled code is made of: this package with all below it, and the modules of the vocabulary
#: whose constants kernels take.
_PACKAGE = "fastmlp.backends.numba_backend"
_VOCABULARY = ("fastmlp.activations", "fastmlp.regularization")


@functools.cache
def _fingerprint() -> str:
    """Return a hash of everything that compiled code depends on, except the processor."""
    digest = hashlib.sha256()
    versions = (__version__, numba.__version__, llvmlite.__version__, sys.version)
    digest.update(repr(versions).encode())
    for name in sorted([*_modules_below(_PACKAGE), *_VOCABULARY]):
        digest.update(name.encode())
        digest.update(_content_of(name))
    return digest.hexdigest()


def _modules_below(package: str) -> Iterator[str]:
    """Yield the names of all modules of a package, wherever it was loaded from."""
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    for _, name, is_package in pkgutil.iter_modules(locations, f"{package}."):
        yield name
        if is_package:
            yield from _modules_below(name)


def _content_of(module: str) -> bytes:
    """Return a module's source, or its code where it came without."""
    loader: Any = importlib.util.find_spec(module).loader  # type: ignore[union-attr]
    source = loader.get_source(module)
    return marshal.dumps(loader.get_code(module)) if source is None else source.encode()


def _forget_old_programs() -> None:
    """Remove programs that no version has used for a quarter of a year."""
    oldest = time.time() - 90 * 24 * 3600
    for path in cache_folder().glob("*.bin"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


class ProgramCache:
    """One file for each program, signature and machine; written whole or not at all."""

    #: Why a program that this process compiled was not kept.
    failure: OSError | None = None

    def load(self, name: str, signature: Any) -> Callable[..., Any] | None:
        """Return what calls a program, None where it has to be compiled."""
        # Not `refresh()`: it imports all that Numba can compile, which takes half a second, and
        # machine code needs Numba's runtime only.
        context = cpu_target.target_context
        rtsys.initialize(context)
        try:
            path = _path(name, signature)
            payload = _whole(path.read_bytes())
            with contextlib.suppress(OSError):  # a read-only cache serves as well
                os.utime(path)
            entry: Callable[..., Any] = CompileResult._rebuild(
                context, *pickle.loads(payload)
            ).entry_point
            return entry
        except Exception:  # absent, unreadable or damaged: compile again
            return None

    def save(self, name: str, signature: Any, result: CompileResult) -> None:
        """Keep a program that was compiled."""
        payload = pickle.dumps(result._reduce(), protocol=pickle.HIGHEST_PROTOCOL)
        try:
            path = _path(name, signature)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, hashlib.sha256(payload).digest() + payload)
        except OSError as error:  # no writable cache: the process keeps its own copy
            self.failure = error
            return
        with contextlib.suppress(OSError):  # another process may be doing the same
            _forget_old_programs()


#: That of this process.
CACHE = ProgramCache()


def _path(name: str, signature: Any) -> Path:
    key = hashlib.sha256()
    machine = (*cpu_target.target_context.codegen().magic_tuple(), VECTORS)
    key.update(repr((_fingerprint(), str(signature), machine, COMPILER)).encode())
    return cache_folder() / f"{name}-{key.hexdigest()[:32]}.bin"


def _whole(content: bytes) -> bytes:
    """Return what a file of the cache holds; one damaged bit of machine code ends the process.

    Raises
    ------
    ValueError
        If it is not what was written.
    """
    digest, payload = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("the file is damaged")
    return payload
