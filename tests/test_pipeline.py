"""A pipeline as it is configured, driven by messages: what it answers, what it lets go, and what it may hold."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamrnn import config
from streamrnn import pipeline as pipelines
from streamrnn.budget import STREAM_OBJECTS, Budget, budget
from streamrnn.build import build_pipeline
from streamrnn.events import Message, NumericOutput, Output, SymbolOutput
from streamrnn.learn.detector import Detector
from streamrnn.learn.learner import Learner
from streamrnn.learn.numeric import NumericModel
from streamrnn.learn.symbols import SymbolModel
from streamrnn.pipeline import Pipeline
from streamrnn.settings.specs import Pipeline as Spec

CELLS = ["rnn_tanh", "rnn_relu", "gru", "lstm", "lru"]

# Small, and learning from the 9th event on.
SMALL = "model: {hidden: 6}, forecast: {horizons: [1, 3]}, learn: {every: 2, windows: 2, length: 8, history: 64}"


def spec_of(text: str, name: str = "line") -> Spec:
    return config.loads(f"pipelines: {{{name}: {{{text}}}}}").pipelines[name]


def numeric(*, source: str = "fields: [x]", more: str = SMALL) -> Spec:
    return spec_of(f"input: {{topic: plant/+/t, {source}}}, {more}")


def symbols(*, source: str = "payload: text") -> Spec:
    return spec_of(
        f"input: {{topic: keys/+, {source}}},"
        "model: {hidden: 6}, learn: {every: 2, windows: 2, length: 8, history: 64}"
    )


@pytest.fixture
def build() -> Iterator[Any]:
    """Pipelines whose threads end with the test."""
    built: list[Pipeline[Any]] = []

    def build(spec: Spec, seed: int = 0, name: str = "line") -> Pipeline[Any]:
        built.append(build_pipeline(name, spec, seed))
        return built[-1]

    yield build
    for each in built:
        each.close()


def message(value: Any, key: str = "pump", *, time: float = 0.0, retain: bool = False) -> Message:
    return Message(f"plant/{key}/t", json.dumps({"x": value}).encode(), retain=retain, arrival=time)


def wave(count: int, key: str = "pump", first: int = 0) -> list[Message]:
    return [
        message(math.sin(i / 5) + 0.1 * (i * 7919 % 13), key, time=float(i)) for i in range(first, first + count)
    ]


def answers(pipeline: Pipeline[Any], messages: Iterable[Message]) -> list[Output]:
    return [output for each in messages for output in pipeline.process_all(each)]


def encoded(outputs: Iterable[Output], *, without: tuple[str, ...] = ()) -> list[str]:
    """Outputs bit for bit: JSON writes every float so that it can be read back exactly."""
    rows = [msgspec.to_builtins(output) for output in outputs]
    return [json.dumps({name: row[name] for name in row if name not in without}) for row in rows]


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def assert_finite(output: Output) -> None:
    numbers = [each for each in leaves(msgspec.to_builtins(output)) if isinstance(each, float)]
    assert [each for each in numbers if not math.isfinite(each)] == []


# Answers


def test_event_is_answered_under_its_key_with_its_number(build: Any) -> None:
    pipeline = build(numeric(source="fields: [x, y.z], time: ts"))
    payload = b'{"ts": "2024-05-01T00:00:00Z", "x": 1.5, "y": {"z": -2}}'
    first = pipeline.process(Message("plant/pump/t", payload))
    other = pipeline.process(Message("plant/fan/t", payload))
    second = pipeline.process(Message("plant/pump/t", payload))
    assert isinstance(first, NumericOutput)
    assert [(each.pipeline, each.key, each.seq) for each in (first, other, second)] == [
        ("line", "pump", 0),
        ("line", "fan", 0),
        ("line", "pump", 1),
    ]
    assert first.time == 1714521600.0
    assert first.value == {"x": 1.5, "y.z": -2.0}
    assert first.horizons == (1, 3)
    assert [len(first.forecast["x"]), len(first.lower["y.z"]), len(first.upper["x"])] == [2, 2, 2]
    assert first.error == {"x": None, "y.z": None}
    assert first.latency_us is msgspec.UNSET
    assert pipeline.counts == Counter(events=3)


def test_error_is_the_event_minus_the_forecast_made_one_step_before(build: Any) -> None:
    outputs = answers(build(numeric()), wave(60))
    expected = [now.value["x"] - before.forecast["x"][0] for before, now in pairwise(outputs)]
    assert [each.error["x"] for each in outputs[1:]] == expected


def test_forecast_is_between_its_bounds(build: Any) -> None:
    for output in answers(build(numeric()), wave(100)):
        bands = zip(output.lower["x"], output.forecast["x"], output.upper["x"], strict=True)
        assert all(lower <= middle <= upper for lower, middle, upper in bands)


def test_missing_field_is_null_and_the_others_are_answered(build: Any) -> None:
    pipeline = build(numeric(source="fields: [x, y]"))
    output = pipeline.process(Message("plant/a/t", b'{"x": 1.0, "y": null}'))
    assert output.value == {"x": 1.0, "y": None}
    assert_finite(output)
    assert pipeline.counts == Counter(events=1, missing=1)


def test_text_of_several_characters_is_answered_character_by_character(build: Any) -> None:
    pipeline = build(symbols())
    outputs = pipeline.process_all(Message("keys/desk", "añb".encode(), arrival=7.0))
    assert [(each.symbol, each.seq, each.time, each.key) for each in outputs] == [
        ("a", 0, 7.0, "desk"),
        ("ñ", 1, 7.0, "desk"),
        ("b", 2, 7.0, "desk"),
    ]
    assert all(isinstance(each, SymbolOutput) for each in outputs)
    assert pipeline.counts["events"] == 3


def test_text_is_answered_alike_in_one_payload_or_several(build: Any) -> None:
    text = "the cat sat on the mat. " * 4
    whole = build(symbols()).process_all(Message("keys/desk", text.encode()))
    apart = answers(build(symbols()), (Message("keys/desk", each.encode()) for each in text))
    assert encoded(apart) == encoded(whole)
    assert len(whole) == len(text)


def test_process_gives_the_last_of_several_answers(build: Any) -> None:
    assert build(symbols()).process(Message("keys/desk", b"abc")).symbol == "c"


@pytest.mark.parametrize("cell", CELLS)
def test_same_name_and_seed_give_the_same_outputs_bit_for_bit(build: Any, cell: str) -> None:
    spec = numeric(more=SMALL.replace("hidden: 6", f"hidden: 6, cell: {cell}"))
    messages = [each for pair in zip(wave(80, "a"), wave(80, "b", 40), strict=True) for each in pair]
    one, two = answers(build(spec, 3), messages), answers(build(spec, 3), messages)
    assert encoded(two) == encoded(one)
    assert one[-1].updates > 30
    assert encoded(answers(build(spec, 4), messages)) != encoded(one)


def test_another_name_gives_other_weights(build: Any) -> None:
    one, two = build(numeric(), 0, "one"), build(numeric(), 0, "two")
    assert not np.array_equal(one.model.members[0].network.theta, two.model.members[0].network.theta)


def test_same_seed_gives_the_same_symbols_bit_for_bit(build: Any) -> None:
    texts = [Message("keys/desk", b"hello world, hello again; " * 5)]
    one, two, other = (answers(build(symbols(), seed), texts) for seed in (1, 1, 2))
    assert encoded(two) == encoded(one)
    assert encoded(other) != encoded(one)


def test_warmup_ends(build: Any) -> None:
    outputs = answers(build(numeric()), wave(40))
    assert outputs[0].warmup is True
    assert outputs[-1].warmup is False


# What is not an event


@pytest.mark.parametrize(
    ("source", "topic", "payload", "reason"),
    [
        ("fields: [x]", "office/lamp", b"{}", "other_topic"),
        ("fields: [x]", "plant/a/b/t", b'{"x": 1}', "other_topic"),
        ("fields: [x]", "plant/a/t", b"", "empty"),
        ("fields: [x]", "plant/a/t", b"{", "not_json"),
        ("fields: [x]", "plant/a/t", b"\xff\xfe", "not_json"),
        ("fields: [x]", "plant/a/t", b"{}", "no_value"),
        ("fields: [x]", "plant/a/t", b'{"x": 1e308}', "no_value"),
        ("fields: [x, y]", "plant/a/t", b"1", "not_an_object"),
        ("fields: [x]", "plant/a/t", b'{"x": 1}' + b" " * 100, "too_large"),
        ("payload: number", "plant/a/t", b"warm", "not_a_number"),
        ("payload: cbor", "plant/a/t", b"\xff", "not_cbor"),
        ("payload: text", "plant/a/t", b"\xff", "not_text"),
        ("symbol: k", "plant/a/t", b"{}", "no_symbol"),
    ],
)
def test_what_is_not_an_event_is_counted_by_its_reason(
    build: Any, source: str, topic: str, payload: bytes, reason: str
) -> None:
    pipeline = build(numeric(source=source, more="limits: {payload_bytes: 100}"))
    assert pipeline.process(Message(topic, payload)) is None
    assert pipeline.process_all(Message(topic, payload)) == []
    assert pipeline.counts[reason] == 2
    assert pipeline.counts["events"] == 0
    assert len(pipeline.streams) == 0


def test_payload_as_long_as_the_limit_is_taken(build: Any) -> None:
    pipeline = build(numeric(more="limits: {payload_bytes: 20}"))
    payload = b'{"x": 1}'
    assert pipeline.process(Message("plant/a/t", payload.ljust(20))) is not None
    assert pipeline.process(Message("plant/a/t", payload.ljust(21))) is None
    assert pipeline.counts == Counter(events=1, too_large=1)


def test_garbage_between_events_changes_nothing(build: Any) -> None:
    messages = wave(60)
    mixed = [each for good in messages for each in (Message("plant/pump/t", b"?"), good, Message("else", b"1"))]
    assert encoded(answers(build(numeric()), mixed)) == encoded(answers(build(numeric()), messages))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of the pipeline, to be set."""
    now = [1000.0]
    monkeypatch.setattr(pipelines.time, "monotonic", lambda: now[0])
    return now


