"""Upkeep: what a store needs beside the events while the service runs, and the only place that does it on the loop.

Syncing, acknowledgements that wait for it, marks of what the broker has, checkpoints, and healing after a fault.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from streamrnn.edges.mqtt import Connection
from streamrnn.edges.store import Store
from streamrnn.events import Message
from streamrnn.serving.lane import Lane

log = logging.getLogger(__name__)

TICK_S = 1.0
RETRY_S = 60.0  # after a checkpoint could not be written


class Upkeep:
    """Keeps the store of a running service in order.

    Parameters
    ----------
    store
        Recovered.
    lanes, connection
        Of the service; a reload exchanges lanes while it holds `writing`.
    on_fault
        Told when the store's fault changes.
    """

    def __init__(
        self, store: Store, lanes: Sequence[Lane], connection: Connection, on_fault: Callable[[], None]
    ) -> None:
        self.store = store
        self.lanes = lanes
        self.connection = connection
        self.on_fault = on_fault
        self._owed: deque[tuple[int, Message]] = deque()  # journalled, to be acknowledged when that is safe
        self._sync_now = asyncio.Event()
        self._handed: defaultdict[str, deque[tuple[int, int]]] = defaultdict(deque)
        self._fault: str | None = None
        self._not_before = 0.0  # monotonic, of the next checkpoint
        self.writing = asyncio.Lock()  # of a checkpoint

    def take_up(self) -> None:
        """Hand the lanes what was journalled before the last end, and whose outputs the broker may not have."""
        for lane in self.lanes:
            lane.take_up(self.store.tails.pop(lane.pipeline.name, ()))

    def may_acknowledge(self, number: int, message: Message) -> bool:
        """Whether the message of this number is safe; else it is acknowledged when it is."""
        if number < self.store.safe:
            return True
        if message.qos:
            self._owed.append((number, message))
            self._sync_now.set()
        return False

    def acknowledge(self) -> None:
        """Acknowledge what is safe by now. To be called after each sync of the journal: no other may come."""
        owed, safe = self._owed, self.store.safe
        while owed and owed[0][0] < safe:
            self.connection.acknowledge(owed.popleft()[1])
        if owed:
            self._sync_now.set()

    def connection_lost(self) -> None:
        """The broker will deliver again what was not acknowledged."""
        self._owed.clear()

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sync(), name="sync")
            group.create_task(self._tick(), name="upkeep")

    async def finish(self) -> None:
        """Make what a clean end leaves: nothing to acknowledge, and a checkpoint of every pipeline with news."""
        self._mark()
        for lane in list(self.lanes):
            if lane not in self.lanes:
                continue  # a reload took it out while another was written
            name = lane.pipeline.name
            # With messages left, outputs may come that the broker does not take any more: nothing is waited for.
            if not lane.idle.is_set() or self.connection.through < self.connection.issued:
                log.warning(
                    "%s: no last checkpoint, not all is answered or with the broker: the journal has it", name
                )
            elif self.store.accounts[name].behind:
                await self._checkpoint(lane)
        await self._sync_once()

    async def _sync(self) -> None:
        """Have the disk take what was written, many messages at once: those that come meanwhile are the next."""
        journal = self.store.journal
        if journal.durability == "process":
            return
        while True:
            if journal.durability == "power":
                await self._sync_now.wait()
                self._sync_now.clear()
            else:
                await asyncio.sleep(TICK_S)
            if journal.unsynced and journal.fault is None:
                await self._sync_once()

    async def _sync_once(self) -> None:
        await asyncio.to_thread(self.store.journal.sync)
        self.acknowledge()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            journal = self.store.journal
            if journal.fault is not None and await asyncio.to_thread(journal.retry):
                self._sync_now.set()
                self.acknowledge()
                self.connection.resume()
                self._not_before = 0.0
            self._mark()
            if self._fault != self.store.fault:
                self._fault = self.store.fault
                self.on_fault()
            for lane in list(self.lanes):
                if lane not in self.lanes:
                    continue  # a reload took it out while another was written
                if time.monotonic() >= self._not_before and self.store.due(lane.pipeline.name):
                    await self._checkpoint(lane)

    def _mark(self) -> None:
        """Note down of each pipeline up to where the broker has its outputs."""
        connection = self.connection
        for lane in self.lanes:
            name = lane.pipeline.name
            handed = self._handed[name]
            if lane.done > (handed[-1][1] if handed else self.store.accounts[name].sent):
                handed.append((connection.issued, lane.done))
            while handed and handed[0][0] <= connection.through:
                self.store.sent(name, handed.popleft()[1])

    async def _checkpoint(self, lane: Lane) -> None:
        """Copy a pipeline between two messages; write it when the broker has its outputs. Both beside the loop."""
        async with self.writing:
            if lane not in self.lanes:
                return  # a reload was first
            async with lane.held():
                name, issued = lane.pipeline.name, self.connection.issued
                copy = await asyncio.to_thread(self.store.copier(name, idle=not lane.queue))
            await self.connection.acknowledged(issued)
            self.store.sent(name, copy.manifest.position)
            try:
                await asyncio.to_thread(self.store.write, copy)
            except OSError as error:
                self._not_before = time.monotonic() + RETRY_S
                self.store.checkpoint_failed(name, error)
            else:
                self.store.written(copy)
                await asyncio.to_thread(self.store.release)
            self.acknowledge()  # writing has synced the journal, with what came meanwhile
