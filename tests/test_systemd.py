"""What the daemon tells its supervisor, heard by a socket of the test in place of systemd."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import LIMIT_S, Client, Daemon
from mosquitto import Mosquitto

from streamrnn.build import build_pipelines
from streamrnn.config import loads
from streamrnn.events import Message
from streamrnn.service import Service
from streamrnn.serving.lane import Lane
from streamrnn.settings.specs import OutputTarget
from streamrnn.systemd import Notifier, Watch

CONFIG = """
mqtt: {{url: "{url}"}}
pipelines:
  plant: {{input: {{topic: plant/+}}, model: {{hidden: 8}}}}
"""


class Supervisor:
    """Hears what is sent to NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def until(self, word: str, times: int = 1) -> str:
        """Wait for a datagram with this word."""
        deadline = time.monotonic() + LIMIT_S
        while sum(word in each for each in self.heard) < times:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            self.heard.append(self._socket.recv(4096).decode())
        return [each for each in self.heard if word in each][times - 1]

    def silent(self, word: str, seconds: float) -> bool:
        """Whether nothing with this word comes for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                said = self._socket.recv(4096).decode()
            except TimeoutError:
                return True
            self.heard.append(said)
            if word in said:
                return False
        return True

    def forget(self) -> None:
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            self.heard.clear()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """After mosquitto, which speaks to the same socket."""
    path = tmp_path / "notify"
    heard = Supervisor(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield heard
    heard.close()


def test_ready_is_said_after_subscribing_then_it_is_heard_of_until_it_stops(
    supervisor: Supervisor, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Daemon(tmp_path, CONFIG.format(url=mosquitto.url)) as daemon, Client(mosquitto.port) as client:
        supervisor.until("READY=1")
        assert "plant/+" in mosquitto.log
        daemon.says("ready")
        client.publish("plant/pump", '{"value": 1}')
        supervisor.until("1 events")
        supervisor.until("WATCHDOG=1", times=4)
        assert daemon.stop() == 0
        supervisor.until("STOPPING=1")
    assert not any("READY=1" in each and "EXTEND" in each for each in supervisor.heard)


def test_a_reload_begins_and_ends_for_systemd_too(
    supervisor: Supervisor, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Daemon(tmp_path, CONFIG.format(url=mosquitto.url)) as daemon:
        supervisor.until("WATCHDOG=1")
        daemon.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in supervisor.until("RELOADING=1")
        supervisor.until("READY=1", times=2)
        words = [each.split("=")[0] for each in supervisor.heard if each.startswith(("READY", "RELOADING"))]
        assert ["READY", "RELOADING", "READY"] == words
        assert daemon.stop() == 0


def test_while_the_broker_is_away_it_asks_for_time_and_is_not_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG.format(url="mqtt://127.0.0.1:1")):
        said = supervisor.until("waiting for the broker", times=3)
    assert "EXTEND_TIMEOUT_USEC=60000000" in said
    assert not any("READY=1" in each or "WATCHDOG=1" in each for each in supervisor.heard)


def test_a_process_that_stands_still_is_not_heard_of(
    supervisor: Supervisor, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Daemon(tmp_path, CONFIG.format(url=mosquitto.url)) as daemon:
        supervisor.until("WATCHDOG=1")
        daemon.signal(signal.SIGSTOP)
        time.sleep(0.5)
        supervisor.forget()
        assert supervisor.silent("WATCHDOG=1", 3)
        daemon.signal(signal.SIGCONT)
        supervisor.until("WATCHDOG=1")


def test_a_lane_that_hangs_is_told_from_one_that_is_busy_or_waits_for_the_broker() -> None:
    config = loads(CONFIG.format(url="mqtt://127.0.0.1:1"))
    service = Service(config)
    (pipeline,) = build_pipelines(config).values()
    lane = Lane(pipeline, OutputTarget(), 10)
    service.lanes.append(lane)
    watch = Watch(service)
    lane.put(0, Message("plant/a", b"1"))
    assert [watch.alive(), watch.alive()] == [True, True]  # the broker is away
    service.connected.set()
    assert watch.alive()
    lane.turns += 1
    assert watch.alive()
    assert [watch.alive(), watch.alive()] == [False, False]
    lane.queue.clear()
    assert watch.alive()
    pipeline.close()


def test_a_watchdog_meant_for_another_process_is_none_of_ours() -> None:
    words = {"NOTIFY_SOCKET": "@abstract", "WATCHDOG_USEC": "3000000"}
    pids: tuple[dict[str, str], ...] = ({}, {"WATCHDOG_PID": str(os.getpid())}, {"WATCHDOG_PID": "1"})
    assert [3.0, 3.0, None] == [Notifier(words | more).watchdog_s for more in pids]
    assert Notifier({"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "x"}).watchdog_s is None


def test_a_supervisor_that_is_gone_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.send("READY=1")
    notifier.send("READY=1")
    assert ["cannot tell systemd how it goes: No such file or directory"] == caplog.messages
