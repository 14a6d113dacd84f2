"""Many networks of one shape, trained side by side on one copy of the data."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _checks
from fastmlp._cores import claimed_cores, usable_cores
from fastmlp._frames import column_names
from fastmlp._jobs import Jobs
from fastmlp._locks import Turn, make_locks
from fastmlp._mapped import gather_rows, is_mapped, release_pages
from fastmlp._messages import quiet
from fastmlp._progress import Members, Silent, verbosity
from fastmlp._resampling import RESAMPLINGS, Split, given_splits, splits
from fastmlp.activations import OutputActivation, softplus
from fastmlp.backends.base import alone
from fastmlp.callbacks import Callback, KeepBest, as_callbacks
from fastmlp.errors import DivergenceError, TrainingInterrupted
from fastmlp.history import History, Record
from fastmlp.model_file import ModelFile, load_model, save_model
from fastmlp.network import MLP, check_finite
from fastmlp.trainer import Trainer

Array = NDArray[Any]

_NO_ROWS = np.empty(0, dtype=np.int64)
#: Predictions of all members that are in memory at once.
_VALUES_AT_ONCE = 2**22
#: Below this many multiply-adds, starting threads takes longer than it saves.
_WORTH_THREADS = 10_000_000


class Ensemble:
    """Networks of one shape, each trained by itself, that predict together.

    Members are trained side by side, each on a thread of its own by compiled code, on one copy of
    the data. Each has the bits that a `Trainer` alone gives it, whatever the number of threads.

    Parameters
    ----------
    network : MLP
        The shape of all members, which is itself not trained. Member i is drawn anew with the
        seed ``seed + i``, which is the seed of its sample order, dropout and noise too.
    n_members : int, default 8
    resampling : {"folds", "bootstrap"} or None, default "folds"
        "folds" divides the rows into folds, of which each member leaves one out and is measured
        on it; they have equal shares of all classes, where outputs are softmax or a single
        sigmoid. "bootstrap" draws as many rows as there are, with repetition, and measures on
        those that were not drawn. With None, members differ by their seeds alone.
    n_folds : int or None, default None
        At least 2; None is as many as members. With fewer, rows are shuffled and divided again.
    n_threads : int or None, default None
        How many members are trained at once; None is one for each core that may be used, and that
        no other ensemble is using in the process. Where there are more threads than members, each
        member has several.
    seed : int or None, default None
        Of members, folds and samples. None takes the network's seed.
    initialize : callable, optional
        Called with each member's network after it was drawn, to change its parameters in place;
        the network's ``seed`` is the member's own.
    **settings
        What `Trainer` takes: `loss`, `optimizer`, `batch_size`, `backend`, `schedule`,
        `regularization`, `class_weight` and `metrics`.

    Attributes
    ----------
    members : tuple of Trainer
        Each with its `network` and its `history`.

    Raises
    ------
    ValueError, TypeError
        If an argument is unknown or out of range.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> ensemble = Ensemble(MLP([1, 8, 2]), n_members=2, optimizer="adam", backend="numpy")
    >>> histories = ensemble.fit(X, y, epochs=3, verbose=False)
    >>> [len(history) for history in histories]
    [3, 3]
    >>> ensemble.predict_proba(X).shape
    (4, 2)
    """

    def __init__(
        self,
        network: MLP,
        n_members: int = 8,
        *,
        resampling: str | None = "folds",
        n_folds: int | None = None,
        n_threads: int | None = None,
        seed: int | None = None,
        initialize: Callable[[MLP], object] | None = None,
        **settings: Any,
    ) -> None:
        if not isinstance(network, MLP):
            raise TypeError(f"network must be an MLP, got {network!r}")
        n_members = _checks.integer(n_members, "n_members", at_least=1)
        if resampling not in RESAMPLINGS:
            raise ValueError(
                f"resampling must be one of {_checks.listing(RESAMPLINGS)}, got {resampling!r}"
            )
        self.resampling = resampling
        self.n_folds = n_folds
        if n_folds is not None:
            self.n_folds = _checks.integer(n_folds, "n_folds", at_least=2)
        self.n_threads = n_threads
        if n_threads is not None:
            self.n_threads = _checks.integer(n_threads, "n_threads", at_least=1)
        self.seed = network.seed if seed is None else _checks.integer(seed, "seed", at_least=0)
        settings["backend"] = alone(settings.get("backend", "auto"), "an ensemble trains")
        networks = [network.drawn_anew(self.seed + i) for i in range(n_members)]
        if initialize is not None:
            for one in networks:
                initialize(one)
        self.members = tuple(
            Trainer(one, n_threads=share, **settings)
            for one, share in zip(networks, _shares(self._most_threads(), n_members), strict=True)
        )
        self._splits: tuple[Split | None, ...] = (None,) * n_members
        make_locks(self)

    def make_locks(self) -> None:
        """Make the locks; not for users."""
        #: At changing what training has come to.
        self._turn = Turn()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        make_locks(self)
        self._divide(self._most_threads())  # of this process, which may be another's worker

    def __repr__(self) -> str:
        return (
            f"Ensemble({self.members[0].network!r}, n_members={self.n_members}, "
            f"resampling={self.resampling!r}, seed={self.seed})"
        )

    @classmethod
    def from_parameters(cls, network: MLP, parameters: ArrayLike, **settings: Any) -> Ensemble:
        """Return an ensemble whose members have given parameters, to predict or to train on.

        Parameters
        ----------
        network : MLP
            The shape of all members.
        parameters : array-like of shape (n_members, n_parameters)
        **settings
            What `Ensemble` takes besides.

        Raises
        ------
        ValueError
            If the parameters are not of that shape.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> network = MLP([1, 2])
        >>> first = Ensemble(network, 3, backend="numpy")
        >>> twin = Ensemble.from_parameters(network, first.parameters, backend="numpy")
        >>> bool((twin.predict_proba([[0.5]]) == first.predict_proba([[0.5]])).all())
        True
        """
        rows = np.asarray(parameters)
        if rows.ndim != 2 or rows.shape[1] != network.n_parameters or len(rows) == 0:
            raise ValueError(
                f"parameters must have shape (n_members, {network.n_parameters}), got {rows.shape}"
            )
        made = cls(network, len(rows), **settings)
        for member, row in zip(made.members, rows, strict=True):
            member.network.parameters = row
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all networks to one model file, whole or not at all (needs ``safetensors``).

        Those that have a say in predictions, as `MLP.save` writes a network; each array of the
        file has an axis more, of the members. How they were trained is not kept.

        Parameters
        ----------
        path : str or Path
            Replaced if it exists.

        Raises
        ------
        FileNotFoundError, ImportError, ModelFileError
            As `MLP.save`.

        Examples
        --------
        >>> import tempfile
        >>> from fastmlp import MLP
        >>> ensemble = Ensemble(MLP([4, 3]), 2, backend="numpy")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ensemble.save(f"{folder}/model.safetensors")
        ...     same = Ensemble.load(f"{folder}/model.safetensors", backend="numpy")
        >>> bool((same.parameters == ensemble.parameters).all())
        True
        """
        speaking = self._speaking()
        parameters = np.stack([member.network.parameters for member in speaking])
        save_model(path, ModelFile(speaking[0].network, members=parameters))

    @classmethod
    def load(cls, path: str | os.PathLike[str], **settings: Any) -> Ensemble:
        """Return the ensemble of a model file, which predicts, and may be trained on.

        Loading runs nothing that the file could choose, as with `MLP.load`.

        Parameters
        ----------
        path : str or Path
        **settings
            What `Ensemble` takes besides the network and the number of members.

        Raises
        ------
        OSError, ImportError, ModelFileError
            As `MLP.load`; or if the file holds a single network.

        Examples
        --------
        >>> Ensemble.load("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.safetensors'
        """
        model = load_model(path, ensemble=True)
        parameters: Any = model.members
        return cls.from_parameters(model.network, parameters, **settings)

    def copy(self) -> Ensemble:
        """Return an ensemble that is independent of this one, with all that it has learned.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> ensemble = Ensemble(MLP([1, 2]), 2, backend="numpy")
        >>> ensemble.copy().members[0] is ensemble.members[0]
        False
        """
        return copy.deepcopy(self)

    @property
    def n_members(self) -> int:
        """Number of networks."""
        return len(self.members)

    def trained(self) -> Ensemble:
        """Return an ensemble of the members that an interrupted fit did not leave untrained.

        It shares them with this one, which it is itself where all are trained, or none.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> ensemble = Ensemble(MLP([1, 2]), 2, backend="numpy")
        >>> ensemble.trained() is ensemble
        True
        """
        kept = [i for i, member in enumerate(self.members) if len(member.history)]
        if len(kept) in (0, self.n_members):
            return self
        part = copy.copy(self)
        part.members = tuple(self.members[i] for i in kept)
        part._splits = tuple(self._splits[i] for i in kept)
        return part

    @property
    def parameters(self) -> Array:
        """A copy of all members' parameters, of shape (n_members, n_parameters)."""
        return np.stack([member.network.parameters for member in self.members])

    @property
    def rows(self) -> tuple[Array, ...]:
        """The numbers of the rows that each member was last trained on; none before."""
        return tuple(_NO_ROWS if one is None else one.rows for one in self._splits)

    @property
    def held_out(self) -> tuple[Array, ...]:
        """The numbers of the rows that each member was last measured on; none before."""
        return tuple(_NO_ROWS if one is None else one.held_out for one in self._splits)

    # Training --------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        epochs: int = 10,
        *,
        folds: Iterable[Any] | None = None,
        sample_weight: ArrayLike | None = None,
        callbacks: Iterable[Any] | Callable[[int], Iterable[Any]] | None = None,
        verbose: bool | int | str = True,
        time_limit: float | None = None,
        keep_best: str | None = None,
    ) -> list[History]:
        """Train every member for some epochs more; a second call goes on where the first ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `Trainer.fit`. X is not copied, unless floats of another dtype than the
            network's are converted once for all members; each member that is being trained has a
            copy of the rows that it is measured on.
        epochs : int, default 10
            How many epochs more, at least 0.
        folds : iterable of (train_rows, held_out_rows), optional
            What to divide the rows by in place of `resampling`: row numbers, as the splitters of
            scikit-learn yield them by ``split(X, y, groups)``. Members beyond their number start
            again from the first. Default: the division of the fit before, where there are as many
            rows; else a new one.
        callbacks : iterable, or callable of a member's number, optional
            Each member has deep copies of its own. A function of the member's number, from 0,
            returns the list of its callbacks. They are called in the threads that train.
        verbose : bool, int or "auto", default True
            True, 1 or "auto" shows a line a member, and on a terminal or in a notebook (with
            tqdm) a bar over the epochs of all; 2 or more a line an epoch; False or 0 nothing.
        time_limit : float, optional
            Seconds in which to end, above 0. All members get equal shares of them, and fewer
            epochs where they do not suffice: schedules stretch over as many as there is time for.
            Each trains at least one epoch.
        keep_best : str, optional
            A column of the history, such as "val_loss": members end with the parameters of their
            best epoch by it, as with `KeepBest`.

        Returns
        -------
        list of History
            Every member's epochs of this call.

        Raises
        ------
        ValueError
            If the data does not fit the network or each other, or cannot be divided.
        DivergenceError
            If a member diverged, which the message names. All members are left as they were after
            their last good epochs.
        RuntimeError
            If another thread is fitting this ensemble.

        Warns
        -----
        TrainingInterrupted
            If Ctrl-C ended the fit; members are left as they were after their last whole epochs.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> ensemble = Ensemble(MLP([1, 2]), 2, resampling=None, backend="numpy")
        >>> ensemble.fit([[0.0], [1.0]], [0, 1], epochs=2, verbose=False)[1]["epoch"]
        [1, 2]
        """
        epochs = _checks.integer(epochs, "epochs", at_least=0)
        if time_limit is not None:
            time_limit = _checks.real(time_limit, "time_limit", above=0)
        if keep_best is not None:
            keep_best = _checks.text(keep_best, "keep_best")
        level = verbosity(verbose)
        limit = None if time_limit is None else _Limit(time_limit)
        with (turn := threading.Lock()), quiet(level == 0), self._threads() as n_threads:
            if not self._turn.claim(turn):
                raise RuntimeError("another thread is fitting this ensemble; wait for it")
            self._divide(n_threads)
            firsts = [len(member.history) for member in self.members]
            try:
                table = self._table(X, y, sample_weight)
                divided = self._divided(table, folds)
                _check_measured(keep_best, divided)
                fit = _Fit(self.members, table, divided, epochs, limit)
                try:
                    fit.run(_listed(callbacks, keep_best), n_threads, level)
                finally:
                    self._remember(firsts, divided)
            except KeyboardInterrupt:
                numbers = ", ".join(str(len(member.history)) for member in self.members)
                warnings.warn(
                    "training was interrupted; members are as they were after their last whole "
                    f"epochs: {numbers}",
                    TrainingInterrupted,
                    stacklevel=2,
                )
            return [
                History(member.history.records[first:])
                for member, first in zip(self.members, firsts, strict=True)
            ]

    def _most_threads(self) -> int:
        return usable_cores() if self.n_threads is None else self.n_threads

    @contextlib.contextmanager
    def _threads(self) -> Iterator[int]:
        """Give the number of threads to run on, which others do not count on meanwhile."""
        if self.n_threads is not None:
            yield self.n_threads
            return
        with claimed_cores() as n_threads:
            yield n_threads

    def _divide(self, n_threads: int) -> None:
        for member, share in zip(self.members, _shares(n_threads, self.n_members), strict=True):
            member._use_threads(share)

    def _table(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None) -> _Table:
        """Return the data of all members, checked and converted once."""
        first = self.members[0]
        network, data = first.network, first._data(X, y, sample_weight)
        rows = data.X
        floats = isinstance(rows, np.ndarray) and rows.dtype.kind == "f" and not is_mapped(rows)
        if floats and rows.dtype.itemsize >= network.dtype.itemsize:
            rows = np.ascontiguousarray(rows, dtype=network.dtype)
        weights = None if sample_weight is None else np.asarray(sample_weight)
        is_binary = network.output_activation.name == "sigmoid" and network.n_outputs == 1
        has_classes = is_binary or network.output_activation.name == "softmax"
        labels = data.score_targets.reshape(-1) if has_classes else np.zeros(len(data.targets))
        return _Table(rows, data.targets, weights, labels, column_names(X))

    def _divided(self, table: _Table, folds: Iterable[Any] | None) -> list[Split]:
        """Return the rows of every member: the given ones, those of before, or drawn ones."""
        n_members, n_rows = self.n_members, len(table.targets)
        if folds is not None:
            return given_splits(folds, n_members, n_rows)
        if any(one is None or one.n_rows != n_rows for one in self._splits):
            n_folds = n_members if self.n_folds is None else self.n_folds
            if self.resampling == "folds" and n_folds == 1:
                raise ValueError(
                    "one member has no folds: make the ensemble with n_folds or resampling=None, "
                    "or give folds to fit"
                )
            drawn = splits(self.resampling, n_members, n_folds, table.labels, self.seed)
        else:
            drawn = []
        return [
            old if old is not None and old.n_rows == n_rows else drawn[i]
            for i, old in enumerate(self._splits)
        ]

    def _remember(self, firsts: list[int], divided: list[Split]) -> None:
        """Take note of what the members that were trained saw."""
        kept = list(self._splits)
        for i, (member, first) in enumerate(zip(self.members, firsts, strict=True)):
            if len(member.history) > first:
                kept[i] = divided[i]
        self._splits = tuple(kept)

    # Predicting ------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> Array:
        """Return the mean of the members' outputs: probabilities, or values.

        Shapes and errors as for `MLP.predict_proba`. Members that an interrupted fit left
        untrained have no say, here and in all that the ensemble predicts.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Ensemble(MLP([2, 2]), 2, backend="numpy").predict_proba([[0.0, 0.0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        return self._joined(X, "outputs", _mean)

    def logits(self, X: Any) -> Array:
        """Return the logits of which the output activation makes `predict_proba`'s means.

        Computed without the loss of digits that probabilities near 0 and 1 have.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Ensemble(MLP([2, 1], output_activation="sigmoid"), 2, backend="numpy").logits([0, 0])
        array([0.], dtype=float32)
        """
        output = self.members[0].network.output_activation
        return self._joined(X, "logits", partial(_joined_logits, output))

    def predict(self, X: Any) -> Array:
        """Return labels by the mean of the members' probabilities, or the mean of their values.

        The most probable class (softmax), whether a probability is at least one half (sigmoid),
        or values; shapes and errors as for `MLP.predict`.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Ensemble(MLP([2, 2]), 2, backend="numpy").predict([[0.0, 0.0]])
        array([0])
        """
        return _decided(self.members[0].network.output_activation, self.predict_proba(X))

    def member_outputs(self, X: Any) -> Array:
        """Return what each member's `Trainer.predict_proba` returns.

        Returns
        -------
        ndarray of shape (n_members, n_samples, n_outputs) or (n_members, n_outputs)

        Examples
        --------
        >>> from fastmlp import MLP
        >>> Ensemble(MLP([2, 3]), 4, backend="numpy").member_outputs([[0.0, 0.0]]).shape
        (4, 1, 3)
        """
        network = self.members[0].network
        rows, single = network.as_rows(X)
        shape = (self.n_members, rows.shape[0], network.n_outputs)
        outputs = np.empty(shape, dtype=network.dtype)
        for block, part in self._predicted(self.members, rows, "outputs"):
            outputs[:, block] = part
        return outputs[:, 0] if single else outputs

    def out_of_fold(self, X: Any) -> Array:
        """Return the outputs of the rows that members were trained on, by those that were not.

        An honest picture of rows that no network has seen.

        Parameters
        ----------
        X
            As in the last fit.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            The mean where several members held a row out, NaN where none did.

        Raises
        ------
        ValueError
            If no member held out rows of so many.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> ensemble = Ensemble(MLP([1, 2]), 2, backend="numpy")
        >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> _ = ensemble.fit(X, [0, 1, 0, 1], epochs=1, verbose=False)
        >>> ensemble.out_of_fold(X).shape
        (4, 2)
        """
        network = self.members[0].network
        rows, single = network.as_rows(X)
        n_rows = rows.shape[0]
        holding = [
            (member, one)
            for member, one in zip(self.members, self._splits, strict=True)
            if one is not None and one.n_rows == n_rows and len(one.held_out) and not single
        ]
        if not holding:
            raise ValueError(
                f"no member held out some of {n_rows} rows: give X as it was in the last fit, "
                'which must have divided it (resampling="folds", for example)'
            )
        with self._side_by_side(n_rows) as each:
            parts = list(each(partial(_held_out, rows), holding))
        total, count = np.zeros((n_rows, network.n_outputs)), np.zeros((n_rows, 1))
        for (_, one), part in zip(holding, parts, strict=True):
            total[one.held_out] += part
            count[one.held_out] += 1
        means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        return means.astype(network.dtype)

    def _speaking(self) -> Sequence[Trainer]:
        """Return the members that predict: not those that an interrupt left untrained."""
        return self.trained().members

    def _joined(self, X: Any, kind: str, join: Callable[[Array], Array]) -> Array:
        """Return what `join` makes of the predictions of all members that have a say."""
        network = self.members[0].network
        rows, single = network.as_rows(X)
        out = np.empty((rows.shape[0], network.n_outputs), dtype=network.dtype)
        for block, part in self._predicted(self._speaking(), rows, kind):
            out[block] = join(part)
        return out[0] if single else out

    def _predicted(
        self, members: Sequence[Trainer], rows: Any, kind: str
    ) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of rows, and what members predict of them, side by side."""
        network = self.members[0].network
        n_at_once = max(1024, _VALUES_AT_ONCE // (len(members) * network.n_outputs))
        with self._side_by_side(rows.shape[0]) as each:
            for start in range(0, rows.shape[0], n_at_once):
                block = slice(start, start + n_at_once)
                some = _converted(rows[block], network.dtype)
                try:
                    stack = np.stack(list(each(partial(_predicted, some, kind), members)))
                except ValueError:
                    check_finite(rows, network.dtype, network.input_scale)  # names the row
                    raise
                yield block, stack
                release_pages(rows)

    @contextlib.contextmanager
    def _side_by_side(self, n_rows: int) -> Iterator[Callable[..., Iterable[Any]]]:
        """Give a `map` whose calls run at once, as far as that saves time."""
        work = n_rows * self.n_members * self.members[0].network.n_parameters
        if work <= _WORTH_THREADS:
            yield map
            return
        with self._threads() as n_threads:
            n_at_once = min(self.n_members, n_threads)
            if n_at_once == 1:
                yield map
                return
            with ThreadPoolExecutor(n_at_once) as pool:
                yield pool.map


def _shares(n_threads: int, n_members: int) -> list[int]:
    """Return how many of the threads each member has."""
    return [max(1, (n_threads + i) // n_members) for i in range(n_members)]


# A fit ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """What all members are trained on."""

    X: Any
    targets: Array
    sample_weight: Array | None
    #: Class numbers, of which folds have equal shares; else zeros.
    labels: Array
    names: tuple[str, ...] | None

    def some(self, rows: Array) -> tuple[Any, ...] | None:
        """Return copies of some rows, their targets and weights, or None of none."""
        if not len(rows):
            return None
        X = gather_rows(self.X, rows) if is_mapped(self.X) else self.X[rows]
        weights = () if self.sample_weight is None else (self.sample_weight[rows],)
        return X, self.targets[rows], *weights


class _Fit:
    """The jobs of a fit, one for each member, and what they share."""

    def __init__(
        self,
        members: Sequence[Trainer],
        table: _Table,
        divided: Sequence[Split],
        epochs: int,
        limit: _Limit | None,
    ) -> None:
        self._members = members
        self._table = table
        self._splits = divided
        self._epochs = epochs
        self._limit = limit
        self._jobs = Jobs(self._train, len(members))

    def run(self, callbacks: Callable[[int], list[Any]], n_threads: int, verbose: int) -> None:
        """Train all members; an error names the one that it came from."""
        n_members = len(self._members)
        self._callbacks = callbacks
        self._n_threads = min(n_members, n_threads)
        if self._limit is not None:
            self._compile()
        self._shown = Members(verbose, n_members, self._epochs)
        try:
            with contextlib.closing(self._shown):
                self._jobs.run(self._n_threads)
        except BaseException as error:
            if self._jobs.failed is None:
                raise
            name = f"member {self._jobs.failed + 1} of {n_members}"
            if isinstance(error, DivergenceError):
                raise DivergenceError(f"{name}: {error}") from error
            error.add_note(f"raised while {name} was trained")
            raise

    def _train(self, number: int) -> None:
        network = self._members[number].network
        known, n_before = network.feature_names, len(self._members[number].history)
        network.feature_names = self._table.names or known
        try:
            self._fit(number)
        finally:
            if len(self._members[number].history) == n_before:  # nothing was learned
                network.feature_names = known
        self._jobs.tell(partial(self._shown.end, number))

    def _fit(self, number: int) -> None:
        table, split = self._table, self._splits[number]
        callbacks: list[Any] = self._callbacks(number)
        if self._limit is not None:
            deadline = self._limit.deadline(number, len(self._members), self._n_threads)
            # First, for what others decide is final.
            callbacks = [_Pace(self._limit, deadline, self._epochs), *callbacks]
        shown: Any = _Told(self._jobs, self._shown, number)
        self._members[number].fit(
            table.X,
            table.targets,
            self._epochs,
            table.some(split.held_out),
            rows=split.rows,
            sample_weight=table.sample_weight,
            callbacks=callbacks,
            verbose=shown,
        )

    def _compile(self) -> None:
        """Train a network on a row: what is compiled at first use takes no member's time."""
        table, rows, like = self._table, self._splits[0].rows[:1], self._members[0]
        trial = Trainer(
            like.network.copy(),
            like.loss,
            like.optimizer,
            backend=like.backend,
            regularization=like.regularization,
        )
        silent: Any = Silent()
        with contextlib.suppress(DivergenceError):  # which is for the members to find
            trial.fit(table.X, table.targets, 1, table.some(rows), rows=rows, verbose=silent)


class _Told(Silent):
    """Tells the thread that waits what a member's fit would show."""

    def __init__(self, jobs: Jobs, shown: Members, number: int) -> None:
        self._jobs, self._shown, self._number = jobs, shown, number
        self.prefix = shown.prefix(number)

    def advance(self, n_batches: int) -> None:
        """Look whether all is to end."""
        self._jobs.check()

    def epoch(self, record: Mapping[str, float], last: int) -> None:
        """Hand on an epoch's record."""
        self._jobs.tell(partial(self._shown.epoch, self._number, dict(record), last))

    def note(self, text: str) -> None:
        """Hand on a sentence."""
        self._jobs.tell(partial(self._shown.note, self._number, text))


class _Limit:
    """When a fit is to end, and what its epochs take."""

    def __init__(self, seconds: float) -> None:
        self._end = _now() + seconds
        #: As the member that measured last found it.
        self.seconds_per_epoch: float | None = None

    def deadline(self, number: int, n_members: int, n_threads: int) -> float:
        """Return when a member is to end: what is left is shared with those to come after it."""
        n_rounds = -(-n_members // n_threads) - number // n_threads
        now = _now()
        return now + max(0.0, self._end - now) / n_rounds


class _Pace(Callback):
    """Plans as many epochs as there is time for, at least one."""

    def __init__(self, limit: _Limit, deadline: float, epochs: int) -> None:
        self._limit, self._deadline, self._epochs = limit, deadline, epochs

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._begin, self._first = _now(), len(trainer.history)
        self._plan(trainer, 0)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        n_done = int(record["epoch"]) - self._first
        self._limit.seconds_per_epoch = (_now() - self._begin) / n_done
        self._plan(trainer, n_done)
        return None

    def _plan(self, trainer: Trainer, n_done: int) -> None:
        seconds = self._limit.seconds_per_epoch
        if seconds is None:
            return  # the first epoch will tell
        n_more = (self._deadline - _now()) / max(seconds, 1e-9)
        n_epochs = min(max(1, n_done, n_done + int(n_more)), self._epochs)
        trainer.stop(after=self._first + n_epochs)


def _now() -> float:
    return time.monotonic()


def _listed(given: Any, keep_best: str | None) -> Callable[[int], list[Any]]:
    """Return a function from a member's number to callbacks of its own."""
    # What is no callback is found before anything is trained.
    listed = [] if given is None or callable(given) else as_callbacks(given)

    def of_member(number: int) -> list[Any]:
        mine = list(given(number)) if callable(given) else copy.deepcopy(listed)
        return mine if keep_best is None else [*mine, KeepBest(keep_best)]

    return of_member


def _check_measured(keep_best: str | None, divided: Sequence[Split]) -> None:
    if keep_best is None or not keep_best.startswith("val_"):
        return
    if not all(len(one.held_out) for one in divided):
        raise ValueError(
            f"keep_best={keep_best!r} needs rows that members are measured on, which "
            'resampling="folds" or folds= would leave out of their training'
        )


# Predictions of several networks ---------------------------------------------------------------


def _mean(stack: Array) -> Array:
    return np.asarray(stack.mean(axis=0, dtype=np.float64))


def _joined_logits(output: OutputActivation, logits: Array) -> Array:
    """Return the logits of the mean of outputs, from logits of shape (n_members, n, n_outputs)."""
    z, log_n = logits.astype(np.float64), np.log(len(logits))
    if output.name == "softmax":
        z -= np.logaddexp.reduce(z, axis=-1, keepdims=True)
    if output.name == "sigmoid":
        return np.asarray(
            np.logaddexp.reduce(-softplus(-z), axis=0) - np.logaddexp.reduce(-softplus(z), axis=0)
        )
    if output.name in ("softmax", "exp"):
        return np.asarray(np.logaddexp.reduce(z, axis=0) - log_n)
    return _mean(z)


def _decided(output: OutputActivation, outputs: Array) -> Array:
    """Return what `MLP.predict` would decide, from outputs of shape (..., n_outputs)."""
    if output.name == "softmax":
        return np.asarray(outputs).argmax(axis=-1)
    values = (outputs >= 0.5).astype(np.int64) if output.name == "sigmoid" else outputs
    return values[..., 0][()] if values.shape[-1] == 1 else values


def _converted(X: Any, dtype: np.dtype[Any]) -> Any:
    """Return rows in a network's dtype, once for all members; sparse rows as they are."""
    if not isinstance(X, np.ndarray) or X.dtype == dtype:
        return X
    with np.errstate(over="ignore"):  # it is found where all is computed
        return X.astype(dtype)


def _predicted(X: Any, kind: str, member: Trainer) -> Array:
    return member._predict(X, kind)


def _held_out(rows: Any, holding: tuple[Trainer, Split]) -> Array:
    member, split = holding
    X = gather_rows(rows, split.held_out) if is_mapped(rows) else rows[split.held_out]
    return _predicted(X, "outputs", member)
