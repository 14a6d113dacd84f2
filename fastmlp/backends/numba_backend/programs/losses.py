"""The loss of a thread's rows, and its gradient by the last layer's pre-activations."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.backends.numba_backend.kernels.losses import Group, losses_of_rows
from fastmlp.backends.numba_backend.kernels.rounding import round_strip, rounds
from fastmlp.backends.numba_backend.plan import Net, Visits, layer_of
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    advance_index,
    load_index,
    smaller,
)
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import (
    advance,
    full,
    lanes,
    load,
    load_scalar,
    store,
    store_scalar,
    transpose_square,
)
from fastmlp.backends.numba_backend.vectors.strips import Strip
from fastmlp.backends.numba_backend.vectors.types import Index, Pointer, Scalar, inlined, kernel


@value
class Targets(NamedTuple):
    """What the outputs of the samples shall be, and what each counts."""

    classes: Numbers
    dense: Pointer  # [samples][target_width]; unused where there are classes
    weights: Pointer  # unused without weights


@value
class Results(NamedTuple):
    """Where a call's results go."""

    losses: Pointer  # of the batches
    penalties: Pointer  # before every batch's update, if wanted
    row_losses: Pointer  # of the batch's rows
    logits: Pointer  # [visits][outputs], if wanted


@value
class Place(NamedTuple):
    """A thread's own place for a group of rows: a vector for each output, the rows as lanes."""

    classes: Pointer
    shares: Pointer
    losses: Pointer
    logits: Pointer
    targets: Pointer


@inlined
def place_of(net: Net, thread: Index) -> Place:
    """Return a thread's place."""
    plan, step = net.plan, lanes(net.memory)
    n_panels = layer_of(net, plan.n_layers - 1).out_panels
    begin = advance(net.memory, plan.groups + thread * plan.group_size)
    logits = advance(begin, 3 * step)
    targets = advance(logits, n_panels * step * step)
    return Place(begin, advance(begin, step), advance(begin, 2 * step), logits, targets)


@inlined
def share_of_row(net: Net, targets: Targets, batch: Visits) -> Scalar:
    """Return what a row of weight 1 counts in the mean over a batch."""
    plan = net.plan
    total, weighted = plan.total_weight, plan.has_weights != 0
    if total <= 0.0:
        n = batch.end - batch.first
        total = 0.0 if weighted else float(n)
        for i in range(batch.first, batch.first + (n if weighted else 0)):
            total += load_scalar(targets.weights, load_index(batch.order, i))
    return 1.0 / total if total > 0.0 else 0.0


@inlined
def weight_of(net: Net, targets: Targets, sample: Index) -> Scalar:
    """Return the weight of a sample."""
    if net.plan.has_weights != 0:
        return float(load_scalar(targets.weights, sample))
    return 1.0


@kernel
def load_targets(
    net: Net, targets: Targets, samples: Numbers, count: Index, portion: Scalar, place: Place
) -> None:
    """Load the targets and the shares of a group of samples."""
    width, n_out = net.plan.target_width, layer_of(net, net.plan.n_layers - 1).n_out
    step = lanes(net.memory)
    if width == 0:
        for r in range(count):
            sample = load_index(samples, r)
            store_scalar(place.classes, r, load_index(targets.classes, sample))
    else:
        for r in range(count):
            for k in range(n_out):  # one target may serve several outputs
                target = load_index(samples, r) * width + smaller(k, width - 1)
                store_scalar(place.targets, k * step + r, load_scalar(targets.dense, target))
    store(place.shares, 0, full(place.shares, portion))
    if net.plan.has_weights != 0:
        for r in range(count):
            weight = weight_of(net, targets, load_index(samples, r))
            store_scalar(place.shares, r, weight * portion)


@inlined
def load_logits(net: Net, rows: Pointer, count: Index, place: Place) -> None:
    """Turn a group's logits."""
    last, step = layer_of(net, net.plan.n_layers - 1), lanes(net.memory)
    for p in range(last.out_panels):
        square, n_used = (
            advance(place.logits, p * step * step),
            smaller(step, last.n_out - p * step),
        )
        transpose_square(advance(rows, p * step), last.delta_stride, count, square, step, n_used)


@inlined
def store_deltas(net: Net, rows: Pointer, first: Index, count: Index, place: Place) -> None:
    """Turn a group's deltas back, into panels and rows; `first` is its first row's number."""
    last, step = layer_of(net, net.plan.n_layers - 1), lanes(net.memory)
    for p in range(last.out_panels):
        square, n_used = (
            advance(place.logits, p * step * step),
            smaller(step, last.n_out - p * step),
        )
        where = last.delta_panels + (p * net.plan.batch_size + first) * step
        strip = advance(net.memory, where)
        transpose_square(square, step, n_used, strip, step, count)
        if rounds(net.plan):
            round_strip(Strip(strip, step), count)
        for r in range(count):
            store(rows, r * last.delta_stride + p * step, load(strip, r * step))


@inlined
def report_logits(net: Net, rows: Pointer, count: Index, out: Pointer) -> None:
    """Copy a group's logits."""
    last = layer_of(net, net.plan.n_layers - 1)
    for r in range(count):
        for k in range(last.n_out):
            z = load_scalar(rows, r * last.delta_stride + k)
            store_scalar(out, r * last.n_out + k, z)


@kernel
def losses_and_deltas(
    net: Net,
    targets: Targets,
    batch: Visits,
    first_row: Index,
    last_row: Index,
    place: Place,
    results: Results,
) -> None:
    """Replace the last layer's logits, which lie in its deltas, by deltas, in groups of rows."""
    plan, last, step = net.plan, layer_of(net, net.plan.n_layers - 1), lanes(net.memory)
    levels = advance(net.memory, plan.constants + step)
    portion = share_of_row(net, targets, batch)
    for first in range(first_row, last_row, step):
        count = smaller(step, last_row - first)
        samples = advance_index(batch.order, batch.first + first)
        rows = advance(net.memory, last.deltas + first * last.delta_stride)
        if plan.wants_logits != 0:
            out = advance(results.logits, (batch.first + first) * last.n_out)
            report_logits(net, rows, count, out)
        load_targets(net, targets, samples, count, portion, place)
        load_logits(net, rows, count, place)
        classes, shares = load(place.classes, 0), load(place.shares, 0)
        wanted = (plan.target_width == 0, classes, place.targets, levels)
        group = Group(place.logits, *wanted, last.n_out, shares)
        store(place.losses, 0, losses_of_rows(plan, group))
        for r in range(count):
            weight = weight_of(net, targets, load_index(samples, r))
            loss = float(load_scalar(place.losses, r)) * (weight * portion)
            store_scalar(results.row_losses, first + r, loss)
        store_deltas(net, rows, first, count, place)
