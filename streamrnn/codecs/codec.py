"""Messages to events and outputs to bytes, as one pipeline is configured. It computes nothing with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from streamrnn.codecs.number import decimal
from streamrnn.codecs.paths import Path
from streamrnn.codecs.registry import PARSERS
from streamrnn.codecs.times import epoch_seconds
from streamrnn.errors import PayloadError
from streamrnn.events import Event, Message, Output
from streamrnn.keys import HOLE, unfit

VALUE_MAX: Final = 1e30  # squares of larger values would not leave a finite variance
SYMBOL_CHARACTERS_MAX: Final = 64

_NAN: Final = float("nan")
_TEXT_COLUMNS: Final = ("text", "symbol", "value")

encode = msgspec.json.Encoder().encode
"""An output as one line of JSON, without the line end; a number which is not finite becomes null."""


class Codec:
    """Between the messages and the events of one pipeline.

    Parameters
    ----------
    payload
        The payload format: a name in `PARSERS`.
    fields
        Dotted paths of the F numbers of an event. A payload which is a bare number is the value of the only
        field.
    symbol
        Dotted path of the symbol of an event, instead of `fields`. A payload which is a bare value is the
        symbol. Neither `fields` nor `symbol`, and payload `text`: every character is an event.
    time
        Dotted path of the event time; None: the time of arrival.
    key_paths
        Dotted paths of the values that go into the holes of a key; see `KeyTemplate`.
    counts
        What was amiss without losing the event, by name: `missing`, `not_finite` and `out_of_range` count
        fields (also those of a message refused as `no_value`), `bad_time` messages dated by their arrival.

    Raises
    ------
    ValueError
        An unknown payload format, both fields and a symbol, or neither for a payload which is not text.

    Examples
    --------
    >>> codec = Codec(fields=["temperature", "vibration.rms"], time="ts")
    >>> message = Message("pump", b'{"ts": 1700000000500, "temperature": 21.5, "vibration": {"rms": 0.4}}')
    >>> codec.decode(message, "pump")
    [Event(key='pump', time=1700000000.5, values=array([21.5,  0.4]), symbol=None)]
    """

    def __init__(
        self,
        payload: str = "json",
        fields: Sequence[str] = (),
        symbol: str | None = None,
        time: str | None = None,
        counts: Counter[str] | None = None,
        key_paths: Sequence[str] = (),
    ) -> None:
        if payload not in PARSERS:
            raise ValueError(f"payload {payload!r} is none of {', '.join(PARSERS)}")
        if fields and symbol is not None:
            raise ValueError("an event has either fields or a symbol")
        if not fields and symbol is None and payload != "text":
            raise ValueError(f"payload {payload} needs fields or a symbol")
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._parse = PARSERS[payload]
        self._fields = [Path(field) for field in fields]
        self._symbol = None if symbol is None else Path(symbol)
        self._time = None if time is None else Path(time)
        self._key_paths = [Path(path) for path in key_paths]

    def decode(self, message: Message, key: str) -> list[Event]:
        """The events of a message: one, or one per character of a text.

        A recorded row (its payload a Record) is not parsed; of a text pipeline its column `text` is the text,
        or else `symbol`, or else `value`.

        Returns
        -------
        list of Event
            With `values` float64 (F,), NaN where a field is missing, not finite or beyond 1e30; or with
            `symbol`.

        Raises
        ------
        PayloadError
            The message is not an event. The detail never shows a symbol or text, which may be keystrokes.
        """
        if self._fields:
            payload = message.payload
            record = self._parse(payload) if isinstance(payload, bytes) else payload
            values = np.array(self._numbers(record), dtype=np.float64)  # (F,)
            if self._key_paths:
                key = filled(key, self._key_paths, record)
            return [Event(key, self._time_of(record, message), values)]
        record = self._parse_private(message.payload)
        if self._key_paths:
            key = filled(key, self._key_paths, record)
        if self._symbol is not None:
            return [Event(key, self._time_of(record, message), None, _symbol(self._symbol, record))]
        text = _text(record)
        time = self._time_of(record, message)
        return [Event(key, time, None, character) for character in text]

    def encode(self, output: Output) -> bytes:
        """An output as one line of JSON, without the line end; a number which is not finite becomes null."""
        return encode(output)

    def _numbers(self, record: object) -> list[float]:
        if not isinstance(record, dict | list):
            if len(self._fields) != 1:
                raise PayloadError("not_an_object", f"a bare value for {len(self._fields)} fields")
            numbers = [self._number(record)]
        elif isinstance(record, dict):
            numbers = []
            for path in self._fields:
                # Nearly every value is a plain number under a plain key: that way costs one look-up.
                value = record.get(path.text)
                if not ((type(value) is float or type(value) is int) and -VALUE_MAX <= value <= VALUE_MAX):
                    value = self._number(path.find(record))
                numbers.append(value)
        else:
            numbers = [self._number(path.find(record)) for path in self._fields]
        if all(number != number for number in numbers):
            raise PayloadError("no_value", f"none of {', '.join(path.text for path in self._fields)}"[:80])
        return numbers

    def _number(self, value: object) -> float:
        """A value as a float, NaN (and counted) where it is none."""
        if isinstance(value, str):
            try:
                value = decimal(value)
            except ValueError:
                value = None
        if not isinstance(value, int | float):
            self.counts["missing"] += 1
        elif -VALUE_MAX <= value <= VALUE_MAX:
            return float(value)
        elif isinstance(value, float) and not math.isfinite(value):
            self.counts["not_finite"] += 1
        else:
            self.counts["out_of_range"] += 1
        return _NAN

    def _time_of(self, record: object, message: Message) -> float:
        if self._time is None:
            return message.arrival
        time = epoch_seconds(self._time.find(record))
        if time is None:
            self.counts["bad_time"] += 1
            return message.arrival
        return time

    def _parse_private(self, payload: object) -> object:
        if not isinstance(payload, bytes):
            return payload
        try:
            return self._parse(payload)
        except PayloadError as error:
            raise PayloadError(error.reason, f"{len(payload)} bytes") from None


def filled(key: str, paths: Sequence[Path], record: object) -> str:
    """Put values of a payload into the holes of a key; one that is absent leaves nothing there.

    A key without holes, such as that of a recorded row which names its own, stays as it is.

    Raises
    ------
    PayloadError
        `no_key` when none of the values is there; `key_refused` or `key_too_long` when it could not be part of a
        topic: what a payload says must not choose the level it is published on.
    """
    texts = key.split(HOLE)
    if len(texts) != len(paths) + 1:
        return key
    values = [_as_text(path.find(record)) for path in paths]
    if not any(values):
        raise PayloadError("no_key", f"none of {', '.join(path.text for path in paths)}"[:80])
    if any("/" in value or value.startswith("$") for value in values if value):
        raise PayloadError("key_refused", "a / or $ in a value of the payload")
    key = texts[0] + "".join((value or "") + text for value, text in zip(values, texts[1:], strict=True))
    if (reason := unfit(key)) is not None:
        raise PayloadError(*reason)
    return key


def _symbol(path: Path, record: object) -> str:
    value = _as_text(path.find(record) if isinstance(record, dict | list) else record)
    if value is None:
        raise PayloadError("no_symbol", f"{path.text[:40]}: not 1 to {SYMBOL_CHARACTERS_MAX} characters")
    return value


def _as_text(value: object) -> str | None:
    """A value as 1 to 64 characters, None where it cannot be."""
    if isinstance(value, bool):
        return "true" if value else "false"
    # The limit comes before str(), which refuses integers of thousands of digits.
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**SYMBOL_CHARACTERS_MAX):
        value = str(value)
    return value if isinstance(value, str) and 0 < len(value) <= SYMBOL_CHARACTERS_MAX else None


def _text(record: object) -> str:
    if isinstance(record, dict):
        record = next((record[column] for column in _TEXT_COLUMNS if column in record), None)
    if record is None or record == "":
        raise PayloadError("empty", "no text")
    if not isinstance(record, str):
        raise PayloadError("not_text", f"{type(record).__name__} instead of text")
    return record
