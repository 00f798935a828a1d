"""The journal over disks that fail, fill up, lose what was not synced, and change bytes."""

from __future__ import annotations

import errno
import logging
import random
import stat
import sys
import threading
import time

import pytest
from fake_disk import Crash, FakeDisk, FakeFile, Fault
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrnn.edges import frames
from streamrnn.edges.disk import StateFolder
from streamrnn.edges.frames import Gap, Mark, Session
from streamrnn.edges.journal import Journal
from streamrnn.edges.segments import Reading, cut, name_of
from streamrnn.edges.waiting import Waiting
from streamrnn.events import Message

DURABILITIES = ["process", "second", "power"]
MESSAGES = st.builds(
    Message,
    topic=st.sampled_from(["a", "b/c", "täglich/☃", "x" * 257]) | st.text(max_size=5),
    payload=st.binary(max_size=100),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    dup=st.booleans(),
    mid=st.integers(0, 65535),
    arrival=st.floats(allow_nan=False),
)
RECORDS = (
    MESSAGES | st.just(Session()) | st.builds(Mark, pipeline=st.text(max_size=5), number=st.integers(0, 2**63))
)


def message(i: int, qos: int = 1) -> Message:
    return Message(f"plant/{i % 3}", f"payload {i}".encode(), qos=qos, mid=qos * (i + 1), arrival=1.7e9 + i)


def begun(disk, durability="second", segment_bytes=300) -> Journal:
    journal = Journal(disk, durability, segment_bytes)
    journal.begin(0)
    return journal


def put(journal: Journal, record) -> None:
    if isinstance(record, Message):
        journal.append(record)
    elif isinstance(record, Mark):
        journal.mark(record.pipeline, record.number)
    else:
        journal.session_lost()


def read(disk) -> tuple[list, Reading]:
    reading = Reading(disk)
    return list(reading), reading


def messages(disk) -> list[Message]:
    """All that is read, when it is read to its end, and numbers are right."""
    found, reading = read(disk)
    assert reading.damage is None
    kept = [(number, record) for number, record in found if isinstance(record, Message)]
    assert [number for number, _ in kept] == list(range(reading.begins, reading.next))
    return [record for _, record in kept]


def written(disk, count=14, segment_bytes=300, close=True) -> list:
    """A journal of some segments; returns the records in it with their numbers."""
    journal = begun(disk, segment_bytes=segment_bytes)
    expected = []
    for i in range(count):
        if i % 5 == 2:
            expected.append((i, Mark("machine", i - 1)))
            journal.mark("machine", i - 1)
        if i == 4:
            expected.append((i, Session()))
            journal.session_lost()
        expected.append((i, message(i)))
        journal.append(message(i))
    if close:
        journal.close()
    return expected


def segments(disk) -> list[str]:
    return [f"journal/{name}" for name in disk.names("journal")]


# What is read is what was appended


@settings(deadline=None)
@given(
    records=st.lists(RECORDS, max_size=40),
    segment_bytes=st.integers(1, 2000),
    durability=st.sampled_from(DURABILITIES),
)
def test_what_was_appended_is_read_in_order_with_its_numbers(records, segment_bytes, durability):
    disk = FakeDisk()
    journal = begun(disk, durability, segment_bytes)
    expected, number = [], 0
    for record in records:
        put(journal, record)
        expected.append((number, record))
        number += isinstance(record, Message)
    assert (number, number) == (journal.next, journal.kept)
    journal.close()
    found, reading = read(disk)
    assert expected == found
    assert (number, None, 0) == (reading.next, reading.damage, reading.tail)
    assert 0 == disk.open_files


def test_what_is_in_no_topic_table_is_read_too():
    disk = FakeDisk()
    journal = begun(disk, segment_bytes=4 << 20)
    expected = [Message(f"plant/{i}", b"x") for i in range(frames.TOPICS_MAX + 10)] * 2
    expected.append(Message("x" * (frames.TOPIC_CHARACTERS_MAX + 1), b"long"))
    for each in expected:
        journal.append(each)
    journal.close()
    assert 1 == len(segments(disk))
    assert expected == messages(disk)


