"""From a survey of topics to pipelines: which topics belong together, what is measured in them, and what is not.

Rules of thumb, meant for a draft that a person reads. Numbers that a network has nothing to learn from, since they
are constant, only grow, or name something, are told apart from measurements.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from streamrnn.keys import KEY_MAX, unfit
from streamrnn.sniffing.survey import Numbers, Topic, Words

FIELDS_MAX: Final = 64  # of a pipeline
CONSTANT_FROM: Final = 4  # messages of a topic in which a number does not change
RISES_FROM: Final = 3  # without a fall make a counter
CLOCK_S: Final = 300.0  # an event time may be off so much from the arrival
KEYS_MAX: Final = 200  # different values of a path that names devices

_IDENTIFIES = re.compile(
    r"(?:^|[_\-.: ])(?:id|uid|uuid|mac|serial|addr|address|channel|version|ver|pid|port)$", re.I
)
_IDENTIFIES_CAMEL = re.compile(r"[a-z](?:Id|ID)$")
_NAMES = re.compile(r"(?:^|[_\-.: ])(?:model|device|device_?name|sensor|station|node)$", re.I)
_GROWS = re.compile(r"total|count|uptime|seq|energy|today|yesterday|packets|bytes|restarts?$", re.I)
_TELLS_TIME = re.compile(r"(?:^|[_\-.: ])(?:ts|time|timestamp|date|datetime|unixtime|epoch|last_?seen)$", re.I)
_SYMBOLS = ("key", "symbol", "action", "event", "button", "code", "command", "state")


class Field(msgspec.Struct, frozen=True):
    """A number of a payload, and what was seen of it."""

    path: str
    seen: str


class Finding(msgspec.Struct, frozen=True):
    """Topics that make a pipeline, and what in their payloads is an event."""

    topics: tuple[str, ...]
    topic_filter: str
    payload: str
    key: str | None = None  # template; None: the topic
    fields: tuple[Field, ...] = ()
    left_out: tuple[Field, ...] = ()
    symbol: str | None = None
    time: str | None = None
    clocks_off: tuple[str, ...] = ()  # paths with times that are far from the arrival
    messages: int = 0


def conclude(topics: Iterable[Topic]) -> tuple[list[Finding], list[str]]:
    """Return what makes pipelines, and the topics that make none."""
    found: list[Finding] = []
    rest: list[str] = []
    by_form: dict[tuple[str, int], list[Topic]] = {}
    for topic in sorted(topics, key=lambda topic: topic.name):
        by_form.setdefault((topic.form, len(topic.levels)), []).append(topic)
    for (form, _), alike in sorted(by_form.items()):
        if form in ("json", "cbor"):
            groups = _by_overlap(alike)
        elif form == "number":
            groups = _by_kind(alike)
        elif form == "character":
            groups = [alike]
        else:
            rest += [topic.name for topic in alike]
            continue
        for group in groups:
            finding = _finding(group, form)
            if finding is None:
                rest += [topic.name for topic in group]
            else:
                found.append(finding)
    return found, sorted(rest)


def merged_filter(topics: Sequence[Topic]) -> str:
    """Return the filter with a + for each level in which topics of one length differ."""
    columns = zip(*(topic.levels for topic in topics), strict=True)
    return "/".join(column[0] if len(set(column)) == 1 else "+" for column in columns)


def _by_overlap(topics: list[Topic]) -> list[list[Topic]]:
    """Put objects together that have in common most paths of the smaller one, and a third of the larger."""
    groups: list[tuple[list[Topic], set[str]]] = []
    for topic in topics:
        paths = set(topic.numbers) or set(topic.words)
        for group, known in groups:
            common = len(paths & known)
            literal = any(level != "+" for level in merged_filter([*group, topic]).split("/"))
            alike = common * 2 > min(len(paths), len(known)) and common * 3 >= max(len(paths), len(known))
            if alike and (literal or len(topic.levels) == 1):
                group.append(topic)
                known |= paths
                break
        else:
            groups.append(([topic], paths))
    return [group for group, _ in groups]


def _by_kind(topics: list[Topic]) -> list[list[Topic]]:
    """Put numbers together that measure the same: what is measured is the level with the fewest different names."""
    columns = [set(column) for column in zip(*(topic.levels for topic in topics), strict=True)]
    varying = [i for i, column in enumerate(columns) if len(column) > 1]
    if not varying or (len(varying) == 1 and len(topics[0].levels) > 1):
        return [topics]
    kind = min(reversed(varying), key=lambda i: len(columns[i]))
    groups: dict[str, list[Topic]] = {}
    for topic in topics:
        groups.setdefault(topic.levels[kind], []).append(topic)
    return list(groups.values())


def _finding(topics: list[Topic], form: str) -> Finding | None:
    topic_filter = merged_filter(topics)
    wildcards = topic_filter.split("/").count("+")
    fields, left_out = _fields(topics, form)
    symbol = None if fields or form == "character" else _symbol(topics)
    if not fields and symbol is None and form != "character":
        return None
    parts = [f"{{{i + 1}}}" for i in range(wildcards)]
    names = _naming(topics) if form in ("json", "cbor") else []
    key = "/".join(parts) or None
    if names:
        key = "-".join(filter(None, [key, *(f"{{payload.{path}}}" for path in names)]))
    near, far = _times(topics)
    return Finding(
        topics=tuple(topic.name for topic in topics),
        topic_filter=topic_filter,
        payload={"character": "text"}.get(form, form),
        key=key,
        fields=tuple(fields[:FIELDS_MAX]),
        left_out=(*left_out, *(Field(each.path, "one field too many") for each in fields[FIELDS_MAX:])),
        symbol=symbol,
        time=near[0] if near else None,
        clocks_off=tuple(far),
        messages=sum(topic.messages for topic in topics),
    )


def _fields(topics: list[Topic], form: str) -> tuple[list[Field], list[Field]]:
    """Tell measurements from other numbers."""
    at: dict[str, list[Numbers]] = {}
    for topic in topics:
        for path, numbers in topic.numbers.items():
            at.setdefault(path, []).append(numbers)
    fields: list[Field] = []
    left_out: list[Field] = []
    for path, seen in at.items():
        against = None if form == "number" else objection(path, seen)
        if against is not None:
            left_out.append(Field(path, against))
            continue
        low, high = min(each.low for each in seen), max(each.high for each in seen)
        once = all(each.count == 1 for each in seen)
        words = f"{low:.6g} to {high:.6g}" if low < high else f"{low:.6g}, {'seen once' if once else 'unchanged'}"
        if not once and high > low and not any(each.falls for each in seen):
            words += ", only rose while watched"
        fields.append(Field(path, words))
    return fields, left_out


def objection(path: str, seen: Sequence[Numbers]) -> str | None:
    """Why a number is no measurement, given what it did on each topic that has it; None when it may be one.

    Examples
    --------
    >>> uptime = Numbers()
    >>> for value in (10, 20, 30, 40):
    ...     uptime.observe(value)
    >>> objection("sys.uptime", [uptime])
    'a counter: it only grows'
    """
    whole = all(each.whole for each in seen)
    if whole and (_IDENTIFIES.search(path) or _IDENTIFIES_CAMEL.search(path)):
        return "an identifier, by its name"
    if _TELLS_TIME.search(path) and min(each.low for each in seen) > 1e8:
        return "a time of other days"
    rises, falls = sum(each.rises for each in seen), sum(each.falls for each in seen)
    grows = bool(_GROWS.search(path))
    if falls == 0 and rises >= (1 if grows else RISES_FROM) and (whole or grows):
        return "a counter: it only grows"
    if falls and whole and rises >= 20 * falls and sum(each.ones for each in seen) >= 0.9 * rises:
        return "a counter: it grows, and starts over"
    steady = [each for each in seen if each.count >= CONSTANT_FROM]
    if steady and not rises and not falls:
        values = {each.low for each in seen}
        if len(values) == 1:
            return f"constant, {values.pop():.6g}"
        if whole and len(values) == len(seen):
            return "an identifier: another on each topic, and never another on one"
        return "constant on each topic"
    return None


def _naming(topics: list[Topic]) -> list[str]:
    """Return the paths that name devices which share a topic, at most three."""

    def names(path: str, of: Callable[[Topic], Words | Numbers | None]) -> bool:
        seen = [each for each in map(of, topics) if each is not None]
        shared = any(1 < len(each.different) <= min(KEYS_MAX, each.count // 2) for each in seen)
        fit = all(_may_be_key(value) for each in seen for value in each.different)
        by_name = _IDENTIFIES.search(path) or _IDENTIFIES_CAMEL.search(path) or _NAMES.search(path)
        return bool(shared and fit and by_name)

    words = dict.fromkeys(path for topic in topics for path in topic.words)
    numbers = dict.fromkeys(path for topic in topics for path in topic.numbers)
    found = [path for path in words if names(path, lambda topic, path=path: topic.words.get(path))]  # type: ignore[misc]
    found += [path for path in numbers if names(path, lambda topic, path=path: topic.numbers.get(path))]  # type: ignore[misc]
    return [path for path in found if not set("{}") & set(path)][:3]


def _may_be_key(value: str | float) -> bool:
    if not isinstance(value, str):
        return value == int(value)
    return len(value) <= KEY_MAX // 8 and unfit(value) is None and "/" not in value and not value.startswith("$")


def _symbol(topics: list[Topic]) -> str | None:
    """Return the path whose texts are the events, by its name, else the one with the most different texts."""
    different: dict[str, set[str]] = {}
    for topic in topics:
        for path, words in topic.words.items():
            if not words.too_long:
                different.setdefault(path, set()).update(words.different)
    fit = {path: len(values) for path, values in different.items() if 2 <= len(values) <= 256}
    by_name = [path for name in _SYMBOLS for path in fit if path.rpartition(".")[2].lower() == name]
    return by_name[0] if by_name else max(fit, key=lambda path: fit[path], default=None)


def _times(topics: list[Topic]) -> tuple[list[str], list[str]]:
    """Return the paths of times that agree with the arrival, the best first, and of those that do not."""
    farthest: dict[str, float] = {}
    counts: dict[str, int] = {}
    for topic in topics:
        for path, times in topic.times.items():
            farthest[path] = max(times.farthest_s, farthest.get(path, 0.0))
            counts[path] = counts.get(path, 0) + times.count
    messages = sum(topic.messages for topic in topics)
    often = [path for path in farthest if path and counts[path] * 2 > messages]
    often.sort(key=lambda path: (path.count("."), farthest[path]))  # what is deep down is the time of a part
    near = [path for path in often if farthest[path] <= CLOCK_S]
    return near, [path for path in often if farthest[path] > CLOCK_S]
