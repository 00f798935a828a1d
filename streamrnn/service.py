"""Service: the process. Messages in by MQTT, through the pipelines, outputs out; start, signals, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from streamrnn.budget import budget
from streamrnn.build import STATE_TOPIC, build_pipelines, mqtt_settings
from streamrnn.config import Config
from streamrnn.edges.mqtt import Connection
from streamrnn.events import Message, Output
from streamrnn.pipeline import Pipeline
from streamrnn.specs import OutputTarget
from streamrnn.warm import warm

log = logging.getLogger(__name__)

TURN_S = 0.01  # a pipeline processes before others get the loop
OUTSTANDING_MAX = 5000  # publishes that wait for the broker's acknowledgement before we do, too ...
SETTLE_S = 1.0  # ... for so long
TROUBLES = ("lost", "refused", "subscribe_refused", "redelivered", "undecodable", "publish_dropped")
DRAIN_S = 10.0
STATUS_S = 60.0


class Lane:
    """One pipeline in service: its bounded queue, and the task that empties it."""

    def __init__(self, pipeline: Pipeline[Any], target: OutputTarget, queue_max: int) -> None:
        self.pipeline = pipeline
        self.target = target
        self.queue_max = queue_max
        self.queue: deque[Message] = deque()
        self.filled = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def full(self) -> bool:
        """Whether the queue has no room."""
        return len(self.queue) >= self.queue_max

    def put(self, message: Message) -> None:
        """Add a message; the caller has seen that there is room."""
        self.queue.append(message)
        self.filled.set()
        self.idle.clear()

    async def run(self, connection: Connection, connected: asyncio.Event) -> None:
        """Process messages in order until cancelled, and publish what comes of them.

        While the broker is away they wait in the queue, so that no output is made that cannot be sent.
        """
        while True:
            await self.filled.wait()
            await connected.wait()
            began = time.monotonic()
            while self.queue and time.monotonic() - began < TURN_S:
                was_full = self.full
                message = self.queue.popleft()
                for output in self.pipeline.answers(message):
                    self.publish(connection, message, output)
                    if time.monotonic() - began >= TURN_S:  # a long text, or a slow model
                        await self.let_others(connection)
                        began = time.monotonic()
                if was_full:
                    connection.resume()
            if not self.queue:
                self.filled.clear()
                self.idle.set()
                connection.resume()
            await self.let_others(connection)

    async def let_others(self, connection: Connection) -> None:
        """Give the loop away, for longer when the broker is far behind with its acknowledgements."""
        await asyncio.sleep(0)
        if connection.outstanding >= OUTSTANDING_MAX:
            # They come on the same socket as messages, which is not read for ever while the queue is full.
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await connection.settled(below=OUTSTANDING_MAX // 2)

    def publish(self, connection: Connection, message: Message, output: Output) -> None:
        """Publish an output, with the time it took since its message arrived."""
        if self.target.topic is None:
            return
        latency_us = (time.monotonic_ns() - message.clock_ns) / 1000.0
        topic = self.target.topic.replace("{pipeline}", output.pipeline).replace("{key}", output.key)
        payload = self.pipeline.codec.encode(msgspec.structs.replace(output, latency_us=latency_us))
        connection.publish(topic, payload, self.target.qos, self.target.retain)


class Service:
    """The daemon of one configuration.

    Parameters
    ----------
    config
        What to run.

    Attributes
    ----------
    ready
        Set when kernels are warm and subscriptions are granted.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.connected = asyncio.Event()
        self.lanes: list[Lane] = []
        self.connection: Connection | None = None

    async def run(self) -> None:
        """Run until stopped: by a signal (see `signals`) or by `stop`."""
        if self.config.state is not None:
            log.warning("state: this version keeps nothing across restarts; the key has no effect yet")
        for name, spec in self.config.pipelines.items():
            ceiling = budget(spec).total
            if ceiling > spec.limits.memory_mb * 2**20:
                log.warning("%s: may need %d MiB with all its keys, above limits.memory_mb", name, ceiling >> 20)
            log.info("%s: compiling kernels, or loading them from the cache", name)
            await asyncio.to_thread(warm, spec)
        pipelines = build_pipelines(self.config)
        self.lanes = [
            Lane(pipeline, self.config.pipelines[name].output, self.config.pipelines[name].limits.queue)
            for name, pipeline in pipelines.items()
        ]
        topics: dict[str, int] = {}
        for spec in self.config.pipelines.values():
            for topic in spec.input.topic:
                topics[topic] = max(spec.input.qos, topics.get(topic, 0))
        connection = Connection(mqtt_settings(self.config), list(topics.items()), self.take, self._on_state)
        self.connection = connection
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(connection.run(), name="mqtt")]
                tasks += [
                    group.create_task(lane.run(connection, self.connected), name=f"pipeline {lane.pipeline.name}")
                    for lane in self.lanes
                ]
                tasks.append(group.create_task(self._report(), name="report"))
                announce = group.create_task(self._announce(connection), name="announce")
                await self.stopping.wait()
                announce.cancel()
                await self._drain(connection)
                for task in tasks:
                    task.cancel()
        finally:
            for lane in self.lanes:
                lane.pipeline.close()
            self._log_status()

    def stop(self) -> None:
        """Ask the service to drain and end."""
        self.stopping.set()

    def take(self, message: Message) -> bool:
        """Put a message in the queue of every pipeline it is for; False when one of them is full."""
        if message.topic == STATE_TOPIC:
            return True  # our own word, seen by a pipeline that listens to everything
        lanes = [lane for lane in self.lanes if lane.pipeline.keys.key(message.topic) is not None]
        full = [lane for lane in lanes if lane.full]
        if full:
            if message.qos == 0:
                for lane in full:
                    lane.pipeline.counts["queue_dropped"] += 1
            return False
        for lane in lanes:
            lane.put(message)
        return True

    def _on_state(self, state: str) -> None:
        if state == "lost":
            self.connected.clear()
        elif state == "connected" and self.connection is not None:
            self.connected.set()
            self.connection.publish(STATE_TOPIC, b"online", 1, retain=True)

    async def _announce(self, connection: Connection) -> None:
        await connection.subscribed()
        log.info("ready: %s", ", ".join(lane.pipeline.name for lane in self.lanes))
        self.ready.set()

    async def _report(self) -> None:
        """Log how it goes, once a minute."""
        seen = 0
        while True:
            await asyncio.sleep(STATUS_S)
            events = sum(lane.pipeline.counts["events"] for lane in self.lanes)
            if events != seen:
                self._log_status()
                seen = events

    def _log_status(self) -> None:
        for lane in self.lanes:
            log.info("%s: %s, %d waiting", lane.pipeline.name, lane.pipeline.status(), len(lane.queue))
        counts = self.connection.counts if self.connection is not None else {}
        troubles = [f"{counts[name]} {name}" for name in TROUBLES if counts.get(name)]
        if troubles:
            log.info("mqtt: %s", ", ".join(troubles))

    async def _drain(self, connection: Connection) -> None:
        """Take no more, answer what was taken, and say goodbye; within a deadline."""
        log.info("stopping: draining")
        try:
            async with asyncio.timeout(DRAIN_S if self.connected.is_set() else 0):
                connection.stop_receiving()
                for lane in self.lanes:
                    await lane.idle.wait()
                connection.publish(STATE_TOPIC, b"offline", 1, retain=True)
                await connection.settled()
        except TimeoutError:
            waiting = sum(len(lane.queue) for lane in self.lanes)
            log.warning("stopping: without the broker's goodbye, %d messages not processed", waiting)


@contextmanager
def signals(service: Service) -> Iterator[None]:
    """SIGTERM and SIGINT ask the service to stop; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if service.stopping.is_set():
            log.warning("stopping at once")
            os._exit(1)
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
