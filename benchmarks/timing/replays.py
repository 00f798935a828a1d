"""Replays: events a second from a file to the measures, beside libraries that learn online on the same data."""

from __future__ import annotations

import csv
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.evaluation.replay import Replay, messages
from streamrnn.warm import warm
from timing.clock import Contestant, Effort, Peers, by_turns, one_core
from timing.rows import Goal, Row
from timing.steps import module

NUMERIC = "pipelines: {{p: {{input: {{topic: series, fields: [value], time: time}}, learn: {{enabled: {learn}}}}}}}"
SYMBOLS = "pipelines: {p: {input: {topic: series, payload: text}}}"
DOCUMENTS = Path(__file__).parents[2]
RIVER, DEEP_RIVER = "river", "deep-river style (torch)"


def rows(effort: Effort) -> list[Row]:
    """Rows of replays: on one core, and with the learner's thread on another where there is one."""
    found = []
    values = series(effort.events)
    with tempfile.TemporaryDirectory() as name:
        numbers, text = Path(name) / "series.csv", Path(name) / "text.csv"
        with numbers.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["time", "value"])
            writer.writerows((1.7e9 + 60 * i, f"{value:.5f}") for i, value in enumerate(values))
        with text.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text"])
            writer.writerows([line] for line in prose(effort.symbols))
        repeats = effort.few
        for learn, goal in ((True, 20_000), (False, 150_000)):
            run = replaying(NUMERIC.format(learn=str(learn).lower()), numbers)
            label = f"replay, default numeric pipeline, learning {'on' if learn else 'off'}"
            goals = [Goal(f">= {goal:,}", goal)]
            found.append(Row(label, "events/s", [run() for _ in range(repeats)], goals, {}, True))
            with one_core():
                peers: Peers = {}
                if learn:
                    few = values[: effort.slow_events].tolist()
                    peers = {RIVER: learning(_river(), few), DEEP_RIVER: learning(_deep_river(), few)}
                own, others = by_turns(run, peers, repeats)
            goals = [Goal(f">= 10 x {peer}", 10.0, peer) for peer in peers]
            found.append(Row(f"{label}, one core", "events/s", own, goals, others, True))
        run = replaying(SYMBOLS, text)
        goals = [Goal(">= 7,000", 7000)]
        own = [run() for _ in range(repeats)]
        found.append(Row("replay of text, default symbol pipeline", "symbols/s", own, goals, {}, True))
    return found


def series(count: int) -> np.ndarray:
    """A daily wave with noise and drift, a value a minute."""
    random = np.random.default_rng(0)
    time = np.arange(count)
    drift = np.cumsum(random.normal(0.0, 0.02, count))
    wave: np.ndarray = 20.0 + 5.0 * np.sin(2 * math.pi * time / 1440) + drift + random.normal(0.0, 0.3, count)
    return wave


def prose(count: int) -> list[str]:
    """So many characters of this project's own documents, by lines."""
    lines: list[str] = []
    room = count
    while room > 0:
        for path in sorted(DOCUMENTS.glob("docs/**/*.md")):
            for line in path.read_text().splitlines():
                if line and room > 0:
                    lines.append(line[:room])
                    room -= len(lines[-1])
    return lines


def replaying(text: str, path: Path) -> Contestant:
    """Return what measures the events a second of a replay, as the command does it."""
    loaded = config.loads(text)
    spec = loaded.pipelines["p"]
    warm(spec)

    def run() -> float:
        pipeline = build_pipeline("p", spec, 0)
        replay = Replay(pipeline)
        replay.run(messages(str(path), spec, pipeline, None))
        pipeline.close()
        return replay.measures.events / replay.seconds

    return run


def learning(learn_one: Callable[[float], object] | None, values: Sequence[float]) -> Contestant | None:
    """Return what measures the values a second of a peer that predicts and learns, None for none."""
    if learn_one is None:
        return None

    def run() -> float:
        began = time.perf_counter()
        for value in values:
            learn_one(value)
        return len(values) / (time.perf_counter() - began)

    return run


def _river() -> Callable[[float], object] | None:
    """A forecast over 64 events, an anomaly score, then learning, at every event."""
    if module("river") is None:
        return None
    import river.anomaly
    import river.linear_model
    import river.preprocessing
    import river.time_series

    model = river.time_series.SNARIMAX(
        p=12,
        d=1,
        q=12,
        regressor=river.preprocessing.StandardScaler() | river.linear_model.LinearRegression(),
    )
    trees = river.anomaly.HalfSpaceTrees(seed=0)
    seen = [0]

    def learn_one(value: float) -> None:
        if seen[0] > 30:
            model.forecast(horizon=64)
        trees.score_one({"value": value})
        model.learn_one(value)
        trees.learn_one({"value": value})
        seen[0] += 1

    return learn_one


def _deep_river() -> Callable[[float], object] | None:
    """A GRU of 32 units over the last 32 values: forecast, then one step of Adam, at every event."""
    torch: Any = module("torch")
    if torch is None:
        return None
    torch.set_num_threads(1)
    gru, head = torch.nn.GRU(1, 32, batch_first=True), torch.nn.Linear(32, 1)
    optimiser = torch.optim.Adam([*gru.parameters(), *head.parameters()], 3e-3)
    window = torch.zeros(1, 32, 1)

    def learn_one(value: float) -> None:
        with torch.inference_mode():
            head(gru(window)[0][:, -1])
        optimiser.zero_grad()
        loss = (head(gru(window)[0][:, -1]) - value).square().mean()
        loss.backward()
        optimiser.step()
        window[0, :-1] = window[0, 1:].clone()
        window[0, -1, 0] = value

    return learn_one
