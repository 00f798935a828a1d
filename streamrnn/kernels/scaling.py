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
CLIP: Final = 5.0  # deviations beyond which an event moves the statistics no further ...
CLIP_AFTER: Final = 30.0  # ... once this many events are seen, by their weights ...
FAR: Final = 50.0  # ... unless events as many deviations away ...
NEWS: Final = 3.0  # ... have come as often lately: no outlier, but a new level
LATELY: Final = 0.98  # weight of an event ago in that
Z_MAX: Final = 1e4  # |z|; a wider deviation stands in for one that could not express the event
S_MAX: Final = 12.0  # of what is unsquashed: a forecast goes a little beyond Z_MAX
HARMONICS: Final = 4  # of the time of day
DAY: Final = 86400.0  # seconds


@jit
def squash(z: float) -> float:
    """Signed logarithm, sign(z) log(1 + |z|)."""
    return math.copysign(math.log1p(abs(z)), z)


@jit
def unsquash(s: float) -> float:
    """Inverse of `squash`, held within what a z can reach."""
    return math.copysign(math.expm1(min(abs(s), S_MAX)), s)


@jit
def scale(stats: Floats, values: Floats, learn: bool, scaled: Floats, base: Floats) -> None:
    """Scale values (F,) by the old statistics, then let the statistics learn from them.

    stats (F, 4): mean, variance, weighted count, and how many events were far lately. A missing value is NaN and
    stays NaN in scaled (F,). base (F, 2) receives the mean and the standard deviation used:
    value = mean + deviation * unsquash(scaled), whatever the value.
    """
    decay = 1.0 - 1.0 / WINDOW
    for f in range(values.size):
        mean, variance, count, far = stats[f, 0], stats[f, 1], stats[f, 2], stats[f, 3]
        x = values[f]
        usual = math.sqrt(variance) + 1e-6 * abs(mean)
        base[f, 0] = mean
        base[f, 1] = usual
        if math.isnan(x):
            scaled[f] = x
            continue
        if count < 1.5:  # no variance is known yet: the value itself is the mean
            base[f, 0] = x
        distance = x - base[f, 0]
        deviation = max(usual, abs(distance) / Z_MAX)
        base[f, 1] = deviation
        scaled[f] = squash(distance / deviation) if deviation > 0.0 else 0.0
        if learn:
            far = LATELY * far + (1.0 if abs(x - mean) > FAR * usual else 0.0)
            if count >= CLIP_AFTER and far < NEWS * LATELY * LATELY:
                x = mean + min(max(x - mean, -CLIP * usual), CLIP * usual)
            count = decay * count + 1.0
            share = 1.0 / count
            step = x - mean
            stats[f, 0] = mean + share * step
            stats[f, 1] = (1.0 - share) * (variance + share * step * step)
            stats[f, 2] = count
            stats[f, 3] = far


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
