"""The Numba backend: sessions that run whole epochs in compiled code."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp._weights import batch_weights, total_weight
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from fastmlp.backends.base import Backend, Session, TrainingState, first_unknown
from fastmlp.backends.numba_backend.compiled import compiled
from fastmlp.backends.numba_backend.inputs import (
    converted,
    native_or_converted,
    native_rows,
    portion_of,
    writable,
)
from fastmlp.backends.numba_backend.kernels.losses import OUTPUT_CODES
from fastmlp.backends.numba_backend.memory import (
    Layout,
    aligned_zeros,
    allocate,
    describe,
    seed_key,
)
from fastmlp.backends.numba_backend.plan import StepRates
from fastmlp.backends.numba_backend.prebuilt import passed
from fastmlp.backends.numba_backend.products.packing import PACKED_SIZE
from fastmlp.backends.numba_backend.products.pairs import PAIRED_ROWS, PAIRS_SIZE
from fastmlp.backends.numba_backend.programs.arguments import Call, Memory, Prediction
from fastmlp.backends.numba_backend.programs.row import row_plan, row_room
from fastmlp.backends.numba_backend.team.choice import ThreadChoice
from fastmlp.backends.numba_backend.team.workers import run_team
from fastmlp.backends.numba_backend.vectors.records import fields
from fastmlp.losses import LOSSES, CustomLoss, Loss
from fastmlp.network import MLP, check_finite, check_logits, layer_views
from fastmlp.optimizers import OPTIMIZERS, Adam, EpsilonHatAdam, Optimizer
from fastmlp.regularization import DividedL2, Regularization
from fastmlp.targets import dense_targets, weight_shares

Array = NDArray[Any]

#: Rows that prediction takes through all layers at once.
PREDICT_ROWS = 120
_NO_DOUBLES = np.empty(0)
_NO_INTEGERS = np.empty(0, dtype=np.int64)
_NO_FLOATS = {np.dtype(name): np.empty(0, dtype=name) for name in ("float32", "float64")}
#: What there are kernels for.
_KNOWN_TYPES = {
    CustomLoss,
    Regularization,
    DividedL2,
    EpsilonHatAdam,
    *(
        type(known)
        for vocabulary in (ACTIVATIONS, OUTPUT_ACTIVATIONS, LOSSES, OPTIMIZERS)
        for known in vocabulary.values()
    ),
}


class NumbaBackend(Backend):
    """Compiled kernels and whole epochs in compiled code, on one or several threads.

    The result has the same bits for any number of threads.

    Examples
    --------
    >>> NumbaBackend().name
    'numba'
    """

    name = "numba"
    has_parts = True

    def unsupported(
        self, network: MLP, loss: Loss, optimizer: Optimizer, regularization: Regularization
    ) -> str | None:
        unknown = first_unknown(_KNOWN_TYPES, network, loss, optimizer, regularization)
        if unknown is None:
            return None
        return (
            f"the Numba backend has no kernel for the {unknown}; "
            "the NumPy backend computes any, with backend='numpy'"
        )

    def _bind(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        n_threads: int | None,
        seed: int,
    ) -> Session:
        return NumbaSession(network, loss, optimizer, regularization, batch_size, seed, n_threads)


class NumbaSession(Session):
    """A session whose parameters lie in panels, in one array with everything else."""

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        optimizer: Optimizer,
        regularization: Regularization,
        batch_size: int,
        seed: int,
        n_threads: int | None,
    ) -> None:
        super().__init__(network, loss, optimizer, regularization, batch_size, seed)
        self.threads = ThreadChoice(n_threads, self.layer_shapes, batch_size)
        rates = regularization.dropout_rates(network.n_layers)
        hidden = network.hidden_activations
        shapes, has_scale = network.layer_shapes, network.scaling_layer
        rounds = self.precision == "bfloat16"
        self.layout = Layout(shapes, hidden, rates, self.dtype, has_scale, rounds)
        layers = self.layout.layers
        layers.weights_rate, layers.biases_rate = optimizer.layer_factors(network.n_layers)
        plan = describe(network, loss, optimizer, regularization)
        plan.batch_size, plan.seed_key = batch_size, seed_key(seed)
        try:
            self.memory = allocate(self.layout, plan, self.threads.most_in_training)
        except MemoryError as error:
            raise MemoryError(
                f"there is not the memory to train on batches of {batch_size} rows; bind a session "
                "with the number of rows that there are at most, or train in smaller batches"
            ) from error
        levels = int(plan.constants[0]) + self.layout.lanes
        self.memory.floats[levels:][: self.n_outputs] = getattr(loss, "levels", (0.5,))
        self._scratch = np.empty(0, dtype=self.dtype)
        self._load(TrainingState.initial(network, optimizer, regularization))

    def _program(self, name: str, n_rows: int) -> str:
        """Return the program's name for batches of so many rows."""
        in_pairs = self.layout.has_pairs and n_rows >= PAIRED_ROWS
        return f"{name}_paired" if in_pairs else name

    # State -----------------------------------------------------------------------------------

    def _block(self, start: int) -> Array:
        return self.memory.floats[start:][: self.layout.block_size]

    @property
    def _gradient(self) -> Array:
        return self._block(int(self.memory.plan.gradient[0]))

    def _load(self, state: TrainingState) -> None:
        self.layout.pack(state.parameters, self._block(0))
        self.layout.write_effective(self.memory.floats)
        for number, moment in enumerate(state.moments, start=1):
            self.layout.pack(moment, self._block(number * self.layout.block_size))
        if state.average is not None:
            self.layout.pack(state.average, self._block(int(self.memory.plan.average[0])))

    def _store(self) -> TrainingState:
        moments = np.empty((self.optimizer.n_moments, self.n_parameters), dtype=self.dtype)
        for number, moment in enumerate(moments, start=1):
            self.layout.unpack(self._block(number * self.layout.block_size), moment)
        average = None
        if self.regularization.ema is not None:
            average = self._flat(int(self.memory.plan.average[0]))
        return TrainingState(self._flat(0), moments, average, self.step)

    def _flat(self, start: int) -> Array:
        flat = np.empty(self.n_parameters, dtype=self.dtype)
        self.layout.unpack(self._block(start), flat)
        return flat

    def _weight_matrices(self) -> list[Array]:
        return layer_views(self._flat(0), self.layer_shapes)[0]

    # Prediction ------------------------------------------------------------------------------

    def _logits(self, X: Any) -> Array:
        return self._computed(X, "logits")[0]

    def _predict(self, X: Any, kind: str) -> Array:
        result, finite = self._computed(X, kind)
        if not finite:
            check_finite(X, self.dtype, self.input_scale)
            check_logits(self._logits(X))
        return result

    def _computed(self, X: Any, kind: str) -> tuple[Array, bool]:
        """Return what is wanted of rows, and whether they and their logits are finite."""
        output = self.output_activation.name
        decides = kind == "decisions" and output in ("softmax", "sigmoid")
        code = OUTPUT_CODES["linear" if kind == "logits" else output]
        n_columns = 1 if decides and output == "softmax" else self.n_outputs
        result = np.empty((X.shape[0], n_columns), np.int64 if decides else self.dtype)
        finite = True
        for first, flat, stride, n in self._portions(X):
            part = result[first : first + n].reshape(-1)
            finite &= self._compute(flat, stride, n, code, part)
        if kind == "decisions" and n_columns == 1:
            return result[:, 0], finite
        return result, finite

    def _portions(self, X: Any) -> Iterator[tuple[int, Array, int, int]]:
        """Yield rows as programs read them.

        What is yielded is the first one's number, their elements, their distance, and how many
        they are.
        """
        n_samples = X.shape[0]
        native = native_rows(X, self.dtype)
        if native is not None:
            yield 0, *native, n_samples
            return
        portion = portion_of(self.n_inputs, self.dtype)
        for start in range(0, n_samples, portion):
            with np.errstate(over="ignore"):  # it is found where all is computed
                rows = converted(X[start : start + portion], self.dtype)
            yield start, rows.ravel(), self.n_inputs, len(rows)

    def _compute(self, X: Array, x_stride: int, n_samples: int, code: int, out: Array) -> bool:
        n_threads = self.threads.for_prediction(n_samples)
        n_blocks = n_threads * -(-n_samples // (n_threads * PREDICT_ROWS))
        block_rows = -(-n_samples // n_blocks)
        name = self._program("predict", n_samples)
        scratch_size = PACKED_SIZE + 2 * block_rows * self.layout.widest
        scratch_size += PAIRS_SIZE if name == "predict_paired" else 0
        if len(self._scratch) < n_threads * scratch_size:
            self._scratch = aligned_zeros(n_threads * scratch_size, self.dtype)
        decides = out.dtype != self.dtype
        prediction = Prediction(
            X=X,
            x_stride=x_stride,
            n_samples=n_samples,
            output=code,
            decides=int(decides),
            outputs=_NO_FLOATS[self.dtype] if decides else out,
            decisions=out if decides else _NO_INTEGERS,
            found=np.zeros(1, dtype=np.int64),
            scratch=self._scratch,
            scratch_size=scratch_size,
            block_rows=block_rows,
        )
        program = compiled(name, self.dtype)
        arguments = passed(self.memory), passed(prediction)
        run_team(program, n_threads, self.threads.at_most, arguments)
        return not prediction.found[0]

    def row_function(self, output: str) -> Callable[[Array, Array], bool]:
        scale = float(self.memory.plan.input_scale[0])
        layout = self.layout
        plan = row_plan(layout.layers, output, scale, layout.lanes, layout.rounds)
        program, room = compiled("row", self.dtype), _RowRoom(plan, self.dtype)
        kept = plan, self.memory.floats
        held_plan, floats = map(passed, kept)

        def answer(x: Array, out: Array, _kept: Any = kept) -> bool:
            return program(held_plan, floats, passed(x), passed(out), *room.passed)

        return answer

    # Training --------------------------------------------------------------------------------

    def _loss_and_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None = None,
    ) -> float:
        shares = weight_shares(sample_weight, X.shape[0], np.dtype(np.float64))
        total, regularization = total_weight(sample_weight, X.shape[0]), self.regularization
        mean = _Mean(shares, total, regularization.l1, regularization.l2_of(total))
        loss = self._backpropagate(X, y, sample_weight, mean, logits)
        self.layout.unpack(self._gradient, gradient)
        gradient += 0.0  # so that no zero has a sign
        return loss

    @property
    def part(self) -> Array:
        return self._gradient

    def _part_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        first_row: int,
        total: float,
        logits: Array | None,
    ) -> float:
        weights = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        shares = weights.astype(np.float64) / (total if total > 0 else math.inf)
        mean = _Mean(shares, total, first_row=first_row)
        return self._backpropagate(X, y, sample_weight, mean, logits)

    def _whole_gradient(self, gradient: Array, total: float) -> None:
        self.layout.unpack(self._gradient, gradient)
        self._add_penalty_gradient(gradient, total)

    def _apply_part(self, learning_rate: float, total: float) -> None:
        self._apply(self.memory, learning_rate, self.regularization.l2_of(total))

    def _backpropagate(
        self, X: Any, y: Array, sample_weight: Array | None, mean: _Mean, logits: Array | None
    ) -> float:
        """Write the gradient of a mean over rows to its block; return it without penalties."""
        if not isinstance(self.loss, CustomLoss):
            return self._pass(X, y, sample_weight, mean, logits)
        z = np.empty((X.shape[0], self.n_outputs), dtype=self.dtype)
        self._pass(X, np.zeros_like(z), sample_weight, mean, z)
        if logits is not None:
            logits[:] = z
        targets = dense_targets(y, self.n_outputs, self.dtype)
        outputs = self.output_activation.forward(z, out=np.empty_like(z))
        values = self.loss.value(z, outputs, targets, self.output_activation)
        delta = self.loss.delta(z, outputs, targets, self.output_activation)
        self._pass(X, delta.astype(self.dtype), sample_weight, mean, None)
        return float(np.sum(values.astype(np.float64) * mean.shares))

    def _pass(
        self, X: Any, y: Array, sample_weight: Array | None, mean: _Mean, logits: Array | None
    ) -> float:
        """Take rows forward and back, in batches; else as `_backpropagate`."""
        n_samples = X.shape[0]
        rates = self._rates(np.zeros(1), mean.l2)
        memory = self.memory._replace(plan=self.memory.plan.copy())
        plan = fields(memory.plan)
        plan["gradient_only"], plan["clip_value"], plan["l1"] = 1, math.inf, mean.l1
        plan["total_weight"] = mean.total if mean.total > 0 else math.inf
        plan["first_step"], plan["first_batch"], plan["end_batch"] = self.step, 0, 1
        gradient, loss = self._gradient, 0.0
        before: Array | None = None
        for start in range(0, n_samples, self.batch_size):
            rows = slice(start, start + self.batch_size)
            plan["first_row"] = mean.first_row + start
            flat, plan["x_stride"] = native_or_converted(X[rows], self.dtype)
            n_rows = plan["epoch_visits"] = min(self.batch_size, n_samples - start)
            call = self._call(
                flat,
                y[rows],
                None if sample_weight is None else sample_weight[rows],
                np.arange(n_rows),
                rates,
                None if logits is None else logits[rows],
            )
            n_threads, _ = self.threads.next_call(1)
            self._run(memory, call, _width(y), n_threads)
            loss += call.losses[0]
            if before is not None:
                gradient += before
            if start + self.batch_size < n_samples:
                before = gradient.copy()
            plan["l1"] = rates.l2 = 0.0  # penalties belong to the objective once
        return float(loss)

    def _update(self, gradient: Array, learning_rate: float) -> None:
        self.layout.pack(gradient, self._gradient)
        plan = self.memory.plan.copy()
        plan.l1 = 0.0  # the gradient holds it, as that of L2
        self._apply(self.memory._replace(plan=plan), learning_rate, 0.0)

    def _apply(self, memory: Memory, learning_rate: float, l2: float) -> None:
        """Update by what the gradient's block holds, once penalties are added to it."""
        rates = self._rates(np.array([learning_rate]), l2)
        compiled("apply", self.dtype)(passed(memory), passed(rates))
        self.step += 1

    def _rates(self, learning_rates: Array, l2: Array | float) -> Any:
        """Return what differs in each of the next steps: records of StepRates."""
        rates = StepRates.array(len(learning_rates))
        of = fields(rates)
        of["rate"], of["l2"] = learning_rates, l2
        of["epsilon"] = getattr(self.optimizer, "epsilon", 0.0)
        if isinstance(self.optimizer, Adam):
            steps = self.step + 1 + np.arange(len(rates))
            of["corrected_rate"] = learning_rates / (1 - self.optimizer.beta_1**steps)
            of["corrected_root"] = 1 / np.sqrt(1 - self.optimizer.beta_2**steps)
            if self.optimizer.epsilon_hat:
                of["epsilon"] *= of["corrected_root"]
        return rates

    def _batch_l2(self, order: Array, sample_weight: Array | None, n_epochs: int) -> Array | float:
        """Return the coefficient of the L2 penalty, of each batch where it may differ."""
        if self.regularization.l2 == 0:
            return 0.0
        weights = None if sample_weight is None else sample_weight[order]
        totals = batch_weights(len(order), self.batch_size, weights, n_epochs)
        return np.asarray(self.regularization.l2_of(totals))

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
        if isinstance(self.loss, CustomLoss):  # NumPy has to look at every batch
            return super()._train(X, y, order, learning_rates, sample_weight, logits, penalties)
        losses = np.empty(len(learning_rates))
        native = native_rows(X, self.dtype)
        if native is not None:
            given = (*native, y, sample_weight, order, learning_rates)
            return self._train_native(*given, logits, penalties)
        batches = max(1, portion_of(self.n_inputs, self.dtype) // self.batch_size)
        for first in range(0, len(losses), batches):
            span = slice(first * self.batch_size, (first + batches) * self.batch_size)
            rows = order[span]
            losses[first : first + batches] = self._train_native(
                converted(X[rows], self.dtype).ravel(),
                self.n_inputs,
                y[rows],
                None if sample_weight is None else sample_weight[rows],
                np.arange(len(rows)),
                learning_rates[first : first + batches],
                None if logits is None else logits[span],
                None if penalties is None else penalties[first : first + batches],
            )
        return losses

    def _train_epochs(
        self,
        X: Any,
        y: Array,
        order: Array,
        learning_rates: Array,
        sample_weight: Array | None,
        logits: Array | None,
        penalties: Array | None,
        n_epochs: int,
    ) -> Array:
        native = None if isinstance(self.loss, CustomLoss) else native_rows(X, self.dtype)
        if native is None:  # where a portion is converted, a call costs little beside it
            return super()._train_epochs(
                X, y, order, learning_rates, sample_weight, logits, penalties, n_epochs
            )
        given = (*native, y, sample_weight, order, learning_rates, logits, penalties, n_epochs)
        return self._train_native(*given)

    def _train_native(
        self,
        X: Array,
        x_stride: int,
        y: Array,
        sample_weight: Array | None,
        order: Array,
        learning_rates: Array,
        logits: Array | None,
        penalties: Array | None,
        n_epochs: int = 1,
    ) -> Array:
        plan, n_batches = fields(self.memory.plan), len(learning_rates)
        rates = self._rates(learning_rates, self._batch_l2(order, sample_weight, n_epochs))
        call = self._call(X, y, sample_weight, order, rates, logits, penalties)
        plan["x_stride"], plan["epoch_visits"] = x_stride, len(order) // n_epochs
        plan["first_step"], first = self.step, 0
        while first < n_batches:
            n_threads, batches = self.threads.next_call(n_batches - first)
            plan["first_batch"], plan["end_batch"] = first, first + batches
            self._run(self.memory, call, _width(y), n_threads)
            self.step += batches
            first += batches
        return call.losses

    def _call(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        order: Array,
        rates: Any,
        logits: Array | None,
        penalties: Array | None = None,
    ) -> Call:
        """Return what the program reads and writes; what is not there is empty."""
        no_floats = _NO_FLOATS[self.dtype]
        return Call(
            X=X,
            classes=np.ascontiguousarray(y) if y.ndim == 1 else _NO_INTEGERS,
            targets=no_floats if y.ndim == 1 else _flat(y),
            weights=no_floats if sample_weight is None else _flat(sample_weight),
            order=order,
            rates=rates,
            losses=np.empty(len(rates)),
            penalties=_NO_DOUBLES if penalties is None else penalties,
            logits=no_floats if logits is None else logits.reshape(-1),
        )

    def _run(self, memory: Memory, call: Call, target_width: int, n_threads: int) -> None:
        """Run the program on a team of threads, and learn from how long it takes."""
        plan = fields(memory.plan)
        plan["target_width"] = target_width
        plan["has_weights"] = len(call.weights) > 0
        plan["wants_logits"] = len(call.logits) > 0
        plan["wants_penalties"] = len(call.penalties) > 0
        plan["n_visits"] = len(call.order)
        # Before the clock starts: it may have to compile.
        program = compiled(self._program("train", self.batch_size), self.dtype)
        started = time.perf_counter()
        run_team(program, n_threads, self.threads.at_most, (passed(memory), passed(call)))
        whole = min(self.batch_size, int(plan["epoch_visits"][0]))
        batches = int(plan["end_batch"][0] - plan["first_batch"][0]) * whole / self.batch_size
        self.threads.learn(n_threads, batches, time.perf_counter() - started)


class _Mean(NamedTuple):
    """The mean over a batch that some rows, or all of them, belong to."""

    shares: Array  # of the rows
    total: float  # weight
    l1: float = 0.0  # coefficients of the penalties to add
    l2: float = 0.0
    first_row: int = 0  # number in the batch


class _RowRoom(threading.local):
    """What `row` writes to as it goes; each thread has its own."""

    def __init__(self, plan: Any, dtype: np.dtype[Any]) -> None:
        self._arrays = row_room(plan, dtype)
        self.passed = tuple(passed(array) for array in self._arrays)


def _width(y: Array) -> int:
    """Return how many targets a sample has; 0 for a class number."""
    return 0 if y.ndim == 1 else y.shape[1]


def _flat(array: Array) -> Array:
    return writable(np.ascontiguousarray(array)).reshape(-1)
