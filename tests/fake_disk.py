"""A disk in memory that says what it would have after a loss of power, and that fails when and as it is told.

What is durable is explicit: of a file what was synced, of a folder the names that were. All else may be lost in
`FakeDisk.crash`, in pages of 4096 bytes, and name by name. All chance comes from the Random it is given.
"""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass

PAGE = 4096
WRITES = ("make_folder", "create", "write", "reserve", "truncate", "sync", "rename", "remove", "sync_folder")


class Crash(BaseException):
    """The process dies here. Not an Exception: nothing may catch it, and the disk does nothing more."""


@dataclass(frozen=True)
class Fault:
    """An OSError for operations from `first` up to `last`, counted as `FakeDisk.operations` does."""

    errno: int
    first: int = 0
    last: float = float("inf")
    kinds: tuple[str, ...] = WRITES


class Inode:
    """What is in a file, and how it differs from what the disk has of it."""

    __slots__ = ("data", "durable_size", "older")

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable_size = 0
        self.older: dict[int, bytes] = {}  # page to what the disk has of it, where that is something else

    def touch(self, start: int, end: int) -> None:
        """Remember what the disk has of the pages that these bytes are in."""
        if start >= end:
            return
        for page in range(start // PAGE, (end - 1) // PAGE + 1):
            if page not in self.older:
                self.older[page] = bytes(self.data[page * PAGE : (page + 1) * PAGE])

    def resize(self, size: int) -> None:
        self.touch(size, len(self.data))
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))

    def settle(self) -> None:
        self.durable_size = len(self.data)
        self.older.clear()

    def lose(self, rng: random.Random) -> None:
        """Become what a loss of power may leave."""
        size = rng.choice((self.durable_size, len(self.data)))
        kept = rng.choice((0.0, 0.5, 1.0))
        longest = max(size, len(self.data), self.durable_size)
        self.data.extend(bytes(longest - len(self.data)))
        for page in sorted(self.older):
            if rng.random() >= kept:
                start = page * PAGE
                old = self.older[page]
                self.data[start : start + PAGE] = old + bytes(max(0, min(PAGE, longest - start) - len(old)))
        del self.data[size:]
        self.settle()


@dataclass(frozen=True)
class Naming:
    """A name that was given or taken away and may not be on the disk yet."""

    folders: tuple[str, ...]
    taken: str | None
    given: str | None
    inode: Inode | None

    def apply(self, names: dict[str, Inode]) -> None:
        if self.taken is not None:
            names.pop(self.taken, None)
        if self.given is not None and self.inode is not None:
            names[self.given] = self.inode


class FakeFile:
    """An open file of a FakeDisk."""

    def __init__(self, disk: FakeDisk, name: str, inode: Inode) -> None:
        self.disk = disk
        self.name = name
        self.inode = inode
        self.closed = False
        disk.open_files += 1

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        disk, inode = self.disk, self.inode
        most = disk.begin("write", self.name)
        assert not self.closed
        size = len(data) if most is None else min(len(data), most)
        growth = offset + size - len(inode.data)
        if growth > 0:
            growth = min(growth, disk.room())
            size = len(inode.data) + growth - offset
            if size <= 0:
                raise disk.error(errno.ENOSPC)
            inode.resize(len(inode.data) + growth)
            disk.used += growth
        inode.touch(offset, offset + size)
        inode.data[offset : offset + size] = data[:size]
        disk.bytes_written += size
        disk.end()
        return size

    def reserve(self, size: int) -> None:
        self.disk.begin("reserve", self.name)
        assert not self.closed
        growth = size - len(self.inode.data)
        if growth > self.disk.room():
            raise self.disk.error(errno.ENOSPC)
        if growth > 0:
            self.inode.resize(size)
            self.disk.used += growth
        self.disk.end()

    def truncate(self, size: int) -> None:
        self.disk.begin("truncate", self.name)
        assert not self.closed
        self.disk.used += size - len(self.inode.data)
        self.inode.resize(size)
        self.disk.end()

    def sync(self) -> None:
        """As Linux does: after a failure the pages count as clean, and the next sync says nothing of them."""
        assert not self.closed
        try:
            self.disk.begin("sync", self.name)
        except OSError:
            self.disk.dropped.append((self.inode, self.inode.durable_size, dict(self.inode.older)))
            self.inode.settle()
            raise
        for inode, _, older in self.disk.dropped:
            if inode is self.inode:
                for page in inode.older:  # written to again since
                    older.pop(page, None)
        self.inode.settle()
        self.disk.end()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.disk.open_files -= 1


