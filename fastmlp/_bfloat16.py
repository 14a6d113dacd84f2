"""bfloat16, the upper half of a float32: eight bits of exponent, and eight of precision.

Numbers are kept as float32 that a bfloat16 holds. The product of two of them is exact in float32,
so that a matrix product of rounded arrays rounds in its sums alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: The relative spacing of its numbers.
EPSILON = 2.0**-7

_UPPER_HALF = np.uint32(0xFFFF0000)
#: Of a NaN: set, so that one whose bits lie in the lower half stays one.
_QUIET = np.uint32(0x00400000)


def rounded(values: Array) -> Array:
    """Return float32 numbers rounded to bfloat16, to the nearest and halves to even.

    NaN stays NaN, infinities and the signs of zeros stay as they are, and what is nearer to twice
    the largest power of two than to the largest bfloat16 becomes infinite.

    Parameters
    ----------
    values : ndarray of float32

    Returns
    -------
    ndarray of float32
        Of the same shape, in an array of its own.

    Examples
    --------
    >>> rounded(np.array([1.0, 1.003, 1.004, 3.4e38], dtype=np.float32))
    array([1.       , 1.       , 1.0078125,       inf], dtype=float32)
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    # Half of a spacing, or what is just below it where the last bit that stays is 0.
    nearest = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    nearest = np.where(np.isnan(values), bits | _QUIET, nearest) & _UPPER_HALF
    return np.asarray(nearest.view(np.float32))
