"""Random settings of everything that a session is given; one integer makes one setting.

Sizes are drawn around the thresholds at which the compiled backend changes its ways, imported from
the modules that define them. The table holds every width of vectors and height of tiles, so that a
seed means the same setting on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS, ELU, OUTPUT_ACTIVATIONS, Activation, LeakyReLU
from fastmlp.backends.numba_backend import inputs, session
from fastmlp.backends.numba_backend.first_layer import columns, nonzeros
from fastmlp.backends.numba_backend.products import chunks, packing, rows
from fastmlp.backends.numba_backend.team import choice
from fastmlp.losses import (
    LOSSES,
    CrossEntropy,
    CustomLoss,
    Huber,
    Loss,
    MeanSquaredError,
    Quantile,
)
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

Rng = np.random.Generator

#: Elements of a vector: 16, 32 and 64 bytes of float64 and float32.
LANES = (2, 4, 8, 16)
#: Rows of a full tile on the machines that there are.
HEIGHTS = (2, 6, 12)
#: Elements of a matrix where something changes.
AHEAD = rows.BEYOND_CACHE

#: Widths of layers where something changes.
WIDTHS: dict[str, tuple[int, ...]] = {
    "lanes": LANES,
    "two vectors": tuple(2 * n for n in LANES),
    "heights": HEIGHTS,
    "columns.NARROW": tuple(columns.NARROW * n for n in LANES),
    "columns.N_PARTS": tuple(columns.N_PARTS * n for n in LANES),
    "packing.WORTH_PACKING": tuple(packing.WORTH_PACKING * n for n in LANES),
    "packing.DEPTH": (packing.DEPTH, packing.DEPTH + packing.DEPTH // 2, 2 * packing.DEPTH),
    "nonzeros.WORD": (nonzeros.WORD, 2 * nonzeros.WORD),
    "nonzeros.SPAN": (nonzeros.SPAN, 2 * nonzeros.SPAN),
    "chunks.CHUNK": (chunks.CHUNK, 2 * chunks.CHUNK),
}
#: Rows of a batch where something changes.
ROWS: dict[str, tuple[int, ...]] = {
    "lanes": LANES,
    "heights": HEIGHTS,
    "nonzeros.WORD": (nonzeros.WORD,),
    "chunks.CHUNK": (chunks.CHUNK,),
    "packing.ROWS": (packing.ROWS, 2 * packing.ROWS),
    "packing.PACKED_ROWS": (packing.PACKED_ROWS // chunks.CHUNK,),
    "nonzeros.MOST_ROWS": (nonzeros.MOST_ROWS,),
}
#: Shares of zeros where something changes.
ZEROS = (1 - columns.DENSE_COLUMNS, 1 - nonzeros.DENSE_TERMS)

#: Work that a setting beside the threshold of a product takes at most, and how many such there are:
#: made as small as most are, hardly any would keep its place beside it.
_COSTLY, _COSTLY_SHARE = 2.0**27, 0.06

FORMS = (
    "C",
    "Fortran",
    "read-only",
    "memory map",
    "every other row",
    "every other column",
    "reversed",
    "other float",
    "big-endian",
    "float16",
    "uint8",
    "bool",
    "int32",
    "CSR",
)
WEIGHTS = ("none", "none", "random", "with zeros", "blank batch")


def _pseudo_huber(outputs: Any, targets: Any) -> Any:
    return np.mean(np.sqrt(1 + (outputs - targets) ** 2) - 1, axis=1)


def _pseudo_huber_gradient(outputs: Any, targets: Any) -> Any:
    error = outputs - targets
    return error / np.sqrt(1 + error**2) / outputs.shape[1]


PSEUDO_HUBER = CustomLoss(_pseudo_huber, _pseudo_huber_gradient)


@dataclass(frozen=True)
class Setting:
    """One way to use a session, and the data for it; `seed` makes the random numbers."""

    seed: int
    sizes: tuple[int, ...] = (3, 2)
    hidden: tuple[Activation, ...] = ()
    output: str = "linear"
    loss: Loss = field(default_factory=MeanSquaredError)
    #: Its learning rate counts for nothing: `pace` is turned into one that suits the data.
    optimizer: Optimizer = field(default_factory=SGD)
    pace: float = 0.5
    regularization: Regularization = field(default_factory=Regularization)
    dtype: str = "float64"
    input_scale: float = 1.0
    scaling_layer: bool = False
    n_rows: int = 8
    batch_size: int = 4
    #: How many batches each call of `Session.train` gets; the last batch may be short of rows.
    calls: tuple[int, ...] = (2,)
    last_batch: int = 4
    labels: bool = False
    weights: str = "none"
    form: str = "C"
    zeros: float = 0.0
    #: Zeros come in blocks of so many rows and columns.
    block: int = 1
    blank_rows: float = 0.0
    blank_columns: float = 0.0
    blank_batches: tuple[int, ...] = ()
    zero_parameters: float = 0.0
    threads: int | None = 1
    other_threads: int | None = 2
    n_predicted: int = 1
    n_gradient: int = 1

    @property
    def n_batches(self) -> int:
        return sum(self.calls)

    @property
    def n_visits(self) -> int:
        """How many rows all batches hold."""
        return (self.n_batches - 1) * self.batch_size + self.last_batch

    def __str__(self) -> str:
        """Show what differs from the plainest setting."""
        plain = Setting(self.seed)
        shown = []
        for f in fields(self):
            value = getattr(self, f.name)
            if value != getattr(plain, f.name) or f.name == "seed":
                text = "PSEUDO_HUBER" if isinstance(value, CustomLoss) else repr(value)
                shown.append(f"{f.name}={text}")
        return f"Setting({', '.join(shown)})"


def draw(seed: int) -> Setting:
    """Return the setting that a seed means."""
    rng = np.random.default_rng(seed)
    dtype = _pick(rng, ("float64", "float32"))
    costs_much = rng.random() < _COSTLY_SHARE
    sizes, batch_size = _shape(rng, dtype, costs_much)
    hidden = tuple(_hidden(rng) for _ in sizes[1:-1])
    sizes, output, loss = _objective(rng, sizes)
    n_batches = int(rng.integers(1, 3 if costs_much else 9))
    sizes, batch_size, n_batches = _within_budget(
        rng, sizes, hidden, batch_size, n_batches, _COSTLY if costs_much else _budget(rng)
    )
    last_batch = batch_size if rng.random() < 0.4 else int(rng.integers(1, batch_size + 1))
    form, weights = _pick(rng, FORMS), _pick(rng, WEIGHTS)
    zeros = _zeros(rng)
    regularization = _regularization(rng, len(sizes) - 1)
    zero_parameters = _pick(rng, (0.0, 0.0, 0.0, 0.3, 1.0))
    if regularization.l1 and n_batches > 1:
        zero_parameters = 0.0  # on which side of its kink a zero then falls, roundings decide
    setting = Setting(
        seed=seed,
        sizes=sizes,
        hidden=hidden,
        output=output,
        loss=loss,
        optimizer=_optimizer(rng),
        pace=float(rng.uniform(0.1, 1.0)),
        regularization=regularization,
        dtype=dtype,
        input_scale=_pick(rng, (1.0, 1.0, 1 / 255, 0.3)),
        n_rows=max(1, (n_batches - 1) * batch_size + int(rng.integers(-2, 3)))
        if rng.random() < 0.5
        else int(rng.integers(1, batch_size * n_batches + 2)),
        batch_size=batch_size,
        calls=_cut(rng, n_batches),
        last_batch=last_batch,
        labels=output == "softmax" and rng.random() < 0.6,
        weights=weights,
        form=form,
        zeros=zeros,
        block=_pick(rng, (1, 1, 2, 6, 13, 48)),
        blank_rows=_pick(rng, (0.0, 0.0, 0.0, 0.1, 0.6, 1.0)),
        blank_columns=_pick(rng, (0.0, 0.0, 0.0, 0.05, *ZEROS, 0.6, 0.98)),
        blank_batches=tuple(
            sorted({int(rng.integers(n_batches)) for _ in range(int(rng.integers(0, 4)) // 2)})
        ),
        zero_parameters=zero_parameters,
        threads=_pick(rng, (None, 1, 2, 2, 3, 4, 5)),
        other_threads=_pick(rng, (1, 1, 2, 3, 5)),
        n_predicted=_n_predicted(rng, sizes, dtype),
        n_gradient=int(rng.integers(1, batch_size * min(n_batches, 3) + 1)),
    )
    factors = _rate_factors(rng, len(sizes) - 1)
    has_scale = _pick(rng, (False, False, True))
    if factors is not None and has_scale:
        factors = replace(factors, scale=_pick(rng, (0.0, 0.3, 1.0, 1.7)))
    optimizer = replace(setting.optimizer, rate_factors=factors)
    return replace(setting, optimizer=optimizer, scaling_layer=has_scale)


def _pick(rng: Rng, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _near(rng: Rng, value: int) -> int:
    """Return a number on one or the other side of a threshold, or on it."""
    return max(1, value + int(_pick(rng, (-1, -1, 0, 0, 1, 1, -2, 2, -5, 7))))


def _of_table(rng: Rng, table: dict[str, tuple[int, ...]]) -> int:
    return _near(rng, _pick(rng, table[_pick(rng, tuple(table))]))


def _width(rng: Rng) -> int:
    kind = rng.random()
    if kind < 0.4:
        return int(rng.integers(1, 20))
    if kind < 0.85:
        return _of_table(rng, WIDTHS)
    return int(np.exp(rng.uniform(0, np.log(1100))))


def _rows(rng: Rng) -> int:
    kind = rng.random()
    if kind < 0.35:
        return int(rng.integers(1, 20))
    if kind < 0.8:
        return _of_table(rng, ROWS)
    return int(np.exp(rng.uniform(0, np.log(600))))


def _shape(rng: Rng, dtype: str, costs_much: bool) -> tuple[tuple[int, ...], int]:
    """Return layer sizes and the batch size; now and then around a threshold of a product.

    Where it `costs_much`, always, in networks of few layers.
    """
    depth = int(rng.integers(0, 2 if costs_much else 5))
    sizes = [_width(rng) for _ in range(depth + 2)]
    sizes[-1] = _pick(rng, (1, 2, 3, 10, _width(rng)))
    batch = _rows(rng)
    at = int(rng.integers(len(sizes) - 1))  # which layer is to lie beside the threshold
    kind = rng.random() * (0.14 if costs_much else 1)
    if kind < 0.06:  # a batch's inputs lie far apart, and there are many or few panels
        sizes[at] = int(rng.integers(130, 1100))
        lanes = 64 // np.dtype(dtype).itemsize
        stride = (-(-sizes[at] // lanes) | 1) * lanes
        batch = _near(rng, -(-chunks.FAR // stride)) + int(_pick(rng, (0, 0, 30)))
        sizes[at + 1] = _near(rng, packing.WORTH_PACKING * lanes) + int(_pick(rng, (0, 0, 60)))
    elif kind < 0.11:
        sizes[at], sizes[at + 1] = _beside_product(rng, chunks.LARGE)
    elif kind < 0.14:
        sizes[at], sizes[at + 1] = _beside_product(rng, AHEAD)
        batch = min(batch, 64)
    elif kind < 0.18:
        work = 3 * sum(n_in * n_out for n_in, n_out in pairwise(sizes))
        batch = min(600, _near(rng, max(1, 2 * choice.WORTH_A_THREAD // work)))
    return tuple(sizes), batch


def _beside_product(rng: Rng, product: int) -> tuple[int, int]:
    first = int(np.exp(rng.uniform(np.log(max(1, product / 1100)), np.log(1100))))
    return first, min(1100, _near(rng, -(-product // first)))


def _budget(rng: Rng) -> float:
    return 2 ** rng.uniform(20, 25) if rng.random() < 0.94 else 2 ** rng.uniform(25, 28)


def _within_budget(
    rng: Rng,
    sizes: tuple[int, ...],
    hidden: tuple[Activation, ...],
    batch: int,
    n_batches: int,
    budget: float,
) -> tuple[tuple[int, ...], int, int]:
    """Return sizes, batch and number of batches that take no more work than `budget`."""

    def cost() -> float:
        weights = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
        slow = sum(n for n, a in zip(sizes[1:-1], hidden, strict=True) if a.name == "gelu")
        return n_batches * (batch * (weights + 50 * sum(sizes) + 300 * slow) + 60 * weights)

    while cost() > budget:
        if n_batches > 2:
            n_batches -= 1
        elif batch > 8 and rng.random() < 0.5:
            batch -= batch // 3
        elif max(sizes) > 20:
            widest = sizes.index(max(sizes[:-1])) if len(sizes) > 2 else 0
            if sizes[widest] <= 20:
                n_batches, batch = 1, max(1, batch // 2)
                if batch == 1:
                    break
                continue
            sizes = (*sizes[:widest], sizes[widest] // 2, *sizes[widest + 1 :])
        elif batch > 1:
            batch //= 2
        else:
            break
    return sizes, batch, n_batches


def _hidden(rng: Rng) -> Activation:
    name = _pick(rng, tuple(ACTIVATIONS))
    if name == "leaky_relu":
        return LeakyReLU(_pick(rng, (0.01, 0.0, 0.3, 1.0)))
    if name == "elu":
        return ELU(_pick(rng, (1.0, 0.3, 2.0)))
    return ACTIVATIONS[name]


def _objective(rng: Rng, sizes: tuple[int, ...]) -> tuple[tuple[int, ...], str, Loss]:
    """Return an output activation and a loss that suits it, with as many outputs as it wants."""
    output = _pick(rng, tuple(OUTPUT_ACTIVATIONS))
    losses = (
        *LOSSES.values(),
        CrossEntropy(0.1),
        CrossEntropy(0.3),
        Huber(0.3),
        Quantile((0.9,)),
        Quantile((0.1, 0.3, 0.5, 0.9)),
        PSEUDO_HUBER,
    )
    loss = _pick(rng, tuple(loss for loss in losses if output in loss.output_names))
    if isinstance(loss, Quantile) and len(loss.levels) > 1:
        sizes = (*sizes[:-1], len(loss.levels))
    return sizes, output, loss


def _optimizer(rng: Rng) -> Optimizer:
    decay = _pick(rng, (0.0, 0.0, 0.1))
    momentum = _pick(rng, (0.0, 0.5, 0.9))
    betas = _pick(rng, ((0.9, 0.999), (0.8, 0.99), (0.0, 0.9)))
    epsilon = _pick(rng, (1e-8, 1e-4))
    return _pick(
        rng,
        (
            SGD(),
            SGD(momentum=momentum, weight_decay=decay),
            SGD(momentum=0.9, nesterov=True, weight_decay=decay),
            Adam(0.01, *betas, epsilon, decay),
            AdamW(0.01, *betas, epsilon, decay),
            RMSprop(0.01, _pick(rng, (0.99, 0.5)), epsilon, momentum, decay),
            Adagrad(0.01, _pick(rng, (1e-10, 1e-3)), decay),
            Lion(0.01, *_pick(rng, ((0.9, 0.99), (0.5, 0.9))), decay),
        ),
    )


def _rate_factors(rng: Rng, n_layers: int) -> RateFactors | None:
    """Return none, or factors on the rate that are one number or each layer's own."""
    if rng.random() < 0.6:
        return None

    def some() -> Any:
        each = tuple(_pick(rng, (0.0, 0.1, 0.5, 1.0, 1.7)) for _ in range(n_layers))
        return each if rng.random() < 0.7 else each[0]

    return RateFactors(weights=some(), biases=some())


