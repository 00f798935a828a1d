"""JSON payloads, by the letter of RFC 8259: no comments, no trailing commas, no byte order mark.

But for one thing: C libraries print a reading that failed as a bare nan or inf, and one such sensor must not cost
the readings beside it in the message. They are read as null.
"""

from __future__ import annotations

import re

import msgspec

from streamrnn.codecs.excerpt import excerpt
from streamrnn.errors import PayloadError

MENDED_BYTES_MAX = 16_384  # looking through a payload for nan takes a microsecond for some ten bytes

_decode = msgspec.json.Decoder().decode
_NO_NUMBER = re.compile(rb"nan|inf", re.IGNORECASE)
# A string that does not end is taken as well, to the end: looked at from each quote in it, it would take for ever.
_STRING_OR_NO_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*+"?|-?\b(?:nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL)


def parse(payload: bytes) -> object:
    """Decode one JSON value.

    Raises
    ------
    PayloadError
        `empty` for nothing but blanks, `not_json` for anything which is not JSON, is nested too deeply, or
        holds a number beyond float64.

    Examples
    --------
    >>> parse(b'{"temperature": 21.5}')
    {'temperature': 21.5}
    >>> parse(b'{"temperature": nan, "humidity": 55}')
    {'temperature': None, 'humidity': 55}
    """
    try:
        return _decode(payload)
    except (ValueError, RecursionError):  # ValueError covers msgspec's errors and invalid UTF-8
        pass
    try:
        if len(payload) > MENDED_BYTES_MAX or not _NO_NUMBER.search(payload):
            raise ValueError
        return _decode(_STRING_OR_NO_NUMBER.sub(_null_for_no_number, payload))
    except (ValueError, RecursionError):
        if not payload.strip():
            raise PayloadError("empty", "no payload") from None
        raise PayloadError("not_json", excerpt(payload)) from None


def _null_for_no_number(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0].startswith(b'"') else b"null"
