"""Scores of predictions: accuracy and R2, running over blocks of logits."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp import _checks
from fastmlp.activations import OutputActivation
from fastmlp.network import MLP, decide

Array = NDArray[Any]

#: Temporary arrays of so many rows stay in the cache.
_ROWS_AT_ONCE = 4096


class Scores(tuple[float, ...]):
    """Named numbers: a tuple that also answers to names.

    Parameters
    ----------
    values : mapping of str to float

    Examples
    --------
    >>> scores = Scores({"loss": 0.25, "accuracy": 0.9})
    >>> scores.loss, scores["accuracy"]
    (0.25, 0.9)
    >>> loss, accuracy = scores
    >>> scores
    Scores(loss=0.25, accuracy=0.9)
    """

    _names: tuple[str, ...]

    def __new__(cls, values: Mapping[str, float]) -> Scores:
        """Take the mapping's values as the tuple's items."""
        made = super().__new__(cls, values.values())
        made._names = tuple(values)
        return made

    def keys(self) -> tuple[str, ...]:
        """Return the names."""
        return self._names

    def items(self) -> Iterator[tuple[str, float]]:
        """Return pairs of name and number."""
        return zip(self._names, self, strict=True)

    def to_dict(self) -> dict[str, float]:
        """Return a dict of name to number.

        Examples
        --------
        >>> Scores({"loss": 0.25}).to_dict()
        {'loss': 0.25}
        """
        return dict(self.items())

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._names:
                raise KeyError(f"no score {key!r}; there are {', '.join(self._names)}")
            key = self._names.index(key)
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> float:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(f"no score {name!r}")
        return float(self[name])

    def __reduce__(self) -> tuple[type[Scores], tuple[dict[str, float]]]:
        return Scores, (self.to_dict(),)

    def __repr__(self) -> str:
        return f"Scores({', '.join(f'{name}={value:.6g}' for name, value in self.items())})"


class RunningScore(Protocol):
    """A score that is fed block by block.

    Examples
    --------
    >>> from fastmlp.activations import Softmax
    >>> score: RunningScore = Accuracy(Softmax(), batch_size=2)
    >>> for labels in ([0, 1], [1, 1]):
    ...     score.add(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array(labels), None)
    >>> score.value()
    0.75
    """

    def add(self, logits: Array, targets: Array, weights: Array | None) -> None:
        """Take in some rows; `targets` as `score_targets` returns them."""

    def value(self) -> float:
        """Return the score of all rows so far."""


def score_name(output: OutputActivation) -> str:
    """Return the name of the score that suits an output: "accuracy" or "r2".

    Examples
    --------
    >>> from fastmlp.activations import Softmax
    >>> score_name(Softmax())
    'accuracy'
    """
    return "accuracy" if output.name in ("softmax", "sigmoid") else "r2"


def score_targets(output: OutputActivation, targets: Array) -> Array:
    """Return prepared targets in the form that the output's score compares with.

    Class numbers for softmax, booleans for sigmoid, real targets else.

    Examples
    --------
    >>> from fastmlp.activations import Softmax
    >>> score_targets(Softmax(), np.array([[0.1, 0.9], [0.8, 0.2]]))
    array([1, 0])
    """
    if output.name == "softmax":
        return targets if targets.ndim == 1 else targets.argmax(axis=1)
    return targets >= 0.5 if output.name == "sigmoid" else targets


def running_score(output: OutputActivation, targets: Array, batch_size: int) -> RunningScore:
    """Return a fresh score for an output; `targets` as `score_targets` returns them.

    It is fed whole batches of `batch_size` rows, any number at once, and comes out the same bits
    however many.

    Examples
    --------
    >>> from fastmlp.activations import Softmax
    >>> score = running_score(Softmax(), np.array([0, 1]), batch_size=2)
    >>> score.add(np.array([[2.0, 1.0], [3.0, 1.0]]), np.array([0, 1]), None)
    >>> score.value()
    0.5
    """
    if score_name(output) == "accuracy":
        return Accuracy(output, batch_size)
    return R2(output, targets, batch_size)


class Accuracy:
    """Share of rows whose labels are all right (for several labels: subset accuracy).

    Parameters
    ----------
    output : OutputActivation
        Softmax or sigmoid.
    batch_size : int

    Examples
    --------
    >>> from fastmlp.activations import SigmoidOutput
    >>> score = Accuracy(SigmoidOutput(), batch_size=1)
    >>> score.add(np.array([[-1.0, 1.0]]), np.array([[False, True]]), None)
    >>> score.value()
    1.0
    """

    def __init__(self, output: OutputActivation, batch_size: int) -> None:
        self._batch_size = batch_size
        self._softmax = output.name == "softmax"
        self._right = 0.0
        self._total = 0.0

    def add(self, logits: Array, targets: Array, weights: Array | None) -> None:
        """Take in some rows."""
        if self._softmax:
            right = _largest(logits) == targets
        elif logits.shape[1] == 1:
            right = (logits[:, 0] >= 0) == targets[:, 0]
        else:
            right = ((logits >= 0) == targets).all(axis=1)
        if weights is None:
            self._right += int(np.count_nonzero(right))
            self._total += len(right)
        else:
            rows = np.stack([np.where(right, weights, 0), weights])
            start = np.array([self._right, self._total])
            self._right, self._total = _add_batches(start, rows, self._batch_size)

    def value(self) -> float:
        """Return the accuracy of all rows so far."""
        return float(self._right / self._total) if self._total else 0.0


class R2:
    """The coefficient of determination, averaged over the outputs as scikit-learn does.

    Parameters
    ----------
    output : OutputActivation
    targets : ndarray of shape (n_samples, n_targets)
        All targets, for the scale on which sums are exact.
    batch_size : int

    Examples
    --------
    >>> from fastmlp.activations import Linear
    >>> y = np.array([[1.0], [3.0]])
    >>> score = R2(Linear(), y, batch_size=2)
    >>> score.add(np.array([[1.0], [2.0]]), y, None)
    >>> score.value()
    0.5
    """

    def __init__(self, output: OutputActivation, targets: Array, batch_size: int) -> None:
        self._output = output
        self._batch_size = batch_size
        # Sums of squares around the mean lose no digits; a constant is its own mean, exactly.
        mean = targets.mean(axis=0, dtype=np.float64)
        self._origin = np.clip(mean, targets.min(axis=0), targets.max(axis=0))
        # Sums of residuals squared, targets, targets squared, each of all outputs; weights.
        self._sums: Array | None = None

    def add(self, logits: Array, targets: Array, weights: Array | None) -> None:
        """Take in some rows."""
        step = max(1, _ROWS_AT_ONCE // self._batch_size) * self._batch_size
        for start in range(0, len(logits), step):
            block = slice(start, start + step)
            self._add(logits[block], targets[block], None if weights is None else weights[block])

    def _add(self, logits: Array, targets: Array, weights: Array | None) -> None:
        outputs = self._output.forward(logits, out=np.empty_like(logits)).T
        targets = targets.T.astype(np.float64)
        residual = outputs - targets
        centered = np.broadcast_to(targets - self._origin[:, None], residual.shape)
        w = np.ones(len(logits)) if weights is None else weights.astype(np.float64)
        rows = np.concatenate(
            [w * residual * residual, w * centered, w * centered * centered, w[None]]
        )
        before = np.zeros(len(rows)) if self._sums is None else self._sums
        self._sums = _add_batches(before, rows, self._batch_size)

    def value(self) -> float:
        """Return R2 of all rows so far."""
        if self._sums is None or self._sums[-1] == 0:
            return 0.0
        residual, first, second = np.split(self._sums[:-1], 3)
        spread = np.maximum(second - np.square(first) / self._sums[-1], 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(spread > 0, 1 - residual / spread, np.where(residual == 0, 1.0, 0.0))
        return float(each.mean())


def _add_batches(start: Array, rows: Array, batch_size: int) -> Array:
    """Return `start` plus the sums of all rows: each batch is summed, and one added after another.

    So that the sums are the same bits however many batches are handed over at once.
    """
    batches = np.arange(0, rows.shape[1], batch_size)
    sums = np.add.reduceat(rows, batches, axis=1, dtype=np.float64)
    return np.asarray(np.add.accumulate(np.column_stack([start, sums]), axis=1)[:, -1])


def _largest(logits: Array) -> Array:
    """Return `argmax` of every row; two columns, the common case, need one comparison."""
    return logits[:, 1] > logits[:, 0] if logits.shape[1] == 2 else logits.argmax(axis=1)


@dataclass(frozen=True)
class Metric:
    """A further metric of all rows at once.

    Parameters
    ----------
    name : str
    value : callable
        From logits, `score_targets` and weights of rows, or None, to a number.
    greater_is_better : bool or None, default None
        None where nobody said.

    Examples
    --------
    >>> Metric("rows", lambda logits, targets, weights: len(logits)).name
    'rows'
    """

    name: str
    value: Callable[[Array, Array, Array | None], float]
    greater_is_better: bool | None = None


def resolve_metrics(given: Any, network: MLP) -> list[Metric]:
    """Return the metrics that a user asked for, under names that are theirs alone.

    The output's own score, asked for by its name, is left out: it is recorded anyway.

    Parameters
    ----------
    given : sequence or mapping
        Each as `resolve_metric` takes it, or with a name of its own: a pair of name and metric,
        or an item of a mapping.
    network : MLP

    Raises
    ------
    ImportError
        If a scorer's name is given and scikit-learn is not installed.
    ValueError, TypeError
        If a metric is unknown or is none, or two would have the same name, or one the name of
        what is recorded anyway.

    Examples
    --------
    >>> def hits(y_true, y_pred):
    ...     return (y_true == y_pred).sum()
    >>> [metric.name for metric in resolve_metrics({"right": hits}, MLP([2, 2]))]
    ['right']
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"metrics must be a list or a dict of names, got {given!r}")
    score = score_name(network.output_activation)
    made: dict[str, Metric] = {}
    for item in given.items() if isinstance(given, Mapping) else given:
        if item == score:
            continue
        name, metric = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
        resolved = resolve_metric(metric, network)
        if name is not None:
            resolved = replace(resolved, name=_checks.text(name, "a metric's name"))
        _check_name(resolved.name, score)
        if resolved.name in made:
            raise ValueError(
                f"two metrics are called {resolved.name!r}; give each a name of its own: "
                "metrics={'name': metric, ...}"
            )
        made[resolved.name] = resolved
    return list(made.values())


