"""An interrupt at any line leaves the old state or the new one, and training goes on from it."""

from __future__ import annotations

import contextlib
import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastmlp import LBFGS, MLP, SGD, Adam, Regularization, Trainer, trainer
from fastmlp.backends import Backend, base, numpy_backend

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
#: Epochs before the interrupt, at its end if it did not come, and in all.
BEFORE, AFTER, ALL = 2, 4, 5
#: So many lines, evenly spread, are tried in each case.
N_LINES = 30

Fit = Callable[[Trainer, int], None]

AVERAGE = Regularization(ema=0.9, dropout=0.2)
SETTINGS = {
    "plain": {"optimizer": SGD(0.1)},
    "adam": {"optimizer": Adam(0.01)},
    "average": {"optimizer": Adam(0.01), "regularization": AVERAGE},
    "average without validation": {"optimizer": Adam(0.01), "regularization": AVERAGE},
    "lbfgs": {"optimizer": LBFGS(iterations=2)},
}
#: Where nothing is validated, nothing but training itself has changed a session before.
VALIDATION = {"average without validation": None}
ACTIONS: dict[str, Callable[[Trainer, Path, Fit], object]] = {
    "fit": lambda trainer, path, fit: fit(trainer, AFTER - BEFORE),
    "evaluate": lambda trainer, path, fit: trainer.evaluate(X, Y),
    "predict": lambda trainer, path, fit: trainer.predict(X),
    "load": lambda trainer, path, fit: trainer.load_checkpoint(path),
    "save": lambda trainer, path, fit: trainer.save_checkpoint(path),
}


class Stopped(BaseException):
    """Something else than Ctrl-C that ends a call, such as a debugger's."""


def make_trainer(backend: Backend, setting: str) -> Trainer:
    return Trainer(MLP([4, 6, 3], seed=1), batch_size=8, backend=backend, **SETTINGS[setting])


def fit_of(setting: str) -> Fit:
    validation = VALIDATION.get(setting, (X[:9], Y[:9]))

    def fit(trainer: Trainer, epochs: int) -> None:
        trainer.fit(X, Y, epochs, validation, verbose=False)

    return fit


def seen(trainer: Trainer) -> tuple[list[dict[str, float]], bytes]:
    """Return all that a user sees of the training so far, but for the time it took."""
    history = [{k: v for k, v in r.items() if k != "seconds"} for r in trainer.history]
    return history, trainer.network.parameters.tobytes()


def source_files() -> set[str]:
    """Return the files of the trainer and of all sessions."""
    modules = [trainer, base, numpy_backend]
    with contextlib.suppress(ImportError):
        from fastmlp.backends.numba_backend import session

        modules.append(session)
    return {inspect.getfile(module) for module in modules}


def raise_at(line: int | None, error: type[BaseException], action: Callable[[], object]) -> int:
    """Run `action`, raise at the given line of those that it runs, and return their number."""
    files, count = source_files(), 0

    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            count += 1
            if count - 1 == line:
                raise error  # which also ends the tracing
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(error), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_an_interrupt_at_any_line_tears_nothing(backend, setting, action, tmp_path):
    path = tmp_path / "run.npz"
    states, fit = [], fit_of(setting)
    reference = make_trainer(backend, setting)
    for _ in range(ALL):
        fit(reference, 1)
        states.append(seen(reference))
        if reference.planned_epochs == 1:
            reference.save_checkpoint(path)

    def interrupted(line: int | None, error: type[BaseException]) -> tuple[Trainer, int]:
        trainer = make_trainer(backend, setting)
        fit(trainer, BEFORE)
        n_lines = raise_at(line, error, lambda: ACTIONS[action](trainer, path, fit))
        return trainer, n_lines

    _, n_lines = interrupted(None, KeyboardInterrupt)
    assert n_lines > 5
    whole = path.read_bytes()
    for i, line in enumerate(np.unique(np.linspace(0, n_lines - 1, N_LINES).astype(int))):
        path.write_bytes(whole)
        trainer, _ = interrupted(line, (KeyboardInterrupt, Stopped)[i % 2])
        n_epochs = len(trainer.history)
        allowed = {"fit": range(BEFORE, AFTER + 1), "load": (1, BEFORE)}
        assert n_epochs in allowed.get(action, (BEFORE,)), line
        assert seen(trainer) == states[n_epochs - 1], line
        fit(trainer, ALL - n_epochs)
        assert seen(trainer) == states[-1], line
