"""Journal: every message taken, appended before anything comes of it, in segments of some megabytes.

What it promises by `safe` it keeps, whatever the disk does: what could not be written, or not be synced, waits in
memory and is written again to a new segment. Reading it back is in `segments`. All of it is for one thread but
`Sync.run`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from contextlib import suppress
from typing import Literal

from streamrnn.edges import frames
from streamrnn.edges.disk import Disk, File
from streamrnn.edges.frames import Gap, Header, Mark, Session, Topic
from streamrnn.edges.segments import FOLDER, Segment, listed, name_of
from streamrnn.events import Message

log = logging.getLogger(__name__)

Durability = Literal["process", "second", "power"]

SEGMENT_BYTES = 4 << 20
WAITING_MAX = 1000  # messages that wait in memory while the disk does not take them
WAITING_BYTES_MAX = 16 << 20
COMPLAINT_S = 60.0
FRAME_BYTES_MAX = 64  # of a frame and that of its topic, beside what is in them

Entry = tuple[int, Message | Session]


class Sync:
    """What the disk is to take now; `run` may be on another thread while the journal goes on.

    Attributes
    ----------
    kept
        Messages below are on the disk when it has run without an `error`.
    """

    def __init__(self, disk: Disk, files: list[File], names: bool, kept: int) -> None:
        self.disk = disk
        self.files = files
        self.names = names
        self.kept = kept
        self.error: OSError | None = None

    def run(self) -> None:
        """Wait for the disk."""
        try:
            for file in self.files:
                file.sync()
            if self.names:
                self.disk.sync_folder(FOLDER)
        except OSError as error:
            self.error = error


class Journal:
    """The journal of a service.

    Parameters
    ----------
    disk
        The state directory.
    durability
        When a message may be acknowledged: when the system has it (``process``: it outlives our death; ``second``:
        and that of the machine if it comes more than a second later), or when the disk has it (``power``).
    segment_bytes
        Size of a segment.

    Attributes
    ----------
    next
        Number of the next message.
    kept, durable
        Messages below are written, and are on the disk. With ``process`` nobody asks for the latter.
    fault
        Why nothing can be written, in the system's words; None when all is well. Messages then wait in memory.
    gap_end
        The number after the last message that was answered and not kept; 0 when there was none.
    counts
        appended, faults, failed_syncs, healed, let_go (messages of QoS 0 that were not kept).
    """

    def __init__(self, disk: Disk, durability: Durability = "second", segment_bytes: int = SEGMENT_BYTES) -> None:
        self.disk = disk
        self.durability = durability
        self.segment_bytes = segment_bytes
        self.next = self.kept = self.durable = 0
        self.fault: str | None = None
        self.gap_end = 0
        self.counts: Counter[str] = Counter()
        self._segments: list[Segment] = []  # the last of them is being written if there is a file
        self._file: File | None = None
        self._offset = 0
        self._size = 0  # of the segment being written
        self._old_bytes = 0  # of the others
        self._topics: dict[str, int] = {}
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._unsynced: deque[Entry] = deque()  # written, and written again if a sync fails
        self._full: list[File] = []  # files of segments that are finished and not synced
        self._new_names = False
        self._complained = -COMPLAINT_S

    @property
    def safe(self) -> int:
        """Messages below may be acknowledged."""
        return self.durable if self.durability == "power" else self.kept

    @property
    def size(self) -> int:
        """Bytes of all segments; roughly, for those of an earlier run."""
        return self._old_bytes + self._offset

    @property
    def unsynced(self) -> bool:
        """Whether something was written that the disk may not have."""
        return self.durable < self.kept or self._new_names

    @property
    def full(self) -> bool:
        """Whether so much waits in memory that no message of QoS 1 must be taken."""
        return len(self._waiting) >= WAITING_MAX or self._waiting_bytes >= WAITING_BYTES_MAX

    def begin(self, number: int) -> None:
        """Go on with this number after what is on the disk, in a new segment."""
        self.next = self.kept = self.durable = number
        self._segments = listed(self.disk)
        self._old_bytes = len(self._segments) * self.segment_bytes

    def append(self, message: Message) -> int:
        """Take a message; return its number. What the disk does not take waits, and `kept` stays behind.

        Never raises for a fault of the disk, which is in `fault`.
        """
        number = self.next
        self.next = number + 1
        self.counts["appended"] += 1
        if self.fault is None:
            try:
                self._write(number, message)
            except OSError as error:
                self._failed(error)
            else:
                return number
        if self.full and message.qos == 0:
            self.counts["let_go"] += 1
        else:
            self._wait(number, message)
        return number

    def session_lost(self) -> None:
        """Note that the broker has forgotten us."""
        if self.fault is None:
            try:
                self._write(self.next, Session())
            except OSError as error:
                self._failed(error)
            else:
                return
        self._wait(self.next, Session())

    def mark(self, pipeline: str, number: int) -> None:
        """Note that the broker has the outputs of all messages of a pipeline below `number`.

        Not kept while there is a fault: outputs may then be sent twice.
        """
        if self.fault is None:
            frame = frames.control(Mark(pipeline, number), self.next)
            try:
                self._make_room(len(frame))
                self._put(frame)
            except OSError as error:
                self._failed(error)

    def retry(self) -> bool:
        """Write what waits, to a new segment; call it now and then while there is a fault. True when all is well."""
        if self.fault is None:
            return True
        try:
            self._open()
            while self._waiting:
                number, record = self._waiting[0]
                self._fill(number)
                self._write(number, record)
                self._waiting.popleft()
                self._waiting_bytes -= _size(record)
            self._fill(self.next)
        except OSError as error:
            self._failed(error)
            return False
        self.fault = None
        self.counts["healed"] += 1
        log.warning("state: the disk takes what is written again: messages are kept and acknowledged as before")
        return True

    def begin_sync(self) -> Sync:
        """Return what is to be synced; `Sync.run` it, on any thread, then `end_sync`. One at a time."""
        files, self._full = self._full, []
        names, self._new_names = self._new_names, False
        return Sync(self.disk, files if self._file is None else [*files, self._file], names, self.kept)

    def end_sync(self, sync: Sync) -> None:
        """Take note of what came of a sync. After a failed one nothing since the last good one is trusted.

        The system may have dropped the pages it could not write, and say nothing the second time.
        """
        finished = [file for file in sync.files if file is not self._file and file not in self._full]
        for file in finished:
            with suppress(OSError):  # what it has to say it has said to the sync
                file.close()
        if sync.error is not None:
            self.counts["failed_syncs"] += 1
            self._new_names = True
            self._distrust()
            self._failed(sync.error)
            return
        self.durable = max(self.durable, min(sync.kept, self.kept))
        while self._unsynced and self._unsynced[0][0] < self.durable:
            self._unsynced.popleft()

    def sync(self) -> None:
        """Have the disk take what was written, and wait for it."""
        sync = self.begin_sync()
        sync.run()
        self.end_sync(sync)

    def release(self, number: int) -> None:
        """Remove the segments that hold only messages below `number`."""
        while len(self._segments) > 1 and self._segments[1].first <= number:
            segment = self._segments[0]
            try:
                self.disk.remove(segment.name)
            except OSError as error:
                log.warning("state: %s cannot be removed: %s", segment.name, words(error))
                return
            del self._segments[0]
            self._old_bytes -= min(self.segment_bytes, self._old_bytes)

    def close(self) -> None:
        """Close the files. What was not synced is with the system."""
        self._finish()
        for file in self._full:
            file.close()
        self._full.clear()

    def _write(self, number: int, record: Message | Session) -> None:
        if isinstance(record, Session):
            frame = frames.control(record, number)
            self._make_room(len(frame))
            self._put(frame)
        else:
            self._make_room(FRAME_BYTES_MAX + len(record.payload) + 8 * len(record.topic))
            topic = self._topics.get(record.topic)
            if topic is None:
                topic = self._intern(record.topic, number)
            self._put(frames.event(record, topic, number))
            self.kept = number + 1
        if self.durability != "process":
            self._unsynced.append((number, record))

    def _intern(self, topic: str, number: int) -> int | None:
        """Have a number stand for a topic in this segment; None when it is to be written with every message."""
        which = len(self._topics)
        if len(topic) > frames.TOPIC_CHARACTERS_MAX or which >= frames.TOPICS_MAX:
            return None
        self._put(frames.control(Topic(which, topic), number))
        self._topics[topic] = which
        return which

    def _fill(self, number: int) -> None:
        """Write that the messages up to `number` were let go."""
        if number > self.kept:
            self._put(frames.control(Gap(number - self.kept), self.kept))
            self.kept = self.gap_end = number

    def _put(self, frame: bytes) -> None:
        file = self._file
        assert file is not None  # noqa: S101 room was made
        written = file.write_at(self._offset, frame)
        if written < len(frame):  # what is there of it will not verify, and the next segment begins before it
            raise OSError(None, f"only {written} of {len(frame)} bytes could be written")
        self._offset += written

    def _make_room(self, size: int) -> None:
        """Begin a new segment if there is none, or no room for so many bytes in it."""
        if self._file is None or self._offset + size > self._size:
            self._finish()
            self._open(size)

    def _open(self, size: int = 0) -> None:
        """Begin a segment with the first message that is not kept, with room for one of `size` bytes at least."""
        serial = sum(segment.first == self.kept for segment in self._segments)
        segment = Segment(name_of(self.kept, serial), self.kept, serial)
        header = frames.control(Header(self.kept), 0)
        self.disk.make_folder(FOLDER)
        file = self.disk.create(segment.name)
        try:
            room = max(self.segment_bytes, size + len(header))
            file.reserve(room)
            if file.write_at(0, header) < len(header):
                raise OSError(None, "the beginning of a segment could not be written")
        except OSError:
            file.close()
            with suppress(OSError):  # the reason is on its way already
                self.disk.remove(segment.name)
            raise
        self._file, self._offset, self._size = file, len(header), room
        self._segments.append(segment)
        self._topics.clear()
        self._new_names = True

    def _finish(self) -> None:
        """Be done with the segment being written: give back what is reserved, and have it synced if that is due."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):  # room that could not be given back reads as zeros
            file.truncate(self._offset)
        self._old_bytes += self._offset
        self._offset = 0
        if self.durability == "process":
            file.close()
        else:
            self._full.append(file)

    def _wait(self, number: int, record: Message | Session) -> None:
        self._waiting.append((number, record))
        self._waiting_bytes += _size(record)

    def _distrust(self) -> None:
        """Have everything since the last good sync written again."""
        self._finish()
        for file in self._full:
            file.close()
        self._full.clear()
        self._waiting.extendleft(reversed(self._unsynced))
        self._waiting_bytes += sum(_size(record) for _, record in self._unsynced)
        self._unsynced.clear()
        self.kept = self.durable

    def _failed(self, error: OSError) -> None:
        """Write nothing more until `retry`."""
        self._finish()
        self.counts["faults"] += self.fault is None
        self.fault = words(error)
        now = time.monotonic()
        if now - self._complained >= COMPLAINT_S:
            self._complained = now
            log.error(
                "state: %s: messages are answered, but not kept and not acknowledged until the disk takes them",
                self.fault,
            )


def words(error: OSError) -> str:
    """Return what the system says, in its few words."""
    return (error.strerror or str(error)).lower()


def _size(record: Message | Session) -> int:
    return len(record.payload) + len(record.topic) if isinstance(record, Message) else 0
