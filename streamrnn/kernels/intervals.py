"""Forecasts waiting for their events, and the conformal width of their intervals.

The half-width is q times the scale the head gave, and q follows the coverage: after each forecast has met its
event, q <- max(q + 2 gamma (miss - alpha), floor), one q per field and horizon (the quantile tracker of
Angelopoulos, Candes & Tibshirani 2023, on scaled errors). A forecast over h events is judged h events later.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels.heads import LOG_SCALE_MAX
from streamrnn.kernels.jit import jit
from streamrnn.kernels.products import copy
from streamrnn.kernels.scaling import unsquash
from streamrnn.kernels.types import Floats, Ints

GAMMA: Final = 0.05
FLOOR: Final = 0.01
# Columns of a waiting forecast: location and log-scale in scaled units; forecast and bounds in the field's own.
LOCATION: Final = 0
LOG_SCALE: Final = 1
FORECAST: Final = 2
LOWER: Final = 3
UPPER: Final = 4
COLUMNS: Final = 5


@jit
def settle(
    horizons: Ints,
    waiting: Floats,
    count: int,
    values: Floats,
    scaled: Floats,
    alpha: float,
    learn: bool,
    q: Floats,
    residual: Floats,
    log_scale: Floats,
    error: Floats,
) -> None:
    """Hold the event against the forecasts that were made for it.

    horizons (K,); waiting (F, sum(horizons), 5), a ring of h places for each horizon h; count, the events of
    the stream before this one; values, scaled (F,). Writes residual (F, K) = scaled - location and log_scale
    (F, K), NaN where there was no forecast or no value, error (F,) = value - one-step forecast, and moves
    q (F, K).
    """
    for f in range(values.size):
        error[f] = math.nan
        ring = 0
        for k in range(horizons.size):
            h = horizons[k]
            residual[f, k] = math.nan
            log_scale[f, k] = math.nan
            forecast = waiting[f, ring + count % h]
            ring += h
            if count < h or math.isnan(values[f]) or math.isnan(forecast[LOCATION]):
                continue
            residual[f, k] = scaled[f] - forecast[LOCATION]
            log_scale[f, k] = forecast[LOG_SCALE]
            if k == 0:
                error[f] = values[f] - forecast[FORECAST]
            if learn:
                miss = 1.0 if values[f] < forecast[LOWER] or values[f] > forecast[UPPER] else 0.0
                q[f, k] = max(q[f, k] + 2.0 * GAMMA * (miss - alpha), FLOOR)


@jit
def issue(
    horizons: Ints,
    waiting: Floats,
    count: int,
    y: Floats,
    base: Floats,
    stats: Floats,
    learn: bool,
    q: Floats,
    made: Floats,
) -> bool:
    """Turn the head's outputs y (2 F K,) into forecasts and intervals of the fields' own units.

    base (F, 2) as `scaling.scale` gave it; stats (F, 4) tells which fields were ever seen. Writes made
    (F, K, 5), NaN for a field never seen, and when `learn` puts it where `settle` will look for it. Returns
    whether all of y was finite; what was not is replaced by the mean and the widest scale.
    """
    finite = True
    horizon_count = horizons.size
    outputs = base.shape[0] * horizon_count
    for f in range(base.shape[0]):
        ring = 0
        for k in range(horizon_count):
            h = horizons[k]
            forecast = made[f, k]
            if stats[f, 2] == 0.0:
                forecast[:] = math.nan
            else:
                location = float(y[f * horizon_count + k])
                log_scale = float(y[outputs + f * horizon_count + k])
                if not (math.isfinite(location) and math.isfinite(log_scale)):
                    location, log_scale, finite = 0.0, LOG_SCALE_MAX, False
                width = q[f, k] * math.exp(log_scale)
                mean, deviation = base[f, 0], base[f, 1]
                forecast[LOCATION] = location
                forecast[LOG_SCALE] = log_scale
                forecast[FORECAST] = mean + deviation * unsquash(location)
                forecast[LOWER] = mean + deviation * unsquash(location - width)
                forecast[UPPER] = mean + deviation * unsquash(location + width)
            if learn:
                copy(forecast, waiting[f, ring + count % h])
            ring += h
    return finite
