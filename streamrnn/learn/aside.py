"""Aside: the thread on which updates are computed beside the events, and Update, one of them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from streamrnn.kernels import semaphores, teaching
from streamrnn.kernels.types import Floats


class Aside:
    """A thread that makes an update whenever it is told to, in compiled code from one to the next.

    Parameters
    ----------
    task
        What `teaching.teach` is given, up to its plan and report.

    Raises
    ------
    RuntimeError
        The system has no thread for us.
    """

    def __init__(self, task: tuple[Any, ...]) -> None:
        # All that both threads write is one piece of memory, which is kept as long as the thread.
        memory = np.zeros(2 * semaphores.SIZE + 8 * (teaching.PLAN + teaching.REPORT + 1), np.uint8)
        numbers = memory[2 * semaphores.SIZE :].view(np.float64)
        self.plan: Floats = numbers[: teaching.PLAN]
        self.report: Floats = numbers[teaching.PLAN : -1]
        self._begin = memory.ctypes.data
        self._end = self._begin + semaphores.SIZE
        semaphores.create(self._begin)
        semaphores.create(self._end)
        self._task = _identities(task)
        self._errors: list[BaseException] = []
        stop = numbers[-1:]
        arguments = (*task, self.plan, self.report, stop, self._begin, self._end)
        thread = threading.Thread(target=_serve, args=(arguments, self._errors), name="learn", daemon=True)
        thread.start()
        # The thread knows nothing of this object; when that is gone, or Python ends, it is told to.
        self._close = weakref.finalize(self, _stop, thread, stop, self._begin)

    def has(self, task: tuple[Any, ...]) -> bool:
        """Whether it goes on, with these very arrays."""
        return not self._errors and self._task == _identities(task)

    def begin(self) -> None:
        """Begin an update, by the plan there is now."""
        self.report[teaching.OUTCOME] = teaching.RUNNING
        semaphores.post(self._begin)

    def done(self) -> bool:
        """Whether the update that was begun seems to be made: what it wrote is there only after `wait`."""
        return bool(self.report[teaching.OUTCOME] != teaching.RUNNING or self._errors)

    def wait(self) -> None:
        """Wait for the update that was begun; what went wrong is raised."""
        semaphores.wait(self._end)
        if self._errors:
            raise self._errors[0]

    def close(self) -> None:
        """End the thread. No update may be under way."""
        self._close()


class Update:
    """An update on its way; to be asked like a `concurrent.futures.Future`.

    Parameters
    ----------
    aside
        Where it is made; it is begun here.
    conclude
        What is to be done once it is, by whoever asks first: given the loss, returns the result.
    """

    def __init__(self, aside: Aside, conclude: Callable[[float], bool]) -> None:
        self._aside: Aside | None = aside
        self._conclude = conclude
        self._result = False
        self._error: BaseException | None = None
        aside.begin()

    def done(self) -> bool:
        """Whether nobody would have to wait."""
        return self._aside is None or self._aside.done()

    def exception(self) -> BaseException | None:
        """Wait for it; return what went wrong."""
        aside, self._aside = self._aside, None
        if aside is not None:
            try:
                aside.wait()
                self._result = self._conclude(float(aside.report[teaching.LOSS]))
            except Exception as error:
                self._error = error
        return self._error

    def result(self) -> bool:
        """Wait for it; whether it is to be taken over."""
        error = self.exception()
        if error is not None:
            raise error
        return self._result


def _identities(task: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(map(id, task))


def _serve(arguments: tuple[Any, ...], errors: list[BaseException]) -> None:
    try:
        teaching.serve(*arguments)
    except BaseException as error:
        errors.append(error)
        semaphores.post(arguments[-1])


def _stop(thread: threading.Thread, stop: Floats, begin: int) -> None:
    stop[0] = 1
    semaphores.post(begin)
    thread.join()
