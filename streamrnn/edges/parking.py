"""Parking: the streams of keys that a pipeline has no room for, until an event of theirs comes again.

Each is a file, numbered as they come. What is parked belongs to the state of the pipeline: its checkpoints say
which number each key has, so that a restart goes on from the one it would have gone on from.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamrnn.edges import statefile
from streamrnn.edges.disk import Disk, set_aside, tidy_aside, words
from streamrnn.edges.statefile import Manifest, Unreadable, decode
from streamrnn.errors import StateError
from streamrnn.learn.saved import Arrays, decode_text, encode_text

log = logging.getLogger(__name__)

FOLDER = "parked"
KEYS, NUMBERS, NEXT = "parked.keys", "parked.numbers", "parked.next"  # arrays in a checkpoint
WAITING_BYTES_MAX = 16 << 20  # of files that the disk does not take at present
COMPLAINT_S = 60.0

_NAME = re.compile(r"([0-9]{20})\.stream")


def name_of(pipeline: str, number: int) -> str:
    """Return the name of a parked stream below the state directory.

    Examples
    --------
    >>> name_of("machine", 12)
    'parked/machine/00000000000000000012.stream'
    """
    return f"{FOLDER}/{pipeline}/{number:020d}.stream"


def listed(disk: Disk, pipeline: str) -> list[int]:
    """Return the numbers of the streams of a pipeline that have a file, ascending."""
    names = disk.names(f"{FOLDER}/{pipeline}")
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def numbers_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Return which number each parked key has in a checkpoint, the one parked longest first.

    Raises
    ------
    StateError
        It is not what `Parking.save` returned.
    """
    if KEYS not in arrays:  # made without
        return {}
    keys, numbers = decode_text(KEYS, arrays[KEYS]), arrays.get(NUMBERS)
    if numbers is None or numbers.shape != (len(keys),) or arrays.get(NEXT, numbers[:0]).shape != ():
        raise StateError(f"{NUMBERS}: expected one for each of {len(keys)} keys, and the next")
    return dict(zip(keys, numbers.tolist(), strict=True))


