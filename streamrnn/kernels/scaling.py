"""From measured values to network inputs: the online normaliser and the inputs made of what it gives.

Per field an exponentially weighted mean and variance (West 1979, with the bias correction of a running count),
s = sign(z) log(1 + |z|) of the z by the statistics before the event, and the inverse of that map.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels.jit import jit
from streamrnn.kernels.types import Floats

WINDOW: Final = 2000.0  # events, of the exponential weights
CLIP: Final = 5.0  # |z| beyond which an event moves the statistics no further ...
CLIP_AFTER: Final = 30.0  # ... once this many events are seen, by their weights
Z_MAX: Final = 1e6  # |z|, so that everything behind stays finite
HARMONICS: Final = 4  # of the time of day
DAY: Final = 86400.0  # seconds


@jit
def squash(z: float) -> float:
    """Signed logarithm, sign(z) log(1 + |z|)."""
    return math.copysign(math.log1p(abs(z)), z)


@jit
def unsquash(s: float) -> float:
    """Inverse of `squash`, held within what a clipped z can reach."""
    return math.copysign(min(math.expm1(min(abs(s), 14.0)), Z_MAX), s)


@jit
def scale(stats: Floats, values: Floats, learn: bool, scaled: Floats, base: Floats) -> None:
    """Scale values (F,) by the old statistics, then let the statistics learn from them.

    stats (F, 3): mean, variance, weighted count. A missing value is NaN and stays NaN in scaled (F,).
    base (F, 2) receives the mean and the standard deviation used: value = mean + deviation * unsquash(scaled).
    """
    decay = 1.0 - 1.0 / WINDOW
    for f in range(values.size):
        mean, variance, count = stats[f, 0], stats[f, 1], stats[f, 2]
        x = values[f]
        deviation = math.sqrt(variance) + 1e-6 * abs(mean) + 1e-9
        base[f, 0] = mean
        base[f, 1] = deviation
        if math.isnan(x):
            scaled[f] = x
            continue
        z = min(max((x - mean) / deviation, -Z_MAX), Z_MAX)
        if count < 1.5:  # no variance is known yet: the value itself is the mean
            z = 0.0
            base[f, 0] = x
        scaled[f] = squash(z)
        if learn:
            if count >= CLIP_AFTER:
                x = mean + min(max(z, -CLIP), CLIP) * deviation
            count = decay * count + 1.0
            share = 1.0 / count
            step = x - mean
            stats[f, 0] = mean + share * step
            stats[f, 1] = (1.0 - share) * (variance + share * step * step)
            stats[f, 2] = count


@jit
def gap_input(clock: Floats, time: float, learn: bool) -> float:
    """How unusual the time since the last event is: log((1 + gap / mean gap) / 2), 0 when as always.

    clock (3,): time of the last event, mean gap, weighted count of gaps (-1 before the first event).
    """
    value = 0.0
    gap = min(max(time - clock[0], 0.0), 1e9)
    if clock[2] >= 1.0 and clock[1] > 0.0:
        gap = min(gap, 1000.0 * clock[1])
        value = math.log1p(gap / clock[1]) - math.log(2.0)
    if learn:
        if clock[2] >= 0.0:
            count = (1.0 - 1.0 / WINDOW) * clock[2] + 1.0
            clock[1] += (gap - clock[1]) / count
            clock[2] = count
        else:
            clock[2] = 0.0
        clock[0] = time
    return value


@jit
def observe(
    stats: Floats,
    previous: Floats,
    clock: Floats,
    values: Floats,
    time: float,
    learn: bool,
    scaled: Floats,
    base: Floats,
    phi: Floats,
) -> None:
    """Scale one event and write the network's inputs phi (3 F + 2 HARMONICS + 1,).

    Per field: s, its step since the field was last seen (previous (F,)), and 1 where it is missing; then sines
    and cosines of the time of day, and the gap since the last event.
    """
    scale(stats, values, learn, scaled, base)
    fields = values.size
    for f in range(fields):
        s = scaled[f]
        missing = math.isnan(s)
        phi[3 * f] = 0.0 if missing else s
        phi[3 * f + 1] = 0.0 if missing or math.isnan(previous[f]) else s - previous[f]
        phi[3 * f + 2] = 1.0 if missing else 0.0
        if learn and not missing:
            previous[f] = s
    angle = 2.0 * math.pi * (time % DAY) / DAY
    for k in range(HARMONICS):
        phi[3 * fields + 2 * k] = math.sin((k + 1) * angle)
        phi[3 * fields + 2 * k + 1] = math.cos((k + 1) * angle)
    phi[3 * fields + 2 * HARMONICS] = gap_input(clock, time, learn)
