"""From a table as people have it to the matrix of numbers that a network likes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from fastmlp import _checks
from fastmlp._frames import is_frame
from fastmlp._schema import Anything, Fields, Integer, Items, Maybe, OneOf, Scalar, Text
from fastmlp._settings import own_scalar
from fastmlp.sklearn._bases import BaseEstimator, TransformerMixin
from fastmlp.sklearn._table_columns import Column, ColumnError, read_column, read_columns
from fastmlp.sklearn._table_features import ScaledFeature

Array = NDArray[Any]

_DTYPES = ("float32", "float64")
_SCHEMA = Fields(
    {
        "parameters": Fields(
            {
                "categorical_features": Maybe(Items(Scalar())),
                "max_categories": Integer(1),
                "dtype": OneOf(_DTYPES),
            }
        ),
        "names": Maybe(Items(Text())),
        "features": Items(Anything()),
    }
)


class TableEncoder(TransformerMixin, BaseEstimator):
    """Encode a table with columns of any kind as numbers of one scale.

    Takes frames of pandas and polars, arrays of numbers, of text or of objects, and SciPy's sparse
    matrices. What a column is follows from its dtype, or from its values where it holds objects:

    - Numbers (decimals too) are one column, lengths of time and times of the day are theirs in
      seconds. A missing value is the median. Where values were missing in training, a second column
      says which.
    - Categories (text, truth values, a frame's categories) are a column of 0 and 1 each; two of
      them are one column of -1 and 1, which is named after the second. A category that is missing,
      or was not there in training, is 0 in all columns. Numbers written as text are categories.
    - Moments in time are seconds since 1970 and, if they span more than a year, sine and cosine of
      the time of the year; if more than a week, of the weekday; if not all are midnights, of the
      time of the day. The last three go by the clock of the values' own time zone.
    - A column without any value is one of 0.

    Then every column, also those of categories, is scaled as by RealMLP (Holzmüller, Grinsztajn and
    Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data", 2024,
    https://arxiv.org/abs/2407.04491): the median becomes 0, and the distance of the quartiles 1;
    where that distance is 0, half the range becomes 1, and a constant column 0. Last comes a smooth
    clip, ``x / sqrt(1 + (x / 3)**2)``, so that all numbers lie between -3 and 3. Quartiles are of
    the values that are not missing.

    Parameters
    ----------
    categorical_features : array-like of str, int or bool, default None
        Columns that hold categories although they hold numbers or times: their names, their
        numbers, or a mask. Others are what they look like.
    max_categories : int, default 256
        So many of a column's most frequent categories are kept (of equally frequent ones, the first
        in order); others are as unknown ones.
    dtype : dtype, default numpy.float32
        Of the matrix, float32 or float64. Numbers are computed in float64.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of str and shape (n_features,)
        Only where the table has names.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sklearn import TableEncoder
    >>> table = np.array([["red", 1], ["blue", 3], ["red", None], ["green", 2]], dtype=object)
    >>> encoder = TableEncoder(dtype="float64").fit(table)
    >>> encoder.get_feature_names_out(["colour", "size"]).tolist()
    ['colour=blue', 'colour=green', 'colour=red', 'size', 'size=missing']
    >>> encoder.transform([["green", 3], ["yellow", None]]).round(2)
    array([[ 0.  ,  2.4 , -0.49,  0.95,  0.  ],
           [ 0.  ,  0.  , -0.49,  0.  ,  2.4 ]])
    """

    n_features_in_: int
    feature_names_in_: Array

    def __init__(
        self,
        categorical_features: Any = None,
        *,
        max_categories: int = 256,
        dtype: Any = np.float32,
    ) -> None:
        self.categorical_features = categorical_features
        self.max_categories = max_categories
        self.dtype = dtype

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what the columns of a table are.

        Parameters
        ----------
        X : frame, array-like or sparse matrix of shape (n_samples, n_features)
        y : None
            Not used.

        Returns
        -------
        TableEncoder
            Itself.

        Raises
        ------
        ValueError
            If the table has no rows or columns, names twice, infinite values, or values that are
            nothing that a column may hold; or if a parameter is out of range. The encoder is as it
            was then.
        TypeError
            If the table is none, or a parameter of another type.
        """
        self._learn(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Array:
        """Learn what the columns of a table are, and encode it.

        Parameters
        ----------
        X : frame, array-like or sparse matrix of shape (n_samples, n_features)
        y : None
            Not used.

        Returns
        -------
        ndarray of shape (n_samples, n_encoded)

        Raises
        ------
        ValueError, TypeError
            As `fit`.
        """
        return self._encoded(self._learn(X))

    def transform(self, X: Any) -> Array:
        """Encode a table.

        Parameters
        ----------
        X : frame, array-like or sparse matrix of shape (n_samples, n_features)
            With the columns of `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_encoded)
            No row depends on others.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If columns are other ones, or hold values of another kind than in `fit`, or infinite
            ones.
        """
        check_is_fitted(self)
        return self._encoded(self._columns(self._checked(X, reset=False)))

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the matrix's columns.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the table's columns, where it had none in `fit`. Default: x0, x1 and so on.

        Returns
        -------
        ndarray of str objects and shape (n_encoded,)
            Such as "size", "size=missing", "colour=blue" or "when=year_sin".

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If they are not the names of `fit`, or not as many.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        return np.array(
            [
                f"{name}{suffix}"
                for name, feature in zip(names, self._features, strict=True)
                for suffix in feature.suffixes
            ],
            dtype=object,
        )

    def _learn(self, X: Any) -> list[Column]:
        """Fit, and return the table's columns; where that fails, be what it was."""
        before = vars(self).copy()
        try:
            columns = self._columns(self._checked(X, reset=True))
            most = _checks.integer(self.max_categories, "max_categories", at_least=1)
            _dtype_name(self.dtype)
            features = []
            names = list(getattr(self, "feature_names_in_", ()))
            forced = _mask(self.categorical_features, names, self.n_features_in_)
            for i, column in enumerate(columns):
                with self._named(i):
                    features.append(ScaledFeature.of(column, most, is_category=bool(forced[i])))
            self._features = features
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        return columns

    def _encoded(self, columns: list[Column]) -> Array:
        places = np.cumsum([0, *(len(feature.suffixes) for feature in self._features)]).tolist()
        dtype = np.dtype(_dtype_name(self.dtype))
        encoded = np.empty((len(columns[0].missing), places[-1]), dtype=dtype)
        parts = zip(self._features, columns, pairwise(places), strict=True)
        for i, (feature, column, (start, stop)) in enumerate(parts):
            with self._named(i):
                feature.encode(column, encoded[:, start:stop])
        return encoded

    def _checked(self, X: Any, *, reset: bool) -> Any:
        """Return a table with rows and columns as scikit-learn checks it."""
        _checks.in_memory(X, "X")
        if not is_frame(X):
            _checks.not_masked(X, "X")
            # As objects, for NumPy would make text of numbers beside text, and 1 of True.
            rows = X if hasattr(X, "shape") else np.array(X, dtype=object)
            return validate_data(
                self, rows, reset=reset, dtype=None, accept_sparse="csc", ensure_all_finite=False
            )
        _check_frame(X)
        validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def _columns(self, X: Any) -> list[Column]:
        columns = []
        for i, values in enumerate(read_columns(X)):
            with self._named(i):
                columns.append(read_column(values))
        return columns

    @contextmanager
    def _named(self, i: int) -> Iterator[None]:
        """Name the column in errors that are raised meanwhile."""
        try:
            yield
        except ColumnError as error:
            name = own_scalar(_check_feature_names_in(self)[i])
            raise ValueError(f"X's column {name!r} {error}") from None

    def to_content(self) -> dict[str, Any]:
        """Return all that encoding needs as values that a file of JSON can hold.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.

        Examples
        --------
        >>> TableEncoder().fit([["red"], ["blue"]]).to_content()["features"]
        [{'kind': 'category', 'categories': ['blue', 'red'], 'center': [0.0], 'width': [1.0]}]
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        forced = self.categorical_features
        return {
            "parameters": {
                "categorical_features": None if forced is None else np.asarray(forced).tolist(),
                "max_categories": int(self.max_categories),
                "dtype": _dtype_name(self.dtype),
            },
            "names": None if names is None else [str(name) for name in names],
            "features": [feature.to_plain() for feature in self._features],
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any], where: str = "encoder") -> Self:
        """Return the encoder that `to_content` described; it encodes the same, bit for bit.

        Parameters
        ----------
        content : mapping
            From anywhere: all of it is checked.
        where : str, default "encoder"
            Where it stands in its file, for errors.

        Raises
        ------
        ValueError
            If it is no content of an encoder.

        Examples
        --------
        >>> import json
        >>> text = json.dumps(TableEncoder().fit([[1.0], [3.0], [7.0]]).to_content())
        >>> TableEncoder.from_content(json.loads(text)).transform([[3.0]])
        array([[0.]], dtype=float32)
        """
        _SCHEMA.check(content, where)
        features = [
            ScaledFeature.of_plain(one, f"{where}.features[{i}]")
            for i, one in enumerate(content["features"])
        ]
        if not features:
            raise ValueError(f"{where} has no features")
        names = content["names"]
        if names is not None and (len(names) != len(features) or len(set(names)) < len(names)):
            raise ValueError(f"{where}.names must be {len(features)} names, each once")
        encoder = cls(**content["parameters"])
        encoder.n_features_in_ = len(features)
        if names is not None:
            encoder.feature_names_in_ = np.array(names, dtype=object)
        encoder._features = features
        return encoder

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _check_frame(X: Any) -> None:
    """Raise TypeError or ValueError unless it is a frame with rows, and columns of own names."""
    if not (hasattr(X, "iloc") or hasattr(X, "get_columns")):
        raise TypeError(f"X must be a frame of pandas or polars, or an array, got {type(X)}")
    twice = [name for name, count in Counter(X.columns).items() if count > 1]
    if twice:
        raise ValueError(f"X has several columns of one name: {_checks.listing(twice[:6])}")
    for what, size in zip(("rows", "columns"), X.shape, strict=True):
        if size == 0:
            raise ValueError(f"X has no {what}: its shape is {X.shape}")


def _dtype_name(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = None
    if name not in _DTYPES:
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    return name


def _mask(chosen: Any, names: list[Any], n_features: int) -> Array:
    """Return of each column whether it is one of those chosen by names, numbers or a mask."""
    mask = np.zeros(n_features, dtype=bool)
    given = np.asarray([] if chosen is None else chosen)
    if given.shape == (0,):
        return mask
    if given.ndim != 1 or given.dtype.kind not in "biuUOT":
        raise TypeError(
            "categorical_features must be a list of names or numbers of columns, or a mask, "
            f"got {chosen!r}"
        )
    if given.dtype.kind == "b":
        if len(given) != n_features:
            raise ValueError(
                f"categorical_features is a mask of {len(given)} columns, but X has {n_features}"
            )
        return given
    known = list(range(n_features)) if given.dtype.kind in "iu" else names
    unknown = [one for one in given.tolist() if one not in known]
    if unknown:
        raise ValueError(
            f"categorical_features has {_checks.listing(unknown[:6])}, but X has no such columns"
        )
    mask[[known.index(one) for one in given.tolist()]] = True
    return mask
