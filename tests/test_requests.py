"""Requests as pipelines apply them and as the service answers them, without a broker."""

from __future__ import annotations

import asyncio
import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from mqtt_support import eventually

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.edges.parking import Remembered
from streamrnn.errors import ConfigError
from streamrnn.events import Message, Output
from streamrnn.pipeline import Pipeline
from streamrnn.requests import BYTES_MAX, REQUEST, RESPONSE, Reply, concerns, take
from streamrnn.serving import control
from streamrnn.serving.control import Control

TEXT = """
mqtt: {{control: {control}}}
pipelines:
  plant:
    input: {{topic: [plant/+, "streamrnn/#"], fields: [x], time: ts}}
    model: {{hidden: 4}}
    learn: {{every: 2, windows: 2, length: 4, history: 64}}
    output: {{topic: "out/{{key}}"}}
  desk:
    input: {{topic: keys/+, symbol: s}}
    model: {{hidden: 4}}
    learn: {{every: 2, windows: 2, length: 4, history: 64}}
"""
CONFIG = config.loads(TEXT.format(control="true"))


@pytest.fixture
def built() -> Any:
    pipelines: list[Pipeline[Any]] = []

    def build(name: str = "plant") -> Pipeline[Any]:
        pipelines.append(build_pipeline(name, CONFIG.pipelines[name], CONFIG.seed))
        return pipelines[-1]

    yield build
    for pipeline in pipelines:
        pipeline.close()


def event(i: int, key: str = "a") -> Message:
    return Message(f"plant/{key}", json.dumps({"x": math.sin(i / 3), "ts": 1.7e9 + i}).encode())


def request(name: str, **body: Any) -> Message:
    return Message(REQUEST + name, json.dumps(body).encode(), qos=1)


def reply(pipeline: Pipeline[Any], message: Message) -> dict[str, Any]:
    (found,) = take(pipeline, message)
    assert isinstance(found, Reply)
    assert found.topic == message.topic.replace("/request/", "/response/")
    told: dict[str, Any] = json.loads(found.payload)
    return told


def one(pipeline: Pipeline[Any], message: Message) -> Output:
    (output,) = pipeline.process_all(message)
    return output


# What a pipeline applies in its turn


def test_paused_it_answers_and_learns_nothing_and_goes_on_as_if_there_had_been_nothing(built: Any) -> None:
    paused, undisturbed = built(), built()
    for i in range(60):
        assert one(undisturbed, event(i)) == one(paused, event(i))
    told = reply(paused, request("learn/pause", pipeline="plant", transaction="t1"))
    assert {"status": "ok", "data": {"pipeline": "plant", "learning": "paused"}, "transaction": "t1"} == told
    updates = paused.model.learners[0].updates
    meanwhile = [one(paused, event(1000 + i)) for i in range(20)]
    assert [60 + i for i in range(20)] == [output.seq for output in meanwhile]
    assert {updates} == {output.updates for output in meanwhile}
    assert "learning paused" in paused.status()
    assert "20 paused" in paused.status()
    assert "on" == reply(paused, request("learn/resume", pipeline="plant"))["data"]["learning"]
    for i in range(60, 120):
        wanted, got = (json.loads(encode(one(each, event(i)))) for each in (undisturbed, paused))
        assert got.pop("seq") == wanted.pop("seq") + 20
        assert wanted == got
    assert paused.model.learners[0].updates > updates


def test_whether_it_is_paused_is_saved(built: Any) -> None:
    pipeline, again = built(), built()
    pipeline.paused = True
    again.restore(pipeline.save())
    assert again.paused
    assert again.learning == "paused"


def test_a_key_that_is_reset_begins_anew_and_no_other(built: Any) -> None:
    pipeline = built()
    for i in range(40):
        one(pipeline, event(i, "ab"[i % 2]))
    before = pipeline.model.learners[0].updates
    told = reply(pipeline, request("state/reset", pipeline="plant", key="a"))
    assert {"status": "ok", "data": {"pipeline": "plant", "key": "a"}} == told
    assert (0, 20) == (one(pipeline, event(40, "a")).seq, one(pipeline, event(41, "b")).seq)
    assert pipeline.model.learners[0].updates >= before > 0
    assert "1 streams_reset" in pipeline.status()


