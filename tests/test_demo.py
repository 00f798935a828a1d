"""The demo: from the command to its last line with everything real, and the board it shows."""

from __future__ import annotations

import contextlib
import math
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from rich.console import Console, RenderableType

from streamrnn.codecs import encode
from streamrnn.demo import Board, brief
from streamrnn.events import Message, NumericOutput
from streamrnn.telemetry import FIELDS

HEAD = ["field", "mean error", "of persistence", "coverage"]


class Demo:
    """A demo in a process of its own, without a terminal."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.out, self.err = folder / "stdout", folder / "stderr"
        with self.out.open("wb") as stdout, self.err.open("wb") as stderr:
            self.process = psutil.Popen(
                [sys.executable, "-m", "streamrnn", "demo", *words],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=os.environ | {"COLUMNS": "120"},
            )
        self.children: set[psutil.Process] = set()

    @property
    def stdout(self) -> str:
        return self.out.read_text()

    def lines(self) -> list[str]:
        return [line for line in self.stdout.splitlines() if " events · " in line]

    def wait_for_lines(self, count: int) -> None:
        deadline = time.monotonic() + 90
        while len(self.lines()) < count:
            self.children |= set(self.process.children(recursive=True))
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < deadline, self.stdout
            time.sleep(0.05)

    def end(self) -> int:
        return int(self.process.wait(timeout=60))

    def left_behind(self) -> list[psutil.Process]:
        return [child for child in self.children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Any]:
    started: list[Demo] = []

    def start(*words: str) -> Demo:
        started.append(Demo(tmp_path, *words))
        return started[-1]

    yield start
    for each in started:
        for process in (each.process, *each.children):
            if process.is_running():
                process.kill()
        each.process.wait()


def assert_ends_with_the_summary(stdout: str) -> None:
    """Title, head, a row for each field, and the status."""
    end = stdout[stdout.index("One step ahead") :].splitlines()
    rows = [re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in end if line[:1] in "│┃"]
    assert rows[0] == HEAD
    assert [row[0] for row in rows[1:]] == list(FIELDS)
    assert re.match(r"[0-9]+ events · ", end[-1])


def events(line: str) -> int:
    return int(line.split(" events")[0])


def test_demo_runs_for_its_seconds_and_ends_with_the_summary(demo: Any) -> None:
    running = demo("--seconds", "6")
    running.wait_for_lines(1)
    assert running.end() == 0
    *seconds, last = running.lines()
    assert len(seconds) in (6, 7)  # a timer may be early by a hair, which makes one line more
    counts = [events(line) for line in (*seconds, last)]
    assert sorted(counts) == counts
    assert counts[0] < counts[2] < counts[4]
    assert 30 < counts[-1] <= 70
    assert_ends_with_the_summary(running.stdout)
    assert re.search(r" [1-9][0-9]* weight updates ", last)
    assert "Traceback" not in running.err.read_text()
    assert len(running.children) > 0
    assert running.left_behind() == []


def test_demo_at_a_terminal_redraws_the_table_and_ends_with_the_summary() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streamrnn", "demo", "--seconds", "2"]
    environment = os.environ | {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        screen = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # EIO: it has ended
            while read := terminal.read(65536):
                screen += read
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode()).replace("\r\n", "\n")
    assert text.count("90 % interval") > 3
    assert "Traceback" not in text
    assert_ends_with_the_summary(text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_demo_with_the_summary(demo: Any, number: signal.Signals) -> None:
    running = demo()
    running.wait_for_lines(2)
    running.process.send_signal(number)
    assert running.end() == 0
    assert_ends_with_the_summary(running.stdout)
    assert "Traceback" not in running.err.read_text()
    assert len(running.children) > 0
    assert running.left_behind() == []


def test_signal_before_the_first_event_ends_the_demo(demo: Any) -> None:
    running = demo()
    deadline = time.monotonic() + 60
    while "Compiling" not in running.err.read_text():
        running.children |= set(running.process.children(recursive=True))
        assert running.process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 0
    assert "Traceback" not in running.err.read_text()
    _, alive = psutil.wait_procs(running.children, timeout=10)  # the broker ends when it finds that we have
    assert alive == []


# A compiler that holds Python's lock for all of the time, and says so.
COMPILER = """
import ctypes, os
from streamrnn import cli, service
def warm_aloud(name, spec):
    while True:
        ctypes.PyDLL(None).usleep(200_000)
        os.write(2, b"compiling on\\n")
