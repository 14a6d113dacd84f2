"""Callbacks during a fit: ours, from the `callbacks` parameter, and those of `sklearn.callback`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._messages import logger
from fastmlp.callbacks import as_callbacks
from fastmlp.history import History, Record
from fastmlp.network import MLP

Array = NDArray[Any]

#: What a copy of the estimator needs in order to predict, besides its weights.
_FITTED = ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "classes_")


def column_directions(score: str | None) -> dict[str, bool | None]:
    """Return of every column of a fit's history whether more is better, None where nobody said.

    Parameters
    ----------
    score : str or None
        The name of the held-out set's, of which more is better; None without such a set.
    """
    held_out: dict[str, bool | None] = {}
    if score is not None:
        held_out = {f"val_{score}": True, "val_loss": False}
    return {"epoch": None, "loss": False, **held_out, "learning_rate": None, "seconds": False}


class FitCallbacks:
    """All callbacks of one fit. To ours it is the trainer: `network`, `history` and `stop`.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    network : MLP
        Holds the last epoch's parameters whenever a callback is called.
    X, y, sample_weight
        The training data that callbacks of scikit-learn may ask for.
    called : bool
        False keeps all of them quiet.
    directions : dict
        Of every column of the history, whether more is better; None where nobody said.
    """

    def __init__(
        self,
        estimator: Any,
        network: MLP,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        *,
        called: bool,
        directions: dict[str, bool | None],
    ) -> None:
        self.network = network
        self.stopping = False
        #: Whether Ctrl-C ended the fit.
        self.broken_off = False
        self._estimator = estimator
        self._n_before = len(estimator._records)
        self._ours = as_callbacks(estimator.callbacks) if called else []
        self.directions = directions
        self._theirs = called and bool(getattr(estimator, "_skl_callbacks", ()))
        self._context: Any = None
        self._epoch: Any = None
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        #: Whether there is any callback to call.
        self.active = bool(self._ours) or self._theirs

    @property
    def history(self) -> History:
        """All epochs so far, those of the fits that this one goes on from included."""
        return History(self._estimator._records)

    def stop(self) -> None:
        """End the fit after this epoch."""
        self.stopping = True

    def begin(self) -> None:
        """Tell all that the fit begins."""
        for callback in self._ours:
            callback.on_fit_begin(self)  # type: ignore[arg-type]
        if self._theirs:
            self._context = self._estimator._init_callback_context(
                max_subtasks=self._estimator.max_iter
            )
            self._context.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def epoch_begin(self) -> None:
        """Tell scikit-learn's that an epoch begins."""
        if self._context is not None:
            self._epoch = self._context.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def epoch_end(self, record: Record) -> None:
        """Tell all that an epoch is over; one that returns True ends the fit."""
        for callback in self._ours:
            if callback.on_epoch_end(self, dict(record)):  # type: ignore[arg-type]
                self.stopping = True
        if self._context is not None and self._epoch.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=self._fitted, **self._data
        ):
            self.stopping = True

    def end(self) -> None:
        """Tell all that the fit ended; ours, as with a trainer, unless it was broken off."""
        if not self.broken_off:
            self._end_ours()
        if self._context is not None:
            self._context.call_on_fit_task_end(
                estimator=self._estimator, reconstruction_attributes=self._fitted, **self._data
            )

    def _end_ours(self) -> None:
        history = History(self._estimator._records[self._n_before :])
        for callback in self._ours:
            callback.on_fit_end(self, history)  # type: ignore[arg-type]
            said = callback.outcome()
            if said is not None:
                logger.info(said)
                if self._estimator.verbose:
                    print(said)

    def close(self) -> None:
        """Let our callbacks close their files."""
        for callback in self._ours:
            callback.close()

    def _fitted(self) -> dict[str, Any]:
        attributes = {
            name: getattr(self._estimator, name)
            for name in _FITTED
            if hasattr(self._estimator, name)
        }
        attributes["coefs_"] = [np.array(w) for w in self.network.weights]
        attributes["intercepts_"] = [np.array(b) for b in self.network.biases]
        return attributes
