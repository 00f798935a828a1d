"""What the daemon tells over HTTP: right numbers, names by the conventions, and a dashboard made of them."""

from __future__ import annotations

import json
import math
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from daemon import LIMIT_S, Client, Daemon
from mosquitto import Mosquitto, free_port
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.events import Message, NumericOutput
from streamrnn.kernels.intervals import FADE
from streamrnn.learn.quality import quality

TOP = Path(__file__).parents[1]
EVENTS = 300
CONFIG = """
mqtt: {{url: "{url}"}}
state: kept
http: {{listen: "127.0.0.1:{port}"}}
pipelines:
  plant:
    input: {{topic: plant/+, fields: [x]}}
    model: {{hidden: 4}}
    limits: {{keys: 2, payload_bytes: 100}}
  keys:
    input: {{topic: keys/+, payload: text}}
    model: {{hidden: 4}}
"""


def fetch(port: int, path: str, accept: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Scraped(NamedTuple):
    text: str
    open_text: str
    answers: dict[str, tuple[int, str]]
    since: float

    @property
    def samples(self) -> list[Sample]:
        return [sample for family in text_string_to_metric_families(self.text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (found,) = [each.value for each in self.samples if each.name == name and each.labels == labels]
        return found


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """What a daemon tells after events of two pipelines and some rubbish."""
    folder, port, since = tmp_path_factory.mktemp("metrics"), free_port(), time.time()
    with (
        Mosquitto(folder) as broker,
        Daemon(folder, CONFIG.format(url=broker.url, port=port)) as daemon,
        Client(broker.port, "streamrnn/plant/#", "streamrnn/keys/#") as client,
    ):
        daemon.says("ready")
        for i in range(EVENTS):
            key = 2 if i == 200 else i % 2  # a third, for a moment: there is room for two
            client.publish(f"plant/{key}", json.dumps({"x": math.sin(i / 5)}))
        for rubbish in (b"", b"rubbish", b"rubbish", b"x" * 200, b'{"y": 1}'):
            client.publish("plant/0", rubbish)
        client.publish("plant/0", b'{"x": "not a number"}')
        client.publish("keys/a", "hello world")
        client.outputs(EVENTS + len("hello world"))
        client.flush()
        pages = {path: fetch(port, path) for path in ("/live", "/ready", "/version")}
        newer = fetch(port, "/metrics", "application/openmetrics-text")[1]
        yield Scraped(fetch(port, "/metrics")[1], newer, pages, since)


def test_events_are_counted_and_so_is_what_was_dropped_for_which_reason(scraped: Scraped) -> None:
    assert EVENTS == scraped.value("streamrnn_events_total", pipeline="plant")
    assert len("hello world") == scraped.value("streamrnn_events_total", pipeline="keys")
    dropped = {
        each.labels["reason"]: each.value
        for each in scraped.samples
        if each.name == "streamrnn_dropped_total" and each.labels["pipeline"] == "plant"
    }
    assert {"empty": 1, "not_json": 2, "too_large": 1, "no_value": 2, "queue_dropped": 0} == dropped
    assert scraped.value("streamrnn_values_amiss_total", pipeline="plant", reason="missing") == 2
    assert EVENTS + 7 == scraped.value("streamrnn_received_total")
    assert EVENTS + 6 == scraped.value("streamrnn_journalled_total")  # what is too large is not kept
    assert scraped.value("streamrnn_published_total") >= EVENTS + len("hello world")


def test_every_event_is_in_the_histograms(scraped: Scraped) -> None:
    for name in ("streamrnn_step_seconds", "streamrnn_end_to_end_seconds"):
        assert EVENTS == scraped.value(f"{name}_count", pipeline="plant")
        assert EVENTS == scraped.value(f"{name}_bucket", pipeline="plant", le="+Inf")
        assert 0 < scraped.value(f"{name}_sum", pipeline="plant") < LIMIT_S * EVENTS
        buckets = [
            each.value
            for each in scraped.samples
            if each.name == f"{name}_bucket" and each.labels["pipeline"] == "plant"
        ]
        assert sorted(buckets) == buckets
    steps, ends = (
        scraped.value(f"streamrnn_{each}_seconds_sum", pipeline="plant") for each in ("step", "end_to_end")
    )
    assert steps <= ends


def test_updates_are_counted_and_timed(scraped: Scraped) -> None:
    updates = scraped.value("streamrnn_updates_total", pipeline="plant")
    assert 50 < updates <= EVENTS / 4
    assert updates <= scraped.value("streamrnn_learn_seconds_count", pipeline="plant") <= updates + 1
    assert 0 < scraped.value("streamrnn_learn_seconds_sum", pipeline="plant") < LIMIT_S
    assert scraped.value("streamrnn_roll_backs_total", pipeline="plant") == 0


def test_what_is_waiting_and_what_is_kept(scraped: Scraped) -> None:
    assert scraped.value("streamrnn_keys", pipeline="plant") == 2
    assert scraped.value("streamrnn_keys_let_go_total", pipeline="plant") == 2
    assert scraped.value("streamrnn_queue_messages", pipeline="plant") == 0
    assert scraped.value("streamrnn_queue_limit_messages", pipeline="plant") == 10_000
    assert scraped.value("streamrnn_lag_seconds", pipeline="plant") == 0
    assert scraped.value("streamrnn_mqtt_connected") == 1
    assert scraped.value("streamrnn_ready") == 1
    assert scraped.value("streamrnn_state_fault") == 0
    assert scraped.value("streamrnn_state_free_bytes") > 0
    last = scraped.value("streamrnn_last_message_timestamp_seconds", pipeline="keys")
    assert scraped.since < last < time.time()


def test_versions_are_told_and_health_is_good(scraped: Scraped) -> None:
    (info,) = [each for each in scraped.samples if each.name == "streamrnn_build_info"]
    assert info.value == 1
    assert json.loads(scraped.answers["/version"][1]) == info.labels
    assert {"streamrnn", "python", "numba", "numpy"} == set(info.labels)
    assert (200, '{"status":"alive"}\n') == scraped.answers["/live"]
    assert (200, '{"status":"ready"}\n') == scraped.answers["/ready"]


# Names


def exported(scraped: Scraped) -> set[str]:
    """Names of series, as a query writes them."""
    return {each.name for each in scraped.samples}


ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "m", "h", "d", "min", "pct"}
OTHER_UNITS = {"milliseconds", "microseconds", "minutes", "hours", "kilobytes", "megabytes", "percent"}


def test_names_hold_to_the_conventions(scraped: Scraped) -> None:
    """The rules of `promtool check metrics`."""
    families = list(text_string_to_metric_families(scraped.text))
    for family in families:
        name = family.name
        assert re.fullmatch(r"streamrnn_[a-z0-9_]+", name)
        assert family.documentation, f"{name} has no help"
        assert family.type in ("counter", "gauge", "histogram"), name
        assert not set(name.split("_")) & (ABBREVIATIONS | OTHER_UNITS), name
        assert not set(name.split("_")) & {"counter", "gauge", "histogram"}, name
        assert not name.endswith(("_total", "_count", "_sum", "_bucket")), name
        if family.type == "counter":
            assert {f"{name}_total"} == {each.name for each in family.samples} or not family.samples
    assert len({family.name for family in families}) == len(families)


def test_labels_are_the_pipeline_and_the_reason_only(scraped: Scraped) -> None:
    labels = {label for each in scraped.samples if each.name != "streamrnn_build_info" for label in each.labels}
    assert {"pipeline", "reason", "le"} == labels
    assert {"plant", "keys"} == {each.labels["pipeline"] for each in scraped.samples if "pipeline" in each.labels}


def test_the_newer_format_says_the_same(scraped: Scraped) -> None:
    newer = {family.name for family in open_metrics(scraped.open_text)}
    older = {family.name for family in text_string_to_metric_families(scraped.text)}
    assert {name.removesuffix("_info") for name in older} == newer


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bstreamrnn_[a-z0-9_]+", text))


def expressions(panel: Any) -> Iterator[str]:
    """Every query in a dashboard."""
    if isinstance(panel, dict):
        for key, value in panel.items():
            if key in ("expr", "query", "definition") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(panel, list):
        for each in panel:
            yield from expressions(each)


def test_the_dashboard_asks_for_nothing_that_is_not_there(scraped: Scraped) -> None:
    dashboard = json.loads((TOP / "deploy" / "grafana-dashboard.json").read_text())
    asked = set().union(*(names_in(each) for each in expressions(dashboard)))
    assert len(asked) > 25
    assert set() == asked - exported(scraped)


def test_the_documentation_lists_every_name_and_no_other(scraped: Scraped) -> None:
    text = (TOP / "docs" / "metrics.md").read_text()
    rows = {name for line in text.splitlines() if line.startswith("| `s") for name in names_in(line.split("|")[1])}
    histograms = {f"streamrnn_{each}_seconds" for each in ("step", "learn", "end_to_end")}
    series = {name for name in exported(scraped) if not name.endswith(("_bucket", "_sum", "_count"))}
    assert (series | histograms) == rows


# Health as things go wrong


def test_a_broker_that_is_away_makes_it_not_ready_and_alive(mosquitto: Mosquitto, tmp_path: Path) -> None:
    port, away = free_port(), (503, '{"status":"not ready","why":["not connected to the broker"]}\n')
    with Daemon(tmp_path, CONFIG.format(url=mosquitto.url, port=port)) as daemon:
        daemon.says("ready")
        mosquitto.stop()
        until(lambda: fetch(port, "/ready") == away)
        assert fetch(port, "/live")[0] == 200
        assert "streamrnn_mqtt_connected 0.0" in fetch(port, "/metrics")[1]
        mosquitto.start()
        until(lambda: fetch(port, "/ready")[0] == 200)
        assert "streamrnn_mqtt_connections_lost_total 1.0" in fetch(port, "/metrics")[1]
        assert daemon.stop() == 0


def test_a_daemon_that_cannot_listen_ends_with_one_clear_line(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG.format(url=mosquitto.url, port=mosquitto.port)) as daemon:
        assert daemon.ended() == 1
        daemon.says(f"http.listen: cannot listen on 127.0.0.1:{mosquitto.port}: address already in use")
        assert "Traceback" not in daemon.log


def test_a_frozen_reader_does_not_hold_up_events(mosquitto: Mosquitto, tmp_path: Path) -> None:
    port = free_port()
    with (
        Daemon(tmp_path, CONFIG.format(url=mosquitto.url, port=port)) as daemon,
        Client(mosquitto.port, "streamrnn/plant/#") as client,
    ):
        daemon.says("ready")
        with socket.create_connection(("127.0.0.1", port)) as frozen:
            frozen.sendall(b"GET /metrics HTTP/1.1\r\n")  # and never the rest
            for i in range(100):
                client.publish("plant/a", json.dumps({"x": i}))
            client.outputs(100)
        daemon.signal(signal.SIGTERM)
        assert daemon.ended() == 0


def test_without_it_in_the_configuration_nothing_listens(mosquitto: Mosquitto, tmp_path: Path) -> None:
    text = re.sub(r"(?m)^http:.*\n", "", CONFIG.format(url=mosquitto.url, port=free_port()))
    with Daemon(tmp_path, text) as daemon:
        daemon.says("ready")
        listening = Path(f"/proc/{daemon.pid}/net/tcp").read_text().splitlines()[1:]
        ours = {Path(each).resolve().name for each in Path(f"/proc/{daemon.pid}/fd").iterdir()}
        inodes = {line.split()[9] for line in listening if line.split()[3] == "0A"}
        assert not {f"socket:[{inode}]" for inode in inodes} & ours


# Coverage and skill


def test_coverage_and_skill_are_those_of_the_published_forecasts_with_older_ones_fading() -> None:
    text = "pipelines: {p: {input: {topic: t/+, fields: [x, y]}, model: {hidden: 4}, forecast: {horizons: [1, 4]}}}"
    loaded = config.loads(text)
    pipeline = build_pipeline("p", loaded.pipelines["p"], 0)
    outputs: dict[str, list[NumericOutput]] = {"a": [], "b": []}
    for i in range(400):
        key = "ab"[i % 3 == 0]
        y = None if i % 7 == 0 else math.cos(i) * (100 if key == "a" else 1)
        payload = json.dumps({"x": math.sin(i / 9) + 0.1 * (i * 7919 % 13), "y": y}).encode()
        output = pipeline.process(Message(f"t/{key}", payload, arrival=float(i)))
        assert isinstance(output, NumericOutput)
        outputs[key].append(output)
    found = quality(list(pipeline.streams.values()))
    pipeline.close()
    judged = inside = 0.0
    absolute, naive = {"x": 0.0, "y": 0.0}, {"x": 0.0, "y": 0.0}
    for of_key in outputs.values():
        for field in ("x", "y"):
            sums = [0.0] * 4
            last = None
            for i, output in enumerate(of_key):
                value = output.value[field]
                for k, horizon in enumerate((1, 4)):
                    made = of_key[i - horizon] if i >= horizon else None
                    if value is None or made is None or made.forecast[field] is None:
                        continue
                    sums[0] = FADE * sums[0] + 1
                    sums[1] = FADE * sums[1] + (made.lower[field][k] <= value <= made.upper[field][k])
                    if k == 0 and last is not None:
                        sums[2] = FADE * sums[2] + abs(value - made.forecast[field][0])
                        sums[3] = FADE * sums[3] + abs(value - last)
                last = last if value is None else value
            judged, inside = judged + sums[0], inside + sums[1]
            absolute[field] += sums[2]
            naive[field] += sums[3]
    assert found.coverage == pytest.approx(inside / judged, rel=1e-9)
    assert found.skill == pytest.approx(sum(1 - absolute[f] / naive[f] for f in "xy") / 2, rel=1e-9)


def test_without_streams_nothing_is_known() -> None:
    assert all(math.isnan(each) for each in quality([]))
