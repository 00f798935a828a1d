"""Recorded files as rows and messages, and outputs as files which are whole or not there."""

import csv
import gzip
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrnn.codecs import Codec
from streamrnn.edges import files
from streamrnn.edges.files import find_time_column, messages, open_writer, read
from streamrnn.edges.outputs import _cell
from streamrnn.errors import InputFileError, StreamrnnError, UsageError
from streamrnn.events import Message, NumericOutput, SymbolOutput


@pytest.fixture
def file(tmp_path):
    def make(content, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


@pytest.fixture
def stdin(monkeypatch):
    return lambda content: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def numeric(seq=0, **changes):
    fields = {
        "pipeline": "machine", "key": "pump", "seq": seq, "time": 1.5, "value": {"x": 0.1, "y": None},
        "forecast": {"x": [1e-7, 2.0], "y": None}, "lower": {"x": [-1.0, -2.5], "y": [0.0, 0.0]},
        "upper": {"x": [math.nan, math.inf], "y": None}, "horizons": (1, 16),
        "error": {"x": -0.25, "y": None}, "score": 0.5, "anomaly": True, "loudest": "x",
        "updates": 7, "warmup": False,
    }  # fmt: skip
    return NumericOutput(**fields | changes)


def symbolic(symbol="a", following=(("b", 0.5), ("c", 0.25)), **changes):
    return SymbolOutput("typing", "me", 3, 2.0, symbol, 1.25, list(following), 4, True, **changes)


class TestReadingTables:
    def test_cells_are_text_by_column_name(self, file):
        path = file('time,x\n2024-01-01,1.50\n2024-01-02," a ""b"", c"\n')

        assert list(read(path)) == [
            {"time": "2024-01-01", "x": "1.50"},
            {"time": "2024-01-02", "x": ' a "b", c'},
        ]

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_the_header_tells_the_delimiter(self, file, delimiter):
        path = file(f'a{delimiter}"b,;,;"{delimiter}c\n1{delimiter}2{delimiter}3\n')

        assert list(read(path)) == [{"a": "1", "b,;,;": "2", "c": "3"}]

    def test_a_single_column_has_no_delimiter(self, file):
        assert list(read(file("key\na\n \n;\n"))) == [{"key": "a"}, {"key": " "}, {"key": ";"}]

    @pytest.mark.parametrize(
        "content", ["\ufeffa, b\r\n1,2\r\n", "\n\na,b\n\n1,2\n  \n", "a,b\n1,2", "a,,b,\n1,x,2,\n"]
    )
    def test_marks_blank_lines_and_nameless_columns_do_not_matter(self, file, content):
        assert list(read(file(content))) == [{"a": "1", "b": "2"}]

    def test_an_empty_or_lacking_cell_is_none(self, file):
        path = file('a,b,c\n1,,""\n2\n,,3\n4,5,6,,\n')

        assert [list(row.values()) for row in read(path)] == [
            ["1", None, None],
            ["2", None, None],
            [None, None, "3"],
            ["4", "5", "6"],
        ]

    def test_a_cell_may_span_lines(self, file):
        assert list(read(file('a,b\n"1\n2",3\n'))) == [{"a": "1\n2", "b": "3"}]

    def test_a_header_alone_is_a_table_without_rows(self, file):
        assert list(read(file("a,b\n"))) == []

    def test_columns_named_by_number_are_a_header(self, file):
        assert list(read(file("0,1\n1.5,2\n"))) == [{"0": "1.5", "1": "2"}]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a,b\n1,2\n1,2,3\n", r":3: 3 cells, but the header has 2$"),
            ('a,b\n1,"2\n', r":2: unexpected end of data$"),
            ('a,b\n1,"2"x\n', r":2: ',' expected after '\"'$"),
            (b"a,b\n1,2\n\xff,2\n", r":3: not UTF-8 text$"),
            ("a,b\n1,2\n".encode("utf-16"), r":1: not UTF-8 text$"),
            ("", r"rows\.csv: is empty$"),
            ("\n \n", r"rows\.csv: is empty$"),
            ("1.5,2\n3,4\n", r":1: expected a header"),
            ("2024-01-01,2\n2024-01-02,4\n", r":1: expected a header"),
            (",,\n1,2,3\n", r":1: expected a header"),
            ("a,b,a\n1,2,3\n", r":1: more than one column is named a$"),
            ("a,b\n1," + "x" * files.LINE_BYTES_MAX + "\n", r":2: longer than 1048576 bytes$"),
            ('a,b\n1,"' + "x\n" * 100_000, r":\d+: field larger than field limit"),
        ],
    )
    def test_a_bad_table_is_told_by_file_and_line(self, file, content, message):
        path = file(content)
        with pytest.raises(InputFileError, match=message) as caught:
            list(read(path))

        assert str(caught.value).startswith(str(path))

    def test_rows_before_a_bad_one_are_given(self, file):
        rows = read(file("a\n1\n2\n3,4\n"))

        assert [next(rows), next(rows)] == [{"a": "1"}, {"a": "2"}]
        with pytest.raises(InputFileError, match=":4:"):
            next(rows)

    def test_a_file_is_read_as_rows_are_asked_for(self):
        class Endless(io.RawIOBase):
            lines = 0

            def readline(self, size=-1):
                assert 0 < size <= 2 * files.LINE_BYTES_MAX
                Endless.lines += 1
                return b"a,b\n"

        rows = files._table("x,y\n", files._Lines(Endless(), "endless"))
        for _ in range(10):
            next(rows)

        assert Endless.lines == 10

    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
                st.text("a,\"\r\n' "),
            ),
            max_size=6,
        )
    )
    def test_what_python_writes_as_csv_is_read_back(self, rows):
        written = io.StringIO(newline="")
        csv.writer(written, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
        lines = files._Lines(io.BytesIO(written.getvalue().encode()), "rows")

        assert [{"a": a or None, "b": b or None} for a, b in rows] == list(files._table(lines.first(), lines))


class TestReadingJsonLines:
    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json"])
    def test_each_line_is_a_row(self, file, name):
        path = file('\ufeff{"x": 1, "y": {"z": [2]}}\n\n  \r\n{"x": null}', name)

        assert list(read(path)) == [{"x": 1, "y": {"z": [2]}}, {"x": None}]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"x": 1}\n\n{"x": nan}\n', r":3: JSON is malformed"),
            ('{"x": 1}\n[1]\n', r":2: expected a JSON object, got a list; .*jq"),
            ("5\n", r":1: expected a JSON object, got a int$"),
            ('{\n  "x": 1\n}\n', r":1: .*jq"),
            ('[\n  {"x": 1}\n]\n', r":1: .*jq"),
            ('[{"x": 1}, {"x": 2}]', r":1: .*jq"),
            ("[" * 100_000, r":1: maximum recursion"),
            (b'{"x": "\xff"}', r":1: not UTF-8"),
            ("", r": is empty$"),
        ],
    )
    def test_a_bad_line_is_told_by_file_and_line(self, file, content, message):
        path = file(content, "rows.json")
        with pytest.raises(InputFileError, match=message) as caught:
            list(read(path))

        assert str(caught.value).startswith(str(path))


