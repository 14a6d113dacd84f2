"""The conformance kit: what any backend, ours or a stranger's, must do like the reference.

The reference is the NumPy backend in float64, given the very numbers (rounded to the dtype under
test) that the backend under test is given. Errors are relative: ||a - b|| / ||b||. Of networks
whose products are in bfloat16 it is that backend itself, in float32: it defines what is rounded.

Bounds follow from the machine epsilon and the lengths of the sums, in no way from what a backend
reaches. A sum of n products is off by at most n eps times the sum of its magnitudes (Higham,
"Accuracy and Stability of Numerical Algorithms", 2002, chapter 3), and, as roundings do not
conspire, by about sqrt(n) eps of them (Higham & Mary 2019, SIAM J. Sci. Comput. 41). The kit
allows n eps of the result, which leaves a factor of sqrt(n) for cancellation. Logits have gone
through the sums of every layer, n_in terms each; a gradient moreover through n_out terms each and
one term for every row; and every layer rounds a few times more, in bias, activation, derivative.
Where factors of products are rounded to bfloat16, one that lies in the middle of two of its numbers
may become the other one: by its epsilon each. So a backend that does not round at all passes.

Over many steps errors grow as the training itself makes differences grow. How much is measured:
the reference is run again with every step's gradient displaced, at random, by as much as is
allowed for one gradient. A backend may differ by as much as this changes.
"""

from __future__ import annotations

import importlib.util
import itertools
import pickle
import sys
import unittest
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _bfloat16, _checks
from fastmlp._weights import total_weight
from fastmlp.activations import ACTIVATIONS, ELU, OUTPUT_ACTIVATIONS, Activation, LeakyReLU
from fastmlp.backends.base import Backend, Session, TrainingState, get_backend
from fastmlp.losses import LOSSES, CrossEntropy, CustomLoss, Huber, Loss, Quantile
from fastmlp.network import MLP, decide
from fastmlp.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Optimizer,
    RateFactors,
    RMSprop,
)
from fastmlp.regularization import DividedL2, Regularization
from fastmlp.targets import prepare_targets
from fastmlp.trainer import Trainer

Array = NDArray[Any]

_REFERENCE = get_backend("numpy")
_DTYPES = ("float64", "float32")
#: What networks may be computed with.
_KINDS = (*_DTYPES, "bfloat16")
#: Roundings of a layer beside its sums: bias, activation (a few ulp), derivative, constants.
_LAYER_ROUNDINGS = 16
#: Roundings of one element in an optimizer's update, rounded hyper-parameters included.
_UPDATE_ROUNDINGS = 16
_DISPLACED_RUNS = 3
#: Failures that a message shows in full.
_SHOWN_FAILURES = 20

#: Every optimizer, with each of its options on and off.
OPTIMIZER_CASES: tuple[Optimizer, ...] = (
    SGD(0.05),
    SGD(0.05, momentum=0.9),
    SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    Adam(0.01),
    Adam(0.01, weight_decay=0.1),
    AdamW(0.01, weight_decay=0.1),
    RMSprop(0.01),
    RMSprop(0.01, momentum=0.9, weight_decay=0.1),
    Adagrad(0.05),
    Adagrad(0.05, weight_decay=0.1),
    Lion(0.005, weight_decay=0.1),
    SGD(0.05, rate_factors=RateFactors(0.5, 2.0)),
    AdamW(0.01, weight_decay=0.1, rate_factors=RateFactors(0.5, 2.0)),
)

#: Every regularization, alone and all together, for networks of three weight layers.
REGULARIZATION_CASES: tuple[Regularization, ...] = (
    Regularization(),
    Regularization(l1=0.01),
    Regularization(l2=0.1),
    DividedL2(l2=3.0),
    Regularization(dropout=0.5),
    Regularization(dropout=(0.2, 0.4, 0.1)),
    Regularization(input_noise=0.1),
    Regularization(clip_norm=0.3),
    Regularization(clip_value=0.02),
    Regularization(max_norm=0.8),
    Regularization(ema=0.9),
    Regularization(0.01, 0.1, (0.1, 0.3, 0.2), 0.1, 0.3, 0.05, 0.8, 0.9),
)

#: Layer sizes, number of rows and batch size: width 1, batch 1, a partial last batch, a batch
#: larger than the data, widths beside powers of two, ten classes, hundreds of units.
SHAPE_CASES: tuple[tuple[tuple[int, ...], int, int], ...] = (
    ((1, 1), 3, 1),
    ((1, 1, 1), 5, 2),
    ((5, 1, 2), 7, 3),
    ((3, 4), 4, 9),
    ((33, 17, 10), 33, 1),
    ((3, 17, 33, 10), 70, 32),
    ((16, 16, 16, 2), 65, 64),
    ((7, 15, 9, 31, 8), 40, 13),
    ((300, 257, 10), 45, 20),
    ((1100, 20, 3), 9, 4),
    ((4, 1100, 2), 9, 4),
)


class ConformanceError(AssertionError):
    """A backend differs from the reference; the message names each check and where it failed.

    Examples
    --------
    >>> from fastmlp.backends.numpy_backend import NumpyBackend, NumpySession
    >>> class Doubled(NumpySession):
    ...     def _logits(self, X):
    ...         return 2 * super()._logits(X)
    >>> class DoubledBackend(NumpyBackend):
    ...     def _bind(self, network, loss, optimizer, regularization, batch_size, n_threads, seed):
    ...         return Doubled(network, loss, optimizer, regularization, batch_size, seed)
    >>> try:
    ...     check_backend(DoubledBackend(), ["predict"], sample=1)
    ... except ConformanceError as error:
    ...     print(str(error).split(":")[0])
    DoubledBackend() is not like the reference
    predict
    """


@dataclass(frozen=True)
class Case:
    """One check in one setting.

    Parameters
    ----------
    id : str
        Unique and the same in every run, for instance "gradient-012-float32".
    check : str
        A name out of `CHECKS`.
    setting : Setting
        What is compared; its `str` is a line that says all.

    Examples
    --------
    >>> next(iter(cases(["gradient"]))).id
    'gradient-000-float64'
    """

    id: str
    check: str
    setting: Setting


def cases(
    checks: Iterable[str] | None = None,
    dtypes: Iterable[str] | None = None,
    sample: float | int = 1.0,
    seed: int = 0,
) -> list[Case]:
    """Return the cases of the kit, to parametrize a test by.

    Parameters
    ----------
    checks : iterable of str, optional
        Names out of `CHECKS`. Default: all of them.
    dtypes : iterable of str, optional
        Out of "float64", "float32" and "bfloat16", which stands for networks of that precision.
        Default: all.
    sample : float or int, default 1.0
        The share of cases to return, above 0 and at most 1, or their number, drawn evenly along
        the list: a slow backend may be content with a tenth.
    seed : int, default 0
        Of the draw.

    Raises
    ------
    ValueError
        If there is no check or dtype of that name, or the share is out of range.

    Examples
    --------
    >>> some, every = (cases(["curves"], ["float32"], sample=share) for share in (0.1, 1.0))
    >>> len(some), len(every) >= 20
    (4, True)
    """
    if isinstance(sample, int | np.integer):
        sample = _checks.integer(sample, "sample", at_least=1)
    else:
        _checks.real(sample, "sample", above=0, at_most=1)
    wanted = list(CHECKS) if checks is None else list(checks)
    kinds = list(_KINDS) if dtypes is None else [_kind(dtype) for dtype in dtypes]
    for name, known, what in (
        *((name, CHECKS, "check") for name in wanted),
        *((name, _KINDS, "dtype") for name in kinds),
    ):
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; choose of {_checks.listing(known)}")
    found = []
    for check in wanted:
        numbers: dict[str, Iterator[int]] = defaultdict(itertools.count)
        for setting in _SETTINGS[check]():
            number = next(numbers[setting.kind])
            if setting.kind in kinds:
                found.append(Case(f"{check}-{number:03}-{setting.kind}", check, setting))
    count = sample if isinstance(sample, int) else max(1, round(sample * len(found)))
    if count >= len(found):
        return found
    # One out of each of `count` equal stretches; a fixed stride would meet one dtype only.
    places = np.arange(count) + np.random.default_rng(seed).uniform(size=count)
    return [found[index] for index in (places * len(found) / count).astype(int)]


