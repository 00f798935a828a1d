"""`replay --report` and `--plot`: the document against the outputs, and what cannot be written or drawn."""

from __future__ import annotations

import io
import json
import math
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from matplotlib.image import imread
from replay_support import Replay, assert_refused, measured, rows, write

import streamrnn
from streamrnn import warm
from streamrnn.evaluation import plot
from streamrnn.evaluation.measures import Measures
from streamrnn.evaluation.summary import Summary
from streamrnn.events import NumericOutput, SymbolOutput

HORIZON = (
    "horizon forecasts mae mse rmse persistence_mae persistence_mse skill mse_ratio "
    "seasonal_forecasts seasonal_mae seasonal_skill coverage mean_width"
)


def hourly(count: int) -> list[dict[str, Any]]:
    """Rows an hour apart, whose x is the same every day and y never."""
    return [
        {"time": 1_700_000_000 + 3600 * i, "x": math.sin(i * math.pi / 12), "y": i * i % 101} for i in range(count)
    ]


def report(path: str = "report.json") -> Any:
    text = Path(path).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    return json.loads(text)


def judged(path: str, type: Any) -> Measures:
    measures = Measures()
    for line in Path(path).read_bytes().splitlines():
        measures.add(msgspec.json.decode(line, type=type))
    return measures


def test_document_says_what_was_replayed(replay: Replay) -> None:
    write("pump.csv", rows(60))
    write("fan.csv", rows(40))
    assert replay("numbers.yaml", "pump.csv", "fan.csv", "--report", "report.json", "--seed", "5").status == 0
    document = report()
    assert list(document) == list(Summary.__struct_fields__)
    expected = {"format": 1, "pipeline": "line", "seed": 5, "rows": 100, "events": 100, "keys": 2, "symbols": None}
    assert expected == {name: document[name] for name in expected}
    assert ["pump.csv", "fan.csv"] == document["inputs"]
    assert streamrnn.__version__ == document["versions"]["streamrnn"]
    assert platform.python_version() == document["versions"]["python"]
    assert document["versions"]["numba"].count(".") == 2
    assert document["configuration"]["model"] == {"cell": "gru", "hidden": 6, "layers": 1, "ensemble": 1}
    assert document["configuration"]["learn"]["rate"] == 0.003
    assert document["counts"] == {"missing": sum(row["y"] is None for row in rows(60) + rows(40))}
    assert document["learning"]["updates"] > 0
    assert document["microseconds_per_event"] == pytest.approx(document["seconds"] * 1e4)
    assert not Path("report.json.part").exists()


def test_document_has_the_measures_of_the_outputs(replay: Replay) -> None:
    write("pump.csv", hourly(150))
    _, stdout, _ = replay("numbers.yaml", "pump.csv", "--output", "out.jsonl", "--report", "report.json")
    measures, document = judged("out.jsonl", NumericOutput), report()
    numbers = document["numbers"]
    assert (measures.alerts, measures.coverage(), 0.9) == tuple(
        numbers[name] for name in ("alerts", "coverage", "interval")
    )
    assert measures.warmup == document["warmup_events"]
    assert list(numbers["fields"]) == ["x", "y"]
    for field, of in measures.fields.items():
        for k, said in enumerate(numbers["fields"][field]):
            assert list(said) == HORIZON.split()
            assert (said["horizon"], said["forecasts"]) == ((1, 3)[k], of.judged[k])
            for name in ("mae", "mse", "rmse", "skill", "mse_ratio", "coverage", "mean_width"):
                assert said[name] == getattr(of, name)(k)
            assert said["skill"] == pytest.approx(1 - said["mae"] / said["persistence_mae"])
            assert said["mse_ratio"] == pytest.approx(said["mse"] / said["persistence_mse"])
            assert said["seasonal_forecasts"] == of.seasonal_judged[k] == 150 - 33 - 24
    x, y = (numbers["fields"][field][0] for field in "xy")
    assert x["seasonal_mae"] < 1e-9  # a day before was right
    assert y["seasonal_mae"] > 10
    assert f"{y['seasonal_skill']:+.3f}" in stdout
    assert f"{numbers['coverage']:.1%}" == measured(stdout)["inside their 0.9 interval"][0]


