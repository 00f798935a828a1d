"""Arrays in a file that is whole and verified, or is not used: how checkpoints and parked streams are written.

A file is safetensors (its manifest in the metadata), which has no checksum of its own, and behind it a trailer: a
CRC 32 of each megabyte, and of the trailer itself. It is written from the arrays, and arrays are made on what is
read: the library would make two copies. What is in them is the pipeline's business.
"""

from __future__ import annotations

import errno
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from streamrnn.edges.disk import Disk, File, words

FORMAT = 1
BLOCK = 1 << 20
TOGETHER = 1 << 16  # bytes up to which small arrays are written at once: most have some hundred

_LOST = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)  # the disk has the file, and cannot read all of it
_LENGTH = struct.Struct("<Q")
_END = struct.Struct("<8sIQI")  # magic, blocks, bytes before the trailer, CRC 32 of the trailer up to here
_MAGIC = b"streamrn"
_KINDS = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float32": "F32", "float64": "F64",
}  # fmt: skip
_TYPES = {kind: np.dtype(name) for name, kind in _KINDS.items()}
_NAMES = {kind: name for name, kind in _TYPES.items()}  # a dtype is slow to say its name
_Size = Annotated[int, Meta(ge=0, lt=1 << 48)]


class Manifest(msgspec.Struct, frozen=True):
    """What arrays are of."""

    format: int
    pipeline: str
    fingerprint: str  # of what gives the arrays their meaning
    position: int  # number of the first message that is not in it
    count: int  # messages in it
    chain: int  # CRC 32 carried on over their payloads
    written: float  # epoch seconds
    version: str  # of the program


class Loaded(msgspec.Struct, frozen=True):
    """What was in a good file."""

    manifest: Manifest
    arrays: dict[str, NDArray[Any]]  # cannot be written to: all of them are in the bytes of the file


class Entry(msgspec.Struct, frozen=True):
    """Where in a file an array is, as safetensors has it."""

    dtype: str
    shape: tuple[_Size, ...]
    data_offsets: tuple[_Size, _Size]  # bytes from the end of the head: its first, and behind its last


class Unreadable(Exception):  # noqa: N818
    """Why a file is no good checkpoint, with the bytes it is about."""


def write(file: File, manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Write arrays into an empty file; return its size in bytes.

    Raises
    ------
    OSError
        The disk failed or is full.
    """
    offset = 0
    for chunk in _chunks(manifest, arrays):
        put(file, offset, chunk)
        offset += len(chunk)
    return offset


def encode(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return what `write` would write."""
    return b"".join(_chunks(manifest, arrays))


def put(file: File, offset: int, data: bytes | memoryview) -> None:
    """Write all of `data`. What is written short is gone on with: only that says why, on a full disk.

    Raises
    ------
    OSError
        The disk failed or is full.
    """
    left = memoryview(data)
    while left:
        written = file.write_at(offset, left)
        if not written:
            raise OSError(errno.EIO, "nothing could be written")
        offset, left = offset + written, left[written:]


def load(disk: Disk, name: str) -> Loaded:
    """Return what is in a file.

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
    return decode(data)


def decode(data: bytes) -> Loaded:
    """Return what the bytes of a file hold.

    Raises
    ------
    Unreadable
        They are damaged; the message has the first that are.
    """
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


def _chunks(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> Iterator[memoryview]:
    """Yield the bytes of a file, in pieces that end where a checksum does."""
    size, checksums = 0, []
    checksum, room = 0, BLOCK
    for piece in _pieces(manifest, arrays):
        at = 0
        while at < len(piece):
            chunk = piece[at : at + room]
            yield chunk
            checksum = zlib.crc32(chunk, checksum)
            at, size, room = at + len(chunk), size + len(chunk), room - len(chunk)
            if not room:
                checksums.append(checksum)
                checksum, room = 0, BLOCK
    if room < BLOCK:
        checksums.append(checksum)
    trailer = struct.pack(f"<{len(checksums)}I", *checksums)
    trailer += _END.pack(_MAGIC, len(checksums), size, 0)[:-4]
    yield memoryview(trailer + zlib.crc32(trailer).to_bytes(4, "little"))


def _pieces(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> Iterator[memoryview]:
    """Yield the bytes of a safetensors file: not from the library, which would put all of it together in memory."""
    ordered = [
        (name, array if array.flags.c_contiguous else array.copy(order="C")) for name, array in arrays.items()
    ]
    # Larger numbers first, as the library has it: so every array begins where its kind may.
    ordered.sort(key=lambda each: -each[1].itemsize)
    head: dict[str, Entry | dict[str, str]] = {"__metadata__": {"manifest": msgspec.json.encode(manifest).decode()}}
    offset = 0
    for name, array in ordered:
        behind = offset + array.nbytes
        head[name] = Entry(_NAMES[array.dtype], array.shape, (offset, behind))
        offset = behind
    text = msgspec.json.encode(head)
    text += b" " * (-len(text) % 8)
    together = bytearray(_LENGTH.pack(len(text)) + text)
    for _, array in ordered:
        if array.nbytes > TOGETHER:
            yield memoryview(together)
            together = bytearray()
            yield array.reshape(-1).view(np.uint8).data
        else:
            together += array.tobytes()
            if len(together) > TOGETHER:
                yield memoryview(together)
                together = bytearray()
    yield memoryview(together)