def test_a_message_longer_than_a_segment_has_one_of_its_own():
    disk = FakeDisk()
    journal = begun(disk, segment_bytes=100)
    expected = [message(0), Message("big", bytes(5000)), message(1)]
    for each in expected:
        journal.append(each)
    journal.close()
    assert expected == messages(disk)


def test_a_restart_goes_on_in_a_new_segment():
    disk = FakeDisk()
    for start in range(0, 12, 4):
        journal = Journal(disk, "second", 10_000)
        journal.begin(start)
        for i in range(start, start + 4):
            journal.append(message(i))
        disk.crash(power=False)
    assert [name_of(0, 0), name_of(4, 1), name_of(8, 2)] == segments(disk)
    assert [message(i) for i in range(12)] == messages(disk)


def test_a_start_without_messages_leaves_no_segment_in_the_way():
    disk = FakeDisk()
    for _ in range(3):
        journal = Journal(disk, "second", 10_000)
        journal.begin(0)
        journal.session_lost()
        disk.crash(power=False)
    journal = Journal(disk, "second", 10_000)
    journal.begin(0)
    journal.append(message(0))
    assert [(0, Session())] * 3 + [(0, message(0))] == read(disk)[0]


def test_numbers_that_nobody_has_are_a_gap():
    disk = FakeDisk()
    written(disk, 5)
    journal = Journal(disk, "second", 300)
    journal.begin(20, reached=5)
    assert (20, 20, 20) == (journal.next, journal.kept, journal.gap_end)
    assert 20 == journal.append(message(20))
    journal.close()
    found, reading = read(disk)
    assert [(5, Gap(15)), (20, message(20))] == found[-2:]
    assert (21, None) == (reading.next, reading.damage)


def test_an_event_of_64_bytes_costs_at_most_100_with_all_that_is_around_it():
    journal = begun(FakeDisk(), "process", 4 << 20)
    for i in range(100_000):
        journal.append(Message("plant/pump/telemetry", bytes(64), qos=1, mid=i % 65536, arrival=1.7e9))
    assert journal.counts["appended"] == 100_000
    assert journal.counts["written"] <= 100 * 100_000


def test_files_of_a_journal_are_for_their_owner_alone(tmp_path):
    written(StateFolder(tmp_path))
    assert {0o700} == {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "journal").iterdir()}


# Bytes that change, and cuts


def prefix(expected: list, found: list) -> int:
    """How many of the expected records were found; there is nothing else."""
    assert expected[: len(found)] == found
    return len(found)


def flips(content: bytes, rng: random.Random):
    """Every bit of the 9 bytes that a frame begins with, and one of every byte else, the reserve included."""
    starts, offset = set(), 0
    while (behind := frames.extent(content, offset)) is not None:
        starts.update(range(offset, offset + 9))
        offset = behind
    for place in range(len(content)):
        for bit in range(8) if place in starts else [rng.randrange(8)]:
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            yield place, bytes(changed), place < offset


@pytest.mark.parametrize("which", range(3))
def test_every_changed_byte_leaves_the_records_before_it(which):
    disk = FakeDisk()
    expected = written(disk, close=False)
    disk.crash(power=False)
    names = segments(disk)
    assert 3 == len(names)
    content = disk.content(names[which])
    for place, changed, used in flips(content, random.Random(0)):
        disk.damage(names[which], changed)
        found, reading = read(disk)
        count = prefix(expected, found)
        assert names[which] == reading.segment.name or not used
        if not used:  # in what is reserved
            assert count == len(expected)
        elif which < 2:
            assert count < len(expected)
            assert reading.damage.name == names[which]
            assert reading.damage.start <= place < reading.damage.end
            assert names[which + 1 :] == [segment.name for segment in reading.unread]
        else:
            assert reading.offset <= place < reading.offset + reading.tail
            assert reading.unread == []
    disk.damage(names[which], content)
    assert expected == read(disk)[0]


@pytest.mark.parametrize("which", range(3))
def test_every_cut_leaves_the_records_before_it(which):
    disk = FakeDisk()
    expected = written(disk)
    names = segments(disk)
    content = disk.content(names[which])
    counts = set()
    for length in range(len(content)):
        disk.damage(names[which], content[:length])
        found, reading = read(disk)
        counts.add(prefix(expected, found))
        if which < 2:
            assert reading.damage is not None
            assert reading.damage.name == names[which]
        else:  # as a crash leaves it
            assert reading.damage is None
            assert reading.offset + reading.tail == max(reading.offset, len(content[:length].rstrip(b"\0")))
    assert len(counts) >= 4


