"""The segments of a journal on the disk, read back: every record up to the first that is not whole.

The rule for reading: segments in the order they were made (by serial), each only up to the lowest number that one
made after it begins with. So a segment that was given up in the middle, by a crash or a fault of the disk, needs no
repair: what was written again is in a later one, and that wins. How segments are written is in `journal`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator

import msgspec

from streamrnn.edges import frames
from streamrnn.edges.disk import Disk, set_aside
from streamrnn.edges.frames import Gap, Header, Topic
from streamrnn.edges.waiting import Kept
from streamrnn.events import Message

FOLDER = "journal"

_NAME = re.compile(r"([0-9]{20})-([0-9]{4,18})\.journal")


class Segment(msgspec.Struct, frozen=True):
    """A file of the journal."""

    name: str  # below the state directory
    first: int  # number of its first message
    serial: int  # higher than that of every segment made before


class Damage(msgspec.Struct, frozen=True):
    """Where reading ended too early, or over more than what a crash leaves at the end."""

    name: str
    start: int  # offset of the first byte that does not read
    end: int  # behind the last; no more than start where bytes are not wrong, but missing
    why: str

    def __str__(self) -> str:
        return f"{self.name}: bytes {self.start} to {self.end}: {self.why}"


def name_of(first: int, serial: int) -> str:
    """Return the name of a segment.

    Examples
    --------
    >>> name_of(42, 7)
    'journal/00000000000000000042-0007.journal'
    """
    return f"{FOLDER}/{first:020d}-{serial:04d}.journal"


def listed(disk: Disk) -> list[Segment]:
    """Return the segments there are, as they were made; other files are no business of ours.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    matches = [match for name in disk.names(FOLDER) if (match := _NAME.fullmatch(name))]
    found = [Segment(f"{FOLDER}/{match[0]}", int(match[1]), int(match[2])) for match in matches]
    return sorted(found, key=lambda segment: segment.serial)


def limits(segments: list[Segment]) -> list[int | None]:
    """Return for each segment the number it is read up to, None for the last: up to its end.

    Examples
    --------
    >>> limits([Segment("", first, serial) for serial, first in enumerate([0, 40, 70, 50])])  # 70 was given up
    [40, 50, 50, None]
    """
    found: list[int | None] = []
    limit: int | None = None
    for segment in reversed(segments):
        found.append(limit)
        limit = segment.first if limit is None else min(limit, segment.first)
    return found[::-1]


