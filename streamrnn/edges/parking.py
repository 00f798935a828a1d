"""Parking: the streams of keys that a pipeline has no room for, until an event of theirs comes again.

Each is a file, numbered as they come, see `parked`. What is parked belongs to the state of the pipeline: its
checkpoints say which number each key has, so that a restart goes on from the one it would have gone on from.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamrnn.edges import statefile
from streamrnn.edges.disk import Disk, words
from streamrnn.edges.parked import Files
from streamrnn.edges.statefile import Manifest, Unreadable, decode
from streamrnn.errors import StateError
from streamrnn.learn.saved import Arrays, decode_text, encode_text

log = logging.getLogger(__name__)

KEYS, NUMBERS, NEXT = "parked.keys", "parked.numbers", "parked.next"  # arrays in a checkpoint
COMPLAINT_S = 60.0


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

    def forget(self, key: str) -> bool:
        """See `Parking.forget`."""
        return self._streams.pop(key, None) is not None

    def __contains__(self, key: str) -> bool:
        return key in self._streams


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
    files
        Its files.
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
        self.keys_max = keys_max
        self.counts: Counter[str] = Counter()
        self.files = Files(disk, pipeline, self._complain)
        self._about = (pipeline, fingerprint, version)
        self._now = now
        self._numbers: OrderedDict[str, int] = OrderedDict()  # by key, the one parked longest first
        self._next = 0
        self._generations: list[frozenset[int]] = []  # the numbers in the two newest checkpoints
        self._needed: frozenset[int] = frozenset()  # of the numbers below `_below`
        self._below = 0
        self._complained = -COMPLAINT_S

    def __contains__(self, key: str) -> bool:
        return key in self._numbers

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
            self.files.write(number, data)
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
        name = self.files.name(number)
        try:
            arrays = decode(self.files.read(number)).arrays
        except FileNotFoundError as error:
            self._lost(f"{name}: {words(error)}")
        except OSError as error:
            self._lost(f"{name}: cannot be read: {words(error)}; {self.files.move_aside(number)}")
        except Unreadable as error:
            self._lost(f"{name}: {error}; {self.files.move_aside(number)}")
        else:
            self.counts["returned"] += 1
            return arrays
        return None

    def forget(self, key: str) -> bool:
        """Forget the stream of a key, without a look at it; whether there was one."""
        return self._numbers.pop(key, None) is not None

    # Of the store, around checkpoints

    def save(self) -> Arrays:
        """Return which number each key has, for a checkpoint. Between two messages only, on any thread."""
        numbers = np.array(list(self._numbers.values()), np.int64)
        return {KEYS: encode_text(list(self._numbers)), NUMBERS: numbers, NEXT: np.array(self._next)}

    @property
    def fresh_bytes(self) -> int:
        """Bytes written since the newest checkpoint."""
        return self.files.fresh_bytes

    def sync(self) -> None:
        """Have the disk take all that is parked, on any thread: a checkpoint that names it is written next.

        Raises
        ------
        OSError
            The disk failed or is full.
        """
        self.files.sync()

    def checkpointed(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """A checkpoint with what `save` returned is on the disk."""
        self._generations = [*self._generations[-1:], frozenset(arrays[NUMBERS].tolist())]
        self._needed = frozenset(self._numbers.values()).union(*self._generations)
        self._below = self._next
        self.files.fresh_bytes = 0

    def release(self) -> None:
        """Remove files that neither the pipeline nor a checkpoint needs, and what was set aside beyond its ceiling.

        On any thread.
        """
        try:
            self.files.release(self._below, self._needed)
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
        self.files.set_all_aside()

    def _lost(self, why: str) -> None:
        self.counts["parked_lost"] += 1
        self._complain(f"{why}; its key begins anew")

    def _complain(self, why: str) -> None:
        """Say it, at most once a minute."""
        if time.monotonic() - self._complained >= COMPLAINT_S:
            self._complained = time.monotonic()
            log.error("%s: %s", self._about[0], why)
