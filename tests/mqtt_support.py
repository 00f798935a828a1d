"""What the tests of the MQTT connection share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from mosquitto import Mosquitto

from streamrnn.edges.mqtt import Connection, Settings
from streamrnn.events import Message

LIMIT_S = 60.0  # for a test that hangs, never for one that passes


def settings(broker: Mosquitto, client_id: str = "reader", **more: object) -> Settings:
    return Settings(**{"url": broker.url, "client_id": client_id, "clean_session": True, **more})


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario()

    asyncio.run(limited())


class Inbox:
    """A receiver that can be full, and can be waited for."""

    def __init__(self, room: float = float("inf")) -> None:
        self.room = room
        self.taken: list[Message] = []
        self.refusals = 0
        self._changed = asyncio.Event()

    def __call__(self, message: Message) -> bool:
        taken = len(self.taken) < self.room
        if taken:
            self.taken.append(message)
        else:
            self.refusals += 1
        self._changed.set()
        return taken

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.taken]

    async def has(self, n: int) -> None:
        await self.until(lambda: len(self.taken) >= n)

    async def refused(self, n: int = 1) -> None:
        await self.until(lambda: self.refusals >= n)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


class States:
    """What on_state was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, state: str) -> None:
        self.seen.append(state)
        self._changed.set()

    async def told(self, state: str, times: int = 1) -> None:
        while self.seen.count(state) < times:
            self._changed.clear()
            await self._changed.wait()


def writer(broker: Mosquitto, client_id: str = "writer", **more: object) -> Connection:
    return Connection(settings(broker, client_id, **more), (), lambda message: True)


def numbered(n: int, start: int = 0) -> list[bytes]:
    return [b"%d" % i for i in range(start, start + n)]


async def publish_all(connection: Connection, payloads: list[bytes], qos: int = 1, topic: str = "plant/a") -> None:
    await connection.subscribed()
    for payload in payloads:
        connection.publish(topic, payload, qos)
    await connection.settled()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)


async def said(caplog: pytest.LogCaptureFixture, text: str) -> str:
    """Wait for a log line."""
    await eventually(lambda: text in caplog.text)
    return next(line for line in caplog.messages if text in line)
