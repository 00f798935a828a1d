"""How good the forecasts of a pipeline were of late, from what its streams keep of that; for whoever watches."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from streamrnn.kernels.intervals import ABSOLUTE, INSIDE, JUDGED, NAIVE
from streamrnn.learn.numeric import NumericStream


class Quality(NamedTuple):
    """Of a numeric pipeline, over its live keys; NaN where nothing was judged yet.

    `coverage` is the share of values inside their interval, over all horizons, 0..1. `skill` is 1 - MAE / MAE of
    the last value, one event ahead, in the mean of the fields: above 0 is better than "as now".
    """

    coverage: float
    skill: float


def quality(streams: Collection[NumericStream]) -> Quality:
    """Judge the streams together, by about the last thousand judgements of each."""
    if not streams:
        return Quality(math.nan, math.nan)
    total = np.sum([stream.calibrator.tally for stream in streams], axis=0)  # (6, F)
    judged = float(total[JUDGED].sum())
    known = total[NAIVE] > 0
    skill = float(np.mean(1.0 - total[ABSOLUTE][known] / total[NAIVE][known])) if known.any() else math.nan
    return Quality(float(total[INSIDE].sum()) / judged if judged else math.nan, skill)
