"""What docs/security.md promises: encryption, no secret shown, no topic of a stranger's choice, a private disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from daemon import Client, Daemon
from mosquitto import Mosquitto, program
from paho.mqtt import publish

from streamrnn import config
from streamrnn.privacy import notices

SECRET = "hunter2-wrong"
LIMIT_S = 300.0  # for a test that hangs, or kernels that are compiled on a busy computer


def openssl(directory: Path, *words: str) -> None:
    subprocess.run([program("openssl"), *words], cwd=directory, check=True, capture_output=True)


def certificate(
    directory: Path, name: str, signer: str | None, *, host: str = "127.0.0.1", cipher: str = "-nodes"
) -> None:
    """A certificate of that name and its key; by its own key when there is no signer."""
    extension = "basicConstraints=CA:TRUE" if signer is None else f"subjectAltName=IP:{host}"
    signing = () if signer is None else ("-CA", f"{signer}.pem", "-CAkey", f"{signer}.key")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *cipher.split(), "-days", "2")
    about = ("-subj", f"/CN={name}", "-addext", extension, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl(directory, *new, *about, *signing)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """An authority, a certificate by it for the broker and one for us, and a stranger's of the same name."""
    for name, signer in (
        ("ca", None),
        ("server", "ca"),
        ("edge", "ca"),
        ("stranger-ca", None),
        ("stranger", "stranger-ca"),
    ):
        certificate(tmp_path, name, signer)
    return tmp_path


def tls_broker(directory: Path, *lines: str, server: str = "server", anonymous: bool = True) -> Mosquitto:
    """A broker that talks to those only who have a certificate by its authority."""
    tls = (
        f"certfile {directory}/{server}.pem",
        f"keyfile {directory}/{server}.key",
        f"cafile {directory}/ca.pem",
        "require_certificate true",
    )
    return Mosquitto(directory, (*tls, *lines), anonymous=anonymous)


CONFIG = """
mqtt:
  url: {url}
  {more}
  tls: {tls}
pipelines:
  plant: {{input: {{topic: plant/+/t, fields: [x]}}, model: {{hidden: 4}}}}
"""
OURS = "{ca: ca.pem, cert: edge.pem, key: edge.key}"


def text_for(broker: Mosquitto, tls: str = OURS, more: str = "") -> str:
    return CONFIG.format(url=broker.url.replace("mqtt://", "mqtts://"), tls=tls, more=more)


def published(broker: Mosquitto, directory: Path, topic: str, payload: str) -> None:
    files = {
        "ca_certs": f"{directory}/ca.pem",
        "certfile": f"{directory}/edge.pem",
        "keyfile": f"{directory}/edge.key",
    }
    auth = {"username": "edge", "password": "right"}
    publish.single(topic, payload, qos=1, hostname="127.0.0.1", port=broker.port, auth=auth, tls=files)


# Encryption


def test_client_certificate_and_password_over_tls(pki: Path) -> None:
    passwords = pki / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run([program("mosquitto_passwd"), "-b", str(passwords), "edge", "right"], check=True)
    secret = pki / "secret"
    secret.write_text(f"{SECRET}\n")
    broker = tls_broker(pki, f"password_file {passwords}", anonymous=False)
    more = "username: edge\n  password_file: secret"
    with broker, Daemon(pki, text_for(broker, more=more)) as daemon:
        assert "not authorised" in daemon.says("refused the connection")
        secret.write_text("right\n")  # it is read at each connect
        daemon.says("ready")
        published(broker, pki, "plant/a/t", '{"x": 1.5}')
        published(broker, pki, "plant/a/t", "[")
        daemon.says("not_json")
        assert daemon.stop() == 0
        assert "plant: 1 events" in daemon.log
    assert SECRET not in daemon.log
    assert "right" not in daemon.log


@pytest.mark.parametrize(
    "tls",
    ["{ca: ca.pem}", "{ca: ca.pem, cert: stranger.pem, key: stranger.key}"],
    ids=["no certificate", "a stranger's certificate"],
)
def test_without_a_certificate_of_the_authority_the_broker_is_waited_for_and_a_line_says_so(
    pki: Path, tls: str
) -> None:
    with tls_broker(pki) as broker, Daemon(pki, text_for(broker, tls)) as daemon:
        assert f"127.0.0.1:{broker.port}" in daemon.says("waiting for the broker")
        assert daemon.stop() == 0
    assert "connected" not in daemon.log
    assert "Traceback" not in daemon.log


def test_a_broker_with_a_certificate_for_another_host_is_refused(pki: Path) -> None:
    certificate(pki, "elsewhere", "ca", host="127.0.0.2")
    with tls_broker(pki, server="elsewhere") as broker, Daemon(pki, text_for(broker)) as daemon:
        line = daemon.says("waiting for the broker")
        assert "TLS: IP address mismatch" in line
        assert daemon.stop() == 0


