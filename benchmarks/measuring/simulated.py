"""Series from seeded simulators: what a forecaster meets, each kind by itself, and families of keys."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from measuring.runs import Series

Values = NDArray[np.floating[Any]]
EVENTS = 5000
DAY = 48  # events
STEP = 86_400 / DAY  # seconds


def names() -> list[str]:
    """Return the kinds of series there are."""
    return list(KINDS)


def series(name: str, seed: int) -> Series:
    """Return EVENTS events of one kind."""
    return Series.of(name, KINDS[name](_generator(name, seed)))


def family(name: str, keys: int, events: int, seed: int) -> list[Series]:
    """Return the series of so many keys that have a nature in common and each its own numbers."""
    member, rng = FAMILIES[name], _generator(name, seed)
    return [Series.of(f"{name} {i}", member(rng, events), STEP) for i in range(keys)]


def _generator(name: str, seed: int) -> Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), seed])


def _autoregressive(noise: Values, factor: float) -> Values:
    """x[t] = factor x[t - 1] + noise[t], (N,)."""
    x = np.empty_like(noise)
    last = 0.0
    for i, each in enumerate(noise.tolist()):
        last = factor * last + each
        x[i] = last
    return x


def _spikes(rng: Generator) -> Values:
    return 20.0 + 10.0 * (rng.random(EVENTS) < 0.005)


def _levels(rng: Generator) -> Values:
    """A level that is left for another every 200 events or so, seen through a little noise."""
    number = np.cumsum(rng.random(EVENTS) < 1 / 200)
    return 10.0 * rng.standard_normal(int(number[-1]) + 1)[number] + 0.1 * rng.standard_normal(EVENTS)


def _switching(rng: Generator) -> Values:
    """On or off, for 40 events at a time or so."""
    return (np.cumsum(rng.random(EVENTS) < 1 / 40) % 2).astype(np.float64)


def _volatile(rng: Generator) -> Values:
    """A walk whose steps are GARCH(1, 1), as of a price."""
    steps: Values = np.empty(EVENTS)
    variance, step = 1.0, 0.0
    for i, noise in enumerate(rng.standard_normal(EVENTS).tolist()):
        variance = 0.05 + 0.15 * step * step + 0.8 * variance
        step = noise * variance**0.5
        steps[i] = step
    return np.cumsum(steps)


def _missing(rng: Generator) -> Values:
    """Two fields (N, 2), a walk that returns and a wave, 30 % of each missing."""
    walk = _autoregressive(rng.standard_normal(EVENTS), 0.95)
    wave = np.sin(2 * np.pi * np.arange(EVENTS) / 50) + 0.2 * rng.standard_normal(EVENTS)
    both = np.stack([walk, wave], axis=1)
    both[rng.random(both.shape) < 0.3] = np.nan
    return both


KINDS: dict[str, Callable[[Generator], Values]] = {
    "random walk": lambda rng: np.cumsum(rng.standard_normal(EVENTS)),
    "white noise": lambda rng: rng.standard_normal(EVENTS),
    "constant": lambda _: np.full(EVENTS, 20.0),
    "rare spikes": _spikes,
    "heavy-tailed walk": lambda rng: np.cumsum(rng.standard_t(2, EVENTS)),
    "levels": _levels,
    "sine": lambda rng: np.sin(2 * np.pi * (np.arange(EVENTS) / 50 + rng.random())),
    "sawtooth": lambda rng: (np.arange(EVENTS) + rng.integers(50)) % 50.0,
    "AR(1) .5": lambda rng: _autoregressive(rng.standard_normal(EVENTS), 0.5),
    "counts": lambda rng: rng.poisson(4.0, EVENTS).astype(np.float64),
    "on and off": _switching,
    "trend": lambda rng: 0.05 * np.arange(EVENTS) + rng.standard_normal(EVENTS),
    "volatile walk": _volatile,
    "missing 30 %": _missing,
}


def _load(rng: Generator, events: int) -> Values:
    """A load with a daily cycle: its own height, swing, hour of the peak and noise, less at weekends."""
    t = np.arange(events) / DAY + rng.integers(7)
    phase = 2 * np.pi * (t - rng.normal(0.0, 0.1))
    shape = np.sin(phase) + rng.uniform(0.1, 0.5) * np.sin(2 * phase + rng.normal(0.0, 0.5))
    shape *= np.where(t % 7 < 5, 1.0, rng.uniform(0.3, 0.9))
    noise = _autoregressive(rng.standard_normal(events), 0.7)
    swing = np.exp(rng.normal(2.0, 1.0))
    load: Values = rng.normal(0.0, 5.0 * swing) + swing * (shape + rng.uniform(0.05, 0.3) * noise)
    return load


def _pump(rng: Generator, events: int) -> Values:
    """The level of a tank that a pump fills when it is low, until it is full: its own sizes, rates and noise."""
    drain, fill = rng.uniform(0.01, 0.04), rng.uniform(0.05, 0.2)
    level, on = rng.random(), False
    levels: Values = np.empty(events)
    for i, noise in enumerate(rng.standard_normal(events).tolist()):
        level += (fill if on else 0.0) - drain * (1.0 + 0.2 * noise)
        on = level < 0.2 or (on and level < 0.9)
        levels[i] = level
    seen: Values = np.exp(rng.normal(0.0, 2.0)) * (levels + 0.01 * rng.standard_normal(events))
    return seen


FAMILIES: dict[str, Callable[[Generator, int], Values]] = {"loads": _load, "pumps": _pump}
