"""Raises at any line of the library's Python code, as an interrupt would."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType

import numpy as np

import fastmlp

FOLDER = str(Path(fastmlp.__file__).parent)


def raise_at(
    line: int | None, error: type[BaseException], action: Callable[[], object]
) -> list[str]:
    """Run `action`, raise at the given line of those that it runs, and return those until then."""
    places: list[str] = []

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line" and _may_raise(frame.f_code, frame.f_lasti, frame.f_lineno):
            places.append(f"{frame.f_code.co_filename.removeprefix(FOLDER)}:{frame.f_lineno}")
            if len(places) - 1 == line:
                raise error  # which also ends the tracing
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
    except BaseException as raised:
        if not any(isinstance(one, error) for one in _causes(raised)):
            raise
    finally:
        sys.settrace(before)
    return places


def chosen(places: list[str]) -> list[int]:
    """Return which of the lines that an action runs are to be tried.

    By the environment variable FASTMLP_INTERRUPTS: "all" of them, of all "lines" their first and
    their last time, or so many, evenly spread.
    """
    wanted = os.environ.get("FASTMLP_INTERRUPTS", "12")
    if wanted == "all":
        return list(range(len(places)))
    if wanted == "lines":
        last = {place: i for i, place in enumerate(places)}
        first = {place: i for i, place in reversed(list(enumerate(places)))}
        return sorted({*first.values(), *last.values()})
    return sorted(set(np.linspace(0, len(places) - 1, int(wanted)).astype(int).tolist()))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _may_raise(code: CodeType, instruction: int, line: int) -> bool:
    """Return whether anything could be raised here, other than by a tracing function.

    It is told of moments at which the interpreter runs nothing and looks for no signal, and at
    which the handlers around are not in force: of a `try`, of a `return` without a value, and of
    the end of a `with`, as of the line that began it.
    """
    text = _lines(code.co_filename)[line - 1].strip()
    if text.startswith("with "):
        return instruction == _first(code, line)
    return text not in ("try:", "return")


@functools.cache
def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


@functools.cache
def _first(code: CodeType, line: int) -> int:
    return min(start for start, _, its in code.co_lines() if its == line)
