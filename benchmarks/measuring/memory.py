"""Tasks that cannot be done without memory: a network and its learner by themselves, one event at a time.

`delay-L`: the input is -1 or +1 by chance, to be said again L events later. `adding-L` (Hochreiter & Schmidhuber
1997): segments of L events; two values of each are marked, one in either half, and at the last event their sum is
to be said. What the answer should have been is learned an event later, as a forecast by one is; there are no other
targets, and the input is not one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrnn.learn.learner import Learner
from streamrnn.learn.network import Network
from streamrnn.learn.realtime import RealTimeLearner
from streamrnn.learn.window import Window

Array = NDArray[np.float32]

EVENTS = 200_000


class Setting(NamedTuple):
    """A network and how it learns."""

    cell: str
    hidden: int = 32
    every: int = 8
    rate: float = 0.003
    length: int = 128  # this and what follows is of windows, which an lru does not have
    windows: int = 4
    history: int = 65_536


CELLS = ("rnn_tanh", "gru", "lstm", "lru")
# The best of six tried for each cell and task, on seed 0 over 100,000 events; docs/quality.md says which.
SETTINGS = {
    "delay-40": {
        "rnn_tanh": Setting("rnn_tanh", rate=0.001),
        "gru": Setting("gru"),
        "lstm": Setting("lstm", rate=0.001),
        "lru": Setting("lru", hidden=64),
    },
    "adding-40": {
        "rnn_tanh": Setting("rnn_tanh", rate=0.001),
        "gru": Setting("gru", rate=0.01),
        "lstm": Setting("lstm", rate=0.01),
        "lru": Setting("lru", hidden=64, rate=0.01),
    },
}


def delay(events: int, length: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return inputs (N, 1), and what each event should have been answered (N,), NaN where nothing."""
    xs = rng.integers(0, 2, (events, 1)) * 2.0 - 1.0
    answers = np.full(events, np.nan)
    answers[length:] = xs[:-length, 0]
    return xs.astype(np.float32), answers.astype(np.float32)


def adding(events: int, length: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return inputs (N, 3), value in -1..1, marker and start of a segment, and answers (N,), NaN where nothing."""
    xs = np.zeros((events, 3))
    xs[:, 0] = rng.uniform(-1.0, 1.0, events)
    answers = np.full(events, np.nan)
    for start in range(0, events - length + 1, length):
        marked = start + np.array([rng.integers(0, length // 2), rng.integers(length // 2, length)])
        xs[marked, 1] = 1.0
        xs[start, 2] = 1.0
        answers[start + length - 1] = xs[marked, 0].sum()
    return xs.astype(np.float32), answers.astype(np.float32)


TASKS = {"delay": delay, "adding": adding}


def task(name: str, events: int, seed: int) -> tuple[Array, Array]:
    """Return inputs (N, I) and answers (N,) of a task such as delay-40."""
    kind, length = name.split("-")
    return TASKS[kind](events, int(length), np.random.default_rng([int(length), seed]))


class Run:
    """A network that answers a task and learns it meanwhile."""

    def __init__(self, setting: Setting, inputs: int, seed: int) -> None:
        self.network = Network(setting.cell, inputs, setting.hidden, seed=seed)
        self.learner = _learner(self.network, setting, seed)
        self.trail = self.learner.open_trail()

    def answer(self, xs: Array, answers: Array) -> Array:
        """Return what is answered (N,) to inputs (N, I); each answer is learned from an event later."""
        said = np.zeros_like(answers)
        state = self.network.state
        seen = np.full(1, np.nan, np.float32)
        for t in range(len(xs)):
            self.learner.before_step()
            self.learner.observe(self.trail, xs[t], seen, state)
            self.network.advance(state, xs[t], said[t : t + 1])
            seen[0] = answers[t]
            self.learner.after_step()
        self.learner.close()
        return said


def _learner(network: Network, setting: Setting, seed: int) -> Learner | RealTimeLearner:
    if setting.cell == "lru":
        return RealTimeLearner(network, 1, every=setting.every, rate=setting.rate)
    inputs = int(network.parameters["weight_ih_l0"].shape[1])
    window = Window(setting.history, inputs, 1, network.blank_state(), (1,), seed)
    return Learner(network, window, setting.every, setting.windows, setting.length, setting.rate)


def late_error(said: Array, answers: Array) -> float:
    """Return the mean square error of what was answered, in variances of the right answers, of the last quarter.

    1 is to know nothing.
    """
    late = slice(len(answers) * 3 // 4, None)
    known = ~np.isnan(answers[late])
    right = answers[late][known].astype(np.float64)
    return float(((said[late][known] - right) ** 2).mean() / right.var())


def measure(name: str, cell: str, seed: int, events: int = EVENTS) -> float:
    """Return the error of a cell, with its setting, on a task; `seed` is of the weights and of the task."""
    xs, answers = task(name, events, seed)
    run = Run(SETTINGS[name][cell], xs.shape[1], seed)
    return late_error(run.answer(xs, answers), answers)
