"""A plant of three machines, telemetry as a function of its number; a daemon for it, who sends, and who gathers."""

from __future__ import annotations

import json
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import psutil

from streamrnn import config
from streamrnn.build import build_pipeline, build_pipelines
from streamrnn.codecs import encode
from streamrnn.edges import checkpoint
from streamrnn.edges.disk import StateFolder
from streamrnn.edges.statefile import Manifest, load
from streamrnn.edges.store import Store
from streamrnn.events import Message
from streamrnn.serving.keeping import open_store

CONFIG = """
mqtt: {{url: "{url}", client_id: soak, keepalive: {keepalive}}}
{state}durability: {durability}
checkpoint: {every}
pipelines:
  plant:
    input: {{topic: plant/+/telemetry, fields: [temperature], time: ts}}
    limits: {{queue: {queue}}}
{more}"""
# A broker that drops nothing by itself: what is lost then, we have lost.
PATIENT = ("max_queued_messages 0", "max_inflight_messages 200", "log_type error", "log_type warning")
BEHIND_MAX = 20_000
OUTPUTS = "streamrnn/plant/#"

_IDENTITY = re.compile(rb'"key":"([^"]*)","seq":(\d+),')
_LATENCY = re.compile(rb',"latency_us":[-+.e0-9]+')


def text(
    url: str,
    state: Path | None,
    durability: str = "second",
    every: int = 5000,
    keepalive: int = 60,
    queue: int = 10_000,
    more: str = "",
) -> str:
    """Return the configuration of the daemon."""
    where = "" if state is None else f"state: {state}\n"
    return CONFIG.format(
        url=url, state=where, durability=durability, every=every, keepalive=keepalive, queue=queue, more=more
    )


def topic(i: int) -> str:
    """Return the topic of event i."""
    return f"plant/pump-{i % 3}/telemetry"


def payload(i: int) -> bytes:
    """Return the payload of event i."""
    return json.dumps({"ts": 1.7e9 + i, "temperature": round(20 + (i % 97) / 7 + (i % 5) / 3, 3)}).encode()


def fingerprint(output: bytes) -> tuple[tuple[bytes, int], int]:
    """Return what identifies an output, and a checksum of all of it but its latency."""
    found = _IDENTITY.search(output)
    assert found is not None
    return (found[1], int(found[2])), zlib.crc32(_LATENCY.sub(b"", output))


def undisturbed(configuration: str, count: int) -> Iterator[tuple[tuple[bytes, int], int]]:
    """Yield the fingerprints of the outputs that a run without any trouble gives."""
    loaded = config.loads(configuration)
    pipeline = build_pipeline("plant", loaded.pipelines["plant"], loaded.seed)
    for i in range(count):
        for output in pipeline.process_all(Message(topic(i), payload(i))):
            yield fingerprint(encode(output))
    pipeline.close()


def chain(count: int) -> int:
    """Return the CRC 32 carried on over the payloads of the first events."""
    value = 0
    for i in range(count):
        value = zlib.crc32(payload(i), value)
    return value


@contextmanager
def opened(configuration: str) -> Iterator[Store]:
    """The store of a configuration over fresh pipelines."""
    loaded = config.loads(configuration)
    pipelines = build_pipelines(loaded)
    try:
        with open_store(loaded, pipelines) as store:
            yield store
    finally:
        for pipeline in pipelines.values():
            pipeline.close()


def kept(state: Path) -> Manifest:
    """Return what the newest checkpoint says of itself."""
    disk = StateFolder(state)
    newest = checkpoint.positions(disk, "plant")[-1]
    return load(disk, checkpoint.name_of("plant", newest)).manifest


class Gatherer:
    """Takes outputs in a session that the broker keeps, and holds one against the other.

    Attributes
    ----------
    found
        Checksum of the outputs, by identity.
    repeats, contradictions
        Outputs that came again: with the same content, and with another.
    """

    def __init__(self, port: int, *topics: str) -> None:
        self.found: dict[tuple[bytes, int], int] = {}
        self.repeats = 0
        self.contradictions = 0
        self.last = time.monotonic()
        self._subscribed = threading.Event()
        self._topics = topics
        self._paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="gatherer", clean_session=False)
        self._paho.on_connect = lambda *_: self._paho.subscribe([(each, 1) for each in self._topics])
        self._paho.on_subscribe = lambda *_: self._subscribed.set()
        self._paho.on_message = self._on_message
        self._paho.reconnect_delay_set(1, 1)
        self._paho.connect("127.0.0.1", port)

    def __enter__(self) -> Gatherer:
        self._paho.loop_start()
        assert self._subscribed.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()

    def until(self, count: int, quiet_s: float = 60.0) -> None:
        """Wait until so many different outputs have come, or none for a long time."""
        self.last = time.monotonic()
        while len(self.found) < count and time.monotonic() - self.last < quiet_s:
            time.sleep(0.05)

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        identity, checksum = fingerprint(message.payload)
        self.last = time.monotonic()
        before = self.found.get(identity)
        if before is None:
            self.found[identity] = checksum
        elif before == checksum:
            self.repeats += 1
        else:
            self.contradictions += 1


class Sender(threading.Thread):
    """Publishes the plant's events one after the other at QoS 1, so many a second, until told to stop.

    It waits when more than BEHIND_MAX of them are not answered.

    Attributes
    ----------
    sent
        Events published so far; each is with the broker when `stop` returns.
    """

    def __init__(self, port: int, rate: float, answered: Callable[[], int]) -> None:
        super().__init__(name="sender", daemon=True)
        self.sent = 0
        self.rate = rate
        self.answered = answered
        self._halt = threading.Event()
        self._paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="sender", clean_session=False)
        self._paho.max_inflight_messages_set(0)
        self._paho.reconnect_delay_set(1, 1)
        self._paho.connect("127.0.0.1", port)
        self._paho.loop_start()

    def run(self) -> None:
        """Publish."""
        began = time.monotonic()
        while not self._halt.is_set():
            due = int((time.monotonic() - began) * self.rate)
            if self.sent - self.answered() > BEHIND_MAX:  # a computer that cannot keep up: it is told as the rate
                began += (due - self.sent) / self.rate
                due = self.sent
            while self.sent < due:
                self._paho.publish(topic(self.sent), payload(self.sent), 1)
                self.sent += 1
            time.sleep(0.002)

    def stop(self) -> int:
        """Publish no more; wait until the broker has everything; return how many there are."""
        self._halt.set()
        self.join()
        deadline = time.monotonic() + 60
        while self._paho._out_messages and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self._paho._out_messages, "the broker does not take what is published"
        self._paho.disconnect()
        self._paho.loop_stop()
        return self.sent


def weight(pid: int) -> tuple[float, int, int]:
    """Return a process's resident MiB, threads and descriptors."""
    process = psutil.Process(pid)
    return process.memory_info().rss / 2**20, process.num_threads(), process.num_fds()
