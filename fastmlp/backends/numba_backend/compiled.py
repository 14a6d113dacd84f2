"""Compiling the programs, once a machine: fixed signatures and a cache that is never stale.

Numba's own cache looks at one source file, lies beside it, and fails to start where that folder
is read-only. This one is keyed by all sources of this package, the versions of Numba, LLVM and
Python, and the processor as the kernels see it; damage to its files is noticed; it lies in the
user's cache folder; and without a writable folder kernels are compiled in every process.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib.util
import marshal
import os
import pickle
import pkgutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core import config
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import rtsys

from fastmlp import __version__
from fastmlp._files import write_atomically
from fastmlp._messages import announce
from fastmlp.backends.numba_backend import program, single
from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.registry import ProgramCompiler, remembering

#: Held while programs compile. A fork waits for it: what Numba and LLVM lock and change meanwhile,
#: a child could neither free nor finish.
_lock = threading.RLock()
#: Whether this process was forked while a thread, which it does not have, held Numba's own lock:
#: while other code than ours was compiled. For that no fork waits, for it is none of our affair.
_orphaned = False


def _after_fork() -> None:
    global _orphaned
    _lock.release()
    _orphaned = not global_compiler_lock._lock.acquire(blocking=False)
    if not _orphaned:
        global_compiler_lock._lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork
    )

#: Bytes before a program in its file, by which damage is seen.
_DIGEST_SIZE = hashlib.sha256().digest_size

#: Whether programs run as plain Python, for stepping through kernels and counting coverage.
JIT_DISABLED = bool(config.DISABLE_JIT)


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


#: Modules of the vocabulary whose constants kernels take.
_VOCABULARY = ("fastmlp.activations", "fastmlp.regularization")


@functools.cache
def _fingerprint() -> str:
    """Return a hash of everything that compiled code depends on, except the processor."""
    digest = hashlib.sha256()
    versions = (__version__, numba.__version__, llvmlite.__version__, sys.version)
    digest.update(repr(versions).encode())
    package = __name__.rpartition(".")[0]
    for name in sorted([*_modules_below(package), *_VOCABULARY]):
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


class _KernelCache(_Cache):
    """One file for each program, signature and machine; written whole or not at all."""

    #: Why a program that this process compiled was not kept.
    failure: OSError | None = None

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def cache_path(self) -> str:
        return str(cache_folder())

    def enable(self) -> None:
        """Do nothing: the cache is always on."""

    def disable(self) -> None:
        """Do nothing: the cache is always on."""

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Not `target_context.refresh()`: it imports all that Numba can compile, which takes half a
        # second, and machine code needs Numba's runtime only.
        rtsys.initialize(target_context)
        try:
            path = self._path(sig, target_context.codegen())
            payload = _whole(path.read_bytes())
            with contextlib.suppress(OSError):  # a read-only cache serves as well
                os.utime(path)
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # absent, unreadable or damaged: compile again
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        payload = pickle.dumps(data._reduce(), protocol=pickle.HIGHEST_PROTOCOL)
        try:
            path = self._path(sig, data.codegen)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, hashlib.sha256(payload).digest() + payload)
        except OSError as error:  # no writable cache: the process keeps its own copy
            _KernelCache.failure = error
            return
        with contextlib.suppress(OSError):  # another process may be doing the same
            _forget_old_programs()

    def _path(self, sig: Any, codegen: Any) -> Path:
        key = hashlib.sha256()
        machine = (*codegen.magic_tuple(), VECTORS)
        key.update(repr((_fingerprint(), str(sig), machine)).encode())
        return cache_folder() / f"{self._name}-{key.hexdigest()[:32]}.bin"


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


def _signatures(dtype: types.Type) -> dict[str, tuple[Any, ...]]:
    integers, reals = types.int64[::1], types.float64[::1]
    floats, number = dtype[::1], types.int64
    return {
        "train": (
            *(number, number, integers, integers, reals, reals, floats),
            *(floats, number, integers, floats, floats, types.float64),
            *(integers, reals, reals, reals, reals, floats),
            *(integers, integers, integers, reals, integers),
        ),
        "apply": (integers, integers, reals, floats, reals, reals),
        "predict": (
            *(number, number, integers, integers, reals, reals, floats, floats, number, number),
            *(floats, number, number, floats, integers),
        ),
        "row": (reals, floats, floats, floats),
    }


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the search for garbage: a tenth of the time to compile, and there is hardly any."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


@functools.cache
def compiled(name: str, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """Return the program "train", "apply", "predict" or "row" as machine code for a dtype.

    The first call on a machine compiles, and says so on the error stream; later ones load.

    Raises
    ------
    RuntimeError
        In a process that was forked while another thread compiled other code with Numba.

    Examples
    --------
    >>> import numpy as np
    >>> callable(compiled("predict", np.dtype("float32")))
    True
    """
    function: Callable[..., Any] = getattr(single if name == "row" else program, name)
    if JIT_DISABLED:  # compiled code does not warn of what lanes compute that are not selected
        return np.errstate(all="ignore")(function)
    with _lock:
        if _orphaned:
            raise RuntimeError(
                "this process was forked while another thread compiled with Numba, which waits "
                "for that thread for ever here; fork before or after, start processes by 'spawn', "
                "or train with backend='numpy'"
            )
        dispatcher = numba.njit(
            nogil=True,
            error_model="numpy",
            no_cfunc_wrapper=True,
            pipeline_class=ProgramCompiler,
        )(function)
        signature = _signatures(numba.from_dtype(dtype))[name]
        dispatcher._cache = _AnnouncingCache(name)
        with _no_garbage_collection(), remembering():
            dispatcher.compile(signature)
        # The entry point skips the dispatcher's look at every argument: types are fixed here.
        entry: Callable[..., Any] = dispatcher.overloads[signature].entry_point
        return entry


def why_not_kept() -> str | None:
    """Return why programs that this process compiled are not in the cache; None if they are.

    Examples
    --------
    >>> isinstance(why_not_kept(), str | None)
    True
    """
    return None if _KernelCache.failure is None else str(_KernelCache.failure)


class _AnnouncingCache(_KernelCache):
    """Says once in a process that compiling takes a while."""

    announced = False

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None and not _AnnouncingCache.announced:
            _AnnouncingCache.announced = True
            announce("compiling kernels, once on this machine ...")
        return found