def test_reason_is_logged_at_most_once_a_minute(
    build: Any, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = build(numeric())
    bad, other = Message("plant/a/t", b"?"), Message("lamp", b"1")
    with caplog.at_level(logging.WARNING):
        for now in (1000.0, 1000.1, 1059.9):
            clock[0] = now
            assert pipeline.process(bad) is None
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert pipeline.process(other) is None
        assert [("not_json" in r.message, "other_topic" in r.message) for r in caplog.records] == [
            (True, False),
            (False, True),
        ]
        clock[0] = 1060.0
        assert pipeline.process(bad) is None
        assert pipeline.process(other) is None  # its minute is not over
    assert len(caplog.records) == 3
    assert "(4 so far)" in caplog.records[-1].message
    assert pipeline.counts == Counter(not_json=4, other_topic=2)


def test_first_complaint_is_logged_right_after_the_computer_started(
    build: Any, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    clock[0] = 0.5
    build(numeric()).process(Message("plant/a/t", b"?"))
    assert len(caplog.records) == 1


def test_complaint_is_one_short_line_and_shows_no_keystrokes(
    build: Any, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    build(symbols()).process(Message("keys/desk", b"my secret \xff"))
    build(numeric()).process(Message("plant/a\nb" + "c" * 5000 + "/t", b"\n" * 50 + b"?" * 5000))
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text
    assert max(len(record.message) for record in caplog.records) < 400
    assert all("\n" not in record.message for record in caplog.records)


class Fuzzed:
    """Pipelines of every payload format, kept from one example to the next as in service."""

    def __init__(self) -> None:
        self.built = {
            name: build_pipeline(name, numeric(source=source), 0)
            for name, source in {
                "json": "fields: [x, y]",
                "number": "payload: number",
                "text": "payload: text",
                "cbor": "payload: cbor, fields: [x]",
                "symbol": "symbol: k, time: t",
            }.items()
        }


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[dict[str, Pipeline[Any]]]:
    built = Fuzzed().built
    yield built
    for each in built.values():
        each.close()


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=80),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "k", "t", ""]), inner, max_size=4)
    ),
    max_leaves=8,
)
payloads = (
    st.binary(max_size=200)
    | anything.map(lambda value: json.dumps(value).encode())
    | anything.map(cbor2.dumps)
    | st.floats().map(lambda value: str(value).encode())
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads, st.booleans())
@example(b"[" * 100_000, False)
@example(b"\x81" * 50_000, False)
@example(b"9" * 5000, False)
@example(b'{"k": ' + b"9" * 5000 + b"}", False)
def test_any_payload_is_answered_finitely_or_counted_and_never_raises(
    fuzzed: dict[str, Pipeline[Any]], caplog: pytest.LogCaptureFixture, payload: bytes, retain: bool
) -> None:
    caplog.set_level(logging.CRITICAL, "streamrnn")
    for pipeline in fuzzed.values():
        before = sum(pipeline.counts.values())
        outputs = pipeline.process_all(Message("plant/a/t", payload, retain=retain))
        for output in outputs:
            assert_finite(output)
        assert outputs or sum(pipeline.counts.values()) > before


