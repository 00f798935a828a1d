"""From what comes on a broker to a configuration: what is found, what is left out, and that the draft runs."""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from daemon import Client, Daemon
from hypothesis import given
from hypothesis import strategies as st
from mosquitto import Mosquitto, free_port
from test_mqtt_access import password_broker

from streamrnn import config
from streamrnn.edges.endpoint import Settings
from streamrnn.errors import StreamrnnError
from streamrnn.events import Message
from streamrnn.sniffing.draft import quoted
from streamrnn.sniffing.findings import Finding, conclude, objection
from streamrnn.sniffing.sniff import described
from streamrnn.sniffing.survey import TOPICS_MAX, Numbers, Survey

NOW = 1.75e9
CONNACK, SUBSCRIBE = b"\x20\x02\x00\x00", b"\x82"  # of MQTT 3.1.1: granted; the first byte of the packet
LIMIT_S = 300.0  # for a test that hangs, or kernels that are compiled on a busy computer


def surveyed(messages: Iterable[tuple[str, object]]) -> Survey:
    """A second lies between two messages."""
    survey = Survey()
    for i, (topic, payload) in enumerate(messages):
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        assert survey.observe(Message(topic, data, arrival=NOW + i))
    return survey


def found(messages: Iterable[tuple[str, object]]) -> list[Finding]:
    return conclude(surveyed(messages).topics.values())[0]


def drafted(messages: Iterable[tuple[str, object]], url: str = "mqtt://127.0.0.1:1883") -> str:
    return described(surveyed(messages), ["#"], Settings(url, "x"), 30)


def paths(finding: Finding) -> list[str]:
    return [field.path for field in finding.fields]


def left_out(finding: Finding) -> dict[str, str]:
    return {field.path: field.seen for field in finding.left_out}


def wave(i: int) -> float:
    return round(20 + math.sin(i), 2)


# What is a measurement


@pytest.mark.parametrize(
    ("path", "values", "why"),
    [
        ("t", [20.5, 20.7, 20.1], None),
        ("t", [20.5, 20.6, 20.7, 20.8], None),  # a fraction that rises may fall later
        ("t", [20.5, 20.5], None),  # too few to tell
        ("count", [5, 7], "a counter"),
        ("n", [5, 7, 9, 10], "a counter"),
        ("energy.total", [1.5, 1.6], "a counter"),
        ("seq", [*range(200, 256), *range(30)], "a counter"),
        ("t", [3, 3, 3, 3], "constant, 3"),
        ("t", [0.5] * 4, "constant, 0.5"),
        ("dev.id", [5, 3, 4], "an identifier"),
        ("deviceId", [5], "an identifier"),
        ("humid", [5, 3, 4], None),
        ("ts", [1.2e9, 1.2e9 + 1], "a time"),
    ],
)
def test_numbers_with_nothing_to_learn_are_told_from_measurements(
    path: str, values: list[float], why: str | None
) -> None:
    numbers = Numbers()
    for value in values:
        numbers.observe(value)
    objected = objection(path, [numbers])
    assert (objected is None) == (why is None)
    assert (objected or "").startswith(why or "")


def test_a_number_that_differs_between_topics_and_never_within_one_is_an_identifier() -> None:
    (finding,) = found((f"plant/{name}/t", {"unit": name, "v": wave(i)}) for i in range(8) for name in (1, 2))
    assert ["v"] == paths(finding)
    assert "an identifier" in left_out(finding)["unit"]


# What belongs together


def test_levels_that_vary_become_wildcards_and_the_key() -> None:
    (finding,) = found(
        (f"plant/{hall}/{pump}/telemetry", {"temperature": wave(i), "vibration": {"rms": wave(i) / 9}, "on": True})
        for i in range(3)
        for hall in "ab"
        for pump in "xy"
    )
    assert ("plant/+/+/telemetry", "{1}/{2}") == (finding.topic_filter, finding.key)
    assert ["temperature", "vibration.rms"] == paths(finding)


def test_one_topic_needs_no_key() -> None:
    (finding,) = found([("demo/sensors", {"t": 1.5})])
    assert ("demo/sensors", None) == (finding.topic_filter, finding.key)


def test_numbers_are_put_together_by_what_is_measured() -> None:
    kinds = ("temperature", "humidity")
    findings = found((f"home/{room}/{kind}", wave(i)) for i in range(3) for room in "abc" for kind in kinds)
    assert ["home/+/humidity", "home/+/temperature"] == [finding.topic_filter for finding in findings]
    assert {"number"} == {finding.payload for finding in findings}


def test_devices_of_different_kinds_on_topics_of_one_form_are_kept_apart() -> None:
    messages = [("z/attic", {"temperature": wave(i), "humidity": 40 + wave(i)}) for i in range(3)]
    messages += [("z/plug", {"power": 10 * wave(i), "current": wave(i) / 9}) for i in range(3)]
    messages += [("z/remote", {"linkquality": 99 + i % 2}) for i in range(3)]
    assert [["temperature", "humidity"], ["power", "current"], ["linkquality"]] == [
        paths(finding) for finding in found(messages)
    ]


def test_devices_that_share_a_topic_are_told_apart_by_their_payload() -> None:
    (finding,) = found(
        ("radio/events", {"model": model, "id": number, "temperature_C": wave(i)})
        for i in range(5)
        for model, number in (("Nexus", 4), ("Bresser", 9))
    )
    assert ("radio/events", "{payload.model}-{payload.id}") == (finding.topic_filter, finding.key)
    assert ["temperature_C"] == paths(finding)


def test_names_that_cannot_be_part_of_a_topic_are_no_key() -> None:
    (finding,) = found(("e", {"id": f"a/{i % 2}", "t": wave(i)}) for i in range(9))
    assert finding.key is None


def test_texts_are_symbols_where_nothing_is_a_number() -> None:
    (finding,) = found(
        (f"kbd/{desk}/state", {"key": f"KEY_{'AB'[i % 2]}", "deviceName": desk}) for i in range(5) for desk in "xy"
    )
    assert ("key", "kbd/+/state", ()) == (finding.symbol, finding.topic_filter, finding.fields)
    (typed,) = found(("kbd/desk", letter.encode()) for letter in "hello")
    assert "text" == typed.payload


def test_a_time_that_agrees_with_the_clock_is_the_event_time() -> None:
    messages = [("a", {"ts": NOW + i, "local": "2025-06-15 13:00:00", "t": wave(i)}) for i in range(4)]
    (finding,) = found(messages)
    assert ("ts", ["t"]) == (finding.time, paths(finding))
    deep = [("a", {"sw": {"minute_ts": NOW + i, "t": wave(i)}, "ts": NOW + i + 2}) for i in range(4)]
    assert "ts" == found(deep)[0].time
    late = [("a", {"when": (NOW + i - 7200) * 1000, "t": wave(i)}) for i in range(4)]
    (finding,) = found(late)
    assert (None, ("when",)) == (finding.time, finding.clocks_off)


def test_what_makes_no_pipeline_is_named() -> None:
    text = drafted([("a", {"t": 1.5}), ("b/LWT", b"Online"), ("c", b"\xff\x00\x01")])
    assert ["a"] == list(config.loads(text).pipelines)
    assert "# Nothing to learn from on 2 other topics, such as b/LWT, c." in text


def test_our_own_outputs_are_not_taken_for_sensors() -> None:
    text = drafted([("streamrnn/a/b", {"score": 0.1}), ("plant/a", {"t": 1.5})])
    assert ["plant-a"] == list(config.loads(text).pipelines)


def test_topics_beyond_the_ceiling_are_counted() -> None:
    survey = surveyed((f"t/{i}", b"1") for i in range(TOPICS_MAX + 3))
    assert (TOPICS_MAX, 3) == (len(survey.topics), survey.counts["beyond"])


# The draft


@pytest.mark.parametrize("topic", ["x/y", "streamrnn-x/a/t"])
def test_a_filter_that_would_match_what_is_published_is_written_as_topics(topic: str) -> None:
    text = drafted([(topic, {"t": 1.5}), (topic.replace("x", "z", 1), {"t": 2.5})])
    assert list(config.loads(text).pipelines)


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4))
def test_a_name_stays_a_name_whatever_is_in_it(names: list[str]) -> None:
    for name in names:
        if name.isprintable():
            text = f"pipelines: {{p: {{input: {{topic: a, fields: [{quoted(name)}]}}}}}}"
            assert [name] == config.loads(text).pipelines["p"].input.fields
        assert yaml.safe_load(quoted(name)).replace("$$", "$") == name.replace("$$", "$")


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="+#\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
            st.dictionaries(
                st.text(max_size=8), st.floats(-9, 9) | st.text(max_size=9) | st.booleans(), max_size=4
            ),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_comes_the_draft_is_a_configuration(messages: list[tuple[str, object]]) -> None:
    try:
        text = drafted(messages)
    except StreamrnnError:
        return  # there was nothing in it
    assert config.loads(text).pipelines


# The command


