"""What payloads become: numbers, symbols, times, and the reasons why some become nothing."""

import math
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamrnn.codecs import PARSERS, Codec, encode, epoch_seconds
from streamrnn.codecs import json as json_codec
from streamrnn.errors import PayloadError
from streamrnn.events import Message, NumericOutput, SymbolOutput

ARRIVAL = 1_600_000_000.25

finite = st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | st.text(max_size=80)
documents = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abt") | st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module", autouse=True)
def _away_from_greenwich():
    """A local zone which is not UTC, so that taking one for the other shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "<+0530>-5:30")
        time.tzset()
        yield
    time.tzset()


def message(payload):
    return Message("plant/pump", payload, arrival=ARRIVAL)


def values_of(codec, payload):
    (event,) = codec.decode(message(payload), "pump")
    return event.values.tolist()


def time_of(value):
    (event,) = Codec(fields=["x"], time="t").decode(message({"x": 1, "t": value}), "pump")
    return event.time


def reason_of(decode, *args):
    with pytest.raises(PayloadError) as caught:
        decode(*args)
    assert len(caught.value.detail) <= 80
    assert caught.value.detail.isprintable()
    return caught.value.reason


class TestParsers:
    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", "empty"),
            (b" \r\n\t", "empty"),
            (b"online", "not_json"),
            (b"OFF", "not_json"),
            (b'{"t": nano}', "not_json"),
            (b'{"t": NaN,}', "not_json"),
            (b"{nan: 3}", "not_json"),
            (b'"t": 3, "h": 4}', "not_json"),
            (b'{"t": 3,}', "not_json"),
            (b"{'t': 3}", "not_json"),
            (b'{"t": 3} {"t": 4}', "not_json"),
            (b'{"t": 1e999}', "not_json"),
            (b'{"name": "\xff"}', "not_json"),
            (b'{"name": "\\ud800"}', "not_json"),
            (b"\xef\xbb\xbf{}", "not_json"),
            (b"[" * 200_000, "not_json"),
            (b'{"a":' * 200_000, "not_json"),
            (b"9" * 60_000, "not_json"),
        ],
    )
    def test_what_is_not_strict_json_is_refused(self, payload, reason):
        assert reason == reason_of(PARSERS["json"], payload)

    @pytest.mark.parametrize(
        ("payload", "expected"),
        [
            (b'{"inner": {"t": nan}, "h": 3}', {"inner": {"t": None}, "h": 3}),
            (b"[NaN,-Infinity, inf ,-nan]", [None, None, None, None]),
            (b'{"nan": NAN, "s": "a \\" nan, inf"}', {"nan": None, "s": 'a " nan, inf'}),
            (b"NaN", None),
        ],
    )
    def test_what_c_prints_for_a_reading_that_failed_is_null(self, payload, expected):
        assert expected == PARSERS["json"](payload)

    def test_a_large_payload_is_not_looked_through(self):
        payload = b'{"t": nan, "s": "' + b"x" * json_codec.MENDED_BYTES_MAX + b'"}'
        assert "not_json" == reason_of(PARSERS["json"], payload)

    def test_quotes_without_end_are_refused_in_no_time(self):
        assert "not_json" == reason_of(PARSERS["json"], b'{"t": nan, "' + b'\\"' * 8_000)

    @pytest.mark.parametrize(
        ("payload", "expected"),
        [
            (b"25.86", 25.86),
            (b" -3 \r\n", -3.0),
            (b"+1.5E-3", 0.0015),
            (b".5", 0.5),
            (b"5.", 5.0),
            (b"0012", 12.0),
            (b"inf", math.inf),
            (b"1e999", math.inf),
        ],
    )
    def test_a_decimal_number_is_read(self, payload, expected):
        assert expected == PARSERS["number"](payload)

    def test_nan_is_read_as_a_number_and_counted_later(self):
        assert math.isnan(PARSERS["number"](b"nan"))

    @pytest.mark.parametrize(
        "payload",
        [
            b"ON",
            b"1_000",
            b"0x10",
            b"1,5",
            b"12 V",
            b"1 2",
            b"--1",
            b"e5",
            b"1\0",
            "١٢".encode(),
            b"\xff",
            b"{}",
            b"true",
        ],
    )
    def test_what_is_not_a_decimal_number_is_refused(self, payload):
        assert reason_of(PARSERS["number"], payload) == "not_a_number"

    @pytest.mark.parametrize("payload", [b"", b"  ", b"\n"])
    def test_no_number_is_empty(self, payload):
        assert reason_of(PARSERS["number"], payload) == "empty"

    def test_text_is_taken_with_its_blanks(self):
        assert PARSERS["text"](" é\n".encode()) == " é\n"
        assert reason_of(PARSERS["text"], b"") == "empty"

    def test_a_bad_text_shows_nothing_but_its_length(self):
        with pytest.raises(PayloadError, match=r"^not_text: 8 bytes$"):
            PARSERS["text"](b"secret!\xff")

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param(bytes.fromhex("a1617401") + b"\0", id="bytes left over"),
            pytest.param(bytes.fromhex("a16174"), id="truncated"),
            pytest.param(bytes.fromhex("d81c81d81d00"), id="a list within itself"),
            pytest.param(bytes.fromhex("d81ca16174d81d00"), id="a map within itself"),
            pytest.param(bytes.fromhex("9b7fffffffffffffff"), id="a huge list"),
            pytest.param(bytes.fromhex("bb7fffffffffffffff"), id="a huge map"),
            pytest.param(bytes.fromhex("5b7fffffffffffffff"), id="huge bytes"),
            pytest.param(bytes.fromhex("7b00ffffffffffffff"), id="a huge text"),
            pytest.param(b"\x81" * 60_000 + b"\x01", id="nested too deeply"),
            pytest.param(b"\xc1" * 60_000 + b"\x01", id="tags nested too deeply"),
            pytest.param(bytes.fromhex("d82363282b2b"), id="a regular expression"),
            pytest.param(bytes.fromhex("d9999901"), id="an unknown tag"),
            pytest.param(bytes.fromhex("c4821b7fffffffffffffff6178"), id="a decimal fraction of a text"),
            pytest.param(bytes.fromhex("c5821b7fffffffffffffff03"), id="a number with a huge exponent"),
            pytest.param(bytes.fromhex("c20a"), id="a big number of no bytes"),
            pytest.param(bytes.fromhex("62c328"), id="not UTF-8"),
            pytest.param(b"\xff", id="a lone end"),
        ],
    )
    def test_hostile_cbor_is_refused(self, payload):
        assert reason_of(PARSERS["cbor"], payload) == "not_cbor"

    @pytest.mark.parametrize(
        ("payload", "expected"),
        [
            ("c0" + "74" + b"2020-01-01T00:00:00Z".hex(), "2020-01-01T00:00:00Z"),
            ("c11a5e0be100", 1577836800),
            ("c249010000000000000000", 2**64),
            ("c349010000000000000000", -1 - 2**64),
            ("c48221196ab3", 273.15),
            ("c5822003", 1.5),
            ("d9d9f701", 1),
            ("f97c00", math.inf),
        ],
    )
    def test_tags_of_times_and_numbers_are_taken(self, payload, expected):
        assert expected == PARSERS["cbor"](bytes.fromhex(payload))

    def test_no_cbor_is_empty(self):
        assert reason_of(PARSERS["cbor"], b"") == "empty"

    @given(documents)
    def test_json_and_cbor_give_back_what_was_sent(self, document):
        assert document == PARSERS["json"](msgspec.json.encode(document))
        assert document == PARSERS["cbor"](cbor2.dumps(document))

    @given(finite)
    def test_floats_survive_every_format(self, number):
        sent = struct.pack("d", number)

        assert sent == struct.pack("d", PARSERS["number"](repr(number).encode()))
        assert sent == struct.pack("d", PARSERS["json"](repr(number).encode()))
        assert sent == struct.pack("d", PARSERS["cbor"](cbor2.dumps(number)))

    @pytest.mark.parametrize("payload", PARSERS)
    @given(data=st.binary(max_size=60) | documents.map(cbor2.dumps) | documents.map(msgspec.json.encode))
    @example(data=b"[" * 60_000)
    @example(data=b"\xc2\x59\xff\xff" + b"\xff" * 0xFFFF)
    @example(data=b'{"a": 1' + b"0" * 400 + b"}")
    def test_whatever_comes_is_an_event_or_a_payload_error(self, payload, data):
        codecs = [
            Codec(payload, ["a"], time="t"),
            Codec(payload, ["a.b", "a.0"]),
            Codec(payload, symbol="a", time="a"),
        ]
        codecs += [Codec("text", time="t")] if payload == "text" else []
        for codec in codecs:
            events = []
            with suppress(PayloadError):
                events = codec.decode(message(data), "pump")
            for event in events:
                assert 0 <= event.time < 253_402_300_800
                assert event.symbol is None or 1 <= len(event.symbol) <= 64
                assert event.values is None or not np.isinf(event.values).any()
                assert event.values is None or not np.isnan(event.values).all()


class TestNumbers:
    def test_values_come_in_the_order_of_the_fields(self):
        (event,) = Codec(fields=["h", "t"]).decode(message(b'{"t": 22, "h": 55.5, "battery": 86}'), "pump")

        assert (event.key, event.time, event.symbol) == ("pump", ARRIVAL, None)
        assert np.float64 == event.values.dtype
        assert event.values.tolist() == [55.5, 22.0]

    @pytest.mark.parametrize(
        ("path", "payload", "expected"),
        [
            ("a.b.c", b'{"a": {"b": {"c": 1}}}', 1.0),
            ("a.b.c", b'{"a.b.c": 2, "a": {"b": {"c": 1}}}', 2.0),
            ("a.b.c", b'{"a": {"b.c": 3, "b": {"c": 1}}}', 3.0),
            ("BME-280:0.tC", b'{"BME-280:0": {"tC": 4}}', 4.0),
            ("energy.minutes.1", b'{"energy": {"minutes": [7, 8]}}', 8.0),
            ("a.0.b", b'{"a": [{"b": 9}]}', 9.0),
            ("1", b"[4, 5]", 5.0),
            ("a.1", b'{"a": {"1": 6}}', 6.0),
            ("", b'{"": 6}', 6.0),
            ("*.t", b'{"time": "now", "x": {"h": 1}, "y": {"t": 2}, "z": {"t": 3}}', 2.0),
            ("a.*.t", b'{"t": 1, "b": {"c": {"t": 2}}, "a": {"c": {"t": 3}}}', 3.0),
            ("*.*.t", b'{"t": 1, "b": {"t": 2, "c": {"t": 3}}}', 3.0),
            ("*.t", b'{"*.t": 4, "y": {"t": 2}}', 4.0),
            ("a.*", b'{"a": {"*": 5}}', 5.0),
        ],
    )
    def test_a_path_finds_its_value(self, path, payload, expected):
        assert [expected] == values_of(Codec(fields=[path]), payload)

    def test_integer_keys_of_cbor_are_found_by_number(self):
        payload = cbor2.dumps({-3: 100, 2: {0: 21.5}})

        assert values_of(Codec("cbor", ["2.0", "-3"]), payload) == [21.5, 100.0]

    @pytest.mark.parametrize(
        "path", ["a.x", "a.b.x", "*.x", "*.l", "a.*", "l.2", "l.-1", "l.b", "b.c", "l.²", "l.١", "a."]
    )
    def test_a_path_to_nothing_is_a_missing_value(self, path):
        codec = Codec(fields=[path])
        payload = b'{"a": {"b": {"c": 1}}, "l": [1, 2]}'

        assert reason_of(codec.decode, message(payload), "pump") == "no_value"
        assert Counter(missing=1) == codec.counts

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("100.00", 100.0),
            (" 1e3 ", 1000.0),
            (True, 1.0),
            (False, 0.0),
            (7, 7.0),
            (-0.5, -0.5),
            (1e30, 1e30),
            (-(10**30), -1e30),
            (2**70, 2.0**70),
            (5e-324, 5e-324),
        ],
    )
    def test_numbers_are_taken_as_devices_write_them(self, value, expected):
        codec = Codec(fields=["x"])

        assert [expected] == values_of(codec, {"x": value})
        assert not codec.counts

    @pytest.mark.parametrize(
        ("value", "count"),
        [
            (None, "missing"),
            ("ON", "missing"),
            ("", "missing"),
            ("1_000", "missing"),
            ("0x8F20", "missing"),
            ("١٢", "missing"),
            ({"y": 1}, "missing"),
            ([1], "missing"),
            (b"1", "missing"),
            (math.nan, "not_finite"),
            (-math.inf, "not_finite"),
            ("nan", "not_finite"),
            ("1e999", "not_finite"),
            (1.0000001e30, "out_of_range"),
            (-1e300, "out_of_range"),
            (10**31, "out_of_range"),
            pytest.param(10**5000, "out_of_range", id="huge"),
            ("-1e31", "out_of_range"),
        ],
    )
    def test_what_is_no_number_is_missing_and_counted(self, value, count):
        counts = Counter()
        actual = values_of(Codec(fields=["x", "z"], counts=counts), {"x": value, "z": 2})

        assert math.isnan(actual[0])
        assert actual[1] == 2.0
        assert Counter({count: 1}) == counts

    def test_a_message_with_no_number_at_all_is_no_event(self):
        codec = Codec(fields=["t", "h"])

        assert reason_of(codec.decode, message(b'{"battery": 81}'), "pump") == "no_value"
        assert reason_of(codec.decode, message(b"{}"), "pump") == "no_value"

    @pytest.mark.parametrize(
        ("payload", "data", "expected"),
        [
            ("json", b"25.86", 25.86),
            ("json", b'"25.86"', 25.86),
            ("json", b"true", 1.0),
            ("number", b"24", 24.0),
            ("cbor", b"\x18\x2a", 42.0),
            ("text", b"21.5", 21.5),
        ],
    )
    def test_a_bare_number_is_the_only_field(self, payload, data, expected):
        assert [expected] == values_of(Codec(payload, ["anything"]), data)

    def test_a_bare_number_cannot_be_two_fields(self):
        assert reason_of(Codec(fields=["t", "h"]).decode, message(b"25.86"), "pump") == "not_an_object"

    @pytest.mark.parametrize(("payload", "reason"), [("number", "not_finite"), ("json", "missing")])
    def test_a_bare_value_which_is_no_number_is_no_event(self, payload, reason):
        codec = Codec(payload, ["x"])

        assert reason_of(codec.decode, message({"number": b"nan", "json": b"null"}[payload]), "pump") == "no_value"
        assert Counter({reason: 1}) == codec.counts

    def test_a_recorded_row_gives_what_the_live_payload_gave(self):
        codec = Codec("number", ["x", "y"], time="ts")
        row = {"x": "1.5", "y": None, "ts": "1700000000123"}
        (event,) = codec.decode(message(row), "pump")
        (live,) = Codec(fields=["x", "y"], time="ts").decode(message(b'{"x": 1.5, "ts": 1700000000123}'), "pump")

        np.testing.assert_array_equal(live.values, event.values)
        assert live.time == event.time


class TestSymbols:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("single", "single"),
            (" ", " "),
            ("é" * 64, "é" * 64),
            (7, "7"),
            (True, "true"),
            (False, "false"),
            (0.5, "0.5"),
        ],
    )
    def test_a_symbol_is_a_short_text(self, value, expected):
        (event,) = Codec(symbol="k.v").decode(message({"k": {"v": value}}), "pump")

        assert (expected, None, ARRIVAL) == (event.symbol, event.values, event.time)

    @pytest.mark.parametrize(
        "value", [None, "", {}, ["a"], "x" * 65, 10**64, pytest.param(10**5000, id="huge"), b"a"]
    )
    def test_anything_else_is_no_symbol(self, value):
        assert reason_of(Codec(symbol="v").decode, message({"v": value}), "pump") == "no_symbol"

    def test_an_absent_symbol_is_no_symbol(self):
        assert reason_of(Codec(symbol="action").decode, message(b'{"battery": 3}'), "pump") == "no_symbol"

    def test_a_bare_value_is_the_symbol(self):
        decoded = [Codec(payload, symbol="v").decode(message(b"ON"), "k")[0].symbol for payload in ("text",)]
        decoded += [Codec(symbol="v").decode(message(data), "k")[0].symbol for data in (b'"OFF"', b"3")]

        assert decoded == ["ON", "OFF", "3"]

    @pytest.mark.parametrize(
        ("codec", "data"),
        [
            (Codec(symbol="key"), b'{"key": "hunter2"'),
            (Codec("number", symbol="key"), b"hunter2"),
            (Codec("text"), b"hunter2\xff"),
            (Codec(symbol="key"), b'{"key": ["hunter2"]}'),
            (Codec("text", symbol="key"), b"hunter2" * 10),
        ],
    )
    def test_what_was_typed_is_never_shown(self, codec, data):
        with pytest.raises(PayloadError) as caught:
            codec.decode(message(data), "pump")

        assert "hunter2" not in str(caught.value)


class TestText:
    def test_every_character_is_an_event(self):
        events = Codec("text").decode(message("hé\n".encode()), "typist")

        assert [("typist", ARRIVAL, symbol, None) for symbol in "hé\n"] == [
            (event.key, event.time, event.symbol, event.values) for event in events
        ]

    def test_no_text_is_no_event(self):
        assert reason_of(Codec("text").decode, message(b""), "typist") == "empty"

    @pytest.mark.parametrize(
        "row", [{"text": "ab", "symbol": "x"}, {"symbol": "ab", "value": "x"}, {"value": "ab", "key": "x"}]
    )
    def test_a_recorded_row_has_its_text_in_a_column(self, row):
        assert [event.symbol for event in Codec("text").decode(message(row), "typist")] == ["a", "b"]

    @pytest.mark.parametrize(
        ("row", "reason"), [({"text": None}, "empty"), ({"key": "a"}, "empty"), ({"text": 5}, "not_text")]
    )
    def test_a_row_without_text_is_no_event(self, row, reason):
        assert reason == reason_of(Codec("text").decode, message(row), "typist")

    def test_a_row_is_dated_by_its_time_column_and_live_text_by_its_arrival(self):
        codec = Codec("text", time="ts")

        assert codec.decode(message({"text": "a", "ts": "5"}), "typist")[0].time == 5.0
        assert codec.decode(message(b"a"), "typist")[0].time == ARRIVAL
        assert Counter(bad_time=1) == codec.counts


class TestTimes:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (0, 0.0),
            (1_700_000_000, 1_700_000_000.0),
            (1_680_962_879.62, 1_680_962_879.62),
            (99_999_999_999, 99_999_999_999.0),
            (100_000_000_000, 100_000_000.0),
            (1_700_000_000_500, 1_700_000_000.5),
            (1_700_000_000_500_000, 1_700_000_000.5),
            (1_700_000_000_500_000_000, 1_700_000_000.5),
            (1_700_000_000_500.0, 1_700_000_000.5),
            ("1700000000.25", 1_700_000_000.25),
            ("1700000000500", 1_700_000_000.5),
            (" 1700000000123456789 ", 1_700_000_000_123_456_789 / 10**9),
            ("2023-11-14T22:13:20Z", 1_700_000_000.0),
            ("2023-11-14t22:13:20z", 1_700_000_000.0),
            ("2023-11-14T22:13:20.250Z", 1_700_000_000.25),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000.0),
            ("2023-11-14T17:13:20-0500", 1_700_000_000.0),
            ("2023-11-14T22:13:20", 1_700_000_000.0),
            ("2023-11-14 22:13:20", 1_700_000_000.0),
            ("2023-11-14", 1_699_920_000.0),
            ("1970-01-01T00:00:00Z", 0.0),
            ("9999-12-31T23:59:59Z", 253_402_300_799.0),
        ],
    )
    def test_a_time_is_read_as_devices_write_it(self, value, expected):
        assert expected == time_of(value)
        assert type(time_of(value)) is float

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            "",
            "yesterday",
            "12:30",
            "2023-02-30T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:30:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "0001-01-01T00:00:00+23:59",
            -1,
            -1e300,
            math.nan,
            math.inf,
            "nan",
            253_402_300_800_000_000_000,
            1e300,
            10**400,
            "9" * 39,
            "9" * 5000,
            [1_700_000_000],
            {"s": 1},
        ],
    )
    def test_what_is_no_time_is_dated_by_arrival_and_counted(self, value):
        codec = Codec(fields=["x"], time="t")
        (event,) = codec.decode(message({"x": 1, "t": value}), "pump")

        assert event.time == ARRIVAL
        assert Counter(bad_time=1) == codec.counts

    def test_an_absent_time_is_counted_and_an_unconfigured_one_is_not(self):
        dated, undated = Codec(fields=["x"], time="t"), Codec(fields=["x"])
        for codec in (dated, undated):
            assert codec.decode(message(b'{"x": 1}'), "pump")[0].time == ARRIVAL

        assert (Counter(bad_time=1), Counter()) == (dated.counts, undated.counts)

    def test_a_nested_time_is_found(self):
        codec = Codec(fields=["x"], time="params.ts")

        assert codec.decode(message(b'{"x": 1, "params": {"ts": 5.5}}'), "pump")[0].time == 5.5

    @given(
        st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)),
        st.sampled_from(["T", " "]),
        st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
    def test_a_date_time_means_the_same_in_every_zone(self, moment, separator, zone):
        expected = moment.replace(tzinfo=UTC).timestamp()

        assert expected == epoch_seconds(moment.isoformat(separator))
        assert expected == epoch_seconds(moment.replace(tzinfo=UTC).astimezone(zone).isoformat(separator))

    @given(st.integers(10**9, 9 * 10**10), st.sampled_from([1, 10**3, 10**6, 10**9]))
    def test_every_unit_is_told_by_its_size_also_as_text(self, seconds, unit):
        assert float(seconds) == epoch_seconds(seconds * unit) == epoch_seconds(str(seconds * unit))

    @given(st.text(alphabet="0123456789-+:.TZ eE", max_size=32))
    def test_any_text_is_a_time_in_range_or_none(self, text):
        time = epoch_seconds(text)

        assert time is None or 0 <= time < 253_402_300_800


class TestCodec:
    @pytest.mark.parametrize(
        "arguments",
        [{"payload": "xml", "fields": ["x"]}, {}, {"payload": "number"}, {"fields": ["x"], "symbol": "y"}],
    )
    def test_words_which_do_not_fit_together_are_refused(self, arguments):
        with pytest.raises(ValueError, match=r"payload|fields"):
            Codec(**arguments)

    def test_an_output_becomes_one_line_of_json_with_null_for_nan(self):
        output = NumericOutput(
            pipeline="p", key="k", seq=3, time=1.5, value={"x": math.nan}, forecast={"x": [0.1, math.inf]},
            lower={"x": None}, upper={"x": [1.0]}, horizons=(1, 4), error={"x": None}, score=0.5,
            anomaly=False, loudest=None, updates=2, warmup=True,
        )  # fmt: skip

        assert Codec(fields=["x"]).encode(output) == (
            b'{"pipeline":"p","key":"k","seq":3,"time":1.5,"value":{"x":null},"forecast":{"x":[0.1,null]},'
            b'"lower":{"x":null},"upper":{"x":[1.0]},"horizons":[1,4],"error":{"x":null},"score":0.5,'
            b'"anomaly":false,"loudest":null,"updates":2,"warmup":true}'
        )

    def test_the_latency_is_told_when_there_is_one(self):
        output = SymbolOutput("p", "k", 0, 0.0, "a", 1.0, [("b", 0.5)], 0, True, latency_us=12.5)

        assert encode(output).endswith(b'"next":[["b",0.5]],"updates":0,"warmup":true,"latency_us":12.5}')

    def test_neither_asyncio_nor_edges_nor_configuration_is_imported(self):
        code = "import sys, streamrnn.codecs; print(*sys.modules)"
        loaded = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()

        assert not {"asyncio", "streamrnn.config", "streamrnn.edges"} & set(loaded)
