"""Counts by context: what they foretell, and what happens when the table is full."""

import numpy as np
import pytest
from references_symbols import ReferenceNGram

from streamrnn.kernels import ngram as kernels
from streamrnn.learn.ngram import ORDER, NGram


class Teller:
    """An NGram with one stream, or several."""

    def __init__(self, classes=257, bytes_max=2**22, roomy=False):
        self.ngram = NGram(classes, bytes_max)
        self.context = self.ngram.blank_context()
        if roomy:  # from the beginning
            self.ngram.table = self.ngram.rooms["table"]

    def learn(self, numbers):
        for number in numbers:
            self.ngram.learn_one(self.context, number)
            self.ngram.follow(self.context, number)

    def predict(self, classes):
        shares, followers, found = self.ngram.blank_answer()
        self.ngram.predict_one(self.context, classes, shares, followers, found)
        return shares[:, :classes], followers[: found[0]], found.tolist()


def numbers(count, highest, seed=0):
    """Numbers that depend on the one before, so that contexts come back."""
    rng, drawn = np.random.default_rng(seed), [1]
    while len(drawn) < count:
        drawn.append(int(rng.integers(highest + 1)) if rng.random() < 0.3 else (drawn[-1] * 5 + 2) % (highest + 1))
    return drawn


@pytest.mark.parametrize("highest", [1, 3, 20, 40])
def test_shares_are_those_of_dictionaries(highest):
    teller, reference = Teller(roomy=True), ReferenceNGram(257)
    for number in numbers(1500, highest):
        expected, top = reference.predict(highest + 1)
        shares, _, found = teller.predict(highest + 1)
        np.testing.assert_allclose(shares, expected, rtol=1e-4, atol=1e-7)
        assert top == found[1]
        teller.learn([number])
        reference.learn(number)


def test_shares_of_every_order_sum_to_one():
    teller = Teller()
    teller.learn(numbers(3000, 60))

    shares, _, _ = teller.predict(61)

    np.testing.assert_allclose(shares.sum(axis=1), np.ones(ORDER + 1), rtol=1e-5)
    assert (shares > 0).all()


def test_followers_are_those_of_the_hashed_orders_the_latest_first():
    teller, reference = Teller(roomy=True), ReferenceNGram(257)
    for number in numbers(800, 9):
        teller.learn([number])
        reference.learn(number)
    _, followers, found = teller.predict(10)

    expected = []
    for order in range(2, found[1] + 1):
        expected += list(reversed(reference.counts[reference.context(order)]))
    assert len(expected) == found[0] > 6
    assert sorted(expected) == sorted(followers[:, 0].tolist())
    assert ((followers[:, 1] >= 0) & (followers[:, 1] < NGram.CELLS)).all()


def test_a_count_at_its_ceiling_is_halved_with_those_beside_it():
    teller, reference = Teller(roomy=True), ReferenceNGram(257)
    for number in [1, 1, 1, 2] * 400:
        teller.learn([number])
        reference.learn(number)

    np.testing.assert_allclose(teller.predict(3)[0][2:], reference.predict(3)[0][2:], rtol=1e-4)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (7, 7), (8, 8), (12, 9), (16, 10), (24, 11), (64, 14), (255, 15)]
)
def test_counts_are_classed_exactly_at_first_and_then_twice_per_doubling(count, expected):
    assert expected == kernels.count_class(count)


def test_the_table_grows_to_its_ceiling_and_forgets_nothing_on_the_way():
    small, large = Teller(), Teller(roomy=True)
    drawn = numbers(12_000, 200)
    small.learn(drawn)
    large.learn(drawn)

    assert kernels.BUCKETS_MIN < len(small.ngram.table)
    shares, expected = [], []
    for place in range(len(drawn) - 200, len(drawn)):
        context = np.array(drawn[place - ORDER : place][::-1])
        for teller, told in ((small, shares), (large, expected)):
            teller.context = context
            told.append(teller.predict(201)[0][3])
    same = np.isclose(shares, expected, rtol=1e-3).all(axis=1)
    assert same.mean() > 0.8  # where the smaller table was crowded, something gave way