def test_a_certificate_that_is_renewed_is_used_at_the_next_connect(pki: Path) -> None:
    with tls_broker(pki) as broker, Daemon(pki, text_for(broker)) as daemon:
        daemon.says("ready")
        certificate(pki, "edge", "ca")
        broker.restart()
        daemon.says("connected to", times=2)
        assert daemon.stop() == 0


def test_a_key_that_wants_a_passphrase_is_a_clear_line(pki: Path) -> None:
    certificate(pki, "locked", "ca", cipher=f"-passout pass:{SECRET}")
    with (
        tls_broker(pki) as broker,
        Daemon(pki, text_for(broker, "{ca: ca.pem, cert: locked.pem, key: locked.key}")) as daemon,
    ):
        assert daemon.ended() == 78
    assert "mqtt.tls.cert and mqtt.tls.key: " in daemon.log
    assert "Traceback" not in daemon.log


# Secrets


def test_no_command_shows_a_password(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "rows.csv").write_text("x\n1\n2\n")
    (tmp_path / "broker").mkdir()
    with Mosquitto(tmp_path / "broker", anonymous=False) as broker:
        path = tmp_path / "streamrnn.yaml"
        path.write_text(
            f"mqtt: {{url: '{broker.url}', username: edge, password_file: secret}}\nstate: kept\n"
            "home_assistant: {enabled: true}\n"
            "pipelines: {p: {input: {topic: a, fields: [x]}, model: {hidden: 4}}}\n"
        )
        with Daemon(tmp_path, path.read_text()) as daemon:
            daemon.says("refused the connection")
            assert daemon.stop() == 0
        shown = [daemon.log]
        for words in (
            ("check", "streamrnn.yaml"),
            ("replay", "streamrnn.yaml", "rows.csv"),
            ("state", "show", "streamrnn.yaml"),
            ("sniff", broker.url, "a", "--username", "edge", "--password-file", "secret"),
            ("sense", "--url", broker.url, "--username", "edge", "--password-file", "secret"),
        ):
            ended = subprocess.run(
                [sys.executable, "-m", "streamrnn", *words],
                cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S,
            )  # fmt: skip
            shown.append(ended.stdout + ended.stderr)
    assert [] == [text for text in shown if SECRET in text or "Traceback" in text]
    for file in (tmp_path / "kept").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_a_password_in_the_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "streamrnn.yaml"
    path.write_text(f"mqtt: {{url: 'mqtt://edge:{SECRET}@host'}}\npipelines: {{p: {{input: {{topic: a}}}}}}\n")
    for command in ("run", "check"):
        ended = subprocess.run(
            [sys.executable, "-m", "streamrnn", command, str(path)], capture_output=True, text=True, timeout=LIMIT_S
        )
        assert ended.returncode == 78
        assert SECRET not in ended.stderr + ended.stdout


# Topics

PLANT = """
mqtt: {{url: "{url}"}}
pipelines:
  plant: {{input: {{topic: "plant/#", fields: [x]}}, model: {{hidden: 4}}}}
  radio: {{input: {{topic: radio, key: "{{payload.id}}", fields: [x]}}, model: {{hidden: 4}}}}
"""


