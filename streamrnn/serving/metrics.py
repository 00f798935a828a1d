"""Metrics of a service in Prometheus' formats: counts that are there anyway, read when somebody scrapes.

Labels are `pipeline` and `reason` only, so their number is known beforehand. docs/metrics.md lists them all.
Read on threads of the HTTP server while the event loop goes on: each number is right, and they may be of slightly
different moments.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streamrnn.durations import BOUNDS_S, Durations
from streamrnn.edges.http import Answer, serving
from streamrnn.edges.mqtt import Connection
from streamrnn.edges.store import Store
from streamrnn.learn.numeric import NumericModel
from streamrnn.learn.quality import quality
from streamrnn.learn.symbols import SymbolModel
from streamrnn.serving.health import Health, Watched
from streamrnn.serving.lane import Lane
from streamrnn.versions import versions

Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily)

PREFIX = "streamrnn_"
VALUES_AMISS = ("missing", "not_finite", "out_of_range", "bad_time")  # of an event that was answered all the same
NO_DROPS = (
    "events",
    "retained",
    "paused",
    "keys_let_go",
    "streams_reset",
    *VALUES_AMISS,
)  # in a pipeline's counts, no messages let go

# What is counted by the connection, the journal and the store: name in their counts, name here, help.
CONNECTION = (
    ("received", "received", "Messages that came from the broker"),
    ("redelivered", "redelivered", "Messages the broker marked as delivered before"),
    ("undecodable", "undecodable", "Packets that were no message of MQTT as we know it"),
    ("published", "published", "Outputs and states handed to the broker"),
    ("acknowledged", "publishes_acknowledged", "Publishes of QoS 1 the broker has acknowledged"),
    ("publish_dropped", "publishes_dropped", "Publishes dropped because the broker was away or far behind"),
    ("connects", "mqtt_connects", "Connections made to the broker"),
    ("lost", "mqtt_connections_lost", "Connections lost"),
    ("refused", "mqtt_connections_refused", "Connections the broker refused"),
    ("subscribe_refused", "mqtt_subscriptions_refused", "Subscriptions the broker refused"),
)
STORE = (
    ("appended", "journalled", "Messages taken into the journal"),
    ("written", "journal_written_bytes", "Bytes written to the journal"),
    ("faults", "journal_faults", "Times the journal could not be written, a full disk among them"),
    ("failed_syncs", "journal_failed_syncs", "Times the disk failed to take what was written"),
    ("healed", "journal_healed", "Times the journal could be written again after a fault"),
    ("let_go", "journal_let_go", "Messages of QoS 0 answered and not kept during a fault"),
    ("redelivered", "redeliveries_recognised", "Messages that came again, were recognised, and not counted twice"),
    ("recovered", "recovered", "Messages taken from the journal after a restart"),
    ("quarantined", "quarantined", "Messages left out because they killed the process"),
    ("checkpoints", "checkpoints", "Checkpoints written"),
    ("checkpoint_failed", "checkpoints_failed", "Checkpoints that could not be written"),
)


class Metrics(Collector):
    """Reads the numbers of a service.

    Parameters
    ----------
    watched
        The service.
    """

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(PREFIX.rstrip("_"), registry=self.registry)

    def page(self, accept: str) -> Answer:
        """Answer a scrape, in the format that the Accept header asks for."""
        encode, kind = choose_encoder(accept)
        return Answer(200, kind, encode(self.registry))

    def collect(self) -> Iterator[Metric]:
        """Yield all families; those of the journal only when there is one."""
        watched = self.watched
        yield InfoMetricFamily(PREFIX + "build", "Versions of streamrnn and of what it runs on", versions())
        yield from _pipeline_counters(watched.lanes)
        yield from _learning(watched.lanes)
        yield from _pipeline_gauges(watched.lanes)
        yield from _quality(watched.lanes)
        yield from _durations(watched.lanes)
        yield _gauge("ready", "Whether events are taken: subscriptions are granted", float(watched.ready.is_set()))
        yield _gauge("mqtt_connected", "Whether the broker is connected", float(watched.connected.is_set()))
        if watched.connection is not None:
            yield from _connection(watched.connection)
        if watched.store is not None:
            yield from _store(watched.store)
            with suppress(OSError):  # gone: the fault says so
                free = shutil.disk_usage(watched.config.state or ".").free
                yield _gauge("state_free_bytes", "Room on the disk of the state directory", free)


@contextmanager
def watching(watched: Watched, listen: str) -> Iterator[None]:
    """Serve metrics and health of a service until the end of the block.

    Raises
    ------
    StreamrnnError
        The address cannot be listened on.
    """
    health = Health(watched, asyncio.get_running_loop())
    pages = {"/metrics": Metrics(watched).page, "/ready": health.ready, "/live": health.live}
    with serving(listen, {**pages, "/version": health.version}):
        yield


def _pipeline_counters(lanes: Sequence[Lane]) -> Iterator[Metric]:
    events = _of_pipelines(CounterMetricFamily, "events", "Events answered")
    retained = _of_pipelines(CounterMetricFamily, "retained", "Retained messages answered, not learned from")
    keys_let_go = _of_pipelines(CounterMetricFamily, "keys_let_go", "Streams let go beyond limits.keys")
    resets = _of_pipelines(CounterMetricFamily, "state_resets", "Hidden states not finite, begun anew")
    anomalies = _of_pipelines(CounterMetricFamily, "anomalies", "Events flagged as anomalous")
    dropped = CounterMetricFamily(
        PREFIX + "dropped", "Messages that were not answered, by reason", labels=["pipeline", "reason"]
    )
    amiss = CounterMetricFamily(
        PREFIX + "values_amiss", "Values of events that could not be used, by reason", labels=["pipeline", "reason"]
    )
    for lane in lanes:
        name, model = lane.pipeline.name, lane.pipeline.model
        counts = Counter(dict(lane.pipeline.counts))  # copied in one go: the event loop writes it
        events.add_metric([name], counts["events"])
        retained.add_metric([name], counts["retained"])
        keys_let_go.add_metric([name], counts["keys_let_go"])
        resets.add_metric([name], model.counts["state_resets"])
        if isinstance(model, NumericModel):
            anomalies.add_metric([name], model.anomalies)
        for reason in VALUES_AMISS:
            amiss.add_metric([name, reason], counts[reason])
        for reason in sorted(set(counts) - set(NO_DROPS) | {"queue_dropped"}):
            dropped.add_metric([name, reason], counts[reason])
    yield from (events, retained, dropped, amiss, anomalies, keys_let_go, resets)


def _learning(lanes: Sequence[Lane]) -> Iterator[Metric]:
    updates = _of_pipelines(CounterMetricFamily, "updates", "Weight updates that took effect")
    dropped = _of_pipelines(CounterMetricFamily, "updates_dropped", "Weight updates that guards held back")
    failed = _of_pipelines(CounterMetricFamily, "updates_failed", "Weight updates that ended in an error")
    waits = _of_pipelines(CounterMetricFamily, "learn_waits", "Weight updates that events had to wait for")
    back = _of_pipelines(CounterMetricFamily, "roll_backs", "Returns to older weights")
    for lane in lanes:
        learners = lane.pipeline.model.learners
        labels = [lane.pipeline.name]
        updates.add_metric(labels, sum(learner.updates for learner in learners))
        dropped.add_metric(labels, sum(learner.dropped for learner in learners))
        failed.add_metric(labels, sum(learner.failed for learner in learners))
        waits.add_metric(labels, sum(learner.waits for learner in learners))
        back.add_metric(labels, sum(learner.rollbacks for learner in learners))
    yield from (updates, dropped, failed, waits, back)


def _pipeline_gauges(lanes: Sequence[Lane]) -> Iterator[Metric]:
    keys = _of_pipelines(GaugeMetricFamily, "keys", "Streams kept live")
    keys_limit = _of_pipelines(GaugeMetricFamily, "keys_limit", "Streams that may be kept live, limits.keys")
    queue = _of_pipelines(GaugeMetricFamily, "queue_messages", "Messages that wait to be processed")
    queue_limit = _of_pipelines(GaugeMetricFamily, "queue_limit_messages", "Messages that may wait, limits.queue")
    lag = _of_pipelines(GaugeMetricFamily, "lag_seconds", "How long the message next in turn has waited")
    last = _of_pipelines(
        GaugeMetricFamily, "last_message_timestamp_seconds", "When the newest message came; absent before the first"
    )
    now_ns = time.monotonic_ns()
    for lane in lanes:
        pipeline, labels = lane.pipeline, [lane.pipeline.name]
        waited_ns = 0
        with suppress(IndexError):  # emptied meanwhile
            waited_ns = now_ns - lane.queue[0][1].clock_ns
        keys.add_metric(labels, len(pipeline.streams))
        keys_limit.add_metric(labels, pipeline.keys_max)
        queue.add_metric(labels, len(lane.queue))
        queue_limit.add_metric(labels, lane.queue_max)
        lag.add_metric(labels, max(waited_ns, 0) / 1e9)
        if lane.arrival:
            last.add_metric(labels, lane.arrival)
    yield from (keys, keys_limit, queue, queue_limit, lag, last)


def _quality(lanes: Sequence[Lane]) -> Iterator[Metric]:
    coverage = _of_pipelines(
        GaugeMetricFamily, "coverage_ratio", "Share of values inside their interval of late, over all horizons"
    )
    target = _of_pipelines(GaugeMetricFamily, "coverage_target_ratio", "What it should be, forecast.interval")
    skill = _of_pipelines(
        GaugeMetricFamily, "skill_ratio", "1 - MAE / MAE of the last value of late, one event ahead"
    )
    surprise = _of_pipelines(GaugeMetricFamily, "surprise_bits", "Mean surprise of a symbol of late")
    for lane in lanes:
        model, labels = lane.pipeline.model, [lane.pipeline.name]
        if isinstance(model, NumericModel):
            of = quality(list(lane.pipeline.streams.values()))
            target.add_metric(labels, model.interval)
            if of.coverage == of.coverage:
                coverage.add_metric(labels, of.coverage)
            if of.skill == of.skill:
                skill.add_metric(labels, of.skill)
        elif isinstance(model, SymbolModel) and model.judged:
            surprise.add_metric(labels, model.bits / model.judged)
    yield from (coverage, target, skill, surprise)


def _durations(lanes: Sequence[Lane]) -> Iterator[Metric]:
    steps = _histogram("step_seconds", "What it took to answer an event, from the queue to the output")
    learn = _histogram("learn_seconds", "What it took to compute a weight update")
    ends = _histogram("end_to_end_seconds", "From the arrival of a message to its output")
    for lane in lanes:
        name = lane.pipeline.name
        _add(steps, name, [lane.steps])
        _add(learn, name, [learner.durations for learner in lane.pipeline.model.learners])
        _add(ends, name, [lane.ends])
    yield from (steps, learn, ends)


def _connection(connection: Connection) -> Iterator[Metric]:
    yield from _counters(CONNECTION, Counter(dict(connection.counts)))
    yield _gauge(
        "publishes_outstanding", "Publishes of QoS 1 the broker has not acknowledged", connection.outstanding
    )


def _store(store: Store) -> Iterator[Metric]:
    counts = Counter(dict(store.counts))
    yield from _counters(STORE, store.journal.counts + counts)
    yield _gauge("state_fault", "Whether nothing can be kept at present", float(store.fault is not None))
    yield _gauge("journal_bytes", "Size of the journal", store.journal.size)
    yield _gauge("checkpoint_bytes", "Size of the newest checkpoint", counts["checkpoint_bytes"])
    behind = _of_pipelines(
        GaugeMetricFamily, "behind_checkpoint_messages", "Messages a restart would process again"
    )
    for name, account in list(store.accounts.items()):  # a reload may add some meanwhile
        behind.add_metric([name], account.behind)
    yield behind


def _counters(told: Iterable[tuple[str, str, str]], counts: Counter[str]) -> Iterator[Metric]:
    for counted, name, words in told:
        yield CounterMetricFamily(PREFIX + name, words, counts[counted])


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, words, value)


def _of_pipelines(family: type[Family], name: str, words: str) -> Family:
    return family(PREFIX + name, words, labels=["pipeline"])


def _histogram(name: str, words: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(PREFIX + name, words, labels=["pipeline"])


def _add(family: HistogramMetricFamily, name: str, durations: Sequence[Durations]) -> None:
    """Add what was noted in several places, as one histogram."""
    counts, total = np.zeros(len(BOUNDS_S) + 1, np.int64), 0.0
    for each in durations:
        of, seconds = each.read()
        counts += of
        total += seconds
    bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
    family.add_metric([name], list(zip(bounds, counts.cumsum().tolist(), strict=True)), total)