class FakeDisk:
    """A state directory in memory.

    Parameters
    ----------
    rng
        For `nervous` and `crash`.
    capacity
        Bytes that find room; None: any number. Raise it, and the disk is well again.

    Attributes
    ----------
    operations
        Operations so far that change something, whether they failed or not: those in `WRITES`.
    log
        Their kinds and names.
    fault
        An errno with which all of them fail until it is None.
    faults
        Errors for some of them.
    crash_before, crash_after, short
        Numbers of operations: to die before or after; to write only so many bytes in (number to bytes).
    nervous
        Whether it dies, writes less, or fails a sync now and then by itself.
    unreadable
        Names of files that cannot be read.
    open_files
        Not closed.
    """

    def __init__(self, rng: random.Random | None = None, capacity: int | None = None) -> None:
        self.rng = rng or random.Random(0)
        self.capacity = capacity
        self.operations = 0
        self.log: list[tuple[str, str]] = []
        self.fault: int | None = None
        self.faults: list[Fault] = []
        self.crash_before: int | None = None
        self.crash_after: int | None = None
        self.short: dict[int, int] = {}
        self.nervous = False
        self.unreadable: set[str] = set()
        self.open_files = 0
        self.used = 0
        self.bytes_written = 0
        self.dropped: list[tuple[Inode, int, dict[int, bytes]]] = []
        self._dead = False
        self._dies = False
        self._folders = {""}
        self._names: dict[str, Inode] = {}
        self._durable: dict[str, Inode] = {}
        self._pending: list[Naming] = []

    # As `Disk` has it

    def make_folder(self, name: str) -> None:
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in self._folders:
                self.begin("make_folder", folder)
                self._folders.add(folder)  # durable at once
                self.end()

    def names(self, folder: str) -> list[str]:
        start = f"{folder}/" if folder else ""
        return sorted(
            rest for name in self._names if name.startswith(start) and "/" not in (rest := name[len(start) :])
        )

    def oldest_first(self, folder: str) -> list[str]:
        return [
            name for name in self._names if name.startswith(f"{folder}/")
        ]  # a name that moves is put at the end

    def create(self, name: str) -> FakeFile:
        self.begin("create", name)
        if name in self._names:
            raise self.error(errno.EEXIST)
        if _folder(name) not in self._folders:
            raise self.error(errno.ENOENT)
        inode = self._names[name] = Inode()
        self._pending.append(Naming((_folder(name),), None, name, inode))
        self.end()
        return FakeFile(self, name, inode)

    def open(self, name: str) -> FakeFile:
        self._alive()
        if self.fault in (errno.EROFS, errno.EACCES):
            raise self.error(self.fault)
        return FakeFile(self, name, self._inode(name))

    def read(self, name: str) -> bytes:
        self._alive()
        data = bytes(self._inode(name).data)
        if name in self.unreadable:
            raise self.error(errno.EIO)
        return data

    def size(self, name: str) -> int:
        self._alive()
        return len(self._inode(name).data)

    def rename(self, old: str, new: str) -> None:
        self.begin("rename", new)
        inode = self._inode(old)
        if _folder(new) not in self._folders:
            raise self.error(errno.ENOENT)
        replaced = self._names.get(new)
        if replaced is not None:
            self.used -= len(replaced.data)
        del self._names[old]
        self._names[new] = inode
        folders = tuple({_folder(old), _folder(new)})
        self._pending.append(Naming(folders, old, new, inode))
        self.end()

    def remove(self, name: str) -> None:
        self.begin("remove", name)
        self.used -= len(self._inode(name).data)
        del self._names[name]
        self._pending.append(Naming((_folder(name),), name, None, None))
        self.end()

    def sync_folder(self, name: str) -> None:
        name = "" if name == "." else name
        self.begin("sync_folder", name)
        if name not in self._folders:
            raise self.error(errno.ENOENT)
        # As a journalling file system does: what came before in that folder, and all of a move between two.
        left = []
        for each in self._pending:
            if name in each.folders:
                each.apply(self._durable)
            else:
                left.append(each)
        self._pending = left
        self.end()

    # What happens to it

    def crash(self, power: bool = True) -> None:
        """Have the process be dead; with `power`, have what is not durable be lost or not, by chance."""
        self._dead = self._dies = False
        self.crash_before = self.crash_after = None
        self.open_files = 0
        if power:
            self._lose()

    def damage(self, name: str, data: bytes) -> None:
        """Put something else in a file, durably."""
        inode = self._inode(name)
        self.used += len(data) - len(inode.data)
        inode.data[:] = data
        inode.settle()

    def content(self, name: str) -> bytes:
        """What is in a file, whatever fails."""
        return bytes(self._names[name].data)

    def unsynced_pages(self, name: str) -> int:
        """Pages of a file that a loss of power may take."""
        return len(self._names[name].older)

    def _lose(self) -> None:
        rng = self.rng
        # A failed sync leaves pages that look clean, and are not on the disk.
        for inode, size, older in self.dropped:
            inode.durable_size = min(size, inode.durable_size)
            for page, content in older.items():
                inode.older[page] = content
        self.dropped.clear()
        in_order = rng.random() < 0.5
        upto = rng.randint(0, len(self._pending))
        for place, each in enumerate(self._pending):
            if (place < upto) if in_order else rng.random() < 0.5:
                each.apply(self._durable)
        self._pending.clear()
        self._names = dict(self._durable)
        for name in sorted(self._names):
            self._names[name].lose(rng)
        self.used = sum(len(inode.data) for inode in self._names.values())

    # What its files ask

    def begin(self, kind: str, name: str) -> int | None:
        """Begin an operation: fail or die if that is due; return how much a write may write, None for all."""
        self._alive()
        number = self.operations
        self.operations += 1
        self.log.append((kind, name))
        if number == self.crash_before:
            self._die()
        self._dies = number == self.crash_after
        if self.fault is not None:
            raise self.error(self.fault)
        for fault in self.faults:
            if fault.first <= number < fault.last and kind in fault.kinds:
                raise self.error(fault.errno)
        most = self.short.get(number)
        if self.nervous:
            chance = self.rng.random()
            if chance < 0.004:
                self._die()
            self._dies = self._dies or chance < 0.008
            if chance < 0.006:  # in the middle of a write, if it is one
                most = self.rng.randint(0, 100)
            if kind == "sync" and chance > 0.97:
                raise self.error(errno.EIO)
            if kind == "write" and chance > 0.98:
                most = self.rng.randint(0, 100)
        return most

    def end(self) -> None:
        """End an operation that was done."""
        if self._dies:
            self._die()

    def room(self) -> int:
        return 1 << 62 if self.capacity is None else max(0, self.capacity - self.used)

    def error(self, number: int) -> OSError:
        if self._dies:
            self._die()
        return OSError(number, os.strerror(number))

    def _alive(self) -> None:
        if self._dead:
            raise Crash

    def _die(self) -> None:
        self._dead = True
        raise Crash

    def _inode(self, name: str) -> Inode:
        try:
            return self._names[name]
        except KeyError:
            raise self.error(errno.ENOENT) from None


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
