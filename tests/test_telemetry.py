"""This computer as a sensor."""

from __future__ import annotations

import asyncio
import json
from collections import namedtuple

import psutil
import pytest

from streamrnn.telemetry import FIELDS, Telemetry, publish_telemetry

Disk = namedtuple("Disk", "read_bytes write_bytes")
Network = namedtuple("Network", "bytes_recv bytes_sent")


def use(monkeypatch: pytest.MonkeyPatch, disk: object, network: object) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: disk)
    monkeypatch.setattr(psutil, "net_io_counters", lambda: network)


def test_rates_are_bytes_a_second_since_the_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    use(monkeypatch, Disk(1000, 2000), Network(3000, 4000))
    telemetry.read(100.0)
    use(monkeypatch, Disk(1100, 2200), Network(3400, 4800))
    reading = telemetry.read(102.0)
    assert tuple(reading[field] for field in FIELDS[2:]) == (50.0, 100.0, 200.0, 400.0)
    assert reading["time"] == 102.0


def test_first_read_has_no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Disk(1000, 2000), Network(3000, 4000))
    reading = Telemetry().read(100.0)
    assert [reading[field] for field in FIELDS[2:]] == [0.0] * 4


def test_counter_that_falls_is_no_negative_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    use(monkeypatch, Disk(1000, 2000), Network(3000, 4000))
    telemetry.read(100.0)
    use(monkeypatch, Disk(0, 0), Network(0, 0))
    assert telemetry.read(101.0)["net_in"] == 0.0


def test_two_reads_in_one_instant_have_no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    use(monkeypatch, Disk(1000, 2000), Network(3000, 4000))
    telemetry.read(100.0)
    use(monkeypatch, Disk(1001, 2001), Network(3001, 4001))
    assert telemetry.read(100.0)["disk_read"] == 0.0


def test_a_computer_without_counters_reads_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise FileNotFoundError("/proc/diskstats")

    monkeypatch.setattr(psutil, "disk_io_counters", missing)
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)
    telemetry = Telemetry()
    telemetry.read(100.0)
    reading = telemetry.read(101.0)
    assert [reading[field] for field in FIELDS[2:]] == [0.0] * 4
    assert 0.0 <= reading["memory"] <= 100.0


class Recorder:
    """A connection that stops the sensor after `n` readings."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.stop = asyncio.Event()
        self.sent: list[tuple[str, dict[str, float], int]] = []

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool = False) -> None:
        self.sent.append((topic, json.loads(payload), qos))
        if len(self.sent) == self.n:
            self.stop.set()


def test_readings_are_published_until_stopped() -> None:
    async def scenario() -> None:
        recorder = Recorder(5)
        await publish_telemetry(recorder, "machine/telemetry", 200.0, recorder.stop)
        assert len(recorder.sent) == 5
        times = [reading["time"] for _, reading, _ in recorder.sent]
        assert sorted(times) == times
        topic, reading, qos = recorder.sent[0]
        assert ("machine/telemetry", 1, {"time", *FIELDS}) == (topic, qos, set(reading))

    asyncio.run(scenario())


def test_stopped_before_the_first_reading_publishes_nothing() -> None:
    async def scenario() -> None:
        recorder = Recorder(1)
        recorder.stop.set()
        await publish_telemetry(recorder, "machine/telemetry", 10.0, recorder.stop)
        assert recorder.sent == []

    asyncio.run(scenario())
