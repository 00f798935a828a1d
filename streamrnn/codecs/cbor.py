"""CBOR payloads (RFC 8949), taken down to what JSON could hold: tags for times and numbers, and no others.

The other tags can build cyclic values, compile regular expressions and more: nothing a sensor needs.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import cbor2

from streamrnn.codecs.excerpt import excerpt
from streamrnn.errors import PayloadError

_TagReader: TypeAlias = Callable[[Any, bool], Any]


def _content(value: object, _immutable: bool) -> object:
    return value


def _positive(value: bytes, _immutable: bool) -> int:
    return int.from_bytes(value, "big")


def _negative(value: bytes, _immutable: bool) -> int:
    return -1 - int.from_bytes(value, "big")


def _decimal_fraction(value: list[int], _immutable: bool) -> float:
    exponent, mantissa = value
    return float(f"{mantissa:d}e{exponent:d}")


def _bigfloat(value: list[int], _immutable: bool) -> float:
    exponent, mantissa = value
    return math.ldexp(mantissa, exponent)


def _refused(_value: object, _immutable: bool) -> object:
    raise ValueError("a tag which no sensor needs")


class _Tags(dict[int, _TagReader]):
    def __missing__(self, _tag: int) -> _TagReader:
        return _refused


_TAGS = _Tags(
    {
        0: _content,  # date-time text: Codec reads times
        1: _content,  # epoch seconds
        2: _positive,
        3: _negative,
        4: _decimal_fraction,
        5: _bigfloat,
        55799: _content,  # "this is CBOR"
    }
)


def parse(payload: bytes) -> object:
    """Decode one CBOR item which takes the whole payload.

    Raises
    ------
    PayloadError
        `empty` for no bytes at all; `not_cbor` for malformed, truncated or too deeply nested items, for bytes
        left over, and for tags other than those of times and numbers.

    Examples
    --------
    >>> parse(bytes.fromhex("a1617418eb"))
    {'t': 235}
    """
    if not payload:
        raise PayloadError("empty", "no payload")
    stream = io.BytesIO(payload)
    try:
        value: object = cbor2.CBORDecoder(stream, semantic_decoders=_TAGS).decode()
    except Exception:  # whatever a hostile payload makes of a tag or a length, it is not an event
        raise PayloadError("not_cbor", excerpt(payload)) from None
    if stream.tell() != len(payload):
        raise PayloadError("not_cbor", excerpt(payload))
    return value
