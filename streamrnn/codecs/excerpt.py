"""How a bad payload is shown in a log: short, printable, on one line."""

from __future__ import annotations

EXCERPT_CHARACTERS_MAX = 80


def excerpt(payload: bytes) -> str:
    r"""The beginning of a payload as Python writes bytes, at most 80 ASCII characters.

    Examples
    --------
    >>> print(excerpt(b"on\n"))
    b'on\n'
    """
    shown = repr(payload[:EXCERPT_CHARACTERS_MAX])
    return shown if len(shown) <= EXCERPT_CHARACTERS_MAX else shown[: EXCERPT_CHARACTERS_MAX - 3] + "..."
