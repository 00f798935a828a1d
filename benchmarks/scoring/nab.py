"""The score of the Numenta Anomaly Benchmark, v1.1 (Lavin & Ahmad 2015).

A row outside the probation period has a weight by where it lies: in a window of its file the earlier the better,
from 1 falling to 0; after a window falling from 0 to -1; before the first one -1. A window earns the largest weight
among its detections, or -fn without one; every detection outside adds its weight. 100 is perfect, 0 is silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PROBATION = 0.15  # of a file's rows
PROBATION_ROWS_MAX = 750


@dataclass(frozen=True)
class Profile:
    """What a window found, a window missed and a detection outside are worth."""

    tp: float
    fn: float
    fp: float


PROFILES = {
    "standard": Profile(1.0, 1.0, 0.11),
    "low FP": Profile(1.0, 1.0, 0.22),
    "low FN": Profile(1.0, 2.0, 0.11),
}


@dataclass(frozen=True)
class Truth:
    """One labelled file of N rows, its probation period left out."""

    weight: Array  # (N,) -1..1, of a detection at this row, before the profile's factor
    window: NDArray[np.int64]  # (N,) number of the window the row is in, -1 outside
    windows: int  # in the whole file, those within the probation period too

    @property
    def found(self) -> NDArray[np.int64]:
        """Numbers of the windows that can be won or missed."""
        numbers: NDArray[np.int64] = np.unique(self.window[self.window >= 0])
        return numbers


def probation(rows: int) -> int:
    """Rows at the beginning of a file that are not scored."""
    return min(int(PROBATION * rows), PROBATION_ROWS_MAX)


def truth(rows: int, windows: Sequence[tuple[int, int]]) -> Truth:
    """Return the truth of a file from its windows, each as first and last row, in order.

    Examples
    --------
    >>> truth(10, [(5, 6)]).weight.round(3).tolist()
    [-1.0, -1.0, -1.0, -1.0, 1.0, 0.86, -0.987, -1.0, -1.0]
    """
    weight = np.full(rows, -1.0)
    window = np.full(rows, -1, dtype=np.int64)
    for number, (first, last) in enumerate(windows):
        width = last - first + 1
        inside = np.arange(first, last + 1)
        weight[inside] = _sigmoid((inside - last - 1) / width) / _sigmoid(np.array(-1.0))
        window[inside] = number
        with np.errstate(divide="ignore"):  # a window of one row: what follows it is far from it
            weight[last + 1 :] = _sigmoid((np.arange(last + 1, rows) - last) / np.float64(width - 1))
    start = probation(rows)
    return Truth(weight[start:], window[start:], len(windows))


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.where(x > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * x)) - 1.0)


def evaluate(truths: Mapping[str, Truth], scores: Mapping[str, Array], profile: Profile, threshold: float) -> float:
    """Return the final score of all files with detections at scores (rows,) of at least `threshold`."""
    total = 0.0
    for name, each in truths.items():
        hit = scores[name][-len(each.weight) :] >= threshold
        total += profile.fp * float(each.weight[hit & (each.window < 0)].sum())
        for number in each.found:
            won = each.weight[hit & (each.window == number)]
            total += profile.tp * float(won.max()) if won.size else -profile.fn
    return _final(truths, profile, total)


def optimise(truths: Mapping[str, Truth], scores: Mapping[str, Array], profile: Profile) -> tuple[float, float]:
    """Return the threshold for all files with the highest final score, and that score.

    The higher one where two are equally good, above every score where silence is best.
    """
    everything = [_gains(each, scores[name], profile) for name, each in truths.items()]
    at = np.concatenate([scores for scores, _ in everything])
    order = np.argsort(-at, kind="stable")
    at = at[order]
    total = np.cumsum(np.concatenate([gains for _, gains in everything])[order])
    last = np.append(at[1:] != at[:-1], True)  # of the rows with one score: all of them are detections, or none
    at, total = at[last], total[last]
    silence = -profile.fn * sum(len(each.found) for each in truths.values())
    best = int(np.argmax(total > total.max() - 1e-9))
    if total[best] <= 1e-9:
        return float("inf"), _final(truths, profile, silence)
    return float(at[best]), _final(truths, profile, silence + float(total[best]))


def _gains(each: Truth, scores: Array, profile: Profile) -> tuple[Array, Array]:
    """Scores (N,) descending, and what each detection adds (N,) when all with higher scores are there."""
    scores = scores[-len(each.weight) :]
    order = np.argsort(-scores, kind="stable")
    weight = np.where(each.window >= 0, profile.tp, profile.fp) * each.weight
    gains = weight[order]
    for number in each.found:
        of_it = np.flatnonzero(each.window[order] == number)
        best = np.maximum.accumulate(np.append(-profile.fn, gains[of_it]))
        gains[of_it] = np.diff(best)
    return scores[order], gains


def _final(truths: Mapping[str, Truth], profile: Profile, total: float) -> float:
    silence = -profile.fn * sum(len(each.found) for each in truths.values())
    perfect = profile.tp * sum(each.windows for each in truths.values())
    return 100.0 * (total - silence) / (perfect - silence)
