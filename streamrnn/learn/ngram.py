"""NGram: how often each symbol followed each context, counted online in bounded memory."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamrnn.kernels import ngram
from streamrnn.kernels.types import Floats, Ints

ORDER = 7  # symbols in the longest context


class NGram:
    """Counts by context, shared by all streams of a pipeline; the context itself is the stream's.

    Parameters
    ----------
    classes
        Numbers of symbols, 0 standing for those not told apart.
    bytes_max
        Ceiling of the hashed counts; they take what was seen needs. At the ceiling the least useful contexts
        make place.

    Attributes
    ----------
    table
        Slots of the hashed orders, see `streamrnn.kernels.ngram`.
    rooms
        What the table is the beginning of, and grows in.
    unigrams, bigrams
        Counts of order 0 (C,) and, by the symbol before, of order 1 (C, C).

    Examples
    --------
    >>> counts = NGram(classes=4)
    >>> context, shares, followers, found = counts.blank_context(), *counts.blank_answer()
    >>> for number in [1, 2, 3] * 20:
    ...     counts.learn_one(context, number)
    ...     counts.follow(context, number)
    >>> counts.predict_one(context, 4, shares, followers, found)
    >>> shares[7].round(2).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """

    SAVED: ClassVar[tuple[str, ...]] = ("table", "unigrams", "bigrams", "used")
    GROWS: ClassVar[dict[str, int]] = {"table": 0}

    BUCKET = (ngram.WAYS, ngram.FIRST + ngram.ROOM)
    BUCKET_BYTES = 2 * BUCKET[0] * BUCKET[1]
    SPLITS = 16  # buckets that come at a symbol, while they double
    FOLLOWERS_MAX = (ORDER - 1) * ngram.CHAIN * ngram.ROOM
    CELLS = (ORDER - 1) * ngram.COUNTS * ngram.TOTALS  # classes a follower's count falls into

    def __init__(self, classes: int, bytes_max: int = 2**26) -> None:
        self.rooms = {"table": np.zeros((self.buckets_for(bytes_max), *self.BUCKET), np.uint16)}
        self.table: ngram.Words = self.rooms["table"][: ngram.BUCKETS_MIN]
        self.unigrams = np.zeros(classes, np.uint16)
        self.bigrams = np.zeros((classes, classes), np.uint16)
        self.used = np.zeros(1, np.int64)  # slots
        self._hashes = np.zeros(ORDER, np.uint64)

    @classmethod
    def buckets_for(cls, bytes_max: int) -> int:
        """Buckets that fit into so many bytes: a power of two, and at least those of the beginning."""
        return max(ngram.BUCKETS_MIN, 1 << max(bytes_max // cls.BUCKET_BYTES, 1).bit_length() - 1)

    @classmethod
    def bytes_for(cls, classes: int, bytes_max: int) -> int:
        """Bytes of all counts at their ceiling."""
        return cls.buckets_for(bytes_max) * cls.BUCKET_BYTES + 2 * classes * (classes + 1)

    @staticmethod
    def blank_context() -> Ints:
        """Return the context (ORDER,) before the first symbol, newest first."""
        return np.zeros(ORDER, np.int64)

    def blank_answer(self) -> tuple[Floats, Ints, Ints]:
        """Make room for an answer: shares (ORDER + 1, C), followers (FOLLOWERS_MAX, 2), found (3,)."""
        shares: Floats = np.zeros((ORDER + 1, self.unigrams.size), np.float32)
        return shares, np.zeros((self.FOLLOWERS_MAX, 2), np.int64), np.zeros(3, np.int64)

    def predict_one(self, context: Ints, classes: int, shares: Floats, followers: Ints, found: Ints) -> None:
        """Say which of the first `classes` numbers follows `context`, see `streamrnn.kernels.ngram.predict`."""
        dense = (self.unigrams, self.bigrams)
        ngram.predict(self.table, *dense, context, self._hashes, classes, shares, followers, found)

    def learn_one(self, context: Ints, number: int) -> None:
        """Count that the symbol of this number followed `context`."""
        buckets, room = len(self.table), self.rooms["table"]
        # Early: at half full one bucket in twenty has more than its slots, and what gives way is missed.
        if (self.used[0] > buckets or buckets.bit_count() > 1) and buckets < len(room):
            self.table = room[: buckets + self.SPLITS]
        ngram.learn(self.table, buckets, self.unigrams, self.bigrams, context, self._hashes, self.used, number)

    def disagreement(self) -> str | None:
        """Why what was restored does not go together, None when it does: a bucket is found by bits of a hash."""
        buckets = len(self.table)
        if buckets >= ngram.BUCKETS_MIN and buckets % self.SPLITS == 0:
            return None
        return f"table: expected a multiple of {self.SPLITS} buckets, at least {ngram.BUCKETS_MIN}, got {buckets}"

    def count_new(self) -> None:
        """Count that a symbol came that had no number yet."""
        ngram.count_dense(self.unigrams, 0)

    @staticmethod
    def follow(context: Ints, number: int) -> None:
        """Move a context on to the symbol of this number."""
        context[1:] = context[:-1].copy()
        context[0] = number
