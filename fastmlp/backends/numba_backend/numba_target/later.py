"""Numba and LLVM, loaded when a program is first compiled.

Kernels say beside their plain meaning which instructions they become. Where programs come compiled
nobody asks for those, and neither Numba nor llvmlite is loaded, or need be installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

Typer = Callable[..., Any]
Lowering = Callable[..., Any]


class Later:
    """A module that is imported when something of it is first asked for.

    Parameters
    ----------
    name : str
        The module's whole name.

    Examples
    --------
    >>> Later("math").sqrt(9.0)
    3.0
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(self._name), name)
        setattr(self, name, found)  # the next time it is an attribute like any other
        return found


if TYPE_CHECKING:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
else:
    ir, types, cgutils = (
        Later("llvmlite.ir"),
        Later("numba.core.types"),
        Later("numba.core.cgutils"),
    )

#: What Numba is to be told before it compiles; None once it has been.
_waiting: list[Callable[[], None]] | None = []


def when_compiling(teach: Callable[[], None]) -> None:
    """Tell Numba something before it compiles the first program of this process.

    Parameters
    ----------
    teach : callable
        Called at once where a program was compiled before.
    """
    if _waiting is None:
        teach()
    else:
        _waiting.append(teach)


def teach_all() -> None:
    """Tell Numba all that waits for it, in the order in which it was written."""
    global _waiting
    waiting, _waiting = _waiting or (), None
    for teach in waiting:
        teach()


__all__ = ["Later", "Lowering", "Typer", "cgutils", "ir", "teach_all", "types", "when_compiling"]
