"""The segments of a journal on the disk, read back: every record up to the first that is not whole.

A segment is read only up to the number the next one begins with. So one that was given up in the middle, by a crash
or a fault of the disk, needs no repair: what was written again is in the segment after it. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import msgspec

from streamrnn.edges import frames
from streamrnn.edges.disk import Disk
from streamrnn.edges.frames import Gap, Header, Record
from streamrnn.events import Message

FOLDER = "journal"
SUFFIX = ".journal"


class Segment(msgspec.Struct, frozen=True):
    """A file of the journal."""

    name: str  # below the state directory
    first: int  # number of its first message
    serial: int  # tells segments with the same first number apart, the later one higher


class Damage(msgspec.Struct, frozen=True):
    """Bytes that do not read, and why they are more than the end that a crash leaves."""

    name: str
    start: int  # offset of the first byte
    end: int  # behind the last
    why: str

    def __str__(self) -> str:
        return f"{self.name}: bytes {self.start} to {self.end} {self.why}"


def name_of(first: int, serial: int) -> str:
    """Return the name of a segment.

    Examples
    --------
    >>> name_of(42, 0)
    'journal/00000000000000000042-0000.journal'
    """
    return f"{FOLDER}/{first:020d}-{serial:04d}{SUFFIX}"


def listed(disk: Disk) -> list[Segment]:
    """Return the segments there are, in order; other files are no business of ours."""
    found = []
    for name in disk.names(FOLDER):
        first, _, serial = name.removesuffix(SUFFIX).partition("-")
        if name.endswith(SUFFIX) and first.isdecimal() and serial.isdecimal():
            found.append(Segment(f"{FOLDER}/{name}", int(first), int(serial)))
    return sorted(found, key=lambda segment: (segment.first, segment.serial))


class Reading:
    """All records of a journal in order, each with the number of the next message at its place.

    Attributes
    ----------
    segments
        Of the journal, as they are listed.
    begins, next
        Numbers of the first message there is, and of the one after the last.
    damage
        Where it did not go on though more was there, None when all was read; known when the iteration has ended.
    unread
        Segments that lie behind the damage.
    tail
        Bytes after the last record that are not a record: what a crash in the middle of a write leaves.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.segments = listed(disk)
        self.begins = self.segments[0].first if self.segments else 0
        self.next = self.begins
        self.damage: Damage | None = None
        self.unread: list[Segment] = []
        self.tail = 0

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        for place, segment in enumerate(self.segments):
            following = self.segments[place + 1 :]
            limit = following[0].first if following else None
            if segment.first > self.next:
                self._end(Damage(segment.name, 0, 0, f"begin with message {segment.first}, not {self.next}"), place)
                return
            data = self._disk.read(segment.name)
            offset = yield from self._records(data, limit)
            if limit is not None and self.next < limit:
                missing = f"do not read: messages {self.next} to {limit - 1} are lost"
                self._end(Damage(segment.name, offset, len(data), missing), place + 1)
                return
            self.tail = len(data[offset:].rstrip(b"\0"))

    def _records(self, data: bytes, limit: int | None) -> Generator[tuple[int, Record], None, int]:
        """Read one segment; returns the offset behind its last good record."""
        topics: dict[int, str] = {}
        offset = 0
        head = frames.parse(data, 0, 0, topics)
        if head is None or not isinstance(head[0], Header):
            return offset
        offset = head[1]
        while (found := frames.parse(data, offset, self.next, topics)) is not None:
            record, behind = found
            counts = isinstance(record, Message | Gap)
            if counts and limit is not None and self.next >= limit:
                break  # given up: the next segment has it
            offset = behind
            yield self.next, record
            if counts:
                self.next += record.count if isinstance(record, Gap) else 1
        return offset

    def _end(self, damage: Damage, place: int) -> None:
        self.damage = damage
        self.unread = self.segments[place:]
