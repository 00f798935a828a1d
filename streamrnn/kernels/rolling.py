"""The rolling buffer: the last N steps of all streams with the states they began in, and windows out of it.

Steps are numbered from 0 in order of arrival; step n lies in row n mod N. The links of a row: the number of the
stream's step before, and of the one after, or -1; the number of the state kept of it, or -1, state m lying in row m
mod M; the stream's steps since one was kept.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from streamrnn.kernels.jit import jit
from streamrnn.kernels.products import copy
from streamrnn.kernels.types import Batch, Floats, Ints


@jit
def push(
    xs: Floats,
    seen: Floats,
    states: Floats,
    links: Ints,
    count: int,
    kept: int,
    stride: int,
    x: Floats,
    values: Floats,
    state: Floats,
    previous: int,
) -> int:
    """Put step number `count` in its row, after the stream's step `previous` (-1: none).

    xs (N, I), seen (N, F), states (M, L, S), links (N, 4); x (I,), values (F,) what later steps forecast, NaN
    where missing, state (L, S) before the step, kept of every `stride`-th step of a stream. `kept` states were
    before; returns how many there are now.
    """
    capacity = xs.shape[0]
    row = count % capacity
    copy(x, xs[row])
    copy(values, seen[row])
    links[row, 0] = previous
    links[row, 1] = -1
    since = stride
    if previous > count - capacity and previous >= 0:
        links[previous % capacity, 1] = count
        since = links[previous % capacity, 3] + 1
    if since < stride:
        links[row, 2] = -1
        links[row, 3] = since
        return kept
    for layer in range(state.shape[0]):
        copy(state[layer], states[kept % states.shape[0], layer])
    links[row, 2] = kept
    links[row, 3] = 0
    return kept + 1


@jit
def draw(random: NDArray[np.uint64], bound: int) -> int:
    """A whole number in [0, bound), from random (1,) uint64: splitmix64 (Steele, Lea & Flood 2014)."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    z = random[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return int(np.int64(z % np.uint64(bound)))


@jit
def gather(
    xs: Floats,
    seen: Floats,
    states: Floats,
    links: Ints,
    count: int,
    kept: int,
    horizons: Ints,
    random: NDArray[np.uint64],
    chain: Ints,
    batch: Batch,
) -> None:
    """Fill a batch: the window that ends at the newest step, the others at steps drawn evenly.

    A window goes back along its stream for T steps, or as far as the buffer does, and begins with the first of them
    whose state was kept; where none was, with the first and a blank state. batch: xs (R, T, I), starts
    (R, L, S), targets and weights (R, T, F K), lengths (R,); the target of step t and horizon h is what the
    stream shows h steps later, with weight 0 while that is not known. The weights of a batch are
    1 / (steps F). chain (T + max horizon,): scratch.
    """
    batch_xs, starts, targets, weights, lengths = batch
    capacity = xs.shape[0]
    windows, length = batch_xs.shape[0], batch_xs.shape[1]
    fields, horizon_count = seen.shape[1], horizons.size
    oldest = max(0, count - capacity)
    newest = count - 1
    first = min(oldest + length - 1, newest)
    weights[:] = 0
    steps = 0
    for r in range(windows):
        row = newest if r == 0 else first + draw(random, newest - first + 1)
        n, back, began, first_kept = 1, 1, row, -1
        while True:
            number = links[row % capacity, 2]
            if number >= 0 and number >= kept - states.shape[0]:
                n, began, first_kept = back, row, number
            if back == length or links[row % capacity, 0] < oldest:
                break
            row = links[row % capacity, 0]
            back += 1
        if first_kept < 0:
            n, began = back, row
        row = began
        known = 0
        while row >= 0 and known < n + horizons[-1]:
            chain[known] = row % capacity
            row = links[row % capacity, 1]
            known += 1
        if first_kept < 0:
            starts[r] = 0
        else:
            for layer in range(states.shape[1]):
                copy(states[first_kept % states.shape[0], layer], starts[r, layer])
        lengths[r] = n
        steps += n
        for t in range(n):
            copy(xs[chain[t]], batch_xs[r, t])
            for k in range(horizon_count):
                ahead = t + horizons[k]
                if ahead >= known:
                    continue
                for f in range(fields):
                    value = seen[chain[ahead], f]
                    if not math.isnan(value):
                        targets[r, t, f * horizon_count + k] = value
                        weights[r, t, f * horizon_count + k] = 1
    weights *= weights.dtype.type(1.0 / (steps * fields))
