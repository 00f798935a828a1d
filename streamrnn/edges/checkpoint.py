"""Checkpoints: the state of a pipeline in a file that is whole and verified, or is not used. Two generations are
kept.

A file is safetensors (its manifest in the metadata), which has no checksum of its own, and behind it a trailer: a
CRC 32 of each megabyte, and of the trailer itself. It is written from the arrays, and arrays are made on what is
read: the library would make two copies. What is in them is the pipeline's business.
"""

from __future__ import annotations

import errno
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from streamrnn.edges.disk import Disk, File, set_aside, words

FORMAT = 1
FOLDER = "checkpoints"
SUFFIX = ".checkpoint"
PART = ".part"
GENERATIONS = 2
BLOCK = 1 << 20

_NAME = re.compile(r"([0-9]{20})\.checkpoint")
_LOST = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)  # the disk has the file, and cannot read all of it
_LENGTH = struct.Struct("<Q")
_END = struct.Struct("<8sIQI")  # magic, blocks, bytes before the trailer, CRC 32 of the trailer up to here
_MAGIC = b"streamrn"
_KINDS = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float32": "F32", "float64": "F64",
}  # fmt: skip
_TYPES = {kind: np.dtype(name) for name, kind in _KINDS.items()}
_Size = Annotated[int, Meta(ge=0, lt=1 << 48)]


class Manifest(msgspec.Struct, frozen=True):
    """What a checkpoint is of."""

    format: int
    pipeline: str
    fingerprint: str  # of what gives the arrays their meaning
    position: int  # number of the first message that is not in it
    count: int  # messages in it
    chain: int  # CRC 32 carried on over their payloads
    written: float  # epoch seconds
    version: str  # of the program


class Loaded(msgspec.Struct, frozen=True):
    """A good checkpoint."""

    manifest: Manifest
    arrays: dict[str, NDArray[Any]]  # cannot be written to: all of them are in the bytes of the file


class Found(msgspec.Struct, frozen=True):
    """What there is to go on from."""

    loaded: Loaded | None
    older: int  # position of the generation before, that of the loaded one if there is none
    problems: list[str]  # a line for each file that is not used
    damaged: bool  # whether one of them should have been


class Entry(msgspec.Struct, frozen=True):
    """Where in a file an array is, as safetensors has it."""

    dtype: str
    shape: tuple[_Size, ...]
    data_offsets: tuple[_Size, _Size]  # bytes from the end of the head: its first, and behind its last


class Unreadable(Exception):  # noqa: N818
    """Why a file is no good checkpoint, with the bytes it is about."""


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
            size = _write(file, manifest, arrays)
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


def load(disk: Disk, name: str) -> Loaded:
    """Return the checkpoint in a file.

    Raises
    ------
    Unreadable
        It is damaged; the message has the first bytes that are.
    OSError
        The disk cannot be read.
    """
    try:
        data = disk.read(name)
    except OSError as error:
        if error.errno in _LOST:
            raise Unreadable(f"cannot be read: {words(error)}") from error
        raise
    size = _verified(data)
    try:
        (length,) = _LENGTH.unpack_from(data)
        start = _LENGTH.size + length
        head = msgspec.json.decode(data[_LENGTH.size : start], type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(head.pop("__metadata__"), type=dict[str, str])
        manifest = msgspec.json.decode(metadata["manifest"], type=Manifest)
        content = memoryview(data)[start:size]
        arrays = {name: _array(content, msgspec.json.decode(raw, type=Entry)) for name, raw in head.items()}
    except (msgspec.MsgspecError, LookupError, ValueError, RecursionError) as error:
        raise Unreadable(f"its checksums are right, but it is no checkpoint ({error})") from error
    return Loaded(manifest, arrays)


def _array(content: memoryview, entry: Entry) -> NDArray[Any]:
    first, behind = entry.data_offsets
    return np.frombuffer(content[first:behind], _TYPES[entry.dtype]).reshape(entry.shape)


def _verified(data: bytes) -> int:
    """Return the size of what is before the trailer, when every checksum is right."""
    start = len(data) - _END.size
    magic, blocks, size, checksum = _END.unpack_from(data, start) if start >= 0 else (b"", 0, 0, 0)
    start -= 4 * blocks
    if magic != _MAGIC or start != size or blocks != -(-size // BLOCK):
        raise Unreadable(f"bytes {max(len(data) - _END.size, 0)} to {len(data)} are not the end of a checkpoint")
    if zlib.crc32(memoryview(data)[start:-4]) != checksum:
        raise Unreadable(f"bytes {start} to {len(data)} are damaged")
    for block, expected in enumerate(struct.unpack_from(f"<{blocks}I", data, start)):
        first, behind = block * BLOCK, min(size, (block + 1) * BLOCK)
        if zlib.crc32(memoryview(data)[first:behind]) != expected:
            raise Unreadable(f"bytes {first} to {behind} are damaged")
    return int(size)


def _write(file: File, manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> int:
    offset, checksums = 0, []
    checksum, room = 0, BLOCK
    for piece in _pieces(manifest, arrays):
        at = 0
        while at < len(piece):
            chunk = piece[at : at + room]
            _put(file, offset, chunk)
            checksum = zlib.crc32(chunk, checksum)
            at, offset, room = at + len(chunk), offset + len(chunk), room - len(chunk)
            if not room:
                checksums.append(checksum)
                checksum, room = 0, BLOCK
    if room < BLOCK:
        checksums.append(checksum)
    trailer = struct.pack(f"<{len(checksums)}I", *checksums)
    trailer += _END.pack(_MAGIC, len(checksums), offset, 0)[:-4]
    trailer += zlib.crc32(trailer).to_bytes(4, "little")
    _put(file, offset, memoryview(trailer))
    return offset + len(trailer)


def _pieces(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> Iterator[memoryview]:
    """Yield the bytes of a safetensors file: not from the library, which would put all of it together in memory."""
    ordered = [(name, np.require(array, requirements="C")) for name, array in arrays.items()]
    # Larger numbers first, as the library has it: so every array begins where its kind may.
    ordered.sort(key=lambda each: -each[1].itemsize)
    head: dict[str, Entry | dict[str, str]] = {"__metadata__": {"manifest": msgspec.json.encode(manifest).decode()}}
    offset = 0
    for name, array in ordered:
        behind = offset + array.nbytes
        head[name] = Entry(_KINDS[array.dtype.name], array.shape, (offset, behind))
        offset = behind
    text = msgspec.json.encode(head)
    text += b" " * (-len(text) % 8)
    yield memoryview(_LENGTH.pack(len(text)) + text)
    for _, array in ordered:
        if array.size:
            yield array.reshape(-1).view(np.uint8).data


def _put(file: File, offset: int, data: memoryview) -> None:
    """Write all of `data`. What is written short is gone on with: only that says why, on a full disk."""
    while data:
        written = file.write_at(offset, data)
        if not written:
            raise OSError(errno.EIO, "nothing could be written")
        offset, data = offset + written, data[written:]