def _regularization(rng: Rng, n_layers: int) -> Regularization:
    """Return none, one or several regularizations."""
    share = _pick(rng, (0.0, 0.15, 0.5))

    def maybe(options: Any, otherwise: Any) -> Any:
        value = _pick(rng, options)
        return value if rng.random() < share else otherwise

    shares = tuple(_pick(rng, (0.0, 0.1, 0.5)) for _ in range(n_layers))
    kind = _pick(rng, (Regularization, Regularization, DividedL2))
    return kind(
        l1=maybe((1e-3, 0.05), 0.0),
        l2=maybe((1e-3, 0.1), 0.0),
        dropout=maybe((0.5, 0.2, shares), 0.0),
        input_noise=maybe((0.1, 0.3), 0.0),
        clip_norm=maybe((0.1, 1.0, 100.0), None),
        clip_value=maybe((0.003, 0.1), None),
        max_norm=maybe((0.5, 1.0, 2.0), None),
        ema=maybe((0.5, 0.99), None),
    )


def _cut(rng: Rng, n_batches: int) -> tuple[int, ...]:
    """Return the lengths of calls that together hold so many batches."""
    calls, left = [], n_batches
    while left:
        calls.append(int(rng.integers(1, left + 1)))
        left -= calls[-1]
    return tuple(calls)


def _zeros(rng: Rng) -> float:
    if rng.random() < 0.3:
        return 0.0
    return float(
        _pick(rng, (0.02, *ZEROS, ZEROS[0] + 0.01, ZEROS[1] + 0.01, 0.5, 0.8, 0.95, 0.99, 1.0))
    )


def _n_predicted(rng: Rng, sizes: tuple[int, ...], dtype: str) -> int:
    """Return how many rows to predict: around blocks and portions of rows, where not too costly."""
    portion = inputs.PORTION_BYTES // (sizes[0] * np.dtype(dtype).itemsize)
    block = session.PREDICT_ROWS
    n = _pick(
        rng,
        (
            0,
            1,
            2,
            int(rng.integers(3, 60)),
            _near(rng, block),
            _near(rng, 2 * block),
            _near(rng, 5 * block),
            _near(rng, portion),
            int(rng.integers(1, 5001)),
        ),
    )
    weights = sum((n_in + 30) * (n_out + 1) for n_in, n_out in pairwise(sizes))
    most = 2 ** (26 if rng.random() < 0.05 else 22) // weights
    return int(min(n, 5000, max(2, most)))


def simpler(setting: Setting) -> Any:
    """Yield settings that are a little plainer, those that change most first."""
    s = setting
    if s.calls != (s.n_batches,):
        yield replace(s, calls=(s.n_batches,))
    if s.n_batches > 1:
        kept = s.n_batches - 1
        yield replace(s, calls=(kept,), blank_batches=tuple(b for b in s.blank_batches if b < kept))
        yield replace(
            s, calls=(*s.calls[:-1], s.calls[-1] - 1) if s.calls[-1] > 1 else s.calls[:-1]
        )
    for layer in range(len(s.hidden)):
        yield replace(
            s,
            sizes=s.sizes[: layer + 1] + s.sizes[layer + 2 :],
            hidden=s.hidden[:layer] + s.hidden[layer + 1 :],
            optimizer=replace(s.optimizer, rate_factors=None),
            regularization=replace(s.regularization, dropout=_one_share(s.regularization)),
        )
    plain = Setting(s.seed)
    same = ("optimizer", "regularization", "weights", "form", "zeros", "block", "blank_rows")
    more = ("blank_columns", "blank_batches", "zero_parameters", "input_scale", "scaling_layer")
    for name in (*same, *more, "n_predicted", "threads", "n_gradient", "labels"):
        if getattr(s, name) != getattr(plain, name):
            yield replace(s, **{name: getattr(plain, name)})
    if s.optimizer.rate_factors is not None:
        yield replace(s, optimizer=replace(s.optimizer, rate_factors=None))
    for f in fields(s.regularization):
        if getattr(s.regularization, f.name) != f.default:
            yield replace(s, regularization=replace(s.regularization, **{f.name: f.default}))
    for layer, activation in enumerate(s.hidden):
        if activation.name != "tanh":
            hidden = (*s.hidden[:layer], ACTIVATIONS["tanh"], *s.hidden[layer + 1 :])
            yield replace(s, hidden=hidden)
    if (s.output, s.loss) != ("linear", plain.loss):
        yield replace(s, output="linear", loss=plain.loss, labels=False)
    for smaller in (lambda n: n // 2, lambda n: n - 1):
        for layer, size in enumerate(s.sizes):
            if size > 1 and not (layer == len(s.sizes) - 1 and isinstance(s.loss, Quantile)):
                yield replace(s, sizes=(*s.sizes[:layer], smaller(size), *s.sizes[layer + 1 :]))
        if s.batch_size > 1:
            rows = smaller(s.batch_size)
            yield replace(s, batch_size=rows, last_batch=min(s.last_batch, rows))
        for name in ("n_rows", "n_predicted", "n_gradient"):
            if getattr(s, name) > 1:
                yield replace(s, **{name: smaller(getattr(s, name))})


def _one_share(regularization: Regularization) -> float:
    dropout = regularization.dropout
    return max(dropout) if isinstance(dropout, tuple) else dropout