class Remembered:
    """Parked streams in memory, for a replay: it answers as a service with a state directory does."""

    def __init__(self, keys_max: int) -> None:
        self.keys_max = keys_max
        self._streams: OrderedDict[str, Mapping[str, NDArray[Any]]] = OrderedDict()

    def park(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """See `Parking.park`."""
        self._streams[key] = arrays
        if len(self._streams) > self.keys_max:
            self._streams.popitem(last=False)

    def unpark(self, key: str) -> Mapping[str, NDArray[Any]] | None:
        """See `Parking.unpark`."""
        return self._streams.pop(key, None)


class Parking:
    """The parked streams of one pipeline.

    Parameters
    ----------
    disk
        The state directory, or another.
    pipeline, fingerprint, version
        What files say of themselves.
    keys_max
        Beyond that the one parked longest is forgotten.
    now
        Epoch seconds, for what files say of themselves.

    Attributes
    ----------
    counts
        parked, returned, parked_forgotten (beyond `keys_max`), parked_lost (not written, or not to be read).
    fresh_bytes
        Written since the newest checkpoint.
    """

    def __init__(
        self,
        disk: Disk,
        pipeline: str,
        fingerprint: str,
        version: str,
        keys_max: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.disk = disk
        self.keys_max = keys_max
        self.counts: Counter[str] = Counter()
        self.fresh_bytes = 0
        self._folder = f"{FOLDER}/{pipeline}"
        self._about = (pipeline, fingerprint, version)
        self._now = now
        self._numbers: OrderedDict[str, int] = OrderedDict()  # by key, the one parked longest first
        self._next = 0
        self._files = threading.Lock()  # what is written and what waits: `sync` is on another thread than `park`
        self._unsynced: list[int] = []
        self._unread: set[int] = set()  # files that could not be read, nor be moved aside
        self._waiting: dict[int, bytes] = {}  # what the disk did not take, by number
        self._waiting_bytes = 0
        self._generations: list[frozenset[int]] = []  # the numbers in the two newest checkpoints
        self._needed: frozenset[int] = frozenset()  # of the numbers below `_below`
        self._below = 0
        self._complained = -COMPLAINT_S

    def __len__(self) -> int:
        return len(self._numbers)

    # Of the pipeline, as events come

    def park(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the stream of a key. A disk that does not take it is tried again, and bounds what waits for that."""
        number = self._next
        self._next += 1
        pipeline, fingerprint, version = self._about
        manifest = Manifest(
            format=statefile.FORMAT,
            pipeline=pipeline,
            fingerprint=fingerprint,
            position=number,
            count=0,
            chain=0,
            written=self._now(),
            version=version,
        )
        self._numbers[key] = number
        data = statefile.encode(manifest, arrays)
        self.counts["parked"] += 1
        if len(self._numbers) > self.keys_max:
            self._numbers.popitem(last=False)
            self.counts["parked_forgotten"] += 1
        try:
            with self._files:
                self._wait(number, data)
                self._write_waiting()
        except OSError as error:
            self._complain(f"a stream cannot be parked: {words(error)}; it is tried again")

    def unpark(self, key: str) -> Mapping[str, NDArray[Any]] | None:
        """Return the stream of a key and let go of it; None when there is none, or it cannot be read.

        A file that cannot be read is moved aside, for it may be readable later. Its key is not given what is in it
        then: that has begun anew.
        """
        number = self._numbers.pop(key, None)
        if number is None:
            return None
        try:
            data = self._waiting.get(number)
            arrays = decode(self.disk.read(self._name(number)) if data is None else data).arrays
        except FileNotFoundError as error:
            self._lost(f"{self._name(number)}: {words(error)}")
        except OSError as error:
            self._lost(f"{self._name(number)}: cannot be read: {words(error)}; {self._move_aside(number)}")
        except Unreadable as error:
            self._lost(f"{self._name(number)}: {error}; {self._move_aside(number)}")
        else:
            self.counts["returned"] += 1
            return arrays
        return None

    # Of the store, around checkpoints

    def save(self) -> Arrays:
        """Return which number each key has, for a checkpoint."""
        numbers = np.array(list(self._numbers.values()), np.int64)
        return {KEYS: encode_text(list(self._numbers)), NUMBERS: numbers, NEXT: np.array(self._next)}

    def sync(self) -> None:
        """Have the disk take all that is parked, on any thread: a checkpoint that names it is written next.

        Raises
        ------
        OSError
            The disk failed or is full.
        """
        with self._files:
            self._write_waiting()
            numbers, self._unsynced = self._unsynced, []
        for place, number in enumerate(numbers):
            try:
                file = self.disk.open(self._name(number))
                try:
                    file.sync()
                finally:
                    file.close()
            except FileNotFoundError:
                continue  # released meanwhile
            except OSError:
                # After a sync that failed nothing is known of what the disk has of it: it is written anew.
                with self._files:
                    self._unsynced = numbers[place:] + self._unsynced
                    self._wait(number, self.disk.read(self._name(number)))
                raise
        if numbers:
            try:
                self.disk.sync_folder(self._folder)
            except OSError:
                with self._files:
                    self._unsynced = numbers + self._unsynced
                raise

    def checkpointed(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """A checkpoint with what `save` returned is on the disk."""
        self._generations = [*self._generations[-1:], frozenset(arrays[NUMBERS].tolist())]
        self._needed = frozenset(self._numbers.values()).union(*self._generations)
        self._below = self._next
        self.fresh_bytes = 0

    def release(self) -> None:
        """Remove files that neither the pipeline nor a checkpoint needs, and what was set aside beyond its ceiling.

        On any thread.
        """
        needed, below = self._needed, self._below
        try:
            for number in listed(self.disk, self._about[0]):
                if number < below and number not in needed and number not in self._waiting:
                    if number in self._unread:
                        self._set_aside(number)
                    else:
                        self.disk.remove(self._name(number))
            tidy_aside(self.disk)
        except OSError as error:
            log.warning("%s: a stream parked before cannot be removed: %s", self._about[0], words(error))

    # At the start

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        StateError
            What it has of parked streams is not what `save` returned.
        """
        self._numbers = OrderedDict(numbers_of(arrays))
        self._next = int(arrays[NEXT]) if NEXT in arrays else 0
        self._generations = [frozenset(self._numbers.values())]
        while len(self._numbers) > self.keys_max:  # the limit may have been lowered
            self._numbers.popitem(last=False)
            self.counts["parked_forgotten"] += 1

    def begin_anew(self) -> None:
        """Move what another model has parked aside.

        Raises
        ------
        OSError
            It could not be moved.
        """
        for number in listed(self.disk, self._about[0]):
            set_aside(self.disk, self._name(number))

    # Its files

    def _name(self, number: int) -> str:
        return name_of(self._about[0], number)

    def _wait(self, number: int, data: bytes) -> None:
        self._waiting[number] = data
        self._waiting_bytes += len(data)
        while self._waiting_bytes > WAITING_BYTES_MAX and len(self._waiting) > 1:
            oldest = next(iter(self._waiting))
            self._waiting_bytes -= len(self._waiting.pop(oldest))
            self._complain("the disk takes no streams: the oldest that waits is lost, its key will begin anew")

    def _write_waiting(self) -> None:
        for number, data in list(self._waiting.items()):
            self.disk.make_folder(self._folder)
            with suppress(FileNotFoundError):  # of a process before, which may not have written all of it
                self.disk.remove(self._name(number))
            file = self.disk.create(self._name(number))
            try:
                statefile.put(file, 0, data)
            finally:
                file.close()
            self._unsynced.append(number)
            self.fresh_bytes += len(data)
            del self._waiting[number]
            self._waiting_bytes -= len(data)

    def _move_aside(self, number: int) -> str:
        """Move a file aside that cannot be read; return what became of it, in words."""
        self._unread.add(number)
        try:
            return f"moved to {self._set_aside(number)}"
        except OSError as error:
            return f"it could not be moved: {words(error)}"  # `release` will

    def _set_aside(self, number: int) -> str:
        name = set_aside(self.disk, self._name(number))
        self._unread.discard(number)
        return name

    def _lost(self, why: str) -> None:
        self.counts["parked_lost"] += 1
        self._complain(f"{why}; its key begins anew")

    def _complain(self, why: str) -> None:
        """Say it, at most once a minute."""
        if time.monotonic() - self._complained >= COMPLAINT_S:
            self._complained = time.monotonic()
            log.error("%s: %s", self._about[0], why)
