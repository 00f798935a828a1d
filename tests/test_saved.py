"""A pipeline that was saved and restored answers as if nothing had been, bit for bit."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
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
from streamrnn.kernels.ngram import BUCKETS_MIN
from streamrnn.learn.descent import GOOD_EVERY, Trail
from streamrnn.learn.learner import Learner
from streamrnn.learn.member import Member
from streamrnn.learn.network import Network
from streamrnn.learn.realtime import RealTimeLearner
from streamrnn.learn.saved import Arrays, restore, restore_all, save, save_all
from streamrnn.learn.window import Window
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
    "cramped": f"{NUMERIC}, model: {{hidden: 4}}, learn: {{{SMALL}}}, limits: {{keys: 9000, memory_mb: 16}}",
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


def assert_same(expected: Arrays, actual: Arrays) -> None:
    assert list(expected) == list(actual)
    for name, array in expected.items():
        assert array.dtype == actual[name].dtype, name
        assert array.shape == actual[name].shape, name
        assert array.tobytes() == actual[name].tobytes(), name


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
    assert_same(undisturbed.save(), original.save())
    assert_same(undisturbed.save(), again.save())
    for pipeline in (original, undisturbed, again, twice):
        pipeline.close()


@pytest.mark.parametrize(("setup", "at"), [("long", 500), ("cramped", 500), ("text", 900)])
def test_what_has_grown_is_restored_as_long_as_it_was(setup: str, at: int) -> None:
    rows = messages(setup, at + 100)
    original = fresh(setup)
    answers(original, rows[:at])
    again = restored(setup, original.save())
    model = again.model
    if setup == "long":
        assert len(model.members[0].learner.window.xs) > Window.FIRST
    elif setup == "text":
        assert len(model.mixture.ngram.table) > BUCKETS_MIN
        assert len(model.symbols) > 20
    else:
        longest = max(again.streams.values(), key=lambda stream: stream.count)
        assert longest.count > 2 * model.history
        assert longest.parts[0].detector.rings.shape[1] == model.history
    assert answers(original, rows[at:]) == answers(again, rows[at:])
    original.close()
    again.close()


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
    assert_same(arrays, pipeline.save())
    original.close()
    pipeline.close()


def test_a_copy_does_not_follow_what_comes_later() -> None:
    pipeline = fresh("gru")
    rows = messages("gru", 120)
    answers(pipeline, rows[:60])
    arrays = pipeline.save()
    before = {name: array.copy() for name, array in arrays.items()}
    answers(pipeline, rows[60:])
    assert_same(before, arrays)
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


DETECTOR, WINDOW = "streams.parts.0.detector.", "model.members.0.learner.window."


@pytest.mark.parametrize(
    ("setup", "changes"),
    [
        ("gru", {f"{DETECTOR}ordered": lambda array: array[:, :, :-1]}),
        ("gru", {f"{DETECTOR}{name}": lambda array: array[:, :, :0] for name in ("rings", "ordered")}),
        ("gru", {f"{DETECTOR}ordered": lambda array: array + 1}),
        ("gru", {f"{DETECTOR}shown": lambda array: array - 1000}),
        ("gru", {"model.history": lambda array: array * 0}),
        ("gru", {f"{WINDOW}links": lambda array: array[:-1]}),
        ("gru", {f"{WINDOW}seen": lambda array: array[:-1]}),
        ("gru", {f"{WINDOW}{name}": lambda array: array[:0] for name in ("xs", "seen", "links")}),
        ("gru", {f"{WINDOW}states": lambda array: array[:0]}),
        ("text", {"model.mixture.ngram.table": lambda array: array[:0]}),
        ("text", {"model.mixture.ngram.table": lambda array: np.repeat(array, 512, axis=0)}),
        ("text", {"model.mixture.ngram.table": lambda array: np.concatenate([array, array[:1]])}),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(
    setup: str, changes: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]]
) -> None:
    pipeline = fresh(setup)
    answers(pipeline, messages(setup, 60))
    arrays = pipeline.save()
    pipeline.close()
    changed = {name: change(arrays[name]) for name, change in changes.items()}
    parts = {name.rpartition(".")[0] for name in changes}
    with pytest.raises(StateError, match=rf"^({'|'.join(parts)})\.\w+: expected"):
        restored(setup, arrays | changed)


def test_counts_of_symbols_may_be_saved_and_restored_while_they_double() -> None:
    rows = messages("text", 900)
    original = fresh("text")
    at, table = 0, original.model.mixture.ngram.table
    while len(table).bit_count() == 1:
        answers(original, rows[at : at + 1])
        at, table = at + 1, original.model.mixture.ngram.table
    assert at < 850
    again = restored("text", original.save())
    assert len(again.model.mixture.ngram.table) == len(table)
    assert answers(original, rows[at:]) == answers(again, rows[at:])
    assert_same(original.save(), again.save())
    original.close()
    again.close()


def test_counts_of_symbols_get_more_room_at_the_event_at_which_they_would_have() -> None:
    rows = messages("text", 900)
    original = fresh("text")
    answers(original, rows[:450])
    again = restored("text", original.save())
    assert len(again.model.mixture.ngram.table) == BUCKETS_MIN
    assert answers(original, rows[450:]) == answers(again, rows[450:])
    assert len(again.model.mixture.ngram.table) > BUCKETS_MIN
    assert_same(original.save(), again.save())
    original.close()
    again.close()


def test_the_silence_after_an_alert_holds_across_a_restart() -> None:
    rng = random.Random(2)
    values = [[math.sin(i / 9) + rng.gauss(0, 0.1), rng.gauss(3, 0.5)] for i in range(330)]
    for i in (300, 304, 308):
        values[i] = [90.0 + i, -400.0 - i]
    rows = [
        Message("plant/a", f'{{"ts": {1.7e9 + 60 * i}, "a": {a}, "b": {b}}}'.encode())
        for i, (a, b) in enumerate(values)
    ]
    original = fresh("fixed")
    assert b'"anomaly":true' in answers(original, rows[:301])[-1]
    again = restored("fixed", original.save())
    later = answers(original, rows[301:])
    assert not any(b'"anomaly":true' in output for output in later)
    assert later == answers(again, rows[301:])


def test_what_grows_does_so_in_one_dimension_only() -> None:
    pipeline = fresh("gru")
    answers(pipeline, messages("gru", 200))
    arrays = pipeline.save()
    pipeline.close()
    name = "model.members.0.learner.window.xs"
    with pytest.raises(StateError, match=name.replace(".", r"\.")):
        restored("gru", arrays | {name: np.concatenate([arrays[name]] * 2, axis=1)})


class Guarded:
    """A network that learns, shown noise and, at times, what its guards are there for."""

    def __init__(self, cell: str, every: int, rate: float) -> None:
        self.network = Network(cell, inputs=2, hidden=2, outputs=1, head="laplace")
        self.learner: Learner | RealTimeLearner
        if cell == "lru":
            self.learner = RealTimeLearner(self.network, fields=1, every=every, rate=rate)
        else:
            window = Window(64, 2, 1, self.network.blank_state(), (1,))
            self.learner = Learner(self.network, window, every, windows=1, length=2, rate=rate)
        self.member = Member(self.network, self.learner)
        self.trail: Trail = self.learner.open_trail()
        self.state = self.network.blank_state()

    def show(self, events: list[tuple[list[float], float]]) -> list[bytes]:
        y, thetas = np.zeros(self.network.width, np.float32), []
        for x, value in events:
            self.learner.before_step()
            given = np.array(x, np.float32)
            self.learner.observe(self.trail, given, np.array([value]), self.state)
            self.network.advance(self.state, given, y)
            self.learner.after_step()
            thetas.append(self.network.theta.tobytes())
        return thetas

    def counts(self) -> tuple[int | float, ...]:
        learner = self.learner
        return learner.updates, learner.dropped, learner.rollbacks, learner.steps, learner.rate

    def again(self) -> Guarded:
        cell = "lru" if isinstance(self.learner, RealTimeLearner) else "gru"
        other = Guarded(cell, self.learner.every, self.learner._full_rate)
        for name in ("member", "trail"):
            restore(getattr(other, name), save(getattr(self, name)))
        other.state[:] = self.state
        return other


def troubles(count: int, *wild: tuple[int, int, float]) -> list[tuple[list[float], float]]:
    """Noise; wild (start, events, value) are targets in its place."""
    rng = random.Random(5)
    events = [([rng.gauss(0, 1), rng.gauss(0, 1)], rng.gauss(0, 0.3)) for _ in range(count)]
    for start, times, value in wild:
        events[start : start + times] = [(x, value) for x, _ in events[start : start + times]]
    return events


@pytest.mark.parametrize("cell", ["gru", "lru"])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("shift", range(-1, 7))
def test_the_guards_of_learning_go_on_where_they_were(cell: str, every: int, shift: int) -> None:
    start = every * (GOOD_EVERY + 40)  # by now jumps are told
    bad, worse = start + 40, start + 80
    events = troubles(
        start + every * (GOOD_EVERY + 200),  # until a halved rate has come back
        (start, 5 * every, 1e6),
        (bad, 2 * every, math.inf),
        (worse, 4 * every, math.inf),
    )
    undisturbed, saved = Guarded(cell, every, 0.01), Guarded(cell, every, 0.01)
    expected = undisturbed.show(events)
    assert undisturbed.learner.rollbacks >= 1
    assert undisturbed.learner.dropped >= 8
    got, last = [], 0
    for stop in (start - 20, start + shift, bad + shift, worse + shift, worse + 60, len(events)):
        got += saved.show(events[last:stop])
        last, former = stop, saved
        saved = former.again()
        former.learner.close()
    saved.learner.before_step()
    undisturbed.learner.before_step()
    undisturbed.learner.close()
    saved.learner.close()
    assert expected == got
    assert undisturbed.counts() == saved.counts()


def test_another_rate_of_learning_holds_at_once_after_a_restart() -> None:
    former, other = Guarded("gru", 1, 0.01), Guarded("gru", 1, 0.002)
    former.learner._halvings = 3
    restore(other.member, save(former.member))
    assert other.learner.rate == 0.002 / 8
    former.learner.close()


# Of every class with a state: what of its attributes is none.
SCRATCH = {
    "Alarm": set(),
    "Blend": set(),
    "Calibrator": {"horizons", "alpha", "made", "residual", "log_scale", "error", "tally"},
    "Detector": {"loudness"},
    "Learner": {"network", "every", "decay", "waits", "failed", "length", "scratch_bytes", "_full_rate", "_grad",
                "_batch", "_scratch", "_job", "_thread", "durations"},
    "Member": {"y"},
    "Mixture": {"_shares", "_orders"},
    "NGram": {"rooms", "_hashes"},
    "Network": {"shape", "state", "_x", "_gates"},
    "NumericModel": {"name", "fields", "horizons", "interval", "memory", "counts", "learners", "warmup",
                     "_horizons", "_form", "_alpha", "_states", "anomalies"},
    "NumericStream": {"key", "calibrator", "answer", "_movable", "_table", "_arrays", "_moves"},
    "Part": set(),
    "Readout": {"gain", "ahead", "units"},
    "RealTimeLearner": {"network", "every", "decay", "waits", "failed", "horizons", "length", "scratch_bytes",
                        "_full_rate", "_recurrence", "_notes", "durations"},
    "Scaler": {"scaled", "base", "phi"},
    "SymbolModel": {"name", "learners", "counts", "_symbols", "alphabet", "warmup", "_x", "_shown", "_hidden",
                    "_aside", "bits", "judged"},
    "SymbolStream": {"key"},
    "Trail": set(),
    "Window": {"capacity", "stride", "states_max", "horizons", "rooms"},
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
    GROWS = {"row": 0}  # noqa: RUF012

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
            st.lists(st.floats(allow_nan=False), min_size=1, max_size=4),
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


def test_a_thread_that_the_system_refuses_is_an_update_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = fresh("gru")
    rows = messages("gru", 120)
    learner = pipeline.model.learners[0]
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", lambda _: (_ for _ in ()).throw(RuntimeError("no more threads")))
        answers(pipeline, rows[:40])
    failed = learner.failed
    assert failed >= 10
    assert learner.updates == 0
    answers(pipeline, rows[40:])
    assert learner.failed <= failed + 1  # the last that was refused, at its event
    assert learner.updates > 10
    pipeline.close()


def test_an_update_that_failed_is_saved_as_one_that_was_held_back(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = fresh("gru")
    rows = messages("gru", 80)
    learner = pipeline.model.learners[0]
    learner._descend = lambda _: (_ for _ in ()).throw(MemoryError("no room"))
    last = next(i for i, row in enumerate(rows) if (answers(pipeline, [row]), learner._job)[1]) + 1
    arrays = pipeline.save()
    assert caplog.text.count("an update of the weights failed") == 1
    del learner._descend
    again = restored("gru", arrays)
    assert answers(pipeline, rows[last:]) == answers(again, rows[last:])
    assert (learner.failed, again.model.learners[0].failed) == (1, 0)
    assert learner.updates == again.model.learners[0].updates > 0
    pipeline.close()
    again.close()
