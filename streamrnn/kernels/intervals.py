"""Forecasts waiting for their events, and the conformal width of their intervals.

The half-width is q times the scale the head gave, and q follows the coverage: after each forecast has met its
event, q <- max(q + 2 gamma (miss - alpha), floor), one q per field and horizon (the quantile tracker of
Angelopoulos, Candes & Tibshirani 2023, on scaled errors). A forecast over h events is judged h events later, and
moves q in steps smaller by h ** 0.25. One event ahead nothing is late: there it is log q that moves, to be quick
when the scale of the head is wrong by far.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels.heads import LOG_SCALE_MAX
from streamrnn.kernels.jit import jit
from streamrnn.kernels.products import copy
from streamrnn.kernels.scaling import squash, unsquash
from streamrnn.kernels.types import Floats, Ints

GAMMA: Final = (
    0.05  # of the step of q at one event ahead; farther feedback comes later, and is taken in smaller steps
)
FLOOR: Final = 0.01
REACH_WINDOW: Final = 5000.0  # events, in which the farthest event is forgotten ...
REACH_SPARE: Final = 0.1  # ... and scaled units beyond it, where an interval ends
# Columns of a waiting forecast: location and log-scale in scaled units; forecast and bounds in the field's own.
LOCATION: Final = 0
LOG_SCALE: Final = 1
FORECAST: Final = 2
LOWER: Final = 3
UPPER: Final = 4
COLUMNS: Final = 5
# Rows of a tally: the error of the last event; then what comes to be known of late, older events fading out:
ERROR: Final = 0
LAST: Final = 1  # value
JUDGED: Final = 2  # forecasts, over all horizons ...
INSIDE: Final = 3  # ... and those whose event was inside the interval
ABSOLUTE: Final = 4  # errors one event ahead, summed ...
NAIVE: Final = 5  # ... and those of the last value in their place
TALLY: Final = 6
FADE: Final = 0.999


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
    reach: Floats,
    residual: Floats,
    log_scale: Floats,
    tally: Floats,
) -> None:
    """Hold the event against the forecasts that were made for it.

    horizons (K,); waiting (F, sum(horizons), 5), a ring of h places for each horizon h; count, the events of
    the stream before this one; values, scaled (F,). Writes residual (F, K) = scaled - location and log_scale
    (F, K), NaN where there was no forecast or no value, the row ERROR of tally (TALLY, F) = value - one-step
    forecast, and moves q (F, K), reach (F,), how far from the mean events have been of late, in scaled units, and
    the other rows of tally, which nothing is computed from: they are for whoever watches.
    """
    for f in range(values.size):
        if learn and not math.isnan(scaled[f]):
            reach[f] = max(abs(scaled[f]), (1.0 - 1.0 / REACH_WINDOW) * reach[f])
        tally[ERROR, f] = math.nan
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
                tally[ERROR, f] = values[f] - forecast[FORECAST]
            if learn:
                miss = 1.0 if values[f] < forecast[LOWER] or values[f] > forecast[UPPER] else 0.0
                step = 2.0 * GAMMA * (miss - alpha)
                moved = q[f, k] * math.exp(step) if h == 1 else q[f, k] + step * h**-0.25
                q[f, k] = max(moved, FLOOR)
                tally[JUDGED, f] = FADE * tally[JUDGED, f] + 1.0
                tally[INSIDE, f] = FADE * tally[INSIDE, f] + 1.0 - miss
                if k == 0 and not math.isnan(tally[LAST, f]):
                    tally[ABSOLUTE, f] = FADE * tally[ABSOLUTE, f] + abs(tally[ERROR, f])
                    tally[NAIVE, f] = FADE * tally[NAIVE, f] + abs(values[f] - tally[LAST, f])
        if learn and not math.isnan(values[f]):
            tally[LAST, f] = values[f]


@jit
def surround(one: Floats, location: float, width: float, reach: float, mean: float, deviation: float) -> None:
    """Write the bounds of one forecast (5,), `width` scaled units around `location`.

    They end where no event has been: back in the field's unit a scaled unit is the wider the farther it is out.
    """
    end = max(reach, abs(location)) + REACH_SPARE
    one[LOWER] = mean + deviation * unsquash(max(location - width, -end))
    one[UPPER] = mean + deviation * unsquash(min(location + width, end))


@jit
def forecast(y: Floats, base: Floats, stats: Floats, q: Floats, reach: Floats, made: Floats) -> bool:
    """Turn the head's outputs y (2 F K,) into forecasts and intervals of the fields' own units.

    base (F, 2) as `scaling.scale` gave it; stats (F, 4) tells which fields were ever seen; q (F, K), reach (F,).
    Writes made (F, K, 5), NaN for a field never seen. Returns whether all of y was finite; what was not is
    replaced by the mean and the widest scale.
    """
    finite = True
    fields, horizons, _ = made.shape
    for f in range(fields):
        mean, deviation = base[f, 0], base[f, 1]
        for k in range(horizons):
            one = made[f, k]
            if stats[f, 2] == 0.0:
                one[:] = math.nan
                continue
            location = float(y[f * horizons + k])
            log_scale = float(y[(fields + f) * horizons + k])
            if not (math.isfinite(location) and math.isfinite(log_scale)):
                location, log_scale, finite = 0.0, LOG_SCALE_MAX, False
            width = q[f, k] * math.exp(log_scale)
            one[LOCATION] = location
            one[LOG_SCALE] = log_scale
            one[FORECAST] = mean + deviation * unsquash(location)
            surround(one, location, width, reach[f], mean, deviation)
    return finite


@jit
def centre(ahead: Floats, base: Floats, q: Floats, reach: Floats, made: Floats) -> None:
    """Put ahead (F,) in the place of the one-step forecasts of made (F, K, 5), and their intervals around it."""
    for f in range(ahead.size):
        one = made[f, 0]
        if math.isnan(one[LOCATION]):
            continue
        mean, deviation = base[f, 0], base[f, 1]
        location = squash((ahead[f] - mean) / deviation) if deviation > 0.0 else 0.0
        width = q[f, 0] * math.exp(one[LOG_SCALE])
        surround(one, location, width, reach[f], mean, deviation)
        one[FORECAST] = ahead[f]
        one[LOWER] = min(one[LOWER], ahead[f])
        one[UPPER] = max(one[UPPER], ahead[f])


@jit
def keep(horizons: Ints, made: Floats, count: int, waiting: Floats) -> None:
    """Put made (F, K, 5), the forecasts after event number `count`, where `settle` will look for them."""
    for f in range(made.shape[0]):
        ring = 0
        for k in range(horizons.size):
            copy(made[f, k], waiting[f, ring + count % horizons[k]])
            ring += horizons[k]
