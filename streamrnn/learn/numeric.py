"""Numeric events: what a pipeline shares over all its keys, what each key has of its own, and their order.

Predict, then learn: an event is held against the forecasts made before it, and only then learned from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from streamrnn.events import Event, NumericOutput
from streamrnn.kernels.intervals import FORECAST, UPPER
from streamrnn.kernels.types import Floats
from streamrnn.learn.calibrator import Calibrator
from streamrnn.learn.detector import Alarm, Detector
from streamrnn.learn.member import Member, Part
from streamrnn.learn.network import Network
from streamrnn.learn.readout import Readout
from streamrnn.learn.scaler import Scaler
from streamrnn.learn.window import Window

Array = NDArray[np.float64]

HISTORY = 8192  # events a detector ranks among, memory allowing


class NumericStream:
    """One key's live part: scaler, readout, waiting forecasts, and what each network knows of it."""

    SAVED: ClassVar[tuple[str, ...]] = ("seq", "count", "scaler", "readout", "parts", "alarm", "mean_calibrator")

    def __init__(self, key: str, model: NumericModel) -> None:
        fields, members = len(model.fields), model.members
        self.key = key
        self.seq = 0  # events answered
        self.count = 0  # events learned from
        self.scaler = Scaler(fields)
        self.readout = Readout(fields, members[0].network.hidden, Scaler.input_count(fields))
        self.parts = [Part(member, fields, model.horizons, model.interval) for member in members]
        self.alarm = Alarm()
        # What is published: of the only network, or of the mean of several, whose intervals are its own.
        several = len(members) > 1
        self.calibrator = (
            Calibrator(fields, model.horizons, model.interval) if several else self.parts[0].calibrator
        )
        own = [part.calibrator for part in self.parts]
        self.calibrators = [*own, self.calibrator] if several else own  # all there are, what is published last

    @property
    def mean_calibrator(self) -> Calibrator | None:
        """That of the mean of several networks, None where there is only one, whose own is published."""
        return self.calibrator if len(self.parts) > 1 else None


