"""Whole epochs in compiled code: the program that every thread of a team runs.

A step has three phases, with barriers where one thread reads what another wrote:

1. forward through the first layer;
2. for the thread's own rows: the other layers forward, the loss, and the deltas backward, then
   the inputs of the next step's batch;
3. for the thread's own tiles of the weights: gradient and update.

The first layer reads the most data and often has the largest matrix, of which a thread should have
a share to itself. So a narrow one is divided by columns of the inputs, into a fixed number of parts
whose products are added up after the barrier; it reads the inputs where they lie, because a copy
would serve few products. Others are divided by panels of weights where that divides evenly,
otherwise by rows. Every element of every array is computed in one order of summation, so the number
of threads changes no bit; and what is zero in a whole batch, or a whole tile, is left out of the
first layer's sums, which changes none either.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.backends.numba_backend.first_layer.columns import Columns
from fastmlp.backends.numba_backend.first_layer.forward import (
    add_parts,
    forward_first_layer,
    multiply_parts,
    rows_of_parts,
)
from fastmlp.backends.numba_backend.first_layer.gradient import change_first_layer
from fastmlp.backends.numba_backend.first_layer.nonzeros import lists_size
from fastmlp.backends.numba_backend.first_layer.plan import (
    ABANDONED,
    PARTS,
    Batch,
    FirstLayer,
    batch_of,
    buffer_of,
    by_panels,
    choose_mode,
    list_next_batch,
    part_of,
)
from fastmlp.backends.numba_backend.kernels.parameters import is_whole
from fastmlp.backends.numba_backend.plan import (
    Net,
    Share,
    StepRates,
    Visits,
    has_scale,
    layer_of,
    size_of,
)
from fastmlp.backends.numba_backend.products.chunks import (
    CHUNK,
    divides,
    shared_panels,
    task_of,
    whole_panels,
)
from fastmlp.backends.numba_backend.products.gradient import (
    Inputs,
    change_rows,
    form_of,
    inputs_of_task,
)
from fastmlp.backends.numba_backend.products.pairs import place_of_pairs
from fastmlp.backends.numba_backend.products.prefetch import (
    N_LISTS,
    Ahead,
    ahead_size,
    list_rows,
)
from fastmlp.backends.numba_backend.products.rows import Room, Rows
from fastmlp.backends.numba_backend.programs.arguments import Call, Integers, Memory
from fastmlp.backends.numba_backend.programs.backward import backward
from fastmlp.backends.numba_backend.programs.forward import activate_rows, forward
from fastmlp.backends.numba_backend.programs.losses import (
    Place,
    Results,
    Targets,
    losses_and_deltas,
    place_of,
)
from fastmlp.backends.numba_backend.programs.scaling import find_scale_gradient, follow_scale
from fastmlp.backends.numba_backend.programs.update import (
    finish_whole,
    measure_gradient,
    sum_penalties,
    update_whole,
    whole_penalty,
)
from fastmlp.backends.numba_backend.team.barrier import Team, begin_of, end_of, meet
from fastmlp.backends.numba_backend.vectors.pointers import (
    advance_index,
    index_pointer,
    larger,
    smaller,
)
from fastmlp.backends.numba_backend.vectors.records import (
    Records,
    pointers_of,
    record,
    records_from,
    value,
)
from fastmlp.backends.numba_backend.vectors.simd import advance, lanes, load_scalar, store_scalar
from fastmlp.backends.numba_backend.vectors.types import LANES_BYTES, Index, inlined, kernel


@value
class Run(NamedTuple):
    """What a thread knows during a call."""

    net: Net
    team: Team
    visits: Visits
    targets: Targets
    results: Results
    first: FirstLayer
    room: Room
    place: Place
    norms: Records


def train(thread: int, n_threads: int, memory: Memory, call: Call, sync: Integers) -> bool:
    """Train in batches as one thread of a team; all threads get the same arguments.

    Parameters
    ----------
    thread, n_threads : int
    memory : Memory
    call : Call
    sync : array of int64, of `N_SYNC` elements

    Returns
    -------
    bool
        False if another thread gave up.
    """
    team = Team(thread, n_threads, index_pointer(sync, 0))
    return train_batches(team, pointers_of(memory), pointers_of(call), None)


def train_paired(thread: int, n_threads: int, memory: Memory, call: Call, sync: Integers) -> bool:
    """Do what `train` does, and multiply pairs of bfloat16 where layers are `paired`.

    Parameters
    ----------
    thread, n_threads, memory, call, sync
        As `train` takes them.

    Returns
    -------
    bool
        False if another thread gave up.
    """
    team, held = Team(thread, n_threads, index_pointer(sync, 0)), pointers_of(memory)
    pairs = place_of_pairs(record(held.plan, 0), held.floats, thread)
    return train_batches(team, held, pointers_of(call), pairs)


@kernel
def train_batches(team: Team, memory: Any, call: Any, pairs: Any) -> bool:
    """Do what `train` describes, given pointers; `pairs` is None where none are multiplied."""
    run = run_of(team, memory, call, pairs)
    net, plan = run.net, run.net.plan
    mode = choose_mode(net, run.visits, team, run.first)
    if mode == ABANDONED:
        return False
    request_rows(run, plan.first_batch + 1)
    for number in range(plan.first_batch, plan.end_batch):
        batch, rates = batch_of(net, number), record(call.rates, number)
        if not forward_pass(run, batch, mode):
            return False
        if plan.wants_penalties != 0:  # every thread is past its last update, and before the next
            sum_penalties(net, team, run.norms, rates)
        find_losses(run, batch)
        if not backward_pass(run, batch):
            return False
        following = batch_of(net, number + 1)
        if following.n > 0 and not list_next_batch(
            net, run.visits, team, run.first, following, mode
        ):
            return False
        if following.n > 0:
            request_rows(run, number + 2)
        if not meet(team):
            return False
        if team.thread == 0:
            report(run, batch, number)
        if not change_parameters(run, batch, mode, rates):
            return False
    return meet(team)


@inlined
def run_of(team: Team, memory: Any, call: Any, pairs: Any) -> Run:
    """Return what a thread knows during a call."""
    plan, thread = record(memory.plan, 0), team.thread
    net = Net(plan, memory.layers, memory.floats)
    own = thread * ahead_size(plan.batch_size)
    requests = records_from(memory.requests, thread * N_LISTS)
    ahead = Ahead(requests, advance_index(memory.addresses, own))
    scratch = advance(memory.floats, plan.scratch + thread * plan.scratch_size)
    packed = advance(scratch, 2 * CHUNK * lanes(scratch))
    marks = advance(memory.floats, plan.marks)
    lists = advance_index(memory.lists, thread * lists_size(plan.batch_size, CHUNK))
    columns = Columns(memory.counts, memory.columns, marks)
    return Run(
        net,
        team,
        Visits(call.X, plan.x_stride, call.order, 0, plan.n_visits),
        Targets(call.classes, call.targets, call.weights),
        Results(call.losses, call.penalties, memory.row_losses, call.logits),
        FirstLayer(columns, memory.words, lists, memory.row_numbers),
        Room(scratch, packed, ahead, pairs),
        place_of(net, thread),
        memory.norms,
    )


# --- What lies where --------------------------------------------------------------------------


@inlined
def inputs_of(run: Run, number: Index, batch: Batch) -> Index:
    """Return the offset of a layer's inputs.

    Those of the second have two buffers where the first is divided by panels: the next step's first
    phase must not overwrite what slower threads still read.
    """
    net = run.net
    if number == 0:
        return buffer_of(net, batch.turn)
    if number == 1 and batch.turn == 1 and by_panels(net, run.team):
        return net.plan.second_hidden
    return layer_of(net, number).inputs


@inlined
def outputs_of(run: Run, number: Index, batch: Batch) -> Index:
    """Return the offset of a layer's outputs: the next one's inputs, or the last one's deltas."""
    if number == run.net.plan.n_layers - 1:
        return layer_of(run.net, number).deltas
    return inputs_of(run, number + 1, batch)


