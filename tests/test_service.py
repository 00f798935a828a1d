"""The daemon against a real broker: what goes in, what comes out, and what it survives."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import msgspec
from daemon import Client, Daemon
from mosquitto import Mosquitto, free_port

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.events import Message

CONFIG = """
mqtt: {{url: "{url}"}}
pipelines:
  plant:
    input: {{topic: plant/+/telemetry, fields: [temperature, vibration.rms], time: ts}}
    model: {{hidden: 8}}
    limits: {{queue: {queue}}}
"""


def plant(broker: Mosquitto, queue: int = 10_000) -> str:
    return CONFIG.format(url=broker.url, queue=queue)


def reading(i: int) -> dict[str, object]:
    """A daily wave with a spike and a gap in one field."""
    temperature = 20 + 5 * math.sin(i / 20) + (40 if i == 700 else 0)
    vibration = None if i % 50 == 3 else 0.1 + 0.01 * (i % 7)
    return {"ts": 1.7e9 + 60 * i, "temperature": temperature, "vibration": {"rms": vibration}}


def payload(i: int) -> str:
    return json.dumps(reading(i))


def replayed(text: str, name: str, messages: list[Message]) -> list[dict[str, object]]:
    """What the pipeline gives without MQTT, as it would be published."""
    loaded = config.loads(text)
    pipeline = build_pipeline(name, loaded.pipelines[name], loaded.seed)
    outputs = [msgspec.json.decode(encode(each)) for message in messages for each in pipeline.process_all(message)]
    pipeline.close()
    return outputs


def without_latency(outputs: list[dict[str, object]]) -> list[dict[str, object]]:
    assert all(output["latency_us"] > 0 for output in outputs)
    return [{name: value for name, value in output.items() if name != "latency_us"} for output in outputs]


def test_live_outputs_equal_those_of_a_replay_bit_for_bit(mosquitto: Mosquitto, tmp_path: Path) -> None:
    events = 1500
    with (
        Daemon(tmp_path, plant(mosquitto)) as daemon,
        Client(mosquitto.port, "streamrnn/plant/#") as client,
    ):
        daemon.says("ready")
        for i in range(events):
            client.publish(f"plant/pump-{i % 3}/telemetry", payload(i))
        live = without_latency(client.outputs(events))
    recorded = [Message(f"plant/pump-{i % 3}/telemetry", payload(i).encode()) for i in range(events)]
    assert replayed(plant(mosquitto), "plant", recorded) == live
    assert live[-1]["updates"] > 300


def test_garbage_is_counted_and_logged_once_and_nothing_stops(mosquitto: Mosquitto, tmp_path: Path) -> None:
    rubbish: list[bytes] = [
        b"",
        b"online",
        b'{"temperature": nan}',
        b'"temperature": 21.5}',
        b'{"ts": 4,temperature": 25}',
        b"\xff\xfe\x00" * 100,
        b"x" * 1_000_000,
        b'{"temperature": "warm"}',
        b"[" * 10_000,
    ]
    with (
        Daemon(tmp_path, plant(mosquitto)) as daemon,
        Client(mosquitto.port, "streamrnn/plant/#") as client,
    ):
        daemon.says("ready")
        for each in rubbish * 3:
            client.publish("plant/pump/telemetry", each)
        client.publish("plant/a pump with blanks/telemetry", payload(0))
        client.publish("plant/pump/telemetry", payload(1))
        outputs = client.outputs(2)
        assert daemon.stop() == 0
    assert [("a pump with blanks", 0), ("pump", 0)] == [(output["key"], output["seq"]) for output in outputs]
    for reason, count in (("empty", 3), ("too_large", 3), ("no_value", 6), ("not_json", 15)):
        assert f"{count} {reason}" in daemon.log
        assert daemon.log.count(f"is not an event: {reason}") == 1
    assert "Traceback" not in daemon.log


def test_a_broker_that_restarts_is_subscribed_to_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, plant(mosquitto)) as daemon:
        daemon.says("ready")
        with Client(mosquitto.port, "streamrnn/plant/#") as client:
            client.publish("plant/pump/telemetry", payload(0))
            client.wait_for(1)
        mosquitto.restart()
        daemon.says("connected to", times=2)
        with Client(mosquitto.port, "streamrnn/plant/#", "streamrnn/bridge/state") as client:
            client.wait_for(1)  # online, published after the new subscription was asked for
            client.publish("plant/pump/telemetry", payload(1))
            output = json.loads(client.wait_for(2)[-1].payload)
        assert output["seq"] == 1
        assert output["error"]["temperature"] is not None
        assert daemon.stop() == 0


def test_without_a_broker_it_waits_says_so_and_connects_when_there_is_one(tmp_path: Path) -> None:
    port = free_port()
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    broker = Mosquitto(directory)
    text = plant(broker)
    with Daemon(tmp_path, text) as daemon:
        line = daemon.says("waiting for the broker")
        assert f"127.0.0.1:{broker.port}" in line
        assert port != broker.port
        with broker:
            daemon.says("ready")
            assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def test_a_wrong_password_is_one_clear_line(tmp_path: Path) -> None:
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    (tmp_path / "password").write_text("hunter2\n")
    text_for = (
        "mqtt: {{url: '{url}', username: edge, password_file: password}}\npipelines: {{p: {{input: {{topic: a}}}}}}"
    )
    with (
        Mosquitto(directory, anonymous=False) as broker,
        Daemon(tmp_path, text_for.format(url=broker.url)) as daemon,
    ):
        line = daemon.says("refused the connection")
        assert "password" in line
        assert daemon.stop() == 0
    assert "hunter2" not in daemon.log
    assert "Traceback" not in daemon.log


def test_stopping_answers_everything_that_was_acknowledged(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with (
        Daemon(tmp_path, plant(mosquitto)) as daemon,
        Client(mosquitto.port, "streamrnn/plant/#", "streamrnn/bridge/state") as client,
    ):
        daemon.says("ready")
        for i in range(3000):
            client.publish("plant/pump/telemetry", payload(i))
        client.wait_for(100)
        assert daemon.stop() == 0
        client.flush()
        answered = int(daemon.log.rsplit("plant: ", 1)[1].split(" events")[0])
        messages = client.wait_for(answered + 2)
    assert b"online" == messages[0].payload
    assert b"offline" == messages[-1].payload
    outputs = [json.loads(message.payload) for message in messages[1:-1]]
    assert list(range(answered)) == [output["seq"] for output in outputs]
    assert daemon.log.rstrip().endswith("0 waiting") or "0 waiting," in daemon.log.splitlines()[-1]


def test_a_small_queue_presses_back_and_loses_nothing_at_qos_1(mosquitto: Mosquitto, tmp_path: Path) -> None:
    events = 3000
    with (
        Daemon(tmp_path, plant(mosquitto, queue=5)) as daemon,
        Client(mosquitto.port, "streamrnn/plant/#") as client,
    ):
        daemon.says("ready")
        for i in range(events):
            client.publish("plant/pump/telemetry", payload(i))
        outputs = client.outputs(events)
        assert daemon.stop() == 0
    assert list(range(events)) == [output["seq"] for output in outputs]
    assert "queue_dropped" not in daemon.log


def test_a_full_queue_drops_qos_0_and_counts_it(mosquitto: Mosquitto, tmp_path: Path) -> None:
    events = 3000
    with (
        Daemon(tmp_path, plant(mosquitto, queue=5)) as daemon,
        Client(mosquitto.port, "streamrnn/plant/#") as client,
    ):
        daemon.says("ready")
        for i in range(events):
            client.publish("plant/pump/telemetry", payload(i), qos=0)
        client.publish("plant/last/telemetry", payload(0))
        while json.loads(client.wait_for(client.got + 1)[-1].payload)["key"] != "last":
            pass
        assert daemon.stop() == 0
    last = daemon.log.rstrip().splitlines()[-1]
    answered = int(last.split("plant: ")[1].split(" events")[0])
    dropped = int(last.split(" queue_dropped")[0].rsplit(", ", 1)[1])
    assert events + 1 == answered + dropped
    assert dropped > 0


def test_several_pipelines_topics_and_shared_subscriptions_work_side_by_side(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    text = f"""
mqtt: {{url: "{mosquitto.url}"}}
pipelines:
  numbers:
    input: {{topic: [home/+/temperature, "$share/edge/garden/#"], payload: number, qos: 0}}
    model: {{hidden: 4}}
    output: {{topic: "out/{{pipeline}}/{{key}}", qos: 0}}
  keys:
    input: {{topic: keyboard/+, symbol: key}}
    model: {{hidden: 4}}
    output: {{topic: "out/{{pipeline}}/{{key}}"}}
  letters:
    input: {{topic: text/+, payload: text}}
    model: {{hidden: 4}}
    output: {{topic: "out/{{pipeline}}/{{key}}"}}
