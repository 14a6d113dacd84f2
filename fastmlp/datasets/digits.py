"""The bundled handwritten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastmlp.datasets.idx import Split, parse_idx, scaled_rows, unpack

DATA = Path(__file__).parent / "data"
N_CLASSES = 10
WHITE = 16


def load_digits() -> Split:
    """Load the bundled handwritten digits: 1797 images of 8 by 8 pixels, in ten classes.

    Every fifth image of each digit, in the source's order, is test data: 355 of 1797, so that both
    parts hold all digits in equal shares. The source does not tell the writers apart, and the same
    hands wrote both parts.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        `X` is float32 in [0, 1], of shape (1442, 64) and (355, 64); `y` is int64 from 0 to 9.

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
    ((1442, 64), dtype('float32'), (355, 64))
    >>> y_test[:5]
    array([5, 0, 9, 8, 7])
    """
    images = _read("digits-images-idx3-ubyte.gz")
    y = _read("digits-labels-idx1-ubyte.gz").astype(np.int64)
    is_test = np.zeros(len(y), dtype=bool)
    for digit in range(N_CLASSES):
        is_test[np.flatnonzero(y == digit)[4::5]] = True
    train, test = ((scaled_rows(images[part], WHITE), y[part]) for part in (~is_test, is_test))
    return train, test


def _read(name: str) -> NDArray[np.uint8]:
    return parse_idx(unpack(DATA / name), name)
