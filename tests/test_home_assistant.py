"""Discovery by Home Assistant: what it is told, that its templates read our outputs, and when it is told."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from daemon import LIMIT_S, Client, Daemon
from jinja2.sandbox import SandboxedEnvironment
from mosquitto import Mosquitto

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.events import Message
from streamrnn.serving import discovery as discovering
from streamrnn.serving.discovery import Discovery
from streamrnn.serving.homeassistant import device, device_id, discovery_topic

# What https://www.home-assistant.io/integrations/mqtt/ (device discovery payload), sensor.mqtt and
# binary_sensor.mqtt say of the options that may be there, which of them must, and their types. An unknown option is
# refused there too.
TEXT = {"type": "string", "minLength": 1}
TEMPLATE = {"type": "string", "pattern": r"^\{\{.*\}\}$"}
ENTITY = {
    "platform": TEXT,
    "unique_id": TEXT,
    "name": TEXT,
    "value_template": TEMPLATE,
    "entity_category": {"enum": ["diagnostic", "config"]},
    "enabled_by_default": {"type": "boolean"},
    "icon": {"type": "string", "pattern": "^mdi:[a-z0-9-]+$"},
}
SENSOR = ENTITY | {
    "platform": {"const": "sensor"},
    "unit_of_measurement": TEXT,
    "state_class": {"enum": ["measurement", "total", "total_increasing", "measurement_angle"]},
    "suggested_display_precision": {"type": "integer", "minimum": 0},
}
BINARY_SENSOR = ENTITY | {"platform": {"const": "binary_sensor"}, "device_class": {"enum": ["problem", "running"]}}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


SCHEMA = closed(
    {
        "device": closed(
            {
                "identifiers": {"type": "array", "items": TEXT, "minItems": 1},
                **dict.fromkeys(("name", "manufacturer", "model", "sw_version"), TEXT),
            },
            "identifiers",
        ),
        "origin": closed({"name": TEXT, "sw_version": TEXT}, "name"),
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "anyOf": [closed(each, "platform", "unique_id") for each in (SENSOR, BINARY_SENSOR)]
            },
        },
        "state_topic": {"type": "string", "pattern": r"^[^+#\x00-\x1f]+$"},
        "qos": {"enum": [0, 1, 2]},
        "availability": {
            "type": "array",
            "items": closed({"topic": TEXT, "value_template": TEMPLATE}, "topic"),
        },
    },
    "device",
    "origin",
    "components",
)
# discovery.py of its mqtt integration matches topics by this.
TOPIC = re.compile(r"(?P<prefix>.+)/(?P<component>\w+)/(?P<object_id>[a-zA-Z0-9_-]+)/config")
NUMBERS = 'input: {topic: plant/+/t, fields: [temperature, "it\'s \\"odd\\" {{x}} é 🌡"]}, model: {hidden: 6}'
SYMBOLS = "input: {topic: keys/+, symbol: key}, model: {hidden: 6}"


def spec_of(text: str, name: str = "plant") -> config.Pipeline:
    return config.loads(f"pipelines: {{{name}: {{{text}}}}}").pipelines[name]


def announced(text: str, key: str = "pump 7") -> dict[str, Any]:
    state_topic = f"streamrnn/plant/{key}"
    return json.loads(device("plant", spec_of(text), key, state_topic, "streamrnn/bridge/state"))


def rendered(payload: dict[str, Any], output: bytes) -> dict[str, str]:
    """The state of each entity, by name, after this output."""
    environment = SandboxedEnvironment()
    return {
        entity["name"]: environment.from_string(entity["value_template"]).render(
            value=output.decode(), value_json=json.loads(output)
        )
        for entity in payload["components"].values()
    }


@pytest.mark.parametrize("text", [NUMBERS, SYMBOLS, "input: {topic: a, payload: text}"])
def test_a_device_is_what_home_assistant_documents(text: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(announced(text), SCHEMA)


@pytest.mark.parametrize("key", ["pump", "hall 2/pump-7", "é#+" * 40, ""])
def test_an_id_has_only_what_home_assistant_takes(key: str) -> None:
    topic = discovery_topic("homeassistant", "plant", key, f"streamrnn/plant/{key}")
    match = TOPIC.fullmatch(topic)
    assert match is not None
    assert ("homeassistant", "device") == (match["prefix"], match["component"])


def test_ids_differ_where_names_look_alike() -> None:
    ids = {device_id("p", key, f"streamrnn/p/{key}") for key in ("a b", "a/b", "a_b", "a" * 50, "a" * 51)}
    ids |= {device_id("p", "a b", "elsewhere/p/a b")}
    assert 6 == len(ids)
    numbers, symbols = announced(NUMBERS), announced(NUMBERS, "pump 8")
    unique = [each["unique_id"] for payload in (numbers, symbols) for each in payload["components"].values()]
    assert len(unique) == len(set(unique))


def test_templates_read_our_outputs() -> None:
    spec = spec_of(NUMBERS)
    odd = spec.input.fields[1]
    pipeline = build_pipeline("plant", spec, 0)
    outputs = [
        pipeline.process(Message("plant/pump 7/t", json.dumps({"temperature": i % 3, odd: i % 5}).encode()))
        for i in range(40)
    ]
    partial = pipeline.process(Message("plant/other/t", b'{"temperature": 3}'))
    pipeline.close()
    assert outputs[-1] is not None
    assert partial is not None
    live = msgspec.structs.replace(outputs[-1], latency_us=812.5)
    states = rendered(announced(NUMBERS), encode(live))
    assert float(states["temperature forecast"]) == live.forecast["temperature"][0]
    assert float(states[f"{odd} forecast"]) == live.forecast[odd][0]
    names = ("anomaly", "warm-up", "events", "latency")
    assert ["OFF", "ON", "40", "812.5"] == [states[name] for name in names]
    assert float(states["score"]) == live.score
    assert [live.score, 0.0] == sorted((float(states[f"{name} score"]) for name in spec.input.fields), reverse=True)
    never_seen = rendered(
        announced(NUMBERS), encode(msgspec.structs.replace(partial, anomaly=True, latency_us=1.0))
    )
    assert ("None", "ON") == (never_seen[f"{odd} forecast"], never_seen["anomaly"])


def test_availability_follows_the_state_of_the_service() -> None:
    (availability,) = announced(NUMBERS)["availability"]
    template = SandboxedEnvironment().from_string(availability["value_template"])
    words = ("online", "online, not keeping: no space left on device", "offline")
    assert ["online", "online", "offline"] == [template.render(value=word) for word in words]


def test_no_entity_shows_what_was_typed() -> None:
    payload = announced(SYMBOLS)
    output = {
        "pipeline": "plant", "key": "desk", "seq": 3, "time": 1.5, "symbol": "hunter2", "bits": 1.25,
        "next": [["hunter2", 0.5]], "updates": 1, "warmup": False, "latency_us": 9.5,
    }  # fmt: skip
    states = rendered(payload, json.dumps(output).encode())
    assert {"surprise": "1.25", "events": "4", "weight updates": "1", "latency": "9.5", "warm-up": "OFF"} == states


# The service

CONFIG = """
mqtt: {{url: "{url}"}}
state: {state}
home_assistant: {{enabled: {enabled}, devices: {devices}}}
pipelines:
  {name}:
    input: {{topic: plant/+/t, fields: [x]}}
    model: {{hidden: 4}}
