"""The header that C programs include, written from the records and programs themselves."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastmlp import __version__
from fastmlp.backends.numba_backend.ahead.objects import functions_of
from fastmlp.backends.numba_backend.ahead.sizes import CONSTANTS
from fastmlp.backends.numba_backend.kernels.activations import ACTIVATION_CODES
from fastmlp.backends.numba_backend.kernels.losses import LOSS_CODES, OUTPUT_CODES
from fastmlp.backends.numba_backend.kernels.optimizers import OPTIMIZER_CODES
from fastmlp.backends.numba_backend.prebuilt import SUFFIXES
from fastmlp.backends.numba_backend.programs.arguments import (
    Call,
    Memory,
    Prediction,
    fields_of,
)
from fastmlp.backends.numba_backend.vectors.records import Record, kind_of

_INTRODUCTION = """\
Kernels of fastmlp {version}: the programs of a library that `python -m fastmlp.build_kernels`
writes, for float32 (_f32) and float64 (_f64). This file was written by it too.

The caller allocates everything; programs keep nothing. Arrays of floats begin on 64 bytes.
Offsets count elements of memory->floats. "[a][b]" is an array of a rows of b elements. A *lane* is
one element of 64 bytes; a *panel* is that many columns, of all rows, side by side; rows are padded
to whole panels with zeros. Where nothing is wanted (classes, targets, weights, penalties, logits)
a pointer may be NULL.

Every thread of a team calls `train` or `predict` with its own number and otherwise the same
arguments; `sync` is {sync} int64 of zeros for each call. Both return 1, or 0 where
sync[{abandoned}] was set to 1 to make the team give up."""
_CODES = {
    "activation": ACTIVATION_CODES,
    "output": OUTPUT_CODES,
    "loss": LOSS_CODES,
    "optimizer": OPTIMIZER_CODES,
}
_SCALARS = {"float32": "float", "float64": "double", "int64": "int64_t"}


def header() -> str:
    """Return the text of the header.

    Examples
    --------
    >>> "} fastmlp_step_rates;" in header()
    True
    """
    floats = [np.dtype(name) for name in SUFFIXES]
    about = _INTRODUCTION.format(
        version=__version__, sync=CONSTANTS["n_sync"], abandoned=CONSTANTS["abandoned"]
    )
    blocks = [
        "/*\n" + textwrap.indent(about, " * ", lambda line: True).replace(" \n", "\n") + "\n */",
        "#ifndef FASTMLP_KERNELS_H\n#define FASTMLP_KERNELS_H\n\n#include <stdint.h>",
        '#ifdef __cplusplus\nextern "C" {\n#endif',
        _enumeration("", CONSTANTS),
        *(_enumeration(f"{what}_", codes) for what, codes in _CODES.items()),
        *(_record(kind) for kind in record_kinds()),
        *(_struct(kind, dtype) for kind in (Memory, Call, Prediction) for dtype in floats),
        "\n".join(f"{line};" for dtype in floats for line in _prototypes(dtype)),
        "#ifdef __cplusplus\n}\n#endif",
        "#endif",
    ]
    return "\n\n".join(blocks) + "\n"


def record_kinds() -> list[type[Record]]:
    """Return the kinds of records that programs take, each once.

    Examples
    --------
    >>> record_kinds()[0].__name__
    'Plan'
    """
    taken = (Memory, Call, Prediction, *functions_of(np.dtype("float32")).values())
    fields = [field for one in taken for field in fields_of(one, np.dtype("float32")).values()]
    kinds = [kind_of(one.fields) for one in fields if isinstance(one, np.dtype) and one.fields]
    return sorted(set(kinds), key=kinds.index)


def c_name(kind: type) -> str:
    """Return what C calls a kind of records; of a named tuple, up to its dtype.

    Examples
    --------
    >>> c_name(record_kinds()[0])
    'fastmlp_plan'
    """
    return "fastmlp_" + re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _enumeration(what: str, codes: Any) -> str:
    lines = [f"    FASTMLP_{what}{name} = {code}" for name, code in codes.items()]
    return "enum {\n" + ",\n".join(lines).upper() + "\n};"


def _record(kind: type[Record]) -> str:
    """Return the struct of a kind of records, with the comments of its source."""
    names: Any = kind.dtype.fields
    fields = {name: f"{_SCALARS[names[name][0].name]} {name}" for name in names}
    return _typedef(kind, fields, c_name(kind))


def _struct(kind: Any, dtype: np.dtype[Any]) -> str:
    fields = {
        name: f"{_type_of(field, dtype)}{name}" for name, field in fields_of(kind, dtype).items()
    }
    return _typedef(kind, fields, f"{c_name(kind)}_{SUFFIXES[dtype.name]}")


def _typedef(kind: Any, fields: dict[str, str], name: str) -> str:
    said = (kind.__doc__ or "").strip().partition("\n")[0]
    lines = "\n".join(f"    {line}" for line in _commented(kind, fields))
    return f"/* {said} */\ntypedef struct {{\n{lines}\n}} {name};"


def _commented(kind: Any, fields: dict[str, str]) -> Iterator[str]:
    """Yield a class's fields as C writes them, in the order and with the comments of its source."""
    for line in inspect.getsource(kind).splitlines():
        field = re.fullmatch(r"    (\w+): (?:.*?)(?:  # (.*))?", line)
        if field and field[1] in fields:
            yield f"{fields[field[1]]};" + (f" /* {field[2]} */" if field[2] else "")
        elif line.startswith("    # "):
            yield f"/* {line[6:]} */"


def _prototypes(dtype: np.dtype[Any]) -> Iterator[str]:
    for name, function in functions_of(dtype).items():
        fields = fields_of(function, dtype).items()
        arguments = ", ".join(f"{_type_of(field, dtype)}{name}" for name, field in fields)
        returned = inspect.signature(function).return_annotation
        kind = {"bool": "int", "None": "void"}.get(returned, "int64_t")
        yield f"{kind} {name}({arguments})"


def _type_of(field: Any, dtype: np.dtype[Any]) -> str:
    """Return how C declares what a parameter or a field is, up to its name."""
    if field is int:
        return "int64_t "
    if not isinstance(field, np.dtype):
        return f"const {c_name(field)}_{SUFFIXES[dtype.name]} *"
    if field.fields is not None:
        return f"{c_name(kind_of(field.fields))} *"
    return f"{_SCALARS[field.name]} *"
