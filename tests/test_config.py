"""A configuration file: what it may say, and what a user is told about every mistake in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamrnn.config import (
    Config,
    Forecast,
    Input,
    Learn,
    Limits,
    Model,
    Mqtt,
    OutputTarget,
    Pipeline,
    Tls,
    load,
    loads,
    resolved,
    schema,
)
from streamrnn.errors import ConfigError

FOLDER = Path(__file__).parent.parent / "config"
FILES = sorted(FOLDER.glob("*.yaml"))

DESIGN = """\
mqtt:
  url: mqtt://127.0.0.1:1883
  client_id: streamrnn
  username: edge
  password_file: /run/credentials/mqtt-password
  tls: {ca: ca.pem, cert: client.pem, key: client.key}
state: /var/lib/streamrnn
seed: 0
pipelines:
  machine:
    input:
      topic: plant/+/telemetry
      qos: 1
      key: "{1}"
      payload: json
      fields: [temperature, vibration.rms]
      time: ts
    model: {cell: gru, hidden: 32, layers: 1}
    forecast: {horizons: [1, 4, 16, 64], interval: 0.9}
    learn: {every: 4, windows: 4, length: 32, history: 8192, rate: 0.003}
    limits: {keys: 1000, payload_bytes: 65536, queue: 10000}
    output: {topic: "streamrnn/{pipeline}/{key}", qos: 1, retain: false}
"""


def problems(text: str) -> list[str]:
    """The lines a user is shown for a file `pump.yaml` with this text."""
    with pytest.raises(ConfigError) as caught:
        loads(text, "pump.yaml")
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def pump(section: str) -> str:
    """A configuration of one pipeline, `section` being its last lines: the first of them is line 4."""
    return "pipelines:\n  pump:\n    input: {topic: plant/+/pump}\n    " + section + "\n"


def source(entries: str) -> str:
    """A configuration of one pipeline with this input, on line 3."""
    return "pipelines:\n  pump:\n    input: {" + entries + "}\n"


def read_input(entries: str) -> Input:
    return loads(source(entries)).pipelines["pump"].input


# What a file says


def test_topic_alone_is_enough_and_everything_else_has_its_default():
    expected = Config(
        mqtt=Mqtt(url="mqtt://127.0.0.1:1883", client_id="streamrnn", username=None, password_file=None, tls=None),
        state=None,
        seed=0,
        pipelines={
            "pump": Pipeline(
                input=Input(
                    topic=["plant/+"],
                    qos=1,
                    key=None,
                    payload="json",
                    fields=["value"],
                    symbol=None,
                    time=None,
                ),
                model=Model(cell="gru", hidden=32, layers=1),
                forecast=Forecast(horizons=[1, 4, 16, 64], interval=0.9),
                learn=Learn(enabled=True, every=4, windows=4, length=32, history=8192, rate=0.003, decay=0.0),
                limits=Limits(keys=1000, payload_bytes=65536, queue=10000, memory_mb=256),
                output=OutputTarget(topic="streamrnn/{pipeline}/{key}", qos=1, retain=False),
            )
        },
    )
    assert expected == loads("pipelines: {pump: {input: {topic: plant/+}}}")


def test_every_key_of_the_design_is_read():
    config = loads(DESIGN)
    assert config.mqtt == Mqtt(
        username="edge",
        password_file="/run/credentials/mqtt-password",
        tls=Tls(ca="ca.pem", cert="client.pem", key="client.key"),
    )
    assert config.state == "/var/lib/streamrnn"
    assert config.pipelines["machine"].input == Input(
        topic=["plant/+/telemetry"], key="{1}", fields=["temperature", "vibration.rms"], time="ts"
    )


@pytest.mark.parametrize("entries", ["topic: a, symbol: key", "topic: a, payload: text"])
def test_pipeline_of_symbols_has_larger_defaults(entries: str):
    pipeline = loads(source(entries)).pipelines["pump"]
    assert pipeline.input.symbols
    assert pipeline.input.fields == []
    assert pipeline.model == Model(cell="gru", hidden=128, layers=1)
    assert pipeline.learn == Learn(
        enabled=True, every=16, windows=4, length=64, history=1_000_000, rate=0.002, decay=0.02
    )


def test_what_the_file_says_goes_before_the_defaults_for_symbols():
    text = source("topic: a, symbol: key") + "    model: {hidden: 16}\n    learn: {every: 2, decay: 0}\n"
    pipeline = loads(text).pipelines["pump"]
    assert pipeline.model == Model(hidden=16)
    assert pipeline.learn == Learn(every=2, length=64, history=1_000_000, rate=0.002, decay=0.0)


@pytest.mark.parametrize("payload", ["json", "number", "cbor"])
def test_number_without_a_name_is_called_value(payload: str):
    read = read_input(f"topic: a, payload: {payload}")
    assert (read.fields, read.symbols) == (["value"], False)


def test_specs_are_frozen():
    config = loads(DESIGN)
    with pytest.raises(AttributeError):
        config.seed = 1  # type: ignore[misc]


def test_section_left_empty_has_its_defaults():
    assert loads(pump("learn:")).pipelines["pump"].learn == Learn()


def test_anchors_and_merges_share_a_section_between_pipelines():
    config = loads("""\
