"""The anomaly score: how rare this event is among what its stream has shown, seen in five ways.

Each view is a number per event and field; its rank among the last of its kind gives a p-value, the p-values
are joined by their harmonic mean (Wilson 2019), and the sum is set against the age of the stream.
"""

from __future__ import annotations

import math
from typing import Final

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
def score(
    values: Floats,
    scaled: Floats,
    residual: Floats,
    log_scale: Floats,
    learn: bool,
    recent: Floats,
    counts: Ints,
    rings: Floats,
    ordered: Floats,
    alert: Ints,
    age: int,
    loudness: Floats,
) -> tuple[float, bool]:
    """Score one event; return (score, anomaly).

    values, scaled (F,); residual, log_scale (F, K) from `intervals.settle`. recent (F, RECENT) and counts
    (F, 3 + VIEWS) make the views; rings, ordered (F, VIEWS, N) are what each has shown, in order of time and of
    size. alert (1,): the event of the last alert, -1 before the first; age: events of the stream before this
    one. Writes loudness (F,), the sum of 1 / p over a field's views, 0 where it is missing.
    """
    fields = values.size
    capacity = rings.shape[2]
    total = 0.0
    view = (0.0, 0.0, 0.0, 0.0, 0.0)
    for f in range(fields):
        loudness[f] = 0.0
        if math.isnan(values[f]):
            total += VIEWS  # every p is 1
        if not math.isnan(values[f]):
            slow, fast, spread = recent[f, :SLOW], recent[f, SLOW : SLOW + FAST], recent[f, SLOW + FAST :]
            kept = counts[f, :3]
            if not learn:
                slow, fast, spread, kept = slow.copy(), fast.copy(), spread.copy(), kept.copy()
            last = residual.shape[1] - 1
            far, width = residual[f, last], log_scale[f, last]
            if not math.isnan(far):
                remember(slow, kept[0], far)
                remember(fast, kept[1], abs(far) * math.exp(-width) + width)
                kept[0] += 1
                kept[1] += 1
            remember(spread, kept[2], scaled[f])
            kept[2] += 1
            view = (
                values[f],
                recent_mean(slow, kept[0]),
                recent_mean(fast, kept[1]),
                recent_spread(spread, kept[2], SHORT),
                recent_spread(spread, kept[2], LONG),
            )
            loudness[f] = 0.0
            for k in range(VIEWS):
                if math.isnan(view[k]):
                    loudness[f] += 1.0
                    continue
                count = counts[f, 3 + k]
                loudness[f] += rarity(ordered[f, k], min(count, capacity), view[k], k != 2)
                if learn:
                    insert(rings[f, k], ordered[f, k], count, view[k])
                    counts[f, 3 + k] = count + 1
        total += loudness[f]
    strangeness = math.log10(total / (fields * VIEWS)) - AGE * math.log10(min(age, capacity) + 2.0)
    loud = strangeness >= THRESHOLD
    silent = alert[0] >= 0 and age - alert[0] <= min(max(SILENCE * age, SILENCE_MIN), SILENCE_MAX)
    value = 1.0 / (1.0 + 10.0 ** (-2.0 * (strangeness - THRESHOLD)))
    if loud and silent:
        value = min(value, 0.49)
    anomaly = loud and not silent
    if anomaly and learn:
        alert[0] = age
    return value, anomaly