# Keys


def test_key_unused_longest_is_let_go_beyond_the_limit(build: Any) -> None:
    pipeline = build(numeric(more=SMALL + ", limits: {keys: 3}"))
    answers(pipeline, [message(1.0, key) for key in ("a", "b", "c", "a")])
    assert list(pipeline.streams) == ["b", "c", "a"]
    assert pipeline.counts["keys_let_go"] == 0
    answers(pipeline, [message(1.0, "d")])
    assert list(pipeline.streams) == ["c", "a", "d"]
    assert pipeline.counts == Counter(events=5, keys_let_go=1)


def test_key_that_comes_back_starts_anew(build: Any) -> None:
    pipeline = build(numeric(more=SMALL + ", limits: {keys: 2}"))
    outputs = answers(pipeline, [message(5.0, key) for key in ("a", "a", "b", "c", "a", "c")])
    assert [(each.key, each.seq) for each in outputs] == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("c", 0),
        ("a", 0),
        ("c", 1),
    ]
    assert outputs[4].error == {"x": None}
    assert pipeline.counts["keys_let_go"] == 2


def test_keys_never_exceed_the_limit(build: Any) -> None:
    pipeline = build(numeric(more=SMALL + ", limits: {keys: 5}"))
    for i in range(200):
        pipeline.process(message(float(i % 3), f"key-{i * 7 % 40}"))
        assert len(pipeline.streams) <= 5