"""
    with Daemon(tmp_path, text) as daemon, Client(mosquitto.port, "out/#") as client:
        daemon.says("ready")
        client.publish("home/kitchen/temperature", "21.5")
        client.publish("garden/shed/north", "3")
        client.publish("keyboard/desk", '{"key": "Enter"}')
        client.publish("text/book", "ab")
        outputs = client.outputs(5)
        assert daemon.stop() == 0
    found = {
        (output["pipeline"], output["key"], output.get("symbol") or output["value"]["value"]) for output in outputs
    }
    assert {
        ("numbers", "kitchen", 21.5),
        ("numbers", "shed/north", 3.0),
        ("keys", "desk", "Enter"),
        ("letters", "book", "a"),
        ("letters", "book", "b"),
    } == found


def test_a_retained_message_is_answered_but_not_learned_from(mosquitto: Mosquitto, tmp_path: Path) -> None:
    events = 100
    with Client(mosquitto.port) as before:
        before.publish("plant/pump/telemetry", payload(999), retain=True)
        before.flush()
    with (
        Client(mosquitto.port, "streamrnn/plant/#") as client,
        Daemon(tmp_path, plant(mosquitto)) as daemon,
    ):
        daemon.says("ready")
        client.wait_for(1)
        for i in range(events):
            client.publish("plant/pump/telemetry", payload(i))
        live = without_latency(client.outputs(events + 1))
        assert daemon.stop() == 0
    assert live[0]["seq"] == 0
    assert live[0]["forecast"] == {"temperature": None, "vibration.rms": None}
    plain = replayed(
        plant(mosquitto), "plant", [Message("plant/pump/telemetry", payload(i).encode()) for i in range(events)]
    )
    assert [{**output, "seq": output["seq"] + 1} for output in plain] == live[1:]
    assert "1 retained" in daemon.log


def test_a_second_signal_ends_it_at_once(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, plant(mosquitto)) as daemon:
        daemon.says("ready")
        mosquitto.freeze()  # so that saying goodbye takes its deadline
        daemon.signal(signal.SIGTERM)
        daemon.says("stopping: draining")
        daemon.signal(signal.SIGTERM)
        assert daemon.ended() == 1
    assert "stopping at once" in daemon.log


def test_a_signal_while_kernels_compile_or_no_broker_is_there_ends_it_too(tmp_path: Path) -> None:
    with Daemon(
        tmp_path, f"mqtt: {{url: 'mqtt://127.0.0.1:{free_port()}'}}\npipelines: {{p: {{input: {{topic: a}}}}}}"
    ) as daemon:
        daemon.says("p: compiling kernels")
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def test_a_long_text_gives_an_output_per_character_and_leaves_the_loop_to_others(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    characters = 30_000
    text = f"""
