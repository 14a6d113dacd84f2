"""What programs take: arrays, by name. The session fills these, and signatures derive from them.

Programs that Numba compiles for this process take arrays. Those that come compiled take addresses:
of an array its first element's, of a named tuple that of a struct of its fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import numpy as np

from fastmlp.backends.numba_backend.first_layer.columns import Counts
from fastmlp.backends.numba_backend.numba_target.later import Later, types
from fastmlp.backends.numba_backend.plan import Layer, PanelNorm, Plan, StepRates
from fastmlp.backends.numba_backend.products.prefetch import Requests
from fastmlp.backends.numba_backend.vectors.records import kind_of
from fastmlp.backends.numba_backend.vectors.types import kinds

_numba = Later("numba")

Floats = Annotated[Any, "floats"]  # 1-D, of the session's dtype
Doubles = Annotated[Any, np.float64]  # 1-D
Integers = Annotated[Any, np.int64]  # 1-D

Rates = Annotated[Any, StepRates.dtype]


class Memory(NamedTuple):
    """A session's arrays, which live as long as it."""

    plan: Annotated[Any, Plan.dtype]  # one record
    layers: Annotated[Any, Layer.dtype]
    floats: Floats  # everything that `plan` and `layers` give offsets of
    row_losses: Doubles  # [batch_size]
    norms: Annotated[Any, PanelNorm.dtype]  # of the panels of all layers
    row_numbers: Integers  # 0, 1, ..., batch_size - 1
    counts: Annotated[Any, Counts.dtype]  # of the lists of active columns
    columns: Integers  # the lists, [lists][2][list_size]
    words: Integers  # marks of two batches' terms
    lists: Integers  # each thread's lists of terms
    requests: Annotated[Any, Requests.dtype]  # each thread's lists of what to ask for
    addresses: Integers


class Call(NamedTuple):
    """What a call of `train` reads and writes; its numbers are fields of the plan."""

    X: Floats  # row i begins at element i * plan.x_stride
    classes: Integers  # [samples]; empty if plan.target_width > 0
    targets: Floats  # [samples][plan.target_width]
    weights: Floats  # [samples]; empty without plan.has_weights
    order: Integers  # the samples to visit
    rates: Rates  # of every step
    losses: Doubles  # of every batch
    penalties: Doubles  # before every batch's update; empty without plan.wants_penalties
    logits: Floats  # [visits][outputs]; empty without plan.wants_logits


class Prediction(NamedTuple):
    """What a call of `predict` reads and writes."""

    X: Floats
    x_stride: int
    n_samples: int
    output: int  # code of the output activation; `LINEAR` for logits
    decides: int  # whether decisions are wanted
    outputs: Floats  # [samples][outputs]; empty where decisions are wanted
    decisions: Integers  # [samples], or [samples][outputs] where each output is one
    found: Integers  # one, 0 until a value is found that is not finite
    scratch: Floats  # each thread's: `PACKED_SIZE` elements, then two buffers of rows; pairs first
    scratch_size: int  # of a thread
    block_rows: int  # rows that a buffer has room for


def fields_of(described: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return what the parameters of a program, or the fields of a named tuple, are.

    Parameters
    ----------
    described : callable or subclass of NamedTuple
    dtype : dtype
        That of `Floats`.

    Returns
    -------
    dict
        By name: `int`, a subclass of NamedTuple, or the dtype of a 1-D array's elements.

    Examples
    --------
    >>> fields_of(Call, np.dtype("float32"))["X"]
    dtype('float32')
    """
    hints = get_type_hints(described, include_extras=True)
    hints.pop("return", None)
    return {name: _meaning(hint, dtype) for name, hint in hints.items()}


def _meaning(hint: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(hint, type):  # int or a named tuple
        return hint
    element = get_args(hint)[1]
    if element == "index":
        return int
    return dtype if isinstance(element, str) else np.dtype(element)


def signature_of(program: Callable[..., Any], dtype: np.dtype[Any]) -> tuple[types.Type, ...]:
    """Return the Numba types of a program's arguments: arrays, and named tuples of them.

    Examples
    --------
    >>> signature_of(lambda: None, np.dtype("float32"))
    ()
    """

    def of_arrays(field: Any) -> types.Type:
        if field is int:
            return types.int64
        if isinstance(field, np.dtype):
            return _numba.from_dtype(field)[::1]
        fields = [of_arrays(one) for one in fields_of(field, dtype).values()]
        return types.BaseTuple.from_types(fields, field)

    return tuple(of_arrays(field) for field in fields_of(program, dtype).values())


def addresses_of(program: Callable[..., Any], dtype: np.dtype[Any]) -> tuple[types.Type, ...]:
    """Return the Numba types of a program's arguments where it takes addresses.

    Examples
    --------
    >>> addresses_of(lambda: None, np.dtype("float32"))
    ()
    """

    def of_addresses(field: Any) -> types.Type:
        if field is int:
            return types.int64
        if isinstance(field, np.dtype):
            if field.fields is not None:
                return kinds.RecordType(kind_of(field.fields))
            return types.CPointer(_numba.from_dtype(field))
        fields = [of_addresses(one) for one in fields_of(field, dtype).values()]
        return kinds.AddressesType(field, fields)

    return tuple(of_addresses(field) for field in fields_of(program, dtype).values())
