"""Text, a character an event: what it costs to write down by what was expected of it, in bits and in time."""

from __future__ import annotations

from collections.abc import Iterator

from measuring.runs import NAME, text_spec
from streamrnn.build import build_pipeline
from streamrnn.events import Message, SymbolOutput

CHARACTERS = 1000  # of a message


def bits_a_character(text: str, seed: int) -> float:
    """Return the mean of -log2 p over all characters, the alphabet not known beforehand."""
    pipeline = build_pipeline(NAME, text_spec(), seed)
    bits = 0.0
    for message in messages(text):
        for output in pipeline.process_all(message):
            assert isinstance(output, SymbolOutput)
            bits += output.bits
    pipeline.close()
    return bits / len(text)


def messages(text: str) -> Iterator[Message]:
    """Yield the text as messages of one key."""
    for start in range(0, len(text), CHARACTERS):
        yield Message("", {"text": text[start : start + CHARACTERS]}, key="text", arrival=float(start))