def _check_name(name: str, score: str) -> None:
    if name != name.strip() or not name or not name.isprintable():
        raise ValueError(f"a metric's name must be text that one can read, got {name!r}")
    if name in column_directions(score) or name.startswith("val_"):
        raise ValueError(
            f"a metric cannot be called {name!r}, which is a column of the history anyway; "
            "give it another name: metrics={'name': metric}"
        )


def column_directions(
    score: str, metrics: Iterable[Metric] = (), *, validation: bool = False
) -> dict[str, bool | None]:
    """Return of every column of a history whether more is better, None where nobody said.

    Parameters
    ----------
    score : str
        The output's own.
    metrics : iterable of Metric, default ()
    validation : bool, default False
        Whether there are validation data.

    Examples
    --------
    >>> column_directions("r2")
    {'epoch': None, 'loss': False, 'r2': True, 'learning_rate': None, 'seconds': False}
    """
    measured: dict[str, bool | None] = {"loss": False, score: True}
    measured |= {metric.name: metric.greater_is_better for metric in metrics}
    validated = {f"val_{name}": upward for name, upward in measured.items()} if validation else {}
    return {"epoch": None, **measured, **validated, "learning_rate": None, "seconds": False}


def resolve_metric(metric: Any, network: MLP) -> Metric:
    """Return the metric that a name, a scorer or a function stands for.

    More of a scorer is better; a function's attribute `greater_is_better` says it of that
    function, and scikit-learn's scorers say it of the functions that they are made of.

    Parameters
    ----------
    metric : str or callable
        "label_accuracy" or "binary_accuracy", the share of single labels that are right;
        "log_loss" or "brier_score" of probabilities, as scikit-learn defines them, of several
        labels their mean; "selection_loss", the share of wrong labels plus half the log loss; the
        name of a scikit-learn scorer; what ``make_scorer`` made; or a function
        ``(y_true, y_pred) -> float``.
    network : MLP

    Raises
    ------
    ImportError
        If a name is given and scikit-learn is not installed.
    ValueError, TypeError
        If the name is unknown, or it is neither a name nor a function.

    Examples
    --------
    >>> def hits(y_true, y_pred):
    ...     return (y_true == y_pred).sum()
    >>> hits.greater_is_better = True
    >>> metric = resolve_metric(hits, MLP([2, 2]))
    >>> metric.value(np.array([[0.0, 1.0]]), np.array([1]), None), metric.greater_is_better
    (1.0, True)
    """
    if isinstance(metric, str) and metric in _OWN:
        if score_name(network.output_activation) != "accuracy":
            raise ValueError(f"the metric {metric!r} is for softmax and sigmoid outputs")
        function, upward = _OWN[metric]
        return Metric(metric, partial(function, output=network.output_activation), upward)
    if isinstance(metric, str):
        return Metric(metric, _scored(_scorer(metric), network), True)
    if not callable(metric):
        raise TypeError(f"a metric must be a name or a function, got {metric!r}")
    if _is_scorer(metric):
        sign = "neg_" if metric._sign < 0 else ""
        name = sign + _function_name(metric._score_func)
        return Metric(name, _scored(metric, network), True)

    name = _function_name(metric)

    def value(logits: Array, targets: Array, weights: Array | None) -> float:
        return _number(metric(_true(targets), network.decide(logits)), name)

    return Metric(name, value, _declared_direction(metric))


