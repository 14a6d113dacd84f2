"""What a stochastic solver learns in whole epochs, beside the weights, and goes on from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastmlp._watch import Plateau
from fastmlp.backends.base import TrainingState
from fastmlp.history import Record
from fastmlp.optimizers import Optimizer
from fastmlp.schedules import Schedule

Array = NDArray[Any]


@dataclass(frozen=True)
class OptimizerState:
    """What a stochastic solver keeps from one `partial_fit` to the next."""

    #: In scikit-learn's sense, which for SGD leaves out the number of outputs.
    learning_rate: float
    moments: Array
    #: Whose moments they are: they mean nothing to another kind of optimizer.
    kind: type[Optimizer]
    step: int = 0
    #: Of earlier fits of the same network, whose optimizers ended with them.
    steps_before: int = 0
    #: Whose plateau it is.
    schedule: Schedule | None = None
    plateau: Plateau = field(default_factory=Plateau)

    def after(self, earlier: OptimizerState) -> OptimizerState:
        """Return the same where schedules and masks go on from those of an earlier fit."""
        return replace(
            self,
            steps_before=earlier.steps_before + earlier.step,
            schedule=earlier.schedule,
            plateau=earlier.plateau,
        )

    def under(self, schedule: Schedule | None) -> OptimizerState:
        """Return the same for a fit that follows a schedule."""
        plateau = self.plateau.under(schedule, self.schedule)
        return replace(self, schedule=schedule, plateau=plateau)

    def holding(self, state: TrainingState) -> OptimizerState:
        """Return the same with a session's moments."""
        return replace(self, moments=state.moments, step=state.step)

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = dict(state)
        if "plateau_factor" in kept:  # in older pickles, the plateau is in two parts
            kept["plateau"] = Plateau(kept["plateau"], kept.pop("plateau_factor"))
        vars(self).update(kept)


class Books(NamedTuple):
    """Where training stands after a whole epoch: what the stopping rules and clocks go by."""

    #: Epochs of this fit, and of all fits since the weights were drawn.
    n_iter: int
    n_epochs: int
    #: Training samples seen by all fits.
    t: int
    #: Epochs in a row that were no improvement.
    waited: int
    #: Early stopping keeps none.
    best_loss: float | None
    #: None where nothing is held out.
    best_score: float | None


@dataclass(frozen=True)
class Learned:
    """What whole epochs have changed, for the estimator to adopt at once."""

    books: Books
    optimizer: OptimizerState
    #: Of the epochs that the estimator has not adopted yet, and so are the losses and scores of
    #: the held-out set.
    records: tuple[Record, ...] = ()
    validation_losses: tuple[float, ...] = ()
    validation_scores: tuple[float, ...] = ()
