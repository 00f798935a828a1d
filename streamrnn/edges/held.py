"""Messages that came and cannot be taken yet: QoS 1, un-acknowledged, in order and within a limit."""

from __future__ import annotations

from collections import deque

from streamrnn.events import Message

MESSAGES_MAX = 65_535  # packet ids: a broker cannot have more of them in flight
BYTES_MAX = 64 << 20
_OVERHEAD = 400  # bytes of memory that a message takes beside its payload, about


class Held:
    """Messages that wait for room, the oldest first."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def full(self) -> bool:
        """Whether no more should be read for the sake of what comes behind messages."""
        return len(self._messages) >= MESSAGES_MAX or self._bytes >= BYTES_MAX

    def append(self, message: Message) -> None:
        """Add what came last."""
        self._messages.append(message)
        self._bytes += _size(message)

    def put_back(self, message: Message) -> None:
        """Add what came first: it was taken out, and still finds no room."""
        self._messages.appendleft(message)
        self._bytes += _size(message)

    def popleft(self) -> Message:
        """Return what came first, and let go of it."""
        message = self._messages.popleft()
        self._bytes -= _size(message)
        return message

    def clear(self) -> None:
        """Let go of everything."""
        self._messages.clear()
        self._bytes = 0


def _size(message: Message) -> int:
    return _OVERHEAD + len(message.topic) + len(message.raw)
