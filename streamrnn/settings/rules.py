"""What MQTT allows in topics and addresses, and what the templates of a configuration may hold.

Each rule takes a text and answers what was expected instead, None when it holds. Nothing is connected here.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from streamrnn.keys import KEY_LEVELS_MAX, KEY_MAX

BYTES_MAX = 65_535  # MQTT counts the bytes of a text in 16 bits
LEVELS_MAX = 200  # mosquitto disconnects a client that goes beyond

SCHEMES = ("mqtt", "mqtts", "ws", "wss", "unix")


def mqtt_text(text: str) -> str | None:
    """Any text MQTT can carry."""
    if not text:
        return "text that is not empty"
    if "\0" in text:
        return "text without a NUL character"
    if len(text.encode()) > BYTES_MAX:
        return f"at most {BYTES_MAX} bytes"
    return None


def topic_filter(text: str) -> str | None:
    """A topic filter, plain or shared."""
    plain = unshared(text)
    if text.startswith("$share/") and (not plain or not re.fullmatch(r"[^/+#]+", text.split("/")[1])):
        return "$share/group/filter, with no + or # in the group"
    if (expected := mqtt_text(plain)) is not None:
        return expected
    levels = plain.split("/")
    if len(levels) > LEVELS_MAX:
        return f"at most {LEVELS_MAX} levels"
    if any("+" in level and level != "+" for level in levels):
        return '"+" alone in its level'
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return '"#" alone in the last level'
    return None


def unshared(text: str) -> str:
    """The filter that matches topics, without ``$share/group/``.

    >>> unshared("$share/workers/plant/+")
    'plant/+'
    """
    if not text.startswith("$share/"):
        return text
    return "/".join(text.split("/")[2:])


def key_template(text: str) -> str | None:
    """A constant, or a text with ``{N}`` for what the Nth wildcard matched, or ``{payload.PATH}``."""
    if not text:
        return "text that is not empty"
    if re.search(r"[{}]", re.sub(r"\{([1-9][0-9]{0,3}|payload\.[^{}]+)\}", "", text)):
        return "only {1}, {2}, ... or {payload.x} in braces"
    if set("+#") & set(text):
        return "no + and #: the key becomes part of a topic"
    if re.search(r"[\x00-\x1f\x7f-\x9f]", text):
        return "no control characters: the key becomes part of a topic"
    return None


def plain_topic(text: str) -> str | None:
    """A topic to publish below, without a slash at its end."""
    if (expected := mqtt_text(text)) is not None:
        return expected
    if re.search(r"[+#\x00-\x1f\x7f-\x9f]", text) or text.endswith("/") or text.count("/") >= LEVELS_MAX // 2:
        return "a topic without + and #, and without / at its end"
    return None


def wildcards_used(template: str) -> int:
    """The highest N in a key template, 0 for a constant."""
    return max((int(number) for number in re.findall(r"\{([0-9]+)\}", template)), default=0)


def output_template(text: str) -> str | None:
    """A topic with ``{pipeline}`` and ``{key}`` in it."""
    if (expected := mqtt_text(text)) is not None:
        return expected
    if re.search(r"[+#]", text):
        return "a topic without + and #"
    if re.search(r"[{}]", re.sub(r"\{(pipeline|key)\}", "", text)):
        return "only {pipeline} and {key} in braces"
    keys = text.count("{key}")
    if text.count("/") + 1 + keys * (KEY_LEVELS_MAX - 1) > LEVELS_MAX:
        return f"at most {LEVELS_MAX} levels, where a key may have {KEY_LEVELS_MAX} of them"
    if len(text.encode()) + keys * KEY_MAX * 4 > BYTES_MAX:
        return f"at most {BYTES_MAX} bytes, where a key may have {KEY_MAX * 4} of them"
    return None


def may_match(filter_text: str, template: str) -> bool:
    """Whether a topic made from `template` could match, ``{key}`` being one level or more of anything.

    >>> may_match("plant/#", "plant/forecast/{key}"), may_match("plant/#", "streamrnn/{key}")
    (True, False)
    """
    levels = template.split("/")
    reached = {0}  # how many levels of the template the filter may have used up
    for wanted in unshared(filter_text).split("/"):
        if wanted == "#":
            return bool(reached)
        onward: set[int] = set()
        for i in reached:
            if i < len(levels) and "{key}" in levels[i]:
                onward |= {i, i + 1}
            elif i < len(levels) and wanted in ("+", levels[i]):
                onward.add(i + 1)
        reached = onward
    return len(levels) in reached


def broker_url(text: str) -> str | None:
    """The address of a broker. User and password have fields of their own, so that no log shows them."""
    if "@" in text:
        return "a URL without user name and password: use username and password_file"
    if re.search(r"[\x00-\x20\x7f]", text):
        return "a URL without spaces"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return "a URL such as mqtt://host:1883, with a port from 1 to 65535"
    if url.scheme not in SCHEMES or not text.lower().startswith(url.scheme + "://"):
        return "a URL that begins with mqtt://, mqtts://, ws://, wss:// or unix://"
    if url.query or url.fragment:
        return "a URL without ? and #"
    if url.scheme == "unix":
        return None if url.path.strip("/") and not url.netloc else "unix:///path/of/the/socket"
    if not url.hostname:
        return "a URL with a host, such as mqtt://host:1883"
    if port == 0:
        return "a URL such as mqtt://host:1883, with a port from 1 to 65535"
    if url.scheme in ("mqtt", "mqtts") and url.path.strip("/"):
        return "mqtt://host:port without a path"
    return None


def listen(text: str) -> str | None:
    """An address to listen on."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[2]) < 65_536:
        return "host:port, such as 127.0.0.1:9464 or [::1]:9464"
    return None


def file_path(text: str) -> str | None:
    """The path of a file, not what is in it."""
    if not text or not text.isprintable():
        return "the path of a file"
    return None


def unique(values: list[str]) -> str | None:
    """A list that says nothing twice."""
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    return None if twice is None else f'each only once, got "{twice}" twice'


def pipeline_name(text: str) -> str | None:
    """A name that may stand in a topic and in a file name."""
    return None if re.fullmatch(r"[A-Za-z0-9_-]+", text) else 'only letters, digits, "_" and "-" in a name'
