"""From the columns of a table to what a network takes, and back from outputs to what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._schema import Fields, Items, Kind, Maybe, Number, OneOf, Scalar, Text, shown
from fastmlp._settings import own_scalar

Array = NDArray[Any]

#: What a table's column holds: numbers (or truth values), dates (days since 1970), or names.
COLUMN_KINDS = ("number", "date", "category")
TASKS = ("classification", "multilabel", "regression")

_NUMBERS = Items(Number())
_SMALLEST = float(np.nextafter(0.0, 1.0))


class RowError(ValueError):
    """A row that cannot be taken.

    Parameters
    ----------
    row : int
        From 0, among the rows at hand.
    reason : str

    Examples
    --------
    >>> RowError(3, "column 'a' has no value").row
    3
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row, self.reason = row, reason

    def __reduce__(self) -> tuple[type[RowError], tuple[int, str]]:
        return RowError, (self.row, self.reason)


@dataclass(frozen=True)
class Feature:
    """A column of a table that is a feature.

    Parameters
    ----------
    name : str
    kind : str
        One of `COLUMN_KINDS`.
    categories : tuple, default ()
        The names or numbers that a column of kind "category" may hold, each of which becomes a
        column of 0 and 1.
    date_format : str or None, default None
        Of a column of kind "date", as for `datetime.strptime`; None: as its reader takes dates.

    Examples
    --------
    >>> Feature("colour", "category", ("blue", "red")).encoded_names
    ['colour=blue', 'colour=red']
    """

    name: str
    kind: str = "number"
    categories: tuple[Any, ...] = ()
    date_format: str | None = None

    @property
    def encoded_names(self) -> list[str]:
        """Names of the columns of numbers that it becomes."""
        if self.kind != "category":
            return [self.name]
        return [f"{self.name}={category}" for category in self.categories]

    @property
    def is_text(self) -> bool:
        """Whether its cells are names rather than numbers."""
        return self.kind == "category" and any(isinstance(one, str) for one in self.categories)

    def encode(self, values: Array, *, ignore_unknown: bool = False) -> Array:
        """Return the values as columns of numbers.

        Parameters
        ----------
        values : ndarray of shape (n_rows,)
            Numbers, NaN where one is missing, or text, empty where it is missing.
        ignore_unknown : bool, default False
            Whether an unknown category is 0 in all columns, as a missing one is.

        Returns
        -------
        ndarray of float64 and shape (n_rows, n_encoded)

        Raises
        ------
        RowError
            If a value is no number, or no category of the column.

        Examples
        --------
        >>> Feature("colour", "category", ("blue", "red")).encode(np.array(["red", ""]))
        array([[0., 1.],
               [0., 0.]])
        """
        if self.kind != "category":
            if values.dtype.kind not in "biuf":
                raise RowError(0, f"column {self.name!r} holds {_cell(values, 0)}, and no number")
            return values.astype(np.float64, copy=False).reshape(-1, 1)
        hits = values[:, None] == np.array(self.categories)[None, :]
        unknown = ~hits.any(axis=1) & ~missing(values)
        if unknown.any() and not ignore_unknown:
            row = int(np.argmax(unknown))
            raise RowError(
                row,
                f"column {self.name!r} holds {_cell(values, row)}, which is none of the "
                f"{len(self.categories)} values that the model knows: "
                f"{shown(list(self.categories))}",
            )
        return hits.astype(np.float64)


