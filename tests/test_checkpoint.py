"""Checkpoints: what is read is what was written, whatever became of the file, the disk or the power."""

from __future__ import annotations

import errno
import os
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from fake_disk import Crash, FakeDisk, Fault
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamrnn.edges import checkpoint
from streamrnn.edges.checkpoint import Found, name_of, newest, write
from streamrnn.edges.disk import Disk, StateFolder
from streamrnn.edges.statefile import BLOCK, Loaded, Manifest, Unreadable, load

Arrays = dict[str, np.ndarray]
KINDS = ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
FOLDER = "checkpoints/pump"
OLD, NEW = name_of("pump", 100), name_of("pump", 200)


@pytest.fixture(params=["real", "fake"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return StateFolder(tmp_path) if request.param == "real" else FakeDisk()


def manifest(position: int, **more: Any) -> Manifest:
    told = {"format": 1, "pipeline": "pump", "fingerprint": "model a", "count": position // 2, "chain": 7}
    return Manifest(**(told | {"position": position, "written": 1.7e9 + position, "version": "0.0"} | more))


def arrays_of(position: int) -> Arrays:
    """Different for each position."""
    return {
        "keys": np.frombuffer(f'["a","b{position}"]'.encode(), np.uint8),
        "theta": np.linspace(position, position + 1, 40, dtype=np.float32),
        "count": np.array(position),
        "none": np.zeros((0, 3)),
        "links": np.arange(6).reshape(3, 2) * position,
        "on": np.array([True, False]),
    }


def put(disk: Disk, *positions: int, **more: Any) -> None:
    for position in positions:
        write(disk, manifest(position, **more), arrays_of(position))


def found(disk: Disk, fingerprint: str = "model a") -> Found:
    return newest(disk, "pump", fingerprint)


def same(expected: Arrays, actual: Arrays) -> bool:
    def told(arrays: Arrays) -> dict[str, Any]:
        return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}

    return told(expected) == told(actual)


def assert_loaded(position: int, loaded: Loaded | None) -> None:
    """It is all of the checkpoint of this position, and no other."""
    assert loaded is not None
    assert manifest(position) == loaded.manifest
    assert same(arrays_of(position), loaded.arrays)


def good(disk: Disk) -> list[int]:
    """The positions of the checkpoints that can be gone on from."""
    positions = []
    for position in checkpoint.positions(disk, "pump"):
        assert_loaded(position, load(disk, name_of("pump", position)))
        positions.append(position)
    return positions


# What was written is read


def test_a_checkpoint_is_read_as_it_was_written(disk):
    size = write(disk, manifest(100), arrays_of(100))
    assert size == disk.size(OLD)
    assert_loaded(100, found(disk).loaded)
    assert (100, [], False) == (found(disk).older, found(disk).problems, found(disk).damaged)
    assert [OLD.rpartition("/")[2]] == disk.names(FOLDER)


def test_there_may_be_none(disk):
    assert Found(None, -1, [], False) == found(disk)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(KINDS).flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0))),
        max_size=6,
    ),
    st.sampled_from("CF"),
)
def test_arrays_of_any_shape_and_kind_are_read_as_they_were_written(arrays: Arrays, order: Any) -> None:
    disk = FakeDisk()
    arrays = {name: np.array(array, order=order) for name, array in arrays.items()}
    write(disk, manifest(1), arrays)
    assert same(arrays, load(disk, name_of("pump", 1)).arrays)


def test_every_kind_of_array_lies_where_its_kind_may_begin():
    disk = FakeDisk()
    write(disk, manifest(1), {kind: np.ones(3, kind) for kind in KINDS})
    arrays = load(disk, name_of("pump", 1)).arrays
    assert set(KINDS) == set(arrays)
    assert all(array.flags.aligned for array in arrays.values())


