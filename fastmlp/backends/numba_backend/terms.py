"""Which terms of the first layer's products are not zero: marked, listed, and multiplied alone.

Where most inputs are zero (an image's margins, counts of words), most terms of a tile's sums are
zero for all of its rows at once, and leaving those out changes no sum. So every tile gets a list of
its terms: in the forward pass, of the columns in which some of its rows are not zero; for the
gradient, of the rows in which some of its columns are not zero. A list serves all panels of
weights.
"""

from __future__ import annotations

from typing import Any

from fastmlp.backends.numba_backend.integers import (
    advance_index,
    larger,
    load_index,
    offsets_of,
    out_of_line,
    smaller,
    store_index,
)
from fastmlp.backends.numba_backend.simd import (
    advance,
    inlined,
    kernel,
    lane_bits,
    lanes,
    load,
    zero,
)
from fastmlp.backends.numba_backend.tiles import (
    FULL,
    HALF,
    ONE,
    ROWS,
    SHORT,
    ask_for_panel,
    asks_ahead,
    divide_rows,
    multiply_tile,
    pick_rows,
)

#: Columns whose marks are the bits of one number: whole vectors and whole tiles.
WORD = 48
#: Columns of one product where there are more: a panel's rows then stay in the first-level cache.
SPAN = 5 * WORD
#: Rows of a batch whose terms are listed; beyond, the lists would fill the caches.
MOST_ROWS = 1024
#: Where a larger share of a tile's terms is not zero, leaving out the rest gains nothing.
DENSE_TERMS = 0.8


@inlined
def n_words(n_columns: Any) -> Any:
    """Return how many numbers hold the marks of a row.

    Examples
    --------
    >>> n_words(48), n_words(49)
    (1, 2)
    """
    return (n_columns + WORD - 1) // WORD


