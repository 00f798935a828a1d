"""The payload formats by the name a configuration gives them. A new format is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streamrnn.codecs import cbor, json, number, text

PARSERS: Final[dict[str, Callable[[bytes], object]]] = {
    "json": json.parse,
    "number": number.parse,
    "text": text.parse,
    "cbor": cbor.parse,
}