def test_the_file_without_its_trailer_is_one_that_the_library_reads():
    disk, arrays = FakeDisk(), arrays_of(100) | {"large": np.arange(3 * BLOCK, dtype=np.uint8)}
    write(disk, manifest(100), arrays)
    data = disk.read(OLD)
    trailer = 4 * 4 + 24  # checksums of four blocks, and what tells the trailer
    assert same(arrays, safetensors.numpy.load(data[:-trailer]))
    head = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert manifest(100) == msgspec.json.decode(head["__metadata__"]["manifest"], type=Manifest)


def test_a_file_of_the_library_with_such_a_trailer_is_read():
    disk = FakeDisk()
    put(disk, 100)
    metadata = {"manifest": msgspec.json.encode(manifest(100)).decode()}
    disk.damage(OLD, sealed(safetensors.numpy.save(arrays_of(100), metadata)))
    assert_loaded(100, found(disk).loaded)


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("parts", [1, 7])
def test_blocks_are_verified_whatever_pieces_they_were_written_in(size, parts):
    head = write(FakeDisk(), manifest(1), {}) - 4 - 24
    disk, content = FakeDisk(), np.random.default_rng(size).integers(0, 255, size - head, np.uint8)
    arrays = {f"{part}": piece for part, piece in enumerate(np.array_split(content, parts))}
    write(disk, manifest(1), arrays)
    assert same(arrays, load(disk, name_of("pump", 1)).arrays)


def test_a_large_checkpoint_is_written_and_read_without_a_second_copy_in_memory(tmp_path):
    disk, arrays = StateFolder(tmp_path), {f"{i}": np.full(1 << 20, i, np.float32) for i in range(4)}  # 16 MB
    tracemalloc.start()
    try:
        write(disk, manifest(1), arrays)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        loaded = load(disk, name_of("pump", 1))
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert same(arrays, loaded.arrays)
    assert written < 1 << 20
    assert 16 << 20 <= read < 17 << 20


# Generations


def test_two_generations_are_kept_and_other_files_left_alone(disk):
    for name in f"{FOLDER}/notes", f"{FOLDER}/7.checkpoint", f"{FOLDER}/{'٣' * 20}.checkpoint":
        disk.make_folder(FOLDER)
        disk.create(name).close()
    before = set(disk.names(FOLDER))
    for position, kept in (100, [100]), (200, [100, 200]), (350, [200, 350]), (351, [350, 351]):
        put(disk, position)
        assert kept == good(disk)
        assert (kept[0], []) == (found(disk).older, found(disk).problems)
    assert before == set(disk.names(FOLDER)) - {f"{350:020d}.checkpoint", f"{351:020d}.checkpoint"}


def test_a_position_that_is_there_already_is_written_again(disk):
    put(disk, 100, 200)
    write(disk, manifest(200, chain=8), arrays_of(300))
    loaded = found(disk).loaded
    assert (8, 300) == (loaded.manifest.chain, loaded.arrays["count"])
    assert [100, 200] == checkpoint.positions(disk, "pump")


def test_each_pipeline_has_its_own(disk):
    put(disk, 100, 200)
    put(disk, 500, 600, 700, pipeline="hall")
    assert [100, 200] == good(disk)
    assert 700 == newest(disk, "hall", "model a").loaded.manifest.position


def test_what_a_crash_left_half_written_is_removed_by_the_next(disk):
    put(disk, 100)
    disk.create(NEW + ".part").close()
    disk.create(f"{FOLDER}/{150:020d}.checkpoint.part").close()
    assert_loaded(100, found(disk).loaded)
    put(disk, 200)
    assert [100, 200] == good(disk)
    assert [name for name in disk.names(FOLDER) if name.endswith(".part")] == []


# Damage


