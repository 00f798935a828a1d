"""The commands about a state directory: what they say of what a service has kept, and what they move aside."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streamrnn import cli, config
from streamrnn.build import build_pipelines
from streamrnn.edges import frames
from streamrnn.edges.checkpoint import name_of
from streamrnn.edges.disk import StateFolder
from streamrnn.edges.recovery import recover
from streamrnn.edges.segments import listed
from streamrnn.edges.store import Store
from streamrnn.events import Message
from streamrnn.serving.keeping import locked, open_store

CONFIG = """\
state: kept
checkpoint: 10
pipelines:
  pump:
    input: {topic: plant/+, fields: [x]}
    model: {hidden: 4}
    learn: {every: 2, windows: 2, length: 4, history: 64}
  letters:
    input: {topic: keys/+, symbol: s}
    model: {hidden: 4}
    learn: {every: 2, windows: 2, length: 4, history: 64}
"""


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run `streamrnn state ...` in an empty folder with a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("both.yaml").write_text(CONFIG)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["streamrnn", "state", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    return run


def message(i: int) -> Message:
    if i % 3:
        return Message(f"plant/{'ab'[i % 2]}", f'{{"x": {math.sin(i)}}}'.encode(), qos=1, mid=i + 1)
    return Message("keys/k", f'{{"s": "{"abc"[i % 4 % 3]}"}}'.encode(), qos=1, mid=i + 1)


def live(count: int, checkpoints: bool = True) -> dict[str, Any]:
    """Have a service answer so many messages, with checkpoints as they are due; return what was saved last."""
    loaded = config.load("both.yaml")
    pipelines = build_pipelines(loaded)
    with open_store(loaded, pipelines) as store:
        assert recover(store)
        begin = store.journal.next
        for i in range(begin, begin + count):
            name = "pump" if i % 3 else "letters"
            number = store.append(message(i), [name])
            list(store.answers(pipelines[name], number, message(i)))
            store.sent(name, number + 1)
            if checkpoints:
                written(store)
    for pipeline in pipelines.values():
        pipeline.close()
    return {name: pipeline.save() for name, pipeline in pipelines.items()}


def written(store: Store) -> None:
    for name in store.accounts:
        if store.due(name):
            copy = store.copier(name, idle=False)()
            store.write(copy)
            store.written(copy)


def files() -> dict[str, bytes]:
    """All of the directory but who holds it."""
    root = Path("kept")
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    del found["pid"]
    return found


def flip(name: str, at: int) -> None:
    path = Path("kept") / name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def newest(pipeline: str) -> str:
    return checkpoints(pipeline)[-1]


def older(pipeline: str) -> str:
    return checkpoints(pipeline)[-2]


def checkpoints(pipeline: str = "") -> list[str]:
    return sorted(name for name in files() if name.startswith(f"checkpoints/{pipeline}"))


@pytest.mark.parametrize("where", ["both.yaml", "kept"])
def test_show_says_how_far_each_pipeline_is(state, where):
    live(100)
    before = files()
    status, stdout, stderr = state("show", where)
    assert (0, "") == (status, stderr)
    pump = re.search(
        r"^pump: (\d+) messages \(chain [0-9a-f]{8}\), 2 keys, \d\d\.\d KiB, "
        r"written 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC by \S+; goes on from message (\d+)$",
        stdout,
        re.MULTILINE,
    )
    assert pump
    assert 55 < int(pump[1]) <= 66
    assert 90 <= int(pump[2]) <= 99
    assert "\nletters: 31 messages " in f"\n{stdout}"
    assert "journal: messages 0 to 99, " in stdout
    assert "journal: the broker has the outputs of pump before message 99" in stdout
    assert before == files()


def test_show_says_what_is_damaged_and_set_aside(state):
    live(60)
    flip(newest("pump"), 100)
    shown = state("show", "kept")
    assert 0 == shown.status
    assert f"{newest('pump')}: bytes 0 to " in shown.stderr
    assert "\npump: " in shown.stdout  # of the older one
    assert "set-aside" not in shown.stdout
    live(1)
    assert "set-aside: 1 files, 4" in state("show", "kept").stdout


def test_verify_says_of_each_file_that_it_is_good(state):
    live(100)
    before = files()
    status, stdout, stderr = state("verify", "both.yaml")
    assert (0, "") == (status, stderr)
    lines = stdout.splitlines()
    assert checkpoints() == sorted(line.split(": ")[0] for line in lines[:-1])
    assert 4 == len(checkpoints())
    assert all(re.fullmatch(r"checkpoints/\S+: good, after \d+ messages", line) for line in lines[:-1])
    assert "journal: good, messages 0 to 99" == lines[-1]
    assert before == files()


def test_verify_names_the_first_damaged_bytes_of_each_checkpoint(state):
    live(100)
    for name in checkpoints():
        flip(name, 200)
    status, stdout, stderr = state("verify", "kept")
    assert (1, "damaged files: 4\n") == (status, stderr)
    for name in checkpoints():
        size = len(files()[name])
        assert f"{name}: bytes 0 to {size - 28} are damaged" in stdout.splitlines()


def test_verify_names_the_first_damaged_bytes_of_each_segment_of_the_journal(state):
    for _ in range(4):
        live(30, checkpoints=False)
    segments = [segment.name for segment in listed(StateFolder(Path("kept")))]
    assert 4 <= len(segments)
    for name in segments[0], segments[2]:
        flip(name, 200)
    status, stdout, _ = state("verify", "kept")
    damaged = [line for line in stdout.splitlines() if "damaged" in line]
    assert (1, 2) == (status, len(damaged))
    for name, line in zip((segments[0], segments[2]), damaged, strict=True):
        found = re.fullmatch(rf"{name}: bytes (\d+) to (\d+): damaged: messages \d+ to \d+ are lost", line)
        assert found
        assert int(found[1]) <= 200 < int(found[2])


def test_damage_in_the_journal_does_not_hide_what_comes_after(state):
    for _ in range(4):
        live(1, checkpoints=False)
    segments = [segment.name for segment in listed(StateFolder(Path("kept")))]
    for name in segments[0], segments[1]:
        flip(name, 20)
    told = state("verify", "kept").stdout
    assert [name in told for name in segments] == [True, True, False, False]
    assert "good, messages" not in told
    shown = state("show", "kept").stdout
    assert "journal: messages 0 to 3, " in shown
    assert [f"{name}: bytes 0 to " in shown for name in segments] == [True, True, False, False]


def test_show_says_how_many_messages_were_answered_and_not_kept(state):
    live(30, checkpoints=False)
    name = Path("kept") / listed(StateFolder(Path("kept")))[-1].name
    name.write_bytes(name.read_bytes().rstrip(b"\0") + frames.control(frames.Gap(5), 30))
    shown = state("show", "kept").stdout
    assert "journal: messages 0 to 34, " in shown
    assert "journal: 5 messages were answered while nothing could be written" in shown


def test_verify_takes_the_end_that_a_crash_leaves_for_no_damage(state):
    live(30, checkpoints=False)
    name = Path("kept") / listed(StateFolder(Path("kept")))[-1].name
    content = name.read_bytes().rstrip(b"\0")
    name.write_bytes(content + b"\x01\x02\x03\x04\x20\0\0\0\x03xyz")
    status, stdout, _ = state("verify", "kept")
    assert 0 == status
    assert (
        "journal: good, messages 0 to 29; then 12 bytes that are no whole message, as a crash leaves them" in stdout
    )


def test_export_prints_the_state_of_keys(state):
    saved = live(100)
    status, stdout, stderr = state("export", "kept", "a", "k")
    assert (0, "") == (status, stderr)
    lines = {line["key"]: line for line in map(json.loads, stdout.splitlines())}
    assert {"a": "pump", "k": "letters"} == {key: line["pipeline"] for key, line in lines.items()}
    assert 0 < lines["a"]["state"]["seq"] <= 34
    assert 4 == len(lines["a"]["state"]["parts.0.state"][0])
    names = {name.removeprefix("streams.") for name in saved["pump"] if name.startswith("streams.")}
    assert {name for name in names if ":" not in name} == set(lines["a"]["state"])


def test_export_prints_what_was_saved(state):
    live(98)
    Path("both.yaml").write_text(CONFIG.replace("checkpoint: 10", "checkpoint: 1"))
    saved = live(3)["pump"]
    lines = [json.loads(line) for line in state("export", "both.yaml", "--pipeline", "pump").stdout.splitlines()]
    assert json.loads(saved["keys"].tobytes()) == [line["key"] for line in lines]
    assert saved["streams.seq"].tolist() == [line["state"]["seq"] for line in lines]
    assert saved["streams.parts.0.state"].tolist() == [line["state"]["parts.0.state"] for line in lines]
    rings = [line["state"]["parts.0.detector.rings"] for line in lines]
    flat = [number for ring in rings for row in ring for number in row]
    assert saved["streams.parts.0.detector.rings"].ravel().tolist() == flat
    assert {67} == {line["messages"] for line in lines}


def test_export_says_which_keys_are_not_there(state):
    live(40)
    status, stdout, stderr = state("export", "kept", "zz", "a", "yy")
    assert (1, "not in any checkpoint: yy, zz\n") == (status, stderr)
    assert ["a"] == [json.loads(line)["key"] for line in stdout.splitlines()]


def test_export_takes_the_older_checkpoint_when_the_newest_is_damaged(state):
    live(100)
    before = json.loads(state("export", "kept", "a").stdout)["messages"]
    flip(newest("pump"), 999)
    ended = state("export", "kept", "a")
    assert 0 == ended.status
    assert before > json.loads(ended.stdout)["messages"]
    flip(older("pump"), 999)
    ended = state("export", "kept", "a")
    assert (1, "pump: none of its checkpoints is good") == (ended.status, ended.stderr.splitlines()[-1])


def test_reset_moves_all_aside_and_the_service_begins_anew(state):
    live(50)
    Path("kept/quarantine").mkdir()
    Path("kept/quarantine/7.json").write_text("{}")
    before = files()
    status, stdout, stderr = state("reset", "both.yaml")
    assert (0, "") == (status, stderr)
    assert {f"set-aside/{name}": content for name, content in before.items()} == files()
    moved = {line.removeprefix("moved to ") for line in stdout.splitlines()}
    assert set(files()) == moved
    live(20)
    assert "journal: messages 0 to 19," in state("show", "kept").stdout
    assert 0 == state("reset", "kept").status
    assert {f"set-aside/{name}": content for name, content in before.items()}.items() <= files().items()


def test_reset_of_one_pipeline_leaves_the_others(state):
    live(50)
    before = files()
    assert 0 == state("reset", "kept", "--pipeline", "letters").status
    gone = set(before) - set(files())
    assert {name for name in before if name.startswith("checkpoints/letters/")} == gone
    live(45)
    lines = [json.loads(line) for line in state("export", "kept").stdout.splitlines()]
    messages = {line["pipeline"]: line["messages"] for line in lines}
    assert 10 <= messages["letters"] <= 15
    assert 33 + 20 <= messages["pump"]


def test_a_pipeline_that_is_not_there_is_named(state):
    live(20)
    for command in "reset", "export":
        status, stdout, stderr = state(command, "kept", "--pipeline", "hall")
        assert (2, "") == (status, stdout)
        assert "--pipeline: nothing is kept of 'hall'; there is letters, pump\n" == stderr


@pytest.mark.parametrize("command", ["show", "verify", "export", "reset"])
def test_a_directory_in_use_is_left_alone(state, command):
    live(20)
    with locked(Path("kept")):
        status, stdout, stderr = state(command, "kept")
    assert (1, "") == (status, stdout)
    assert f"state: kept: in use by another streamrnn, process {os.getpid()}\n" == stderr


@pytest.mark.parametrize("command", ["show", "verify", "export", "reset"])
def test_where_nothing_is_kept_nothing_is_made(state, command):
    Path("empty").mkdir()
    Path("none.yaml").write_text(CONFIG.removeprefix("state: kept\n"))
    assert (1, "", "empty: nothing is kept there\n") == state(command, "empty")
    assert (1, "") == state(command, "both.yaml")[:2]
    assert (2, "", "none.yaml: has no state: nothing is kept\n") == state(command, "none.yaml")
    assert (2, "", "nothing: no such directory or configuration\n") == state(command, "nothing")
    assert not Path("kept").exists()
    assert [] == list(Path("empty").iterdir())


@pytest.mark.parametrize("command", ["show", "verify", "export", "reset"])
def test_help_of_a_command_has_an_example(state, command):
    status, stdout, _ = state(command, "--help")
    assert 0 == status
    assert f"streamrnn state {command}" in stdout.partition("Usage:")[2].partition("\n")[2]


def test_a_directory_with_nothing_but_strange_files_is_no_traceback(state):
    live(5, checkpoints=False)
    Path("kept/checkpoints").mkdir(exist_ok=True)
    Path("kept/checkpoints/file").write_text("x")
    Path("kept/checkpoints/empty").mkdir()
    Path("kept/checkpoints/pump").mkdir(exist_ok=True)
    (Path("kept") / name_of("pump", 3)).write_bytes(b"x" * 100)
    assert 1 == state("verify", "kept").status
    assert "pump: none of its checkpoints is good" in state("show", "kept").stdout
    assert 1 == state("export", "kept").status
    assert 0 == state("reset", "kept").status


# For programs


def test_show_tells_programs_how_far_each_pipeline_is(state):
    live(100)
    Path("kept/set-aside").mkdir()
    Path("kept/set-aside/old").write_bytes(b"x")
    text = state("show", "kept").stdout
    status, stdout, stderr = state("show", "kept", "--json")
    assert (0, "") == (status, stderr)
    document = json.loads(stdout)
    pump = document["pipelines"]["pump"]
    assert f"pump: {pump['count']} messages (chain {pump['chain']:08x}), {pump['keys']} keys" in text
    assert f"goes on from message {pump['position']}\n" in text
    assert {"pump", "letters"} == set(document["pipelines"])
    assert f"messages {document['journal']['begins']} to {document['journal']['next'] - 1}" in text
    assert {"set-aside": 1, "quarantine": 0} == document["files"]


def test_verify_tells_programs_about_each_file_in_a_line_and_ends_with_1_when_one_is_damaged(state):
    live(100)
    whole = state("verify", "kept", "--json")
    assert whole.status == 0
    told = [json.loads(line) for line in whole.stdout.splitlines()]
    assert [f"{each['name']}: {each['told']}" for each in told] == state("verify", "kept").stdout.splitlines()
    assert not any(each["damaged"] for each in told)
    flip(newest("pump"), 200)
    status, stdout, stderr = state("verify", "kept", "--json")
    assert (1, "damaged files: 1\n") == (status, stderr)
    assert [newest("pump")] == [each["name"] for each in map(json.loads, stdout.splitlines()) if each["damaged"]]
