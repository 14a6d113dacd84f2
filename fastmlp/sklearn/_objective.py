"""Minimizing scikit-learn's objective with the library's sessions.

scikit-learn's objective sums the losses of several outputs, ours takes their mean (only softmax has
one loss for all outputs). `Objective.n_terms` is the factor between the two; it goes into the
penalty, the learning rate of SGD and Adam's epsilon, so that updates are scikit-learn's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from fastmlp._watch import Watch
from fastmlp.backends.base import Session, TrainingState
from fastmlp.losses import Loss
from fastmlp.network import MLP
from fastmlp.targets import dense_targets

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Rows, targets as `prepare_targets` returns them, and weights."""

    X: Any
    targets: Array
    weights: Array | None

    @property
    def mean_weight(self) -> float:
        """The weight of a sample on average."""
        return 1.0 if self.weights is None else float(self.weights.mean(dtype=np.float64))


@dataclass(frozen=True)
class Objective:
    """What is minimized: a loss, and alpha / (2 n) times the sum of squared weights."""

    loss: Loss
    alpha: float
    #: How many losses of single outputs scikit-learn adds up.
    n_terms: int

    def l2(self, weight_of_batch: float) -> float:
        """Return the coefficient of the penalty for batches of this total weight."""
        return self.alpha / (weight_of_batch * self.n_terms)

    def reported(self, loss: float, penalty: float, constant: float = 0.0) -> float:
        """Return the loss as scikit-learn reports it."""
        # Of squared errors scikit-learn reports the mean over outputs but descends on their sum.
        summed = self.loss.name in ("cross_entropy", "poisson")
        return (loss * self.n_terms if summed else loss) + penalty * self.n_terms + constant

    def constant(self, samples: Samples) -> float:
        """Return the part of the reported loss that does not depend on the network."""
        if self.loss.name != "poisson":
            return 0.0
        t = samples.targets.astype(np.float64)
        return float(np.average((xlogy(t, t) - t).sum(axis=1), weights=samples.weights))

    def of_logits(self, logits: Array, samples: Samples, network: MLP) -> float:
        """Return the reported loss of samples, without penalty, from their logits."""
        output = network.output_activation
        outputs = output.forward(logits, out=np.empty_like(logits))
        targets = dense_targets(samples.targets, network.n_outputs, network.dtype)
        values = self.loss.value(logits, outputs, targets, output)
        loss = float(np.average(values, weights=samples.weights))
        return self.reported(loss, 0.0, self.constant(samples))


@dataclass
class OptimizerState:
    """What a stochastic solver keeps from one `partial_fit` to the next."""

    #: In scikit-learn's sense, which for SGD leaves out the number of outputs.
    learning_rate: float
    moments: Array
    step: int = 0
    plateau: Watch = field(default_factory=Watch)
    plateau_factor: float = 1.0


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
        self.constant = objective.constant(samples)
        #: Of the current weights, in the session's units.
        self.penalty = 0.0

    def begin(self, parameters: Array, state: OptimizerState) -> None:
        """Start from these parameters and the optimizer's state."""
        self.session.load(TrainingState(parameters, state.moments, None, state.step))
        self.penalty = self.session.penalty()

    def run(self, order: Array, rates: Array, n_epochs: int) -> list[float]:
        """Train over the samples in this order and return the loss of each epoch.

        Several epochs at once must be of whole batches.
        """
        session, samples = self.session, self.samples
        losses = session.train(samples.X, samples.targets, order, rates, samples.weights)
        losses = losses.reshape(n_epochs, -1)
        size, n_batches = session.batch_size, losses.shape[1]
        n_samples = len(order) // n_epochs
        last = n_samples - size * (n_batches - 1)
        means = (losses[:, :-1].sum(axis=1) * size + losses[:, -1] * last) / n_samples
        # scikit-learn adds every batch's penalty before its update; within few epochs it changes
        # almost linearly.
        before, self.penalty = self.penalty, session.penalty()
        shares = (np.arange(n_epochs) + (n_batches - 1) / (2 * n_batches)) / n_epochs
        penalties = before + (self.penalty - before) * shares
        return [
            self.objective.reported(float(mean), float(penalty), self.constant)
            for mean, penalty in zip(means, penalties, strict=True)
        ]

    def keep_velocity(self, old_rate: float, new_rate: float) -> None:
        """Let momentum go on at its speed when the learning rate changes, as scikit-learn does.

        Its velocity contains the learning rate, ours does not.
        """
        if old_rate != new_rate and self.session.optimizer.n_moments:
            state = self.session.store()
            state.moments *= old_rate / new_rate
            self.session.load(state)
