"""What flows: a Message comes in, becomes Events, and each Event is answered by an Output."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

Record: TypeAlias = dict[str, Any]
"""A payload taken apart: field names to values, nested as the sender nested them."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """What MQTT gave, or one row of a recorded file.

    A recorded row has its fields apart already: its payload is then a Record instead of bytes.
    """

    topic: str
    payload: bytes | Record
    qos: int = 0
    retain: bool = False
    dup: bool = False
    mid: int = 0  # packet id, 0 at QoS 0
    key: str | None = None  # of a recorded row without a topic; else the topic gives it
    arrival: float = 0.0  # epoch seconds, UTC
    clock_ns: int = 0  # monotonic clock at arrival, ns; 0 in replay

    @property
    def raw(self) -> bytes:
        """The payload as it came; empty for a recorded row."""
        return self.payload if isinstance(self.payload, bytes) else b""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One decoded event of one key: numbers, or a symbol."""

    key: str
    time: float  # epoch seconds, UTC
    values: NDArray[np.float64] | None = None  # (F,) NaN where a field is missing
    symbol: str | None = None


class NumericOutput(msgspec.Struct, frozen=True, gc=False):
    """What is published for a numeric event. Lists run over the horizons."""

    pipeline: str
    key: str
    seq: int
    time: float
    value: dict[str, float | None]
    forecast: dict[str, list[float] | None]
    lower: dict[str, list[float] | None]
    upper: dict[str, list[float] | None]
    horizons: tuple[int, ...]
    error: dict[str, float | None]  # this event minus its one-step forecast
    score: float  # 0..1, higher is stranger
    anomaly: bool
    loudest: str  # the field that has most to do with the score
    updates: int
    warmup: bool
    latency_us: float | UnsetType = UNSET  # live only


class SymbolOutput(msgspec.Struct, frozen=True, gc=False):
    """What is published for a symbol event."""

    pipeline: str
    key: str
    seq: int
    time: float
    symbol: str
    bits: float  # surprise of this symbol, -log2 p
    next: list[tuple[str, float]]  # the five likeliest to follow, with their probabilities
    updates: int
    warmup: bool
    latency_us: float | UnsetType = UNSET  # live only


Output: TypeAlias = NumericOutput | SymbolOutput


def finite(number: float) -> float | None:
    """Return None for what is not a number: what is told to others has null there."""
    return number if math.isfinite(number) else None
