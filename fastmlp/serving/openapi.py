"""What the service's OpenAPI page says of requests and answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.preprocessing import Feature, Preprocessing

_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
_REASONS = {
    400: "The body is not JSON, or a name stands twice in it.",
    408: "The body did not come in time.",
    413: "The body or the number of rows is too large.",
    415: "The body is not declared to be JSON.",
    422: "A row cannot be taken: says which, and which of its values.",
    503: "Too much at once: try again.",
}
_ANSWER = {
    "type": "object",
    "required": ["model", "predictions", "labels", "probabilities"],
    "properties": {
        "model": _TEXT,
        "predictions": {
            "type": "array",
            "description": "For each row its label, its value, or a list of 0 and 1 or of values.",
        },
        "labels": {
            "type": ["array", "null"],
            "description": "What the columns of the probabilities stand for.",
        },
        "probabilities": {
            "type": ["array", "null"],
            "description": "For each row the probability of each label.",
            "items": {"type": "array", "items": _NUMBER},
        },
    },
}


def _refused(reason: str) -> dict[str, Any]:
    schema = {"type": "object", "required": ["detail"], "properties": {"detail": _TEXT}}
    return {"description": reason, "content": {"application/json": {"schema": schema}}}


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What the rows are predicted to be.",
        "content": {"application/json": {"schema": _ANSWER}},
    },
    **{status: _refused(reason) for status, reason in _REASONS.items()},
}


def request_body(columns: Preprocessing, most_rows: int, largest: float) -> dict[str, Any]:
    """Return the description of a request for a model.

    Parameters
    ----------
    columns : Preprocessing
    most_rows : int
    largest : float
        Of the numbers that the network can hold.

    Examples
    --------
    >>> request_body(Preprocessing((Feature("width"),)), 10, 1e38)["required"]
    True
    """
    values = [_value(feature, columns.fill is not None, largest) for feature in columns.features]
    names = [feature.name for feature in columns.features]
    by_position = {
        "type": "array",
        "prefixItems": values,
        "minItems": len(values),
        "maxItems": len(values),
    }
    by_name = {
        "type": "object",
        "properties": dict(zip(names, values, strict=True)),
        "required": names,
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {
            "rows": {
                "type": "array",
                "minItems": 1,
                "maxItems": most_rows,
                "items": {"anyOf": [by_position, by_name]},
            },
            "ignore_unknown": {
                "type": "boolean",
                "default": False,
                "description": "Take names of categories that the model does not know as none.",
            },
        },
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _value(feature: Feature, may_lack: bool, largest: float) -> dict[str, Any]:
    """Return the description of one of a row's values."""
    null = [{"type": "null"}] if may_lack else []
    if feature.categories:
        known = np.array(feature.categories).tolist()
        return {"enum": [*known, None] if may_lack else known}
    number = {"type": "number", "minimum": -largest, "maximum": largest}
    if feature.kind == "date":
        number["description"] = "Days since 1970-01-01; or the date as text."
        return {"anyOf": [_TEXT, number, *null]}
    return {"anyOf": [number, {"type": "boolean"}, *null]} if null else number
