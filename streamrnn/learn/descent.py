"""Descent: what every way of learning ends in. The gradient is clipped, Adam steps a shadow, guards watch."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from streamrnn.durations import Durations
from streamrnn.kernels import optim
from streamrnn.kernels.teaching import CLIP
from streamrnn.kernels.types import Floats
from streamrnn.learn.network import Network

GOOD_EVERY = 256  # updates between two copies of weights known to be good
JUMP = 10.0  # mean deviations of the loss above its mean that count as a jump
JUMPS_MAX = 3  # in a row; what goes on is no jump but news
BAD_MAX = 3  # non-finite updates in a row, then the weights go back


class Trail:
    """What a learner keeps of one stream.

    Attributes
    ----------
    last_step
        Number of its newest step, in the window if there is one; -1 before the first.
    ring
        What forecasts that wait for their events were made of, empty if a window has it.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("ring", "last_step")

    def __init__(self, ring: Floats) -> None:
        self.ring = ring
        self.last_step = -1


class Descent:
    """Guarded gradient descent of a shadow of a network's weights; where gradients come from is up to who inherits.

    Parameters
    ----------
    network
        Whose weights are to be learned; it takes the shadow over when the learner says so.
    every
        Learned events between updates.
    rate, decay
        Adam's learning rate to begin with; decoupled weight decay.

    Attributes
    ----------
    updates, dropped, rollbacks, waits, failed
        Updates taken over; updates that guards held back; returns to older weights; updates the network
        had to wait for; updates that ended in an error. Of these two each process has a count of its own.
    durations
        What it took to compute each update, in this process.
    """

    SAVED: ClassVar[tuple[str, ...]] = (
        "updates",
        "dropped",
        "rollbacks",
        "shadow",
        "mean",
        "square",
        "good",
        "steps",
        "loss",
        "spread",
        "_jumps",
        "_bad",
        "_halvings",
        "_events",
    )

    def __init__(self, network: Network, every: int, rate: float, decay: float) -> None:
        self.network = network
        self.every = every
        self.decay = decay
        self.updates = 0
        self.dropped = 0
        self.rollbacks = 0
        self.waits = 0
        self.failed = 0
        self.durations = Durations()
        theta = network.theta
        self.shadow: Floats = theta.copy()
        self.mean: Floats = np.zeros_like(theta)
        self.square: Floats = np.zeros_like(theta)
        self.good: Floats = theta.copy()
        self.steps = 0  # Adam's count, back to 0 after a roll-back
        self.loss = math.nan  # exponentially weighted mean of the losses ...
        self.spread = 0.0  # ... and of their distance from it
        self._jumps = 0
        self._bad = 0
        self._full_rate = rate
        self._halvings = 0
        self._grad: Floats = np.zeros_like(theta)
        self._events = 0

    @property
    def rate(self) -> float:
        """The learning rate, halved at every roll-back and won back slowly."""
        return self._full_rate * 0.5**self._halvings

    def _took(self, seconds: float) -> None:
        """Note what an update took."""
        self.durations.note(round(seconds * 1e9))
        self.durations.fold_if_many()

    def _descend(self, loss: float) -> bool:
        """Step the shadow by the gradient of `loss`; False when a guard held it back."""
        norm = float(optim.clip(self._grad, CLIP))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self._reject()
        jump = loss - self.loss > self._far()
        self._note(loss, jump)
        if jump:
            return False
        self._adam(self.steps + 1)
        return self._stepped(bool(np.isfinite(self.shadow).all()))

    def _stepped(self, finite: bool) -> bool:
        """Count a step of the shadow, unless its weights are not `finite` any more."""
        if not finite:
            return self._reject()
        self.steps += 1
        self._bad = 0
        if self.steps % GOOD_EVERY == 0:
            self.good[:] = self.shadow
            self._halvings = max(self._halvings - 1, 0)
        return True

    def _adam(self, count: int) -> None:
        """Update number `count` of Adam."""
        optim.adam(self.shadow, self._grad, self.mean, self.square, count, self.rate, self.decay)

    def _far(self) -> float:
        """How far above the usual a loss is a jump; a level that stays becomes the new normal."""
        return JUMP * self.spread if self.steps > GOOD_EVERY and self._jumps < JUMPS_MAX else math.inf

    def _note(self, loss: float, jump: bool) -> None:
        """Take note of a loss, and whether it was a jump, which drops the update."""
        if math.isnan(self.loss):
            self.loss = loss
        distance = loss - self.loss
        self._jumps = self._jumps + 1 if jump else 0
        self.dropped += jump
        if jump:  # one wild loss must not make the guard blind to the next
            distance = JUMP * self.spread
        self.loss += 0.02 * distance
        self.spread += 0.02 * (abs(distance) - self.spread)

    def _reject(self) -> bool:
        """Drop an update that is not finite; after several, or when the weights are hit, go back."""
        self.dropped += 1
        self._bad += 1
        hit = not np.isfinite(self.shadow).all()
        if hit or self._bad >= BAD_MAX:
            self.shadow[:] = self.good
            self.mean[:] = 0
            self.square[:] = 0
            self.steps = 0
            self._halvings += 1
            self.rollbacks += 1
            self._bad = 0
            return True  # the network gets the good weights back as well
        return False
