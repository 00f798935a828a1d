"""The anomaly score: how rare this event is among what its stream has shown, each field seen in five ways.

Each view is a number per event and field; its rank among the last of its kind gives a p-value, the p-values
are joined by their harmonic mean (Wilson 2019), and the sum is set against the age of the stream.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from streamrnn.kernels.jit import jit
from streamrnn.kernels.types import Floats, Ints

VIEWS: Final = 5  # value, slow residual, slow surprise, spread over 60, spread over 120
SLOW: Final = 20  # events, mean of the residual of the longest horizon ...
FAST: Final = 10  # ... and of its surprise
SHORT: Final = 60  # events, spread of the scaled value
LONG: Final = 120
WARM: Final = 20  # values a rank needs before it counts
TOLERANCE: Final = 0.01  # of the range seen, within which values count as equal
AGE: Final = 0.75
THRESHOLD: Final = -0.1
SILENCE: Final = 0.03  # of the age of a stream: how long nothing follows an alert ...
SILENCE_MIN: Final = 20.0  # events, at the least ...
SILENCE_MAX: Final = 300.0  # ... and at the most
RECENT: Final = SLOW + FAST + LONG  # numbers remembered to make the views


@jit
def remember(ring: Floats, count: int, value: float) -> None:
    """Put `value` in the ring (N,) as number `count`."""
    ring[count % ring.size] = value


@jit
def recent_mean(ring: Floats, count: int) -> float:
    """Mean of the last `ring.size` numbers, or of the `count` there are; NaN of none."""
    n = min(count, ring.size)
    total = 0.0
    for i in range(n):
        total += ring[i]
    return total / n if n > 0 else math.nan


@jit
def recent_spread(ring: Floats, count: int, length: int) -> float:
    """log(standard deviation + 0.01) of the last `length` numbers of the ring; NaN of none."""
    n = min(count, length)
    if n == 0:
        return math.nan
    mean = 0.0
    for i in range(count - n, count):
        mean += ring[i % ring.size]
    mean /= n
    total = 0.0
    for i in range(count - n, count):
        total += (ring[i % ring.size] - mean) ** 2
    return math.log(math.sqrt(total / n) + 0.01)


@jit
def below(ordered: Floats, n: int, value: float) -> int:
    """How many of the first n of the ascending `ordered` are less than `value`."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@jit