mqtt: {{url: "{mosquitto.url}"}}
pipelines:
  letters:
    input: {{topic: text/+, payload: text}}
    model: {{hidden: 4}}
    learn: {{enabled: false}}
  numbers:
    input: {{topic: number, payload: number}}
    model: {{hidden: 4}}
"""
    with (
        Daemon(tmp_path, text) as daemon,
        Client(mosquitto.port, "streamrnn/letters/#", "streamrnn/numbers/#") as client,
    ):
        daemon.says("ready")
        client.publish("text/book", "ab" * (characters // 2))
        client.publish("number", "1")
        outputs = client.outputs(characters + 1)
        assert daemon.stop() == 0
    letters = [output for output in outputs if output["pipeline"] == "letters"]
    assert list(range(characters)) == [output["seq"] for output in letters]
    assert "numbers" in {output["pipeline"] for output in outputs[: characters // 2]}
    assert "publish_dropped" not in daemon.log


def test_a_topic_of_two_pipelines_is_subscribed_to_at_the_higher_qos(mosquitto: Mosquitto, tmp_path: Path) -> None:
    text = f"""
mqtt: {{url: "{mosquitto.url}"}}
pipelines:
  careful: {{input: {{topic: a/b, qos: 1}}, model: {{hidden: 4}}}}
  careless: {{input: {{topic: a/b, qos: 0}}, model: {{hidden: 4}}}}
"""
    with Daemon(tmp_path, text) as daemon:
        daemon.says("ready")
        assert daemon.stop() == 0
    assert "a/b (QoS 1)" in mosquitto.log
    assert "a/b (QoS 0)" not in mosquitto.log
