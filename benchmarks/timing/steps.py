"""One step of a cell: in a compiled loop beside the time to read its weights, and from Python beside its peers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from streamrnn import Network
from streamrnn.kernels import params, sequence
from streamrnn.kernels.jit import FASTMATH
from streamrnn.kernels.lanes import load, plus, splat, total
from timing.clock import Contestant, Effort, by_turns, counted, loop, one_core
from timing.rows import Goal, Row

INPUTS = 16
compiled = numba.njit(nogil=True, error_model="numpy", fastmath=FASTMATH)
READ = "reading the weights"


@compiled
def _steps(shape: Any, theta: Any, xs: Any, state: Any, gates: Any, count: int) -> None:
    for i in range(count):
        sequence.advance(shape, theta, xs[i & 63], state, state, gates)


@compiled
def _read(weights: Any, count: int) -> Any:
    """Load all weights `count` times; every time some sum depends on the one before, so that none is left out."""
    found = np.float32(0)
    for _ in range(count):
        zero = splat(np.float32(0))
        a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
        for j in range(0, weights.size - 63, 64):
            a = plus(a, load(weights, j))
            b = plus(b, load(weights, j + 8))
            c = plus(c, load(weights, j + 16))
            d = plus(d, load(weights, j + 24))
            e = plus(e, load(weights, j + 32))
            f = plus(f, load(weights, j + 40))
            g = plus(g, load(weights, j + 48))
            h = plus(h, load(weights, j + 56))
        found = total(plus(plus(plus(a, b), plus(c, d)), plus(plus(e, f), plus(g, h))))
        weights[0] = found * np.float32(1e-20)
    return found


def compiled_rows(effort: Effort) -> list[Row]:
    """Rows of a step inside a compiled loop."""
    rows = []
    sizes = [("gru", hidden) for hidden in (16, 32, 64, 128, 256)]
    sizes += [(cell, hidden) for cell in ("rnn_tanh", "rnn_relu", "lstm", "lru") for hidden in (32, 128)]
    gru: dict[int, float] = {}
    with one_core():
        for cell, hidden in sizes:
            network = Network(cell=cell, inputs=INPUTS, hidden=hidden)
            weights = np.zeros(_weights(network), np.float32)
            values, peers = by_turns(
                counted(_stepping(network), effort),
                {READ: counted(lambda count, weights=weights: _read(weights, count), effort)},  # type: ignore[misc]
                effort.repeats,
            )
            row = Row(f"{cell} step, 16 inputs, hidden {hidden}, compiled loop", "us", values, peers=peers)
            read = row.times(READ) or float("nan")
            row.note = f"{1 / read:.2f} x reading {weights.nbytes / 1024:.0f} KiB of weights"
            if cell == "gru":
                gru[hidden] = 1 / read
                row.goals = [_gru_goal(hidden)]
            else:
                limit = 1.3 * gru[hidden]
                row.goals = [Goal(f"<= {limit:.2f} x reading (gru {gru[hidden]:.2f})", 1 / limit, READ)]
            rows.append(row)
    return rows


def python_rows(effort: Effort) -> list[Row]:
    """Rows of one step called from Python."""
    rows = []
    with one_core():
        for hidden in (16, 32, 64, 128, 256):
            network = Network(cell="gru", inputs=INPUTS, hidden=hidden)
            x, y, state = np.ones(INPUTS, np.float32), np.zeros(1, np.float32), network.blank_state()
            ours = loop(lambda: network.advance(state, x, y), effort)  # noqa: B023 measured before the next
            peers: dict[str, Contestant | None] = {
                name: None if step is None else loop(step, effort)
                for name, step in (
                    ("torch", _torch(hidden)),
                    ("onnxruntime", _onnxruntime(hidden)),
                    ("numpy", _numpy(hidden)),
                )
            }
            values, others = by_turns(ours, peers, effort.repeats)
            torch_times, onnx_times = (2.5, 1.5) if hidden == 256 else (6.0, 3.0)
            goals = [
                Goal(f">= {torch_times:g} x torch", torch_times, "torch"),
                Goal(f">= {onnx_times:g} x onnxruntime", onnx_times, "onnxruntime"),
            ]
            rows.append(Row(f"gru step from Python, hidden {hidden}", "us", values, goals, others))
    return rows


def module(name: str) -> Any:
    """Return a module, None when it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.split(".")[0]:  # it is there, and something else is not
            raise
        return None


def _gru_goal(hidden: int) -> Goal:
    if hidden in (16, 32):
        limit = 0.12 if hidden == 16 else 0.20
        return Goal(f"<= {limit:.2f} us", limit)
    return Goal("<= 1.5 x reading", 1 / 1.5, READ)


def _weights(network: Network) -> int:
    """How many numbers of theta a step of the cell reads."""
    return int(params.layer_offset(network.shape, 1))


def _stepping(network: Network) -> Callable[[int], None]:
    xs = np.random.default_rng(0).normal(size=(64, INPUTS)).astype(np.float32)
    state, gates = network.blank_state(), np.zeros((1, int(params.gates_width(network.shape))), np.float32)
    return lambda count: _steps(network.shape, network.theta, xs, state, gates, count)


def _torch(hidden: int) -> Callable[[], object] | None:
    torch = module("torch")
    if torch is None:
        return None
    torch.set_num_threads(1)
    cell = torch.nn.GRUCell(INPUTS, hidden)
    kept = [torch.zeros(1, hidden)]
    x = torch.ones(1, INPUTS)

    def step() -> None:
        with torch.inference_mode():
            kept[0] = cell(x, kept[0])

    return step


def _onnxruntime(hidden: int) -> Callable[[], object] | None:
    onnxruntime, onnx = module("onnxruntime"), module("onnx")
    if onnxruntime is None or onnx is None:
        return None
    random = np.random.default_rng(0)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weights = {
        "W": random.normal(size=(1, 3 * hidden, INPUTS)),
        "R": random.normal(size=(1, 3 * hidden, hidden)) / np.sqrt(hidden),
        "B": np.zeros((1, 6 * hidden)),
    }
    kind = onnx.TensorProto.FLOAT
    node = helper.make_node(
        "GRU", ["X", "W", "R", "B", "", "H"], ["", "Y"], hidden_size=hidden, linear_before_reset=1
    )
    graph = helper.make_graph(
        [node],
        "step",
        [
            helper.make_tensor_value_info("X", kind, [1, 1, INPUTS]),
            helper.make_tensor_value_info("H", kind, [1, 1, hidden]),
        ],
        [helper.make_tensor_value_info("Y", kind, [1, 1, hidden])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kept = {"X": np.ones((1, 1, INPUTS), np.float32), "H": np.zeros((1, 1, hidden), np.float32)}

    def step() -> None:
        kept["H"] = session.run(None, kept)[0]

    return step


def _numpy(hidden: int) -> Callable[[], object]:
    random = np.random.default_rng(0)
    w = random.normal(size=(3 * hidden, INPUTS)).astype(np.float32)
    r = (random.normal(size=(3 * hidden, hidden)) / np.sqrt(hidden)).astype(np.float32)
    b, c = np.zeros((2, 3 * hidden), np.float32)
    kept = [np.zeros(hidden, np.float32)]
    x = np.ones(INPUTS, np.float32)

    def step() -> None:
        h = kept[0]
        a, q = w @ x + b, r @ h + c
        gates = 1 / (1 + np.exp(-(a[: 2 * hidden] + q[: 2 * hidden])))
        n = np.tanh(a[2 * hidden :] + gates[:hidden] * q[2 * hidden :])
        kept[0] = n + gates[hidden:] * (h - n)

    return step