"""


def text_for(broker: Mosquitto, name: str = "plant", *, enabled: bool = True, devices: int = 200) -> str:
    return CONFIG.format(url=broker.url, state="kept", name=name, enabled=str(enabled).lower(), devices=devices)


def publish(client: Client, *keys: str) -> None:
    for key in keys:
        client.publish(f"plant/{key}/t", b'{"x": 1.5}')


def configs(got: list[Any]) -> list[Any]:
    return [each for each in got if each.topic.endswith("/config")]


def test_streams_are_announced_once_retained_and_again_when_home_assistant_starts(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Daemon(tmp_path, text_for(mosquitto)) as daemon, Client(mosquitto.port, "homeassistant/#") as client:
        daemon.says("ready")
        publish(client, "a", "b", "a", "b")
        first = configs(client.until(lambda got: len(configs(got)) == 2))
        for each, key in zip(sorted(first, key=lambda each: each.payload), "ab", strict=True):
            payload = json.loads(each.payload)
            jsonschema.validate(payload, SCHEMA)
            assert (f"{key} (plant)", f"streamrnn/plant/{key}") == (
                payload["device"]["name"],
                payload["state_topic"],
            )
        with Client(mosquitto.port, "homeassistant/device/+/config") as late:
            assert all(each.retain for each in late.wait_for(2))
        client.publish("homeassistant/status", b"offline")
        client.publish("homeassistant/status", b"online")
        daemon.says("announcing 2 devices again")
        again = configs(client.until(lambda got: len(configs(got)) == 4))
        assert {each.payload for each in first} == {each.payload for each in again[2:]}
        assert 0 == daemon.stop()
    assert "Traceback" not in daemon.log


def test_devices_are_taken_back_by_a_later_run_without_their_pipeline(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, text_for(mosquitto)) as daemon, Client(mosquitto.port, "homeassistant/#") as client:
        daemon.says("ready")
        publish(client, "a")
        (old,) = client.wait_for(1)
        assert 0 == daemon.stop()
        assert 0o600 == (tmp_path / "kept" / "home_assistant.json").stat().st_mode & 0o777
        with Daemon(tmp_path, text_for(mosquitto, "other")) as renamed:
            renamed.says("ready")
            taken_back = client.wait_for(2)[1]
            assert (old.topic, b"") == (taken_back.topic, taken_back.payload)
            publish(client, "a")
            assert "a (other)" == json.loads(client.wait_for(3)[2].payload)["device"]["name"]
            assert 0 == renamed.stop()
        with Daemon(tmp_path, text_for(mosquitto, "other", enabled=False)) as disabled:
            disabled.says("ready")
            assert b"" == client.wait_for(4)[3].payload
            assert 0 == disabled.stop()
        with Client(mosquitto.port, "homeassistant/#") as late:
            late.publish("homeassistant/end", b"1")
            assert ["homeassistant/end"] == [each.topic for each in late.wait_for(1)]


def test_no_more_devices_are_announced_than_the_limit_says(mosquitto: Mosquitto, tmp_path: Path) -> None:
    text = text_for(mosquitto, devices=3)
    with Daemon(tmp_path, text) as daemon, Client(mosquitto.port, "homeassistant/#", "streamrnn/plant/+") as client:
        daemon.says("ready")
        publish(client, *"abcdefgh")
        daemon.says("3 are announced, no more will be")
        client.until(lambda got: len(configs(got)) >= 3)
        publish(client, *"abcdefgh")
        client.until(lambda got: len(got) - len(configs(got)) == 16)
        client.pause(2.5)  # two more looks for streams
        assert 3 == len(configs(client.taken))
        assert 0 == daemon.stop()


def test_a_broker_that_forgot_is_told_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, text_for(mosquitto)) as daemon:
        daemon.says("ready")
        with Client(mosquitto.port, "homeassistant/#") as client:
            publish(client, "a")
            client.wait_for(1)
        mosquitto.restart()
        with Client(mosquitto.port, "homeassistant/#") as client:
            assert b"a (plant)" in client.wait_for(1)[0].payload
        assert 0 == daemon.stop()


def test_a_pipeline_whose_streams_share_a_topic_is_not_announced_and_says_so(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    text = text_for(mosquitto).replace("model: {hidden: 4}", "output: {topic: all}")
    with Daemon(tmp_path, text) as daemon, Client(mosquitto.port, "homeassistant/#", "all") as client:
        daemon.says("plant: not announced to home assistant: its output.topic has no {key}")
        daemon.says("ready")
        publish(client, "a")
        client.wait_for(1)
        assert 0 == daemon.stop()
        assert ["all"] == [each.topic for each in client.taken]


def test_what_another_configuration_announced_is_kept_where_it_still_holds() -> None:
    text = "home_assistant: {enabled: true}\npipelines: {plant: {input: {topic: plant/+, fields: [x]}}}"
    discovery = Discovery(config.loads(text), {})
    stays = discovery_topic("homeassistant", "plant", "a", "streamrnn/plant/a")
    discovery._go_on_from({stays: ("plant", "a"), "homeassistant/device/old/config": ("gone", "a")})
    assert {stays: ("plant", "a")} == discovery.announced


def test_keys_that_come_and_go_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "DUE_MAX", 50)
    text = """
