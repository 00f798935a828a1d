"""Discovery: the streams of the service are announced to Home Assistant, and taken back when their pipeline goes.

It looks for new streams once a second, beside the events, and publishes a few announcements at a time: a thousand
streams must not stand in the way of one event.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from streamrnn.build import STATE_TOPIC
from streamrnn.config import Config
from streamrnn.edges.disk import words, write_private
from streamrnn.edges.mqtt import Connection
from streamrnn.events import Message
from streamrnn.pipeline import Pipeline
from streamrnn.serving.homeassistant import device, discovery_topic, is_announced
from streamrnn.settings.specs import output_topic

log = logging.getLogger(__name__)

FILE: Final = "home_assistant.json"  # in the state directory: what was announced, to be taken back by a later run
TICK_S: Final = 1.0
PER_TICK: Final = 20  # announcements
OUTSTANDING_MAX: Final = 1000  # publishes that wait for the broker, beyond which announcements wait
DUE_MAX: Final = 1000  # publishes to come, beyond which no device makes room for another
SCAN_MAX: Final = 5000  # streams looked at in a tick


class Discovery:
    """Keeps Home Assistant's devices in line with the streams of the service.

    Parameters
    ----------
    config
        Of the service.
    pipelines
        Running, by name.

    Attributes
    ----------
    topics
        What to subscribe to: where Home Assistant says that it has started.
    announced
        Name of pipeline and key of each device, by its discovery topic.
    counts
        beyond: how often a stream was not announced, since there were `home_assistant.devices` already.
    """

    def __init__(self, config: Config, pipelines: Mapping[str, Pipeline[Any]]) -> None:
        self.config = config
        self.pipelines = dict(pipelines)
        self.spec = config.home_assistant
        self.topics = _status_topics(config)
        self.announced: dict[str, tuple[str, str]] = {}
        self.counts: Counter[str] = Counter()
        self._file = None if config.state is None else Path(config.state) / FILE
        self._known: dict[str, set[str]] = {}  # keys looked at, by pipeline
        self._seen: dict[str, int] = {}  # events of each pipeline at the last look
        # Topics to publish on: the device of this stream, or None to take it back.
        self._due: OrderedDict[str, tuple[str, str] | None] = OrderedDict()
        self._unsaved = False
        self._unwritable = False  # the last time
        self._again = False

    def hear(self, message: Message) -> bool:
        """Take notice of a message; whether it is one of our announcements, which is nobody's event."""
        if message.topic in self.topics and message.payload == b"online":
            log.info("home assistant has started: announcing %d devices again", len(self.announced))
            self.announce_all()
        return message.topic in self.announced

    def announce_all(self) -> None:
        """Announce again what is announced, at the next tick: who floods us with birth messages gains nothing."""
        self._again = True

    def recall(self) -> None:
        """Go on from what an earlier run announced."""
        if self._file is None:
            return
        try:
            kept = json.loads(self._file.read_text())
            announced = {str(topic): (str(name), str(key)) for topic, (name, key) in kept.items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("%s: devices announced earlier are not known: %s", self._file, type(error).__name__)
            return
        self._go_on_from(announced)

    def _go_on_from(self, announced: Mapping[str, tuple[str, str]]) -> None:
        """Know what was `announced`; what is not to be any more is taken back."""
        self.announced = dict(announced)
        for name, key in self.announced.values():
            self._known.setdefault(name, set()).add(key)
        self._take_back_strangers()
        self.announce_all()  # it may be another version that describes them otherwise

    def reconfigure(self, config: Config, pipelines: Mapping[str, Pipeline[Any]]) -> None:
        """Go on with other pipelines; their devices are announced anew, and those of others taken back."""
        self.config, self.pipelines = config, dict(pipelines)
        self._seen.clear()
        self._take_back_strangers()
        self.announce_all()

    async def run(self, connection: Connection, connected: asyncio.Event) -> None:
        """Announce streams as they come, until cancelled."""
        for name, spec in self.config.pipelines.items():
            if self.spec.enabled and not is_announced(name, spec):
                log.warning("%s: not announced to home assistant: its output.topic has no {key}", name)
        while True:
            await connected.wait()
            self._look()
            if self._again:
                self._again = False
                self._due.update(self.announced)
            await self._save()  # first: what is announced and not noted down would never be taken back
            for topic in list(islice(self._due, PER_TICK)):
                if connection.outstanding >= OUTSTANDING_MAX:
                    break
                self._publish(connection, topic)
                await asyncio.sleep(0)  # an event may wait
            await asyncio.sleep(TICK_S)

    def _publish(self, connection: Connection, topic: str) -> None:
        stream = self._due.pop(topic)
        if stream is None:
            self._unsaved = True  # it need not be remembered any more
            connection.publish(topic, b"", 1, retain=True)  # the broker forgets it, and Home Assistant the device
            return
        name, key = stream
        spec = self.config.pipelines[name]
        connection.publish(
            topic, device(name, spec, key, self._state_topic(name, key), STATE_TOPIC), 1, retain=True
        )

    async def _save(self) -> None:
        if not self._unsaved or self._file is None:
            return
        self._unsaved = False
        kept = {topic: ("", "") for topic, stream in self._due.items() if stream is None} | self.announced
        try:
            await asyncio.to_thread(write_private, self._file, json.dumps(kept).encode())
        except OSError as error:
            self._unsaved = True  # at the next tick again
            if not self._unwritable:
                log.warning("%s: cannot be written: %s; it is tried again", self._file, words(error))
            self._unwritable = True
        else:
            self._unwritable = False

    def _look(self) -> None:
        """Find streams that are not announced. The streams used last are the last of a pipeline's."""
        if not self.spec.enabled:
            return
        for name, pipeline in self.pipelines.items():
            spec = self.config.pipelines[name]
            if not is_announced(name, spec):
                continue
            events = pipeline.counts["events"]
            new = events - self._seen.get(name, events - len(pipeline.streams))
            self._seen[name] = events
            known = self._known.setdefault(name, set())
            for key in islice(reversed(pipeline.streams), min(new, SCAN_MAX)):
                if key not in known and not self._meet(name, key, known):
                    break

    def _meet(self, name: str, key: str, known: set[str]) -> bool:
        """Announce a stream; whether there was room for it."""
        if len(self.announced) >= self.spec.devices and not self._make_room():
            if not self.counts["beyond"]:
                log.warning("home_assistant.devices: %d are announced, no more will be", self.spec.devices)
            self.counts["beyond"] += 1
            return False
        known.add(key)
        topic = self._topic(name, key)
        self.announced[topic] = self._due[topic] = (name, key)
        self._unsaved = True
        return True

    def _make_room(self) -> bool:
        """Take back a device whose stream was let go; whether there was one.

        None while much is to be published: keys that come and go faster than that must not fill the memory.
        """
        if len(self._due) >= DUE_MAX:
            return False
        for topic, (name, key) in self.announced.items():
            pipeline = self.pipelines.get(name)
            if pipeline is None or key not in pipeline.streams:
                self._take_back(topic)
                return True
        return False

    def _take_back_strangers(self) -> None:
        """Take back devices that the configuration would not announce, or not there."""
        for topic, (name, key) in list(self.announced.items()):
            spec = self.config.pipelines.get(name)
            wanted = self.spec.enabled and spec is not None and is_announced(name, spec)
            if not wanted or self._topic(name, key) != topic:
                self._take_back(topic)

    def _take_back(self, topic: str) -> None:
        name, key = self.announced.pop(topic)
        self._known.get(name, set()).discard(key)
        self._due[topic] = None
        self._unsaved = True

    def _state_topic(self, name: str, key: str) -> str:
        template = self.config.pipelines[name].output.topic
        assert template is not None  # noqa: S101 of those that are announced
        return output_topic(template, name, key)

    def _topic(self, name: str, key: str) -> str:
        return discovery_topic(self.spec.prefix, name, key, self._state_topic(name, key))


def _status_topics(config: Config) -> list[str]:
    return [f"{config.home_assistant.prefix}/status"] if config.home_assistant.enabled else []