# Retained messages


@pytest.mark.parametrize("cell", CELLS)
def test_retained_message_is_answered_and_changes_nothing_that_is_learned(build: Any, cell: str) -> None:
    spec = numeric(more=SMALL.replace("hidden: 6", f"hidden: 6, cell: {cell}"))
    messages = wave(150)
    plain, mixed = build(spec), build(spec)
    expected, actual, retained = [], [], []
    for i, each in enumerate(messages):
        expected += plain.process_all(each)
        if i % 7 == 3:
            retained += mixed.process_all(message(1e6 if i % 2 else -3.0, time=1e9, retain=True))
        actual += mixed.process_all(each)
    assert encoded(actual, without=("seq", "warmup")) == encoded(expected, without=("seq", "warmup"))
    assert [len(retained), mixed.counts["retained"]] == [21, 21]
    assert [each.value["x"] for each in retained[:2]] == [1e6, -3.0]
    assert sorted(each.seq for each in actual + retained) == list(range(171))
    assert actual[-1].updates == expected[-1].updates > 30


def test_retained_message_does_not_shorten_the_warmup(build: Any) -> None:
    pipeline = build(numeric())
    for _ in range(100):
        pipeline.process(message(1.0, retain=True))
    assert pipeline.process(message(1.0)).warmup is True


def test_retained_symbol_changes_nothing_that_is_learned(build: Any) -> None:
    plain, mixed = build(symbols()), build(symbols())
    expected, actual, retained = [], [], []
    for i, each in enumerate("the quick brown fox jumps over the lazy dog. " * 5):
        expected += plain.process_all(Message("keys/desk", each.encode()))
        if i % 5 == 2:
            retained += mixed.process_all(Message("keys/desk", "#é"[i % 2].encode(), retain=True))
        actual += mixed.process_all(Message("keys/desk", each.encode()))
    assert encoded(actual, without=("seq", "warmup")) == encoded(expected, without=("seq", "warmup"))
    assert len(retained) == 45
    assert {each.symbol for each in retained} == {"#", "é"}


def test_retained_message_of_another_key_changes_nothing_that_is_learned(build: Any) -> None:
    plain, mixed = build(numeric()), build(numeric())
    expected = answers(plain, wave(60))
    answers(mixed, [message(7.0, "fan", retain=True)])
    assert encoded(answers(mixed, wave(60))) == encoded(expected)


# Nasty values