home_assistant: {enabled: true, devices: 4}
pipelines: {plant: {input: {topic: plant/+, fields: [x]}, model: {hidden: 4}, limits: {keys: 4}}}
"""
    loaded = config.loads(text)
    pipeline = build_pipeline("plant", loaded.pipelines["plant"], 0)
    discovery = Discovery(loaded, {"plant": pipeline})
    for i in range(200):
        pipeline.process(Message(f"plant/{i}", b'{"x": 1.5}'))
        discovery._look()
    pipeline.close()
    assert 50 == len(discovery._due)
    assert 4 == len(discovery.announced)
    assert discovery.counts["beyond"] > 0


def test_a_list_that_could_not_be_written_is_written_later(mosquitto: Mosquitto, tmp_path: Path) -> None:
    file = tmp_path / "kept" / "home_assistant.json"
    in_the_way = file.with_name(file.name + ".part")
    in_the_way.mkdir(parents=True)
    with Daemon(tmp_path, text_for(mosquitto)) as daemon, Client(mosquitto.port, "homeassistant/#") as client:
        daemon.says("ready")
        publish(client, "a")
        client.wait_for(1)
        daemon.says("home_assistant.json: cannot be written: is a directory")
        in_the_way.rmdir()
        deadline = time.monotonic() + LIMIT_S
        while not file.exists() and time.monotonic() < deadline:
            client.pause(0.1)
        assert [["plant", "a"]] == list(json.loads(file.read_text()).values())
        assert 0 == daemon.stop()
    assert 1 == daemon.log.count("cannot be written")


@pytest.mark.parametrize("kept", ["", "[]", '{"a": 1}', "\xff"])
def test_a_list_that_cannot_be_read_is_told_and_nothing_else_happens(
    tmp_path: Path, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home_assistant.json").write_bytes(kept.encode("latin-1"))
    discovery = Discovery(config.loads(f"state: {tmp_path}\npipelines: {{p: {{input: {{topic: a}}}}}}"), {})
    discovery.recall()
    assert {} == discovery.announced
    assert "devices announced earlier are not known" in caplog.text
