"""Learner: when and how a network learns from windows that are replayed, by back-propagation through time.

An update works on a thread of its own over a snapshot, and the network takes it over exactly `every` events
later, however fast or slow the thread was: outputs do not depend on timing.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import ClassVar

import numpy as np

from streamrnn.errors import UsageError
from streamrnn.kernels import params
from streamrnn.kernels.teaching import JUMPED, NOT_FINITE, OUTCOME, SECONDS, STEPPED
from streamrnn.kernels.types import Floats, Tape
from streamrnn.learn.aside import Aside, Update
from streamrnn.learn.descent import Descent, Trail
from streamrnn.learn.network import Network
from streamrnn.learn.window import Window

log = logging.getLogger(__name__)


class Learner(Descent):
    """Truncated back-propagation through time over replayed windows, on a fixed schedule.

    Parameters
    ----------
    network, window
        What learns, and what it learns from.
    every
        Learned events between updates.
    windows, length
        Windows per update, the newest among them, and their steps.
    rate, decay
        See `Descent`, as for the attributes that are not here.

    Attributes
    ----------
    classes
        Outputs of the head that are in use; with a softmax head they grow with the alphabet.
    scratch_bytes
        Bytes of a batch and of the unrolled window, with all outputs in use.
    """

    # First what waits for a running update: the rest is what that has left.
    SAVED: ClassVar[tuple[str, ...]] = ("pending", *Descent.SAVED, "window", "classes", "_due")

    def __init__(
        self,
        network: Network,
        window: Window,
        every: int = 4,
        windows: int = 4,
        length: int = 32,
        rate: float = 0.003,
        decay: float = 0.0,
    ) -> None:
        if network.shape[params.CELL] == params.LRU:
            raise UsageError("cell: an lru learns by a RealTimeLearner")
        super().__init__(network, every, rate, decay)
        self.window = window
        self.length = length
        self.classes = network.width
        self._batch = window.batch(windows, length)
        self._scratch = self._tape()
        self.scratch_bytes = sum(array.nbytes for array in (*self._batch, *self._scratch))
        self._due = 0
        self._job: Future[bool] | Update | None = None
        self._thread: Aside | None = None

    @property
    def pending(self) -> int:
        """The update not taken over yet, waited for: 1 if it is to be, 0 if a guard held it back, -1 for none."""
        return -1 if self._job is None else int(self._result(self._job))

    @pending.setter
    def pending(self, pending: int) -> None:
        self._job = None
        if pending >= 0:
            self._job = Future()
            self._job.set_result(bool(pending))

    def open_trail(self) -> Trail:
        """Return what is kept of a new stream."""
        return Trail(np.zeros((0, 0), self.network.theta.dtype))

    def observe(self, trail: Trail, x: Floats, values: Floats, state: Floats) -> None:
        """Keep an event that is learned from, before the network steps: see `Window.push`."""
        trail.last_step = self.window.push(x, values, state, trail.last_step)

    def before_step(self) -> None:
        """Take over the update that is due before the next learned event is stepped."""
        job = self._job
        if job is None or self._events + 1 < self._due:
            return
        if not job.done():
            self.waits += 1
        if self._result(job):
            self.network.theta[:] = self.shadow
            self.updates += 1
        self._job = None

    def after_step(self) -> None:
        """Count a learned event and, when it is time, start an update from all events so far."""
        self._events += 1
        if self._events % self.every or self.window.count <= self.length:
            return
        self.window.sample(self._batch)
        if self._scratch[2].shape[1] != self.classes:
            self._scratch = self._tape()
        try:
            self._job = self._begin()
        except RuntimeError as error:  # the system has no thread for us now; the next update asks again
            self._job = Future()
            self._job.set_exception(error)
        self._due = self._events + self.every

    def _result(self, job: Future[bool] | Update) -> bool:
        """Wait for an update; whether it is to be taken over. One that failed is as if it had not been."""
        try:
            return job.result()
        except Exception:
            self.failed += 1
            log.exception("an update of the weights failed, learning goes on without it")
        self.shadow[:] = self.network.theta
        self.mean[:] = 0
        self.square[:] = 0
        self.steps = 0
        self._job = Future()
        self._job.set_result(False)
        return False

    def close(self) -> None:
        """Let a running update end, and its thread with it. The update is taken over if it is due later."""
        if self._thread is not None:
            if self._job is not None:
                self._job.exception()
            self._thread.close()
            self._thread = None

    def _begin(self) -> Update:
        """Begin an update of the shadow weights."""
        task = (self.network.shape, self.shadow, self._grad, self._batch, self._scratch, self.mean, self.square)
        thread = self._thread
        if thread is None or not thread.has(task):
            self.close()
            thread = self._thread = Aside(task)
        thread.plan[:] = (self.steps + 1, self.rate, self.decay, self.loss, self._far())
        return Update(thread, self._descend)

    def _descend(self, loss: float) -> bool:
        """Take note of an update that was made; False when a guard held it back."""
        assert self._thread is not None  # noqa: S101
        outcome = int(self._thread.report[OUTCOME])
        self._took(float(self._thread.report[SECONDS]))
        if outcome == NOT_FINITE:
            return self._reject()
        self._note(loss, outcome == JUMPED)
        return outcome != JUMPED and self._stepped(outcome == STEPPED)

    def _tape(self) -> Tape:
        """Scratch of one window, as `sequence.gradient` takes it."""
        shape, kind = self.network.shape, self.network.theta.dtype
        layers, hidden, length = int(shape[params.LAYERS]), int(shape[params.HIDDEN]), self.length
        state, gates = int(params.state_width(shape)), int(params.gates_width(shape))
        return (
            np.zeros((length + 1, layers, state), kind),
            np.zeros((length, layers, gates), kind),
            np.zeros((length, self.classes), kind),
            np.zeros((length, self.classes), kind),
            np.zeros((layers + 1, max(state, hidden)), kind),
        )