assert service.warm_aloud
service.warm_aloud = warm_aloud
cli.main()
"""


def test_a_signal_while_kernels_are_compiled_does_not_wait_for_the_broker_to_end() -> None:
    command = [sys.executable, "-c", COMPILER, "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        give_up = threading.Timer(60, process.kill)  # readline() would wait for ever
        give_up.start()
        while "compiling on" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        give_up.cancel()
    assert process.returncode == 0
    assert err.count("compiling on") < 3  # as often as the loop has to turn, it has to wait
    assert "Traceback" not in err


def test_demo_that_is_killed_takes_its_broker_along(demo: Any) -> None:
    running = demo()
    running.wait_for_lines(1)
    assert len(running.children) > 0
    running.process.kill()
    running.process.wait()
    _, alive = psutil.wait_procs(running.children, timeout=10)
    assert alive == []


# The board


def output(seq: int, **changes: Any) -> NumericOutput:
    """An output whose every field has the value 10 (seq + 1), forecast to stay; a 1 inside each interval."""
    value = 10.0 * (seq + 1)
    whole = NumericOutput(
        pipeline="demo",
        key="this-computer",
        seq=seq,
        time=float(seq),
        value=dict.fromkeys(FIELDS, value),
        forecast={field: [value + 5.0, value] for field in FIELDS},
        lower={field: [value, value] for field in FIELDS},
        upper={field: [value + 10.0, value] for field in FIELDS},
        horizons=(1, 4),
        error=dict.fromkeys(FIELDS, 5.0),
        score=0.25,
        anomaly=False,
        loudest="cpu",
        updates=3 * seq,
        warmup=False,
        latency_us=1000.0 * (seq + 1),
    )
    return msgspec.structs.replace(whole, **changes)


def filled(*outputs: NumericOutput) -> Board:
    board = Board()
    for each in outputs:
        assert board.take(Message("streamrnn/demo/this-computer", encode(each))) is True
    return board


def shown(what: RenderableType) -> list[list[str]]:
    """The cells of each line of a table."""
    console = Console(file=StringIO(), width=120)
    console.print(what)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in text.splitlines() if line[:1] in "│┃"]


def test_board_without_events_waits() -> None:
    board = Board()
    assert board.status() == "waiting for the first event"
    assert [row[0] for row in shown(board.table())[1:]] == list(FIELDS)
    assert shown(board.summary()) == [HEAD]


def test_table_shows_the_last_value_what_comes_next_and_how_well_it_went() -> None:
    rows = shown(filled(output(0), output(1), output(2)).table())
    assert rows[0] == ["field", "value", "next", "90 % interval", "mean error", "of persistence"]
    assert rows[1:] == [
        [field, brief(30.0), brief(35.0), f"{brief(30.0)} .. {brief(40.0)}", brief(5.0), "50%"] for field in FIELDS
    ]


def test_table_after_the_first_event_has_no_error_yet() -> None:
    rows = shown(filled(output(0)).table())
    assert rows[1][:5] == [FIELDS[0], brief(10.0), brief(15.0), f"{brief(10.0)} .. {brief(20.0)}", "-"]


def test_table_shows_what_is_missing_as_a_dash() -> None:
    gone = dict.fromkeys(FIELDS)
    rows = shown(filled(output(0), output(1, value=gone, forecast=gone, lower=gone, upper=gone)).table())
    assert rows[1][:5] == [FIELDS[0], "-", "-", "- .. -", "-"]


def test_summary_shows_the_measures_of_one_step() -> None:
    rows = shown(filled(output(0), output(1), output(2), output(3, value=dict.fromkeys(FIELDS, 99.0))).summary())
    # Errors 5, 5 and 64, of persistence 10, 10 and 69; two of three inside.
    assert rows[1:] == [[field, brief(74 / 3), "83.1%", "66.7%"] for field in FIELDS]


def test_field_that_never_changes_has_nothing_to_forecast() -> None:
    still = dict.fromkeys(FIELDS, 10.0)
    rows = shown(filled(output(0, value=still), output(1, value=still)).summary())
    assert rows[1:] == [[field, brief(5.0), "nothing to forecast", "100.0%"] for field in FIELDS]


def test_status_tells_the_counts_and_the_latencies() -> None:
    board = filled(*(output(i) for i in range(101)))
    assert board.status() == (
        "101 events · 300 weight updates · score 0.250 · 0 alerts · latency median 51.00 ms, p99 100.00 ms"
    )


def test_status_names_the_field_of_an_anomaly_and_the_warmup() -> None:
    board = filled(output(0), output(1, anomaly=True, score=1.0, loudest="net_in", warmup=True))
    assert board.status() == (
        "2 events · 3 weight updates · score 1.000 ANOMALY in net_in · 1 alerts · "
        "latency median 1.00 ms, p99 1.00 ms · warming up"
    )


def test_output_without_a_latency_is_taken() -> None:
    board = filled(output(0, latency_us=msgspec.UNSET))
    assert board.latency(0.5) == 0.0
    assert board.measures.events == 1


def test_latencies_kept_are_bounded() -> None:
    board = Board()
    board.latencies_us.extend(range(20_000))
    assert len(board.latencies_us) == 10_000


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (None, "-"),
        (math.nan, "-"),
        (0.0, "0"),
        (-0.0001, "0"),
        (-1.2345, "-1.234"),
        (12.5, "12.5"),
        (9999.0, "9999"),
        (10_000.0, "10.0k"),
        (-12_345.0, "-12.3k"),
        (1e7, "10.0M"),
        (2.5e10, "25.0G"),
    ],
)
def test_number_is_shown_in_a_few_characters(number: float | None, expected: str) -> None:
    assert brief(number) == expected
