"""The state directory on a real disk, and that the fake one of other tests is like it."""

from __future__ import annotations

import errno
import os
import random
import stat
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_disk import PAGE, Crash, FakeDisk, Fault
from simulation import CONFIG, FINGERPRINTS

from streamrnn.build import build_pipelines
from streamrnn.edges import disk as disk_module
from streamrnn.edges.disk import StateFolder, set_aside, tidy_aside
from streamrnn.edges.journal import Journal
from streamrnn.edges.recovery import recover
from streamrnn.edges.store import Store
from streamrnn.events import Message


@pytest.fixture(params=["real", "fake"])
def disk(request, tmp_path):
    return StateFolder(tmp_path) if request.param == "real" else FakeDisk()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_may_read_what_is_made(tmp_path):
    disk = StateFolder(tmp_path)
    before = os.umask(0)
    try:
        disk.make_folder("a/b/c")
        disk.create("a/b/c/file").close()
    finally:
        os.umask(before)
    assert [0o700, 0o700, 0o700] == [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")]
    assert 0o600 == mode(tmp_path / "a/b/c/file")


def test_files_are_written_cut_and_read(disk):
    disk.make_folder("x/y")
    disk.make_folder("x/y")
    file = disk.create("x/y/f")
    assert 5 == file.write_at(0, b"hello")
    assert 2 == file.write_at(7, memoryview(b"!!"))
    file.sync()
    file.close()
    disk.sync_folder("x/y")
    assert b"hello\0\0!!" == disk.read("x/y/f")
    file = disk.open("x/y/f")
    file.truncate(3)
    file.close()
    assert (b"hel", 3) == (disk.read("x/y/f"), disk.size("x/y/f"))
    disk.sync_folder("")


def test_what_is_reserved_reads_as_zeros(disk):
    file = disk.create("f")
    file.reserve(10_000)
    file.write_at(2, b"ab")
    file.close()
    assert b"\0\0ab" + bytes(9996) == disk.read("f")


def test_a_file_system_that_cannot_reserve_is_enough(tmp_path, monkeypatch):
    def unable(descriptor, offset, size):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unable)
    disk = StateFolder(tmp_path)
    file = disk.create("f")
    file.reserve(100)
    file.close()
    assert bytes(100) == disk.read("f")


