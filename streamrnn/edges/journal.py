"""Journal: every message taken, appended before anything comes of it, in segments of some megabytes.

What it promises by `safe` it keeps, whatever the disk does: what cannot be written, or not be synced, waits in
memory and is written to a new segment later. How it is read back, and why segments that were given up do no harm,
is in `segments`.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Iterable
from typing import Literal

from streamrnn.edges import frames
from streamrnn.edges.disk import Disk, words
from streamrnn.edges.frames import Gap, Mark, Session
from streamrnn.edges.segments import Shelf
from streamrnn.edges.waiting import Kept, Waiting
from streamrnn.edges.writing import Writing, begin, encoded, numbers
from streamrnn.events import Message

log = logging.getLogger(__name__)

Durability = Literal["process", "second", "power"]

SEGMENT_BYTES = 4 << 20
FULL_MAX = 3  # segments finished and not synced, then the writer waits for the disk: their messages are in memory


class Journal:
    """The journal of a service.

    `sync`, `retry` and `release` may be called on another thread than the rest. Nothing raises when the disk fails.

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
        The number after the last message that was answered and not kept; 0 when there was none. A checkpoint from
        there on holds all that the journal does not.
    """

    def __init__(self, disk: Disk, durability: Durability = "second", segment_bytes: int = SEGMENT_BYTES) -> None:
        self.disk = disk
        self.durability = durability
        self.segment_bytes = segment_bytes
        self.next = self.kept = self.durable = 0
        self.fault: str | None = None
        self.gap_end = 0
        self._begun = 0  # number it began with
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # over what follows; never held while the disk is waited for
        self._shelf = Shelf(disk)
        self._writing: Writing | None = None
        self._full: list[Writing] = []  # finished or given up, not synced and closed
        self._waiting = Waiting()  # what is to be written
        self._remembers = durability != "process"
        self._unsynced: deque[Kept] = deque()  # what is to be written again if a sync fails
        self._let_go = 0  # messages, before the fault
        self._syncing = threading.Lock()  # held by one who syncs or begins anew, and so may close files

    @property
    def safe(self) -> int:
        """Messages below may be acknowledged."""
        return self.durable if self.durability == "power" else self.kept

    @property
    def full(self) -> bool:
        """Whether so much waits in memory that no message of QoS 1 must be taken."""
        return self._waiting.full

    @property
    def unsynced(self) -> bool:
        """Whether something was written that the disk may not have."""
        return self.unsynced_bytes > 0

    @property
    def unsynced_bytes(self) -> int:
        """So many bytes were; always 0 with ``process``."""
        if self.durability == "process":
            return 0
        with self._lock:
            return sum(each.end - each.synced for each in self._open())

    @property
    def size(self) -> int:
        """Bytes of all segments; those of an earlier run count once something is written."""
        return self._shelf.size + (self._writing.end if self._writing is not None else 0)

    @property
    def counts(self) -> Counter[str]:
        """appended, written (bytes), faults, failed_syncs, healed, let_go (messages of QoS 0 not kept)."""
        with self._lock:
            written = self._writing.end if self._writing is not None else 0
            known = {"appended": self.next - self._begun, "let_go": self._waiting.let_go}
            return Counter({**self._counts, **known, "written": self._counts["written"] + written})

    def begin(self, number: int, reached: int | None = None) -> None:
        """Go on with this number after what is on the disk, in a new segment.

        Parameters
        ----------
        number
            Of the next message.
        reached
            Where the journal ends, if that is less (it was damaged, and a checkpoint knows more). The numbers in
            between are nobody's, and the journal says so.
        """
        self.next = self.kept = self.durable = self._begun = number
        if reached is not None and reached < number:
            with self._lock:
                self.kept = self.durable = reached
                self._take(Gap(number - reached))

    def append(self, message: Message) -> int:
        """Take a message; return its number. What the disk does not take waits, and `kept` stays behind."""
        with self._lock:
            number = self.next
            self.next = number + 1
            writing = self._writing
            if writing is not None and (topic := writing.topics.get(message.topic)) is not None:
                frame = frames.event(message, topic, number)
                if len(frame) <= writing.room - writing.end:
                    try:
                        writing.put(frame)
                    except OSError as error:
                        self._give_up(writing, error, message)
                    else:
                        self.kept = number + 1
                        if self._remembers:
                            self._unsynced.append(message)
                    return number
            self._take(message)
        if len(self._full) > FULL_MAX:
            self.sync()
        return number

    def session_lost(self) -> None:
        """Note that the broker has forgotten us."""
        with self._lock:
            self._take(Session())

    def mark(self, pipeline: str, number: int) -> None:
        """Note that the broker has the outputs of all messages of a pipeline below `number`."""
        with self._lock:
            self._take(Mark(pipeline, number))

    def retry(self) -> bool:
        """While there is a fault: write what waits, to a new segment; True if all is well. Due about once a second.

        After a fault the disk is not taken at its word, it must sync what is written: else a broken one would seem
        to heal every second.
        """
        if self.fault is None:
            return True
        if not self._syncing.acquire(blocking=False):
            return False
        try:
            self._sync()
            with self._lock:
                records = self._waiting.take()
            try:
                writing = self._begin(records)
                if self._remembers:
                    writing.sync()
            except OSError as error:
                with self._lock:
                    self._waiting.put_back(records)
                    self.fault = words(error)
                return False
            with self._lock:
                self._heal(writing, records)
                return self.fault is None
        finally:
            self._syncing.release()

    def sync(self) -> None:
        """Have the disk take what was written, and wait for it. Nothing to do with ``process``.

        After a failure nothing since the last good sync is trusted: the system may have dropped the pages it could
        not write, and say nothing the second time.
        """
        with self._syncing:
            self._sync()

    def release(self, number: int) -> None:
        """Remove the segments that hold only messages below `number`."""
        with self._lock:
            busy = {each.segment for each in self._open()}
        try:
            self._shelf.release(number, busy)
        except OSError as error:
            log.warning("journal: a segment that is not needed any more cannot be removed: %s", words(error))

    def close(self) -> None:
        """Have the disk take what was written, and close. What waits is tried once more."""
        self.sync()
        self.retry()
        with self._syncing:
            with self._lock:
                if self._writing is not None:
                    self._finish(self._writing)
            self._sync()

    def _open(self) -> list[Writing]:
        return self._full if self._writing is None else [*self._full, self._writing]

    def _take(self, record: Kept) -> None:
        """Write a record, to a new segment if need be, or have it wait."""
        writing = self._writing
        if writing is not None:
            data = encoded([record], self.kept, writing.topics)
            if writing.end + len(data) <= writing.room:
                try:
                    writing.put(data)
                except OSError as error:
                    self._give_up(writing, error, record)
                else:
                    self._note([record])
                return
            self._finish(writing)
        self._waiting.add(record)
        if self.fault is not None:
            return
        records = self._waiting.take()
        try:
            writing = self._begin(records)
        except OSError as error:
            self._waiting.put_back(records)
            self._failed(error)
        else:
            self._go_on(writing, records)

    def _give_up(self, writing: Writing, error: OSError, record: Kept) -> None:
        """Have a record wait that could not be written to a segment; the next one begins with it."""
        self._finish(writing)
        self._failed(error)
        self._waiting.add(record)

    def _begin(self, records: list[Kept]) -> Writing:
        """Write a new segment that begins with these records."""
        return begin(self.disk, self.kept, self._shelf.serial(), records, self.segment_bytes)

    def _go_on(self, writing: Writing, records: list[Kept]) -> None:
        """Go on with a segment that begins with these records."""
        self._shelf.add(writing.segment)
        self._writing = writing
        self._note(records)

    def _note(self, records: list[Kept]) -> None:
        """Note that records were written."""
        for record in records:
            self.kept += numbers(record)
            if isinstance(record, Gap):
                self.gap_end = self.kept
        if self._remembers:
            self._unsynced.extend(records)

    def _finish(self, writing: Writing) -> None:
        """Write no more to a segment. It is closed when it is synced, if it is to be."""
        self._writing = None
        self._shelf.finished(writing.segment, writing.end)
        self._counts["written"] += writing.end
        if self.durability == "process":
            writing.close(writing.end)
        else:
            self._full.append(writing)

    def _sync(self) -> None:
        """See `sync`; the caller holds `_syncing`."""
        if self.durability == "process":
            return
        with self._lock:
            covered = [(each, each.end) for each in self._open()]
            kept = self.kept
            records, self._unsynced = self._unsynced, deque()
        try:
            for each, end in covered:
                if each.synced < end:
                    each.sync()
        except OSError as error:
            with self._lock:
                self._distrust(error, records)
            return
        with self._lock:
            self.durable = kept
            for each, end in covered:
                each.synced = end
            finished = [each for each in self._full if each.synced == each.end]
            self._full = [each for each in self._full if each.synced < each.end]
        for each in finished:
            each.close(each.end)

    def _distrust(self, error: OSError, records: Iterable[Kept]) -> None:
        """Have what was written since the last good sync be written again: these records, and those since."""
        self._counts["failed_syncs"] += 1
        if self._writing is not None:
            self._finish(self._writing)
        for each in self._full:
            # Nobody was told that it is kept with `power`. Else it is better than nothing, should we die now.
            each.close(each.synced if self.durability == "power" else each.end)
        self._full.clear()
        self._waiting.put_back([*records, *self._unsynced])
        self._unsynced.clear()
        self.kept = self.durable
        self._failed(error)

    def _failed(self, error: OSError) -> None:
        """Write nothing until `retry`."""
        if self.fault is None:
            self._counts["faults"] += 1
            self._let_go = self._waiting.let_go
            log.error(
                "journal: %s: messages are answered, but not kept, and not acknowledged until they can be",
                words(error),
            )
        self.fault = words(error)

    def _heal(self, writing: Writing, records: list[Kept]) -> None:
        """All is well again."""
        self._go_on(writing, records)
        if self._remembers:
            writing.synced = writing.end
            self.durable = self.kept
            self._unsynced.clear()
        self.fault = None
        self._counts["healed"] += 1
        lost = self._waiting.let_go - self._let_go
        log.warning(
            "journal: the disk takes what is written again: what waited is kept%s",
            f", but for {lost} messages of QoS 0" if lost else "",
        )
        for record in self._waiting.take():  # came while the disk was waited for
            self._take(record)
