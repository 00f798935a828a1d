"""Symbols in, surprise and what comes next out."""

import math
from itertools import pairwise

import numpy as np
import pytest

from streamrnn.events import Event
from streamrnn.learn.learner import Learner
from streamrnn.learn.symbols import ALPHABET, SymbolModel


class Driver:
    """A model with its streams, shown symbols in order."""

    def __init__(self, cell="gru", hidden=16, learn=True, seed=0, every=4, rate=0.01):
        network = SymbolModel.network_for(cell, hidden, 1, seed)
        learner = None
        if learn:
            window = SymbolModel.window_for(1000, network, seed)
            learner = Learner(network, window, every, windows=3, length=16, rate=rate, decay=0.02)
        self.model = SymbolModel("keys", network, learner)
        self.streams = {}

    def show(self, symbol, key="k", learn=True):
        if key not in self.streams:
            self.streams[key] = self.model.open_stream(key)
            self.model.share(self.streams.values())
        event = Event(key, 5.0, symbol=symbol)
        return self.model.process_one(self.streams[key], event, learn)

    def show_all(self, symbols, **settings):
        outputs = [self.show(symbol, **settings) for symbol in symbols]
        self.model.close()
        return outputs

    def memory(self):
        """Every array that later outputs depend on."""
        arrays = {"theta": self.model.network.theta}
        for key, stream in self.streams.items():
            arrays |= {f"{key}.state": stream.state, f"{key}.next": stream.next}
            arrays[f"{key}.places"] = np.array([stream.count, stream.trail.last_step if stream.trail else -1])
        if self.model.mixture:
            mixture, counts = self.model.mixture, self.model.mixture.ngram
            arrays |= {name: getattr(counts, name) for name in ("table", "unigrams", "bigrams", "used")}
            arrays |= {name: getattr(mixture, name) for name in ("weights", "votes", "reliance", "readout")}
            arrays["mixed"] = np.array([mixture.count])
            for key, stream in self.streams.items():
                names = ("context", "voices", "drafts", "chosen", "followers", "found", "p")
                arrays |= {f"{key}.{name}": getattr(stream.blend, name) for name in names}
                arrays[f"{key}.lately"] = np.array([stream.blend.lately])
        learner = self.model.learner
        if learner:
            if learner._job is not None:
                learner._job.exception()  # waits for the update under way
            window = learner.window
            arrays |= {name: getattr(learner, name) for name in ("shadow", "mean", "square", "good")}
            arrays |= {name: getattr(window, name) for name in ("xs", "seen", "states", "links", "random")}
            arrays["counts"] = np.array(
                [window.count, learner.updates, learner.steps, learner._events, learner.classes]
            )
        arrays["alphabet"] = np.array([len(self.model.alphabet), len(self.model.symbols)])
        return {name: array.copy() for name, array in arrays.items()}


def text(count, seed=0, letters="abcdefgh "):
    return "".join(np.random.default_rng(seed).choice(list(letters), count))


def many(count):
    return [f"symbol {n}" for n in range(count)]


def as_seen(output, *but):
    return {name: getattr(output, name) for name in output.__struct_fields__ if name not in but}


def test_the_first_symbol_is_one_of_256_equally_likely_ones():
    assert 8.0 == Driver().show("a").bits


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
def test_what_repeats_is_no_surprise_in_the_end(cell):
    outputs = Driver(cell=cell).show_all("abc" * 500)

    assert max(output.bits for output in outputs[-30:]) < 0.2
    assert [output.next[0][0] for output in outputs[-30:]] == list("bca" * 10)


def test_bits_are_those_of_the_probability_published_before():
    outputs = Driver().show_all(text(600))

    told = 0
    for before, after in pairwise(outputs):
        if after.symbol in dict(before.next):
            told += 1
            assert after.bits == pytest.approx(-math.log2(dict(before.next)[after.symbol]), rel=1e-6)
    assert told > 200


