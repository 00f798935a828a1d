"""A file that has its name only once it is whole: what a command was asked to write is all there, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from streamrnn.errors import StreamrnnError, UsageError


class NewFile:
    """A file being written, whose faults are told by the name it will have."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream = stream
        self._path = path

    def write(self, content: bytes) -> None:
        """Add to the file."""
        try:
            self._stream.write(content)
        except OSError as error:
            raise StreamrnnError(f"{self._path}: writing failed: {error.strerror or error}") from error


@contextmanager
def new_file(path: str | Path, reserve: int = 0) -> Iterator[NewFile]:
    """Open a file for writing that grows as `<path>.part`, which is removed if the block fails.

    Parameters
    ----------
    path
        Its name when the block has ended. An older file of that name stays until then.
    reserve
        Bytes taken from the disk at once, so that a full one shows before the work and not after it.

    Raises
    ------
    UsageError
        A place which cannot be written to.
    StreamrnnError
        The disk failed or filled up.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a directory")
    part = path.with_name(path.name + ".part")
    try:
        stream = part.open("wb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        if reserve:
            with _told_by(path):
                stream.write(bytes(reserve))
                stream.flush()
                stream.seek(0)
        yield NewFile(stream, path)
        with _told_by(path):
            if reserve:
                stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            os.replace(part, path)
    except BaseException:
        with suppress(OSError):  # what could not be written is not wanted any more
            stream.close()
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _told_by(path: Path) -> Iterator[None]:
    """Tell faults of the disk by the final name of the file."""
    try:
        yield
    except OSError as error:
        raise StreamrnnError(f"{path}: writing failed: {error.strerror or error}") from error
