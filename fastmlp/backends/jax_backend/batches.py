"""What the host computes for some batches: rows, shares, coefficients and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._weights import batch_weights
from fastmlp.backends.base import Session
from fastmlp.backends.jax_backend.description import Description
from fastmlp.backends.jax_backend.programs import Batch
from fastmlp.optimizers import Adam
from fastmlp.regularization import stream_key

Array = NDArray[Any]


def make_batches(
    session: Session,
    description: Description,
    rows: Array,
    weights: Array | None,
    rates: Array,
    batch_size: int,
    shape: tuple[int, int],
) -> Batch:
    """Return batches for the next steps.

    Parameters
    ----------
    session : Session
        Its step, seed, optimizer and regularization count.
    description : Description
    rows : ndarray of int, of shape (n_rows,)
        Where the samples lie, batch after batch.
    weights : ndarray of shape (n_rows,), or None
    rates : ndarray of shape (n_batches,)
    batch_size : int
    shape : (int, int)
        For how many batches there is room, and in each for how many rows.

    Examples
    --------
    See `fastmlp.backends.jax_backend.session`.
    """
    n_batches, step = len(rates), session.step
    n_places, width = shape
    shares, totals = _shares(weights, len(rows), (n_batches, batch_size))
    places, room = np.zeros(shape, np.int32), np.zeros((n_batches, width), session.dtype)
    room[:, :batch_size] = shares
    # What is left over of a batch repeats a sample of its own: if that overflows, so does the
    # batch.
    filled = places[:n_batches, :batch_size]
    filled.flat[: len(rows)] = rows
    filled.flat[len(rows) :] = rows[-1]
    places[:n_batches, batch_size:] = filled[:, :1]
    optimizer = session.optimizer
    correction = np.ones((n_batches, 2))
    if isinstance(optimizer, Adam):
        steps = np.arange(n_batches) + (step + 1.0)
        for column, beta in enumerate((optimizer.beta_1, optimizer.beta_2)):
            correction[:, column] -= beta**steps
    return Batch(
        places,
        _padded(room, n_places),
        _padded(rates, n_places),
        _padded(np.broadcast_to(session.regularization.l2_of(totals), n_batches), n_places),
        _padded(correction, n_places),
        _padded(_keys(session.seed, step, n_batches, description.streams), n_places),
    )


def _shares(weights: Array | None, n_rows: int, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Return the samples' shares of their batches' means, 0 in places left over, and all weights.

    As `fastmlp.targets.weight_shares` computes them, of many batches.
    """
    batch_size = shape[1]
    whole = np.zeros(shape)
    if weights is None:
        totals = batch_weights(n_rows, batch_size, None)
        whole[:] = 1.0 / totals[:, None]
        whole.flat[n_rows:] = 0.0
        return whole, totals
    whole.flat[:n_rows] = weights
    totals = whole.sum(axis=1)
    # In units of a power of two: no digit is lost, and no sum overflows.
    whole = np.ldexp(whole, -np.frexp(whole.max(axis=1))[1][:, None])
    sums = whole.sum(axis=1)
    return whole / np.where(sums > 0, sums, 1.0)[:, None], totals


def _keys(seed: int, step: int, n_steps: int, streams: tuple[int, ...]) -> Array:
    """Return the keys of some steps' streams, of shape (n_steps, n_streams)."""
    # No key depends on more than 64 bits of the step.
    steps = np.arange(n_steps, dtype=np.uint64) + np.uint64(step % 2**64)
    keys = [np.asarray(stream_key(seed, steps, stream), np.uint32) for stream in streams]
    return np.stack(keys, axis=1) if keys else np.zeros((n_steps, 0), np.uint32)


def _padded(array: Array, n_places: int) -> Array:
    """Return an array of its own whose first axis is longer."""
    whole = np.zeros((n_places, *array.shape[1:]), array.dtype)
    whole[: len(array)] = array
    return whole
