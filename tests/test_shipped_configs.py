"""Every configuration that is shipped runs, on messages such as its own comment sends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamrnn import config
from streamrnn.build import build_pipelines
from streamrnn.events import Message
from streamrnn.warm import sample_messages

SHIPPED = sorted((Path(__file__).parents[1] / "config").glob("*.yaml"))


def sent_by_the_comment(text: str) -> list[Message]:
    """What the mosquitto_pub commands in the head of the file publish."""
    plain = re.sub(r"\\\n#\s*", "", text)
    found = re.findall(r"mosquitto_pub .*?-t (\S+) +-m (?:'([^']*)'|(\S+))", plain)
    return [Message(topic, (quoted or bare).encode()) for topic, quoted, bare in found]


def test_there_are_configurations_for_telemetry_a_fleet_keystrokes_numbers_and_known_devices() -> None:
    devices = ["evmqtt", "rtl_433", "shelly", "tasmota", "zigbee2mqtt"]
    assert sorted([*devices, "fleet", "keystrokes", "numbers", "telemetry"]) == [path.stem for path in SHIPPED]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_answers_and_learns(path: Path) -> None:
    loaded = config.load(path)
    for name, pipeline in build_pipelines(loaded).items():
        spec = loaded.pipelines[name]
        outputs = [pipeline.process(message) for message in sample_messages(spec, spec.learn.length + 40)]
        pipeline.close()
        assert all(output is not None and output.pipeline == name for output in outputs)
        assert outputs[-1] is not None
        assert outputs[-1].updates > 0


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.stem != "telemetry"], ids=lambda path: path.stem)
def test_the_message_in_the_comment_is_an_event(path: Path) -> None:
    (message,) = sent_by_the_comment(path.read_text())
    pipelines = build_pipelines(config.load(path)).values()
    outputs = [pipeline.process(message) for pipeline in pipelines]
    for pipeline in pipelines:
        pipeline.close()
    assert [0] == [output.seq for output in outputs if output is not None]