def test_a_full_file_system_is_said_when_room_is_reserved(tmp_path, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    file = StateFolder(tmp_path).create("f")
    with pytest.raises(OSError, match="No space left"):
        file.reserve(100)
    file.close()


def test_names_are_listed_in_order(disk):
    assert [] == disk.names("nothing")
    disk.make_folder("x")
    for name in "cab":
        disk.create(f"x/{name}").close()
    disk.rename("x/c", "x/d")
    disk.remove("x/a")
    assert ["b", "d"] == disk.names("x")
    disk.rename("x/d", "x/b")
    assert ["b"] == disk.names("x")


def test_a_name_that_is_taken_is_not_created_again(disk):
    disk.create("f").close()
    with pytest.raises(FileExistsError):
        disk.create("f")


@pytest.mark.parametrize("operation", ["open", "read", "size", "remove"])
def test_a_file_that_is_not_there_is_an_error(disk, operation):
    with pytest.raises(FileNotFoundError):
        getattr(disk, operation)("f")


def test_what_is_set_aside_keeps_its_name_and_overwrites_nothing(disk):
    disk.make_folder("journal")
    for content in b"1", b"2", b"3":
        file = disk.create("journal/f")
        file.write_at(0, content)
        file.close()
        set_aside(disk, "journal/f")
    assert [] == disk.names("journal")
    assert ["f", "f.1", "f.2"] == disk.names("set-aside/journal")
    assert b"2" == disk.read("set-aside/journal/f.1")


def test_beyond_a_size_what_was_set_aside_longest_ago_is_removed(disk, monkeypatch, caplog):
    monkeypatch.setattr(disk_module, "ASIDE_BYTES_MAX", 30)
    for name in ("journal/9", "checkpoints/a/5", "parked/b/7", "journal/1", "checkpoints/a/5"):
        disk.make_folder(name.rpartition("/")[0])
        file = disk.create(name)
        file.write_at(0, bytes(10))
        file.close()
        set_aside(disk, name)
        time.sleep(0.02)  # two of the same time would be in the order of their names
    tidy_aside(disk)
    kept = ["set-aside/parked/b/7", "set-aside/journal/1", "set-aside/checkpoints/a/5.1"]
    assert kept == disk.oldest_first("set-aside")
    assert 2 == caplog.text.count("removed, since more was set aside")
    tidy_aside(disk)
    assert kept == disk.oldest_first("set-aside")


@pytest.mark.parametrize("writable", [True, False])
def test_a_start_removes_what_was_set_aside_first_and_goes_on_where_it_cannot(writable, monkeypatch, caplog):
    monkeypatch.setattr(disk_module, "ASIDE_BYTES_MAX", 15)
    disk = FakeDisk()
    for name in "ba":
        file = disk.create(name)
        file.write_at(0, bytes(10))
        file.close()
        set_aside(disk, name)
    disk.faults = [] if writable else [Fault(errno.EROFS, kinds=("remove",))]
    opened = Store(disk, build_pipelines(CONFIG), FINGERPRINTS)
    assert recover(opened)
    assert (["a"] if writable else ["a", "b"]) == disk.names("set-aside")
    told = "set-aside/b: removed" if writable else "what was set aside cannot be tidied: read-only file system"
    assert told in caplog.text


@contextmanager
def unwritable_folder():
    """A folder in which we may not write, even where the tests run as root."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o555)
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)
            os.chmod(name, 0o700)


@pytest.mark.parametrize("durability", ["process", "second", "power"])
def test_a_directory_that_cannot_be_written_is_a_fault_and_no_exception(durability):
    with unwritable_folder() as root:
        journal = Journal(StateFolder(root), durability)
        journal.begin(0)
        assert 0 == journal.append(Message("room", b"1", qos=1))
        journal.mark("machine", 1)
        journal.session_lost()
        journal.sync()
        assert "permission denied" == journal.fault
        assert not journal.retry()
        assert (1, 0, 0) == (journal.next, journal.kept, journal.safe)
        journal.release(1)
        journal.close()


# The fake disk


def written(disk: FakeDisk, name: str, content: bytes, sync: bool) -> None:
    file = disk.create(name)
    file.write_at(0, content)
    if sync:
        file.sync()
    file.close()


def outcomes(prepare) -> set[tuple[tuple[str, bytes], ...]]:
    found = set()
    for seed in range(200):
        disk = FakeDisk(random.Random(seed))
        prepare(disk)
        disk.crash()
        found.add(tuple((name, disk.read(name)) for name in disk.names("")))
    return found


def test_what_is_synced_outlives_a_loss_of_power():
    def prepare(disk):
        written(disk, "f", b"x" * 3, sync=True)
        disk.sync_folder("")

    assert {(("f", b"xxx"),)} == outcomes(prepare)


def test_pages_and_names_that_are_not_synced_may_be_lost_or_not():
    def prepare(disk):
        written(disk, "f", b"a" * PAGE + b"b", sync=True)
        disk.sync_folder("")
        file = disk.open("f")
        file.write_at(0, b"c" * PAGE + b"d")
        file.close()
        written(disk, "g", b"", sync=True)

    contents = [
        first + second for first in (b"a" * PAGE, b"c" * PAGE) for second in b"bd" for second in [bytes([second])]
    ]
    assert {
        names for content in contents for names in ((("f", content),), (("f", content), ("g", b"")))
    } == outcomes(prepare)


def test_a_cut_that_is_not_synced_may_not_have_been():
    def prepare(disk):
        written(disk, "f", b"abc", sync=True)
        disk.sync_folder("")
        file = disk.open("f")
        file.truncate(1)
        file.close()

    assert {(("f", b"abc"),), (("f", b"a"),), (("f", b"a\0\0"),)} >= outcomes(prepare) > {(("f", b"abc"),)}


def test_a_rename_that_is_not_synced_may_not_have_been():
    def prepare(disk):
        written(disk, "old", b"1", sync=True)
        disk.sync_folder("")
        disk.rename("old", "new")

    assert {(("old", b"1"),), (("new", b"1"),)} == outcomes(prepare)


def test_pages_of_a_failed_sync_are_lost_though_the_next_one_succeeds():
    def prepare(disk):
        written(disk, "f", b"1", sync=True)
        disk.sync_folder("")
        file = disk.open("f")
        file.write_at(0, b"2")
        disk.fault = errno.EIO
        with pytest.raises(OSError, match="Input/output error"):
            file.sync()
        disk.fault = None
        file.sync()
        file.close()

    assert {(("f", b"1"),), (("f", b"2"),)} == outcomes(prepare)


def test_the_death_of_the_process_loses_nothing():
    disk = FakeDisk()
    written(disk, "f", b"1", sync=False)
    disk.crash(power=False)
    assert b"1" == disk.read("f")


def test_a_full_fake_disk_takes_what_fits_and_is_well_when_there_is_more_room():
    disk = FakeDisk(capacity=5)
    file = disk.create("f")
    assert 3 == file.write_at(0, b"abc")
    assert 2 == file.write_at(3, b"def")
    with pytest.raises(OSError, match="No space left"):
        file.write_at(5, b"f")
    disk.capacity = 6
    assert 1 == file.write_at(5, b"f")
    disk.remove("f")
    disk.create("g").reserve(6)


def test_faults_come_when_they_are_due():
    disk = FakeDisk()
    disk.faults = [Fault(errno.EIO, 1, 3, ("write",))]
    disk.short = {4: 1}
    file = disk.create("f")
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            file.write_at(0, b"abc")
    assert [3, 1, 3] == [file.write_at(0, b"abc") for _ in range(3)]


@pytest.mark.parametrize(("when", "content"), [("crash_before", b""), ("crash_after", b"a")])
def test_a_dead_process_does_nothing_more(when, content):
    disk = FakeDisk()
    file = disk.create("f")
    setattr(disk, when, 1)
    with pytest.raises(Crash):
        file.write_at(0, b"a")
    with pytest.raises(Crash):
        file.write_at(0, b"b")
    disk.crash(power=False)
    assert content == disk.read("f")


def test_names_in_a_folder_are_asked_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    (tmp_path / "folder").mkdir()
    StateFolder(tmp_path).sync_folder("folder")
    assert [str(tmp_path / "folder")] == synced
