"""The Numba backend: sessions that run whole epochs in compiled code."""

from __future__ import annotations

import ctypes
import functools
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._weights import batch_weights, total_weight
from fastmlp.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from fastmlp.backends.base import Backend, Session, TrainingState
from fastmlp.backends.numba_backend import elementwise as e
from fastmlp.backends.numba_backend import layout as lay
from fastmlp.backends.numba_backend import program as p
from fastmlp.backends.numba_backend import single
from fastmlp.backends.numba_backend.ahead import ahead_size
from fastmlp.backends.numba_backend.columns import N_PARTS, list_size
from fastmlp.backends.numba_backend.compiled import JIT_DISABLED, compiled
from fastmlp.backends.numba_backend.terms import lists_size, n_words
from fastmlp.backends.numba_backend.threads import most_threads, run_team, usable_cores
from fastmlp.backends.numba_backend.tiles import PACKED_SIZE
from fastmlp.losses import LOSSES, CustomLoss, Loss
from fastmlp.network import MLP, layer_views
from fastmlp.optimizers import OPTIMIZERS, Adam, EpsilonHatAdam, Optimizer
from fastmlp.regularization import DividedL2, Regularization, mix
from fastmlp.targets import dense_targets, weight_shares

Array = NDArray[Any]

#: Rows that prediction takes through all layers at once.
_PREDICT_ROWS = 120
#: Inputs that are not in the network's dtype are converted in portions of this many bytes.
_PORTION_BYTES = 4 << 20
#: Compiled calls are kept about this short, so that Ctrl-C answers.
_CALL_SECONDS = 0.1
#: Below this many multiply-adds a step, meeting costs more than a second thread brings.
_WORTH_A_TEAM = 400_000
_NO_REALS = np.empty(0)
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

    def unsupported(
        self, network: MLP, loss: Loss, optimizer: Optimizer, regularization: Regularization
    ) -> str | None:
        # Kernels stand for exact types: a subclass may compute anything else.
        for what, one in (
            *(("hidden activation", activation) for activation in network.hidden_activations),
            ("output activation", network.output_activation),
            ("loss", loss),
            ("optimizer", optimizer),
            ("regularization", regularization),
        ):
            if type(one) not in _KNOWN_TYPES:
                return (
                    f"the Numba backend has no kernel for the {what} {type(one).__name__}; "
                    f"the NumPy backend computes any, with backend='numpy'"
                )
        return None

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
        rates = regularization.dropout_rates(network.n_layers)
        n_blocks = 1 + optimizer.n_moments + 2  # parameters, moments, average, gradient
        self.layout = lay.Layout(
            network.layer_shapes,
            network.hidden_activations,
            rates,
            self.dtype,
            batch_size,
            n_blocks,
        )
        self.hyper = _hyper(loss, optimizer, regularization, self.dtype.type(network.input_scale))
        self.threads = _ThreadChoice(n_threads, self.layer_shapes, batch_size)
        try:
            self._allocate(loss, optimizer)
        except MemoryError as error:
            raise MemoryError(
                f"there is not the memory to train on batches of {batch_size} rows; bind a session "
                "with the number of rows that there are at most, or train in smaller batches"
            ) from error
        self._scratch = np.empty(0, dtype=self.dtype)
        self._load(TrainingState.initial(network, optimizer, regularization))

    def _allocate(self, loss: Loss, optimizer: Optimizer) -> None:
        layout, lanes = self.layout, self.layout.lanes
        block = layout.block_size
        wide_output = layout.row_stride(self.n_outputs)
        constants = layout.size
        groups = constants + lanes + wide_output
        group_size = (3 + 2 * layout.panels(self.n_outputs) * lanes) * lanes
        scratch = groups + self.threads.most * group_size
        scratch_size = 2 * p.CHUNK * lanes + PACKED_SIZE
        activity = scratch + self.threads.most * scratch_size
        n_lists = max(self.threads.most, N_PARTS)
        parts = activity + n_lists * layout.row_stride(self.n_inputs)
        size = parts + N_PARTS * self.batch_size * layout.row_stride(self.layer_shapes[0][1])
        self.memory = lay.aligned_zeros(size, self.dtype)
        levels = getattr(loss, "levels", (0.5,))
        self.memory[constants + lanes :][: self.n_outputs] = levels
        self.spec = np.zeros(p.N_SPEC, dtype=np.int64)
        self.spec[p.N_LAYERS] = len(self.layer_shapes)
        self.spec[p.BATCH_SIZE] = self.batch_size
        # A custom loss is differentiated by the logits, outside of the kernels.
        is_custom = isinstance(loss, CustomLoss)
        output = "linear" if is_custom else self.output_activation.name
        self.spec[p.OUTPUT] = lay.OUTPUT_CODES[output]
        self.spec[p.LOSS] = lay.LOSS_CODES[loss.name]
        self.spec[p.OPTIMIZER] = lay.OPTIMIZER_CODES[optimizer.name]
        self.spec[p.N_MOMENTS] = optimizer.n_moments
        self.spec[p.BLOCK_SIZE] = block
        self.spec[p.AVERAGE] = (1 + optimizer.n_moments) * block
        self.spec[p.GRADIENT] = (2 + optimizer.n_moments) * block
        self.spec[p.SECOND_INPUT] = layout.second_input
        self.spec[p.SECOND_HIDDEN] = layout.second_hidden
        self.spec[p.CONSTANTS] = constants
        self.spec[p.GROUPS] = groups
        self.spec[p.GROUP_SIZE] = group_size
        self.spec[p.SCRATCH] = scratch
        self.spec[p.SCRATCH_SIZE] = scratch_size
        self.spec[p.ACTIVITY] = activity
        self.spec[p.PARTS] = parts
        self.spec[p.SEED_KEY] = _seed_key(self.seed)
        lists = np.zeros(2 * n_lists * list_size(self.n_inputs), dtype=np.int64)
        self.columns = np.concatenate((np.arange(self.batch_size), lists))
        marks = 2 * self.batch_size * n_words(self.n_inputs)
        lists = self.threads.most * lists_size(self.batch_size, p.CHUNK)
        self.terms = np.zeros(marks + lists, dtype=np.int64)
        self.ahead = np.zeros(self.threads.most * ahead_size(self.batch_size), dtype=np.int64)
        self.row_losses = np.empty(self.batch_size)
        self.norms = np.empty(e.N_NORM * int(layout.layers[:, lay.OUT_PANELS].sum()))

    # State -----------------------------------------------------------------------------------

    def _block(self, number: int) -> Array:
        return self.memory[number * self.layout.block_size :][: self.layout.block_size]

    def _load(self, state: TrainingState) -> None:
        self.layout.pack(state.parameters, self._block(0))
        for number, moment in enumerate(state.moments, start=1):
            self.layout.pack(moment, self._block(number))
        if state.average is not None:
            self.layout.pack(state.average, self._block(1 + self.optimizer.n_moments))

    def _store(self) -> TrainingState:
        moments = np.empty((self.optimizer.n_moments, self.n_parameters), dtype=self.dtype)
        for number, moment in enumerate(moments, start=1):
            self.layout.unpack(self._block(number), moment)
        average = None
        if self.regularization.ema is not None:
            average = self._flat(1 + self.optimizer.n_moments)
        return TrainingState(self._flat(0), moments, average, self.step)

    def _flat(self, block: int) -> Array:
        flat = np.empty(self.n_parameters, dtype=self.dtype)
        self.layout.unpack(self._block(block), flat)
        return flat

    def _weight_matrices(self) -> list[Array]:
        return layer_views(self._flat(0), self.layer_shapes)[0]

    # Prediction ------------------------------------------------------------------------------

    def _logits(self, X: Any) -> Array:
        n_samples = X.shape[0]
        out = np.empty((n_samples, self.n_outputs), dtype=self.dtype)
        native = _native_rows(X, self.dtype)
        if native is not None:
            self._predict(*native, n_samples, out)
            return out
        portion = _portion(self.n_inputs, self.dtype)
        for start in range(0, n_samples, portion):
            rows = _converted(X[start : start + portion], self.dtype)
            self._predict(rows.ravel(), self.n_inputs, len(rows), out[start : start + portion])
        return out

    def _predict(self, X: Array, x_stride: int, n_samples: int, out: Array) -> None:
        if n_samples == 0:
            return
        n_threads = min(self.threads.for_prediction(n_samples), -(-n_samples // _PREDICT_ROWS))
        block_rows = min(_PREDICT_ROWS, n_samples)
        widest = max(self.layout.row_stride(size) for shape in self.layer_shapes for size in shape)
        scratch_size = PACKED_SIZE + 2 * block_rows * widest
        if len(self._scratch) < n_threads * scratch_size:
            self._scratch = lay.aligned_zeros(n_threads * scratch_size, self.dtype)
        arguments = (
            self.spec,
            self.layout.layers.reshape(-1),
            self.layout.reals.reshape(-1),
            self.hyper,
            self.memory,
            self._scratch,
            scratch_size,
            block_rows,
            X,
            x_stride,
            n_samples,
            out.reshape(-1),
        )
        run_team(compiled("predict", self.dtype), n_threads, self.threads.at_most, arguments)

    def row_function(self, output: str) -> Callable[[Array, Array], bool]:
        plan = single.make_plan(self.layout, output, self.hyper[e.INPUT_SCALE])
        return functools.partial(compiled("row", self.dtype), plan, self.memory)

    # Training --------------------------------------------------------------------------------

    def _loss_and_gradient(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None = None,
    ) -> float:
        if not isinstance(self.loss, CustomLoss):
            return self._pass(X, y, sample_weight, gradient, logits)
        z = np.empty((X.shape[0], self.n_outputs), dtype=self.dtype)
        self._pass(X, np.zeros_like(z), sample_weight, gradient, z)
        if logits is not None:
            logits[:] = z
        targets = dense_targets(y, self.n_outputs, self.dtype)
        outputs = self.output_activation.forward(z, out=np.empty_like(z))
        values = self.loss.value(z, outputs, targets, self.output_activation)
        delta = self.loss.delta(z, outputs, targets, self.output_activation)
        self._pass(X, delta.astype(self.dtype), sample_weight, gradient, None)
        shares = weight_shares(sample_weight, len(values), np.dtype(np.float64))
        return float(np.dot(values.astype(np.float64), shares))

    def _pass(
        self,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        gradient: Array,
        logits: Array | None,
    ) -> float:
        """Write the gradient of rows forward and back; return their loss without penalties."""
        n_samples = X.shape[0]
        total = total_weight(sample_weight, n_samples)
        rates = self._rates(np.zeros(1), self.regularization.l2_of(total))
        spec, hyper = self.spec.copy(), self.hyper.copy()
        spec[p.GRADIENT_ONLY] = 1
        hyper[e.CLIP_VALUE] = math.inf
        whole, loss = np.zeros_like(self._block(0)), 0.0
        for start in range(0, n_samples, self.batch_size):
            rows = slice(start, start + self.batch_size)
            spec[p.FIRST_ROW] = start
            part = _native_or_converted(X[rows], self.dtype)
            n_rows = min(self.batch_size, n_samples - start)
            loss += self._run(
                spec,
                hyper,
                *part,
                y[rows],
                None if sample_weight is None else sample_weight[rows],
                total if total > 0 else math.inf,
                np.arange(n_rows),
                rates,
                None if logits is None else logits[rows],
                _NO_REALS,
            )[0]
            whole += self._block(2 + self.optimizer.n_moments)
            hyper[e.L1] = rates[:, e.L2] = 0.0  # penalties belong to the objective once
        self.layout.unpack(whole, gradient)
        return float(loss)

    def _update(self, gradient: Array, learning_rate: float) -> None:
        self.layout.pack(gradient, self._block(2 + self.optimizer.n_moments))
        compiled("apply", self.dtype)(
            self.spec,
            self.layout.layers.reshape(-1),
            self.hyper,
            self.memory,
            self.norms,
            self._rates(np.array([learning_rate]), 0.0).reshape(-1),
        )
        self.step += 1

    def _rates(self, learning_rates: Array, l2: Array | float) -> Array:
        """Return what differs in each of the next steps, of shape (n_steps, N_RATES)."""
        rates = np.ones((len(learning_rates), e.N_RATES))
        rates[:, e.RATE], rates[:, e.L2] = learning_rates, l2
        rates[:, e.EPSILON] = getattr(self.optimizer, "epsilon", 0.0)
        if isinstance(self.optimizer, Adam):
            steps = self.step + 1 + np.arange(len(rates))
            correction = 1 - self.optimizer.beta_1**steps
            rates[:, e.CORRECTED_RATE] = learning_rates / correction
            rates[:, e.CORRECTED_ROOT] = 1 / np.sqrt(1 - self.optimizer.beta_2**steps)
            if self.optimizer.epsilon_hat:
                rates[:, e.EPSILON] *= rates[:, e.CORRECTED_ROOT]
        return rates

    def _batch_l2(self, order: Array, sample_weight: Array | None) -> Array | float:
        """Return the coefficient of the L2 penalty, of each batch where it may differ."""
        if self.regularization.l2 == 0:
            return 0.0
        weights = None if sample_weight is None else sample_weight[order]
        totals = batch_weights(len(order), self.batch_size, weights)
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
        native = _native_rows(X, self.dtype)
        if native is not None:
            given = (*native, y, sample_weight, order, learning_rates)
            self._train_native(*given, logits, losses, penalties)
            return losses
        batches = max(1, _portion(self.n_inputs, self.dtype) // self.batch_size)
        for first in range(0, len(losses), batches):
            span = slice(first * self.batch_size, (first + batches) * self.batch_size)
            rows = order[span]
            converted = _converted(X[rows], self.dtype)
            self._train_native(
                converted.ravel(),
                self.n_inputs,
                y[rows],
                None if sample_weight is None else sample_weight[rows],
                np.arange(len(rows)),
                learning_rates[first : first + batches],
                None if logits is None else logits[span],
                losses[first : first + batches],
                None if penalties is None else penalties[first : first + batches],
            )
        return losses

    def _train_native(
        self,
        X: Array,
        x_stride: int,
        y: Array,
        sample_weight: Array | None,
        order: Array,
        learning_rates: Array,
        logits: Array | None,
        losses: Array,
        penalties: Array | None,
    ) -> None:
        compiled("train", self.dtype)  # now, so that the first call's time is not that of compiling
        first = 0
        while first < len(losses):
            n_threads, batches = self.threads.next_call(len(losses) - first)
            span = slice(first * self.batch_size, (first + batches) * self.batch_size)
            self.spec[p.FIRST_STEP] = self.step
            batch = slice(first, first + batches)
            part = _NO_REALS if penalties is None else np.empty(batches)
            rates = self._rates(learning_rates[batch], self._batch_l2(order[span], sample_weight))
            started = time.perf_counter()
            losses[batch] = self._run(
                self.spec,
                self.hyper,
                X,
                x_stride,
                y,
                sample_weight,
                0.0,
                order[span],
                rates,
                None if logits is None else logits[span],
                part,
                n_threads,
            )
            if penalties is not None:
                penalties[batch] = part
            self.threads.learn(n_threads, batches, time.perf_counter() - started)
            self.step += batches
            first += batches

    def _run(
        self,
        spec: Array,
        hyper: Array,
        X: Array,
        x_stride: int,
        y: Array,
        sample_weight: Array | None,
        total_weight: float,
        order: Array,
        rates: Array,
        logits: Array | None,
        penalties: Array,
        n_threads: int | None = None,
    ) -> Array:
        """Run the program over `order` and return every batch's loss; fill `penalties`."""
        spec[p.TARGET_WIDTH] = 0 if y.ndim == 1 else y.shape[1]
        spec[p.HAS_WEIGHTS] = sample_weight is not None
        spec[p.WANTS_LOGITS] = logits is not None
        spec[p.FIRST_STEP] = self.step
        no_floats = np.empty(0, dtype=self.dtype)
        losses = np.empty(len(rates))
        arguments = (
            spec,
            self.layout.layers.reshape(-1),
            self.layout.reals.reshape(-1),
            hyper,
            self.memory,
            X,
            x_stride,
            np.ascontiguousarray(y) if y.ndim == 1 else np.empty(0, dtype=np.int64),
            no_floats if y.ndim == 1 else _writable(np.ascontiguousarray(y)).reshape(-1),
            no_floats if sample_weight is None else _writable(np.ascontiguousarray(sample_weight)),
            total_weight,
            order,
            rates.reshape(-1),
            losses,
            penalties,
            self.row_losses,
            no_floats if logits is None else logits.reshape(-1),
            self.columns,
            self.terms,
            self.ahead,
            self.norms,
        )
        if n_threads is None:
            n_threads, _ = self.threads.next_call(1)
        run_team(compiled("train", self.dtype), n_threads, self.threads.at_most, arguments)
        return losses


class _ThreadChoice:
    """How many threads the next compiled call gets, and how long it may be.

    A given number is kept. Otherwise the choice follows the measured speed: now and then a short
    call tries another number, so that a core taken by another process, or given back, is noticed.

    Parameters
    ----------
    n_threads : int or None
    layer_shapes : list of (int, int)
    batch_size : int
    """

    #: One call in so many is a trial, and lasts this share of an ordinary one.
    _TRIAL_EVERY = 8
    _TRIAL_SHARE = 1 / 8
    #: What a trial must gain before the choice changes, by the best of so many last calls each.
    _GAIN = 1.05
    _MEMORY = 3

    def __init__(
        self, n_threads: int | None, layer_shapes: list[tuple[int, int]], batch_size: int
    ) -> None:
        cores = 1 if JIT_DISABLED else usable_cores()
        self.most = (1 if JIT_DISABLED else min(n_threads, most_threads())) if n_threads else cores
        work = batch_size * sum(3 * n_in * n_out for n_in, n_out in layer_shapes)
        self._row_work = work / batch_size
        if n_threads or cores == 1:
            self._candidates = [self.most]
        elif work < _WORTH_A_TEAM:
            self._candidates = [1]
        else:
            self._candidates = [1, cores] if cores <= 3 else [1, cores // 2, cores]
        #: No more threads than this at once in the process, unless the user asked for them.
        self.at_most = None if n_threads else cores
        self._choice = self._candidates[-1]
        self._recent: dict[int, deque[float]] = {
            n: deque(maxlen=self._MEMORY) for n in self._candidates
        }
        self._calls = 0

    def for_prediction(self, n_samples: int) -> int:
        """Return the number of threads for the forward pass of so many rows."""
        if self.at_most is None:
            return self.most
        return self._choice if n_samples * self._row_work / 3 > _WORTH_A_TEAM else 1

    def next_call(self, batches: int) -> tuple[int, int]:
        """Return the number of threads and of batches, at most `batches`, of the next call."""
        self._calls += 1
        n_threads = self._choice
        least_known = min(self._candidates, key=lambda n: len(self._recent[n]))
        trial = len(self._recent[least_known]) < self._MEMORY
        if trial:
            n_threads = least_known
        elif len(self._candidates) > 1 and self._calls % self._TRIAL_EVERY == 0:
            trial, n_threads = True, self._next_candidate()
        known = self._recent[n_threads] or self._recent[self._choice]
        if not known:  # a first short call
            return n_threads, min(batches, 8)
        wanted = _CALL_SECONDS * (self._TRIAL_SHARE if trial else 1) / min(known)
        return n_threads, int(max(1, min(batches, wanted)))

    def learn(self, n_threads: int, batches: int, seconds: float) -> None:
        """Take note that a call took `seconds`."""
        self._recent[n_threads].append(seconds / batches)
        known = {n: min(times) for n, times in self._recent.items() if len(times) == self._MEMORY}
        if self._choice in known:
            best = min(known, key=lambda n: known[n])
            if known[self._choice] > self._GAIN * known[best]:
                self._choice = best

    def _next_candidate(self) -> int:
        others = [n for n in self._candidates if n != self._choice]
        return others[self._calls // self._TRIAL_EVERY % len(others)]


def _hyper(
    loss: Loss, optimizer: Optimizer, regularization: Regularization, input_scale: float
) -> Array:
    """Return the array of the kernels' real parameters."""
    values = np.zeros(e.N_HYPER)
    r = regularization
    values[e.L1] = r.l1
    values[e.CLIP_VALUE] = math.inf if r.clip_value is None else r.clip_value
    values[e.CLIP_NORM] = math.inf if r.clip_norm is None else r.clip_norm
    values[e.MAX_NORM] = math.inf if r.max_norm is None else r.max_norm
    values[e.EMA_RATE] = 0.0 if r.ema is None else 1 - r.ema
    values[e.NOISE] = r.input_noise
    values[e.INPUT_SCALE] = input_scale  # in the dtype: lanes and single elements agree
    values[e.MOMENTUM] = getattr(optimizer, "momentum", 0.0)
    values[e.NESTEROV] = getattr(optimizer, "nesterov", False)
    values[e.BETA_1] = getattr(optimizer, "beta_1", 0.0)
    values[e.BETA_2] = getattr(optimizer, "beta_2", getattr(optimizer, "smoothing", 0.0))
    values[e.WEIGHT_DECAY] = getattr(optimizer, "weight_decay", 0.0)
    values[e.DECOUPLED] = getattr(optimizer, "decoupled_decay", False)
    values[e.LOSS_PARAMETER] = getattr(loss, "scale", getattr(loss, "threshold", 0.0))
    values[e.SMOOTHING] = getattr(loss, "label_smoothing", 0.0)
    return values


def _seed_key(seed: int) -> int:
    """Return the part of `fastmlp.regularization.stream_key` that depends on the seed alone."""
    key = mix(seed + 0x9E3779B9)
    return mix(key ^ mix((seed >> 32) + 0x85EBCA6B))


def _portion(n_inputs: int, dtype: np.dtype[Any]) -> int:
    """Return how many rows are converted at once."""
    return max(1, _PORTION_BYTES // (n_inputs * dtype.itemsize))


def _native_rows(X: Any, dtype: np.dtype[Any]) -> tuple[Array, int] | None:
    """Return rows as a 1-D array and their stride, without a copy, or None where that cannot be."""
    if not isinstance(X, np.ndarray) or X.dtype != dtype or not X.dtype.isnative:
        return None
    row, column = X.strides
    if X.size == 0 or X.ctypes.data % dtype.itemsize:
        return None
    if (X.shape[1] > 1 and column != dtype.itemsize) or row < 0 or row % dtype.itemsize:
        return None
    stride = row // dtype.itemsize if X.shape[0] > 1 else X.shape[1]
    count = (X.shape[0] - 1) * stride + X.shape[1]
    flat = np.lib.stride_tricks.as_strided(X, (count,), (dtype.itemsize,), writeable=False)
    return _writable(np.asarray(flat)), stride


def _writable(array: Array) -> Array:
    """Return a view that Numba sees as writable: a read-only type would compile everything anew.

    Kernels never write to it.
    """
    if array.flags.writeable or not array.size:
        return array
    # The buffer does not own the memory: the caller keeps `array` alive during the call.
    raw = (ctypes.c_ubyte * array.nbytes).from_address(array.ctypes.data)
    return np.ctypeslib.as_array(raw).view(array.dtype)


def _converted(rows: Any, dtype: np.dtype[Any]) -> Array:
    """Return a portion of rows of any dtype, or sparse, as a contiguous array."""
    dense = rows.toarray() if hasattr(rows, "toarray") else rows
    return _writable(np.ascontiguousarray(dense, dtype=dtype))


def _native_or_converted(X: Any, dtype: np.dtype[Any]) -> tuple[Array, int]:
    native = _native_rows(X, dtype)
    return (_converted(X, dtype).ravel(), X.shape[1]) if native is None else native
