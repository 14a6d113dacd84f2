"""What the estimators for tables share: encode, train members on folds, judge them by the rest."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from fastmlp import _checks
from fastmlp._resampling import splits
from fastmlp.activations import Activation
from fastmlp.backends.base import Backend
from fastmlp.callbacks import Callback, EarlyStopping
from fastmlp.ensemble import Ensemble
from fastmlp.schedules import CosineLog
from fastmlp.sklearn._parameters import parameter, with_parameters
from fastmlp.sklearn._recipe import draw, make_network, optimizer_of
from fastmlp.sklearn._selection import choose_score
from fastmlp.sklearn._table_encoder import TableEncoder
from fastmlp.sklearn._tabular_files import TableSource, TabularInFiles

Array = NDArray[Any]

_BATCH_SIZE = 256
_ROWS_AT_ONCE = 65536


@dataclass(frozen=True)
class Target:
    """A target as the networks take it.

    Parameters
    ----------
    values : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Numbers of classes, or standardised values.
    n_outputs : int
        Of the networks.
    strata : ndarray of shape (n_samples,)
        What every fold is to have its share of.
    attributes : dict
        Attributes of the estimator by which outputs are decoded.
    """

    values: Array
    n_outputs: int
    strata: Array
    attributes: dict[str, Any]


@dataclass(frozen=True)
class HeldOut:
    """Rows that a member was not trained on, by number, and its outputs for them."""

    rows: Array
    outputs: Array


@with_parameters
class Tabular(TabularInFiles):
    """Parameters, fit and predictions of members, whatever the target is."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]

    #: What each kind of target is trained with unless a parameter says otherwise.
    _activation: ClassVar[str]
    _learning_rate: ClassVar[float]
    _output: ClassVar[str]
    #: Whether targets are values rather than classes.
    _of_values: ClassVar[bool]

    n_members: int = parameter(
        default=8,
        allowed=[Interval(Integral, 1, None, closed="left")],
        kind="int",
        text="""
        Networks whose predictions are averaged. Each is trained without one of as many folds, and
        keeps the weights of the epoch that was best on that fold. A single one holds out
        `validation_fraction` of the rows.""",
    )
    hidden_layer_sizes: Any = parameter(
        default=(256, 256, 256),
        allowed=["array-like", Interval(Integral, 1, None, closed="left")],
        kind="int or array-like of int",
        text="Units of each hidden layer.",
    )
    activation: str | Activation | None = parameter(
        default=None,
        allowed=[str, Activation, None],
        kind="str, Activation or None",
        text='Of the hidden layers. None takes "selu" for classes and "mish" for values.',
    )
    learning_rate: float | None = parameter(
        default=None,
        allowed=[Interval(Real, 0, None, closed="neither"), None],
        kind="float or None",
        text="Adam's. None takes 0.04 for classes and 0.07 for values.",
    )
    n_epochs: int = parameter(
        default=128,
        allowed=[Interval(Integral, 1, None, closed="left")],
        kind="int",
        text="Epochs of every member, over which the learning rate goes through four waves.",
    )
    batch_size: int | str = parameter(
        default="auto",
        allowed=[StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        kind='int or "auto"',
        text='"auto" takes 256, and less where there are few rows.',
    )
    scoring: str | Callable[..., float] = parameter(
        default="auto",
        allowed=[str, callable],
        kind="str or callable",
        text="""
        What the best epoch is chosen by: "auto" (the share of wrong classes plus half the log
        loss; the squared error), "loss" (as trained), the name of a scorer of scikit-learn
        ("accuracy", "log_loss", "roc_auc", "rmse", "mae", with or without ``neg_``), or a scorer
        or a function of true and predicted classes' numbers, or standardised values.""",
    )
    early_stopping: int | None = parameter(
        default=None,
        allowed=[Interval(Integral, 1, None, closed="left"), None],
        kind="int or None",
        text="A member stops after so many epochs without a better score; None: it never does.",
    )
    time_limit: float | None = parameter(
        default=None,
        allowed=[Interval(Real, 0, None, closed="neither"), None],
        kind="float or None",
        text="Seconds that `fit` may take, by fewer epochs where `n_epochs` would take longer.",
    )
    validation_fraction: float = parameter(
        default=0.2,
        allowed=[Interval(Real, 0, 1, closed="neither")],
        kind="float",
        text="Share of the rows that a single member holds out.",
    )
    cv: Any = parameter(
        default=None,
        allowed=["cv_object"],
        kind="splitter, iterable of (train, test), or None",
        text="""
        Another way to hold out rows, such as `GroupKFold`: of its splits each member has one, in
        turn. None shuffles, and keeps the shares of classes.""",
    )
    categorical_features: Any = parameter(
        default=None,
        allowed=["array-like", None],
        kind="array-like or None",
        text="Columns that are categories although they hold numbers; see `TableEncoder`.",
    )
    random_state: Any = parameter(
        default=None,
        allowed=["random_state"],
        kind="int, RandomState or None",
        text="Of folds, initial weights and the order of rows.",
    )
    backend: str | Backend = parameter(
        default="auto",
        allowed=[str, Backend],
        kind="str or Backend",
        text='"numpy", "numba", "auto" (the fastest that is installed), or an instance.',
    )
    n_threads: int | None = parameter(
        default=None,
        allowed=[Interval(Integral, 1, None, closed="left"), None],
        kind="int or None",
        text="None takes one for each core that may be used. Results do not depend on it.",
    )
    verbose: bool | int = parameter(
        default=False,
        allowed=["verbose"],
        kind="bool or int",
        text="Shows a bar over the epochs of all members, or lines where there is no terminal.",
    )

    # Fitting -----------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit the members to a table and its target.

        Parameters
        ----------
        X : data frame of pandas or polars, or array-like of shape (n_samples, n_features)
            Numbers, categories, text, truth values and dates as they are, with missing values.
        y : array-like of shape (n_samples,)
            Of a regressor also of shape (n_samples, n_outputs).
        sample_weight : array-like of shape (n_samples,), optional
            Weights at least 0 of rows in the loss, the scores and the calibration.
        groups : array-like of shape (n_samples,), optional
            For a splitter given as `cv`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the table, the target or a parameter is not as stated.

        Warns
        -----
        TrainingInterrupted
            If Ctrl-C ended the fit; members have their best weights so far, and those that had no
            epoch are left out. Before any had one, the interrupt is raised.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        for values, what in ((y, "y"), (sample_weight, "sample_weight"), (groups, "groups")):
            _checks.in_memory(values, what)
        encoder = TableEncoder(self.categorical_features)
        encoded = encoder.fit_transform(X)
        target = self._target(y, len(encoded))
        weights = _row_weights(sample_weight, encoded)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        folds = self._folds(encoded, target.strata, groups, seed)
        metrics, watched = choose_score(self.scoring, self._of_values)
        smallest = min(len(rows) for rows, _ in folds)
        ensemble = self._ensemble(encoded.shape[1], target.n_outputs, smallest, metrics, seed)
        ensemble.fit(
            encoded,
            target.values,
            self.n_epochs,
            folds=folds,
            sample_weight=self._loss_weights(target, weights),
            callbacks=self._callbacks(watched),
            keep_best=watched,
            verbose=self.verbose,
            time_limit=self.time_limit,
        )
        ensemble = ensemble.trained()
        if not all(len(member.history) for member in ensemble.members):
            raise KeyboardInterrupt  # before any member's first epoch: there is nothing to keep
        held_out = [
            HeldOut(rows, member.predict_proba(encoded[rows]))
            for member, rows in zip(ensemble.members, ensemble.held_out, strict=True)
        ]
        fitted = {**target.attributes, **self._judged(target, held_out, weights)}
        upward = bool(ensemble.members[0].directions[watched])
        vars(self).update(
            fitted,
            encoder_=encoder,
            ensemble_=ensemble,
            watched_=watched,
            _source=TableSource(),
            best_epochs_=np.array(
                [_best_epoch(member.history[watched], upward) for member in ensemble.members]
            ),
        )
        return self

    def _folds(self, encoded: Array, strata: Array, groups: Any, seed: int) -> list[Any]:
        """Return for every member the rows that it is trained on, and those held out."""
        n_rows, n_members = len(encoded), self.n_members
        if self.cv is not None:
            folds = list(check_cv(self.cv).split(encoded, strata, groups))
            if not folds or not all(len(rows) and len(held_out) for rows, held_out in folds):
                raise ValueError("cv must give splits that have rows on both sides")
            return folds[:n_members]
        if n_rows < 2:
            raise ValueError(f"members hold out rows: at least 2 are needed, got {n_rows} sample")
        n_folds = n_members if n_members > 1 else round(1 / self.validation_fraction)
        n_folds = min(max(n_folds, 2), n_rows)
        if self._of_values:  # of as many neighbours in order, each fold has one
            strata = strata.argsort(kind="stable").argsort(kind="stable") // n_folds
        divided = splits("folds", n_members, n_folds, strata, seed)
        return [(one.rows, one.held_out) for one in divided]

    @property
    def n_features_in_(self) -> int:
        """Number of columns."""
        return int(self._fitted_encoder.n_features_in_)

    @property
    def feature_names_in_(self) -> Array:
        """Names of the columns, where they have names."""
        return self._fitted_encoder.feature_names_in_

    @property
    def _fitted_encoder(self) -> TableEncoder:
        try:
            return self.__dict__["encoder_"]
        except KeyError:
            raise AttributeError(f"this {type(self).__name__} is not fitted") from None

    def _ensemble(
        self, n_inputs: int, n_outputs: int, n_rows: int, metrics: Any, seed: int
    ) -> Ensemble:
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=np.int64)).tolist()
        sizes = (n_inputs, *hidden, n_outputs)
        activation = self._activation if self.activation is None else self.activation
        rate = self._learning_rate if self.learning_rate is None else self.learning_rate
        batch_size = min(_BATCH_SIZE, n_rows) if self.batch_size == "auto" else self.batch_size
        return Ensemble(
            make_network(sizes, activation, self._output, seed, np.float32),
            self.n_members,
            resampling=None,
            loss=self._loss(),
            optimizer=optimizer_of(sizes, rate),
            batch_size=batch_size,
            schedule=CosineLog(),
            metrics=metrics,
            initialize=draw,
            backend=self.backend,
            n_threads=self.n_threads,
            seed=seed,
        )

    def _callbacks(self, watched: str) -> list[Callback]:
        if self.early_stopping is None:
            return []
        return [EarlyStopping(watched, patience=self.early_stopping, restore_best=False)]

    # What a kind of target decides ---------------------------------------------------------------

    @abstractmethod
    def _target(self, y: Any, n_samples: int) -> Target:
        """Return the target as the networks take it."""

    def _loss_weights(self, target: Target, weights: Array | None) -> Array | None:
        """Return the weights of rows in the loss."""
        return weights

    @abstractmethod
    def _judged(
        self, target: Target, held_out: list[HeldOut], weights: Array | None
    ) -> dict[str, Any]:
        """Return the attributes that say how good the members are."""

    # Predicting ----------------------------------------------------------------------------------

    def _outputs_by_member(self, X: Any) -> Iterator[tuple[slice, Array]]:
        """Yield some rows at a time, and what each member gives for them."""
        check_is_fitted(self)
        encoded = self.encoder_.transform(X)
        for start in range(0, len(encoded), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            yield rows, self.ensemble_.member_outputs(encoded[rows])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        return tags


def mean_of_held_out(held_out: Sequence[HeldOut], n_samples: int) -> Array:
    """Return the mean outputs of every row by the members that held it out; NaN without any.

    Examples
    --------
    >>> mean_of_held_out([HeldOut(np.array([1]), np.array([[0.5]]))], n_samples=2)
    array([[nan],
           [0.5]])
    """
    total = np.zeros((n_samples, held_out[0].outputs.shape[1]))
    counts = np.zeros((n_samples, 1))
    for one in held_out:
        np.add.at(total, one.rows, one.outputs)
        np.add.at(counts, one.rows, 1)
    with np.errstate(invalid="ignore"):
        return total / counts


def check_target(y: Array, n_samples: int) -> None:
    """Raise ValueError if a target has missing values or another length than the table."""
    if len(y) != n_samples:
        raise ValueError(f"X has {n_samples} rows, but y has {len(y)}")
    missing = int(np.sum(is_missing(y)))
    if missing == y.size:
        raise ValueError("y holds nothing but missing values")
    if missing:
        raise ValueError(
            f"y holds {missing} missing value{'s'[: missing > 1]}; leave those rows out"
        )


def is_missing(values: Array) -> Array:
    """Return where values are NaN, NaT, None or pandas.NA."""
    if values.dtype.kind in "fmM":
        return np.asarray(np.isnan(values) if values.dtype.kind == "f" else np.isnat(values))
    if values.dtype.kind != "O":
        return np.zeros(values.shape, dtype=bool)
    flat = [
        value is None or type(value).__name__ == "NAType" or value != value for value in values.flat
    ]
    return np.array(flat, dtype=bool).reshape(values.shape)


def _best_epoch(values: Sequence[float], upward: bool) -> int:
    """Return the number, from 1, of the first epoch with the best value that is not NaN."""
    signed = np.array(values) * (1 if upward else -1)
    return int(np.argmax(np.where(np.isnan(signed), -np.inf, signed))) + 1


def check_coverage(coverage: float) -> float:
    """Return a coverage, or raise ValueError if it is not between 0 and 1."""
    return _checks.real(coverage, "coverage", above=0, below=1)


def _row_weights(sample_weight: Any, encoded: Array) -> Array | None:
    if sample_weight is None:
        return None
    return _check_sample_weight(
        sample_weight, encoded, dtype=encoded.dtype, ensure_non_negative=True
    )