def not_above(ordered: Floats, n: int, value: float) -> int:
    """How many of the first n of the ascending `ordered` are at most `value`."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low


@jit
def rarity(ordered: Floats, n: int, value: float, both: bool) -> float:
    """1 / p of `value` by its rank among the first n of `ordered`, upper tail or the rarer of both."""
    if n < WARM:
        return 1.0
    tolerance = TOLERANCE * (ordered[n - 1] - ordered[0])
    upper = (n - below(ordered, n, value - tolerance) + 1.0) / (n + 1.0)
    if both:
        lower = (not_above(ordered, n, value + tolerance) + 1.0) / (n + 1.0)
        upper = min(upper, lower)
    return 1.0 / upper


@jit
def insert(ring: Floats, ordered: Floats, count: int, value: float) -> None:
    """Number `count` of its kind goes into ring (N,) and, in the place of the oldest, into ordered (N,)."""
    capacity = ring.size
    n = min(count, capacity)
    gone = n
    if count >= capacity:
        gone = below(ordered, n, ring[count % capacity])
        n -= 1
    ring[count % capacity] = value
    # Where it goes when the oldest is out: one stretch between the two places moves by one.
    place = below(ordered, n + (1 if count >= capacity else 0), value)
    if place > gone:
        for i in range(gone, place - 1):
            ordered[i] = ordered[i + 1]
        ordered[place - 1] = value
    else:
        for i in range(gone, place, -1):
            ordered[i] = ordered[i - 1]
        ordered[place] = value


@jit
def views_of(
    scaled: float, value: float, far: float, width: float, recent: Floats, kept: Ints, views: Floats
) -> None:
    """Write views (VIEWS,) of one field, NaN where there is none yet; recent (RECENT,) and kept (3,) move on.

    far and width: residual and log-scale of the longest horizon, NaN where there was no forecast.
    """
    slow, fast, spread = recent[:SLOW], recent[SLOW : SLOW + FAST], recent[SLOW + FAST :]
    if not math.isnan(far):
        remember(slow, kept[0], far)
        remember(fast, kept[1], abs(far) * math.exp(-width) + width)
        kept[0] += 1
        kept[1] += 1
    remember(spread, kept[2], scaled)
    kept[2] += 1
    views[0] = value
    views[1] = recent_mean(slow, kept[0])
    views[2] = recent_mean(fast, kept[1])
    views[3] = recent_spread(spread, kept[2], SHORT)
    views[4] = recent_spread(spread, kept[2], LONG)


@jit
def joint_surprise(residual: Floats, log_scale: Floats) -> float:
    """Mean over the fields of log(1 + |e| / scale), one step ahead; residual, log_scale (F, K). NaN of none."""
    total, known = 0.0, 0
    for f in range(residual.shape[0]):
        if not math.isnan(residual[f, 0]):
            total += math.log1p(abs(residual[f, 0]) * math.exp(-log_scale[f, 0]))
            known += 1
    return total / known if known > 0 else math.nan


@jit
def rank(rings: Floats, ordered: Floats, shown: Ints, k: int, value: float, both: bool, learn: bool) -> float:
    """1 / p of `value` among what view k has shown, 1 of a NaN; then it has shown that as well."""
    if math.isnan(value):
        return 1.0
    count, capacity = shown[k], rings.shape[1]
    rare = rarity(ordered[k], min(count, capacity), value, both)
    if learn:
        insert(rings[k], ordered[k], count, value)
        shown[k] = count + 1
    return rare


@jit
def strangeness(
    values: Floats,
    scaled: Floats,
    residual: Floats,
    log_scale: Floats,
    learn: bool,
    recent: Floats,
    kept: Ints,
    shown: Ints,
    rings: Floats,
    ordered: Floats,
    age: int,
    loudness: Floats,
) -> float:
    """How rare an event is: log10 of the mean 1 / p over all views, set against the age of the stream.

    values, scaled (F,); residual, log_scale (F, K) from `intervals.settle`. recent (F, RECENT) and kept (F, 3)
    make the views; rings, ordered (V, N) are what each of all V has shown, in order of time and of size, shown
    (V,) how often. The views of each field come first; with several fields, one of all of them together is last
    and counts as much as all others. age: events of the stream before this one. Writes loudness (F,), the sum of
    1 / p over a field's views, 0 where it is missing.
    """
    fields = values.size
    total = 0.0
    views = np.empty(VIEWS)
    for f in range(fields):
        loudness[f] = 0.0
        if math.isnan(values[f]):
            total += VIEWS  # every p is 1
            continue
        last = residual.shape[1] - 1
        own, own_kept = recent[f], kept[f]
        if not learn:
            own, own_kept = own.copy(), own_kept.copy()
        views_of(scaled[f], values[f], residual[f, last], log_scale[f, last], own, own_kept, views)
        for k in range(VIEWS):
            loudness[f] += rank(rings, ordered, shown, f * VIEWS + k, views[k], k != 2, learn)
        total += loudness[f]
    mean = total / (fields * VIEWS)
    if fields > 1:
        surprise = joint_surprise(residual, log_scale)
        mean = 0.5 * (mean + rank(rings, ordered, shown, fields * VIEWS, surprise, False, learn))
    return math.log10(mean) - AGE * math.log10(min(age, rings.shape[1]) + 2.0)


@jit
def decide(strange: float, alert: Ints, age: int, learn: bool) -> tuple[float, bool]:
    """Return (score, anomaly) of event `age`, so strange; alert (1,): that of the last alert, -1 before any."""
    loud = strange >= THRESHOLD
    silent = alert[0] >= 0 and age - alert[0] <= min(max(SILENCE * age, SILENCE_MIN), SILENCE_MAX)
    value = 1.0 / (1.0 + 10.0 ** (-2.0 * (strange - THRESHOLD)))
    if loud and silent:
        value = min(value, 0.49)
    anomaly = loud and not silent
    if anomaly and learn:
        alert[0] = age
    return value, anomaly