pipelines:
  one:
    input: {topic: a/+}
    learn: &slow {every: 64, rate: 0.001}
    model: &model {hidden: 8}
  two:
    input: {topic: b/+}
    learn: {<<: *slow, rate: 0.5}
    model: *model
""")
    assert config.pipelines["two"].learn == Learn(every=64, rate=0.5)
    assert config.pipelines["two"].model == Model(hidden=8)


@pytest.mark.parametrize(("written", "rate"), [("1e-3", 0.001), ("2E+1", 20.0), ("1", 1.0), ("2.5", 2.5)])
def test_rate_is_a_number_however_it_is_written(written: str, rate: float):
    read = loads(pump(f"learn: {{rate: {written}}}")).pipelines["pump"].learn.rate
    assert (type(read), read) == (float, rate)


# Mistakes


def test_four_mistakes_in_one_file_are_told_at_once_each_with_its_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EDGE_USER", raising=False)
    text = """\
# The pump in hall 2.
mqtt:
  username: ${EDGE_USER}

pipelines:
  pump:
    input:
      topic: plant/+/telemetry
    forecast:
      interval: 1.5
    learn:
      evry: 4
    model:
      hidden: lots
"""
    assert problems(text) == [
        "pump.yaml:3: mqtt.username: the environment variable EDGE_USER is not defined",
        "pump.yaml:10: pipelines.pump.forecast.interval: expected a number <= 0.999, got 1.5",
        'pump.yaml:12: pipelines.pump.learn: unknown key "evry"; did you mean "every"?',
        'pump.yaml:14: pipelines.pump.model.hidden: expected a whole number >= 1, got "lots"',
    ]


def test_rule_between_fields_is_told_beside_a_mistake_in_another_field():
    assert problems(pump("learn: {length: 64, history: 10, rate: fast, hsitory: 5}")) == [
        'pump.yaml:4: pipelines.pump.learn: unknown key "hsitory"; did you mean "history"?',
        'pump.yaml:4: pipelines.pump.learn.rate: expected a number > 0, got "fast"',
        "pump.yaml:4: pipelines.pump.learn.history: expected at least length, 64, got 10",
    ]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("model: {hidden: 0}", "model.hidden: expected a whole number >= 1, got 0"),
        ("model: {hidden: 1025}", "model.hidden: expected a whole number <= 1024, got 1025"),
        ("model: {hidden: 4.0}", "model.hidden: expected a whole number >= 1, got 4.0"),
        ("model: {hidden: true}", "model.hidden: expected a whole number >= 1, got true"),
        ("model: {hidden: }", "model.hidden: expected a whole number >= 1, got nothing"),
        ('model: {hidden: "8"}', 'model.hidden: expected a whole number >= 1, got "8"'),
        ("model: {hidden: [8]}", "model.hidden: expected a whole number >= 1, got a list"),
        ("model: {hidden: .inf}", "model.hidden: expected a whole number >= 1, got .inf"),
        ("model: {layers: 9}", "model.layers: expected a whole number <= 8, got 9"),
        ("model: {cell: gur}", 'model.cell: expected one of gru, lru, lstm, rnn_relu, rnn_tanh, got "gur"'),
        (
            "model: {cell: lru, layers: 2}",
            "model.layers: expected 1 with cell lru, which has one layer, got 2",
        ),
        ("model: [gru]", "model: expected a mapping, got a list"),
        ("forecast: {horizons: []}", "forecast.horizons: expected at least 1, got none"),
        ("forecast: {horizons: 4}", "forecast.horizons: expected a list, got 4"),
        (
            "forecast: {horizons: [1, 4097]}",
            "forecast.horizons[1]: expected a whole number <= 4096, got 4097",
        ),
        (
            "forecast: {horizons: [2, 4]}",
            "forecast.horizons: expected 1 first: the one-step forecast is what error and score are made of",
        ),
        ("forecast: {horizons: [1, 4, 4]}", "forecast.horizons: expected numbers that ascend"),
        (
            "forecast: {horizons: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}",
            "forecast.horizons: expected at most 16, got 17",
        ),
        ("forecast: {interval: 0.4}", "forecast.interval: expected a number >= 0.5, got 0.4"),
        ("learn: {enabled: 1}", "learn.enabled: expected true or false, got 1"),
        ('learn: {enabled: "true"}', 'learn.enabled: expected true or false, got "true"'),
        ("learn: {every: 0}", "learn.every: expected a whole number >= 1, got 0"),
        ("learn: {windows: 65}", "learn.windows: expected a whole number <= 64, got 65"),
        ("learn: {length: 1}", "learn.length: expected a whole number >= 2, got 1"),
        ("learn: {history: 20000000}", "learn.history: expected a whole number <= 10000000, got 20000000"),
        ("learn: {history: 31}", "learn.history: expected at least length, 32, got 31"),
        ("learn: {rate: 0}", "learn.rate: expected a number > 0, got 0"),
        ("learn: {rate: .nan}", "learn.rate: expected a number > 0, got .nan"),
        ("learn: {rate: .inf}", "learn.rate: expected a number <= 1000000, got .inf"),
        ("learn: {rate: 1e999}", "learn.rate: expected a number <= 1000000, got " + '"1e999"'),
        ("learn: {decay: 1.1}", "learn.decay: expected a number <= 1, got 1.1"),
        ("limits: {keys: 0}", "limits.keys: expected a whole number >= 1, got 0"),
        ("limits: {memory_mb: 15}", "limits.memory_mb: expected a whole number >= 16, got 15"),
        ("limits: {queue: 10000001}", "limits.queue: expected a whole number <= 10000000, got 10000001"),
        (
            "limits: {payload_bytes: 300000000}",
            "limits.payload_bytes: expected a whole number <= 268435455, got 300000000",
        ),
        ("output: {qos: 2}", "output.qos: expected one of 0, 1, got 2"),
        ("output: {qos: true}", "output.qos: expected one of 0, 1, got true"),
        ("output: {retain: 0}", "output.retain: expected true or false, got 0"),
        ('output: {topic: "out/+"}', 'output.topic: expected a topic without + and #, got "out/+"'),
        ('output: {topic: ""}', 'output.topic: expected text that is not empty, got ""'),
        (
            'output: {topic: "out/{field}"}',
            'output.topic: expected only {pipeline} and {key} in braces, got "out/{field}"',
        ),
        (
            'output: {topic: "out/{key"}',
            'output.topic: expected only {pipeline} and {key} in braces, got "out/{key"',
        ),
        (
            'output: {topic: "' + "a/" * 101 + '{key}"}',
            "output.topic: expected at most 200 levels, where a key may have 100 of them, got "
            + '"'
            + "a/" * 29
            + 'a…"',
        ),
        (
            'output: {topic: "' + "a" * 63488 + '{key}"}',
            "output.topic: expected at most 65535 bytes, where a key may have 2048 of them, got "
            + '"'
            + "a" * 59
            + '…"',
        ),
    ],
)
def test_value_that_does_not_hold_is_told_with_its_rule(section: str, expected: str):
    assert problems(pump(section)) == [f"pump.yaml:4: pipelines.pump.{expected}"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("durability: disk", 'durability: expected one of power, process, second, got "disk"'),
        ("checkpoint: 0", "checkpoint: expected a whole number >= 1, got 0"),
        ("checkpoint: 10000001", "checkpoint: expected a whole number <= 10000000, got 10000001"),
        ("state: 7", 'state: expected text, got 7; put it in quotes: "7"'),
        ("seed: -1", "seed: expected a whole number >= 0, got -1"),
    ],
)
def test_what_is_of_the_whole_process_has_limits_too(text, complaint):
    assert problems(f"{text}\n" + source("topic: a")) == [f"pump.yaml:1: {complaint}"]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ("qos: 1", ': missing key "topic"'),
        ("topic: []", ".topic: expected at least 1, got none"),
        ("topic: 5", ".topic: expected text or a list, got 5"),
        ("topic: [a, 5]", '.topic[1]: expected text, got 5; put it in quotes: "5"'),
        ("topic: [a, b, a]", '.topic: expected each only once, got "a" twice'),
        ('topic: ""', '.topic: expected text that is not empty, got ""'),
        ('topic: "a\\0b"', '.topic: expected text without a NUL character, got "a\\u0000b"'),
        ("topic: a+/b", '.topic: expected "+" alone in its level, got "a+/b"'),
        ("topic: 'a/#/b'", '.topic: expected "#" alone in the last level, got "a/#/b"'),
        ("topic: 'a/b#'", '.topic: expected "#" alone in the last level, got "a/b#"'),
        ("topic: " + "a/" * 200, ".topic: expected at most 200 levels, got " + '"' + "a/" * 29 + 'a…"'),
        (
            "topic: $share/group",
            '.topic: expected $share/group/filter, with no + or # in the group, got "$share/group"',
        ),
        (
            "topic: $share/+/a",
            '.topic: expected $share/group/filter, with no + or # in the group, got "$share/+/a"',
        ),
        ("topic: $share/group/a+", '.topic: expected "+" alone in its level, got "$share/group/a+"'),
        ("topic: a, qos: 2", ".qos: expected one of 0, 1, got 2"),
        ("topic: a, payload: xml", '.payload: expected one of cbor, json, number, text, got "xml"'),
        ('topic: a, key: ""', '.key: expected text that is not empty, got ""'),
        ('topic: a/+, key: "{0}"', '.key: expected only {1}, {2}, ... or {payload.x} in braces, got "{0}"'),
        (
            'topic: a/+, key: "{name}"',
            '.key: expected only {1}, {2}, ... or {payload.x} in braces, got "{name}"',
        ),
        (
            'topic: a/+, key: "{payload.}"',
            '.key: expected only {1}, {2}, ... or {payload.x} in braces, got "{payload.}"',
        ),
        (
            'topic: a/+, key: "a\\tb"',
            '.key: expected no control characters: the key becomes part of a topic, got "a\\tb"',
        ),
        (
            'topic: a/+, payload: number, key: "{payload.id}"',
            ".key: expected no {payload.x} with payload number, which has no fields",
        ),
        ('topic: a/+, key: "{1}}"', '.key: expected only {1}, {2}, ... or {payload.x} in braces, got "{1}}"'),
        ('topic: a/+, key: "{2}"', '.key: expected a wildcard for {2}, got 1 in "a/+"'),
        (
            'topic: [+/+/x, $share/g/a/+], key: "{1}/{2}"',
            '.key: expected a wildcard for {2}, got 1 in "$share/g/a/+"',
        ),
        (
            "topic: a/+, key: {1}",
            ".key: expected text, got a mapping; a text that begins with { or [ needs quotes",
        ),
        ("topic: a, fields: []", ".fields: expected at least 1, got none"),
        ("topic: a, fields: x", '.fields: expected a list, got "x"'),
        ('topic: a, fields: [x, ""]', '.fields[1]: expected text that is not empty, got ""'),
        ("topic: a, fields: [x, x]", '.fields: expected each only once, got "x" twice'),
        (
            f"topic: a, fields: [{', '.join(f'x{i}' for i in range(65))}]",
            ".fields: expected at most 64, got 65",
        ),
        ("topic: a, fields: [x], symbol: s", ".symbol: expected fields or symbol, got both"),
        ('topic: a, symbol: ""', '.symbol: expected text that is not empty, got ""'),
        ("topic: a, payload: number, symbol: s", ".symbol: expected no symbol with payload number"),
        (
            "topic: a, payload: number, fields: [x, y]",
            ".fields: expected one field with payload number, got 2",
        ),
        ("topic: a, payload: text, symbol: s", ".symbol: expected no symbol with payload text"),
        (
            "topic: a, payload: text, fields: [x]",
            ".fields: expected no fields with payload text: each character is an event",
        ),
        ('topic: a, time: ""', '.time: expected text that is not empty, got ""'),
    ],
)
def test_input_that_does_not_hold_is_told_with_its_rule(entries: str, expected: str):
    assert problems(source(entries)) == [f"pump.yaml:3: pipelines.pump.input{expected}"]


@pytest.mark.parametrize(
    ("entries", "topics"),
    [
        ("topic: a/+/b", ["a/+/b"]),
        ("topic: [a, 'b/#']", ["a", "b/#"]),
        ("topic: $share/group/plant/+", ["$share/group/plant/+"]),
        ("topic: /a//b/", ["/a//b/"]),
        ("topic: $SYS/broker/load", ["$SYS/broker/load"]),
        ('topic: "a/+/#", key: "{1}-{7}"', ["a/+/#"]),  # what # matches is counted on
        ('topic: [a/+/+], key: "{2}/{1}"', ["a/+/+"]),
        ("topic: a, key: constant", ["a"]),
    ],
)
def test_topic_filters_that_hold_are_taken_as_a_list(entries: str, topics: list[str]):
    assert read_input(entries).topic == topics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: expected a configuration, got an empty file"),
        ("# nothing\n", "1: expected a configuration, got an empty file"),
        ("just text", "1: expected a mapping, got text"),
        ("\n- a\n", "2: expected a mapping, got a list"),
        ("seed: 0\n", '1: missing key "pipelines"'),
        ("seed: 0\npipelines:\n", "2: pipelines: expected at least 1, got none"),
        ("seed: 0\npipelines: {}\n", "2: pipelines: expected at least 1, got none"),
        ("pipelines:\n  pump:\n    model: {}\n", '2: pipelines.pump: missing key "input"'),
        ("pipelines:\n  pump:\n    input:\n      qos: 1\n", '3: pipelines.pump.input: missing key "topic"'),
        ("pipelines:\n  pump:\n    input:\n", '3: pipelines.pump.input: missing key "topic"'),
        (
            "pipelines: {a: {input: {topic: a}}}\n---\nb: 1\n",
            "2: expected one YAML document, found the start of another",
        ),
        (
            "pipelines:\n\tpump: 1\n",
            "2: YAML syntax: while scanning for the next token, found character '\\t' that cannot start any token",
        ),
        (
            "a: [1, 2\nb: 3\n",
            "2: YAML syntax: while parsing a flow sequence, expected ',' or ']', but got ':'",
        ),
        ("a: 1\nb: *nobody\n", "2: YAML syntax: found undefined alias"),
        ('a: "\\UFFFFFFFF"\n', "1: YAML syntax: a number or an escape out of range"),
        ("a: 1\nb: \x01\n", "2: expected printable text"),
        pytest.param("[" * 100_000, "1: nested deeper than 50 levels", id="deep"),
        ("a: &a [*a]\n", "1: nested deeper than 50 levels"),
        pytest.param(
            "[" + "1," * 100_001 + "]",
            "1: more than 100000 values, counting each use of an alias",
            id="wide",
        ),
    ],
)
def test_text_that_is_no_configuration_is_told_with_its_line(text: str, expected: str):
    assert problems(text) == [f"pump.yaml:{expected}"]


def test_alias_bomb_is_refused_by_what_it_would_expand_to():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 10):
        lines.append(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]")
    assert problems("\n".join(lines)) == ["pump.yaml:1: more than 100000 values, counting each use of an alias"]


def test_text_over_a_megabyte_is_refused():
    assert problems("# " + "x" * 1_000_000) == ["pump.yaml: expected at most 1000000 bytes"]


def test_duplicate_key_is_told_with_the_line_of_the_first():
    text = pump("model:\n      hidden: 8\n      cell: gru\n      hidden: 16")
    assert problems(text) == [
        "pump.yaml:7: pipelines.pump.model.hidden: duplicate key, first on line 5",
    ]


def test_unknown_key_without_a_likeness_is_answered_with_the_keys_there_are():
    assert problems(pump("model: {colour: red}")) == [
        'pump.yaml:4: pipelines.pump.model: unknown key "colour"; expected one of cell, hidden, layers, ensemble'
    ]


@pytest.mark.parametrize("name", ["hall 2", "a/b", "a.b", "é", ""])
def test_pipeline_name_is_letters_digits_and_dashes(name: str):
    told = problems(f'pipelines:\n  "{name}": {{input: {{topic: a}}}}\n')
    assert told == [f'pump.yaml:2: pipelines: expected only letters, digits, "_" and "-" in a name, got "{name}"']


def test_pipeline_may_be_named_by_a_word_yaml_takes_for_something_else():
    config = loads("pipelines:\n  on: {input: {topic: a}}\n  1: {input: {topic: b}}\n")
    assert list(config.pipelines) == ["on", "1"]


@pytest.mark.parametrize("written", ["on", "no", "Yes", "1883", "1.5", "12:30:45"])
def test_text_yaml_takes_for_something_else_is_to_be_quoted(written: str):
    assert problems(f"mqtt:\n  client_id: {written}\n" + source("topic: a")) == [
        f'pump.yaml:2: mqtt.client_id: expected text, got {written}; put it in quotes: "{written}"'
    ]


def test_date_is_text():
    assert loads("mqtt: {client_id: 2025-03-01}\n" + source("topic: a")).mqtt.client_id == "2025-03-01"


def test_number_of_any_length_is_told_shortened():
    expected = '"' + "9" * 59 + '…"'
    assert problems("seed: " + "9" * 100 + "\n" + source("topic: a")) == [
        f"pump.yaml:1: seed: expected a whole number <= 4294967295, got {expected}"
    ]
    assert problems("seed: " + "9" * 10_000 + "\n" + source("topic: a")) == [
        f"pump.yaml:1: seed: expected a value of type int, got {expected}"
    ]


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!mine", "!!binary"])
def test_tag_is_refused_and_never_followed(tag: str):
    full = tag.replace("!!", "tag:yaml.org,2002:")
    assert problems(f"state: {tag} x\n" + source("topic: a")) == [
        f'pump.yaml:1: state: the YAML tag "{full}" is not used here'
    ]


def test_an_lru_is_refused_for_symbols():
    expected = "pipelines.pump.model.cell: expected another cell than lru for symbols: lru is for numbers"
    for form in ("payload: text", "symbol: key"):
        (problem,) = problems(source(f"topic: a, {form}") + "    model: {cell: lru}\n")
        assert problem.endswith(expected)


def test_an_ensemble_is_refused_for_symbols():
    expected = "pipelines.pump.model.ensemble: expected 1 for symbols, an ensemble is for numbers, got 3"
    for form in ("payload: text", "symbol: key"):
        (problem,) = problems(source(f"topic: a, {form}") + "    model: {ensemble: 3}\n")
        assert problem.endswith(expected)
    numbers = loads(source("topic: a, fields: [x]") + "    model: {ensemble: 16}\n")
    assert numbers.pipelines["pump"].model.ensemble == 16


# Feedback


@pytest.mark.parametrize(
    ("topic", "output"),
    [
        ("'#'", "streamrnn/{pipeline}/{key}"),
        ("'streamrnn/#'", "streamrnn/{pipeline}/{key}"),
        ("$share/g/streamrnn/#", "streamrnn/{pipeline}/{key}"),
        ("streamrnn/pump/+", "streamrnn/{pipeline}/{key}"),
        ("streamrnn/pump/a/b/c", "streamrnn/{pipeline}/{key}"),
        ("+/+/+/state", "out/{key}/state"),
        ("out/pump", "out/{pipeline}"),
        ("'out/pump/#'", "out/{pipeline}"),
        ("a/b", "a/{key}-next"),
    ],
)
def test_pipeline_that_could_be_fed_what_it_publishes_is_refused(topic: str, output: str):
    text = source(f"topic: [fine, {topic}]") + f'    output: {{topic: "{output}"}}\n'
    plain = topic.strip("'")
    assert problems(text) == [
        f'pump.yaml:3: pipelines.pump.input.topic: a feedback loop: "{plain}" can match what is published to '
        f'"{output}"; narrow it or change output.topic'
    ]


@pytest.mark.parametrize(
    ("entries", "output"),
    [
        ("topic: 'plant/#'", "streamrnn/{pipeline}/{key}"),
        ("topic: streamrnn/other/+", "streamrnn/{pipeline}/{key}"),
        ("topic: streamrnn/pump", "streamrnn/{pipeline}/{key}"),
        ("topic: +/b", "a/{key}/c"),
        ("topic: a/+", "a/{key}/c"),
        ("topic: +/+/telemetry, key: all", "streamrnn/{pipeline}/{key}"),
    ],
)
def test_pipeline_that_cannot_be_fed_what_it_publishes_is_taken(entries: str, output: str):
    text = source(entries) + f'    output: {{topic: "{output}"}}\n'
    assert loads(text).pipelines["pump"].output.topic == output


def test_pipeline_that_publishes_nothing_may_take_everything():
    text = source("topic: '#'") + "    output: {topic: null}\n"
    assert loads(text).pipelines["pump"].output == OutputTarget(topic=None)


# Environment


def test_variables_are_replaced_and_an_unquoted_value_is_read_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HALL", "2")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("ABSENT", raising=False)
    config = loads("""\