def _number(value: Any, name: str) -> float:
    """Return what a function made of true and predicted values."""
    if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biuf":
        return float(value)
    raise TypeError(f"the metric {name!r} must return a number, got {value!r}")


def _function_name(function: Any) -> str:
    """Return a function's name; a partial's is that of what it calls."""
    if isinstance(function, partial) and not hasattr(function, "__name__"):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    return str(name).strip("<>")  # of "<lambda>"


def _declared_direction(function: Any) -> bool | None:
    """Return whether more of a function is better, if it says so, or scikit-learn of it."""
    declared = getattr(function, "greater_is_better", None)
    called = function.func if isinstance(function, partial) else function
    declared = getattr(called, "greater_is_better", None) if declared is None else declared
    if declared is None:
        return _direction_in_scorers(called)
    if not isinstance(declared, bool | np.bool_):
        raise TypeError(
            f"greater_is_better of the metric {_function_name(function)!r} must be True or "
            f"False, got {declared!r}"
        )
    return bool(declared)


def _direction_in_scorers(function: Any) -> bool | None:
    """Return what scikit-learn's scorers say of a function that they are made of."""
    if not str(getattr(function, "__module__", "")).startswith("sklearn."):
        return None
    from sklearn.metrics import get_scorer, get_scorer_names

    scorers = (get_scorer(name) for name in get_scorer_names())
    signs = [s._sign for s in scorers if s._score_func is function]
    return signs[0] > 0 if signs else None