def sealed(body: bytes, magic: bytes = b"streamrn") -> bytes:
    """A file whose checksums are right, whatever is in it."""
    blocks = [body[at : at + BLOCK] for at in range(0, len(body), BLOCK)]
    trailer = b"".join(zlib.crc32(block).to_bytes(4, "little") for block in blocks)
    trailer += magic + len(blocks).to_bytes(4, "little") + len(body).to_bytes(8, "little")
    return body + trailer + zlib.crc32(trailer).to_bytes(4, "little")


def assert_falls_back(disk: FakeDisk, data: bytes) -> str:
    """With this in the newer of two files the older is taken, and the newer set aside; return what is said."""
    put(disk, 100, 200)
    disk.damage(NEW, data)
    result = found(disk)
    assert_loaded(100, result.loaded)
    assert (100, True) == (result.older, result.damaged)
    aside = f"set-aside/{NEW}"
    (said,) = result.problems
    assert said.startswith(f"{NEW}: ")
    assert said.endswith(f"; moved to {aside}")
    assert data == disk.read(aside)
    assert [100] == good(disk)
    return said.removeprefix(f"{NEW}: ").removesuffix(f"; moved to {aside}")


def intact(position: int = 200) -> bytes:
    disk = FakeDisk()
    put(disk, position)
    return disk.read(name_of("pump", position))


def damaged_bytes(said: str) -> range:
    """The range that a message names."""
    word, first, _, behind, *_ = said.split()
    assert word == "bytes"
    return range(int(first), int(behind))


def test_each_byte_that_is_changed_is_noticed_and_its_range_named():
    data = intact()
    for at in range(len(data)):
        for change in 0x01, 0x80, 0xFF:
            changed = bytearray(data)
            changed[at] ^= change
            assert at in damaged_bytes(assert_falls_back(FakeDisk(), bytes(changed)))


def test_each_length_that_a_file_is_cut_to_is_noticed():
    data = intact()
    for length in range(len(data)):
        said = assert_falls_back(FakeDisk(), data[:length])
        assert f"bytes {max(length - 24, 0)} to {length} are not the end of a checkpoint" == said


@pytest.mark.parametrize("more", [b"\0", bytes(24), bytes(4096), b"x"])
def test_bytes_behind_the_end_are_noticed(more):
    assert_falls_back(FakeDisk(), intact() + more)
    assert_falls_back(FakeDisk(), more + intact())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_pages_that_are_lost_or_from_another_file_are_noticed(data):
    whole, other = intact(), intact(300)
    first = data.draw(st.integers(0, len(whole) - 1))
    behind = data.draw(st.integers(first + 1, len(whole)))
    source = data.draw(st.sampled_from([bytes(len(whole)), b"\xff" * len(whole), other, whole[::-1]]))
    mixed = whole[:first] + source[first:behind] + whole[behind:]
    if mixed != whole and mixed != other:
        assert_falls_back(FakeDisk(), mixed)


def test_the_first_damaged_megabyte_is_named():
    disk = FakeDisk()
    put(disk, 100)
    write(disk, manifest(200), {"large": np.zeros(3 * BLOCK, np.uint8)})
    for at in 3 * BLOCK - 5, BLOCK + 5, BLOCK:
        data = bytearray(disk.read(NEW))
        data[at] ^= 4
        disk.damage(NEW, bytes(data))
        with pytest.raises(Unreadable) as noticed:
            load(disk, NEW)
        block = at // BLOCK
        assert f"bytes {block * BLOCK} to {(block + 1) * BLOCK} are damaged" == str(noticed.value)


def test_without_a_good_generation_there_is_none_and_nothing_is_lost():
    disk = FakeDisk()
    put(disk, 100, 200)
    disk.damage(OLD, intact(100)[:-1])
    disk.damage(NEW, b"")
    result = found(disk)
    assert (None, -1, True) == (result.loaded, result.older, result.damaged)
    assert [NEW, OLD] == [said.partition(":")[0] for said in result.problems]
    assert (b"", intact(100)[:-1]) == (disk.read(f"set-aside/{NEW}"), disk.read(f"set-aside/{OLD}"))
    assert Found(None, -1, [], False) == found(disk)


