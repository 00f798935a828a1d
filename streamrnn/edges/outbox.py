"""Publishes on their way to the broker: kept while it is away, counted till it answers, within a limit."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque

from streamrnn.edges.link import Link

log = logging.getLogger(__name__)

OUTSTANDING_MAX = 20_000  # publishes of each QoS waiting for the broker


class Outbox:
    """What has been published and is not yet at the broker."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._link: Link | None = None  # only while connected
        self._waiting: deque[tuple[str, bytes, bool]] = deque()  # QoS 1, published while the connection was down
        self._unacked: set[int] = set()  # packet ids of QoS 1
        self._unsent: set[int] = set()  # packet ids of QoS 0, not yet written to the socket
        self._settling: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def outstanding(self) -> int:
        """QoS 1 publishes the broker has not acknowledged."""
        return len(self._unacked) + len(self._waiting)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Send, keep for the next connect (QoS 1), or drop and count."""
        full = (self.outstanding if qos else len(self._unsent)) >= OUTSTANDING_MAX
        if full or (qos == 0 and self._link is None):
            self._counts["publish_dropped"] += 1
        elif self._link is not None:
            self._send(self._link, topic, payload, qos, retain)
        else:
            self._waiting.append((topic, payload, retain))

    def connected(self, link: Link) -> None:
        """Send what has waited; what was under way at the loss paho has sent again by now."""
        self._link = link
        while self._waiting:
            topic, payload, retain = self._waiting.popleft()
            self._send(link, topic, payload, 1, retain)

    def lost(self) -> None:
        """Keep from now on; QoS 0 not yet written is gone."""
        self._link = None
        self._counts["publish_dropped"] += len(self._unsent)
        self._unsent.clear()

    def done(self, mid: int) -> None:
        """Note that a QoS 0 publish was written or a QoS 1 publish acknowledged."""
        if mid in self._unsent:
            self._unsent.discard(mid)
            return
        self._unacked.discard(mid)
        self._counts["acknowledged"] += 1
        for below, waiter in self._settling:
            if self.outstanding < below and not waiter.done():
                waiter.set_result(None)

    async def settled(self, below: int) -> None:
        """Wait until fewer than `below` are outstanding, or until `fail`."""
        while self.outstanding >= below:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (below, waiter)
            self._settling.append(entry)
            try:
                await waiter
            finally:
                self._settling.remove(entry)

    def fail(self, exc: Exception) -> None:
        """Raise `exc` in whoever waits for acknowledgements that will not come."""
        for _, waiter in self._settling:
            if not waiter.done():
                waiter.set_exception(exc)

    def _send(self, link: Link, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        try:
            mid = link.send(topic, payload, qos, retain)
        except ValueError as exc:
            mid = None
            log.error("cannot publish to %.200r: %s", topic, exc)
        if mid is None:
            self._counts["publish_dropped"] += 1
        else:
            self._counts["published"] += 1
            (self._unacked if qos else self._unsent).add(mid)
