"""The daemon with a state directory, against a real broker: killed, short of disk, out of luck, and still right."""

from __future__ import annotations

import json
import random
import resource
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon import Client, Daemon
from mosquitto import Mosquitto, free_port

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.edges.parking import Remembered
from streamrnn.events import Message

CONFIG = """
mqtt: {{url: "{url}", client_id: "{client}"}}
state: {state}
durability: {durability}
checkpoint: {checkpoint}
pipelines:
  plant:
    input: {{topic: plant/+/telemetry, fields: [temperature], time: ts}}
    model: {{hidden: {hidden}}}
    limits: {{keys: {keys}}}
"""
PATIENT = ("max_queued_messages 100000", "max_inflight_messages 20")


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Mosquitto(tmp_path, PATIENT) as running:
        yield running


def plant(broker: Mosquitto, tmp_path: Path, **changes: object) -> str:
    values: dict[str, object] = {
        "url": broker.url,
        "client": "plant",
        "state": tmp_path / "state",
        "durability": "second",
        "checkpoint": 100,
        "hidden": 4,
        "keys": 1000,
    }
    return CONFIG.format(**values | changes)


def payload(i: int) -> str:
    return json.dumps({"ts": 1.7e9 + 60 * i, "temperature": 20 + (i % 17) / 7 + (i % 5) / 3})


def topic(i: int) -> str:
    return f"plant/pump-{i % 3}/telemetry"


def expected(text: str, count: int) -> dict[tuple[str, int], dict[str, Any]]:
    """What an undisturbed run gives."""
    loaded = config.loads(text)
    pipeline = build_pipeline("plant", loaded.pipelines["plant"], loaded.seed)
    pipeline.parking = Remembered(10)
    outputs = [
        msgspec.json.decode(encode(output))
        for i in range(count)
        for output in pipeline.process_all(Message(topic(i), payload(i).encode()))
    ]
    pipeline.close()
    return {(output["key"], output["seq"]): output for output in outputs}


def identity(payload: bytes) -> tuple[str, int]:
    output = json.loads(payload)
    return output["key"], output["seq"]


