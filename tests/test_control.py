"""Requests to the daemon through a real broker: what it answers, does, and does again after a kill."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon import Client, Daemon
from mosquitto import Mosquitto
from paho.mqtt.client import MQTTMessage

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.events import Message
from streamrnn.requests import REQUEST, RESPONSE, Reply, take
from streamrnn.versions import versions

CONFIG = """
mqtt: {{url: "{url}", control: {control}}}
{more}
pipelines:
  plant:
    input: {{topic: [plant/+/telemetry, hall/#], key: "{{1}}", fields: [temperature], time: ts}}
    model: {{hidden: 4}}
    limits: {{payload_bytes: 60}}
  all:
    input: {{topic: "#", key: all, fields: [temperature]}}
    model: {{hidden: 4}}
    output: {{topic: null}}
"""
PATIENT = ("max_queued_messages 100000", "max_inflight_messages 20")
BRIDGE = "streamrnn/bridge/"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, PATIENT) as running:
        yield running


def text_for(broker: Mosquitto, control: bool = True, more: str = "") -> str:
    return CONFIG.format(url=broker.url, control=str(control).lower(), more=more)


def payload(i: int) -> str:
    return json.dumps({"ts": 1.7e9 + 60 * i, "temperature": round(20 + (i % 17) / 7 + (i % 5) / 3, 3)})


def topic(i: int) -> str:
    return f"plant/pump-{i % 3}/telemetry"


def ask(client: Client, name: str, *, retain: bool = False, **body: Any) -> None:
    client.publish(REQUEST + name, json.dumps(body) if body else "", retain=retain)


def answers(got: list[MQTTMessage]) -> list[dict[str, Any]]:
    return [json.loads(each.payload) | {"name": each.topic.removeprefix(RESPONSE)} for each in got]


def asked(client: Client, name: str, **body: Any) -> dict[str, Any]:
    """Ask, and wait for the next answer; the client listens to nothing else."""
    before = client.got
    ask(client, name, **body)
    (answer,) = answers(client.wait_for(before + 1)[before:])
    assert answer.pop("name") == name
    return answer


def test_each_request_is_answered_and_does_what_it_says(broker: Mosquitto, tmp_path: Path) -> None:
    with (
        Client(broker.port, RESPONSE + "#") as asking,
        Client(broker.port, "streamrnn/plant/+") as client,
        Daemon(tmp_path, text_for(broker)) as daemon,
    ):
        daemon.says("ready")
        for i in range(60):
            client.publish(topic(i), payload(i))
        client.wait_for(60)
        health = asked(asking, "health")
        assert ("ok", True, []) == (health["status"], health["data"]["ready"], health["data"]["why"])
        assert "transaction" not in health
        plant = health["data"]["pipelines"]["plant"]
        assert (60, 3, "on") == (plant["events"], plant["keys"], plant["learning"])

        summary = asked(asking, "state/get", pipeline="plant", key="pump-1", transaction="t")
        assert "t" == summary["transaction"]
        assert (20, 1.7e9 + 60 * 58) == (summary["data"]["events"], summary["data"]["time"])

        paused = asked(asking, "learn/pause", pipeline="plant", transaction="a string")
        assert {"pipeline": "plant", "learning": "paused"} == paused["data"]
        assert "a string" == paused["transaction"]
        updates = asked(asking, "state/get", pipeline="plant", key="pump-1")["data"]["updates"]
        for i in range(60, 120):
            client.publish(topic(i), payload(i))
        assert {updates} == {output["updates"] for output in client.outputs(120)[60:]}
        assert "on" == asked(asking, "learn/resume", pipeline="plant")["data"]["learning"]
        for i in range(120, 180):
            client.publish(topic(i), payload(i))
        assert client.outputs(180)[-1]["updates"] > updates

        assert "ok" == asked(asking, "state/reset", pipeline="plant", key="pump-1")["status"]
        for i in range(180, 183):
            client.publish(topic(i), payload(i))
        after = {output["key"]: output["seq"] for output in client.outputs(183)[180:]}
        assert {"pump-0": 60, "pump-1": 0, "pump-2": 60} == after
        assert daemon.stop() == 0
    assert "all: 183 events" in daemon.log  # of what is below streamrnn/bridge/ none
    assert "Traceback" not in daemon.log


def test_what_cannot_be_done_is_answered_with_an_error_and_nothing_stops(broker: Mosquitto, tmp_path: Path) -> None:
    wrong = [
        ("health", b"{"),
        ("health", b"\xff"),
        ("health", b"[" * 5000),
        ("health", b"x" * 100_000),
        ("nothing/of/that/name", b""),
        ("learn/pause", b'{"pipeline": "none"}'),
        ("state/get", b'{"pipeline": "plant", "key": "none"}'),
        ("state/reset", b'{"pipeline": "plant", "key": "none"}'),
        ("state/reset", b'{"pipeline": "plant"}'),
    ]
    with Client(broker.port, RESPONSE + "#") as client, Daemon(tmp_path, text_for(broker)) as daemon:
        daemon.says("ready")
        for name, body in wrong:
            client.publish(REQUEST + name, body)
        told = answers(client.wait_for(len(wrong)))
        assert sorted(name for name, _ in wrong) == sorted(each["name"] for each in told)
        assert ["error"] * len(wrong) == [each["status"] for each in told]
        assert "ok" == asked(client, "health")["status"]
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def test_off_by_default_it_neither_subscribes_nor_answers(broker: Mosquitto, tmp_path: Path) -> None:
    text = text_for(broker).replace(", control: true", "")
    assert not config.loads(text).mqtt.control
    with Client(broker.port, RESPONSE + "#", "streamrnn/plant/+") as client, Daemon(tmp_path, text) as daemon:
        daemon.says("ready")
        for name in ("health", "learn/pause", "state/reset"):
            ask(client, name, pipeline="plant", key="pump-0")  # `all` listens to everything
        client.publish(topic(0), payload(0))
        (came,) = client.wait_for(1)
        assert daemon.stop() == 0
    assert "streamrnn/plant/pump-0" == came.topic
    assert 1 == client.got
    assert f"{REQUEST}# (QoS 1)" not in broker.log
    assert "all: 1 events" in daemon.log
    assert "plant: 1 events" in daemon.log


def test_on_it_subscribes_at_qos_1(broker: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, text_for(broker)) as daemon:
        daemon.says("ready")
        assert f"{REQUEST}# (QoS 1)" in broker.log


def test_a_retained_request_is_refused(broker: Mosquitto, tmp_path: Path) -> None:
    with Client(broker.port, RESPONSE + "#", "streamrnn/plant/+") as client:
        ask(client, "learn/pause", retain=True, pipeline="plant", transaction="old")
        client.flush()
        # Without `all`, whose subscription matches too: a broker sends what it retains once for each.
        with Daemon(tmp_path, text_for(broker).partition("  all:")[0]) as daemon:
            (told,) = answers(client.wait_for(1))
            daemon.says("ready")
            health = asked(client, "health")
            assert daemon.stop() == 0
    assert ("error", "old") == (told["status"], told["transaction"])
    assert "retained" in told["error"]
    assert "on" == health["data"]["pipelines"]["plant"]["learning"]


def test_access_rules_decide_who_may_ask(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text(
        "topic read streamrnn/bridge/#\ntopic write streamrnn/bridge/#\ntopic read plant/#\n"
        "topic read hall/#\ntopic deny streamrnn/bridge/request/learn/#\n"
    )
    with (
        Mosquitto(tmp_path, (f"acl_file {rules}",)) as broker,
        Client(broker.port, RESPONSE + "#") as client,
        Daemon(tmp_path, text_for(broker)) as daemon,
    ):
        daemon.says("ready")
        ask(client, "learn/pause", pipeline="plant")
        assert "on" == asked(client, "health")["data"]["pipelines"]["plant"]["learning"]


# What it is, retained


def infos(client: Client, enough: Any) -> dict[str, Any]:
    (*_, last) = client.until(lambda got: bool(got) and enough(json.loads(got[-1].payload)))
    told: dict[str, Any] = json.loads(last.payload)
    return told


def test_info_is_retained_and_follows_the_pipelines(broker: Mosquitto, tmp_path: Path) -> None:
    text = text_for(broker, control=False)
    with Daemon(tmp_path, text) as daemon:
        daemon.says("ready")
        with Client(broker.port, BRIDGE + "info") as client:
            told = infos(client, bool)
            assert daemon.stop() == 0
    assert versions()["streamrnn"] == told["version"]
    assert not told["control"]
    assert ["all", "plant"] == sorted(told["pipelines"])
    plant = told["pipelines"]["plant"]
    assert (["plant/+/telemetry", "hall/#"], "streamrnn/{pipeline}/{key}") == (plant["topics"], plant["output"])
    assert (["temperature"], "on", 4) == (plant["fields"], plant["learning"], plant["model"]["hidden"])
    assert b"" != broker_retains(broker, "info")

    only = text.partition("  all:")[0].replace("control: false", "control: true")
    with Client(broker.port, BRIDGE + "info") as client, Daemon(tmp_path, only) as daemon:
        assert ["plant"] == sorted(infos(client, lambda info: info["control"])["pipelines"])
        ask(client, "learn/pause", pipeline="plant")
        infos(client, lambda info: info["pipelines"]["plant"]["learning"] == "paused")
        assert daemon.stop() == 0
    assert ["plant"] == sorted(json.loads(broker_retains(broker, "info"))["pipelines"])


def broker_retains(broker: Mosquitto, name: str) -> bytes:
    with Client(broker.port, BRIDGE + name) as client:
        (retained,) = client.wait_for(1)
        assert retained.retain
        return bytes(retained.payload)


def test_info_is_there_again_after_the_broker_has_forgotten_it(broker: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, text_for(broker)) as daemon:
        daemon.says("ready")
        assert broker_retains(broker, "info")
        broker.restart()  # it keeps nothing on a disk
        daemon.says("connected to", times=2)
        with Client(broker.port, BRIDGE + "info") as client:
            infos(client, bool)


# In their turn, and after a kill


def script(count: int) -> list[tuple[str, str]]:
    """Events, with pauses, resumptions and resets among them."""
    rng = random.Random(7)
    lines = []
    for i in range(count):
        lines.append((topic(i), payload(i)))
        if i % 23 == 11:
            name = rng.choice(("learn/pause", "learn/resume", "learn/resume", "state/reset"))
            body = {"pipeline": "plant", "key": f"pump-{rng.randrange(3)}", "transaction": i}
            lines.append((REQUEST + name, json.dumps(body)))
    return lines


def undisturbed(text: str, lines: list[tuple[str, str]]) -> list[str]:
    """All that comes of them in one go, each as JSON without what differs between runs."""
    loaded = config.loads(text)
    pipeline = build_pipeline("plant", loaded.pipelines["plant"], loaded.seed)
    found = []
    for name, body in lines:
        for output in take(pipeline, Message(name, body.encode())):
            found.append(plain(output.payload if isinstance(output, Reply) else encode(output)))
    pipeline.close()
    return found


def plain(body: bytes) -> str:
    return json.dumps({name: value for name, value in msgspec.json.decode(body).items() if name != "latency_us"})


def without_repeats(told: list[str]) -> list[str]:
    """As they came first: what was answered and not acknowledged by the broker is answered again after a kill."""
    return list(dict.fromkeys(told))


def test_killed_again_and_again_it_pauses_resumes_and_resets_where_it_would_have(
    broker: Mosquitto, tmp_path: Path
) -> None:
    text = text_for(broker, more=f"state: {tmp_path}/state\ncheckpoint: 50\n")
    lines, rng, sent = script(600), random.Random(1), 0
    wanted = undisturbed(text, lines)
    assert {"learn/pause", "learn/resume", "state/reset"} <= {name.removeprefix(REQUEST) for name, _ in lines}
    with Client(broker.port, "streamrnn/plant/+", RESPONSE + "#") as client:
        for _ in range(5):
            with Daemon(tmp_path, text) as daemon:
                daemon.says("ready")
                for name, body in lines[sent : sent + 100]:
                    client.publish(name, body)
                sent += 100
                client.wait_for(client.got + rng.randrange(1, 90))
                daemon.signal(signal.SIGKILL)
                daemon.ended()
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            for name, body in lines[sent:]:
                client.publish(name, body)
            client.until(lambda got: plain(got[-1].payload) == wanted[-1])
            assert daemon.stop() == 0
        assert "Traceback" not in daemon.log
        assert without_repeats(wanted) == without_repeats([plain(each.payload) for each in client.taken])


def test_a_pause_outlives_a_kill_and_the_next_start_without_control(broker: Mosquitto, tmp_path: Path) -> None:
    text = text_for(broker, more=f"state: {tmp_path}/state\n")
    with Client(broker.port, "streamrnn/plant/+", RESPONSE + "#") as client:
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            for i in range(100):
                client.publish(topic(i), payload(i))
            ask(client, "learn/pause", pipeline="plant")
            client.wait_for(101)
            daemon.signal(signal.SIGKILL)
            daemon.ended()
        with Daemon(tmp_path, text.replace("control: true", "control: false")) as daemon:
            daemon.says("ready")
            before = {plain(each.payload) for each in client.taken}
            for i in range(100, 160):
                client.publish(topic(i), payload(i))
            client.until(lambda got: json.loads(got[-1].payload).get("time") == 1.7e9 + 60 * 159)
            assert daemon.stop() == 0
        assert "3 keys, learning paused" in daemon.log
        new = [json.loads(each.payload) for each in client.taken if plain(each.payload) not in before]
    assert 60 == len(new)
    assert 1 == len({output["updates"] for output in new})


def test_a_request_that_is_longer_than_an_event_may_be_is_done(broker: Mosquitto, tmp_path: Path) -> None:
    with Client(broker.port, RESPONSE + "#") as client, Daemon(tmp_path, text_for(broker)) as daemon:
        daemon.says("ready")
        told = asked(client, "learn/pause", pipeline="plant", transaction="x" * 200)
        assert daemon.stop() == 0
    assert "ok" == told["status"]


def test_a_key_cannot_lead_outputs_to_topics_of_ours(broker: Mosquitto, tmp_path: Path) -> None:
    text = f"""
mqtt: {{url: "{broker.url}", control: true}}
pipelines:
  plant: {{input: {{topic: plant/#, fields: [x]}}, model: {{hidden: 4}}, output: {{topic: "streamrnn/{{key}}"}}}}
"""
    with Client(broker.port, "streamrnn/#") as client, Daemon(tmp_path, text) as daemon:
        daemon.says("ready")
        for name in ("state", "request/health", "response/health"):
            client.publish(f"plant/bridge/{name}", '{"x": 1}')
        client.publish("plant/fine", '{"x": 1}')
        came = client.until(lambda got: any(each.topic == "streamrnn/fine" for each in got))
        assert daemon.stop() == 0
    assert {"streamrnn/fine"} == {each.topic for each in came} - {BRIDGE + "state", BRIDGE + "info"}
    assert {b"online", b"offline"} >= {each.payload for each in came if each.topic == BRIDGE + "state"}
    assert "3 output_reserved" in daemon.log
