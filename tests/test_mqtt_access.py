"""Who may connect, and how: refusals, WebSockets, UNIX sockets, TLS."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from daemon import Daemon
from mosquitto import Mosquitto, free_port, program
from mqtt_support import Inbox, numbered, run, said, settings

from streamrnn.edges.mqtt import Connection, Settings
from streamrnn.edges.reaching import reachable
from streamrnn.errors import BrokerError


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
        with pytest.raises(
            BrokerError, match=r"^mqtt\.password_file: /nowhere/password: no such file or directory$"
        ):
            await Connection(mine, (), Inbox()).run()
        with pytest.raises(BrokerError, match="/nowhere/password"):
            async with Connection(mine, (), Inbox()) as reader:
                await reader.subscribed()

    run(scenario)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("password_file: nowhere", "mqtt.password_file: {folder}/nowhere: no such file or directory"),
        ("password_file: .", "mqtt.password_file: {folder}: is a directory"),
        ("tls: {ca: nowhere}", "mqtt.tls.ca: {folder}/nowhere: no such file or directory"),
        ("tls: {cert: streamrnn.yaml, key: nowhere}", "mqtt.tls.cert and mqtt.tls.key: "),
    ],
)
def test_a_file_named_wrongly_ends_run_as_a_bad_configuration_does(tmp_path: Path, words: str, line: str) -> None:
    text = f"""
mqtt: {{url: "mqtt://127.0.0.1:{free_port()}", username: edge, {words}}}
pipelines: {{p: {{input: {{topic: a}}, model: {{hidden: 4}}}}}}
"""
    with Daemon(tmp_path, text) as daemon:
        assert 78 == daemon.ended()
    assert line.format(folder=tmp_path) in daemon.log
    assert "Traceback" not in daemon.log


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
        with pytest.raises(BrokerError, match=r"^mqtt\.url: expected mqtt, mqtts, ws, wss or unix"):
            await reachable(Settings("http://127.0.0.1", "probe"))

    run(scenario)


def test_broker_that_says_nothing_is_not_reachable() -> None:
    async def scenario() -> None:
        async with await asyncio.start_server(lambda reader, out: out.close(), "127.0.0.1", 0) as server:
            url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(BrokerError, match="connection closed before it answered"):
                await reachable(Settings(url, "probe"))

    run(scenario)


def certificates(directory: Path) -> None:
    """An authority of our own, and a certificate by it for the loopback."""
    openssl = program("openssl")
    for name, signing in (("ca", ()), ("server", ("-CA", "ca.pem", "-CAkey", "ca.key"))):
        extension = "basicConstraints=CA:TRUE" if name == "ca" else "subjectAltName=IP:127.0.0.1"
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-days", "2", "-subj", f"/CN={name}", "-addext", extension),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem", *signing),
            ],
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
