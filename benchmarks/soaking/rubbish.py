"""Payloads that are none, and numbers and learning rates that ruin a network."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from soaking.rows import Options, Row, scaled
from streamrnn import config
from streamrnn.build import build_pipeline, build_pipelines
from streamrnn.codecs import encode
from streamrnn.events import Message

PAYLOADS = 1_000_000
CONFIG = """
pipelines:
  numbers:
    input: {topic: "json/#", fields: [temperature, vibration.rms], time: ts}
  symbols:
    input: {topic: "json/#", symbol: key}
  number:
    input: {topic: "number/#", payload: number}
  text:
    input: {topic: "text/#", payload: text}
  cbor:
    input: {topic: "cbor/#", payload: cbor, fields: [temperature]}
"""
WILD = """
pipelines:
  wild:
    input: {topic: wild/+, fields: [x, y]}
    learn: {every: 4, rate: 3000}
"""
SEEDS = (
    b'{"ts": "2026-01-01T00:00:00Z", "temperature": 21.5, "vibration": {"rms": 0.02}, "key": "a"}',
    b'{"ts": 1700000000000, "temperature": null, "vibration": {"rms": "0.5"}, "key": "KEY_ENTER"}',
    b'{"temperature": -1e-320, "vibration": [1, 2, {"rms": 3}], "key": ["a", 1]}',
    b"21.5", b"NaN", b"-Infinity", b"1e999", b"0x10", b"the quick brown fox", "Gr\u00fc\u00dfe \U0001f600".encode(),
    b"\xa2btsd2026ktemperature\xfb@5\x80\x00\x00\x00\x00\x00", b"\xbf\x9f\xff", b"[" * 400, b'{"a":' * 300, b"",
)  # fmt: skip
PIECES = (
    b"\0", b"\xff", b'"', b"{", b"}", b"[", b"]", b"1e308", b"-1e308", b"NaN", b"null", b"true", b"\\u0000",
    b"\\ud800", b"9" * 400, b"\xed\xa0\x80", b"\xfb\x7f\xf0\0\0\0\0\0\0", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
)  # fmt: skip
TURN_S = 0.005


def mutated(payload: bytes, rng: random.Random) -> bytes:
    """Return a payload with a few things wrong with it."""
    content = bytearray(payload)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(6):
            case 0 if content:
                content[at % len(content)] ^= 1 << rng.randrange(8)
            case 1:
                del content[at : at + rng.randrange(1, 9)]
            case 2:
                content[at:at] = rng.choice(PIECES)
            case 3:
                content[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                content += content[: rng.randrange(1, 200)]
            case _:
                del content[at:]
    return bytes(content[:70_000])


def payloads(options: Options) -> Row:
    """All of them through pipelines of every kind, as the service runs them: a few milliseconds, then the loop.

    On all processors, each with pipelines and a loop of its own.
    """
    samples = list(SEEDS)
    if options.payloads is not None:
        samples += [json.loads(line)["payload"].encode() for line in options.payloads.read_text().splitlines()]
    workers = os.cpu_count() or 1
    each = scaled(PAYLOADS, options) // workers
    with ProcessPoolExecutor(workers) as pool:
        shares = [pool.submit(_share, samples, each, options.seed + worker) for worker in range(workers)]
        caught, events, late, busy = zip(*(share.result() for share in shares), strict=True)
    seen = (
        f"{each * workers} payloads from {len(samples)}, {sum(events)} events in them, {sum(caught)} uncaught; "
        f"longest hold of a loop {max(late) * 1e3:.0f} ms, {max(busy) * 1e3:.0f} ms of it the processor's"
    )
    return Row(
        "mutated payloads",
        "0 uncaught, loop never blocked over 50 ms",
        seen,
        not sum(caught) and max(late) <= 0.05,
        options.seed,
    )


def _share(samples: list[bytes], count: int, seed: int) -> tuple[int, int, float, float]:
    logging.disable(logging.CRITICAL)
    return asyncio.run(_payloads(samples, count, random.Random(seed)))


async def _payloads(samples: list[bytes], count: int, rng: random.Random) -> tuple[int, int, float, float]:
    loaded = config.loads(CONFIG)
    pipelines = build_pipelines(loaded)
    kinds = ["json"] * 11 + ["number"] * 4 + ["cbor"] * 4 + ["text"]  # each character of a text is an event
    topics = [f"{kind}/{rest}" for kind in kinds for rest in ("a", "b/c", "\u00e9", "x" * 600)]
    caught, late, busy = 0, 0.0, 0.0
    warm = 5000
    for number in range(-warm, count):
        if number == 0:
            late = busy = 0.0
        message = Message(rng.choice(topics), mutated(rng.choice(samples), rng))
        began, worked = time.monotonic(), time.thread_time()
        for pipeline in pipelines.values():
            if pipeline.keys.key(message.topic) is None:
                continue
            try:
                for output in pipeline.answers(message):
                    encode(output)
                    if time.monotonic() - began >= TURN_S:
                        late, busy = max(late, time.monotonic() - began), max(busy, time.thread_time() - worked)
                        await asyncio.sleep(0)
                        began, worked = time.monotonic(), time.thread_time()
            except Exception as error:
                caught += 1
                print(f"uncaught: {error!r} of {message!r:.300}")
        late, busy = max(late, time.monotonic() - began), max(busy, time.thread_time() - worked)
    events = sum(pipeline.counts["events"] for pipeline in pipelines.values())
    for pipeline in pipelines.values():
        pipeline.close()
    return caught, events, late, busy


def extremes(options: Options) -> Row:
    """Numbers without limits, a learning rate of a million times the default, and weights hit from outside."""
    rng = random.Random(options.seed)
    loaded = config.loads(WILD)
    pipeline = build_pipeline("wild", loaded.pipelines["wild"], loaded.seed)
    network = pipeline.model.members[0].network
    learner = pipeline.model.learners[0]
    odd = (
        "1e308",
        "-1e308",
        "1e-308",
        "5e-324",
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "null",
        '"nan"',
        "1e39",
        "0",
    )
    events, bad_theta, bad_output, hits, slow = scaled(40_000, options, 2000), 0, 0, 0, 0
    poisoned_at = -1
    for i in range(events):
        x, y = (rng.choice(odd) if rng.random() < 0.1 else repr(rng.gauss(0, 1)) for _ in range(2))
        for output in pipeline.answers(Message("wild/a", f'{{"x": {x}, "y": {y}}}'.encode())):
            text = encode(output)
            bad_output += b"NaN" in text or b"Infinity" in text
        finite = bool(np.isfinite(network.theta).all())
        if poisoned_at >= 0:
            # One update has been made since the hit: the weights must be those of before it.
            if finite:
                poisoned_at = -1
            elif i - poisoned_at > learner.every:
                slow += 1
        else:
            bad_theta += not finite
        if i % 5000 == 4999:
            network.theta[rng.randrange(network.theta.size)] = rng.choice((np.nan, np.inf, 1e38))
            hits, poisoned_at = hits + 1, i
    seen = (
        f"{events} events at rate 3000 with NaN, infinities, 1e308: theta not finite {bad_theta} times, "
        f"outputs {bad_output}; "
        f"{learner.updates} updates, {learner.rollbacks} rolled back, {learner.dropped} dropped; "
        f"weights hit {hits} times, "
        f"not finite one update later {slow} times"
    )
    pipeline.close()
    met = not (bad_theta or bad_output or slow) and learner.rollbacks + learner.dropped > 0
    return Row(
        "NaN, infinities, 1e308, 10^6-fold rate",
        "finite always, roll-back within one update",
        seen,
        met,
        options.seed,
    )