@inlined
def lists_size(batch_size: Any, chunk: Any) -> Any:
    """Return the room for the lists of a thread: of a span's columns, or a chunk's rows.

    Examples
    --------
    >>> lists_size(64, 144) >= 144 // len(FULL) * 65
    True
    """
    most_tiles = smaller(ROWS, batch_size) // len(SHORT) + len(FULL)
    rows = smaller(batch_size, MOST_ROWS)
    return larger(most_tiles * (1 + SPAN), chunk // len(FULL) * (1 + rows))


@inlined
def marks_of(x: Any, first: Any, n: Any) -> Any:
    """Return a bit for each of the elements of x in the vectors that hold `n` from `first` on."""
    bits = 0
    for i in range(0, n, lanes(x)):
        bits |= lane_bits(load(x, first + i) != zero(x)) << i
    return bits


@kernel
def mark_terms(x: Any, n_columns: Any, words: Any) -> None:
    """Write a bit for each element of a row: whether it is not zero."""
    out_of_line()
    whole = n_columns // WORD
    for word in range(whole):  # apart from the rest: its loop is unrolled
        store_index(words, word, marks_of(x, word * WORD, WORD))
    rest = n_columns - whole * WORD
    if rest > 0:  # what lies behind the last column counts as zero
        store_index(words, whole, marks_of(x, whole * WORD, rest) & ((1 << rest) - 1))


@kernel
def list_columns_of_tile(
    words: Any, width: Any, n_rows: Any, first_word: Any, last_word: Any, out: Any
) -> Any:
    """List the columns in which some of a tile's rows are not zero; return how many they are.

    `words` are the marks of the first of the rows, `width` those of a row.
    """
    out_of_line()
    count = 0
    for word in range(first_word, last_word):
        bits = 0
        for row in range(n_rows):
            bits |= load_index(words, row * width + word)
        column = (word - first_word) * WORD
        # Everything is written, and stays if it counts: no branch depends on the data.
        while bits != 0:
            store_index(out, 1 + count, column)
            count += bits & 1
            bits >>= 1
            column += 1
    store_index(out, 0, count)
    return count


@kernel
def list_columns_of_rows(
    words: Any, width: Any, n_rows: Any, first_word: Any, last_word: Any, lists: Any
) -> Any:
    """Write every tile's list of columns for some rows; return how many terms they hold."""
    out_of_line()
    n_full, n_short, n_half, n_one = divide_rows(n_rows)
    row, n_terms = 0, 0
    for tile in range(n_full + n_short + n_half + n_one):
        height = len(ONE)
        if tile < n_full:
            height = len(FULL)
        elif tile < n_full + n_short:
            height = len(SHORT)
        elif tile < n_full + n_short + n_half:
            height = len(HALF)
        marks = advance_index(words, row * width)
        count = list_columns_of_tile(marks, width, height, first_word, last_word, lists)
        n_terms += count * height
        lists = advance_index(lists, 1 + SPAN)
        row += height
    return n_terms


@kernel
def list_rows_of_columns(
    words: Any, width: Any, n_rows: Any, first_column: Any, last_column: Any, lists: Any
) -> None:
    """Write for every tile of columns the list of rows in which some of them are not zero.

    `first_column` is at the beginning of a word. All tiles are full; the last may reach beyond.
    """
    out_of_line()
    for column in range(first_column, last_column, len(FULL)):
        word, mask = column // WORD, ((1 << len(FULL)) - 1) << (column % WORD)
        count = 0
        for row in range(n_rows):
            store_index(lists, 1 + count, row)
            count += 1 if load_index(words, row * width + word) & mask != 0 else 0
        store_index(lists, 0, count)
        lists = advance_index(lists, 1 + n_rows)


@inlined
def multiply_listed_tiles(
    count: Any,
    n_tiles: Any,
    row: Any,
    lists: Any,
    list_size: Any,
    a: Any,
    row_stride: Any,
    column_stride: Any,
    panel: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_stride: Any,
    ahead: Any,
) -> Any:
    """Compute `n_tiles` tiles of ``len(count)`` rows from `row` on, by a list for each.

    Returns the row and the list after them.
    """
    for _ in range(n_tiles):
        terms = advance_index(lists, 1)
        multiply_tile(
            count,
            a,
            offsets_of(count, None, row, row_stride),
            terms,
            column_stride,
            panel,
            terms,
            load_index(lists, 0),
            advance(initial, row * initial_stride),
            initial_stride,
            advance(out, row * out_stride),
            out_stride,
            ahead,
        )
        lists = advance_index(lists, list_size)
        row += len(count)
    return row, lists


@kernel
def multiply_terms(n_rows: Any, lists: Any, list_size: Any, operands: Any) -> None:
    """Do what `tiles.multiply_panel` describes with every tile's own terms.

    Each list holds how many there are and their numbers, by columns of the rows and rows of the
    panel alike; `operands` are the last arguments of `multiply_listed_tiles`.
    """
    out_of_line()
    n_full, n_short, n_half, n_one = divide_rows(n_rows)
    row, lists = multiply_listed_tiles(FULL, n_full, 0, lists, list_size, *operands)
    row, lists = multiply_listed_tiles(SHORT, n_short, row, lists, list_size, *operands)
    row, lists = multiply_listed_tiles(HALF, n_half, row, lists, list_size, *operands)
    multiply_listed_tiles(ONE, n_one, row, lists, list_size, *operands)


@inlined
def full_tiles(n_rows: Any) -> Any:
    """Return the rows of as many full tiles as hold `n_rows`.

    Examples
    --------
    >>> full_tiles(1) == len(FULL)
    True
    """
    return (n_rows + len(FULL) - 1) // len(FULL) * len(FULL)


@kernel
def multiply_rows_by_terms(
    a: Any,
    a_stride: Any,
    n_rows: Any,
    words: Any,
    lists: Any,
    panels: Any,
    panel_stride: Any,
    panel_rows: Any,
    depth: Any,
    initial: Any,
    initial_stride: Any,
    out: Any,
    out_panel_stride: Any,
    out_stride: Any,
    first_panel: Any,
    last_panel: Any,
    room: Any,
    ahead: Any,
) -> None:
    """Do what `tiles.multiply_rows` describes, leaving out what is zero.

    `words` are the marks of the first of the rows, `lists` has `lists_size` elements, and `room`
    that for `SPAN` rows of a panel.
    """
    out_of_line()
    width, step = n_words(depth), lanes(a)
    asks = asks_ahead(depth * (last_panel - first_panel) * step, ahead)
    for block in range(0, n_rows, ROWS):
        count = smaller(ROWS, n_rows - block)
        marks = advance_index(words, block * width)
        for first_word in range(0, larger(width, 1), SPAN // WORD):  # of no columns: biases
            begin, last_word = first_word * WORD, smaller(first_word + SPAN // WORD, width)
            list_columns_of_rows(marks, width, count, first_word, last_word, lists)
            n_columns = smaller(SPAN, depth - begin)
            for p in range(first_panel, last_panel):
                panel, numbers = advance(panels, p * panel_stride), advance_index(panel_rows, begin)
                pick_rows(panel, numbers, n_columns, room)
                if asks and p + 1 < last_panel:
                    following = (panels, panel_stride, panel_rows, 0, p + 1, begin, n_columns)
                    ask_for_panel(*following, ahead)
                strip = advance(out, p * out_panel_stride + block * out_stride)
                first = advance(initial, p * initial_stride) if begin == 0 else strip
                first_stride = 0 if begin == 0 else out_stride
                rows = (advance(a, block * a_stride + begin), a_stride, 1, room)
                operands = (*rows, first, first_stride, strip, out_stride, ahead)
                multiply_terms(count, lists, 1 + SPAN, operands)


@kernel
def has_gaps(words: Any, n_rows: Any, n_columns: Any, lists: Any) -> bool:
    """Return whether tiles of some rows leave out enough of their terms to be worth listing."""
    out_of_line()
    width, n_terms = n_words(n_columns), 0
    for block in range(0, n_rows, ROWS):
        count, marks = smaller(ROWS, n_rows - block), advance_index(words, block * width)
        for first_word in range(0, width, SPAN // WORD):
            last_word = smaller(first_word + SPAN // WORD, width)
            n_terms += list_columns_of_rows(marks, width, count, first_word, last_word, lists)
    return n_terms < DENSE_TERMS * (n_rows * n_columns)
