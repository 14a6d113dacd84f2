"""The parameters of the estimators: each is stated here once, or by the one that alone has it.

scikit-learn reads parameters from a constructor's signature, from `_parameter_constraints` and, in
notebooks, from the docstring. All three are made from what is stated.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from fastmlp.activations import Activation
from fastmlp.backends.base import Backend
from fastmlp.optimizers import Optimizer
from fastmlp.schedules import Schedule

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What is stated of a parameter, except for its name and type."""

    default: Any
    #: Constraints as in scikit-learn's `_parameter_constraints`.
    allowed: list[Any]
    #: For the docstring: its type, and what it means.
    kind: str
    text: str
    #: Whether it must be given by name.
    kw_only: bool

    def entry(self, name: str) -> str:
        """Return what numpydoc's section says of it."""
        default = json.dumps(self.default) if isinstance(self.default, str) else repr(self.default)
        entry = f"{name} : {self.kind}, default {default}"
        return f"{entry}\n{textwrap.indent(self.text, ' ' * 4)}" if self.text else entry


def parameter(
    *, default: Any, allowed: list[Any], kind: str, text: str = "", kw_only: bool = True
) -> Any:
    """State a parameter, in the body of a class that is decorated by `with_parameters`."""
    return Parameter(default, allowed, kind, inspect.cleandoc(text), kw_only)


@dataclass_transform(kw_only_default=True, field_specifiers=(parameter,))
def with_parameters(estimator: type[T]) -> type[T]:
    """Give a class the constructor, the constraints and the docstring of its parameters.

    Those of its bases count too, and come first; the docstring has a line ``{parameters}``. The
    class is left no dataclass: what handles those would take an estimator for its parameters.
    """
    made: Any = estimator
    made._stated = stated = _stated(estimator)
    made._parameter_constraints = {name: one.allowed for name, (_, one) in stated.items()}
    made.__init__ = _constructor(estimator, stated)
    if made.__doc__ is not None:  # python -OO keeps none
        entries = "\n".join(one.entry(name) for name, (_, one) in stated.items())
        entries = textwrap.indent(entries, " " * 4).lstrip()
        made.__doc__ = made.__doc__.replace("{parameters}", entries)
    return estimator


def _stated(estimator: type) -> dict[str, tuple[Any, Parameter]]:
    """Return types and statements of all parameters of a class, and take its own from its body."""
    stated: dict[str, tuple[Any, Parameter]] = {}
    for base in reversed(estimator.__mro__):
        stated |= vars(base).get("_stated", {})
    types = inspect.get_annotations(estimator, eval_str=True)
    for name, value in list(vars(estimator).items()):
        if isinstance(value, Parameter):
            stated[name] = (types[name], value)
            delattr(estimator, name)
    return stated


def _constructor(
    estimator: type, stated: Mapping[str, tuple[Any, Parameter]]
) -> Callable[..., None]:
    """Return the `__init__` that takes every parameter as an attribute."""
    fields = [
        (name, annotation, dataclasses.field(default=one.default, kw_only=one.kw_only))
        for name, (annotation, one) in stated.items()
    ]
    made: Any = dataclasses.make_dataclass(estimator.__qualname__, fields)
    made.__init__.__module__ = estimator.__module__
    constructor: Callable[..., None] = made.__init__
    return constructor


