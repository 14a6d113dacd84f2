"""Training on some rows of the data has the bits of training on those rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import LBFGS, MLP, SGD, Adam, Regularization, Trainer
from fastmlp.backends import Backend

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype(np.float32)
X[np.abs(X) < 0.5] = 0
LABELS = np.argmax(X[:, :3], axis=1)
WEIGHTS = RNG.integers(1, 4, 60).astype(np.float64)

#: What X may be, made of an array and a folder.
KINDS: dict[str, Any] = {
    "native": lambda X, folder: X,
    "float64": lambda X, folder: X.astype(np.float64),
    "integers": lambda X, folder: (4 * X).astype(np.int16),
    "strided": lambda X, folder: np.repeat(X, 2, axis=1)[:, ::2],
    "sparse": lambda X, folder: pytest.importorskip("scipy.sparse").csr_matrix(X),
    "memory map": lambda X, folder: in_a_file(X, folder),
}
PROBLEMS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "classes": ({"output_activation": "softmax"}, LABELS, {"class_weight": "balanced"}),
    "labels": ({"output_activation": "sigmoid"}, X[:, :3] > 0, {"optimizer": Adam(0.01)}),
    "values": (
        {"output_activation": "linear"},
        X[:, :3],
        {"regularization": Regularization(l2=0.01, dropout=0.2, ema=0.9)},
    ),
    "full batches": ({"output_activation": "softmax"}, LABELS, {"optimizer": LBFGS(iterations=2)}),
}


def in_a_file(X: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def trained(backend: Backend, problem: str, X: Any, y: Any, **arguments: Any) -> Trainer:
    network, _, settings = PROBLEMS[problem]
    trainer = Trainer(
        MLP([5, 7, 3], **network, seed=1),
        **{"optimizer": SGD(0.05), "batch_size": 8, "backend": backend} | settings,
    )
    trainer.fit(X, y, epochs=3, verbose=False, **arguments)
    return trainer


def seen(trainer: Trainer) -> tuple[Any, ...]:
    records = [{k: v for k, v in one.items() if k != "seconds"} for one in trainer.history]
    return records, trainer.network.parameters.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_some_rows_train_like_those_rows_alone(
    backend: Backend, problem: str, kind: str, tmp_path: Path
) -> None:
    given, y = KINDS[kind](X, tmp_path), np.asarray(PROBLEMS[problem][1])
    rows = np.random.default_rng(3).choice(60, 37)  # some of them twice
    more = {"validation_split": 0.3, "sample_weight": WEIGHTS}
    of_all = trained(backend, problem, given, y, rows=rows, **more)
    alone = trained(
        backend, problem, given[rows], y[rows], **{**more, "sample_weight": WEIGHTS[rows]}
    )
    assert seen(of_all) == seen(alone)
    assert np.any(of_all.network.parameters != MLP([5, 7, 3], seed=1).parameters)


@given(st.lists(st.integers(0, 59), min_size=1, max_size=90))
def test_rows_may_come_in_any_order_and_number(rows: list[int]) -> None:
    for backend in ("numpy", "numba"):
        of_all = trained(backend, "classes", X, LABELS, rows=rows)
        assert seen(of_all) == seen(trained(backend, "classes", X[rows], LABELS[rows]))


def test_rows_that_are_not_named_do_not_count(backend: Backend) -> None:
    weights = WEIGHTS.copy()
    weights[10:] = -1.0, *[1e300] * 49
    alone = trained(backend, "classes", X[:10], LABELS[:10], sample_weight=weights[:10])
    of_all = trained(backend, "classes", X, LABELS, rows=np.arange(10), sample_weight=weights)
    assert seen(of_all) == seen(alone)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows must name at least one row, got none"),
        ([0, 60], "rows must lie between 0 and 59 for 60 rows, got 60"),
        ([-1], "rows must lie between 0 and 59 for 60 rows, got -1"),
        ([0.0], r"rows must be a vector of row numbers, got float64 of shape \(1,\)"),
        (np.ones(60, dtype=bool), "np.flatnonzero"),
        (np.ma.masked_array([1, 2], [0, 1]), "rows has masked values"),
    ],
)
def test_bad_rows_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained("numpy", "classes", X, LABELS, rows=rows)


# The plan of a fit ---------------------------------------------------------------------------


def test_a_fit_that_ends_earlier_stretches_its_schedule_to_the_end(backend: Backend) -> None:
    def shorten(trainer: Trainer, record: Any) -> None:
        if record["epoch"] == 2:
            trainer.stop(after=5)

    trainer = Trainer(MLP([5, 3]), optimizer=SGD(1.0), backend=backend, schedule="cosine")
    trainer.fit(X, LABELS, epochs=50, callbacks=[shorten], verbose=False)
    rates = trainer.history["learning_rate"]
    assert len(rates) == trainer.planned_epochs == 5
    assert rates[1] > 0.9
    assert rates[-1] < 0.1


def test_a_plan_may_grow_again(backend: Backend) -> None:
    plans = iter([4, 3, 7, 7, 7, 7, 7])
    trainer = Trainer(MLP([5, 3]), backend=backend)
    trainer.fit(X, LABELS, 9, callbacks=[lambda t, _: t.stop(after=next(plans))], verbose=False)
    assert len(trainer.history) == 7


def test_no_fit_ends_in_the_past() -> None:
    trainer = Trainer(MLP([5, 3]), backend="numpy")
    with pytest.raises(ValueError, match="after must be at least 1, got 0"):
        trainer.fit(X, LABELS, 9, callbacks=[lambda t, _: t.stop(after=0)], verbose=False)
