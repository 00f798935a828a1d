"""Frames: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamrnn.edges import frames
from streamrnn.edges.frames import Gap, Header, Mark, Session, Topic
from streamrnn.events import Message

NUMBERS = st.integers(0, 2**64 - 1)
MESSAGES = st.builds(
    Message,
    topic=st.text(max_size=300),
    payload=st.binary(max_size=300),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    dup=st.booleans(),
    mid=st.integers(0, 65535),
    arrival=st.floats(allow_nan=False),
)
CONTROLS = st.one_of(
    st.builds(Header, first=NUMBERS, serial=NUMBERS),
    st.builds(Topic, number=st.integers(0, 65535), topic=st.text()),
    st.just(Session()),
    st.builds(Mark, pipeline=st.text(), number=NUMBERS),
    st.builds(Gap, count=NUMBERS),
)


@settings(deadline=None)
@given(message=MESSAGES, number=NUMBERS, before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_a_message_comes_back_with_its_topic_inside(message, number, before, after):
    frame = frames.event(message, None, number)
    expected = (message, len(before) + len(frame))
    assert expected == frames.parse(before + frame + after, len(before), number, {})


@settings(deadline=None)
@given(message=MESSAGES, which=st.integers(0, 65535), number=NUMBERS)
def test_a_message_comes_back_with_a_number_for_its_topic(message, which, number):
    frame = frames.event(message, which, number)
    assert (message, len(frame)) == frames.parse(frame, 0, number, {which: message.topic})


@settings(deadline=None)
@given(record=CONTROLS, number=NUMBERS)
def test_every_other_record_comes_back(record, number):
    frame = frames.control(record, number)
    topics = {}
    assert (record, len(frame)) == frames.parse(frame, 0, number, topics)
    assert topics == ({record.number: record.topic} if isinstance(record, Topic) else {})


@settings(deadline=None)
@given(record=CONTROLS | MESSAGES, number=NUMBERS, other=NUMBERS)
def test_a_frame_is_only_good_at_the_place_of_its_number(record, number, other):
    frame = frames.event(record, None, number) if isinstance(record, Message) else frames.control(record, number)
    same = number % 2**32 == other % 2**32  # four thousand million messages later it would pass
    assert same == (frames.parse(frame, 0, other, {}) is not None)


@settings(deadline=None)
@given(data=st.binary(max_size=200), offset=st.integers(0, 210), number=NUMBERS)
@example(data=b"\0" * 100, offset=0, number=0)
@example(data=b"\xff" * 100, offset=0, number=0)
@example(data=b"\0" * 4 + b"\xff\xff\xff\xff\x03", offset=0, number=0)
def test_no_bytes_make_reading_fail(data, offset, number):
    assert frames.parse(data, offset, number, {}) is None  # none of these has a checksum by chance


@settings(deadline=None)
@given(kind=st.integers(0, 255), body=st.binary(max_size=80), number=NUMBERS)
@example(kind=frames.EVENT, body=b"", number=0)
@example(kind=frames.EVENT, body=b"\x10" + b"\0" * 12 + b"\xff\xff", number=0)
@example(kind=frames.TOPIC, body=b"\0\0\xff", number=0)
@example(kind=frames.MARK, body=b"\0" * 8 + b"\xff", number=0)
def test_a_good_checksum_over_nonsense_does_not_make_reading_fail(kind, body, number):
    frame = frames._frame(kind, body, number)
    found = frames.parse(frame + frame, 0, number, {})
    assert found is None or found[1] == len(frame)


def test_a_frame_of_another_format_is_not_read():
    good = frames.control(Header(3, 4), 3)
    body = bytearray(good[9:])
    struct.pack_into("<H", body, 17, frames.FORMAT + 1)
    assert frames.parse(good, 0, 3, {}) is not None
    assert frames.parse(frames._frame(frames.HEADER, bytes(body), 3), 0, 3, {}) is None


@pytest.mark.parametrize("topic", [None, 7])
def test_every_changed_byte_and_every_cut_is_noticed(topic):
    message = Message("plant/pump", b"21.5", qos=1, retain=True, mid=9, arrival=1.7e9)
    frame = frames.event(message, topic, 12)
    topics = {7: "plant/pump"}
    for place in range(len(frame)):
        for bit in range(8):
            changed = bytearray(frame)
            changed[place] ^= 1 << bit
            assert frames.parse(bytes(changed) + bytes(100), 0, 12, topics) is None
        assert frames.parse(frame[:place], 0, 12, topics) is None


def test_an_event_of_64_bytes_costs_at_most_100():
    assert len(frames.event(Message("plant/pump", bytes(64), qos=1, mid=9, arrival=1.7e9), 7, 12)) <= 100
