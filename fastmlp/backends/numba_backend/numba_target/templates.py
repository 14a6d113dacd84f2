"""How Numba is told of the types of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from numba import types
from numba.core.typing import Signature
from numba.core.typing.templates import AbstractTemplate

Typer = Callable[..., Signature | None]
Lowering = Callable[..., Any]


def typed_by(function: Callable[..., Any], typer: Typer, target: str) -> types.Function:
    """Return Numba's type of a function whose calls `typer` types.

    Parameters
    ----------
    function : callable
        What jitted code calls.
    typer : callable
        Takes the types of the arguments and returns a signature; None where they do not fit.
    target : str
        For whom. Numba asks a target's own typers before those of "generic", which is all.

    Examples
    --------
    >>> typed_by(abs, lambda kind: None, "generic").typing_key
    <built-in function abs>
    """

    class Operation(AbstractTemplate):
        metadata: ClassVar = {"target": target}
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            return None if kws else typer(*args)

    return types.Function(Operation)
