"""JSON payloads, by the letter of RFC 8259: no NaN, no comments, no trailing commas, no byte order mark."""

from __future__ import annotations

import msgspec

from streamrnn.codecs.excerpt import excerpt
from streamrnn.errors import PayloadError

_decode = msgspec.json.Decoder().decode


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
    """
    try:
        return _decode(payload)
    except (ValueError, RecursionError):  # ValueError covers msgspec's errors and invalid UTF-8
        if not payload.strip():
            raise PayloadError("empty", "no payload") from None
        raise PayloadError("not_json", excerpt(payload)) from None
