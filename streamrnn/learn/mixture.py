"""Mixture: one opinion on the next symbol out of the network's and the n-gram's."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from streamrnn.kernels import mixing
from streamrnn.kernels.types import Floats
from streamrnn.learn.ngram import ORDER, NGram

ORDERS = (1, 2, 3, 4, 7)  # of the n-gram that have a voice
VOICES = 2 + len(ORDERS)
DRAFTS = 3


class Blend:
    """A stream's recent symbols, and what its probabilities were made of until the next symbol judges them.

    Attributes
    ----------
    context
        Numbers of the newest symbols, newest first.
    p
        Probabilities of the mixture, (V,); empty before the first.
    voices, drafts, chosen, followers, found
        As `streamrnn.kernels.mixing` writes them.
    lately
        Exponentially weighted mean of log2 p of the symbols that came.
    """

    SAVED: ClassVar[tuple[str, ...]] = (
        "context",
        "p",
        "voices",
        "drafts",
        "chosen",
        "followers",
        "found",
        "lately",
    )
    GROWS: ClassVar[dict[str, int]] = {"p": 0}

    def __init__(self, ngram: NGram) -> None:
        classes = ngram.unigrams.size
        self.context = ngram.blank_context()
        _, self.followers, self.found = ngram.blank_answer()
        self.voices: Floats = np.zeros((VOICES, classes), np.float32)
        self.drafts: Floats = np.zeros((2, DRAFTS, classes), np.float32)
        self.chosen = np.zeros(DRAFTS + 1, np.int64)
        self.p: Floats = np.zeros(0, np.float32)
        self.lately = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in vars(self).values() if isinstance(array, np.ndarray))

    def after(self, other: Blend, number: int) -> Blend:
        """Take the place of another stream's, had the symbol of this number come there without being learned."""
        self.context[:] = other.context
        self.lately = other.lately
        NGram.follow(self.context, number)
        return self


class Mixture:
    """Weights of the voices, learned online and shared by all streams of a pipeline.

    Parameters
    ----------
    ngram
        One of the voices' sources.
    hidden
        Size of the network's h, of which a readout of the mixture's own is learned at every symbol.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("ngram", "count", "weights", "votes", "reliance", "readout")

    def __init__(self, ngram: NGram, hidden: int) -> None:
        classes = ngram.unigrams.size
        self.ngram = ngram
        self.count = 0  # symbols learned from
        self.weights: Floats = np.full((DRAFTS, max(classes, 3 * (ORDER + 1)), VOICES), 0.05)
        self.weights[:, :, 0] = 0.5
        self.weights[:, :, -1] += 0.25
        self.votes: Floats = np.full((3 * (ORDER + 1), DRAFTS), 1.0 / DRAFTS)
        self.reliance: Floats = np.zeros(ngram.CELLS)
        self.readout: Floats = np.zeros((classes, hidden + 1), np.float32)
        self._shares = ngram.blank_answer()[0]
        self._orders = np.array(ORDERS, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, those of the n-gram not among them."""
        return sum(array.nbytes for array in vars(self).values() if isinstance(array, np.ndarray))

    def blank_blend(self) -> Blend:
        """Return what a new stream begins with."""
        return Blend(self.ngram)

    def predict_one(self, blend: Blend, network: Floats, h: Floats) -> Floats:
        """Return the probabilities (V,) of what follows, keeping in `blend` what they were made of.

        network (V,): the network's probabilities, made of h (H,).
        """
        classes, found = network.size, blend.found
        self.ngram.predict_one(blend.context, classes, self._shares, blend.followers, found)
        mixing.speak(self.readout, network, h, self._shares, self._orders, blend.voices)
        mixing.choose(found, blend.context[0], blend.lately, blend.chosen)
        out: Floats = np.empty(classes, network.dtype)
        mixing.predict(
            self.weights,
            self.votes,
            self.reliance,
            blend.voices,
            blend.followers[: found[0]],
            blend.chosen,
            blend.drafts,
            out,
        )
        blend.p = out
        return out

    def learn_one(self, blend: Blend, h: Floats, shown: int, number: int) -> None:
        """Learn from a symbol, and move the stream's context on to it.

        h (H,): as `predict_one` was given it last; shown: the symbol's number as it could be foretold, 0 for a new
        one; number: the one it goes by from now on.
        """
        if blend.p.size:
            self._descend(blend, h, shown if shown < blend.p.size else 0)
        self.ngram.learn_one(blend.context, number)
        if shown != number:
            self.ngram.count_new()
        NGram.follow(blend.context, number)

    def _descend(self, blend: Blend, h: Floats, number: int) -> None:
        p = blend.p
        mixing.learn(
            self.weights,
            self.votes,
            self.reliance,
            blend.voices,
            blend.followers[: blend.found[0]],
            blend.chosen,
            blend.drafts,
            p,
            number,
            self.count,
        )
        mixing.learn_readout(self.readout, h, blend.voices[1], p.size, number)
        blend.lately = mixing.MEMORY * blend.lately + (1.0 - mixing.MEMORY) * math.log2(p[number])
        self.count += 1