@inlined
def own_rows(team: Team, n: Index, n_panels: Index) -> Share:
    """Return a thread's rows of a batch, in all panels."""
    first = begin_of(n, team)
    return Share(first, end_of(n, team) - first, 0, n_panels)


@inlined
def own_panels(team: Team, n: Index, n_panels: Index) -> Share:
    """Return a thread's panels, in all rows of a batch."""
    return Share(0, n, begin_of(n_panels, team), end_of(n_panels, team))


# --- Phase by phase ---------------------------------------------------------------------------


@inlined
def request_rows(run: Run, number: Index) -> None:
    """List the rows of a batch to ask for, while those before it compute.

    The more panels of weights the first layer has, the more products there are to spread over.
    """
    net, visits = run.net, run.visits
    batch = batch_of(net, number)
    part = part_of(net, run.team, batch.n)
    pace = 2 * LANES_BYTES // layer_of(net, 0).out_panels
    pace = smaller(larger(pace, 4), LANES_BYTES)
    first, end = batch.start + part.first_row, batch.start + part.last_row
    rows = Visits(advance(visits.X, part.first_column), visits.stride, visits.order, first, end)
    width = part.last_column - part.first_column
    list_rows(rows, width, run.targets.classes, pace, run.room.ahead)


@inlined
def forward_pass(run: Run, batch: Batch, mode: Index) -> bool:
    """Write all layers' activations, and the last one's pre-activations.

    What is divided by panels wants all rows of its inputs, and is followed by a barrier, as what is
    divided by columns; then a thread goes on with its own rows. Returns False if a thread gave up.
    """
    net, team = run.net, run.team
    complete = True  # whether all rows of the inputs are written
    for number in range(net.plan.n_layers):
        layer = layer_of(net, number)
        n_panels = layer.out_panels
        all_rows = divides(n_panels, size_of(layer), team.n_threads)
        if number == 0:
            all_rows = by_panels(net, team)
        share = own_rows(team, batch.n, n_panels)
        if all_rows:
            if not complete and not meet(team):
                return False
            share = own_panels(team, batch.n, n_panels)
        start = outputs_of(run, number, batch) + share.first_row * layer.delta_stride
        outputs = advance(net.memory, start)
        if number == 0:
            if not forward_first(run, outputs, share, batch, mode):
                return False
        else:
            stride = layer.input_stride
            inputs = inputs_of(run, number, batch) + share.first_row * stride
            rows = Rows(advance(net.memory, inputs), stride, share.n_rows)
            forward(net, number, rows, outputs, share, run.room)
        activate_rows(net, number, outputs, share, batch.key)
        complete = all_rows
        if all_rows and not meet(team):
            return False
    return True


