"""From the topic of a message to the key of its stream: what wildcards matched, put into a template.

Pure functions of strings. Not here: subscriptions, and whether a filter or a template is well formed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

CACHED_TOPICS_MAX = 4096
CACHED_TOPIC_CHARACTERS_MAX = 256  # a topic may have 65,535 bytes, and topics come from outside

KEY_MAX = 512  # characters of a key
KEY_LEVELS_MAX = 100  # with as many of the output's own, below the 200 that mosquitto takes before it disconnects
BRIDGE = "streamrnn/bridge/"  # what is below is between us and who watches over us, and nobody's event
HOLE = "\0"  # where a value of the payload goes; no topic holds one

_PLACEHOLDER = re.compile(r"\{([1-9][0-9]{0,3}|payload\.[^{}]+)\}")
# No topic may hold wildcards; and brokers disconnect who publishes a control or non-character (MQTT 5.0, section
# 1.5.4), again and again, since what was not acknowledged is published once more after each connect.
_NOT_IN_A_TOPIC = re.compile("[+#\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def without_share(topic_filter: str) -> str:
    """The filter itself, without the `$share/group/` of a shared subscription.

    Examples
    --------
    >>> without_share("$share/edge/plant/+/telemetry")
    'plant/+/telemetry'
    """
    if topic_filter.startswith("$share/"):
        _, _, topic_filter = topic_filter.removeprefix("$share/").partition("/")
    return topic_filter


def unfit(key: str) -> tuple[str, str] | None:
    """Why a key cannot be part of a topic, as reason and detail; None when it can.

    Examples
    --------
    >>> unfit("hall/pump-7") is None
    True
    >>> unfit("pump/#")
    ('key_refused', 'a wildcard or control character in it')
    """
    if len(key) > KEY_MAX:
        return "key_too_long", f"{len(key)} characters, limit {KEY_MAX}"
    if key.count("/") >= KEY_LEVELS_MAX:
        return "key_too_long", f"{key.count('/') + 1} levels, limit {KEY_LEVELS_MAX}"
    if _NOT_IN_A_TOPIC.search(key) or any(ord(character) & 0xFFFE == 0xFFFE for character in key):
        return "key_refused", "a wildcard or control character in it"
    return None


def matched_levels(topic_filter: str, topic: str) -> tuple[str, ...] | None:
    """The levels of a topic which the wildcards of a filter stand for (MQTT 5.0, section 4.7).

    Parameters
    ----------
    topic_filter
        `+` matches one level, `#` (last) any number of them, none included. May be a shared subscription.
    topic
        The topic of a message.

    Returns
    -------
    tuple of str, or None
        In order, each level matched by `#` for itself; None when the filter does not match.

    Examples
    --------
    >>> matched_levels("plant/+/telemetry", "plant/pump/telemetry")
    ('pump',)
    >>> matched_levels("plant/#", "plant/hall/pump")
    ('hall', 'pump')
    >>> matched_levels("plant/#", "office/lamp") is None
    True
    """
    wanted = without_share(topic_filter).split("/")
    levels = topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return None
    matched: list[str] = []
    for i, want in enumerate(wanted):
        if want == "#":
            return (*matched, *levels[i:]) if i == len(wanted) - 1 else None
        if i == len(levels):
            return None
        if want == "+":
            matched.append(levels[i])
        elif want != levels[i]:
            return None
    return tuple(matched) if len(wanted) == len(levels) else None


class KeyTemplate:
    """The keys of one pipeline's streams.

    Parameters
    ----------
    filters
        Topic filters; the first that matches a topic decides.
    template
        `{1}` is the first level matched by a wildcard (a level beyond those matched is empty). Without any
        `{}` it is a constant. None: all matched levels joined by `/`, or the whole topic if none was matched.
        `{payload.id}` is a value of the payload, at the dotted path `id`: a key then has a `HOLE` there.

    Raises
    ------
    ValueError
        No filter, or braces in the template which hold neither a number from 1 to 9999 nor a path.

    Attributes
    ----------
    paths
        What goes into the holes of a key, in order.

    Examples
    --------
    >>> keys = KeyTemplate(["plant/+/+/telemetry"], "{2}-{1}")
    >>> keys.key("plant/north/pump/telemetry")
    'pump-north'
    >>> keys.key("office/lamp") is None
    True
    """

    def __init__(self, filters: Sequence[str], template: str | None = None) -> None:
        if not filters:
            raise ValueError("at least one topic filter is needed")
        self.filters = tuple(filters)
        self.template = template
        # Text and what was in braces take turns: "a{1}b" is ["a", "1", "b"].
        self._pieces = [] if template is None else _PLACEHOLDER.split(template)
        if any(brace in text for text in self._pieces[::2] for brace in "{}"):
            raise ValueError(f"{template!r}: braces hold the number of a matched level, such as {{1}}")
        self.paths = tuple(piece.removeprefix("payload.") for piece in self._pieces[1::2] if _of_payload(piece))
        self._known: dict[str, str | None] = {}

    def key(self, topic: str) -> str | None:
        """The key of a topic, or None when no filter matches it, or it is of ours. Recent topics are remembered."""
        try:
            return self._known[topic]
        except KeyError:
            key = self._find(topic)
        if len(topic) <= CACHED_TOPIC_CHARACTERS_MAX:
            if len(self._known) >= CACHED_TOPICS_MAX:
                del self._known[next(iter(self._known))]
            self._known[topic] = key
        return key

    def key_for(self, name: str) -> str:
        """The key of recorded rows which have no topic: `name` in place of what wildcards match.

        Examples
        --------
        >>> KeyTemplate(["plant/+/+/telemetry"]).key_for("pump")
        'pump'
        >>> KeyTemplate(["plant/pump"]).key_for("may")
        'plant/pump'
        """
        if self._pieces:
            filled = list(self._pieces)
            filled[1::2] = [HOLE if _of_payload(piece) else name for piece in self._pieces[1::2]]
            return "".join(filled)
        levels = without_share(self.filters[0]).split("/")
        return name if len(self.filters) > 1 or {"+", "#"} & set(levels) else "/".join(levels)

    def _find(self, topic: str) -> str | None:
        if topic.startswith(BRIDGE):
            return None
        for topic_filter in self.filters:
            levels = matched_levels(topic_filter, topic)
            if levels is not None:
                return self._fill(levels, topic)
        return None

    def _fill(self, levels: tuple[str, ...], topic: str) -> str:
        if self.template is None:
            return "/".join(levels) if levels else topic
        filled = list(self._pieces)
        for i in range(1, len(filled), 2):
            if _of_payload(filled[i]):
                filled[i] = HOLE
            else:
                number = int(filled[i])
                filled[i] = levels[number - 1] if number <= len(levels) else ""
        return "".join(filled)


def _of_payload(piece: str) -> bool:
    return piece.startswith("payload.")