def test_one_damaged_message_in_the_last_segment_is_no_mere_end():
    disk = FakeDisk()
    written(disk, 8, segment_bytes=10_000)
    (name,) = segments(disk)
    content = disk.content(name)
    place = content.index(b"payload 5")
    disk.damage(name, content.replace(b"payload 5", b"Payload 5"))
    reading = read(disk)[1]
    assert 5 == reading.next
    assert f"{name}: bytes {reading.offset} to {place + 9}: damaged: messages from 5 on are lost" == str(
        reading.damage
    )


def test_a_missing_segment_is_the_end_and_says_what_is_missing():
    disk = FakeDisk()
    written(disk)
    first, middle, last = segments(disk)
    disk.remove(middle)
    reading = read(disk)[1]
    begins = int(last[8:28])
    assert f"messages {reading.next} to {begins - 1} are missing" == reading.damage.why
    assert (first, [last]) == (reading.damage.name, [segment.name for segment in reading.unread])


def test_a_segment_under_another_name_is_not_read():
    disk = FakeDisk()
    written(disk, 5, segment_bytes=10_000)
    disk.rename(name_of(0, 0), name_of(1, 0))
    found, reading = read(disk)
    assert ([], 1, 0) == (found, reading.next, reading.offset)


def test_a_frame_that_stood_somewhere_else_is_not_read():
    disk = FakeDisk()
    written(disk, 8, segment_bytes=10_000)
    (name,) = segments(disk)
    content = disk.content(name)
    offsets = [content.index(b"payload %d" % i) - 22 for i in range(8)]
    third, sixth = (content[offsets[i] : offsets[i] + 31] for i in (3, 6))
    assert sixth.endswith(b"payload 6")
    disk.damage(name, content.replace(third, sixth))
    assert 3 == read(disk)[1].next


def test_a_last_segment_that_was_never_written_is_no_damage():
    disk = FakeDisk()
    expected = written(disk, 5, segment_bytes=10_000)
    file = disk.create(name_of(5, 1))
    file.reserve(1000)
    file.close()
    found, reading = read(disk)
    assert (expected, 5, None, 0) == (found, reading.next, reading.damage, reading.tail)


def test_other_files_in_the_folder_are_left_alone():
    disk = FakeDisk()
    expected = written(disk, 5)
    for name in ("notes.txt", "1-2.journal", "next", "0000000000000000000x-0000.journal"):
        disk.create(f"journal/{name}").close()
    assert expected == read(disk)[0]


def test_only_segments_with_messages_that_matter_are_read():
    disk = FakeDisk()
    written(disk)
    reading = Reading(disk, since=11)
    assert 0 < reading.begins <= 11
    assert (reading.begins, message(reading.begins)) in list(reading)
    assert 14 == reading.next


# The cut at recovery


def test_a_cut_moves_what_is_behind_aside_and_is_durable():
    disk = FakeDisk(random.Random(1))
    written(disk)
    first, middle, last = segments(disk)
    content = disk.content(middle)
    disk.damage(middle, content[:150] + b"?" + content[151:])
    expected, reading = read(disk)
    untouched = disk.content(last)
    assert [f"set-aside/{last}"] == cut(disk, reading)
    for _ in range(20):
        disk.crash()
        assert [first, middle] == segments(disk)
        assert reading.offset == disk.size(middle)
        assert untouched == disk.content(f"set-aside/{last}")
        found, again = read(disk)
        assert (expected, None, 0) == (found, again.damage, again.tail)


def test_what_was_read_after_a_death_is_on_the_disk_when_it_is_cut():
    for seed in range(30):
        disk = FakeDisk(random.Random(seed))
        expected = written(disk, close=False)
        disk.crash(power=False)
        cut(disk, read(disk)[1])
        disk.crash()
        assert expected == read(disk)[0]