def _is_scorer(metric: Any) -> bool:
    """Return whether scikit-learn's make_scorer made it."""
    if "sklearn" not in sys.modules:
        return False
    from sklearn.metrics._scorer import _BaseScorer

    return isinstance(metric, _BaseScorer)


def _label_accuracy(
    logits: Array, targets: Array, weights: Array | None, *, output: OutputActivation
) -> float:
    right = decide(output, logits) == _true(targets)
    return _mean(right if right.ndim == 1 else right.mean(axis=1), weights)


def _log_loss(
    logits: Array, targets: Array, weights: Array | None, *, output: OutputActivation
) -> float:
    """Return the mean of -log p of the true labels, from logits, so that none underflows."""
    if output.name == "sigmoid":
        wrong = np.where(targets.reshape(logits.shape), -logits, logits)
        return _mean(np.logaddexp(0, wrong, dtype=np.float64).mean(axis=1), weights)
    shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    own = shifted[np.arange(len(logits)), targets]
    return _mean(np.log(np.exp(shifted).sum(axis=1)) - own, weights)


def _brier_score(
    logits: Array, targets: Array, weights: Array | None, *, output: OutputActivation
) -> float:
    """Return the mean square of what is missing to sure probabilities (Brier 1950).

    Summed over classes; of two classes it is that of one of them.
    """
    outputs = output.forward(logits, out=np.empty_like(logits))
    outputs = outputs.astype(np.float64)
    if output.name == "sigmoid":
        missing = outputs - targets.reshape(outputs.shape)
        return _mean(np.square(missing).mean(axis=1), weights)
    outputs[np.arange(len(outputs)), targets] -= 1
    squares = np.square(outputs).sum(axis=1)
    return _mean(squares, weights) / (2 if outputs.shape[1] == 2 else 1)


