"""How fast streamrnn is, every figure beside its peers measured in the same run: docs/performance.md explains it.

python benchmarks/bench.py [--quick] [--only step,update,...] [--json FILE]

`make bench` runs it all with the peers of the extra `bench`; `make bench quick=1` only shows that it runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from timing import live, replays, steps, updates
from timing.clock import FULL, QUICK, Effort
from timing.rows import Row, median, summary

PARTS: dict[str, tuple[Callable[[Effort], list[Row]], ...]] = {
    "step": (steps.compiled_rows, steps.python_rows),
    "update": (updates.rows,),
    "replay": (replays.rows,),
    "mqtt": (live.throughput_rows, live.latency_rows),
    "memory": (live.memory_rows,),
    "start": (live.start_rows,),
}
VERDICTS = {None: "[yellow]not known[/yellow]", True: "[green]met[/green]", False: "[red]missed[/red]"}
PACKAGES = ("numpy", "numba", "torch", "onnxruntime", "river", "aiomqtt")


def measure(parts: list[str], effort: Effort, console: Console) -> list[Row]:
    """Measure; what fails becomes a row that says so."""
    rows = []
    for part in parts:
        for function in PARTS[part]:
            console.print(f"measuring: {part}", style="dim")
            try:
                rows += function(effort)
            except Exception as error:  # it must not take the others with it; the exit status tells
                traceback.print_exc()
                rows.append(Row(f"{part}: {function.__name__}", "", [], error=f"{type(error).__name__}: {error}"))
    return rows


def number(value: float) -> str:
    """A number with three digits that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(digits, 0)}f}"


def show(rows: list[Row], title: str, console: Console) -> None:
    """Print the table."""
    table = Table(title=title)
    for name, justify in (("what", "left"), ("median", "right"), ("quartiles", "right"), ("unit", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("goal")
    table.add_column("beside it, in the same run")
    for row in rows:
        if row.error:
            table.add_row(row.name, "[red]ERROR[/red]", "", "", "", f"[red]{row.error}[/red]")
            continue
        of = summary(row.values)
        peers = []
        for name, values in row.peers.items():
            times = row.times(name)
            if values is None or times is None:
                peers.append(f"{name} [yellow]absent[/yellow]")
            else:
                peers.append(f"{name} {number(median(values))} ({number(times)} x)")
        goals = []
        for goal in row.goals:
            met = row.met(goal)
            word = (
                "[yellow]not known[/yellow]"
                if met is None
                else "[green]met[/green]"
                if met
                else "[red]missed[/red]"
            )
            goals.append(f"{goal.text}: {word}")
        spread = f"{number(of['low'])} .. {number(of['high'])}"
        table.add_row(row.name, number(of["median"]), spread, row.unit, "\n".join(goals), "\n".join(peers))
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}", soft_wrap=True)


def pace() -> float:
    """Return the nanoseconds of a turn of a plain Python loop: how fast this machine is just now."""
    began = time.process_time()
    for _ in range(2_000_000):
        pass
    return 1e9 * (time.process_time() - began) / 2_000_000


def machine() -> dict[str, str]:
    """What it was measured on."""
    found = {"python": platform.python_version(), "cores": str(len(os.sched_getaffinity(0)))}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            found["processor"] = line.split(":", 1)[1].strip()
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def main() -> None:
    """Measure, print, write; exit status 1 when a row could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats, no cold start: a smoke test")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    words = parser.parse_args()
    unknown = set(words.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no part is named {', '.join(sorted(unknown))}")
    console = Console(width=None if sys.stdout.isatty() else 190)
    began, busy, before = time.perf_counter(), psutil.getloadavg()[0], pace()
    parts = [part for part in PARTS if part in words.only.split(",")]
    rows = measure(parts, QUICK if words.quick else FULL, console)
    about = machine() | {"load before": f"{busy:.2f}", "turn of a Python loop, ns": f"{before:.1f} .. {pace():.1f}"}
    title = "quick, not to be quoted" if words.quick else "median and quartiles of the repeats"
    show(rows, f"streamrnn: {title}, {time.perf_counter() - began:.0f} s", console)
    console.print(", ".join(f"{name} {what}" for name, what in about.items()))
    if words.json:
        words.json.parent.mkdir(parents=True, exist_ok=True)
        words.json.write_text(json.dumps({"machine": about, "rows": [row.as_dict() for row in rows]}, indent=1))
        console.print(f"written: {words.json}")
    sys.exit(any(row.error for row in rows))


if __name__ == "__main__":
    main()
