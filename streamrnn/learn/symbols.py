"""Symbol events (keystrokes, characters): a network and an n-gram over the alphabet seen so far, plus an escape."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from typing import ClassVar

import numpy as np

from streamrnn.events import Event, SymbolOutput
from streamrnn.kernels import params
from streamrnn.kernels.intervals import FADE
from streamrnn.kernels.types import Floats
from streamrnn.learn.learner import Learner
from streamrnn.learn.mixture import Blend, Mixture
from streamrnn.learn.network import Network
from streamrnn.learn.ngram import NGram
from streamrnn.learn.window import Window

ALPHABET = 256  # symbols told apart; any further ones share the escape
ESCAPE = 0  # number of the symbol that stands for one not seen before
LIKELIEST = 5
NGRAM_BYTES = 2**26
STRIDE = 16  # steps of a stream from one kept state to the next: a long history matters more than every start


class SymbolStream:
    """One key's live part: hidden state, recent symbols, and the probabilities of what comes next."""

    SAVED: ClassVar[tuple[str, ...]] = ("seq", "count", "time", "trail", "state", "blend", "next")
    GROWS: ClassVar[dict[str, int]] = {"next": 0}

    def __init__(self, key: str, model: SymbolModel) -> None:
        self.key = key
        self.seq = 0  # events answered
        self.count = 0  # events learned from
        self.time = math.nan  # of the newest event answered, epoch seconds
        self.trail = model.learner.open_trail() if model.learner else None
        self.state = model.network.blank_state()
        self.blend = model.blend()
        self.next: Floats = model.uniform()


