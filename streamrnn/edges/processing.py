"""Which event is being processed, kept where the death of the process does not reach it.

An event that kills the process would kill it again at every start, since the journal has it. Here the next start
finds its number, and after the second death in a row it is left out. It does not say what the event is: the journal
does.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Protocol

NAME = "processing"  # of the file in the state directory
DEATHS_MAX = 2  # in a row over one event, then it is not tried again

_SLOT = struct.Struct("<QII")  # number of the event, whether it is being processed, deaths over it before
SIZE = _SLOT.size


class Processing(Protocol):
    """Told around the processing of every event."""

    suspect: int
    deaths: int

    def begin(self, number: int) -> None: ...
    def end(self) -> None: ...


class Unwatched:
    """Where nothing can be written: no event is suspected."""

    suspect = -1
    deaths = 0

    def begin(self, number: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Watched:
    """A slot in a mapped file. The kernel has what is written there, whatever becomes of the process.

    Parameters
    ----------
    slot
        Of `SIZE` bytes, those of the process before.

    Attributes
    ----------
    suspect
        Number of the event that was being processed when the process died last; -1 for none.
    deaths
        How many times in a row it has died over that event.

    Examples
    --------
    >>> slot = bytearray(SIZE)
    >>> for start in range(3):  # and die each time over event 7
    ...     processing = Watched(slot)
    ...     print(processing.suspect, processing.deaths)
    ...     processing.begin(7)
    -1 0
    7 1
    7 2
    """

    def __init__(self, slot: mmap.mmap | bytearray) -> None:
        self._slot = slot
        number, active, deaths = _SLOT.unpack_from(slot)
        self.suspect: int = number if active else -1
        self.deaths: int = deaths + 1 if active else 0

    def begin(self, number: int) -> None:
        """Say that this event is being processed."""
        _SLOT.pack_into(self._slot, 0, number, 1, self.deaths if number == self.suspect else 0)

    def end(self) -> None:
        """Say that it is not any more, and nobody died of it."""
        _SLOT.pack_into(self._slot, 0, 0, 0, 0)


def mapped(path: Path) -> mmap.mmap:
    """Return the slot in a file, made when it is not there.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size != SIZE:
            # Written, not only made longer: a page without a place on a full disk would kill us later.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, bytes(SIZE), 0)
        return mmap.mmap(descriptor, SIZE)
    finally:
        os.close(descriptor)
