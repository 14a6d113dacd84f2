"""Backends that are wrong, each in one way that is its name, and the check that must see it."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import replace
from typing import ClassVar

import numpy as np

from fastmlp._weights import total_weight
from fastmlp.backends import Session
from fastmlp.backends.numpy_backend import NumpyBackend, NumpySession
from fastmlp.losses import Loss
from fastmlp.network import layer_views, scale_view
from fastmlp.optimizers import Adagrad, Adam, AdamW, RMSprop


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
        gradient += old if old.any() else 1  # memory that nobody has used may be zeros
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
    def _mask(self, *arguments):
        return np.roll(super()._mask(*arguments), 1)


class DrawsTheFirstRowsMasksForEveryPart(Wrong):
    def _mask(self, layer, shape, first_row):
        return super()._mask(layer, shape, 0)


class DividesPartsByTheirOwnWeight(Wrong):
    def _part_gradient(self, X, y, sample_weight, first_row, total, logits):
        total = total_weight(sample_weight, X.shape[0])
        return super()._part_gradient(X, y, sample_weight, first_row, total, logits)


class PenalizesEveryPart(Wrong):
    def _part_gradient(self, *arguments):
        loss = super()._part_gradient(*arguments)
        self._add_penalty_gradient(self.part, 1.0)
        return loss


class UpdatesByPartsWithoutPenalties(Wrong):
    def _apply_part(self, learning_rate, total):
        self._update(self.part.copy(), learning_rate)


class PenalizesTwice(Wrong):
    def _add_penalty_gradient(self, gradient, total):
        super()._add_penalty_gradient(gradient, total)
        super()._add_penalty_gradient(gradient, total)


class DividesNoPenalty(Wrong):
    def _add_penalty_gradient(self, gradient, total):
        super()._add_penalty_gradient(gradient, 1.0)


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


class WithFactors(Wrong):
    """Wrong where the optimizer has factors on its rate."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        if self.rate_factors is not None:
            self.change(*layer_views(self.rate_factors, self.layer_shapes))

    def change(self, weights, biases):
        """Change the factors in place."""


class IgnoresTheFactorsOfBiases(WithFactors):
    def change(self, weights, biases):
        for factors in biases:
            factors[:] = 1


class TakesTheFactorsOfTheNextLayer(WithFactors):
    def change(self, weights, biases):
        each = [factors[0, 0] for factors in weights]
        for factors, other in zip(weights, np.roll(each, -1), strict=True):
            factors[:] = other


class TakesFactorsForTheGradient(WithFactors):
    def _update(self, gradient, learning_rate):
        factors, self.rate_factors = self.rate_factors, None
        if factors is not None:
            gradient *= factors
        super()._update(gradient, learning_rate)
        self.rate_factors = factors


class DecaysAtTheWholeRate(WithFactors):
    def _update(self, gradient, learning_rate):
        before = self.network.parameters.copy()
        super()._update(gradient, learning_rate)
        if self.rate_factors is not None and getattr(self.optimizer, "decoupled_decay", False):
            rest = learning_rate * (1 - self.rate_factors)
            self.network.parameters -= rest * self.optimizer.weight_decay * before


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


