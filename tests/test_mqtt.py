"""The connection against a real mosquitto."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from mosquitto import Mosquitto, free_port, program

from streamrnn.edges import mqtt
from streamrnn.edges.mqtt import Connection, Settings, Will, reachable
from streamrnn.errors import BrokerError
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
        await self._until(lambda: len(self.taken) >= n)

    async def refused(self, n: int = 1) -> None:
        await self._until(lambda: self.refusals >= n)

    async def _until(self, condition: Callable[[], bool]) -> None:
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


async def said(caplog: pytest.LogCaptureFixture, text: str) -> str:
    """Wait for a log line."""
    while True:
        for record in caplog.records:
            if text in record.getMessage():
                return record.getMessage()
        await asyncio.sleep(0.01)


# Messages


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
            while len(one.taken) + len(two.taken) < 100:
                await asyncio.sleep(0.01)
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


# A receiver that is full


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
            while mosquitto.log.count("Received PINGREQ from reader") < 4:
                await asyncio.sleep(0.05)
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
            assert 1 <= len(both._held) <= mqtt.HELD_MAX
            inbox.room = 500
            both.resume()
            await inbox.has(500)
        assert numbered(500) == inbox.payloads

    run(scenario)


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
    class Broken(Exception):
        pass

    def receive(message: Message) -> bool:
        raise Broken

    async def scenario() -> None:
        will = Will("status", b"offline", retain=False)
        wills = Inbox()
        reader = Connection(settings(mosquitto, will=will), [("plant/#", 1)], receive)
        async with Connection(settings(mosquitto, "watcher"), [("status", 1)], wills) as watcher:
            await watcher.subscribed()
            watcher.publish("plant/a", b"x", 1, retain=True)
            with pytest.raises(Broken):
                await reader.run()
            with pytest.raises(Broken):
                await reader.subscribed()
            await wills.has(1)  # no goodbye
        assert wills.payloads == [b"offline"]

    run(scenario)


def test_what_the_receiver_raises_on_resume_ends_run(mosquitto: Mosquitto) -> None:
    class Broken(Exception):
        pass

    async def scenario() -> None:
        full, broken = asyncio.Event(), False

        def receive(message: Message) -> bool:
            if broken:
                raise Broken
            full.set()
            return False

        reader = Connection(settings(mosquitto), [("plant/#", 1)], receive)
        running = asyncio.create_task(reader.run())
        await reader.subscribed()
        reader.publish("plant/a", b"x", 1)
        await full.wait()
        broken = True
        reader.resume()
        with pytest.raises(Broken):
            await running

    run(scenario)


# The connection comes and goes


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
            # What waited is sent right after the connect, before the new session is subscribed, or after it.
            await inbox.has(2)
            while inbox.payloads[-1] != b"after":
                await asyncio.sleep(0.01)
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
            while b"end" not in inbox.payloads:
                await asyncio.sleep(0.01)
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


def test_unsubscribe_ends_the_messages_but_not_the_connection(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        inbox, control = Inbox(), Inbox()
        async with (
            Connection(settings(mosquitto), [("plant/#", 1), ("other", 1)], inbox) as reader,
            Connection(settings(mosquitto, "control"), [("plant/#", 1)], control) as other,
        ):
            await reader.subscribed()
            await other.subscribed()
            await reader.unsubscribe()
            for payload in numbered(5):
                reader.publish("plant/a", payload, 1)
            await reader.settled()
            await control.has(5)
        assert inbox.taken == []
        assert reader.counts["connects"] == 1

    run(scenario)


# Publishing


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


# Refusals


def password_broker(directory: Path) -> Mosquitto:
    secrets = directory / "passwords"
    secrets.touch(mode=0o600)
    subprocess.run([program("mosquitto_passwd"), "-b", str(secrets), "edge", "right"], check=True)
    return Mosquitto(directory, (f"password_file {secrets}",), anonymous=False)


def test_wrong_password_is_a_clear_line_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        password = tmp_path / "password"
        password.write_text("wrong-secret\n")
        with password_broker(tmp_path) as broker:
            mine = settings(broker, username="edge", password_file=str(password))
            async with Connection(mine, (), Inbox()) as reader:
                assert await said(caplog, "refused") == (
                    f"{broker.url} refused the connection: not authorised; "
                    "check mqtt.username and mqtt.password_file"
                )
                password.write_text("right\n")
                await reader.subscribed()
        assert "secret" not in caplog.text

    run(scenario)


def test_missing_password_file_ends_run_at_the_first_connect(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        mine = settings(mosquitto, username="edge", password_file="/nowhere/password")
        with pytest.raises(BrokerError, match="^mqtt.password_file: /nowhere/password: no such file or directory$"):
            await Connection(mine, (), Inbox()).run()
        with pytest.raises(BrokerError, match="/nowhere/password"):
            async with Connection(mine, (), Inbox()) as reader:
                await reader.subscribed()

    run(scenario)


def test_refused_subscription_is_told_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        # mosquitto grants everything, so a broker of a few bytes again.
        async def serve(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
            await reader.readexactly((await reader.readexactly(2))[1])
            out.write(b"\x20\x02\x00\x00")
            head = await reader.readexactly(2)
            body = await reader.readexactly(head[1])
            out.write(b"\x90\x04" + body[:2] + b"\x80\x00" + b"\x30\x04\x00\x01bx")
            await reader.read()
            out.close()

        inbox = Inbox()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Connection(Settings(url, "reader"), [("secret/#", 1), ("b", 1)], inbox) as reader:
                await reader.subscribed()
                await inbox.has(1)
            assert reader.counts["subscribe_refused"] == 1
        assert "the broker refused the subscription to secret/#" in caplog.messages
        assert "the broker grants QoS 0 to b, asked for 1" in caplog.messages

    run(scenario)


def test_another_client_with_our_id_is_hinted_at(mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with (
            Connection(settings(mosquitto, "same"), (), Inbox()),
            Connection(settings(mosquitto, "same"), (), Inbox()),
        ):
            await said(caplog, "is another client using client_id 'same'?")

    run(scenario)


def test_reachable(mosquitto: Mosquitto) -> None:
    async def scenario() -> None:
        await reachable(settings(mosquitto))
        url = f"mqtt://127.0.0.1:{free_port()}"
        with pytest.raises(BrokerError, match=f"^cannot reach the broker at {url}: connection refused$"):
            await reachable(Settings(url, "probe"))
        with pytest.raises(BrokerError, match="^mqtt.url: expected mqtt, mqtts, ws, wss or unix"):
            await reachable(Settings("http://127.0.0.1", "probe"))

    run(scenario)


def test_broker_that_says_nothing_is_not_reachable() -> None:
    async def scenario() -> None:
        async with await asyncio.start_server(lambda reader, out: out.close(), "127.0.0.1", 0) as server:
            url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(BrokerError, match="connection closed before it answered"):
                await reachable(Settings(url, "probe"))

    run(scenario)


# Other ways to the broker


def certificates(directory: Path) -> None:
    """An authority of our own, and a certificate by it for the loopback."""
    openssl = program("openssl")
    for name, signing in (("ca", ()), ("server", ("-CA", "ca.pem", "-CAkey", "ca.key"))):
        extension = "basicConstraints=CA:TRUE" if name == "ca" else "subjectAltName=IP:127.0.0.1"
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            + ["-days", "2", "-subj", f"/CN={name}", "-addext", extension]
            + ["-keyout", f"{name}.key", "-out", f"{name}.pem", *signing],
            cwd=directory,
            check=True,
            capture_output=True,
        )


async def exchange(settings: Settings) -> None:
    """More than one wake-up's worth of messages, there and back."""
    inbox = Inbox()
    async with Connection(settings, [("plant/#", 1)], inbox) as both:
        await both.subscribed()
        for payload in numbered(1000):
            both.publish("plant/a", payload, 1)
        both.publish("plant/a", bytes(300_000), 1)
        await inbox.has(1001)
        inbox.room = 1001
        both.publish("plant/a", b"held", 1)
        await inbox.refused()
        inbox.room = 2000
        both.resume()
        await both.settled()
    assert [*numbered(1000), bytes(300_000), b"held"] == inbox.payloads
    assert both.counts["connects"] == 1


