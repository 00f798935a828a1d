"""Numeric events: what a pipeline shares over all its keys, what each key has of its own, and their order.

Predict, then learn: an event is held against the forecasts made before it, and only then learned from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamrnn.errors import UsageError
from streamrnn.events import Event, NumericOutput
from streamrnn.kernels import numeric, params
from streamrnn.kernels.tables import table_of
from streamrnn.kernels.types import Floats, Ints
from streamrnn.learn.calibrator import Calibrator
from streamrnn.learn.detector import Alarm, Detector
from streamrnn.learn.member import Member, Part
from streamrnn.learn.moving import Moving, address_of
from streamrnn.learn.network import Network
from streamrnn.learn.readout import Readout
from streamrnn.learn.scaler import Scaler
from streamrnn.learn.window import Window

Array = NDArray[np.float64]

HISTORY = 8192  # events a detector ranks among, memory allowing


class NumericStream(Moving):
    """One key's live part: scaler, readout, waiting forecasts, and what each network knows of it.

    Attributes
    ----------
    answer : (3 F K + F,)
        Of the last event, in the fields' units: forecasts, lower and upper bounds, errors.
    """

    SAVED: ClassVar[tuple[str, ...]] = (
        "seq",
        "count",
        "time",
        "scaler",
        "readout",
        "parts",
        "alarm",
        "mean_calibrator",
    )

    def __init__(self, key: str, model: NumericModel) -> None:
        super().__init__()
        fields, members = len(model.fields), model.members
        self.key = key
        self.seq = 0  # events answered
        self.count = 0  # events learned from
        self.time = math.nan  # of the newest event answered, epoch seconds
        self.scaler = Scaler(fields)
        self.readout = Readout(fields, members[0].network.hidden, Scaler.input_count(fields))
        self.parts = [Part(member, fields, model.horizons, model.interval) for member in members]
        self.alarm = Alarm()
        # What is published: of the only network, or of the mean of several, whose intervals are its own.
        several = len(members) > 1
        self.calibrator = (
            Calibrator(fields, model.horizons, model.interval) if several else self.parts[0].calibrator
        )
        self.answer: Array = np.zeros(fields * (3 * len(model.horizons) + 1))
        movable = [self.scaler, self.readout, self.alarm, self.calibrator, *self.parts]
        movable += [part.detector for part in self.parts]
        self._movable = (*movable, *(part.calibrator for part in self.parts if several))
        self._table = np.zeros(0, np.int64)
        self._arrays: tuple[Any, ...] = ()
        self._moves = -1

    @property
    def mean_calibrator(self) -> Calibrator | None:
        """That of the mean of several networks, None where there is only one, whose own is published."""
        return self.calibrator if len(self.parts) > 1 else None

    def table(self, members: Sequence[Member]) -> Ints:
        """Return where all arrays are, as `kernels.numeric` takes it."""
        moves = self._moves_of(members)
        if moves != self._moves:
            states = [part.state for part in self.parts]
            self._arrays = self._all(members, states, self.readout.arrays)
            self._table = table_of(self._arrays)
            self._moves = self._moves_of(members)  # once more, since to set an array is a move
        return self._table

    def table_aside(
        self, members: Sequence[Member], values: Array, states: Sequence[Floats]
    ) -> tuple[Ints, tuple[Any, ...]]:
        """Return a table for an event, values (F,), that nothing is learned from, and the arrays that it is of.

        states: copies of those of the networks.
        """
        last, changes, recent, averages, features, guess, *learned = self.readout.arrays
        *learned, experts, losses, ahead = learned
        shown = np.where(np.isnan(values), last, values)
        own = (shown, changes, recent.copy(), averages.copy(), features.copy(), guess.copy())
        arrays = self._all(members, states, (*own, *learned, experts.copy(), losses, ahead))
        return table_of(arrays), arrays

    def _moves_of(self, members: Sequence[Member]) -> int:
        """How often any array was replaced."""
        moves = self.moves
        for part in self._movable:
            moves += part.moves
        for member in members:
            moves += member.moves
        return moves

    def _all(
        self, members: Sequence[Member], states: Sequence[Floats], readout: tuple[Array, ...]
    ) -> tuple[Any, ...]:
        """All arrays by their places in the table; those of the networks, which others keep, by address."""
        arrays: tuple[Any, ...] = (
            *self.scaler.arrays,
            *readout,
            self.alarm.alert,
            self.answer,
            *self.calibrator.arrays,
        )
        for member, part, state in zip(members, self.parts, states, strict=True):
            top, outputs = address_of(state[-1]), address_of(member.y)
            arrays += (*part.calibrator.arrays, state, top, outputs, *part.detector.arrays)
        return arrays


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

    Raises
    ------
    UsageError
        A network is not of these fields and horizons, or not of float32: kernels take that for granted.
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
        inputs, outputs = Scaler.input_count(len(fields)), len(fields) * len(horizons)
        for network in (member.network for member in members):
            got = (int(network.shape[params.INPUTS]), network.width, network.theta.dtype.name)
            if got != (inputs, 2 * outputs, "float32"):
                raise UsageError(
                    f"members: expected float32, {inputs} inputs and {outputs} outputs of a Laplace head, "
                    f"got {got[2]}, {got[0]} inputs and {got[1]} numbers a step"
                )
        self.name = name
        self.fields = tuple(fields)
        self.members = tuple(members)
        self.horizons = tuple(horizons)
        self.interval = interval
        self.memory = memory
        self.history = HISTORY
        self.counts: Counter[str] = Counter()
        self._form = (len(fields),)
        self._horizons = np.array(horizons, dtype=np.int64)
        self._alpha = 1.0 - interval
        self._states = np.array([member.network.state.size for member in members], dtype=np.int64)
        self.anomalies = 0  # in this process
        self.learners = tuple(member.learner for member in members if member.learner)
        self.warmup = horizons[-1] + max((learner.length for learner in self.learners), default=0)

    def disagreement(self) -> str | None:
        """Why what was restored does not go together, None when it does."""
        if Detector.FIRST <= self.history <= HISTORY:
            return None
        return f"history: expected {Detector.FIRST} to {HISTORY}, got {self.history}"

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
        """Answer one event of one stream, then learn from it unless `learn` is false.

        Raises
        ------
        UsageError
            It has another number of fields: the kernels take their lengths from it.
        """
        values, age, parts, members = event.values, stream.count, stream.parts, self.members
        assert values is not None  # noqa: S101 the codec of a numeric pipeline gives values
        if values.shape != self._form:
            raise UsageError(f"values: expected shape {self._form}, got {values.shape}")
        for part in parts:
            part.detector.make_room(age, self.history)
        if learn:
            for learner in self.learners:
                learner.before_step()
            states, table = [part.state for part in parts], stream.table(members)
            arrays: tuple[Any, ...] = ()
        else:
            states = [part.state.copy() for part in parts]
            table, arrays = stream.table_aside(members, values, states)
        units, scaler = stream.readout.units, stream.scaler
        score, anomaly = numeric.judge(
            table,
            self._horizons,
            values,
            event.time,
            age,
            len(members),
            units,
            self._alpha,
            learn,
            not self.learners,
        )
        if anomaly:
            self.anomalies += 1
        for member, part, state in zip(members, parts, states, strict=True):
            member.step_one(part, state, scaler.phi, scaler.scaled, learn)
        resets = numeric.forecast(table, self._horizons, values, age, len(members), units, self._states, learn)
        if resets:
            self.counts["state_resets"] += resets
        del arrays  # what the table is of was kept until here
        if learn:
            stream.count = age + 1
            for learner in self.learners:
                learner.after_step()
        return self._output(stream, event, score, anomaly)

    def _output(self, stream: NumericStream, event: Event, score: float, anomaly: bool) -> NumericOutput:
        assert event.values is not None  # noqa: S101
        width = len(self.horizons) * len(self.fields)
        answer: list[float] = stream.answer.tolist()
        seq = stream.seq
        stream.seq = seq + 1
        stream.time = float(event.time)
        # By place, since names cost as much again as the output itself.
        return NumericOutput(
            self.name,
            stream.key,
            seq,
            event.time,
            self._numbers(event.values.tolist()),
            self._lists(answer, 0),
            self._lists(answer, width),
            self._lists(answer, 2 * width),
            self.horizons,
            self._numbers(answer[3 * width :]),
            score,
            anomaly,
            self._loudest(stream),
            self.learners[0].updates if self.learners else 0,
            stream.count <= self.warmup,
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
        """Numbers by field, None for a NaN."""
        if len(self.fields) == 1 and numbers[0] == numbers[0]:  # as nearly always, in half the time
            return {self.fields[0]: numbers[0]}
        return {
            name: number if number == number else None for name, number in zip(self.fields, numbers, strict=True)
        }

    def _lists(self, numbers: list[float], start: int) -> dict[str, list[float] | None]:
        """Numbers of all horizons by field, from `start` on; None where they are NaN."""
        count = len(self.horizons)
        if len(self.fields) == 1 and numbers[start] == numbers[start]:
            return {self.fields[0]: numbers[start : start + count]}
        named: dict[str, list[float] | None] = {}
        for name in self.fields:
            named[name] = numbers[start : start + count] if numbers[start] == numbers[start] else None
            start += count
        return named

    def close(self) -> None:
        """End the learners' threads."""
        for learner in self.learners:
            learner.close()
