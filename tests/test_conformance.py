"""Our backends pass the conformance kit, and the kit catches backends that are wrong."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import replace

import numpy as np
import pytest

from fastmlp import testing
from fastmlp.backends import Backend, Session
from fastmlp.backends.numpy_backend import NumpyBackend, NumpySession
from fastmlp.losses import Loss
from fastmlp.network import layer_views
from fastmlp.optimizers import Adam
from fastmlp.regularization import Regularization
from fastmlp.testing import CHECKS, REGULARIZATION_CASES, ConformanceError, check_backend


@pytest.mark.parametrize("check", CHECKS)
def test_our_backends_conform(backend: Backend, check: str):
    check_backend(backend, [check])


def test_a_name_will_do():
    check_backend("numpy", ["errors"])


def test_an_unknown_check_is_refused():
    with pytest.raises(ValueError, match="unknown check 'speed'; choose of 'predict', 'gradient'"):
        check_backend("numpy", ["speed"])


# Wrong backends ------------------------------------------------------------------------------


class Wrong(NumpySession):
    """A mutant: right, but for what a subclass breaks."""


class WrongBackend(NumpyBackend):
    name = "wrong"

    def __init__(self, session: type[NumpySession]) -> None:
        self.session = session

    def _bind(
        self, network, loss, optimizer, regularization, batch_size, n_threads, seed
    ) -> Session:
        session = self.session(network, loss, optimizer, regularization, batch_size, seed)
        session.n_threads = n_threads
        return session


class ForgetsTheLastBias(Wrong):
    def _logits(self, X):
        return super()._logits(X) - self.network.biases[-1]


class AddsToTheGradient(Wrong):
    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        old = gradient.copy()
        loss = super()._loss_and_gradient(X, y, sample_weight, gradient, logits)
        gradient += old
        return loss


class SkipsTheBiasGradient(Wrong):
    def _backward(self, delta, inputs, slopes, gradient):
        super()._backward(delta, inputs, slopes, gradient)
        layer_views(gradient, self.layer_shapes)[1][0][:] = 0


class DiagonalSoftmax(Wrong):
    """The derivative of softmax without its off-diagonal part."""

    def _loss_and_gradient(self, *arguments):
        if self.output_activation.name == "softmax" and self.loss.name == "mse":
            self.loss = DiagonalLoss(self.loss)
        return super()._loss_and_gradient(*arguments)


class DiagonalLoss(Loss):
    def __init__(self, loss: Loss) -> None:
        self.__dict__["loss"] = loss

    def value(self, *arguments):
        return self.loss.value(*arguments)

    def gradient(self, *arguments):
        return self.loss.gradient(*arguments)

    def delta(self, logits, outputs, targets, output):
        return self.loss.gradient(outputs, targets) * outputs * (1 - outputs)


class DividesByTheBatchSize(Wrong):
    """The mean of a partial last batch over a whole batch's rows."""

    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        loss = super()._loss_and_gradient(X, y, sample_weight, gradient, logits)
        if len(y) < self.batch_size:
            gradient *= len(y) / self.batch_size
        return loss


class DropsThePartialBatch(Wrong):
    def _train(self, X, y, order, learning_rates, sample_weight, logits, penalties):
        whole = len(order) // self.batch_size
        losses = np.zeros(len(learning_rates))
        rows = order[: whole * self.batch_size]
        part = None if logits is None else logits[: len(rows)]
        losses[:whole] = super()._train(X, y, rows, learning_rates[:whole], sample_weight, part)
        self.step += len(learning_rates) - whole
        return losses


class IgnoresWeights(Wrong):
    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        return super()._loss_and_gradient(X, y, None, gradient, logits)


class WritesToItsInputs(Wrong):
    def _train(self, X, y, order, *rest):
        losses = super()._train(X, y, order, *rest)
        ctypes.memset(order.ctypes.data, 0, 8)  # as compiled code may, whatever the flags say
        return losses


class NeedsWritableInputs(Wrong):
    def _train(self, X, y, order, *rest):
        order.sort()
        return super()._train(X, y, order, *rest)


class DrawsOtherMasks(Wrong):
    def _mask(self, layer, shape):
        return np.roll(super()._mask(layer, shape), 1)


class PenalizesTwice(Wrong):
    def _add_penalty_gradient(self, gradient, total):
        super()._add_penalty_gradient(gradient, total)
        super()._add_penalty_gradient(gradient, total)


class ClipsByTheWrongNorm(Wrong):
    def _update(self, gradient, learning_rate):
        limit = self.regularization.clip_norm
        if limit is not None:
            self.regularization = replace(self.regularization, clip_norm=0.999 * limit)
        super()._update(gradient, learning_rate)
        self.regularization = replace(self.regularization, clip_norm=limit)


class ForgetsMaxNorm(Wrong):
    def _update(self, gradient, learning_rate):
        kept = self.regularization
        self.regularization = replace(kept, max_norm=None)
        super()._update(gradient, learning_rate)
        self.regularization = kept


class AveragesTooSlowly(Wrong):
    def _update(self, gradient, learning_rate):
        kept = self.regularization
        if kept.ema is not None:
            self.regularization = replace(kept, ema=kept.ema + 1e-4)
        super()._update(gradient, learning_rate)
        self.regularization = kept


class CountsAdamsStepsFromZero(Wrong):
    def _update(self, gradient, learning_rate):
        if isinstance(self.optimizer, Adam):
            self.step -= self.step > 1
            super()._update(gradient, learning_rate)
            self.step += self.step > 1
        else:
            super()._update(gradient, learning_rate)


