"""A row of the table: what was tried, what was wanted of it, what was seen, and with which seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table


class Options(msgspec.Struct, frozen=True):
    """What a soak is run with."""

    seed: int
    scale: float  # of all counts: 1 is what the table wants
    directory: Path  # room for state directories, emptied by whoever made it
    payloads: Path | None  # recorded payloads to mutate, JSON lines


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    test: str
    goal: str
    seen: str
    met: bool
    seed: int | None = None


def scaled(count: int, options: Options, least: int = 1) -> int:
    """Return a count of the table at the scale of this run."""
    return max(least, round(count * options.scale))


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title="soak", show_lines=True)
    for column in "test", "goal", "seen", "met", "seed":
        table.add_column(column, overflow="fold")
    for row in rows:
        seed = "" if row.seed is None else str(row.seed)
        table.add_row(row.test, row.goal, row.seen, "yes" if row.met else "NO", seed)
    Console(width=150).print(table)
