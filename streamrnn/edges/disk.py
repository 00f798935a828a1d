"""The state directory as few operations: what journal and checkpoints ask of a disk, so that tests can put in
another.

Names are relative to the directory. Every operation raises the OSError of the system; what follows from it is
decided by who asked.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

log = logging.getLogger(__name__)

ASIDE: Final = "set-aside"
ASIDE_BYTES_MAX: Final = 1 << 30


class File(Protocol):
    """A file open for writing."""

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """Write at an offset in bytes; return how many were, which may be fewer."""
        ...

    def reserve(self, size: int) -> None:
        """Make sure that so many bytes find room, and read as zeros until they are written."""
        ...

    def truncate(self, size: int) -> None:
        """Cut to a size in bytes."""
        ...

    def sync(self) -> None:
        """Return when the disk has what was written."""
        ...

    def close(self) -> None:
        """Close; nothing is synced by it."""
        ...


class Disk(Protocol):
    """A directory, and folders in it."""

    def make_folder(self, name: str) -> None:
        """Make a folder and those above it, where they are not there. The disk has them when it returns."""
        ...

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none when there is no such folder."""
        ...

    def oldest_first(self, folder: str) -> list[str]:
        """Names of all files in a folder and below, in the order in which they were made, or moved there."""
        ...

    def create(self, name: str) -> File:
        """Make a new file; FileExistsError when the name is taken."""
        ...

    def open(self, name: str) -> File:
        """Open a file that is there."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file."""
        ...

    def size(self, name: str) -> int:
        """Size of a file in bytes."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of any file of that name."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...

    def sync_folder(self, name: str) -> None:
        """Return when the disk has the names in a folder."""
        ...


class StateFile:
    """A real file."""

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, flags | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """See `File`."""
        return os.pwrite(self._descriptor, data, offset)

    def reserve(self, size: int) -> None:
        """See `File`."""
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # what a file system says that cannot do it
                raise
            os.ftruncate(self._descriptor, size)

    def truncate(self, size: int) -> None:
        """See `File`."""
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """See `File`."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """See `File`."""
        os.close(self._descriptor)


class StateFolder:
    """A real directory. Only its owner can read what is made in it.

    Parameters
    ----------
    root
        Must be there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def make_folder(self, name: str) -> None:
        """See `Disk`."""
        above, _, own = name.rpartition("/")
        if (self.root / name).is_dir():
            return
        if above:
            self.make_folder(above)
        if own:
            with suppress(FileExistsError):
                (self.root / name).mkdir(mode=0o700)
            self.sync_folder(above)

    def names(self, folder: str) -> list[str]:
        """See `Disk`."""
        try:
            return sorted(os.listdir(self.root / folder))
        except FileNotFoundError:
            return []

    def oldest_first(self, folder: str) -> list[str]:
        """See `Disk`."""
        found = [Path(above, each) for above, _, names in os.walk(self.root / folder) for each in names]
        found.sort(key=lambda path: (path.stat().st_ctime_ns, path))  # a move changes that, and no other time
        return [str(path.relative_to(self.root)) for path in found]

    def create(self, name: str) -> File:
        """See `Disk`."""
        return StateFile(self.root / name, os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> File:
        """See `Disk`."""
        return StateFile(self.root / name, 0)

    def read(self, name: str) -> bytes:
        """See `Disk`."""
        return (self.root / name).read_bytes()

    def size(self, name: str) -> int:
        """See `Disk`."""
        return (self.root / name).stat().st_size

    def rename(self, old: str, new: str) -> None:
        """See `Disk`."""
        os.replace(self.root / old, self.root / new)

    def remove(self, name: str) -> None:
        """See `Disk`."""
        os.unlink(self.root / name)

    def sync_folder(self, name: str) -> None:
        """See `Disk`."""
        descriptor = os.open(self.root / name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def tidy_aside(disk: Disk) -> None:
    """Remove from ``set-aside/`` what was moved there longest ago, until no more is there than may be.

    Raises
    ------
    OSError
        A file could not be removed.
    """
    sizes = {name: disk.size(name) for name in disk.oldest_first(ASIDE)}
    total = sum(sizes.values())
    for name, size in sizes.items():
        if total <= ASIDE_BYTES_MAX:
            break
        disk.remove(name)
        total -= size
        log.warning("state: %s: removed, since more was set aside than %d MiB", name, ASIDE_BYTES_MAX >> 20)


def set_aside(disk: Disk, name: str) -> str:
    """Move a file that is of no use any more to ``set-aside/``, where it keeps its name; return what it is now.

    Nothing there is ever overwritten: when the name is taken, a number is put behind it.

    Raises
    ------
    OSError
        It could not be moved.
    """
    folder, _, own = name.rpartition("/")
    aside = f"{ASIDE}/{folder}".rstrip("/")
    disk.make_folder(aside)
    taken = set(disk.names(aside))
    free = next(each for n in range(len(taken) + 1) if (each := f"{own}.{n}" if n else own) not in taken)
    disk.rename(name, f"{aside}/{free}")
    disk.sync_folder(aside)  # first where it is now: a crash in between leaves it under two names, not none
    disk.sync_folder(folder)
    return f"{aside}/{free}"


def write_private(path: Path, content: bytes) -> None:
    """Write a small file that only its owner can read; after a crash it is the old one or the new one, whole.

    Raises
    ------
    OSError
        It could not be written.
    """
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.replace(part, path)


def words(error: OSError) -> str:
    """Return what the system says of a fault, in its few words."""
    return (error.strerror or str(error)).lower()
