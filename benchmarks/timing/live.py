"""The daemon behind a real mosquitto: messages a second, latency, memory, and the time to start."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))  # the broker and the daemon of the service tests

from daemon import Daemon
from mosquitto import Mosquitto

from streamrnn.learn.detector import Detector
from timing.clock import Contestant, Effort, by_turns
from timing.load import Load, packets
from timing.replays import series
from timing.rows import Goal, Row

CONFIG = """
mqtt: {{url: "{url}", client_id: bench-{name}}}
pipelines:
  p:
    input: {{topic: "{name}/+", fields: [value], time: time, qos: {qos}}}
    learn: {{enabled: {learn}}}
    output: {{topic: "answers/{name}/{{key}}", qos: {qos}}}
"""
BROKER = ("max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true")
IN_FLIGHT = 200
RATE = 1000.0  # messages a second
WARM = 1500  # messages before anything is measured
ECHO = "aiomqtt echo"
KEYS, EVENTS_A_KEY = 300, 60


def throughput_rows(effort: Effort) -> list[Row]:
    """Rows of a closed loop of 200 messages in flight, learning on."""
    found = []
    for qos, goal in ((1, 12_000), (0, 16_000)):
        with _broker() as (broker, directory), _daemon(broker, directory, qos) as ours, _echo(broker, qos) as echo:
            values, peers = by_turns(ours.rate(effort.messages), {ECHO: echo.rate(effort.messages)}, effort.few)
        goals = [Goal(f">= {goal:,}", goal)]
        found.append(
            Row(f"through mosquitto, QoS {qos}, 200 in flight, learning on", "msg/s", values, goals, peers, True)
        )
    return found


def latency_rows(effort: Effort) -> list[Row]:
    """Rows of the time to an answer at 1,000 messages a second, QoS 1."""
    count = int(effort.pace_s * RATE)
    times: dict[str, list[tuple[float, float]]] = {"on": [], "off": [], ECHO: []}
    with (
        _broker() as (broker, directory),
        _daemon(broker, directory, 1) as on,
        _daemon(broker, directory, 1, learn=False) as off,
        _echo(broker, 1) as echo,
    ):
        for _ in range(effort.few):
            for name, end in (("on", on), ("off", off), (ECHO, echo)):
                p50, p99 = np.percentile(end.paced(count), (50, 99)).tolist()
                times[name].append((p50, p99))
    columns = {name: tuple(zip(*pairs, strict=True)) for name, pairs in times.items()}
    label = "latency at 1,000 a second, QoS 1, learning"
    on_goals = [Goal("<= 3 ms", 3.0), Goal("<= 1.5 x off", 1 / 1.5, "learning off")]
    peers_99 = {"learning off": columns["off"][1], ECHO: columns[ECHO][1]}
    return [
        Row(f"{label} on, p50", "ms", columns["on"][0], [Goal("<= 0.6 ms", 0.6)], {ECHO: columns[ECHO][0]}),
        Row(f"{label} on, p99", "ms", columns["on"][1], on_goals, peers_99),
        Row(f"{label} off, p50", "ms", columns["off"][0], (), {ECHO: columns[ECHO][0]}),
        Row(f"{label} off, p99", "ms", columns["off"][1], (), {ECHO: columns[ECHO][1]}),
    ]


def memory_rows(_: Effort) -> list[Row]:
    """Rows of resident memory: of a daemon with a full replay window, and for each further key."""
    with _as_installed(), _broker() as (broker, directory), _daemon(broker, directory, 1) as ours:
        ours.closed_loop(10_000)
        before = ours.resident
        for key in range(KEYS):
            ours.closed_loop(EVENTS_A_KEY, f"key{key}")
        after = ours.resident
    note = f"of {KEYS} keys with {EVENTS_A_KEY} events each; the history they declare is not counted"
    declared = Detector.FIRST * Detector.bytes_per_event(1) / 1024
    each = (after - before) / KEYS / 1024
    return [
        Row("resident memory of run, one pipeline", "MiB", [before / 2**20], [Goal("<= 180 MiB", 180.0)]),
        Row(
            "resident memory of a further key, beyond its window",
            "KiB",
            [each - declared],
            [Goal("<= 20 KiB", 20.0)],
            note=note,
        ),
    ]


def start_rows(effort: Effort) -> list[Row]:
    """Rows of the time from start to ready."""
    with _as_installed(), _broker() as (broker, directory):
        warm = [_start(broker, directory) for _ in range(effort.few)]
        found = [Row("start to ready, warm cache", "s", warm, [Goal("<= 1.5 s", 1.5)])]
        if effort.cold:
            cold = []
            for i in range(effort.few - 1):
                with _environment("STREAMRNN_CACHE_DIR", directory / f"cache{i}"):
                    cold.append(_start(broker, directory))
            found.append(Row("start to ready, empty cache", "s", cold, [Goal("<= 15 s", 15.0)]))
    return found


class End:
    """What answers behind a broker, and the client that loads it."""

    def __init__(self, load: Load, topic: str, qos: int, pid: int) -> None:
        self._load = load
        self._topic = topic
        self._qos = qos
        self._process = psutil.Process(pid)
        self._seen = 0

    @property
    def resident(self) -> int:
        """Bytes of memory that the process has."""
        return int(self._process.memory_info().rss)

    def rate(self, count: int) -> Contestant:
        """Return what measures the answers a second of so many messages."""
        return lambda: self.closed_loop(count)

    def closed_loop(self, count: int, key: str = "key") -> float:
        """Return the answers a second of so many messages, 200 in flight."""
        return self._load.closed_loop(self._next(count, key), IN_FLIGHT)

    def paced(self, count: int) -> list[float]:
        """Return the milliseconds to the answer of so many messages, a thousand a second."""
        return self._load.paced(self._next(count, "key"), RATE)

    def _next(self, count: int, key: str) -> list[bytes]:
        values = series(self._seen + count)[self._seen :]
        payloads = [
            json.dumps({"time": 1.7e9 + 60 * (self._seen + i), "value": round(float(value), 4)}).encode()
            for i, value in enumerate(values)
        ]
        self._seen += count
        return packets(self._topic.format(key=key), payloads, self._qos)


@contextlib.contextmanager
def _broker() -> Iterator[tuple[Mosquitto, Path]]:
    """A broker that drops nothing, lets more than 20 be in flight, and sends without waiting for TCP's answers."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Mosquitto(directory, BROKER, verbose=False) as broker:
            yield broker, directory


