"""The log-linear mixture of several opinions on the next symbol, its weights learned online.

    voices    log p_e: the network; the network with a readout of its own, descended at every symbol; orders of
              the n-gram
    drafts    d_k = softmax(sum_e w_k,e log p_e), w_k from a set of weights chosen by a small context
    mixture   p = softmax(sum_k a_k log d_k + r), r what the count of a symbol in each context tells further

Log-linear pools: Genest & Zidek 1986; weights chosen by context, two layers: Mahoney 2005 (PAQ8). Every part
descends the gradient of its own -log p[number]: for a weight of a voice that is E_p[log p_e] - log p_e[number].
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels.jit import jit
from streamrnn.kernels.types import Floats, Ints

FLOOR: Final = 1e-7  # added to every probability: none is 0
WEIGHT_RATE: Final = 0.002  # of the voices' weights, ...
WEIGHT_START: Final = 0.02  # ... and more at first, times 1 / sqrt(symbols learned from)
VOTE_RATE: Final = 0.002
RELIANCE_RATE: Final = 0.007
READOUT_RATE: Final = 0.03
ENERGY: Final = 64.0  # |h|^2 from which the readout's rate falls: an unbounded h must not make it diverge
MEMORY: Final = 0.8  # of how well it went lately


@jit
def softmax(z: Floats, out: Floats) -> None:
    """Write softmax(z) to out, both (V,)."""
    top = z[0]
    for v in range(1, out.size):
        top = max(top, z[v])
    total = 0.0
    for v in range(out.size):
        out[v] = math.exp(z[v] - top)
        total += out[v]
    for v in range(out.size):
        out[v] /= total


@jit
def logs(probabilities: Floats, out: Floats) -> None:
    """Write log(p + FLOOR) to out, for p (V,)."""
    floor = probabilities.dtype.type(FLOOR)
    for v in range(probabilities.size):
        out[v] = math.log(probabilities[v] + floor)


@jit
def read_out(readout: Floats, h: Floats, log_p: Floats, out: Floats) -> None:
    """Write softmax(log p + R h + b) to out (V,); readout (C, H + 1) is R and b, h (H,), log_p (C,)."""
    hidden = h.size
    for v in range(out.size):
        total = log_p[v] + readout[v, hidden]
        for j in range(hidden):
            total += readout[v, j] * h[j]
        out[v] = total
    softmax(out, out)


@jit
def learn_readout(readout: Floats, h: Floats, log_p: Floats, classes: int, number: int) -> None:
    """One step of gradient descent: log_p (C,) is what `read_out` gave, for the first `classes`."""
    hidden = h.size
    energy = 0.0
    for j in range(hidden):
        energy += h[j] * h[j]
    if not math.isfinite(energy):
        return
    rate = READOUT_RATE / max(1.0, energy / ENERGY)
    for v in range(classes):
        step = readout.dtype.type(rate * ((1.0 if v == number else 0.0) - math.exp(log_p[v])))
        for j in range(hidden):
            readout[v, j] += step * h[j]
        readout[v, hidden] += step


@jit
def speak(readout: Floats, network: Floats, h: Floats, shares: Floats, orders: Ints, voices: Floats) -> None:
    """Write the voices (E, C) of V symbols: network (V,), what is read out of h (H,), orders of shares."""
    classes = network.size
    logs(network, voices[0])
    read_out(readout, h, voices[0], voices[1, :classes])
    logs(voices[1, :classes], voices[1])
    for k in range(orders.size):
        logs(shares[orders[k], :classes], voices[2 + k])


@jit
def choose(found: Ints, last: int, lately: float, chosen: Ints) -> None:
    """Write the sets to use: of the drafts by the n-gram's find, last symbol, and recent luck; of the votes."""
    chosen[0] = 3 * found[1] + found[2]
    chosen[1] = last
    chosen[2] = 0 if lately > -1.0 else 1 if lately > -3.0 else 2
    chosen[3] = chosen[0]


@jit
def predict(
    weights: Floats,
    votes: Floats,
    reliance: Floats,
    voices: Floats,
    followers: Ints,
    chosen: Ints,
    drafts: Floats,
    out: Floats,
) -> None:
    """Mix voices (E, C) to out (V,), keeping in drafts (2, K, C) the K drafts and their logarithms.

    weights (K, S, E), votes (S, K), reliance (cells,); followers (n, 2): a symbol, and the cell that tells of its
    count; chosen (K + 1,): which of S.
    """
    classes = out.size
    for v in range(classes):
        out[v] = 0
    for k in range(weights.shape[0]):
        weight, draft, log_draft = weights[k, chosen[k]], drafts[0, k, :classes], drafts[1, k, :classes]
        for v in range(classes):
            draft[v] = 0
        for e in range(weight.size):
            share = voices.dtype.type(weight[e])
            for v in range(classes):
                draft[v] += share * voices[e, v]
        softmax(draft, draft)
        logs(draft, log_draft)
        vote = out.dtype.type(votes[chosen[weights.shape[0]], k])
        for v in range(classes):
            out[v] += vote * log_draft[v]
    for i in range(followers.shape[0]):
        out[followers[i, 0]] += reliance[followers[i, 1]]
    softmax(out, out)
    floor = out.dtype.type(FLOOR)
    whole = out.dtype.type(1.0 + classes * FLOOR)
    for v in range(classes):
        out[v] = (out[v] + floor) / whole


@jit
def learn(
    weights: Floats,
    votes: Floats,
    reliance: Floats,
    voices: Floats,
    followers: Ints,
    chosen: Ints,
    drafts: Floats,
    p: Floats,
    number: int,
    count: int,
) -> None:
    """Descend after symbol `number` came, what `predict` gave being p (V,); `count` learned from before."""
    rate = WEIGHT_RATE + WEIGHT_START / math.sqrt(1.0 + count)
    vote = votes[chosen[weights.shape[0]]]
    for k in range(weights.shape[0]):
        weight, draft, log_draft = weights[k, chosen[k]], drafts[0, k], drafts[1, k]
        for e in range(weight.size):
            mean = 0.0
            for v in range(p.size):
                mean += draft[v] * voices[e, v]
            weight[e] += rate * (voices[e, number] - mean)
        mean = 0.0
        for v in range(p.size):
            mean += p[v] * log_draft[v]
        vote[k] += VOTE_RATE * (log_draft[number] - mean)
    for i in range(followers.shape[0]):
        came = 1.0 if followers[i, 0] == number else 0.0
        reliance[followers[i, 1]] += RELIANCE_RATE * (came - p[followers[i, 0]])
