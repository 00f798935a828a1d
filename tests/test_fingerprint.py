"""What of a configuration may change without the saved state losing its meaning."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from test_saved import answers, messages

from streamrnn import config
from streamrnn import fingerprint as module
from streamrnn.budget import budget
from streamrnn.build import build_pipeline
from streamrnn.events import Message
from streamrnn.fingerprint import fingerprint
from streamrnn.settings.specs import Pipeline as PipelineSpec

Tree = dict[str, Any]

NUMERIC: Tree = {
    "input": {"topic": "plant/+", "fields": ["a", "b"]},
    "model": {"hidden": 5},
    "learn": {"every": 2, "windows": 2, "length": 4, "history": 64},
    "limits": {"keys": 4},
}
SYMBOLS: Tree = NUMERIC | {"input": {"topic": "plant/+", "symbol": "key"}}
BASES = {"numeric": NUMERIC, "symbols": SYMBOLS}

# Of each key of a pipeline: values that give the saved state another meaning, and such that do not.
OTHER: dict[str, list[Any]] = {
    "input.fields": [["b", "a"], ["a"], ["a", "b", "c"], ["a", "c"]],
    "input.symbol": ["letter", "key.name"],
    "input.payload": ["text"],
    "model.cell": ["rnn_tanh", "rnn_relu", "lstm", "lru"],
    "model.hidden": [4, 6],
    "model.layers": [2],
    "model.ensemble": [2],
    "forecast.horizons": [[1], [1, 4, 16, 65], [1, 4, 16]],
    "learn.enabled": [False],
    "learn.history": [63, 65],
}
SAME: dict[str, list[Any]] = {
    "input.topic": [["plant/+", "hall/+"], "plant/#", "$share/group/plant/+"],
    "input.qos": [0],
    "input.key": ["{1}", "one"],
    "input.payload": ["cbor"],
    "input.time": ["ts"],
    "forecast.interval": [0.5, 0.999],
    "learn.every": [1, 7, 100],
    "learn.windows": [1, 5],
    "learn.length": [2, 9, 32],
    "learn.rate": [1.0, 1e-6],
    "learn.decay": [0.5],
    "limits.keys": [1, 3, 1000],
    "limits.parked": [0, 5],
    "limits.payload_bytes": [20, 1_000_000],
    "limits.queue": [1],
    "limits.memory_mb": [128, 1000],
    "output.topic": [None, "other/{key}"],
    "output.qos": [0],
    "output.retain": [True],
}
NUMERIC_ONLY = {"input.fields", "model.ensemble", "forecast.horizons", "forecast.interval"}
SYMBOLS_ONLY = {"input.symbol"}


def edited(tree: Tree, path: str, value: Any) -> Tree:
    section, key = path.split(".")
    edit = tree | {section: tree.get(section, {}) | {key: value}}
    if value == "text":
        edit["input"] = {"topic": "plant/+", "payload": "text"}
    return edit


def spec_of(tree: Tree) -> PipelineSpec:
    return config.loads(msgspec.json.encode({"pipelines": {"p": tree}}).decode()).pipelines["p"]


def of(tree: Tree, name: str = "p", seed: int = 0) -> str:
    return fingerprint(name, spec_of(tree), seed)


def edits(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(base, path, value, id=f"{base}-{path}-{value}")
        for base in BASES
        for path, values in table.items()
        for value in values
        if path not in (NUMERIC_ONLY if base == "symbols" else SYMBOLS_ONLY) and (base, value) != ("symbols", "lru")
    ]


def test_of_every_key_it_is_said_whether_it_matters():
    tree = msgspec.to_builtins(spec_of(NUMERIC))
    assert set(OTHER) | set(SAME) == {f"{section}.{key}" for section, keys in tree.items() for key in keys}


def test_it_is_a_digest_and_the_same_each_time():
    assert of(NUMERIC) == of(NUMERIC)
    assert len(of(NUMERIC)) == 64
    assert set(of(NUMERIC)) <= set("0123456789abcdef")


@pytest.mark.parametrize(("base", "path", "value"), edits(OTHER))
def test_what_gives_the_state_another_meaning_changes_it(base, path, value):
    assert of(BASES[base]) != of(edited(BASES[base], path, value))


def test_whether_an_lru_learns_matters_though_it_has_no_window():
    lru = edited(NUMERIC, "model.cell", "lru")
    assert of(lru) != of(edited(lru, "learn.enabled", False))


def test_name_seed_and_format_are_in_it(monkeypatch):
    found = {of(NUMERIC), of(NUMERIC, name="q"), of(NUMERIC, seed=1), of(SYMBOLS)}
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert 5 == len(found | {of(NUMERIC)})


@pytest.mark.parametrize("base", BASES)
def test_memory_matters_where_it_shortens_what_is_kept(base):
    long = edited(BASES[base], "learn.history", 10_000_000)
    small, large = (of(edited(long, "limits.memory_mb", size)) for size in (16, 32))
    assert small != large


def test_room_for_counts_matters_for_symbols():
    fitting = edited(SYMBOLS, "limits.memory_mb", 16)
    assert budget(spec_of(fitting)).window == budget(spec_of(SYMBOLS)).window
    assert of(fitting) != of(SYMBOLS)


@pytest.mark.parametrize("edit", [("learn.history", 9), ("learn.length", 9)])
def test_a_history_that_nothing_uses_does_not_matter(edit):
    for more in [("learn.enabled", False), ("model.cell", "lru")]:
        base = edited(NUMERIC, *more)
        assert of(base) == of(edited(base, *edit))


@pytest.mark.parametrize(("base", "path", "value"), edits(SAME))
def test_with_the_same_fingerprint_a_saved_state_is_gone_on_from(base, path, value):
    first, then = spec_of(BASES[base]), spec_of(edited(BASES[base], path, value))
    assert first != then
    assert fingerprint("p", first, 0) == fingerprint("p", then, 0)
    before, after = build_pipeline("p", first, 0), build_pipeline("p", then, 0)
    rows = messages(base, 400)
    answers(before, rows[:200])
    after.restore(before.save())
    assert list(before.streams)[-then.limits.keys :] == list(after.streams)
    answers(after, rows[200:])
    assert len(after.streams) <= then.limits.keys
    before.close()
    after.close()


def test_histories_that_are_too_long_for_lowered_memory_are_shortened_at_once():
    fields = [f"f{number}" for number in range(64)]
    wide = NUMERIC | {"input": {"topic": "plant/+", "fields": fields}, "forecast": {"horizons": [1]}}
    wide = edited(wide, "learn.every", 1000)
    tight = edited(wide, "limits.memory_mb", 16)
    before, after = (build_pipeline("p", spec_of(tree), 0) for tree in (wide, tight))
    assert fingerprint("p", spec_of(wide), 0) == fingerprint("p", spec_of(tight), 0)
    for count in range(4 * 300):
        values = {field: (count * 31 + number) % 101 for number, field in enumerate(fields)}
        before.process(Message(f"plant/{count % 4}", values, arrival=count))
    after.restore(before.save())
    assert histories(before) > budget(spec_of(tight)).ranks
    assert histories(after) <= budget(spec_of(tight)).ranks
    before.close()
    after.close()


def histories(pipeline: Any) -> int:
    detectors = [part.detector for stream in pipeline.streams.values() for part in stream.parts]
    return sum(each.rings.nbytes + each.ordered.nbytes for each in detectors)


# Whoever sees this fail has changed what parts save: raise `fingerprint.FORMAT`, and put the new digest here.
LAYOUT = (3, "04fc49cd8a9f8722")
MODELS = [{"cell": "gru"}, {"cell": "lstm", "layers": 2}, {"cell": "gru", "ensemble": 2}, {"cell": "lru"}]


def test_what_is_saved_in_another_layout_has_another_format():
    lines = []
    for base, setup, models in ("numeric", "numeric", MODELS), ("symbols", "symbols", MODELS[:2]):
        for model in models:
            tree = BASES[base] | {"model": {"hidden": 5} | model}
            pipeline = build_pipeline("p", spec_of(tree), 0)
            for each in messages(setup, 20):
                pipeline.process_all(each)
            lines += [f"{name} {array.dtype} {array.shape}" for name, array in sorted(pipeline.save().items())]
            pipeline.close()
    assert LAYOUT == (module.FORMAT, hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16])
