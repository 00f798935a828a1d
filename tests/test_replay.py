"""The command `replay`, and the measures of what a pipeline forecast."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from replay_support import NUMERIC, SMALL, SYMBOLS, Replay, assert_refused, lines, measured, rows, write

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.evaluation.measures import FieldMeasures, Measures
from streamrnn.events import Message, NumericOutput, Output

COLUMNS = [
    *("pipeline", "key", "seq", "time", "value.x", "value.y"),
    *("forecast.x.1", "forecast.x.3", "forecast.y.1", "forecast.y.3"),
    *("lower.x.1", "lower.x.3", "lower.y.1", "lower.y.3"),
    *("upper.x.1", "upper.x.3", "upper.y.1", "upper.y.3"),
    *("error.x", "error.y", "score", "anomaly", "loudest", "updates", "warmup"),
]


def table(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def key_and_seq(outputs: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(each["key"], each["seq"]) for each in outputs]


# Outputs


@pytest.mark.parametrize("source", ["pump.csv", "pump.jsonl", "pump.csv.gz", "pump.ndjson"])
@pytest.mark.parametrize("target", ["out.csv", "out.jsonl"])
def test_every_row_has_an_output(replay: Replay, source: str, target: str) -> None:
    write(source, rows(80))
    status, _, stderr = replay("numbers.yaml", source, "--output", target)
    assert (stderr, status) == ("", 0)
    outputs: list[dict[str, Any]] = table(target) if target == "out.csv" else lines(target)
    assert [(each["key"], int(each["seq"])) for each in outputs] == [("pump", i) for i in range(80)]
    values = [each["value.x"] if target == "out.csv" else each["value"]["x"] for each in outputs]
    assert [float(value) for value in values] == [row["x"] for row in rows(80)]


def test_table_has_the_documented_columns_and_finite_numbers(replay: Replay) -> None:
    write("pump.csv", rows(80))
    replay("numbers.yaml", "pump.csv", "--output", "out.csv")
    outputs = table("out.csv")
    assert list(outputs[0]) == COLUMNS
    numbers = [cell for row in outputs for name, cell in row.items() if "." in name or name in ("time", "score")]
    assert all(math.isfinite(float(cell)) for cell in numbers if cell)
    assert {row["anomaly"] for row in outputs} | {row["warmup"] for row in outputs} == {"true", "false"}
    assert [row["value.y"] == "" for row in outputs] == [row["y"] is None for row in rows(80)]


def test_lines_have_the_documented_fields_and_no_latency(replay: Replay) -> None:
    write("pump.csv", rows(40))
    replay("numbers.yaml", "pump.csv", "--output", "out.jsonl")
    text = Path("out.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    names = "pipeline key seq time value forecast lower upper horizons error score anomaly loudest updates warmup"
    for output in lines("out.jsonl"):
        assert list(output) == names.split()
        assert output["horizons"] == [1, 3]
        assert [len(output[band]["x"]) for band in ("forecast", "lower", "upper")] == [2, 2, 2]


def test_table_and_lines_hold_the_same(replay: Replay) -> None:
    write("pump.csv", rows(60))
    replay("numbers.yaml", "pump.csv", "--output", "out.csv")
    replay("numbers.yaml", "pump.csv", "--output", "out.jsonl")
    for cells, output in zip(table("out.csv"), lines("out.jsonl"), strict=True):
        forecast = output["forecast"]["y"] or [None, None]
        expected = [output["value"]["y"], output["score"], output["updates"], output["upper"]["x"][1], *forecast]
        actual = [
            cells[name] for name in ("value.y", "score", "updates", "upper.x.3", "forecast.y.1", "forecast.y.3")
        ]
        assert [float(cell) if cell else None for cell in actual] == expected


@pytest.mark.parametrize("target", ["out.csv", "out.jsonl"])
def test_two_runs_write_the_same_bytes(replay: Replay, target: str) -> None:
    write("pump.csv", rows(150))
    contents = []
    for _ in range(2):
        assert replay("numbers.yaml", "pump.csv", "--output", target).status == 0
        contents.append(Path(target).read_bytes())
    assert contents[0] == contents[1]
    assert not Path(target + ".part").exists()


def test_another_process_writes_the_same_bytes_and_the_seed_changes_them(replay: Replay) -> None:
    write("pump.csv", rows(150))
    replay("numbers.yaml", "pump.csv", "--output", "here.jsonl")
    command = [sys.executable, "-m", "streamrnn", "replay", "numbers.yaml", "pump.csv", "--output", "there.jsonl"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert Path("there.jsonl").read_bytes() == Path("here.jsonl").read_bytes()
    replay("numbers.yaml", "pump.csv", "--output", "seed.jsonl", "--seed", "1")
    assert Path("seed.jsonl").read_bytes() != Path("here.jsonl").read_bytes()


def test_seed_of_the_command_is_the_one_of_the_configuration(replay: Replay) -> None:
    write("pump.csv", rows(60))
    Path("seeded.yaml").write_text(NUMERIC + "seed: 7\n")
    replay("seeded.yaml", "pump.csv", "--output", "configured.jsonl")
    replay("numbers.yaml", "pump.csv", "--output", "given.jsonl", "--seed", "7")
    replay("seeded.yaml", "pump.csv", "--output", "zero.jsonl", "--seed", "0")
    assert Path("given.jsonl").read_bytes() == Path("configured.jsonl").read_bytes()
    assert Path("zero.jsonl").read_bytes() != Path("configured.jsonl").read_bytes()


@pytest.mark.parametrize("seed", ["-1", "4294967296", "one"])
def test_seed_beyond_what_a_configuration_may_have_is_a_usage_error(replay: Replay, seed: str) -> None:
    write("pump.csv", rows(3))
    assert replay("numbers.yaml", "pump.csv", "--seed", seed).status == 2


def test_replay_gives_what_the_pipeline_gives_live(replay: Replay) -> None:
    recorded = [{"topic": f"plant/{'ab'[i % 2]}/t", "payload": json.dumps(row)} for i, row in enumerate(rows(120))]
    apart = [{"topic": each["topic"], **json.loads(each["payload"])} for each in recorded]
    write("raw.jsonl", recorded)
    write("rows.jsonl", apart)
    write("rows.csv", apart)
    pipeline = build_pipeline("line", config.loads(NUMERIC).pipelines["line"], 0)
    expected = b""
    for i, each in enumerate(recorded):
        output = pipeline.process(Message(each["topic"], each["payload"].encode(), 1, clock_ns=5, arrival=float(i)))
        expected += msgspec.json.encode(output) + b"\n"
    pipeline.close()
    for source in ("raw.jsonl", "rows.jsonl", "rows.csv"):
        replay("numbers.yaml", source, "--output", "out.jsonl")
        assert Path("out.jsonl").read_bytes() == expected


# Keys


def test_row_with_a_topic_is_keyed_as_live_and_one_without_by_the_file(replay: Replay) -> None:
    topics = ["plant/fan/t", None, "plant/pump/t", "office/lamp", None, "plant/fan/t"]
    write("hall.jsonl", [{"x": 1.0} | ({"topic": topic} if topic else {}) for topic in topics])
    status, stdout, _ = replay("numbers.yaml", "hall.jsonl", "--output", "out.jsonl")
    assert status == 0
    assert key_and_seq(lines("out.jsonl")) == [("fan", 0), ("hall", 0), ("pump", 0), ("hall", 1), ("fan", 1)]
    assert measured(stdout)["other_topic"][0] == "1"
    assert (measured(stdout)["rows"][0], measured(stdout)["events"][0]) == ("6", "5")


def keys_of(replay: Replay, topic: str, template: str | None, *arguments: str, file: str = "pump.csv") -> set[str]:
    key = "" if template is None else f', key: "{template}"'
    source = f'input: {{topic: "{topic}", fields: [x]{key}}}, output: {{topic: null}}'
    Path("keyed.yaml").write_text(f"pipelines: {{line: {{{source}, {SMALL}}}}}")
    write(file, rows(3))
    assert replay("keyed.yaml", file, "--output", "out.jsonl", *arguments).status == 0
    assert len(lines("out.jsonl")) == 3
    return {each["key"] for each in lines("out.jsonl")}


@pytest.mark.parametrize(
    ("topic", "template", "key"),
    [
        ("plant/+/t", None, "pump"),
        ("plant/#", None, "pump"),
        ("$share/edge/plant/+/t", None, "pump"),
        ("plant/+/t", "machine", "machine"),
        ("plant/+/t", "no-{1}", "no-pump"),
        ("plant/+/t", "{1}", "pump"),
        ("+", None, "pump"),
    ],
)
def test_file_name_takes_the_place_of_the_wildcard(
    replay: Replay, topic: str, template: str | None, key: str
) -> None:
    assert keys_of(replay, topic, template) == {key}


def test_key_option_takes_the_place_of_the_file_name(replay: Replay) -> None:
    assert keys_of(replay, "plant/+/t", None, "--key", "fan") == {"fan"}


@pytest.mark.parametrize(("topic", "key"), [("plant/+/t", "a/b"), ("plant/+/+/t", "hall/pump"), ("+/t", "$pump")])
def test_any_key_may_be_given(replay: Replay, topic: str, key: str) -> None:
    assert keys_of(replay, topic, None, "--key", key) == {key}


def test_file_may_have_any_name(replay: Replay) -> None:
    assert keys_of(replay, "+/t", None, file="$pump.csv") == {"$pump"}


def test_files_of_two_days_have_two_keys(replay: Replay) -> None:
    assert keys_of(replay, "plant/+/t", None, file="2024.05.01.csv") == {"2024.05.01"}


# Inputs


def test_standard_input_is_read(replay: Replay) -> None:
    content = Path(write("pump.csv", rows(30))).read_bytes()
    replay("numbers.yaml", "pump.csv", "--output", "file.jsonl", "--key", "stdin")
    status, _, stderr = replay("numbers.yaml", "-", "--output", "out.jsonl", stdin=content)
    assert (stderr, status) == ("", 0)
    assert Path("out.jsonl").read_bytes() == Path("file.jsonl").read_bytes()
    text = "".join(json.dumps(row) + "\n" for row in rows(30)).encode()
    replay("numbers.yaml", "-", "--output", "out.jsonl", stdin=text)
    assert Path("out.jsonl").read_bytes() == Path("file.jsonl").read_bytes()


def test_pipe_is_read_to_its_end(replay: Replay) -> None:
    content = Path(write("pump.csv", rows(20_000))).read_bytes()
    Path("still.yaml").write_text(NUMERIC.replace("learn: {", "learn: {enabled: false, "))
    command = [sys.executable, "-m", "streamrnn", "replay", "still.yaml", "/dev/stdin", "--output", "out.jsonl"]
    run = subprocess.run(command, input=content, capture_output=True, timeout=120)
    assert (run.stderr, run.returncode) == (b"", 0)
    assert len(Path("out.jsonl").read_bytes().splitlines()) == 20_000


def test_several_inputs_are_one_stream_of_events(replay: Replay) -> None:
    write("a.csv", rows(40))
    write("b.jsonl", rows(40, 40))
    write("both.jsonl", rows(80))
    replay("numbers.yaml", "both.jsonl", "--key", "k", "--output", "both.out.jsonl")
    _, stdout, _ = replay("numbers.yaml", "a.csv", "b.jsonl", "--key", "k", "--output", "out.jsonl")
    timeless = [[{**each, "time": 0} for each in lines(path)] for path in ("out.jsonl", "both.out.jsonl")]
    assert key_and_seq(timeless[0]) == key_and_seq(timeless[1])
    assert timeless[0][:40] == timeless[1][:40]
    assert measured(stdout)["rows"][0] == "80"


def test_several_inputs_have_their_own_keys(replay: Replay) -> None:
    write("a.csv", rows(2))
    write("b.csv", rows(2))
    _, stdout, _ = replay("numbers.yaml", "a.csv", "b.csv", "--output", "out.jsonl")
    assert key_and_seq(lines("out.jsonl")) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert measured(stdout)["keys"][0] == "2"


def test_time_column_is_the_time(replay: Replay) -> None:
    write("pump.csv", [{"Timestamp": f"2024-05-01T00:00:0{i}Z", "x": float(i)} for i in range(3)])
    replay("numbers.yaml", "pump.csv", "--output", "out.jsonl")
    assert [each["time"] for each in lines("out.jsonl")] == [1714521600.0, 1714521601.0, 1714521602.0]


def test_rows_without_a_time_are_one_second_apart(replay: Replay) -> None:
    write("pump.csv", rows(3))
    replay("numbers.yaml", "pump.csv", "--output", "out.jsonl")
    assert [each["time"] for each in lines("out.jsonl")] == [0.0, 1.0, 2.0]


def test_no_broker_is_needed(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    write("pump.csv", rows(20))
    assert replay("numbers.yaml", "pump.csv").status == 0


# Symbols


def test_symbols_are_replayed(replay: Replay) -> None:
    write("desk.csv", [{"k": key} for key in "hello, hello, " * 12])
    status, stdout, stderr = replay("symbols.yaml", "desk.csv", "--output", "out.csv")
    assert (stderr, status) == ("", 0)
    outputs = table("out.csv")
    likeliest = [name for i in range(1, 6) for name in (f"next.{i}", f"next.{i}.p")]
    assert list(outputs[0]) == [
        *("pipeline", "key", "seq", "time", "symbol", "bits"),
        *likeliest,
        *("updates", "warmup"),
    ]
    assert "".join(row["symbol"] for row in outputs) == "hello, hello, " * 12
    assert all(math.isfinite(float(row["bits"])) for row in outputs)
    replay("symbols.yaml", "desk.csv", "--output", "out.jsonl")
    bits = [each["bits"] for each in lines("out.jsonl")]
    assert [float(row["bits"]) for row in outputs] == bits
    assert float(measured(stdout)["bits per symbol"][0]) == pytest.approx(sum(bits) / len(bits), abs=1e-4)


# Mistakes


def test_several_pipelines_want_a_choice(replay: Replay) -> None:
    write("pump.csv", rows(3))
    Path("two.yaml").write_text(NUMERIC + "  other: {input: {topic: o/+/t, fields: [x]}}\n")
    assert_refused(replay("two.yaml", "pump.csv"), 2, "line, other", "--pipeline")
    assert_refused(replay("two.yaml", "pump.csv", "--pipeline", "third"), 2, "'third'", "line, other")
    assert replay("two.yaml", "pump.csv", "--pipeline", "other", "--output", "out.jsonl").status == 0
    assert {each["pipeline"] for each in lines("out.jsonl")} == {"other"}


def test_file_that_is_missing_is_named(replay: Replay) -> None:
    assert_refused(replay("numbers.yaml", "nothing.csv"), 1, "nothing.csv: No such file or directory")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["bad.csv: is empty"]),
        (b"x,y\n", ["bad.csv: no rows"]),
        (b"x,y\n1,2\n1,2,3\n", ["bad.csv:3: "]),
        (b"x,y\n1,2\n\xff,1\n", ["bad.csv:3: not UTF-8"]),
        (b"1.5,2.5\n3,4\n", ["bad.csv:1: ", "header"]),
    ],
)
def test_file_that_cannot_be_read_is_named_with_the_line(replay: Replay, content: bytes, words: list[str]) -> None:
    Path("bad.csv").write_bytes(content)
    write("good.csv", rows(3))
    assert_refused(replay("numbers.yaml", "good.csv", "bad.csv", "--output", "out.csv"), 1, *words)
    assert not Path("out.csv").exists()
    assert not Path("out.csv.part").exists()


def test_output_that_cannot_be_written_is_a_usage_error(replay: Replay) -> None:
    write("pump.csv", rows(3))
    assert_refused(replay("numbers.yaml", "pump.csv", "--output", "out.txt"), 2, "out.txt", ".csv or .jsonl")
    assert_refused(replay("numbers.yaml", "pump.csv", "--output", "no/out.csv"), 2, "no/out.csv")


def test_input_that_is_also_the_output_is_not_lost(replay: Replay) -> None:
    content = Path(write("pump.csv", rows(3))).read_bytes()
    assert_refused(replay("numbers.yaml", "pump.csv", "--output", "./pump.csv"), 2, "pump.csv")
    assert Path("pump.csv").read_bytes() == content


def test_standard_input_can_be_given_once(replay: Replay) -> None:
    assert_refused(replay("numbers.yaml", "-", "-"), 2, "standard input")


def test_closed_standard_output_is_no_traceback(replay: Replay) -> None:
    write("pump.csv", rows(30))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "streamrnn", "replay", "numbers.yaml", "pump.csv"]
    with os.fdopen(writer, "wb") as stdout:
        run = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=60)
    assert (run.stderr, run.returncode) == (b"", 1)


# Measures


def two_keys() -> list[NumericOutput]:
    """Outputs of two keys in turn, of a pipeline with gaps in both its fields."""
    pipeline = build_pipeline("line", config.loads(NUMERIC).pipelines["line"], 0)
    outputs: list[Output] = []
    for i, row in enumerate(rows(300)):
        row["x"] = None if 100 <= i < 106 or i % 23 == 0 else row["x"]
        if row["x"] is None and row["y"] is None:
            continue
        outputs += pipeline.process_all(Message(f"plant/{'aab'[i % 3]}/t", row, arrival=float(i)))
    pipeline.close()
    assert all(isinstance(each, NumericOutput) for each in outputs)
    return outputs  # type: ignore[return-value]


def column(outputs: list[NumericOutput], part: str, field: str, k: int | None = None) -> np.ndarray[Any, Any]:
    cells = [getattr(each, part)[field] for each in outputs]
    return np.array([math.nan if cell is None else cell if k is None else cell[k] for cell in cells], dtype=float)


@pytest.mark.parametrize("field", ["x", "y"])
@pytest.mark.parametrize(("k", "horizon"), [(0, 1), (1, 3)])
def test_measures_are_those_of_the_definition(field: str, k: int, horizon: int) -> None:
    outputs = two_keys()
    measures = Measures()
    for each in outputs:
        measures.add(each)
    judged = []  # (value, value then, forecast, lower, upper) of both keys
    for key in ("a", "b"):
        mine = [each for each in outputs if each.key == key]
        value = column(mine, "value", field)
        made = [column(mine, part, field, k)[:-horizon] for part in ("forecast", "lower", "upper")]
        judged.append(np.stack([value[horizon:], value[:-horizon], *made]))
    both = np.concatenate(judged, axis=1)
    both = both[:, np.isfinite(both).all(axis=0)]
    now, then, forecast, lower, upper = both
    assert 150 < now.size < 300
    of = measures.fields[field]
    assert of.judged[k] == now.size
    mae = np.abs(now - forecast).mean()
    expected = {
        "mae": mae,
        "rmse": np.sqrt(((now - forecast) ** 2).mean()),
        "skill": 1 - mae / np.abs(now - then).mean(),
        "coverage": ((lower <= now) & (now <= upper)).mean(),
        "mean_width": (upper - lower).mean(),
    }
    actual = {name: getattr(of, name)(k) for name in expected}
    assert actual == pytest.approx(expected, rel=1e-12)
    assert measures.events == len(outputs)
    assert measures.alerts == sum(each.anomaly for each in outputs)
    assert measures.updates == outputs[-1].updates


def test_measures_of_symbols_are_those_of_the_definition() -> None:
    pipeline = build_pipeline("typed", config.loads(SYMBOLS).pipelines["typed"], 0)
    outputs: list[Any] = []
    for i, symbol in enumerate("the cat sat on the mat and that was that; " * 6):
        outputs += pipeline.process_all(Message(f"keys/{'aab'[i % 3]}", {"k": symbol}))
    pipeline.close()
    measures = Measures()
    top1 = top5 = 0
    for i, each in enumerate(outputs):
        measures.add(each)
        before = [other for other in outputs[:i] if other.key == each.key]
        expected = [symbol for symbol, _ in before[-1].next] if before else []
        top1 += expected[:1] == [each.symbol]
        top5 += each.symbol in expected
    assert (measures.top1, measures.top5) == (top1, top5)
    assert 0 < top1 < top5 < len(outputs)
    assert measures.bits == pytest.approx(sum(each.bits for each in outputs), rel=1e-12)
    assert measures.events == len(outputs)


@pytest.mark.parametrize(("lower", "upper"), [(5.0, 6.0), (4.0, 5.0), (5.0, 5.0)])
def test_value_on_a_bound_is_inside(lower: float, upper: float) -> None:
    of = FieldMeasures((1,))
    of.judge(0, 5.0, (0.0, 5.0, 5.0, lower, upper))
    assert (of.coverage(0), of.mean_width(0)) == (1.0, upper - lower)


def test_measures_of_nothing_are_not_a_number() -> None:
    measures = Measures()
    measures.add(two_keys()[1])
    of = measures.fields["x"]
    assert of.judged == [0, 0]
    assert all(math.isnan(each(0)) for each in (of.mae, of.rmse, of.skill, of.coverage, of.mean_width))


def test_printed_measures_are_those_of_the_outputs(replay: Replay) -> None:
    write("pump.csv", rows(100))
    _, stdout, _ = replay("numbers.yaml", "pump.csv", "--output", "out.jsonl")
    measures = Measures()
    for line in Path("out.jsonl").read_bytes().splitlines():
        measures.add(msgspec.json.decode(line, type=NumericOutput))
    printed = [
        re.split(r"\s*│\s*", line.strip("│ ")) for line in stdout.splitlines() if re.match(r"│ [0-9]+ +│", line)
    ]
    expected = [
        [
            f"{of.horizons[k]}",
            f"{of.judged[k]}",
            f"{of.mae(k):.5g}",
            f"{of.rmse(k):.5g}",
            f"{of.skill(k):+.3f}",
            "-",  # rows are not times, so no day is known
            f"{of.coverage(k):.1%}",
            f"{of.mean_width(k):.5g}",
        ]
        for of in measures.fields.values()
        for k in range(2)
    ]
    assert printed == expected
    for title in ("ahead", "judged", "MAE", "RMSE", "skill", "vs day", "coverage", "width"):
        assert title in stdout
    summary = measured(stdout)
    assert [summary[name][0] for name in ("rows", "events", "keys")] == ["100", "100", "1"]
    assert summary["weight updates"][0] == f"{measures.updates}"
    assert summary["alerts"][0] == f"{measures.alerts}"