def test_nothing_that_was_set_aside_is_overwritten():
    disk = FakeDisk()
    for times in range(3):
        assert f"set-aside/{NEW}{f'.{times}' if times else ''}" in spoilt(disk, bytes([times]))
    assert [b"\0", b"\1", b"\2"] == [disk.read(f"set-aside/{NEW}{more}") for more in ("", ".1", ".2")]


def spoilt(disk: FakeDisk, data: bytes) -> str:
    put(disk, 200)
    disk.damage(NEW, data)
    return found(disk).problems[0]


# Right checksums, and still no checkpoint


def head_and_content(head: Any, content: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else msgspec.json.encode(head)
    return sealed(len(text).to_bytes(8, "little") + text + content)


METADATA = {"manifest": msgspec.json.encode(manifest(200)).decode()}
HUGE = 2**63


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"__metadata__": METADATA, "a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


STRANGE = {
    "nothing": b"",
    "another magic": sealed(intact()[: -4 - 24], b"streamxx"),
    "no head": sealed(b""),
    "a head that is cut": sealed(b"\x08\0\0\0\0\0\0\0{"),
    "a head beyond the end": sealed((2**64 - 1).to_bytes(8, "little") + b"{}"),
    "no JSON": head_and_content(b"\xff\xfe"),
    "bad UTF-8": head_and_content(b'{"\xff": 1}'),
    "a list": head_and_content([]),
    "a deep list": head_and_content(b"[" * 100_000),
    "a deep value": head_and_content(b'{"a": ' + b"[" * 100_000),
    "no manifest": head_and_content({}),
    "metadata that is a number": head_and_content({"__metadata__": 1}),
    "metadata without a manifest": head_and_content({"__metadata__": {}}),
    "a manifest that is a number": head_and_content({"__metadata__": {"manifest": 1}}),
    "a manifest that is empty": head_and_content({"__metadata__": {"manifest": "{}"}}),
    "an entry that is a number": head_and_content({"__metadata__": METADATA, "a": 1}),
    "an unknown kind": head_and_content(entry("F8"), bytes(8)),
    "a kind that is a number": head_and_content(entry(1), bytes(8)),
    "too few bytes": head_and_content(entry(), bytes(7)),
    "another shape": head_and_content(entry(shape=(3,)), bytes(8)),
    "a negative shape": head_and_content(entry(shape=(-2, -1)), bytes(8)),
    "a huge shape": head_and_content(entry(shape=(HUGE, HUGE)), bytes(8)),
    "a huge shape of nothing": head_and_content(entry(shape=(2**47, 2**47, 0), offsets=(0, 0))),
    "too many dimensions": head_and_content(entry(shape=(1,) * 500, offsets=(0, 4)), bytes(8)),
    "bytes before the first": head_and_content(entry(offsets=(-8, 0)), bytes(8)),
    "bytes behind the last": head_and_content(entry(offsets=(8, 16)), bytes(8)),
    "offsets that go back": head_and_content(entry(offsets=(8, 0)), bytes(8)),
    "huge offsets": head_and_content(entry(offsets=(HUGE, HUGE + 8)), bytes(8)),
    "a fraction": head_and_content(entry(offsets=(0.5, 8.5)), bytes(8)),
}  # fmt: skip


@pytest.mark.parametrize("what", STRANGE)
def test_bytes_that_no_checkpoint_has_are_damage_and_no_exception(what):
    assert_falls_back(FakeDisk(), STRANGE[what])


EDITS = st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), EDITS)
def test_any_bytes_under_right_checksums_are_read_or_are_damage(noise, edits):
    body = bytearray(intact()[: -4 - 24])
    for at, piece in edits:
        body[at % len(body) : at % len(body) + len(piece)] = piece
    for content in noise, bytes(body):
        disk = FakeDisk()
        disk.create("f").close()
        disk.damage("f", sealed(content))
        with suppress(Unreadable):
            load(disk, "f")


