"""The mixture against sums written out, its descent against differences of the loss."""

from itertools import pairwise

import numpy as np
import pytest
from references_symbols import loss, mix, softmax

from streamrnn.kernels import mixing
from streamrnn.learn.mixture import DRAFTS, VOICES, Mixture
from streamrnn.learn.ngram import NGram

V = 6


def scene(seed=0):
    """Arrays as the kernels take them, in float64: weights of one set, voices over V symbols, two followers."""
    rng = np.random.default_rng(seed)
    weights, votes = rng.normal(0.2, 0.3, (DRAFTS, 1, VOICES)), rng.normal(0.3, 0.1, (1, DRAFTS))
    voices = np.log(np.array([softmax(row) for row in rng.normal(0, 2, (VOICES, V))]))
    followers = np.array([[1, 0], [4, 2], [4, 1]])
    return weights, votes, rng.normal(0, 0.5, 3), voices, followers


def predict(weights, votes, reliance, voices, followers):
    drafts, out = np.zeros((2, DRAFTS, V)), np.zeros(V)
    chosen = np.zeros(DRAFTS + 1, np.int64)
    mixing.predict(weights, votes, reliance, voices, followers, chosen, drafts, out)
    return out, drafts, chosen


@pytest.mark.parametrize("seed", range(5))
def test_the_mixture_is_that_of_sums_written_out(seed):
    weights, votes, reliance, voices, followers = scene(seed)
    expected, drafts = mix(weights[:, 0], votes[0], reliance, voices, followers)

    out, got, _ = predict(*scene(seed))

    np.testing.assert_allclose(out, expected, rtol=1e-9)
    np.testing.assert_allclose(got[0], drafts, rtol=1e-9)
    assert 1.0 == pytest.approx(out.sum())


def difference(function, array, place):
    step = np.zeros_like(array)
    step[place] = 1e-6
    return (function(array + step) - function(array - step)) / 2e-6


@pytest.mark.parametrize("number", [0, 1, 4])
def test_learning_descends_the_gradient_of_the_loss(number):
    weights, votes, reliance, voices, followers = scene()
    out, drafts, chosen = predict(weights, votes, reliance, voices, followers)
    after = [array.copy() for array in (weights, votes, reliance)]

    mixing.learn(*after, voices, followers, chosen, drafts, out, number, 9999)

    def final(weights=weights, votes=votes, reliance=reliance):
        return loss(mix(weights[:, 0], votes[0], reliance, voices, followers)[0], number)

    rate = mixing.WEIGHT_RATE + mixing.WEIGHT_START / 100
    for k in range(DRAFTS):
        for e in range(VOICES):

            def own(changed, k=k):
                return loss(softmax(changed[k, 0] @ voices), number)

            slope = difference(own, weights, (k, 0, e))
            assert after[0][k, 0, e] - weights[k, 0, e] == pytest.approx(-rate * slope, rel=1e-3, abs=1e-7)
        slope = difference(lambda changed: final(votes=changed), votes, (0, k))
        assert after[1][0, k] - votes[0, k] == pytest.approx(-mixing.VOTE_RATE * slope, rel=1e-3, abs=1e-7)
    for cell in range(3):
        slope = difference(lambda changed: final(reliance=changed), reliance, (cell,))
        assert after[2][cell] - reliance[cell] == pytest.approx(-mixing.RELIANCE_RATE * slope, rel=1e-3, abs=1e-7)


def test_the_readout_descends_the_gradient_of_its_loss():
    rng = np.random.default_rng(3)
    readout, h, log_p = rng.normal(size=(V, 5)), rng.normal(size=4), np.log(softmax(rng.normal(size=V)))

    def own(changed):
        return loss(softmax(log_p + changed[:, :4] @ h + changed[:, 4]), 2)

    out, after = np.zeros(V), readout.copy()
    mixing.read_out(readout, h, log_p, out)
    np.testing.assert_allclose(out, softmax(log_p + readout[:, :4] @ h + readout[:, 4]))
    mixing.learn_readout(after, h, np.log(out), V, 2)

    for place in np.ndindex(readout.shape):
        slope = difference(own, readout, place)
        assert after[place] - readout[place] == pytest.approx(-mixing.READOUT_RATE * slope, rel=1e-3, abs=1e-8)


@pytest.mark.parametrize("size", [np.nan, np.inf, 1e18])
def test_the_readout_stays_finite_whatever_the_network_says(size):
    readout = np.zeros((V, 5), np.float32)

    for number in (1, 2, 1):
        mixing.learn_readout(readout, np.full(4, size, np.float32), np.full(V, -1.8, np.float32), V, number)

    assert np.isfinite(readout).all()


class Listener:
    """A mixture with a network that is as sure, or as ignorant, as a test wants."""

    def __init__(self):
        self.mixture = Mixture(NGram(V), 4)
        self.blend = self.mixture.blank_blend()
        self.h = np.full(4, 0.5, np.float32)
        self.bits = []

    def hear(self, number, network):
        if self.blend.p.size:
            self.bits.append(-np.log2(self.blend.p[number]))
        self.mixture.learn_one(self.blend, self.h, number, number)
        self.mixture.predict_one(self.blend, network.astype(np.float32), self.h)


def test_the_mixture_follows_the_voice_that_is_right():
    rng, knowing, counting = np.random.default_rng(0), Listener(), Listener()
    drawn = rng.integers(1, V, 1500)
    for number, following in pairwise(drawn):
        sure = np.full(V, 0.02)
        sure[following] = 0.9
        knowing.hear(int(number), sure)
    for n in range(1500):
        counting.hear(1 + n % 5, np.full(V, 1 / V))

    assert np.mean(knowing.bits[-300:]) < 0.3  # what the n-gram cannot know: the network does
    assert np.mean(counting.bits[-300:]) < 0.1


def test_a_network_that_is_surely_wrong_is_outvoted():
    listener = Listener()
    for n in range(2000):
        wrong = np.full(V, 1e-6)
        wrong[1 + (n + 2) % 5] = 1 - 5e-6
        listener.hear(1 + n % 5, wrong)

    assert np.isfinite(listener.bits).all()
    assert np.mean(listener.bits[-300:]) < 0.5


def test_chosen_sets_are_those_of_find_last_symbol_and_luck():
    chosen = np.zeros(4, np.int64)
    for lately, level in ((-0.5, 0), (-2.0, 1), (-5.0, 2)):
        mixing.choose(np.array([3, 5, 2]), 77, lately, chosen)
        assert [17, 77, level, 17] == chosen.tolist()
