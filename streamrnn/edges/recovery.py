"""Recovery: the state a service had, from its newest good checkpoints and the journal.

It ends where the journal does. What was answered without the broker having the answers is left to be answered
again.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from streamrnn.edges import checkpoint
from streamrnn.edges.disk import tidy_aside, words
from streamrnn.edges.frames import Gap, Mark, Session
from streamrnn.edges.processing import DEATHS_MAX
from streamrnn.edges.redelivery import checksum
from streamrnn.edges.segments import Reading, cut
from streamrnn.edges.statefile import put
from streamrnn.edges.store import Store
from streamrnn.errors import StateError
from streamrnn.events import Message
from streamrnn.requests import concerns

log = logging.getLogger(__name__)

QUARANTINE = "quarantine"
SAY_S = 5.0


def recover(store: Store, going: Callable[[], bool] = lambda: True) -> bool:
    """Bring the fresh pipelines of a store to where they were; False when `going` said to stop before.

    Raises
    ------
    StateError
        The directory cannot be read, or a good checkpoint does not fit the pipeline of its fingerprint.
    """
    try:
        return _recover(store, going)
    except OSError as error:
        raise StateError(f"state: {words(error)}") from error


def _recover(store: Store, going: Callable[[], bool]) -> bool:
    began = time.monotonic()
    try:
        tidy_aside(store.disk)  # before more is set aside, so that all that this start moves there can be looked at
    except OSError as error:
        log.warning("state: what was set aside cannot be tidied: %s", words(error))
    damaged = {name for name in store.accounts if load(store, name)}
    reading = Reading(store.disk)
    marks = _scan(store, reading)
    following = max([reading.next, *(account.position for account in store.accounts.values())])
    for name, account in store.accounts.items():
        if account.saved[0] < 0:
            # A pipeline that is new, or whose model is, begins now. One whose checkpoints are damaged has the
            # journal.
            account.position = reading.begins if name in damaged else following
        account.sent = max(account.position, min(marks.get(name, 0), following))
    if not _replay(store, going):
        return False
    store.journal.begin(following, reading.next)
    tail = sum(len(messages) for messages in store.tails.values())
    log.info(
        "state: recovered %d messages from the journal in %.1f s; %d more are to be answered",
        store.counts["recovered"], time.monotonic() - began, tail,
    )  # fmt: skip
    return True


def load(store: Store, name: str) -> bool:
    """Restore the newest good checkpoint of a fresh pipeline; whether there was none because of damage.

    Raises
    ------
    StateError
        A good checkpoint does not fit the pipeline of its fingerprint.
    OSError
        The directory cannot be read, or what is not of this pipeline cannot be moved aside.
    """
    account = store.accounts[name]
    found = checkpoint.newest(store.disk, name, account.fingerprint)
    for problem in found.problems:
        store.counts["set_aside"] += 1
        log.error("state: %s", problem)
    if found.loaded is None:
        store.parking[name].begin_anew()
        if found.problems:
            log.error("%s: begins anew: there is no checkpoint to go on from", name)
        return found.damaged
    manifest = found.loaded.manifest
    try:
        store.parking[name].restore(found.loaded.arrays)
        store.pipelines[name].restore(found.loaded.arrays)
    except StateError as error:
        # A version that does not know that it saves otherwise. This start has half a state; the next begins anew.
        checkpoint.set_all_aside(store.disk, name)
        raise StateError(
            f"{name}: its checkpoint does not fit this version ({error}); "
            "moved to set-aside, the next start begins anew"
        ) from error
    account.position, account.chain = manifest.position, manifest.chain
    account.count = account.noted = manifest.count
    account.saved = (manifest.position, manifest.count)
    account.older = (found.older, -1)
    log.info("%s: goes on from its checkpoint after %d messages", name, manifest.count)
    return False


def _scan(store: Store, reading: Reading) -> dict[str, int]:
    """Read the whole journal; return up to where the broker has the outputs, by pipeline.

    What cannot be read behind a damage is moved aside: nothing goes on from there.
    """
    marks: dict[str, int] = {}
    gaps = 0
    for number, record in reading:
        if isinstance(record, Message):
            store.memory.note(record, number)
        elif isinstance(record, Mark):
            marks[record.pipeline] = record.number
        elif isinstance(record, Session):
            store.memory.forget()
        elif isinstance(record, Gap):
            gaps += record.count
    if gaps:
        log.warning("state: %d messages at QoS 0 were answered while nothing could be written, and not kept", gaps)
    if reading.damage is not None:
        store.counts["journal_damaged"] += 1
        log.error("state: %s; going on from message %d", reading.damage, reading.next)
    elif reading.tail:
        log.warning("state: the journal ends in %d bytes that are no whole message", reading.tail)
    try:
        for name in cut(store.disk, reading):
            log.error("state: what came after is in %s", name)
    except OSError as error:
        # Nothing is lost by it: what is written later begins before what should have been cut off.
        log.warning("state: the end of the journal cannot be tidied: %s", words(error))
    return marks


def _replay(store: Store, going: Callable[[], bool]) -> bool:
    """Have the pipelines process what came after their checkpoints; False when told to stop."""
    since = min(account.position for account in store.accounts.values())
    reading = Reading(store.disk, since)
    left_out = set(store.disk.names(QUARANTINE))
    said = time.monotonic()
    for number, record in reading:
        if not isinstance(record, Message):
            continue
        if not going():
            return False
        if number == store.processing.suspect and store.processing.deaths >= DEATHS_MAX:
            left_out.add(quarantine_name(number, record))
            _quarantine(store, number, record)
        if left_out and quarantine_name(number, record) in left_out:
            store.left_out.add(number)
        for account in store.accounts.values():
            pipeline = store.pipelines[account.pipeline]
            if number < account.position or not concerns(pipeline, record):
                continue
            account.noted += 1
            if number < account.sent:
                for _ in store.answers(pipeline, number, record):
                    pass
                store.counts["recovered"] += 1
            else:
                taken = msgspec.structs.replace(record, clock_ns=time.monotonic_ns())
                store.tails[account.pipeline].append((number, taken))
        if time.monotonic() - said >= SAY_S:
            said = time.monotonic()
            log.info("state: recovering, at message %d", number)
    return True


def quarantine_name(number: int, message: Message) -> str:
    """Return the name of the file of a message that is left out.

    Its content is in it: the number may be another message's after a loss of power.

    Examples
    --------
    >>> quarantine_name(7, Message("plant/a", b"21.5"))
    '7-b8b74f2b.json'
    """
    return f"{number}-{checksum(message):08x}.json"


def _quarantine(store: Store, number: int, message: Message) -> None:
    """Put a message that killed the process where a person can look at it; it is not tried again."""
    store.counts["quarantined"] += 1
    name = f"{QUARANTINE}/{quarantine_name(number, message)}"
    content = {
        "number": number,
        "topic": message.topic,
        "payload_base64": base64.b64encode(message.raw).decode(),
        "qos": message.qos,
        "retain": message.retain,
        "arrival": message.arrival,
    }
    log.error("state: message %d on %.100r killed the process twice: left out, see %s", number, message.topic, name)
    try:
        store.disk.make_folder(QUARANTINE)
        with suppress(FileNotFoundError):  # of a start that could not write all of it
            store.disk.remove(name)
        file = store.disk.create(name)
        try:
            put(file, 0, msgspec.json.encode(content))
            file.sync()
        finally:
            file.close()
        store.disk.sync_folder(QUARANTINE)
        store.processing.end()
    except OSError as error:
        log.error("state: %s: %s: it is left out, and not kept for a look at it", name, words(error))
