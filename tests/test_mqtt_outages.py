"""The connection and its publishes while a real mosquitto comes and goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mosquitto import Mosquitto
from mqtt_support import Inbox, States, numbered, publish_all, run, said, settings, writer

from streamrnn.edges.mqtt import Connection


def test_restart_of_the_broker_is_survived(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        inbox, states = Inbox(), States()
        reader = Connection(settings(mosquitto), [("plant/#", 1)], inbox, states)
        async with reader:
            await reader.subscribed()
            reader.publish("plant/a", b"before", 1)
            await inbox.has(1)
            mosquitto.stop()
            await states.told("lost")
            for payload in numbered(200):
                reader.publish("plant/a", payload, 1)
            reader.publish("plant/a", b"QoS 0", 0)
            assert reader.outstanding == 200
            assert reader.counts["publish_dropped"] == 1
            mosquitto.start()
            await reader.subscribed()
            reader.publish("plant/a", b"after", 1)
            await reader.settled()
            await states.told("subscribed", times=2)
            # What waited is sent right after the connect, before the new session is subscribed.
            await inbox.until(lambda: inbox.payloads[-1] == b"after")
        assert states.seen == ["connected", "subscribed", "lost", "connected", "subscribed"]
        assert 202 == reader.counts["published"] == reader.counts["acknowledged"]

    run(scenario)


def test_publishes_of_an_outage_arrive_in_order(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        inbox, states = Inbox(), States()
        reader = Connection(settings(mosquitto, clean_session=False), [("plant/#", 1)], inbox)
        pen = Connection(settings(mosquitto, "writer", clean_session=False), (), Inbox(), states)
        async with reader, pen:
            await reader.subscribed()
            await pen.subscribed()
            mosquitto.freeze()  # these are under way when the connection breaks
            for payload in numbered(100):
                pen.publish("plant/a", payload, 1)
            mosquitto.kill()
            await states.told("lost")
            for payload in numbered(100, start=100):
                pen.publish("plant/a", payload, 1)
            mosquitto.start()
            await reader.subscribed()
            await pen.settled()
            pen.publish("plant/a", b"end", 1)
            await inbox.until(lambda: b"end" in inbox.payloads)
        # The reader may have subscribed after some of them were published again.
        assert [*numbered(200), b"end"][-len(inbox.payloads) :] == inbox.payloads

    run(scenario)


def test_persistent_session_queues_while_we_are_away(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        lasting = settings(mosquitto, clean_session=False)
        before, after = Inbox(), Inbox()
        async with Connection(lasting, [("plant/#", 1)], before) as reader:
            await reader.subscribed()
            assert not reader.session_present
        async with writer(mosquitto) as pen:
            await publish_all(pen, numbered(1500))
        async with Connection(lasting, [("plant/#", 1)], after) as reader:
            await after.has(1500)
            assert reader.session_present
        assert numbered(1500) == after.payloads
        assert reader.counts["redelivered"] == 0

    run(scenario)


def test_unacknowledged_message_comes_again_as_a_duplicate(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        lasting = settings(mosquitto, clean_session=False)
        full, after = Inbox(room=0), Inbox()
        async with Connection(lasting, [("plant/#", 1)], full) as reader, writer(mosquitto) as pen:
            await reader.subscribed()
            await publish_all(pen, [b"x"])
            await full.refused()
        async with Connection(lasting, [("plant/#", 1)], after) as reader:
            await after.has(1)
        (message,) = after.taken
        assert (message.payload, message.dup) == (b"x", True)
        assert reader.counts["redelivered"] == 1

    run(scenario)


def test_broker_that_starts_later_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        broker = Mosquitto(tmp_path)
        async with Connection(settings(broker), [("plant/#", 1)], Inbox()) as reader:
            line = await said(caplog, "waiting")
            assert line == f"waiting for the broker at {broker.url}: connection refused"
            with broker:
                await reader.subscribed()
        assert sum("waiting" in record.getMessage() for record in caplog.records) == 1

    run(scenario)


def test_silent_broker_is_found_by_pings(mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        states = States()
        async with Connection(settings(mosquitto, keepalive=1), (), Inbox(), states) as reader:
            await reader.subscribed()
            mosquitto.freeze()
            await states.told("lost")
        assert f"lost the connection to {mosquitto.url}: no answer to our ping" in caplog.messages

    run(scenario)


def test_cancelled_while_connecting_leaves_no_connection(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        for _ in range(20):
            running = asyncio.create_task(Connection(settings(mosquitto, "ghost"), (), Inbox()).run())
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        async with writer(mosquitto) as pen:
            await publish_all(pen, [b"x"])

    run(scenario)


def test_settled_waits_until_few_enough_are_outstanding(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        async with writer(mosquitto) as pen:
            await pen.subscribed()
            for payload in numbered(3000):
                pen.publish("plant/a", payload, 1)
            assert pen.outstanding == 3000
            await pen.settled(below=1000)
            assert pen.outstanding < 1000
            await pen.settled()
            assert pen.outstanding == 0

    run(scenario)


def test_publishes_beyond_the_limit_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamrnn.edges.outbox.OUTSTANDING_MAX", 10)

    async def scenario() -> None:
        broker = Mosquitto(tmp_path)
        pen = writer(broker)
        for payload in numbered(15):
            pen.publish("plant/a", payload, 1)
        assert (pen.outstanding, pen.counts["publish_dropped"]) == (10, 5)
        inbox = Inbox()
        with broker:
            async with Connection(settings(broker), [("plant/#", 1)], inbox) as reader:
                await reader.subscribed()
                async with pen:
                    await inbox.has(10)
        assert numbered(10) == inbox.payloads

    run(scenario)


def test_topic_that_cannot_be_published_to_is_dropped(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with writer(mosquitto) as pen:
            await publish_all(pen, [b"x"], topic="plant/#")
            assert pen.counts["publish_dropped"] == 1
        assert "cannot publish to 'plant/#'" in caplog.text

    run(scenario)