def _selection_loss(
    logits: Array, targets: Array, weights: Array | None, *, output: OutputActivation
) -> float:
    """Return the share of wrong labels plus half the log loss.

    Epochs are better chosen by both than by one: of few rows, errors alone are often equal, and the
    log loss alone minds a few sure mistakes more than many wrong labels.
    """
    right = _label_accuracy(logits, targets, weights, output=output)
    return 1 - right + _log_loss(logits, targets, weights, output=output) / 2


def _mean(values: Array, weights: Array | None) -> float:
    """Return a mean over rows; NaN where all weights are 0."""
    if weights is None:
        return float(np.mean(values))
    total = float(np.sum(weights, dtype=np.float64))
    return float(np.dot(values, weights.astype(np.float64)) / total) if total else math.nan


#: Metrics of labels that need no scikit-learn, and whether more of them is better. Of the share of
#: single labels, Keras and PyTorch's libraries say that it is binary.
_OWN: Mapping[str, tuple[Callable[..., float], bool]] = {
    "label_accuracy": (_label_accuracy, True),
    "binary_accuracy": (_label_accuracy, True),
    "log_loss": (_log_loss, False),
    "brier_score": (_brier_score, False),
    "selection_loss": (_selection_loss, False),
}


def _true(score_targets: Array) -> Array:
    """Return true labels or values in the form in which `MLP.predict` returns them."""
    y = score_targets.astype(np.int64) if score_targets.dtype == bool else score_targets
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _scorer(name: str) -> Any:
    """Return the scorer of a name."""
    try:
        from sklearn.metrics import get_scorer, get_scorer_names
    except ImportError as error:
        raise ImportError(
            f"the metric {name!r} needs scikit-learn: pip install 'fastmlp[sklearn]'"
        ) from error
    if name not in get_scorer_names():
        near = _checks.hint(_checks.nearest(name, [*_OWN, *get_scorer_names()]))
        raise ValueError(
            f"unknown metric {name!r}; {near}choose a function or one of scikit-learn's scorers, "
            f"such as 'f1_macro' (sklearn.metrics.get_scorer_names() lists them)"
        )
    return get_scorer(name)


def _scored(scorer: Any, network: MLP) -> Callable[[Array, Array, Array | None], float]:
    """Return the function of logits that a scorer of estimators amounts to."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    output = network.output_activation
    kind = ClassifierMixin if score_name(output) == "accuracy" else RegressorMixin

    class Predictions(kind, BaseEstimator):  # type: ignore[misc, valid-type]
        """An estimator whose samples are logits: what scorers ask for, without a second pass."""

        classes_ = np.arange(max(network.n_outputs, 2))

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, logits: Array) -> Array:
            return network.decide(logits)

        def predict_proba(self, logits: Array) -> Array:
            outputs = output.forward(logits, out=np.empty_like(logits))
            if output.name == "sigmoid" and outputs.shape[1] == 1:
                return np.hstack([1 - outputs, outputs])
            return outputs

    return lambda logits, targets, weights: float(scorer(Predictions(), logits, _true(targets)))
