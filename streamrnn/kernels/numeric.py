"""An event of numbers in two calls: `judge` it by what was forecast, and after the networks' steps `forecast` on.

What they call is in the kernels beside this one. Here is the order, and the places of arrays in a stream's table.
F fields, K horizons, N features of the readout, M networks.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streamrnn.kernels import detection, hedge, intervals, regression, scaling
from streamrnn.kernels.detection import JOINT, KEPT, RECENT, VIEWS
from streamrnn.kernels.intervals import COLUMNS, FORECAST, LOWER, TALLY, UPPER
from streamrnn.kernels.jit import jit, spliced
from streamrnn.kernels.regression import SPANS
from streamrnn.kernels.scaling import HARMONICS
from streamrnn.kernels.tables import doubles, singles, wholes
from streamrnn.kernels.types import Floats, Ints

# Places in the table of a stream: scaler,
STATS: Final = 0  # (F, 4)
PREVIOUS: Final = 1  # (F,)
CLOCK: Final = 2  # (3,)
SCALED: Final = 3  # (F,)
BASE: Final = 4  # (F, 2)
PHI: Final = 5  # (3 F + 9,) float32
# readout,
LAST: Final = 6  # (F,)
CHANGES: Final = 7  # (F, 2)
LATELY: Final = 8  # (F, 3)
AVERAGES: Final = 9  # (F, SPANS)
FEATURES: Final = 10  # (N,)
GUESS: Final = 11  # (F,)
COVARIANCE: Final = 12  # (N (N + 1) / 2,)
GAIN: Final = 13  # (N,)
WEIGHTS: Final = 14  # (F, N)
EXPERTS: Final = 15  # (3, F)
LOSSES: Final = 16  # (3, F)
AHEAD: Final = 17  # (F,)
# alarm, and what goes into the output: forecasts, lower and upper bounds (3, F, K), then errors (F,);
ALERT: Final = 18  # (1,) int64
ANSWER: Final = 19  # (3 F K + F,)
# then a calibrator, the published one, and for each network its state, the head's outputs, calibrator and detector.
CALIBRATOR: Final = 20
Q: Final = 0  # (F, K)
REACH: Final = 1  # (F,)
WAITING: Final = 2  # (F, sum of horizons, COLUMNS)
MADE: Final = 3  # (F, K, COLUMNS)
RESIDUAL: Final = 4  # (F, K)
LOG_SCALE: Final = 5  # (F, K)
ERROR: Final = 6  # (TALLY, F), the errors first
NETWORKS: Final = 27
HIDDEN: Final = 7  # all of the state: (S,) float32 ...
TOP: Final = 8  # ... where the last layer's h begins in it (H,)
OUTPUTS: Final = 9  # (2 F K,) float32
DETECTOR: Final = 10
VIEWED: Final = 0  # (F, RECENT)
COUNTS: Final = 1  # (F, KEPT) int64
ERRORS: Final = 2  # (F, 2)
SHOWN: Final = 3  # (V,) int64
RINGS: Final = 4  # (V, capacity)
ORDERED: Final = 5  # (V, capacity)
LOUDNESS: Final = 6  # (F,)
CAPACITY: Final = 7  # a number
EACH: Final = 18  # places of one network


@jit
def judge(
    table: Ints,
    horizons: Ints,
    values: Floats,
    time: float,
    age: int,
    networks: int,
    units: int,
    alpha: float,
    learn: bool,
    fixed: bool,
) -> tuple[float, bool]:
    """Hold values (F,) against all that was forecast, and let the stream learn from them; return (score, anomaly).

    age: the events of the stream before this one; units: of the first network, that the readout reads; alpha: share
    of events outside their interval; fixed: the readout's weights stay as they are. Writes the networks' inputs.
    """
    fields = values.size
    width = 3 * fields + 2 * HARMONICS + 1
    features = units + width + fields * SPANS + 1
    scaled = doubles(table, SCALED, fields)
    scaling.observe(
        doubles(table, STATS, (fields, 4)),
        doubles(table, PREVIOUS, fields),
        doubles(table, CLOCK, 3),
        values,
        time,
        learn,
        scaled,
        doubles(table, BASE, (fields, 2)),
        singles(table, PHI, width),
    )
    for n in range(networks + 1 if networks > 1 else 1):  # of an ensemble each, and the one of its mean
        own = CALIBRATOR if n == 0 else NETWORKS + (n - 1) * EACH
        settle(table, own, horizons, age, values, scaled, alpha, learn)
    if learn:
        hedge.judge(values, doubles(table, EXPERTS, (3, fields)), doubles(table, LOSSES, (3, fields)))
        gain = doubles(table, GAIN, features)
        if not fixed:
            regression.shrink(
                doubles(table, COVARIANCE, features * (features + 1) // 2), doubles(table, FEATURES, features), gain
            )
        regression.learn(
            values,
            doubles(table, LAST, fields),
            doubles(table, CHANGES, (fields, 2)),
            doubles(table, GUESS, fields),
            gain,
            doubles(table, WEIGHTS, (fields, features)),
            fixed,
        )
    strange = 0.0
    for n in range(networks):
        strange += strangeness(table, NETWORKS + n * EACH, horizons.size, values, scaled, age, learn)
    return detection.decide(strange / networks, wholes(table, ALERT, 1), age, learn)


@jit
def forecast(
    table: Ints, horizons: Ints, values: Floats, age: int, networks: int, units: int, states: Ints, learn: bool
) -> int:
    """Make forecasts of what the networks' heads gave after an event, values (F,), and write the answer.

    states (M,): numbers in each network's state. Returns how many networks were not finite; their states are blank.
    """
    fields, count = values.size, horizons.size
    width = 3 * fields + 2 * HARMONICS + 1
    features = units + width + fields * SPANS + 1
    stats, base = doubles(table, STATS, (fields, 4)), doubles(table, BASE, (fields, 2))
    q, reach = doubles(table, CALIBRATOR + Q, (fields, count)), doubles(table, CALIBRATOR + REACH, fields)
    made = doubles(table, CALIBRATOR + MADE, (fields, count, COLUMNS))
    first = singles(table, NETWORKS + OUTPUTS, 2 * fields * count)
    mean = np.zeros_like(first)
    resets = 0
    for n in range(networks):
        own = NETWORKS + n * EACH
        y = singles(table, own + OUTPUTS, 2 * fields * count)
        finite = intervals.forecast(
            y,
            base,
            stats,
            doubles(table, own + Q, (fields, count)),
            doubles(table, own + REACH, fields),
            doubles(table, own + MADE, (fields, count, COLUMNS)),
        )
        if finite:  # one that is not does not speak for the others
            for i in range(mean.size):
                mean[i] += y[i]
        else:
            resets += 1
            blank = singles(table, own + HIDDEN, states[n])
            for i in range(blank.size):
                blank[i] = 0
    if networks > 1:
        voices = networks - resets
        for i in range(mean.size):
            mean[i] = mean[i] / np.float32(voices) if voices > 0 else first[i]
        intervals.forecast(mean, base, stats, q, reach, made)
    read_out(table, fields, features, width, units, values, made, age)
    intervals.centre(doubles(table, AHEAD, fields), base, q, reach, made)
    if learn:
        for n in range(networks + 1 if networks > 1 else 1):
            own = CALIBRATOR if n == 0 else NETWORKS + (n - 1) * EACH
            keep(table, own, horizons, fields, age)
    answer = doubles(table, ANSWER, 3 * fields * count + fields)
    error = doubles(table, CALIBRATOR + ERROR, fields)
    for f in range(fields):
        for k in range(count):
            place = f * count + k
            answer[place] = made[f, k, FORECAST]
            answer[fields * count + place] = made[f, k, LOWER]
            answer[2 * fields * count + place] = made[f, k, UPPER]
        answer[3 * fields * count + f] = error[f]
    return resets


@spliced
def settle(
    table: Ints,
    own: int,
    horizons: Ints,
    age: int,
    values: Floats,
    scaled: Floats,
    alpha: float,
    learn: bool,
) -> None:
    """`intervals.settle` of the calibrator at place `own`."""
    fields, count = values.size, horizons.size
    intervals.settle(
        horizons,
        doubles(table, own + WAITING, (fields, horizons.sum(), COLUMNS)),
        age,
        values,
        scaled,
        alpha,
        learn,
        doubles(table, own + Q, (fields, count)),
        doubles(table, own + REACH, fields),
        doubles(table, own + RESIDUAL, (fields, count)),
        doubles(table, own + LOG_SCALE, (fields, count)),
        doubles(table, own + ERROR, (TALLY, fields)),
    )


@spliced
def keep(table: Ints, own: int, horizons: Ints, fields: int, age: int) -> None:
    """`intervals.keep` of the calibrator at place `own`."""
    made = doubles(table, own + MADE, (fields, horizons.size, COLUMNS))
    intervals.keep(horizons, made, age, doubles(table, own + WAITING, (fields, horizons.sum(), COLUMNS)))


@spliced
def strangeness(table: Ints, own: int, count: int, values: Floats, scaled: Floats, age: int, learn: bool) -> float:
    """`detection.strangeness` by the network at place `own`."""
    fields, detector = values.size, own + DETECTOR
    views = fields * VIEWS + (JOINT if fields > 1 else 0)
    capacity = table[detector + CAPACITY]
    return detection.strangeness(
        values,
        scaled,
        doubles(table, own + RESIDUAL, (fields, count)),
        doubles(table, own + LOG_SCALE, (fields, count)),
        doubles(table, CALIBRATOR + ERROR, fields),
        learn,
        doubles(table, detector + VIEWED, (fields, RECENT)),
        wholes(table, detector + COUNTS, (fields, KEPT)),
        doubles(table, detector + ERRORS, (fields, 2)),
        wholes(table, detector + SHOWN, views),
        doubles(table, detector + RINGS, (views, capacity)),
        doubles(table, detector + ORDERED, (views, capacity)),
        age,
        doubles(table, detector + LOUDNESS, fields),
    )


@spliced
def read_out(
    table: Ints, fields: int, count: int, width: int, units: int, values: Floats, made: Floats, age: int
) -> None:
    """Write the readout's one-step forecasts: what network, regression and last value say, and their mixture."""
    features, last = doubles(table, FEATURES, count), doubles(table, LAST, fields)
    guess, ahead = doubles(table, GUESS, fields), doubles(table, AHEAD, fields)
    experts = doubles(table, EXPERTS, (3, fields))
    regression.describe(
        singles(table, NETWORKS + TOP, units),
        singles(table, PHI, width),
        values,
        age,
        doubles(table, LATELY, (fields, 3)),
        doubles(table, AVERAGES, (fields, SPANS)),
        features,
    )
    weights, changes = doubles(table, WEIGHTS, (fields, count)), doubles(table, CHANGES, (fields, 2))
    regression.forecast(weights, features, last, changes, guess, experts[1])
    for f in range(fields):
        experts[0, f] = made[f, 0, FORECAST]
        experts[2, f] = last[f]
    hedge.mix(experts, doubles(table, LOSSES, (3, fields)), ahead)
