"""Publishes on their way to the broker: kept while it is away, counted till it answers, within a limit."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable

from streamrnn.edges.link import Link

log = logging.getLogger(__name__)

OUTSTANDING_MAX = 20_000  # publishes of each QoS waiting for the broker


class Outbox:
    """What has been published and is not yet at the broker."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._link: Link | None = None  # only while connected
        # QoS 1, published while the connection was down; with which of all publishes each is, as below
        self._waiting: deque[tuple[int, str, bytes, bool]] = deque()
        self._unacked: dict[int, int] = {}  # packet ids of QoS 1, oldest first
        self._unsent: set[int] = set()  # packet ids of QoS 0, not yet written to the socket
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.issued = 0  # publishes of QoS 1 so far

    @property
    def through(self) -> int:
        """The broker has acknowledged so many of the publishes of QoS 1, from the first on without a gap."""
        if self._unacked:
            return next(iter(self._unacked.values()))
        return self._waiting[0][0] if self._waiting else self.issued

    @property
    def outstanding(self) -> int:
        """QoS 1 publishes the broker has not acknowledged."""
        return len(self._unacked) + len(self._waiting)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Send, keep for the next connect (QoS 1), or drop and count."""
        full = (self.outstanding if qos else len(self._unsent)) >= OUTSTANDING_MAX
        if full or (qos == 0 and self._link is None):
            self._counts["publish_dropped"] += 1
            return
        which = self.issued
        self.issued += qos
        if self._link is not None:
            self._send(self._link, which, topic, payload, qos, retain)
        else:
            self._waiting.append((which, topic, payload, retain))

    def connected(self, link: Link) -> None:
        """Send what has waited; what was under way at the loss paho has sent again by now."""
        self._link = link
        while self._waiting:
            which, topic, payload, retain = self._waiting.popleft()
            self._send(link, which, topic, payload, 1, retain)

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
        self._unacked.pop(mid, None)
        self._counts["acknowledged"] += 1
        for reached, waiter in self._waiters:
            if not waiter.done() and reached():
                waiter.set_result(None)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until that is so, which only acknowledgements can bring about, or until `fail`."""
        while not reached():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (reached, waiter)
            self._waiters.append(entry)
            try:
                await waiter
            finally:
                self._waiters.remove(entry)

    def fail(self, exc: Exception) -> None:
        """Raise `exc` in whoever waits for acknowledgements that will not come."""
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(exc)

    def _send(self, link: Link, which: int, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        try:
            mid = link.send(topic, payload, qos, retain)
        except ValueError as exc:
            mid = None
            log.error("cannot publish to %.200r: %s", topic, exc)
        if mid is None:
            self._counts["publish_dropped"] += 1
        else:
            self._counts["published"] += 1
            if qos:
                self._unacked[mid] = which
            else:
                self._unsent.add(mid)
