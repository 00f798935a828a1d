"""One update of the weights, from windows to Adam, and the loop in which a thread makes one after the other.

The thread stays in that loop, and so never asks for Python's lock: it and the events would hold each other up.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from streamrnn.kernels import semaphores
from streamrnn.kernels.clock import seconds
from streamrnn.kernels.jit import jit, spliced
from streamrnn.kernels.optim import adam, clip
from streamrnn.kernels.sequence import gradient
from streamrnn.kernels.types import Batch, Floats, Ints, Tape

CLIP: Final = 1.0  # Euclidean norm of the gradient, at the most

# Places in `plan`, what an update goes by:
COUNT: Final = 0  # Adam's, with this update
RATE: Final = 1
DECAY: Final = 2
USUAL: Final = 3  # loss ...
FAR: Final = 4  # ... and how much more is a jump
PLAN: Final = 5
# Places in `report`, what came of it; OUTCOME is written last, SECONDS by `serve` after it, CLOCK is its scratch:
LOSS: Final = 0
OUTCOME: Final = 1
SECONDS: Final = 2
CLOCK: Final = 3
REPORT: Final = 5
# Outcomes:
STEPPED: Final = 0
JUMPED: Final = 1  # nothing was stepped, nor when ...
NOT_FINITE: Final = 2  # ... loss or gradient were not
HIT: Final = 3  # weights are not finite any more
RUNNING: Final = -1


@spliced
def teach(
    shape: Ints,
    theta: Floats,
    grad: Floats,
    batch: Batch,
    tape: Tape,
    mean: Floats,
    square: Floats,
    plan: Floats,
    report: Floats,
) -> None:
    """Step theta (P,), and Adam's moments (P,), by the gradient of a batch, as `plan` (PLAN,) says; write `report`.

    batch, tape: as `sequence.gradient` has them.
    """
    loss = gradient(shape, theta, grad, batch, tape)
    norm = clip(grad, CLIP)
    outcome = STEPPED
    if not (math.isfinite(loss) and math.isfinite(norm)):
        outcome = NOT_FINITE
    elif loss - plan[USUAL] > plan[FAR]:
        outcome = JUMPED
    else:
        adam(theta, grad, mean, square, int(plan[COUNT]), plan[RATE], plan[DECAY])
        for i in range(theta.size):
            if not math.isfinite(theta[i]):
                outcome = HIT
    report[LOSS] = loss
    report[OUTCOME] = outcome


@jit
def serve(
    shape: Ints,
    theta: Floats,
    grad: Floats,
    batch: Batch,
    tape: Tape,
    mean: Floats,
    square: Floats,
    plan: Floats,
    report: Floats,
    stop: Floats,
    begin: int,
    end: int,
) -> None:
    """`teach` each time that the semaphore `begin` says so, and tell `end`, until stop (1,) is not 0."""
    timespec = report[CLOCK:REPORT].view(np.int64)
    while True:
        semaphores.wait(begin)
        if stop[0] != 0:
            return
        began = seconds(timespec)
        teach(shape, theta, grad, batch, tape, mean, square, plan, report)
        report[SECONDS] = seconds(timespec) - began
        semaphores.post(end)
