"""Answers do not depend on where in memory arrays happen to lie.

A vectorised loop that adds up and writes is compiled twice, the other time for arrays so close to each other that
it might overtake itself; the two add up in another order. Which runs depends on what the allocator did before.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from test_saved import SETUPS, answers, fresh, messages

from streamrnn.pipeline import Pipeline

GAPS = (0, 0, 0, 8, 16, 32, 64, 400)  # bytes between two arrays


class Mover:
    """Lays the arrays of objects one after the other, in any order, with small gaps."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.buffer = np.zeros(8 << 20, np.uint8)
        self.end = 0
        self.moved: dict[int, tuple[Any, Any]] = {}  # by identity, with what it was so that none is taken again

    def move(self, value: Any) -> Any:
        if id(value) in self.moved:
            return self.moved[id(value)][1]
        if isinstance(value, np.ndarray) and value.base is None:
            place: Any = self._place(value)
        elif (
            isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray) and value.base.dtype == value.dtype
        ):
            place = self._along(value)  # a part of an array
        elif isinstance(value, tuple) and any(isinstance(each, np.ndarray) for each in value):
            place = tuple(self.move(each) for each in value)
        else:
            place = value
        self.moved[id(value)] = (value, place)
        if type(value).__module__.startswith("streamrnn.learn"):
            names = list(vars(value))
            self.rng.shuffle(names)
            for name in names:
                setattr(value, name, self.move(getattr(value, name)))
        elif isinstance(value, list | tuple):
            for each in value:
                self.move(each)
        return place

    def _along(self, view: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        assert view.base is not None
        if view.base.nbytes > len(self.buffer) // 8:  # room to grow in, which these few events do not
            return self._place(view)
        offset = view.ctypes.data - view.base.ctypes.data
        return np.ndarray(view.shape, view.dtype, self.move(view.base), offset, view.strides)

    def _place(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        start = -(-(self.end + self.rng.choice(GAPS)) // array.itemsize) * array.itemsize
        self.end = start + array.nbytes
        place = self.buffer[start : self.end].view(array.dtype).reshape(array.shape)
        place[...] = array
        return place


def move_all(pipeline: Pipeline[Any], rng: random.Random) -> None:
    pipeline.save()  # waits for an update under way, which has the arrays it began with
    mover = Mover(rng)
    for part in (pipeline.model, *pipeline.streams.values()):
        mover.move(part)


@pytest.mark.parametrize("setup", SETUPS)
def test_answers_are_the_same_wherever_arrays_lie(setup: str) -> None:
    rows = messages(setup, 160)
    still = fresh(setup)
    expected = answers(still, rows)
    still.close()
    for seed in range(6):
        moved = fresh(setup)
        got = answers(moved, rows[:20])
        for at in range(20, len(rows), 35):
            move_all(moved, random.Random(100 * seed + at))
            got += answers(moved, rows[at : at + 35])
        moved.close()
        assert expected == got
