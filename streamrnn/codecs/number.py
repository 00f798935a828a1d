"""Payloads which are one decimal number, as small devices send; also how numbers within strings are read."""

from __future__ import annotations

from streamrnn.codecs.excerpt import excerpt
from streamrnn.errors import PayloadError


def decimal(text: str) -> float:
    """The number which a text spells in ASCII decimal, exponent and surrounding blanks allowed.

    "nan" and "inf" are read as such. Python's own extras (underscores, digits of other scripts) are refused.

    Raises
    ------
    ValueError
        It is not such a number.

    Examples
    --------
    >>> decimal(" -2.5e-3 ")
    -0.0025
    """
    if "_" in text or not text.isascii():
        raise ValueError("not a decimal number")
    return float(text)


def parse(payload: bytes) -> object:
    """Decode one decimal number.

    Raises
    ------
    PayloadError
        `empty` for nothing but blanks, `not_a_number` for anything else.

    Examples
    --------
    >>> parse(b"25.86")
    25.86
    """
    try:
        return decimal(payload.decode("ascii"))
    except ValueError:
        if not payload.strip():
            raise PayloadError("empty", "no payload") from None
        raise PayloadError("not_a_number", excerpt(payload)) from None
