"""Who types: repetitions of a password as events of one key per subject, and probes that are not learned from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from measuring.runs import NAME, Array, Outputs, answers, collect, spec_of
from scoring.verification import equal_error_rate, manhattan_scaled, probes
from streamrnn.build import build_pipeline
from streamrnn.events import Message

PAUSE = 60.0  # seconds between two repetitions


def error_rates(vectors: Mapping[str, Array], seed: int) -> dict[str, float]:
    """Return the equal error rate, mean over subjects, of the published score and of two distances.

    vectors (N, F) of each subject. Half of the repetitions are learned, every subject in turn. A probe is a
    retained message: answered by the stream as it stands, which it leaves as it was.
    """
    learned = len(next(iter(vectors.values()))) // 2
    fields = [f"{f}" for f in range(next(iter(vectors.values())).shape[1])]
    pipeline = build_pipeline(NAME, spec_of(fields), seed)

    def message(subject: str, i: int, vector: Array, retain: bool = False) -> Message:
        payload = dict(zip(fields, vector.tolist(), strict=True))
        return Message("", payload, key=subject, arrival=i * PAUSE, retain=retain)

    def score(subject: str, those: Array) -> Array:
        asked = (message(subject, learned, vector, retain=True) for vector in those)
        return np.array([output.score for each in asked for output in answers(pipeline, each)])

    last: dict[str, Outputs] = {}
    for i in range(learned):
        for subject, own in vectors.items():
            last[subject] = collect(answers(pipeline, message(subject, i, own[i])))
    rates: dict[str, list[float]] = {"score": [], "distance": [], "manhattan": []}
    for subject, genuine, impostor in probes(vectors, learned):
        own = vectors[subject][:learned]
        for name, judged in {
            "score": [score(subject, those) for those in (genuine, impostor)],
            "distance": [_distance(last[subject], those) for those in (genuine, impostor)],
            "manhattan": [manhattan_scaled(own, those) for those in (genuine, impostor)],
        }.items():
            rates[name].append(equal_error_rate(*judged))
    pipeline.close()
    return {name: float(np.mean(each)) for name, each in rates.items()}


def _distance(last: Outputs, those: Array) -> Array:
    """Mean over the fields of the distance from the last one-step forecast, in widths of its interval, (M,)."""
    forecast, width = last.forecast[-1, :, 0], (last.upper - last.lower)[-1, :, 0]
    distance: Array = (np.abs(those - forecast) / np.maximum(width, 1e-9)).mean(axis=1)
    return distance