mqtt:
  client_id: "${HALL}"
  username: a-$$${HALL}-$x
seed: ${HALL}${HALL}
state: ${EMPTY}
pipelines:
  pump-${HALL}:
    input:
      topic: hall-${HALL}/+
      qos: ${ABSENT:-0}
      key: "${ABSENT:-{1}}"
    output:
      retain: ${EMPTY:-yes}
      topic: ${ABSENT:-out/${ABSENT:-hall}/${HALL}}
""")
    assert config.mqtt == Mqtt(client_id="2", username="a-$2-$x")
    assert config.seed == 22
    assert config.state is None
    assert config.pipelines == {
        "pump-2": Pipeline(
            input=Input(topic=["hall-2/+"], qos=0, key="{1}"),
            output=OutputTarget(retain=True, topic="out/hall/2"),
        )
    }


def test_value_from_the_environment_cannot_add_structure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EVIL", "x, retain: true} # [*a")
    assert loads("mqtt:\n  username: ${EVIL}\n" + source("topic: a")).mqtt.username == "x, retain: true} # [*a"


@pytest.mark.parametrize("written", ["${", "${}", "${1A}", "${A B}", "${A-b}", "${A:-b", "a${A:-{b}"])
def test_malformed_variable_is_told(written: str):
    assert problems(f"state: '{written}'\n" + source("topic: a")) == [
        "pump.yaml:1: state: expected ${NAME} or ${NAME:-default}; write $$ for a plain $"
    ]


def test_each_undefined_variable_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ONE", raising=False)
    monkeypatch.delenv("TWO", raising=False)
    assert problems("state: ${ONE}/${TWO}\n" + source("topic: a")) == [
        "pump.yaml:1: state: the environment variable ONE is not defined",
        "pump.yaml:1: state: the environment variable TWO is not defined",
    ]


# Secrets


def test_value_from_the_environment_is_not_in_a_message(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIDDEN", "hunter2")
    assert problems("seed: ${HIDDEN}\n" + source("topic: a")) == [
        'pump.yaml:1: seed: expected a whole number >= 0, got the value of "${HIDDEN}"'
    ]


@pytest.mark.parametrize(
    ("mqtt", "expected"),
    [
        (
            "url: mqtt://edge:hunter2@broker",
            "mqtt.url: expected a URL without user name and password: use username and password_file",
        ),
        (
            "url: edge:hunter2@broker",
            "mqtt.url: expected a URL without user name and password: use username and password_file",
        ),
        ("url: wss://broker/?token=hunter2", "mqtt.url: expected a URL without ? and #"),
        (
            "url: [mqtt://edge:hunter2@broker]",
            "mqtt.url: expected text, got a list; a text that begins with { or [ needs quotes",
        ),
        ("password: hunter2", 'mqtt: unknown key "password"; did you mean "password_file"?'),
        ("password_file: 2222", "mqtt.password_file: expected text, got a number"),
        ("tls: hunter2", "mqtt.tls: expected a mapping, got text"),
        (
            'tls: {cert: a, key: "-----BEGIN PRIVATE KEY-----\\nhunter2"}',
            "mqtt.tls.key: expected the path of a file",
        ),
        (
            "client_id: [x]\n  ? mqtt://edge:hunter2@broker\n  : 1",
            "mqtt: unknown key a text with @; "
            "expected one of url, client_id, username, password_file, tls, keepalive, control, self_test",
        ),
    ],
)
def test_what_may_be_a_secret_is_not_in_a_message(mqtt: str, expected: str):
    told = problems(f"mqtt:\n  {mqtt}\n" + source("topic: a"))
    assert expected in [problem.partition(": ")[2] for problem in told]
    assert "hunter2" not in str(told)
    assert "2222" not in str(told)


def test_password_taken_for_an_alias_is_not_in_a_message():
    assert problems("mqtt:\n  password_file: *hunter2\n") == ["pump.yaml:2: YAML syntax: found undefined alias"]


def test_section_that_is_a_url_with_a_password_is_told_without_it():
    assert problems("mqtt: mqtt://edge:hunter2@broker\n" + source("topic: a")) == [
        "pump.yaml:1: mqtt: expected a mapping, got text"
    ]


# The broker


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://broker",
        "mqtt://127.0.0.1:1883/",
        "mqtts://broker.example:8883",
        "ws://broker:9001/mqtt",
        "wss://broker",
        "mqtt://[::1]:1883",
        "unix:///run/mosquitto.sock",
    ],
)
def test_broker_urls_of_five_schemes_are_taken(url: str):
    assert loads(f"mqtt: {{url: '{url}'}}\n" + source("topic: a")).mqtt.url == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "a URL that begins with mqtt://, mqtts://, ws://, wss:// or unix://"),
        ("http://broker", "a URL that begins with mqtt://, mqtts://, ws://, wss:// or unix://"),
        ("broker:1883", "a URL that begins with mqtt://, mqtts://, ws://, wss:// or unix://"),
        ("mqtt:broker", "a URL that begins with mqtt://, mqtts://, ws://, wss:// or unix://"),
        ("mqtt://", "a URL with a host, such as mqtt://host:1883"),
        ("mqtt://:1883", "a URL with a host, such as mqtt://host:1883"),
        ("mqtt://broker:0", "a URL such as mqtt://host:1883, with a port from 1 to 65535"),
        ("mqtt://broker:65536", "a URL such as mqtt://host:1883, with a port from 1 to 65535"),
        ("mqtt://broker:port", "a URL such as mqtt://host:1883, with a port from 1 to 65535"),
        ("mqtt://[::1", "a URL such as mqtt://host:1883, with a port from 1 to 65535"),
        ("mqtt://bro ker", "a URL without spaces"),
        ("mqtt://broker/path", "mqtt://host:port without a path"),
        ("unix://broker/run.sock", "unix:///path/of/the/socket"),
        ("unix://", "unix:///path/of/the/socket"),
    ],
)
def test_broker_url_that_does_not_hold_is_told(url: str, expected: str):
    assert problems(f"mqtt: {{url: '{url}'}}\n" + source("topic: a")) == [
        f"pump.yaml:1: mqtt.url: expected {expected}"
    ]


def test_client_id_is_not_empty():
    assert problems('mqtt: {client_id: ""}\n' + source("topic: a")) == [
        'pump.yaml:1: mqtt.client_id: expected text that is not empty, got ""'
    ]


def test_private_key_needs_its_certificate():
    assert problems("mqtt:\n  tls:\n    key: client.key\n" + source("topic: a")) == [
        "pump.yaml:3: mqtt.tls.key: expected cert as well, the certificate this key belongs to"
    ]


# Files


def test_relative_paths_start_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "pump.yaml").write_text(DESIGN.replace("/var/lib/streamrnn", "state"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load("etc/pump.yaml")
    assert config.state == str(tmp_path / "etc" / "state")
    assert config.mqtt.password_file == "/run/credentials/mqtt-password"
    assert config.mqtt.tls == Tls(
        ca=str(tmp_path / "etc" / "ca.pem"),
        cert=str(tmp_path / "etc" / "client.pem"),
        key=str(tmp_path / "etc" / "client.key"),
    )


def test_paths_that_are_absent_stay_absent(tmp_path: Path):
    path = tmp_path / "pump.yaml"
    path.write_text("mqtt: {tls: {ca: ca.pem}}\n" + source("topic: a"), encoding="utf-8")
    config = load(path)
    assert (config.state, config.mqtt.password_file) == (None, None)
    assert config.mqtt.tls == Tls(ca=str(tmp_path / "ca.pem"), cert=None, key=None)


def test_mistakes_are_told_with_the_file_as_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pump.yaml").write_text("seed: -1\n" + source("topic: a"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load("pump.yaml")
    assert caught.value.problems == ["pump.yaml:1: seed: expected a whole number >= 0, got -1"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("absent.yaml", "no such file"),
        ("folder", "is a directory, expected a file"),
        ("large.yaml", "expected at most 1000000 bytes"),
    ],
)
def test_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, expected: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)
    assert caught.value.problems == [f"{tmp_path / name}: {expected}"]


def test_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "pump.yaml"
    monkeypatch.setattr(Path, "open", refuse)  # root, who runs the tests in a container, may read everything
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.problems == [f"{path}: permission denied"]


def test_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path):
    path = tmp_path / "pump.yaml"
    path.write_bytes(b"# one\n# caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.problems == [f"{path}:2: expected UTF-8 text"]


def test_byte_order_mark_is_no_mistake(tmp_path: Path):
    path = tmp_path / "pump.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + source("topic: caf\xe9").encode())
    assert load(path).pipelines["pump"].input.topic == ["caf\xe9"]


# What is committed, printed and published


def test_committed_schema_is_current():
    expected = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    assert (FOLDER / "streamrnn.schema.json").read_text(encoding="utf-8") == expected


def test_schema_is_a_valid_one():
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_field_is_described_by_a_sentence():
    for name, definition in schema()["$defs"].items():
        for field, each in definition["properties"].items():
            assert each.get("description", "").endswith("."), f"{name}.{field}"
        assert definition["additionalProperties"] is False, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_committed_configuration_loads_and_fits_the_schema(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=./streamrnn.schema.json\n")
    assert f"#   streamrnn run config/{path.name}\n" in text
    assert all(f"{name}-".startswith(f"{path.stem}-") for name in load(path).pipelines)
    jsonschema.validate(yaml.safe_load(text), schema())


def test_schema_takes_what_loads_takes():
    for text in (DESIGN, source("topic: [a, b]"), pump("learn:"), pump("output: {topic: null}")):
        loads(text)
        jsonschema.validate(yaml.safe_load(text), schema())


@pytest.mark.parametrize(
    "text",
    [
        "seed: 0",
        "pipelines: {}",
        "pipelines: {a b: {input: {topic: a}}}",
        source("qos: 1"),
        source("topic: []"),
        source("topic: a, qos: 2"),
        source("topic: a, fields: [x, x]"),
        pump("model: {hiden: 4}"),
        pump("model: {hidden: lots}"),
        pump("model: {hidden: 1025}"),
        pump("learn: {rate: 0}"),
        pump("forecast: {horizons: []}"),
    ],
)
def test_schema_refuses_what_loads_refuses(text: str):
    problems(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema())


@pytest.mark.parametrize(
    "text",
    [
        DESIGN,
        source("topic: a, symbol: key"),
        source("topic: a, payload: text"),
        source("topic: $share/g/a, payload: number, fields: [x]"),
        "mqtt: {client_id: '1e5', username: 'a$$$${b}$$$$'}\n" + pump("output: {topic: null}"),
    ],
)
def test_resolved_text_is_read_back_as_the_same_configuration(text: str):
    config = loads(text)
    assert loads(resolved(config)) == config


def test_resolved_text_has_the_defaults():
    lines = resolved(loads(source("topic: a, symbol: key"))).splitlines()
    assert lines[:14] == [
        "mqtt:",
        "  url: mqtt://127.0.0.1:1883",
        "  client_id: streamrnn",
        "  username: null",
        "  password_file: null",
        "  tls: null",
        "  keepalive: 30",
        "  control: false",
        "  self_test: false",
        "state: null",
        "durability: second",
        "checkpoint: 50000",
        "http: null",
        "seed: 0",
    ]
    assert "      hidden: 128" in lines


# Anything at all

# fmt: off
YAML_PIECES = st.sampled_from([
    "pipelines", "input", "topic", "mqtt", "url", "fields", "learn", "history", "a", "#", "+", "1", "-1",
    ".nan", "1e9", "0x_", "1:2", "on", "~", "2025-01-01", "${A}", "${A:-{b}}", "${", "$$", "&a ", "*a", "<<",
    "!x ", "!!int ", "!!set ", ": ", ":", "- ", ", ", "? ", "{", "}", "[", "]", "\n", "\n  ", "\n    ",
    "|\n", ">-\n", "'", '"', "\\ud800", "---\n", "%YAML 1.1\n", "%TAG ! x\n", "\t", "\ufeff",
    "\x85", "\U0001f600",
])
# fmt: on


def told_or_config(text: str) -> list[str] | Config:
    try:
        return loads(text)
    except ConfigError as error:
        return error.problems


@settings(deadline=None)
@given(st.text() | st.lists(YAML_PIECES, max_size=40).map("".join))
@example('a: "\\ud800"')
@example("? [a]\n: 1")
@example("? {a: b}\n: 1")
@example("<<: 1")
@example("<<: [1, {a: b}]")
@example("&a [*a, *a]")
@example("!!int abc")
@example("!!bool abc")
@example("!!int []")
@example("seed: 0b_")
@example("%YAML " + "9" * 5000 + ".1\n---\na")
def test_no_text_raises_anything_but_a_config_error(text: str):
    answer = told_or_config(text)
    assert isinstance(answer, Config) or all(problem.startswith("<string>:") for problem in answer)
    assert answer != []


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a/+", "json"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def section(spec: type[Any], inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = [field.name for field in msgspec.structs.fields(spec)]
    return st.dictionaries(st.sampled_from(names), inner, max_size=4)


PIPELINES = st.fixed_dictionaries(
    {"input": section(Input, VALUES) | VALUES},
    optional={
        "model": section(Model, VALUES),
        "forecast": section(Forecast, VALUES),
        "learn": section(Learn, VALUES),
        "limits": section(Limits, VALUES),
        "output": section(OutputTarget, VALUES),
    },
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"pipelines": st.dictionaries(st.text(max_size=3), PIPELINES, max_size=2)},
        optional={"mqtt": section(Mqtt, section(Tls, VALUES) | VALUES), "seed": VALUES, "state": VALUES},
    )
)
def test_no_values_raise_anything_but_a_config_error(tree: dict[str, Any]):
    answer = told_or_config(yaml.safe_dump(tree))
    if isinstance(answer, Config):
        assert told_or_config(resolved(answer)) == answer
    else:
        assert answer != []
        assert all(problem.startswith("<string>:") for problem in answer)


def test_pipelines_that_feed_each_other_in_a_circle_are_refused_and_those_in_a_row_are_not():
    row = """\