def test_frames_behind_a_cut_never_come_back():
    """Even where the cut itself was lost: what was appended since begins a segment, and that wins."""
    disk = FakeDisk()
    written(disk, 10, segment_bytes=10_000)
    (name,) = segments(disk)
    whole = disk.content(name)
    disk.damage(name, whole.replace(b"payload 5", b"Payload 5"))
    reading = read(disk)[1]
    cut(disk, reading)
    journal = Journal(disk, "second", 10_000)
    journal.begin(reading.next)
    new = [Message("plant/0", b"other %d" % i) for i in range(3)]
    for each in new:
        journal.append(each)
    disk.damage(name, whole)
    assert [message(i) for i in range(5)] + new == messages(disk)


# Faults


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_full_disk_costs_nothing_but_time(lines):
    disk = FakeDisk(capacity=700)
    journal = begun(disk, "second", 300)
    for i in range(20):
        journal.append(message(i))
        assert not journal.retry() or journal.fault is None
    assert "no space left on device" == journal.fault
    assert journal.safe == journal.kept < journal.next == 20
    disk.capacity = 10_000
    assert journal.retry()
    assert (None, 20, 20) == (journal.fault, journal.kept, journal.durable)
    assert journal.append(message(20)) == 20
    journal.close()
    assert [message(i) for i in range(21)] == messages(disk)
    assert (1, 1) == (journal.counts["faults"], journal.counts["healed"])
    assert [
        "journal: no space left on device: messages are answered, but not kept,"
        " and not acknowledged until they can be",
        "journal: the disk takes what is written again: what waited is kept",
    ] == lines()


@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_waits_is_tried_once_more_at_the_end(durability):
    disk = FakeDisk()
    journal = begun(disk, durability, 10_000)
    disk.faults = [Fault(errno.EIO, kinds=("sync", "write"))]
    for i in range(3):
        journal.append(message(i))
    disk.faults.clear()
    journal.close()
    assert ([message(i) for i in range(3)], 0) == (messages(disk), disk.open_files)


def script(journal: Journal, disk: FakeDisk, count=14) -> None:
    """Some messages with all that comes between, while the disk does what it does."""
    for i in range(count):
        journal.append(message(i))
        if i % 4 == 1:
            journal.mark("machine", i)
        if i % 3 == 2:
            journal.sync()
        journal.retry()


def steps(durability: str) -> int:
    disk = FakeDisk()
    script(begun(disk, durability), disk)
    return disk.operations


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("lasting", [1, 2, 7])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_fault_at_any_operation_heals_and_loses_nothing(durability, lasting, error):
    for first in range(steps(durability)):
        disk = FakeDisk()
        disk.faults = [Fault(error, first, first + lasting)]
        journal = begun(disk, durability)
        script(journal, disk)
        disk.faults.clear()
        assert journal.retry()
        assert 14 == journal.kept
        journal.close()
        assert [message(i) for i in range(14)] == messages(disk)
        assert 0 == disk.open_files


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_short_write_at_any_operation_heals_and_loses_nothing(durability):
    for first in range(steps(durability)):
        for size in (0, 1, 9, 30):
            disk = FakeDisk()
            disk.short = {first: size}
            journal = begun(disk, durability)
            script(journal, disk)
            assert journal.retry()
            journal.close()
            assert [message(i) for i in range(14)] == messages(disk)


def test_a_short_write_is_cut_back_to_the_last_good_message():
    disk = FakeDisk()
    journal = begun(disk, "second", 10_000)
    journal.append(message(0))
    end = journal.size
    disk.short = {disk.operations: 10}
    journal.append(message(3))
    assert f"only 10 of {len(frames.event(message(3), 0, 1))} bytes could be written" == journal.fault
    assert end == disk.size(name_of(0, 0))
    assert (1, 2) == (journal.kept, journal.next)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_segment_that_cannot_be_cut_back_is_given_up(durability):
    disk = FakeDisk()
    journal = begun(disk, durability, 10_000)
    journal.append(message(0))
    disk.short = {disk.operations: 10}
    disk.faults = [Fault(errno.EIO, kinds=("truncate",))]
    journal.append(message(3))
    assert journal.retry()
    journal.append(message(6))
    disk.crash(power=False)
    assert [message(i) for i in (0, 3, 6)] == messages(disk)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_death_at_any_operation_leaves_what_was_promised(durability):
    promised = 0
    for number in range(steps(durability)):
        for when in ("crash_before", "crash_after"):
            for power in (False, True) if durability == "power" else (False,):
                disk = FakeDisk(random.Random(number))
                setattr(disk, when, number)
                journal = begun(disk, durability)
                with pytest.raises(Crash):
                    script(journal, disk)
                disk.crash(power)
                found = messages_before_damage(disk)
                assert journal.safe <= len(found) <= journal.next
                promised += journal.safe
    assert promised > 100


