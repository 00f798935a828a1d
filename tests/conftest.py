from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mosquitto import Mosquitto
from replay_support import NUMERIC, SYMBOLS, Ended, Replay

from streamrnn import cli


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker, up, without limits on its queues."""
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    with Mosquitto(directory, ("max_queued_messages 0",)) as broker:
        yield broker


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Replay]:
    """Run the command in this process, in a folder that has configurations of numbers and of symbols."""
    (tmp_path / "numbers.yaml").write_text(NUMERIC)
    (tmp_path / "symbols.yaml").write_text(SYMBOLS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "argv", ["streamrnn", "replay", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
