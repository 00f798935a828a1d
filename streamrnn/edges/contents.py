"""What is in the state directory of a service that is stopped: to be shown, verified, or moved aside.

Nothing is changed by reading. Going on from it is in `recovery`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import msgspec

from streamrnn.edges import checkpoint, parking, processing, segments
from streamrnn.edges import parked as parked_files
from streamrnn.edges.disk import Disk, set_aside
from streamrnn.edges.frames import Gap, Mark
from streamrnn.edges.recovery import QUARANTINE
from streamrnn.edges.segments import Damage, Reading
from streamrnn.edges.statefile import Loaded, Unreadable, load
from streamrnn.learn.saved import Arrays


class JournalTold(msgspec.Struct, frozen=True):
    """What is in a journal."""

    files: int
    size: int  # bytes
    begins: int  # number of the first message
    next: int  # number after the last message that reads, whatever is damaged before it
    gaps: int  # messages answered, but not kept
    sent: dict[str, int]  # by pipeline: the broker has the outputs of all messages below
    tail: int  # bytes at the end that are no whole message: what a crash leaves
    damages: list[Damage]  # the first of each file that has one

    @property
    def span(self) -> str:
        """Which messages, in words."""
        return f"messages {self.begins} to {self.next - 1}" if self.next > self.begins else "no message"


class Checked(msgspec.Struct, frozen=True):
    """What became of verifying a file, or the whole journal."""

    name: str
    damaged: bool
    told: str

    def __str__(self) -> str:
        return f"{self.name}: {self.told}"


def pipelines(disk: Disk) -> list[str]:
    """Return the names of the pipelines that have checkpoints."""
    found = []
    for name in disk.names(checkpoint.FOLDER):
        with suppress(NotADirectoryError):
            if checkpoint.positions(disk, name):
                found.append(name)
    return found


def generations(disk: Disk, pipeline: str) -> Iterator[tuple[str, Loaded | Unreadable]]:
    """Yield the checkpoints of a pipeline, newest first: name, and what is in it or why that cannot be read.

    Raises
    ------
    OSError
        The disk cannot be read.
    """
    for position in reversed(checkpoint.positions(disk, pipeline)):
        name = checkpoint.name_of(pipeline, position)
        try:
            found: Loaded | Unreadable = load(disk, name)
        except Unreadable as error:
            found = error
        yield name, found


def read_journal(disk: Disk) -> JournalTold:
    """Read the whole journal, also what comes after a damage, which a restart would not use.

    Raises
    ------
    OSError
        The disk cannot be read.
    """
    sent: dict[str, int] = {}
    damages: list[Damage] = []
    gaps, since, begins = 0, 0, None
    while True:
        reading = Reading(disk, since)
        for _, record in reading:
            if isinstance(record, Mark):
                sent[record.pipeline] = record.number
            elif isinstance(record, Gap):
                gaps += record.count
        begins = reading.begins if begins is None else begins
        if reading.damage is None or reading.segment is None:
            break
        damages.append(reading.damage)
        limit = segments.limits(reading.segments)[reading.segments.index(reading.segment)]
        if limit is None:
            break
        since = limit + 1
    size = sum(disk.size(segment.name) for segment in reading.segments)
    return JournalTold(len(reading.segments), size, begins, reading.next, gaps, sent, reading.tail, damages)


def parked(disk: Disk, pipeline: str, loaded: Loaded) -> Iterator[tuple[str, Arrays | Unreadable]]:
    """Yield the keys that a checkpoint has parked, and the stream of each or why it cannot be read.

    Raises
    ------
    OSError
        The disk cannot be read.
    StateError
        The checkpoint is not of a pipeline.
    """
    for key, number in parking.numbers_of(loaded.arrays).items():
        try:
            yield key, load(disk, parked_files.name_of(pipeline, number)).arrays
        except FileNotFoundError:
            yield key, Unreadable("its file is not there: one that could not be read is in set-aside")
        except Unreadable as error:
            yield key, error


def verify(disk: Disk) -> Iterator[Checked]:
    """Read every checkpoint and the journal, and yield what is in each, or its first damaged bytes.

    Of parked streams only those that are damaged: there may be thousands.

    Raises
    ------
    OSError
        The disk cannot be read.
    """
    for pipeline in pipelines(disk):
        for name, found in generations(disk, pipeline):
            damaged = isinstance(found, Unreadable)
            told = f"{found}" if isinstance(found, Unreadable) else f"good, after {found.manifest.count} messages"
            yield Checked(name, damaged, told)
        for number in parked_files.listed(disk, pipeline):
            name = parked_files.name_of(pipeline, number)
            try:
                load(disk, name)
            except Unreadable as error:
                yield Checked(name, True, f"{error}")
    journal = read_journal(disk)
    for damage in journal.damages:
        yield Checked(damage.name, True, f"bytes {damage.start} to {damage.end}: {damage.why}")
    if journal.files and not journal.damages:
        told = f"good, {journal.span}"
        if journal.tail:
            told += f"; then {journal.tail} bytes that are no whole message, as a crash leaves them"
        yield Checked(segments.FOLDER, False, told)


def reset(disk: Disk, pipeline: str | None) -> Iterator[str]:
    """Move what is kept of one pipeline aside, or of all; yield what each file is named now.

    Raises
    ------
    OSError
        A file could not be moved; those before it are.
    """
    for each in pipelines(disk) if pipeline is None else [pipeline]:
        # The older first: what is left when it fails in between is the newer.
        for position in checkpoint.positions(disk, each):
            yield set_aside(disk, checkpoint.name_of(each, position))
        for number in parked_files.listed(disk, each):
            yield set_aside(disk, parked_files.name_of(each, number))
    if pipeline is not None:
        return  # the journal is of the others, too; without a checkpoint a pipeline begins behind it
    for segment in segments.listed(disk):
        yield set_aside(disk, segment.name)
    # Both tell messages by their numbers, which begin anew.
    for name in disk.names(QUARANTINE):
        yield set_aside(disk, f"{QUARANTINE}/{name}")
    if processing.NAME in disk.names(""):
        yield set_aside(disk, processing.NAME)
