"""What kernels are written in: functions of pointers, vectors and numbers.

The annotations of a plain function (`Pointer`, `Index`, `Vector`, ...) say what it takes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastmlp.backends.numba_backend.numba_target import register_kernel
from fastmlp.backends.numba_backend.numba_target.later import Later

if TYPE_CHECKING:
    from fastmlp.backends.numba_backend.vectors import kinds as kinds
else:
    kinds = Later("fastmlp.backends.numba_backend.vectors.kinds")

LANES_BYTES = 64

Array = Annotated[Any, "array"]
Pointer = Annotated[Any, "pointer"]
Vector = Annotated[Any, "vector"]
Mask = Annotated[Any, "mask"]
Like = Annotated[Any, "like"]  # a pointer or a vector: tells the lane type
Index = Annotated[Any, "index"]
Scalar = Annotated[Any, "scalar"]
Nothing = Annotated[None, "nothing"]
Count = Annotated[Any, "count"]  # a tuple whose length is a number known when compiling
Rows = Annotated[Any, "rows"]  # a tuple of vectors
Pair = Annotated[Any, "pair"]  # a tuple of two vectors
Indices = Annotated[Any, "indices"]  # a tuple of integers
Coefficients = Annotated[Any, "coefficients"]  # a tuple of floats

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Make a plain function callable from jitted code.

    From Python it stays the function it was; no optimization that changes results is allowed.

    Parameters
    ----------
    function : callable
        A function of pointers, vectors and numbers, at the top level of a module.

    Returns
    -------
    callable
        `function` itself.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.backends.numba_backend.vectors import simd
    >>> @kernel
    ... def first(p):
    ...     return simd.load_scalar(p, 0)
    >>> first(np.ones(8))
    np.float64(1.0)
    """
    register_kernel(function, inline=False)
    return function


def inlined(function: F) -> F:
    """Make a plain function callable from jitted code, always inlined; otherwise as `kernel`.

    Examples
    --------
    >>> import numpy as np
    >>> @inlined
    ... def double(v):
    ...     return v + v
    >>> double(np.ones(8))
    array([2., 2., 2., 2., 2., 2., 2., 2.])
    """
    register_kernel(function, inline=True)
    return function
