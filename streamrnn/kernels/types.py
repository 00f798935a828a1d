"""Names for the arrays that kernels take. Numba types each call by what it is given; these are for the reader."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]  # float32 to run, float64 to check gradients
Ints: TypeAlias = NDArray[np.int64]
Layer: TypeAlias = tuple[Floats, Floats, Floats, Floats]  # weight_ih, weight_hh, bias_ih, bias_hh
Batch: TypeAlias = tuple[Floats, Floats, Floats, Floats, Ints]  # xs, starts, targets, weights, lengths
Tape: TypeAlias = tuple[Floats, Floats, Floats, Floats, Floats]  # states, gates, ys, d_ys, d_state
Notes: TypeAlias = tuple[
    Floats, Floats, Floats, Floats, Floats, Floats
]  # y, d_y, target, weight, d_units, d_features
