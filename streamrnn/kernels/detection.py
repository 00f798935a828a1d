"""The anomaly score: how rare this event is among what its stream has shown, each field seen in six ways.

Each view is a number per event and field; its rank among the last of its kind gives a p-value, and p-values are
joined by their harmonic mean (Wilson 2019). That makes two opinions, which differ in how they see a drift: in the
errors of the farthest forecast, or in those of the nearest. What is published is their mean, set against the age of
the stream: one opinion alone does not raise an alert easily.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from streamrnn.kernels.jit import jit, spliced
from streamrnn.kernels.lanes import load, store
from streamrnn.kernels.types import Floats, Ints

# Views of a field, by their places.
VALUE: Final = 0
FAR_DRIFT: Final = 1  # mean error of the longest horizon, in scaled units
FAR_SURPRISE: Final = 2  # mean of |e| / scale + log(scale) there
SPREAD: Final = 3  # of the scaled value, over SHORT events ...
LONG_SPREAD: Final = 4  # ... and over LONG
NEAR_DRIFT: Final = 5  # mean error of the published one-step forecast, in usual errors
VIEWS: Final = 6
JOINT: Final = 2  # views of several fields together: how surprising they are, and how far from usual
OPINION: Final = VIEWS - 1  # views in one opinion: all but the other's drift

DRIFT: Final = 20  # events in a mean error ...
SURPRISE: Final = 10  # ... and in a mean surprise
SHORT: Final = 60
LONG: Final = 120
ERROR_WINDOW: Final = 100.0  # events, of the usual error
WARM: Final = 20  # values a rank needs before it counts
TOLERANCE: Final = 0.01  # of the range seen, within which values count as equal
AGE: Final = 0.75
THRESHOLD: Final = -0.1
SILENCE: Final = 0.03  # of the age of a stream: how long nothing follows an alert ...
SILENCE_MIN: Final = 20.0  # events, at the least ...
SILENCE_MAX: Final = 300.0  # ... and at the most
RECENT: Final = 2 * DRIFT + SURPRISE + LONG  # numbers remembered to make the views
KEPT: Final = 4  # of so many kinds


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
    # In the ring they are one stretch, or one up to its end and one from its beginning on.
    start = (count - n) % ring.size
    end = min(start + n, ring.size)
    rest = n - (end - start)
    # Counted from one of them: where all are equal, the sums are zero in whatever order they are added up.
    origin = ring[start]
    mean = 0.0
    for i in range(start, end):
        mean += ring[i] - origin
    for i in range(rest):
        mean += ring[i] - origin
    mean = origin + mean / n
    total = 0.0
    for i in range(start, end):
        total += (ring[i] - mean) ** 2
    for i in range(rest):
        total += (ring[i] - mean) ** 2
    return math.log(math.sqrt(total / n) + 0.01)


@jit
def below(ordered: Floats, n: int, value: float) -> int:
    """How many of the first n of the ascending `ordered` are less than `value`."""
    low = 0
    while n > 0:  # no branch to foretell: either half is as likely
        half = (n + 1) // 2
        low = low + half if ordered[low + half - 1] < value else low
        n -= half
    return low


@jit
def not_above(ordered: Floats, n: int, value: float) -> int:
    """How many of the first n of the ascending `ordered` are at most `value`."""
    low = 0
    while n > 0:
        half = (n + 1) // 2
        low = low + half if ordered[low + half - 1] <= value else low
        n -= half
    return low


@jit
def move_down(ordered: Floats, first: int, last: int) -> None:
    """Move the numbers at first + 1 to last by one place towards the beginning."""
    i = first
    while i + 32 <= last:
        a, b, c, d = load(ordered, i + 1), load(ordered, i + 9), load(ordered, i + 17), load(ordered, i + 25)
        store(ordered, i, a)
        store(ordered, i + 8, b)
        store(ordered, i + 16, c)
        store(ordered, i + 24, d)
        i += 32
    for k in range(i, last):
        ordered[k] = ordered[k + 1]


@jit
def move_up(ordered: Floats, first: int, last: int) -> None:
    """Move the numbers at first to last - 1 by one place towards the end."""
    i = last
    while i - 32 >= first:
        a, b, c, d = load(ordered, i - 8), load(ordered, i - 16), load(ordered, i - 24), load(ordered, i - 32)
        store(ordered, i - 7, a)
        store(ordered, i - 15, b)
        store(ordered, i - 23, c)
        store(ordered, i - 31, d)
        i -= 32
    for k in range(i, first, -1):
        ordered[k] = ordered[k - 1]


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
        move_down(ordered, gone, place - 1)
        ordered[place - 1] = value
    else:
        move_up(ordered, place, gone)
        ordered[place] = value


@jit
def in_usual_errors(errors: Floats, error: float) -> float:
    """`error` over the root mean square of those before, NaN of the first; errors (2,), mean and count, move on."""
    usual = math.sqrt(errors[0])
    errors[1] = (1.0 - 1.0 / ERROR_WINDOW) * errors[1] + 1.0
    errors[0] += (error * error - errors[0]) / errors[1]
    return error / usual if usual > 0.0 else math.nan


@spliced
def views_of(
    value: float,
    scaled: float,
    far: float,
    width: float,
    error: float,
    recent: Floats,
    kept: Ints,
    errors: Floats,
    views: Floats,
) -> None:
    """Write views (VIEWS,) of one field, NaN where there is none yet; recent (RECENT,), kept, errors (2,) go on.

    far and width: residual and log-scale of the longest horizon; error: of the published one-step forecast. They
    are NaN where there was no forecast.
    """
    drift, surprise = recent[:DRIFT], recent[DRIFT : DRIFT + SURPRISE]
    near, spread = recent[DRIFT + SURPRISE : 2 * DRIFT + SURPRISE], recent[2 * DRIFT + SURPRISE :]
    if not math.isnan(far):
        remember(drift, kept[0], far)
        remember(surprise, kept[1], abs(far) * math.exp(-width) + width)
        kept[0] += 1
        kept[1] += 1
    if not math.isnan(error):
        times = in_usual_errors(errors, error)
        if not math.isnan(times):
            remember(near, kept[2], times)
            kept[2] += 1
    remember(spread, kept[3], scaled)
    kept[3] += 1
    views[VALUE] = value
    views[FAR_DRIFT] = recent_mean(drift, kept[0])
    views[FAR_SURPRISE] = recent_mean(surprise, kept[1])
    views[SPREAD] = recent_spread(spread, kept[3], SHORT)
    views[LONG_SPREAD] = recent_spread(spread, kept[3], LONG)
    views[NEAR_DRIFT] = recent_mean(near, kept[2])


@spliced
def joint_surprise(residual: Floats, log_scale: Floats) -> float:
    """Mean over the fields of log(1 + |e| / scale), one step ahead; residual, log_scale (F, K). NaN of none."""
    total, known = 0.0, 0
    for f in range(residual.shape[0]):
        if not math.isnan(residual[f, 0]):
            total += math.log1p(abs(residual[f, 0]) * math.exp(-log_scale[f, 0]))
            known += 1
    return total / known if known > 0 else math.nan


@spliced
def joint_distance(scaled: Floats) -> float:
    """Mean over the fields of how far each is from its mean, scaled units, scaled (F,); NaN of none."""
    total, known = 0.0, 0
    for f in range(scaled.size):
        if not math.isnan(scaled[f]):
            total += abs(scaled[f])
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


@spliced
def strangeness(
    values: Floats,
    scaled: Floats,
    residual: Floats,
    log_scale: Floats,
    error: Floats,
    learn: bool,
    recent: Floats,
    kept: Ints,
    errors: Floats,
    shown: Ints,
    rings: Floats,
    ordered: Floats,
    age: int,
    loudness: Floats,
) -> float:
    """How rare an event is: the mean over both opinions of log10 of the mean 1 / p, against the age of the stream.

    values, scaled, error (F,); residual, log_scale (F, K) from `intervals.settle`. recent (F, RECENT), kept
    (F, KEPT) and errors (F, 2) make the views; rings, ordered (V, N) are what each of all V has shown, in order of
    time and of size, shown (V,) how often. The views of each field come first; with several fields, those of all of
    them together are last, and each counts as much as all others. age: events of the stream before this one. Writes
    loudness (F,), the sum of 1 / p over a field's views, 0 where it is missing.
    """
    fields = values.size
    last = residual.shape[1] - 1
    far, near = 0.0, 0.0
    views = np.empty(VIEWS)
    for f in range(fields):
        loudness[f] = 0.0
        if math.isnan(values[f]):  # every p is 1
            far += OPINION
            near += OPINION
            continue
        own, own_kept, own_errors = recent[f], kept[f], errors[f]
        if not learn:
            own, own_kept, own_errors = own.copy(), own_kept.copy(), own_errors.copy()
        width = log_scale[f, last]
        views_of(values[f], scaled[f], residual[f, last], width, error[f], own, own_kept, own_errors, views)
        for k in range(VIEWS):
            rare = rank(rings, ordered, shown, f * VIEWS + k, views[k], k != FAR_SURPRISE, learn)
            loudness[f] += rare
            far += 0.0 if k == NEAR_DRIFT else rare
            near += 0.0 if k == FAR_DRIFT else rare
    far /= fields * OPINION
    near /= fields * OPINION
    if fields > 1:
        surprise = joint_surprise(residual, log_scale)
        together = rank(rings, ordered, shown, fields * VIEWS, surprise, False, learn)
        distance = joint_distance(scaled)
        together += rank(rings, ordered, shown, fields * VIEWS + 1, distance, False, learn)
        far = (far + together) / (1.0 + JOINT)
        near = (near + together) / (1.0 + JOINT)
    return 0.5 * (math.log10(far) + math.log10(near)) - AGE * math.log10(min(age, rings.shape[1]) + 2.0)


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
