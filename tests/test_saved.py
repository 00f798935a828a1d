"""A pipeline that was saved and restored answers as if nothing had been, bit for bit."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.errors import StateError
from streamrnn.events import Message
from streamrnn.learn.learner import Learner
from streamrnn.learn.saved import Arrays, restore, restore_all, save, save_all
from streamrnn.pipeline import Pipeline

SMALL = "every: 2, windows: 2, length: 4, history: 64"
NUMERIC = "input: {topic: plant/+, fields: [a, b], time: ts}, forecast: {horizons: [1, 3, 8]}"
SYMBOLS = "input: {topic: plant/+, symbol: key}, model: {hidden: 6}"
SETUPS = {
    **{
        cell: f"{NUMERIC}, model: {{cell: {cell}, hidden: 5}}, learn: {{{SMALL}}}, limits: {{keys: 3}}"
        for cell in ("rnn_tanh", "rnn_relu", "gru", "lstm")
    },
    "lru": f"{NUMERIC}, model: {{cell: lru, hidden: 5}}, learn: {{every: 3}}, limits: {{keys: 3}}",
    "layers": f"{NUMERIC}, model: {{cell: lstm, hidden: 4, layers: 2}}, learn: {{{SMALL}}}",
    "ensemble": f"{NUMERIC}, model: {{hidden: 4, ensemble: 2}}, learn: {{{SMALL}}}, limits: {{keys: 3}}",
    "fixed": f"{NUMERIC}, model: {{hidden: 4}}, learn: {{enabled: false}}",
    "long": f"{NUMERIC}, model: {{hidden: 4}}, learn: {{every: 4, windows: 4, length: 32, history: 8192}}",
    "symbols": f"{SYMBOLS}, learn: {{{SMALL}}}, limits: {{keys: 3}}",
    "text": f"input: {{topic: plant/+, payload: text}}, model: {{hidden: 6}}, learn: {{{SMALL}}}",
    "fixed symbols": f"{SYMBOLS}, learn: {{enabled: false}}",
}


def fresh(setup: str) -> Pipeline[Any]:
    loaded = config.loads(f"pipelines: {{p: {{{SETUPS[setup]}}}}}")
    return build_pipeline("p", loaded.pipelines["p"], loaded.seed)


def messages(setup: str, count: int, seed: int = 0) -> list[Message]:
    """Events of five keys: waves with gaps, or words that need ever more letters; some retained, some broken."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        letter = chr(97 + min(int(rng.expovariate(0.3)), 25 + i // 40))
        if setup == "text":
            payload = f"{letter}{'tion'[: i % 5]}"
        elif "symbols" in setup:
            payload = f'{{"key": "{letter}"}}'
        else:
            first = "null" if i % 17 == 5 else f"{math.sin(i / 9) + rng.gauss(0, 0.1):.6f}"
            payload = f'{{"ts": {1.7e9 + 60 * i}, "a": {first}, "b": {rng.gauss(3, 2):.6f}}}'
        if i % 29 == 7:
            payload = "{"
        key = "abcde"[min(int(rng.expovariate(0.8)), 4)]
        found.append(Message(f"plant/{key}", payload.encode(), retain=i % 23 == 4, arrival=1.7e9 + i))
    return found


def answers(pipeline: Pipeline[Any], rows: list[Message]) -> list[bytes]:
    return [encode(output) for row in rows for output in pipeline.process_all(row)]


def restored(setup: str, arrays: Arrays) -> Pipeline[Any]:
    pipeline = fresh(setup)
    pipeline.restore(arrays)
    return pipeline


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("at", [0, 1, 6, 73, 180])
def test_a_restored_pipeline_answers_as_one_that_went_on(setup: str, at: int) -> None:
    rows = messages(setup, at + 220)
    original, undisturbed = fresh(setup), fresh(setup)
    answers(original, rows[:at])
    arrays = original.save()
    again = restored(setup, arrays)
    expected = answers(undisturbed, rows)
    later = len(expected) - len(answers(again, rows[at:]))
    twice = restored(setup, arrays)
    assert expected[later:] == answers(twice, rows[at:])
    assert expected[later:] == answers(original, rows[at:])  # saving had disturbed nothing
    for pipeline in (original, undisturbed, again, twice):
        pipeline.close()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(SETUPS)), st.integers(0, 2**32), st.lists(st.integers(0, 120), min_size=1, max_size=5)
)
def test_it_may_be_saved_and_restored_at_any_event_again_and_again(setup: str, seed: int, stops: list[int]) -> None:
    rows = messages(setup, 160, seed)
    straight, often = fresh(setup), fresh(setup)
    expected, got, last = answers(straight, rows), [], 0
    for stop in sorted(stops):
        got += answers(often, rows[last:stop])
        arrays = often.save()
        often.close()
        often, last = restored(setup, arrays), stop
    got += answers(often, rows[last:])
    assert expected == got
    straight.close()
    often.close()


@pytest.mark.parametrize("setup", SETUPS)
def test_what_is_saved_of_a_restored_pipeline_is_the_same(setup: str) -> None:
    original = fresh(setup)
    answers(original, messages(setup, 90))
    arrays = original.save()
    pipeline = restored(setup, arrays)
    again = pipeline.save()
    assert list(arrays) == list(again)
    for name, array in arrays.items():
        assert array.dtype == again[name].dtype, name
        np.testing.assert_array_equal(array, again[name], err_msg=name)
    original.close()
    pipeline.close()


