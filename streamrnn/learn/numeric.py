"""Numeric events: what a pipeline shares over all its keys, what each key has of its own, and their order.

Predict, then learn: an event is held against the forecasts made before it, and only then learned from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from streamrnn.events import Event, NumericOutput
from streamrnn.kernels.intervals import FORECAST, LOWER, UPPER
from streamrnn.kernels.types import Floats
from streamrnn.learn.calibrator import Calibrator
from streamrnn.learn.detector import Detector
from streamrnn.learn.learner import Learner
from streamrnn.learn.network import Network
from streamrnn.learn.readout import Readout
from streamrnn.learn.realtime import RealTimeLearner
from streamrnn.learn.scaler import Scaler
from streamrnn.learn.window import Window

HISTORY = 8192  # events a detector ranks among, memory allowing


class NumericStream:
    """One key's live part: hidden state, scaler, waiting forecasts, detector."""

    def __init__(self, key: str, model: NumericModel) -> None:
        fields = len(model.fields)
        self.key = key
        self.seq = 0  # events answered
        self.count = 0  # events learned from
        self.trail = model.learner.open_trail() if model.learner else None
        self.state = model.network.blank_state()
        self.scaler = Scaler(fields)
        self.calibrator = Calibrator(fields, model.horizons, model.interval)
        self.readout = Readout(fields, model.network.hidden, Scaler.input_count(fields))
        self.detector = Detector(fields)


class NumericModel:
    """One network for all keys of a pipeline, and its learner.

    Parameters
    ----------
    name
        Of the pipeline, for the outputs.
    fields
        Names of the F fields, in the order of an event's values.
    network
        With a Laplace head of F K outputs.
    horizons, interval
        Forecast horizons in events, the first of them 1; share of events inside an interval, 0..1.
    learner
        None: the weights stay as they are.
    memory
        Bytes the detectors may use together; with many keys their histories get shorter.
    """

    def __init__(
        self,
        name: str,
        fields: Sequence[str],
        network: Network,
        horizons: Sequence[int],
        interval: float,
        learner: Learner | RealTimeLearner | None,
        memory: int,
    ) -> None:
        self.name = name
        self.fields = tuple(fields)
        self.network = network
        self.horizons = tuple(horizons)
        self.interval = interval
        self.learner = learner
        self.memory = memory
        self.history = HISTORY
        self.counts: Counter[str] = Counter()
        self.warmup = horizons[-1] + (learner.length if learner else 0)
        self._y: Floats = np.zeros(network.width, network.theta.dtype)

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
    def history_for(memory: int, streams: int, fields: int) -> int:
        """Return the events each of so many detectors may rank among, a power of two so that it changes rarely."""
        fitting = memory // (streams * Detector.bytes_per_event(fields))
        return max(Detector.FIRST, min(HISTORY, 1 << max(fitting.bit_length() - 1, 0)))

    def share(self, streams: Collection[NumericStream]) -> None:
        """Share the memory for histories among the live `streams`: with more of them each gets shorter."""
        history = self.history_for(self.memory, len(streams), len(self.fields))
        if history < self.history:
            self.history = history
            for stream in streams:
                stream.detector.shorten(history)

    def process_one(self, stream: NumericStream, event: Event, learn: bool) -> NumericOutput:
        """Answer one event of one stream, then learn from it unless `learn` is false."""
        assert event.values is not None  # noqa: S101 the codec of a numeric pipeline gives values
        values = event.values
        learner = self.learner
        if learner and learn:
            learner.before_step()
        scaler, calibrator, detector, readout = stream.scaler, stream.calibrator, stream.detector, stream.readout
        phi = scaler.observe_one(values, event.time, learn)
        calibrator.score_one(values, scaler.scaled, stream.count, learn)
        if learn:
            readout.learn_one(values, fixed=learner is None)
        score, anomaly = detector.score_one(
            values,
            scaler.scaled,
            calibrator.residual,
            calibrator.log_scale,
            stream.count,
            self.history,
            learn,
        )
        state = stream.state if learn else stream.state.copy()
        if learner and stream.trail and learn:
            learner.observe(stream.trail, phi, scaler.scaled, state)
        self.network.advance(state, phi, self._y)
        if not calibrator.forecast_one(self._y, scaler):
            state[:] = 0
            self.counts["state_resets"] += 1
        network = calibrator.made[:, 0, FORECAST]
        ahead = readout.forecast_one(values, network, state[-1], phi, stream.count, learn)
        calibrator.centre_one(ahead, scaler)
        if learn:
            calibrator.keep(stream.count)
            stream.count += 1
            if learner:
                learner.after_step()
        return self._output(stream, event, score, anomaly)

    def _output(self, stream: NumericStream, event: Event, score: float, anomaly: bool) -> NumericOutput:
        calibrator = stream.calibrator
        assert event.values is not None  # noqa: S101
        made = calibrator.made
        seq = stream.seq
        stream.seq = seq + 1
        loudness = stream.detector.loudness
        return NumericOutput(
            pipeline=self.name,
            key=stream.key,
            seq=seq,
            time=event.time,
            value=self._numbers(event.values.tolist()),
            forecast=self._lists(made[:, :, FORECAST].tolist()),
            lower=self._lists(made[:, :, LOWER].tolist()),
            upper=self._lists(made[:, :, UPPER].tolist()),
            horizons=self.horizons,
            error=self._numbers(calibrator.error.tolist()),
            score=score,
            anomaly=anomaly,
            loudest=self.fields[int(loudness.argmax())],
            updates=self.learner.updates if self.learner else 0,
            warmup=stream.count <= self.warmup,
        )

    def _numbers(self, numbers: list[float]) -> dict[str, float | None]:
        return {
            name: number if number == number else None for name, number in zip(self.fields, numbers, strict=True)
        }

    def _lists(self, lists: list[list[float]]) -> dict[str, list[float] | None]:
        return {
            name: numbers if numbers[0] == numbers[0] else None
            for name, numbers in zip(self.fields, lists, strict=True)
        }

    def close(self) -> None:
        """End the learner's thread."""
        if self.learner:
            self.learner.close()
