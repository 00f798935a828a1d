"""The value a day earlier, which is what a seasonal-naive forecast says: found by event times, with no look-ahead.

Not a model of seasons: a day is the only one tried, and only of streams slow enough that it fits into memory.
"""

from __future__ import annotations

import math
import statistics
from array import array
from collections.abc import Sequence

from streamrnn.codecs import is_date

DAY = 86_400.0  # seconds
GAPS = 32  # the usual gap of a stream is the median of so many, its first
SLOTS_MAX = 10_080  # events kept: a week of minutes
ROOM = 4_000_000  # numbers kept for all keys of a pipeline


class Season:
    """One key's values of the last day, or of as many whole days as the longest horizon wants.

    The time since the first event is divided into slots of one usual gap; each keeps the newest event in it.

    Parameters
    ----------
    fields
        Count of the fields F.
    longest
        The longest horizon, in events.

    Attributes
    ----------
    gap
        The usual seconds between events. 0 until it is known, and for good when a day of the stream has fewer
        than two events or more than SLOTS_MAX, or no place was left.
    """

    def __init__(self, fields: int, longest: int) -> None:
        self.gap = 0.0
        self._fields = fields
        self._longest = longest
        self._start = self._last = math.nan
        self._gaps: list[float] | None = []  # None: seen
        self._times = array("d")  # (slots,) of the event in each slot; NaN for none
        self._values = array("d")  # (slots F,) NaN where missing

    @property
    def size(self) -> int:
        """Numbers kept."""
        return len(self._values)

    def find(self, time: float, made: float) -> Sequence[float] | None:
        """Return what a seasonal-naive forecast `made` at one time said of another; None if it had nothing to say.

        That is the values (F,) one day before `time`, within half a gap; when they were not known yet, those
        of the fewest whole days before.
        """
        if not self.gap or not is_date(made):
            return None
        wanted = time - DAY * max(math.ceil((time - made) / DAY), 1)
        nearest, found = 0.5 * self.gap, -1
        before, middle, after = self._slots(wanted)
        if self._times[middle] == wanted <= made:  # on time, as of most sensors: none is nearer
            return self._values[middle * self._fields : (middle + 1) * self._fields]
        for slot in (before, middle, after):
            then = self._times[slot]
            if then <= made and abs(then - wanted) <= nearest:  # neither holds of NaN
                nearest, found = abs(then - wanted), slot
        return None if found < 0 else self._values[found * self._fields : (found + 1) * self._fields]

    def learn_one(self, time: float, values: Sequence[float | None], room: int) -> None:
        """Keep the values (F,) of an event, if that needs no more than `room` numbers."""
        if not is_date(time):
            return
        if self._gaps is not None:
            self._count_gap(time, room)
        elif self.gap:
            slot = self._slots(time)[1]
            self._times[slot] = time
            numbers = array("d", [math.nan if value is None else value for value in values])
            self._values[slot * self._fields : (slot + 1) * self._fields] = numbers

    def _count_gap(self, time: float, room: int) -> None:
        """Learn how far apart events are, and make place for the days when that is known."""
        assert self._gaps is not None  # noqa: S101
        if time > self._last:
            self._gaps.append(time - self._last)
        self._last = time
        if len(self._gaps) < GAPS:
            return
        gap = statistics.median(self._gaps)
        self._gaps = None
        days = max(math.ceil(self._longest * gap / DAY), 1)
        # A day more, for events that are missing; a slot being filled, and one beside each end.
        slots = math.ceil(min((days + 1) * DAY / gap, SLOTS_MAX)) + 3
        if 2.0 * gap <= DAY and days * DAY <= SLOTS_MAX * gap and slots * self._fields <= room:
            self.gap, self._start = gap, time
            self._times = array("d", [math.nan]) * slots
            self._values = array("d", [math.nan]) * (slots * self._fields)

    def _slots(self, time: float) -> tuple[int, int, int]:
        """Return the slot of a time between those beside it: an event half a gap away may be in one of them."""
        middle, count = math.floor((time - self._start) / self.gap + 0.5), len(self._times)
        return (middle - 1) % count, middle % count, (middle + 1) % count
