"""Many arrays as one argument: a table of the addresses where they begin.

Each array that Python hands to a kernel costs about 0.1 us; an event of numbers has some fifty. Whoever makes a
table keeps the arrays, and makes it anew when one of them is replaced. Shapes are not in it: the kernel knows them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamrnn.kernels.jit import double_at, single_at, spliced, view, whole_at
from streamrnn.kernels.types import Floats, Ints


@spliced
def doubles(table: Ints, place: int, shape: Any) -> Floats:
    """The float64 array at a place of the table."""
    array: Floats = view(double_at(table[place]), shape)
    return array


@spliced
def singles(table: Ints, place: int, shape: Any) -> Floats:
    """The float32 array at a place of the table."""
    array: Floats = view(single_at(table[place]), shape)
    return array


@spliced
def wholes(table: Ints, place: int, shape: Any) -> Ints:
    """The int64 array at a place of the table."""
    array: Ints = view(whole_at(table[place]), shape)
    return array


def table_of(arrays: tuple[Any, ...]) -> Ints:
    """Return the table (N,) of contiguous arrays; a number among them stands for itself."""
    places = [each if isinstance(each, int) else each.__array_interface__["data"][0] for each in arrays]
    return np.array(places, dtype=np.int64)
