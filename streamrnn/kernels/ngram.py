"""Online counts of what followed each context, orders 0 to N, and the probabilities made of them.

Orders 0 and 1 are dense: unigrams (C,), bigrams (C, C). Those above are hashed: table (B, WAYS, 2 + ROOM)
uint16 has B buckets of WAYS slots. A slot is the first 16 bits of a check, the other 8 above 8 bits of usefulness
(0: free), and up to ROOM followers, the latest first: number - 1 above an 8-bit count. A context with more
followers goes on in the slot of another hash, up to CHAIN slots.

The buckets double a few at a time, so that no symbol waits for all of them: linear hashing (Litwin 1980).

A full bucket gives up its least useful slot: usefulness counts what was learned in it and falls by one at every
replacement in the bucket, so that what was common once does not stay for ever. The escape, 0, is counted by
the dense orders only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamrnn.kernels.jit import jit
from streamrnn.kernels.products import copy
from streamrnn.kernels.types import Floats, Ints

Words = NDArray[np.uint16]
Hashes = NDArray[np.uint64]

WAYS: Final = 4
ROOM: Final = 6
CHAIN: Final = 10
FIRST: Final = 2  # place of the first follower in a slot
COUNT_MAX: Final = 255
DENSE_MAX: Final = 65_535  # counts of orders 0 and 1
DISCOUNT: Final = 0.8
COUNTS: Final = 16  # classes of a count, ...
TOTALS: Final = 8  # ... and of the sum of a context's counts
BUCKETS_MIN: Final = 4096  # the check of a slot begins at this bit of the hash


@jit
def hash_context(context: Ints, hashes: Hashes) -> None:
    """Write to hashes (N,) those of the newest 1, 2, ... N numbers of context (N,), newest first."""
    h = np.uint64(0x9E3779B97F4A7C15)
    for order in range(context.size):
        h = (h ^ np.uint64(context[order] + 1)) * np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(29)
        hashes[order] = h


@jit
def link(h: np.uint64, place: int) -> np.uint64:
    """Hash of the slot in which a context of hash h goes on, the `place`-th of its chain."""
    return h + np.uint64(place) * np.uint64(0x94D049BB133111EB)


@jit
def highest_bit(buckets: int) -> int:
    """Largest power of two that is not above a number of at most 32 bits."""
    for shift in (1, 2, 4, 8, 16):
        buckets |= buckets >> shift
    return buckets - (buckets >> 1)


@jit
def bucket_of(h: np.uint64, buckets: int) -> int:
    """Bucket of hash h: by one bit more where that one is there already."""
    bit = highest_bit(buckets)
    bucket = np.int64(h & np.uint64(2 * bit - 1))
    return int(bucket) if bucket < buckets else int(bucket - bit)


@jit
def check_of(h: np.uint64) -> int:
    """The 24 bits that tell hash h from others in its bucket."""
    return int((h // np.uint64(BUCKETS_MIN)) & np.uint64(0xFFFFFF))


@jit
def find(table: Words, h: np.uint64) -> int:
    """Number of the slot of hash h, -1 if there is none."""
    bucket, check = bucket_of(h, table.shape[0]), check_of(h)
    for way in range(WAYS):
        slot = table[bucket, way]
        if slot[0] == check & 0xFFFF and slot[1] >> 8 == check >> 16 and slot[1] & 0xFF > 0:
            return int(bucket * WAYS + way)
    return -1


@jit
def claim(table: Words, h: np.uint64, used: Ints) -> int:
    """Make an empty slot for hash h, in the place of the least useful one if need be; used (1,) counts slots."""
    bucket, check = bucket_of(h, table.shape[0]), check_of(h)
    chosen = 0
    for way in range(1, WAYS):
        if table[bucket, way, 1] & 0xFF < table[bucket, chosen, 1] & 0xFF:
            chosen = way
    if table[bucket, chosen, 1] & 0xFF == 0:
        used[0] += 1
    else:
        for way in range(WAYS):
            if way != chosen and table[bucket, way, 1] & 0xFF > 1:
                table[bucket, way, 1] -= 1
    slot = table[bucket, chosen]
    slot[:] = 0
    slot[0] = check & 0xFFFF
    slot[1] = (check >> 16) << 8 | 1
    return int(bucket * WAYS + chosen)


@jit
def split(table: Words, start: int) -> None:
    """Give buckets `start` and up what is theirs by its check, each out of an older one."""
    for new in range(start, table.shape[0]):
        bit = highest_bit(new)
        for way in range(WAYS):
            slot, moved = table[new - bit, way], table[new, way]
            check = np.int64(slot[0]) | np.int64(slot[1] >> 8) << 16
            if (check * BUCKETS_MIN) & bit:
                copy(slot, moved)
                slot[:] = 0
            else:
                moved[:] = 0


@jit
def discounted(counts: Words, below: Floats, share: Floats) -> int:
    """Interpolate a dense order: share (V,) of counts (C,) and the order below (V,); return how many are not 0."""
    total, distinct = 0.0, 0
    for v in range(share.size):
        if counts[v] > 0:
            total += counts[v]
            distinct += 1
    if distinct == 0:
        copy(below, share)
        return 0
    back = DISCOUNT * distinct / total
    for v in range(share.size):
        share[v] = below[v] * back
        if counts[v] > 0:
            share[v] += (counts[v] - DISCOUNT) / total
    return distinct


@jit
def magnitude(count: int) -> int:
    """Floor of the binary logarithm of a count."""
    bits = 0
    while count > 1:
        count >>= 1
        bits += 1
    return bits


@jit
def count_class(count: int) -> int:
    """Class of a count: exact below 8, then two to each doubling, COUNTS - 1 at the most."""
    if count < 8:
        return count
    bits = magnitude(count)
    return min(2 * bits + 2 + ((count >> (bits - 1)) & 1), COUNTS - 1)


@jit
def read(table: Words, h: np.uint64, followers: Ints, start: int) -> int:
    """Write the followers of the context of hash h from row `start` of followers (M, 2): number, count.

    Returns the row after the last.
    """
    n = start
    for place in range(CHAIN):
        found = find(table, link(h, place))
        if found < 0:
            return n
        slot = table[found // WAYS, found % WAYS]
        for k in range(FIRST, FIRST + ROOM):
            if slot[k] == 0:
                return n
            followers[n, 0] = (slot[k] >> 8) + 1
            followers[n, 1] = slot[k] & 0xFF
            n += 1
    return n


@jit
def predict(
    table: Words,
    unigrams: Words,
    bigrams: Words,
    context: Ints,
    hashes: Hashes,
    classes: int,
    shares: Floats,
    followers: Ints,
    found: Ints,
) -> None:
    """Probabilities of what follows context (N,), by every order interpolated with all below it.

    Absolute discounting (Ney, Essen & Kneser 1994). shares (N + 1, C): out, by order, the
    first `classes` of each. followers (M, 2): out,
    those of the hashed orders: number, and class by order, count and sum of counts. found (3,): out, the number
    of followers, the highest order that has any, and 0 when it has several, 1 for one seen up to three times,
    2 for one seen more often.
    """
    total = 0.0
    for v in range(classes):
        total += unigrams[v]
    for v in range(classes):
        shares[0, v] = (unigrams[v] + 1.0 / classes) / (total + 1.0)
    distinct = discounted(bigrams[context[0]], shares[0, :classes], shares[1, :classes])
    count = 0
    if distinct == 1:
        for v in range(classes):
            count = max(count, int(bigrams[context[0], v]))
    top, n = (1 if distinct > 0 else 0), 0
    hash_context(context, hashes)
    for order in range(2, context.size + 1):
        # Also where a shorter one has none: those a longer one speaks for are not used, and give way first.
        end = read(table, hashes[order - 1], followers, n)
        share, below = shares[order, :classes], shares[order - 1, :classes]
        if end == n:
            copy(below, share)
            continue
        top, distinct, count = order, end - n, 0
        for i in range(n, end):
            count += followers[i, 1]
        back = DISCOUNT * distinct / count
        for v in range(classes):
            share[v] = below[v] * back
        place = ((order - 2) * COUNTS) * TOTALS + min(magnitude(count), TOTALS - 1)
        for i in range(n, end):
            share[followers[i, 0]] += (followers[i, 1] - DISCOUNT) / count
            followers[i, 1] = place + count_class(followers[i, 1]) * TOTALS
        n = end
    found[0] = n
    found[1] = top
    found[2] = 0 if distinct != 1 else 1 if count <= 3 else 2


@jit
def learn(
    table: Words,
    start: int,
    unigrams: Words,
    bigrams: Words,
    context: Ints,
    hashes: Hashes,
    used: Ints,
    number: int,
) -> None:
    """Count that `number` followed context (N,): from the highest order down to the first that knew it.

    Update exclusion (Moffat 1990): what a longer context foretold tells a shorter one nothing. Buckets `start` and
    up are new.
    """
    split(table, start)
    hash_context(context, hashes)
    if number > 0:
        for order in range(context.size, 1, -1):
            if count_one(table, hashes[order - 1], number, used):
                return
    known = bigrams[context[0], number] > 0
    count_dense(bigrams[context[0]], number)
    if not known:
        count_dense(unigrams, number)


@jit
def count_dense(counts: Words, number: int) -> None:
    """Count one more of `number` in counts (C,), all halved where one is full."""
    if counts[number] == DENSE_MAX:
        for v in range(counts.size):
            counts[v] = (counts[v] + 1) >> 1
    counts[number] += 1


@jit
def count_one(table: Words, h: np.uint64, number: int, used: Ints) -> bool:
    """Count `number` in the context of hash h and put it first there; whether it was there already."""
    found = -1
    for place in range(CHAIN):
        found = find(table, link(h, place))
        if found < 0:
            found = claim(table, link(h, place), used)
        slot = table[found // WAYS, found % WAYS]
        if place == 0 and slot[1] & 0xFF < 0xFF:
            slot[1] += 1
        for k in range(FIRST, FIRST + ROOM):
            if slot[k] == 0 or np.int64(slot[k] >> 8) == number - 1:
                known = bool(slot[k] > 0)
                if slot[k] & 0xFF == COUNT_MAX:
                    halve(table, h)
                slot[k] = (number - 1) << 8 | (np.int64(slot[k] & 0xFF) + 1)
                put_first(table, h, found, k)
                return known
    slot = table[found // WAYS, found % WAYS]
    slot[FIRST + ROOM - 1] = (number - 1) << 8 | 1  # in the place of the one not seen for longest, nearly
    put_first(table, h, found, FIRST + ROOM - 1)
    return False


@jit
def put_first(table: Words, h: np.uint64, found: int, k: int) -> None:
    """Move follower k of slot `found` to its front, and change places with the front of the chain."""
    slot = table[found // WAYS, found % WAYS]
    follower = slot[k]
    for i in range(k, FIRST, -1):
        slot[i] = slot[i - 1]
    slot[FIRST] = follower
    first = find(table, h)
    if first >= 0 and first != found:
        slot[FIRST] = table[first // WAYS, first % WAYS, FIRST]
        table[first // WAYS, first % WAYS, FIRST] = follower


@jit
def halve(table: Words, h: np.uint64) -> None:
    """Halve the counts of a context, none below 1."""
    for place in range(CHAIN):
        found = find(table, link(h, place))
        if found < 0:
            return
        slot = table[found // WAYS, found % WAYS]
        for k in range(FIRST, FIRST + ROOM):
            if slot[k] > 0:
                slot[k] = (slot[k] & 0xFF00) | (((slot[k] & 0xFF) + 1) >> 1)
