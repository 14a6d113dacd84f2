"""Atomic operations and waiting, by which threads meet."""

from __future__ import annotations

import platform
import sys
import time
from typing import Any

from fastmlp.backends.numba_backend.numba_target.later import cgutils, ir, types
from fastmlp.backends.numba_backend.vectors.pointers import lowers


def atomic_add(p: Any, i: int, amount: int) -> int:
    """Add to element `i` of an int64 pointer as one step for all threads; return the old value.

    Examples
    --------
    >>> import numpy as np
    >>> counter = np.array([5])
    >>> atomic_add(counter, 0, 2), counter
    (5, array([7]))
    """
    old = int(p[i])
    p[i] += amount
    return old


@lowers(atomic_add, lambda p, i, amount: types.int64)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any, amount: Any) -> Any:
    return builder.atomic_rmw("add", builder.gep(p, [i], inbounds=True), amount, "seq_cst")


def atomic_load(p: Any, i: int) -> int:
    """Return element `i` of an int64 pointer as its last writer left it.

    Examples
    --------
    >>> import numpy as np
    >>> atomic_load(np.array([5]), 0)
    5
    """
    return int(p[i])


@lowers(atomic_load, lambda p, i: types.int64)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any) -> Any:
    return builder.load_atomic(builder.gep(p, [i], inbounds=True), "acquire", 8)


def atomic_store(p: Any, i: int, value: int) -> None:
    """Write element `i` of an int64 pointer, after everything that was written before.

    Examples
    --------
    >>> import numpy as np
    >>> flag = np.array([0])
    >>> atomic_store(flag, 0, 1)
    >>> flag
    array([1])
    """
    p[i] = value


@lowers(atomic_store, lambda p, i, value: types.none)
def _(context: Any, builder: Any, signature: Any, p: Any, i: Any, value: Any) -> None:
    builder.store_atomic(value, builder.gep(p, [i], inbounds=True), "release", 8)


#: The hint that a loop is waiting, by machine; other machines just loop.
_PAUSE = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "amd64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.hint", (1,)),
    "arm64": ("llvm.aarch64.hint", (1,)),
}.get(platform.machine().lower())


def _call_with_words(builder: Any, result: Any, name: str, values: tuple[int, ...]) -> None:
    word = ir.IntType(32)
    kind = ir.FunctionType(result, [word] * len(values))
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [ir.Constant(word, value) for value in values])


def pause() -> None:
    """Tell the processor that this loop waits for another thread."""


@lowers(pause, lambda: types.none)
def _(context: Any, builder: Any, signature: Any) -> None:
    if _PAUSE is not None:
        _call_with_words(builder, ir.VoidType(), *_PAUSE)


def sleep_briefly() -> None:
    """Give the processor away for some 50 microseconds."""
    time.sleep(50e-6)


@lowers(sleep_briefly, lambda: types.none)
def _(context: Any, builder: Any, signature: Any) -> None:
    # C's usleep takes microseconds; Windows' Sleep milliseconds, and 0 ends the time slice.
    if sys.platform == "win32":
        _call_with_words(builder, ir.VoidType(), "Sleep", (0,))
    else:
        _call_with_words(builder, ir.IntType(32), "usleep", (50,))
