"""The bundled handwritten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastmlp.datasets.idx import Split, parse_idx, scaled_rows, unpack

DATA = Path(__file__).parent / "data"
N_TEST = 360
WHITE = 16


def load_digits() -> Split:
    """Load the bundled handwritten digits: 1797 images of 8 by 8 pixels, in ten classes.

    The last 360 images (20 %) in the source's order are the test data. The order is that of the
    writers, so most of them are written by hands that the training data does not know; every digit
    occurs 33 to 37 times among them.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        `X` is float32 in [0, 1], of shape (1437, 64) and (360, 64); `y` is int64 from 0 to 9.

    Notes
    -----
    The licence of the data is Creative Commons Attribution 4.0 International (CC BY 4.0).

    References
    ----------
    E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine
    Learning Repository. https://doi.org/10.24432/C50P49

    Examples
    --------
    >>> from fastmlp.datasets import load_digits
    >>> (X_train, y_train), (X_test, y_test) = load_digits()
    >>> X_train.shape, X_train.dtype, X_test.shape
    ((1437, 64), dtype('float32'), (360, 64))
    >>> y_test[-5:]
    array([9, 0, 8, 9, 8])
    """
    X = scaled_rows(_read("digits-images-idx3-ubyte.gz"), WHITE)
    y = _read("digits-labels-idx1-ubyte.gz").astype(np.int64)
    return (X[:-N_TEST], y[:-N_TEST]), (X[-N_TEST:], y[-N_TEST:])


def _read(name: str) -> NDArray[np.uint8]:
    return parse_idx(unpack(DATA / name), name)
