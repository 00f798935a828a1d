"""How well streamrnn learns, from recorded and simulated data: the table of docs/quality.md.

    python benchmarks/quality.py DATA_DIR [--seeds 3] [--only nab,forecast] [--json FILE] [--dump DIR] [--jobs 2]
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import recordings
from measuring import Row, Runs, coverage_rows, forecast_rows, nab_rows, persistence_rows
from rich.console import Console
from rich.table import Table
from running import Outputs, run, spec_of

PARTS = ("nab", "forecast", "persistence", "coverage")
ETT = ("ETTh2", "ETTh1")
Job = tuple[str, int]  # series, seed


def outputs_of(data: Path, job: Job) -> Outputs:
    """Run the default pipeline over one series."""
    name, seed = job
    series = recordings.ett_series(data, name) if name in ETT else recordings.nab_series(data, name)
    return run(spec_of(series.fields), series.messages(), seed)


def run_all(data: Path, names: Iterable[str], seeds: int, processes: int) -> Runs:
    """Run every series with every seed."""
    jobs = [(name, seed) for seed in range(seeds) for name in names]
    runs: list[dict[str, Outputs]] = [{} for _ in range(seeds)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        results = pool.imap(functools.partial(outputs_of, data), jobs)
        for (name, seed), outputs in zip(jobs, results, strict=True):
            runs[seed][name] = outputs
    return runs


def dump(runs: Runs, names: Iterable[str], directory: Path) -> None:
    """Write the outputs of each series and seed as DIR/SEED/SERIES.npz."""
    for seed, outputs in enumerate(runs):
        for name in names:
            path = directory / str(seed) / f"{name.removesuffix('.csv')}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **vars(outputs[name]))


def show(rows: Iterable[Row], seeds: int, console: Console) -> None:
    """Print the table."""
    table = Table(title=f"Default configuration, {seeds} seeds")
    for column in ("measure", "mean", "spread", "goal", "reference", "note"):
        table.add_column(column, justify="right" if column in ("mean", "spread") else "left")
    for row in rows:
        mean, spread = (f"{number:.{row.digits}f}" for number in (row.mean, row.spread))
        table.add_row(row.measure, mean, spread, row.goal, row.reference, row.note)
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dump", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    words = parser.parse_args()
    parts = words.only.split(",")
    began = time.perf_counter()
    files = recordings.nab_names(words.data) if {"nab", "persistence", "coverage"} & set(parts) else []
    sets = ETT if {"forecast", "persistence", "coverage"} & set(parts) else ()
    runs = run_all(words.data, [*sets, *files], words.seeds, words.jobs)
    groups = {"NAB": files, "ETT": sets}
    rows: list[Row] = []
    if "nab" in parts:
        rows += nab_rows(runs, {name: recordings.nab_truth(words.data, name) for name in files})
    if "forecast" in parts:
        rows += forecast_rows(runs)
    if "persistence" in parts:
        rows += persistence_rows(runs, groups)
    if "coverage" in parts:
        rows += coverage_rows(runs, groups)
    console = Console()
    show(rows, words.seeds, console)
    console.print(f"{time.perf_counter() - began:.0f} s")
    if words.json:
        words.json.write_text(json.dumps([vars(row) | {"mean": row.mean, "spread": row.spread} for row in rows]))
    if words.dump:
        dump(runs, files, words.dump)


if __name__ == "__main__":
    main()
