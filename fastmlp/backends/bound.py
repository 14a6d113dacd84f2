"""A session that is taken from one state to another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Session, TrainingState

Array = NDArray[Any]


class Bound:
    """A session, and the state that it is known to hold.

    The state is unknown from before the session changes until after it has: whatever interrupts,
    no state is ever taken for another one.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.batch_size = session.batch_size
        self._held: TrainingState | None = None

    def holding(self, state: TrainingState) -> Session:
        """Return the session with a state that is not going to change."""
        if self._held is not state:
            self._held = None
            self._session.load(state)
            self._held = state
        return self._session

    def predicting(self, parameters: Array) -> Session:
        """Return the session, whose optimizer has no moments, with parameters to compute by."""
        if self._held is not None and np.array_equal(self._held.parameters, parameters):
            return self._session
        no_moments = np.empty((0, len(parameters)), dtype=parameters.dtype)
        return self.holding(TrainingState(parameters.copy(), no_moments, None, 0))

    def changing(self, state: TrainingState) -> Session:
        """Return the session with a state to start from."""
        session = self.holding(state)
        self._held = None
        return session

    def store(self) -> TrainingState:
        """Return the state that the session has come to."""
        state = self._session.store()
        self._held = state
        return state

    def release(self) -> None:
        """Let the session forget the samples that it was told to keep."""
        self._session.release()