def test_document_of_symbols(replay: Replay) -> None:
    write("desk.csv", [{"k": key} for key in "hello, hello, " * 12])
    replay("symbols.yaml", "desk.csv", "--output", "out.jsonl", "--report", "report.json")
    measures, document = judged("out.jsonl", SymbolOutput), report()
    assert document["numbers"] is None
    assert document["symbols"] == {
        "bits_per_symbol": measures.bits / 168,
        "top1": measures.top1 / 168,
        "top5": measures.top5 / 168,
    }
    assert document["configuration"]["input"]["symbol"] == "k"


def test_what_cannot_be_measured_is_null_and_a_dash(replay: Replay) -> None:
    write("pump.csv", [{"x": 1.0, "y": 5.0}, {"x": None, "y": 5.0}])
    _, stdout, _ = replay("numbers.yaml", "pump.csv", "--report", "report.json")
    x, y = (report()["numbers"]["fields"][field][0] for field in "xy")
    assert {0} == {x.pop(name) for name in ("forecasts", "seasonal_forecasts")}
    assert {1, None} == set(x.values())
    assert (y["forecasts"], y["persistence_mae"], y["skill"], y["mse_ratio"]) == (1, 0.0, None, None)
    assert "nan" not in stdout
    assert measured(stdout)["1"][3:5] == ["-", "-"]  # of y, the last table


def test_document_is_the_same_each_time_but_for_times(replay: Replay) -> None:
    write("pump.csv", rows(80))
    documents = []
    for _ in range(2):
        replay("numbers.yaml", "pump.csv", "--report", "report.json")
        document = report()
        del document["seconds"], document["microseconds_per_event"], document["learning"]["waits"]
        documents.append(document)
    assert documents[0] == documents[1]


def test_no_events_have_a_document_of_nothing(replay: Replay) -> None:
    write("pump.csv", [{"z": 1.0}])
    ended = replay("numbers.yaml", "pump.csv", "--report", "report.json", "--plot", "picture.png")
    assert ended.status == 1
    assert ended.stderr.splitlines()[-1] == "none of the rows was an event for this pipeline"
    assert report()["numbers"] == {"alerts": 0, "interval": 0.9, "coverage": None, "fields": {}}
    assert report()["microseconds_per_event"] is None
    assert not list(Path().glob("picture*"))


def test_picture_is_drawn(replay: Replay) -> None:
    write("pump.csv", hourly(40))
    status, stdout, stderr = replay("numbers.yaml", "pump.csv", "--plot", "picture.png")
    assert (status, stderr) == (0, "")
    assert "prequential measures" in stdout
    image = imread(io.BytesIO(Path("picture.png").read_bytes()))
    assert image.shape[1] == 1600
    assert np.ptp(image) > 0.5
    assert Path("picture.png").read_bytes().endswith(b"IEND\xaeB`\x82")  # nothing of what was reserved is left
    write("desk.csv", [{"k": key} for key in "hello, hello, " * 12])
    assert replay("symbols.yaml", "desk.csv", "--plot", "symbols.png").status == 0
    assert Path("symbols.png").stat().st_size > 10_000


def test_key_of_the_picture_is_the_first_or_the_one_wanted(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, str, int]] = []
    monkeypatch.setattr(
        plot, "png", lambda trace, title: drawn.append((title, trace.key, trace.all.count)) or b"picture"
    )
    write("a.csv", rows(5))
    write("b.csv", rows(7))
    replay("numbers.yaml", "a.csv", "b.csv", "--plot", "picture.png")
    replay("numbers.yaml", "a.csv", "b.csv", "--plot", "picture.png", "--plot-key", "b")
    assert drawn == [("line · a", "a", 5), ("line · b", "b", 7)]
    assert Path("picture.png").read_bytes() == b"picture"