pipelines:
  a: {input: {topic: x}, output: {topic: y}}
  b: {input: {topic: y}, output: {topic: z}}
"""
    circle = row + "  c: {input: {topic: z}, output: {topic: x}}\n"

    assert ["a", "b"] == list(loads(row).pipelines)
    with pytest.raises(ConfigError) as caught:
        loads(circle, "pump.yaml")
    assert [
        "pump.yaml:2: pipelines.a.input.topic: a feedback loop: c publishes to it, and listens to what comes of it"
    ] == caught.value.problems


def test_a_key_that_could_not_stand_in_a_topic_is_refused():
    with pytest.raises(ConfigError) as caught:
        loads("pipelines: {p: {input: {topic: a/+, key: 'a+b'}}}", "pump.yaml")
    assert [
        'pump.yaml:1: pipelines.p.input.key: expected no + and #: the key becomes part of a topic, got "a+b"'
    ] == (caught.value.problems)


# Where metrics are served


@pytest.mark.parametrize("listen", ["127.0.0.1:9464", "0.0.0.0:1", "localhost:65535", "[::1]:9464", "[::]:80"])
def test_addresses_to_listen_on_are_taken(listen: str) -> None:
    http = loads(f'http: {{listen: "{listen}"}}\n' + source("topic: a")).http
    assert http is not None
    assert listen == http.listen


@pytest.mark.parametrize(
    "listen", ["9464:", ":9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:9464", "http://a:80", "a b:80"]
)
def test_address_to_listen_on_that_does_not_hold_is_told(listen: str) -> None:
    expected = f'expected host:port, such as 127.0.0.1:9464 or [::1]:9464, got "{listen}"'
    text = f'http: {{listen: "{listen}"}}\n' + source("topic: a")
    assert [f"pump.yaml:1: http.listen: {expected}"] == problems(text)


def test_metrics_are_off_unless_asked_for_and_then_on_the_loopback_only() -> None:
    assert loads(source("topic: a")).http is None
    http = loads("http: {}\n" + source("topic: a")).http
    assert http is not None
    assert http.listen == "127.0.0.1:9464"