# Other models


def test_a_checkpoint_of_another_model_is_set_aside_and_that_is_no_damage(disk):
    put(disk, 100, 200)
    result = found(disk, "model b")
    assert (None, False) == (result.loaded, result.damaged)
    assert [
        f"{name}: is of another model or version; moved to set-aside/{name}" for name in (NEW, OLD)
    ] == result.problems
    assert [] == disk.names(FOLDER)
    put(disk, 300, fingerprint="model b")
    assert 300 == found(disk, "model b").loaded.manifest.position
    for position, name in (100, OLD), (200, NEW):
        assert_loaded(position, load(disk, f"set-aside/{name}"))


def test_an_older_checkpoint_of_this_model_is_gone_on_from_when_the_newer_is_of_another(disk):
    put(disk, 100)
    put(disk, 200, fingerprint="model b")
    assert_loaded(100, found(disk).loaded)


def test_a_checkpoint_of_another_format_is_set_aside(disk):
    put(disk, 100, format=2)
    result = found(disk)
    assert (None, 1, False) == (result.loaded, len(result.problems), result.damaged)


# Crashes


Prepare = Callable[[FakeDisk], None]


def lives(prepare: Prepare, act: Prepare) -> Iterator[FakeDisk]:
    """Disks after a crash before or after each operation of `act`, the power lost or not; the last undisturbed."""

    def prepared(seed: int) -> FakeDisk:
        disk = FakeDisk(random.Random(seed))
        prepare(disk)
        return disk

    disk = prepared(0)
    first = disk.operations
    act(disk)
    for number in range(first, disk.operations):
        for seed in range(24):
            disk = prepared(seed)
            disk.crash_before, disk.crash_after = (number, None) if seed % 2 else (None, number)
            with pytest.raises(Crash):
                act(disk)
            disk.crash(power=seed % 4 < 2)
            yield disk


@pytest.mark.parametrize("older", [0, 1, 2])
def test_after_a_crash_while_writing_there_is_the_old_or_the_new_state_and_the_number_of_generations(older):
    before = [100, 200][:older]
    outcomes = set()
    for disk in lives(lambda disk: put(disk, *before), lambda disk: put(disk, 300)):
        result = found(disk)
        assert [] == result.problems
        outcomes.add(result.loaded.manifest.position if result.loaded else -1)
        assert good(disk)[-2:] in (before, [*before, 300][-2:])
        put(disk, 400)  # and it goes on
        assert 400 == good(disk)[-1]
        assert [] == [name for name in disk.names(FOLDER) if name.endswith(".part")]
    assert {before[-1] if before else -1, 300} == outcomes


def test_a_checkpoint_that_is_written_outlives_a_loss_of_power():
    for seed in range(50):
        disk = FakeDisk(random.Random(seed))
        for count, position in enumerate((100, 200, 300), 1):
            put(disk, position)
            disk.crash()
            assert_loaded(position, found(disk).loaded)
            assert min(count, 2) <= len(good(disk))


def test_a_crash_while_a_damaged_file_is_moved_loses_neither_it_nor_the_older_one():
    def prepare(disk: FakeDisk) -> None:
        put(disk, 100, 200)
        disk.damage(NEW, b"damaged")

    for disk in lives(prepare, found):
        assert_loaded(100, found(disk).loaded)
        aside = disk.names(f"set-aside/{FOLDER}")
        assert b"damaged" in [disk.read(f"set-aside/{FOLDER}/{name}") for name in aside]


# Faults


def contents(disk: FakeDisk) -> dict[str, bytes]:
    return {name: disk.content(f"{FOLDER}/{name}") for name in disk.names(FOLDER)}


def operations_of_a_write() -> range:
    disk = FakeDisk()
    put(disk, 100, 200)
    first = disk.operations
    put(disk, 300)
    return range(first, disk.operations)