def test_a_parked_key_can_be_reset(built: Any) -> None:
    pipeline = built()
    pipeline.parking, pipeline.keys_max = Remembered(5), 1
    for i in range(40):
        one(pipeline, event(i, "ab"[i % 2]))
    assert "a" not in pipeline.streams
    assert "ok" == reply(pipeline, request("state/reset", pipeline="plant", key="a"))["status"]
    assert (0, 20) == (one(pipeline, event(40, "a")).seq, one(pipeline, event(41, "b")).seq)


def test_a_key_that_is_not_there_cannot_be_reset(built: Any) -> None:
    told = reply(built(), request("state/reset", pipeline="plant", key="a", transaction=7))
    assert {"status": "error", "error": "plant: no stream has this key", "transaction": 7} == told


def test_requests_are_for_the_pipeline_they_name_and_nothing_of_ours_is_an_event(built: Any) -> None:
    plant, desk = built(), built("desk")
    asked = request("learn/pause", pipeline="desk")
    assert [False, True] == [concerns(each, asked) for each in (plant, desk)]
    for topic in ("state", "info", "response/health", "request/health", "request/learn/pause", "whatever/else"):
        assert not concerns(plant, Message(f"streamrnn/bridge/{topic}", b'{"x": 1}'))
        assert [] == plant.process_all(Message(f"streamrnn/bridge/{topic}", b'{"x": 1}'))
    assert concerns(plant, Message("streamrnn/other", b'{"x": 1}'))
    retained = Message(asked.topic, asked.payload, retain=True)
    assert not concerns(desk, retained)


# What the service answers


class Broker:
    """Remembers what is published."""

    def __init__(self) -> None:
        self.outstanding = 0
        self.told: list[tuple[str, dict[str, Any], int, bool]] = []

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool = False) -> None:
        self.told.append((topic, json.loads(payload), qos, retain))

    def error(self) -> str:
        """The newest, which is one."""
        _, told, _, _ = self.told[-1]
        assert "error" == told["status"]
        return str(told["error"])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def unasked() -> list[str]:
    raise AssertionError("nobody asks for a reload")


def service(*pipelines: Pipeline[Any], on: bool = True) -> Any:
    def flag(value: bool) -> Any:
        return SimpleNamespace(is_set=lambda: value)

    return SimpleNamespace(
        config=config.loads(TEXT.format(control=str(on).lower())),
        lanes=[SimpleNamespace(pipeline=each, queue=[]) for each in pipelines],
        connection=Broker(),
        store=None,
        ready=flag(True),
        connected=flag(True),
        stopping=flag(False),
    )


def test_off_it_subscribes_to_nothing_and_answers_nothing(built: Any) -> None:
    watched = service(built(), on=False)
    quiet = Control(watched, unasked)
    assert [] == quiet.topics
    assert not quiet.hear(request("health"))
    assert not quiet.hear(request("learn/pause", pipeline="plant"))
    assert [] == watched.connection.told
    assert not config.loads("pipelines: {p: {input: {topic: a}}}").mqtt.control


def test_what_changes_a_pipeline_is_left_to_its_turn(built: Any) -> None:
    watched = service(built())
    listening = Control(watched, unasked)
    assert [REQUEST + "#"] == listening.topics
    for name in ("learn/pause", "learn/resume", "state/reset"):
        assert listening.hear(request(name, pipeline="plant", key="a"))
    assert [] == watched.connection.told
    assert not watched.lanes[0].pipeline.paused


def test_pipelines_are_looked_up_at_each_request(built: Any) -> None:
    watched = service(built())
    listening = Control(watched, unasked)
    watched.lanes = [SimpleNamespace(pipeline=built("desk"), queue=[])]
    assert not listening.hear(request("learn/pause", pipeline="plant"))
    assert "no pipeline has this name" == watched.connection.error()
    assert listening.hear(request("learn/pause", pipeline="desk"))