def test_learning_costs_less_than_not_learning():
    symbols = [s for n in range(600) for s in ("ab" if n % 3 else "cd")]
    learned, fixed = Driver().show_all(symbols), Driver(learn=False).show_all(symbols)

    assert sum(o.bits for o in learned[600:]) < 0.7 * sum(o.bits for o in fixed[600:])


@pytest.mark.parametrize("symbols", [text(300), many(300), "a" * 100])
def test_what_comes_next_is_up_to_five_symbols_in_falling_order(symbols):
    seen = set()
    for output in Driver().show_all(symbols):
        seen.add(output.symbol)
        probabilities = [p for _, p in output.next]
        assert min(5, len(seen), ALPHABET) == len(output.next)
        assert sorted(probabilities, reverse=True) == probabilities
        assert all(0.0 < p <= 1.0 for p in probabilities)
        assert len({symbol for symbol, _ in output.next}) == len(output.next)
        assert {symbol for symbol, _ in output.next} <= seen


def test_probabilities_and_the_escape_sum_to_one():
    driver = Driver()
    for symbol in text(200) + "xyz" + text(100):
        output = driver.show(symbol)

        probabilities = driver.streams["k"].next
        assert len(driver.model.alphabet) + 1 == probabilities.size
        assert 1.0 == pytest.approx(probabilities.sum(), rel=1e-6)
        assert sum(p for _, p in output.next) + probabilities[0] <= 1.0 + 1e-6
    driver.model.close()


def test_more_symbols_than_the_alphabet_holds_share_the_escape():
    driver = Driver()
    outputs = driver.show_all(many(300) + many(300))

    assert ALPHABET == len(driver.model.alphabet)
    assert len(driver.model.symbols) == ALPHABET + 1
    assert all(math.isfinite(output.bits) and output.bits > 0.0 for output in outputs)
    assert all(math.isfinite(p) for output in outputs for _, p in output.next)
    known = set(driver.model.alphabet)
    assert {symbol for output in outputs for symbol, _ in output.next} <= known
    assert np.isfinite(driver.model.network.theta).all()
    assert np.isfinite(driver.streams["k"].state).all()


def test_a_new_symbol_costs_the_escape_and_its_choice_among_those_unseen():
    driver = Driver()
    driver.show_all("ab" * 40)
    escape = float(driver.streams["k"].next[0])

    output = driver.show("z")
    driver.model.close()

    assert output.bits == pytest.approx(math.log2(254) - math.log2(escape), rel=1e-6)


def test_bits_are_those_of_a_distribution_over_all_symbols():
    """Probabilities of the seen ones and of all unseen ones together make one, so the bits are a code."""
    driver = Driver()
    driver.show_all("hello, world")
    stream, model = driver.streams["k"], driver.model

    unseen = ALPHABET - len(model.alphabet)
    seen = sum(2.0 ** -model._bits(stream.next, symbol) for symbol in model.alphabet)
    assert 1.0 == pytest.approx(seen + unseen * 2.0 ** -model._bits(stream.next, "?"), rel=1e-6)


def test_the_escape_becomes_likely_when_every_symbol_is_new():
    driver = Driver()
    driver.show_all(many(200))

    assert driver.streams["k"].next[0] > 0.5


def test_the_escape_becomes_unlikely_when_nothing_new_comes():
    driver = Driver()
    driver.show_all("ab" * 300)

    assert driver.streams["k"].next[0] < 0.02


def test_two_runs_are_the_same_to_the_last_bit():
    symbols = text(400) + "xyz" + text(100, seed=1)
    first, second = Driver(), Driver()

    assert first.show_all(symbols) == second.show_all(symbols)
    for name, array in first.memory().items():
        np.testing.assert_array_equal(array, second.memory()[name], err_msg=name)


