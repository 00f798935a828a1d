"""Simulated lives by the thousand, and which lines of journal, checkpoint and recovery they reach."""

from __future__ import annotations

import ast
import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import coverage
from simulation import live

from soaking.rows import Options, Row, scaled

LIVES = 10_000
TRACED = 600
TOGETHER = 50
FILES = (
    "journal",
    "segments",
    "frames",
    "writing",
    "waiting",
    "checkpoint",
    "recovery",
    "store",
    "redelivery",
    "parking",
    "statefile",
)


def _lives(first: int) -> tuple[list[str], int, int]:
    """Live some; return what failed, deaths and recognised redeliveries."""
    logging.disable(logging.CRITICAL)
    failed, deaths, recognised = [], 0, 0
    for seed in range(first, first + TOGETHER):
        try:
            life = live(seed)
        except AssertionError as error:
            failed.append(f"{seed}: {error}")
        else:
            deaths += life.counts["deaths"]
            recognised += life.counts["recognised"]
    return failed, deaths, recognised


def lives(options: Options) -> list[Row]:
    """As many lives as there are, on all processors; then some under a tracer."""
    count = scaled(LIVES, options, TOGETHER) // TOGETHER * TOGETHER
    _lives(options.seed)  # kernels are in the cache
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_lives, [options.seed] * workers))
        began = time.perf_counter()
        results = list(pool.map(_lives, range(options.seed, options.seed + count, TOGETHER)))
        rate = count / (time.perf_counter() - began) * 60
    failed = [each for fails, _, _ in results for each in fails]
    seen = (
        f"{count} lives, {rate:.0f} a minute on {workers} processors, {len(failed)} failures, "
        f"{sum(deaths for _, deaths, _ in results)} deaths, "
        f"{sum(known for *_, known in results)} redeliveries recognised"
    )
    if failed:
        seen += f"; seeds {'; '.join(failed[:5])}"
    rows = [
        Row("simulator", ">= 2,000 lives a minute, 0 failures", seen, rate >= 2000 and not failed, options.seed)
    ]
    return [*rows, _reached(options)]


def _reached(options: Options) -> Row:
    count = scaled(TRACED, options, TOGETHER)
    tracer = coverage.Coverage(data_file=None, include=[f"*/streamrnn/edges/{name}.py" for name in FILES])
    tracer.start()
    for first in range(options.seed, options.seed + count, TOGETHER):
        _lives(first)
    tracer.stop()
    shares, lines, reached = [], 0, 0
    for path in sorted(tracer.get_data().measured_files()):
        _, statements, _, missing, _ = tracer.analysis2(path)
        # What runs when a module is imported has run before.
        name = os.path.basename(path).removesuffix(".py")
        missing = [line for line in missing if not _at_import(path, line)]
        lines, reached = lines + len(statements), reached + len(statements) - len(missing)
        shares.append(
            f"{name} {100 * (1 - len(missing) / len(statements)):.0f} %"
            + (f" (not {_spans(missing)})" if missing else "")
        )
    seen = f"{100 * reached / lines:.1f} % of {lines} lines; " + ", ".join(shares)
    return Row(
        "lines that lives reach",
        ">= 95 % of journal, checkpoint and recovery",
        seen,
        reached >= 0.95 * lines,
        options.seed,
    )


def _at_import(path: str, line: int) -> bool:
    """Whether a line is outside of functions: of the module, or of the body of a class."""
    tree = ast.parse(Path(path).read_text())
    inside = False
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or line):
            inside = True
    return not inside


def _spans(lines: list[int]) -> str:
    return " ".join(map(str, lines))