@pytest.mark.parametrize(
    ("name", "payload", "words"),
    [
        ("health", b"{", "the payload is not a request"),
        ("health", b"[]", "the payload is not a request"),
        ("health", b"[" * 8000, "the payload is not a request"),
        ("health", b"\xff\xfe\x00", "the payload is not a request"),
        ("health", b'{"transaction": 1.5}', "the payload is not a request"),
        ("health", b'{"pipelin": "plant"}', "the payload is not a request"),
        ("health", b'{"key": 3}', "the payload is not a request"),
        ("health", b'"' + b"x" * BYTES_MAX + b'"', f"the payload has {BYTES_MAX + 2} bytes, limit {BYTES_MAX}"),
        ("learn/pause", b"", 'expected the name of a pipeline as "pipeline"'),
        ("learn/resume", b'{"pipeline": null}', 'expected the name of a pipeline as "pipeline"'),
        ("learn/pause", b'{"pipeline": "hall"}', "no pipeline has this name"),
        ("state/reset", b'{"pipeline": "plant"}', 'expected the key of a stream as "key"'),
        ("state/get", b'{"pipeline": "plant"}', 'expected the key of a stream as "key"'),
        ("state/get", b'{"pipeline": "plant", "key": "b"}', "plant: no stream has this key"),
        ("restart", b"", "unknown request"),
        ("state/get/more", b"", "unknown request"),
        ("", b"", "unknown request"),
    ],
)
def test_what_is_no_request_is_answered_with_an_error(built: Any, name: str, payload: bytes, words: str) -> None:
    watched = service(built())
    assert not Control(watched, unasked).hear(Message(REQUEST + name, payload, qos=1))
    ((topic, _, qos, retain),) = watched.connection.told
    assert (RESPONSE + name, 1, False) == (topic, qos, retain)
    assert words in watched.connection.error()


def test_an_error_gives_the_transaction_back_where_it_can_be_read(built: Any) -> None:
    watched = service(built())
    Control(watched, unasked).hear(request("health", transaction="mine", typo=1))
    assert "mine" == watched.connection.told[0][1]["transaction"]


def test_a_topic_the_broker_would_put_us_off_for_is_not_published_on(built: Any) -> None:
    watched = service(built())
    Control(watched, unasked).hear(Message(REQUEST + "a\u0007", b""))
    Control(watched, unasked).hear(Message(REQUEST + "x" * 600, b""))
    assert [] == watched.connection.told


@pytest.mark.parametrize("name", ["health", "reload", "learn/pause", "state/reset", "nothing"])
def test_a_retained_request_is_refused(built: Any, name: str) -> None:
    watched = service(built())
    assert not Control(watched, unasked).hear(
        Message(REQUEST + name, b'{"pipeline": "plant", "key": "a"}', retain=True)
    )
    assert "a retained request is not done" in watched.connection.error()


def test_a_flood_is_answered_up_to_a_rate_and_what_waits_for_a_queue_is_admitted_once(built: Any) -> None:
    watched, clock = service(built()), Clock()
    listening = Control(watched, unasked, clock)
    for _ in range(100):
        listening.hear(request("health"))
    assert control.BURST == len(watched.connection.told)
    assert 100 - control.BURST == listening.counts["unanswered"]
    clock.now += 1.0 / control.PER_SECOND
    waiting = request("learn/pause", pipeline="plant")
    assert [True] * 5 == [listening.hear(waiting) for _ in range(5)]
    assert not listening.hear(request("learn/pause", pipeline="plant"))


def test_nothing_is_answered_to_a_broker_that_is_far_behind(built: Any) -> None:
    watched = service(built())
    watched.connection.outstanding = control.OUTSTANDING_MAX
    assert not Control(watched, unasked).hear(request("health"))
    assert [] == watched.connection.told


