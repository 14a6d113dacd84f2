"""An interrupt at any line leaves the old state or the new one, and training goes on from it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import (
    LBFGS,
    MLP,
    SGD,
    Adam,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    Regularization,
    Trainer,
)
from fastmlp.backends import Backend
from fastmlp.schedules import ReduceOnPlateau
from tests.tracing import chosen, raise_at

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
#: Epochs before the interrupt, and those that are planned then.
BEFORE, PLANNED = 2, 4


class Stopped(BaseException):
    """Something else than Ctrl-C that ends a call, such as a debugger's."""


ERRORS = (KeyboardInterrupt, MemoryError, Stopped)

AVERAGE = {
    "optimizer": Adam(0.01),
    "regularization": Regularization(ema=0.9, dropout=0.2, input_noise=0.1),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"optimizer": SGD(0.1)},
    "momentum": {"optimizer": SGD(0.1, momentum=0.9), "schedule": "cosine", "n_threads": 2},
    "adam": {"optimizer": Adam(0.01), "schedule": ReduceOnPlateau(patience=0, mode="max")},
    "average": AVERAGE,
    # Several epochs are one call.
    "average without validation": AVERAGE,
    "momentum without validation": {"optimizer": SGD(0.1, momentum=0.9), "n_threads": 2},
    "early stopping": {**AVERAGE, "n_threads": 2},
    "lbfgs": {"optimizer": LBFGS(iterations=2)},
}


class Case:
    """A trainer's setting, and its fits."""

    def __init__(self, backend: Backend, setting: str, folder: Path) -> None:
        self.backend, self.setting, self.folder = backend, setting, folder

    def untrained(self) -> Trainer:
        """Return a trainer that has not trained."""
        network = MLP([4, 6, 3], seed=1)
        return Trainer(network, batch_size=8, backend=self.backend, **SETTINGS[self.setting])

    def trainer(self) -> Trainer:
        """Return a trainer that has trained some epochs."""
        trainer = self.untrained()
        self.fit(trainer, BEFORE)
        return trainer

    def fit(self, trainer: Trainer, last: int, *more: Callable[..., object]) -> None:
        """Train until the history has so many epochs."""
        # Where nothing is validated, nothing but training itself has changed a session before.
        validation = None if "without" in self.setting else (X[:9], Y[:9])
        epochs = last - len(trainer.history)
        trainer.fit(X, Y, epochs, validation, callbacks=[*self.callbacks(), *more], verbose=False)

    def callbacks(self) -> list[Any]:
        if self.setting != "early stopping":
            return []
        worst = EarlyStopping(mode="max", patience=1)  # ends with an epoch before the last
        return [worst, CSVLog(self.folder / "log.csv"), Checkpoint(self.folder / "{epoch}.npz")]

    def go_on(self, trainer: Trainer) -> tuple[object, ...]:
        """Train to the end of the plan, and an epoch more; return all that came of it."""
        self.fit(trainer, PLANNED)
        self.fit(trainer, PLANNED + 1)
        return seen(trainer)

    def outcomes(self) -> Iterator[tuple[tuple[object, ...], tuple[object, ...]]]:
        """Yield every state of a fit that is right, and what a trainer goes on to from it."""
        for last in range(BEFORE, PLANNED + 1):

            def stop(trainer: Trainer, record: dict[str, float], last: int = last) -> None:
                if record["epoch"] == last:
                    raise Stopped

            trainer = self.trainer()
            if last > BEFORE:
                with contextlib.suppress(Stopped):
                    self.fit(trainer, PLANNED, stop)
            yield seen(trainer), self.go_on(trainer)
        trainer = self.trainer()
        self.fit(trainer, PLANNED)
        yield seen(trainer), self.go_on(trainer)


def seen(trainer: Trainer) -> tuple[object, ...]:
    """Return all that training has changed so far, but for the time it took."""
    trainer._adopt()  # of early stopping's parameters, which any later call does
    progress = trainer._progress
    state = progress.state
    return (
        [{k: v for k, v in record.items() if k != "seconds"} for record in progress.records],
        trainer.network.parameters.tobytes(),
        state.parameters.tobytes(),
        state.moments.tobytes(),
        None if state.average is None else state.average.tobytes(),
        state.step,
        repr(progress.generator),
        progress.plateau,
    )


