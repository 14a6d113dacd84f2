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

from typing import Any

import numpy as np

from fastmlp.backends.numba_backend.ahead import ahead_size, list_pieces, list_rows
from fastmlp.backends.numba_backend.columns import (
    ACTIVE,
    LEAVES_OUT,
    N_ACTIVE,
    N_PARTS,
    N_RUNS,
    columns_of_list,
    first_column_of,
    first_list_of,
    is_narrow,
    keep_all,
    list_at,
    list_batch,
    load_row,
    load_runs,
    mark_batch,
)
from fastmlp.backends.numba_backend.elementwise import (
    CLIP_NORM,
    CLIP_VALUE,
    EMA_RATE,
    INPUT_SCALE,
    L1,
    L2,
    LOSS_PARAMETER,
    MAX_NORM,
    N_NORM,
    N_RATES,
    NOISE,
    PENALTY,
    RATE,
    SMOOTHING,
    WEIGHT_DECAY,
    activate,
    add_noise,
    average,
    clipping_factor,
    descend,
    drop,
    finish_gradient,
    limit_norms,
    losses_of_rows,
    measure_norm,
    penalty_of,
    slope_from_output,
    update,
)
from fastmlp.backends.numba_backend.integers import (
    advance_index,
    atomic_add,
    atomic_load,
    atomic_store,
    index_pointer,
    larger,
    leads_somewhere,
    load_index,
    nowhere,
    out_of_line,
    pause,
    share,
    sleep_briefly,
    smaller,
    store_index,
)
from fastmlp.backends.numba_backend.layout import (
    ACTIVATION,
    ACTIVATION_PARAMETER,
    DELTA_PANELS,
    DELTA_STRIDE,
    DELTAS,
    DROPOUT_SCALE,
    DROPOUT_THRESHOLD,
    IN_PANELS,
    INPUT_STRIDE,
    INPUTS,
    N_IN,
    N_LAYER_REALS,
    N_OUT,
    OUT_PANELS,
    SLOPES,
    STORES_SLOPES,
    WEIGHTS,
    field,
)
from fastmlp.backends.numba_backend.simd import (
    LANES_BYTES,
    advance,
    full,
    inlined,
    kernel,
    lanes,
    load,
    load_scalar,
    pointer,
    store,
    store_scalar,
    transpose_square,
    zero,
)
from fastmlp.backends.numba_backend.terms import (
    MOST_ROWS,
    WORD,
    full_tiles,
    has_gaps,
    list_rows_of_columns,
    lists_size,
    mark_terms,
    multiply_rows_by_terms,
    multiply_terms,
    n_words,
)
from fastmlp.backends.numba_backend.tiles import (
    PACKED_ROWS,
    PACKED_SIZE,
    WORTH_PACKING,
    asks_ahead,
    multiply_listed,
    multiply_panel,
    multiply_rows,
    multiply_spread,
    pack_tiles,
)
from fastmlp.regularization import NOISE_ANGLE_STREAM, NOISE_RADIUS_STREAM

# Fields of the integer array that describes a session and a call.
(
    N_LAYERS,
    BATCH_SIZE,
    OUTPUT,
    LOSS,
    OPTIMIZER,
    N_MOMENTS,
    BLOCK_SIZE,
    AVERAGE,  # offset of the moving average's block
    GRADIENT,  # offset of the gradient's block
    SECOND_INPUT,  # offset of the first layer's second input buffer
    SECOND_HIDDEN,  # offset of the second layer's second input buffer
    CONSTANTS,  # offset of a vector of zeros, then the quantile levels
    PARTS,  # offset of the products of a narrow first layer's parts, [parts][batch_size][stride]
    GROUPS,  # offset of each thread's group of rows whose losses are computed at once
    GROUP_SIZE,
    SCRATCH,  # offset of each thread's scratch
    SCRATCH_SIZE,
    SEED_KEY,
    TARGET_WIDTH,  # 0 where targets are class numbers
    HAS_WEIGHTS,
    WANTS_LOGITS,
    GRADIENT_ONLY,  # write the gradient's block and update nothing
    ACTIVITY,  # offset of the marks of columns that are not zero, [lists][stride]
    FIRST_STEP,
    FIRST_ROW,  # number in the whole batch of this call's first row, for random numbers
    N_SPEC,
) = range(26)

# Elements of the array by which threads meet; each on a cache line of its own.
ARRIVED, GENERATION, ABANDONED, N_SYNC = 0, 16, 32, 48

#: Rows of a weight panel in one tile task: their gradient stays in the first-level cache.
CHUNK = 3 * WORD
#: Rows spread over this many elements or more are packed: their pages are too many for the tables
#: of pages that a processor has at hand.
FAR = 1 << 16
#: Matrices of at least this many elements are divided by panels among threads.
LARGE = 1 << 16

#: Panels a thread from which on shares differ little, whether they divide evenly or not.
ABOUT_EVEN = 4

_PATIENCE = 5000


@inlined
def meet(sync: Any, n_threads: Any) -> bool:
    """Wait until all threads have come here; return False if one has given up."""
    if n_threads == 1:
        return True
    generation = atomic_load(sync, GENERATION)
    if atomic_add(sync, ARRIVED, 1) == n_threads - 1:
        atomic_store(sync, ARRIVED, 0)
        atomic_add(sync, GENERATION, 1)
        return True
    waited = 0
    while atomic_load(sync, GENERATION) == generation:
        waited += 1
        if waited < _PATIENCE:
            pause()
        else:
            if atomic_load(sync, ABANDONED) != 0:
                return False
            sleep_briefly()
    return True


@inlined
def rows_of_batch(start: Any, n_total: Any, batch_size: Any, thread: Any, n_threads: Any) -> Any:
    """Return where in the order a thread's rows of the batch from `start` on begin and end."""
    begin = smaller(start, n_total)
    n = smaller(batch_size, n_total - begin)
    return begin + share(n, thread, n_threads), begin + share(n, thread + 1, n_threads)


@inlined
def request_pace(layers: Any) -> Any:
    """Return the bytes from one request of inputs to the next.

    The more panels of weights the first layer has, the more products there are to spread over.
    """
    pace = 2 * LANES_BYTES // field(layers, 0, OUT_PANELS)
    return smaller(larger(pace, 4), LANES_BYTES)


