"""From a configuration to running objects: the only file that knows both sides, and what they will cost."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from streamrnn.codecs import Codec
from streamrnn.config import Config
from streamrnn.edges.endpoint import Settings, Will
from streamrnn.errors import ConfigError
from streamrnn.keys import KeyTemplate
from streamrnn.learn.calibrator import Calibrator
from streamrnn.learn.detector import Detector
from streamrnn.learn.learner import Learner
from streamrnn.learn.mixture import Blend, Mixture
from streamrnn.learn.network import Network
from streamrnn.learn.ngram import NGram
from streamrnn.learn.numeric import HISTORY, NumericModel
from streamrnn.learn.readout import Readout
from streamrnn.learn.realtime import RealTimeLearner
from streamrnn.learn.scaler import Scaler
from streamrnn.learn.symbols import ALPHABET, NGRAM_BYTES, STRIDE, SymbolModel
from streamrnn.learn.window import Window
from streamrnn.pipeline import KEY_MAX, Pipeline
from streamrnn.specs import Pipeline as PipelineSpec

STATE_TOPIC = "streamrnn/bridge/state"
STREAM_OBJECTS = 2048 + 4 * KEY_MAX  # bytes of Python's own objects in a stream, roughly, and of its key
THETA_COPIES = 6  # network, shadow, gradient, two moments, last good weights


class Budget(msgspec.Struct, frozen=True):
    """The ceilings of a pipeline's memory, in bytes, and what was shortened to keep to them."""

    parameters: int  # numbers in theta
    weights: int  # theta, its copies, and the scratch of an update
    history: int  # steps in the replay window
    window: int
    streams: int  # fixed part, all keys
    ranks: int  # histories of the detectors, all keys
    ranks_each: int  # events a detector ranks among when all keys are there
    counts: int = 0  # of the n-gram

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.window + self.streams + self.ranks + self.counts


def build_pipeline(name: str, spec: PipelineSpec, seed: int) -> Pipeline[Any]:
    """Return a pipeline ready to process messages. The same name, spec and seed give the same pipeline."""
    source = spec.input
    codec = Codec(source.payload, source.fields, source.symbol, source.time)
    model = _model(name, spec, seed)
    keys = KeyTemplate(source.topic, source.key)
    return Pipeline(name, codec, keys, model, spec.limits.keys, spec.limits.payload_bytes)


def build_pipelines(config: Config) -> dict[str, Pipeline[Any]]:
    """Return all pipelines of a configuration, by name."""
    return {name: build_pipeline(name, spec, config.seed) for name, spec in config.pipelines.items()}


def merge(named: Sequence[tuple[str, Config]]) -> Config:
    """Put the pipelines of several configurations together, each with the name of its file.

    Raises
    ------
    ConfigError
        Two have a pipeline of the same name, or they disagree on `mqtt`, `state` or `seed`.
    """
    (first_name, first), problems = named[0], []
    pipelines: dict[str, PipelineSpec] = {}
    for file, config in named:
        for part in ("mqtt", "state", "seed"):
            if getattr(config, part) != getattr(first, part):
                problems.append(f"{file}: {part}: expected the same as in {first_name}, since they run as one")
        for name, spec in config.pipelines.items():
            if name in pipelines:
                problems.append(f"{file}: pipelines.{name}: expected another name, it is taken by an earlier file")
            pipelines[name] = spec
    merged = msgspec.structs.replace(first, pipelines=pipelines)
    problems += [f"{paths[0]}: {words}" for paths, words in merged.broken_rules("")]
    if problems:
        raise ConfigError(problems)
    return merged


def mqtt_settings(config: Config) -> Settings:
    """Return how the daemon connects: a session the broker keeps, and a will that says we are gone."""
    mqtt, tls = config.mqtt, config.mqtt.tls
    scheme, rest = mqtt.url.split(":", 1)
    if tls is not None:  # who names certificates wants them used
        scheme = {"mqtt": "mqtts", "ws": "wss"}.get(scheme, scheme)
    return Settings(
        url=f"{scheme}:{rest}",
        client_id=mqtt.client_id,
        username=mqtt.username,
        password_file=mqtt.password_file,
        ca=tls.ca if tls else None,
        cert=tls.cert if tls else None,
        key=tls.key if tls else None,
        will=Will(STATE_TOPIC, b"offline"),
    )


def budget(spec: PipelineSpec) -> Budget:
    """Return the memory ceilings of a pipeline."""
    network = _network(spec, 0)
    step_bytes, history = _window_size(spec, network)
    weights = _weights_bytes(spec, network)
    window = step_bytes * history
    each = _stream_bytes(spec, network)
    if spec.input.symbols:
        counts = NGram.bytes_for(ALPHABET + 1, _ngram_room(spec, network)) if spec.learn.enabled else 0
        return Budget(network.theta.size, weights, history, window, each * spec.limits.keys, 0, 0, counts)
    fields = len(spec.input.fields)
    event_bytes = Detector.bytes_per_event(fields)
    room = _ranks_room(spec, network)
    ranks_each = NumericModel.history_for(room, spec.limits.keys, fields)
    least = Detector.FIRST * event_bytes * spec.limits.keys
    ranks = max(min(HISTORY * event_bytes * spec.limits.keys, room), least)
    return Budget(network.theta.size, weights, history, window, each * spec.limits.keys, ranks, ranks_each)


