"""The system's monotonic clock, for kernels that time themselves without Python's lock."""

from __future__ import annotations

from typing import Final

from streamrnn.kernels.jit import foreign, jit
from streamrnn.kernels.types import Ints

MONOTONIC: Final = 1  # CLOCK_MONOTONIC of Linux

_clock_gettime = foreign("clock_gettime", "int32", "int32", "intp")


@jit
def seconds(timespec: Ints) -> float:
    """Return the time now; timespec (2,) int64 is scratch for the system's answer, seconds and nanoseconds."""
    _clock_gettime(MONOTONIC, timespec.ctypes.data)
    return float(timespec[0] + 1e-9 * timespec[1])
