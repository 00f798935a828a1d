"""Write the vectors the cells are compared with: torch's outputs, states and gradients for known weights.

Run by hand where torch is installed; the tests only read the files, so torch is not a dependency.
Each file has its own generator, seeded by (seed, cell, layers): a new cell leaves the others as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # imported where it is used: test collection reads this file without torch
    import torch

Arrays: TypeAlias = dict[str, NDArray[Any]]

CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")  # the place in this tuple is part of the seed: append only
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}
LAYERS = (1, 2)
INPUTS = 5
HIDDEN = 12
STEPS = 1000
WINDOW_START = 100  # first step of x that the gradient window covers
WINDOW = 32
RADIUS = 0.9  # of each orthogonal hidden block: below 1, so that rnn_relu stays bounded over any length
LIFT = 1.0  # mean of the biases of rnn_relu: around 0 many units never fire, and have no gradient


def draw_parameters(rng: np.random.Generator, cell: str, layers: int) -> Arrays:
    """Weights and biases under torch's own names, float32, with every entry random and both biases non-zero.

    Shapes, with G the gates of the cell stacked in torch's order (GRU: r, z, n; LSTM: i, f, g, o):
    weight_ih (G*H, I or H), weight_hh (G*H, H), bias_ih (G*H,), bias_hh (G*H,).
    """
    gates = GATES[cell]
    lift = LIFT if cell == "rnn_relu" else 0.0
    parameters: Arrays = {}
    for layer in range(layers):
        width = INPUTS if layer == 0 else HIDDEN
        blocks = [np.linalg.qr(rng.standard_normal((HIDDEN, HIDDEN)))[0] for _ in range(gates)]  # (H, H) each
        parameters[f"weight_ih_l{layer}"] = rng.standard_normal((gates * HIDDEN, width)) / np.sqrt(width)
        parameters[f"weight_hh_l{layer}"] = RADIUS * np.concatenate(blocks)
        parameters[f"bias_ih_l{layer}"] = lift + 0.3 * rng.standard_normal(gates * HIDDEN)
        parameters[f"bias_hh_l{layer}"] = lift + 0.3 * rng.standard_normal(gates * HIDDEN)
    return {name: value.astype(np.float32) for name, value in parameters.items()}


def build(cell: str, layers: int, parameters: Arrays, dtype: torch.dtype) -> torch.nn.RNNBase:
    """The torch module of this cell holding these parameters in this precision."""
    import torch

    sizes = {"input_size": INPUTS, "hidden_size": HIDDEN, "num_layers": layers}
    if cell == "gru":
        network: torch.nn.RNNBase = torch.nn.GRU(**sizes)
    elif cell == "lstm":
        network = torch.nn.LSTM(**sizes)
    else:
        network = torch.nn.RNN(**sizes, nonlinearity=cell.removeprefix("rnn_"))
    network.to(dtype)
    expected = {name: tuple(value.shape) for name, value in network.named_parameters()}
    if expected != {name: value.shape for name, value in parameters.items()}:
        raise SystemExit(f"{cell}: torch has the parameters {expected}, not those drawn here")
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(torch.from_numpy(parameters[name]))
    return network


def run(
    network: torch.nn.RNNBase, x: NDArray[np.float32], start: tuple[NDArray[np.float32], ...] | None
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Outputs of the top layer (T, H) and the final state (h,) or (h, c), each (layers, H), for x (T, I).

    `start` is the state before the first step in the same form; None is all zeros.
    """
    import torch

    dtype = next(network.parameters()).dtype
    state = None
    if start is not None:
        parts = tuple(torch.from_numpy(part).to(dtype) for part in start)
        state = parts if len(parts) == 2 else parts[0]
    y, end = network(torch.from_numpy(x).to(dtype), state)
    return y, end if isinstance(end, tuple) else (end,)


def make(cell: str, layers: int, seed: int) -> Arrays:
    """Every array of one file, by the names the README beside this script lists."""
    import torch

    rng = np.random.default_rng([seed, CELLS.index(cell), layers])
    parameters = draw_parameters(rng, cell, layers)
    x = rng.standard_normal((STEPS, INPUTS)).astype(np.float32)
    kinds = ("h", "c") if cell == "lstm" else ("h",)
    start = tuple(0.5 * rng.standard_normal((layers, HIDDEN)).astype(np.float32) for _ in kinds)
    dy = rng.standard_normal((WINDOW, HIDDEN)).astype(np.float32)  # d loss / d y, non-zero at every step
    single, double = (build(cell, layers, parameters, dtype) for dtype in (torch.float32, torch.float64))

    arrays: Arrays = {**parameters, "x": x}
    with torch.no_grad():
        for network, suffix in ((single, ""), (double, "64")):
            y, state = run(network, x, None)
            arrays[f"y{suffix}"] = y.numpy()
            for kind, part in zip(kinds, state, strict=True):
                arrays[f"state_{kind}{suffix}"] = part.numpy()

    arrays["g_x"] = x[WINDOW_START : WINDOW_START + WINDOW]
    arrays["g_dy"] = dy
    for kind, part in zip(kinds, start, strict=True):
        arrays[f"g_{kind}0"] = part
    y, _ = run(double, arrays["g_x"], start)
    loss = (torch.from_numpy(dy).to(torch.float64) * y).sum()
    loss.backward()
    arrays["g_y64"] = y.detach().numpy()
    arrays["loss"] = loss.detach().numpy()
    for name, value in double.named_parameters():
        if value.grad is None:
            raise SystemExit(f"{cell}: torch gave no gradient for {name}")
        arrays[f"grad_{name}"] = value.grad.numpy()
    return arrays


def main() -> None:
    """Write one file per cell and number of layers, and say how large each is."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=here, help="folder to write to (default: this one)")
    parser.add_argument("--seed", type=int, default=20, help="of every random array (default: 20)")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)  # one order of summation
    arguments.out.mkdir(parents=True, exist_ok=True)
    total = 0
    for cell in CELLS:
        for layers in LAYERS:
            arrays = make(cell, layers, arguments.seed)
            not_finite = [name for name, value in arrays.items() if not np.isfinite(value).all()]
            if not_finite:
                raise SystemExit(f"{cell}, {layers} layers: not finite: {', '.join(not_finite)}")
            path = arguments.out / f"{cell}_{layers}.npz"
            np.savez_compressed(path, allow_pickle=False, **arrays)
            size = path.stat().st_size
            total += size
            apart = np.abs(arrays["y"] - arrays["y64"]).max()
            largest = np.abs(arrays["y"]).max()
            print(f"{path.name:16} {size:8,} bytes   max|y| {largest:6.3f}   float32 - float64 {apart:.1e}")
    print(f"{'total':16} {total:8,} bytes   torch {torch.__version__}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