def test_growing_keeps_every_slot_where_its_hash_looks_for_it_at_every_size_on_the_way():
    teller = Teller(bytes_max=2**21)
    teller.learn(numbers(1000, 100))
    expected = [share.copy() for share in teller.predict(101)]
    ngram, sizes, began = teller.ngram, [], len(teller.ngram.table)
    while len(ngram.table) < ngram.buckets_for(2**21):
        buckets = len(ngram.table)
        ngram.table = ngram.rooms["table"][: buckets + NGram.SPLITS]
        kernels.split(ngram.table, buckets)
        sizes.append(len(ngram.table))
        assert ngram.used[0] == np.count_nonzero(ngram.table[..., 1] & 0xFF)
        for share, before in zip(teller.predict(101), expected, strict=True):
            np.testing.assert_array_equal(share, before)
    assert list(range(began + NGram.SPLITS, 32_769, NGram.SPLITS)) == sizes


def test_the_table_doubles_a_few_buckets_at_every_symbol_when_a_quarter_is_used_and_then_rests():
    teller, rested = Teller(), 0
    for number in numbers(4000, 200):
        buckets = len(teller.ngram.table)
        grows = buckets.bit_count() > 1 or teller.ngram.used[0] > buckets
        teller.learn([number])
        assert len(teller.ngram.table) == buckets + grows * NGram.SPLITS
        rested += not grows
    assert len(teller.ngram.table) > 3 * kernels.BUCKETS_MIN
    assert rested > 1000


def test_a_full_table_stays_within_its_ceiling_and_goes_on_learning():
    teller = Teller(bytes_max=2**18)
    rng = np.random.default_rng(0)
    for _ in range(20):
        teller.learn(rng.integers(1, 257, 3000).tolist())
        teller.learn([1, 2, 3, 4, 5, 6, 7, 8] * 20)
        shares, _, _ = teller.predict(257)
        assert shares[ORDER, 1] > 0.5
    arrays = (teller.ngram.table, teller.ngram.unigrams, teller.ngram.bigrams)
    assert sum(array.nbytes for array in arrays) == NGram.bytes_for(257, 2**18)
    assert teller.ngram.used[0] <= 4 * kernels.BUCKETS_MIN
    assert np.isfinite(shares).all()


def test_a_context_that_is_used_outlives_those_seen_once():
    teller = Teller(bytes_max=2**18)
    rng = np.random.default_rng(1)
    phrase = [11, 12, 13, 14, 15, 16, 17, 18]
    teller.learn(phrase * 40)
    teller.learn(rng.integers(1, 257, 20_000).tolist())

    teller.learn(phrase[:-1])

    assert teller.predict(257)[0][ORDER, 18] > 0.3


def test_more_followers_than_a_chain_holds_give_way_to_later_ones():
    teller = Teller()
    for follower in [*range(3, 257), 9]:
        teller.learn([1, 2, follower])
    teller.learn([1, 2])

    shares, followers, _ = teller.predict(257)
    assert shares[2, 9] > 3 / 257
    assert len(followers) <= NGram.FOLLOWERS_MAX
    np.testing.assert_allclose(shares.sum(axis=1), np.ones(ORDER + 1), rtol=1e-5)


def test_what_has_no_number_is_counted_by_the_short_contexts():
    teller = Teller()
    teller.learn([1, 0] * 30)
    teller.learn([1])

    shares, followers, _ = teller.predict(2)
    assert shares[ORDER, 0] > 0.9
    assert 0 not in followers[:, 0]


def test_streams_share_counts_but_no_context():
    teller = Teller()
    teller.learn([1, 2, 3] * 20)
    other = teller.ngram.blank_context()

    for number in (1, 2):
        teller.ngram.follow(other, number)
    teller.context = other
    assert teller.predict(4)[0][2, 3] > 0.6


@pytest.mark.parametrize(("bytes_max", "expected"), [(0, 4096), (2**18, 4096), (2**20 - 1, 8192), (2**26, 2**20)])
def test_buckets_are_the_power_of_two_that_fits(bytes_max, expected):
    assert expected == NGram.buckets_for(bytes_max)
