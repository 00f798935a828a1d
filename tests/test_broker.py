"""The demo's broker, seen by our own connection."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from streamrnn.edges.broker import Broker
from streamrnn.edges.mqtt import Connection, Settings
from streamrnn.errors import BrokerError
from streamrnn.events import Message


def settings(broker: Broker, client_id: str, **more: object) -> Settings:
    return Settings(broker.url, client_id, **{"clean_session": True, **more})


async def collected(broker: Broker, topics: list[tuple[str, int]], publishes: list[tuple], n: int) -> list[Message]:
    """What a client with these subscriptions gets of these publishes."""
    got: list[Message] = []
    full = asyncio.Event()

    def receive(message: Message) -> bool:
        got.append(message)
        if len(got) == n:
            full.set()
        return True

    async with (
        Connection(settings(broker, "reader"), topics, receive) as reader,
        Connection(settings(broker, "writer"), (), receive) as writer,
    ):
        await reader.subscribed()
        await writer.subscribed()
        for topic, payload, qos in publishes:
            writer.publish(topic, payload, qos)
        await full.wait()
    return got


@pytest.mark.parametrize("qos", [0, 1])
def test_messages_arrive_in_order(qos: int) -> None:
    async def scenario() -> None:
        async with Broker() as broker:
            got = await collected(broker, [("plant/a", qos)], [("plant/a", b"%d" % i, qos) for i in range(50)], 50)
            assert [b"%d" % i for i in range(50)] == [message.payload for message in got]
            assert {qos} == {message.qos for message in got}

    asyncio.run(scenario())


def test_wildcards_match() -> None:
    async def scenario() -> None:
        async with Broker() as broker:
            publishes = [("plant/a/temp", b"1", 1), ("other/a/temp", b"2", 1), ("plant/b/x/y", b"3", 1)]
            got = await collected(broker, [("plant/+/temp", 1), ("plant/b/#", 1)], publishes, 2)
            assert {("plant/a/temp", b"1"), ("plant/b/x/y", b"3")} == {(m.topic, m.payload) for m in got}

    asyncio.run(scenario())


def test_retained_message_is_given_to_a_later_subscriber() -> None:
    async def scenario() -> None:
        async with Broker() as broker:
            async with Connection(settings(broker, "writer"), (), lambda message: True) as writer:
                await writer.subscribed()
                writer.publish("status", b"online", 1, retain=True)
                await writer.settled()
            got = await collected(broker, [("status", 1)], [], 1)
            # amqtt acknowledges before it passes on: who subscribes in between gets it a second time, as news.
            assert (b"online", True) in {(message.payload, message.retain) for message in got}

    asyncio.run(scenario())


def test_persistent_session_queues_while_the_client_is_away() -> None:
    async def scenario() -> None:
        got: list[bytes] = []
        full = asyncio.Event()

        def receive(message: Message) -> bool:
            got.append(message.payload)
            if len(got) == 10:
                full.set()
            return True

        async with Broker() as broker:
            lasting = settings(broker, "lasting", clean_session=False)
            async with Connection(lasting, [("plant/#", 1)], receive) as reader:
                await reader.subscribed()
                assert not reader.session_present
            async with Connection(settings(broker, "writer"), (), receive) as writer:
                await writer.subscribed()
                for i in range(10):
                    writer.publish("plant/a", b"%d" % i, 1)
                await writer.settled()
            async with Connection(lasting, [("plant/#", 1)], receive) as reader:
                await full.wait()
                assert reader.session_present
            assert [b"%d" % i for i in range(10)] == got

    asyncio.run(scenario())


def test_it_is_gone_after_the_block() -> None:
    async def scenario() -> None:
        async with Broker() as broker:
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((broker.host, broker.port), timeout=1)

    asyncio.run(scenario())


def test_it_ends_with_its_parent() -> None:
    async def scenario() -> None:
        async with Broker() as broker:
            assert broker._process is not None
            assert broker._process.stdin is not None
            broker._process.stdin.close()  # what the kernel does for a parent that was killed
            assert await broker._process.wait() == 0

    asyncio.run(scenario())


def test_it_stops_even_when_it_does_not_listen_to_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamrnn.edges.broker.STOP_S", 0.1)

    async def scenario() -> None:
        async with Broker() as broker:
            assert broker._process is not None
            os.kill(broker._process.pid, signal.SIGSTOP)
        # Both signals wait for the stopped process, and the kernel hands out either.
        assert broker._process.returncode in (-signal.SIGKILL, -signal.SIGTERM)

    asyncio.run(scenario())


def test_taken_port_is_a_clear_error() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(BrokerError, match=f"did not start on 127.0.0.1:{port}"):
                async with Broker(port=port):
                    pass

    asyncio.run(scenario())


def test_it_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with Broker() as broker:
            await collected(broker, [("a", 1)], [("a", b"x", 1)], 1)

    asyncio.run(scenario())
    assert tuple(capfd.readouterr()) == ("", "")
