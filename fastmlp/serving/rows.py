"""From a request's JSON to the rows that a network takes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._checks import hint, nearest
from fastmlp._json import read_json
from fastmlp._schema import shown
from fastmlp.datasets.cells import CellRules
from fastmlp.datasets.pieces import feature_values
from fastmlp.network import MLP
from fastmlp.preprocessing import Feature, Preprocessing, RowError
from fastmlp.serving.errors import RequestError

Array = NDArray[Any]

_FIELDS = ("rows", "ignore_unknown")
#: Names that a message lists.
_SHOWN_NAMES = 10
_LONGEST_NAME, _LONGEST_DATE = 100, 100
_NUMBERS = {int, float, bool}
#: null and an empty text are missing values; words such as "NA" are what they are.
_RULES = CellRules(missing=())


def read_request(body: bytes, most_rows: int) -> tuple[list[Any], bool]:
    """Return a request's rows, and whether unknown categories are taken as missing.

    Parameters
    ----------
    body : bytes
        JSON: ``{"rows": [...]}``, and perhaps ``"ignore_unknown": true``.
    most_rows : int

    Raises
    ------
    RequestError
        If it is anything else.

    Examples
    --------
    >>> read_request(b'{"rows": [[1, 2], [3, 4]]}', 10)
    ([[1, 2], [3, 4]], False)
    """
    try:
        content = read_json(body.decode(), finite=True)
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the body is not UTF-8: {error}") from error
    except RecursionError as error:
        raise RequestError(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise RequestError(400, f"the body is not JSON that can be taken: {error}") from error
    if not isinstance(content, dict):
        raise RequestError(422, f'the body is {shown(content)}, but must be {{"rows": [...]}}')
    for name in content:
        if name not in _FIELDS:
            near = hint(nearest(name, _FIELDS))
            raise RequestError(
                422, f"the body has {shown(name)}; {near}it may hold {' and '.join(_FIELDS)}"
            )
    rows, ignore_unknown = content.get("rows"), content.get("ignore_unknown", False)
    if "rows" not in content:
        raise RequestError(422, "the body has no rows, which must be a list of rows")
    if not isinstance(rows, list) or not rows:
        raise RequestError(422, f"rows is {shown(rows)}, but must be a list of at least one row")
    if len(rows) > most_rows:
        raise RequestError(413, f"rows has {len(rows)} rows, but may have {most_rows}")
    if not isinstance(ignore_unknown, bool):
        raise RequestError(
            422, f"ignore_unknown is {shown(ignore_unknown)}, but must be a truth value"
        )
    return rows, ignore_unknown


def encode(
    columns: Preprocessing, network: MLP, rows: Sequence[Any], ignore_unknown: bool = False
) -> Array:
    """Return what a network takes for rows of JSON.

    Parameters
    ----------
    columns : Preprocessing
        Of the model: what its rows are.
    network : MLP
    rows : sequence
        Lists of values in the order of the model's features, or mappings by their names: numbers
        or truth values, names of categories, dates as text; None where a value is missing.
    ignore_unknown : bool, default False
        Whether unknown categories are taken as missing.

    Returns
    -------
    ndarray of shape (n_rows, n_inputs)
        Of the network's dtype, and finite.

    Raises
    ------
    RequestError
        If a row cannot be taken: says which, and which of its values.

    Examples
    --------
    >>> columns = Preprocessing((Feature("width"), Feature("height")))
    >>> encode(columns, MLP([2, 1]), [[1, 2], {"height": 4, "width": 3}])
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    try:
        cells = _by_positions(columns, rows)
        X = _plain_numbers(columns, cells)
        if X is not None:
            X = columns.transform_encoded(X)
        else:
            values = [
                _column(feature, [row[j] for row in cells])
                for j, feature in enumerate(columns.features)
            ]
            X = columns.transform(values, ignore_unknown=ignore_unknown)
        return _as_network_takes(columns, network, X)
    except RowError as error:
        raise RequestError(422, f"rows[{error.row}]: {error.reason}") from error