def test_key_that_is_not_there_leaves_all_but_the_picture(replay: Replay) -> None:
    write("a.csv", rows(5))
    write("b.csv", rows(5))
    wanted = ["--output", "out.jsonl", "--report", "report.json", "--plot", "picture.png", "--plot-key", "c"]
    status, stdout, stderr = replay("numbers.yaml", "a.csv", "b.csv", *wanted)
    assert (status, stderr) == (2, "--plot-key: no event has the key 'c'; there are a, b\n")
    assert "prequential measures" in stdout
    assert sorted(path.name for path in Path().glob("*.[pjn]*") if path.suffix != ".yaml") == [
        "out.jsonl",
        "report.json",
    ]


# Mistakes that are told before any work is done


@pytest.fixture
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(warm, "warm", refuse)


@pytest.mark.usefixtures("_no_work")
@pytest.mark.parametrize("option", ["--report", "--plot"])
def test_file_that_cannot_be_written_is_told_at_once(replay: Replay, option: str) -> None:
    write("pump.csv", rows(3))
    assert_refused(replay("numbers.yaml", "pump.csv", option, "no/file"), 2, "no/file", "No such file or directory")
    assert_refused(replay("numbers.yaml", "pump.csv", option, "."), 2, ".: is a directory")
    Path("full.part").symlink_to("/dev/full")
    assert_refused(replay("numbers.yaml", "pump.csv", option, "full"), 1, "full: writing failed: No space left")
    assert not Path("full.part").is_symlink()


@pytest.mark.usefixtures("_no_work")
@pytest.mark.parametrize("option", ["--report", "--plot"])
def test_file_that_is_written_twice_or_read_is_a_usage_error(replay: Replay, option: str) -> None:
    write("pump.csv", rows(3))
    assert_refused(replay("numbers.yaml", "pump.csv", option, "./pump.csv"), 2, option, "also an input")
    both = replay("numbers.yaml", "pump.csv", "--output", "same.csv", option, "./same.csv")
    assert_refused(both, 2, f"{option}: same.csv is also --output")


@pytest.mark.usefixtures("_no_work")
def test_plot_without_matplotlib_is_told_at_once(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    write("pump.csv", rows(3))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ended = replay("numbers.yaml", "pump.csv", "--plot", "picture.png")
    assert_refused(ended, 2, "--plot needs matplotlib: pip install 'streamrnn[plot]'")
    assert not list(Path().glob("picture*"))


@pytest.mark.usefixtures("_no_work")
def test_plot_key_without_plot_is_a_usage_error(replay: Replay) -> None:
    write("pump.csv", rows(3))
    assert_refused(replay("numbers.yaml", "pump.csv", "--plot-key", "a"), 2, "--plot-key", "no --plot")


def test_failed_replay_leaves_no_files_and_keeps_older_ones(replay: Replay) -> None:
    Path("bad.csv").write_bytes(b"x,y\n1,2\n1,2,3\n")
    Path("report.json").write_text("older")
    ended = replay("numbers.yaml", "bad.csv", "--report", "report.json", "--plot", "picture.png")
    assert_refused(ended, 1, "bad.csv:3: ")
    assert Path("report.json").read_text() == "older"
    assert not list(Path().glob("*.part"))
    assert not Path("picture.png").exists()


def test_ended_replay_leaves_no_files(tmp_path: Path, replay: Replay) -> None:
    os.mkfifo("endless.csv")
    command = [sys.executable, "-m", "streamrnn", "replay", "numbers.yaml", "endless.csv"]
    options = ["--report", "report.json", "--plot", "picture.png"]
    # The pipe opens when the replay reads it.
    with (
        subprocess.Popen([*command, *options], stderr=subprocess.PIPE) as process,
        open("endless.csv", "w") as pipe,
    ):
        assert Path("picture.png.part").exists()
        pipe.write("x,y\n1,2\n")
        pipe.flush()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert not list(Path().glob("*.part"))


def test_the_document_goes_to_stdout_in_place_of_the_tables_for_programs(replay: Replay) -> None:
    write("a.csv", rows(60))
    status, stdout, _ = replay("numbers.yaml", "a.csv", "--json", "--report", "report.json")
    assert status == 0
    assert json.loads(Path("report.json").read_text()) == json.loads(stdout)
    assert json.loads(stdout)["events"] == 60
