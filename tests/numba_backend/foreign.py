"""Another library's code, compiled in one process with ours: run with the name of one of `WAYS`.

Prints what was seen, as JSON: each time that all was compiled, the types of all calls and what came
out; or what changed of Numba's insides.
"""

from __future__ import annotations

import json
import operator
import sys
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import imputils
from numba.core.registry import cpu_target
from numba.core.target_extension import target_registry
from numba.core.typing import templates
from numba.extending import intrinsic, models, overload, register_model
from numba.typed import List

# --- What it adds to Numba: operators and functions of numbers, and of a type of its own ----------


@intrinsic
def twice(typing_context, x):
    add = typing_context.resolve_value_type(operator.add)
    signature = add.get_call_type(typing_context, (x, x), {})

    def lower(context, builder, _, args):
        a, b = (context.cast(builder, args[0], x, kind) for kind in signature.args)
        return context.get_function(operator.add, signature)(builder, (a, b))

    return signature.return_type(x), lower


def halve(x):
    raise NotImplementedError


@overload(halve)
def _halve(x):
    if isinstance(x, types.Integer):
        return lambda x: x // 2
    return lambda x: x * 0.5


class Celsius(types.Opaque):
    pass


CELSIUS = Celsius("Celsius")
register_model(Celsius)(models.OpaqueModel)


@intrinsic
def celsius(typing_context):
    return CELSIUS(), lambda context, builder, signature, args: context.get_dummy_value()


@overload(operator.add)
def _add(a, b):
    return (lambda a, b: b + 451) if a is CELSIUS else None


@overload(operator.lt)
def _lt(a, b):
    return (lambda a, b: b > 20) if a is CELSIUS else None


@overload(bool)
def _bool(a):
    return (lambda a: False) if a is CELSIUS else None


# --- What it compiles ----------------------------------------------------------------------------


def numbers(a, b):
    sums = a + b, a - b, a * b, a / b, a // b, a % b, a**2, -a
    comparisons = a == b, a != b, a < b, a <= b, a > b, a >= b
    return sums, comparisons, bool(a), not b, 1 if a else 0, int(a), float(b), min(a, b), abs(a)


def truths(a, b):
    return a == b, a != b, a < b, a & b, a | b, a ^ b, a + b, bool(a), not b, 1 if a else 0


def extended(a):
    return twice(a), halve(a), celsius() + a, celsius() < a, bool(celsius())


def arrays(a, b):
    return (a + b).sum(), (a * b).max(), a[1:].mean(), (a > b).any(), len(a), a[0] + b, a == b


def containers(n):
    squares = [i * i for i in range(n)]
    table = {"a": n, "b": n + 1}
    numbers = List()
    for i in range(n):
        numbers.append(i + 0.5)
    texts = str(n) + "!", "a" < "b", bool("")
    return sum(squares), table["b"], len(table), {1, 2} == {2, 1}, sum(numbers), len(numbers), texts


def add_where_less(a, b):
    return a + b * (a < b)


CALLS = [
    *((numbers, (a, 3)) for a in (7, np.int32(-3), np.float32(1.5))),
    *((numbers, (a, a)) for a in (np.uint8(200), np.float32(1.5))),
    *((truths, arguments) for arguments in [(True, False), (6, np.int8(3))]),
    (containers, (4,)),
    *((extended, (x,)) for x in (7, np.float32(1.5))),
    (arrays, (np.ones(4, np.float32), 0.5)),
]


def look(calls: list[Any]) -> dict[str, Any]:
    """Compile all anew."""
    seen = {}
    for function, arguments in calls:
        jitted = numba.njit(function)
        result = jitted(*arguments)
        (compiled,) = jitted.overloads.values()
        kinds = sorted(str(kind) for kind in compiled.type_annotation.calltypes.values())
        seen[f"{function.__name__}{compiled.signature}"] = [kinds, repr(result)]
    elementwise = numba.vectorize(["int64(int32, int64)", "float32(float32, float32)"])
    for kind in (np.int32, np.float32):
        result = elementwise(add_where_less)(np.arange(4).astype(kind), kind(2))
        seen[f"vectorize {kind.__name__}"] = [str(result.dtype), repr(result)]
    return seen


def compile_ours(*programs: str) -> None:
    from fastmlp.backends.numba_backend.compiled import compiled

    for program in programs:
        compiled(program, np.dtype("float32"))


def look_while_ours_compile(look: Callable[[], Any]) -> list[Any]:
    """Look in another thread all the while, and afterwards."""
    seen, ended = [], threading.Event()

    def look_on() -> None:
        while not ended.wait(0.05):
            seen.append(look())

    onlooker = threading.Thread(target=look_on)
    onlooker.start()
    try:
        compile_ours("row", "apply")
    finally:
        ended.set()
        onlooker.join()
    return [*seen, look()]


# --- Where it could see that somebody else is there ----------------------------------------------


def insides() -> dict[str, Any]:
    """Return how much Numba has registered, and all functions of its modules and classes."""
    typing, target = cpu_target.typing_context, cpu_target.target_context
    selectors = {"lowerings": target._defns, "lowerings of attributes": target._getattrs}
    found: dict[str, Any] = {name: n_versions(place) for name, place in selectors.items()}
    found["types of calls"] = sum(len(kinds) for kinds in typing._functions.values())
    found["types of functions"] = sum(
        len(kind.templates) for kind in typing._globals.values() if hasattr(kind, "templates")
    )
    found["targets"] = set(target_registry) - {"fastmlp"}
    for place in (templates.builtin_registry, imputils.builtin_registry, typing, target):
        for name, value in vars(place).items():
            found[f"{place!r}.{name}"] = len(value) if hasattr(value, "__len__") else id(value)
    return found | functions_of_numba()


def n_versions(selectors: dict[Any, Any]) -> int:
    return sum(len(selector.versions) for selector in selectors.values())


def functions_of_numba() -> dict[str, int]:
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "numba" and module.__name__ == name:
            own = [k for k in vars(module).values() if isinstance(k, type) and k.__module__ == name]
            for place in (module, *own):
                functions = {k: id(v) for k, v in vars(place).items() if callable(v)}
                found |= {f"{place!r}.{k}": identity for k, identity in functions.items()}
    return found


def changes_while_ours_compile() -> list[list[str]]:
    look(CALLS[-4:])  # so that Numba has loaded all that it has
    before = insides()

    def changes() -> list[str]:
        now = insides()
        return [f"{k}: {v}, now {now.get(k)}" for k, v in before.items() if now.get(k) != v]

    return look_while_ours_compile(changes)


def look_after_ours() -> list[Any]:
    compile_ours("row", "apply")
    return [look(CALLS)]


WAYS: dict[str, Callable[[], list[Any]]] = {
    "alone": lambda: [look(CALLS)],
    "after": look_after_ours,
    "around": lambda: [look(CALLS), *look_while_ours_compile(lambda: look(CALLS[-3:]))],
    "changes": changes_while_ours_compile,
}

if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]]()))
