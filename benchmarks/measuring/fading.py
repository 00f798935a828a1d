"""How much of an input is left in what is said later: the derivative of outputs by inputs before them.

It vanishes where every step of the recurrence takes a share of it (Bengio, Simard & Frasconi 1994).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from measuring.memory import Array, Run, Setting, late_error, task
from streamrnn.learn.network import Network

REACH = 60  # events after the input
INPUTS = 64  # that are varied
STEP = 1e-4  # by which


def influence(network: Network, xs: NDArray[np.float64], reach: int = REACH) -> NDArray[np.float64]:
    """Return the norm of dy[s + k] / dx[s], root mean square over steps s, for k = 0 to `reach`: (reach + 1,).

    Central differences over xs (N, I), from a blank state; s leaves as many steps before it as after it, so N is
    more than 2 `reach`. `network` is of float64; its own state is left alone.
    """
    state = network.blank_state()
    y = np.zeros(network.width)
    total = np.zeros(reach + 1)
    for s in range(len(xs) - reach):
        if s >= reach:
            for i in range(xs.shape[1]):
                slopes = np.zeros((reach + 1, network.width))
                for sign in (1.0, -1.0):
                    varied, branch = xs[s : s + reach + 1].copy(), state.copy()
                    varied[0, i] += sign * STEP
                    for k in range(reach + 1):
                        network.advance(branch, varied[k], y)
                        slopes[k] += sign * y / (2.0 * STEP)
                total += (slopes**2).sum(axis=1)
        network.advance(state, xs[s], y)
    return np.sqrt(total / (len(xs) - 2 * reach))


def before_and_after(name: str, setting: Setting, events: int, seed: int) -> dict[str, float | list[float]]:
    """Return `influence` before and after a task is learned, and the task's error over the last quarter."""
    xs, answers = task(name, events, seed)
    run = Run(setting, xs.shape[1], seed)
    before = _influence(run.network, setting, xs)
    wrong = late_error(run.answer(xs, answers), answers)
    return {"before": before, "after": _influence(run.network, setting, xs), "error": wrong}


def _influence(network: Network, setting: Setting, xs: Array) -> list[float]:
    """`influence` of the weights as they are, in float64: differences of float32 are mostly rounding."""
    exact = Network(setting.cell, xs.shape[1], setting.hidden, dtype=np.float64)
    exact.theta[:] = network.theta
    norms: list[float] = influence(exact, xs[-2 * REACH - INPUTS :].astype(np.float64)).tolist()
    return norms