@inlined
def _mix(value: Any) -> Any:
    value = value & 0xFFFFFFFF
    value = ((value ^ (value >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    value = ((value ^ (value >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return value ^ (value >> 16)


@inlined
def stream_key(seed_key: Any, step: Any, stream: Any) -> Any:
    """Return `fastmlp.regularization.stream_key`, given its part that depends on the seed."""
    key = _mix(seed_key ^ _mix(step + 0xC2B2AE35))
    key = _mix(key ^ _mix((step >> 32) + 0x27D4EB2F))
    return _mix(key ^ _mix(stream + 0x165667B1))


# --- Phase by phase --------------------------------------------------------------------------


@kernel
def activate_rows(
    memory: Any,
    spec: Any,
    layers: Any,
    reals: Any,
    layer: Any,
    outputs: Any,
    output_stride: Any,
    first_row: Any,
    first_index: Any,
    n_rows: Any,
    first_panel: Any,
    last_panel: Any,
    trains: Any,
    step_key: Any,
) -> None:
    """Replace some panels of some rows of a hidden layer's pre-activations by activations.

    `outputs` points to the first of the rows; `first_row` is its number in the batch,
    `first_index` that of its first unit in dropout's mask. The last layer's rows stay as they are.
    """
    out_of_line()
    if layer == load_index(spec, N_LAYERS) - 1:
        return
    n_out, step = field(layers, layer, N_OUT), lanes(outputs)
    for p in range(first_panel, last_panel):
        strip = advance(outputs, p * step)
        stores = trains and field(layers, layer + 1, STORES_SLOPES) != 0
        slopes = strip
        if stores:
            start = field(layers, layer + 1, SLOPES) + first_row * output_stride + p * step
            slopes = advance(memory, start)
        activate(
            field(layers, layer, ACTIVATION),
            load_scalar(reals, layer * N_LAYER_REALS + ACTIVATION_PARAMETER),
            strip,
            output_stride,
            n_rows,
            slopes,
            stores,
        )
        if trains and field(layers, layer + 1, DROPOUT_THRESHOLD) != 0:
            drop(
                strip,
                slopes,
                stores,
                output_stride,
                n_rows,
                stream_key(load_index(spec, SEED_KEY), step_key, layer + 1),
                first_index + p * step,
                n_out,
                field(layers, layer + 1, DROPOUT_THRESHOLD),
                load_scalar(reals, (layer + 1) * N_LAYER_REALS + DROPOUT_SCALE),
            )


@inlined
def weights_of(memory: Any, layers: Any, layer: Any) -> Any:
    """Return a layer's first panel, the distance of panels, and the first panel's biases."""
    panels = advance(memory, field(layers, layer, WEIGHTS))
    stride = (field(layers, layer, N_IN) + 1) * lanes(memory)
    return panels, stride, advance(panels, stride - lanes(memory))


@kernel
def forward(
    memory: Any,
    layers: Any,
    layer: Any,
    inputs: Any,
    input_stride: Any,
    n_rows: Any,
    outputs: Any,
    output_stride: Any,
    first_panel: Any,
    last_panel: Any,
    panel_rows: Any,
    depth: Any,
    packed: Any,
    ahead: Any,
) -> None:
    """Write some panels of some rows' pre-activations of a layer.

    `inputs` and `outputs` point to the first of the rows; other arguments as `tiles.multiply_rows`
    takes them.
    """
    out_of_line()
    step = lanes(inputs)
    panels, panel_stride, biases = weights_of(memory, layers, layer)
    weights = (panels, panel_stride, panel_rows, 0, depth, biases, panel_stride)
    where = (outputs, step, output_stride, first_panel, last_panel, packed, ahead)
    multiply_rows(inputs, input_stride, n_rows, *weights, *where)


@kernel
def forward_by_terms(
    memory: Any,
    layers: Any,
    inputs: Any,
    n_rows: Any,
    outputs: Any,
    first_panel: Any,
    last_panel: Any,
    columns: Any,
    words: Any,
    lists: Any,
    room: Any,
    ahead: Any,
) -> None:
    """Do what `forward` describes in the first layer, leaving out what is zero.

    `columns` lists those that are gathered; `words`, `lists` and `room` are as
    `terms.multiply_rows_by_terms` takes them.
    """
    out_of_line()
    step = lanes(inputs)
    panels, panel_stride, biases = weights_of(memory, layers, 0)
    used, depth = advance_index(columns, ACTIVE), load_index(columns, N_ACTIVE)
    weights = (panels, panel_stride, used, depth, biases, panel_stride)
    output_stride = field(layers, 0, DELTA_STRIDE)
    where = (outputs, step, output_stride, first_panel, last_panel, room, ahead)
    input_stride = field(layers, 0, INPUT_STRIDE)
    multiply_rows_by_terms(inputs, input_stride, n_rows, words, lists, *weights, *where)


@kernel
def multiply_parts(
    memory: Any,
    spec: Any,
    layers: Any,
    inputs: Any,
    rows: Any,
    row_stride: Any,
    n_rows: Any,
    thread: Any,
    n_threads: Any,
    columns: Any,
    turn: Any,
    ahead: Any,
) -> None:
    """Write the products of a thread's parts of a batch with the weights of a narrow first layer.

    `inputs`, `rows` and `row_stride` are `a`, `rows` and `a_stride` of `tiles.multiply_listed`.
    """
    out_of_line()
    step, out_stride = lanes(inputs), field(layers, 0, DELTA_STRIDE)
    panels, panel_stride, biases = weights_of(memory, layers, 0)
    last_part = first_list_of(layers, thread + 1, n_threads)
    for part in range(first_list_of(layers, thread, n_threads), last_part):
        own = list_at(columns, layers, part, turn)
        initial, initial_stride = advance(memory, load_index(spec, CONSTANTS)), 0
        if part == N_PARTS - 1:  # whose thread changes the biases
            initial, initial_stride = biases, panel_stride
        out = load_index(spec, PARTS) + part * load_index(spec, BATCH_SIZE) * out_stride
        multiply_listed(
            inputs,
            rows,
            row_stride,
            n_rows,
            panels,
            panel_stride,
            advance_index(own, ACTIVE),
            load_index(own, N_ACTIVE),
            initial,
            initial_stride,
            advance(memory, out),
            step,
            out_stride,
            field(layers, 0, OUT_PANELS),
            ahead,
        )


@kernel
def add_parts(
    memory: Any, spec: Any, layers: Any, outputs: Any, first_row: Any, n_rows: Any
) -> None:
    """Write the sums of the parts' products for some rows; `outputs` points to the first."""
    out_of_line()
    stride, step = field(layers, 0, DELTA_STRIDE), lanes(outputs)
    size = load_index(spec, BATCH_SIZE) * stride
    parts = advance(memory, load_index(spec, PARTS) + first_row * stride)
    for row in range(n_rows):
        for i in range(row * stride, row * stride + field(layers, 0, OUT_PANELS) * step, step):
            total = load(parts, i)
            for part in range(1, N_PARTS):
                total = total + load(parts, part * size + i)
            store(outputs, i, total)


@kernel
def gather(
    memory: Any,
    spec: Any,
    layers: Any,
    reals: Any,
    hyper: Any,
    X: Any,
    x_stride: Any,
    order: Any,
    start: Any,
    first_row: Any,
    last_row: Any,
    first_column: Any,
    last_column: Any,
    buffer: Any,
    columns: Any,
    words: Any,
    step_key: Any,
) -> None:
    """Copy some rows of a batch into the first layer's inputs, with noise and dropout.

    The batch begins at order[start]. The columns are those between `first_column` and
    `last_column`, or, of all columns, those that the list `columns` names, unless it is `nowhere`.
    Unless it is `nowhere`, `words` gets the marks of what is not zero.
    """
    out_of_line()
    n_in, stride = field(layers, 0, N_IN), field(layers, 0, INPUT_STRIDE)
    scale, width = load_scalar(hyper, INPUT_SCALE), last_column - first_column
    for row in range(first_row, last_row):
        out = advance(memory, buffer + row * stride + first_column)
        where = load_index(order, start + row) * x_stride + first_column
        if leads_somewhere(columns):
            runs = advance_index(columns, ACTIVE + n_in)
            load_runs(X, where, out, width, scale, runs, load_index(columns, N_RUNS))
        else:
            load_row(X, where, out, width, scale)
        if leads_somewhere(words):
            n_columns = load_index(columns, N_ACTIVE)
            mark_terms(out, n_columns, advance_index(words, row * n_words(n_columns)))
    noise, threshold = load_scalar(hyper, NOISE), field(layers, 0, DROPOUT_THRESHOLD)
    if noise == 0.0 and threshold == 0:
        return
    seed_key = load_index(spec, SEED_KEY)
    for row in range(first_row, last_row):
        out = advance(memory, buffer + row * stride + first_column)
        index = (load_index(spec, FIRST_ROW) + row) * n_in + first_column
        if noise > 0.0:
            radius_key = stream_key(seed_key, step_key, NOISE_RADIUS_STREAM)
            angle_key = stream_key(seed_key, step_key, NOISE_ANGLE_STREAM)
            add_noise(out, width, noise, radius_key, angle_key, index)
        if threshold != 0:
            key, factor = stream_key(seed_key, step_key, 0), load_scalar(reals, DROPOUT_SCALE)
            for i in range(0, width, lanes(out)):
                piece = advance(out, i)
                drop(piece, out, False, 0, 1, key, index + i, n_in, threshold, factor)


@kernel
def losses_and_deltas(
    memory: Any,
    spec: Any,
    layers: Any,
    hyper: Any,
    thread: Any,
    classes: Any,
    dense: Any,
    weights: Any,
    order: Any,
    start: Any,
    n: Any,
    total_weight: Any,
    first_row: Any,
    last_row: Any,
    row_losses: Any,
    logits: Any,
) -> None:
    """Replace the last layer's logits, which lie in its deltas, by deltas, in groups of rows."""
    out_of_line()
    last = load_index(spec, N_LAYERS) - 1
    n_out, width = field(layers, last, N_OUT), load_index(spec, TARGET_WIDTH)
    stride, batch_size = field(layers, last, DELTA_STRIDE), load_index(spec, BATCH_SIZE)
    n_panels = field(layers, last, OUT_PANELS)
    levels = advance(memory, load_index(spec, CONSTANTS) + lanes(memory))
    # A thread's own: the group's classes, weights and losses, then its logits and targets, every
    # output's a vector with the rows as lanes.
    step = lanes(memory)
    group_classes = advance(
        memory, load_index(spec, GROUPS) + thread * load_index(spec, GROUP_SIZE)
    )
    shares, losses = advance(group_classes, step), advance(group_classes, 2 * step)
    columns = advance(group_classes, 3 * step)
    targets = advance(columns, n_panels * step * step)
    total, weighted = total_weight, load_index(spec, HAS_WEIGHTS) != 0
    if total <= 0.0:
        total = 0.0 if weighted else float(n)
        for row in range(n if weighted else 0):
            total += load_scalar(weights, load_index(order, start + row))
    portion = 1.0 / total if total > 0.0 else 0.0
    for first in range(first_row, last_row, step):
        count = smaller(step, last_row - first)
        samples = advance_index(order, start + first)
        rows = advance(memory, field(layers, last, DELTAS) + first * stride)
        if load_index(spec, WANTS_LOGITS) != 0:
            for r in range(count):
                for k in range(n_out):
                    z = load_scalar(rows, r * stride + k)
                    store_scalar(logits, (start + first + r) * n_out + k, z)
        if width == 0:
            for r in range(count):
                store_scalar(group_classes, r, load_index(classes, load_index(samples, r)))
        else:
            for r in range(count):
                for k in range(n_out):  # one target may serve several outputs
                    target = load_index(samples, r) * width + smaller(k, width - 1)
                    store_scalar(targets, k * step + r, load_scalar(dense, target))
        store(shares, 0, full(shares, portion))
        if weighted:
            for r in range(count):
                weight = float(load_scalar(weights, load_index(samples, r)))
                store_scalar(shares, r, weight * portion)
        for p in range(n_panels):
            square = advance(columns, p * step * step)
            n_used = smaller(step, n_out - p * step)
            transpose_square(advance(rows, p * step), stride, count, square, step, n_used)
        group_losses = losses_of_rows(
            load_index(spec, OUTPUT),
            load_index(spec, LOSS),
            load_scalar(hyper, LOSS_PARAMETER),
            load_scalar(hyper, SMOOTHING),
            columns,
            width == 0,
            load(group_classes, 0),
            targets,
            levels,
            n_out,
            load(shares, 0),
        )
        store(losses, 0, group_losses)
        for r in range(count):
            weight = 1.0
            if weighted:
                weight = float(load_scalar(weights, load_index(samples, r)))
            loss = float(load_scalar(losses, r)) * (weight * portion)
            store_scalar(row_losses, first + r, loss)
        for p in range(n_panels):
            square = advance(columns, p * step * step)
            where = field(layers, last, DELTA_PANELS) + (p * batch_size + first) * step
            strip = advance(memory, where)
            transpose_square(square, step, smaller(step, n_out - p * step), strip, step, count)
            for r in range(count):
                store(rows, r * stride + p * step, load(strip, r * step))


@kernel
def backward(
    memory: Any,
    spec: Any,
    layers: Any,
    layer: Any,
    inputs: Any,
    first_row: Any,
    n_rows: Any,
    first_panel: Any,
    last_panel: Any,
    packed: Any,
    ahead: Any,
) -> None:
    """Compute some rows and panels of the deltas of the layer below from those of `layer`."""
    out_of_line()
    below = layer - 1
    n_in, n_out = field(layers, layer, N_IN), field(layers, layer, N_OUT)
    stride = field(layers, layer, DELTA_STRIDE)
    deltas = advance(memory, field(layers, layer, DELTAS) + first_row * stride)
    step = lanes(deltas)
    zeros = advance(memory, load_index(spec, CONSTANTS))
    a_stride = field(layers, layer, INPUT_STRIDE)
    strips = advance(memory, field(layers, below, DELTA_PANELS) + first_row * step)
    strip_size = load_index(spec, BATCH_SIZE) * step
    multiply_rows(
        deltas,
        stride,
        n_rows,
        advance(memory, field(layers, layer, WEIGHTS)),
        (n_in + 1) * step,
        nowhere(),
        n_in,
        n_out,
        zeros,
        0,
        strips,
        strip_size,
        step,
        first_panel,
        last_panel,
        packed,
        ahead,
    )
    for p in range(first_panel, last_panel):
        strip = advance(strips, p * strip_size)
        if field(layers, layer, STORES_SLOPES) != 0:
            slopes = advance(memory, field(layers, layer, SLOPES) + first_row * a_stride + p * step)
            for row in range(n_rows):
                v = load(strip, row * step) * load(slopes, row * a_stride)
                store(strip, row * step, v)
        else:
            code = field(layers, below, ACTIVATION)
            outputs = advance(memory, inputs + first_row * a_stride + p * step)
            for row in range(n_rows):
                slope = slope_from_output(code, load(outputs, row * a_stride))
                store(strip, row * step, load(strip, row * step) * slope)
        if below > 0:
            below_stride = field(layers, below, DELTA_STRIDE)
            rows = advance(
                memory, field(layers, below, DELTAS) + first_row * below_stride + p * step
            )
            for row in range(n_rows):
                store(rows, row * below_stride, load(strip, row * step))


@kernel
def bias_gradient(deltas: Any, n: Any, out: Any) -> None:
    """Write the gradient of a panel's biases: the sum of `n` rows of deltas."""
    out_of_line()
    step = lanes(deltas)
    # Two sums at once: a single one would wait for every addition.
    even, odd = zero(deltas), zero(deltas)
    for row in range(0, n - 1, 2):
        even = even + load(deltas, row * step)
        odd = odd + load(deltas, (row + 1) * step)
    if n % 2 != 0:
        even = even + load(deltas, (n - 1) * step)
    store(out, 0, even + odd)


@kernel
def update_rows(
    memory: Any,
    spec: Any,
    hyper: Any,
    offset: Any,
    n_rows: Any,
    gradient: Any,
    factor: Any,
    rates: Any,
) -> None:
    """Update `n_rows` rows of a panel, which begin at `offset` of a block."""
    out_of_line()
    w = advance(memory, offset)
    block = load_index(spec, BLOCK_SIZE)
    update(
        load_index(spec, OPTIMIZER),
        w,
        gradient,
        factor,
        advance(memory, offset + (block if load_index(spec, N_MOMENTS) > 0 else 0)),
        block,
        n_rows * lanes(w),
        rates,
        hyper,
    )


@kernel
def settle_rows(
    memory: Any,
    spec: Any,
    hyper: Any,
    offset: Any,
    n_rows: Any,
    gradient: Any,
    penalized: Any,
    whole: Any,
    rates: Any,
) -> None:
    """Finish the gradient of some rows of a panel; apply it, or keep it if wanted `whole`."""
    out_of_line()
    step = lanes(gradient)
    l1, l2, clip = load_scalar(hyper, L1), load_scalar(rates, L2), load_scalar(hyper, CLIP_VALUE)
    if clip < np.inf or (penalized and (l1 > 0.0 or l2 > 0.0)):
        w = advance(memory, offset)
        finish_gradient(gradient, w, n_rows * step, penalized, l1, l2, clip)
    if whole:
        out = advance(memory, load_index(spec, GRADIENT) + offset)
        for i in range(0, n_rows * step, step):
            store(out, i, load(gradient, i))
    else:
        update_rows(memory, spec, hyper, offset, n_rows, gradient, 1.0, rates)


@kernel
def average_rows(memory: Any, spec: Any, hyper: Any, offset: Any, n_rows: Any) -> None:
    """Bring the average of `n_rows` rows of a panel, which begin at `offset`, up to date."""
    out_of_line()
    if load_scalar(hyper, EMA_RATE) > 0.0:
        mean = advance(memory, load_index(spec, AVERAGE) + offset)
        size = n_rows * lanes(memory)
        average(advance(memory, offset), mean, size, load_scalar(hyper, EMA_RATE))


@kernel
def settle_zeros(
    memory: Any,
    spec: Any,
    hyper: Any,
    offset: Any,
    first: Any,
    last: Any,
    scratch: Any,
    whole: Any,
    rates: Any,
) -> None:
    """Settle rows first to last of a panel at `offset`, whose gradient is zero."""
    out_of_line()
    step = lanes(scratch)
    for begin in range(first, last, CHUNK):
        n_rows = smaller(CHUNK, last - begin)
        for i in range(0, n_rows * step, step):
            store(scratch, i, zero(scratch))
        where = offset + begin * step
        settle_rows(memory, spec, hyper, where, n_rows, scratch, True, whole, rates)


@inlined
def is_plain(spec: Any, hyper: Any, rates: Any) -> bool:
    """Return whether an update is the gradient times the learning rate and nothing else."""
    return (
        load_index(spec, OPTIMIZER) == 0
        and load_index(spec, N_MOMENTS) == 0
        and load_scalar(hyper, WEIGHT_DECAY) == 0.0
        and load_scalar(hyper, L1) == 0.0
        and load_scalar(rates, L2) == 0.0
        and load_scalar(hyper, CLIP_VALUE) == np.inf
    )


@kernel
def settle_columns(
    memory: Any,
    spec: Any,
    hyper: Any,
    offset: Any,
    columns: Any,
    n_in: Any,
    first_column: Any,
    last_column: Any,
    first: Any,
    last: Any,
    gradient: Any,
    scratch: Any,
    whole: Any,
    rates: Any,
) -> Any:
    """Settle the rows of a panel that belong to active columns first to last, and zeros between.

    `columns` lists what is active from `first_column` to `last_column`; `gradient` points to the
    rows of the active columns. Returns the range of rows settled: up to the row of the next active
    column, and from `first_column` if `first` is 0.
    """
    out_of_line()
    step = lanes(gradient)
    start = first_column if first == 0 else load_index(columns, ACTIVE + first)
    stop = last_column
    if last < load_index(columns, N_ACTIVE):
        stop = load_index(columns, ACTIVE + last)
    if not whole and is_plain(spec, hyper, rates):
        # Weights whose gradient is zero stay as they are.
        panel, active = advance(memory, offset), advance_index(columns, ACTIVE + first)
        descend(panel, active, last - first, gradient, load_scalar(rates, RATE))
        return start, stop
    runs = advance_index(columns, ACTIVE + n_in)
    at, passed = start, 0  # rows before `at` are settled; so many active columns are passed
    for r in range(load_index(columns, N_RUNS)):
        run = load_index(runs, 2 * r)
        length = load_index(runs, 2 * r + 1) - run
        low, high = larger(first - passed, 0), smaller(last - passed, length)
        if low < high:
            begin, end = run + low, run + high
            settle_zeros(memory, spec, hyper, offset, at, begin, scratch, whole, rates)
            settle_rows(
                memory,
                spec,
                hyper,
                offset + begin * step,
                end - begin,
                advance(gradient, (passed + low - first) * step),
                True,
                whole,
                rates,
            )
            at = end
        passed += length
        if passed >= last:
            break
    settle_zeros(memory, spec, hyper, offset, at, stop, scratch, whole, rates)
    return start, stop


@kernel
def change_rows(
    memory: Any,
    spec: Any,
    layers: Any,
    hyper: Any,
    layer: Any,
    panel: Any,
    first: Any,
    last: Any,
    is_last: Any,
    inputs: Any,
    samples: Any,
    row_numbers: Any,
    row_stride: Any,
    is_packed: Any,
    n: Any,
    lists: Any,
    columns: Any,
    first_column: Any,
    last_column: Any,
    scratch: Any,
    whole: Any,
    rates: Any,
    ahead: Any,
) -> None:
    """Compute the gradient by inputs first to last of a weight panel and settle it.

    The first layer's inputs are the active columns, which `columns` lists, from `first_column` to
    `last_column`. `inputs` points to the first of them, and they may be packed as tiles; or if
    `samples` leads somewhere, to where the rows are that it lists. `row_numbers` lists 0, 1, and so
    on. If `lists` leads somewhere, the inputs' terms are those that it lists. If `is_last`, the
    biases are changed too.
    """
    out_of_line()
    n_in = field(layers, layer, N_IN)
    step = lanes(scratch)
    deltas = advance(
        memory, field(layers, layer, DELTA_PANELS) + panel * load_index(spec, BATCH_SIZE) * step
    )
    zeros = advance(memory, load_index(spec, CONSTANTS))
    offset = field(layers, layer, WEIGHTS) + panel * (n_in + 1) * step
    count = last - first
    if count > 0 and not whole and asks_ahead(n_in * field(layers, layer, N_OUT), ahead):
        begin, end = first, last - 1
        if layer == 0:
            begin, end = load_index(columns, ACTIVE + begin), load_index(columns, ACTIVE + end)
        changed = advance(memory, offset + begin * step)
        n_blocks = 1 + load_index(spec, N_MOMENTS)
        list_pieces(
            changed, (end + 1 - begin) * step, load_index(spec, BLOCK_SIZE), n_blocks, ahead
        )
    if leads_somewhere(samples):
        active = advance_index(columns, ACTIVE + first)
        # All rows of deltas are used, by number: another kind of product would be compiled else.
        product = (deltas, row_numbers, n, zeros, 0, scratch, step, ahead)
        multiply_spread(count, (inputs, active, 1, samples, row_stride, *product))
    elif leads_somewhere(lists):
        operands = (inputs, 1, row_stride, deltas, zeros, 0, scratch, step, ahead)
        multiply_terms(full_tiles(count), lists, 1 + n, operands)
    else:
        multiply_panel(
            is_packed,
            inputs,
            1,
            row_stride,
            deltas,
            n,
            zeros,
            0,
            scratch,
            step,
            count,
            ahead,
        )
    if layer == 0:
        start, stop = settle_columns(
            memory,
            spec,
            hyper,
            offset,
            columns,
            n_in,
            first_column,
            last_column,
            first,
            last,
            scratch,
            advance(scratch, CHUNK * step),
            whole,
            rates,
        )
    else:
        start, stop = first, last
        where = offset + first * step
        settle_rows(memory, spec, hyper, where, count, scratch, True, whole, rates)
    if is_last:
        stop = n_in + 1
        bias_gradient(deltas, n, scratch)
        where = offset + n_in * step
        settle_rows(memory, spec, hyper, where, 1, scratch, False, whole, rates)
    if not whole:
        average_rows(memory, spec, hyper, offset + start * step, stop - start)


@inlined
def _one_of_three(layer: Any, first: Any, second: Any, other: Any) -> Any:
    return first if layer == 0 else (second if layer == 1 else other)


@inlined
def first_panel_of(layers: Any, layer: Any, thread: Any, n_threads: Any) -> Any:
    """Return the first panel of a layer's weights that a thread owns."""
    return share(field(layers, layer, OUT_PANELS), thread, n_threads)


@kernel
def sum_penalties(
    memory: Any,
    spec: Any,
    layers: Any,
    hyper: Any,
    thread: Any,
    n_threads: Any,
    norms: Any,
    rates: Any,
) -> None:
    """Write the penalty of each of a thread's panels."""
    out_of_line()
    step, number = lanes(memory), 0
    for layer in range(load_index(spec, N_LAYERS)):
        n_in = field(layers, layer, N_IN)
        p0 = first_panel_of(layers, layer, thread, n_threads)
        p1 = first_panel_of(layers, layer, thread + 1, n_threads)
        for panel in range(p0, p1):
            weights = advance(memory, field(layers, layer, WEIGHTS) + panel * (n_in + 1) * step)
            l1, l2 = load_scalar(hyper, L1), load_scalar(rates, L2)
            penalty = penalty_of(weights, n_in * step, l1, l2)
            store_scalar(norms, (number + panel) * N_NORM + PENALTY, penalty)
        number += field(layers, layer, OUT_PANELS)


@inlined
def count_panels(spec: Any, layers: Any) -> Any:
    """Return the number of panels of all layers."""
    n_panels = 0
    for layer in range(load_index(spec, N_LAYERS)):
        n_panels += field(layers, layer, OUT_PANELS)
    return n_panels


@inlined
def whole_penalty(norms: Any, n_panels: Any) -> Any:
    """Return the sum of the panels' penalties."""
    total = 0.0
    for i in range(n_panels):
        total += load_scalar(norms, i * N_NORM + PENALTY)
    return total


@kernel
def update_whole(
    memory: Any,
    spec: Any,
    layers: Any,
    hyper: Any,
    thread: Any,
    n_threads: Any,
    norms: Any,
    rates: Any,
) -> None:
    """Update a thread's panels by the gradient's block, clipped to its norm."""
    out_of_line()
    step = lanes(memory)
    n_panels = count_panels(spec, layers)
    factor = clipping_factor(norms, n_panels, load_scalar(hyper, CLIP_NORM))
    for layer in range(load_index(spec, N_LAYERS)):
        n_in = field(layers, layer, N_IN)
        p0 = first_panel_of(layers, layer, thread, n_threads)
        p1 = first_panel_of(layers, layer, thread + 1, n_threads)
        for panel in range(p0, p1):
            offset = field(layers, layer, WEIGHTS) + panel * (n_in + 1) * step
            gradient = advance(memory, load_index(spec, GRADIENT) + offset)
            update_rows(memory, spec, hyper, offset, n_in + 1, gradient, factor, rates)
            if load_scalar(hyper, MAX_NORM) < np.inf:
                limit_norms(advance(memory, offset), n_in, load_scalar(hyper, MAX_NORM))
            average_rows(memory, spec, hyper, offset, n_in + 1)


@inlined
def divide_evenly(panels: Any, n_threads: Any) -> bool:
    """Return whether several threads can have about equal shares of whole panels."""
    return n_threads > 1 and (panels % n_threads == 0 or panels >= ABOUT_EVEN * n_threads)


@inlined
def divides(panels: Any, size: Any, n_threads: Any) -> bool:
    """Return whether the work of a layer is divided by panels rather than by rows.

    Then each thread reads its share of a large matrix only, for twice as many rows.
    """
    return size >= LARGE and divide_evenly(panels, n_threads)


@kernel
def train_batches(
    thread: Any,
    n_threads: Any,
    spec: Any,
    layers: Any,
    reals: Any,
    hyper: Any,
    memory: Any,
    X: Any,
    x_stride: Any,
    classes: Any,
    dense: Any,
    weights: Any,
    total_weight: Any,
    order: Any,
    n_total: Any,
    rates: Any,
    losses: Any,
    n_batches: Any,
    penalties: Any,
    n_penalties: Any,
    row_losses: Any,
    logits: Any,
    columns: Any,
    terms: Any,
    ahead: Any,
    norms: Any,
    sync: Any,
) -> bool:
    """Do what `train` describes, given pointers and the lengths of arrays."""
    out_of_line()
    n_layers, batch_size = load_index(spec, N_LAYERS), load_index(spec, BATCH_SIZE)
    last = n_layers - 1
    narrow = is_narrow(layers)
    by_panels = not narrow and divide_evenly(field(layers, 0, OUT_PANELS), n_threads)
    # A gradient that is needed whole (its norm, or a unit's) is written out before the update.
    whole = (
        load_scalar(hyper, CLIP_NORM) < np.inf
        or load_scalar(hyper, MAX_NORM) < np.inf
        or load_index(spec, GRADIENT_ONLY) != 0
    )
    scratch = advance(memory, load_index(spec, SCRATCH) + thread * load_index(spec, SCRATCH_SIZE))
    step_lanes = lanes(scratch)
    packed = advance(scratch, 2 * CHUNK * step_lanes)
    buffer, spare = field(layers, 0, INPUTS), load_index(spec, SECOND_INPUT)
    hidden, spare_hidden = field(layers, smaller(1, last), INPUTS), load_index(spec, SECOND_HIDDEN)

    # Columns of the inputs that are zero in a whole batch are left out of the first layer's
    # products, exactly.
    n_features = field(layers, 0, N_IN)
    row_numbers, columns = columns, advance_index(columns, batch_size)
    turn = 0
    first_list = first_list_of(layers, thread, n_threads)
    last_list = first_list_of(layers, thread + 1, n_threads)
    for number in range(first_list, last_list):
        store_index(list_at(columns, layers, number, 0), LEAVES_OUT, 1)
        store_index(list_at(columns, layers, number, 1), LEAVES_OUT, 1)
    marks = advance(memory, load_index(spec, ACTIVITY))
    n = smaller(batch_size, n_total)
    mark_batch(layers, X, x_stride, order, 0, n, thread, n_threads, marks, columns)
    if not narrow and not meet(sync, n_threads):
        return False
    list_batch(layers, thread, n_threads, marks, columns, turn)
    fills_zeros = load_scalar(hyper, NOISE) > 0.0 or field(layers, 0, DROPOUT_THRESHOLD) != 0
    keep_all(layers, thread, n_threads, step_lanes, fills_zeros, columns)
    skips = not narrow and load_index(list_at(columns, layers, thread, 0), LEAVES_OUT) != 0

    # Of what remains, terms that are zero in a whole tile. There are marks of this batch and of the
    # next.
    marks_size = batch_size * n_words(n_features)
    words, next_words = terms, advance_index(terms, marks_size)
    lists = advance_index(terms, 2 * marks_size + thread * lists_size(batch_size, CHUNK))
    by_terms = skips and batch_size <= MOST_ROWS

    # A thread reads some rows of a batch, all their columns, or if narrow, its own parts of all.
    first_column, last_column = 0, n_features
    reader, n_readers = thread, n_threads
    if narrow:
        first_column = first_column_of(layers, first_list, step_lanes)
        last_column = first_column_of(layers, last_list, step_lanes)
        reader, n_readers = 0, 1
    copies = not narrow or fills_zeros or load_scalar(hyper, INPUT_SCALE) != 1.0
    if copies:
        gather(
            memory,
            spec,
            layers,
            reals,
            hyper,
            X,
            x_stride,
            order,
            0,
            share(n, reader, n_readers),
            share(n, reader + 1, n_readers),
            first_column,
            last_column,
            buffer,
            list_at(columns, layers, thread, turn) if skips else nowhere(),
            words if by_terms else nowhere(),
            load_index(spec, FIRST_STEP),
        )
    if not meet(sync, n_threads):
        return False
    if by_terms:
        n_active = load_index(list_at(columns, layers, thread, turn), N_ACTIVE)
        by_terms = has_gaps(words, n, n_active, lists)

    # The rows of the batch after the next are asked for while this one and the next compute.
    ahead = advance_index(ahead, thread * ahead_size(batch_size))
    pace = request_pace(layers)
    own_X, n_columns = advance(X, first_column), last_column - first_column
    first, end = rows_of_batch(batch_size, n_total, batch_size, reader, n_readers)
    list_rows(own_X, x_stride, n_columns, order, first, end, classes, pace, ahead)

    for batch in range(n_batches):
        start = batch * batch_size
        n = smaller(batch_size, n_total - start)
        step_key = load_index(spec, FIRST_STEP) + batch
        first_row, last_row = share(n, thread, n_threads), share(n, thread + 1, n_threads)
        n_rows = last_row - first_row

        # Where a narrow first layer finds its inputs.
        samples, source, source_stride = advance_index(order, start), X, x_stride
        if copies:
            samples, source = row_numbers, advance(memory, buffer)
            source_stride = field(layers, 0, INPUT_STRIDE)

        # Phases 1 and 2. What is divided by panels wants all rows of its inputs, and is followed
        # by a barrier, as what is divided by columns; then a thread goes on with its own rows.
        complete = True
        for layer in range(n_layers):
            a_stride, out_stride = (
                field(layers, layer, INPUT_STRIDE),
                field(layers, layer, DELTA_STRIDE),
            )
            inputs = _one_of_three(layer, buffer, hidden, field(layers, layer, INPUTS))
            out = field(layers, layer, DELTAS)
            if layer < last:
                out = hidden if layer == 0 else field(layers, layer + 1, INPUTS)
            row, count = first_row, n_rows
            p0, p1 = 0, field(layers, layer, OUT_PANELS)
            size = field(layers, layer, N_IN) * field(layers, layer, N_OUT)
            whole_rows = by_panels if layer == 0 else divides(p1, size, n_threads)
            if whole_rows:
                if not complete and not meet(sync, n_threads):
                    return False
                row, count = 0, n
                p0 = first_panel_of(layers, layer, thread, n_threads)
                p1 = first_panel_of(layers, layer, thread + 1, n_threads)
            first_index = (load_index(spec, FIRST_ROW) + row) * field(layers, layer, N_OUT)
            outputs = advance(memory, out + row * out_stride)
            if narrow and layer == 0:
                multiply_parts(
                    memory,
                    spec,
                    layers,
                    source,
                    samples,
                    source_stride,
                    n,
                    thread,
                    n_threads,
                    columns,
                    turn,
                    ahead,
                )
                if not meet(sync, n_threads):
                    return False
                add_parts(memory, spec, layers, outputs, row, count)
            elif by_terms and layer == 0:
                own = list_at(columns, layers, thread, turn)
                own_words = advance_index(words, row * n_words(load_index(own, N_ACTIVE)))
                operands = (advance(memory, inputs + row * a_stride), count, outputs, p0, p1)
                listed = (own, own_words, lists, packed, ahead)
                forward_by_terms(memory, layers, *operands, *listed)
            else:
                used, depth = nowhere(), field(layers, layer, N_IN)
                if layer == 0 and skips:
                    own = list_at(columns, layers, thread, turn)
                    used, depth = advance_index(own, ACTIVE), load_index(own, N_ACTIVE)
                whole_inputs = (advance(memory, inputs + row * a_stride), a_stride, count)
                whole_sums = (outputs, out_stride, p0, p1, used, depth, packed, ahead)
                forward(memory, layers, layer, *whole_inputs, *whole_sums)
            activate_rows(
                memory,
                spec,
                layers,
                reals,
                layer,
                outputs,
                out_stride,
                row,
                first_index,
                count,
                p0,
                p1,
                True,
                step_key,
            )
            complete = whole_rows
            if whole_rows and not meet(sync, n_threads):
                return False
        step_rates = advance(rates, batch * N_RATES)
        if n_penalties > 0:  # every thread is past its last update, and before the next
            sum_penalties(memory, spec, layers, hyper, thread, n_threads, norms, step_rates)
        losses_and_deltas(
            memory,
            spec,
            layers,
            hyper,
            thread,
            classes,
            dense,
            weights,
            order,
            start,
            n,
            total_weight,
            first_row,
            last_row,
            row_losses,
            logits,
        )
        complete = n_threads == 1
        for layer in range(last, 0, -1):
            inputs = hidden if layer == 1 else field(layers, layer, INPUTS)
            row, count = first_row, n_rows
            p0, p1 = 0, field(layers, layer, IN_PANELS)
            size = field(layers, layer, N_IN) * field(layers, layer, N_OUT)
            whole_rows = divides(p1, size, n_threads)
            if whole_rows:
                if not complete and not meet(sync, n_threads):
                    return False
                row, count = 0, n
                p0, p1 = share(p1, thread, n_threads), share(p1, thread + 1, n_threads)
            backward(memory, spec, layers, layer, inputs, row, count, p0, p1, packed, ahead)
            complete = whole_rows
            if whole_rows and layer > 1 and not meet(sync, n_threads):
                return False
        next_start = start + batch_size
        if next_start < n_total:
            next_n = smaller(batch_size, n_total - next_start)
            mark_batch(
                layers, X, x_stride, order, next_start, next_n, thread, n_threads, marks, columns
            )
            if skips and not meet(sync, n_threads):
                return False
            list_batch(layers, thread, n_threads, marks, columns, 1 - turn)
            if copies:
                gather(
                    memory,
                    spec,
                    layers,
                    reals,
                    hyper,
                    X,
                    x_stride,
                    order,
                    next_start,
                    share(next_n, reader, n_readers),
                    share(next_n, reader + 1, n_readers),
                    first_column,
                    last_column,
                    spare,
                    list_at(columns, layers, thread, 1 - turn) if skips else nowhere(),
                    next_words if by_terms else nowhere(),
                    step_key + 1,
                )
            first, end = rows_of_batch(
                next_start + batch_size, n_total, batch_size, reader, n_readers
            )
            list_rows(own_X, x_stride, n_columns, order, first, end, classes, pace, ahead)
        if not meet(sync, n_threads):
            return False

        # Phase 3.
        if thread == 0:
            loss = 0.0
            for row in range(n):
                loss += load_scalar(row_losses, row)
            store_scalar(losses, batch, loss)
            if n_penalties > 0:
                penalty = whole_penalty(norms, count_panels(spec, layers))
                store_scalar(penalties, batch, penalty)
        for layer in range(n_layers):
            inputs = _one_of_three(layer, buffer, hidden, field(layers, layer, INPUTS))
            n_in, n_out = field(layers, layer, N_IN), field(layers, layer, N_OUT)
            n_panels, stride = field(layers, layer, OUT_PANELS), field(layers, layer, INPUT_STRIDE)
            in_parts = narrow and layer == 0
            # Whole panels where the phases or the norms want it, otherwise finer tasks. All
            # panels are done for some inputs before the next: these stay in the cache.
            owns_panels = whole or (
                by_panels if layer == 0 else divides(n_panels, n_in * n_out, n_threads)
            )
            for number in range(
                first_list if in_parts else thread, last_list if in_parts else thread + 1
            ):
                own = list_at(columns, layers, number, turn)
                begin, stop = columns_of_list(layers, number, step_lanes)
                n_used = load_index(own, N_ACTIVE) if layer == 0 else n_in
                n_chunks = larger(1, (n_used + CHUNK - 1) // CHUNK)
                p0, p1 = 0, n_panels
                # Single tasks of several layers go to several threads.
                seat = (thread + layer) % n_threads
                first_task = share(n_panels * n_chunks, seat, n_threads)
                last_task = share(n_panels * n_chunks, seat + 1, n_threads)
                if in_parts:
                    first_task, last_task = 0, n_panels * n_chunks
                elif owns_panels:
                    p0 = first_panel_of(layers, layer, thread, n_threads)
                    p1 = first_panel_of(layers, layer, thread + 1, n_threads)
                    first_task, last_task = 0, (p1 - p0) * n_chunks
                lists_terms = by_terms and layer == 0
                packs = n * stride >= FAR and n * CHUNK <= PACKED_ROWS and p1 - p0 >= WORTH_PACKING
                packs = packs and not lists_terms
                ready_chunk = -1
                for task in range(first_task, last_task):
                    chunk, panel = task // (p1 - p0), p0 + task % (p1 - p0)
                    first = chunk * CHUNK
                    end = smaller(first + CHUNK, n_used)
                    rows = advance(memory, inputs + first)
                    if ready_chunk != chunk:
                        if packs:
                            pack_tiles(rows, 1, stride, end - first, n, packed)
                        if lists_terms:
                            list_rows_of_columns(words, n_words(n_used), n, first, end, lists)
                        ready_chunk = chunk
                    if packs:
                        rows = packed
                    change_rows(
                        memory,
                        spec,
                        layers,
                        hyper,
                        layer,
                        panel,
                        first,
                        end,
                        chunk == n_chunks - 1 and not (in_parts and stop < n_in),
                        source if in_parts else rows,
                        samples if in_parts else nowhere(),
                        row_numbers,
                        source_stride if in_parts else stride,
                        packs,
                        n,
                        lists if lists_terms else nowhere(),
                        own,
                        begin,
                        stop,
                        scratch,
                        whole,
                        step_rates,
                        ahead,
                    )
        if whole:
            # What is divided by columns has several threads' gradients in a panel.
            if narrow and not meet(sync, n_threads):
                return False
            panel_number = 0
            for layer in range(n_layers):
                n_in, n_panels = field(layers, layer, N_IN), field(layers, layer, OUT_PANELS)
                p0 = first_panel_of(layers, layer, thread, n_threads)
                p1 = first_panel_of(layers, layer, thread + 1, n_threads)
                for panel in range(p0, p1):
                    where = field(layers, layer, WEIGHTS) + panel * (n_in + 1) * step_lanes
                    gradient = advance(memory, load_index(spec, GRADIENT) + where)
                    own_norm = advance(norms, (panel_number + panel) * N_NORM)
                    measure_norm(gradient, (n_in + 1) * step_lanes, own_norm)
                panel_number += n_panels
        if whole and load_index(spec, GRADIENT_ONLY) == 0:
            if not meet(sync, n_threads):
                return False
            update_whole(memory, spec, layers, hyper, thread, n_threads, norms, step_rates)
        # Divided by panels or columns, a thread goes on with weights that only it has changed; the
        # norms, read above, are next written after two more barriers.
        goes_on = by_panels or (narrow and not whole)
        if not goes_on and not meet(sync, n_threads):
            return False
        buffer, spare = spare, buffer
        words, next_words = next_words, words
        turn = 1 - turn
        if by_panels:
            # The next step's first phase must not overwrite what slower threads still read.
            hidden, spare_hidden = spare_hidden, hidden
    return meet(sync, n_threads)


# --- The programs ----------------------------------------------------------------------------


def train(
    thread: Any,
    n_threads: Any,
    spec: Any,
    layers: Any,
    reals: Any,
    hyper: Any,
    memory: Any,
    X: Any,
    x_stride: Any,
    classes: Any,
    dense: Any,
    weights: Any,
    total_weight: Any,
    order: Any,
    rates: Any,
    losses: Any,
    penalties: Any,
    row_losses: Any,
    logits: Any,
    columns: Any,
    terms: Any,
    ahead: Any,
    norms: Any,
    sync: Any,
) -> bool:
    """Train over `order` in batches as one thread of a team; all threads get the same arguments.

    Parameters
    ----------
    thread, n_threads : int
    spec, layers, reals, hyper : arrays
        Descriptions of the session; see the names of their fields.
    memory : array
        All floats of the session.
    X : array of shape (n_elements,)
        Row i begins at element i * x_stride.
    classes : array of int64, of shape (n_samples,)
        Class numbers; unused if spec[TARGET_WIDTH] > 0.
    dense : array of shape (n_samples * spec[TARGET_WIDTH],)
    weights : array of shape (n_samples,)
        Unused without spec[HAS_WEIGHTS].
    total_weight : float
        What the mean over a batch divides by; 0 for the batch's own weights.
    order : array of int64
    rates : array of float64, of shape (n_batches * N_RATES,)
    losses : array of float64, of shape (n_batches,)
    penalties : array of float64, of shape (n_batches,) or (0,)
        Written if not empty: the penalties before every batch's update.
    row_losses : array of float64, of shape (batch_size,)
    logits : array of shape (len(order) * n_outputs,)
        Written if spec[WANTS_LOGITS].
    columns : array of int64
        The numbers from 0 to batch_size - 1, then all lists of active columns.
    terms : array of int64
        The marks of two batches' rows, then each thread's lists of terms.
    ahead : array of int64
        Each thread's list of rows to ask for.
    norms : array of float64
        What each panel of each layer contributes to the gradient's norm, and to the penalty.
    sync : array of int64, of N_SYNC elements

    Returns
    -------
    bool
        False if another thread gave up.
    """
    # Pointers: an array costs seven arguments at every call of a kernel.
    return train_batches(
        thread,
        n_threads,
        index_pointer(spec, 0),
        index_pointer(layers, 0),
        pointer(reals, 0),
        pointer(hyper, 0),
        pointer(memory, 0),
        pointer(X, 0),
        x_stride,
        index_pointer(classes, 0),
        pointer(dense, 0),
        pointer(weights, 0),
        total_weight,
        index_pointer(order, 0),
        order.shape[0],
        pointer(rates, 0),
        pointer(losses, 0),
        losses.shape[0],
        pointer(penalties, 0),
        penalties.shape[0],
        pointer(row_losses, 0),
        pointer(logits, 0),
        index_pointer(columns, 0),
        index_pointer(terms, 0),
        index_pointer(ahead, 0),
        pointer(norms, 0),
        index_pointer(sync, 0),
    )


def apply(
    spec: Any,
    layers: Any,
    hyper: Any,
    memory: Any,
    norms: Any,
    rates: Any,
) -> None:
    """Clip the gradient's block, on one thread, and update the parameters by it.

    Arguments as `train` takes them.
    """
    spec, layers = index_pointer(spec, 0), index_pointer(layers, 0)
    hyper, memory = pointer(hyper, 0), pointer(memory, 0)
    norms, rates = pointer(norms, 0), pointer(rates, 0)
    number = 0
    for layer in range(load_index(spec, N_LAYERS)):
        n_in = field(layers, layer, N_IN)
        for panel in range(field(layers, layer, OUT_PANELS)):
            step = lanes(memory)
            where = field(layers, layer, WEIGHTS) + panel * (n_in + 1) * step
            gradient = advance(memory, load_index(spec, GRADIENT) + where)
            n = (n_in + 1) * step
            finish_gradient(gradient, gradient, n, False, 0.0, 0.0, load_scalar(hyper, CLIP_VALUE))
            measure_norm(gradient, n, advance(norms, number * N_NORM))
            number += 1
    update_whole(memory, spec, layers, hyper, 0, 1, norms, rates)


def predict(
    thread: Any,
    n_threads: Any,
    spec: Any,
    layers: Any,
    reals: Any,
    hyper: Any,
    memory: Any,
    scratch: Any,
    scratch_size: Any,
    block_rows: Any,
    X: Any,
    x_stride: Any,
    n_samples: Any,
    logits: Any,
    sync: Any,
) -> bool:
    """Write the logits of all rows of X, in blocks, as one thread of a team.

    Parameters
    ----------
    thread, n_threads : int
    spec, layers, reals, hyper, memory, X, x_stride, sync
        As `train` takes them.
    scratch : array
        Each thread's `scratch_size` elements: `PACKED_SIZE`, then two buffers of `block_rows` of
        the widest rows.
    n_samples : int
    logits : array of shape (n_samples * n_outputs,)

    Returns
    -------
    bool
        False if another thread gave up.
    """
    spec, layers = index_pointer(spec, 0), index_pointer(layers, 0)
    reals, hyper = pointer(reals, 0), pointer(hyper, 0)
    memory, scratch = pointer(memory, 0), pointer(scratch, 0)
    X, logits = pointer(X, 0), pointer(logits, 0)
    sync = index_pointer(sync, 0)
    n_layers = load_index(spec, N_LAYERS)
    last = n_layers - 1
    n_in, n_out = field(layers, 0, N_IN), field(layers, last, N_OUT)
    half = (scratch_size - PACKED_SIZE) // 2
    n_blocks = (n_samples + block_rows - 1) // block_rows
    for block in range(share(n_blocks, thread, n_threads), share(n_blocks, thread + 1, n_threads)):
        start = block * block_rows
        n = smaller(block_rows, n_samples - start)
        packed = advance(scratch, thread * scratch_size)
        inputs = advance(packed, PACKED_SIZE)
        outputs = advance(inputs, half)
        stride = field(layers, 0, INPUT_STRIDE)
        for row in range(n):
            where = advance(inputs, row * stride)
            load_row(X, (start + row) * x_stride, where, n_in, load_scalar(hyper, INPUT_SCALE))
        for layer in range(n_layers):
            out_stride, n_panels = (
                field(layers, layer, DELTA_STRIDE),
                field(layers, layer, OUT_PANELS),
            )
            rows = (inputs, field(layers, layer, INPUT_STRIDE), n)
            terms = (nowhere(), field(layers, layer, N_IN), packed, nowhere())
            forward(memory, layers, layer, *rows, outputs, out_stride, 0, n_panels, *terms)
            activate_rows(
                memory,
                spec,
                layers,
                reals,
                layer,
                outputs,
                out_stride,
                0,
                0,
                n,
                0,
                n_panels,
                False,
                0,
            )
            inputs, outputs = outputs, inputs
        stride = field(layers, last, DELTA_STRIDE)
        for row in range(n):
            for k in range(n_out):
                store_scalar(
                    logits, (start + row) * n_out + k, load_scalar(inputs, row * stride + k)
                )
    return meet(sync, n_threads)
