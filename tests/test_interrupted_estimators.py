"""An estimator that was interrupted at any line is as before its fit, or as after a whole epoch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.test_interrupts import ERRORS, Stopped, in_another_thread
from tests.tracing import chosen, raise_at

sklearn = pytest.importorskip("fastmlp.sklearn")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
OTHER_LABELS = np.array(["no", "perhaps", "yes"])[Y]
#: Epochs of a fit.
EPOCHS = 3

SETTINGS: dict[str, dict[str, Any]] = {
    "several epochs at once": {"batch_size": 8},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 9.0},
    "plateau": {"schedule": "reduce_on_plateau", "batch_size": 5},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "dropout": 0.2},
    "scorer": {"early_stopping": True, "validation_fraction": 0.3, "scoring": "f1_macro"},
    "callbacks": {"callbacks": [lambda fit, record: None]},
    "lbfgs": {"solver": "lbfgs"},
}


def model_of(setting: str, max_iter: int = EPOCHS, **more: Any) -> Any:
    options = {"random_state": 0, "backend": "numpy", **SETTINGS[setting], **more}
    return sklearn.MLPClassifier((5,), max_iter=max_iter, **options)


def seen(model: Any) -> dict[str, Any]:
    """Return all that a fit has changed."""
    names = ("_no_improvement_count", "_multilabel", *(n for n in vars(model) if n[-1] == "_"))
    found: dict[str, Any] = {name: repr(getattr(model, name, None)) for name in names}
    records = getattr(model, "_records", [])
    found["records"] = [{k: v for k, v in r.items() if k != "seconds"} for r in records]
    if hasattr(model, "coefs_"):
        found["labels"] = repr(model.predict(X))
        found["coefs_"] = b"".join(array.tobytes() for array in model.coefs_)
        found["intercepts_"] = b"".join(array.tobytes() for array in model.intercepts_)
    if hasattr(model, "_optimizer"):
        found["optimizer"] = {**vars(model._optimizer), "moments": repr(model._optimizer.moments)}
    return found


def fitted(model: Any, labels: Any = Y) -> Any:
    return model.fit(X, labels)


#: How a fit begins: what was before, and what is interrupted.
FITS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "first fit": (lambda model: model, fitted),
    "other labels": (
        lambda model: fitted(model, OTHER_LABELS),
        lambda model: fitted(model.set_params(hidden_layer_sizes=(3,))),
    ),
    "warm start": (lambda model: fitted(model.set_params(warm_start=True)), fitted),
    "partial fit": (
        lambda model: model.partial_fit(X, Y, classes=[0, 1, 2]),
        lambda model: model.partial_fit(X[:9], Y[:9]),
    ),
    "first partial fit": (
        lambda model: model,
        lambda model: model.partial_fit(X[:9], Y[:9], classes=[0, 1, 2]),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_an_interrupt_at_any_line_leaves_a_whole_estimator(setting, fit, monkeypatch):
    if "partial" in fit and setting in ("lbfgs", "early stopping", "scorer"):
        pytest.skip("there is no such partial fit")
    before, interrupted = FITS[fit]

    def begun() -> Any:
        model = before(model_of(setting))
        if fit == "other labels":  # a parameter, which no fit changes back
            model.set_params(hidden_layer_sizes=(3,))
        return model

    right = [begun()]
    for n_epochs in range(1, EPOCHS + 1):
        right.append(interrupted(begun().set_params(max_iter=n_epochs)).set_params(max_iter=EPOCHS))
    if model_of(setting).early_stopping:  # an error leaves the last weights, not the best
        for n_epochs in range(1, EPOCHS + 1):
            model = begun().set_params(callbacks=[stop_after(n_epochs)])
            with pytest.raises(Stopped):
                interrupted(model)
            right.append(model.set_params(callbacks=()))
    if fit.startswith("first"):  # as with scikit-learn, it has its first weights
        with monkeypatch.context() as patch:
            patch.setattr(sklearn._whole.Whole, "keep", interrupt)
            right.append(interrupted(begun()))
            assert right[-1].n_iter_ == 0

    def gone_on(model: Any) -> dict[str, Any]:
        goes_on = fit in ("first fit", "warm start")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return seen(interrupted(copy.deepcopy(model).set_params(warm_start=goes_on)))

    after = [gone_on(model) for model in right]

    def fault(line: int, error: type[BaseException]) -> str | None:
        model = begun()
        place = raise_at(line, error, lambda: interrupted(model))[-1]
        expected = [after[i] for i, other in enumerate(right) if seen(other) == seen(model)]
        if not expected:
            return f"{place}: {error.__name__} leaves a state that no fit has"
        if in_another_thread(lambda: gone_on(model)) not in expected:
            return f"{place}: after {error.__name__}, training goes on otherwise"
        return None

    lines = chosen(raise_at(None, KeyboardInterrupt, lambda: interrupted(begun())))
    faults = [fault(line, ERRORS[i % len(ERRORS)]) for i, line in enumerate(lines)]
    assert not any(faults), "\n".join(sorted({text for text in faults if text}))


def stop_after(n_epochs: int) -> Callable[..., None]:
    left = iter(range(n_epochs - 1))

    def stop(fit: Any, record: dict[str, float]) -> None:
        if next(left, None) is None:
            raise Stopped

    return stop


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
