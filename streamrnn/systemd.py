"""What systemd is told of the service, by its notification protocol (sd_notify(3)), and when.

Without systemd nothing is said. It looks at the service and changes nothing in it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from streamrnn.service import Service

log = logging.getLogger(__name__)

TICK_S = 5.0  # from one status to the next, at most
RELOAD_S = 600.0  # that a reload may take
EXTENSION_S = 60.0  # that the start may go on for after each word of it


class Notifier:
    """A datagram socket to the supervisor; without one, `send` does nothing.

    Parameters
    ----------
    environment
        NOTIFY_SOCKET says where; WATCHDOG_USEC, unless WATCHDOG_PID is another process, how often to be heard of.

    Attributes
    ----------
    watchdog_s
        Seconds without WATCHDOG=1 after which the supervisor ends the process; None: it does not watch.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._complained = False
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        watched = usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid()))
        self.watchdog_s = int(usec) / 1e6 if watched else None

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def send(self, *assignments: str) -> None:
        """Send words such as ``READY=1``. It never waits, and what cannot be sent is said in the log, once."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                speaker.setblocking(False)
                speaker.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("cannot tell systemd how it goes: %s", error.strerror or error)


class Watch:
    """Says whether the service processes what it has, and how fast.

    A lane with messages and a broker has turns. When it had none since the last look, it hangs.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._turns: dict[int, int] = {}
        self._events, self._at = 0, time.monotonic()

    def alive(self) -> bool:
        """Whether every lane that had messages at the last look has had a turn since."""
        alive, turns = True, {}
        for lane in self.service.lanes:
            if lane.queue and self.service.connected.is_set():
                turns[id(lane)] = lane.turns
                alive = alive and self._turns.get(id(lane)) != lane.turns
        self._turns = turns
        return alive

    def status(self) -> str:
        """Return events so far, their rate since the last call, and what waits."""
        lanes, now = self.service.lanes, time.monotonic()
        events = sum(lane.pipeline.counts["events"] for lane in lanes)
        rate = max(0, events - self._events) / max(now - self._at, 1e-3)
        self._events, self._at = events, now
        waiting = sum(len(lane.queue) for lane in lanes)
        away = "" if self.service.connected.is_set() else ", waiting for the broker"
        return f"{events} events, {rate:.1f}/s, {waiting} waiting{away}"


@asynccontextmanager
async def supervised(service: Service, notifier: Notifier) -> AsyncIterator[None]:
    """Keep systemd informed while the service runs in the block."""
    if not notifier:
        yield
        return
    service.reloader.on_reload = lambda going: _tell_reload(service, notifier, going)
    task = asyncio.create_task(_tell(service, notifier), name="systemd")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _tell(service: Service, notifier: Notifier) -> None:
    watch = Watch(service)
    tick_s = TICK_S if notifier.watchdog_s is None else min(TICK_S, notifier.watchdog_s / 4)
    # A start may take as long as it needs, for kernels or for the broker, as long as the loop turns.
    while not await _within(tick_s, service.ready, service.stopping):
        phase = "waiting for the broker" if service.lanes else "compiling kernels, or reading what was kept"
        notifier.send(f"EXTEND_TIMEOUT_USEC={int(EXTENSION_S * 1e6)}", f"STATUS=starting: {phase}")
    if not service.stopping.is_set():
        notifier.send("READY=1", f"STATUS={watch.status()}")
    while not service.stopping.is_set():
        # On the loop that processes: when it is blocked, or a lane hangs, nothing is heard of us any more.
        if watch.alive():
            notifier.send("WATCHDOG=1", f"STATUS={watch.status()}")
        await _within(tick_s, service.stopping)
    notifier.send("STOPPING=1", "STATUS=stopping: answering what was taken")


def _tell_reload(service: Service, notifier: Notifier, going: bool) -> None:
    if not service.ready.is_set():
        return  # READY=1 is still to come, and means more
    if going:
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        extension_us = int(RELOAD_S * 1e6)  # kernels may have to be compiled
        notifier.send("RELOADING=1", f"MONOTONIC_USEC={now_us}", f"EXTEND_TIMEOUT_USEC={extension_us}")
    else:
        notifier.send("READY=1")


async def _within(seconds: float, *events: asyncio.Event) -> bool:
    """Wait until one of the events is set, for so long at most; return whether one is."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return any(event.is_set() for event in events)
