"""What the connection receives, from a real mosquitto, and a receiver that is full."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mosquitto import Mosquitto
from mqtt_support import Inbox, eventually, numbered, publish_all, run, settings, writer

from streamrnn.edges import held
from streamrnn.edges.mqtt import Connection, Settings, Will
from streamrnn.events import Message


@pytest.mark.parametrize("qos", [0, 1])
def test_messages_arrive_in_order(mosquitto: Mosquitto, qos: int) -> None:
    async def scenario() -> None:
        inbox = Inbox()
        async with Connection(settings(mosquitto), [("plant/#", qos)], inbox) as reader, writer(mosquitto) as pen:
            await reader.subscribed()
            await publish_all(pen, numbered(2000), qos)
            await inbox.has(2000)
        assert numbered(2000) == inbox.payloads
        assert {qos} == {message.qos for message in inbox.taken}
        assert 2000 == reader.counts["received"] == pen.counts["published"]

    run(scenario)


def test_message_is_told_as_it_came(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        inbox = Inbox()
        async with writer(mosquitto) as pen:
            await pen.subscribed()
            pen.publish("plant/line 1/température", b"\x00\xff", 1, retain=True)
            await pen.settled()
            async with Connection(settings(mosquitto), [("plant/#", 1)], inbox):
                await inbox.has(1)
                pen.publish("plant/x", b"", 0)
                await inbox.has(2)
        first, second = inbox.taken
        assert (
            first.topic,
            first.payload,
            first.qos,
            first.retain,
        ) == ("plant/line 1/température", b"\x00\xff", 1, True)
        assert first.mid > 0
        assert (
            second.topic,
            second.payload,
            second.qos,
            second.retain,
            second.mid,
        ) == ("plant/x", b"", 0, False, 0)
        assert 0 < first.clock_ns <= second.clock_ns
        assert 0 < first.arrival <= second.arrival

    run(scenario)


def test_a_megabyte_of_garbage_arrives_whole(mosquitto: Mosquitto) -> None:
    garbage = bytes(range(256)) * 4096

    async def scenario() -> None:
        inbox = Inbox()
        async with Connection(settings(mosquitto), [("plant/#", 1)], inbox) as reader, writer(mosquitto) as pen:
            await reader.subscribed()
            await publish_all(pen, [garbage, b"after"])
            await inbox.has(2)
        assert [garbage, b"after"] == inbox.payloads

    run(scenario)


def test_shared_subscription_splits_the_messages(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        one, two = Inbox(), Inbox()
        shared = [("$share/g/plant/#", 1)]
        async with (
            Connection(settings(mosquitto, "one"), shared, one) as first,
            Connection(settings(mosquitto, "two"), shared, two) as second,
            writer(mosquitto) as pen,
        ):
            await first.subscribed()
            await second.subscribed()
            await publish_all(pen, numbered(100))
            await eventually(lambda: len(one.taken) + len(two.taken) >= 100)
        assert sorted(numbered(100)) == sorted(one.payloads + two.payloads)
        assert one.taken
        assert two.taken

    run(scenario)


def test_topic_that_is_not_utf8_is_counted_and_let_go() -> None:
    async def scenario() -> None:
        # mosquitto refuses such a topic, so a broker of a few bytes: CONNACK, SUBACK, PUBLISH (QoS 1, id 7).
        acknowledged = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
            await reader.readexactly(2 + (await reader.readexactly(2))[1] - 2)
            out.write(b"\x20\x02\x00\x00")
            head = await reader.readexactly(2)
            body = await reader.readexactly(head[1])
            out.write(b"\x90\x03" + body[:2] + b"\x01")
            out.write(b"\x32\x07\x00\x02\xff\xfe\x00\x07x" + b"\x32\x06\x00\x01a\x00\x08y")
            acknowledged.set_result(await reader.readexactly(8))
            await reader.read()
            out.close()

        inbox = Inbox()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Connection(Settings(url, "reader", clean_session=True), [("#", 1)], inbox) as reader:
                await inbox.has(1)
                assert await acknowledged == b"\x40\x02\x00\x07\x40\x02\x00\x08"
            assert inbox.payloads == [b"y"]
            assert reader.counts["undecodable"] == 1

    run(scenario)


def test_full_receiver_stops_reading_and_loses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        inbox = Inbox(room=10)
        with Mosquitto(tmp_path, ("max_queued_messages 0", "max_inflight_messages 0")) as broker:
            async with Connection(settings(broker), [("plant/#", 1)], inbox) as reader, writer(broker) as pen:
                await reader.subscribed()
                await publish_all(pen, numbered(5000))
                await inbox.refused()
                # All 5,000 are at the broker and none is limited by it: what we hold is one, the rest is unread.
                assert numbered(10) == inbox.payloads
                assert (reader.counts["received"], len(reader._held)) == (11, 1)
                inbox.room = 20
                reader.resume()
                assert numbered(11) == inbox.payloads
                await inbox.refused(2)
                assert numbered(20) == inbox.payloads
                inbox.room = 5000
                reader.resume()
                await inbox.has(5000)
        assert numbered(5000) == inbox.payloads
        assert reader.counts["redelivered"] == 0

    run(scenario)


def test_full_receiver_drops_qos_0_and_reads_on(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        inbox = Inbox(room=1)
        async with Connection(settings(mosquitto), [("plant/#", 0)], inbox) as reader, writer(mosquitto) as pen:
            await reader.subscribed()
            await pen.subscribed()
            for payload in numbered(3):
                pen.publish("plant/a", payload, 0)
            await inbox.refused(2)
            inbox.room = 2
            pen.publish("plant/a", b"later", 0)
            await inbox.has(2)
        assert inbox.payloads == [b"0", b"later"]
        assert reader.counts["dropped"] == 2

    run(scenario)


def test_refusing_for_longer_than_the_keepalive_keeps_the_connection(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        inbox = Inbox(room=0)
        reader = Connection(settings(mosquitto, keepalive=1), [("plant/#", 1)], inbox)
        async with reader, writer(mosquitto) as pen:
            await reader.subscribed()
            await publish_all(pen, numbered(50))
            await inbox.refused()
            await eventually(lambda: mosquitto.log.count("Received PINGREQ from reader") >= 4)
            inbox.room = 50
            reader.resume()
            await inbox.has(50)
            assert (reader.counts["connects"], reader.counts["lost"]) == (1, 0)
        assert numbered(50) == inbox.payloads

    run(scenario)


def test_acknowledgements_arrive_while_the_receiver_refuses(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        inbox = Inbox(room=0)
        async with Connection(settings(mosquitto), [("plant/#", 1)], inbox) as both:
            await both.subscribed()
            for payload in numbered(500):
                both.publish("plant/a", payload, 1)  # they come back, and the acknowledgements among them
            await both.settled()
            assert 1 <= len(both._held) < 500
            inbox.room = 500
            both.resume()
            await inbox.has(500)
        assert numbered(500) == inbox.payloads

    run(scenario)


def test_acknowledgements_come_behind_any_number_of_messages_in_flight(tmp_path: Path) -> None:
    async def scenario() -> None:
        inbox = Inbox(room=10)
        lasting = {"clean_session": False}
        with Mosquitto(tmp_path, ("max_queued_messages 0", "max_inflight_messages 0")) as broker:
            async with Connection(settings(broker, **lasting), [("plant/#", 1)], Inbox()) as reader:
                await reader.subscribed()
            async with writer(broker) as pen:
                await publish_all(pen, numbered(3000))
            async with Connection(settings(broker, **lasting), [("plant/#", 1)], inbox) as reader:
                await reader.subscribed()  # its answer may be behind messages, too
                for payload in numbered(20):
                    reader.publish("out", payload, 1)
                await reader.settled()
                assert numbered(10) == inbox.payloads
                inbox.room = 3000
                reader.resume()
                await inbox.has(3000)
        assert numbered(3000) == inbox.payloads

    run(scenario)


def test_messages_held_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "BYTES_MAX", 2540)
    waiting = held.Held()
    for payload in numbered(5):
        waiting.append(Message("plant/a", payload, qos=1))
    assert not waiting.full
    waiting.append(Message("plant/a", bytes(500), qos=1))
    assert waiting.full
    assert [b"0", b"1"] == [waiting.popleft().payload for _ in range(2)]
    assert not waiting.full
    waiting.put_back(Message("plant/a", bytes(500), qos=1))
    assert waiting.full
    waiting.clear()
    assert (False, 0) == (waiting.full, len(waiting))


def test_stop_receiving_leaves_the_rest_to_the_next_run(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        lasting = settings(mosquitto, clean_session=False)
        before, after = Inbox(room=100), Inbox()
        async with Connection(lasting, [("plant/#", 1)], before) as reader, writer(mosquitto) as pen:
            await reader.subscribed()
            await publish_all(pen, numbered(300))
            await before.refused()
            before.room = 300
            reader.stop_receiving()
            reader.resume()
            reader.publish("out", b"last", 1)
            await reader.settled()
        async with Connection(lasting, [("plant/#", 1)], after) as reader:
            await after.has(200)
            assert reader.session_present
        assert numbered(300) == before.payloads + after.payloads
        assert reader.counts["redelivered"] > 0

    run(scenario)


def test_what_the_receiver_raises_ends_run(mosquitto: Mosquitto) -> None:
    class BrokenError(Exception):
        pass

    def receive(message: Message) -> bool:
        raise BrokenError

    async def scenario() -> None:
        will = Will("status", b"offline", retain=False)
        wills = Inbox()
        reader = Connection(settings(mosquitto, will=will), [("plant/#", 1)], receive)
        async with Connection(settings(mosquitto, "watcher"), [("status", 1)], wills) as watcher:
            await watcher.subscribed()
            watcher.publish("plant/a", b"x", 1, retain=True)
            with pytest.raises(BrokenError):
                await reader.run()
            with pytest.raises(BrokenError):
                await reader.subscribed()
            await wills.has(1)  # no goodbye
        assert wills.payloads == [b"offline"]

    run(scenario)


def test_what_the_receiver_raises_on_resume_ends_run(mosquitto: Mosquitto) -> None:
    class BrokenError(Exception):
        pass

    async def scenario() -> None:
        full, broken = asyncio.Event(), False

        def receive(message: Message) -> bool:
            if broken:
                raise BrokenError
            full.set()
            return False

        reader = Connection(settings(mosquitto), [("plant/#", 1)], receive)
        running = asyncio.create_task(reader.run())
        await reader.subscribed()
        reader.publish("plant/a", b"x", 1)
        await full.wait()
        broken = True
        reader.resume()
        with pytest.raises(BrokenError):
            await running

    run(scenario)
