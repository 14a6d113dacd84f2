"""What kernels are written in: functions of pointers, vectors and numbers.

The annotations of a plain function (`Pointer`, `Index`, `Vector`, ...) say what it takes.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from fastmlp.backends.numba_backend.numba_target import register_kernel

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


class VectorType(types.Type):
    """Numba type of a vector of `dtype` lanes."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"simd_vector({dtype})")


class MaskType(types.Type):
    """Numba type of one bit per lane of a vector of `dtype`."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"simd_mask({dtype})")


def lane_count(dtype: types.Float) -> int:
    """Return how many lanes of a type a vector has.

    Examples
    --------
    >>> lane_count(types.float32)
    16
    """
    return LANES_BYTES * 8 // int(dtype.bitwidth)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: VectorType) -> None:
        lane = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(lane, lane_count(fe_type.dtype)))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: MaskType) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(1), lane_count(fe_type.dtype)))