def _plain_numbers(columns: Preprocessing, cells: Sequence[list[Any]]) -> Array | None:
    """Return rows as an array if all that is in them, and all that is wanted, are numbers."""
    kinds = set(map(type, itertools.chain.from_iterable(cells)))
    if not kinds <= _NUMBERS or any(one.kind == "category" for one in columns.features):
        return None
    try:
        return np.array(cells, dtype=np.float64)
    except OverflowError:  # said with its row, elsewhere
        return None


def _by_positions(columns: Preprocessing, rows: Sequence[Any]) -> list[list[Any]]:
    """Return rows as lists in the order of the features."""
    names = [feature.name for feature in columns.features]
    return [_by_position(names, row, i) for i, row in enumerate(rows)]


def _by_position(names: Sequence[str], row: Any, number: int) -> list[Any]:
    """Return a row as a list in the order of the model's features."""
    if isinstance(row, list):
        if len(row) != len(names):
            raise RowError(
                number,
                f"it has {len(row)} values, but the model takes {len(names)}: {_some(names)}",
            )
        return row
    if not isinstance(row, dict):
        raise RowError(number, f"it is {shown(row)}, but must be a list or a mapping of values")
    if len(row) != len(names) or not row.keys() >= set(names):
        raise _other_names(names, row, number)
    return [row[name] for name in names]


def _other_names(names: Sequence[str], row: Mapping[str, Any], number: int) -> RowError:
    known = set(names)
    unknown = next((name for name in row if name not in known), None)
    if unknown is not None:
        near = hint(nearest(unknown[:_LONGEST_NAME], names))
        return RowError(number, f"it has {shown(unknown)}; {near}the model takes {_some(names)}")
    lacking = [name for name in names if name not in row]
    return RowError(number, f"it lacks {_some(lacking)} of the model's {len(names)} features")


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names[:_SHOWN_NAMES]))
    more = len(names) - _SHOWN_NAMES
    return f"{listed} and {more} more" if more > 0 else listed


def _column(feature: Feature, cells: list[Any]) -> Array:
    """Return a feature's values, each of JSON's kind that the feature's own kind wants."""
    takes: tuple[type, ...] = (str,) if feature.is_text else (int, float)
    if feature.kind == "date":
        takes = (str, *takes)
    for row, cell in enumerate(cells):
        if cell is not None and not isinstance(cell, takes):
            kind = "text" if feature.is_text else feature.kind.replace("category", "number")
            raise RowError(row, f"column {feature.name!r} holds {shown(cell)}, and no {kind}")
    if feature.is_text:
        return _texts(feature, ["" if cell is None else cell for cell in cells])
    values = np.array([_number(feature, cell, row) for row, cell in enumerate(cells)])
    texts = [row for row, cell in enumerate(cells) if isinstance(cell, str)]
    if texts:
        try:
            values[texts] = _texts(feature, [cells[row] for row in texts])
        except RowError as error:
            raise RowError(texts[error.row], error.reason) from error
    return values


def _texts(feature: Feature, texts: Sequence[str]) -> Array:
    """Return what texts mean to a feature."""
    # A longer one is no category, and would make all as long in NumPy's arrays of text.
    longest = max((len(str(one)) for one in feature.categories), default=_LONGEST_DATE) + 1
    return feature_values(feature, [text.strip()[:longest] for text in texts], _RULES)


def _number(feature: Feature, cell: Any, row: int) -> float:
    """Return a number; NaN for what is missing, or text."""
    if cell is None or isinstance(cell, str):
        return float("nan")
    try:
        return float(cell)
    except OverflowError as error:
        raise RowError(row, f"column {feature.name!r} holds an infinite number") from error


def _as_network_takes(columns: Preprocessing, network: MLP, X: Array) -> Array:
    """Return rows in the network's dtype, if that holds them."""
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(X, dtype=network.dtype)
        finite = np.isfinite(rows * network.dtype.type(network.input_scale))
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise RowError(
            row,
            f"column {columns.encoded_names[column]!r} holds a number that is too large "
            f"for the network's {network.dtype}",
        )
    return rows