@inlined
def forward_first(run: Run, outputs: Any, share: Share, batch: Batch, mode: Index) -> bool:
    """Write a share of the first layer's pre-activations; return False if a thread gave up."""
    net, team, first = run.net, run.team, run.first
    if mode == PARTS:
        rows = rows_of_parts(net, run.visits, first, batch)
        multiply_parts(net, rows, team, first.columns, batch.turn, run.room.ahead)
        if not meet(team):
            return False
        add_parts(net, outputs, share.first_row, share.n_rows)
        return True
    forward_first_layer(net, outputs, share, team, first, batch, mode, run.room)
    return True


@inlined
def find_losses(run: Run, batch: Batch) -> None:
    """Find the losses of the thread's rows, and the last layer's deltas."""
    visits, end = run.visits, batch.start + batch.n
    rows = Visits(visits.X, visits.stride, visits.order, batch.start, end)
    first, last = begin_of(batch.n, run.team), end_of(batch.n, run.team)
    losses_and_deltas(run.net, run.targets, rows, first, last, run.place, run.results)


@inlined
def backward_pass(run: Run, batch: Batch) -> bool:
    """Write all layers' deltas; return False if a thread gave up."""
    net, team = run.net, run.team
    complete = team.n_threads == 1
    for number in range(net.plan.n_layers - 1, 0, -1):
        layer = layer_of(net, number)
        inputs = advance(net.memory, inputs_of(run, number, batch))
        share = own_rows(team, batch.n, layer.in_panels)
        all_rows = divides(layer.in_panels, size_of(layer), team.n_threads)
        if all_rows:
            if not complete and not meet(team):
                return False
            share = own_panels(team, batch.n, layer.in_panels)
        backward(net, number, inputs, share, run.room)
        complete = all_rows
        if all_rows and number > 1 and not meet(team):
            return False
    return True


