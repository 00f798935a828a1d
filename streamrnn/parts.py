"""The parts of a pipeline, one by one, from what its configuration says."""

from __future__ import annotations

import zlib

import numpy as np

from streamrnn.learn.learner import Learner
from streamrnn.learn.network import Network
from streamrnn.learn.numeric import NumericModel
from streamrnn.learn.realtime import RealTimeLearner
from streamrnn.learn.symbols import SymbolModel
from streamrnn.learn.window import Window
from streamrnn.settings.specs import Pipeline as PipelineSpec


def seeds(name: str, seed: int, member: int) -> tuple[int, int]:
    """Seeds of the weights and of the windows, different for each pipeline and each member of an ensemble."""
    drawn = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(2 * member + 2)
    return int(drawn[2 * member]), int(drawn[2 * member + 1])


def in_real_time(spec: PipelineSpec) -> bool:
    """Whether it learns without a window."""
    return spec.learn.enabled and spec.model.cell == "lru"


def network_of(spec: PipelineSpec, seed: int) -> Network:
    """Return a new network."""
    model = spec.model
    if spec.input.symbols:
        return SymbolModel.network_for(model.cell, model.hidden, model.layers, seed)
    fields, horizons = len(spec.input.fields), spec.forecast.horizons
    return NumericModel.network_for(fields, horizons, model.cell, model.hidden, model.layers, seed)


def window_of(spec: PipelineSpec, network: Network, history: int, seed: int) -> Window:
    """Return a new replay window of `history` steps."""
    if spec.input.symbols:
        return SymbolModel.window_for(history, network, seed)
    fields, horizons = len(spec.input.fields), spec.forecast.horizons
    return NumericModel.window_for(history, network, fields, horizons, seed)


def learner_of(spec: PipelineSpec, network: Network, history: int, seed: int) -> Learner:
    """Return what teaches a network from windows out of `history` steps."""
    learn = spec.learn
    window = window_of(spec, network, history, seed)
    return Learner(network, window, learn.every, learn.windows, learn.length, learn.rate, learn.decay)


def real_time_learner_of(spec: PipelineSpec, network: Network) -> RealTimeLearner:
    """Return what teaches a network of cell lru."""
    learn = spec.learn
    fields, horizons = len(spec.input.fields), spec.forecast.horizons
    return RealTimeLearner(network, fields, horizons, learn.every, learn.rate, learn.decay)