@dataclass(frozen=True)
class Preprocessing:
    """What was done to a table before a network learned from it, to be done again.

    Parameters
    ----------
    features : tuple of Feature
    fill : tuple of float or None, default None
        For each encoded column what stands where a value is missing; None: none may be.
    mean, deviation : tuple of float or None, default None
        For each encoded column what is taken off, and what divides the rest; None: nothing.
    target : tuple of str, default ()
        The names of the target's columns.
    task : str, default "regression"
        "classification", "multilabel" or "regression".

    Examples
    --------
    >>> columns = (Feature("width"), Feature("colour", "category", ("blue", "red")))
    >>> made = Preprocessing(columns, mean=(1.0, 0.0, 0.0), deviation=(2.0, 1.0, 1.0))
    >>> made.transform([np.array([5.0]), np.array(["red"])])
    array([[2., 0., 1.]])
    """

    features: tuple[Feature, ...]
    fill: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    target: tuple[str, ...] = ()
    task: str = "regression"

    @property
    def encoded_names(self) -> list[str]:
        """Names of the columns that the network takes."""
        return [name for feature in self.features for name in feature.encoded_names]

    def transform(self, columns: Sequence[Array], *, ignore_unknown: bool = False) -> Array:
        """Return the rows that the network takes, of float64.

        Parameters
        ----------
        columns : sequence of ndarray of shape (n_rows,)
            One for each feature, in their order, as `Feature.encode` takes it.
        ignore_unknown : bool, default False
            Whether unknown categories are taken as missing ones.

        Returns
        -------
        ndarray of shape (n_rows, n_inputs)

        Raises
        ------
        RowError
            If a value is missing and nothing stands for it, is infinite, or not of the column's
            kind.
        """
        blocks = []
        for feature, values in zip(self.features, columns, strict=True):
            if feature.kind == "category" and self.fill is None and missing(values).any():
                raise _gap(feature.name, int(np.argmax(missing(values))))
            blocks.append(feature.encode(values, ignore_unknown=ignore_unknown))
        return self.transform_encoded(np.column_stack(blocks))

    def transform_encoded(self, X: Array) -> Array:
        """Return the rows that the network takes, of rows whose names are columns of 0 and 1.

        Parameters
        ----------
        X : ndarray of float64 and shape (n_rows, n_inputs)
            NaN where a value is missing.

        Raises
        ------
        RowError
            If a value is missing and nothing stands for it, or is infinite.

        Examples
        --------
        >>> Preprocessing((Feature("width"),), fill=(4.0,)).transform_encoded(np.array([[np.nan]]))
        array([[4.]])
        """
        if not np.isfinite(X).all():
            gaps = np.isnan(X)
            if gaps.any() and self.fill is None:
                row, column = np.argwhere(gaps)[0].tolist()
                raise _gap(self.encoded_names[column], row)
            if np.isinf(X).any():
                row, column = np.argwhere(np.isinf(X))[0].tolist()
                name = self.encoded_names[column]
                raise RowError(row, f"column {name!r} holds an infinite number")
            X = X if self.fill is None else np.where(gaps, self.fill, X)
        if self.mean is not None:
            X = (X - np.array(self.mean)) / np.array(self.deviation)
        return X

    def to_plain(self) -> dict[str, Any]:
        """Return it as values that a file can hold."""
        return {
            "features": [
                {
                    "name": one.name,
                    "kind": one.kind,
                    "categories": [own_scalar(category) for category in one.categories],
                    "date_format": one.date_format,
                }
                for one in self.features
            ],
            "fill": _plain(self.fill),
            "mean": _plain(self.mean),
            "deviation": _plain(self.deviation),
            "target": list(self.target),
            "task": self.task,
        }

    @classmethod
    def of_plain(cls, content: Mapping[str, Any], n_inputs: int) -> Preprocessing:
        """Return what `to_plain` described.

        Raises
        ------
        ValueError
            If it does not hang together, or makes not `n_inputs` columns.
        """
        where = "preprocessing"
        SCHEMA.check(content, where)
        for i, feature in enumerate(content["features"]):
            if bool(feature["categories"]) != (feature["kind"] == "category"):
                raise ValueError(f"{where}.features[{i}] has categories, or lacks them, wrongly")
            if len({isinstance(one, str) for one in feature["categories"]}) > 1:
                raise ValueError(f"{where}.features[{i}] mixes names with numbers")
        features = tuple(
            Feature(one["name"], one["kind"], tuple(one["categories"]), one["date_format"])
            for one in content["features"]
        )
        n_encoded = sum(len(one.categories) or 1 for one in features)
        if n_encoded != n_inputs:
            raise ValueError(f"{where} makes {n_encoded} columns, but the network takes {n_inputs}")
        each = Maybe(Items(Number(), n_inputs))
        for name in ("fill", "mean", "deviation"):
            each.check(content[name], f"{where}.{name}")
        positive = Maybe(Items(Number(least=_SMALLEST)))
        positive.check(content["deviation"], f"{where}.deviation")
        if (content["mean"] is None) != (content["deviation"] is None):
            raise ValueError(f"{where} must have both mean and deviation, or neither")
        given = {name: _tuple(content[name]) for name in ("fill", "mean", "deviation")}
        return cls(features, **given, target=tuple(content["target"]), task=content["task"])


_FEATURE = Fields(
    {
        "name": Text(),
        "kind": OneOf(COLUMN_KINDS),
        "categories": Items(Scalar()),
        "date_format": Maybe(Text()),
    }
)
#: What `Preprocessing.to_plain` makes.
SCHEMA: Kind = Fields(
    {
        "features": Items(_FEATURE),
        "fill": Maybe(_NUMBERS),
        "mean": Maybe(_NUMBERS),
        "deviation": Maybe(_NUMBERS),
        "target": Items(Text()),
        "task": OneOf(TASKS),
    }
)


def _plain(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def _tuple(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))


def missing(values: Array) -> Array:
    """Return where a value is missing: NaN, or an empty text.

    Examples
    --------
    >>> missing(np.array(["a", ""]))
    array([False,  True])
    """
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    if values.dtype.kind in "biu":
        return np.zeros(len(values), dtype=bool)
    return np.asarray(values == "")


def _gap(name: str, row: int) -> RowError:
    return RowError(row, f"column {name!r} has no value, and the model has no mean for it")


def _cell(values: Array, row: int) -> str:
    return shown(own_scalar(values[row]))
