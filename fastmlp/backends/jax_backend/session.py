"""Sessions whose parameters live on a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Session, TrainingState
from fastmlp.backends.jax_backend.batches import make_batches
from fastmlp.backends.jax_backend.description import Description, numbers
from fastmlp.backends.jax_backend.devices import everywhere, find_devices, memory_for_data
from fastmlp.backends.jax_backend.float64 import in_float64
from fastmlp.backends.jax_backend.programs import Programs, State, programs_of
from fastmlp.backends.jax_backend.samples import can_be_kept, multiple_of, on_host, rounded_up
from fastmlp.losses import Loss
from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer
from fastmlp.regularization import Regularization

Array = NDArray[Any]

#: Steps of one run of a program, at most, and of one whose samples travel with it.
_STEPS, _STEPS_OF_TRAVELLERS = 512, 16
#: Steps of runs whose number of steps is compiled in, the longest first. A GPU would else ask the
#: host after every step whether to go on, which a small network's step does not take.
_COUNTED_STEPS = (256, 32)
#: Numbers in the rows, targets or logits of a run, at most.
_NUMBERS_AT_ONCE = 2**23
#: Runs that may be under way, so that what travels does not pile up on the device.
_RUNS_AT_ONCE = 2


class _Run(NamedTuple):
    """A run of the program that trains."""

    #: Which it takes.
    batches: slice
    #: For how many there is room.
    n_places: int
    #: Whether it takes just so many.
    is_counted: bool


class _Kept(NamedTuple):
    """Samples that lie on the device for the length of a fit, and what they are copies of."""

    X: Any
    y: Any
    on_device: tuple[Any, Any]


class JaxSession(Session):
    """A session that trains by programs which JAX compiles.

    Parameters
    ----------
    network, loss, optimizer, regularization, batch_size, seed
        As `Session` has them.
    device : str or None
    kept_bytes : int or None

    Examples
    --------
    >>> from fastmlp.backends.jax_backend import JaxBackend
    >>> session = JaxBackend("cpu").bind(MLP([2, 3]))
    >>> session.logits([[0.0, 0.0]])
    array([[0., 0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        seed: int,
        *,
        device: str | None,
        kept_bytes: int | None,
    ) -> None:
        #: The state and what the last steps saw, and the number of updates: one changes with the
        #: other.
        self._held: list[tuple[Any, int]] = [(None, 0)]
        super().__init__(network, loss, optimizer, regularization, batch_size, seed)
        self._device_name, self._kept_bytes = device, kept_bytes
        self._description = Description.of(network, loss, optimizer, regularization)
        self._start()
        self._load(TrainingState.initial(network, optimizer, regularization))

    def _start(self) -> None:
        self._devices = find_devices(self._device_name)
        self._everywhere = everywhere(self._devices)
        self._programs: Programs = programs_of(self._description, self._devices)
        self._numbers = self._put(numbers(self.optimizer, self.regularization, self.n_layers))
        self._counted_steps = () if self._devices[0].platform == "cpu" else _COUNTED_STEPS
        self._kept: _Kept | None = None

    # State -------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The number of updates so far."""
        return self._held[0][1]

    @step.setter
    def step(self, value: int) -> None:
        self._held = [(self._held[0][0], value)]

    @property
    def _state(self) -> State:
        return State(*self._held[0][0][0])

    @in_float64
    def _put(self, arrays: Any) -> Any:
        """Return arrays where every device has them."""
        return jax.device_put(arrays, self._everywhere)

    def _load(self, state: TrainingState) -> None:
        split = self._description.split

        def parts(flat: Array) -> tuple[Array, ...]:
            return tuple(np.array(part, dtype=self.dtype) for part in split(flat))

        moments = [parts(moment) for moment in state.moments]
        of_parts = tuple(zip(*moments, strict=True)) or ((),) * len(split(state.parameters))
        average = None if state.average is None else parts(state.average)
        placed = self._put(State(parts(state.parameters), of_parts, average))
        self._held = [((placed, None), self.step)]

    def _store(self) -> TrainingState:
        state = self._state
        moments = [_joined(one) for one in zip(*state.moments, strict=True)]
        return TrainingState(
            _joined(state.parameters),
            np.array(moments, dtype=self.dtype).reshape(len(moments), self.n_parameters),
            None if state.average is None else _joined(state.average),
            self.step,
        )

    def _weight_matrices(self) -> list[Array]:
        weights = self._state.parameters[: 2 * self.n_layers : 2]
        return [np.array(w).reshape(n) for w, n in zip(weights, self.layer_shapes, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        left = {"_devices", "_everywhere", "_programs", "_numbers", "_counted_steps"}
        left |= {"_kept", "_held"}
        kept = {name: value for name, value in self.__dict__.items() if name not in left}
        return kept | {"stored": self._store()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stored: TrainingState = state.pop("stored")
        self.__dict__.update(state)
        self._held = [(None, stored.step)]
        self._start()
        self._load(stored)

    # Samples -----------------------------------------------------------------------------------

    def keep(self, X: Any, y: Array) -> None:
        if self._on_device(X, y) is not None:
            return
        self.release()
        room = memory_for_data(self._devices) if self._kept_bytes is None else self._kept_bytes
        if can_be_kept(X, y, self.dtype, room):
            self._kept = _Kept(X, y, self._placed(X, y, rounded_up(len(y), 1)))

    def release(self) -> None:
        self._kept = None

    def _placed(self, X: Any, y: Array, n_places: int) -> tuple[Any, Any]:
        """Return samples on the device."""
        on_device: tuple[Any, Any] = self._put(
            (on_host(X, self.dtype, n_places), on_host(y, self.dtype, n_places))
        )
        return on_device

    # Computing ---------------------------------------------------------------------------------

    @in_float64
    def _logits(self, X: Any) -> Array:
        logits = np.empty((X.shape[0], self.n_outputs), dtype=self.dtype)
        at_once = max(1, _NUMBERS_AT_ONCE // max(self.n_inputs, self.n_outputs))
        for start in range(0, len(logits), at_once):
            block = logits[start : start + at_once]
            rows = X[start : start + at_once]
            n_places = rounded_up(len(block), len(self._devices))
            found = self._programs.logits(
                self._state.parameters, on_host(rows, self.dtype, n_places)
            )
            block[:] = np.asarray(found)[: len(block)]
        return logits

    @in_float64
    def _loss_and_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None = None,
    ) -> float:
        n_places = rounded_up(len(y), len(self._devices))
        given = np.arange(len(y)), sample_weight, np.zeros(1)
        batch = _only(make_batches(self, self._description, *given, n_places, (1, n_places)))
        loss, parts, seen = self._programs.gradient(
            self._state.parameters, *self._placed(X, y, n_places), batch, self._numbers
        )
        np.concatenate([np.asarray(part) for part in parts], out=gradient)
        if logits is not None:
            logits[:] = np.asarray(seen)[: len(y)]
        return float(loss)

    @in_float64
    def _update(self, gradient: Array, learning_rate: float) -> None:
        parts = tuple(part.copy() for part in self._description.split(gradient))
        given = np.zeros(1, np.int64), None, np.array([learning_rate])
        batch = _only(make_batches(self, self._description, *given, 1, (1, 1)))
        self._advance(self._programs.update, 1, self._state, parts, batch, self._numbers)

    def _train(
        self,
        X: Any,
        y: Array,
        order: Array,
        learning_rates: Array,
        sample_weight: Array | None,
        logits: Array | None,
        penalties: Array | None,
    ) -> Array:
        losses = np.empty(len(learning_rates))
        under_way: list[tuple[slice, Any]] = []

        def finish() -> None:
            """Take over what the first run that is under way has seen."""
            batches, seen = under_way.pop(0)
            n_batches = batches.stop - batches.start
            losses[batches] = np.asarray(seen[0])[:n_batches]
            if logits is not None:
                rows = logits[batches.start * self.batch_size : batches.stop * self.batch_size]
                found = np.asarray(seen[1])[:, : self.batch_size]
                rows[:] = found.reshape(-1, self.n_outputs)[: len(rows)]
            if penalties is not None:
                penalties[batches] = np.asarray(seen[2])[:n_batches]

        wanted = logits is not None, penalties is not None
        for run in self._runs(X, y, len(learning_rates), with_logits=wanted[0]):
            if len(under_way) == _RUNS_AT_ONCE:
                finish()
            rows = order[run.batches.start * self.batch_size : run.batches.stop * self.batch_size]
            weights = None if sample_weight is None else sample_weight[rows]
            rates = learning_rates[run.batches]
            seen = self._run(run, X, y, rows, weights, rates, wanted)
            under_way.append((run.batches, seen))
        while under_way:
            finish()
        return losses

    def _runs(self, X: Any, y: Array, n_batches: int, with_logits: bool) -> Iterator[_Run]:
        """Yield the runs of the program that take so many batches."""
        kept = self._on_device(X, y) is not None
        width = self.n_outputs if with_logits else 1
        width = width if kept else max(self.n_inputs, self.n_outputs)
        most = _STEPS if kept else _STEPS_OF_TRAVELLERS
        most = max(1, min(most, _NUMBERS_AT_ONCE // (self.batch_size * width)))
        lengths = [length for length in self._counted_steps if length <= most]
        places = min([most, *lengths])
        start = 0
        while start < n_batches:
            left = n_batches - start
            counted = next((length for length in lengths if length <= left), 0)
            stop = start + (counted or min(places, left))
            yield _Run(slice(start, stop), counted or places, counted > 0)
            start = stop

    def _on_device(self, X: Any, y: Array) -> tuple[Any, Any] | None:
        """Return samples where they are kept, or None."""
        kept = self._kept
        if kept is None or kept.X is not X or kept.y is not y:
            return None
        return kept.on_device

    @in_float64
    def _run(
        self,
        run: _Run,
        X: Any,
        y: Array,
        rows: Array,
        weights: Array | None,
        rates: Array,
        wanted: tuple[bool, bool],
    ) -> Any:
        """Train over some rows, and return what the steps saw, which may still be computed."""
        samples = self._on_device(X, y)
        if samples is None:
            samples = self._placed(X[rows], y[rows], run.n_places * self.batch_size)
            rows = np.arange(len(rows))
        shape = run.n_places, multiple_of(len(self._devices), self.batch_size)
        batches = make_batches(
            self, self._description, rows, weights, rates, self.batch_size, shape
        )
        n_batches = None if run.is_counted else np.uint32(len(rates))
        given = (self._state, *samples, batches, n_batches, self._numbers, *wanted)
        self._advance(self._programs.train, len(rates), *given)
        return self._held[0][0][1]

    def _advance(self, program: Any, n_steps: int, *given: Any) -> None:
        """Take steps by a program that consumes the state and returns another."""
        # The two change places, with the step, and nothing can interrupt in between: no Python runs
        # there, not even that of a named tuple.
        found = map(program, *((one,) for one in given))
        self._held[:] = zip(found, (self.step + n_steps,), strict=True)


def _only(batches: Any) -> Any:
    """Return the single one of some batches."""
    return type(batches)(*(one[0] for one in batches))


def _joined(parts: Any) -> Array:
    """Return parts of a vector, from the device, as one."""
    return np.concatenate([np.asarray(part) for part in parts])
