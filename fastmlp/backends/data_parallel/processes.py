"""The processes that an MPI launcher started, and what they tell each other."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import platform
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastmlp._cores import usable_cores
from fastmlp.errors import DivergenceError

Array = NDArray[Any]
T = TypeVar("T")


class Processes:
    """All processes of ``mpirun -n N``, of which this is one.

    Parameters
    ----------
    world : mpi4py.MPI.Comm

    Attributes
    ----------
    rank, size : int
    n_threads : int or None
        This process's share of the cores that it and others of its machine may use, known from
        the first fit on; None where it is alone there.
    """

    def __init__(self, world: Any) -> None:
        self._world = world
        self.rank, self.size = int(world.Get_rank()), int(world.Get_size())
        self.n_threads: int | None = None
        #: What was raised in all processes alike, in place of one that ends them.
        self._raised_by_all: BaseException | None = None

    def __reduce__(self) -> tuple[Callable[[], Processes], tuple[()]]:
        return all_processes, ()

    # What the trainer asks for ---------------------------------------------------------------

    def led(self, act: Callable[[], T]) -> T:
        """Call `act` in the first process; return or raise in all what it returns or raises."""
        if self.size == 1:
            return act()
        if self.rank:
            answer, error = self._world.bcast(None)
            if error is not None:
                self._raised_by_all = error
                raise error
            return answer
        try:
            answer = act()
        except BaseException as error:
            self._raised_by_all = error
            self._world.bcast((None, _portable(error)))
            raise
        self._world.bcast((answer, None))
        return answer

    @contextlib.contextmanager
    def fitting(self) -> Iterator[Callable[[Callable[[], Mapping[str, Any]]], None]]:
        """Hold a fit; see `Backend.fitting`.

        An error before the first agreement is told to the others, which then raise one too. One
        that comes later, to a process alone, finds the others waiting for it: it ends them all.
        """
        if self.size == 1:
            yield lambda facts: None
            return
        agreed = False

        def agree(facts: Callable[[], Mapping[str, Any]]) -> None:
            nonlocal agreed
            own = facts()
            agreed = True
            try:
                self._compare(None, own)
            except ValueError as error:
                self._raised_by_all = error
                raise

        try:
            yield agree
        except DivergenceError:  # of losses and parameters that all have
            raise
        except BaseException as error:
            if not agreed:
                self._compare(f"{type(error).__name__}: {error}", {})
            elif error is not self._raised_by_all:
                self._end_all(error)
            raise
        finally:
            self._raised_by_all = None

    def compare(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Raise in all processes where `facts` fails in one, or a fact is not the same in all."""
        if self.size == 1:
            facts()
            return
        try:
            own = facts()
        except Exception as error:
            self._compare(f"{type(error).__name__}: {error}", {})
            raise
        self._compare(None, own)

    def told(self, own: T) -> list[T]:
        """Tell all processes something, and return what each has told."""
        return list(self._world.allgather(own))

    def _compare(self, failure: str | None, facts: Mapping[str, Any]) -> None:
        """Raise ValueError in all where one failed or a fact is not the same in all."""
        host = platform.node()
        everyone = self._world.allgather((failure, dict(facts), host, _allowed_cores()))
        failures = [(rank, one[0]) for rank, one in enumerate(everyone) if one[0] is not None]
        if failures:
            if failure is not None:
                return  # it has an error of its own
            rank, text = failures[0]
            raise ValueError(f"process {rank} of {self.size} cannot train: {text}")
        self.n_threads = _share_of_cores([one[3] for one in everyone if one[2] == host])
        for name in facts:
            values = [one[1].get(name) for one in everyone]
            other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
            if other is not None:
                raise ValueError(
                    f"the processes must train alike, but {name} is {_shown(values[0])} in process "
                    f"0 and {_shown(values[other])} in process {other}"
                )

    def _end_all(self, error: BaseException) -> None:
        """End every process: the others wait for what is not going to come."""
        from mpi4py import MPI

        own = f"process {self.rank} of {self.size}"
        if isinstance(error, MPI.Exception):  # what some libraries of MPI notice before they end
            said = f"{own} has lost another one, which was killed or has failed; that"
        else:
            traceback.print_exception(error)
            said = f"the error above, in {own},"
        said = f"fastmlp: {said} ends the training of all; the last checkpoint is whole"
        print(said, file=sys.stderr, flush=True)
        self._world.Abort(1)

    # What sessions ask for -------------------------------------------------------------------

    def exchange(
        self, sent: Array, sent_parts: _Parts, received: Array, received_parts: _Parts
    ) -> None:
        """Send parts of a vector to all processes, and receive some of theirs.

        Parts are the number of elements, and where they begin, process by process.
        """
        self._world.Alltoallv([sent, sent_parts], [received, received_parts])

    def complete(self, vector: Array, parts: _Parts) -> None:
        """Fill in the other processes' parts of a vector, of which each has its own."""
        from mpi4py import MPI

        self._world.Allgatherv(MPI.IN_PLACE, [vector, parts])

    def gathered(self, own: Array, sizes: Sequence[int]) -> list[Array]:
        """Return the vectors of all processes, of these sizes."""
        ends = np.cumsum(sizes)
        whole = np.empty(int(ends[-1]), dtype=own.dtype)
        self._world.Allgatherv(own, [whole, (list(sizes), list(ends - sizes))])
        return np.split(whole, ends[:-1])


_Parts = tuple[list[int], list[int]]


@functools.cache
def all_processes() -> Processes:
    """Return the processes that were started together; MPI begins with the first call.

    Raises
    ------
    ImportError
        If mpi4py or an MPI is not installed.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no library of MPI
        raise ImportError(
            f"DataParallel needs mpi4py and an MPI ({error}): pip install 'fastmlp[mpi]'"
        ) from error
    return Processes(MPI.COMM_WORLD)


def _portable(error: BaseException) -> BaseException:
    """Return an error as other processes can raise it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return RuntimeError(f"{type(error).__name__} in the process that leads: {error}")
    return error


def _allowed_cores() -> set[int]:
    """Return the cores that this process may run on, to tell whether others share them."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else {0}


def _share_of_cores(allowed: list[set[int]]) -> int | None:
    """Return how many threads this process has, given the cores of all of its machine.

    Launchers may have given each its own. None where it shares them with nobody, or someone
    chose.
    """
    n_sharing = sum(bool(cores & _allowed_cores()) for cores in allowed)
    if n_sharing == 1 or os.environ.get("FASTMLP_NUM_THREADS", "").strip():
        return None
    return max(1, usable_cores() // n_sharing)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
