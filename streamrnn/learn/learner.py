"""Learner: when and how a network learns. Windows are replayed, the gradient clipped, Adam steps, guards watch.

An update works on a thread of its own over a snapshot, and the network takes it over exactly `every` events
later, however fast or slow the thread was: outputs do not depend on timing.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from streamrnn.kernels import optim, params, sequence
from streamrnn.kernels.types import Floats, Tape
from streamrnn.learn.network import Network
from streamrnn.learn.window import Window

CLIP = 1.0  # Euclidean norm of the gradient, at the most
GOOD_EVERY = 256  # updates between two copies of weights known to be good
JUMP = 10.0  # mean deviations of the loss above its mean that count as a jump
JUMPS_MAX = 3  # in a row; what goes on is no jump but news
BAD_MAX = 3  # non-finite updates in a row, then the weights go back


class Learner:
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
        Adam's learning rate, halved at a roll-back and won back slowly; decoupled weight decay.

    Attributes
    ----------
    classes
        Outputs of the head that are in use; with a softmax head they grow with the alphabet.
    scratch_bytes
        Bytes of a batch and of the unrolled window, with all outputs in use.
    updates, dropped, rollbacks, waits
        Updates taken over; updates that guards held back; returns to older weights; updates the network
        had to wait for.
    """

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
        self.network = network
        self.window = window
        self.every = every
        self.length = length
        self.rate = rate
        self.decay = decay
        self.classes = network.width
        self.updates = 0
        self.dropped = 0
        self.rollbacks = 0
        self.waits = 0
        theta = network.theta
        self.shadow: Floats = theta.copy()
        self.mean: Floats = np.zeros_like(theta)
        self.square: Floats = np.zeros_like(theta)
        self.good: Floats = theta.copy()
        self.steps = 0  # Adam's count, back to 0 after a roll-back
        self.loss = math.nan  # exponentially weighted mean of the losses ...
        self.spread = 0.0  # ... and of their distance from it
        self._jumps = 0
        self._bad = 0
        self._full_rate = rate
        self._grad: Floats = np.zeros_like(theta)
        self._batch = window.batch(windows, length)
        self._scratch = self._tape()
        self.scratch_bytes = sum(array.nbytes for array in (*self._batch, *self._scratch))
        self._events = 0
        self._due = 0
        self._job: Future[bool] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def before_step(self) -> None:
        """Take over the update that is due before the next learned event is stepped."""
        job = self._job
        if job is None or self._events + 1 < self._due:
            return
        if not job.done():
            self.waits += 1
        if job.result():
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
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="learn")
        self._job = self._thread.submit(self._update)
        self._due = self._events + self.every

    def close(self) -> None:
        """Let a running update end, and its thread with it. The update is taken over if it is due later."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

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

    def _update(self) -> bool:
        """One update of the shadow weights, on the thread; False when a guard held it back."""
        loss = float(sequence.gradient(self.network.shape, self.shadow, self._grad, self._batch, self._scratch))
        norm = float(optim.clip(self._grad, CLIP))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self._reject()
        if self._is_jump(loss):
            self.dropped += 1
            return False
        optim.adam(self.shadow, self._grad, self.mean, self.square, self.steps + 1, self.rate, self.decay)
        if not np.isfinite(self.shadow).all():
            return self._reject()
        self.steps += 1
        self._bad = 0
        if self.steps % GOOD_EVERY == 0:
            self.good[:] = self.shadow
            self.rate = min(2.0 * self.rate, self._full_rate)
        return True

    def _is_jump(self, loss: float) -> bool:
        """Whether the loss is far above what it has been; a level that stays becomes the new normal."""
        if math.isnan(self.loss):
            self.loss = loss
        distance = loss - self.loss
        jump = self.steps > GOOD_EVERY and distance > JUMP * self.spread and self._jumps < JUMPS_MAX
        self._jumps = self._jumps + 1 if jump else 0
        if jump:  # one wild loss must not make the guard blind to the next
            distance = JUMP * self.spread
        self.loss += 0.02 * distance
        self.spread += 0.02 * (abs(distance) - self.spread)
        return jump

    def _reject(self) -> bool:
        """Drop an update that is not finite; after several, or when the weights are hit, go back."""
        self.dropped += 1
        self._bad += 1
        hit = not np.isfinite(self.shadow).all()
        if hit or self._bad >= BAD_MAX:
            self.shadow[:] = self.good
            self.mean[:] = 0
            self.square[:] = 0
            self.steps = 0
            self.rate *= 0.5
            self.rollbacks += 1
            self._bad = 0
            return True  # the network gets the good weights back as well
        return False
