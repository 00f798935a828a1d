"""Scaler: what is usual for each field of a stream, and the network's inputs in terms of it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamrnn.kernels import scaling
from streamrnn.learn.moving import Moving

Array = NDArray[np.float64]


class Scaler(Moving):
    """Online normaliser of one stream.

    Parameters
    ----------
    fields
        Number of fields F.

    Attributes
    ----------
    scaled : (F,)
        The last event in scaled units, NaN where a field was missing.
    base : (F, 2)
        Mean and standard deviation it was scaled by, in the field's unit.
    phi : (3 F + 9,)
        The network's inputs made of it.
    stats : (F, 4)
        Mean, variance, weighted count, and count of late of far events of each field, after the last event.

    Examples
    --------
    >>> scaler = Scaler(fields=1)
    >>> for value in (1.0, 2.0, 3.0):
    ...     phi = scaler.observe_one(np.array([value]), time=value)
    >>> float(scaler.stats[0, 0].round(3))
    2.0
    """

    SAVED: ClassVar[tuple[str, ...]] = ("stats", "previous", "clock")

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.stats: Array = np.zeros((fields, 4))
        self.previous: Array = np.full(fields, np.nan)
        self.clock: Array = np.array([0.0, 0.0, -1.0])
        self.scaled: Array = np.zeros(fields)
        self.base: Array = np.zeros((fields, 2))
        self.phi = np.zeros(self.input_count(fields), np.float32)

    @staticmethod
    def input_count(fields: int) -> int:
        """Number of inputs made of so many fields: s, step and mask each, time of day, gap."""
        return 3 * fields + 2 * scaling.HARMONICS + 1

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What an event needs of it, in the order of `kernels.numeric`."""
        return self.stats, self.previous, self.clock, self.scaled, self.base, self.phi

    def observe_one(self, values: Array, time: float, learn: bool = True) -> NDArray[np.float32]:
        """Scale values (F,) seen at `time` (epoch seconds) and return the inputs (3 F + 9,), valid until the next.

        Every value is scaled by the statistics of the events before it; with `learn` false they stay as they are.
        """
        scaling.observe(
            self.stats, self.previous, self.clock, values, time, learn, self.scaled, self.base, self.phi
        )
        return self.phi