NASTY = {
    "huge": [1e308, -1e308, 1.0, 2.0],
    "largest": [1e30, -1e30],
    "tiny": [1e-308, -1e-308, 5e-324, 0.0],
    "constant": [3.7],
    "nothing": [0.0],
    "jumps": [0.0, 0.0, 0.0, 1e6, -1e6],
    "growing": [10.0 ** (i / 10) for i in range(290)],
    "one_spike": [1.0, 2.0] * 60 + [1e29] + [1.0, 2.0] * 60,
    "mixed": [1e308, float("nan"), 1e-308, float("inf"), 4.0, -float("inf"), 1e30, None, "x", True],
}


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_are_finite_whatever_the_values(build: Any, cell: str, name: str) -> None:
    more = SMALL.replace("hidden: 6", f"hidden: 6, layers: {1 if cell == 'lru' else 2}, cell: {cell}")
    pipeline = build(numeric(source="fields: [x, y]", more=more))
    values = NASTY[name]
    for i in range(300):
        record = {"x": values[i % len(values)], "y": math.sin(i / 3)}
        output = pipeline.process(Message("plant/a/t", record, arrival=float(i)))
        assert_finite(output)
        bands = [(output.lower[f], output.forecast[f], output.upper[f]) for f in ("x", "y")]
        for low, middle, high in (each for each in bands if each[1] is not None):
            assert all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))
        assert 0.0 <= output.score <= 1.0
    assert np.isfinite(pipeline.model.members[0].network.theta).all()


@pytest.mark.parametrize("times", [[0.0], [1e12, -1e12], [5.0, 1.0], [float(10**i) for i in range(15)]])
def test_outputs_are_finite_whatever_the_times(build: Any, times: list[float]) -> None:
    pipeline = build(numeric())
    for i in range(100):
        assert_finite(pipeline.process(message(math.sin(i), time=times[i % len(times)])))


@pytest.mark.parametrize("cell", CELLS)
def test_outputs_are_finite_with_a_rate_that_breaks_the_weights(build: Any, cell: str) -> None:
    more = SMALL.replace("history: 64", "history: 64, rate: 1000000").replace(
        "hidden: 6", f"hidden: 6, cell: {cell}"
    )
    pipeline = build(numeric(more=more))
    for each in wave(300):
        assert_finite(pipeline.process(each))


@pytest.mark.parametrize("cell", CELLS)
def test_weights_that_are_broken_are_answered_finitely_and_counted(build: Any, cell: str) -> None:
    more = f"model: {{hidden: 6, cell: {cell}}}, learn: {{enabled: false}}"
    pipeline = build(numeric(more=more))
    answers(pipeline, wave(30))
    pipeline.model.members[0].network.theta[:] = math.nan
    for each in wave(30, first=30):
        assert_finite(pipeline.process(each))
    assert pipeline.model.counts == Counter(state_resets=30)


def test_weights_of_symbols_that_are_broken_are_answered_finitely_and_counted(build: Any) -> None:
    pipeline = build(spec_of("input: {topic: keys/+, payload: text}, model: {hidden: 6}, learn: {enabled: false}"))
    pipeline.model.network.theta[:] = math.nan
    outputs = pipeline.process_all(Message("keys/desk", b"abcabc"))
    assert [len(each.next) for each in outputs] == [1, 2, 3, 3, 3, 3]
    for each in outputs:
        assert_finite(each)
    assert pipeline.model.counts == Counter(state_resets=6)


# Memory


def arrays_of(root: object) -> dict[int, np.ndarray[Any, Any]]:
    """Every array that can be reached from an object, each memory once."""
    found: dict[int, np.ndarray[Any, Any]] = {}
    seen: set[int] = set()
    waiting: list[Any] = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | str | bytes | int | float):
            continue
        seen.add(id(each))
        if isinstance(each, np.ndarray):
            while isinstance(each.base, np.ndarray):
                each = each.base
            found[id(each)] = each
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
        elif type(each).__module__.startswith("streamrnn"):
            waiting += vars(each).values() if hasattr(each, "__dict__") else []
    return found


def held(root: object) -> int:
    """Bytes of all arrays that can be reached from an object."""
    return sum(array.nbytes for array in arrays_of(root).values())


def detectors(pipeline: Pipeline[Any]) -> list[Detector]:
    return [part.detector for stream in pipeline.streams.values() for part in stream.parts]