class Reading:
    """All records of a journal in order, each with the number of the next message at its place.

    What it says of the end is known when the iteration has ended. No bytes make it fail.

    Parameters
    ----------
    disk
        The state directory.
    since
        Leave out segments that hold only messages below this number.

    Attributes
    ----------
    segments
        Of the journal, as they are listed.
    begins, next
        Numbers of the first message there is, and of the one after the last.
    segment, offset
        Where it ended: the segment (None when there is none), and the offset behind its last good record.
    tail
        Bytes behind that offset that are not a record. Without damage: what a crash leaves at the end.
    damage
        Why it ended though there was more, None when it did not.
    unread
        Segments made after the one where it ended.

    Raises
    ------
    OSError
        The disk cannot be read.
    """

    def __init__(self, disk: Disk, since: int = 0) -> None:
        self._disk = disk
        self._since = since
        self.segments = listed(disk)
        self._limits = limits(self.segments)
        self._used = [self._counts(*each) for each in zip(self.segments, self._limits, strict=True)]
        self.begins = self.segments[self._used.index(True)].first if self.segments else 0
        self.next = self.begins
        self.segment: Segment | None = None
        self.offset = 0
        self.tail = 0
        self.damage: Damage | None = None
        self.unread: list[Segment] = []

    def __iter__(self) -> Iterator[tuple[int, Kept]]:
        for place, (segment, limit) in enumerate(zip(self.segments, self._limits, strict=True)):
            if not self._used[place]:
                continue
            data = self._disk.read(segment.name)
            self.segment, self.unread = segment, self.segments[place + 1 :]
            yield from self._records(segment, data, limit)
            if limit is None or self.next != limit:
                self._end(segment, data, limit)
                return

    def _counts(self, segment: Segment, limit: int | None) -> bool:
        """Whether anything of a segment is used: not when all of it was written again, or is too old."""
        return limit is None or (segment.first <= limit and limit >= self._since)

    def _records(self, segment: Segment, data: bytes, limit: int | None) -> Generator[tuple[int, Kept], None, None]:
        """Read one segment, as far as it counts; `offset` is then behind its last good record."""
        topics: dict[int, str] = {}
        self.offset = 0
        header = frames.parse(data, 0, segment.first, topics)
        if header is None or header[0] != Header(segment.first, segment.serial):
            return
        self.offset = header[1]
        while (found := frames.parse(data, self.offset, self.next, topics)) is not None:
            record, behind = found
            if isinstance(record, Header):
                return
            numbered = isinstance(record, Message | Gap)
            if numbered and self.next == limit:
                return
            self.offset = behind
            if isinstance(record, Topic):
                continue
            yield self.next, record
            if numbered:
                self.next += record.count if isinstance(record, Gap) else 1

    def _end(self, segment: Segment, data: bytes, limit: int | None) -> None:
        """Say how it is that there is no more."""
        start = self.offset
        self.tail = len(data[start:].rstrip(b"\0"))
        behind = frames.extent(data, start)
        # Where the next frame is good it is this one alone that was changed, and no crash does that.
        alone = behind is not None and any(frames.verified(data, behind, self.next + n) for n in (0, 1))
        end = behind if alone and behind is not None else start + self.tail
        if limit is not None:
            lost = f"messages {self.next} to {limit - 1}"
            why = f"damaged: {lost} are lost" if end > start else f"{lost} are missing"
            self.damage = Damage(segment.name, start, end, why)
        elif alone:
            self.damage = Damage(segment.name, start, end, f"damaged: messages from {self.next} on are lost")


class Shelf:
    """The segments there are, as who writes them knows them. `release` may be called beside the rest."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._serial: int | None = None  # of the next segment; None until the folder could be read
        self._sizes: dict[Segment, int] = {}  # bytes, by segment as they were made

    @property
    def size(self) -> int:
        """Bytes of all segments but one that is being written."""
        return sum(list(self._sizes.values()))

    def serial(self) -> int:
        """Return the serial of the next segment.

        Raises
        ------
        OSError
            The folder cannot be read.
        """
        if self._serial is None:
            segments = listed(self._disk)
            self._sizes = {segment: self._disk.size(segment.name) for segment in segments}
            self._serial = segments[-1].serial + 1 if segments else 0
        return self._serial

    def add(self, segment: Segment) -> None:
        """Take in a segment that was begun."""
        self._sizes[segment] = 0
        self._serial = segment.serial + 1

    def finished(self, segment: Segment, size: int) -> None:
        """Note that a segment is not written any more."""
        self._sizes[segment] = size

    def release(self, number: int, busy: Collection[Segment]) -> None:
        """Remove the segments that hold only messages below `number`, up to the first that is busy.

        Raises
        ------
        OSError
            One could not be removed; it is tried again the next time.
        """
        segments = list(self._sizes)
        for segment, limit in zip(segments, limits(segments), strict=True):
            if limit is None or limit > number or segment in busy:
                return
            self._disk.remove(segment.name)
            del self._sizes[segment]
            self._disk.sync_folder(FOLDER)  # one after the other: a hole would be the end for who reads


def cut(disk: Disk, reading: Reading) -> list[str]:
    """Make the end that a reading found the end of the journal, and all before it safe on the disk.

    What is behind is cut off; segments behind that are moved to ``set-aside/``.

    Returns
    -------
    list of str
        What segments that were moved are named now.

    Raises
    ------
    OSError
        The disk did not do it. Reading again finds the same end.
    """
    moved = [set_aside(disk, segment.name) for segment in reading.unread]
    for segment in reading.segments:
        if segment in reading.unread:
            continue
        file = disk.open(segment.name)
        try:
            if segment == reading.segment and disk.size(segment.name) > reading.offset:
                file.truncate(reading.offset)
            # After the death of a process the system may have what the disk has not.
            file.sync()
        finally:
            file.close()
    if reading.segments:
        disk.sync_folder(FOLDER)
    return moved
