"""Which terms of the first layer's products are not zero: marked, listed, and multiplied alone.

Where most inputs are zero (an image's margins, counts of words), most terms of a tile's sums are
zero for all of its rows at once, and leaving those out changes no sum. So every tile gets a list of
its terms: in the forward pass, of the columns in which some of its rows are not zero; for the
gradient, of the rows in which some of its columns are not zero. A list serves all panels of
weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.backends.numba_backend.products.heights import FULL, SHORT, in_tiles
from fastmlp.backends.numba_backend.products.packing import ROWS, pick_rows
from fastmlp.backends.numba_backend.products.rows import (
    Panels,
    Room,
    Rows,
    Strips,
    ask_for_panel,
    asks_ahead,
    initial_of,
)
from fastmlp.backends.numba_backend.products.tiles import Product, Terms, multiply_tile
from fastmlp.backends.numba_backend.vectors.pointers import (
    Numbers,
    advance_index,
    larger,
    load_index,
    offsets_of,
    smaller,
    store_index,
)
from fastmlp.backends.numba_backend.vectors.records import value
from fastmlp.backends.numba_backend.vectors.simd import (
    advance,
    fma_rows,
    lane_bits,
    lanes,
    load,
    zero,
)
from fastmlp.backends.numba_backend.vectors.strips import Strip, from_row
from fastmlp.backends.numba_backend.vectors.types import Count, Index, Pointer, inlined, kernel

#: Columns whose marks are the bits of one number: whole vectors and whole tiles.
WORD = 48
#: Columns of one product where there are more: a panel's rows then stay in the first-level cache.
SPAN = 5 * WORD
#: Rows of a batch whose terms are listed; beyond, the lists would fill the caches.
MOST_ROWS = 1024
#: Where a larger share of a tile's terms is not zero, leaving out the rest gains nothing.
DENSE_TERMS = 0.8


@value
class Marks(NamedTuple):
    """What is not zero: the marks of row r, a bit for each element, begin at words[r * width]."""

    words: Numbers
    width: Index


@inlined
def n_words(n_columns: Index) -> Index:
    """Return how many numbers hold the marks of a row.

    Examples
    --------
    >>> n_words(48), n_words(49)
    (1, 2)
    """
    return (n_columns + WORD - 1) // WORD


@inlined
def lists_size(batch_size: Index, chunk: Index) -> Index:
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
def from_marks(marks: Marks, row: Index) -> Marks:
    """Return the marks from one of the rows on."""
    return Marks(advance_index(marks.words, row * marks.width), marks.width)


@inlined
def bits_of(x: Pointer, first: Index, n: Index) -> Index:
    """Return a bit for each of the elements of x in the vectors that hold `n` from `first` on."""
    bits = 0
    for i in range(0, n, lanes(x)):
        bits |= lane_bits(load(x, first + i) != zero(x)) << i
    return bits


@kernel
def mark_terms(x: Pointer, n_columns: Index, words: Numbers) -> None:
    """Write a bit for each element of a row: whether it is not zero."""
    whole = n_columns // WORD
    for word in range(whole):  # apart from the rest: its loop is unrolled
        store_index(words, word, bits_of(x, word * WORD, WORD))
    rest = n_columns - whole * WORD
    if rest > 0:  # what lies behind the last column counts as zero
        store_index(words, whole, bits_of(x, whole * WORD, rest) & ((1 << rest) - 1))


@kernel
def list_columns_of_tile(
    marks: Marks, n_rows: Index, first_word: Index, last_word: Index, out: Numbers
) -> Index:
    """List the columns in which some of a tile's rows are not zero; return how many they are."""
    count = 0
    for word in range(first_word, last_word):
        bits = 0
        for row in range(n_rows):
            bits |= load_index(marks.words, row * marks.width + word)
        column = (word - first_word) * WORD
        # Everything is written, and stays if it counts: no branch depends on the data.
        while bits != 0:
            store_index(out, 1 + count, column)
            count += bits & 1
            bits >>= 1
            column += 1
    store_index(out, 0, count)
    return count


@inlined
def _list_columns_of_tiles(count: Count, n_tiles: Index, span: Any, state: Any) -> Any:
    marks, first_word, last_word = span
    row, lists, n_terms = state
    for _ in range(n_tiles):
        own = from_marks(marks, row)
        n_listed = list_columns_of_tile(own, len(count), first_word, last_word, lists)
        n_terms += n_listed * len(count)
        lists = advance_index(lists, 1 + SPAN)
        row += len(count)
    return row, lists, n_terms


