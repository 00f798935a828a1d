"""The daemon as its users run it, in a process of its own, and a plain client to talk to it through the broker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

LIMIT_S = 120.0  # for a test that hangs, never for one that passes


class Daemon:
    """`streamrnn run` over a configuration text, behind the words of another command if there are any."""

    def __init__(
        self, directory: Path, config: str, prefix: tuple[str, ...] = (), options: tuple[str, ...] = ()
    ) -> None:
        self._prefix = prefix
        self._options = options
        self.path = directory / "streamrnn.yaml"
        self.path.write_text(config)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Daemon:
        command = [*self._prefix, sys.executable, "-m", "streamrnn", "run", *self._options, str(self.path)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, name="daemon log")
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def says(self, words: str, times: int = 1) -> str:
        """Wait for a log line with these words."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: sum(words in line for line in self._lines) >= times, timeout=LIMIT_S
            )
        assert found, f"never said {words!r}:\n{self.log}"
        return next(line for line in self._lines if words in line)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self) -> int:
        assert self._process is not None
        return self._process.wait(LIMIT_S)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()


class Client:
    """Publishes, and collects what comes on some topics."""

    def __init__(self, port: int, *topics: str) -> None:
        self._port = port
        self._topics = topics
        self._got: list[paho.MQTTMessage] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._paho = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._paho.max_inflight_messages_set(0)
        self._paho.on_message = self._on_message
        self._paho.on_connect = self._on_connect
        self._paho.on_subscribe = lambda *_: self._subscribed.set()

    def __enter__(self) -> Client:
        self._paho.connect("127.0.0.1", self._port)
        self._paho.loop_start()
        if self._topics:
            assert self._subscribed.wait(LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()

    def publish(self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False) -> None:
        self._paho.publish(topic, payload, qos, retain)

    def flush(self) -> None:
        """Wait until the broker has acknowledged all that was published."""
        deadline = time.monotonic() + LIMIT_S
        while self._paho._out_messages:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def wait_for(self, count: int) -> list[paho.MQTTMessage]:
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self._got) >= count, timeout=LIMIT_S)
        assert enough, f"{len(self._got)} of {count} messages came"
        return list(self._got)

    def outputs(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in self.wait_for(count)]

    def until(self, enough: Callable[[list[paho.MQTTMessage]], bool]) -> list[paho.MQTTMessage]:
        """Wait until what came is enough."""
        with self._changed:
            found = self._changed.wait_for(lambda: enough(self._got), timeout=LIMIT_S)
        assert found, f"{len(self._got)} messages came, and were not enough"
        return list(self._got)

    @staticmethod
    def pause(seconds: float) -> None:
        """Let something happen that nothing tells of."""
        time.sleep(seconds)

    @property
    def taken(self) -> list[paho.MQTTMessage]:
        return list(self._got)

    @property
    def got(self) -> int:
        return len(self._got)

    def _on_connect(self, *_: object) -> None:
        if self._topics:
            self._paho.subscribe([(topic, 1) for topic in self._topics])

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self._got.append(message)
            self._changed.notify_all()
