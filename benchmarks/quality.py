"""How well streamrnn learns, from recorded and simulated data: the table that docs/quality.md explains.

python benchmarks/quality.py DATA_DIR [--seeds 3] [--only nab,forecast] [--json FILE] [--dump DIR] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from measuring.jobs import Results, run_all
from measuring.parts import PARTS
from measuring.rows import Row


def dump(results: Results, directory: Path) -> None:
    """Write the outputs on each series as DIR/KIND/SEED/SERIES.npz, to experiment with."""
    for seed, kinds in enumerate(results):
        for kind in ("series", "ensemble"):
            for name, outputs in kinds[kind].items():
                path = directory / kind / str(seed) / f"{name.removesuffix('.csv')}.npz"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(path, **vars(outputs))


def show(rows: Sequence[Row], title: str, console: Console) -> None:
    """Print the table, and below it what there is to say of each row."""
    table = Table(title=title)
    table.add_column("measure")
    table.add_column("mean", justify="right")
    table.add_column("spread", justify="right")
    table.add_column("goal")
    table.add_column("reference")
    for row in rows:
        mean, spread = (f"{number:.{row.digits}f}" if row.values else "" for number in (row.mean, row.spread))
        table.add_row(row.measure, mean or "absent", spread, row.goal, row.reference)
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.measure}: {row.note}", soft_wrap=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the recorded data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--dump", type=Path, help="write the outputs on each series into this folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    words = parser.parse_args()
    unknown = set(words.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no part is named {', '.join(sorted(unknown))}")
    parts = [part for name, part in PARTS.items() if name in words.only.split(",")]
    began = time.perf_counter()
    tasks = list(dict.fromkeys(task for part in parts for task in part.tasks(words.data)))
    results = run_all(words.data, tasks, words.seeds, words.jobs)
    rows = [row for part in parts for row in part.rows(words.data, results)]
    console = Console()
    seeds = f"{words.seeds} seeds" if words.seeds > 1 else "1 seed"
    show(rows, f"Default configuration, {seeds}, {time.perf_counter() - began:.0f} s", console)
    if words.json:
        words.json.write_text(json.dumps([row.as_dict() for row in rows], indent=1))
    if words.dump:
        dump(results, words.dump)


if __name__ == "__main__":
    main()
