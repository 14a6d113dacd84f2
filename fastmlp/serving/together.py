"""Rows of several requests, predicted in one call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[[Array], Array]


class Together:
    """Computes rows in a thread; those that come while it is at work, all at once after it.

    No request waits for others to come. One event loop may use it.

    Parameters
    ----------
    function : callable
        Takes rows, returns as many; it may raise ValueError.
    executor : Executor
    most_rows : int
        For one call, unless a single request has more.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> async def two():
    ...     with ThreadPoolExecutor(1) as pool:
    ...         doubled = Together(lambda X: 2 * X, pool, 100)
    ...         return await asyncio.gather(*(doubled(np.full((1, 1), i)) for i in (1, 2)))
    >>> asyncio.run(two())
    [array([[2]]), array([[4]])]
    """

    def __init__(self, function: Function, executor: Executor, most_rows: int) -> None:
        self._function, self._executor, self._most_rows = function, executor, most_rows
        self._waiting: deque[tuple[Array, asyncio.Future[Array]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, rows: Array) -> Array:
        """Return what the function makes of rows, or raise what it raises for them."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Array] = loop.create_future()
        self._waiting.append((rows, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            taken = self._take()
            blocks = [rows for rows, _ in taken]
            made = await loop.run_in_executor(self._executor, compute, self._function, blocks)
            for (_, future), result in zip(taken, made, strict=True):
                if future.done():  # its request was cancelled
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _take(self) -> list[tuple[Array, asyncio.Future[Array]]]:
        taken = [self._waiting.popleft()]
        n_rows = len(taken[0][0])
        while self._waiting and n_rows + len(self._waiting[0][0]) <= self._most_rows:
            taken.append(self._waiting.popleft())
            n_rows += len(taken[-1][0])
        return taken


def compute(function: Function, blocks: Sequence[Array]) -> list[Array | Exception]:
    """Return what a function makes of each block of rows, in one call where no block is at fault.

    Examples
    --------
    >>> compute(np.negative, [np.ones((1, 2)), np.zeros((1, 2))])
    [array([[-1., -1.]]), array([[-0., -0.]])]
    """
    if len(blocks) > 1:
        try:
            whole = function(np.concatenate(blocks))
        except ValueError:
            pass  # one of them is at fault: each is told its own
        else:
            ends = np.cumsum([len(block) for block in blocks])
            return list(np.split(whole, ends[:-1]))
    return [_attempt(function, block) for block in blocks]


def _attempt(function: Function, rows: Array) -> Array | Exception:
    try:
        return function(rows)
    except Exception as error:  # told to the request that it is of
        return error