def by_identity(outputs: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """Outputs by what identifies them; a repeat must be the same to the last bit."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for output in outputs:
        output.pop("latency_us")
        assert found.setdefault((output["key"], output["seq"]), output) == output
    return found


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("durability", ["process", "second", "power"])
def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_been(
    broker: Mosquitto, tmp_path: Path, durability: str
) -> None:
    text = plant(broker, tmp_path, durability=durability, keys=2)  # so that the third is parked all the time
    rng, count, sent, reached = random.Random(durability), 600, 0, 0
    with Client(broker.port, "streamrnn/plant/#") as client:
        wanted = expected(text, count)
        for _ in range(3):
            with Daemon(tmp_path, text) as daemon:
                daemon.says("ready")
                for i in range(sent, sent + count // 4):
                    client.publish(topic(i), payload(i))
                sent += count // 4
                # Each life gets farther: two kills in the middle of one event look like an event that kills.
                reached += rng.randrange(40, 100)
                client.until(lambda got, reached=reached: len({identity(each.payload) for each in got}) >= reached)
                daemon.signal(signal.SIGKILL)
                daemon.ended()
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            for i in range(sent, count):
                client.publish(topic(i), payload(i))
            last = {(key, count // 3 - 1) for key in ("pump-0", "pump-1", "pump-2")}
            client.until(lambda got: last <= {identity(message.payload) for message in got[-300:]})
            assert daemon.stop() == 0
        got = by_identity([json.loads(message.payload) for message in client.taken])
    assert wanted == got
    assert "after 600 messages" in show(tmp_path, text)


def show(tmp_path: Path, text: str) -> str:
    """What the next start says of what it found."""
    with Daemon(tmp_path, text) as daemon:
        daemon.says("state: recovered")
        daemon.says("ready")
        daemon.stop()
        return daemon.log


def test_after_a_clean_end_nothing_is_processed_again(broker: Mosquitto, tmp_path: Path) -> None:
    text = plant(broker, tmp_path, checkpoint=10_000)
    with Client(broker.port, "streamrnn/plant/#") as client:
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            for i in range(50):
                client.publish(topic(i), payload(i))
            client.wait_for(50)
            assert daemon.stop() == 0
        with Daemon(tmp_path, text) as daemon:
            assert "recovered 0 messages" in daemon.says("state: recovered")
            daemon.says("ready")
            client.publish(topic(50), payload(50))
            output = client.outputs(51)[-1]
    output.pop("latency_us")
    assert expected(text, 51)[output["key"], 16] == output


def test_what_it_keeps_is_for_its_owner_alone(broker: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, plant(broker, tmp_path)) as daemon:
        daemon.says("ready")
        daemon.stop()
    for path in files(tmp_path / "state"):
        assert oct(path.stat().st_mode & 0o077) == "0o0", path
    assert oct((tmp_path / "state").stat().st_mode & 0o077) == "0o0"


def test_another_model_begins_anew_and_the_old_state_is_set_aside(broker: Mosquitto, tmp_path: Path) -> None:
    with Client(broker.port, "streamrnn/plant/#") as client:
        for hidden in (4, 5):
            with Daemon(tmp_path, plant(broker, tmp_path, hidden=hidden)) as daemon:
                daemon.says("ready")
                for i in range(30):
                    client.publish(topic(i), payload(i))
                outputs = client.outputs(30 if hidden == 4 else 60)
                assert outputs[-1]["seq"] == 9
                assert daemon.stop() == 0
    assert "is of another model" in daemon.log
    assert "plant: begins anew" in daemon.log
    assert len(files(tmp_path / "state" / "set-aside")) >= 1


def test_two_daemons_cannot_have_one_state_directory(broker: Mosquitto, tmp_path: Path) -> None:
    text = plant(broker, tmp_path)
    with Daemon(tmp_path, text) as first:
        first.says("ready")
        other = tmp_path / "other"
        other.mkdir()
        with Daemon(other, text.replace("client_id: plant", "client_id: other")) as second:
            assert second.ended() == 1
            assert f"in use by another streamrnn, process {first.pid}" in second.log
            assert "Traceback" not in second.log


def limit_files(daemon: Daemon, size: int) -> None:
    """Let no file of a running daemon grow beyond so many bytes: to it, the disk is full."""
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_while_the_disk_is_full_it_answers_and_does_not_acknowledge_and_then_it_heals(
    broker: Mosquitto, tmp_path: Path
) -> None:
    text = plant(broker, tmp_path)
    wanted = expected(text, 120)
    with (
        Client(broker.port, "streamrnn/plant/#", "streamrnn/bridge/state") as client,
        Daemon(tmp_path, text) as daemon,
    ):
        daemon.says("ready")
        for i in range(20):
            client.publish(topic(i), payload(i))
        client.wait_for(21)
        limit_files(daemon, 100)
        for i in range(20, 120):
            client.publish(topic(i), payload(i))
        daemon.says("messages are answered, but not kept, and not acknowledged")
        states = client.until(lambda got: any(b"not keeping" in message.payload for message in got))
        assert len(states) > 40  # it went on answering until the broker had enough in flight
        limit_files(daemon, resource.RLIM_INFINITY)
        daemon.says("the disk")
        client.until(lambda got: len([each for each in got if each.topic != "streamrnn/bridge/state"]) >= 120)
        client.until(lambda got: got[-1].payload == b"online" or any(m.payload == b"online" for m in got[40:]))
        daemon.signal(signal.SIGKILL)
        daemon.ended()
        outputs = [json.loads(each.payload) for each in client.taken if each.topic != "streamrnn/bridge/state"]
    assert wanted == by_identity(outputs)
    assert "after" in show(tmp_path, text)


def test_damage_to_its_newest_checkpoint_costs_it_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    text = plant(broker, tmp_path, checkpoint=40)
    with Client(broker.port, "streamrnn/plant/#") as client:
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            for i in range(200):
                client.publish(topic(i), payload(i))
                if i % 40 == 39:
                    client.wait_for(i + 1)
                    client.pause(1.5)
            daemon.stop()
        newest = sorted((tmp_path / "state" / "checkpoints" / "plant").iterdir())[-1]
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 16
        newest.write_bytes(content)
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            client.publish(topic(200), payload(200))
            output = client.outputs(201)[-1]
    assert "are damaged; moved to set-aside" in daemon.log
    output.pop("latency_us")
    assert expected(text, 201)[output["key"], output["seq"]] == output
    assert output["seq"] == 66


POISON = """
import os, signal
import streamrnn.pipeline as pipeline
answers = pipeline.Pipeline.answers
def dying(self, message):
    if b"poison" in message.payload:
        os.kill(os.getpid(), signal.SIGKILL)
    return answers(self, message)
pipeline.Pipeline.answers = dying
"""


def test_an_event_that_kills_it_twice_is_left_out_and_kept_for_a_person(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(POISON)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = plant(broker, tmp_path)
    with Client(broker.port, "streamrnn/plant/#") as client:
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            client.publish(topic(0), payload(0))
            client.publish(topic(1), '{"temperature": 3, "poison": 1}')
            client.publish(topic(2), payload(2))
            assert daemon.ended() == -signal.SIGKILL
        with Daemon(tmp_path, text) as daemon:
            assert daemon.ended() == -signal.SIGKILL
        with Daemon(tmp_path, text) as daemon:
            assert "message 1 on 'plant/pump-1/telemetry' killed the process twice" in daemon.says("killed")
            daemon.says("ready")
            client.publish(topic(3), payload(3))
            client.until(lambda got: any(b'"seq":1' in message.payload for message in got))
            assert daemon.stop() == 0
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            assert daemon.stop() == 0
    (found,) = (tmp_path / "state" / "quarantine").iterdir()
    assert found.name.startswith("1-")
    kept = json.loads(found.read_text())
    assert "plant/pump-1/telemetry" == kept["topic"]


def test_a_subscription_that_is_granted_and_not_served_is_told(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite streamrnn/#\ntopic write plant/#\ntopic read nothing\n")
    with Mosquitto(tmp_path, (f"acl_file {rules}",)) as broker:
        text = plant(broker, tmp_path).replace('client_id: "plant"', 'client_id: "plant", self_test: true')
        with Daemon(tmp_path, text) as daemon:
            line = daemon.says("granted this subscription")
            assert "plant/+/telemetry" in line
            daemon.stop()
            assert "subscriptions: 1 unserved" in daemon.log


def test_the_self_test_of_a_subscription_that_works_says_nothing_and_is_no_event(
    broker: Mosquitto, tmp_path: Path
) -> None:
    text = plant(broker, tmp_path).replace('client_id: "plant"', 'client_id: "plant", self_test: true')
    with (
        Client(broker.port, "plant/#") as client,
        Daemon(tmp_path, text) as daemon,
    ):
        daemon.says("ready")
        assert b"self-test" in client.wait_for(1)[0].payload
        client.pause(11)
        daemon.stop()
    assert "granted this" not in daemon.log
    assert "plant: 0 events" in daemon.log


# An end in every phase


def ends(daemon: Daemon, status: int = 0) -> None:
    daemon.signal(signal.SIGTERM)
    assert daemon.ended() == status
    assert "Traceback" not in daemon.log


def test_it_ends_at_once_while_kernels_are_compiled(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMRNN_CACHE_DIR", str(tmp_path / "cache"))
    with Daemon(tmp_path, plant(broker, tmp_path)) as daemon:
        daemon.says("compiling kernels")
        ends(daemon)
    assert "ready" not in daemon.log


def test_it_ends_while_it_recovers_and_recovers_the_next_time(broker: Mosquitto, tmp_path: Path) -> None:
    text = plant(broker, tmp_path, checkpoint=1_000_000)
    count = 3000
    with Client(broker.port, "streamrnn/plant/#") as client:
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            for i in range(count):
                client.publish(topic(i), payload(i))
            client.wait_for(count)
            client.pause(2.5)
            daemon.signal(signal.SIGKILL)
        with Daemon(tmp_path, text) as daemon:
            daemon.says("goes on from its checkpoint")
            ends(daemon)
        assert f"recovered {count} messages" in show(tmp_path, text)


def test_it_ends_while_it_waits_for_the_broker(tmp_path: Path) -> None:
    text = CONFIG.format(
        url=f"mqtt://127.0.0.1:{free_port()}", client="plant", state=tmp_path / "state", durability="second",
        checkpoint=100, hidden=4, keys=1000,
    )  # fmt: skip
    with Daemon(tmp_path, text) as daemon:
        daemon.says("waiting for the broker")
        ends(daemon)


def test_messages_that_wait_when_it_ends_are_answered_at_the_next_start(broker: Mosquitto, tmp_path: Path) -> None:
    text = plant(broker, tmp_path)
    with Client(broker.port, "streamrnn/plant/#") as client:
        with Daemon(tmp_path, text) as daemon:
            daemon.says("ready")
            for i in range(2000):
                client.publish(topic(i), payload(i))
            client.wait_for(100)
            ends(daemon)
        with Daemon(tmp_path, text) as daemon:
            client.until(lambda got: json.loads(got[-1].payload)["time"] == 1.7e9 + 60 * 1999)
            daemon.stop()
        got = by_identity([json.loads(each.payload) for each in client.taken])
    assert expected(text, 2000) == got


def test_a_second_signal_ends_it_whatever_it_does(broker: Mosquitto, tmp_path: Path) -> None:
    text = plant(broker, tmp_path)
    with Daemon(tmp_path, text) as daemon:
        daemon.says("ready")
        broker.freeze()  # so that there is no end to its goodbye
        daemon.signal(signal.SIGTERM)
        daemon.says("stopping: draining")
        daemon.signal(signal.SIGTERM)
        assert daemon.ended() == 1
    assert "stopping at once" in daemon.log


def test_a_state_directory_that_cannot_be_made_is_a_clear_line(broker: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Daemon(tmp_path, plant(broker, tmp_path, state=tmp_path / "file" / "state")) as daemon:
        assert daemon.ended() == 1
    assert f"state: {tmp_path}/file/state: not a directory" in daemon.log
    assert "Traceback" not in daemon.log


def test_a_slow_pipeline_loses_nothing_of_a_burst(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = (
        POISON.replace("os.kill(os.getpid(), signal.SIGKILL)", "pass")
        .replace("import os, signal", "import time")
        .replace("    return answers", "    time.sleep(0.001)\n    return answers")
    )
    (tmp_path / "sitecustomize.py").write_text(slow)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = plant(broker, tmp_path).replace("limits: {", "limits: {queue: 100, ")
    count = 2000
    with Client(broker.port, "streamrnn/plant/#") as client, Daemon(tmp_path, text) as daemon:
        daemon.says("ready")
        for i in range(count):
            client.publish(topic(i), payload(i))
        got = by_identity(client.outputs(count))
        daemon.stop()
    assert expected(text, count) == got
