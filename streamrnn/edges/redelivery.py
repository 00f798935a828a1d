"""Which QoS 1 messages were journalled of late, to recognise those that the broker delivers again.

MQTT 3.1.1, section 4.4: what was not acknowledged when the connection broke comes again with DUP and the same
packet id.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict

from streamrnn.events import Message

REMEMBERED_MAX = (
    4000  # messages; brokers have no more than some hundreds unacknowledged, and use ids again after 65,535
)


class Redelivery:
    """The packet ids of the newest messages of a session, each with what it was.

    Examples
    --------
    >>> memory = Redelivery()
    >>> memory.note(Message("plant/pump", b"21.5", qos=1, mid=3), 70)
    >>> memory.known(Message("plant/pump", b"21.5", qos=1, mid=3, dup=True))
    70
    >>> memory.known(Message("plant/pump", b"21.5", qos=1, mid=3)) is None  # a new one that looks the same
    True
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[int, tuple[int, int]] = OrderedDict()  # packet id to checksum and number

    def known(self, message: Message) -> int | None:
        """Return the number the message has in the journal if it is one delivered again, else None."""
        if not message.dup or message.qos == 0:
            return None
        noted, number = self._seen.get(message.mid, (-1, -1))
        return number if noted == checksum(message) else None

    def note(self, message: Message, number: int) -> None:
        """Remember a message that was journalled under a number; nothing at QoS 0."""
        if message.qos == 0:
            return
        self._seen.pop(message.mid, None)  # the newest last
        self._seen[message.mid] = (checksum(message), number)
        if len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)

    def forget(self) -> None:
        """The broker has lost our session: an id it uses from now on is a new message's."""
        self._seen.clear()


def checksum(message: Message) -> int:
    """Return a CRC 32 of topic and payload."""
    return zlib.crc32(message.raw, zlib.crc32(message.topic.encode()))
