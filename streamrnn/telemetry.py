"""This computer's own telemetry as a sensor that is always at hand: load, memory, disk and network.

It reads counters and publishes numbers; it is not a monitoring agent.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import Protocol

import psutil

FIELDS = ("cpu", "memory", "disk_read", "disk_write", "net_in", "net_out")


class Publisher(Protocol):
    """What `publish_telemetry` needs of a connection."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool = False) -> None:
        """Publish without waiting."""


class Telemetry:
    """Reads the counters of this computer; rates are since the read before."""

    def __init__(self) -> None:
        self._before = math.nan  # epoch seconds of the last read
        self._counters = [math.nan] * 4  # NaN where the system has no such counter

    def read(self, now: float) -> dict[str, float]:
        """Read once.

        Parameters
        ----------
        now
            Epoch seconds.

        Returns
        -------
        dict
            `time` (epoch seconds); `cpu` and `memory` (percent); `disk_read`, `disk_write`, `net_in` and
            `net_out` (bytes a second, 0.0 at the first read and where the system has no such counter).

        Examples
        --------
        >>> sorted(Telemetry().read(0.0))
        ['cpu', 'disk_read', 'disk_write', 'memory', 'net_in', 'net_out', 'time']
        """
        counters = _disk() + _network()
        elapsed = now - self._before
        rates = [
            # Less than before when a device has gone away; not more, not less when there is no counter.
            (new - old) / elapsed if new > old and elapsed > 0 else 0.0
            for new, old in zip(counters, self._counters, strict=True)
        ]
        self._before, self._counters = now, counters
        values = (psutil.cpu_percent(), psutil.virtual_memory().percent, *rates)
        return {"time": now, **dict(zip(FIELDS, values, strict=True))}


async def publish_telemetry(connection: Publisher, topic: str, rate_hz: float, stop: asyncio.Event) -> None:
    """Publish a reading as JSON at QoS 1, `rate_hz` times a second, until `stop` is set.

    The schedule does not drift, and readings missed while the computer slept are not made up for.
    """
    telemetry = Telemetry()
    telemetry.read(time.time())  # rates need a read before
    period = 1.0 / rate_hz
    loop = asyncio.get_running_loop()
    due = loop.time() + period
    while not stop.is_set():
        try:
            async with asyncio.timeout_at(due):
                await stop.wait()
        except TimeoutError:
            pass
        else:
            return
        connection.publish(topic, json.dumps(telemetry.read(time.time())).encode(), 1)
        missed = math.floor((loop.time() - due) / period)
        due += period * (1 + max(0, missed))


def _disk() -> list[float]:
    try:
        counters = psutil.disk_io_counters()
    except (OSError, RuntimeError, NotImplementedError):  # a container without /proc/diskstats
        counters = None
    return [math.nan] * 2 if counters is None else [counters.read_bytes, counters.write_bytes]


def _network() -> list[float]:
    try:
        counters = psutil.net_io_counters()
    except (OSError, RuntimeError, NotImplementedError):
        counters = None
    return [math.nan] * 2 if counters is None else [counters.bytes_recv, counters.bytes_sent]
