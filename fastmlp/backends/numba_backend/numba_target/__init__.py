"""What leans on Numba's insides: how kernels are typed, lowered, compiled and kept; see README.md.

``FASTMLP_COMPILER`` names how programs are compiled: "lean", the default, for a target of their
own; "numba" as Numba compiles any function. Both give the same numbers.
"""

from __future__ import annotations

import os

from numba.core import config

from fastmlp.backends.numba_backend.numba_target.choice import choose_compiler

#: Whether programs run as plain Python, for stepping through kernels and counting coverage.
JIT_DISABLED = bool(config.DISABLE_JIT)
#: How programs of this process are compiled: "lean" or "numba".
COMPILER = choose_compiler(os.environ.get("FASTMLP_COMPILER", "").strip().lower() or None)

if COMPILER == "lean":
    from fastmlp.backends.numba_backend.numba_target.lean import jit, register_kernel
    from fastmlp.backends.numba_backend.numba_target.target import (
        register,
        register_fields,
        register_value,
    )
else:
    from fastmlp.backends.numba_backend.numba_target.ordinary import (
        jit,
        register,
        register_fields,
        register_kernel,
        register_value,
    )

__all__ = [
    "COMPILER",
    "JIT_DISABLED",
    "jit",
    "register",
    "register_fields",
    "register_kernel",
    "register_value",
]
