"""One record of the journal as bytes, and back. It knows neither files nor disks.

A frame is a checksum (u32), a length (u32) of what follows, a kind (u8), and the body of that kind; all
little-endian. The checksum is the CRC 32 of all behind it, begun with the number of the next message at its place:
a frame that once stood somewhere else does not pass for one. A length of 0 is the end: room that was reserved reads
as zeros.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from zlib import crc32

import msgspec

from streamrnn.events import Message

FORMAT = 1
TOPIC_CHARACTERS_MAX = 256  # longer topics are written with every message
TOPICS_MAX = 4096  # of a segment; what comes after is written with every message

HEADER, TOPIC, EVENT, SESSION, MARK, GAP = 1, 2, 3, 4, 5, 6

_MAGIC = b"streamrnn journal"
_PREFIX = struct.Struct("<II")
_CHECKSUM = struct.Struct("<I")
_LENGTH = struct.Struct("<IB")  # and kind
_EVENT = struct.Struct("<IBBHHd")  # length and kind, then flags, topic, packet id, arrival
_FIELDS = struct.Struct("<BHHd")  # the body of an event before its payload
_HEADER = struct.Struct("<17sHQQ")
_TOPIC = struct.Struct("<H")
_NUMBER = struct.Struct("<Q")
_QOS, _RETAIN, _DUP, _INLINE = 3, 4, 8, 16

# As names of their own: every message comes by here.
_EVENT_LENGTH = _EVENT.size - 4
_pack_event = _EVENT.pack
_pack_checksum = _CHECKSUM.pack


class Session(msgspec.Struct, frozen=True):
    """The broker has forgotten us: packet ids before this say nothing of those after it."""


class Mark(msgspec.Struct, frozen=True):
    """The broker has the outputs of all messages of a pipeline below a number."""

    pipeline: str
    number: int


class Gap(msgspec.Struct, frozen=True):
    """So many messages were answered and not kept: at QoS 0, while the disk was full."""

    count: int


class Header(msgspec.Struct, frozen=True):
    """The beginning of a segment: the number of its first message, and which of all segments it is."""

    first: int
    serial: int


class Topic(msgspec.Struct, frozen=True):
    """From here on in its segment a number stands for a topic."""

    number: int
    topic: str


Record = Message | Session | Mark | Gap | Header | Topic


def event(message: Message, topic: int | None, number: int) -> bytes:
    """Return the frame of a message; `topic` stands for its topic, None: the topic is in the frame."""
    payload: bytes = message.payload  # type: ignore[assignment]  # only recorded rows have other payloads
    flags = message.qos
    if message.retain:
        flags |= _RETAIN
    if message.dup:
        flags |= _DUP
    if topic is None:
        name = message.topic.encode()
        payload = _TOPIC.pack(len(name)) + name + payload
        flags |= _INLINE
        topic = 0
    length = _EVENT_LENGTH + len(payload)
    content = _pack_event(length, EVENT, flags, topic, message.mid, message.arrival) + payload
    return _pack_checksum(crc32(content, number & 0xFFFFFFFF)) + content


def control(record: Session | Mark | Gap | Header | Topic, number: int) -> bytes:
    """Return the frame of any other record."""
    match record:
        case Header(first, serial):
            return _frame(HEADER, _HEADER.pack(_MAGIC, FORMAT, first, serial), number)
        case Topic(which, topic):
            return _frame(TOPIC, _TOPIC.pack(which) + topic.encode(), number)
        case Session():
            return _frame(SESSION, b"", number)
        case Mark(pipeline, through):
            return _frame(MARK, _NUMBER.pack(through) + pipeline.encode(), number)
        case Gap(count):
            return _frame(GAP, _NUMBER.pack(count), number)


def parse(data: bytes, offset: int, number: int, topics: dict[int, str]) -> tuple[Record, int] | None:
    """Return the record at an offset and the offset behind it; None where there is no whole and good one.

    topics: what stands for topics in this segment so far; a Topic is added to it.
    """
    behind = verified(data, offset, number)
    reader = _READERS.get(data[offset + _PREFIX.size]) if behind is not None else None
    if reader is None or behind is None:
        return None
    try:
        return reader(data[offset + _PREFIX.size + 1 : behind], topics), behind
    except (struct.error, UnicodeDecodeError, LookupError):  # a good frame, but not of our making
        return None


def verified(data: bytes, offset: int, number: int) -> int | None:
    """Return the offset behind the frame at an offset; None when its checksum is not right for this number."""
    behind = extent(data, offset)
    if behind is None:
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, offset)
    # A view: a damaged length must not have megabytes copied.
    body = memoryview(data)[offset + _CHECKSUM.size : behind]
    return behind if crc32(body, number & 0xFFFFFFFF) == checksum else None


def extent(data: bytes, offset: int) -> int | None:
    """Return the offset behind the frame at an offset by its length; None when it has none, or is cut short."""
    if offset + _PREFIX.size >= len(data):
        return None
    _, length = _PREFIX.unpack_from(data, offset)
    behind: int = offset + _PREFIX.size + length
    return behind if length and behind <= len(data) else None


def _frame(kind: int, body: bytes, number: int) -> bytes:
    content = _LENGTH.pack(1 + len(body), kind) + body
    return _pack_checksum(crc32(content, number & 0xFFFFFFFF)) + content


def _read_event(body: bytes, topics: dict[int, str]) -> Message:
    flags, topic, mid, arrival = _FIELDS.unpack_from(body)
    start = _FIELDS.size
    if flags & _INLINE:
        (length,) = _TOPIC.unpack_from(body, start)
        start += _TOPIC.size + length
        if start > len(body):
            raise LookupError(length)
        name = body[start - length : start].decode()
    else:
        name = topics[topic]
    return Message(
        topic=name,
        payload=body[start:],
        qos=flags & _QOS,
        retain=bool(flags & _RETAIN),
        dup=bool(flags & _DUP),
        mid=mid,
        arrival=arrival,
    )


def _read_header(body: bytes, topics: dict[int, str]) -> Header:  # noqa: ARG001
    magic, version, first, serial = _HEADER.unpack(body)
    if magic != _MAGIC or version != FORMAT:
        raise LookupError(version)
    return Header(first, serial)


def _read_topic(body: bytes, topics: dict[int, str]) -> Topic:
    (which,) = _TOPIC.unpack_from(body)
    topics[which] = body[_TOPIC.size :].decode()
    return Topic(which, topics[which])


def _read_mark(body: bytes, topics: dict[int, str]) -> Mark:  # noqa: ARG001
    (through,) = _NUMBER.unpack_from(body)
    return Mark(body[_NUMBER.size :].decode(), through)


def _read_gap(body: bytes, topics: dict[int, str]) -> Gap:  # noqa: ARG001
    return Gap(*_NUMBER.unpack(body))


def _read_session(body: bytes, topics: dict[int, str]) -> Session:  # noqa: ARG001
    return Session()


_READERS: dict[int, Callable[[bytes, dict[int, str]], Record]] = {
    HEADER: _read_header,
    TOPIC: _read_topic,
    EVENT: _read_event,
    SESSION: _read_session,
    MARK: _read_mark,
    GAP: _read_gap,
}