def test_a_reply_has_a_limit(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REPLY_BYTES_MAX", 100)
    watched = service(built())
    Control(watched, unasked).hear(request("health"))
    assert "the answer has" in watched.connection.error()


def test_the_summary_of_a_stream_has_counts_and_measures(built: Any) -> None:
    pipeline = built()
    for i in range(60):
        one(pipeline, event(i))
    one(pipeline, Message("plant/a", b'{"x": 1, "ts": 5}', retain=True))
    watched = service(pipeline)
    Control(watched, unasked).hear(request("state/get", pipeline="plant", key="a", transaction="x"))
    ((_, told, _, _),) = watched.connection.told
    data = told["data"]
    assert "x" == told["transaction"]
    assert (61, 60, 5.0, "on", False) == tuple(data[n] for n in ("events", "learned", "time", "learning", "parked"))
    assert pipeline.model.learners[0].updates == data["updates"] > 0
    assert 0 < data["coverage"] <= 1
    assert data["skill"] < 1


def test_the_summary_of_a_stream_of_symbols_has_none_of_them(built: Any) -> None:
    pipeline = built("desk")
    words = ["zugzwang", "quixotry", "kumquats"]
    for i in range(30):
        pipeline.process(Message("keys/one", json.dumps({"s": words[i % 3]}).encode()))
    watched = service(pipeline)
    listening = Control(watched, unasked)
    listening.hear(request("state/get", pipeline="desk", key="one"))
    listening.hear(request("health"))
    assert 30 == watched.connection.told[0][1]["data"]["events"]
    assert [] == [word for word in words if word in repr(watched.connection.told)]


def test_of_a_parked_stream_it_is_said_that_it_is(built: Any) -> None:
    pipeline = built()
    pipeline.parking, pipeline.keys_max = Remembered(5), 1
    one(pipeline, event(0, "a"))
    one(pipeline, event(1, "b"))
    watched = service(pipeline)
    Control(watched, unasked).hear(request("state/get", pipeline="plant", key="a"))
    assert {"pipeline": "plant", "key": "a", "parked": True} == watched.connection.told[0][1]["data"]


def test_a_reload_is_answered_when_it_is_done_and_asked_for_once_at_a_time(built: Any) -> None:
    async def scenario() -> None:
        watched, going, outcomes = service(built()), asyncio.Event(), [[], ["plant.yaml:3: no"]]

        async def reload() -> list[str]:
            await going.wait()
            return outcomes.pop(0)

        listening = Control(watched, reload)
        listening.hear(request("reload", transaction=1))
        running = asyncio.create_task(listening.run())
        await eventually(lambda: not listening._reloads.qsize())
        listening.hear(request("reload", transaction=2))
        assert [] == watched.connection.told
        listening.hear(request("reload", transaction=3))
        assert "asked for once more already" in watched.connection.error()
        going.set()
        await eventually(lambda: len(watched.connection.told) == 3)
        _, (_, first, _, _), (_, second, _, _) = watched.connection.told
        assert {"status": "ok", "data": {"pipelines": ["plant"]}, "transaction": 1} == first
        assert {"status": "error", "error": "reload: plant.yaml:3: no", "transaction": 2} == second
        running.cancel()

    asyncio.run(scenario())


# What the configuration refuses


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("input: {topic: streamrnn/bridge/+}", "nothing below streamrnn/bridge/ is an event"),
        ("input: {topic: $share/g/streamrnn/bridge/state}", "nothing below streamrnn/bridge/ is an event"),
        ("input: {topic: a}, output: {topic: 'streamrnn/bridge/{key}'}", "is of the service itself"),
        ("input: {topic: a, key: bridge/request}, output: {topic: 'streamrnn/{key}'}", "is of the service itself"),
    ],
)
def test_what_is_of_the_service_is_no_topic_of_a_pipeline(entries: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.loads(f"pipelines: {{p: {{{entries}}}}}")


def test_a_pipeline_called_bridge_needs_another_topic_for_its_outputs() -> None:
    with pytest.raises(ConfigError, match=r"output\.topic: expected another topic"):
        config.loads("pipelines: {bridge: {input: {topic: a/+}}}")
    assert config.loads("pipelines: {bridge: {input: {topic: a/+}, output: {topic: 'out/{key}'}}}")
