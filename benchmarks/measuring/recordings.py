"""The recorded data that quality is measured on, read from a folder; what is in it says docs/quality.md."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from measuring.runs import Array, Series
from scoring import nab
from streamrnn.codecs import epoch_seconds


def nab_names(data: Path) -> list[str]:
    """Return the files of the Numenta Anomaly Benchmark there are, as folder/file.csv."""
    root = data / "nab" / "data"
    return sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.csv"))


def nab_series(data: Path, name: str) -> Series:
    """Return one file of the Numenta Anomaly Benchmark."""
    return table(name, data / "nab" / "data" / name, "timestamp")


def nab_truth(data: Path, name: str) -> nab.Truth:
    """Return where the anomalies of a file are."""
    times = nab_series(data, name).times.tolist()
    labels = json.loads((data / "nab" / "labels" / "combined_windows.json").read_text())[name]
    return nab.truth(len(times), [(times.index(_epoch(a)), times.index(_epoch(b))) for a, b in labels])


def ett_series(data: Path, name: str) -> Series:
    """Return ETTh1 or ETTh2, all seven columns."""
    return table(name, data / "forecast" / f"{name}.csv", "date")


def table(name: str, path: Path, time: str) -> Series:
    """Return a CSV file with a column of times; all others are fields."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    fields = tuple(column for column in rows[0] if column != time)
    values = np.array([[float(row[field]) for field in fields] for row in rows])
    return Series(name, fields, np.array([_epoch(row[time]) for row in rows]), values)


def text(data: Path) -> str:
    """Return tiny shakespeare."""
    return (data / "text" / "tinyshakespeare.txt").read_text()


def timings(data: Path) -> dict[str, Array]:
    """Return the repetitions of each subject of IIITBh-Big, (150, 31) seconds."""
    with (data / "keystroke" / "IIITBh-Big.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    columns = [i for i, name in enumerate(rows[0]) if name.startswith(("H.", "DD.", "UD."))]
    subjects: dict[str, list[list[float]]] = {}
    for row in rows[1:]:
        subjects.setdefault(row[0], []).append([float(row[i]) for i in columns])
    return {subject: np.array(vectors) for subject, vectors in subjects.items()}


def _epoch(text: str) -> float:
    time = epoch_seconds(text)
    if time is None:
        raise ValueError(f"{text!r} is not a time")
    return time