@pytest.mark.parametrize("seen", [1, 20, 300])
def test_an_event_not_learned_from_changes_nothing_but_seq(seen):
    driver = Driver()
    for symbol in text(seen):
        driver.show(symbol)
    before = driver.memory()

    outputs = [driver.show(symbol, learn=False) for symbol in ("a", "never seen", "a")]

    assert [seen, seen + 1, seen + 2] == [output.seq for output in outputs]
    after = driver.memory()
    driver.model.close()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


@pytest.mark.parametrize("place", [0, 1, 100])
def test_outputs_are_those_of_a_run_without_the_events_not_learned_from(place):
    symbols = text(200)
    disturbed, outputs = Driver(), []
    for n, symbol in enumerate(symbols):
        if n == place:
            for stray in ("a", "never seen", "b"):
                disturbed.show(stray, learn=False)
        outputs.append(disturbed.show(symbol))
    disturbed.model.close()

    for output, expected in zip(outputs, Driver().show_all(symbols), strict=True):
        assert as_seen(expected, "seq", "warmup") == as_seen(output, "seq", "warmup")


def test_an_event_not_learned_from_leaves_the_state_even_when_the_outputs_are_not_finite():
    driver = Driver(learn=False)
    driver.show_all("abc")
    driver.model.network.parameters["readout.bias"][0] = np.nan
    state = driver.streams["k"].state.copy()

    driver.show("a", learn=False)

    np.testing.assert_array_equal(driver.streams["k"].state, state)


def test_a_state_that_is_not_finite_begins_anew():
    driver = Driver()
    driver.show_all(text(100))
    driver.streams["k"].state[:] = np.nan

    outputs = driver.show_all(text(100))

    assert all(math.isfinite(output.bits) for output in outputs)
    assert driver.model.counts["state_resets"] >= 1
    assert np.isfinite(driver.streams["k"].state).all()
    assert np.isfinite(driver.model.network.theta).all()


def test_keys_share_weights_and_alphabet_but_no_state():
    driver, alone = Driver(learn=False), Driver(learn=False)
    for symbol in "abcdefgh ":
        driver.show(symbol, key="first")
        alone.show(symbol, key="first")

    mixed = []
    for symbol, other in zip(text(100), text(100, seed=5), strict=True):
        mixed.append(driver.show(symbol, key="first"))
        driver.show(other, key="second")

    assert alone.show_all(text(100), key="first") == mixed


def test_a_symbol_another_key_brought_in_is_new_to_a_key_that_was_not_told():
    driver = Driver()
    driver.show("a", key="first")
    driver.show("z", key="second")

    output = driver.show("z", key="first")
    driver.model.close()

    # The forecast of the first key was made when the alphabet was "a": z was one of the 255 others.
    assert output.bits == pytest.approx(math.log2(255) + 1.0, rel=0.2)
    assert math.isfinite(output.bits)


def test_outputs_count_events_and_updates():
    outputs = Driver().show_all("ab" * 20)

    assert list(range(40)) == [output.seq for output in outputs]
    assert [True] * 16 + [False] * 24 == [output.warmup for output in outputs]
    # Updates are begun after events 20, 24, ... and taken over four events later.
    assert [max(0, n // 4 - 5) for n in range(1, 41)] == [output.updates for output in outputs]
    assert {("keys", "k", 5.0)} == {(output.pipeline, output.key, output.time) for output in outputs}


def test_without_a_learner_nothing_learns():
    driver = Driver(learn=False)
    outputs = driver.show_all("ab" * 200)

    assert driver.model.mixture is None
    assert driver.streams["k"].blend is None
    assert outputs[-1].bits > 1.0  # a, b, or the escape, all as likely as ever


def test_long_repetitions_are_foretold_where_the_network_has_not_learned_them():
    outputs = Driver(rate=1e-9).show_all(text(300) * 4)

    assert sum(output.bits for output in outputs[900:]) < 0.5 * sum(output.bits for output in outputs[:300])
