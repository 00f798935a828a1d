"""A dotted path into a decoded payload, split once and followed once per event."""

from __future__ import annotations

from typing import Final


class _Absent:
    """What a path yields where there is nothing; a null is something."""


ABSENT: Final = _Absent()


class Path:
    """Where in a payload a value is.

    Parameters
    ----------
    text
        `a.b.c` is looked for as a key of that very name first, then as `b.c` within `a`, and so on; so keys
        which hold dots need no escaping. A whole number is also an index into a list, or an integer key of
        CBOR. A step `*` is any one key: the first, in the order of the payload, within which the rest is found.

    Examples
    --------
    >>> Path("vibration.rms").find({"vibration": {"rms": 0.4}})
    0.4
    >>> Path("vibration.rms").find({"vibration.rms": 0.5})
    0.5
    >>> Path("minutes.1").find({"minutes": [7, 8]})
    8
    >>> Path("*.Temperature").find({"Time": "2025-03-01T12:00:00", "BME280": {"Temperature": 21.5}})
    21.5
    """

    def __init__(self, text: str) -> None:
        self.text = text
        names = text.split(".")
        star = names.index("*") if "*" in names[:-1] else None
        self._below_star = None if star is None else Path(".".join(names[star + 1 :]))
        self._steps = [(".".join(names[i:]), name, _whole_number(name)) for i, name in enumerate(names)]

    def find(self, node: object) -> object:
        """The value at this path, or ABSENT."""
        for rest, name, number in self._steps:
            if isinstance(node, dict):
                if rest in node:
                    return node[rest]
                if name in node:
                    node = node[name]
                elif number is not None and number in node:
                    node = node[number]
                elif name == "*" and self._below_star is not None:
                    found = (self._below_star.find(child) for child in node.values())
                    return next((value for value in found if value is not ABSENT), ABSENT)
                else:
                    return ABSENT
            elif isinstance(node, list) and number is not None and 0 <= number < len(node):
                node = node[number]
            else:
                return ABSENT
        return node


def _whole_number(name: str) -> int | None:
    digits = name.removeprefix("-")
    return int(name) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else None
