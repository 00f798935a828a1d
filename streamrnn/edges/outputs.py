"""Outputs of a replay as a file: JSON lines as the daemon would publish them, or the same as a table.

Not here: what an output holds (events.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import UNSET

from streamrnn.codecs import encode
from streamrnn.edges.newfile import NewFile, new_file
from streamrnn.errors import UsageError
from streamrnn.events import NumericOutput, Output, SymbolOutput

NEXT_SYMBOLS = 5

_COLUMNS = ("pipeline", "key", "seq", "time")
_BANDS = ("forecast", "lower", "upper")
_SPECIAL = re.compile(r'[,"\r\n]')


class Writer(Protocol):
    """Where the outputs of a replay go."""

    def write(self, output: Output) -> None:
        """Add one output, without its `latency_us`: that is of live events only."""


@contextmanager
def open_writer(path: str | Path, fields: Sequence[str] | None, horizons: Sequence[int]) -> Iterator[Writer]:
    """Write outputs to a file which has its name only once it is whole.

    Until the block ends it grows as `<path>.part`, which is removed if the block fails.

    Parameters
    ----------
    path
        `.jsonl`: the lines the daemon would publish. `.csv`: the same flattened, one header, empty cells for
        null.
    fields
        Names of the F fields of a numeric pipeline; None for symbols.
    horizons
        Of a numeric pipeline, in steps: columns such as `forecast.x.16`.

    Raises
    ------
    UsageError
        Another suffix, or a place which cannot be written to.
    StreamrnnError
        The disk failed or filled up while writing.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".jsonl"):
        raise UsageError(f"{path}: outputs are written as .csv or .jsonl")
    with new_file(path) as file:
        yield _writer(_Sheet(file), path.suffix, fields, horizons)


def _writer(sheet: _Sheet, suffix: str, fields: Sequence[str] | None, horizons: Sequence[int]) -> Writer:
    if suffix == ".jsonl":
        return _JsonWriter(sheet)
    return _SymbolWriter(sheet) if fields is None else _NumericWriter(sheet, fields, horizons)


class _Sheet:
    """A file to add lines to."""

    def __init__(self, file: NewFile) -> None:
        self._file = file

    def add(self, line: bytes) -> None:
        self._file.write(line + b"\n")

    def add_cells(self, cells: Iterable[object]) -> None:
        self.add(",".join(map(_cell, cells)).encode())


class _JsonWriter:
    def __init__(self, sheet: _Sheet) -> None:
        self._sheet = sheet

    def write(self, output: Output) -> None:
        if output.latency_us is not UNSET:
            output = msgspec.structs.replace(output, latency_us=UNSET)
        self._sheet.add(encode(output))


class _NumericWriter:
    def __init__(self, sheet: _Sheet, fields: Sequence[str], horizons: Sequence[int]) -> None:
        self._sheet = sheet
        self._fields = tuple(fields)
        self._blank = [None] * len(horizons)
        bands = [f"{band}.{field}.{h}" for band in _BANDS for field in fields for h in horizons]
        values = [f"value.{field}" for field in fields]
        errors = [f"error.{field}" for field in fields]
        sheet.add_cells([*_COLUMNS, *values, *bands, *errors, "score", "anomaly", "loudest", "updates", "warmup"])

    def write(self, output: Output) -> None:
        if not isinstance(output, NumericOutput):
            raise TypeError("an output without fields, where fields were given")
        cells: list[object] = [output.pipeline, output.key, output.seq, output.time]
        cells += [output.value.get(field) for field in self._fields]
        for band in (output.forecast, output.lower, output.upper):
            for field in self._fields:
                cells += band.get(field) or self._blank
        cells += [output.error.get(field) for field in self._fields]
        cells += [output.score, output.anomaly, output.loudest, output.updates, output.warmup]
        self._sheet.add_cells(cells)


class _SymbolWriter:
    def __init__(self, sheet: _Sheet) -> None:
        self._sheet = sheet
        following = [name for i in range(1, NEXT_SYMBOLS + 1) for name in (f"next.{i}", f"next.{i}.p")]
        sheet.add_cells([*_COLUMNS, "symbol", "bits", *following, "updates", "warmup"])

    def write(self, output: Output) -> None:
        if not isinstance(output, SymbolOutput):
            raise TypeError("an output with fields, where none were given")
        following = [item for pair in output.next[:NEXT_SYMBOLS] for item in pair]
        following += [""] * (2 * NEXT_SYMBOLS - len(following))
        head = (output.pipeline, output.key, output.seq, output.time, output.symbol, output.bits)
        self._sheet.add_cells([*head, *following, output.updates, output.warmup])


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        # As in JSON, a number which is not finite is null. float's own repr, also of a numpy float.
        return float.__repr__(value) if math.isfinite(value) else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and _SPECIAL.search(value):
        # By hand, since Python's csv leaves a carriage return unquoted, and it is a symbol of keystrokes.
        return '"' + value.replace('"', '""') + '"'
    return str(value)
