"""Text payloads in UTF-8, such as keystrokes. They are private: an error tells their length, nothing else."""

from __future__ import annotations

from streamrnn.errors import PayloadError


def parse(payload: bytes) -> object:
    """Decode a text. Blanks and line ends are part of it.

    Raises
    ------
    PayloadError
        `empty` for no bytes at all, `not_text` for anything which is not UTF-8.

    Examples
    --------
    >>> parse(b"don't ")
    "don't "
    """
    if not payload:
        raise PayloadError("empty", "no payload")
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        raise PayloadError("not_text", f"{len(payload)} bytes") from None