def test_a_copy_does_not_follow_what_comes_later() -> None:
    pipeline = fresh("gru")
    rows = messages("gru", 120)
    answers(pipeline, rows[:60])
    arrays = pipeline.save()
    before = {name: array.copy() for name, array in arrays.items()}
    answers(pipeline, rows[60:])
    for name, array in before.items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)
    pipeline.close()


@pytest.mark.parametrize("setup", ["gru", "ensemble", "text"])
def test_an_array_that_is_missing_or_of_another_form_is_refused_by_name(setup: str) -> None:
    pipeline = fresh(setup)
    answers(pipeline, messages(setup, 60))
    arrays = pipeline.save()
    pipeline.close()
    for name, array in arrays.items():
        others: list[Arrays] = [
            {key: value for key, value in arrays.items() if key != name},
            arrays | {name: array.astype(np.complex128)},
            arrays | {name: array[..., None]},
        ]
        for other in others:
            with pytest.raises(StateError, match=name.split(":")[0].replace(".", r"\.")):
                restored(setup, other)


# Of every class with a state: what of its attributes is none.
SCRATCH = {
    "Alarm": set(),
    "Blend": set(),
    "Calibrator": {"horizons", "alpha"},
    "Detector": set(),
    "Learner": {"network", "every", "decay", "failed", "good", "length", "scratch_bytes", "_full_rate", "_grad",
                "_batch", "_scratch", "_job", "_thread"} - {"good"},
    "Member": {"y"},
    "Mixture": {"_shares", "_orders"},
    "NGram": {"buckets_max", "_hashes"},
    "Network": {"shape", "state", "_x", "_gates"},
    "NumericModel": {"name", "fields", "horizons", "interval", "memory", "counts", "learners", "warmup"},
    "NumericStream": {"key", "calibrator"},
    "Part": set(),
    "Readout": {"_read"},
    "RealTimeLearner": {"network", "every", "decay", "failed", "horizons", "length", "scratch_bytes",
                        "_full_rate", "_recurrence", "_notes"},
    "Scaler": {"_phi"},
    "SymbolModel": {"name", "learners", "counts", "_symbols", "alphabet", "warmup", "_x", "_shown", "_hidden",
                    "_aside"},
    "SymbolStream": {"key"},
    "Trail": set(),
    "Window": {"capacity", "stride", "states_max", "horizons"},
}  # fmt: skip


def parts_of(part: Any) -> Iterator[Any]:
    yield part
    for name in part.SAVED:
        value = getattr(part, name)
        for each in value if isinstance(value, tuple | list) else (value,):
            if hasattr(each, "SAVED"):
                yield from parts_of(each)


def test_every_attribute_is_either_saved_or_known_to_be_none_of_the_state() -> None:
    met: set[str] = set()
    for setup in SETUPS:
        pipeline = fresh(setup)
        answers(pipeline, messages(setup, 30))
        for root in (pipeline.model, *pipeline.streams.values()):
            for part in parts_of(root):
                kind = type(part).__name__
                met.add(kind)
                unsaved = set(vars(part)) - set(part.SAVED)
                assert SCRATCH[kind] >= unsaved, f"{kind}: {unsaved - SCRATCH[kind]} neither saved nor known"
        pipeline.close()
    assert set(SCRATCH) == met


class Leaf:
    SAVED = ("number", "share", "row", "words", "rng")
    GROWS = frozenset({"row"})

    def __init__(self) -> None:
        self.number = 0
        self.share = 0.0
        self.row = np.zeros(1)
        self.words = [""]
        self.rng = np.zeros(1, np.uint64)


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False),
            st.lists(st.floats(allow_nan=False), max_size=4),
            st.lists(st.text(), min_size=1),
            st.integers(0, 2**64 - 1),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_number_and_text_comes_back_as_it_was(states: list[tuple[Any, ...]]) -> None:
    leaves = [Leaf() for _ in states]
    for leaf, (number, share, row, words, rng) in zip(leaves, states, strict=True):
        leaf.number, leaf.share, leaf.row, leaf.words = number, share, np.array(row, float), words
        leaf.rng[0] = rng
    together, alone = [Leaf() for _ in states], [Leaf() for _ in states]
    try:
        restore_all(together, save_all(leaves, "x."), "x.")
    except StateError:
        raise AssertionError from None
    for leaf, other in zip(leaves, alone, strict=True):
        restore(other, save(leaf))
    for leaf, *others in zip(leaves, together, alone, strict=True):
        for other in others:
            assert (leaf.number, leaf.share, leaf.words) == (other.number, other.share, other.words)
            assert leaf.row.tobytes() == other.row.tobytes()
            assert leaf.rng.tobytes() == other.rng.tobytes()


def test_an_update_that_fails_is_counted_and_learning_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = fresh("gru")
    rows = messages("gru", 200)
    answers(pipeline, rows[:60])
    learner = pipeline.model.learners[0]
    assert isinstance(learner, Learner)
    updates = learner.updates
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "_descend", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
        answers(pipeline, rows[60:100])
    failed = learner.failed
    assert failed >= 10
    assert learner.updates <= updates + 1  # one was under way
    assert f"{failed} failed_updates" in pipeline.status()
    assert caplog.text.count("an update of the weights failed") == failed
    answers(pipeline, rows[100:])
    assert learner.updates > updates + 10
    pipeline.close()