def in_another_thread(work: Callable[[], Any]) -> Any:
    """Return what a call returns in a thread that finds no lock open which this one left held."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(120)
    return found[0] if found else "it hangs, or is refused"


ACTIONS: dict[str, Callable[[Case, Trainer, Path], object]] = {
    "fit": lambda case, trainer, path: case.fit(trainer, PLANNED),
    "evaluate": lambda case, trainer, path: trainer.evaluate(X, Y),
    "predict": lambda case, trainer, path: trainer.predict(X),
    "load": lambda case, trainer, path: trainer.load_checkpoint(path),
    "save": lambda case, trainer, path: trainer.save_checkpoint(path),
}


def loaded(case: Case) -> dict[str, tuple[object, ...]]:
    """Return what each checkpoint of the folder holds, and remove it."""
    found = {}
    for file in case.folder.glob("*.npz"):
        fresh = case.untrained()
        fresh.load_checkpoint(file)
        found[file.name] = seen(fresh)
        file.unlink()
    return found


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_an_interrupt_at_any_line_tears_nothing(backend, setting, action, tmp_path):
    case, path = Case(backend, setting, tmp_path), tmp_path / "run.npz"
    right = list(case.outcomes())
    other = case.trainer()
    case.fit(other, PLANNED)
    other.save_checkpoint(path)
    content = path.read_bytes()
    files = [loaded(case)]
    if action == "save":
        case.trainer().save_checkpoint(path)
        files.append(loaded(case))
    if action != "fit":
        del right[1:]
    if action == "load":
        path.write_bytes(content)
        fresh = case.trainer()
        fresh.load_checkpoint(path)
        right.append((seen(fresh), case.go_on(fresh)))

    def interrupted(line: int | None, error: type[BaseException]) -> tuple[Trainer, list[str]]:
        trainer = case.trainer()
        for file in tmp_path.iterdir():
            file.unlink()
        path.write_bytes(content)
        return trainer, raise_at(line, error, lambda: ACTIONS[action](case, trainer, path))

    def fault(line: int, error: type[BaseException]) -> str | None:
        trainer, places = interrupted(line, error)
        place = places[-1]
        found = seen(trainer)
        expected = [after for state, after in right if state == found]
        if not expected:
            return f"{place}: {error.__name__} leaves a state that no fit has"
        written = loaded(case).items()
        if not any(written <= whole.items() for whole in files):
            return f"{place}: {error.__name__} leaves a file that no fit writes"
        if in_another_thread(lambda: case.go_on(trainer)) not in expected:
            return f"{place}: after {error.__name__}, training goes on otherwise"
        return None

    _, places = interrupted(None, Stopped)
    assert len(places) > 5
    faults = [fault(line, ERRORS[i % len(ERRORS)]) for i, line in enumerate(chosen(places))]
    assert not any(faults), "\n".join(sorted({text for text in faults if text}))


def test_early_stopping_that_was_interrupted_has_seen_an_epoch_or_has_not():
    trainer = Trainer(MLP([4, 3]), backend="numpy")

    def seen_after(line: int | None, loss: float) -> tuple[dict[str, Any], int]:
        stop = EarlyStopping("loss")
        trainer.network.parameters[:] = 1
        stop.on_epoch_end(trainer, {"epoch": 1, "loss": 1.0})
        trainer.network.parameters[:] = 2
        record = {"epoch": 2, "loss": loss}
        n_lines = len(raise_at(line, Stopped, lambda: stop.on_epoch_end(trainer, record)))
        state = stop.state()
        return {**state, "best_parameters": state["best_parameters"].tobytes()}, n_lines

    for loss in (0.5, 2.0):
        before, _ = seen_after(0, loss)
        after, n_lines = seen_after(None, loss)
        assert before != after
        for line in range(n_lines):
            assert seen_after(line, loss)[0] in (before, after)