@kernel
def list_columns_of_rows(
    marks: Marks, n_rows: Index, first_word: Index, last_word: Index, lists: Numbers
) -> Index:
    """Write every tile's list of columns for some rows; return how many terms they hold."""
    span = (marks, first_word, last_word)
    _, _, n_terms = in_tiles(_list_columns_of_tiles, n_rows, span, (0, lists, 0))
    return n_terms


@kernel
def list_rows_of_columns(
    marks: Marks, n_rows: Index, first_column: Index, last_column: Index, lists: Numbers
) -> None:
    """Write for every tile of columns the list of rows in which some of them are not zero.

    `first_column` is at the beginning of a word. All tiles are full; the last may reach beyond.
    """
    for column in range(first_column, last_column, len(FULL)):
        word, mask = column // WORD, ((1 << len(FULL)) - 1) << (column % WORD)
        count = 0
        for row in range(n_rows):
            store_index(lists, 1 + count, row)
            count += 1 if load_index(marks.words, row * marks.width + word) & mask != 0 else 0
        store_index(lists, 0, count)
        lists = advance_index(lists, 1 + n_rows)


@inlined
def _multiply_listed_tiles(count: Count, n_tiles: Index, operands: Any, state: Any) -> Any:
    product, list_size = operands
    row, lists = state
    given = product.terms
    for _ in range(n_tiles):
        numbers, n_listed = advance_index(lists, 1), load_index(lists, 0)
        terms = Terms(numbers, given.column_stride, given.panel, numbers, n_listed)
        starts = offsets_of(count, None, row, product.row_stride)
        initial, out = from_row(product.initial, row), from_row(product.out, row)
        multiply_tile(fma_rows, count, product.a, starts, terms, initial, out, product.ahead)
        lists = advance_index(lists, list_size)
        row += len(count)
    return row, lists


@kernel
def multiply_terms(n_rows: Index, lists: Numbers, list_size: Index, product: Product) -> None:
    """Write a product, of which every tile has terms of its own.

    Each list holds how many there are and their numbers, by columns of the rows and rows of the
    panel alike.
    """
    in_tiles(_multiply_listed_tiles, n_rows, (product, list_size), (0, lists))


@kernel
def multiply_rows_by_terms(
    rows: Rows, panels: Panels, marks: Marks, lists: Numbers, out: Strips, room: Room
) -> None:
    """Do what `products.rows.multiply_rows` describes, leaving out what is zero.

    `marks` are those of the rows; `lists` has `lists_size` elements.
    """
    width, step, depth = marks.width, lanes(rows.data), panels.depth
    asks = asks_ahead(depth * (out.last_panel - out.first_panel) * step, room.ahead)
    for block in range(0, rows.n, ROWS):
        count = smaller(ROWS, rows.n - block)
        own = from_marks(marks, block)
        for first_word in range(0, larger(width, 1), SPAN // WORD):  # of no columns: biases
            begin, last_word = first_word * WORD, smaller(first_word + SPAN // WORD, width)
            list_columns_of_rows(own, count, first_word, last_word, lists)
            n_columns = smaller(SPAN, depth - begin)
            numbers = advance_index(panels.numbers, begin)
            for p in range(out.first_panel, out.last_panel):
                panel = advance(panels.data, p * panels.stride)
                pick_rows(panel, numbers, n_columns, room.packed)
                if asks and p + 1 < out.last_panel:
                    ask_for_panel(panels, p + 1, begin, n_columns, room.ahead)
                where = p * out.panel_stride + block * out.row_stride
                strip = Strip(advance(out.data, where), out.row_stride)
                initial = initial_of(panels, p, begin, strip)
                a = advance(rows.data, block * rows.stride + begin)
                terms = Terms(None, 1, room.packed, None, 0)  # the lists'
                product = Product(a, None, rows.stride, terms, initial, strip, room.ahead)
                multiply_terms(count, lists, 1 + SPAN, product)


@kernel
def has_gaps(marks: Marks, n_rows: Index, n_columns: Index, lists: Numbers) -> bool:
    """Return whether tiles of some rows leave out enough of their terms to be worth listing."""
    n_terms = 0
    for block in range(0, n_rows, ROWS):
        count, own = smaller(ROWS, n_rows - block), from_marks(marks, block)
        for first_word in range(0, marks.width, SPAN // WORD):
            last_word = smaller(first_word + SPAN // WORD, marks.width)
            n_terms += list_columns_of_rows(own, count, first_word, last_word, lists)
    return n_terms < DENSE_TERMS * (n_rows * n_columns)
