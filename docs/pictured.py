"""What the pictures show: seeded simulators, and models driven through them event by event. Nothing is drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrnn.build import build_pipeline
from streamrnn.config import loads
from streamrnn.events import Event, NumericOutput, SymbolOutput
from streamrnn.learn.learner import Learner
from streamrnn.learn.network import Network
from streamrnn.learn.numeric import NumericModel, NumericStream
from streamrnn.learn.realtime import RealTimeLearner
from streamrnn.learn.symbols import SymbolModel
from streamrnn.learn.window import Window

Array = NDArray[np.float64]

START = 1_767_571_200.0  # Monday 5 January 2026, epoch seconds
MACHINE_STEP = 300.0  # seconds from event to event
PUMP_STEP = 1800.0


class Span(NamedTuple):
    """Events of a known fault: first, the one at which the pump trips, and the end."""

    first: int
    trip: int
    end: int


def machine(events: int, seed: int) -> Array:
    """Temperatures (N, 1) of a machine, in degrees: shifts from 6 to 22 h, jobs, and a fan that goes on and off."""
    rng = np.random.default_rng([1, seed])
    hour = (np.arange(events) * MACHINE_STEP / 3600.0) % 24.0
    outside = 18.0 + 4.0 * np.sin(2.0 * np.pi * (hour - 9.0) / 24.0)
    busy = (hour >= 6.0) & (hour < 22.0)
    temperature, job, fan = 20.0, 1.0, False
    seen = np.empty(events)
    for t in range(events):
        if rng.random() < 1 / 40:  # another job
            job = rng.uniform(0.7, 1.2)
        heat = 3.2 * job if busy[t] else 0.5
        fan = temperature > 52.0 or (fan and temperature > 45.0)
        temperature += heat - (0.12 if fan else 0.04) * (temperature - outside[t]) + 0.15 * rng.standard_normal()
        seen[t] = temperature + 0.3 * rng.standard_normal()
    return seen[:, None]


def pump(seed: int, days: int = 75) -> tuple[Array, Span]:
    """Vibration in mm/s and current in A (N, 2) of a pump whose bearing fails in the end, and when it does.

    It rests for two hours every night. From the fault on vibration grows, slowly at first and with knocks; two and
    a half days later the pump trips, and what is left is noise.
    """
    rng = np.random.default_rng([2, seed])
    day = round(86_400 / PUMP_STEP)
    events = days * day
    span = Span(events - 3 * day, events - day // 2, events)
    t = np.arange(events)
    hour = (t * PUMP_STEP / 3600.0) % 24.0
    runs = ((hour < 2.0) | (hour >= 4.0)) & (t < span.trip)
    load = np.empty(events)
    each = 0.0
    for i, noise in enumerate(rng.standard_normal(events).tolist()):
        each = 0.9 * each + 0.43 * noise
        load[i] = 1.0 + 0.15 * np.sin(2.0 * np.pi * (hour[i] - 8.0) / 24.0) + 0.03 * each
    wear = np.clip((t - span.first) / (span.trip - span.first), 0.0, 1.0)
    knocks = (rng.random(events) < 0.3 * wear) * rng.exponential(1.2, events)
    vibration = 1.2 * load + 1.6 * wear**2 + knocks * wear + 0.06 * rng.standard_normal(events)
    current = 8.0 * load + 0.5 * wear**2 + 0.1 * rng.standard_normal(events)
    quiet = 0.02 * np.abs(rng.standard_normal((2, events)))
    return np.stack([np.where(runs, vibration, quiet[0]), np.where(runs, current, quiet[1])], axis=1), span


def prose(symbols: int, seed: int) -> tuple[str, float]:
    """Sentences of a small grammar, and the bits per character that they cost who knows the grammar.

    A verb agrees with its noun over the words between them, which no seven characters show. Every sentence can be
    made in one way only, so what it costs is the sum of the choices.
    """
    rng = np.random.default_rng([3, seed])
    things = ("pump", "valve", "motor", "press", "belt", "sensor", "boiler", "robot")
    verbs = ("stop", "run", "wait", "fail", "hum", "restart")
    bits, count, sentences = 0.0, 0, []

    def choose(options: tuple[str, ...]) -> str:
        nonlocal bits
        shares = 1.0 / np.arange(1, len(options) + 1)
        shares /= shares.sum()
        number = int(rng.choice(len(options), p=shares))
        bits -= float(np.log2(shares[number]))
        return options[number]

    while count < symbols:
        plural = choose(("", "s"))
        noun = choose(things) + plural
        where = choose(("", " behind the ", " of the "))
        if where:
            where += choose(things) if where == " behind the " else choose(("old line", "new line"))
        verb = choose(verbs) + ("" if plural else "s")
        sentences.append(f"the {noun}{where} {verb} {choose(('today', 'again', 'at night'))}. ")
        count += len(sentences[-1])
    return "".join(sentences), bits / count


def build(fields: list[str], seed: int, **model: str | int) -> Any:
    """Return the model of a pipeline of such fields, of characters if none; the default but for `model`."""
    source = {"topic": "+", "fields": fields} if fields else {"topic": "+", "payload": "text"}
    spec = loads(json.dumps({"pipelines": {"picture": {"input": source, "model": model}}})).pipelines["picture"]
    return build_pipeline("picture", spec, seed).model


def drive(
    fields: list[str], values: Array, step: float, seed: int, **model: str | int
) -> Iterator[tuple[NumericStream, NumericOutput]]:
    """Yield the stream and the output after each event of values (N, F), `step` seconds apart."""
    built: NumericModel = build(fields, seed, **model)
    stream = built.open_stream("picture")
    built.share([stream])
    for t, row in enumerate(values):
        yield stream, built.process_one(stream, Event("picture", START + t * step, row), True)
    built.close()


def learning_errors(values: Array, far: int, seed: int, **model: str | int) -> dict[str, Array]:
    """Return squared errors (N,) of the event each forecast was for, NaN where there was none, by who made it.

    network, regression, last and published are one event ahead; far and far last as many events ahead.
    """
    names = ("network", "regression", "last", "published", "far", "far last")
    truth = values[:, 0]
    made = {name: np.full(len(truth) + far, np.nan) for name in names}
    for t, (stream, output) in enumerate(drive(["x"], values, MACHINE_STEP, seed, **model)):
        forecast = output.forecast["x"]
        assert forecast is not None
        for name, expert in zip(names[:3], stream.readout.experts[:, 0].tolist(), strict=True):
            made[name][t + 1] = expert
        made["published"][t + 1] = forecast[0]
        made["far"][t + far] = forecast[output.horizons.index(far)]
        made["far last"][t + far] = truth[t]
    return {name: (each[: len(truth)] - truth) ** 2 for name, each in made.items()}


def symbol_bits(text: str, seed: int) -> dict[str, Array]:
    """Return what each character of a text cost, in bits (N,): published, and by network and n-gram alone.

    A character not seen before costs these two what it cost the mixture.
    """
    model: SymbolModel = build([], seed)
    stream = model.open_stream("picture")
    costs = {name: np.zeros(len(text)) for name in ("published", "network", "n-gram")}
    for t, character in enumerate(text):
        number = model.alphabet.get(character)
        blend = stream.blend
        assert blend is not None
        told = blend.voices[:, number] if number is not None and t else None
        logs = None if told is None else (float(told[0]), float(told[-1]))
        output = model.process_one(stream, Event("picture", START + t, symbol=character), True)
        assert isinstance(output, SymbolOutput)
        costs["published"][t] = output.bits
        costs["network"][t] = output.bits if logs is None else -logs[0] / np.log(2.0)
        costs["n-gram"][t] = output.bits if logs is None else -logs[1] / np.log(2.0)
    model.close()
    return costs


def delay_network(cell: str, delay: int, events: int, rate: float, seed: int) -> tuple[Network, Network, float]:
    """Let a network learn to say again a random sign of `delay` events ago.

    Returns it as it was and as it is, in float64, and its mean square error over the last quarter: 1 is to know
    nothing.
    """
    rng = np.random.default_rng([4, delay])
    xs = (rng.integers(0, 2, (events, 1)) * 2.0 - 1.0).astype(np.float32)
    network = Network(cell, 1, 32, seed=seed)
    before = exact(network, cell)
    learner: Learner | RealTimeLearner
    if cell == "lru":
        learner = RealTimeLearner(network, 1, every=8, rate=rate)
    else:
        window = Window(16_384, 1, 1, network.blank_state(), (1,), seed)
        learner = Learner(network, window, every=8, windows=4, length=3 * delay, rate=rate)
    trail = learner.open_trail()
    said, asked = np.zeros((events, 1), np.float32), np.full(1, np.nan, np.float32)
    for t in range(events):
        learner.before_step()
        learner.observe(trail, xs[t], asked, network.state)
        network.advance(network.state, xs[t], said[t])
        asked[0] = xs[t - delay, 0] if t >= delay else np.nan  # learned an event later, as a forecast by one is
        learner.after_step()
    learner.close()
    late = np.arange(events * 3 // 4, events)
    return before, exact(network, cell), float(((said[late] - xs[late - delay]) ** 2).mean())


def exact(network: Network, cell: str) -> Network:
    """Return the same network in float64: differences of float32 are mostly rounding."""
    twin = Network(cell, 1, network.hidden, dtype=np.float64)
    twin.theta[:] = network.theta
    return twin


def influence(network: Network, reach: int, inputs: int = 48, step: float = 1e-5) -> Array:
    """Return the norm of dh[t] / dx[t - k], root mean square over t, for k = 0 to `reach`: (reach + 1,).

    h is what the head reads. Central differences, over random signs that the network did not learn.
    """
    xs = np.random.default_rng(5).integers(0, 2, (2 * reach + inputs, 1)) * 2.0 - 1.0
    state, y = network.blank_state(), np.zeros(network.width)
    total = np.zeros(reach + 1)
    for s in range(reach + inputs):
        if s >= reach:
            branches = {sign: state.copy() for sign in (1.0, -1.0)}
            for k in range(reach + 1):
                for sign, branch in branches.items():
                    network.advance(branch, xs[s + k] + (sign * step if k == 0 else 0.0), y)
                slope = (branches[1.0] - branches[-1.0])[-1, : network.hidden] / (2.0 * step)
                total[k] += float((slope**2).sum())
        network.advance(state, xs[s], y)
    influences: Array = np.sqrt(total / inputs)
    return influences


def beside() -> Iterator[str]:
    """Yield what the page says without a picture: of a random walk, of an lru on the machine, of ensembles."""
    walk = np.cumsum(np.random.default_rng(6).standard_normal(5000))[:, None]
    runs = [("walk", learning_errors(walk, 16, 0), 0)]
    runs += [(cell, learning_errors(machine(10_000, 0), 16, 0, cell=cell), 3000) for cell in ("gru", "lru")]
    for name, errors, first in runs:
        mean = {maker: float(np.nanmean(each[first:])) for maker, each in errors.items()}
        near = ", ".join(f"{maker} {mean[maker] / mean['last']:.3f}" for maker in ("network", "published"))
        yield f"{name}, from event {first}: {near}; 16 ahead {mean['far'] / mean['far last']:.3f}"
    values, span = pump(0)
    for size in (1, 3):
        scores = np.array(
            [
                [output.score for _, output in drive(["v", "c"], values, PUMP_STEP, seed, ensemble=size)]
                for seed in range(4)
            ]
        )
        spread = scores[:, span.first : span.trip].std(axis=0).mean()
        yield f"ensemble of {size}: the score of the failing pump differs by {spread:.3f} between seeds"