@inlined
def report(run: Run, batch: Batch, number: Index) -> None:
    """Write the loss of a batch, and the penalty if it is wanted."""
    loss, results = 0.0, run.results
    for row in range(batch.n):
        loss += load_scalar(results.row_losses, row)
    store_scalar(results.losses, number, loss)
    if run.net.plan.wants_penalties != 0:
        store_scalar(results.penalties, number, whole_penalty(run.net, run.norms))


@inlined
def change_layer(run: Run, number: Index, batch: Batch, rates: StepRates) -> None:
    """Compute a thread's share of the gradient of a layer's weights, and apply it."""
    net, team, layer = run.net, run.team, layer_of(run.net, number)
    n_in, n_panels = layer.n_in, layer.out_panels
    tasks = shared_panels(n_in, n_panels, team, number)
    if is_whole(net.plan) or divides(n_panels, size_of(layer), team.n_threads):
        tasks = whole_panels(n_in, begin_of(n_panels, team), end_of(n_panels, team))
    form = form_of(layer, batch.n, tasks, run.room)
    data = advance(net.memory, inputs_of(run, number, batch))
    whole = Inputs(data, layer.input_stride, batch.n, form)
    ready = -1  # the chunk whose inputs are copied
    for i in range(tasks.first, tasks.last):
        task = task_of(tasks, i)
        inputs = inputs_of_task(whole, task, task.chunk != ready, run.room)
        ready = task.chunk
        change_rows(net, layer, task, inputs, run.room, rates)


@inlined
def apply_whole(run: Run, mode: Index, rates: StepRates) -> bool:
    """Finish a gradient that is kept whole, and update by it; return False if a thread gave up."""
    net, team, plan = run.net, run.team, run.net.plan
    # What is divided by columns has several threads' gradients in a panel.
    if mode == PARTS and not meet(team):
        return False
    if has_scale(plan) and not find_scale_gradient(net, team):
        return False
    finish_whole(net, team, rates)
    if plan.gradient_only != 0:
        return True
    measure_gradient(net, team, run.norms)
    if not meet(team):
        return False
    update_whole(net, team, run.norms, rates)
    return not has_scale(plan) or follow_scale(net, team)


@inlined
def change_parameters(run: Run, batch: Batch, mode: Index, rates: StepRates) -> bool:
    """Compute a thread's share of the gradient and update by it; return False if one gave up."""
    net, team, plan = run.net, run.team, run.net.plan
    change_first_layer(net, run.visits, team, run.first, batch, mode, run.room, rates)
    for number in range(1, plan.n_layers):
        change_layer(run, number, batch, rates)
    whole = is_whole(plan)
    if whole and not apply_whole(run, mode, rates):
        return False
    # Divided by panels or columns, a thread goes on with weights that only it has changed; the
    # norms, read above, are next written after two more barriers.
    goes_on = by_panels(net, team) or (mode == PARTS and not whole)
    return goes_on or meet(team)
