"""Checkpoints: the state of a pipeline in a file. Two generations are kept, so that damage to one costs nothing.

How a file is written and verified is in `statefile`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from numpy.typing import NDArray

from streamrnn.edges import statefile
from streamrnn.edges.disk import Disk, set_aside, words
from streamrnn.edges.statefile import FORMAT, Loaded, Manifest, Unreadable, load

FOLDER = "checkpoints"
SUFFIX = ".checkpoint"
PART = ".part"
GENERATIONS = 2

_NAME = re.compile(r"([0-9]{20})\.checkpoint")


class Found(msgspec.Struct, frozen=True):
    """What there is to go on from."""

    loaded: Loaded | None
    older: int  # position of the generation before, that of the loaded one if there is none
    problems: list[str]  # a line for each file that is not used
    damaged: bool  # whether one of them should have been


def write(disk: Disk, manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Write a checkpoint, and then let go of all but the two newest. May run beside the event loop.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    OSError
        The disk failed or is full. What was there before still is.
    """
    name = name_of(manifest.pipeline, manifest.position)
    folder = name.rpartition("/")[0]
    disk.make_folder(folder)
    for left in disk.names(folder):
        if left.endswith(PART):
            disk.remove(f"{folder}/{left}")
    file = disk.create(name + PART)
    try:
        try:
            size = statefile.write(file, manifest, arrays)
            file.sync()
        finally:
            file.close()
        disk.rename(name + PART, name)
    except OSError:
        with suppress(OSError):  # it is removed before the next one is written, too
            disk.remove(name + PART)
        raise
    # Only when the disk has the new name may an old one go. Those that stay are good as far as can be known without
    # reading them: each was written and synced by this process, or verified by it at the start, where what is not
    # good is moved away.
    disk.sync_folder(folder)
    until_now = [each for each in positions(disk, manifest.pipeline) if each <= manifest.position]
    for old in until_now[:-GENERATIONS]:
        disk.remove(name_of(manifest.pipeline, old))
    return size


def name_of(pipeline: str, position: int) -> str:
    """Return the name of a checkpoint below the state directory.

    Examples
    --------
    >>> name_of("machine", 1000)
    'checkpoints/machine/00000000000000001000.checkpoint'
    """
    return f"{FOLDER}/{pipeline}/{position:020d}{SUFFIX}"


def positions(disk: Disk, pipeline: str) -> list[int]:
    """Return the positions of a pipeline's checkpoints, ascending; other files are no business of ours."""
    names = disk.names(f"{FOLDER}/{pipeline}")
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def set_all_aside(disk: Disk, pipeline: str) -> None:
    """Move all checkpoints of a pipeline aside.

    Raises
    ------
    OSError
        One could not be moved.
    """
    for position in positions(disk, pipeline):
        set_aside(disk, name_of(pipeline, position))


def newest(disk: Disk, pipeline: str, fingerprint: str) -> Found:
    """Return the newest good checkpoint of a pipeline made with this fingerprint; move newer files aside.

    Raises
    ------
    OSError
        The disk cannot be read, or a good checkpoint of another fingerprint cannot be moved.
    """
    problems: list[str] = []
    damaged = False
    for position in reversed(positions(disk, pipeline)):
        name = name_of(pipeline, position)
        try:
            loaded = load(disk, name)
        except Unreadable as error:
            damaged = True
            try:
                moved = f"moved to {set_aside(disk, name)}"
            except OSError as fault:  # a disk that damages files is often one that cannot be written any more
                moved = f"it could not be moved: {words(fault)}"
            problems.append(f"{name}: {error}; {moved}")
            continue
        if loaded.manifest.fingerprint != fingerprint or loaded.manifest.format != FORMAT:
            problems.append(f"{name}: is of another model or version; moved to {set_aside(disk, name)}")
            continue
        older = [each for each in positions(disk, pipeline) if each < position]
        return Found(loaded, older[-1] if older else position, problems, damaged)
    return Found(None, -1, problems, damaged)
