"""What tests of the command `replay` need: configurations, recordings, and how a run ended."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SMALL = "model: {hidden: 6}, learn: {every: 2, windows: 2, length: 8, history: 64}"
NUMERIC = f"""
mqtt: {{url: "mqtt://127.0.0.1:1"}}
pipelines:
  line: {{input: {{topic: plant/+/t, fields: [x, y]}}, forecast: {{horizons: [1, 3]}}, {SMALL}}}
"""
SYMBOLS = f"pipelines: {{typed: {{input: {{topic: keys/+, symbol: k}}, {SMALL}}}}}"


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


Replay = Callable[..., Ended]


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Two waves, one with gaps."""
    return [
        {"x": round(math.sin(i / 4), 6), "y": None if i % 9 == 4 else float(i * 31 % 17)}
        for i in range(first, first + count)
    ]


def write(path: str, records: list[dict[str, Any]]) -> str:
    with gzip.open(path, "wt") if path.endswith(".gz") else open(path, "w") as file:
        if ".csv" in path:
            table = csv.DictWriter(file, list(records[0]))
            table.writeheader()
            table.writerows(records)
        else:
            file.writelines(json.dumps(record) + "\n" for record in records)
    return path


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def measured(stdout: str) -> dict[str, list[str]]:
    """The rows of the printed tables by their first cell."""
    cells = [re.split(r"\s*[│┃]\s*", line.strip().strip("│┃").strip()) for line in stdout.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) > 1}


def assert_refused(ended: Ended, status: int, *words: str) -> None:
    assert ended.status == status
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    for word in words:
        assert word in ended.stderr
    assert ended.stdout == ""