@with_parameters
class Parameters:
    """What all estimators can be told."""

    #: What scikit-learn allows them to be.
    _parameter_constraints: ClassVar[dict[str, list[Any]]]

    hidden_layer_sizes: Any = parameter(
        default=(100,),
        kw_only=False,
        allowed=["array-like", Interval(Integral, 1, None, closed="left")],
        kind="int or array-like of int",
        text="Units of each hidden layer; ``()`` makes a linear model.",
    )
    activation: Any = parameter(
        default="relu",
        kw_only=False,
        allowed=[str, Activation, list, tuple],
        kind="str, Activation, or a list or tuple of them",
        text="""
        Of all hidden layers, or one for each: "relu", "tanh", "logistic", "identity" or another
        name or instance of `fastmlp.activations`.""",
    )
    solver: str = parameter(
        default="adam",
        allowed=[StrOptions({"lbfgs", "sgd", "adam"})],
        kind='{"adam", "sgd", "lbfgs"}',
        text="""
        "lbfgs" is SciPy's L-BFGS-B, in float64 and on all samples at once. Without a `dtype`, it
        leaves float64 weights, also of float32 inputs.""",
    )
    alpha: float = parameter(
        default=0.0001,
        allowed=[Interval(Real, 0, None, closed="left")],
        kind="float",
        text="""
        Adds alpha / (2 n) times the sum of all squared weights to the mean loss of n samples, the
        size of each batch or the sum of its weights (biases are free).""",
    )
    batch_size: int | str = parameter(
        default="auto",
        allowed=[StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        kind='int or "auto"',
        text='"auto" is min(200, n_samples).',
    )
    learning_rate: str = parameter(
        default="constant",
        allowed=[StrOptions({"constant", "invscaling", "adaptive"})],
        kind='{"constant", "invscaling", "adaptive"}',
        text="""
        For solver "sgd". "invscaling" divides `learning_rate_init` by the number of samples seen
        to the power `power_t`; "adaptive" divides the rate by 5 where training would stop.""",
    )
    learning_rate_init: float = parameter(
        default=0.001, allowed=[Interval(Real, 0, None, closed="neither")], kind="float"
    )
    power_t: float = parameter(
        default=0.5, allowed=[Interval(Real, 0, None, closed="left")], kind="float"
    )
    max_iter: int = parameter(
        default=200,
        allowed=[Interval(Integral, 1, None, closed="left")],
        kind="int",
        text="The most epochs, or iterations of L-BFGS.",
    )
    shuffle: bool = parameter(
        default=True,
        allowed=["boolean"],
        kind="bool",
        text="Whether every epoch visits the samples in a new order.",
    )
    random_state: Any = parameter(
        default=None,
        allowed=["random_state"],
        kind="int, RandomState or None",
        text="Of the initial weights, the split of early stopping, the order of samples and "
        "dropout.",
    )
    tol: float = parameter(
        default=1e-4,
        allowed=[Interval(Real, 0, None, closed="left")],
        kind="float",
        text="""
        Training stops after more than `n_iter_no_change` epochs in a row that did not improve the
        loss, or under early stopping the score, by `tol`.""",
    )
    verbose: bool | int = parameter(
        default=False,
        allowed=["verbose"],
        kind="bool or int",
        text="""
        Prints a line for every epoch, and says on stderr when kernels must be compiled; the
        logger "fastmlp" is told in any case.""",
    )
    warm_start: bool = parameter(
        default=False,
        allowed=["boolean"],
        kind="bool",
        text="Whether `fit` goes on from the weights of the last.",
    )
    momentum: float = parameter(
        default=0.9,
        allowed=[Interval(Real, 0, 1, closed="both")],
        kind="float",
        text='For solver "sgd".',
    )
    nesterovs_momentum: bool = parameter(
        default=True, allowed=["boolean"], kind="bool", text='For solver "sgd".'
    )
    early_stopping: bool = parameter(
        default=False,
        allowed=["boolean"],
        kind="bool",
        text="""
        Holds out `validation_fraction` of the samples (a classifier's two classes in equal
        shares), stops when their score does not improve, and keeps the best epoch's weights.""",
    )
    validation_fraction: float = parameter(
        default=0.1, allowed=[Interval(Real, 0, 1, closed="left")], kind="float"
    )
    beta_1: float = parameter(
        default=0.9,
        allowed=[Interval(Real, 0, 1, closed="left")],
        kind="float",
        text='For solver "adam".',
    )
    beta_2: float = parameter(
        default=0.999,
        allowed=[Interval(Real, 0, 1, closed="left")],
        kind="float",
        text='For solver "adam".',
    )
    epsilon: float = parameter(
        default=1e-8,
        allowed=[Interval(Real, 0, None, closed="neither")],
        kind="float",
        text='For solver "adam".',
    )
    n_iter_no_change: float = parameter(
        default=10,
        allowed=[Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        kind="int or inf",
    )
    max_fun: int = parameter(
        default=15000,
        allowed=[Interval(Integral, 1, None, closed="left")],
        kind="int",
        text='The most evaluations of the loss by solver "lbfgs".',
    )
    backend: str | Backend = parameter(
        default="auto",
        allowed=[str, Backend],
        kind="str or Backend",
        text='"numpy", "numba", "jax", "auto" (the fastest on the processor), or an instance.',
    )
    n_threads: int | None = parameter(
        default=None,
        allowed=[Interval(Integral, 1, None, closed="left"), None],
        kind="int or None",
        text="None lets the backend choose. Results do not depend on it.",
    )
    dtype: str | type | np.dtype[Any] | None = parameter(
        default=None,
        allowed=[StrOptions({"float32", "float64"}), type, np.dtype, None],
        kind='{"float32", "float64"} or None',
        text="""
        Of the network. None takes that of X (see `solver`); float32 is about twice as fast.""",
    )
    optimizer: str | Optimizer | None = parameter(
        default=None,
        allowed=[str, Optimizer, None],
        kind="str, Optimizer or None",
        text="""
        Takes the place of `solver`: a name of `fastmlp.optimizers`, with `learning_rate_init`, or
        an instance, with its own rate.""",
    )
    schedule: str | Schedule | Callable[..., Any] | None = parameter(
        default=None,
        allowed=[str, Schedule, callable, None],
        kind="str, Schedule, callable or None",
        text="""
        Takes the place of `learning_rate`, for any solver but "lbfgs"; a function as `Trainer`
        takes it. With `warm_start` and in
        `partial_fit` it counts on from the epochs before. One that stretches over the training,
        such as "cosine", ends with the `max_iter` epochs that a `fit` may add, as with a second
        fit of a `Trainer`; in `partial_fit` it ends with epoch `max_iter` of all, which is for
        loops of single epochs.""",
    )
    weight_decay: float = parameter(
        default=0.0,
        allowed=[Interval(Real, 0, None, closed="left")],
        kind="float",
        text="""
        Solver "adam" becomes AdamW, with decoupled decay of all parameters; "sgd" adds
        weight_decay times the parameters to the gradient.""",
    )
    dropout: float | tuple[float, ...] = parameter(
        default=0.0,
        allowed=[Interval(Real, 0, 1, closed="left"), tuple, list],
        kind="float or tuple of float",
        text="""
        Share of units in [0, 1) that each step drops: of every hidden layer, or of the input and
        each hidden layer.""",
    )
    gradient_clip: float | None = parameter(
        default=None,
        allowed=[Interval(Real, 0, None, closed="neither"), None],
        kind="float or None",
        text="Scales a longer gradient down to this Euclidean norm.",
    )
    scoring: str | Callable[..., float] | None = parameter(
        default=None,
        allowed=[str, callable, None],
        kind="str, callable or None",
        text="""
        What early stopping watches: a scorer as in `sklearn.model_selection`, "loss" for the
        validation loss, or None for a regressor's R2 and a classifier's accuracy (of several
        labels, the share of rows whose labels are all right).""",
    )
    callbacks: Sequence[Any] = parameter(
        default=(),
        allowed=[list, tuple],
        kind="list",
        text="""
        `fastmlp.callbacks.Callback` instances, or functions of the fit and the epoch's record.
        They see the epochs of all fits since the weights were drawn, as of a `Trainer`. The
        callbacks of `sklearn.callback` are set by `set_callbacks`. A fitted estimator is pickled
        without lambdas and local functions, with a warning.""",
    )
