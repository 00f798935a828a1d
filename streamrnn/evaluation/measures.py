"""Prequential measures: how good the forecasts were, each judged by what came after it and never by more."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, TypeAlias

from streamrnn.evaluation.season import ROOM, Season
from streamrnn.events import NumericOutput, Output, SymbolOutput

Made: TypeAlias = tuple[float, float, float, float, float]  # time and value then, forecast, lower, upper


class FieldMeasures:
    """Of one field of a numeric pipeline, over all its keys.

    Errors are of the forecast over each horizon. They are compared with those of two naive forecasts of the same
    events: persistence, which says "as now", and the seasonal, which says "as a day before". Of the latter only
    events count that it had something to say about.
    """

    def __init__(self, horizons: tuple[int, ...]) -> None:
        count = len(horizons)
        self.horizons = horizons
        self.judged = [0] * count
        self.absolute = [0.0] * count
        self.squared = [0.0] * count
        self.naive = [0.0] * count
        self.naive_squared = [0.0] * count
        self.inside = [0] * count
        self.width = [0.0] * count
        self.seasonal_judged = [0] * count
        self.seasonal_absolute = [0.0] * count  # of our forecast, where the seasonal had one too
        self.seasonal_naive = [0.0] * count

    def judge(self, k: int, value: float, made: Made) -> float:
        """Judge what was `made` for `value` over horizon number k; return the absolute error."""
        _, then, forecast, lower, upper = made
        error, naive = value - forecast, value - then
        self.judged[k] += 1
        self.absolute[k] += abs(error)
        self.squared[k] += error * error
        self.naive[k] += abs(naive)
        self.naive_squared[k] += naive * naive
        self.inside[k] += lower <= value <= upper
        self.width[k] += upper - lower
        return abs(error)

    def judge_seasonal(self, k: int, value: float, seasonal: float, error: float) -> None:
        """Judge the `seasonal` naive forecast of `value`, beside the absolute `error` of ours."""
        self.seasonal_judged[k] += 1
        self.seasonal_absolute[k] += error
        self.seasonal_naive[k] += abs(value - seasonal)

    def mae(self, k: int) -> float:
        """Mean absolute error over horizon number k, in the field's unit."""
        return ratio(self.absolute[k], self.judged[k])

    def mse(self, k: int) -> float:
        """Mean squared error over horizon number k, in the square of the field's unit."""
        return ratio(self.squared[k], self.judged[k])

    def rmse(self, k: int) -> float:
        """Root of the mean squared error over horizon number k, in the field's unit."""
        return math.sqrt(self.mse(k))

    def mse_ratio(self, k: int) -> float:
        """Mean squared error over horizon number k by that of persistence: below 1 is better than "as now"."""
        return ratio(self.squared[k], self.naive_squared[k])

    def skill(self, k: int) -> float:
        """1 - MAE / MAE of persistence over horizon number k: above 0 is better than saying "as now"."""
        return 1.0 - ratio(self.absolute[k], self.naive[k])

    def seasonal_skill(self, k: int) -> float:
        """1 - MAE / MAE of the seasonal naive forecast over horizon number k, both of the events it spoke about."""
        return 1.0 - ratio(self.seasonal_absolute[k], self.seasonal_naive[k])

    def coverage(self, k: int) -> float:
        """Share of values inside their interval, 0..1."""
        return ratio(self.inside[k], self.judged[k])

    def mean_width(self, k: int) -> float:
        """Mean width of the intervals, in the field's unit."""
        return ratio(self.width[k], self.judged[k])


def ratio(part: float, whole: float) -> float:
    """Return `part` / `whole`, NaN of nothing."""
    return part / whole if whole else math.nan


class _Waiting:
    """One key's forecasts until their events come, and its values of a day before."""

    def __init__(self, fields: tuple[str, ...], horizons: tuple[int, ...]) -> None:
        self.made: dict[str, list[deque[Made | None]]] = {
            field: [deque(maxlen=horizon) for horizon in horizons] for field in fields
        }
        self.season = Season(len(fields), horizons[-1])


class Measures:
    """Of one pipeline; `add` takes its outputs in order.

    Every event counts from the first forecast on, those in warm-up too.
    """

    def __init__(self, keys_max: int = 1000) -> None:
        self.keys_max = keys_max  # keys whose forecasts wait for their events, as the pipeline's own do
        self.events = 0
        self.warmup = 0  # of them in warm-up
        self.alerts = 0
        self.updates = 0
        self.fields: dict[str, FieldMeasures] = {}
        self.bits = 0.0
        self.top1 = 0
        self.top5 = 0
        self._room = ROOM
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._next: OrderedDict[str, list[tuple[str, float]]] = OrderedDict()

    def add(self, output: Output) -> None:
        """Judge the forecasts that were made for this event, and keep its own for later."""
        self.events += 1
        self.warmup += output.warmup
        self.updates = output.updates
        if isinstance(output, SymbolOutput):
            self._add_symbol(output)
        else:
            self._add_numeric(output)

    def coverage(self) -> float:
        """Share of values inside their interval over all fields and horizons, 0..1."""
        inside = sum(sum(of.inside) for of in self.fields.values())
        return ratio(inside, sum(sum(of.judged) for of in self.fields.values()))

    def _add_symbol(self, output: SymbolOutput) -> None:
        self.bits += output.bits
        expected = [symbol for symbol, _ in self._next.get(output.key, [])]
        self.top1 += output.symbol in expected[:1]
        self.top5 += output.symbol in expected
        self._next[output.key] = output.next
        _limit(self._next, output.key, self.keys_max)

    def _add_numeric(self, output: NumericOutput) -> None:
        self.alerts += output.anomaly
        waiting = self._waiting.get(output.key)
        if waiting is None:
            waiting = self._waiting[output.key] = _Waiting(tuple(output.value), output.horizons)
        season = waiting.season
        before: dict[int, Sequence[float] | None] = {}  # by horizon: values a day before, of all fields
        for f, (field, value) in enumerate(output.value.items()):
            of = self.fields.get(field)
            if of is None:
                of = self.fields[field] = FieldMeasures(output.horizons)
            forecast, lower, upper = output.forecast[field], output.lower[field], output.upper[field]
            rings = waiting.made[field]
            if value is None or forecast is None or lower is None or upper is None:
                for ring in rings:
                    ring.append(None)
                continue
            for k, ring in enumerate(rings):
                old = ring[0] if len(ring) == ring.maxlen else None
                if old is not None:
                    error = of.judge(k, value, old)
                    if season.gap:
                        if k not in before:
                            before[k] = season.find(output.time, old[0])
                        row = before[k]
                        if row is not None and row[f] == row[f]:
                            of.judge_seasonal(k, value, row[f], error)
                ring.append((output.time, value, forecast[k], lower[k], upper[k]))
        held = season.size
        season.learn_one(output.time, list(output.value.values()), self._room)
        self._room -= season.size - held
        gone = _limit(self._waiting, output.key, self.keys_max)
        if gone is not None:
            self._room += gone.season.size


def _limit(kept: OrderedDict[str, Any], key: str, most: int) -> Any:
    """Keep the `most` newest, of which `key` is one; return what is let go."""
    kept.move_to_end(key)
    return kept.popitem(last=False)[1] if len(kept) > most else None
