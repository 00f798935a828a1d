"""Moving: how whoever keeps addresses of a part's arrays finds out that one was replaced."""

from __future__ import annotations

from typing import Any

import numpy as np


class Moving:
    """Counts the arrays that attributes were set to.

    Attributes
    ----------
    moves
        Another number than before: an array lies elsewhere.
    """

    __slots__ = ("moves",)

    def __init__(self) -> None:
        self.moves = 0

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if isinstance(value, np.ndarray):
            object.__setattr__(self, "moves", self.moves + 1)


def address_of(array: Any) -> int:
    """Return where an array begins."""
    return int(array.__array_interface__["data"][0])
