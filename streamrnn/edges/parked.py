"""The files of the parked streams of a pipeline: written when the disk takes them, synced, removed or moved aside.

Which key has which of them is in `parking`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Set
from contextlib import suppress

from streamrnn.edges import statefile
from streamrnn.edges.disk import Disk, set_aside, tidy_aside, words

FOLDER = "parked"
WAITING_BYTES_MAX = 16 << 20  # of files that the disk does not take at present

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


class Files:
    """The files of one pipeline, by number. `sync` and `release` may be called on another thread than the rest.

    Parameters
    ----------
    disk
        The state directory, or another.
    pipeline
        Its name.
    complain
        Called with what is to be told of the disk.

    Attributes
    ----------
    fresh_bytes
        Written since whoever reads it set it to 0.
    """

    def __init__(self, disk: Disk, pipeline: str, complain: Callable[[str], None]) -> None:
        self.disk = disk
        self.fresh_bytes = 0
        self._pipeline = pipeline
        self._complain = complain
        self._lock = threading.Lock()  # over what is written and what waits
        self._unsynced: list[int] = []
        self._unread: set[int] = set()  # those that could not be read, nor be moved aside
        self._waiting: dict[int, bytes] = {}  # what the disk did not take, by number
        self._waiting_bytes = 0

    def name(self, number: int) -> str:
        """Return the name of a file below the state directory."""
        return name_of(self._pipeline, number)

    def write(self, number: int, data: bytes) -> None:
        """Write a file, or have it wait until the disk takes it.

        Raises
        ------
        OSError
            It waits.
        """
        with self._lock:
            self._wait(number, data)
            self._write_waiting()

    def read(self, number: int) -> bytes:
        """Return what was written.

        Raises
        ------
        OSError
            It cannot be read.
        """
        data = self._waiting.get(number)
        return self.disk.read(self.name(number)) if data is None else data

    def move_aside(self, number: int) -> str:
        """Move a file aside that cannot be read; return what became of it, in words."""
        self._unread.add(number)
        try:
            return f"moved to {self._set_aside(number)}"
        except OSError as error:
            return f"it could not be moved: {words(error)}"  # `release` will

    def sync(self) -> None:
        """Have the disk take all that was written, on any thread.

        Raises
        ------
        OSError
            The disk failed or is full.
        """
        with self._lock:
            self._write_waiting()
            numbers, self._unsynced = self._unsynced, []
        for place, number in enumerate(numbers):
            try:
                file = self.disk.open(self.name(number))
                try:
                    file.sync()
                finally:
                    file.close()
            except FileNotFoundError:
                continue  # released meanwhile
            except OSError:
                # After a sync that failed nothing is known of what the disk has of it: it is written anew.
                with self._lock:
                    self._unsynced = numbers[place:] + self._unsynced
                    self._wait(number, self.disk.read(self.name(number)))
                raise
        if numbers:
            try:
                self.disk.sync_folder(f"{FOLDER}/{self._pipeline}")
            except OSError:
                with self._lock:
                    self._unsynced = numbers + self._unsynced
                raise

    def release(self, below: int, needed: Set[int]) -> None:
        """Remove the files of numbers `below` one that are not `needed`, on any thread.

        Raises
        ------
        OSError
            One could not be removed.
        """
        for number in listed(self.disk, self._pipeline):
            if number < below and number not in needed and number not in self._waiting:
                if number in self._unread:
                    self._set_aside(number)
                else:
                    self.disk.remove(self.name(number))
        tidy_aside(self.disk)

    def set_all_aside(self) -> None:
        """Move all files aside.

        Raises
        ------
        OSError
            One could not be moved.
        """
        for number in listed(self.disk, self._pipeline):
            set_aside(self.disk, self.name(number))

    def _wait(self, number: int, data: bytes) -> None:
        self._waiting[number] = data
        self._waiting_bytes += len(data)
        while self._waiting_bytes > WAITING_BYTES_MAX and len(self._waiting) > 1:
            oldest = next(iter(self._waiting))
            self._waiting_bytes -= len(self._waiting.pop(oldest))
            self._complain("the disk takes no streams: the oldest that waits is lost, its key will begin anew")

    def _write_waiting(self) -> None:
        for number, data in list(self._waiting.items()):
            self.disk.make_folder(f"{FOLDER}/{self._pipeline}")
            with suppress(FileNotFoundError):  # of a process before, which may not have written all of it
                self.disk.remove(self.name(number))
            file = self.disk.create(self.name(number))
            try:
                statefile.put(file, 0, data)
            finally:
                file.close()
            self._unsynced.append(number)
            self.fresh_bytes += len(data)
            del self._waiting[number]
            self._waiting_bytes -= len(data)

    def _set_aside(self, number: int) -> str:
        name = set_aside(self.disk, self.name(number))
        self._unread.discard(number)
        return name
