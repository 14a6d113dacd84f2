"""Minimizing scikit-learn's objective with the library's sessions.

scikit-learn's objective sums the losses of several outputs, ours takes their mean (only softmax has
one loss for all outputs). `Objective.n_terms` is the factor between the two; it goes into the
penalty, the learning rate of SGD and Adam's epsilon, so that updates are scikit-learn's. The loss
that scikit-learn reports differs from ours in a constant and where it clips probabilities: by
`Objective.differences`, which the stopping rules see and no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from fastmlp._weights import batch_weights, total_weight
from fastmlp.activations import OutputActivation
from fastmlp.backends.base import Session, TrainingState
from fastmlp.losses import CrossEntropy, Loss
from fastmlp.network import MLP
from fastmlp.sklearn._learned import OptimizerState
from fastmlp.targets import dense_targets

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Rows, targets as `prepare_targets` returns them, and weights."""

    X: Any
    targets: Array
    weights: Array | None

    @property
    def total_weight(self) -> float:
        """The sum of the weights, or the number of samples."""
        return total_weight(self.weights, len(self.targets))


@dataclass(frozen=True)
class Objective:
    """What is minimized: a loss, and alpha / (2 n) times the sum of squared weights."""

    loss: Loss
    alpha: float
    #: How many losses of single outputs scikit-learn adds up.
    n_terms: int

    @property
    def l2(self) -> float:
        """The coefficient of the penalty, which every batch divides by its weight."""
        return self.alpha / self.n_terms

    @property
    def clips(self) -> bool:
        """Whether scikit-learn clips the probabilities whose loss it reports."""
        return self.loss == CrossEntropy()

    def reported(self, loss: Any, penalty: Any) -> Any:
        """Return the loss of a batch as scikit-learn reports it, but for `differences`."""
        # Of squared errors scikit-learn reports the mean over outputs but descends on their sum.
        summed = self.loss.name in ("cross_entropy", "poisson")
        return (loss * self.n_terms if summed else loss) + penalty * self.n_terms

    def differences(self, targets: Array, logits: Array | None, output: OutputActivation) -> Array:
        """Return what scikit-learn's loss of each row has on top of ours.

        Parameters
        ----------
        targets : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        logits : ndarray of shape (n_samples, n_outputs) or None
            Used if `clips`.
        output : OutputActivation

        Returns
        -------
        ndarray of float64, of shape (n_samples,)
        """
        if self.loss.name == "poisson":
            t = targets.astype(np.float64)
            return np.asarray((xlogy(t, t) - t).sum(axis=1))
        differences = np.zeros(len(targets))
        if self.clips and logits is not None:
            rows = _wrong_by_far(logits, targets, output)
            z, t = logits[rows], dense_targets(targets[rows], logits.shape[1], logits.dtype)
            outputs = output.forward(z, out=np.empty_like(z))
            ours = self.loss.value(z, outputs, t, output) * self.n_terms
            eps = np.finfo(z.dtype).eps
            p = np.clip(outputs, eps, 1 - eps)
            off = 0 if output.name == "softmax" else xlogy(1 - t, 1 - p)
            differences[rows] = -(xlogy(t, p) + off).sum(axis=1) - ours
        return differences

    def of_logits(self, logits: Array, samples: Samples, network: MLP) -> float:
        """Return the reported loss of samples, without penalty, from their logits."""
        output = network.output_activation
        outputs = output.forward(logits, out=np.empty_like(logits))
        targets = dense_targets(samples.targets, network.n_outputs, network.dtype)
        values = self.reported(self.loss.value(logits, outputs, targets, output), 0.0)
        differences = self.differences(samples.targets, logits, output)
        return float(np.average(values + differences, weights=samples.weights))


def _wrong_by_far(logits: Array, targets: Array, output: OutputActivation) -> Array:
    """Return the numbers of rows whose losses clipping or the rounding of 1 - p may change."""
    deepest, none = -np.log(np.finfo(logits.dtype).eps), np.empty(0, dtype=np.int64)
    if not logits.size:
        return none
    low, high = logits.min(), logits.max()
    if output.name != "softmax":
        limit = deepest / 3
        if not max(-low, high) > limit:
            return none
        return np.flatnonzero(np.where(targets > 0, -logits, logits).max(axis=1) > limit)
    limit = deepest - np.log(logits.shape[1])
    if targets.ndim != 1 or not high - low > limit:
        return none
    own = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    return np.flatnonzero(logits.max(axis=1) - own > limit)


class EpochRunner:
    """Runs epochs over samples and reports scikit-learn's loss of each.

    Parameters
    ----------
    session : Session
    objective : Objective
    samples : Samples
    """

    def __init__(self, session: Session, objective: Objective, samples: Samples) -> None:
        self.session, self.objective, self.samples = session, objective, samples

    def begin(self, parameters: Array, state: OptimizerState) -> None:
        """Start from these parameters and the optimizer's state."""
        self.session.load(TrainingState(parameters, state.moments, None, state.step))

    def run(self, order: Array, rates: Array, n_epochs: int) -> list[float]:
        """Train over the samples in this order, epoch after epoch; return each one's loss."""
        session, samples, objective = self.session, self.samples, self.objective
        penalties, logits = np.zeros(len(rates)), None
        if objective.clips:
            logits = np.empty((len(order), session.n_outputs), dtype=session.dtype)
        given = (samples.X, samples.targets, order, rates, samples.weights, logits)
        losses = session.train(*given, penalties if objective.alpha else None, n_epochs=n_epochs)
        losses = objective.reported(losses, penalties)
        losses += self._differences(order, logits, n_epochs)
        # As in scikit-learn, batches count by their size, also where samples are weighted.
        sizes = batch_weights(len(order), session.batch_size, None, n_epochs)
        sums = (losses * sizes).reshape(n_epochs, -1).sum(axis=1)
        return [float(total) for total in sums / (len(order) // n_epochs)]

    def _differences(self, order: Array, logits: Array | None, n_epochs: int) -> Array:
        """Return what scikit-learn's loss of each batch has on top of ours."""
        session, weights = self.session, self.samples.weights
        output = session.output_activation
        rows = self.objective.differences(self.samples.targets[order], logits, output)
        if weights is not None:
            weights = weights[order].astype(np.float64)
            rows = rows * weights
        size = session.batch_size
        sums = batch_weights(len(order), size, rows, n_epochs)
        totals = batch_weights(len(order), size, weights, n_epochs)
        return np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)

    def keep_velocity(self, old_rate: float, new_rate: float) -> None:
        """Let momentum go on at its speed when the learning rate changes, as scikit-learn does.

        Its velocity contains the learning rate, ours does not.
        """
        if old_rate != new_rate and self.session.optimizer.n_moments:
            state = self.session.store()
            state.moments *= old_rate / new_rate
            self.session.load(state)
