"""Store: what a service keeps across its ends, in the journal and in checkpoints. Reading both back is `recovery`.

Synchronous and without MQTT: the service drives it, and tests drive it over a disk and a broker of their own. What
is in a pipeline's state is the pipeline's business.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from streamrnn import __version__
from streamrnn.edges import checkpoint
from streamrnn.edges.account import Account
from streamrnn.edges.disk import Disk, words
from streamrnn.edges.journal import Durability, Journal
from streamrnn.edges.parking import Parking
from streamrnn.edges.processing import Processing, Unwatched
from streamrnn.edges.redelivery import REMEMBERED_MAX, Redelivery
from streamrnn.edges.statefile import FORMAT, Manifest
from streamrnn.errors import StateError
from streamrnn.events import Message, Output
from streamrnn.learn.saved import Arrays
from streamrnn.pipeline import Pipeline
from streamrnn.requests import Reply, take

log = logging.getLogger(__name__)

PARKED_MAX = 1000  # keys, where nothing else is said
JOURNAL_BYTES_MAX = 64 << 20  # then a checkpoint is due, however few events a pipeline had
PARKED_BYTES_MAX = 64 << 20  # likewise, of streams parked since the newest checkpoint


class Copy(msgspec.Struct, frozen=True):
    """The state of a pipeline between two messages, to be written."""

    manifest: Manifest
    arrays: Arrays


class Store:
    """What a service keeps.

    Parameters
    ----------
    disk
        The state directory.
    pipelines
        By name, fresh.
    fingerprints
        Of each pipeline, what gives its saved state a meaning.
    durability
        When a message counts as kept, see `Journal`.
    every
        Messages of a pipeline from one checkpoint to the next.
    processing
        Told which message is being processed.
    parked_max
        Of each pipeline, keys whose streams are kept when there is no room for them.
    now
        Epoch seconds, for what is written down of a checkpoint.

    Attributes
    ----------
    accounts
        How far each pipeline is, by name.
    journal
        Of all messages taken.
    tails
        After recovery, of each pipeline: messages it has not answered, or whose answers the broker may not have.
    left_out
        Numbers of messages that nobody answers, since they killed the process.
    counts
        redelivered, recovered, quarantined, set_aside, journal_damaged, checkpoints, checkpoint_failed;
        checkpoint_bytes, of the newest.
    """

    def __init__(
        self,
        disk: Disk,
        pipelines: Mapping[str, Pipeline[Any]],
        fingerprints: Mapping[str, str],
        durability: Durability = "second",
        every: int = 50_000,
        processing: Processing | None = None,
        parked_max: Mapping[str, int] = MappingProxyType({}),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.disk = disk
        self.pipelines: dict[str, Pipeline[Any]] = {}
        self.every = every
        self.now = now
        self.processing: Processing = processing or Unwatched()
        self.accounts: dict[str, Account] = {}
        self.parking: dict[str, Parking] = {}
        self.journal = Journal(disk, durability)
        self.memory = Redelivery()
        self.tails: dict[str, list[tuple[int, Message]]] = {}
        self.left_out: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.remembered = REMEMBERED_MAX  # messages the journal goes back, so that a redelivery is recognised
        for name, pipeline in pipelines.items():
            self.add(pipeline, fingerprints[name], parked_max.get(name, PARKED_MAX))

    # Pipelines, which a reload exchanges while no checkpoint is written

    def add(self, pipeline: Pipeline[Any], fingerprint: str, parked_max: int) -> None:
        """Keep a fresh pipeline, instead of the one of its name if there is one."""
        name = pipeline.name
        self.pipelines[name] = pipeline
        self.accounts[name] = Account(name, fingerprint)
        self.tails[name] = []
        self.parking[name] = Parking(self.disk, name, fingerprint, __version__, parked_max, self.now)
        pipeline.parking = self.parking[name]

    def exchange(self, pipeline: Pipeline[Any], parked_max: int) -> None:
        """Keep a pipeline that goes on with the state of the one of its name."""
        self.pipelines[pipeline.name] = pipeline
        pipeline.parking = self.parking[pipeline.name]
        self.parking[pipeline.name].keys_max = parked_max

    def remove(self, name: str) -> None:
        """Keep a pipeline no more. What the disk has of it stays there."""
        del self.pipelines[name], self.accounts[name], self.parking[name]
        self.tails.pop(name, None)

    def begin(self) -> None:
        """Give every pipeline that is new its first checkpoint, after recovery: the journal before is not for it.

        Raises
        ------
        StateError
            It cannot be written. Without it the next start would not know from where on the journal is for it.
        """
        for name, account in self.accounts.items():
            if account.saved[0] < 0:
                copy = self.copier(name, idle=not self.tails[name])()
                try:
                    self.write(copy)
                except OSError as error:
                    raise StateError(f"state: {name}: no first checkpoint: {words(error)}") from error
                self.written(copy)

    # As messages come

    @property
    def safe(self) -> int:
        """Messages below this number may be acknowledged."""
        return self.journal.safe

    @property
    def fault(self) -> str | None:
        """Why nothing can be kept at present, in a few words."""
        return self.journal.fault

    def known(self, message: Message) -> int | None:
        """Return the number of a message that was delivered before and is in the journal already, else None."""
        number = self.memory.known(message)
        if number is not None:
            self.counts["redelivered"] += 1
        return number

    def append(self, message: Message, names: Collection[str]) -> int:
        """Journal a message for the pipelines of these names; return its number. See `safe` for when it is kept."""
        number = self.journal.append(message)
        self.memory.note(message, number)
        for name in names:
            self.accounts[name].noted += 1
        return number

    def session_lost(self) -> None:
        """The broker does not know us any more: its packet ids begin anew."""
        self.memory.forget()
        self.journal.session_lost()

    def answers(self, pipeline: Pipeline[Any], number: int, message: Message) -> Iterator[Output | Reply]:
        """Have a pipeline take a message of the journal, and note that it is done with it."""
        if number in self.left_out:
            self.accounts[pipeline.name].done(number, None)
            return
        self.processing.begin(number)
        yield from take(pipeline, message)
        self.processing.end()
        self.accounts[pipeline.name].done(number, message)

    def sent(self, name: str, number: int) -> None:
        """Note that the broker has the outputs of all messages of a pipeline below `number`."""
        account = self.accounts[name]
        if number > account.sent:
            account.sent = number
            self.journal.mark(name, number)

    # Checkpoints

    def due(self, name: str) -> bool:
        """Whether a pipeline should have a new checkpoint."""
        account, journal = self.accounts[name], self.journal
        if journal.fault is not None or journal.kept < journal.next:
            return False
        if account.behind >= self.every or account.saved[0] < journal.gap_end:
            return True
        if self.parking[name].fresh_bytes > PARKED_BYTES_MAX:
            return True
        needed = account.needed(journal.next)
        return needed < journal.next and needed == self._needed() and journal.size > JOURNAL_BYTES_MAX

    def copier(self, name: str, idle: bool) -> Callable[[], Copy]:
        """Return what copies the state of a pipeline that is between two messages; `idle` when none waits for it.

        To be called on any thread, before the pipeline takes another message: with much state it takes a while.
        """
        account = self.accounts[name]
        position = self.journal.next if idle else account.position
        manifest = Manifest(
            format=FORMAT,
            pipeline=name,
            fingerprint=account.fingerprint,
            position=position,
            count=account.count,
            chain=account.chain,
            written=self.now(),
            version=__version__,
        )
        pipeline, parking = self.pipelines[name], self.parking[name]
        return lambda: Copy(manifest, pipeline.save() | parking.save())

    def write(self, copy: Copy) -> None:
        """Write a copy, on any thread. The outputs of the messages in it must be with the broker, and marked so.

        Raises
        ------
        OSError
            The disk failed or is full; what was there before still is.
        """
        journal = self.journal
        journal.sync()  # a checkpoint that outlives what it was made of would be counted twice
        if (journal.kept if journal.durability == "process" else journal.durable) < copy.manifest.position:
            raise OSError(None, journal.fault or "the journal cannot be written")
        self.parking[copy.manifest.pipeline].sync()
        self.counts["checkpoint_bytes"] = checkpoint.write(self.disk, copy.manifest, copy.arrays)

    def written(self, copy: Copy) -> None:
        """Note that a copy is on the disk."""
        manifest = copy.manifest
        self.counts["checkpoints"] += 1
        self.accounts[manifest.pipeline].checkpointed(manifest.position, manifest.count)
        self.parking[manifest.pipeline].checkpointed(copy.arrays)

    def release(self) -> None:
        """Let go of files that nothing needs any more, on any thread: it waits for the disk."""
        for parking in list(self.parking.values()):
            parking.release()
        self.journal.release(min(self._needed(), self.journal.next - self.remembered))

    def checkpoint_failed(self, name: str, error: OSError) -> None:
        """Note that a copy could not be written."""
        self.counts["checkpoint_failed"] += 1
        log.error(
            "%s: no checkpoint: %s; the one before is good, and the journal has what came since", name, words(error)
        )

    def status(self) -> str:
        """Return in a line what is kept, and what went wrong."""
        told = self.journal.counts + self.counts
        for parking in self.parking.values():
            told += parking.counts
        parts = [f"{self.journal.next} messages", f"{self.journal.size >> 10} KiB of journal"]
        parts += [f"{count} {name}" for name, count in told.items() if count]
        if self.fault is not None:
            parts.append(f"not keeping: {self.fault}")
        return ", ".join(parts)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

    def _needed(self) -> int:
        """Return the first message of the journal that a restart may need."""
        return min(account.needed(self.journal.next) for account in list(self.accounts.values()))
