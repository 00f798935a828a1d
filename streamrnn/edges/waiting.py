"""Waiting: what the journal is to write and cannot, in order and within bounds. It knows no disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from streamrnn.edges.frames import Gap, Mark, Session
from streamrnn.events import Message

Kept = Message | Session | Mark | Gap
"""What is in a journal beside what only its segments need."""

QOS1_MAX = 1000  # messages
BYTES_MAX = 16 << 20
_OVERHEAD = 256  # bytes of memory a record takes beside its payload, about


class Waiting:
    """Records to be written once that is possible. Messages of QoS 0 beyond the bound are let go, the oldest first.

    Attributes
    ----------
    let_go
        So many messages were, since it was made. Gaps stand for them, so that numbers are right.

    Examples
    --------
    >>> waiting = Waiting(bytes_max=800)
    >>> for payload in b"1", b"2", b"3", b"4", b"5":
    ...     waiting.add(Message("room", payload, qos=payload == b"2"))
    >>> [record if isinstance(record, Gap) else record.payload for record in waiting]
    [Gap(count=1), b'2', Gap(count=1), b'4', b'5']
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.let_go = 0
        self._old: list[Kept] = []  # looked at already: nothing in it can be let go
        self._young: deque[Kept] = deque()
        self._marks: dict[str, Mark] = {}  # only the newest of a pipeline says anything, and it may come late
        self._bytes = 0
        self._qos1 = 0

    def __len__(self) -> int:
        return len(self._old) + len(self._young) + len(self._marks)

    def __iter__(self) -> Iterator[Kept]:
        yield from self._old
        yield from self._young
        yield from self._marks.values()

    @property
    def full(self) -> bool:
        """Whether no message of QoS 1 should be added."""
        return self._qos1 >= QOS1_MAX or self._bytes >= self.bytes_max

    def add(self, record: Kept) -> None:
        """Add what is newer than all that waits."""
        self._account(record, self._young)
        while self._bytes > self.bytes_max and self._young:
            self._look_at(self._young.popleft())

    def put_back(self, records: Iterable[Kept]) -> None:
        """Add what is older than all that waits."""
        newer = [*self._old, *self._young]
        marks = self._marks
        self._old, self._young, self._marks = [], deque(), {}
        for record in records:
            self._account(record, self._young)
        self._young.extend(newer)
        self._marks |= marks

    def take(self) -> list[Kept]:
        """Return all that waits, in order; then nothing does."""
        taken = list(self)
        self._old, self._young, self._marks = [], deque(), {}
        self._bytes = self._qos1 = 0
        return taken

    def _account(self, record: Kept, where: deque[Kept]) -> None:
        if isinstance(record, Mark):
            self._marks[record.pipeline] = record
            return
        if isinstance(record, Message):
            self._qos1 += record.qos > 0
        self._bytes += _size(record)
        where.append(record)

    def _look_at(self, record: Kept) -> None:
        """Let go of the oldest record if it may be, else have it stay."""
        if isinstance(record, Message) and record.qos == 0:
            self._bytes -= _size(record)
            self.let_go += 1
            record = Gap(1)
        last = self._old[-1] if self._old else None
        if isinstance(record, Gap) and isinstance(last, Gap):
            self._old[-1] = Gap(last.count + record.count)
        elif isinstance(record, Session) and any(isinstance(each, Session) for each in self._since_qos1()):
            self._bytes -= _size(record)  # nothing to forget has come since the one before
        else:
            self._old.append(record)

    def _since_qos1(self) -> list[Kept]:
        """Return what stays behind its last message: a gap, a session, or both."""
        return [each for each in self._old[-2:] if not isinstance(each, Message)]


def _size(record: Kept) -> int:
    if isinstance(record, Message):
        return _OVERHEAD + len(record.topic) + len(record.payload)
    return 0 if isinstance(record, Gap) else _OVERHEAD
