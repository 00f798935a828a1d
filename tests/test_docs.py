"""Pages that follow from the source are current, and messages that are explained are still said."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

import streamrnn

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = Path(streamrnn.__file__).parent
TROUBLES = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^### `(.*)`$", TROUBLES, re.MULTILINE)

sys.path.insert(0, str(DOCS))
import reference  # noqa: E402


@pytest.mark.parametrize("name", reference.PAGES)
def test_pages_that_are_written_by_a_program_are_current(name: str) -> None:
    """`python docs/reference.py` writes them."""
    assert reference.PAGES[name]() == (DOCS / name).read_text(encoding="utf-8")


def test_every_key_of_the_configuration_is_in_the_reference() -> None:
    text = reference.reference()
    for key in ("`password_file`", "`listen`", "`history`", "`payload_bytes`", "`retain`", "`parked`"):
        assert text.count(f"| {key} |") == 1
    assert "| `hidden` | `32` / `128` | a whole number >= 1, <= 1024 | Units in each layer. |" in text


def pieces() -> set[str]:
    """Texts in the source, at the places where something is put into them taken apart."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(re.split(r"%[-.0-9]*[a-z]", node.value))
    return found


PIECES = pieces()


def test_there_are_messages_to_explain() -> None:
    assert len(QUOTED) > 20
    assert len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("message", QUOTED)
def test_a_message_that_is_explained_is_still_said(message: str) -> None:
    said = [piece for piece in message.split("…") if len(piece) > 3]
    assert said
    for piece in said:
        assert any(piece.strip(" ;:,") in text for text in PIECES), f"nothing says {piece!r}"
