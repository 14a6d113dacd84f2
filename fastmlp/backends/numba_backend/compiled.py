"""Compiling the programs, once a machine, for fixed signatures."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock

from fastmlp._messages import announce
from fastmlp.backends.numba_backend import program, single
from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.numba_target.cache import CACHE

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

#: Whether programs run as plain Python, for stepping through kernels and counting coverage.
JIT_DISABLED = bool(config.DISABLE_JIT)


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
    signature = _signatures(numba.from_dtype(dtype))[name]
    with _lock:
        if _orphaned:
            raise RuntimeError(
                "this process was forked while another thread compiled with Numba, which waits "
                "for that thread for ever here; fork before or after, start processes by 'spawn', "
                "or train with backend='numpy'"
            )
        return CACHE.load(name, signature) or _compile(function, name, signature)


def _compile(
    function: Callable[..., Any], name: str, signature: tuple[types.Type, ...]
) -> Callable[..., Any]:
    _announce()
    dispatcher = jit(function)
    with _no_garbage_collection():
        dispatcher.compile(signature)
    result = dispatcher.overloads[signature]
    CACHE.save(name, signature, result)
    # The entry point skips the dispatcher's look at every argument: types are fixed here.
    entry: Callable[..., Any] = result.entry_point
    return entry


@functools.cache
def _announce() -> None:
    """Say once in a process that compiling takes a while."""
    announce("compiling kernels, once on this machine ...")


def why_not_kept() -> str | None:
    """Return why programs that this process compiled are not in the cache; None if they are.

    Examples
    --------
    >>> isinstance(why_not_kept(), str | None)
    True
    """
    return None if CACHE.failure is None else str(CACHE.failure)
