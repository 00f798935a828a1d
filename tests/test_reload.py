"""The daemon goes on with another configuration while it runs: what is the same in it notices nothing."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon import Client, Daemon
from mosquitto import Mosquitto

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.errors import StateError
from streamrnn.events import Message
from streamrnn.service import Service
from streamrnn.serving.reload import difference, immovable

HEAD = """
mqtt: {{url: "{url}", client_id: reloaded}}
state: {state}
pipelines:
"""
PIPELINE = """
  {name}:
    input: {{topic: {topic}/+, fields: [x], time: t}}
    model: {{hidden: {hidden}}}
    learn: {{rate: {rate}, every: 8, length: 16}}
    output: {{topic: "{out}/{{pipeline}}/{{key}}"}}
"""
PATIENT = ("max_queued_messages 100000", "max_inflight_messages 20")


def pipeline(name: str, topic: str = "plant", hidden: int = 4, rate: float = 0.004, out: str = "out") -> str:
    return PIPELINE.format(name=name, topic=topic, hidden=hidden, rate=rate, out=out)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, PATIENT) as running:
        yield running


def head(broker: Mosquitto, tmp_path: Path) -> str:
    return HEAD.format(url=broker.url, state=tmp_path / "state")


def payload(i: int) -> str:
    return json.dumps({"t": 1.7e9 + 60 * i, "x": 20 + (i % 17) / 7 + (i % 5) / 3})


def undisturbed(text: str, name: str, numbers: range, topic: str = "plant/a") -> list[dict[str, Any]]:
    """What a pipeline answers that nobody reloads."""
    loaded = config.loads(text)
    built = build_pipeline(name, loaded.pipelines[name], loaded.seed)
    outputs = [
        msgspec.json.decode(encode(output))
        for i in numbers
        for output in built.process_all(Message(topic, payload(i).encode()))
    ]
    built.close()
    return outputs


def outputs_of(client: Client, name: str) -> list[dict[str, Any]]:
    """What came of a pipeline, in order, without the time it took."""
    outputs = [json.loads(message.payload) for message in client.taken]
    for output in outputs:
        del output["latency_us"]
    return [output for output in outputs if output["pipeline"] == name]


def came(client: Client, name: str, count: int) -> None:
    """Wait for so many outputs of a pipeline."""
    mark = f'"pipeline":"{name}"'.encode()
    client.until(lambda got: sum(mark in message.payload for message in got) >= count)


def answered(client: Client, name: str, seq: int) -> None:
    """Wait for this output of a pipeline: counts would take in what is sent again after a kill."""
    mark = f'"pipeline":"{name}","key":"a","seq":{seq},'.encode()
    client.until(lambda got: any(mark in message.payload for message in got))


def reload(daemon: Daemon, text: str, times: int = 1) -> None:
    daemon.path.write_text(text)
    daemon.signal(signal.SIGHUP)
    daemon.says("reload: done", times)


def test_an_unchanged_pipeline_answers_as_if_nobody_reloaded_while_events_come(
    broker: Mosquitto, tmp_path: Path
) -> None:
    first = head(broker, tmp_path) + pipeline("same") + pipeline("other") + pipeline("gone")
    second = head(broker, tmp_path) + pipeline("same") + pipeline("other", hidden=5) + pipeline("new")
    with Daemon(tmp_path, first) as daemon, Client(broker.port, "out/#") as client:
        daemon.says("ready")
        for i in range(600):
            client.publish("plant/a", payload(i))
        came(client, "same", 200)
        daemon.path.write_text(second)
        daemon.signal(signal.SIGHUP)  # while messages are in queues, and more come
        for i in range(600, 1200):
            client.publish("plant/a", payload(i))
        daemon.says("reload: done")
        came(client, "same", 1200)
        for i in range(1200, 1300):
            client.publish("plant/a", payload(i))
        for name, count in (("same", 1300), ("new", 100)):
            came(client, name, count)
        assert daemon.stop() == 0
        assert undisturbed(first, "same", range(1300)) == outputs_of(client, "same")
        other = [output["seq"] for output in outputs_of(client, "other")]
        assert other.count(0) == 2, "it was not begun anew, once"
        assert len(other) == 1300, "a message that waited for it was lost, or answered twice"
        assert list(range(other.index(0, 1))) + list(range(1300 - other.index(0, 1))) == other
        assert 0 == outputs_of(client, "new")[0]["seq"]
        assert "Traceback" not in daemon.log


def test_a_bad_file_changes_nothing_and_says_why(broker: Mosquitto, tmp_path: Path) -> None:
    good = head(broker, tmp_path) + pipeline("same")
    with Daemon(tmp_path, good) as daemon, Client(broker.port, "out/#") as client:
        daemon.says("ready")
        daemon.path.write_text(head(broker, tmp_path) + pipeline("same", hidden=0) + "  more: 1\n")
        daemon.signal(signal.SIGHUP)
        daemon.says("reload: nothing is changed")
        assert re.search(r"reload: .*streamrnn.yaml:\d+: pipelines.same.model.hidden: ", daemon.log)
        assert "pipelines.more" in daemon.log
        daemon.path.unlink()
        daemon.signal(signal.SIGHUP)
        daemon.says("reload: nothing is changed", 2)
        client.publish("plant/a", payload(0))
        came(client, "same", 1)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log


def test_what_only_a_restart_can_change_is_refused(broker: Mosquitto, tmp_path: Path) -> None:
    good = head(broker, tmp_path) + pipeline("same")
    with Daemon(tmp_path, good) as daemon:
        daemon.says("ready")
        daemon.path.write_text(good.replace("client_id: reloaded", "client_id: another") + pipeline("new"))
        daemon.signal(signal.SIGHUP)
        assert "mqtt" in daemon.says("only pipelines change by a reload")
        daemon.says("reload: nothing is changed")
        assert "new" not in daemon.log


def test_a_pipeline_whose_state_means_the_same_goes_on_with_it(broker: Mosquitto, tmp_path: Path) -> None:
    first = head(broker, tmp_path) + pipeline("p")
    second = head(broker, tmp_path) + pipeline("p", out="elsewhere")
    with Daemon(tmp_path, first) as daemon, Client(broker.port, "out/#", "elsewhere/#") as client:
        daemon.says("ready")
        for i in range(100):
            client.publish("plant/a", payload(i))
        came(client, "p", 100)
        reload(daemon, second)
        for i in range(100, 200):
            client.publish("plant/a", payload(i))
        came(client, "p", 200)
        assert daemon.stop() == 0
        assert "goes on with what it has learned" in daemon.log
        assert undisturbed(first, "p", range(200)) == outputs_of(client, "p")
        assert {"out/p/a", "elsewhere/p/a"} == {message.topic for message in client.taken}


def test_topics_that_no_pipeline_has_are_unsubscribed_and_new_ones_are_served(
    broker: Mosquitto, tmp_path: Path
) -> None:
    first = head(broker, tmp_path) + pipeline("p") + pipeline("q", topic="hall")
    second = head(broker, tmp_path) + pipeline("p", topic="yard")
    with Daemon(tmp_path, first) as daemon, Client(broker.port, "out/#") as client:
        daemon.says("ready")
        reload(daemon, second)
        client.publish("yard/a", payload(0))
        came(client, "p", 1)
        assert daemon.stop() == 0
    # The session has nothing of what was sent meanwhile on the topics given up.
    with Client(broker.port) as client:
        for gone in ("plant/a", "hall/a"):
            client.publish(gone, payload(1))
        client.publish("yard/a", payload(1))
        client.flush()
    with Daemon(tmp_path, second) as daemon, Client(broker.port, "out/#") as client:
        came(client, "p", 1)
        assert daemon.stop() == 0
        assert "state: 2 messages" in daemon.log


def test_after_a_reload_and_a_kill_it_goes_on_as_if_there_had_been_none(broker: Mosquitto, tmp_path: Path) -> None:
    first = head(broker, tmp_path) + pipeline("same") + pipeline("other") + pipeline("gone")
    second = head(broker, tmp_path) + pipeline("same") + pipeline("other", hidden=5) + pipeline("new")
    with Daemon(tmp_path, first) as daemon, Client(broker.port, "out/#") as client:
        daemon.says("ready")
        for i in range(100):
            client.publish("plant/a", payload(i))
        for name in ("same", "other", "gone"):
            came(client, name, 100)
        reload(daemon, second)
        for name in ("other", "new"):
            begun = {path.stem for path in (tmp_path / "state" / "checkpoints" / name).iterdir()}
            assert {f"{100:020d}"} == begun, "without it a kill would leave out what came before"
        for i in range(100, 160):
            client.publish("plant/a", payload(i))
        for name, count in (("same", 160), ("other", 160), ("new", 60)):
            came(client, name, count)
        daemon.signal(signal.SIGKILL)
        daemon.ended()
    aside = {path.stem for path in (tmp_path / "state" / "set-aside" / "checkpoints" / "other").iterdir()}
    assert f"{100:020d}" in aside, "what the pipeline knew before is not set aside"
    with Daemon(tmp_path, second) as daemon, Client(broker.port, "out/#") as client:
        daemon.says("ready")
        for i in range(160, 200):
            client.publish("plant/a", payload(i))
        for name, since in (("same", 0), ("other", 100), ("new", 100)):
            answered(client, name, 199 - since)
            expected = {output["seq"]: output for output in undisturbed(second, name, range(since, 200))}
            for output in outputs_of(client, name):  # some may come again, and are the same
                assert expected[output["seq"]] == output
        assert daemon.stop() == 0


def test_a_pipeline_that_comes_back_goes_on_from_its_checkpoint(broker: Mosquitto, tmp_path: Path) -> None:
    both = head(broker, tmp_path) + pipeline("p") + pipeline("q")
    one = head(broker, tmp_path) + pipeline("p")
    with Daemon(tmp_path, both) as daemon, Client(broker.port, "out/#") as client:
        daemon.says("ready")
        for i in range(50):
            client.publish("plant/a", payload(i))
        came(client, "q", 50)
        assert daemon.stop() == 0  # with a checkpoint
    with Daemon(tmp_path, one) as daemon, Client(broker.port, "out/#") as client:
        daemon.says("ready")
        client.publish("plant/a", payload(50))
        came(client, "p", 1)
        reload(daemon, both)
        client.publish("plant/a", payload(51))
        came(client, "q", 1)
        assert [50] == [output["seq"] for output in outputs_of(client, "q")], "it saw what came while it was not"
        assert daemon.stop() == 0


def test_a_watched_file_is_reloaded_when_it_is_edited(broker: Mosquitto, tmp_path: Path) -> None:
    first = head(broker, tmp_path) + pipeline("p")
    with Daemon(tmp_path, first, options=("--watch",)) as daemon, Client(broker.port, "out/#") as client:
        daemon.says("ready")
        daemon.path.write_text(first + pipeline("new"))
        daemon.says("reload: done")
        client.publish("plant/a", payload(0))
        came(client, "new", 1)
        assert daemon.stop() == 0


def test_without_the_broker_a_reload_is_done_all_the_same(broker: Mosquitto, tmp_path: Path) -> None:
    first = head(broker, tmp_path) + pipeline("p")
    with Daemon(tmp_path, first) as daemon:
        daemon.says("ready")
        broker.stop()
        daemon.says("waiting for the broker")
        reload(daemon, head(broker, tmp_path) + pipeline("p", topic="yard"))
        broker.start()
        with Client(broker.port, "out/#") as client:
            daemon.says("connected to", 2)
            client.pause(1.0)  # for the subscription, which nothing tells of
            client.publish("yard/a", payload(0))
            came(client, "p", 1)
        assert daemon.stop() == 0


@pytest.mark.parametrize("fault", [MemoryError("no room for weights"), OSError(28, "No space left on device")])
def test_a_pipeline_that_cannot_be_built_changes_nothing_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("streamrnn.serving.reload.warm_aloud", lambda *_: None)
    monkeypatch.setattr("streamrnn.serving.reload.build_pipeline", fail)
    top = HEAD.format(url="mqtt://localhost", state=tmp_path)
    old = config.loads(top + pipeline("a"))

    async def scenario() -> None:
        service = Service(old, lambda: config.loads(top + pipeline("a") + pipeline("b")))
        assert [f"pipelines.b: cannot be built: {fault}"] == await service.reloader.reload()
        assert old is service.config

    asyncio.run(scenario())


@pytest.mark.parametrize("kept", [True, False])
def test_a_state_that_does_not_fit_though_it_should_costs_no_more_than_the_state(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    def refuse(*_: object) -> None:
        raise StateError("network.theta: expected another shape")

    top = head(broker, tmp_path) if kept else f'mqtt: {{url: "{broker.url}"}}\npipelines:\n'
    old, new = (config.loads(top + pipeline("a", rate=rate)) for rate in (0.004, 0.002))
    monkeypatch.setattr("streamrnn.pipeline.Pipeline.restore", refuse)

    async def scenario() -> None:
        service = Service(old, lambda: new)
        running = asyncio.create_task(service.run())
        await service.ready.wait()
        before = service.lanes[0].pipeline
        for first in (0, 5):
            with Client(broker.port, "out/#") as client:
                for i in range(5):
                    client.publish("plant/a", payload(first + i))
                outputs = await asyncio.to_thread(client.outputs, 5)
            assert [0, 1, 2, 3, 4] == [output["seq"] for output in outputs]
            if not first:
                assert [] == await service.reloader.reload()
        assert before is not service.lanes[0].pipeline
        assert kept == any((tmp_path / "state" / "set-aside").rglob("*.checkpoint"))
        service.stop()
        await running

    asyncio.run(scenario())


def test_only_what_is_another_counts_as_changed(tmp_path: Path) -> None:
    top = HEAD.format(url="mqtt://localhost", state=tmp_path)
    old = config.loads(top + pipeline("a") + pipeline("b") + pipeline("c"))
    new = config.loads(top + pipeline("d") + pipeline("b", rate=0.01) + pipeline("a"))
    assert (["d"], ["b"], ["c"]) == difference(old, new)
    assert [] == immovable(old, new)
    assert ["seed"] == [
        line.split(":")[0] for line in immovable(old, config.loads("seed: 9\n" + top + pipeline("a")))
    ]
