"""Model files of estimators: what a fitted estimator is made again from, beside its network."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._schema import (
    Anything,
    Fields,
    Items,
    Kind,
    Maybe,
    OneOf,
    Scalar,
    Text,
    Truth,
    shown,
)
from fastmlp._settings import described, own_scalar, recreated
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES
from fastmlp.network import MLP
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.schedules import SCHEDULES

Array = NDArray[Any]

#: The descriptions that a parameter may be.
_KINDS = {
    type(one).__name__: type(one)
    for vocabulary in (ACTIVATIONS, LOSSES, OPTIMIZERS, SCHEDULES)
    for one in vocabulary.values()
}
#: Of labels; "str" is text of any width, "object" text in a column of pandas.
_LABEL_DTYPES = (
    *("bool", "str", "object", "float16", "float32", "float64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
_LABELS = Fields({"dtype": OneOf(_LABEL_DTYPES), "several": Truth()})
_FIELDS = {
    "kind": Text(),
    "parameters": Fields(others=Anything()),
    "labels": Maybe(_LABELS),
}
#: More items than this are data, such as the rows of folds, rather than a setting.
_MOST_ITEMS = 10_000


class _NoPlainError(Exception):
    """A parameter is nothing that a file can hold."""


def estimator_content(kind: str, estimator: Any, fitted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an estimator's model file holds beside its network.

    Parameters
    ----------
    kind : str
    estimator : estimator
    fitted : mapping
        What a fit of this kind of estimator leaves beside parameters and labels.

    Warns
    -----
    UserWarning
        If parameters are left out that no file can hold, such as functions.
    """
    parameters, left_out = _parameters(estimator)
    if left_out:
        warnings.warn(
            f"{', '.join(left_out)} cannot be kept in a model file: the estimator that is loaded "
            "predicts the same, and has the default there",
            stacklevel=4,
        )
    classes = getattr(estimator, "classes_", None)
    several = bool(getattr(estimator, "_multilabel", False))
    return {
        "kind": kind,
        "parameters": parameters,
        "labels": None if classes is None else {"dtype": _dtype_name(classes), "several": several},
        "fitted": dict(fitted),
    }


def finite_or_none(value: float) -> float | None:
    """Return a number as a file can hold it: None where it is NaN or infinite.

    Examples
    --------
    >>> finite_or_none(math.nan) is None
    True
    """
    return float(value) if math.isfinite(value) else None


def check_content(content: Mapping[str, Any] | None, kind: str, fitted: Kind) -> Mapping[str, Any]:
    """Return the content if it is of an estimator of this kind.

    Parameters
    ----------
    content : mapping or None
    kind : str
    fitted : Kind
        What its "fitted" is to be.

    Raises
    ------
    ValueError
        If it is not.
    """
    if content is None:
        raise ValueError(
            f"it holds a network, or many, and no {kind}; fastmlp.MLP.load reads it, or "
            "fastmlp.Ensemble.load"
        )
    Fields({"kind": Text()}, Anything()).check(content, "estimator")
    if content["kind"] != kind:
        raise ValueError(f"it holds another estimator, {shown(content['kind'])}, and no {kind}")
    Fields(_FIELDS | {"fitted": fitted}).check(content, "estimator")
    return content


def parameters_of(content: Mapping[str, Any], estimator: type) -> dict[str, Any]:
    """Return the parameters to make an estimator by.

    Raises
    ------
    ValueError
        If it has no such parameter, or one is nothing that a file should hold.
    """
    known = inspect.signature(estimator).parameters
    Fields({}, Anything()).check(content["parameters"], "estimator.parameters")
    made = {}
    for name, value in content["parameters"].items():
        if name not in known:
            raise ValueError(
                f"estimator.parameters has {name!r}, which no {estimator.__name__} has"
            )
        made[name] = _made(value, f"estimator.parameters.{name}")
    return made


def classes_of(content: Mapping[str, Any], network: MLP) -> tuple[Array, bool]:
    """Return a classifier's classes, and whether each output is a label of its own.

    Raises
    ------
    ValueError
        If they do not fit the network.
    """
    names, output = network.label_names, network.output_activation.name
    if content["labels"] is None or names is None:
        raise ValueError("its classifier has no labels")
    several = content["labels"]["several"]
    if output == "sigmoid":
        # A single output tells two classes apart.
        fits = len(names) == network.n_outputs if several else network.n_outputs == 1
    else:
        fits = output == "softmax" and not several
    if not fits:
        raise ValueError(f"its labels do not fit {network.n_outputs} outputs of {output}")
    return _labels(names, content["labels"]["dtype"]), several


def _parameters(estimator: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters that are not the default, and the names of those left out."""
    kept, left_out = {}, []
    for name, parameter in inspect.signature(type(estimator)).parameters.items():
        value = getattr(estimator, name)
        if value is parameter.default:
            continue
        try:
            kept[name] = _plain(value)
        except _NoPlainError:
            left_out.append(name)
    return kept, left_out


def _plain(value: Any) -> Any:
    scalar = own_scalar(value)
    if scalar is None or isinstance(scalar, str | bool | int):
        return scalar
    if isinstance(scalar, float) and (math.isfinite(scalar) or scalar == math.inf):
        return scalar if math.isfinite(scalar) else {"kind": "infinity"}
    if isinstance(value, type | np.dtype):
        return np.dtype(value).name
    if _KINDS.get(type(value).__name__) is type(value):
        return described(value)
    if isinstance(value, Mapping | list | tuple | np.ndarray) and len(value) > _MOST_ITEMS:
        raise _NoPlainError
    if isinstance(value, Mapping):
        return {"kind": "pairs", "pairs": [[_plain(k), _plain(v)] for k, v in value.items()]}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    raise _NoPlainError


def _made(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_made(item, f"{where}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        Maybe(Scalar()).check(value, where)
        return value
    if value.get("kind") == "infinity":
        return math.inf
    if value.get("kind") == "pairs":
        Fields({"kind": Text(), "pairs": Items(Items(Scalar(), 2))}).check(value, where)
        return dict(value["pairs"])
    return recreated(value, _KINDS, where)


def _dtype_name(classes: Array) -> str:
    name = "str" if classes.dtype.kind == "U" else classes.dtype.name
    if name not in _LABEL_DTYPES:
        raise ValueError(f"classes of dtype {classes.dtype} cannot be kept in a model file")
    _labels(tuple(map(own_scalar, classes.tolist())), name)
    return name


def _labels(names: tuple[Any, ...], dtype: str) -> Array:
    is_text = dtype in ("str", "object")
    try:
        array = np.array(names, dtype=dtype)
    except (OverflowError, TypeError) as error:
        raise ValueError(f"its labels are none of dtype {dtype}: {error}") from error
    if array.tolist() != list(names) or is_text != all(isinstance(one, str) for one in names):
        raise ValueError(f"its labels are none of dtype {dtype}")
    return array
