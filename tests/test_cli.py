"""The commands as a user meets them: what they print, what they say of mistakes, and what they end with."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jsonschema
import numba
import pytest
import yaml
from mosquitto import Mosquitto, free_port

import streamrnn
from streamrnn import cli, config

FOLDER = Path(__file__).parents[1] / "config"
COMMANDS = ["run", "demo", "replay", "check", "schema", "sense", "version", "state"]
MISTAKES = """\
mqtt:
  url: http://broker
seed: -1
pipelines:
  pump:
    input: {topic: plant/+/t, fields: [x]}
    model:
      hidden: lots
    lern: {every: 4}
"""
GOOD = "pipelines:\n  pump:\n    input: {topic: plant/+/t, fields: [x]}\n    model: {hidden: 4}\n"


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Run a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["streamrnn", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def assert_refused(ended: Ended, status: int, *words: str) -> None:
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr
    assert ended.status == status
    assert ended.stdout == ""


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


# Configurations that do not hold


@pytest.mark.parametrize("words", [["run"], ["check"], ["replay"]])
def test_every_mistake_is_told_at_once_with_its_line(command: Command, words: list[str]) -> None:
    path = write("bad.yaml", MISTAKES)
    more = [write("rows.csv", "x\n1\n")] if words == ["replay"] else []
    ended = command(*words, path, *more)
    assert_refused(ended, 78)
    assert "lern" in ended.stderr.splitlines()[-1]
    assert [line.split(": ")[:2] for line in ended.stderr.splitlines()] == [
        ["bad.yaml:2", "mqtt.url"],
        ["bad.yaml:3", "seed"],
        ["bad.yaml:8", "pipelines.pump.model.hidden"],
        ["bad.yaml:9", "pipelines.pump"],
    ]


@pytest.mark.parametrize("words", [["run", "no.yaml"], ["check", "no.yaml"], ["replay", "no.yaml", "rows.csv"]])
def test_configuration_that_is_missing_is_named(command: Command, words: list[str]) -> None:
    assert_refused(command(*words), 78, "no.yaml: no such file")


def test_mistakes_of_a_process_end_with_78_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(MISTAKES)
    run = subprocess.run(
        [sys.executable, "-m", "streamrnn", "check", "bad.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (78, "", 4)
    assert "Traceback" not in run.stderr


def test_two_configurations_that_clash_are_refused_with_every_clash(command: Command) -> None:
    write("a.yaml", "seed: 1\n" + GOOD)
    write("b.yaml", "seed: 2\nmqtt: {client_id: b}\nstate: b\ndurability: power\ncheckpoint: 5\nhttp: {}\n" + GOOD)
    ended = command("run", "a.yaml", "b.yaml")
    assert_refused(ended, 78)
    assert [line.rpartition("yaml: ")[2].split(": ")[0] for line in ended.stderr.splitlines()] == [
        "mqtt",
        "state",
        "durability",
        "checkpoint",
        "http",
        "seed",
        "pipelines.pump",
    ]


def test_two_configurations_that_clash_are_named(command: Command) -> None:
    write("a.yaml", GOOD)
    write("b.yaml", GOOD)
    assert_refused(command("run", "a.yaml", "b.yaml"), 78, "b.yaml", "pipelines.pump")


# check


def test_check_prints_the_whole_configuration_and_the_budget(command: Command) -> None:
    status, stdout, stderr = command("check", write("pump.yaml", GOOD))
    assert (status, stderr) == (0, "")
    text, found, budget = stdout.partition("\npump")
    assert found
    assert config.loads(text) == config.load("pump.yaml")
    assert yaml.safe_load(text)["pipelines"]["pump"]["learn"]["length"] == 32
    for row in ("weights", "replay window", "streams", "detectors", "sum", "answering", "with learning"):
        assert row in budget
    assert "limits.memory_mb: 256" in budget


def test_check_counts_the_copy_for_a_checkpoint_where_there_is_a_state_directory(command: Command) -> None:
    without = command("check", write("a.yaml", GOOD)).stdout
    kept = command("check", write("b.yaml", "state: kept\n" + GOOD)).stdout
    assert "checkpoint copy" not in without
    row = re.search(r"checkpoint copy *│ +([0-9.]+) MiB │ (.*?)│ parked", re.sub(r"\s+", " ", kept))
    assert row
    words = " ".join(re.sub("[│ ]+", " ", row[2]).split())
    assert "beside the sum, while one is written; the disk has 2, and that one" == words
    assert 200 < float(row[1]) <= 256  # histories may take all that limits.memory_mb leaves
    assert not Path("kept").exists()


def test_check_counts_every_network_of_an_ensemble(command: Command) -> None:
    parameters = []
    for size in (1, 3):
        model = f"hidden: 4, ensemble: {size}"
        stdout = command("check", write("pump.yaml", GOOD.replace("hidden: 4", model))).stdout
        assert f"ensemble: {size}" in stdout
        found = re.search(r"(\d+) parameters", stdout)
        assert found
        parameters.append(int(found[1]))
    assert parameters[1] == 3 * parameters[0]


def test_check_says_when_the_sum_is_above_the_limit(command: Command) -> None:
    limits = "    limits: {keys: 100000, memory_mb: 16}\n"
    assert "above limits.memory_mb" not in " ".join(command("check", write("a.yaml", GOOD)).stdout.split())
    assert "above limits.memory_mb" in " ".join(command("check", write("b.yaml", GOOD + limits)).stdout.split())


def test_check_prints_what_the_variables_gave_and_no_markup(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "hall [bold]7[/bold]")
    write("pump.yaml", GOOD.replace("plant/+/t", '"${WHERE}/+/t"'))
    assert "hall [bold]7[/bold]/+/t" in command("check", "pump.yaml").stdout


def test_check_keeps_a_long_line_whole(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    topic = "plant/" + "a" * 200 + "/t"
    assert f"{topic}\n" in command("check", write("pump.yaml", GOOD.replace("plant/+/t", topic))).stdout


def test_check_connects_to_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert command("check", write("pump.yaml", GOOD)).status == 0


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_that_come_along_pass(command: Command, path: Path) -> None:
    assert command("check", str(path)).status == 0


# schema, version


def test_schema_is_the_file_that_editors_read(command: Command) -> None:
    status, stdout, stderr = command("schema")
    assert (status, stderr) == (0, "")
    assert stdout == (FOLDER / "streamrnn.schema.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(yaml.safe_load(stdout))


def test_version_tells_what_matters_in_a_bug_report(command: Command) -> None:
    status, stdout, stderr = command("version")
    assert (status, stderr) == (0, "")
    assert stdout.splitlines()[:3] == [
        f"streamrnn {streamrnn.__version__}",
        f"python {platform.python_version()}",
        f"numba {numba.__version__}",
    ]
    assert re.fullmatch(r"cpu \S+ \(\S+, [1-9][0-9]* cores\)", stdout.splitlines()[4])


# For programs


def test_check_tells_programs_the_same_as_people(command: Command) -> None:
    text = command("check", write("pump.yaml", "state: kept\n" + GOOD)).stdout
    status, stdout, stderr = command("check", "pump.yaml", "--json")
    assert (status, stderr) == (0, "")
    document = json.loads(stdout)
    assert yaml.safe_load(text.partition("\npump")[0]) == document["config"]
    pump = document["pipelines"]["pump"]
    memory = pump["memory_bytes"]
    parts = ("weights", "replay_window", "ngram", "streams", "detectors")
    assert memory["sum"] == sum(memory[part] for part in parts)
    assert memory["limit"] == 256 << 20
    assert pump["within_limit"] is True
    assert f"{pump['parameters']} parameters" in text
    assert f"{memory['sum'] / 2**20:.1f} MiB" in text
    assert f"{pump['checkpoint_copy_bytes'] / 2**20:.1f} MiB" in text
    assert 0 < pump["microseconds_per_event"]["answering"] <= pump["microseconds_per_event"]["with_learning"]


def test_mistakes_are_told_on_stderr_for_programs_as_well(command: Command) -> None:
    assert_refused(command("check", write("bad.yaml", MISTAKES), "--json"), 78, "bad.yaml:8")


def test_version_tells_programs_the_same_as_people(command: Command) -> None:
    lines = command("version").stdout.splitlines()
    document = json.loads(command("version", "--json").stdout)
    assert lines[:-1] == [f"{name} {document[name]}" for name in ("streamrnn", "python", "numba", "numpy")]
    assert lines[-1] == f"cpu {document['cpu']} ({document['machine']}, {document['cores']} cores)"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    words = {"COMP_WORDS": "streamrnn re", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "streamrnn re"}
    environment = {**os.environ, **words, "_STREAMRNN_COMPLETE": f"complete_{shell}"}
    if shell == "fish":
        environment["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    program = str(Path(sys.executable).with_name("streamrnn"))
    run = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60)
    assert "replay" in run.stdout
    assert "sense" not in run.stdout


# Words that are none


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["--nonsense"], "No such option"),
        (["run"], "Missing argument"),
        (["replay", "pump.yaml"], "Missing argument"),
        (["check", "a.yaml", "b.yaml"], "unexpected extra argument"),
        (["schema", "--nonsense"], "No such option"),
        (["demo", "--seconds", "0"], "--seconds"),
        (["demo", "--seconds", "soon"], "--seconds"),
        (["sense", "--rate", "0"], "--rate"),
        (["sense", "--url", "mqtt://:1883", "--nonsense"], "No such option"),
    ],
)
def test_words_that_are_no_command_are_usage_errors(command: Command, words: list[str], said: str) -> None:
    assert_refused(command(*words), 2, said)


def test_no_command_shows_the_help(command: Command) -> None:
    ended = command()
    assert ended.status == 2
    assert all(name in ended.stdout + ended.stderr for name in COMMANDS)


def test_help_names_every_command(command: Command) -> None:
    status, stdout, stderr = command("--help")
    assert (status, stderr) == (0, "")
    assert [name for name in COMMANDS if re.search(rf"^│ {name} ", stdout, re.MULTILINE)] == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_an_example(command: Command, name: str) -> None:
    status, stdout, stderr = command(name, "--help")
    assert (status, stderr) == (0, "")
    assert f"streamrnn {name}" in stdout.partition("Usage:")[2].partition("\n")[2]


@pytest.mark.parametrize("words", [["schema"], ["version"], ["--help"], ["check", str(FOLDER / "numbers.yaml")]])
def test_reader_that_has_seen_enough_is_no_traceback(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        command = [sys.executable, "-m", "streamrnn", *words]
        run = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=60)
    assert run.stderr == b""
    assert run.returncode == 1


# sense


def test_sense_without_a_broker_says_so(command: Command) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    ended = command("sense", "--url", url)
    assert_refused(ended, 69, url)
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--url", "http://broker"],
        ["--url", "broker"],
        ["--topic", "sense/+/telemetry"],
        ["--topic", "sense/#"],
    ],
)
def test_sense_refuses_words_that_cannot_work_before_it_connects(command: Command, words: list[str]) -> None:
    ended = command("sense", *(() if "--url" in words else ("--url", f"mqtt://127.0.0.1:{free_port()}")), *words)
    assert_refused(ended, 2, words[0])


def test_sense_names_the_option_whose_file_is_missing(command: Command) -> None:
    ended = command("sense", "--username", "me", "--password-file", "nothing")
    assert_refused(ended, 2, "--password-file", "nothing")


# Until a signal


def wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["run", "sense"])
def test_command_ends_with_0_on_a_signal(
    tmp_path: Path, mosquitto: Mosquitto, name: str, number: signal.Signals
) -> None:
    path, log = tmp_path / "pump.yaml", tmp_path / "stderr"
    path.write_text(f"mqtt: {{url: '{mosquitto.url}'}}\n{GOOD}")
    words, ready = {"run": ([str(path)], "ready: pump"), "sense": (["--url", mosquitto.url], "publishing")}[name]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamrnn", name, *words], stdout=subprocess.PIPE, stderr=stderr
        )
        try:
            wait_for(ready, log, process)
            process.send_signal(number)
            stdout, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text()
    assert (process.returncode, stdout) == (0, b"")
