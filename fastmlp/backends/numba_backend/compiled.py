"""The programs as machine code: from a library, or compiled by Numba once a machine."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastmlp._messages import announce
from fastmlp.backends.numba_backend.numba_target import JIT_DISABLED, jit
from fastmlp.backends.numba_backend.prebuilt import KERNELS
from fastmlp.backends.numba_backend.programs.apply import apply
from fastmlp.backends.numba_backend.programs.arguments import fields_of, signature_of
from fastmlp.backends.numba_backend.programs.multiply_add import multiply_add
from fastmlp.backends.numba_backend.programs.predict import predict, predict_paired
from fastmlp.backends.numba_backend.programs.row import row
from fastmlp.backends.numba_backend.programs.train import train, train_paired

#: Held while programs compile. A fork waits for it: what Numba and LLVM lock and change meanwhile,
#: a child could neither free nor finish.
_lock = threading.RLock()
#: Whether this process was forked while a thread, which it does not have, held Numba's own lock:
#: while other code than ours was compiled. For that no fork waits, for it is none of our affair.
_orphaned = False


def _after_fork() -> None:
    global _orphaned
    _lock.release()
    locks = sys.modules.get("numba.core.compiler_lock")
    if locks is None:
        return
    lock = locks.global_compiler_lock._lock
    _orphaned = not lock.acquire(blocking=False)
    if not _orphaned:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork
    )

PROGRAMS: dict[str, Callable[..., Any]] = {
    "train": train,
    "apply": apply,
    "predict": predict,
    "row": row,
    "multiply_add": multiply_add,
}
#: Of float32, compiled where a session wants them; libraries have none of them.
PAIRED_PROGRAMS: dict[str, Callable[..., Any]] = {
    "train_paired": train_paired,
    "predict_paired": predict_paired,
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
    """Return one of the programs as machine code for a dtype, which takes what `passed` returns.

    Where kernels do not come compiled, the first call on a machine compiles, and says so on the
    error stream; later ones load. Of several processes one compiles, and the others wait for it.

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
    function = (PROGRAMS | PAIRED_PROGRAMS)[name]
    if KERNELS.library is not None:
        return KERNELS.library.program(name, dtype, fields_of(function, dtype).values())
    if JIT_DISABLED:  # compiled code does not warn of what lanes compute that are not selected
        return np.errstate(all="ignore")(function)
    with _lock:  # which importing is a part of
        from fastmlp.backends.numba_backend.numba_target.cache import CACHE

        signature = signature_of(function, dtype)
        if _orphaned:
            raise RuntimeError(
                "this process was forked while another thread compiled with Numba, which waits "
                "for that thread for ever here; fork before or after, start processes by 'spawn', "
                "or train with backend='numpy'"
            )
        found = CACHE.load(name, signature)
        if found is None:
            with CACHE.turn(name, signature):  # another process may have compiled it by now
                found = CACHE.load(name, signature) or _compile(function, name, signature)
        return found


def _compile(function: Callable[..., Any], name: str, signature: Any) -> Callable[..., Any]:
    from fastmlp.backends.numba_backend.numba_target.cache import CACHE

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
    if KERNELS.library is not None:
        return None
    from fastmlp.backends.numba_backend.numba_target.cache import CACHE

    return None if CACHE.failure is None else str(CACHE.failure)
