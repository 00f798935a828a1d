"""Member: one network of a numeric model and how it learns; and what it knows of one stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from streamrnn.kernels.types import Floats
from streamrnn.learn.calibrator import Calibrator
from streamrnn.learn.detector import Detector
from streamrnn.learn.learner import Learner
from streamrnn.learn.moving import Moving
from streamrnn.learn.network import Network
from streamrnn.learn.realtime import RealTimeLearner


class Part(Moving):
    """What one network knows of one stream: its state in it, its forecasts for it, how strange it finds it."""

    SAVED: ClassVar[tuple[str, ...]] = ("state", "trail", "calibrator", "detector")

    def __init__(self, member: Member, fields: int, horizons: Sequence[int], interval: float) -> None:
        super().__init__()
        self.state = member.network.blank_state()
        self.trail = member.learner.open_trail() if member.learner else None
        self.calibrator = Calibrator(fields, horizons, interval)
        self.detector = Detector(fields)


class Member(Moving):
    """A network with a Laplace head, and its learner; None: the weights stay as they are."""

    SAVED: ClassVar[tuple[str, ...]] = ("network", "learner")

    def __init__(self, network: Network, learner: Learner | RealTimeLearner | None) -> None:
        super().__init__()
        self.network = network
        self.learner = learner
        self.y: Floats = np.zeros(network.width, network.theta.dtype)

    def step_one(self, part: Part, state: Floats, phi: Floats, scaled: Floats, learn: bool) -> None:
        """Take one event: inputs phi (I,) and what it shows, scaled (F,), move `state` (L, S) on.

        The head's outputs are in y (2 F K,) until the next.
        """
        if self.learner and part.trail and learn:
            self.learner.observe(part.trail, phi, scaled, state)
        self.network.advance(state, phi, self.y)
