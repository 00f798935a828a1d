"""An update of the weights by truncated back-propagation through time, beside the same in torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamrnn.kernels import teaching
from streamrnn.learn.learner import Learner
from streamrnn.learn.numeric import NumericModel
from timing.clock import Effort, by_turns, loop, one_core
from timing.rows import Goal, Row
from timing.steps import module

HORIZONS = (1, 4, 16, 64)
WINDOWS, LENGTH = 4, 32


def rows(effort: Effort) -> list[Row]:
    """The row of an update of the default network of one field: GRU 32, four windows of 32 steps, Adam."""
    with one_core():
        torch = _torch()
        values, peers = by_turns(
            loop(_ours(), effort), {"torch": None if torch is None else loop(torch, effort)}, effort.repeats
        )
    goals = [Goal(">= 10 x torch", 10.0, "torch")]
    return [Row("TBPTT update, 4 windows x 32 steps, gru 32, Adam", "us", values, goals, peers)]


def _batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    inputs = 12
    xs = random.normal(size=(WINDOWS, LENGTH, inputs)).astype(np.float32)
    targets = random.normal(size=(WINDOWS, LENGTH, len(HORIZONS))).astype(np.float32)
    return xs, targets


def _ours() -> Callable[[], object]:
    network = NumericModel.network_for(1, HORIZONS, "gru", 32, 1, 0)
    window = NumericModel.window_for(256, network, 1, HORIZONS, 0)
    learner = Learner(network, window, 4, WINDOWS, LENGTH)
    batch, tape = window.batch(WINDOWS, LENGTH), learner._tape()
    batch[0][:], batch[2][:] = _batch()
    batch[3][:] = 1.0 / (WINDOWS * LENGTH)
    batch[4][:] = LENGTH
    grad, mean, square = (np.zeros_like(network.theta) for _ in range(3))
    plan, report = np.zeros(teaching.PLAN), np.zeros(teaching.REPORT)
    plan[:] = (1, 1e-4, 0.0, 0.0, np.inf)

    def update() -> None:
        plan[teaching.COUNT] += 1
        teaching.teach(network.shape, network.theta, grad, batch, tape, mean, square, plan, report)

    return update


def _torch() -> Callable[[], object] | None:
    torch = module("torch")
    if torch is None:
        return None
    torch.set_num_threads(1)
    torch.manual_seed(0)
    xs, targets = (torch.from_numpy(array) for array in _batch())
    gru = torch.nn.GRU(xs.shape[2], 32, batch_first=True)
    head, skip = torch.nn.Linear(32, 2 * len(HORIZONS)), torch.nn.Linear(xs.shape[2], len(HORIZONS), bias=False)
    weights = [*gru.parameters(), *head.parameters(), *skip.parameters()]
    optimiser = torch.optim.Adam(weights, 1e-4, betas=(0.9, 0.99))
    start = torch.zeros(1, WINDOWS, 32)

    def update() -> None:
        optimiser.zero_grad()
        hidden, _ = gru(xs, start)
        location, log_scale = head(hidden).split(len(HORIZONS), dim=2)
        error = location + skip(xs) - targets
        log_scale = log_scale.clamp(-5.0, 2.0)
        loss = ((error * error + 1e-4).sqrt() * (-log_scale).exp() + log_scale).sum() / (WINDOWS * LENGTH)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()

    return update
