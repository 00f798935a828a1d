"""What a picture of a replay is drawn from: the events of one key, however many, in a memory that does not grow.

Neighbouring events are joined into buckets, twice as many each time the buckets are used up. A bucket keeps the
lowest and the highest of its numbers, so that no spike and no alert is lost, and the newest events are kept as
they are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrnn.codecs import is_date
from streamrnn.events import NumericOutput, Output, SymbolOutput

BUCKETS = 2048  # of numbers; more than a picture has dots across
MEANS = 512  # of symbols
NEWEST = 160  # events kept as they are

Numbers = NDArray[np.float64]


class Points(NamedTuple):
    """Where C columns were, at n places: the numbers and times of events (n,), lowest and highest (n, C)."""

    number: Numbers
    time: Numbers
    low: Numbers
    high: Numbers
    rising: NDArray[np.bool_]  # (n, C) whether the lowest came first


class Extremes:
    """The lowest and highest of C columns, NaN where missing, in each of at most BUCKETS runs of events."""

    def __init__(self, columns: int, buckets: int = BUCKETS) -> None:
        self.stride = 1  # events in a bucket
        self.count = 0  # events
        self._number = np.zeros(buckets)
        self._time = np.zeros(buckets)
        self._low = np.full((buckets, columns), math.nan)
        self._high = np.full((buckets, columns), math.nan)
        self._rising = np.ones((buckets, columns), np.bool_)

    def add(self, time: float, row: Sequence[float]) -> None:
        """Take the columns (C,) of the next event."""
        if self.count == self.stride * len(self._number):
            self._double()
        b, inside = divmod(self.count, self.stride)
        low, high, rising = self._low[b], self._high[b], self._rising[b]
        if inside == 0:
            self._number[b], self._time[b] = self.count, time
            low[:] = high[:] = row
            rising[:] = True
        else:
            both = np.asarray(row)
            low[:], high[:], rising[:] = _joined(low, high, rising, both, both, np.bool_(True))
        self.count += 1

    def points(self) -> Points:
        """Return what was taken, a place for each bucket."""
        used = -(-self.count // self.stride)
        arrays = (self._number, self._time, self._low, self._high, self._rising)
        return Points(*(array[:used] for array in arrays))  # type: ignore[arg-type]

    def _double(self) -> None:
        """Join buckets two by two."""
        half = len(self._number) // 2
        low, high, rising = self._low, self._high, self._rising
        joined = _joined(low[::2], high[::2], rising[::2], low[1::2], high[1::2], rising[1::2])
        low[:half], high[:half], rising[:half] = joined
        self._number[:half] = self._number[::2].copy()
        self._time[:half] = self._time[::2].copy()
        self.stride *= 2


def _joined(
    low: Numbers,
    high: Numbers,
    rising: NDArray[np.bool_],
    later_low: Numbers,
    later_high: Numbers,
    later_rising: NDArray[np.bool_] | np.bool_,
) -> tuple[Numbers, Numbers, NDArray[np.bool_]]:
    """Join earlier extremes with later ones of the same shape."""
    falls = (later_low < low) | np.isnan(low)
    rises = (later_high > high) | np.isnan(high)
    order = np.where(falls == rises, np.where(falls, later_rising, rising), rises)
    return np.where(falls, later_low, low), np.where(rises, later_high, high), order


class Means:
    """The mean of C columns in each of at most `buckets` runs of events, which get longer together."""

    def __init__(self, columns: int, buckets: int = MEANS) -> None:
        self.stride = 1
        self.count = 0
        self._number = np.zeros(buckets)
        self._time = np.zeros(buckets)
        self._sums = np.zeros((buckets, columns))

    def add(self, time: float, row: Sequence[float]) -> None:
        """Take the columns (C,) of the next event."""
        half = len(self._number) // 2
        if self.count == self.stride * len(self._number):
            self._sums[:half] = self._sums[::2] + self._sums[1::2]
            self._sums[half:] = 0.0
            self._number[:half] = self._number[1::2].copy()
            self._time[:half] = self._time[1::2].copy()
            self.stride *= 2
        b = self.count // self.stride
        self._number[b], self._time[b] = self.count, time  # of its newest event: what a mean is of lies before it
        self._sums[b] += row
        self.count += 1

    def means(self) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Return number and time of each run's newest event (n,), events in it (n,), and means (n, C)."""
        used = -(-self.count // self.stride)
        counts = np.full(used, float(self.stride))
        counts[-1:] = self.count - (used - 1) * self.stride
        return self._number[:used], self._time[:used], counts, self._sums[:used] / counts[:, None]


class _Trace:
    """What traces have in common: the key, and whether times can be an axis."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.dated = True  # every time is a date, and none is before the one before
        self._last = -math.inf

    def _see(self, time: float) -> None:
        self.dated = self.dated and is_date(time) and time >= self._last
        self._last = time


class NumericTrace(_Trace):
    """Values, what had been forecast of them one event before, scores and alerts of one key.

    Columns are four per field: VALUE, FORECAST, LOWER and UPPER; then the score, and the score of alerts.
    """

    VALUE, FORECAST, LOWER, UPPER = range(4)
    FIELDS_MAX = 6  # fields kept: a picture has no place for more

    def __init__(self, key: str, fields: Sequence[str]) -> None:
        super().__init__(key)
        self.fields = tuple(fields[: self.FIELDS_MAX])
        self.left_out = len(fields) - len(self.fields)
        columns = 4 * len(self.fields) + 2
        self.all = Extremes(columns)
        self.newest: deque[tuple[int, float, list[float]]] = deque(maxlen=NEWEST)
        self._before: NumericOutput | None = None

    def column(self, field: int, part: int) -> int:
        """Return the column of a part of a field."""
        return 4 * field + part

    @property
    def score_column(self) -> int:
        """The column of the score; that of alerts is the next."""
        return 4 * len(self.fields)

    def add(self, output: NumericOutput) -> None:
        """Take the next event of the key."""
        before, row = self._before, []
        for field in self.fields:
            row.append(_number(output.value[field]))
            for band in (before.forecast, before.lower, before.upper) if before else ({}, {}, {}):
                made = band.get(field)
                row.append(_number(made[0] if made else None))
        row += [output.score, output.score if output.anomaly else math.nan]
        self._see(output.time)
        self.newest.append((self.all.count, output.time, row))
        self.all.add(output.time, row)
        self._before = output

    def newest_points(self) -> Points:
        """Return the newest events as they are, a place for each."""
        rows = np.array([row for _, _, row in self.newest])
        number, time = (np.array([each[i] for each in self.newest], dtype=float) for i in range(2))
        return Points(number, time, rows, rows, np.ones(rows.shape, np.bool_))


class SymbolTrace(_Trace):
    """Bits of the symbols of one key, and whether they had been expected. Columns: BITS, TOP1, TOP5."""

    BITS, TOP1, TOP5 = range(3)

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.all = Means(3)
        self._expected: list[str] = []

    def add(self, output: SymbolOutput) -> None:
        """Take the next event of the key."""
        self._see(output.time)
        hits = (output.symbol in self._expected[:1], output.symbol in self._expected)
        self.all.add(output.time, (output.bits, *hits))
        self._expected = [symbol for symbol, _ in output.next]


Trace = NumericTrace | SymbolTrace


class Recorder:
    """Traces one key of the outputs of a pipeline.

    Parameters
    ----------
    key
        None: that of the first output.
    """

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self.trace: Trace | None = None

    def add(self, output: Output) -> None:
        """Take the next output, of any key."""
        if self.key is None:
            self.key = output.key
        if output.key != self.key:
            return
        if isinstance(output, SymbolOutput):
            if not isinstance(self.trace, SymbolTrace):
                self.trace = SymbolTrace(output.key)
            self.trace.add(output)
        else:
            if not isinstance(self.trace, NumericTrace):
                self.trace = NumericTrace(output.key, list(output.value))
            self.trace.add(output)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
