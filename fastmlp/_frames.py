"""Numbers out of what people keep tables in: data frames, their columns, sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks

Array = NDArray[Any]

#: Of the objects in a table, those that are numbers.
_NUMBERS = (bool, int, float, np.integer, np.floating, np.bool_)


def is_frame(X: Any) -> bool:
    """Return whether X is a data frame, of pandas, polars or their kind."""
    # The shape first: to ask a lazy frame, which has none, for its columns is work.
    return hasattr(X, "shape") and hasattr(X, "columns") and not isinstance(X, np.ndarray)


def column_names(X: Any) -> tuple[str, ...] | None:
    """Return a frame's column names if all are strings, as scikit-learn takes them; else None.

    Examples
    --------
    >>> column_names(np.zeros((2, 2))) is None
    True
    """
    if not is_frame(X):
        return None
    names = tuple(X.columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def check_names(given: tuple[str, ...] | None, known: tuple[str, ...] | None) -> None:
    """Raise ValueError if a frame's columns are not those of training, in their order.

    Examples
    --------
    >>> check_names(("b", "a"), ("a", "b"))
    Traceback (most recent call last):
        ...
    ValueError: X has the columns that the model was trained on in another order: 'b', 'a' \
instead of 'a', 'b'
    """
    if given is None or known is None or given == known:
        return
    if sorted(given) == sorted(known):
        raise ValueError(
            "X has the columns that the model was trained on in another order: "
            f"{_some(given)} instead of {_some(known)}"
        )
    missing = [name for name in known if name not in given]
    unknown = [name for name in given if name not in known]
    parts = [
        f"{what} {_some(names)}" for what, names in (("lacks", missing), ("has", unknown)) if names
    ]
    raise ValueError(
        f"X's columns are not those that the model was trained on: it {', '.join(parts)}"
    )


def as_numbers(X: Any, what: str = "X") -> Any:
    """Return data as an array, or as rows of SciPy's CSR format.

    Frames, columns and arrays of objects may mix numbers and booleans; a missing value of a frame
    or column becomes NaN.

    Raises
    ------
    ValueError
        If a frame's column holds no numbers, or values are masked.
    TypeError
        If the rows are not in memory.

    Examples
    --------
    >>> as_numbers([[1, 2.5]])
    array([[1. , 2.5]])
    """
    _checks.in_memory(X, what)
    if hasattr(X, "tocsr"):
        return X if X.format == "csr" else X.tocsr()
    if hasattr(X, "toarray"):
        return X
    _checks.not_masked(X, what)
    array = np.asarray(X)
    if is_frame(X) and (array.dtype.kind not in "biuf" or _has_dates(X)):
        columns = [_column(name, column, what) for name, column in _columns(X)]
        return np.column_stack(columns) if columns else array
    if array.dtype.kind in "biuf":
        return array
    if array.ndim == 0 or (_has_missing(array) and not hasattr(X, "to_numpy")):
        return array
    return _numbers(X) if _holds_numbers(X) else array


def _has_dates(X: Any) -> bool:
    """Return whether a frame of polars has columns of dates or times, which it calls numbers."""
    return any(getattr(dtype, "is_temporal", bool)() for dtype in getattr(X, "dtypes", ()))


def _columns(X: Any) -> list[tuple[Any, Any]]:
    """Return pairs of name and column; pandas' names may repeat."""
    if hasattr(X, "items"):
        return list(X.items())
    return [(name, X[name]) for name in X.columns]


def _column(name: Any, column: Any, what: str) -> Array:
    if not _holds_numbers(column):
        raise ValueError(
            f"{what}'s column {name!r} holds no numbers but {column.dtype}; leave it out, or "
            "encode it (pandas.get_dummies, sklearn.preprocessing.OneHotEncoder)"
        )
    return _numbers(column)


def _holds_numbers(column: Any) -> bool:
    """Return whether all values are numbers or booleans, or missing."""
    array = np.asarray(column)
    if array.dtype.kind != "O":
        return array.dtype.kind in "biuf"
    return all(isinstance(value, _NUMBERS) or _is_missing(value) for value in array.flat)


def _numbers(column: Any) -> Array:
    array = np.asarray(column)
    if array.dtype.kind != "O":
        return array
    values = list(array.flat)
    missing = [_is_missing(value) for value in values]
    if any(missing):
        values = [np.nan if gone else value for value, gone in zip(values, missing, strict=True)]
        return np.array(values, dtype=np.float64).reshape(array.shape)
    return np.array(values).reshape(array.shape)


def _has_missing(array: Array) -> bool:
    return array.dtype.kind == "O" and any(map(_is_missing, array.flat))


def _is_missing(value: Any) -> bool:
    return is_missing_type(type(value))


def is_missing_type(kind: type) -> bool:
    """Return whether objects of this type stand for missing values, as NaN may do beside them.

    Examples
    --------
    >>> is_missing_type(type(None)), is_missing_type(float)
    (True, False)
    """
    # pandas.NA is the one that is neither None nor a number: it has no truth.
    return kind is type(None) or kind.__name__ == "NAType"


def _some(names: Any) -> str:
    shown = _checks.listing(list(names)[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown
