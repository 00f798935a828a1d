"""What each part is worth and what it costs: the default configuration without it, on recorded data.

python benchmarks/ablation.py DATA_DIR [--seed 0] [--jobs 2]
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from measuring import recordings
from measuring.jobs import ETT
from measuring.runs import NAME, Array, Series, run, spec_of
from scoring import forecast, nab
from streamrnn.build import build_pipeline
from streamrnn.learn.learner import Learner

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "as it is": {},
    "one window, the newest: nothing replayed": {"learn": {"windows": 1}},
    "eight windows": {"learn": {"windows": 8}},
    "cell rnn_tanh": {"model": {"cell": "rnn_tanh"}},
    "cell lstm": {"model": {"cell": "lstm"}},
    "cell lru": {"model": {"cell": "lru"}},
}
EXPERTS = ("network alone", "regression alone", "last value")
REPEATS = 2000


def expert_errors(data: Path, name: str, seed: int) -> dict[str, float]:
    """Return the one-step MSE by the protocol of ETT: of what is published, and of each expert behind it."""
    series = recordings.ett_series(data, name)
    pipeline = build_pipeline(NAME, spec_of(series.fields), seed)
    said: list[Array] = []
    for message in series.messages():
        published = pipeline.process_all(message)[0]
        stream = pipeline.streams[published.key]
        said.append(np.vstack([stream.readout.experts, stream.readout.ahead]))
    pipeline.close()
    ahead = np.array(said)
    return {
        who: forecast.ett_mse(series.values, ahead[:, k])
        for k, who in enumerate((*EXPERTS, "published: all three"))
    }


def variant_figures(data: Path, name: str, seed: int) -> tuple[float, ...]:
    """Return for a variant: NAB standard at 0.5, then the one-step MSE on each ETT."""
    sections = VARIANTS[name]
    scores, truths = {}, {}
    for file in recordings.nab_names(data):
        series = recordings.nab_series(data, file)
        truths[file] = recordings.nab_truth(data, file)
        scores[file] = run(spec_of(series.fields, **sections), series.messages(), seed).scores
    figures = [nab.evaluate(truths, scores, nab.PROFILES["standard"], 0.5)]
    for name_of_set in ETT:
        series = recordings.ett_series(data, name_of_set)
        outputs = run(spec_of(series.fields, **sections), series.messages(), seed)
        figures.append(forecast.ett_mse(series.values, outputs.forecast[:, :, 0]))
    return tuple(figures)


def part_costs(fields: int, seed: int) -> dict[str, float]:
    """Return the microseconds of each part of an event, so many fields of noise, called as the model does."""
    seen = np.random.default_rng(seed).standard_normal((9000, fields))
    names = [f"value{f}" for f in range(fields)]
    pipeline = build_pipeline(NAME, spec_of(names), seed)
    for message in Series.of("noise", seen).messages("k"):
        pipeline.process_all(message)
    model, stream = pipeline.model, pipeline.streams["k"]
    member, part = model.members[0], stream.parts[0]
    learner = member.learner
    assert isinstance(learner, Learner)
    scaler, calibrator, readout = stream.scaler, stream.calibrator, stream.readout
    values, phi = seen[-1], scaler.observe_one(seen[-1], 0.0, learn=False)
    network = calibrator.made[:, 0, 2]

    noise = np.random.default_rng(seed).standard_normal((REPEATS, fields))
    fresh = iter(range(REPEATS))

    def detect() -> None:
        row = noise[next(fresh)]  # each event goes to another place among the ranks
        residual = np.repeat(row[:, None], len(model.horizons), axis=1)
        part.detector.strangeness_one(row, row, residual, np.zeros_like(residual), row, 9000, 8192)

    def update() -> None:
        learner.window.sample(learner._batch)
        learner._begin().result()

    calls: dict[str, Callable[[], object]] = {
        "scaler and inputs": lambda: scaler.observe_one(values, 0.0),
        "intervals, judged": lambda: calibrator.score_one(values, scaler.scaled, 9000),
        "detector": detect,
        "readout, learned": lambda: readout.learn_one(values),
        "readout, forecast": lambda: readout.forecast_one(values, network, part.state[-1], phi, 9000),
        "network, one step": lambda: member.network.advance(part.state, phi, member.y),
        "intervals, made": lambda: calibrator.forecast_one(member.y, scaler),
        "weight update, per event": update,
    }
    costs = {name: _microseconds(call) for name, call in calls.items()}
    costs["weight update, per event"] /= learner.every
    pipeline.close()
    return costs


def _microseconds(call: Callable[[], object]) -> float:
    """Median over a few rounds."""
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(REPEATS // 5):
            call()
        rounds.append((time.perf_counter() - began) / (REPEATS // 5))
    return 1e6 * float(np.median(rounds))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the recorded data, see docs/quality.md")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    words = parser.parse_args()
    console = Console()

    costs = Table("part", "us, 1 field", "us, 7 fields", title="What an event costs")
    few, many = part_costs(1, words.seed), part_costs(7, words.seed)
    for name in few:
        costs.add_row(name, f"{few[name]:.1f}", f"{many[name]:.1f}")
    console.print(costs)

    with multiprocessing.get_context("spawn").Pool(words.jobs) as pool:
        figures = pool.map_async(functools.partial(variant_figures, words.data, seed=words.seed), VARIANTS, 1)
        errors = pool.map(functools.partial(expert_errors, words.data, seed=words.seed), ETT)
        table = Table("one step ahead by", *(f"MSE {name}" for name in ETT), title="What the readout is worth")
        for who in errors[0]:
            table.add_row(who, *(f"{each[who]:.4f}" for each in errors))
        console.print(table)
        table = Table("variant", "NAB at 0.5", *(f"MSE {name}" for name in ETT), title="What is worth what")
        for name, (score, *mses) in zip(VARIANTS, figures.get(), strict=True):
            table.add_row(name, f"{score:.1f}", *(f"{mse:.4f}" for mse in mses))
        console.print(table)


if __name__ == "__main__":
    main()
