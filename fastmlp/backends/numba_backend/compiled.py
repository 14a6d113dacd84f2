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
from numba.core.compiler_lock import global_compiler_lock

from fastmlp._messages import announce
from fastmlp.backends.numba_backend.numba_target import JIT_DISABLED, jit
from fastmlp.backends.numba_backend.numba_target.cache import CACHE
from fastmlp.backends.numba_backend.plan import StepRates
from fastmlp.backends.numba_backend.programs.apply import apply
from fastmlp.backends.numba_backend.programs.arguments import (
    Call,
    Memory,
    Prediction,
    signature_of,
)
from fastmlp.backends.numba_backend.programs.predict import predict
from fastmlp.backends.numba_backend.programs.row import RowLayer, row
from fastmlp.backends.numba_backend.programs.train import train

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

_PROGRAMS: dict[str, Callable[..., Any]] = {
    "train": train,
    "apply": apply,
    "predict": predict,
    "row": row,
}


def _signatures(dtype: np.dtype[Any]) -> dict[str, tuple[Any, ...]]:
    number, integers = types.int64, types.int64[::1]
    floats, memory = numba.from_dtype(dtype)[::1], signature_of(Memory, dtype)
    return {
        "train": (number, number, memory, signature_of(Call, dtype), integers),
        "apply": (memory, numba.from_dtype(StepRates.dtype)[::1]),
        "predict": (number, number, memory, signature_of(Prediction, dtype), integers),
        "row": (numba.from_dtype(RowLayer.dtype)[::1], floats, floats, floats),
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
    function = _PROGRAMS[name]
    if JIT_DISABLED:  # compiled code does not warn of what lanes compute that are not selected
        return np.errstate(all="ignore")(function)
    signature = _signatures(dtype)[name]
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
