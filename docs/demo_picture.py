"""Draws docs/pictures/demo.svg, what `streamrnn demo` shows after a while, from a real run of it.

python docs/demo_picture.py [SECONDS]
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from streamrnn import demo

FILE = Path(__file__).parent / "pictures" / "demo.svg"
WIDTH = 100  # characters


class Kept(demo.Board):
    """The board of a run, kept for its picture."""

    last_one: demo.Board

    def __init__(self) -> None:
        super().__init__()
        Kept.last_one = self


def main(seconds: float) -> None:
    """Run the demo, and draw its table as it stood at the end."""
    demo.Board = Kept  # type: ignore[misc]
    asyncio.run(demo.run_demo(seconds, Console(file=io.StringIO()), Console(stderr=True)))
    picture = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    picture.print(Text("$ streamrnn demo", style="bold"))
    picture.print(Kept.last_one.table())
    drawn = picture.export_svg(title="streamrnn demo", unique_id="demo")
    drawn = re.sub(r"\s*@font-face \{.*?\n    \}", "", drawn, flags=re.DOTALL)  # fetched from elsewhere: none
    FILE.write_text(drawn, encoding="utf-8")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