def sniff(*words: str, meanwhile: Callable[[], None] = lambda: None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamrnn", "sniff", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    meanwhile()
    out, err = process.communicate(timeout=LIMIT_S)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def reading(i: int) -> str:
    return json.dumps({"t": wave(i), "rms": wave(i) / 9, "uptime": i, "fw": 3})


def test_a_draft_from_a_broker_passes_check_and_runs(mosquitto: Mosquitto, tmp_path: Path) -> None:
    stop = threading.Event()

    def publish() -> None:
        with Client(mosquitto.port) as client:
            i = 0
            while not stop.wait(0.05):
                for pump in ("p1", "p2"):
                    client.publish(f"plant/{pump}/telemetry", reading(i))
                i += 1

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        ended = sniff(mosquitto.url, "plant/#", "--seconds", "3")
    finally:
        stop.set()
        publisher.join()
    assert 0 == ended.returncode, ended.stderr
    path = tmp_path / "draft.yaml"
    path.write_text(ended.stdout)
    (spec,) = config.load(path).pipelines.values()
    assert (["plant/+/telemetry"], ["t", "rms"]) == (spec.input.topic, spec.input.fields)
    check = subprocess.run(
        [sys.executable, "-m", "streamrnn", "check", str(path)], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert 0 == check.returncode, check.stderr
    with Daemon(tmp_path, ended.stdout) as daemon, Client(mosquitto.port, "streamrnn/+/+") as client:
        daemon.says("ready")
        client.publish("plant/p1/telemetry", reading(7))
        outputs = client.until(lambda got: any(each.topic.endswith("/p1") for each in got))
        assert 0 == daemon.stop()
    output = json.loads(next(each for each in outputs if each.topic.endswith("/p1")).payload)
    assert {"t": wave(7), "rms": wave(7) / 9} == output["value"]


def test_a_broker_that_is_not_there_ends_sniff_with_69(tmp_path: Path) -> None:
    ended = sniff(f"mqtt://127.0.0.1:{free_port()}", "#", "--seconds", "1")
    assert (69, "") == (ended.returncode, ended.stdout)
    assert "cannot reach the broker" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_password_ends_sniff_with_69_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2-wrong\n")
    monkeypatch.setenv("STREAMRNN_USERNAME", "edge")
    monkeypatch.setenv("STREAMRNN_PASSWORD_FILE", str(secret))
    with password_broker(tmp_path) as broker:
        ended = sniff(broker.url, "#", "--seconds", "1")
        assert 69 == ended.returncode
        assert "not authorised" in ended.stderr
        assert "hunter2" not in ended.stderr + ended.stdout
        secret.write_text("right\n")
        quiet = sniff(broker.url, "#", "--seconds", "1")
    assert (1, "") == (quiet.returncode, quiet.stdout)
    assert "nothing came on # in 1 seconds" in quiet.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("mqtt://127.0.0.1", "a/#/b"), 'TOPIC: expected "#" alone in the last level'),
        (("http://127.0.0.1", "a"), "URL: expected mqtt, mqtts, ws, wss or unix"),
        (("mqtt://edge:hunter2@127.0.0.1", "a"), "belong in mqtt.username and mqtt.password_file"),
    ],
)
def test_words_that_do_not_fit_end_sniff_with_2(words: tuple[str, ...], line: str) -> None:
    ended = sniff(*words)
    assert 2 == ended.returncode
    assert line in ended.stderr
    assert "hunter2" not in ended.stderr


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("broker", ["silent", "gone"])
def test_ctrl_c_ends_sniff_at_once_before_the_subscription_is_granted(broker: str) -> None:
    """A broker that never answers a subscription, and one that is gone after it was found to be there."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listening.settimeout(LIMIT_S)
        url = f"mqtt://127.0.0.1:{listening.getsockname()[1]}"
        command = [sys.executable, "-m", "streamrnn", "sniff", url, "#", "--seconds", str(LIMIT_S)]
        # Who runs tests in a shell's background has Ctrl-C ignored, and would hand that on.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_ctrl_c
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        first = stack.enter_context(listening.accept()[0])
        first.recv(4096)
        first.sendall(CONNACK)
        if broker == "gone":
            listening.close()
            first.close()
            assert process.stderr is not None
            while "waiting for the broker" not in (line := process.stderr.readline()):
                assert line
        else:
            second = stack.enter_context(listening.accept()[0])
            second.recv(4096)
            second.sendall(CONNACK)
            while second.recv(4096)[:1] != SUBSCRIBE:
                pass
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=LIMIT_S / 4)
    assert (130, "") == (process.returncode, stdout)
    assert "Traceback" not in stderr