class TestReadingSources:
    def test_the_format_may_be_told(self, file):
        assert list(read(file('{"x": 1}\n', "rows.log"), "jsonl")) == [{"x": 1}]
        assert list(read(file("x\n1\n", "rows.json"), "csv")) == [{"x": "1"}]

    def test_compressed_files_are_read(self, file):
        assert list(read(file(gzip.compress(b"x\n1\n"), "rows.csv.gz"))) == [{"x": "1"}]
        assert list(read(str(file(gzip.compress(b'{"x":1}\n'), "rows.jsonl.gz")))) == [{"x": 1}]

    @pytest.mark.parametrize("content", [b"x\n1\n", gzip.compress(b"x\n1\n" * 1000, mtime=0)[:30]])
    def test_a_damaged_compressed_file_is_told(self, file, content):
        with pytest.raises(InputFileError, match=r"rows\.csv\.gz:(\d+:)? "):
            list(read(file(content, "rows.csv.gz")))

    def test_a_missing_file_and_a_folder_are_told(self, tmp_path):
        with pytest.raises(InputFileError, match=r"none\.csv: No such file or directory$"):
            list(read(tmp_path / "none.csv"))
        with pytest.raises(InputFileError, match=r": Is a directory$"):
            list(read(tmp_path))

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b'\n {"x": 1}\n{"x": 2}\n', [{"x": 1}, {"x": 2}]),
            (b"\xef\xbb\xbfx;y\n1;2\n", [{"x": "1", "y": "2"}]),
        ],
    )
    def test_the_standard_input_shows_its_format_by_its_beginning(self, stdin, content, expected):
        stdin(content)

        assert expected == list(read("-"))
        assert not sys.stdin.buffer.closed

    def test_the_standard_input_is_named_in_errors(self, stdin):
        stdin(b"a\n1\n1,2\n")
        with pytest.raises(InputFileError, match=r"^standard input:3: 2 cells"):
            list(read("-"))


