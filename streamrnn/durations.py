"""Durations: a histogram of how long something took, that costs its owner no more than an append.

What is counted is read on another thread, when somebody asks; nothing here knows who.
"""

from __future__ import annotations

import threading
from array import array
from typing import Final

import numpy as np
from numpy.typing import NDArray

BOUNDS_S: Final = (
    *(25e-6, 50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Upper bounds of the classes, seconds; the last class has none."""

FOLD: Final = 1024  # durations noted one by one, before they are put into classes

Counts = NDArray[np.int64]

_BOUNDS_NS: Final = np.array([round(bound * 1e9) for bound in BOUNDS_S], np.int64)


class Durations:
    """How long something took, in classes of time.

    Attributes
    ----------
    note
        Takes one duration, ns. It is the append of an array: whoever notes calls `fold_if_many` now and then.

    Examples
    --------
    >>> durations = Durations()
    >>> durations.note(3_000_000)
    >>> counts, total = durations.read()
    >>> int(counts.sum()), total
    (1, 0.003)
    """

    def __init__(self) -> None:
        self._noted = array("q")
        self.note = self._noted.append
        self._counts: Counts = np.zeros(len(BOUNDS_S) + 1, np.int64)
        self._total = 0.0
        self._lock = threading.Lock()  # over a fold: else a reader might miss what is between array and counts

    def fold_if_many(self) -> None:
        """Put what was noted into its classes when it has become much, so that it stays little."""
        if len(self._noted) >= FOLD:
            with self._lock:
                many = len(self._noted)
                counts, total = _classes(self._noted[:many])
                del self._noted[:many]
                self._counts += counts
                self._total += total

    def read(self) -> tuple[Counts, float]:
        """Return how many there were in each class (len(BOUNDS_S) + 1,), and their sum, s. On any thread."""
        with self._lock:
            counts, total = _classes(self._noted[:])
            return self._counts + counts, self._total + total


def _classes(noted: array[int]) -> tuple[Counts, float]:
    """Count durations, ns, by their class, and add them up to seconds; a bound belongs to the class below it."""
    ns = np.frombuffer(noted, np.int64)
    places = np.searchsorted(_BOUNDS_NS, ns, side="left")
    return np.bincount(places, minlength=len(BOUNDS_S) + 1).astype(np.int64), float(ns.sum()) / 1e9
