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
import os
import pickle
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

from fastmlp._files import in_turn, write_atomically
from fastmlp._messages import announce
from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.numba_target import compiler
from fastmlp.backends.numba_backend.sources import sources_fingerprint

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


@functools.cache
def _fingerprint() -> str:
    """Return a hash of everything that compiled code depends on, except the processor."""
    versions = numba.__version__, llvmlite.__version__, sys.version
    return hashlib.sha256(repr((sources_fingerprint(), versions)).encode()).hexdigest()


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

    @contextlib.contextmanager
    def turn(self, name: str, signature: Any) -> Iterator[None]:
        """Let no other process compile the same program meanwhile, where there is a cache."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                path = _path(name, signature).with_suffix(".lock")
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(in_turn(path, _announce_waiting))
            yield

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


@functools.cache
def _announce_waiting() -> None:
    """Say once in a process why nothing goes on."""
    announce("another process is compiling kernels; waiting for it ...")


def _path(name: str, signature: Any) -> Path:
    key = hashlib.sha256()
    machine = (*cpu_target.target_context.codegen().magic_tuple(), VECTORS)
    key.update(repr((_fingerprint(), str(signature), machine, compiler())).encode())
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
