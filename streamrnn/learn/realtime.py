"""RealTimeLearner: a network of cell `lru` learns from every event as it comes, by real-time recurrent learning.

There is no window: how far back a gradient reaches is up to the network, whose state carries it along.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from streamrnn.errors import UsageError
from streamrnn.kernels import lru, optim, params
from streamrnn.kernels.types import Floats, Notes
from streamrnn.learn.descent import Descent, Trail
from streamrnn.learn.network import Network

SLOW = 0.5  # rate of what makes the recurrence, in rates of the rest (Zucchet et al. 2023 have it lower as well)


class RealTimeLearner(Descent):
    """Real-time recurrent learning of a diagonal linear recurrence (Zucchet et al. 2023), between the events.

    The gradient is exact while the weights stay as they are. As they change, the traces in the states, made with
    the weights of then, lag a little behind: that is the method, and the less the smaller the rate.

    Parameters
    ----------
    network
        Of cell ``lru``; with F K outputs, for each field one per horizon.
    fields
        Numbers an event shows to those that forecast it, F.
    horizons
        The K horizons to forecast, in events, ascending from 1.
    every
        Learned events in an update.
    rate, decay
        See `Descent`. What makes the recurrence learns at half the rate, and does not decay.

    Attributes
    ----------
    length
        Events before the first update.
    scratch_bytes
        Bytes of scratch.
    """

    SAVED: ClassVar[tuple[str, ...]] = (*Descent.SAVED, "_grad", "_losses", "_known")

    def __init__(
        self,
        network: Network,
        fields: int,
        horizons: Sequence[int] = (1,),
        every: int = 4,
        rate: float = 0.003,
        decay: float = 0.0,
    ) -> None:
        if network.shape[params.CELL] != params.LRU:
            raise UsageError("cell: expected lru, other cells learn by a Learner")
        if horizons[0] != 1:
            raise UsageError(f"horizons: expected 1 first, got {horizons[0]}")
        super().__init__(network, every, rate, decay)
        self.horizons = np.array(horizons, dtype=np.int64)
        self.length = every
        self._known = 0  # events of this update that showed something
        self._losses = 0.0
        self._recurrence = int(params.recurrence_size(network.shape))
        self._notes = self._blank_notes(fields * len(horizons))
        self.scratch_bytes = sum(array.nbytes for array in self._notes)

    def blank_ring(self) -> Floats:
        """Return room for what waiting forecasts of a stream were made of: (max horizon, 3 hidden + inputs)."""
        width = int(params.feature_width(self.network.shape))
        return np.zeros((int(self.horizons[-1]), width), self.network.theta.dtype)

    def open_trail(self) -> Trail:
        """Return what is kept of a new stream."""
        return Trail(self.blank_ring())

    def observe(self, trail: Trail, x: Floats, values: Floats, state: Floats) -> None:  # noqa: ARG002
        """Learn from an event before the network steps: values (F,) NaN where missing, state (1, S) before it."""
        count = trail.last_step + 1
        loss, known = lru.observe(
            self.network.shape,
            self.shadow,
            self._grad,
            state[0],
            trail.ring,
            count,
            self.horizons,
            values,
            self._notes,
        )
        trail.last_step = count
        if known:
            self._losses += loss
            self._known += 1

    def before_step(self) -> None:
        """Nothing: an update is taken over as soon as it is made."""

    def after_step(self) -> None:
        """Count a learned event and, when it is time, update the weights."""
        self._events += 1
        if self._events % self.every or not self._known:
            return
        began = time.perf_counter()
        self._grad *= 1.0 / self._known
        if self._descend(self._losses / self._known):
            self.network.theta[:] = self.shadow
            self.updates += 1
        self._grad[:] = 0
        self._losses = 0.0
        self._known = 0
        self._took(time.perf_counter() - began)

    def close(self) -> None:
        """Nothing: no thread was started."""

    def _adam(self, count: int) -> None:
        parts = (
            (slice(self._recurrence), SLOW * self.rate, 0.0),
            (slice(self._recurrence, None), self.rate, self.decay),
        )
        for part, rate, decay in parts:
            theta, grad, mean, square = self.shadow[part], self._grad[part], self.mean[part], self.square[part]
            optim.adam(theta, grad, mean, square, count, rate, decay)

    def _blank_notes(self, outputs: int) -> Notes:
        """Scratch of `lru.observe`."""
        shape, kind = self.network.shape, self.network.theta.dtype
        hidden, inputs, width = int(shape[params.HIDDEN]), int(shape[params.INPUTS]), self.network.width
        sizes = (width, width, outputs, outputs, hidden, 2 * hidden + inputs)
        y, d_y, target, weight, d_units, d_features = (np.zeros(size, kind) for size in sizes)
        return y, d_y, target, weight, d_units, d_features