def messages_before_damage(disk) -> list[Message]:
    found = [record for _, record in read(disk)[0] if isinstance(record, Message)]
    assert [message(i) for i in range(len(found))] == found
    return found


def test_what_failed_to_be_synced_is_written_again_and_not_acknowledged_before(lines):
    disk = FakeDisk(random.Random(3))
    journal = begun(disk, "power", 10_000)
    for i in range(3):
        journal.append(message(i))
    journal.sync()
    for i in range(3, 6):
        journal.append(message(i))
    disk.fault = errno.EIO
    journal.sync()
    assert ("input/output error", 3, 3) == (journal.fault, journal.kept, journal.safe)
    journal.append(message(6))
    assert not journal.retry()
    assert 3 == journal.safe
    disk.fault = None
    assert journal.retry()
    assert 7 == journal.safe
    disk.crash()
    assert [message(i) for i in range(7)] == messages(disk)
    assert (1, 1, 1) == tuple(journal.counts[name] for name in ("faults", "failed_syncs", "healed"))
    assert 2 == len(lines())


def test_after_a_failed_sync_a_death_takes_nothing_that_was_acknowledged():
    """With `second` what was written counts; the system may still have it."""
    disk = FakeDisk()
    journal = begun(disk, "second", 10_000)
    for i in range(5):
        journal.append(message(i))
    assert 5 == journal.safe
    disk.fault = errno.EIO
    journal.sync()
    disk.crash(power=False)
    assert [message(i) for i in range(5)] == messages(disk)


def test_after_a_failed_sync_a_death_leaves_nothing_that_may_not_be_on_the_disk():
    """With `power` what the next start reads counts as being there: the system must not only seem to have it."""
    disk = FakeDisk()
    journal = begun(disk, "power", 300)
    for i in range(9):
        journal.append(message(i))
        if i == 2:
            journal.sync()
    disk.faults = [Fault(errno.EIO, kinds=("sync",))]
    journal.sync()
    disk.crash(power=False)
    assert 3 == len(messages_before_damage(disk))


@pytest.mark.parametrize("durability", ["process", "second"])
def test_a_death_while_it_heals_takes_nothing_that_was_acknowledged(durability):
    for number in range(8):
        for when in ("crash_before", "crash_after"):
            disk = FakeDisk()
            journal = begun(disk, durability, 10_000)
            for i in range(5):
                journal.append(message(i))
            disk.fault = errno.EIO
            journal.sync()
            journal.append(message(5))
            disk.fault = None
            setattr(disk, when, disk.operations + number)
            try:
                journal.retry()
            except Crash:
                disk.crash(power=False)
                assert 5 <= len(messages_before_damage(disk)) <= 6
            else:
                assert number >= 4


def test_a_disk_that_never_syncs_is_not_said_to_be_well_in_between(lines):
    disk = FakeDisk()
    journal = begun(disk, "second")
    disk.faults = [Fault(errno.EIO, kinds=("sync",))]
    for i in range(10):
        journal.append(message(i))
        journal.sync()
        assert not journal.retry()
    assert (1, 0) == (journal.counts["faults"], journal.counts["healed"])
    assert 1 == len(lines())
    assert 0 == journal.kept


def test_a_failed_sync_over_two_segments_leaves_neither_in_the_way():
    disk = FakeDisk()
    journal = begun(disk, "second", 300)
    for i in range(11):
        journal.append(message(i))
    assert 2 <= len(segments(disk))
    disk.fault = errno.EIO
    journal.sync()
    disk.fault = None
    assert journal.retry()
    for i in range(11, 20):
        journal.append(message(i))
    disk.crash(power=False)
    assert [message(i) for i in range(20)] == messages(disk)


