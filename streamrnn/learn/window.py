"""Window: the rolling buffer of a pipeline, and the batches of windows a Learner replays from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from streamrnn.kernels import rolling
from streamrnn.kernels.types import Batch, Floats, Ints


class Window:
    """The last N steps of all streams of a pipeline, with the states they began in.

    Parameters
    ----------
    capacity
        N, steps kept at the most; memory grows with what was pushed, up to that.
    inputs
        Numbers in a step's input I.
    fields
        Numbers a step shows to those that forecast it, F.
    state
        A state as the network makes it, (L, S); gives shape and type.
    horizons
        The K horizons to forecast, in steps, ascending.
    seed
        Of the windows drawn.
    stride
        A state is kept of every `stride`-th step of a stream; windows begin there.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("count", "kept", "xs", "seen", "states", "links", "random")
    GROWS: ClassVar[dict[str, int]] = {"xs": 0, "seen": 0, "states": 0, "links": 0}

    FIRST = 256  # rows in use at the beginning

    def __init__(
        self,
        capacity: int,
        inputs: int,
        fields: int,
        state: Floats,
        horizons: Sequence[int],
        seed: int = 0,
        stride: int = 1,
    ) -> None:
        self.capacity = capacity
        self.stride = stride
        self.count = 0
        self.kept = 0  # states so far
        self.states_max = max(capacity // stride, 1)
        self.horizons = np.array(horizons, dtype=np.int64)
        self.rooms: dict[str, Any] = {
            "xs": np.zeros((capacity, inputs), state.dtype),
            "seen": np.zeros((capacity, fields), state.dtype),
            "states": np.zeros((self.states_max, *state.shape), state.dtype),
            "links": np.zeros((capacity, 4), dtype=np.int64),
        }
        self.xs: Floats = self.rooms["xs"][: self.FIRST]
        self.seen: Floats = self.rooms["seen"][: self.FIRST]
        self.states: Floats = self.rooms["states"][: self.FIRST]
        self.links: Ints = self.rooms["links"][: self.FIRST]
        self.random = np.array([seed], dtype=np.uint64)

    @staticmethod
    def bytes_per_step(inputs: int, fields: int, state: Floats, stride: int = 1) -> int:
        """Bytes that one step of the buffer costs, rounded up."""
        return state.itemsize * (inputs + fields) - (-state.nbytes // stride) + 32

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def disagreement(self) -> str | None:
        """Why what was restored does not go together, None when it does."""
        rows = {len(self.xs), len(self.seen), len(self.links)}
        if len(rows) > 1 or 0 in rows:
            return f"links: expected as many rows as xs and seen, at least one, got {sorted(rows)}"
        return None if len(self.states) else "states: expected at least one"

    def push(self, x: Floats, values: Floats, state: Floats, previous: int) -> int:
        """Keep a step: its input x (I,), what it shows (F,) NaN where missing, the state (L, S) before it.

        Returns its number; `previous` is the number of the same stream's step before, -1 for the first.
        """
        if self.count == len(self.xs) < self.capacity:
            self._grow("xs", "seen", "links")
        if self.kept == len(self.states) < self.states_max:
            self._grow("states")
        number = self.count
        arrays = (self.xs, self.seen, self.states, self.links)
        self.kept = rolling.push(*arrays, number, self.kept, self.stride, x, values, state, previous)
        self.count = number + 1
        return number

    def batch(self, windows: int, length: int) -> Batch:
        """Make room for a batch: xs (R, T, I), starts (R, L, S), targets, weights (R, T, F K), lengths (R,)."""
        outputs = self.seen.shape[1] * len(self.horizons)
        kind = self.xs.dtype
        return (
            np.zeros((windows, length, self.xs.shape[1]), kind),
            np.zeros((windows, *self.states.shape[1:]), kind),
            np.zeros((windows, length, outputs), kind),
            np.zeros((windows, length, outputs), kind),
            np.zeros(windows, dtype=np.int64),
        )

    def sample(self, batch: Batch) -> None:
        """Fill `batch` with the newest window and others drawn evenly from what is kept (at least one step)."""
        length = batch[0].shape[1]
        chain = np.zeros(length + int(self.horizons[-1]), dtype=np.int64)
        rolling.gather(
            self.xs,
            self.seen,
            self.states,
            self.links,
            self.count,
            self.kept,
            self.horizons,
            self.random,
            chain,
            batch,
        )

    def _grow(self, *names: str) -> None:
        """Use twice as much of the room. No row was overwritten yet, so every one keeps its place."""
        for name in names:
            setattr(self, name, self.rooms[name][: 2 * len(getattr(self, name))])