def histories(pipeline: Pipeline[Any]) -> int:
    """Bytes of the histories of all detectors."""
    return sum(each.rings.nbytes + each.ordered.nbytes for each in detectors(pipeline))


TIGHT = (
    "model: {hidden: 4}, forecast: {horizons: [1]}, learn: {every: 50, windows: 1, length: 4, history: 64},"
    "limits: {keys: 40, memory_mb: 16}"
)
MANY_FIELDS = "fields: [" + ", ".join(f"f{i}" for i in range(16)) + "]"


def many(key: str, i: int) -> Message:
    return Message(f"plant/{key}/t", {f"f{k}": float((i * 31 + k) % 101) for k in range(16)}, arrival=float(i))


def test_histories_get_shorter_as_keys_come_and_keep_to_the_memory(build: Any) -> None:
    spec = numeric(source=MANY_FIELDS, more=TIGHT)
    cost = budget(spec)
    pipeline = build(spec)
    longest = []
    for keys in (1, 8, 40):
        for i in range(1200):
            pipeline.process(many(f"key-{i % keys}", i))
        for i in range(keys):  # the last word of each, now that all are there
            pipeline.process(many(f"key-{i}", i))
        assert histories(pipeline) <= cost.ranks
        longest.append(max(each.rings.shape[1] for each in detectors(pipeline)))
    assert longest == sorted(longest, reverse=True)
    assert longest[0] == 2048
    assert longest[-1] <= cost.ranks_each


def test_keys_that_fell_silent_do_not_hold_more_than_the_memory(build: Any) -> None:
    spec = numeric(source=MANY_FIELDS, more=TIGHT)
    pipeline = build(spec)
    # One key after the other, each for long enough to have all the history it may.
    for key in range(12):
        for i in range(1100):
            pipeline.process(many(f"key-{key}", i))
    assert histories(pipeline) <= budget(spec).ranks


ROUNDING = 64 * 1024  # small arrays that no ceiling counts one by one


def learners_of(model: NumericModel | SymbolModel) -> list[Any]:
    return list(model.learners) if isinstance(model, NumericModel) else [model.learner]


def assert_within(pipeline: Pipeline[Any], cost: Budget) -> None:
    streams, learners = list(pipeline.streams.values()), learners_of(pipeline.model)
    if isinstance(pipeline.process_all(many("key-0", 10_000))[0], NumericOutput):
        assert histories(pipeline) <= cost.ranks
        assert held(streams) - histories(pipeline) <= cost.streams
    else:
        assert held(streams) <= cost.streams
    buffers = 0
    for learner in learners:
        if isinstance(learner, Learner):
            window = learner.window
            buffers += sum(each.nbytes for each in (window.xs, window.seen, window.states, window.links))
            assert len(window.xs) == len(window) == cost.history
    assert 0.99 * cost.window <= buffers <= cost.window
    assert held(pipeline) - held(streams) - buffers <= cost.weights + cost.counts + ROUNDING
    assert held(pipeline) <= cost.total
    saved = sum(array.nbytes for array in pipeline.save().values())
    assert cost.window <= saved <= cost.saved <= cost.total


@pytest.mark.parametrize(
    "more",
    [
        "model: {hidden: 8}, learn: {history: 2000}",
        "model: {hidden: 8, cell: lstm, layers: 3}, learn: {history: 500}",
        "model: {hidden: 64, layers: 2}, learn: {history: 2000, every: 50}",
        "model: {hidden: 128}, learn: {length: 512, windows: 64, history: 2000, every: 1000}",
        "model: {hidden: 8}, learn: {enabled: false}",
        "model: {hidden: 8, cell: lru}",
        "model: {hidden: 8, cell: lru}, learn: {enabled: false}",
        "model: {hidden: 8, ensemble: 3}, learn: {history: 2000}",
        "model: {hidden: 8, ensemble: 3}, learn: {enabled: false}",
        "model: {hidden: 8, ensemble: 3, cell: lru}",
    ],
)
def test_arrays_stay_below_the_ceilings_of_the_budget(build: Any, more: str) -> None:
    spec = numeric(source="fields: [f0, f1]", more=more + ", limits: {keys: 4, memory_mb: 16}")
    pipeline = build(spec)
    for i in range(2500):
        pipeline.process(many(f"key-{i % 5}", i))
    assert len(pipeline.streams) == 4
    assert_within(pipeline, budget(spec))