class ForgetsWhereEpochsEnd(Wrong):
    def _train_epochs(self, *arguments):
        X, y, order, learning_rates, *rest, _ = arguments
        losses = np.zeros(len(learning_rates))
        n_batches = -(-len(order) // self.batch_size)
        sample_weight, logits, penalties = rest
        given = (X, y, order, learning_rates[:n_batches], sample_weight, logits)
        losses[:n_batches] = self._train(*given, penalties[:n_batches])
        return losses


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


# Wrong beyond some size ----------------------------------------------------------------------


class PredictsWronglyBeyondAThousandRows(Wrong):
    def _logits(self, X):
        logits = super()._logits(X)
        logits[1000:] = logits[:1]
        return logits


class PredictsWronglyBeyond65535Rows(Wrong):
    def _logits(self, X):
        logits = super()._logits(X)
        logits[65_535:] = logits[:1]
        return logits


class PredictsWronglyInTheFirstRowOfABlock(Wrong):
    def _logits(self, X):
        logits = super()._logits(X)
        logits[120:121] = 0
        return logits


class WrongFrom(Wrong):
    """A gradient whose last part is missing where `applies` says so."""

    def applies(self, n_rows: int) -> bool:
        raise NotImplementedError

    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        loss = super()._loss_and_gradient(X, y, sample_weight, gradient, logits)
        if self.applies(X.shape[0]):
            gradient[len(gradient) // 2 :] = 0
        return loss


class FailsFromBatch128(WrongFrom):
    def applies(self, n_rows):
        return n_rows >= 128 and self.batch_size >= 128


class FailsFromBatch256(WrongFrom):
    def applies(self, n_rows):
        return n_rows >= 256 and self.batch_size >= 256


class FailsFromBatch600(WrongFrom):
    def applies(self, n_rows):
        return n_rows >= 600


class FailsInFloat64FromBatch128(WrongFrom):
    def applies(self, n_rows):
        return n_rows >= 128 and self.dtype == np.float64


class FailsOnWideDenseLayersInFloat64(WrongFrom):
    def applies(self, n_rows):
        return n_rows * self.n_inputs >= 65_536 and self.dtype == np.float64


class FailsAtWidth13(WrongFrom):
    def applies(self, n_rows):
        return any(13 in shape for shape in self.layer_shapes)


class FailsAtWidth49(WrongFrom):
    def applies(self, n_rows):
        return any(49 in shape for shape in self.layer_shapes)


class FailsAtWidth256(WrongFrom):
    def applies(self, n_rows):
        return any(256 in shape for shape in self.layer_shapes)


class NumbersRowsInSixteenBits(Wrong):
    def _train(self, X, y, order, *rest):
        return super()._train(X, y, order & 0xFFFF, *rest)


# Wrong in what is described ------------------------------------------------------------------


class UsesTheFirstActivationEverywhere(Wrong):
    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        kinds = self.network.hidden_activations
        self.network.hidden_activations = kinds[:1] * len(kinds)


class UsesUsualActivations(Wrong):
    """Forgets negative_slope and alpha."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        kinds = self.network.hidden_activations
        self.network.hidden_activations = tuple(type(kind)() for kind in kinds)


class WithConstants(Wrong):
    constants: ClassVar[dict[str, float]]

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        names = self.constants.keys() & vars(self.optimizer).keys()
        self.optimizer = replace(self.optimizer, **{name: self.constants[name] for name in names})


class FixesItsFirstBeta(WithConstants):
    constants: ClassVar = {"beta_1": 0.9}


class FixesItsSecondBeta(WithConstants):
    constants: ClassVar = {"beta_2": 0.999}


class FixesItsEpsilon(WithConstants):
    constants: ClassVar = {"epsilon": 1e-8}


class FixesItsSmoothing(WithConstants):
    constants: ClassVar = {"smoothing": 0.99}


class ForgetsWeightDecay(WithConstants):
    constants: ClassVar = {"weight_decay": 0.0}


class CutsSeedsTo32Bits(Wrong):
    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.seed &= 0xFFFFFFFF


class CutsStepsTo32Bits(Wrong):
    def _mask(self, *arguments):
        step, self.step = self.step, self.step & 0xFFFFFFFF
        mask = super()._mask(*arguments)
        self.step = step
        return mask


class IgnoresTheInputScale(Wrong):
    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.network.input_scale = 1.0


# Wrong amid zeros and large numbers ----------------------------------------------------------


class ReturnsNanForBatchesWithoutWeight(Wrong):
    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        loss = super()._loss_and_gradient(X, y, sample_weight, gradient, logits)
        return loss if sample_weight is None or sample_weight.any() else np.nan


class CountsWeightsOfZeroAsOne(Wrong):
    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        if sample_weight is not None:
            sample_weight = np.where(sample_weight == 0, 1, sample_weight).astype(self.dtype)
        return super()._loss_and_gradient(X, y, sample_weight, gradient, logits)


class LeavesTheLastBatchInABlankOne(Wrong):
    before = None

    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        if not X.any() and self.before is not None:
            X = np.resize(self.before, X.shape)
        self.before = X
        return super()._loss_and_gradient(X, y, sample_weight, gradient, logits)


class SkipsBlankRows(Wrong):
    def _logits(self, X):
        logits = super()._logits(X)
        logits[~X.any(axis=1)] = 0
        return logits


class OverflowsInLargeLogits(Wrong):
    def _loss_and_gradient(self, X, y, sample_weight, gradient, logits=None):
        loss = super()._loss_and_gradient(X, y, sample_weight, gradient, logits)
        with np.errstate(over="ignore"):
            return loss + 0 * np.exp(self._logits(X)).sum()


class DensifiesSparseRowsByMagnitude(Wrong):
    def _logits(self, X):
        return super()._logits(abs(X) * 2 if hasattr(X, "toarray") else X)


class ScalesBytesInWholeNumbers(Wrong):
    def _logits(self, X):
        if X.dtype == np.uint8:
            X = (X * self.input_scale).astype(np.uint8)
        return super()._logits(X)


class PredictsOtherOutputs(Wrong):
    def _predict(self, X, kind):
        predicted = super()._predict(X, kind)
        return predicted * predicted.dtype.type(0.999) if kind == "outputs" else predicted


class PrefersTheLastClass(Wrong):
    def _predict(self, X, kind):
        predicted = super()._predict(X, kind)
        if kind == "decisions" and self.output_activation.name == "softmax" and len(X) > 1:
            predicted[0] = self.n_outputs - 1
        return predicted


class TakesNanInPredictions(Wrong):
    def _predict(self, X, kind):
        if kind == "decisions" and not np.isfinite(X).all():
            X = np.nan_to_num(X)
        return super()._predict(X, kind)


class ComputesLogitsInEveryRowFunction(Wrong):
    def row_function(self, output):
        def compute(x, out):
            if not np.isfinite(x).all():
                return False
            out[:] = self._logits(x[np.newaxis])[0]
            return True

        return compute


class TakesNanInRowFunctions(Wrong):
    def row_function(self, output):
        def compute(x, out):
            rows = x[np.newaxis]
            out[:] = (self.logits if output == "linear" else self.outputs)(rows)[0]
            return True

        return compute


class SumsLargeBatchesInTheOrderOfThreads(Wrong):
    def _train(self, X, y, *rest):
        losses = super()._train(X, y, *rest)
        if self.n_threads == 2 and len(y) > 64 and self.batch_size > 127:
            self.network.parameters[-1] = np.nextafter(self.network.parameters[-1], 9)
        return losses


class DividesByTheRootAlone(Wrong):
    """A missing epsilon: nothing over nothing where no gradient ever was."""

    def _update(self, gradient, learning_rate):
        kept = self.optimizer
        if hasattr(kept, "epsilon"):
            self.optimizer = replace(kept, epsilon=1e-320)
        with np.errstate(all="ignore"):
            super()._update(gradient, learning_rate)
        self.optimizer = kept


class LeavesAdamsEpsilonOutInFloat32(Wrong):
    """Right where no gradient ever was, and where epsilon is far below or is given."""

    kind: ClassVar = Adam

    def _update(self, gradient, learning_rate):
        kept = self.optimizer
        if type(kept) is self.kind and kept.epsilon < 1e-6 and self.dtype == np.float32:
            self.optimizer = replace(kept, epsilon=1e-37)
        super()._update(gradient, learning_rate)
        self.optimizer = kept


class LeavesAdamWsEpsilonOutInFloat32(LeavesAdamsEpsilonOutInFloat32):
    kind = AdamW


class LeavesRMSpropsEpsilonOutInFloat32(LeavesAdamsEpsilonOutInFloat32):
    kind = RMSprop


class LeavesAdagradsEpsilonOutInFloat32(LeavesAdamsEpsilonOutInFloat32):
    kind = Adagrad


class ReportsPenaltiesAfterTheUpdate(Wrong):
    def _train(self, X, y, order, learning_rates, sample_weight, logits, penalties):
        losses = super()._train(X, y, order, learning_rates, sample_weight, logits, penalties)
        if penalties is not None:
            penalties[:-1] = penalties[1:].copy()
        return losses


class WrongWithScale(Wrong):
    """A mutant that is right for networks without a scaling layer."""


class NeverUpdatesItsScale(WrongWithScale):
    def _update(self, gradient, learning_rate):
        before = None if self.network.scale is None else self.network.scale.copy()
        super()._update(gradient, learning_rate)
        if before is not None:
            self.network.scale = before


class LeavesTheLastPanelOutOfItsScale(WrongWithScale):
    """The gradient by the scaling layer's factors without what the last 16 units add to it."""

    def _backward(self, delta, inputs, slopes, gradient):
        super()._backward(delta, inputs, slopes, gradient)
        scale = self.network.scale
        if scale is not None:
            w, g = self.network.weights[0], layer_views(gradient, self.layer_shapes)[0][0]
            last = slice((w.shape[1] - 1) // 16 * 16 or w.shape[1], None)
            own = np.sum(g[:, last] / scale[:, None] * w[:, last], axis=1)
            scale_view(gradient, self.layer_shapes)[:] -= own


class LeavesTheLastInputsOutOfItsScale(WrongWithScale):
    """The gradient by the scaling layer's factors without those beyond the last whole vector."""

    def _backward(self, delta, inputs, slopes, gradient):
        super()._backward(delta, inputs, slopes, gradient)
        if self.network.scale is not None and self.n_inputs > 16:
            scale_view(gradient, self.layer_shapes)[self.n_inputs // 16 * 16 :] = 0


class PenalizesItsScale(WrongWithScale):
    def _add_penalty_gradient(self, gradient, total):
        super()._add_penalty_gradient(gradient, total)
        if self.network.scale is not None:
            own = scale_view(gradient, self.layer_shapes)
            own += self.regularization.l2_of(total) * self.network.scale


class MeasuresNormsWithoutItsScale(WrongWithScale):
    def _update(self, gradient, learning_rate):
        kept, n = self.regularization, self.n_inputs
        if self.network.scale is not None and kept.clip_norm is not None and not kept.clip_value:
            norm = np.linalg.norm(gradient[:-n])
            gradient *= min(1.0, kept.clip_norm / norm)
            self.regularization = replace(kept, clip_norm=None)
        super()._update(gradient, learning_rate)
        self.regularization = kept


class PredictsWithoutItsScale(WrongWithScale):
    def _logits(self, X):
        network = self.network.copy()
        if network.scale is not None:
            network.scale = np.ones(self.n_inputs)
        return network.forward(X)


class IgnoresTheFactorOfItsScale(WrongWithScale):
    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        if self.network.scale is not None and self.rate_factors is not None:
            scale_view(self.rate_factors, self.layer_shapes)[:] = 1


class LoadsNoScale(WrongWithScale):
    def _load(self, state):
        before = None if self.network.scale is None else self.network.scale.copy()
        super()._load(state)
        if before is not None:
            self.network.scale = before


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
    DividesNoPenalty: "gradient",
    DrawsTheFirstRowsMasksForEveryPart: "parts",
    DividesPartsByTheirOwnWeight: "parts",
    PenalizesEveryPart: "parts",
    UpdatesByPartsWithoutPenalties: "parts",
    ComputesDoublesInSinglePrecision: "gradient",
    ClipsByTheWrongNorm: "update",
    ForgetsMaxNorm: "update",
    AveragesTooSlowly: "update",
    CountsAdamsStepsFromZero: "update",
    IgnoresTheRate: "update",
    IgnoresTheFactorsOfBiases: "update",
    TakesTheFactorsOfTheNextLayer: "update",
    TakesFactorsForTheGradient: "update",
    DecaysAtTheWholeRate: "update",
    LoadsNoMoments: "update",
    DividesByTheBatchSize: "epoch",
    DropsThePartialBatch: "epoch",
    ReportsLogitsAfterTheUpdate: "epoch",
    RestartsItsStepsAtEveryCall: "curves",
    ForgetsWhereEpochsEnd: "bits",
    SumsInTheOrderOfThreads: "bits",
    IsNeverTheSameTwice: "bits",
    StoresViews: "states",
    TrainsWhatItIsBoundTo: "states",
    ReadingIsAStep: "states",
    WritesToItsInputs: "inputs",
    NeedsWritableInputs: "inputs",
    TakesOnlyContiguousRows: "inputs",
    AcceptsAnyWidth: "errors",
    CannotBePickled: "states",
    PredictsWronglyBeyondAThousandRows: "predict",
    PredictsWronglyBeyond65535Rows: "predict",
    PredictsWronglyInTheFirstRowOfABlock: "predict",
    UsesTheFirstActivationEverywhere: "predict",
    UsesUsualActivations: "predict",
    IgnoresTheInputScale: "predict",
    SkipsBlankRows: "predict",
    PredictsOtherOutputs: "predict",
    PrefersTheLastClass: "predict",
    TakesNanInPredictions: "predict",
    ComputesLogitsInEveryRowFunction: "predict",
    TakesNanInRowFunctions: "predict",
    DensifiesSparseRowsByMagnitude: "inputs",
    ScalesBytesInWholeNumbers: "inputs",
    FailsFromBatch128: "gradient",
    FailsFromBatch256: "gradient",
    FailsFromBatch600: "gradient",
    FailsInFloat64FromBatch128: "gradient",
    FailsOnWideDenseLayersInFloat64: "gradient",
    FailsAtWidth13: "gradient",
    FailsAtWidth49: "gradient",
    FailsAtWidth256: "gradient",
    CutsSeedsTo32Bits: "gradient",
    CutsStepsTo32Bits: "gradient",
    ReturnsNanForBatchesWithoutWeight: "gradient",
    CountsWeightsOfZeroAsOne: "gradient",
    OverflowsInLargeLogits: "gradient",
    FixesItsFirstBeta: "update",
    FixesItsSecondBeta: "update",
    FixesItsEpsilon: "update",
    DividesByTheRootAlone: "update",
    LeavesAdamsEpsilonOutInFloat32: "update",
    LeavesAdamWsEpsilonOutInFloat32: "update",
    LeavesRMSpropsEpsilonOutInFloat32: "update",
    LeavesAdagradsEpsilonOutInFloat32: "update",
    FixesItsSmoothing: "update",
    ForgetsWeightDecay: "update",
    NumbersRowsInSixteenBits: "epoch",
    ReportsPenaltiesAfterTheUpdate: "epoch",
    LeavesTheLastBatchInABlankOne: "epoch",
    SumsLargeBatchesInTheOrderOfThreads: "bits",
    PredictsWithoutItsScale: "predict",
    LeavesTheLastPanelOutOfItsScale: "gradient",
    LeavesTheLastInputsOutOfItsScale: "gradient",
    PenalizesItsScale: "gradient",
    NeverUpdatesItsScale: "update",
    IgnoresTheFactorOfItsScale: "update",
    MeasuresNormsWithoutItsScale: "update",
    LoadsNoScale: "update",
}
