"""Messages that the broker delivers again are recognised, also after a restart, and no others are."""

from __future__ import annotations

from typing import Any

import pytest
from fake_disk import FakeDisk
from simulation import CONFIG, FINGERPRINTS, replace

from streamrnn.build import build_pipelines
from streamrnn.edges.recovery import recover
from streamrnn.edges.redelivery import REMEMBERED_MAX, Redelivery
from streamrnn.edges.store import Store
from streamrnn.events import Message

MESSAGE = Message("plant/a", b'{"x": 1}', qos=1, mid=7)
AGAIN = replace(MESSAGE, dup=True)


def store(disk: FakeDisk) -> Store:
    opened = Store(disk, build_pipelines(CONFIG), FINGERPRINTS)
    recover(opened)
    opened.begin()
    return opened


def closed(opened: Store) -> None:
    for pipeline in opened.pipelines.values():
        pipeline.close()
    opened.close()


def test_a_message_is_known_again_by_dup_packet_id_topic_and_content() -> None:
    memory = Redelivery()
    memory.note(MESSAGE, 70)
    assert 70 == memory.known(AGAIN)
    others: list[dict[str, Any]] = [
        {"dup": False}, {"mid": 8}, {"topic": "plant/b"}, {"payload": b'{"x": 2}'}, {"qos": 0}
    ]  # fmt: skip
    for changes in others:
        assert memory.known(replace(AGAIN, **changes)) is None


def test_a_packet_id_used_again_stands_for_the_newer_message() -> None:
    memory = Redelivery()
    memory.note(MESSAGE, 70)
    memory.note(replace(MESSAGE, payload=b"{}"), 71)
    assert memory.known(AGAIN) is None
    assert 71 == memory.known(replace(AGAIN, payload=b"{}"))


def test_only_so_many_are_remembered_and_the_oldest_goes_first() -> None:
    memory = Redelivery()
    for mid in range(1, REMEMBERED_MAX + 2):
        memory.note(replace(MESSAGE, mid=mid), mid)
    assert memory.known(replace(AGAIN, mid=1)) is None
    assert 2 == memory.known(replace(AGAIN, mid=2))


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_a_session_that_the_broker_lost_makes_the_same_bytes_a_new_message(lost: bool, restart: bool) -> None:
    disk = FakeDisk()
    opened = store(disk)
    number = opened.append(MESSAGE, ["first"])
    if lost:
        opened.session_lost()
    if restart:
        closed(opened)
        opened = store(disk)
    assert (None if lost else number) == opened.known(AGAIN)
    closed(opened)
