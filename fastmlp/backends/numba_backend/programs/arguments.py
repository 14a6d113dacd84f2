"""What programs take: arrays, by name. The session fills these, and signatures derive from them."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import numba
import numpy as np
from numba import types

from fastmlp.backends.numba_backend.first_layer.columns import Counts
from fastmlp.backends.numba_backend.plan import Layer, PanelNorm, Plan, StepRates
from fastmlp.backends.numba_backend.products.prefetch import Requests

Floats = Annotated[Any, "floats"]  # 1-D, of the session's dtype
Doubles = Annotated[Any, np.float64]  # 1-D
Integers = Annotated[Any, np.int64]  # 1-D


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
    rates: Annotated[Any, StepRates.dtype]  # of every step
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
    scratch: Floats  # each thread's: `PACKED_SIZE` elements, then two buffers of rows
    scratch_size: int  # of a thread
    block_rows: int  # rows that a buffer has room for


def signature_of(kind: Any, dtype: np.dtype[Any]) -> types.Type:
    """Return the Numba type of a named tuple of arrays.

    Examples
    --------
    >>> signature_of(Call, np.dtype("float32")).types[0]
    Array(float32, 1, 'C', False, aligned=True)
    """

    def of_field(hint: Any) -> types.Type:
        if hint is int:
            return types.int64
        element = get_args(hint)[1]
        element = dtype if isinstance(element, str) else np.dtype(element)
        return numba.from_dtype(element)[::1]

    hints = get_type_hints(kind, include_extras=True).values()
    return types.BaseTuple.from_types([of_field(hint) for hint in hints], kind)