class NumericModel:
    """What all keys of a pipeline share, its networks and how they learn, and how an event is answered.

    Parameters
    ----------
    name
        Of the pipeline, for the outputs.
    fields
        Names of the F fields, in the order of an event's values.
    members
        One network, or an ensemble: their forecasts are averaged, and how strange they find an event.
    horizons, interval
        Forecast horizons in events, the first of them 1; share of events inside an interval, 0..1.
    memory
        Bytes the detectors may use together; with many keys their histories get shorter.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("history", "members")

    def __init__(
        self,
        name: str,
        fields: Sequence[str],
        members: Sequence[Member],
        horizons: Sequence[int],
        interval: float,
        memory: int,
    ) -> None:
        self.name = name
        self.fields = tuple(fields)
        self.members = tuple(members)
        self.horizons = tuple(horizons)
        self.interval = interval
        self.memory = memory
        self.history = HISTORY
        self.counts: Counter[str] = Counter()
        self.anomalies = 0  # in this process
        self.learners = tuple(member.learner for member in members if member.learner)
        self.warmup = horizons[-1] + max((learner.length for learner in self.learners), default=0)

    @staticmethod
    def network_for(
        fields: int, horizons: Sequence[int], cell: str, hidden: int, layers: int, seed: int
    ) -> Network:
        """Return a network that starts as damped persistence, mu = s / sqrt(h): useful from the first event."""
        inputs, outputs = Scaler.input_count(fields), fields * len(horizons)
        network = Network(cell, inputs, hidden, outputs, layers, "laplace", seed=seed)
        skip = network.parameters["skip.weight"]
        for f in range(fields):
            for k, horizon in enumerate(horizons):
                skip[f * len(horizons) + k, 3 * f] = 1.0 / math.sqrt(horizon)
        return network

    @staticmethod
    def window_for(capacity: int, network: Network, fields: int, horizons: Sequence[int], seed: int) -> Window:
        """Return the replay window that goes with such a network."""
        return Window(capacity, Scaler.input_count(fields), fields, network.blank_state(), horizons, seed)

    def open_stream(self, key: str) -> NumericStream:
        """Return the stream of a key that was not seen before."""
        return NumericStream(key, self)

    @staticmethod
    def history_for(memory: int, detectors: int, fields: int) -> int:
        """Return the events each of so many detectors may rank among, a power of two so that it changes rarely."""
        fitting = memory // (detectors * Detector.bytes_per_event(fields))
        return max(Detector.FIRST, min(HISTORY, 1 << max(fitting.bit_length() - 1, 0)))

    def share(self, streams: Collection[NumericStream]) -> None:
        """Share the memory for histories among the live `streams`: with more of them each gets shorter."""
        history = self.history_for(self.memory, len(streams) * len(self.members), len(self.fields))
        if history < self.history:
            self.history = history
            for stream in streams:
                for part in stream.parts:
                    part.detector.shorten(history)

    def process_one(self, stream: NumericStream, event: Event, learn: bool) -> NumericOutput:
        """Answer one event of one stream, then learn from it unless `learn` is false."""
        assert event.values is not None  # noqa: S101 the codec of a numeric pipeline gives values
        values, scaler, readout, age = event.values, stream.scaler, stream.readout, stream.count
        if learn:
            for learner in self.learners:
                learner.before_step()
        phi = scaler.observe_one(values, event.time, learn)
        for calibrator in stream.calibrators:
            calibrator.score_one(values, scaler.scaled, age, learn)
        if learn:
            readout.learn_one(values, fixed=not self.learners)
        score, anomaly = stream.alarm.decide_one(self._strangeness(stream, values, learn), age, learn)
        if anomaly:
            self.anomalies += 1
        hidden = self._forecast(stream, phi, learn)
        network = stream.calibrator.made[:, 0, FORECAST]
        ahead = readout.forecast_one(values, network, hidden, phi, age, learn)
        stream.calibrator.centre_one(ahead, scaler)
        if learn:
            for calibrator in stream.calibrators:
                calibrator.keep(age)
            stream.count += 1
            for learner in self.learners:
                learner.after_step()
        return self._output(stream, event, score, anomaly)

    def _strangeness(self, stream: NumericStream, values: Array, learn: bool) -> float:
        """How strange the networks find an event, in the mean."""
        total, scaled, error = 0.0, stream.scaler.scaled, stream.calibrator.error
        for part in stream.parts:
            residual, log_scale = part.calibrator.residual, part.calibrator.log_scale
            total += part.detector.strangeness_one(
                values, scaled, residual, log_scale, error, stream.count, self.history, learn
            )
        return total / len(stream.parts)

    def _forecast(self, stream: NumericStream, phi: Floats, learn: bool) -> Floats:
        """Step all networks and forecast by their mean; return what the head of the first reads."""
        scaler = stream.scaler
        hidden: list[Floats] = []
        voices: list[Floats] = []
        for member, part in zip(self.members, stream.parts, strict=True):
            state = member.step_one(part, phi, scaler.scaled, learn)
            if part.calibrator.forecast_one(member.y, scaler):
                voices.append(member.y)
            else:
                state[:] = 0
                self.counts["state_resets"] += 1
            hidden.append(state[-1])
        if len(self.members) > 1:  # one that is not finite does not speak for the others
            mean = np.mean(voices, axis=0) if voices else self.members[0].y
            stream.calibrator.forecast_one(mean, scaler)
        return hidden[0]

    def _output(self, stream: NumericStream, event: Event, score: float, anomaly: bool) -> NumericOutput:
        calibrator = stream.calibrator
        assert event.values is not None  # noqa: S101
        # By column, field and horizon: lists of numbers for one band after the other.
        forecast, lower, upper = calibrator.made.transpose(2, 0, 1)[FORECAST : UPPER + 1].tolist()
        seq = stream.seq
        stream.seq = seq + 1
        return NumericOutput(
            pipeline=self.name,
            key=stream.key,
            seq=seq,
            time=event.time,
            value=self._numbers(event.values.tolist()),
            forecast=self._lists(forecast),
            lower=self._lists(lower),
            upper=self._lists(upper),
            horizons=self.horizons,
            error=self._numbers(calibrator.error.tolist()),
            score=score,
            anomaly=anomaly,
            loudest=self._loudest(stream),
            updates=self.learners[0].updates if self.learners else 0,
            warmup=stream.count <= self.warmup,
        )

    def _loudest(self, stream: NumericStream) -> str:
        """The field that has most to do with the score."""
        if len(self.fields) == 1:
            return self.fields[0]
        loudness = stream.parts[0].detector.loudness
        if len(stream.parts) > 1:
            loudness = np.sum([part.detector.loudness for part in stream.parts], axis=0)
        return self.fields[int(loudness.argmax())]

    def _numbers(self, numbers: list[float]) -> dict[str, float | None]:
        named: dict[str, float | None] = dict(zip(self.fields, numbers, strict=True))
        for name, number in named.items():
            if number != number:
                named[name] = None
        return named

    def _lists(self, lists: list[list[float]]) -> dict[str, list[float] | None]:
        named: dict[str, list[float] | None] = dict(zip(self.fields, lists, strict=True))
        for name, numbers in zip(self.fields, lists, strict=True):
            if numbers[0] != numbers[0]:
                named[name] = None
        return named

    def close(self) -> None:
        """End the learners' threads."""
        for learner in self.learners:
            learner.close()
