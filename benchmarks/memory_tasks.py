"""Tasks that cannot be done without memory, for every cell: the table of docs/quality.md.

    python benchmarks/memory_tasks.py [--tasks delay-40 adding-40] [--cells gru lru] [--seeds 1 2 3]
    python benchmarks/memory_tasks.py --gradients FILE.json

What the tasks are and how they are learned is said in measuring/memory.py. With --gradients, no table is printed;
the file gets, for each cell, how much an output of delay-40 changes with the input of 0 to 60 events before, before
and after it is learned: what gates do to a vanishing gradient.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from measuring import fading, memory


def show(tasks: list[str], cells: list[str], seeds: list[int], events: int) -> None:
    """Print the table, line by line."""
    print("| task | cell | hidden | rate | length | error / variance | of each seed | us per event |")
    print("|---|---|---|---|---|---|---|---|")
    for name in tasks:
        for cell in cells:
            began = time.perf_counter()
            found = [memory.measure(name, cell, seed, events) for seed in seeds]
            each_us = (time.perf_counter() - began) / (events * len(seeds)) * 1e6
            setting = memory.SETTINGS[name][cell]
            each = ", ".join(f"{error:.4f}" for error in found)
            length = "" if cell == "lru" else setting.length
            learned = f"{setting.hidden} | {setting.rate} | {length}"
            print(f"| {name} | {cell} | {learned} | {np.mean(found):.4f} | {each} | {each_us:.0f} |", flush=True)


def gradients(cells: list[str], seed: int, events: int) -> dict[str, object]:
    """Return what the file of --gradients holds."""
    name = "delay-40"
    found = {cell: fading.before_and_after(name, memory.SETTINGS[name][cell], events, seed) for cell in cells}
    return {"task": name, "events": events, "seed": seed, "lags": list(range(fading.REACH + 1)), "cells": found}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(memory.SETTINGS), choices=list(memory.SETTINGS))
    parser.add_argument("--cells", nargs="+", default=list(memory.CELLS), choices=list(memory.CELLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--events", type=int, default=memory.EVENTS)
    parser.add_argument("--gradients", type=Path, help="write how influence fades, of the first seed")
    given = parser.parse_args()
    if given.gradients:
        given.gradients.write_text(json.dumps(gradients(given.cells, given.seeds[0], given.events)))
    else:
        show(given.tasks, given.cells, given.seeds, given.events)


if __name__ == "__main__":
    main()
