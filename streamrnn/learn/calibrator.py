"""Calibrator: forecasts in the field's own units, with intervals that keep their coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from streamrnn.kernels import intervals
from streamrnn.kernels.types import Floats
from streamrnn.learn.moving import Moving
from streamrnn.learn.scaler import Scaler

Array = NDArray[np.float64]


class Calibrator(Moving):
    """Conformal intervals of one stream, and the forecasts that still wait for their event.

    Parameters
    ----------
    fields
        Number of fields F.
    horizons
        The K horizons in events, ascending.
    interval
        Share of events that shall fall inside, 0..1.

    Attributes
    ----------
    made : (F, K, 5)
        The last forecasts: location, log-scale (scaled units), forecast, lower, upper (the field's unit).
    residual, log_scale : (F, K)
        Of the last event against the forecasts made for it, scaled units; NaN where there were none.
    error : (F,)
        The last event minus its one-step forecast, in the field's unit; NaN where there was none.
    tally : (6, F)
        How good forecasts were of late in this process, for whoever watches: see `kernels.intervals`.
    q : (F, K)
        Half-width of the interval in scales of the head.
    reach : (F,)
        How far from the mean events have been of late, scaled units: intervals end there.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("q", "reach", "waiting")

    def __init__(self, fields: int, horizons: Sequence[int], interval: float = 0.9) -> None:
        super().__init__()
        self.horizons = np.array(horizons, dtype=np.int64)
        self.alpha = 1.0 - interval
        count = len(horizons)
        # Exact for Laplace errors, P(|e| > q scale) = exp(-q): where the tracker starts from.
        self.q: Array = np.full((fields, count), -math.log(self.alpha))
        self.reach: Array = np.zeros(fields)
        self.waiting: Array = np.full((fields, int(self.horizons.sum()), intervals.COLUMNS), np.nan)
        self.made: Array = np.full((fields, count, intervals.COLUMNS), np.nan)
        self.residual: Array = np.full((fields, count), np.nan)
        self.log_scale: Array = np.full((fields, count), np.nan)
        self.tally: Array = np.zeros((intervals.TALLY, fields))
        self.tally[intervals.LAST] = np.nan
        self.error: Array = self.tally[intervals.ERROR]
        self.error[:] = np.nan

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What an event needs of it, in the order of `kernels.numeric`."""
        return self.q, self.reach, self.waiting, self.made, self.residual, self.log_scale, self.tally

    def score_one(self, values: Array, scaled: Array, count: int, learn: bool = True) -> None:
        """Hold values (F,), event number `count` of its stream, against the forecasts made for it."""
        intervals.settle(
            self.horizons,
            self.waiting,
            count,
            values,
            scaled,
            self.alpha,
            learn,
            self.q,
            self.reach,
            self.residual,
            self.log_scale,
            self.tally,
        )

    def forecast_one(self, y: Floats, scaler: Scaler) -> bool:
        """Turn the head's y (2 F K,) after an event into forecasts. Returns whether y was finite; they are."""
        return intervals.forecast(y, scaler.base, scaler.stats, self.q, self.reach, self.made)

    def centre_one(self, ahead: Array, scaler: Scaler) -> None:
        """Put ahead (F,) in the place of the network's one-step forecasts, and their intervals around it."""
        intervals.centre(ahead, scaler.base, self.q, self.reach, self.made)

    def keep(self, count: int) -> None:
        """Keep the forecasts made after event number `count` until their events come."""
        intervals.keep(self.horizons, self.made, count, self.waiting)
