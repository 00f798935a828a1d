"""Survey: what comes on a set of topics, summed up while it comes. What is concluded from it stands in `findings`.

Everything has a ceiling, since topics and payloads come from outside. No payload is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

from streamrnn.codecs import cbor, json, number
from streamrnn.codecs.codec import VALUE_MAX
from streamrnn.codecs.times import epoch_seconds
from streamrnn.errors import PayloadError
from streamrnn.events import Message

TOPICS_MAX: Final = 5000
PATHS_MAX: Final = 256  # of a topic
DEPTH_MAX: Final = 8
PATH_CHARACTERS_MAX: Final = 128
WORDS_MAX: Final = 257  # different texts of a path: one more than a pipeline tells apart
WORD_CHARACTERS_MAX: Final = 64
DAY_S: Final = 86_400.0


class Numbers:
    """What the numbers at one path of one topic do."""

    def __init__(self) -> None:
        self.count = 0
        self.low, self.high = math.inf, -math.inf
        self.whole = True
        self.rises = self.falls = self.ones = 0  # from one message to the next; ones: by exactly 1
        self.different: set[float] = set()  # up to WORDS_MAX
        self._last = math.nan

    def observe(self, value: float) -> None:
        """Take the next one."""
        self.count += 1
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.whole = self.whole and value == math.floor(value)
        self.rises += value > self._last
        self.falls += value < self._last
        self.ones += value - self._last == 1
        self._last = value
        if len(self.different) < WORDS_MAX:
            self.different.add(value)


class Words:
    """What the texts at one path of one topic are."""

    def __init__(self) -> None:
        self.count = 0
        self.different: set[str] = set()  # up to WORDS_MAX
        self.too_long = False

    def observe(self, value: str) -> None:
        """Take the next one."""
        self.count += 1
        self.too_long = self.too_long or not 0 < len(value) <= WORD_CHARACTERS_MAX
        if len(self.different) < WORDS_MAX:
            self.different.add(value[:WORD_CHARACTERS_MAX])


class Times:
    """How far the times at one path of one topic are from the arrival of their messages."""

    def __init__(self) -> None:
        self.count = 0
        self.farthest_s = 0.0

    def observe(self, seconds: float) -> None:
        """Take the next difference."""
        self.count += 1
        self.farthest_s = max(self.farthest_s, abs(seconds))


class Topic:
    """What came on one topic.

    Attributes
    ----------
    forms
        How many payloads were a json or cbor object, a number, a text of one character or more, or anything else.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.levels = name.split("/")
        self.messages = 0
        self.forms: Counter[str] = Counter()
        self.numbers: dict[str, Numbers] = {}
        self.words: dict[str, Words] = {}
        self.times: dict[str, Times] = {}

    @property
    def form(self) -> str:
        """What most payloads were."""
        return self.forms.most_common(1)[0][0]

    def observe(self, message: Message) -> None:
        """Sum up the next message."""
        self.messages += 1
        assert isinstance(message.payload, bytes)  # noqa: S101
        form, value = form_of(message.payload)
        self.forms[form] += 1
        if form == "number":
            self._observe("", value, message.arrival)
        elif isinstance(value, dict):
            for path, leaf in leaves(value):
                self._observe(path, leaf, message.arrival)

    def _observe(self, path: str, value: object, arrival: float) -> None:
        if isinstance(value, str | int | float) and self._is_time(path, value, arrival):
            return
        if isinstance(value, str):
            try:
                value = number.decimal(value)
            except ValueError:
                pass
            else:
                if not math.isfinite(value):
                    return
        if isinstance(value, bool) or value is None:
            return
        kept: dict[str, Numbers] | dict[str, Words] = self.words if isinstance(value, str) else self.numbers
        if path not in kept and len(self.numbers) + len(self.words) >= PATHS_MAX:
            return
        if isinstance(value, str):
            self.words.setdefault(path, Words()).observe(value)
        elif isinstance(value, int | float) and -VALUE_MAX <= value <= VALUE_MAX:
            self.numbers.setdefault(path, Numbers()).observe(float(value))

    def _is_time(self, path: str, value: str | float, arrival: float) -> bool:
        """Whether a value is a time of these days; it is noted as one."""
        if isinstance(value, bool) or (isinstance(value, str) and len(value) < 8):
            return False
        seconds = epoch_seconds(value)
        if seconds is None or abs(seconds - arrival) > DAY_S:
            return False
        if path in self.times or len(self.times) < PATHS_MAX:
            self.times.setdefault(path, Times()).observe(seconds - arrival)
        return True


class Survey:
    """What came on all topics.

    Attributes
    ----------
    counts
        messages, and of them own (streamrnn's outputs) and beyond (of more topics than are told apart).
    """

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.counts: Counter[str] = Counter()

    def observe(self, message: Message) -> bool:
        """Sum up a message; returns True, so that it is acknowledged."""
        self.counts["messages"] += 1
        topic = self.topics.get(message.topic)
        if message.topic.startswith("streamrnn/"):
            self.counts["own"] += 1
        elif topic is None and len(self.topics) >= TOPICS_MAX:
            self.counts["beyond"] += 1
        else:
            if topic is None:
                topic = self.topics[message.topic] = Topic(message.topic)
            topic.observe(message)
        return True


def form_of(payload: bytes) -> tuple[str, object]:
    """Say what a payload is: json, cbor, number, character, text, other or empty; with its value where it has one.

    Examples
    --------
    >>> form_of(b'{"t": 21.5}'), form_of(b"21.5"), form_of(b"ON"), form_of(b"a")
    (('json', {'t': 21.5}), ('number', 21.5), ('text', None), ('character', None))
    """
    if not payload:
        return "empty", None
    try:
        value = number.parse(payload)
        return ("number", value) if isinstance(value, float) and math.isfinite(value) else ("other", None)
    except PayloadError:
        pass
    for form, parse in (("json", json.parse), ("cbor", cbor.parse)):
        try:
            value = parse(payload)
        except PayloadError:
            continue
        if isinstance(value, dict):
            return form, value
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return "other", None
    return "character" if len(text) == 1 else "text", None


def leaves(record: dict[object, object], depth: int = 1, above: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values of a payload that are neither objects nor lists, each with its dotted path."""
    for key, value in record.items():
        path = f"{above}{key}"
        if len(path) > PATH_CHARACTERS_MAX or not path.isprintable() or not path:
            continue
        if isinstance(value, dict):
            if depth < DEPTH_MAX:
                yield from leaves(value, depth + 1, f"{path}.")
        elif not isinstance(value, list):
            yield path, value