@contextlib.contextmanager
def _daemon(broker: Mosquitto, directory: Path, qos: int, learn: bool = True) -> Iterator[End]:
    name = "on" if learn else "off"
    (directory / name).mkdir()
    text = CONFIG.format(url=broker.url, qos=qos, name=name, learn=str(learn).lower())
    with Daemon(directory / name, text) as daemon:
        daemon.says("ready")
        load = Load(broker.port, f"load-{name}", f"answers/{name}/#")
        end = End(load, name + "/{key}", qos, daemon.pid)
        end.closed_loop(WARM)
        yield end
        load.close()
        if daemon.stop() != 0:
            raise RuntimeError(f"the daemon ended with an error:\n{daemon.log}")


@contextlib.contextmanager
def _echo(broker: Mosquitto, qos: int) -> Iterator[End]:
    command = [sys.executable, str(Path(__file__).with_name("echo.py")), str(broker.port), str(qos)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the echo did not start")
            load = Load(broker.port, "load-echo", "echo/out")
            end = End(load, "echo/in", qos, process.pid)
            end.closed_loop(WARM)
            yield end
            load.close()
        finally:
            process.kill()


@contextlib.contextmanager
def _environment(name: str, value: Path) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = str(value)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _as_installed() -> Iterator[None]:
    """Hide scipy from the daemon: a peer brings it, and Numba loads it where it is, which takes memory and time."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "scipy.py").write_text("raise ImportError\n")
        with _environment("PYTHONPATH", Path(name)):
            yield


def _start(broker: Mosquitto, directory: Path) -> float:
    """Return the seconds from start to ready."""
    began = time.perf_counter()
    with Daemon(directory, CONFIG.format(url=broker.url, qos=1, name="start", learn="true")) as daemon:
        daemon.says("ready")
        taken = time.perf_counter() - began
        daemon.stop()
    return taken
