"""Semaphores of the system (POSIX), for kernels of two threads to wait for each other without Python's lock.

A semaphore is SIZE bytes of memory, known by its address; whoever has made that memory keeps it.
"""

from __future__ import annotations

from typing import Final

from streamrnn.kernels.jit import foreign, jit

SIZE: Final = 64  # bytes, more than any system takes
PATIENCE: Final = 200  # times to look before falling asleep: some 100 us

_sem_init = foreign("sem_init", "int32", "intp", "int32", "uint32")
_sem_post = foreign("sem_post", "int32", "intp")
_sem_wait = foreign("sem_wait", "int32", "intp")
_sem_trywait = foreign("sem_trywait", "int32", "intp")
_sched_yield = foreign("sched_yield", "int32")


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
    """Wait until the count is above 0, and take 1.

    Not asleep at first: to be woken takes the system some 50 us, of whoever posts as well, which is longer than two
    threads wait that hand updates to each other all the time. Who else wants the core meanwhile gets it.
    """
    for _ in range(PATIENCE):
        if _sem_trywait(semaphore) == 0:
            return
        _sched_yield()
    while _sem_wait(semaphore) != 0:  # a signal came
        pass