def test_with_process_nothing_is_synced_and_nothing_kept_in_memory():
    disk = FakeDisk()
    journal = begun(disk, "process")
    script(journal, disk)
    assert not {kind for kind, _ in disk.log} & {"sync", "sync_folder"}
    assert not journal.unsynced
    assert not journal._unsynced
    assert 14 == journal.safe


# What waits is bounded


def test_messages_of_qos_0_are_let_go_oldest_first_when_too_much_waits(lines):
    disk = FakeDisk()
    journal = begun(disk, "second", 1000)
    disk.fault = errno.ENOSPC
    sizes = 1 << 20
    for i in range(40):
        journal.append(Message("big", bytes([i]) * sizes, qos=int(i in (3, 5, 6))))
        journal.mark("machine", i)
    assert not journal.full  # for what is of QoS 1 the others give way
    disk.fault = None
    assert journal.retry()
    found, reading = read(disk)
    assert 40 == reading.next == journal.next
    kept = {number: record for number, record in found if isinstance(record, Message)}
    assert {3, 5, 6, *range(28, 40)} == kept.keys()
    assert all(record.payload[0] == number for number, record in kept.items())
    gaps = [(number, record.count) for number, record in found if isinstance(record, Gap)]
    assert [(0, 3), (4, 1), (7, 21)] == gaps
    assert 25 == journal.counts["let_go"]
    assert 28 == journal.gap_end
    assert [Mark("machine", 39)] == [record for _, record in found if isinstance(record, Mark)]
    assert (
        "journal: the disk takes what is written again: what waited is kept, but for 25 messages of QoS 0"
        == lines()[-1]
    )


def test_so_many_messages_of_qos_1_are_full():
    journal = begun(FakeDisk(capacity=0), "second")
    for i in range(1000):
        assert not journal.full
        journal.append(message(i))
    assert journal.full


def test_so_many_bytes_of_qos_1_are_full():
    journal = begun(FakeDisk(capacity=0), "second")
    for _ in range(16):
        assert not journal.full
        journal.append(Message("big", bytes(1 << 20), qos=1))
    assert journal.full
    assert 0 == journal.counts["let_go"]


def test_what_waits_for_ever_takes_no_more_memory():
    waiting = Waiting(bytes_max=10_000)
    for i in range(5000):
        waiting.add(message(i, qos=int(i % 500 == 0)))
        waiting.add(Session())
        waiting.add(Mark("machine", i))
    assert len(waiting) < 120
    assert 5000 == sum(
        record.count if isinstance(record, Gap) else isinstance(record, Message) for record in waiting
    )


def test_what_is_put_back_comes_before_what_waits():
    waiting = Waiting(bytes_max=1500)
    for i in range(10, 16):
        waiting.add(message(i, qos=i % 2))
    waiting.put_back([message(8), Session(), Mark("machine", 3), message(9)])
    waiting.add(Mark("machine", 4))
    found = waiting.take()
    later = [Gap(1), message(11), Gap(1), message(13), Gap(1), message(15), Mark("machine", 4)]
    assert [message(8), Session(), message(9), *later] == found
    assert 0 == len(waiting)
    assert not waiting.full


# Beside the writer


def test_only_what_was_written_before_a_sync_began_is_durable(monkeypatch):
    disk = FakeDisk()
    journal = begun(disk, "power", 300)
    sync = FakeFile.sync
    seen = []

    def slow(file):
        sync(file)
        if not seen:
            for i in range(3, 9):  # meanwhile, into the next segment
                journal.append(message(i))
            seen.append(len(segments(disk)))

    monkeypatch.setattr(FakeFile, "sync", slow)
    for i in range(3):
        journal.append(message(i))
    journal.sync()
    assert [2] == seen
    assert (9, 3, 3) == (journal.kept, journal.durable, journal.safe)
    assert journal.unsynced
    journal.sync()
    assert 9 == journal.durable
    assert not journal.unsynced
    disk.crash()
    assert [message(i) for i in range(9)] == messages(disk)


def test_a_sync_that_fails_after_the_segment_was_finished_has_all_written_again(monkeypatch):
    disk = FakeDisk()
    journal = begun(disk, "second", 300)
    seen = []

    def failing(file):
        if not seen:
            for i in range(3, 9):
                journal.append(message(i))
            seen.append(len(segments(disk)))
            raise OSError(errno.EIO, "Input/output error")
        return sync(file)

    sync = FakeFile.sync
    monkeypatch.setattr(FakeFile, "sync", failing)
    for i in range(3):
        journal.append(message(i))
    journal.sync()
    assert ([2], 0) == (seen, journal.kept)
    assert journal.retry()
    journal.append(message(9))
    journal.sync()
    disk.crash()
    assert [message(i) for i in range(10)] == messages(disk)


def test_what_comes_while_it_heals_is_kept_in_order(monkeypatch):
    disk = FakeDisk()
    journal = begun(disk, "second", 300)
    disk.fault = errno.ENOSPC
    for i in range(3):
        journal.append(message(i))
    disk.fault = None
    sync = FakeFile.sync

    def slow(file):
        if journal.next == 3:
            for i in range(3, 12):
                journal.append(message(i))
        sync(file)

    monkeypatch.setattr(FakeFile, "sync", slow)
    assert journal.retry()
    assert (12, 3) == (journal.kept, journal.durable)
    journal.close()
    assert [message(i) for i in range(12)] == messages(disk)


def test_the_writer_waits_for_a_disk_that_is_far_behind():
    disk = FakeDisk()
    journal = begun(disk, "second", 300)
    for i in range(200):
        journal.append(message(i))
    assert journal.durable > 150
    assert journal.unsynced_bytes < 5 * 300


@pytest.mark.parametrize("part", ["begins", "ends"])
def test_a_sync_begins_and_ends_between_two_messages(part, monkeypatch):
    """While one is half written it waits: else what is written and what is noted would not be the same."""
    journal = begun(FakeDisk(), "second", 10_000)
    entered, proceed = threading.Event(), threading.Event()
    thread = threading.Thread(target=journal.sync)
    sync, write_at = FakeFile.sync, FakeFile.write_at
    seen = []

    def slow_sync(file):
        entered.set()
        proceed.wait(10)
        sync(file)

    def slow_write(file, offset, data):
        if part == "begins":
            thread.start()
            seen.append(entered.wait(0.1))
        proceed.set()
        thread.join(0.1)
        seen.append(journal.durable)
        return write_at(file, offset, data)

    for i in range(3):
        journal.append(message(i))
    monkeypatch.setattr(FakeFile, "sync", slow_sync)
    if part == "ends":
        thread.start()
        entered.wait(10)
    monkeypatch.setattr(FakeFile, "write_at", slow_write)
    journal.append(message(3))
    thread.join()
    assert ([False, 0] if part == "begins" else [0]) == seen
    assert (4 if part == "begins" else 3) == journal.durable


class Unreliable:
    """A file of which every fifth sync fails, as that of a disk that goes bad."""

    def __init__(self, file, rng) -> None:
        self.file = file
        self.rng = rng

    def __getattr__(self, name):
        return getattr(self.file, name)

    def sync(self) -> None:
        self.file.sync()
        if self.rng.random() < 0.2:
            raise OSError(errno.EIO, "Input/output error")


class UnreliableFolder(StateFolder):
    rng = random.Random(0)

    def create(self, name):
        return Unreliable(super().create(name), self.rng)


@pytest.fixture
def hasty_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("folder", [StateFolder, UnreliableFolder])
def test_messages_are_appended_while_another_thread_syncs_and_releases(folder, tmp_path, hasty_threads):
    journal = begun(folder(tmp_path), "power", 4000)
    going = threading.Event()
    going.set()
    wrong = []

    def beside():
        highest = 0
        while going.is_set():
            before = journal.kept
            journal.sync()
            journal.release(journal.durable - 500)
            highest = max(highest, journal.durable)
            if highest != journal.durable or (folder is StateFolder and journal.durable < before):
                wrong.append((before, highest, journal.durable))

    thread = threading.Thread(target=beside)
    thread.start()
    end = time.monotonic() + 1.0
    count = 0
    while time.monotonic() < end and not wrong:
        for _ in range(50):
            assert count == journal.append(message(count))
            count += 1
        journal.retry()
    going.clear()
    thread.join()
    while not journal.retry():
        pass
    journal.close()
    while not journal.retry():  # its last sync may have failed
        pass
    journal.close()
    found = messages(journal.disk)
    assert ([], count) == (wrong, journal.kept)
    assert [message(i) for i in range(count - len(found), count)] == found
    assert 500 <= len(found)


def test_what_is_synced_is_found_after_a_loss_of_power_with_its_folder():
    for seed in range(40):
        disk = FakeDisk(random.Random(seed))
        journal = begun(disk, "power", 300)
        for i in range(10):
            journal.append(message(i))
        journal.sync()
        for i in range(10, 14):
            journal.append(message(i))
        disk.crash()
        assert 10 <= len(messages_before_damage(disk)) <= 14


# What is not needed any more


def test_only_whole_segments_below_a_number_are_removed():
    disk = FakeDisk(random.Random(5))
    journal = begun(disk, "second", 300)
    for i in range(30):
        journal.append(message(i))
        journal.sync()
    before = segments(disk)
    size = journal.size
    for number in range(31):
        journal.release(number)
        reading = Reading(disk)
        assert reading.begins <= number
        assert [message(i) for i in range(reading.begins, 30)] == messages(disk)
    assert before[-1:] == segments(disk)
    assert journal.size < size
    assert disk.size(before[-1]) >= journal.size
    disk.crash()
    assert before[-1:] == segments(disk)


def test_a_loss_of_power_while_segments_are_removed_leaves_no_hole():
    for number in range(40):
        disk = FakeDisk(random.Random(number))
        journal = begun(disk, "second", 150)
        for i in range(30):
            journal.append(message(i))
        journal.sync()
        disk.crash_after = disk.operations + number
        try:
            journal.release(28)
        except Crash:
            disk.crash()
        assert 30 == [*messages(disk), 0].index(0) + Reading(disk).begins


def test_a_segment_that_cannot_be_removed_stays(lines):
    disk = FakeDisk()
    journal = begun(disk, "second", 300)
    for i in range(30):
        journal.append(message(i))
    journal.sync()
    before = segments(disk)
    disk.fault = errno.EIO
    journal.release(30)
    disk.fault = None
    assert ["journal: a segment that is not needed any more cannot be removed: input/output error"] == lines()
    assert before == segments(disk)
    journal.release(30)
    assert before[-1:] == segments(disk)


# All of it, by chance


def life(seed: int) -> int:
    """Some lives of a journal on a disk that fails and dies by chance; returns how often it did."""
    rng = random.Random(seed)
    durability = rng.choice(DURABILITIES)
    power = durability == "power"
    disk = FakeDisk(rng)
    safe = number = deaths = 0
    journal = None
    for _ in range(rng.randint(20, 120)):
        try:
            if journal is None:
                disk.nervous = False  # a recovery that dies is begun again: here it is once
                found, reading = read(disk)
                expected = [record for _, record in found if isinstance(record, Message)]
                assert [message(i) for i in range(reading.begins, reading.next)] == expected
                assert safe <= reading.next <= number
                cut(disk, reading)
                journal = Journal(disk, durability, rng.choice((120, 300, 5000)))
                journal.begin(reading.next)
                safe = number = reading.next
                disk.nervous = True
            chance = rng.random()
            if chance < 0.6:
                number += 1
                assert number - 1 == journal.append(message(number - 1))
            elif chance < 0.7:
                journal.sync()
            elif chance < 0.8:
                journal.retry()
            elif chance < 0.85:
                journal.mark("machine", number)
            elif chance < 0.87:
                journal.session_lost()
            elif chance < 0.88:
                journal.release(rng.randint(0, max(0, journal.durable - 3)))
            elif chance < 0.91:
                disk.fault = rng.choice((None, errno.ENOSPC, errno.EIO))
            elif chance < 0.94:
                disk.fault = None
            elif chance < 0.95:
                raise Crash
            if not power or journal.durable == journal.safe:
                safe = max(safe, journal.safe)
        except Crash:
            disk.crash(power)
            disk.fault = None
            journal = None
            deaths += 1
    return deaths


def test_nothing_that_was_safe_is_lost_in_hundreds_of_lives():
    assert sum(life(seed) for seed in range(600)) > 300


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_nothing_that_was_safe_is_lost_in_any_life(seed):
    life(seed)
