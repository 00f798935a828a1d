"""What is run, by the kind and the name of it, and the running of many on a few processes."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from measuring import identity, memory, recordings, sharing, simulated, texts
from measuring.runs import Outputs, Series, run, spec_of

ENSEMBLE = 3
ETT = ("ETTh2", "ETTh1")

Task = tuple[str, str]  # kind and name
Results = list[dict[str, dict[str, Any]]]  # for each seed, by kind and name


def series_named(data: Path, name: str, seed: int) -> Series:
    """Return a recorded series, or a simulated one."""
    if name in simulated.KINDS:
        return simulated.series(name, seed)
    return recordings.ett_series(data, name) if name in ETT else recordings.nab_series(data, name)


def _series(data: Path, name: str, seed: int) -> Outputs:
    series = series_named(data, name, seed)
    return run(spec_of(series.fields), series.messages(), seed)


def _ensemble(data: Path, name: str, seed: int) -> Outputs:
    series = series_named(data, name, seed)
    return run(spec_of(series.fields, model={"ensemble": ENSEMBLE}), series.messages(), seed)


def _text(data: Path, _: str, seed: int) -> float:
    return texts.bits_a_character(recordings.text(data), seed)


def _identity(data: Path, _: str, seed: int) -> dict[str, float]:
    return identity.error_rates(recordings.timings(data), seed)


def _memory(_: Path, name: str, seed: int) -> float:
    """The error of `name`, a task and a cell; not on seed 0, which the settings were chosen on."""
    task, cell = name.split()
    return memory.measure(task, cell, seed + 1)


KINDS: dict[str, Callable[[Path, str, int], Any]] = {
    "series": _series,
    "ensemble": _ensemble,
    "text": _text,
    "identity": _identity,
    "sharing": sharing.sharing_errors,
    "memory": _memory,
}


def run_all(data: Path, tasks: Iterable[Task], seeds: int, processes: int) -> Results:
    """Run every task with every seed."""
    jobs = [(*task, seed) for task in tasks for seed in range(seeds)]
    results: Results = [{kind: {} for kind in KINDS} for _ in range(seeds)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        done = pool.imap(functools.partial(_perform, data), jobs)
        shown = track(zip(jobs, done, strict=True), "running", len(jobs), console=Console(stderr=True))
        for (kind, name, seed), result in shown:
            results[seed][kind][name] = result
    return results


def _perform(data: Path, job: tuple[str, str, int]) -> Any:
    kind, name, seed = job
    return KINDS[kind](data, name, seed)