@pytest.mark.parametrize("cell", ["gru", "lstm", "lru"])
@pytest.mark.parametrize("hidden", [4, 64, 100])
@pytest.mark.parametrize("fields", [1, 16])
def test_arrays_of_a_stream_are_counted_to_the_last_its_readout_among_them(
    build: Any, cell: str, hidden: int, fields: int
) -> None:
    names = ", ".join(f"f{i}" for i in range(fields))
    more = f"model: {{hidden: {hidden}, cell: {cell}}}, learn: {{history: 64}}, limits: {{keys: 3, memory_mb: 64}}"
    spec = numeric(source=f"fields: [{names}]", more=more)
    pipeline = build(spec)
    for i in range(9):
        pipeline.process(many(f"key-{i % 3}", i))
    features = min(hidden, 64) + 3 * fields + 9 + 3 * fields + 1  # state, inputs, distances from averages, 1
    for stream in pipeline.streams.values():
        assert stream.readout.covariance.nbytes == 8 * features * (features + 1) // 2
    counted = budget(spec).streams - 3 * STREAM_OBJECTS
    assert held(list(pipeline.streams.values())) - histories(pipeline) == counted


def test_arrays_of_symbols_stay_below_the_ceilings_of_the_budget(build: Any) -> None:
    spec = spec_of(
        "input: {topic: plant/+/t, symbol: f0},"
        "model: {hidden: 16}, learn: {history: 1000}, limits: {keys: 3, memory_mb: 16}"
    )
    pipeline = build(spec)
    for i in range(2000):
        pipeline.process(Message(f"plant/key-{i % 5}/t", {"f0": chr(33 + i * i % 997)}))
    assert len(pipeline.model.alphabet) == 256
    assert_within(pipeline, budget(spec))


@pytest.mark.parametrize(("memory", "least", "most"), [(16, 0, 12), (48, 1, 48), (256, 64, 65)])
def test_memory_limits_the_counts_of_symbols(memory: int, least: int, most: int) -> None:
    cost = budget(spec_of(f"input: {{topic: a, symbol: s}}, limits: {{keys: 4, memory_mb: {memory}}}"))

    assert least * 2**20 <= cost.counts <= most * 2**20
    assert cost.total <= memory * 2**20


def test_counts_are_not_kept_when_nothing_is_learned() -> None:
    assert budget(spec_of("input: {topic: a, symbol: s}, learn: {enabled: false}")).counts == 0


def test_history_of_the_window_is_shortened_to_half_of_the_memory() -> None:
    long = "model: {hidden: 256}, learn: {history: 1000000}, limits: {keys: 10, memory_mb: 64}"
    cost = budget(numeric(more=long))
    assert cost.window <= 32 * 2**20
    assert 32 * 2**20 - cost.window < 10_000
    assert cost.history < 1_000_000
    assert cost.total <= 64 * 2**20


def test_total_is_the_sum_of_the_ceilings() -> None:
    cost = Budget(parameters=1, weights=2, history=3, window=4, streams=5, ranks=6, ranks_each=7, counts=8)
    assert cost.total == 2 + 4 + 5 + 6 + 8


def test_key_of_a_topic_as_long_as_mqtt_allows_is_within_the_ceiling(build: Any) -> None:
    spec = numeric(more=TIGHT.replace("keys: 40", "keys: 100"))
    pipeline = build(spec)
    for i in range(100):
        pipeline.process(message(1.0, f"{i}-".ljust(65_000, "k")))
    assert sum(map(sys.getsizeof, pipeline.streams)) <= budget(spec).streams


@pytest.mark.parametrize(
    ("topic", "reason"),
    [("plant/" + "x" * 513, "key_too_long"), ("plant" + "/x" * 101, "key_too_long"), ("plant/\x85", "key_refused")],
)
def test_a_key_that_could_not_be_published_is_refused(build: Any, topic: str, reason: str) -> None:
    pipeline = build(spec_of(f"input: {{topic: plant/#, fields: [x]}}, {SMALL}"))
    assert pipeline.process(Message(topic, b'{"x": 1}')) is None
    assert pipeline.counts[reason] == 1
    assert pipeline.process(Message("plant" + "/x" * 100, b'{"x": 1}')) is not None