def test_websocket(tmp_path: Path) -> None:
    port = free_port()  # besides the plain one: mosquitto 2.0.11 does not start with WebSockets alone
    with Mosquitto(tmp_path, ("max_queued_messages 0", f"listener {port} 127.0.0.1", "protocol websockets")):
        run(lambda: exchange(Settings(f"ws://127.0.0.1:{port}/mqtt", "both", clean_session=True)))


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "mosquitto.sock"
    with Mosquitto(tmp_path, ("max_queued_messages 0", f"listener 0 {path}", "allow_anonymous true")):
        run(lambda: exchange(Settings(f"unix://{path}", "both", clean_session=True)))


def tls_broker(directory: Path) -> Mosquitto:
    certificates(directory)
    lines = ("max_queued_messages 0", f"certfile {directory}/server.pem", f"keyfile {directory}/server.key")
    return Mosquitto(directory, lines)


def test_tls(tmp_path: Path) -> None:
    with tls_broker(tmp_path) as broker:
        url = broker.url.replace("mqtt", "mqtts")
        run(lambda: exchange(Settings(url, "both", ca=str(tmp_path / "ca.pem"), clean_session=True)))


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_broker_we_do_not_trust_is_a_clear_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with tls_broker(tmp_path) as broker:
            url = broker.url.replace("mqtt", "mqtts")
            async with Connection(Settings(url, "both", clean_session=True), (), Inbox()):
                line = await said(caplog, "waiting")
                assert line.startswith(f"waiting for the broker at {url}: TLS: ")
                assert "certificate" in line

    run(scenario)


def test_missing_tls_file_ends_run_at_the_first_connect() -> None:
    async def scenario() -> None:
        for files, line in (
            ({"ca": "/nowhere/ca"}, "mqtt.tls.ca: /nowhere/ca: no such file or directory"),
            (
                {"cert": "/nowhere/c", "key": "/nowhere/k"},
                "mqtt.tls.cert and mqtt.tls.key: /nowhere/c and /nowhere/k: no such file or directory",
            ),
        ):
            with pytest.raises(BrokerError, match=f"^{line}$"):
                await Connection(Settings("mqtts://127.0.0.1:1", "x", **files), (), Inbox()).run()

    run(scenario)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("tcp://127.0.0.1", "expected mqtt, mqtts, ws, wss or unix before ://, got 'tcp'"),
        ("127.0.0.1:1883", "expected mqtt, mqtts, ws, wss or unix"),
        ("mqtt://", "expected a host"),
        ("mqtt://host:99999", "expected a port from 1 to 65535"),
        ("mqtt://host/path", "expected no path"),
        ("mqtt://edge:secret@host", "belong in mqtt.username and mqtt.password_file"),
        ("unix://relative", "expected unix:///path"),
    ],
)
def test_url_that_is_none_ends_run(url: str, line: str) -> None:
    async def scenario() -> None:
        with pytest.raises(BrokerError, match=f"^mqtt.url: .*{line}") as caught:
            await Connection(Settings(url, "x"), (), Inbox()).run()
        assert "secret" not in str(caught.value)

    run(scenario)
