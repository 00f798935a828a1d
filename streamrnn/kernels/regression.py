"""The readout of one key: recursive least squares on what network and recent past say about the next change.

A linear regression learned exactly at every event (Haykin 2014, chapter 10) reads the hidden state, the inputs and
the distance of each value from moving averages, and forecasts by how much each field will change, in units of its
usual change. One covariance serves all fields, since they have the same features.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels.jit import inlined, jit
from streamrnn.kernels.lanes import load, muladd, splat, store, times, total
from streamrnn.kernels.types import Floats

FORGET: Final = 0.9995  # weight of an event ago, in the sum of squares that is minimised
PRIOR: Final = 0.3  # covariance of the weights before the first event, and its mean at the most
DRIFT: Final = 1e-9  # added to each variance: what rounding takes away must never make one negative
CHANGE_WINDOW: Final = 100.0  # events, of the mean square change
CHANGE_CLIP: Final = 10.0  # usual changes beyond which a change moves their mean no further ...
CHANGE_AFTER: Final = 30.0  # ... once this many are seen, by their weights ...
CHANGE_NEWS: Final = 1e6  # ... unless it is so many times the usual change that there was none
TARGET_MAX: Final = 8.0  # usual changes, of a target and of a forecast
ERROR_MAX: Final = 4.0  # of what the weights learn from
RECENT: Final = 50.0  # events, of the standard deviation that distances are measured in
DISTANCE_MAX: Final = 6.0  # of those, of a feature
SPANS: Final = 3  # moving averages over 4, 32 and 256 events: 4 * 8 ** k


@jit
def change_unit(changes: Floats, f: int) -> float:
    """Root mean square change of field f; 0 before the first."""
    return math.sqrt(changes[f, 0])


@jit
def learn_change(changes: Floats, f: int, change: float) -> None:
    """Let `change` move the mean square in changes (F, 2), with its weighted count."""
    unit = change_unit(changes, f)
    size = abs(change)
    if changes[f, 1] >= CHANGE_AFTER and size < CHANGE_NEWS * unit:
        size = min(size, CHANGE_CLIP * unit)
    count = (1.0 - 1.0 / CHANGE_WINDOW) * changes[f, 1] + 1.0
    changes[f, 0] += (size * size - changes[f, 0]) / count
    changes[f, 1] = count


@inlined
def shrink(covariance: Floats, features: Floats, gain: Floats) -> None:
    """Take an event of features (N,) into the covariance, whose lower triangle is kept row by row (N (N + 1) / 2,).

    Writes gain (N,): by how much each weight moves per unit of error. A triangle cannot lose its symmetry, which
    is how the textbook form blows up.
    """
    n = features.size
    for i in range(n):
        gain[i] = 0.0
    row = 0
    for i in range(n):
        gain[i] += share(covariance, row, features, i, gain) + covariance[row + i] * features[i]
        row += i + 1
    spread = FORGET
    for i in range(n):
        spread += features[i] * gain[i]
    grow = 1.0 / FORGET
    trace = 0.0
    row = 0
    for i in range(n):
        subtract(covariance, row, i + 1, gain[i] / spread, gain, grow)
        covariance[row + i] += DRIFT
        trace += covariance[row + i]
        row += i + 1
    if trace > PRIOR * n:  # forgetting would let it grow without end where nothing happens
        scale = PRIOR * n / trace
        for i in range(covariance.size):
            covariance[i] *= scale
    for i in range(n):
        gain[i] /= spread


@inlined
def share(covariance: Floats, row: int, features: Floats, i: int, gain: Floats) -> float:
    """Row i of the product with the features but for the diagonal; column i of it goes to `gain`."""
    x = features[i]
    whole = i // 8 * 8
    sums, xs = splat(0.0), splat(x)
    for j in range(0, whole, 8):
        numbers = load(covariance, row + j)
        sums = muladd(numbers, load(features, j), sums)
        store(gain, j, muladd(numbers, xs, load(gain, j)))
    own = float(total(sums))
    for j in range(whole, i):
        own += covariance[row + j] * features[j]
    for j in range(whole, i):
        gain[j] += covariance[row + j] * x
    return own


@inlined
def subtract(covariance: Floats, row: int, n: int, factor: float, gain: Floats, grow: float) -> None:
    """The first n of a row become (themselves - factor gain) grow."""
    whole = n // 8 * 8
    factors, grows = splat(-factor), splat(grow)
    for j in range(0, whole, 8):
        k = row + j
        store(covariance, k, times(muladd(load(gain, j), factors, load(covariance, k)), grows))
    for j in range(whole, n):
        covariance[row + j] = (covariance[row + j] - factor * gain[j]) * grow


@jit
def learn(
    values: Floats,
    last: Floats,
    changes: Floats,
    guess: Floats,
    gain: Floats,
    weights: Floats,
    fixed: bool,
) -> None:
    """Learn the change from last (F,) to values (F,), which guess (F,) forecast.

    changes (F, 2), gain (N,) from `shrink`, weights (F, N). A field that is missing now, or was never seen before,
    teaches nothing. With `fixed` the weights stay as they are.
    """
    for f in range(values.size):
        if math.isnan(values[f]):
            continue
        if not math.isnan(last[f]):
            change = values[f] - last[f]
            unit = change_unit(changes, f)
            if unit > 0.0 and not fixed:
                target = min(max(change / unit, -TARGET_MAX), TARGET_MAX)
                error = min(max(target - guess[f], -ERROR_MAX), ERROR_MAX)
                for i in range(gain.size):
                    weights[f, i] += gain[i] * error
            learn_change(changes, f, change)
        last[f] = values[f]


@jit
def recent_deviation(recent: Floats, value: float) -> float:
    """Let `value` move recent (3,), mean, variance and weighted count of late; return the standard deviation."""
    recent[2] = (1.0 - 1.0 / RECENT) * recent[2] + 1.0
    share = 1.0 / recent[2]
    step = value - recent[0]
    recent[0] += share * step
    recent[1] = (1.0 - share) * (recent[1] + share * step * step)
    return math.sqrt(recent[1])


@jit
def describe(
    hidden: Floats, phi: Floats, values: Floats, count: int, recent: Floats, averages: Floats, features: Floats
) -> None:
    """Write features (N,): hidden (H,), inputs phi (I,), distances from moving averages (F, SPANS), and 1.

    recent (F, 3) and averages (F, SPANS) move to values (F,); a missing one is at no distance. count: the events
    of the stream before this one, since young averages are means.
    """
    n = 0
    for i in range(hidden.size):
        features[n] = hidden[i]
        n += 1
    for i in range(phi.size):
        features[n] = phi[i]
        n += 1
    for f in range(values.size):
        value = values[f]
        deviation = 0.0 if math.isnan(value) else recent_deviation(recent[f], value)
        for k in range(SPANS):
            features[n] = 0.0
            if not math.isnan(value):
                if math.isnan(averages[f, k]):
                    averages[f, k] = value
                averages[f, k] += (value - averages[f, k]) / min(4.0 * 8.0**k, count + 1.0)
                if deviation > 0.0:
                    distance = (value - averages[f, k]) / deviation
                    features[n] = min(max(distance, -DISTANCE_MAX), DISTANCE_MAX)
            n += 1
    features[n] = 1.0


@jit
def forecast(
    weights: Floats, features: Floats, last: Floats, changes: Floats, guess: Floats, ahead: Floats
) -> None:
    """Write guess (F,), the next change in usual changes, and ahead (F,), the next value, NaN if never seen."""
    for f in range(last.size):
        total = 0.0
        for i in range(features.size):
            total += weights[f, i] * features[i]
        guess[f] = min(max(total, -TARGET_MAX), TARGET_MAX)
        ahead[f] = last[f] + guess[f] * change_unit(changes, f)
