"""One MQTT connection kept up for months: connect, subscribe, take, acknowledge, publish, and connect again.

It knows topics and bytes; what a payload means is the codec's business, and how MQTT is spoken is in `link`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from streamrnn.edges.endpoint import Endpoint, Settings, Will
from streamrnn.edges.held import Held
from streamrnn.edges.link import Link, Refused, Unreachable
from streamrnn.edges.outbox import Outbox
from streamrnn.edges.patience import Patience
from streamrnn.edges.reaching import resolved
from streamrnn.errors import BrokerError
from streamrnn.events import Message

__all__ = ["Connection", "Receive", "Settings", "Will"]

log = logging.getLogger(__name__)

Receive = Callable[[Message], bool | None]
"""Called on the loop in arrival order. True: taken, acknowledged at once. None: taken, to be acknowledged later by
`Connection.acknowledge`. False: not now, see `resume`."""


class Connection:
    """One MQTT connection kept up for months.

    Parameters
    ----------
    settings
        Where the broker is and how we present ourselves.
    topics
        Subscriptions as (filter, qos), made anew at every connect.
    receive
        Takes each message. QoS 1 is acknowledged when it returns True; on None it is the receiver's to
        acknowledge; on False the message is held un-acknowledged and the socket is left unread until `resume`,
        while QoS 0 is dropped. What it raises ends `run`.
    on_state
        Told ``connected`` (the broker has answered, `session_present` is known, no message has come yet),
        ``subscribed`` and ``lost``.

    Attributes
    ----------
    counts
        connects, lost, refused, subscribe_refused, received, redelivered, dropped (QoS 0 not taken),
        undecodable, published, acknowledged, publish_dropped.
    session_present
        Whether the broker remembered us at the last connect: only then can a message be a redelivery.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[tuple[str, int]],
        receive: Receive,
        on_state: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.topics = tuple(topics)
        self.receive = receive
        self.on_state = on_state
        self.counts: Counter[str] = Counter()
        self.session_present = False
        self._outbox = Outbox(self.counts)
        self._held = Held()
        self._owed: dict[int, Message] = {}  # by packet id: taken, to be acknowledged by the receiver
        self._deaf = False
        self._standing: dict[str, int] = {}  # QoS asked for, of the filters subscribed to by this connection
        self._unwanted: set[str] = set()  # filters that the broker's session may still have
        self._changed = asyncio.Event()
        self._link: Link | None = None
        self._granted = asyncio.Event()
        self._fault: Exception | None = None
        self._faulty = asyncio.Event()
        self._ended: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Connection:
        """Run in a task of its own until the end of the block."""
        self._task = asyncio.create_task(self.run(), name=f"mqtt {self.settings.client_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye to the broker; raise what ended the connection, unless the block raises itself."""
        if self._task is None:
            return
        self._task.cancel()
        (ended,) = await asyncio.gather(self._task, return_exceptions=True)
        if exc is None and isinstance(ended, Exception):
            raise ended

    @property
    def outstanding(self) -> int:
        """QoS 1 publishes the broker has not acknowledged yet."""
        return self._outbox.outstanding

    @property
    def issued(self) -> int:
        """QoS 1 publishes so far."""
        return self._outbox.issued

    @property
    def through(self) -> int:
        """The broker has acknowledged so many of them, from the first on without a gap."""
        return self._outbox.through

    @property
    def stuck(self) -> bool:
        """Whether acknowledgements cannot come, since they are behind messages with no room for them."""
        return self._held.full

    async def run(self) -> None:
        """Keep the connection up until cancelled.

        Raises
        ------
        BrokerError
            The URL or one of our own files is wrong, found at the first connect.
        Exception
            Whatever `receive` or `on_state` raised. The broker then publishes our will.
        """
        try:
            await self._keep_up(resolved(self.settings))
        except Exception as exc:
            self._end(exc)
            raise
        finally:
            self._end(BrokerError("the connection to the broker has been closed"))

    async def subscribed(self) -> None:
        """Wait until connected and every subscription is answered; raises what ended the connection."""
        await self._granted.wait()
        if self._ended is not None:
            raise self._ended

    def change(self, topics: Sequence[tuple[str, int]]) -> None:
        """Subscribe to these from now on, and to no others; see `subscribed` for when the broker has granted it.

        What is subscribed to already, and stays, is not touched.
        """
        self._unwanted |= dict(self.topics).keys()
        self._unwanted -= dict(topics).keys()
        self.topics = tuple(topics)
        if self._ended is None:
            self._granted.clear()
        self._changed.set()

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool = False) -> None:
        """Publish without waiting.

        While the connection is down QoS 1 is kept for the next connect, and QoS 0 is dropped. Beyond 20,000
        waiting for the broker both are dropped. What is dropped is counted.
        """
        self._outbox.publish(topic, payload, qos, retain)
        if self._held:
            self._pace()

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message is kept, for which the receiver had returned None.

        Nothing if the connection it came by is gone: its packet id may by now be another message's.
        """
        if self._link is not None and self._owed.get(message.mid) is message:
            del self._owed[message.mid]
            self._link.acknowledge(message)

    async def settled(self, below: int = 1) -> None:
        """Wait until fewer than `below` QoS 1 publishes are outstanding; raises what ended the connection.

        Acknowledgements come on the same socket as messages. While the receiver refuses, messages are read on for
        their sake until `Held` is full; a broker that lets more be in flight can keep this waiting until `resume`.
        """
        if self._ended is not None and self.outstanding >= below:
            raise self._ended
        await self._outbox.until(lambda: self.outstanding < below)

    async def acknowledged(self, issued: int) -> None:
        """Wait until the broker has the first `issued` publishes of QoS 1; raises what ended the connection."""
        if self._ended is not None and self.through < issued:
            raise self._ended
        await self._outbox.until(lambda: self.through >= issued)

    def resume(self) -> None:
        """Offer again what was not taken, in order, and read on when all of it is."""
        while self._held:
            message = self._held.popleft()
            if not self._offer(message):
                self._hold(message, first=True)
                break
        self._pace()

    def stop_receiving(self) -> None:
        """Offer no more messages, for the rest of this connection's life.

        What still comes is read and left un-acknowledged, so a broker that keeps our session delivers it to
        the next run; acknowledgements of our own publishes still arrive.
        """
        self._deaf = True
        self._held.clear()
        self._pace()

    async def _keep_up(self, where: Endpoint) -> None:
        patience = Patience(where, self.settings.client_id)
        self._link = link = Link(
            self.settings,
            where,
            self.counts,
            answered=self._answered,
            arrived=self._arrived,
            published=self._published,
        )
        while True:
            try:
                await link.open()
            except BrokerError as exc:
                if not self.counts["connects"]:
                    raise
                patience.failed(str(exc))
            except Refused as exc:
                self.counts["refused"] += 1
                patience.refused(str(exc))
            except Unreachable as exc:
                patience.failed(str(exc))
            else:
                began = time.monotonic()
                try:
                    log.info("connected to %s", where.name)
                    self.counts["connects"] += 1
                    self._outbox.connected(link)
                    why = await self._serve(link)
                except Exception:
                    link.abandon()  # without a goodbye, so that the will tells
                    raise
                except BaseException:
                    await link.close()
                    raise
                finally:
                    self._forget()
                patience.lost(why, time.monotonic() - began)
                self.counts["lost"] += 1
                self._tell("lost")
            self._raise_fault()
            await asyncio.sleep(patience.delay_s())

    async def _serve(self, link: Link) -> str:
        """Keep the subscriptions as they are to be; returns why the connection was lost."""
        self._standing.clear()
        subscribing = asyncio.create_task(self._keep_subscribed(link), name="mqtt subscribe")
        faulty = asyncio.create_task(self._faulty.wait(), name="mqtt fault")
        try:
            ends: set[asyncio.Future[Any]] = {subscribing, link.lost, faulty}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if subscribing.done():
                subscribing.result()
        except Unreachable as exc:
            link.abandon()
            return str(exc)
        finally:
            subscribing.cancel()
            faulty.cancel()
        self._raise_fault()
        return link.lost.result()

    async def _keep_subscribed(self, link: Link) -> None:
        while True:
            self._changed.clear()
            await self._subscribe(link)
            await self._changed.wait()

    async def _subscribe(self, link: Link) -> None:
        topics = [(topic, qos) for topic, qos in self.topics if self._standing.get(topic) != qos]
        granted = await link.subscribed(topics) if topics else []
        self._standing.update(topics)
        for (topic, qos), got in zip(topics, granted, strict=False):
            if got >= 0x80:
                self.counts["subscribe_refused"] += 1
                log.error("the broker refused the subscription to %s", topic)
            elif got < qos:
                log.warning("the broker grants QoS %d to %s, asked for %d", got, topic, qos)
        if unwanted := sorted(self._unwanted):
            await link.unsubscribed(unwanted)
            for topic in unwanted:
                self._unwanted.discard(topic)
                self._standing.pop(topic, None)
        if self._changed.is_set():
            return  # while the broker answered: not all is granted
        self._granted.set()
        self._pace()
        self._tell("subscribed")

    def _forget(self) -> None:
        self._outbox.lost()
        self._granted.clear()
        # Un-acknowledged: the broker sends them again if it keeps our session.
        self._held.clear()
        self._owed.clear()

    def _end(self, exc: Exception) -> None:
        if self._ended is None:
            self._ended = exc
            self._granted.set()
            self._outbox.fail(exc)

    def _answered(self, session_present: bool) -> None:
        self.session_present = session_present
        self._tell("connected")

    def _arrived(self, message: Message) -> None:
        self.counts["received"] += 1
        if message.dup:
            self.counts["redelivered"] += 1
        # With messages held a later one must not overtake them.
        if self._held or not self._offer(message):
            self._hold(message)
            self._pace()

    def _offer(self, message: Message) -> bool:
        if self._deaf or self._link is None:
            return False
        try:
            taken = self.receive(message)
        except Exception as exc:
            self._fail(exc)
            return False
        if taken is None:
            if message.qos:
                self._owed[message.mid] = message
            return True
        if taken:
            self._link.acknowledge(message)
        return taken

    def _hold(self, message: Message, first: bool = False) -> None:
        if not message.qos:
            self.counts["dropped"] += 1
        elif self._deaf:
            pass  # left to the broker
        elif first:
            self._held.put_back(message)
        else:
            self._held.append(message)

    def _pace(self) -> None:
        """Read while there is room, or while an answer of the broker to us is due behind more messages."""
        if self._link is None:
            return
        due = self.outstanding or not self._granted.is_set()
        if not self._held or (due and not self._held.full):
            self._link.read_on()
        else:
            self._link.read_no_more()

    def _published(self, mid: int) -> None:
        self._outbox.done(mid)
        if self._held:
            self._pace()

    def _tell(self, state: str) -> None:
        if self.on_state is not None:
            try:
                self.on_state(state)
            except Exception as exc:
                self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        # Not raised here: this is called from within paho, and out of `resume` into the receiver's own code.
        self._deaf = True
        self._fault = self._fault or exc
        self._faulty.set()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault
