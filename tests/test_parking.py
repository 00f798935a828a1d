"""Streams of keys that a pipeline has no room for: parked in the state directory, and back as they were."""

from __future__ import annotations

import errno
import json
import logging
import math
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_disk import FakeDisk, Fault

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.edges import contents, parking
from streamrnn.edges import parked as parked_files
from streamrnn.edges.disk import StateFolder
from streamrnn.edges.parked import listed, name_of
from streamrnn.edges.parking import Parking, Remembered
from streamrnn.edges.statefile import Loaded, Manifest
from streamrnn.errors import StateError
from streamrnn.events import Message
from streamrnn.pipeline import Pipeline

NUMERIC = """
pipelines:
  pump:
    input: {{topic: plant/+, fields: [x]}}
    model: {{hidden: 4}}
    learn: {{every: 2, windows: 2, length: 4, history: 64}}
    limits: {{keys: {keys}}}
"""
SYMBOLS = NUMERIC.replace("fields: [x]", "symbol: s")
A = {"state": np.arange(3.0)}
B = {"state": np.arange(4.0) - 1}


def parked(disk: FakeDisk | None = None, keys_max: int = 10) -> Parking:
    return Parking(disk or FakeDisk(), "pump", "model", "1", keys_max, now=lambda: 1.7e9)


def built(text: str, keys: int) -> Pipeline[Any]:
    loaded = config.loads(text.format(keys=keys))
    return build_pipeline("pump", loaded.pipelines["pump"], loaded.seed)


def message(i: int) -> Message:
    body = {"x": math.sin(i / 3) * (1 + i % 3), "s": "abcde"[i * i % 5]}
    return Message(f"plant/{i % 3}", json.dumps(body).encode(), arrival=1.7e9 + i)


@pytest.mark.parametrize("text", [NUMERIC, SYMBOLS], ids=["numeric", "symbols"])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_key_that_was_let_go_answers_as_one_that_never_was(text: str, where: str) -> None:
    roomy, narrow = built(text, 3), built(text, 1)
    narrow.parking = parked() if where == "disk" else Remembered(10)
    for i in range(120):
        expected = [encode(output) for output in roomy.process_all(message(i))]
        assert expected == [encode(output) for output in narrow.process_all(message(i))]
    assert 117 < narrow.counts["keys_let_go"]
    assert 1 == len(narrow.streams)
    roomy.close()
    narrow.close()


def test_without_parking_a_key_that_was_let_go_begins_anew() -> None:
    narrow = built(NUMERIC, 1)
    seqs = [output.seq for i in range(6) for output in narrow.process_all(message(i))]
    assert [0] * 6 == seqs
    narrow.close()


def test_what_was_parked_comes_back_once() -> None:
    place = parked()
    place.park("a", A)
    place.park("b", B)
    assert 2 == len(place)
    found = place.unpark("a")
    assert found is not None
    assert A["state"].tolist() == found["state"].tolist()
    assert place.unpark("a") is None
    assert place.unpark("never") is None
    assert 1 == len(place)


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_beyond_its_limit_the_key_parked_longest_is_forgotten(kind: str) -> None:
    place: Parking | Remembered = parked(keys_max=2) if kind == "disk" else Remembered(2)
    for key in "a", "b":
        place.park(key, A)
    assert place.unpark("a") is not None
    for key in "a", "c":
        place.park(key, A)
    assert [None, True, True] == [place.unpark(key) and True for key in ("b", "a", "c")]


def test_a_checkpoint_says_which_streams_it_goes_with() -> None:
    disk = FakeDisk()
    before = parked(disk)
    before.park("a", A)
    before.park("b", A)
    saved = before.save()
    before.sync()
    before.checkpointed(saved)
    before.unpark("a")  # after the checkpoint it comes back, changes, and is parked again
    before.park("a", B)
    disk.crash(power=False)
    after = parked(disk)
    after.restore(saved)
    found = after.unpark("a")
    assert found is not None
    assert A["state"].tolist() == found["state"].tolist()
    after.park("a", B)  # as it will, when the journal is processed again
    found = after.unpark("a")
    assert found is not None
    assert B["state"].tolist() == found["state"].tolist()
    assert after.unpark("b") is not None


def test_what_a_checkpoint_names_outlives_a_loss_of_power() -> None:
    for seed in range(20):
        disk = FakeDisk(random.Random(seed))
        before = parked(disk)
        for key in "abc":
            before.park(key, A)
        before.sync()
        saved = before.save()
        before.park("d", A)
        disk.crash(power=True)
        after = parked(disk)
        after.restore(saved)
        for key in "abc":
            found = after.unpark(key)
            assert found is not None
            assert A["state"].tolist() == found["state"].tolist()
        after.park("d", A)  # over what is left of it
        after.sync()
        assert after.unpark("d") is not None


def test_files_go_when_neither_the_pipeline_nor_a_checkpoint_needs_them() -> None:
    disk = FakeDisk()
    place = parked(disk)
    for key in "abc":
        place.park(key, A)

    def checkpoint() -> None:
        place.sync()
        place.checkpointed(place.save())
        place.release()

    checkpoint()
    place.unpark("a")
    place.park("b", A)
    place.release()
    assert [0, 1, 2, 3] == listed(disk, "pump")
    checkpoint()
    assert [0, 1, 2, 3] == listed(disk, "pump")  # the older checkpoint needs them
    checkpoint()
    assert [2, 3] == listed(disk, "pump")
    after = parked(disk)
    after.restore(place.save())
    after.unpark("c")
    after.release()
    assert [2, 3] == listed(disk, "pump")  # what the checkpoint before needs is not known
    after.sync()
    after.checkpointed(after.save())
    after.checkpointed(after.save())
    after.release()
    assert [3] == listed(disk, "pump")


def test_a_full_disk_is_waited_for_and_what_waits_can_come_back(caplog: pytest.LogCaptureFixture) -> None:
    disk = FakeDisk()
    place = parked(disk)
    disk.fault = errno.ENOSPC
    place.park("a", A)
    place.park("b", A)
    assert ["pump: a stream cannot be parked: no space left on device; it is tried again"] == caplog.messages
    assert place.unpark("a") is not None
    with pytest.raises(OSError, match="No space"):
        place.sync()
    disk.fault = None
    place.sync()
    assert 1 in listed(disk, "pump")
    assert place.unpark("b") is not None


def test_what_waits_for_a_full_disk_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parked_files, "WAITING_BYTES_MAX", 1000)
    disk = FakeDisk()
    place = parked(disk)
    disk.fault = errno.ENOSPC
    for key in "abcdefgh":
        place.park(key, A)
    disk.fault = None
    there = [key for key in "abcdefgh" if place.unpark(key) is not None]
    assert 1 <= len(there) < 8
    assert "abcdefgh".endswith("".join(there))
    assert 8 - len(there) == place.counts["parked_lost"]
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_after_a_failed_sync_a_stream_is_written_anew() -> None:
    disk = FakeDisk()
    place = parked(disk)
    place.park("a", A)
    disk.faults = [Fault(errno.EIO, kinds=("sync",))]
    with pytest.raises(OSError, match="Input/output"):
        place.sync()
    disk.faults = []
    place.sync()
    saved = place.save()
    disk.crash(power=True)
    after = parked(disk)
    after.restore(saved)
    assert after.unpark("a") is not None


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_stream_is_told_and_its_key_begins_anew(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    disk = FakeDisk()
    place = parked(disk)
    place.park("a", A)
    content = bytearray(disk.read(name_of("pump", 0)))
    content[len(content) // 2] ^= 1
    if damage == "gone":
        disk.remove(name_of("pump", 0))
    else:
        disk.damage(name_of("pump", 0), bytes(content if damage == "flipped" else content[:20]))
    assert place.unpark("a") is None
    assert 1 == place.counts["parked_lost"]
    assert "begins anew" in caplog.text
    assert (damage != "gone") == (["00000000000000000000.stream"] == disk.names("set-aside/parked/pump"))


@pytest.mark.parametrize("movable", [True, False])
def test_a_stream_that_cannot_be_read_just_now_is_set_aside_and_not_overwritten(
    movable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FakeDisk()
    place = parked(disk)
    place.park("a", A)
    name = name_of("pump", 0)
    content = disk.read(name)
    disk.unreadable.add(name)
    disk.fault = None if movable else errno.EROFS
    assert place.unpark("a") is None
    disk.fault = None
    assert 1 == place.counts["parked_lost"]
    told = f"moved to set-aside/{name}" if movable else "it could not be moved: read-only file system"
    assert [f"pump: {name}: cannot be read: input/output error; {told}; its key begins anew"] == caplog.messages
    place.park("a", B)
    for _ in range(3):
        place.sync()
        place.checkpointed(place.save())
        place.release()
    assert content == disk.read(f"set-aside/{name}")
    assert [1] == listed(disk, "pump")
    found = place.unpark("a")
    assert found is not None
    assert B["state"].tolist() == found["state"].tolist()


def test_of_a_parked_stream_that_was_set_aside_a_checkpoint_before_says_so() -> None:
    disk = FakeDisk()
    place = parked(disk)
    place.park("a", A)
    place.park("b", B)
    saved = place.save()
    disk.damage(name_of("pump", 0), b"")
    assert place.unpark("a") is None
    manifest = Manifest(1, "pump", "model", 0, 0, 0, 1.7e9, "1")
    told = dict(contents.parked(disk, "pump", Loaded(manifest, saved)))
    assert "in set-aside" in str(told["a"])
    assert isinstance(told["b"], dict)


def test_another_model_moves_what_was_parked_aside() -> None:
    disk = FakeDisk()
    parked(disk).park("a", A)
    other = parked(disk)
    other.begin_anew()
    assert [] == listed(disk, "pump")
    assert ["00000000000000000000.stream"] == disk.names("set-aside/parked/pump")


@pytest.mark.parametrize("name", [parking.NUMBERS, parking.NEXT])
@pytest.mark.parametrize("change", ["missing", "shape"])
def test_what_is_no_list_of_parked_keys_is_refused(name: str, change: str) -> None:
    place = parked()
    place.park("a", A)
    saved = place.save()
    if change == "missing":
        del saved[name]
    else:
        saved[name] = np.zeros((3, 3), np.int64)
    with pytest.raises(StateError, match=r"parked\.numbers"):
        parked().restore(saved)


def test_streams_are_parked_while_others_are_synced(tmp_path: Path) -> None:
    place = Parking(StateFolder(tmp_path), "pump", "model", "1", 1000)
    failed: list[BaseException] = []
    halt = threading.Event()

    def sync() -> None:
        while not halt.is_set():
            try:
                place.sync()
            except BaseException as error:
                failed.append(error)

    beside = threading.Thread(target=sync)
    beside.start()
    try:
        for i in range(1500):
            place.park(f"key-{i % 300}", A)
    finally:
        halt.set()
        beside.join()
    assert [] == failed
    assert all(place.unpark(f"key-{i}") is not None for i in range(300))


def test_a_parked_stream_that_does_not_fit_lets_its_key_begin_anew(caplog: pytest.LogCaptureFixture) -> None:
    narrow = built(NUMERIC, 1)
    narrow.parking = Remembered(10)
    narrow.process(message(0))
    narrow.parking.park("1", {"seq": np.zeros(3)})
    output = narrow.process(message(1))
    assert output is not None
    assert ("1", 0) == (output.key, output.seq)
    assert 1 == narrow.counts["parked_misfits"]
    assert "does not fit" in caplog.text
    output = narrow.process(message(0))
    assert output is not None
    assert 1 == output.seq  # nothing happened to the others
    narrow.close()
