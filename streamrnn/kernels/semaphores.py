"""Semaphores of the system (POSIX), for kernels of two threads to wait for each other without Python's lock.

A semaphore is SIZE bytes of memory, known by its address; whoever has made that memory keeps it.
"""

from __future__ import annotations

from typing import Final

from numba.core import types

from streamrnn.kernels.jit import jit

SIZE: Final = 64  # bytes, more than any system takes

_sem_init = types.ExternalFunction("sem_init", types.int32(types.intp, types.int32, types.uint32))
_sem_post = types.ExternalFunction("sem_post", types.int32(types.intp))
_sem_wait = types.ExternalFunction("sem_wait", types.int32(types.intp))


@jit
def create(semaphore: int) -> None:
    """Make a semaphore of count 0."""
    _sem_init(semaphore, 0, 0)


@jit
def post(semaphore: int) -> None:
    """Add 1 to the count, and wake one who waits."""
    _sem_post(semaphore)


@jit
def wait(semaphore: int) -> None:
    """Wait until the count is above 0, and take 1."""
    while _sem_wait(semaphore) != 0:  # a signal came
        pass
