"""Lane: one pipeline in service, its bounded queue and the task that empties it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import msgspec

from streamrnn.durations import Durations
from streamrnn.edges.mqtt import Connection
from streamrnn.events import Message, Output
from streamrnn.keys import BRIDGE
from streamrnn.pipeline import Pipeline
from streamrnn.requests import Reply, take
from streamrnn.settings.specs import OutputTarget, output_topic

TURN_NS = 10_000_000  # a pipeline processes before others get the loop
OUTSTANDING_MAX = 5000  # publishes that wait for the broker's acknowledgement before we do, too ...
SETTLE_S = 1.0  # ... for so long
STUCK_MAX = 15_000  # likewise, when answering makes the room without which acknowledgements cannot come


class Answering(Protocol):
    """Has a pipeline take a message, and notes that it has."""

    def __call__(self, pipeline: Pipeline[Any], number: int, message: Message) -> Iterator[Output | Reply]: ...


def unkept(pipeline: Pipeline[Any], number: int, message: Message) -> Iterator[Output | Reply]:  # noqa: ARG001
    """Take a message where nothing is kept."""
    return take(pipeline, message)


class Lane:
    """One pipeline in service: its bounded queue, and the task that empties it.

    Attributes
    ----------
    done
        Messages below this number are processed, and their outputs handed to the connection.
    arrival
        Epoch seconds at which its newest message came; 0 before the first.
    steps, ends
        What it took to answer each event, and from its message's arrival to its output.
    turns
        How often it has given the loop away: it goes up while messages are processed.
    """

    def __init__(
        self, pipeline: Pipeline[Any], target: OutputTarget, queue_max: int, answering: Answering = unkept
    ) -> None:
        self.pipeline = pipeline
        self.target = target
        self.queue_max = queue_max
        self.answering = answering
        self.queue: deque[tuple[int, Message]] = deque()
        self.filled = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.done = 0
        self._between = asyncio.Event()  # a text of many characters gives the loop away while it is half processed
        self._between.set()
        self._free = asyncio.Event()  # not held
        self._free.set()
        self._holders = 0
        self.arrival = 0.0
        self.steps = Durations()
        self.ends = Durations()
        self.turns = 0

    @property
    def full(self) -> bool:
        """Whether the queue has no room."""
        return len(self.queue) >= self.queue_max

    def put(self, number: int, message: Message) -> None:
        """Add a message; the caller has seen that there is room."""
        self.queue.append((number, message))
        self.arrival = message.arrival
        self.filled.set()
        self.idle.clear()

    def take_up(self, messages: Iterable[tuple[int, Message]]) -> None:
        """Begin with what was journalled and not answered before the last end, however much it is."""
        for number, message in messages:
            self.put(number, message)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold it between two messages: those that come meanwhile wait."""
        self._holders += 1
        self._free.clear()
        try:
            await self._between.wait()
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._free.set()

    async def run(self, connection: Connection, connected: asyncio.Event) -> None:
        """Process messages in order until cancelled, and publish what comes of them.

        While the broker is away they wait in the queue, so that no output is made that cannot be sent.
        """
        while True:
            await self.filled.wait()
            while not (connected.is_set() and self._free.is_set()):  # either may end while the other is waited for
                await connected.wait()
                await self._free.wait()
            began = time.monotonic_ns()
            while self.queue and (mark := time.monotonic_ns()) - began < TURN_NS:
                was_full = self.full
                number, message = self.queue.popleft()
                self._between.clear()
                for output in self.answering(self.pipeline, number, message):
                    now = time.monotonic_ns()
                    self.steps.note(now - mark)
                    self.ends.note(now - message.clock_ns)
                    self.publish(connection, message, output, now)
                    mark = time.monotonic_ns()
                    if mark - began >= TURN_NS:  # a long text, or a slow model
                        await self.let_others(connection)
                        began = mark = time.monotonic_ns()
                self._between.set()
                self.done = number + 1
                if was_full:
                    connection.resume()
                if not self._free.is_set():
                    break
            if not self.queue:
                self.filled.clear()
                self.idle.set()
                connection.resume()
            await self.let_others(connection)

    async def let_others(self, connection: Connection) -> None:
        """Give the loop away, for longer when the broker is far behind with its acknowledgements."""
        self.steps.fold_if_many()
        self.ends.fold_if_many()
        self.turns += 1
        await asyncio.sleep(0)
        if connection.outstanding >= (STUCK_MAX if connection.stuck else OUTSTANDING_MAX):
            # They come on the same socket as messages, which is not read for ever while the queue is full.
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await connection.settled(below=OUTSTANDING_MAX // 2)

    def publish(self, connection: Connection, message: Message, output: Output | Reply, now_ns: int) -> None:
        """Publish an output, with the time it took since its message arrived until `now_ns`; or a reply."""
        if isinstance(output, Reply):
            connection.publish(output.topic, output.payload, 1)
            return
        if self.target.topic is None:
            return
        latency_us = (now_ns - message.clock_ns) / 1000.0
        topic = output_topic(self.target.topic, output.pipeline, output.key)
        if topic.startswith(BRIDGE):  # by a key that a stranger chose: it would be a request of ours to ourselves
            self.pipeline.counts["output_reserved"] += 1
            return
        payload = self.pipeline.codec.encode(msgspec.structs.replace(output, latency_us=latency_us))
        connection.publish(topic, payload, self.target.qos, self.target.retain)