def _seeds(name: str, seed: int) -> tuple[int, int]:
    """Seeds of the weights and of the windows, different for each pipeline."""
    drawn = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(2)
    return int(drawn[0]), int(drawn[1])


def _network(spec: PipelineSpec, seed: int) -> Network:
    model = spec.model
    if spec.input.symbols:
        return SymbolModel.network_for(model.cell, model.hidden, model.layers, seed)
    fields, horizons = len(spec.input.fields), spec.forecast.horizons
    return NumericModel.network_for(fields, horizons, model.cell, model.hidden, model.layers, seed)


def _model(name: str, spec: PipelineSpec, seed: int) -> NumericModel | SymbolModel:
    weights_seed, window_seed = _seeds(name, seed)
    network = _network(spec, weights_seed)
    if spec.input.symbols:
        return SymbolModel(name, network, _learner(spec, network, window_seed), _ngram_room(spec, network))
    learner = _real_time_learner(spec, network) if _in_real_time(spec) else _learner(spec, network, window_seed)
    return NumericModel(
        name,
        spec.input.fields,
        network,
        spec.forecast.horizons,
        spec.forecast.interval,
        learner,
        _ranks_room(spec, network),
    )


def _in_real_time(spec: PipelineSpec) -> bool:
    return spec.learn.enabled and spec.model.cell == "lru"


def _real_time_learner(spec: PipelineSpec, network: Network) -> RealTimeLearner:
    learn = spec.learn
    fields, horizons = len(spec.input.fields), spec.forecast.horizons
    return RealTimeLearner(network, fields, horizons, learn.every, learn.rate, learn.decay)


def _learner(spec: PipelineSpec, network: Network, seed: int) -> Learner | None:
    learn = spec.learn
    if not learn.enabled:
        return None
    _, history = _window_size(spec, network)
    window = _window(spec, network, history, seed)
    return Learner(network, window, learn.every, learn.windows, learn.length, learn.rate, learn.decay)


def _window_size(spec: PipelineSpec, network: Network) -> tuple[int, int]:
    """Bytes of a step in the replay window, and how many steps fit into half of the memory; 0, 0 without one."""
    if not spec.learn.enabled or _in_real_time(spec):
        return 0, 0
    inputs = 1 if spec.input.symbols else int(network.shape[1])
    shown = 1 if spec.input.symbols else len(spec.input.fields)
    stride = STRIDE if spec.input.symbols else 1
    step_bytes = Window.bytes_per_step(inputs, shown, network.blank_state(), stride)
    fitting = spec.limits.memory_mb * 2**20 // 2 // step_bytes
    return step_bytes, max(spec.learn.length, min(spec.learn.history, fitting))


def _weights_bytes(spec: PipelineSpec, network: Network) -> int:
    """Bytes of theta, and when learning of its copies and the scratch of an update."""
    if not spec.learn.enabled:
        return network.theta.nbytes
    if _in_real_time(spec):
        return THETA_COPIES * network.theta.nbytes + _real_time_learner(spec, network).scratch_bytes
    window = _window(spec, network, spec.learn.length, 0)
    scratch = Learner(network, window, windows=spec.learn.windows, length=spec.learn.length).scratch_bytes
    if spec.input.symbols:  # and the weights of the mixture
        scratch += Mixture(NGram(ALPHABET + 1), spec.model.hidden).nbytes
    return THETA_COPIES * network.theta.nbytes + scratch


def _window(spec: PipelineSpec, network: Network, history: int, seed: int) -> Window:
    if spec.input.symbols:
        return SymbolModel.window_for(history, network, seed)
    fields, horizons = len(spec.input.fields), spec.forecast.horizons
    return NumericModel.window_for(history, network, fields, horizons, seed)


def _stream_bytes(spec: PipelineSpec, network: Network) -> int:
    """Bytes that every key costs, beside the history of its detector."""
    own = STREAM_OBJECTS + network.state.nbytes
    if spec.input.symbols:
        blend = Blend(NGram(ALPHABET + 1)).nbytes if spec.learn.enabled else 0
        return own + 4 * (ALPHABET + 1) + blend
    if _in_real_time(spec):
        own += _real_time_learner(spec, network).blank_ring().nbytes
    fields = len(spec.input.fields)
    readout = Readout(fields, spec.model.hidden, Scaler.input_count(fields))
    parts = (Scaler(fields), Calibrator(fields, spec.forecast.horizons), readout, Detector(fields))
    arrays = sum(array.nbytes for part in parts for array in vars(part).values() if isinstance(array, np.ndarray))
    history = Detector.FIRST * Detector.bytes_per_event(fields)
    return own + arrays - history


def _ngram_room(spec: PipelineSpec, network: Network) -> int:
    """Bytes for the counts of the n-gram: what the rest leaves, at the most its usual ceiling."""
    step_bytes, history = _window_size(spec, network)
    taken = _weights_bytes(spec, network) + step_bytes * history + _stream_bytes(spec, network) * spec.limits.keys
    return max(min(spec.limits.memory_mb * 2**20 - taken, NGRAM_BYTES), 0)


def _ranks_room(spec: PipelineSpec, network: Network) -> int:
    """Bytes left for the histories of the detectors."""
    step_bytes, history = _window_size(spec, network)
    taken = _weights_bytes(spec, network) + step_bytes * history
    return max(spec.limits.memory_mb * 2**20 - taken - _stream_bytes(spec, network) * spec.limits.keys, 0)