def test_on_a_full_disk_the_older_ones_stay_and_nothing_half_written_does():
    needed = len(intact(300))
    for room in range(needed):
        disk = FakeDisk()
        put(disk, 100, 200)
        before, disk.capacity = contents(disk), disk.used + room
        with pytest.raises(OSError, match="No space left"):
            put(disk, 300)
        assert before == contents(disk)
        assert 0 == disk.open_files
        disk.capacity += needed
        put(disk, 300)
        assert [200, 300] == good(disk)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("number", operations_of_a_write())
def test_a_fault_while_writing_is_an_oserror_and_the_older_ones_stay(number, lasting):
    disk = FakeDisk()
    put(disk, 100, 200)
    before = contents(disk)
    disk.faults = [Fault(errno.EIO, number, float("inf") if lasting else number + 1)]
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        put(disk, 300)
    assert 0 == disk.open_files
    assert before.items() <= contents(disk).items()
    assert set(good(disk)) <= {100, 200, 300}
    disk.faults = []
    put(disk, 300)
    assert [200, 300] == good(disk)


@pytest.mark.parametrize("number", operations_of_a_write())
def test_what_is_written_short_is_gone_on_with(number):
    disk = FakeDisk()
    put(disk, 100, 200)
    disk.short = {number: 3}
    put(disk, 300)
    assert [200, 300] == good(disk)


def test_a_disk_that_writes_nothing_and_gives_no_reason_is_a_fault():
    disk = FakeDisk()
    put(disk, 100)
    disk.short = dict.fromkeys(range(1000), 0)
    with pytest.raises(OSError, match="nothing could be written"):
        put(disk, 200)
    assert [100] == good(disk)


class Unreading(FakeDisk):
    """Cannot read one file."""

    def __init__(self, name: str, fault: int) -> None:
        super().__init__()
        self.unread, self.unread_fault = name, fault

    def read(self, name: str) -> bytes:
        if name == self.unread:
            raise self.error(self.unread_fault)
        return super().read(name)


def test_a_file_with_a_sector_that_cannot_be_read_is_a_damaged_one():
    disk = Unreading(NEW, errno.EIO)
    put(disk, 100, 200)
    result = found(disk)
    assert_loaded(100, result.loaded)
    assert [f"{NEW}: cannot be read: input/output error; moved to set-aside/{NEW}"] == result.problems


@pytest.mark.parametrize("fault", [errno.EACCES, errno.EMFILE, errno.ENOMEM])
def test_a_file_that_we_are_not_given_is_not_moved(fault):
    disk = Unreading(NEW, fault)
    put(disk, 100, 200)
    with pytest.raises(OSError, match=os.strerror(fault)):
        found(disk)
    assert [100, 200] == checkpoint.positions(disk, "pump")


def test_on_a_disk_that_cannot_be_written_the_older_one_is_taken_all_the_same():
    disk = FakeDisk()
    put(disk, 100, 200)
    disk.damage(NEW, b"")
    disk.fault = errno.EROFS
    result = found(disk)
    assert_loaded(100, result.loaded)
    assert result.problems[0].endswith("; it could not be moved: read-only file system")


def test_damaged_ones_that_could_not_be_moved_do_not_count_as_generations():
    disk = FakeDisk()
    put(disk, 200, 300)
    for name in NEW, name_of("pump", 300):
        disk.damage(name, b"")
    disk.fault = errno.EROFS
    assert found(disk).loaded is None
    disk.fault = None
    put(disk, 150)
    assert_loaded(150, found(disk).loaded)


def test_on_a_disk_that_cannot_be_written_the_state_of_another_model_is_not_passed_over():
    disk = FakeDisk()
    put(disk, 200)
    disk.fault = errno.EROFS
    with pytest.raises(OSError, match="Read-only"):
        found(disk, "model b")
