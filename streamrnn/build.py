"""From a configuration to running objects: parts.py and this are what knows both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streamrnn import parts
from streamrnn.budget import ngram_room, ranks_room, window_history
from streamrnn.codecs import Codec
from streamrnn.config import Config
from streamrnn.edges.endpoint import Settings, Will
from streamrnn.errors import ConfigError
from streamrnn.keys import BRIDGE, KeyTemplate
from streamrnn.learn.member import Member
from streamrnn.learn.numeric import NumericModel
from streamrnn.learn.realtime import RealTimeLearner
from streamrnn.learn.symbols import SymbolModel
from streamrnn.pipeline import Pipeline
from streamrnn.settings.specs import Pipeline as PipelineSpec

SHARED = tuple(part for part in Config.__struct_fields__ if part != "pipelines")  # by all pipelines of a process
STATE_TOPIC = BRIDGE + "state"
INFO_TOPIC = BRIDGE + "info"


def build_pipeline(name: str, spec: PipelineSpec, seed: int) -> Pipeline[Any]:
    """Return a pipeline ready to process messages. The same name, spec and seed give the same pipeline."""
    source = spec.input
    keys = KeyTemplate(source.topic, source.key)
    codec = Codec(source.payload, source.fields, source.symbol, source.time, key_paths=keys.paths)
    model = _model(name, spec, seed)
    return Pipeline(name, codec, keys, model, spec.limits.keys, spec.limits.payload_bytes)


def build_pipelines(config: Config) -> dict[str, Pipeline[Any]]:
    """Return all pipelines of a configuration, by name."""
    return {name: build_pipeline(name, spec, config.seed) for name, spec in config.pipelines.items()}


def merge(named: Sequence[tuple[str, Config]]) -> Config:
    """Put the pipelines of several configurations together, each with the name of its file.

    Raises
    ------
    ConfigError
        Two have a pipeline of the same name, or they disagree on `mqtt`, `state`, `seed` or the like.
    """
    (first_name, first), problems = named[0], []
    pipelines: dict[str, PipelineSpec] = {}
    for file, config in named:
        for part in SHARED:
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
        keepalive=mqtt.keepalive,
        will=Will(STATE_TOPIC, b"offline"),
    )


def _model(name: str, spec: PipelineSpec, seed: int) -> NumericModel | SymbolModel:
    members = [_member(name, spec, seed, number) for number in range(spec.model.ensemble)]
    first = members[0].network
    if spec.input.symbols:
        learner = members[0].learner
        assert not isinstance(learner, RealTimeLearner)  # noqa: S101 the configuration refuses an lru of symbols
        return SymbolModel(name, first, learner, ngram_room(spec, first))
    forecast = spec.forecast
    room = ranks_room(spec, first)
    return NumericModel(name, spec.input.fields, members, forecast.horizons, forecast.interval, room)


def _member(name: str, spec: PipelineSpec, seed: int, number: int) -> Member:
    weights_seed, window_seed = parts.seeds(name, seed, number)
    network = parts.network_of(spec, weights_seed)
    if not spec.learn.enabled:
        return Member(network, None)
    if parts.in_real_time(spec):
        return Member(network, parts.real_time_learner_of(spec, network))
    return Member(network, parts.learner_of(spec, network, window_history(spec, network), window_seed))
