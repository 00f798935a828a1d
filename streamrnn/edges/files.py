"""Recorded files as messages: CSV and JSON lines, a row at a time, never a file at once.

Not here: what a row means (codecs), and outputs (outputs.py, whose `open_writer` is at hand here too).
"""

from __future__ import annotations

import csv
import gzip
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from streamrnn.codecs import epoch_seconds
from streamrnn.codecs.number import decimal
from streamrnn.edges.outputs import Writer, open_writer
from streamrnn.errors import InputFileError
from streamrnn.events import Message, Record

__all__ = ["Writer", "find_time_column", "messages", "open_writer", "read"]

Format: TypeAlias = Literal["csv", "jsonl"]

LINE_BYTES_MAX = 1 << 20
TIME_COLUMNS = ("time", "timestamp", "ts", "date", "datetime", "tst")  # tst: recorded by mosquitto_sub -F %j
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")

_QUOTED = re.compile(r'"[^"]*"')
_SPREAD_HINT = "; each line is to be one object, which `jq -c .` makes, or `jq -c '.[]'` of a list"

_decode = msgspec.json.Decoder().decode


def read(path: str | Path, format: Format | None = None) -> Iterator[Record]:
    """The rows of a recorded file, as they are asked for.

    Parameters
    ----------
    path
        A file, perhaps compressed (`.gz`), or `-` for the standard input.
    format
        `csv` or `jsonl`. None: JSON lines for the suffixes .jsonl, .ndjson and .json, and for a standard
        input which begins with `{`; else CSV.

    Yields
    ------
    Record
        Of JSON lines, the object of each line. Of CSV (with a header; delimited by comma, semicolon or tab,
        whichever the header has most of), the cells as text by column name; empty cells and those a short row
        lacks are None, a column without a name is left out. Blank lines are skipped.

    Raises
    ------
    InputFileError
        As ``file:line: what is wrong``: not readable, not UTF-8, empty, without a header, a row longer than
        the header, a line which is not an object or longer than 1 MiB.
    """
    name = "standard input" if str(path) == "-" else str(path)
    with _open(path, name) as stream:
        lines = _Lines(stream, name)
        first = lines.first()
        if format is None:
            format = _format(path, first)
        yield from _objects(first, lines) if format == "jsonl" else _table(first, lines)


def find_time_column(record: Record) -> str | None:
    """The column which by its name is the time: time, timestamp, ts, date, datetime or tst, in any case.

    Examples
    --------
    >>> find_time_column({"Value": "1", "Timestamp": "2024-05-01"})
    'Timestamp'
    """
    names = {str(name).lower(): name for name in reversed(record)}
    return next((names[column] for column in TIME_COLUMNS if column in names), None)


def messages(
    records: Iterable[Record], key: str, *, raw: bool = False, time_column: str | None = None
) -> Iterator[Message]:
    """Rows as the messages they would have been.

    Parameters
    ----------
    records
        Rows of a recording.
    key
        Of rows which have no text in a column `topic`.
    raw
        A column `payload` is what the device sent: a text becomes bytes again for the codec to parse, an
        object is taken as parsed, and nothing is an empty payload. Rows without it are taken as if not raw.
    time_column
        A recording knows no arrival: it is the number of the row, as seconds from 0. With this column (see
        `find_time_column`) it is the time written there, or else the arrival of the row before.

    Yields
    ------
    Message
        Its payload the row itself, already taken apart, unless raw.
    """
    arrival = 0.0
    for i, record in enumerate(records):
        if time_column is None:
            arrival = float(i)
        else:
            time = epoch_seconds(record.get(time_column))
            arrival = arrival if time is None else time
        row_topic = record.get("topic")
        yield Message(
            topic=row_topic if isinstance(row_topic, str) else "",
            key=None if isinstance(row_topic, str) else key,
            payload=_payload(record["payload"]) if raw and "payload" in record else record,
            arrival=arrival,
        )


class _Stream(Protocol):
    def readline(self, size: int, /) -> bytes: ...


class _Lines:
    """The lines of a stream as text, counted from 1, none longer than the limit."""

    def __init__(self, stream: _Stream, name: str) -> None:
        self._stream = stream
        self._name = name
        self._number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = self._stream.readline(LINE_BYTES_MAX + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise self.error(_reason(error)) from error
        if not line:
            raise StopIteration
        self._number += 1
        if len(line) > LINE_BYTES_MAX:
            raise self.error(f"longer than {LINE_BYTES_MAX} bytes")
        try:
            return line.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise self.error("not UTF-8 text") from None

    def first(self) -> str:
        """The first line which is not blank."""
        for line in self:
            if not line.isspace():
                return line
        raise InputFileError(f"{self._name}: is empty")

    def error(self, what: str) -> InputFileError:
        place = f"{self._name}:{self._number}" if self._number else self._name
        return InputFileError(f"{place}: {what}")


@contextmanager
def _open(path: str | Path, name: str) -> Iterator[_Stream]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    path = Path(path)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputFileError(f"{name}: {_reason(error)}") from error
    with stream:
        yield gzip.GzipFile(fileobj=stream) if path.suffix == ".gz" else stream


def _format(path: str | Path, first: str) -> Format:
    if str(path) == "-":
        return "jsonl" if first.lstrip().startswith("{") else "csv"
    return "jsonl" if Path(str(path).removesuffix(".gz")).suffix in JSON_SUFFIXES else "csv"


def _objects(first: str, lines: _Lines) -> Iterator[Record]:
    for line in chain([first], lines):
        if line.isspace():
            continue
        # A line which opens a bracket and no more is the usual sign of one value spread over a whole file.
        hint = _SPREAD_HINT if line.startswith("[") or line.strip() == "{" else ""
        try:
            record = _decode(line)
        except (ValueError, RecursionError) as error:
            raise lines.error(f"{error}{hint}") from None
        if not isinstance(record, dict):
            raise lines.error(f"expected a JSON object, got a {type(record).__name__}{hint}")
        yield record


def _table(first: str, lines: _Lines) -> Iterator[Record]:
    delimiter = max(",;\t", key=_QUOTED.sub("", first).count)
    rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        names = _header(next(rows), lines)
        for row in rows:
            if not row or (len(row) == 1 < len(names) and not row[0].strip()):
                continue
            if any(row[len(names) :]):
                raise lines.error(f"{len(row)} cells, but the header has {len(names)}")
            row += [""] * (len(names) - len(row))
            yield {name: cell or None for name, cell in zip(names, row, strict=False) if name}
    except csv.Error as error:
        raise lines.error(str(error)) from None


def _header(row: list[str], lines: _Lines) -> list[str]:
    names = [name.strip() for name in row]
    named = [name for name in names if name]
    # Columns named 0, 1, 2 are what some tools write by default; a header of measurements is a row of data.
    if not named or (all(map(_is_value, named)) and not all(name.isdecimal() for name in named)):
        raise lines.error("expected a header with the names of the columns")
    twice = [name for name, count in Counter(named).items() if count > 1]
    if twice:
        raise lines.error(f"more than one column is named {', '.join(twice)}")
    return names


def _is_value(cell: str) -> bool:
    try:
        return decimal(cell) is not None
    except ValueError:
        return epoch_seconds(cell) is not None


def _payload(value: object) -> bytes | Record:
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return value.encode()
    return b"" if value is None else msgspec.json.encode(value)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