class IgnoresTheRate(Wrong):
    def _update(self, gradient, learning_rate):
        super()._update(gradient, self.optimizer.learning_rate)


class ComputesInHalfPrecision(Wrong):
    def _logits(self, X):
        return super()._logits(X).astype(np.float16).astype(self.dtype)


class ComputesDoublesInSinglePrecision(Wrong):
    def _loss_and_gradient(self, *arguments):
        loss = super()._loss_and_gradient(*arguments)
        arguments[3][:] = arguments[3].astype(np.float32)
        return loss


class ReportsLogitsAfterTheUpdate(Wrong):
    def _train(self, X, y, order, learning_rates, sample_weight, logits, penalties):
        losses = super()._train(X, y, order, learning_rates, sample_weight, logits, penalties)
        if logits is not None:
            logits[:] = self._logits(X[order])
        return losses


class RestartsItsStepsAtEveryCall(Wrong):
    def _train(self, *arguments):
        self.step = 0
        return super()._train(*arguments)


class SumsInTheOrderOfThreads(Wrong):
    def _train(self, *arguments):
        losses = super()._train(*arguments)
        if self.n_threads == 3:
            self.network.parameters[0] = np.nextafter(self.network.parameters[0], 9)
        return losses


class IsNeverTheSameTwice(Wrong):
    def _train(self, *arguments):
        losses = super()._train(*arguments)
        self.network.parameters *= 1 + 1e-6 * np.random.default_rng().normal()
        return losses


class StoresViews(Wrong):
    def _store(self):
        return replace(super()._store(), parameters=self.network.parameters)


class LoadsNoMoments(Wrong):
    def _load(self, state):
        super()._load(replace(state, moments=np.zeros_like(state.moments)))


class TrainsWhatItIsBoundTo(Wrong):
    def __init__(self, network, *rest) -> None:
        super().__init__(network, *rest)
        self.network = network


class ReadingIsAStep(Wrong):
    def _logits(self, X):
        self.step += 1
        return super()._logits(X)


class AcceptsAnyWidth(Wrong):
    def logits(self, X):
        X = np.asarray(X, dtype=self.dtype)
        return super().logits(X[..., : self.n_inputs])


class TakesOnlyContiguousRows(Wrong):
    def _train(self, X, *rest):
        order = "C" if X.flags.c_contiguous else "F"
        return super()._train(X.ravel(order).reshape(X.shape), *rest)


class CannotBePickled(Wrong):
    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.lock = threading.Lock()


#: Every mutant, and a check that must see it.
MUTANTS = {
    ForgetsTheLastBias: "predict",
    ComputesInHalfPrecision: "predict",
    AddsToTheGradient: "gradient",
    SkipsTheBiasGradient: "gradient",
    DiagonalSoftmax: "gradient",
    IgnoresWeights: "gradient",
    DrawsOtherMasks: "gradient",
    PenalizesTwice: "gradient",
    ComputesDoublesInSinglePrecision: "gradient",
    ClipsByTheWrongNorm: "update",
    ForgetsMaxNorm: "update",
    AveragesTooSlowly: "update",
    CountsAdamsStepsFromZero: "update",
    IgnoresTheRate: "update",
    LoadsNoMoments: "update",
    DividesByTheBatchSize: "epoch",
    DropsThePartialBatch: "epoch",
    ReportsLogitsAfterTheUpdate: "epoch",
    RestartsItsStepsAtEveryCall: "curves",
    SumsInTheOrderOfThreads: "bits",
    IsNeverTheSameTwice: "bits",
    StoresViews: "states",
    TrainsWhatItIsBoundTo: "states",
    ReadingIsAStep: "states",
    WritesToItsInputs: "inputs",
    NeedsWritableInputs: "inputs",
    TakesOnlyContiguousRows: "inputs",
    AcceptsAnyWidth: "errors",
    CannotBePickled: "trainer",
}


def test_the_unbroken_mutant_passes():
    check_backend(WrongBackend(Wrong), ["predict", "update", "states", "inputs"])


@pytest.mark.parametrize(("mutant", "check"), MUTANTS.items())
def test_a_wrong_backend_is_caught(mutant: type[NumpySession], check: str):
    with pytest.raises(ConformanceError, match=f"{check}: "):
        check_backend(WrongBackend(mutant), [check])


def test_all_failed_checks_are_listed():
    with pytest.raises(ConformanceError) as caught:
        check_backend(WrongBackend(AddsToTheGradient), ["predict", "gradient", "update", "epoch"])
    title, *failures = str(caught.value).splitlines()
    assert title == "WrongBackend() is not like the reference"
    assert [line.split(":")[0] for line in failures] == ["gradient", "epoch"]


def test_an_error_in_a_check_is_reported_with_its_cause():
    with pytest.raises(
        ConformanceError, match="trainer: raises TypeError: cannot pickle"
    ) as caught:
        check_backend(WrongBackend(CannotBePickled), ["trainer"])
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_message_says_where_and_by_how_much():
    message = r"logits differ from the reference by [\d.e-]+, allowed is [\d.e-]+ \(layers \(5, 18"
    with pytest.raises(ConformanceError, match=message):
        check_backend(WrongBackend(ForgetsTheLastBias), ["predict"])


def test_all_at_once_is_regularized():
    for name, nothing in vars(Regularization()).items():
        assert getattr(REGULARIZATION_CASES[-1], name) != nothing


def test_the_reference_refuses_every_mistake():
    mistakes = list(testing._mistakes(testing.Setting()))
    assert len(mistakes) > 20
    for name, call in mistakes:
        assert testing._outcome(call, NumpyBackend()).startswith(("ValueError", "TypeError")), name
