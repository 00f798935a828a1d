"""Detector and Alarm: the anomaly score of one stream."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamrnn.kernels import detection
from streamrnn.kernels.detection import JOINT, KEPT, RECENT, VIEWS
from streamrnn.learn.moving import Moving

Array = NDArray[np.float64]


class Alarm(Moving):
    """From the strangeness of the events of one stream to scores and alerts, with silence after each alert."""

    SAVED: ClassVar[tuple[str, ...]] = ("alert",)

    def __init__(self) -> None:
        super().__init__()
        self.alert = np.full(1, -1, dtype=np.int64)

    def decide_one(self, strange: float, age: int, learn: bool = True) -> tuple[float, bool]:
        """Return (score 0..1, anomaly) of event number `age` of its stream."""
        return detection.decide(strange, self.alert, age, learn)


class Detector(Moving):
    """How rare each event is among what its stream has shown.

    Parameters
    ----------
    fields
        Number of fields F.

    Attributes
    ----------
    loudness : (F,)
        Of the last event: how much each field has to do with its score.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("recent", "kept", "errors", "shown", "rings", "ordered")
    GROWS: ClassVar[dict[str, int]] = {"rings": 1, "ordered": 1}

    FIRST = 64  # events there is room for at the beginning

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.recent: Array = np.zeros((fields, RECENT))
        self.kept = np.zeros((fields, KEPT), dtype=np.int64)
        self.errors: Array = np.zeros((fields, 2))
        views = self.view_count(fields)
        self.shown = np.zeros(views, dtype=np.int64)
        self.rings: Array = np.zeros((views, self.FIRST))
        self.ordered: Array = np.zeros((views, self.FIRST))
        self.loudness: Array = np.zeros(fields)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What an event needs of it, in the order of `kernels.numeric`; last the events there is room for."""
        own = (self.recent, self.kept, self.errors, self.shown, self.rings, self.ordered, self.loudness)
        return *own, self.rings.shape[1]

    def disagreement(self) -> str | None:
        """Why what was restored does not go together, None when it does: its places are where a kernel writes."""
        capacity = self.rings.shape[1]
        if self.ordered.shape != self.rings.shape or capacity == 0:
            return f"ordered: expected the shape of rings, {self.rings.shape}, not empty, got {self.ordered.shape}"
        for ring, ordered, shown in zip(self.rings, self.ordered, self.shown.tolist(), strict=True):
            count = min(shown, capacity)
            if count < 0 or not np.array_equal(np.sort(ring[:count]), ordered[:count]):
                return "ordered: expected what is in rings, in order"
        return None

    @staticmethod
    def view_count(fields: int) -> int:
        """Numbers that an event is ranked by: of each field, and of several fields together."""
        return fields * VIEWS + (JOINT if fields > 1 else 0)

    @classmethod
    def bytes_per_event(cls, fields: int) -> int:
        """Bytes that one event of history costs."""
        return 2 * 8 * cls.view_count(fields)

    def strangeness_one(
        self,
        values: Array,
        scaled: Array,
        residual: Array,
        log_scale: Array,
        error: Array,
        age: int,
        history: int,
        learn: bool = True,
    ) -> float:
        """Return how strange an event is, for an `Alarm` to make a score of.

        Parameters
        ----------
        values, scaled
            (F,) NaN where missing.
        residual, log_scale
            (F, K) as the calibrator has them.
        error
            (F,) of the published one-step forecast, in the field's unit, NaN where there was none.
        age
            Events of the stream before this one.
        history
            Events to rank among, at the most; what is older is let go.
        """
        self.make_room(age, history)
        return detection.strangeness(
            values,
            scaled,
            residual,
            log_scale,
            error,
            learn,
            self.recent,
            self.kept,
            self.errors,
            self.shown,
            self.rings,
            self.ordered,
            age,
            self.loudness,
        )

    def make_room(self, age: int, history: int) -> None:
        """Make room for an event before which the stream had `age`, of at most `history`."""
        capacity = self.rings.shape[1]
        if capacity > history or (age >= capacity and capacity < history):
            self._resize(min(2 * capacity, history))

    def shorten(self, history: int) -> None:
        """Keep no more than the newest `history` events."""
        if self.rings.shape[1] > history:
            self._resize(history)

    def _resize(self, capacity: int) -> None:
        """Give every view room for `capacity` values and keep the newest of what it has."""
        views, old = self.rings.shape
        rings = np.zeros((views, capacity))
        ordered = np.zeros_like(rings)
        for k in range(views):
            count = int(self.shown[k])
            newest = np.arange(max(0, count - min(old, capacity)), count)
            values = self.rings[k, newest % old]
            rings[k, : len(values)] = values
            ordered[k, : len(values)] = np.sort(values)
            self.shown[k] = len(values)  # what is gone no longer counts, nor does its place
        self.rings, self.ordered = rings, ordered