class SymbolModel:
    """One softmax network and one n-gram for all keys of a pipeline, their mixture, alphabet and learner.

    Parameters
    ----------
    name
        Of the pipeline, for the outputs.
    network
        One-hot, with a softmax head over ALPHABET symbols and the escape.
    learner
        None: nothing is learned, and the network answers alone.
    ngram_bytes
        Ceiling of the n-gram's counts.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("symbols", "network", "learner", "mixture")

    def __init__(
        self, name: str, network: Network, learner: Learner | None, ngram_bytes: int = NGRAM_BYTES
    ) -> None:
        self.name = name
        self.network = network
        self.learner = learner
        self.learners = (learner,) if learner else ()
        self.counts: Counter[str] = Counter()
        self.bits = 0.0  # of late in this process, older events fading out, and so many events
        self.judged = 0.0
        self.symbols = [""]
        self.warmup = learner.length if learner else 0
        self._x: Floats = np.zeros(1, network.theta.dtype)
        self._shown = np.zeros(1)
        self._hidden = int(network.shape[params.HIDDEN])
        self.mixture: Mixture | None = None
        if learner:
            learner.classes = 1
            self.mixture = Mixture(NGram(ALPHABET + 1, ngram_bytes), self._hidden)
        self._aside = self.blend()  # for answers that nothing is learned from

    @property
    def symbols(self) -> list[str]:
        """The symbols by their numbers, 0 the escape; `alphabet` has their numbers."""
        return self._symbols

    @symbols.setter
    def symbols(self, symbols: list[str]) -> None:
        self._symbols = symbols
        self.alphabet = {symbol: number for number, symbol in enumerate(symbols) if number != ESCAPE}

    @staticmethod
    def network_for(cell: str, hidden: int, layers: int, seed: int) -> Network:
        """Return a network over the largest alphabet; the head's rows come into use as symbols are seen."""
        return Network(cell, ALPHABET + 1, hidden, ALPHABET + 1, layers, "softmax", one_hot=True, seed=seed)

    @staticmethod
    def window_for(capacity: int, network: Network, seed: int) -> Window:
        """Return the replay window that goes with such a network."""
        return Window(capacity, 1, 1, network.blank_state(), (1,), seed, STRIDE)

    def blend(self) -> Blend | None:
        """Return what a stream keeps of its mixtures, None when there are none."""
        return self.mixture.blank_blend() if self.mixture else None

    def open_stream(self, key: str) -> SymbolStream:
        """Return the stream of a key that was not seen before."""
        return SymbolStream(key, self)

    def uniform(self) -> Floats:
        """Probabilities before anything is known, (alphabet + 1,)."""
        classes = len(self.symbols)
        return np.full(classes, 1.0 / classes, self.network.theta.dtype)

    def share(self, streams: Collection[SymbolStream]) -> None:
        """Nothing: what a stream of symbols keeps does not grow."""

    def process_one(self, stream: SymbolStream, event: Event, learn: bool) -> SymbolOutput:
        """Answer one event of one stream, then learn from it unless `learn` is false."""
        assert event.symbol is not None  # noqa: S101 the codec of a symbol pipeline gives symbols
        learner = self.learner
        if learner and learn:
            learner.before_step()
        bits = self._bits(stream.next, event.symbol)
        number = self.alphabet.get(event.symbol, ESCAPE)
        shown = number
        if number == ESCAPE and learn and len(self.alphabet) < ALPHABET:
            number = self._admit(event.symbol)
        state = stream.state if learn else stream.state.copy()
        self._x[0] = number
        if learner and stream.trail and learn:
            if self.mixture and stream.blend:
                self.mixture.learn_one(stream.blend, self._h(state), shown, number)
            # What a forecaster could have said of a new symbol is that it is new: the escape is its target.
            self._shown[0] = shown
            learner.observe(stream.trail, self._x, self._shown, state)
        following: Floats = np.empty(len(self.symbols), self.network.theta.dtype)
        self.network.advance(state, self._x, following)
        if not math.isfinite(float(following.sum())):
            state[:] = 0
            self.counts["state_resets"] += 1
            following = self.uniform()
        if self.mixture and stream.blend and self._aside:
            blend = stream.blend if learn else self._aside.after(stream.blend, number)
            following = self.mixture.predict_one(blend, following, self._h(state))
        if learn:
            stream.next = following
            self.bits = FADE * self.bits + bits
            self.judged = FADE * self.judged + 1.0
            stream.count += 1
            if learner:
                learner.after_step()
        seq = stream.seq
        stream.seq = seq + 1
        stream.time = float(event.time)
        return SymbolOutput(
            pipeline=self.name,
            key=stream.key,
            seq=seq,
            time=event.time,
            symbol=event.symbol,
            bits=bits,
            next=self._likeliest(following),
            updates=learner.updates if learner else 0,
            warmup=stream.count <= self.warmup,
        )

    def _h(self, state: Floats) -> Floats:
        """What the network's head reads in a state, (H,)."""
        h: Floats = state[-1, : self._hidden]
        return h

    def _bits(self, probabilities: Floats, symbol: str) -> float:
        """Surprise -log2 p of `symbol`; an unseen one costs the escape and its choice among those unseen."""
        number = self.alphabet.get(symbol, ESCAPE)
        if number == ESCAPE or number >= probabilities.size:
            unseen = max(ALPHABET - (probabilities.size - 1), 1)
            return math.log2(unseen) - math.log2(max(float(probabilities[ESCAPE]), 1e-12))
        return -math.log2(max(float(probabilities[number]), 1e-12))

    def _admit(self, symbol: str) -> int:
        """Take a new symbol into the alphabet; return its number."""
        number = len(self.symbols)
        self.alphabet[symbol] = number
        self.symbols.append(symbol)
        if self.learner:
            self.learner.classes = len(self.symbols)
        return number

    def _likeliest(self, probabilities: Floats) -> list[tuple[str, float]]:
        order = np.argsort(-probabilities[1:], kind="stable")[:LIKELIEST] + 1
        return [(self.symbols[number], float(probabilities[number])) for number in order.tolist()]

    def close(self) -> None:
        """End the learner's thread."""
        if self.learner:
            self.learner.close()
