"""What a configuration says, as frozen specs: each field with its type, its limits and one sentence.

What does not hold between fields stands in `broken_rules`. How a file becomes these is in `config.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, field

from streamrnn.keys import BRIDGE
from streamrnn.settings import rules
from streamrnn.settings.conversion import BrokenRule, Overrides, Spec

SYMBOL_DEFAULTS: Mapping[str, Overrides] = {
    "model": {"hidden": 128},
    "learn": {"every": 16, "length": 64, "history": 1_000_000, "rate": 0.002, "decay": 0.02},
}
"""Where a pipeline of symbols has other defaults than one of numbers."""

Name: TypeAlias = Annotated[str, Meta(min_length=1)]
_PATH = {"check": rules.file_path, "secret": True}  # a key pasted in place of its path must not be shown


class Tls(Spec, frozen=True, kw_only=True):
    """Certificates for an encrypted connection."""

    ca: Annotated[
        str | None,
        Meta(description="File of the certificates to trust (PEM); absent: the system's.", extra=_PATH),
    ] = None
    cert: Annotated[str | None, Meta(description="File of our own certificate (PEM).", extra=_PATH)] = None
    key: Annotated[str | None, Meta(description="File of the private key of `cert` (PEM).", extra=_PATH)] = None

    def broken_rules(self, name: str) -> Iterator[BrokenRule]:  # noqa: ARG002
        """A key belongs to a certificate."""
        if self.key is not None and self.cert is None:
            yield ("key", "cert"), "expected cert as well, the certificate this key belongs to"


class Mqtt(Spec, frozen=True, kw_only=True):
    """The broker and how to log in there."""

    url: Annotated[
        str,
        Meta(
            description="Address of the broker: mqtt://host:1883, mqtts, ws, wss or unix:///path.",
            extra={"check": rules.broker_url, "secret": True},
        ),
    ] = "mqtt://127.0.0.1:1883"
    client_id: Annotated[
        str,
        Meta(
            description="Name of this client at the broker, which keeps its session by it.",
            min_length=1,
            extra={"check": rules.mqtt_text},
        ),
    ] = "streamrnn"
    username: Annotated[str | None, Meta(description="User name at the broker.")] = None
    password_file: Annotated[str | None, Meta(description="File with the password.", extra=_PATH)] = None
    tls: Annotated[Tls | None, Meta(description="Certificates for an encrypted connection.")] = None
    keepalive: Annotated[
        int,
        Meta(ge=5, le=3600, description="Seconds; a broker silent for twice as long is taken for gone."),
    ] = 30
    control: Annotated[
        bool,
        Meta(
            description="Whether to do what is asked for on streamrnn/bridge/request/..., by whom the broker lets."
        ),
    ] = False
    self_test: Annotated[
        bool,
        Meta(description="Whether to publish a message to each input topic at start, to see that it comes back."),
    ] = False


class Http(Spec, frozen=True, kw_only=True):
    """Metrics and health over HTTP, for whoever may reach the address: it asks for no password."""

    listen: Annotated[
        str,
        Meta(
            description="Address and port to listen on, for /metrics, /ready, /live and /version.",
            extra={"check": rules.listen},
        ),
    ] = "127.0.0.1:9464"


class Input(Spec, frozen=True, kw_only=True):
    """Which messages a pipeline takes, and what in them is an event."""

    topic: Annotated[
        list[Annotated[str, Meta(min_length=1, extra={"check": rules.topic_filter})]],
        Meta(
            description="Topic filter or a list of them; wildcards + and #; may be $share/group/filter.",
            min_length=1,
            extra={"check": rules.unique, "or_one": True},
        ),
    ]
    qos: Annotated[
        Literal[0, 1],
        Meta(description="Quality of service of the subscription; with 1 no event is lost."),
    ] = 1
    key: Annotated[
        str | None,
        Meta(
            description="Key of a stream; {1} is what the first wildcard matched, {payload.id} a value of the "
            'payload; absent: all that wildcards matched joined by "/".',
            extra={"check": rules.key_template},
        ),
    ] = None
    payload: Annotated[
        Literal["json", "number", "text", "cbor"],
        Meta(description="Form of the payload; in text each character is an event."),
    ] = "json"
    fields: Annotated[
        list[Name],
        Meta(
            description="Dotted paths of the numbers that make an event; absent: value.",
            min_length=1,
            max_length=64,
            extra={"check": rules.unique},
        ),
    ] = field(default_factory=list)
    symbol: Annotated[
        Name | None, Meta(description="Dotted path of the symbol, instead of fields: events are symbols.")
    ] = None
    time: Annotated[
        Name | None,
        Meta(description="Dotted path of the event time, RFC 3339 or epoch s or ms; absent: arrival."),
    ] = None

    def __post_init__(self) -> None:
        """Numbers have a name even when none is given."""
        if not self.fields and not self.symbols:
            msgspec.structs.force_setattr(self, "fields", ["value"])

    @property
    def symbols(self) -> bool:
        """Whether events are symbols rather than numbers."""
        return self.payload == "text" or self.symbol is not None

    def broken_rules(self, name: str) -> Iterator[BrokenRule]:  # noqa: ARG002
        """What is read from a payload fits its form, and the key has its wildcards."""
        if self.payload == "text" and self.fields:
            yield ("fields", "payload"), "expected no fields with payload text: each character is an event"
        if self.payload in ("text", "number") and self.symbol is not None:
            yield ("symbol", "payload"), f"expected no symbol with payload {self.payload}"
        elif self.symbol is not None and self.fields:
            yield ("symbol", "fields"), "expected fields or symbol, got both"
        if self.payload == "number" and len(self.fields) > 1:
            yield ("fields", "payload"), f"expected one field with payload number, got {len(self.fields)}"
        if self.payload in ("text", "number") and "{payload." in (self.key or ""):
            yield (
                ("key", "payload"),
                f"expected no {{payload.x}} with payload {self.payload}, which has no fields",
            )
        for each in self.topic:
            if rules.unshared(each).startswith(BRIDGE):
                yield ("topic",), f'expected another topic: nothing below {BRIDGE} is an event, got "{each}"'
                break
        for each in self.topic:
            levels = rules.unshared(each).split("/")
            used = rules.wildcards_used(self.key or "")
            if "#" not in levels and used > levels.count("+"):
                message = f'expected a wildcard for {{{used}}}, got {levels.count("+")} in "{each}"'
                yield ("key", "topic"), message
                break


class Model(Spec, frozen=True, kw_only=True):
    """The recurrent network, one per pipeline, shared by its keys."""

    cell: Annotated[
        Literal["rnn_tanh", "rnn_relu", "gru", "lstm", "lru"],
        Meta(description="The recurrence; lru remembers longest, of numbers, and needs no history to learn."),
    ] = "gru"
    hidden: Annotated[int, Meta(ge=1, le=1024, description="Units in each layer (32; for symbols 128).")] = 32
    layers: Annotated[int, Meta(ge=1, le=8, description="Layers of cells, one above the other.")] = 1
    ensemble: Annotated[
        int,
        Meta(ge=1, le=16, description="Networks with different seeds whose forecasts and scores are averaged."),
    ] = 1

    def broken_rules(self, name: str) -> Iterator[BrokenRule]:  # noqa: ARG002
        """Learning in real time goes through one layer only."""
        if self.cell == "lru" and self.layers > 1:
            yield ("layers", "cell"), f"expected 1 with cell lru, which has one layer, got {self.layers}"


class Forecast(Spec, frozen=True, kw_only=True):
    """What is forecast of numeric events."""

    horizons: Annotated[
        list[Annotated[int, Meta(ge=1, le=4096)]],
        Meta(
            description="How many events ahead to forecast: ascending, the first is 1.",
            min_length=1,
            max_length=16,
        ),
    ] = field(default_factory=lambda: [1, 4, 16, 64])
    interval: Annotated[
        float,
        Meta(ge=0.5, le=0.999, description="Share of events that should fall between lower and upper."),
    ] = 0.9

    def broken_rules(self, name: str) -> Iterator[BrokenRule]:  # noqa: ARG002
        """The horizons ascend from 1."""
        if self.horizons[0] != 1:
            message = "expected 1 first: the one-step forecast is what error and score are made of"
            yield ("horizons",), message
        elif any(a >= b for a, b in zip(self.horizons, self.horizons[1:], strict=False)):
            yield ("horizons",), "expected numbers that ascend"


class Learn(Spec, frozen=True, kw_only=True):
    """When and how a pipeline learns from what it has seen."""

    enabled: Annotated[bool, Meta(description="Whether to learn at all.")] = True
    every: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Events from one weight update to the next (4; for symbols 16)."),
    ] = 4
    windows: Annotated[int, Meta(ge=1, le=64, description="Windows replayed in one update.")] = 4
    length: Annotated[int, Meta(ge=2, le=1024, description="Events in one window (32; for symbols 64).")] = 32
    history: Annotated[
        int,
        Meta(
            ge=2,
            le=10_000_000,
            description="Events kept for windows over all keys, at least `length` (8192; for symbols 1000000).",
        ),
    ] = 8192
    rate: Annotated[
        float, Meta(gt=0, le=1_000_000, description="Step size of Adam (0.003; for symbols 0.002).")
    ] = 0.003
    decay: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Decoupled weight decay, times the rate at each update (0; for symbols 0.02).",
        ),
    ] = 0.0

    def broken_rules(self, name: str) -> Iterator[BrokenRule]:  # noqa: ARG002
        """A window fits into the history."""
        if self.history < self.length:
            yield ("history", "length"), f"expected at least length, {self.length}, got {self.history}"


class Limits(Spec, frozen=True, kw_only=True):
    """The ceilings of a pipeline: nothing grows beyond them."""

    keys: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Keys kept live; beyond, the one unused longest is let go.")
    ] = 1000
    parked: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Keys let go that the state directory keeps, to come back from it."),
    ] = 1000
    payload_bytes: Annotated[
        int,
        Meta(ge=1, le=268_435_455, description="Largest payload accepted, bytes (MQTT ends at 268435455)."),
    ] = 65_536
    queue: Annotated[int, Meta(ge=1, le=10_000_000, description="Messages that may wait to be processed.")] = 10_000
    memory_mb: Annotated[
        int,
        Meta(ge=16, le=1_048_576, description="Memory of the pipeline, MB; histories are shortened to fit."),
    ] = 256


class OutputTarget(Spec, frozen=True, kw_only=True):
    """Where a pipeline publishes its outputs."""

    topic: Annotated[
        str | None,
        Meta(
            description="Topic of the outputs; {pipeline} and {key} are filled in; null: none is published.",
            extra={"check": rules.output_template},
        ),
    ] = "streamrnn/{pipeline}/{key}"
    qos: Annotated[Literal[0, 1], Meta(description="Quality of service of the outputs.")] = 1
    retain: Annotated[bool, Meta(description="Whether the broker keeps the last output of each topic.")] = False


class Pipeline(Spec, frozen=True, kw_only=True):
    """One path from topics to outputs."""

    input: Annotated[Input, Meta(description="Which messages to take, and what in them is an event.")]
    model: Annotated[Model, Meta(description="The recurrent network.")] = field(default_factory=Model)
    forecast: Annotated[Forecast, Meta(description="What to forecast.")] = field(default_factory=Forecast)
    learn: Annotated[Learn, Meta(description="When and how to learn.")] = field(default_factory=Learn)
    limits: Annotated[Limits, Meta(description="Ceilings.")] = field(default_factory=Limits)
    output: Annotated[OutputTarget, Meta(description="Where to publish.")] = field(default_factory=OutputTarget)

    @classmethod
    def section_defaults(cls, fields: Mapping[str, Any]) -> Mapping[str, Overrides]:
        """Symbols want a larger network and longer windows than numbers."""
        source = fields.get("input")
        return SYMBOL_DEFAULTS if isinstance(source, Input) and source.symbols else {}

    def broken_rules(self, name: str) -> Iterator[BrokenRule]:
        """A network takes its events, and a pipeline must not be fed what it publishes."""
        if self.model.cell == "lru" and self.input.symbols:
            yield ("model.cell",), "expected another cell than lru for symbols: lru is for numbers"
        if self.model.ensemble > 1 and self.input.symbols:
            yield (
                ("model.ensemble",),
                f"expected 1 for symbols, an ensemble is for numbers, got {self.model.ensemble}",
            )
        if self.output.topic is None:
            return
        if published(name, self).startswith(BRIDGE):
            reserved = f"what is below {BRIDGE} is of the service itself"
            yield ("output.topic",), f'expected another topic: {reserved}, got "{published(name, self)}"'
        for each in self.input.topic:
            if rules.may_match(each, published(name, self)):
                loop = f'a feedback loop: "{each}" can match what is published to "{self.output.topic}"'
                yield ("input.topic", "output.topic"), f"{loop}; narrow it or change output.topic"
                return


def output_topic(template: str, name: str, key: str) -> str:
    """The topic of the outputs of one stream.

    >>> output_topic("streamrnn/{pipeline}/{key}", "plant", "pump-7")
    'streamrnn/plant/pump-7'
    """
    return template.replace("{pipeline}", name).replace("{key}", key)


def published(name: str, pipeline: Pipeline) -> str:
    """The topics a pipeline publishes to, with nothing but ``{key}`` left open; empty for none."""
    template = (pipeline.output.topic or "").replace("{pipeline}", name)
    key = pipeline.input.key
    return template if key is None or "{" in key else template.replace("{key}", key)


def feeds(name: str, giver: Pipeline, taker: Pipeline) -> bool:
    """Whether `taker` may listen to what `giver`, the pipeline of that name, publishes."""
    template = published(name, giver)
    return bool(template) and any(rules.may_match(each, template) for each in taker.input.topic)


class HomeAssistant(Spec, frozen=True, kw_only=True):
    """Whether and where Home Assistant is told of the streams."""

    enabled: Annotated[bool, Meta(description="Whether to announce each stream as a device.")] = False
    prefix: Annotated[
        str,
        Meta(
            description="Discovery prefix of Home Assistant, whose birth message comes on <prefix>/status.",
            extra={"check": rules.plain_topic},
        ),
    ] = "homeassistant"
    devices: Annotated[int, Meta(ge=1, le=10_000, description="Streams announced at most, over all pipelines.")] = (
        200
    )


class Config(Spec, frozen=True, kw_only=True):
    """A configuration of streamrnn."""

    mqtt: Annotated[Mqtt, Meta(description="The broker.")] = field(default_factory=Mqtt)
    state: Annotated[
        str | None,
        Meta(
            description="Folder for what outlives a restart: journal and checkpoints; absent: nothing is kept.",
            extra={"check": rules.file_path},
        ),
    ] = None
    durability: Annotated[
        Literal["process", "second", "power"],
        Meta(description="What an acknowledged event outlives: our death, power lost a second later, or at once."),
    ] = "second"
    checkpoint: Annotated[
        int,
        Meta(ge=1, le=10_000_000, description="Messages of a pipeline from one checkpoint to the next."),
    ] = 50_000
    http: Annotated[Http | None, Meta(description="Metrics and health over HTTP; absent: off.")] = None
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="Seed of every random number.")] = 0
    home_assistant: Annotated[HomeAssistant, Meta(description="Discovery by Home Assistant.")] = field(
        default_factory=HomeAssistant
    )
    pipelines: Annotated[
        dict[Annotated[str, Meta(pattern="^[A-Za-z0-9_-]+$", extra={"check": rules.pipeline_name})], Pipeline],
        Meta(description="Pipelines by their names.", min_length=1),
    ]

    def broken_rules(self, name: str) -> Iterator[BrokenRule]:  # noqa: ARG002
        """No pipeline is fed, by way of others, what comes of its own outputs."""
        for first in self.pipelines:
            reached, ahead = {first}, [first]
            while ahead:
                giver = ahead.pop()
                fed = [
                    taker
                    for taker, spec in self.pipelines.items()
                    if taker != giver and feeds(giver, self.pipelines[giver], spec)
                ]
                if first in fed:
                    loop = f"a feedback loop: {giver} publishes to it, and listens to what comes of it"
                    yield (f"pipelines.{first}.input.topic",), loop
                    return
                ahead += [taker for taker in fed if taker not in reached]
                reached.update(fed)
