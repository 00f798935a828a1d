"""Several forecasts, one answer: each has the weight its recent errors have earned (Hedge, Freund & Schapire 1997).

With the last value among them, the answer is never much worse than persistence, whatever the stream.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels.jit import jit
from streamrnn.kernels.types import Floats

RATE: Final = 0.05  # of the exponential weights
WINDOW: Final = 500.0  # events, of the sum of squared errors
LEVEL_WINDOW: Final = 1000.0  # events, of the mean squared error that sums are compared with
LEVEL_MIN: Final = 1e-300  # of which one over it is a number; below it all forecasts are as good


@jit
def judge(values: Floats, experts: Floats, losses: Floats, level: Floats) -> None:
    """Hold values (F,) against experts (E, F), their forecasts: losses (E, F) and level (F, 2) move.

    level: mean squared error over all experts, and its weighted count. A missing value or forecast judges nobody.
    """
    count = experts.shape[0]
    for f in range(values.size):
        mean = 0.0
        for e in range(count):
            mean += (experts[e, f] - values[f]) ** 2 / count
        if math.isnan(mean):
            continue
        for e in range(count):
            losses[e, f] = (1.0 - 1.0 / WINDOW) * losses[e, f] + (experts[e, f] - values[f]) ** 2
        level[f, 1] = (1.0 - 1.0 / LEVEL_WINDOW) * level[f, 1] + 1.0
        level[f, 0] += (mean - level[f, 0]) / level[f, 1]


@jit
def mix(experts: Floats, losses: Floats, level: Floats, answer: Floats) -> None:
    """Write answer (F,), the mean of experts (E, F) by their weights; where one has none, there is none."""
    count = experts.shape[0]
    for f in range(answer.size):
        least = losses[0, f]
        for e in range(1, count):
            least = min(least, losses[e, f])
        origin = experts[count - 1, f]  # where all say the same, the answer is that to the last bit
        weights, moves = 0.0, 0.0
        for e in range(count):
            weight = 1.0
            if level[f, 0] > LEVEL_MIN:
                weight = math.exp(-RATE * (losses[e, f] - least) / level[f, 0])
            weights += weight
            moves += weight * (experts[e, f] - origin)
        answer[f] = origin + moves / weights
