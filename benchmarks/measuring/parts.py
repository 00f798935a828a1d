"""The parts of the table: what each has run, and its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from measuring import memory, recordings, simulated
from measuring.jobs import ENSEMBLE, ETT, Results, Task
from measuring.rows import Row, coverage_rows, forecast_rows, nab_rows, persistence_rows
from measuring.runs import spec_of
from measuring.speed import numeric_cost, text_cost
from streamrnn.errors import ConfigError


class Part(NamedTuple):
    """A part of the table."""

    tasks: Callable[[Path], list[Task]]
    rows: Callable[[Path, Results], list[Row]]


def _files(data: Path) -> list[Task]:
    return [("series", name) for name in recordings.nab_names(data)]


def _sets(data: Path) -> list[Task]:  # noqa: ARG001
    return [("series", name) for name in ETT]


def _everything(data: Path) -> list[Task]:
    return _sets(data) + _files(data) + [("series", name) for name in simulated.KINDS]


def _groups(data: Path) -> dict[str, list[str]]:
    return {"NAB": recordings.nab_names(data), "ETT": list(ETT), "simulated": list(simulated.KINDS)}


def _nab(data: Path, results: Results) -> list[Row]:
    truths = {name: recordings.nab_truth(data, name) for name in recordings.nab_names(data)}
    return nab_rows([each["series"] for each in results], truths)


def _has_ensemble() -> bool:
    try:
        spec_of(["value"], model={"ensemble": ENSEMBLE})
    except ConfigError:
        return False
    return True


def _ensemble_tasks(data: Path) -> list[Task]:
    return [("ensemble", name) for name in recordings.nab_names(data)] if _has_ensemble() else []


def _ensemble(data: Path, results: Results) -> list[Row]:
    label = f", ensemble {ENSEMBLE}"
    if not _has_ensemble():
        return [Row(f"NAB standard{label}", (), ">= 78", note="absent")]
    truths = {name: recordings.nab_truth(data, name) for name in recordings.nab_names(data)}
    rows = nab_rows([each["ensemble"] for each in results], truths, label)
    return [row._replace(goal=">= 78") for row in rows[:2]]


def _text(data: Path, results: Results) -> list[Row]:
    bits = tuple(each["text"]["shakespeare"] for each in results)
    cost = tuple(text_cost(recordings.text(data), seed) for seed in range(len(results)))
    reference = "zpaq 1.97, PPMd 2.09, lstm-compress 2.37"
    return [
        Row("tiny shakespeare, bits a character", bits, "<= 1.99", reference),
        Row("tiny shakespeare, us a character", cost, "<= 200", digits=0),
    ]


def _identity(_: Path, results: Results) -> list[Row]:
    found = [each["identity"]["IIITBh-Big"] for each in results]
    titles = {
        "score": "equal error rate, by the score",
        "distance": "equal error rate, by |value - forecast| / (upper - lower)",
        "manhattan": "equal error rate, Manhattan scaled",
    }
    return [
        Row(title, tuple(each[name] for each in found), "<= .080" if name == "score" else "", ".084", digits=4)
        for name, title in titles.items()
    ]


def _sharing(_: Path, results: Results) -> list[Row]:
    rows = []
    for name in SHARED:
        found = [each["sharing"][name] for each in results]
        shared, alone = (tuple(each[which] for each in found) for which in ("shared", "alone"))
        better = 100.0 * sum(each["better"] for each in found) / len(found)
        title = f"new key among {name}, MSE to persistence"
        note = f"better for {better:.0f} % of the keys"
        reference = f"alone {sum(alone) / len(alone):.4f}"
        rows.append(Row(title, shared, "below alone", reference, note, digits=4))
    return rows


def _memory_tasks(_: Path) -> list[Task]:
    return [("memory", f"{name} {cell}") for name in memory.SETTINGS for cell in memory.CELLS]


def _memory(_: Path, results: Results) -> list[Row]:
    rows = []
    for name, reference in {"delay-40": "Elman 1.01", "adding-40": "Elman .70"}.items():
        found = {cell: tuple(each["memory"][f"{name} {cell}"] for each in results) for cell in memory.CELLS}
        means = {cell: sum(errors) / len(errors) for cell, errors in found.items()}
        best = min(means, key=means.__getitem__)
        note = ", ".join(f"{cell} {mean:.4f}" for cell, mean in means.items())
        rows.append(Row(f"{name}, MSE / variance, by {best}", found[best], "<= .05", reference, note, digits=4))
    return rows


def _cost(_: Path, results: Results) -> list[Row]:
    titles = {1: "us an event of 1 field", 7: "us an event of 7 fields"}
    return [
        Row(title, tuple(numeric_cost(fields, seed) for seed in range(len(results))), digits=1)
        for fields, title in titles.items()
    ]


SHARED = (*simulated.FAMILIES, "recorded")
PARTS = {
    "text": Part(lambda _: [("text", "shakespeare")], _text),
    "nab": Part(_files, _nab),
    "ensemble": Part(_ensemble_tasks, _ensemble),
    "forecast": Part(_sets, lambda _, results: forecast_rows([each["series"] for each in results])),
    "persistence": Part(
        _everything,
        lambda data, results: persistence_rows([each["series"] for each in results], _groups(data)),
    ),
    "coverage": Part(
        _everything,
        lambda data, results: coverage_rows([each["series"] for each in results], _groups(data)),
    ),
    "identity": Part(lambda _: [("identity", "IIITBh-Big")], _identity),
    "sharing": Part(lambda _: [("sharing", name) for name in SHARED], _sharing),
    "memory": Part(_memory_tasks, _memory),
    "cost": Part(lambda _: [], _cost),
}
