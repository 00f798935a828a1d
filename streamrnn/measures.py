"""Prequential measures: how good the forecasts were, each judged by what came after it and never by more."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Any

from streamrnn.events import NumericOutput, Output, SymbolOutput

Made = tuple[float, float, float, float]  # the value then, forecast, lower, upper


class FieldMeasures:
    """Of one field of a numeric pipeline, over all its keys.

    Errors are of the forecast over each horizon; the skill is 1 - MAE / MAE of persistence over the same events.
    """

    def __init__(self, horizons: tuple[int, ...]) -> None:
        count = len(horizons)
        self.horizons = horizons
        self.judged = [0] * count
        self.absolute = [0.0] * count
        self.squared = [0.0] * count
        self.naive = [0.0] * count
        self.inside = [0] * count
        self.width = [0.0] * count

    def judge(self, k: int, value: float, made: Made) -> None:
        """Judge what was `made` for `value` over horizon number k: its then value, forecast, lower, upper."""
        then, forecast, lower, upper = made
        error = value - forecast
        self.judged[k] += 1
        self.absolute[k] += abs(error)
        self.squared[k] += error * error
        self.naive[k] += abs(value - then)
        self.inside[k] += lower <= value <= upper
        self.width[k] += upper - lower

    def mae(self, k: int) -> float:
        """Mean absolute error over horizon number k, in the field's unit."""
        return self.absolute[k] / self.judged[k] if self.judged[k] else math.nan

    def rmse(self, k: int) -> float:
        """Root of the mean squared error over horizon number k, in the field's unit."""
        return math.sqrt(self.squared[k] / self.judged[k]) if self.judged[k] else math.nan

    def skill(self, k: int) -> float:
        """1 - MAE / MAE of persistence over horizon number k: above 0 is better than saying "as now"."""
        return 1.0 - self.absolute[k] / self.naive[k] if self.naive[k] else math.nan

    def coverage(self, k: int) -> float:
        """Share of values inside their interval, 0..1."""
        return self.inside[k] / self.judged[k] if self.judged[k] else math.nan

    def mean_width(self, k: int) -> float:
        """Mean width of the intervals, in the field's unit."""
        return self.width[k] / self.judged[k] if self.judged[k] else math.nan


class Measures:
    """Of one pipeline; `add` takes its outputs in order."""

    def __init__(self, keys_max: int = 1000) -> None:
        self.keys_max = keys_max  # keys whose forecasts wait for their events, as the pipeline's own do
        self.events = 0
        self.alerts = 0
        self.updates = 0
        self.fields: dict[str, FieldMeasures] = {}
        self.bits = 0.0
        self.top1 = 0
        self.top5 = 0
        self._waiting: OrderedDict[str, dict[str, list[deque[Made | None]]]] = OrderedDict()
        self._next: OrderedDict[str, list[tuple[str, float]]] = OrderedDict()

    def add(self, output: Output) -> None:
        """Judge the forecasts that were made for this event, and keep its own for later."""
        self.events += 1
        self.updates = output.updates
        if isinstance(output, SymbolOutput):
            self._add_symbol(output)
        else:
            self._add_numeric(output)

    def _add_symbol(self, output: SymbolOutput) -> None:
        self.bits += output.bits
        expected = [symbol for symbol, _ in self._next.get(output.key, [])]
        self.top1 += output.symbol in expected[:1]
        self.top5 += output.symbol in expected
        self._next[output.key] = output.next
        self._limit(self._next, output.key)

    def _add_numeric(self, output: NumericOutput) -> None:
        self.alerts += output.anomaly
        horizons = output.horizons
        waiting = self._waiting.get(output.key)
        if waiting is None:
            waiting = {field: [deque(maxlen=horizon) for horizon in horizons] for field in output.value}
            self._waiting[output.key] = waiting
        for field, value in output.value.items():
            if field not in self.fields:
                self.fields[field] = FieldMeasures(horizons)
            forecast, lower, upper = output.forecast[field], output.lower[field], output.upper[field]
            for k, ring in enumerate(waiting[field]):
                old = ring[0] if len(ring) == horizons[k] else None
                if value is None or forecast is None or lower is None or upper is None:
                    ring.append(None)
                    continue
                if old is not None:
                    self.fields[field].judge(k, value, old)
                ring.append((value, forecast[k], lower[k], upper[k]))
        self._limit(self._waiting, output.key)

    def _limit(self, kept: OrderedDict[str, Any], key: str) -> None:
        kept.move_to_end(key)
        if len(kept) > self.keys_max:
            kept.popitem(last=False)
