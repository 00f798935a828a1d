"""One segment of the journal while it is written. When a new one is due, and what a fault means: see `journal`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from streamrnn.edges import frames
from streamrnn.edges.disk import Disk, File
from streamrnn.edges.frames import Gap, Header, Topic
from streamrnn.edges.segments import FOLDER, Segment, name_of
from streamrnn.edges.waiting import Kept
from streamrnn.events import Message

_PART = f"{FOLDER}/next"  # until all that waited is in it: one that has its name is read instead of those before


class Writing:
    """A segment with its file open.

    Attributes
    ----------
    room, end, synced
        Offsets in bytes: of what is reserved, what is written, what is on the disk.
    topics
        What stands for topics in it.
    """

    def __init__(self, disk: Disk, segment: Segment, file: File) -> None:
        self.segment = segment
        self.room = self.end = self.synced = 0
        self.topics: dict[str, int] = {}
        self._disk = disk
        self._file = file
        self._named = False  # whether its name is on the disk

    def put(self, data: bytes) -> None:
        """Write at the end. What was written of it when that fails is cut off again.

        Raises
        ------
        OSError
            It could not be written, or not all of it.
        """
        try:
            written = self._file.write_at(self.end, data)
            if written < len(data):
                raise OSError(None, f"only {written} of {len(data)} bytes could be written")
        except OSError:
            with suppress(OSError):  # it does not verify, and the next segment begins before it
                self._file.truncate(self.end)
            raise
        self.end += written

    def reserve(self, size: int) -> None:
        """Find room for so many bytes.

        Raises
        ------
        OSError
            There is none.
        """
        self._file.reserve(size)
        self.room = size

    def sync(self) -> None:
        """Have the disk take the name, and what was written.

        Raises
        ------
        OSError
            It did not. The system may have dropped what it could not write, and say nothing the second time.
        """
        if not self._named:
            self._disk.sync_folder(FOLDER)
            self._named = True
        self._file.sync()

    def close(self, end: int) -> None:
        """Cut off what is behind an offset, the reserve at least, and close."""
        with suppress(OSError):  # it reads as zeros
            self._file.truncate(end)
        with suppress(OSError):
            self._file.close()


def begin(disk: Disk, number: int, serial: int, records: list[Kept], segment_bytes: int) -> Writing:
    """Begin a segment with records, the first of which has this number; it is longer than it should be if they are.

    Raises
    ------
    OSError
        It could not be; nothing is left of it.
    """
    segment = Segment(name_of(number, serial), number, serial)
    writing = Writing(disk, segment, _created(disk))
    data = frames.control(Header(number, serial), number) + encoded(records, number, writing.topics)
    try:
        writing.reserve(max(segment_bytes, len(data)))
        writing.put(data)
        disk.rename(_PART, segment.name)
    except OSError:
        writing.close(0)
        with suppress(OSError):  # the next attempt does it, too
            disk.remove(_PART)
        raise
    return writing


def encoded(records: Iterable[Kept], number: int, topics: dict[str, int]) -> bytes:
    """Return the frames of records, the first with this number, and of topics that are new to their segment."""
    parts = []
    for record in records:
        if isinstance(record, Message):
            topic = topics.get(record.topic)
            if (
                topic is None
                and len(topics) < frames.TOPICS_MAX
                and len(record.topic) <= frames.TOPIC_CHARACTERS_MAX
            ):
                topic = topics[record.topic] = len(topics)
                parts.append(frames.control(Topic(topic, record.topic), number))
            parts.append(frames.event(record, topic, number))
        else:
            parts.append(frames.control(record, number))
        number += numbers(record)
    return b"".join(parts)


def numbers(record: Kept) -> int:
    """Return by how much the number goes on with a record."""
    return record.count if isinstance(record, Gap) else int(isinstance(record, Message))


def _created(disk: Disk) -> File:
    disk.make_folder(FOLDER)
    try:
        return disk.create(_PART)
    except FileExistsError:  # left by an end in the middle
        disk.remove(_PART)
        return disk.create(_PART)