class TestMessages:
    def test_a_row_is_the_payload_and_its_number_the_arrival(self):
        rows = [
            {"x": "1"},
            {"x": "2", "topic": "plant/fan"},
            {"x": "3", "topic": None},
            {"x": "4", "topic": 5},
        ]

        assert [
            Message("", rows[0], key="pump", arrival=0.0),
            Message("plant/fan", rows[1], arrival=1.0),
            Message("", rows[2], key="pump", arrival=2.0),
            Message("", rows[3], key="pump", arrival=3.0),
        ] == list(messages(rows, "pump"))

    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            ({"payload": '{"x": "é"}'}, '{"x": "é"}'.encode()),
            ({"payload": None}, b""),
            ({"payload": {"x": 1}}, {"x": 1}),
            ({"payload": 25.5}, b"25.5"),
            ({"payload": [1, "a"]}, b'[1,"a"]'),
            ({"x": "1"}, {"x": "1"}),
        ],
    )
    def test_a_raw_payload_is_what_the_device_sent(self, row, expected):
        (message,) = messages([row], "t", raw=True)

        assert expected == message.payload

    def test_a_column_named_payload_is_a_field_unless_raw(self):
        (message,) = messages([{"payload": "100"}], "t")

        assert message.payload == {"payload": "100"}

    def test_a_raw_row_is_decoded_like_a_live_message(self):
        (message,) = messages([{"topic": "t", "payload": '{"x": 2.5}'}], "other", raw=True)

        assert Codec(fields=["x"]).decode(message, "k")[0].values[0] == 2.5

    def test_a_time_column_is_the_arrival_and_a_bad_time_that_of_the_row_before(self):
        rows = [{"t": "?"}, {"t": "5"}, {"t": None}, {}, {"t": "1970-01-01T00:00:09Z"}]

        assert [message.arrival for message in messages(rows, "t", time_column="t")] == [
            0.0,
            5.0,
            5.0,
            5.0,
            9.0,
        ]

    def test_rows_are_taken_as_messages_are_asked_for(self):
        taken = messages(iter([{"x": 1}, None]), "t")

        assert next(taken).payload == {"x": 1}

    @pytest.mark.parametrize(
        ("record", "expected"),
        [
            ({"x": 1, "ts": 2, "Date": 3, "timestamp": 4}, "timestamp"),
            ({"TIME": 1, "timestamp": 4}, "TIME"),
            ({"DateTime": 1}, "DateTime"),
            ({"time": 1, "Time": 2}, "time"),
            ({"tst": 1}, "tst"),
            ({"uptime": 1, "times": 2}, None),
            ({}, None),
        ],
    )
    def test_the_time_column_is_known_by_its_name(self, record, expected):
        assert expected == find_time_column(record)


class TestWriting:
    def write_all(self, path, count, fault=None):
        with open_writer(path, None, ()) as writer:
            for _ in range(count):
                writer.write(symbolic())
            if fault:
                raise fault

    def test_json_lines_are_what_the_daemon_publishes_without_latency(self, tmp_path):
        path = tmp_path / "out.jsonl"
        with open_writer(path, ["x", "y"], (1, 16)) as writer:
            writer.write(numeric(0))
            writer.write(numeric(1, latency_us=12.5))

        lines = path.read_bytes().splitlines()
        assert [Codec(fields=["x"]).encode(numeric(seq)) for seq in (0, 1)] == lines
        assert json.loads(lines[0])["upper"]["x"] == [None, None]

    def test_a_numeric_table_has_a_column_per_field_and_horizon(self, tmp_path):
        path = tmp_path / "out.csv"
        with open_writer(path, ["x", "y"], (1, 16)) as writer:
            writer.write(numeric(5, latency_us=12.5))

        assert path.read_text() == (
            "pipeline,key,seq,time,value.x,value.y,forecast.x.1,forecast.x.16,forecast.y.1,forecast.y.16,"
            "lower.x.1,lower.x.16,lower.y.1,lower.y.16,upper.x.1,upper.x.16,upper.y.1,upper.y.16,error.x,error.y,"
            "score,anomaly,loudest,updates,warmup\n"
            "machine,pump,5,1.5,0.1,,1e-07,2.0,,,-1.0,-2.5,0.0,0.0,,,,,-0.25,,0.5,true,x,7,false\n"
        )

    def test_a_symbol_table_has_the_five_likeliest(self, tmp_path):
        path = tmp_path / "out.csv"
        with open_writer(path, None, ()) as writer:
            writer.write(symbolic())
            writer.write(symbolic("b", [(str(i), i / 8) for i in range(7)], latency_us=3.0))

        assert path.read_text() == (
            "pipeline,key,seq,time,symbol,bits,next.1,next.1.p,next.2,next.2.p,next.3,next.3.p,next.4,next.4.p,"
            "next.5,next.5.p,updates,warmup\n"
            "typing,me,3,2.0,a,1.25,b,0.5,c,0.25,,,,,,,4,true\n"
            "typing,me,3,2.0,b,1.25,0,0.0,1,0.125,2,0.25,3,0.375,4,0.5,4,true\n"
        )

    def test_every_symbol_is_read_back_from_a_table(self, tmp_path):
        path = tmp_path / "out.csv"
        symbols = [",", '"', "\n", "\r", "\r\n", " ", ";", "é", "a,b", '"a"', "=1+1", "true"]
        with open_writer(path, None, ()) as writer:
            for symbol in symbols:
                writer.write(symbolic(symbol, [(symbol, 0.5)]))

        rows = list(read(path))
        assert symbols == [row["symbol"] for row in rows] == [row["next.1"] for row in rows]

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_a_number_is_written_to_its_last_bit(self, number):
        assert number == float(_cell(number)) == float(_cell(np.float64(number)))

    def test_awkward_field_names_are_quoted_in_the_header(self, tmp_path):
        path = tmp_path / "out.csv"
        with open_writer(path, ['a,"b"'], (1,)):
            pass

        (header,) = csv.reader([path.read_text()])
        assert header[4:6] == ['value.a,"b"', 'forecast.a,"b".1']

    @pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
    def test_the_file_has_its_name_only_once_it_is_whole(self, tmp_path, name):
        path = tmp_path / name
        path.write_text("before")
        with open_writer(path, None, ()) as writer:
            writer.write(symbolic())

            assert path.read_text() == "before"
            assert (tmp_path / f"{name}.part").exists()
        assert '"a"' in path.read_text() or ",a," in path.read_text()
        assert [path] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError, OSError])
    def test_a_failed_run_leaves_what_was_there_before(self, tmp_path, fault):
        path = tmp_path / "out.jsonl"
        path.write_text("before")
        with pytest.raises(fault):
            self.write_all(path, 1, fault)

        assert path.read_text() == "before"
        assert [path] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["out.txt", "out", "out.json", "out.csv.gz"])
    def test_another_suffix_is_a_mistake_of_usage(self, tmp_path, name):
        with (
            pytest.raises(UsageError, match=r"as \.csv or \.jsonl$"),
            open_writer(tmp_path / name, None, ()),
        ):
            raise AssertionError

        assert list(tmp_path.iterdir()) == []

    def test_a_place_which_cannot_be_written_to_is_a_mistake_of_usage(self, tmp_path):
        with (
            pytest.raises(UsageError, match="No such file"),
            open_writer(tmp_path / "none" / "out.csv", None, ()),
        ):
            raise AssertionError
        (tmp_path / "folder.csv").mkdir()
        with (
            pytest.raises(UsageError, match="is a directory"),
            open_writer(tmp_path / "folder.csv", None, ()),
        ):
            raise AssertionError

    def test_a_full_disk_is_told_by_the_name_of_the_file(self, tmp_path):
        path = tmp_path / "out.csv"
        Path(f"{path}.part").symlink_to("/dev/full")
        with pytest.raises(StreamrnnError, match=r"out\.csv: writing failed: No space left on device$") as caught:
            self.write_all(path, 100_000)

        assert caught.value.exit_status == 1
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_told_when_the_end_does_not_fit(self, tmp_path):
        path = tmp_path / "out.csv"
        Path(f"{path}.part").symlink_to("/dev/full")
        with pytest.raises(StreamrnnError, match=r"out\.csv: writing failed: No space left on device$") as caught:
            self.write_all(path, 1)

        assert caught.value.exit_status == 1
        assert list(tmp_path.iterdir()) == []

    def test_an_output_of_the_other_kind_is_refused(self, tmp_path):
        with pytest.raises(TypeError), open_writer(tmp_path / "a.csv", None, ()) as writer:
            writer.write(numeric())
        with pytest.raises(TypeError), open_writer(tmp_path / "b.csv", ["x"], (1,)) as writer:
            writer.write(symbolic())
