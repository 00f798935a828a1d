"""Several forecasts, one answer: each weighs what its recent errors have earned.

Bayesian model averaging of Gaussian errors of unknown variance gives a forecast after n events the weight
(sum of squared errors) ** (-n / 2), Hoeting et al. 1999; here fewer events are counted than there were, so that the
weights stay ready to change. With the last value among them, the answer is never much worse than persistence.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels.jit import jit
from streamrnn.kernels.types import Floats

POWER: Final = 16.0  # of the weights: half the events that count
WINDOW: Final = 500.0  # events, of the sum of squared errors


@jit
def judge(values: Floats, experts: Floats, losses: Floats) -> None:
    """Hold values (F,) against experts (E, F), their forecasts: losses (E, F), sums of squared errors, move.

    A missing value, or one that not all have forecast, judges nobody.
    """
    count = experts.shape[0]
    for f in range(values.size):
        worst = 0.0
        for e in range(count):
            worst += abs(experts[e, f] - values[f])
        if math.isnan(worst):
            continue
        for e in range(count):
            losses[e, f] = (1.0 - 1.0 / WINDOW) * losses[e, f] + (experts[e, f] - values[f]) ** 2


@jit
def mix(experts: Floats, losses: Floats, answer: Floats) -> None:
    """Write answer (F,), the mean of experts (E, F) by their weights; where one has none, there is none."""
    count = experts.shape[0]
    for f in range(answer.size):
        least = losses[0, f]
        for e in range(1, count):
            least = min(least, losses[e, f])
        origin = experts[count - 1, f]  # where all say the same, the answer is that to the last bit
        weights, moves = 0.0, 0.0
        for e in range(count):
            # Written this way so that no quotient is formed where both are zero.
            weight = 1.0 if losses[e, f] <= least else (least / losses[e, f]) ** POWER
            weights += weight
            moves += weight * (experts[e, f] - origin)
        answer[f] = origin + moves / weights
