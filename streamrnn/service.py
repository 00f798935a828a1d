"""Service: the process. Messages in by MQTT, through the pipelines, outputs out; start, drain, stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from typing import Any

from streamrnn.beside import beside
from streamrnn.build import STATE_TOPIC, build_pipelines, mqtt_settings
from streamrnn.config import Config
from streamrnn.edges.mqtt import Connection
from streamrnn.edges.recovery import recover
from streamrnn.edges.store import Store
from streamrnn.events import Message
from streamrnn.keys import BRIDGE
from streamrnn.pipeline import Pipeline
from streamrnn.privacy import notices
from streamrnn.requests import concerns
from streamrnn.serving.control import Control
from streamrnn.serving.discovery import Discovery
from streamrnn.serving.info import Info
from streamrnn.serving.keeping import open_store
from streamrnn.serving.lane import Lane, unkept
from streamrnn.serving.reload import Reloader
from streamrnn.serving.selftest import SelfTest
from streamrnn.serving.upkeep import Upkeep
from streamrnn.warm import warm_aloud

log = logging.getLogger(__name__)

TROUBLES = ("lost", "refused", "subscribe_refused", "redelivered", "undecodable", "publish_dropped")
DRAIN_S = 10.0
GOODBYE_S = 2.0
STATUS_S = 60.0


class Service:
    """The daemon of one configuration.

    Parameters
    ----------
    config
        What to run.
    read
        The configuration as its files have it now, for a reload.

    Attributes
    ----------
    lanes
        One for each pipeline, exchanged by a reload.
    ready
        Set when kernels are warm, what was kept is recovered, and subscriptions are granted.
    """

    def __init__(self, config: Config, read: Callable[[], Config] | None = None) -> None:
        self.config = config
        self.reloader = Reloader(self, read or (lambda: config))
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.connected = asyncio.Event()
        self.lanes: list[Lane] = []
        self.connection: Connection | None = None
        self.store: Store | None = None
        self.upkeep: Upkeep | None = None
        self.selftest = SelfTest(config.mqtt.self_test)
        self.discovery = Discovery(config, {})
        self.control = Control(self, self.reloader.reload)
        self.info = Info(self)
        self._group = asyncio.TaskGroup()  # of all that runs while messages are taken
        self._running: dict[Lane, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run until stopped: by a signal (see `serving.signals`) or by `stop`.

        Raises
        ------
        StateError
            Another process uses the state directory, or it cannot be made.
        StreamrnnError
            The address for metrics cannot be listened on.
        """
        for notice in notices(self.config):
            log.info(notice)
        if self.config.http is None:
            await self._begin()
            return
        from streamrnn.serving.metrics import watching

        with watching(self, self.config.http.listen):
            await self._begin()

    async def _begin(self) -> None:
        """Compile, recover, serve."""
        for name, spec in self.config.pipelines.items():
            if not await beside(lambda name=name, spec=spec: warm_aloud(name, spec), self.stopping, "warm"):  # type: ignore[misc]
                return
        pipelines = build_pipelines(self.config)
        with ExitStack() as stack:
            stack.callback(_close, pipelines)
            if self.config.state is not None:
                self.store = stack.enter_context(open_store(self.config, pipelines))
                if not await asyncio.to_thread(recover, self.store, self.going):
                    log.info("stopped before everything was recovered; the journal has it")
                    return
                await asyncio.to_thread(self.store.begin)
            await self._serve(pipelines)

    async def _serve(self, pipelines: dict[str, Pipeline[Any]]) -> None:
        """Take messages and answer them until it is time to stop."""
        self.lanes += [self.lane(self.config, pipeline) for pipeline in pipelines.values()]
        self.discovery = Discovery(self.config, pipelines)
        self.discovery.recall()
        connection = Connection(mqtt_settings(self.config), self._topics(), self.take, self._on_state)
        self.connection = connection
        pipelines.clear()  # the lanes have them, and let go of those that a reload exchanges
        try:
            async with self._group as group:
                if self.store is not None:
                    self.upkeep = Upkeep(self.store, self.lanes, connection, self._say_state)
                    self.upkeep.take_up()
                self._spawn(connection.run(), "mqtt")
                for lane in self.lanes:
                    self.start(lane)
                self._spawn(self._report(), "report")
                self._spawn(self.selftest.run(connection, _inputs(self.config)), "self-test")
                self._spawn(self.discovery.run(connection, self.connected), "discovery")
                self._spawn(self.info.run(connection, self.connected), "info")
                self._spawn(self.control.run(), "control")
                if self.upkeep is not None:
                    self._spawn(self.upkeep.run(), "upkeep")
                self._spawn(self.reloader.run(), "reload")
                announce = group.create_task(self._announce(connection), name="announce")
                await self.stopping.wait()
                announce.cancel()
                await self._drain(connection)
                for task in (*self._tasks, *self._running.values()):
                    task.cancel()
        finally:
            self._log_status()
            for lane in self.lanes:
                lane.pipeline.close()

    # Lanes, which a reload exchanges

    def lane(self, config: Config, pipeline: Pipeline[Any]) -> Lane:
        """Return the lane of a pipeline of a configuration; see `start`."""
        spec = config.pipelines[pipeline.name]
        return Lane(pipeline, spec.output, spec.limits.queue, unkept if self.store is None else self.store.answers)

    def start(self, lane: Lane) -> None:
        """Run a lane."""
        assert self.connection is not None  # noqa: S101
        running = lane.run(self.connection, self.connected)
        self._running[lane] = self._group.create_task(running, name=f"pipeline {lane.pipeline.name}")

    async def halt(self, lane: Lane) -> None:
        """Run a lane no more, from between two messages on."""
        async with lane.held():
            task = self._running.pop(lane)
            task.cancel()
            await asyncio.wait({task})

    def go_on_with(self, config: Config) -> None:
        """Have the other parts follow: the lanes are those of this configuration now."""
        assert self.connection is not None  # noqa: S101
        before, after = _inputs(self.config), _inputs(config)
        self.config = config
        self.discovery.reconfigure(config, {lane.pipeline.name: lane.pipeline for lane in self.lanes})
        self.connection.change(self._topics())
        self.connection.resume()  # a queue may have more room now
        self.selftest.drop(before.keys() - after.keys())
        if fresh := after.keys() - before.keys():
            self._spawn(self.selftest.run(self.connection, fresh), "self-test")

    def stop(self) -> None:
        """Ask the service to drain and end."""
        self.stopping.set()

    def going(self) -> bool:
        """Whether nobody asked it to stop."""
        return not self.stopping.is_set()

    def take(self, message: Message) -> bool | None:
        """Put a message in the queue of every pipeline it is for.

        True: it may be acknowledged. None: when it is safe on the disk. False: a queue is full.
        """
        request = message.topic.startswith(BRIDGE)
        if request:
            if not self.control.hear(message):
                return True  # answered; or our own word, seen by a pipeline that listens to everything
        elif self.selftest.is_ours(message) or self.discovery.hear(message):
            return True
        store, upkeep = self.store, self.upkeep
        if store is not None and upkeep is not None and (number := store.known(message)) is not None:
            return upkeep.may_acknowledge(number, message) or None
        meant = [lane for lane in self.lanes if concerns(lane.pipeline, message)]
        # What is too large is let go here: a queue of such messages, and a journal, would take all memory and disk.
        lanes = [lane for lane in meant if request or lane.pipeline.fits(message)]
        full = [lane for lane in lanes if lane.full]
        if full:
            if message.qos == 0:
                for lane in full:
                    lane.pipeline.counts["queue_dropped"] += 1
                if request:
                    self.control.refuse(message, "the queue is full: try again, at QoS 1 it waits")
            return False
        if len(lanes) < len(meant):
            for lane in meant:
                if lane not in lanes:
                    lane.pipeline.refuse(message)
        if not lanes:
            return True
        if store is None or upkeep is None:
            for lane in lanes:
                lane.put(0, message)
            return True
        if message.qos and store.journal.full:
            return False
        number = store.append(message, [lane.pipeline.name for lane in lanes])
        for lane in lanes:
            lane.put(number, message)
        return upkeep.may_acknowledge(number, message) or None

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something until the end of the service."""
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(self._group.create_task(work, name=name))

    def _topics(self) -> list[tuple[str, int]]:
        """Return what is subscribed to."""
        return list(
            (dict.fromkeys((*self.discovery.topics, *self.control.topics), 1) | _inputs(self.config)).items()
        )

    def _on_state(self, state: str) -> None:
        if state == "lost":
            self.connected.clear()
            if self.upkeep is not None:
                self.upkeep.connection_lost()
        elif state == "connected" and self.connection is not None:
            if self.store is not None and not self.connection.session_present:
                self.store.session_lost()
            if not self.connection.session_present:
                self.discovery.announce_all()  # a broker that forgot us may have forgotten what it retained
            self.connected.set()
            self._say_state()

    def _say_state(self) -> None:
        """Tell who watches `STATE_TOPIC` that we are here, and whether what we learn is being kept."""
        fault = self.store.fault if self.store is not None else None
        word = "online" if fault is None else f"online, not keeping: {fault}"
        if self.connection is not None and self.connected.is_set():
            self.connection.publish(STATE_TOPIC, word.encode(), 1, retain=True)

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
        if self.store is not None:
            log.info("state: %s", self.store.status())
        if self.control.counts:
            log.info("control: %s", ", ".join(f"{n} {name}" for name, n in self.control.counts.items()))
        if self.selftest.counts:
            log.info("subscriptions: %s", ", ".join(f"{n} {name}" for name, n in self.selftest.counts.items()))

    async def _drain(self, connection: Connection) -> None:
        """Take no more, answer what was taken, and say goodbye; within a deadline."""
        log.info("stopping: draining")
        try:
            async with asyncio.timeout(DRAIN_S if self.connected.is_set() else 0):
                connection.stop_receiving()
                while busy := [lane for lane in self.lanes if not lane.idle.is_set()]:
                    await busy[0].idle.wait()
                await connection.settled()
        except TimeoutError:
            waiting = sum(len(lane.queue) for lane in self.lanes)
            kept = "; the journal has them" if self.store is not None else ""
            log.warning("stopping: %d messages not answered, or not all outputs with the broker%s", waiting, kept)
        if self.upkeep is not None:
            await self.upkeep.finish()
        try:
            async with asyncio.timeout(GOODBYE_S if self.connected.is_set() else 0):
                connection.publish(STATE_TOPIC, b"offline", 1, retain=True)
                await connection.settled()
        except TimeoutError:
            log.warning("stopping: without the broker's goodbye")


def _close(pipelines: Mapping[str, Pipeline[Any]]) -> None:
    for pipeline in pipelines.values():
        pipeline.close()


def _inputs(config: Config) -> dict[str, int]:
    """Return the topic filters of all pipelines, each with its QoS."""
    topics: dict[str, int] = {}
    for spec in config.pipelines.values():
        for topic in spec.input.topic:
            topics[topic] = max(spec.input.qos, topics.get(topic, 0))
    return topics
