"""The measures of quality on series of numbers: outputs in, rows of the table out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from measuring.runs import Array, Outputs
from scoring import forecast, nab

ALERT = 0.5  # the score of an alert


class Row(NamedTuple):
    """A row of the table: a number for each seed."""

    measure: str
    values: tuple[float, ...]
    goal: str = ""
    reference: str = ""
    note: str = ""
    digits: int = 3

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.values)) if self.values else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds, 0 of one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The row with its mean and spread, None without values."""
        summary = {"mean": self.mean, "spread": self.spread} if self.values else {"mean": None, "spread": None}
        return self._asdict() | summary


Runs = Sequence[Mapping[str, Outputs]]  # for each seed, the outputs of each series by its name


def nab_rows(runs: Runs, truths: Mapping[str, nab.Truth], label: str = "") -> list[Row]:
    """Rows of the score of the Numenta Anomaly Benchmark, each profile with a fixed and the best threshold."""
    goals = {
        "standard": (">= 75", ">= 77", "ARTime 73.9, Numenta HTM 70.5, CAD OSE 68.9"),
        "low FP": (">= 67", ">= 67", "ARTime 63.6"),
        "low FN": (">= 81", ">= 81", "ARTime 79.7"),
    }
    rows = []
    for name, profile in nab.PROFILES.items():
        fixed_goal, best_goal, reference = goals[name]
        scores = [{file: outputs[file].scores for file in truths} for outputs in runs]
        fixed = [nab.evaluate(truths, each, profile, ALERT) for each in scores]
        best = [nab.optimise(truths, each, profile) for each in scores]
        thresholds = ", ".join(f"{threshold:.3f}" for threshold, _ in best)
        title = f"NAB {name}{label}"
        rows.append(Row(f"{title}, at 0.5", tuple(fixed), fixed_goal, reference, digits=2))
        of = tuple(score for _, score in best)
        rows.append(Row(f"{title}, optimal", of, best_goal, reference, f"threshold {thresholds}", digits=2))
    return rows


def forecast_rows(runs: Runs) -> list[Row]:
    """Rows of the one-step error on the ETT sets."""
    goals = {
        "ETTh2": ("<= .320", "RLS .356, OneNet .380, persistence .404"),
        "ETTh1": ("<= .228", "RLS .245, persistence .363"),
    }
    return [
        Row(
            f"one-step MSE {name}",
            tuple(forecast.ett_mse(outputs[name].values, outputs[name].forecast[:, :, 0]) for outputs in runs),
            *goals[name],
            digits=4,
        )
        for name in goals
    ]


def persistence_rows(runs: Runs, groups: Mapping[str, Sequence[str]]) -> list[Row]:
    """Rows of the worst one-step error against persistence, for each group of series."""
    return _worst_rows("MSE to persistence, worst", runs, groups, _ratio, np.argmax, "<= 1.01")


def coverage_rows(runs: Runs, groups: Mapping[str, Sequence[str]]) -> list[Row]:
    """Rows of the lowest and the highest coverage of the intervals, for each group of series, per cent."""
    rows = []
    for horizon, goal in ((1, "89..91"), (16, "88..92")):

        def covered(outputs: Outputs, field: int, horizon: int = horizon) -> float:
            k = outputs.horizons.index(horizon)
            lower, upper = outputs.lower[:, field, k], outputs.upper[:, field, k]
            return 100.0 * forecast.coverage(outputs.values[:, field], lower, upper, horizon)

        for name, pick in (("lowest", np.argmin), ("highest", np.argmax)):
            title = f"90 % interval over {horizon}, {name} coverage, %"
            rows += _worst_rows(title, runs, groups, covered, pick, goal, digits=2)
    return rows


def _ratio(outputs: Outputs, field: int) -> float:
    return forecast.against_persistence(outputs.values[:, field], outputs.forecast[:, field, 0])


def _worst_rows(
    title: str,
    runs: Runs,
    groups: Mapping[str, Sequence[str]],
    measure: Callable[[Outputs, int], float],
    pick: Callable[[Array], np.intp],
    goal: str,
    digits: int = 4,
) -> list[Row]:
    """For each group of series, the most extreme of a measure of all fields, and the three series nearest to it."""
    rows = []
    for group, names in groups.items():
        fields = [(name, f) for name in names for f in range(runs[0][name].values.shape[1])]
        found = np.array([[measure(outputs[name], f) for name, f in fields] for outputs in runs])  # (seeds, fields)
        mean = found.mean(axis=0)
        first = int(pick(mean))
        order = np.argsort(np.abs(mean - mean[first]), kind="stable")[:3]
        note = ", ".join(f"{_title(fields, i)} {mean[i]:.{digits}f}" for i in order.tolist())
        values = tuple(float(each[pick(each)]) for each in found)
        rows.append(Row(f"{title}: {group}", values, goal, note=note, digits=digits))
    return rows


def _title(fields: Sequence[tuple[str, int]], i: int) -> str:
    """Name of the series, and the number of the field where it has several."""
    name, field = fields[i]
    return f"{name} field {field}" if (name, 1) in fields else name
