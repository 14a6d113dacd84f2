"""One order of summation for the chunks of a batch, whatever process has which of them.

A batch is cut into a number of chunks, and their vectors are the leaves of a binary tree: a node is
the chunks from its first to before its last, and its sum is that of its left half plus that of its
right half. A process has a run of chunks; it sums the largest nodes inside of it, and what is above
them is summed where they meet. Every sum is the same two numbers, added once: the same bits.
"""

from __future__ import annotations

from typing import NamedTuple


class Node(NamedTuple):
    """The chunks from `first` to before `last`."""

    first: int
    last: int


def halves(node: Node) -> tuple[Node, Node]:
    """Return the children of a node of several chunks; the left one's number is a power of two.

    Examples
    --------
    >>> halves(Node(0, 6))
    (Node(first=0, last=4), Node(first=4, last=6))
    """
    half = 1 << ((node.last - node.first - 1).bit_length() - 1)
    middle = node.first + half
    return Node(node.first, middle), Node(middle, node.last)


def run_of(rank: int, n_processes: int, n_chunks: int) -> Node:
    """Return the chunks of a process.

    Examples
    --------
    >>> [tuple(run_of(rank, 3, 8)) for rank in range(3)]
    [(0, 2), (2, 5), (5, 8)]
    """
    return Node(rank * n_chunks // n_processes, (rank + 1) * n_chunks // n_processes)


def nodes_inside(run: Node, node: Node) -> list[Node]:
    """Return the largest nodes, of those under `node`, whose chunks are all of a run.

    Examples
    --------
    >>> [tuple(one) for one in nodes_inside(Node(2, 5), Node(0, 8))]
    [(2, 4), (4, 5)]
    """
    if node.last <= run.first or run.last <= node.first:
        return []
    if run.first <= node.first and node.last <= run.last:
        return [node]
    left, right = halves(node)
    return nodes_inside(run, left) + nodes_inside(run, right)


def edges_of(n_rows: int, n_chunks: int) -> list[int]:
    """Return where the chunks of a batch begin, and where the last one ends; some may be empty.

    Examples
    --------
    >>> edges_of(10, 4), edges_of(2, 4)
    ([0, 2, 5, 7, 10], [0, 0, 1, 1, 2])
    """
    return [chunk * n_rows // n_chunks for chunk in range(n_chunks + 1)]
