"""Equal error rate of verifying who types, by the protocol of Killourhy & Maxion (DSN 2009).

Of each subject the first repetitions are learned; the rest are genuine, and the first five of every other subject
are an impostor's. The rate is where as many of the genuine are refused as impostors are let in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IMPOSTOR = 5  # repetitions of each other subject


def probes(vectors: Mapping[str, Array], learned: int) -> Iterator[tuple[str, Array, Array]]:
    """Yield for each subject the genuine repetitions (M, F) and those of impostors (L, F), from vectors (N, F)."""
    for subject, own in vectors.items():
        others = [other[:IMPOSTOR] for name, other in vectors.items() if name != subject]
        yield subject, own[learned:], np.concatenate(others)


def equal_error_rate(genuine: Array, impostor: Array) -> float:
    """Return the rate at which refused genuine (M,) and admitted impostors (L,) cross, between thresholds by line.

    A repetition is refused when its score is above the threshold.

    Examples
    --------
    >>> equal_error_rate(np.array([0.1, 0.2, 0.3, 0.6]), np.array([0.5, 0.7, 0.8, 0.9]))
    0.25
    """
    scores = np.unique(np.concatenate([genuine, impostor]))
    thresholds = np.append(scores[0] - 1.0, scores)
    refused = 1.0 - np.searchsorted(np.sort(genuine), thresholds, side="right") / len(genuine)
    admitted = np.searchsorted(np.sort(impostor), thresholds, side="right") / len(impostor)
    gap = admitted - refused  # ascending, from -1 to 1
    i = int(np.argmax(gap >= 0.0))
    if gap[i] == 0.0:
        return float(refused[i])
    share = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(refused[i - 1] + share * (refused[i] - refused[i - 1]))


def manhattan_scaled(learned: Array, probe: Array) -> Array:
    """Return the distance of probes (M, F) from the mean of those learned (N, F), in mean absolute deviations."""
    mean = learned.mean(axis=0)
    deviation = np.maximum(np.abs(learned - mean).mean(axis=0), 1e-9)
    distance: Array = (np.abs(probe - mean) / deviation).sum(axis=1)
    return distance