def _kind(dtype: Any) -> str:
    """Return the name of a dtype; NumPy has no bfloat16."""
    return str(dtype) if str(dtype) in _KINDS else str(np.dtype(dtype))


def random_cases(checks: Iterable[str] = ("predict", "gradient", "bits")) -> Any:
    """Return a Hypothesis strategy of cases beyond those of the list.

    Parameters
    ----------
    checks : iterable of str, default ("predict", "gradient", "bits")
        Names out of `CHECKS`.

    Returns
    -------
    hypothesis.strategies.SearchStrategy of Case

    Raises
    ------
    ImportError
        If hypothesis is not installed.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(case=random_cases())
    ... def test_random_cases(case):
    ...     check_case("numpy", case)
    >>> test_random_cases()
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise ImportError(
            "random cases are drawn by hypothesis; install it with `pip install hypothesis`"
        ) from error
    widths = st.one_of(st.integers(1, 40), st.sampled_from([47, 48, 49, 128, 129, 255, 300]))
    single = [pair for pair in _losses() if len(getattr(pair[1], "levels", (0.5,))) == 1]

    def setting(sizes: list[int], pair: tuple[str, Loss], kind: str, **options: Any) -> Setting:
        if kind in _DTYPES:
            options["dtype"] = kind
        else:
            options |= {"dtype": "float32", "precision": kind}
        return Setting(sizes=tuple(sizes), output=pair[0], loss=pair[1], **options)

    settings = st.builds(
        setting,
        st.lists(widths, min_size=2, max_size=5),
        st.sampled_from(single),
        hidden=st.sampled_from(sorted(ACTIVATIONS)),
        optimizer=st.sampled_from(OPTIMIZER_CASES),
        regularization=st.sampled_from(
            [one for one in REGULARIZATION_CASES if not isinstance(one.dropout, tuple)]
        ),
        n_rows=st.integers(1, 70),
        batch_size=st.integers(1, 40),
        kind=st.sampled_from(_KINDS),
        weighted=st.booleans(),
        scaling_layer=st.booleans(),
        rows=st.sampled_from(["dense", "dense", "blank first", "blank second"]),
        seed=st.integers(0, 2**40),
    )
    return st.builds(
        lambda check, one: Case(f"{check}-random-{one.kind}", check, one),
        st.sampled_from(list(checks)),
        settings,
    )


def check_case(backend: str | Backend, case: Case) -> None:
    """Check one case; see `check_backend`.

    Raises
    ------
    ConformanceError
        If the backend differs from the reference.
    unittest.SkipTest
        If the backend says that it does not support the case's network, loss or optimizer;
        pytest and unittest count the test as skipped.

    Examples
    --------
    >>> check_case("numpy", cases(["predict"])[0])
    """
    backend = get_backend(backend)
    setting = case.setting
    reason = backend.unsupported(
        setting.network(), setting.loss, setting.optimizer, setting.regularization
    )
    if reason is not None:
        raise unittest.SkipTest(reason)
    epsilon = backend.machine_epsilon(np.dtype(setting.dtype))
    setting = replace(setting, machine_epsilon=epsilon)
    try:
        CHECKS[case.check](backend, setting)
    except AssertionError as failure:
        raise ConformanceError(f"{case.check}: {failure} [{case.id}]") from None
    except Exception as error:
        raise ConformanceError(
            f"{case.check}: raises {type(error).__name__}: {error} ({setting}) [{case.id}]"
        ) from error


def check_backend(
    backend: str | Backend,
    checks: Iterable[str] | None = None,
    *,
    dtypes: Iterable[str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    sample: float | int = 1.0,
    seed: int = 0,
    progress: Callable[[int, int, Case], None] | bool = False,
) -> None:
    """Check that a backend computes what the reference computes, in every case.

    Parameters
    ----------
    backend : str or Backend
        A name, or an instance of a backend that is registered nowhere.
    checks, dtypes, sample, seed
        Choose among the cases, as `cases` describes.
    expected_failures : mapping of str to str, optional
        Ids of cases, or patterns of them such as ``"bits-*-float32"``, and why they fail. One that
        passes is reported.
    progress : callable or bool, default False
        Called before each case with its number from 1, the number of cases, and the `Case`; True
        prints a line for each check on the error stream.

    Raises
    ------
    ConformanceError
        If a case fails; the message says for every one (up to 20 of them in full) in which
        setting, by how much, and what is allowed.
    ValueError
        If there is no check or dtype of that name.

    Warns
    -----
    UserWarning
        If cases are skipped because the backend does not support them: how many, and why.

    Examples
    --------
    >>> from fastmlp.backends.numpy_backend import NumpyBackend, NumpySession
    >>> check_backend("numpy", ["errors", "inputs"])

    A backend that forgets the bias is caught:

    >>> class Forgetful(NumpyBackend):
    ...     def _bind(self, *arguments):
    ...         session = super()._bind(*arguments)
    ...         session.network.biases[0][:] = 0
    ...         return session
    >>> check_backend(Forgetful(), ["predict"])
    Traceback (most recent call last):
        ...
    fastmlp.testing.ConformanceError: Forgetful() is not like the reference
    predict: logits differ from the reference by ..., allowed is ... (layers ...

    In pytest, with a test for each case:

    >>> import pytest
    >>> @pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
    ... def test_conformance(case):
    ...     check_case("mybackend", case)
    """
    backend = get_backend(backend)
    chosen = cases(checks, dtypes, sample, seed)
    expected = {} if expected_failures is None else expected_failures
    failures: list[str] = []
    skipped: list[str] = []
    cause: BaseException | None = None
    tell = _checks_on_stderr() if progress is True else progress
    for number, case in enumerate(chosen, 1):
        if tell:
            tell(number, len(chosen), case)
        reason = next((why for ids, why in expected.items() if fnmatchcase(case.id, ids)), None)
        try:
            check_case(backend, case)
        except unittest.SkipTest as skip:
            skipped.append(str(skip))
        except ConformanceError as failure:
            if reason is None:
                failures.append(str(failure))
                cause = cause or failure.__cause__
        else:
            if reason is not None:
                failures.append(f"{case.check}: passes, but should fail ({reason}) [{case.id}]")
    if skipped:
        why = "; ".join(sorted(set(skipped)))
        warnings.warn(f"{len(skipped)} of {len(chosen)} cases skipped: {why}", stacklevel=2)
    if failures:
        more = len(failures) - _SHOWN_FAILURES
        rest = [f"and {more} more of {len(chosen)} cases"] if more > 0 else []
        lines = [f"{backend} is not like the reference", *failures[:_SHOWN_FAILURES], *rest]
        raise ConformanceError("\n".join(lines)) from cause


def _checks_on_stderr() -> Callable[[int, int, Case], None]:
    """Return a function that prints a line where another check begins."""
    begun: set[str] = set()

    def tell(number: int, n_cases: int, case: Case) -> None:
        if case.check not in begun:
            begun.add(case.check)
            print(f"{case.check}: from case {number} of {n_cases}", file=sys.stderr, flush=True)

    return tell


# Cases ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A network, a way to train it, and the data to train it on.

    Examples
    --------
    >>> setting = Setting(sizes=(3, 4, 2), n_rows=5)
    >>> setting.network().layer_sizes
    (3, 4, 2)
    """

    sizes: tuple[int, ...] = (5, 18, 3, 4)
    hidden: str | tuple[str | Activation, ...] = "tanh"
    output: str = "softmax"
    loss: Loss = field(default_factory=CrossEntropy)
    optimizer: Optimizer = field(default_factory=lambda: SGD(0.05))
    regularization: Regularization = field(default_factory=Regularization)
    n_rows: int = 23
    batch_size: int = 7
    dtype: str = "float64"
    labels: bool = False
    weighted: bool = True
    input_scale: float = 1.0
    scaling_layer: bool = False
    #: As the network has it; "bfloat16" with float32 only.
    precision: str = "full"
    #: What the rows are: "dense"; "gaps", half of them zeros, with a blank column and row; or
    #: "blank second" or "blank first", where of two batches that one is blank in the first epoch.
    rows: str = "dense"
    #: "first" or "all": that batch, or every sample, weighs 0; "some": every third sample.
    weightless: str = ""
    #: Inputs are so many times larger; logits and pre-activations follow.
    magnitude: float = 1.0
    seed: int = 3
    #: The number of updates behind the session.
    step: int = 0
    #: Declared by the backend under test; bounds follow it where it is coarser than the dtype's.
    machine_epsilon: float = 0.0

    def __str__(self) -> str:
        loss = "custom loss" if isinstance(self.loss, CustomLoss) else self.loss
        others = {
            "scaling_layer": False,
            "precision": "full",
            "rows": "dense",
            "weightless": "",
            "magnitude": 1.0,
            "seed": 3,
            "step": 0,
        }
        odd = "".join(
            f", {name} {getattr(self, name)}"
            for name, usual in others.items()
            if getattr(self, name) != usual
        )
        return (
            f"layers {self.sizes}, {self.hidden}, {self.output}, {loss}, {self.optimizer}, "
            f"{self.regularization}, {self.n_rows} rows, batch {self.batch_size}, {self.dtype}{odd}"
        )

    @property
    def kind(self) -> str:
        """Return what is computed with: the precision, where it is not full, or the dtype."""
        return self.dtype if self.precision == "full" else self.precision

    def network(self) -> MLP:
        """Return a network whose parameters, biases too, are random."""
        network = MLP(
            self.sizes,
            self.hidden,
            self.output,
            dtype=self.dtype,
            seed=1,
            input_scale=self.input_scale,
            scaling_layer=self.scaling_layer,
            precision=self.precision,
        )
        network.parameters += (
            np.random.default_rng(2).normal(0, 0.1, network.n_parameters).astype(self.dtype)
        )
        return network

    def bind(self, backend: Backend, n_threads: int | None = None) -> Session:
        return self._bind(backend, self.network(), n_threads)

    def reference(self) -> Session:
        """Return a session of the reference, with the same parameters; if it may be, in float64."""
        if self.precision != "full":
            return self._bind(_REFERENCE, self.network(), None)
        network = MLP(
            self.sizes,
            self.hidden,
            self.output,
            dtype="float64",
            input_scale=self.input_scale,
            scaling_layer=self.scaling_layer,
        )
        network.parameters = self.network().parameters
        return self._bind(_REFERENCE, network, None)

    def _bind(self, backend: Backend, network: MLP, n_threads: int | None) -> Session:
        session = backend.bind(
            network,
            self.loss,
            self.optimizer,
            self.regularization,
            batch_size=self.batch_size,
            n_threads=n_threads,
            seed=self.seed,
        )
        if self.step:
            session.load(replace(session.store(), step=self.step))
        return session

    def data(self) -> tuple[Array, Array, Array | None]:
        """Return rows, targets and weights, as exact in float64 as in the dtype under test."""
        rng = np.random.default_rng(4)
        shape = self.n_rows, self.loss.target_width(self.sizes[-1])
        X = self.magnitude * rng.normal(size=(self.n_rows, self.sizes[0]))
        batches = np.arange(self.n_rows) // self.batch_size
        first_order = next(self.epochs(1))[0]
        if self.rows == "gaps":
            X *= rng.uniform(size=X.shape) < 0.5
            X[:, 1] = X[2] = 0
        elif self.rows.startswith("blank"):
            X *= rng.uniform(size=X.shape) < 0.5
            X[first_order[batches % 2 == (self.rows == "blank second")]] = 0
        if self.labels:
            y: Array = rng.integers(0, self.sizes[-1], self.n_rows)
        elif self.output == "softmax":
            y = rng.dirichlet(np.ones(shape[1]), self.n_rows).astype(self.dtype)
        elif self.output == "sigmoid":
            y = rng.uniform(size=shape).astype(self.dtype)
        elif self.output == "exp":
            y = rng.poisson(3.0, shape).astype(self.dtype)
        else:  # far from the outputs, so that their difference does not cancel
            y = (rng.choice([-4.0, 4.0], shape) + rng.normal(size=shape)).astype(self.dtype)
        weights = rng.uniform(0.5, 2, self.n_rows).astype(self.dtype) if self.weighted else None
        if weights is not None and self.weightless:
            idle = {
                "all": batches >= 0,
                "first": batches == 0,
                "some": np.arange(self.n_rows) % 3 == 0,
            }
            weights[first_order[idle[self.weightless]]] = 0
        return X.astype(self.dtype), y, weights

    def epochs(self, n_epochs: int) -> Iterator[tuple[Array, Array]]:
        """Yield the order of samples and the learning rates of each epoch."""
        rng = np.random.default_rng(5)
        n_batches = -(-self.n_rows // self.batch_size)
        rate = self.optimizer.learning_rate
        for _ in range(n_epochs):
            yield rng.permutation(self.n_rows), np.linspace(rate, 0.5 * rate, n_batches)

    # Bounds

    @property
    def eps(self) -> float:
        own = float(np.finfo(self.dtype).eps)
        if self.precision != "full":
            own *= 2  # the reference rounds as well
        return max(own, self.machine_epsilon)

    @property
    def rounding_bound(self) -> float:
        """Return what is allowed for the factors of every layer's product: one spacing each."""
        n_layers = len(self.sizes) - 1
        return 0.0 if self.precision == "full" else 2 * n_layers * _bfloat16.EPSILON

    def logits_bound(self) -> float:
        """Return the relative error allowed in logits."""
        sums = sum(n_in + _LAYER_ROUNDINGS for n_in in self.sizes[:-1])
        return self.eps * sums + self.rounding_bound

    def gradient_bound(self, n_rows: int) -> float:
        """Return the relative error allowed in the loss of rows and in its gradient.

        A slope follows a logit's absolute error, which grows with the magnitude of the inputs.
        """
        sums = sum(n_out + _LAYER_ROUNDINGS for n_out in self.sizes[1:]) + n_rows
        own = self.eps * sums + self.rounding_bound
        return max(1.0, self.magnitude) * self.logits_bound() + own

    def loading_bound(self) -> float:
        """Return the relative error allowed in what is loaded and stored: none, in equal dtypes."""
        coarser = self.machine_epsilon > np.finfo(self.dtype).eps
        return self.machine_epsilon if coarser else 0.0

    def update_bound(self) -> float:
        """Return the relative error allowed in an update by a given gradient."""
        roundings = _UPDATE_ROUNDINGS
        if self.regularization.clip_norm is not None:
            roundings += self.network().n_parameters
        if self.regularization.max_norm is not None:
            roundings += max(self.sizes)
        return self.eps * roundings


def _twice(**options: Any) -> Iterator[Setting]:
    """Yield a case in both dtypes."""
    for dtype in _DTYPES:
        yield Setting(dtype=dtype, **options)


def _pseudo_huber(outputs: Array, targets: Array) -> Array:
    return np.asarray(np.mean(np.sqrt(1 + (outputs - targets) ** 2) - 1, axis=1))


def _pseudo_huber_gradient(outputs: Array, targets: Array) -> Array:
    error = outputs - targets
    return np.asarray(error / np.sqrt(1 + error**2) / outputs.shape[1])


def _losses() -> Iterator[tuple[str, Loss]]:
    """Yield every output activation with every loss that has a meaning for it."""
    losses = [
        *LOSSES.values(),
        CrossEntropy(label_smoothing=0.1),
        Huber(0.3),
        Quantile((0.9,)),
        Quantile((0.1, 0.3, 0.5, 0.9)),
        CustomLoss(_pseudo_huber, _pseudo_huber_gradient),
    ]
    for loss in losses:
        for output in loss.output_names:
            yield output, loss


def _combinations() -> Iterator[Setting]:
    """Yield every hidden activation with every pair of output activation and loss."""
    for hidden in ACTIVATIONS:
        for output, loss in _losses():
            yield from _twice(hidden=hidden, output=output, loss=loss)


def _networks() -> Iterator[Setting]:
    """Yield every hidden activation with every output activation."""
    for hidden in ACTIVATIONS:
        for output in OUTPUT_ACTIVATIONS:
            yield from _twice(hidden=hidden, output=output, loss=LOSSES["mse"])


def _shapes() -> Iterator[Setting]:
    for sizes, n_rows, batch_size in SHAPE_CASES:
        for optimizer in (SGD(0.05), Adam(0.01)):
            yield from _twice(
                sizes=sizes,
                n_rows=n_rows,
                batch_size=batch_size,
                optimizer=optimizer,
                output="linear",
                loss=LOSSES["mse"],
            )


def _updates() -> Iterator[Setting]:
    """Yield every optimizer with and without regularization, every regularization with two."""
    for optimizer in _CONSTANTS:
        yield from _twice(optimizer=optimizer)
    plain, *single, everything = REGULARIZATION_CASES
    for optimizer in OPTIMIZER_CASES:
        for regularization in (plain, everything):
            yield from _twice(optimizer=optimizer, regularization=regularization)
    for regularization in single:
        for optimizer in (SGD(0.05), Adam(0.01, weight_decay=0.1)):
            yield from _twice(optimizer=optimizer, regularization=regularization)
    for optimizer in _WITH_FACTORS:
        for regularization in (plain, Regularization(clip_norm=0.3)):
            yield from _twice(optimizer=optimizer, regularization=regularization)


def _trainings() -> Iterator[Setting]:
    yield from _updates()
    yield from _shapes()
    for hidden in ACTIVATIONS:
        yield from _twice(hidden=hidden)
    for output, loss in _losses():
        yield from _twice(output=output, loss=loss)
    for options in ({"labels": True}, {"weighted": False}, {"input_scale": 0.3}):
        yield from _twice(**options)


#: Optimizers whose constants are not the usual ones.
_CONSTANTS: tuple[Optimizer, ...] = (
    Adam(0.01, beta_1=0.7, beta_2=0.9, epsilon=0.1),
    AdamW(0.01, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.3),
    RMSprop(0.01, smoothing=0.6, epsilon=0.1),
    Adagrad(0.05, epsilon=0.1),
    Lion(0.005, beta_1=0.5, beta_2=0.7),
)

#: Every optimizer with factors on its rate that differ from layer to layer, of three.
_WITH_FACTORS: tuple[Optimizer, ...] = tuple(
    replace(optimizer, rate_factors=RateFactors((0.5, 0.0, 2.0), (3.0, 0.25, 1.5), 0.7))
    for optimizer in (
        SGD(0.05),
        SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
        Adam(0.01, weight_decay=0.1),
        AdamW(0.01, weight_decay=0.1),
        RMSprop(0.01, momentum=0.9, weight_decay=0.1),
        Adagrad(0.05, weight_decay=0.1),
        Lion(0.005, weight_decay=0.1),
    )
)

#: Hidden activations that differ from layer to layer, with parameters of their own.
_MIXED: tuple[str | Activation, ...] = (LeakyReLU(0.3), ELU(0.4))


def _odd() -> Iterator[Setting]:
    """Yield what a backend may have overlooked: activations by layer, zeros, seeds, steps."""
    noisy = Regularization(dropout=0.3, input_noise=0.1)
    yield from _twice(hidden=_MIXED)
    yield from _twice(hidden=("relu", "sigmoid"))
    for rows in ("gaps", "blank second", "blank first"):
        yield from _twice(rows=rows, hidden="relu")
        yield from _twice(rows=rows, hidden="relu", optimizer=_WITH_FACTORS[0])
    for weightless in ("some", "first", "all"):
        yield from _twice(weightless=weightless)
    yield from _twice(regularization=noisy, seed=2**40 + 3)
    yield from _twice(regularization=noisy, step=2**32 - 2)
    yield from _twice(regularization=noisy, step=2**33 + 1)


#: Networks with a scaling layer, and batch sizes: first layers of one unit, of few and of many
#: beside few and many inputs, and as the only layer.
_SCALED: tuple[tuple[tuple[int, ...], int], ...] = (
    ((1, 1), 2),
    ((3, 1, 2), 7),
    ((5, 18, 3, 4), 7),
    ((33, 4), 40),
    ((130, 17, 5), 13),
    ((7, 260, 3), 20),
    ((300, 257, 10), 20),
)


def _scaled() -> Iterator[Setting]:
    """Yield networks with a scaling layer: their shapes, and what comes between it and the rows."""
    for sizes, batch_size in _SCALED:
        yield from _twice(sizes=sizes, batch_size=batch_size, scaling_layer=True)
    noisy = Regularization(dropout=(0.2, 0.4, 0.1), input_noise=0.1)
    yield from _twice(regularization=noisy, input_scale=0.3, scaling_layer=True)
    for rows in ("gaps", "blank second"):
        yield from _twice(rows=rows, hidden="relu", scaling_layer=True)
    custom = CustomLoss(_pseudo_huber, _pseudo_huber_gradient)
    yield from _twice(output="linear", loss=custom, scaling_layer=True)


def _rounded() -> Iterator[Setting]:
    """Yield networks whose products are in bfloat16: what is rounded, and where it may be lost."""
    one: dict[str, Any] = {"dtype": "float32", "precision": "bfloat16"}
    noisy = Regularization(dropout=(0.2, 0.4, 0.1), input_noise=0.1)
    for sizes, batch_size in (((1, 1), 2), ((130, 17, 5), 13), ((300, 257, 10), 20)):
        yield Setting(sizes=sizes, batch_size=batch_size, **one)
    for hidden in ("relu", "sigmoid", _MIXED):
        yield Setting(hidden=hidden, **one)
    for optimizer in (Adam(0.01, weight_decay=0.1), SGD(0.05, momentum=0.9)):
        yield Setting(optimizer=optimizer, input_scale=0.3, **one)
    yield Setting(rows="gaps", hidden="relu", **one)
    yield Setting(rows="gaps", hidden="relu", sizes=(200, 60, 10), weighted=False, **one)
    for scaling_layer in (False, True):
        yield Setting(regularization=noisy, scaling_layer=scaling_layer, **one)
    custom = CustomLoss(_pseudo_huber, _pseudo_huber_gradient)
    yield Setting(output="linear", loss=custom, scaling_layer=True, **one)
    yield from _rounded_whole()


def _rounded_whole() -> Iterator[Setting]:
    """Yield one such network with everything at once."""
    everything = REGULARIZATION_CASES[-1]
    yield Setting(
        optimizer=Adam(0.01), regularization=everything, dtype="float32", precision="bfloat16"
    )


def _scaled_updates() -> Iterator[Setting]:
    """Yield every optimizer and every regularization with a scaling layer."""
    for optimizer in (*OPTIMIZER_CASES, *_WITH_FACTORS):
        yield from _twice(optimizer=optimizer, scaling_layer=True)
    for regularization in REGULARIZATION_CASES[1:]:
        yield from _twice(optimizer=Adam(0.01), regularization=regularization, scaling_layer=True)


def _saturated() -> Iterator[Setting]:
    """Yield networks whose exponentials overflow where they are taken without care."""
    for hidden in ACTIVATIONS:
        yield from _twice(
            hidden=hidden, magnitude=1e3, output="linear", loss=LOSSES["huber"], sizes=(5, 18, 4)
        )
    for output in ("softmax", "sigmoid"):
        yield from _twice(sizes=(5, 4), magnitude=1e4, output=output)


#: Every width that may end a vector or a tile, in chains, each with a batch size.
_WIDTHS: tuple[tuple[tuple[int, ...], int], ...] = (
    ((1, 2, 3, 4, 5), 1),
    ((6, 7, 8, 9), 7),
    ((10, 11, 12, 13), 64),
    ((14, 15, 16, 17, 2), 127),
    ((31, 33, 47), 128),
    ((48, 49, 3), 129),
    ((128, 129, 2), 255),
    ((255, 256, 3), 256),
    ((257, 9, 2), 257),
    ((9, 1100, 4), 64),
    ((5, 7, 2), 600),
    ((784, 250, 130, 10), 128),
)


def _sizes() -> Iterator[Setting]:
    """Yield a whole batch and a part of the next for each of these widths."""
    for sizes, batch in _WIDTHS:
        yield from _twice(
            sizes=sizes, n_rows=batch + 3, batch_size=batch, output="linear", loss=LOSSES["mse"]
        )


def _long(*counts: int) -> Iterator[Setting]:
    """Yield small networks and many rows."""
    for n_rows in counts:
        yield from _twice(
            sizes=(3, 5, 2), n_rows=n_rows, batch_size=4096, output="linear", loss=LOSSES["mse"]
        )


def _curves() -> Iterator[Setting]:
    for optimizer in OPTIMIZER_CASES:
        for regularization in (REGULARIZATION_CASES[0], REGULARIZATION_CASES[-1]):
            yield from _twice(optimizer=optimizer, regularization=regularization)
    yield from (*_scaled(), *_everything(), *_rounded_whole())


# Comparing -----------------------------------------------------------------------------------


def _error(actual: Array, expected: Array) -> float:
    """Return ||actual - expected|| / ||expected||; infinite where a number is NaN."""
    with np.errstate(all="ignore"):
        distance = float(np.linalg.norm(actual.astype(np.float64) - expected))
    size = float(np.linalg.norm(expected))
    if not np.isfinite(distance):
        return np.inf
    return distance / size if size else distance


def _compare(what: str, actual: Array, expected: Array, bound: float, case: Setting) -> None:
    if actual.shape != expected.shape:
        raise AssertionError(f"{what} have shape {actual.shape}, not {expected.shape} ({case})")
    error = _error(actual, expected)
    if not error <= bound:
        raise AssertionError(
            f"{what} differ from the reference by {error:.2g}, allowed is {bound:.2g} ({case})"
        )


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)


def _cast(state: TrainingState, dtype: str) -> TrainingState:
    average = None if state.average is None else state.average.astype(dtype)
    return TrainingState(
        state.parameters.astype(dtype), state.moments.astype(dtype), average, state.step
    )


def _arrays(state: TrainingState) -> dict[str, Array]:
    arrays = {"parameters": state.parameters}
    arrays |= {f"moments {number}": moment for number, moment in enumerate(state.moments, 1)}
    return arrays if state.average is None else arrays | {"averages": state.average}


def _bits(state: TrainingState) -> list[bytes | int]:
    return [*(array.tobytes() for array in _arrays(state).values()), state.step]


def _targets(session: Session, y: Array) -> Array:
    return prepare_targets(
        y, session.loss, session.output_activation, session.n_outputs, session.dtype
    )


def _train(
    case: Setting, session: Session, n_epochs: int = 1, batches_per_call: int | None = None
) -> dict[str, Array]:
    """Return everything that training computes: losses, logits and the state."""
    X, y, weights = case.data()
    targets = _targets(session, y)
    losses, seen, penalties = [], [], []
    for order, rates in case.epochs(n_epochs):
        step = batches_per_call or len(rates)
        for first in range(0, len(rates), step):
            rows = order[first * case.batch_size : (first + step) * case.batch_size]
            logits = np.full((len(rows), session.n_outputs), np.nan, dtype=session.dtype)
            rate = rates[first : first + step]
            penalty = np.full(len(rate), np.nan)
            losses.append(session.train(X, targets, rows, rate, weights, logits, penalty))
            seen.append(logits)
            penalties.append(penalty)
    return {
        "losses": np.concatenate(losses),
        "logits": np.concatenate(seen),
        "penalties": np.concatenate(penalties),
        **_arrays(session.store()),
    }


def _train_at_once(case: Setting, session: Session, n_epochs: int) -> dict[str, Array]:
    """Return what `_train` does, with all epochs in one call."""
    X, y, weights = case.data()
    orders, rates = zip(*case.epochs(n_epochs), strict=True)
    order, rate = np.concatenate(orders), np.concatenate(rates)
    logits = np.full((len(order), session.n_outputs), np.nan, dtype=session.dtype)
    penalties = np.full(len(rate), np.nan)
    given = (X, _targets(session, y), order, rate, weights, logits, penalties)
    return {
        "losses": session.train(*given, n_epochs=n_epochs),
        "logits": logits,
        "penalties": penalties,
        **_arrays(session.store()),
    }


def _train_displaced(case: Setting, n_epochs: int, seed: int) -> dict[str, Array]:
    """Return what `_train` does, with gradients and parameters displaced within their bounds."""
    rng = np.random.default_rng(seed)
    session = case.reference()
    X, y, weights = case.data()
    targets = _targets(session, y)
    losses, seen, penalties = [], [], []
    gradient = np.empty(session.n_parameters, session.dtype)
    for order, rates in case.epochs(n_epochs):
        for batch, rate in enumerate(rates):
            rows = order[batch * case.batch_size : (batch + 1) * case.batch_size]
            logits = np.empty((len(rows), session.n_outputs), session.dtype)
            shares = None if weights is None else weights[rows]
            loss = session._loss_and_gradient(X[rows], targets[rows], shares, gradient, logits)
            losses.append(loss)
            seen.append(logits)
            penalties.append(session.penalty(total_weight(shares, len(rows))))
            length = case.gradient_bound(len(rows)) * float(np.linalg.norm(gradient))
            noise = rng.normal(size=gradient.shape) * (gradient != 0)
            gradient += length / max(float(np.linalg.norm(noise)), 1e-300) * noise
            session._update(gradient, float(rate))
            state = session.store()
            displacement = case.eps * rng.choice([-1, 1], gradient.shape)
            state.parameters *= 1 + displacement
            session.load(state)
    return {
        "losses": np.array(losses),
        "logits": np.concatenate(seen),
        "penalties": np.array(penalties),
        **_arrays(session.store()),
    }


# The checks ----------------------------------------------------------------------------------


def _check_predict(backend: Backend, case: Setting) -> None:
    """Compare logits and outputs of all rows, of a single one, and of none."""
    session, reference, X = case.bind(backend), case.reference(), case.data()[0]
    bound = case.logits_bound()
    expected = reference.logits(X)
    _compare("logits", session.logits(X), expected, bound, case)
    _compare("logits of one row", session.logits(X[0]), expected[0], bound, case)
    _compare("logits of no rows", session.logits(X[:0]), expected[:0], bound, case)
    # An output's slope is at most max(1, output), so that errors in logits grow no more.
    _compare(
        "outputs",
        session.outputs(X),
        reference.outputs(X),
        4 * bound * max(1.0, case.magnitude),
        case,
    )
    _compare_predictions(session, reference, X, bound, case)
    _compare_rows(session, reference, X, bound, case)
    _require(
        session.logits(X).dtype == session.dtype,
        f"logits have dtype {session.logits(X).dtype}, not {session.dtype} ({case})",
    )


def _compare_predictions(
    session: Session, reference: Session, X: Array, bound: float, case: Setting
) -> None:
    """Compare what `predict` returns, which refuses what is not finite."""
    logits, outputs = session.logits(X), session.predict(X, "outputs")
    _require(
        np.array_equal(session.predict(X, "logits"), logits),
        f"predict returns other logits than logits does ({case})",
    )
    expected = reference.outputs(X)
    _compare("predicted outputs", outputs, expected, 4 * bound * max(1.0, case.magnitude), case)
    decided = decide(session.output_activation, logits)
    decisions = session.predict(X)
    _require(
        decisions.shape == decided.shape and decisions.dtype == decided.dtype,
        f"decisions are {decisions.dtype} of shape {decisions.shape}, not {decided.dtype} of shape "
        f"{decided.shape} ({case})",
    )
    if decided.dtype.kind == "i":
        _require(np.array_equal(decisions, decided), f"decisions are not by the logits ({case})")
    else:
        wanted = outputs if decided.ndim == 2 else outputs[:, 0]
        _require(np.array_equal(decisions, wanted), f"decisions are not the outputs ({case})")
    for kind in ("logits", "outputs", "decisions"):
        spoilt = X.copy()
        spoilt[-1, -1] = np.nan
        _require(
            _refuses(partial(session.predict, spoilt, kind)), f"predict takes NaN ({kind}, {case})"
        )


def _refuses(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ValueError:
        return True
    return False


def _compare_rows(
    session: Session, reference: Session, X: Array, bound: float, case: Setting
) -> None:
    """Compare the functions of one row, where there are any; they refuse what is not finite."""
    for output in ("linear", session.output_activation.name):
        compute = session.row_function(output)
        if compute is None:
            continue
        expected = (reference.logits if output == "linear" else reference.outputs)(X[:1])[0]
        out = np.full(session.n_outputs, np.nan, session.dtype)
        _require(bool(compute(X[0].copy(), out)), f"a function of a row refuses one ({case})")
        _compare(f"{output} outputs of a function of a row", out, expected, bound, case)
        kept = out.copy()
        _require(
            not compute(np.full_like(X[0], np.nan), out) and np.array_equal(out, kept),
            f"a function of a row takes NaN ({case})",
        )


def _check_gradient(backend: Backend, case: Setting) -> None:
    """Compare loss and gradient of more rows than a batch holds, written over NaN."""
    X, y, weights = case.data()
    session, reference = case.bind(backend), case.reference()
    gradient = np.full(session.n_parameters, np.nan, dtype=session.dtype)
    expected = np.full(session.n_parameters, np.nan, dtype=reference.dtype)
    bound = case.gradient_bound(case.n_rows)
    loss = session.loss_and_gradient(X, y, gradient, weights)
    expected_loss = reference.loss_and_gradient(X, y, expected, weights)
    # Losses are sums of order one, whose terms may cancel.
    size = max(1.0, abs(expected_loss))
    losses = np.array([loss, size]), np.array([expected_loss, size])
    _compare("losses", *losses, bound, case)
    _compare("gradients", gradient, expected, bound, case)


def _check_parts(backend: Backend, case: Setting) -> None:
    """Compare the sum of a batch's parts, where a backend has such, and an update by it.

    Dropout and noise are those of the whole batch.
    """
    if not backend.has_parts:
        return
    X, y, weights = case.data()
    session, reference = case.bind(backend), case.reference()
    total = total_weight(weights, case.n_rows)
    logits = np.full((case.n_rows, session.n_outputs), np.nan, dtype=session.dtype)
    # Some parts are longer than a batch of the session, some have one row.
    edges = np.unique([0, 1, 2, case.n_rows // 3, case.n_rows // 2, case.n_rows])
    loss, whole = 0.0, np.zeros(len(session.part))
    for first, last in pairwise(edges):
        rows = slice(first, last)
        session.part[:] = np.nan
        loss += session.part_gradient(
            X[rows],
            y[rows],
            None if weights is None else weights[rows],
            first_row=int(first),
            total=total,
            logits=logits[rows],
        )
        whole += session.part
    expected = np.empty(session.n_parameters, reference.dtype)
    expected_logits = np.empty(logits.shape, reference.dtype)
    expected_loss = reference.loss_and_gradient(X, y, expected, weights, expected_logits)
    loss += session.penalty(total)
    bound = case.gradient_bound(case.n_rows)
    size = max(1.0, abs(expected_loss))
    losses = np.array([loss, size]), np.array([expected_loss, size])
    _compare("losses of parts", *losses, bound, case)
    _compare("logits of parts", logits, expected_logits, bound, case)
    session.part[:] = whole
    gradient = np.full(session.n_parameters, np.nan, dtype=session.dtype)
    session.whole_gradient(gradient, total=total)
    _compare("gradients of parts", gradient, expected, bound, case)
    twin = case.bind(backend)
    session.part[:] = whole
    session.apply_part(total=total, learning_rate=0.03)
    twin.update(gradient, 0.03)
    for what, array in _arrays(twin.store()).items():
        changed = _arrays(session.store())[what]
        _compare(f"{what} after an update by parts", changed, array, case.update_bound(), case)
    _require(session.step == twin.step, f"an update by parts counts as one step ({case})")


def _check_update(backend: Backend, case: Setting) -> None:
    """Compare one update by the same gradient, out of the middle of a training and at its start."""
    reference = case.reference()
    _train(case, reference)
    state = _cast(reference.store(), case.dtype)
    session = case.bind(backend)
    session.load(state)
    reference.load(_cast(state, "float64"))
    stored = _arrays(session.store())
    for what, array in _arrays(state).items():
        _compare(f"{what} loaded and stored", stored[what], array, case.loading_bound(), case)
    gradient = np.random.default_rng(6).normal(size=session.n_parameters).astype(case.dtype)
    _compare_updates(session, reference, gradient, case)
    # Where all moments are zero too, nothing but epsilon stands below a gradient of zero; and it
    # is half of what stands below one of its own size.
    start = replace(state, moments=np.zeros_like(state.moments), step=0)
    epsilon = getattr(case.optimizer, "epsilon", 1e-8)
    for size in (1.0, epsilon):
        session.load(start)
        reference.load(_cast(start, "float64"))
        gradient = np.random.default_rng(6).normal(scale=size, size=session.n_parameters)
        gradient[::3] = 0
        _compare_updates(session, reference, gradient.astype(case.dtype), case)


def _compare_updates(session: Session, reference: Session, gradient: Array, case: Setting) -> None:
    """Let both take one step by the same gradient, and compare all that it changes."""
    reference.update(gradient.astype(reference.dtype), 0.03)
    session.update(gradient, 0.03)
    actual, expected = session.store(), reference.store()
    for what, array in _arrays(expected).items():
        _compare(what, _arrays(actual)[what], array, case.update_bound(), case)
    _require(actual.step == expected.step, f"an update counts as one step ({case})")


def _compare_training(backend: Backend, case: Setting, n_epochs: int) -> None:
    expected = _train(case, case.reference(), n_epochs)
    displaced = [_train_displaced(case, n_epochs, seed) for seed in range(_DISPLACED_RUNS)]
    actual = _train(case, case.bind(backend), n_epochs)
    for what, array in expected.items():
        drift = max(_error(run[what], array) for run in displaced)
        bound = max(drift, case.gradient_bound(case.batch_size))
        _compare(f"{what} after {n_epochs} epochs", actual[what], array, bound, case)


def _check_epoch(backend: Backend, case: Setting) -> None:
    """Compare all that one epoch computes: losses, logits, parameters, moments, averages."""
    _compare_training(backend, case, 1)


def _check_curves(backend: Backend, case: Setting) -> None:
    """Compare several epochs, the loss of every batch among them."""
    _compare_training(backend, case, 5)


def _check_bits(backend: Backend, case: Setting) -> None:
    """Want the same bits again, for any number of threads, cut anywhere, and after a reload."""
    expected = _train(case, case.bind(backend), 2)

    def same(what: str, actual: Mapping[str, Array], expected: Any = expected) -> None:
        for name, array in expected.items():
            if not np.array_equal(actual[name], array, equal_nan=True):
                raise AssertionError(f"{name} have other bits {what}")

    same(f"in a second run ({case})", _train(case, case.bind(backend), 2))
    same(f"with 2 threads ({case})", _train(case, case.bind(backend, 2), 2))
    same(f"with 3 threads ({case})", _train(case, case.bind(backend, 3), 2))
    same(f"where calls are cut ({case})", _train(case, case.bind(backend), 2, 1))
    same(f"with two epochs in a call ({case})", _train_at_once(case, case.bind(backend), 2))
    first, second = case.bind(backend), case.bind(backend)
    _train(case, first)
    second.load(first.store())
    _train(case, first)
    _train(case, second)
    _require(
        _bits(first.store()) == _bits(second.store()),
        f"a loaded state goes on with other bits ({case})",
    )


def _check_states(backend: Backend, case: Setting) -> None:
    """Want states to be copies, which nothing but training changes."""
    network = case.network()
    before = network.parameters.tobytes()
    session = case._bind(backend, network, None)
    _train(case, session)
    _require(network.parameters.tobytes() == before, f"the bound network is written ({case})")
    kept = _bits(session.store())
    for array in _arrays(session.store()).values():
        array[:] = 5
    _require(_bits(session.store()) == kept, f"store gives no copy ({case})")
    loaded = session.store()
    session.load(loaded)
    for array in _arrays(loaded).values():
        array[:] = 6
    _require(_bits(session.store()) == kept, f"load makes no copy ({case})")
    X, y, weights = case.data()
    session.logits(X)
    session.loss_and_gradient(X, y, np.empty(session.n_parameters, session.dtype), weights)
    _require(_bits(session.store()) == kept, f"reading changes the state ({case})")
    twin = pickle.loads(pickle.dumps(session))
    _require(_bits(twin.store()) == kept, f"a pickled session has another state ({case})")
    _train(case, session)
    _train(case, twin)
    _require(
        _bits(twin.store()) == _bits(session.store()),
        f"a pickled session goes on with other bits ({case})",
    )


def _layouts(X: Array) -> Iterator[tuple[str, Any]]:
    """Yield whole numbers in every form that rows may have."""
    yield "float32", X.astype(np.float32)
    yield "float64", X.astype(np.float64)
    yield "uint8", X.astype(np.uint8)
    yield "int64", X.astype(np.int64)
    yield "float16", X.astype(np.float16)
    yield "bool", X > 0
    yield "big-endian", X.astype(">f4")
    yield "Fortran order", np.asfortranarray(X)
    yield "every other row", np.repeat(X, 2, axis=0)[::2]
    yield "every other column", np.repeat(X, 2, axis=1)[:, ::2]
    yield "reversed", X[::-1, ::-1].copy()[::-1, ::-1]
    yield "one row for all", np.broadcast_to(X[:1], X.shape)
    if importlib.util.find_spec("scipy"):
        from scipy import sparse

        yield "sparse rows", sparse.csr_array(X)


def _check_inputs(backend: Backend, case: Setting) -> None:
    """Give read-only arrays of any numeric dtype and layout, and want none written."""
    _, y, weights = case.data()
    assert weights is not None
    whole = np.random.default_rng(7).integers(0, 3, (case.n_rows, case.sizes[0]))
    for layout, X in _layouts(whole.astype(case.dtype)):
        session, plain = case.bind(backend), case.bind(backend)
        dense = X.toarray() if hasattr(X, "toarray") else X
        copied = np.array(dense, dtype=case.dtype, order="C")
        (order, rates) = next(case.epochs(1))
        rest: list[Array] = [_targets(session, y), order, rates, weights]
        given = [X.data if dense is not X else X, *rest]
        copies = [array.copy() for array in given]
        for array in given:
            array.setflags(write=False)
        losses = session.train(X, *rest)
        expected = plain.train(copied, *(array.copy() for array in copies[1:]))
        _require(
            np.array_equal(losses, expected)
            and np.array_equal(session.logits(X), plain.logits(copied)),
            f"X as {layout} gives other bits than a plain array ({case})",
        )
        gradient = np.empty(session.n_parameters, session.dtype)
        session.loss_and_gradient(X, y, gradient, weights)
        for array, copy in zip(given, copies, strict=True):
            _require(array.tobytes() == copy.tobytes(), f"an input is written ({case})")


def _mistakes(case: Setting) -> Iterator[tuple[str, Callable[[Backend], Any]]]:
    """Yield wrong calls; all raise with the reference."""
    X, y, weights = case.data()
    n, order = case.n_rows, np.arange(case.n_rows)
    rates = np.zeros(-(-n // case.batch_size))

    def session(backend: Backend) -> Session:
        return case.bind(backend)

    def gradient(backend: Backend, dtype: Any = case.dtype, shorter: int = 0) -> Array:
        return np.empty(session(backend).n_parameters - shorter, dtype)

    def targets(backend: Backend) -> Array:
        return _targets(session(backend), y)

    def train(backend: Backend, **changes: Any) -> Array:
        right = {
            "y": targets(backend),
            "order": order,
            "learning_rates": rates,
            "sample_weight": weights,
        }
        return session(backend).train(X, **{**right, **changes})

    def load(backend: Backend, **changes: Any) -> None:
        session(backend).load(replace(session(backend).store(), **changes))

    yield "rows too wide", lambda b: session(b).logits(np.zeros((2, 99)))
    yield "three dimensions", lambda b: session(b).logits(np.zeros((2, 2, case.sizes[0])))
    yield "rows of text", lambda b: session(b).outputs([["a"] * case.sizes[0]])
    yield "no rows", lambda b: session(b).loss_and_gradient(X[:0], y[:0], gradient(b))
    yield "too few targets", lambda b: session(b).loss_and_gradient(X, y[:-1], gradient(b))
    yield "targets too wide", lambda b: session(b).loss_and_gradient(X, X, gradient(b))
    yield "no probabilities", lambda b: session(b).loss_and_gradient(X, y + 1, gradient(b))
    yield "labels too large", lambda b: session(b).loss_and_gradient(X, order, gradient(b))
    yield "a short gradient", lambda b: session(b).loss_and_gradient(X, y, gradient(b, shorter=1))
    yield "a gradient of float16", lambda b: session(b).update(gradient(b, "float16"))
    yield "a short update", lambda b: session(b).update(gradient(b, shorter=1))
    yield "negative weights", lambda b: session(b).loss_and_gradient(X, y, gradient(b), -order)
    yield "too few weights", lambda b: train(b, sample_weight=np.ones(n - 1))
    yield "weights of NaN", lambda b: train(b, sample_weight=np.full(n, np.nan))
    yield "too few targets to train on", lambda b: train(b, y=targets(b)[:-1])
    yield "an order beyond the rows", lambda b: train(b, order=order + 1)
    yield "an order below the rows", lambda b: train(b, order=order - 1)
    yield "too many rates", lambda b: train(b, learning_rates=np.zeros(len(rates) + 1))
    yield "logits too narrow", lambda b: train(b, logits=np.empty((n, 1)))
    yield "short parameters", lambda b: load(b, parameters=np.zeros(1))
    yield "moments too many", lambda b: load(b, moments=np.zeros((7, session(b).n_parameters)))
    yield "an average too many", lambda b: load(b, average=np.zeros(session(b).n_parameters))
    network = case.network()
    yield "a batch of none", lambda b: b.bind(network, batch_size=0)
    yield "half a batch", lambda b: b.bind(network, batch_size=0.5)  # type: ignore[arg-type]
    yield "no threads", lambda b: b.bind(network, n_threads=0)
    yield "a negative seed", lambda b: b.bind(network, seed=-1)
    yield "a loss without meaning", lambda b: b.bind(network, LOSSES["poisson"])
    yield (
        "dropout of another depth",
        lambda b: b.bind(network, regularization=Regularization(dropout=(0.1,))),
    )


def _outcome(call: Callable[[Backend], Any], backend: Backend) -> str:
    try:
        call(backend)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _check_errors(backend: Backend, case: Setting) -> None:
    """Want wrong calls to raise what they raise with the reference, in the same words."""
    for mistake, call in _mistakes(case):
        actual, expected = _outcome(call, backend), _outcome(call, _REFERENCE)
        _require(actual == expected, f"{mistake}: {actual!r}, but the reference says {expected!r}")


def _check_trainer(backend: Backend, case: Setting) -> None:
    """Compare a trainer's history, also where it goes on after pickling."""
    X, y, weights = case.data()

    def make(backend: Backend, case: Setting = case) -> Trainer:
        return Trainer(
            case.network(),
            case.loss,
            case.optimizer,
            batch_size=case.batch_size,
            backend=backend,
            regularization=case.regularization,
        )

    def fit(trainer: Trainer, X: Array = X, y: Array = y, w: Array | None = weights) -> Array:
        history = trainer.fit(X, y, 2, (X, y), sample_weight=w, verbose=False)
        return np.array([history["loss"], history["val_loss"]])

    trainer, reference = make(backend), make(_REFERENCE)
    # A reference in the same dtype is as far from float64 as the backend may be.
    bound = 2 * max(
        _error(run["losses"], _train(case, case.reference(), 2)["losses"])
        for run in (_train_displaced(case, 2, seed) for seed in range(_DISPLACED_RUNS))
    )
    bound = max(bound, 2 * case.gradient_bound(case.n_rows))
    _compare("histories", fit(trainer), fit(reference), bound, case)
    twin = pickle.loads(pickle.dumps(trainer))
    _require(
        np.array_equal(twin.predict_proba(X), trainer.predict_proba(X)),
        f"a pickled trainer predicts otherwise ({case})",
    )
    _require(
        np.array_equal(fit(twin), fit(trainer)),
        f"a pickled trainer goes on with other bits ({case})",
    )


def _predictions() -> Iterator[Setting]:
    yield from (*_networks(), *_shapes(), *_twice(input_scale=0.3), *_odd(), *_sizes())
    yield from (*_saturated(), *_long(120, 121, 1000, 4096, 4097, 65_535, 65_537), *_scaled())
    yield from _rounded()


def _gradients() -> Iterator[Setting]:
    yield from (*_combinations(), *_shapes(), *_odd(), *_sizes(), *_saturated(), *_long(65_537))
    for regularization in REGULARIZATION_CASES:
        yield from _twice(regularization=regularization)
    yield from _twice(labels=True, weighted=False)
    yield from (*_scaled(), *_scaled_updates(), *_rounded())


def _parts() -> Iterator[Setting]:
    yield from (*_shapes(), *_odd(), *list(_sizes())[8:18], *_scaled())
    for regularization in REGULARIZATION_CASES:
        yield from _twice(regularization=regularization, optimizer=SGD(0.05, momentum=0.9))
    for output, loss in _losses():
        yield from _twice(output=output, loss=loss)
    yield from _twice(labels=True, weighted=False, input_scale=0.3)
    yield from _rounded()


def _all_updates() -> Iterator[Setting]:
    yield from (*_updates(), *_scaled_updates(), *_rounded_whole())


def _epochs() -> Iterator[Setting]:
    yield from (*_trainings(), *_odd(), *_sizes(), *_long(65_537), *_scaled(), *_scaled_updates())
    yield from _rounded()


def _bit_settings() -> Iterator[Setting]:
    yield from (*_updates(), *_shapes(), *_odd(), *list(_sizes())[8:18])
    yield from _twice(input_scale=0.3, rows="gaps")
    yield from (*_scaled(), *_scaled_updates(), *_rounded())


def _everything() -> Iterator[Setting]:
    everything = REGULARIZATION_CASES[-1]
    for scaling_layer in (False, True):
        yield from _twice(
            optimizer=Adam(0.01), regularization=everything, scaling_layer=scaling_layer
        )


def _inputs() -> Iterator[Setting]:
    yield from (*_everything(), *_twice(input_scale=0.3, sizes=(33, 18, 3, 4)), *_rounded_whole())


def _trained() -> Iterator[Setting]:
    yield from (*_everything(), *_rounded_whole())


#: The checks by name, in the order in which `check_backend` runs them: what each compares in one
#: setting.
CHECKS: Mapping[str, Callable[[Backend, Setting], None]] = MappingProxyType(
    {
        "predict": _check_predict,
        "gradient": _check_gradient,
        "parts": _check_parts,
        "update": _check_update,
        "epoch": _check_epoch,
        "curves": _check_curves,
        "bits": _check_bits,
        "states": _check_states,
        "inputs": _check_inputs,
        "errors": _check_errors,
        "trainer": _check_trainer,
    }
)

_SETTINGS: Mapping[str, Callable[[], Iterator[Setting]]] = MappingProxyType(
    {
        "predict": _predictions,
        "gradient": _gradients,
        "parts": _parts,
        "update": _all_updates,
        "epoch": _epochs,
        "curves": _curves,
        "bits": _bit_settings,
        "states": _all_updates,
        "inputs": _inputs,
        "errors": _twice,
        "trainer": _trained,
    }
)