def test_no_topic_or_payload_makes_us_publish_where_the_broker_disconnects_us(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with (
        Daemon(tmp_path, PLANT.format(url=mosquitto.url)) as daemon,
        Client(mosquitto.port, "streamrnn/#", "elsewhere/#", "homeassistant/#") as client,
    ):
        daemon.says("ready")
        client.publish("plant" + "/x" * 199, b'{"x": 1}')  # with ours in front, beyond the 200 levels of mosquitto
        client.publish("plant/" + "x" * 600, b'{"x": 1}')
        for name in (
            "../elsewhere/a",
            "a/b",
            "+",
            "#",
            "a\0",
            "a\u0007",
            "a\ufffe",
            "$SYS",
            "x" * 65,
            "",
            None,
            ["a"],
        ):
            client.publish("radio", json.dumps({"id": name, "x": 1}))
        client.publish("radio", json.dumps({"id": "good one", "x": 1}))
        client.publish("plant" + "/x" * 99, b'{"x": 2}')
        topics = client.until(
            lambda got: {"streamrnn/radio/good one", "streamrnn/plant" + "/x" * 99} <= {each.topic for each in got}
        )
        assert daemon.stop() == 0
    ours = {"streamrnn/bridge/state", "streamrnn/bridge/info"}
    assert {"streamrnn/radio/good one", "streamrnn/plant" + "/x" * 99} == {each.topic for each in topics} - ours
    assert "lost the connection" not in daemon.log
    assert "2 key_too_long" in daemon.log
    assert "8 key_refused" in daemon.log
    assert "4 no_key" in daemon.log


def test_a_payload_beyond_the_limit_is_neither_queued_nor_kept(mosquitto: Mosquitto, tmp_path: Path) -> None:
    marker = b"oversized-marker"
    text = f"""
mqtt: {{url: "{mosquitto.url}"}}
state: kept
pipelines:
  small: {{input: {{topic: t/+, fields: [x]}}, model: {{hidden: 4}}, limits: {{payload_bytes: 100}}}}
"""
    with Daemon(tmp_path, text) as daemon, Client(mosquitto.port, "streamrnn/small/+") as client:
        daemon.says("ready")
        for _ in range(3):
            client.publish("t/a", b'{"x": 1, "pad": "' + marker * 10_000 + b'"}')
        client.publish("t/a", b'{"x": 2}')
        (output,) = client.outputs(1)
        assert daemon.stop() == 0
    assert (0, 2.0) == (output["seq"], output["value"]["x"])
    assert "3 too_large" in daemon.log
    kept = [file for file in (tmp_path / "kept").rglob("*") if file.is_file()]
    assert kept
    assert [] == [file for file in kept if marker in file.read_bytes()]


# What is typed

TYPED = ["zugzwang", "quixotry", "syzygies", "kumquats"]
KEYBOARD = """
mqtt: {{url: "{url}"}}
state: kept
checkpoint: 20
home_assistant: {{enabled: true}}
pipelines:
  keyboard: {{input: {{topic: keyboard/+, symbol: key}}, model: {{hidden: 8}}, limits: {{keys: 2}}}}
"""


def test_what_is_typed_is_in_outputs_and_in_the_private_state_and_nowhere_else(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    old = os.umask(0)  # files are private by themselves, not by the grace of the umask
    try:
        with (
            Daemon(tmp_path, KEYBOARD.format(url=mosquitto.url)) as daemon,
            Client(mosquitto.port, "streamrnn/bridge/#", "homeassistant/#") as others,
            Client(mosquitto.port, "streamrnn/keyboard/#") as outputs,
        ):
            daemon.says("ready")
            for i in range(60):
                outputs.publish(f"keyboard/{i % 3}", json.dumps({"key": TYPED[i % 4]}))
            for word in TYPED:
                outputs.publish("keyboard/0", f'{{"key": "{word}"'.encode())  # not JSON
                outputs.publish("keyboard/0", json.dumps({"key": word * 20}))  # no symbol: too long
            assert {*TYPED} == {output["symbol"] for output in outputs.outputs(60)}
            others.until(lambda got: sum(each.topic.endswith("/config") for each in got) >= 2)
            assert daemon.stop() == 0
            told = b"".join(each.topic.encode() + each.payload for each in others.taken)
    finally:
        os.umask(old)
    assert [] == [word for word in TYPED if word in daemon.log or word.encode() in told]
    assert (
        "keyboard: symbols are published as they are to streamrnn/keyboard/+, and kept as they are in" in daemon.log
    )
    state = tmp_path / "kept"
    everything = [state, *state.rglob("*")]
    open_to_others = [path for path in everything if path.stat().st_mode & 0o077]
    assert [] == open_to_others
    assert {"journal", "checkpoints", "parked"} <= {path.name for path in everything}
    assert any(TYPED[0].encode() in path.read_bytes() for path in everything if path.is_file())


def test_check_says_where_symbols_go(tmp_path: Path) -> None:
    path = tmp_path / "streamrnn.yaml"
    path.write_text("pipelines: {desk: {input: {topic: k/+, symbol: key}, model: {hidden: 4}}}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "streamrnn", "check", str(path)], capture_output=True, text=True, timeout=LIMIT_S
    )
    line = "desk: symbols are published as they are to streamrnn/desk/+, and kept nowhere but in memory"
    assert [line] == [each for each in ended.stdout.splitlines() if "symbols are" in each]


def test_notices_are_of_symbols_only_and_tell_of_a_folder_that_is_open(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    text = """
state: {state}
pipelines:
  numbers: {{input: {{topic: n, fields: [x]}}}}
  desk: {{input: {{topic: k, payload: text}}, output: {{retain: true}}}}
"""
    (told,) = notices(config.loads(text.format(state=folder)))
    assert "where the broker keeps the last" in told
    assert told.endswith(f"chmod 700 {folder}")
    folder.chmod(0o700)
    (told,) = notices(config.loads(text.format(state=folder)))
    assert told.endswith("for its owner alone")
