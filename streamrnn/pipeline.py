"""Pipeline: one configured path from topics to outputs. It calls the parts and computes nothing itself.

Synchronous and without any idea of MQTT, files or configuration: the service, `replay` and a program of your
own drive it the same way.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamrnn.codecs import Codec
from streamrnn.errors import PayloadError, StateError
from streamrnn.events import Event, Message, Output
from streamrnn.keys import KeyTemplate, unfit
from streamrnn.learn.descent import Descent
from streamrnn.learn.saved import Arrays, decode_text, encode_text, restore, restore_all, save, save_all, split_all

log = logging.getLogger(__name__)

COMPLAINT_S = 60.0  # between two log lines of the same reason
KEYS = "keys"  # name of the array of them in what is saved
PAUSED = "paused"  # likewise, whether learning is
STREAMS = "streams."  # what the names of their arrays begin with


class Stream(Protocol):
    """One key's live part of a pipeline."""

    SAVED: ClassVar[tuple[str, ...]]
    key: str
    seq: int


S = TypeVar("S", bound=Stream)


class Parking(Protocol):
    """Keeps streams for which there is no room."""

    def park(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None: ...
    def unpark(self, key: str) -> Mapping[str, NDArray[Any]] | None: ...
    def forget(self, key: str) -> bool: ...
    def __contains__(self, key: str) -> bool: ...


class Model(Protocol[S]):
    """What answers events: shared weights, and a stream for every key."""

    SAVED: ClassVar[tuple[str, ...]]
    counts: Counter[str]

    @property
    def learners(self) -> Sequence[Descent]: ...

    def open_stream(self, key: str) -> S: ...
    def share(self, streams: Collection[S]) -> None: ...
    def process_one(self, stream: S, event: Event, learn: bool) -> Output: ...
    def close(self) -> None: ...


class Pipeline(Generic[S]):
    """One configured path from messages to outputs.

    Parameters
    ----------
    name
        As in the configuration.
    codec
        Payload bytes to events.
    keys
        Topic to key.
    model
        Answers events.
    keys_max
        Streams kept; beyond that the one unused longest is let go.
    payload_bytes_max
        Larger payloads are not decoded.

    Attributes
    ----------
    counts
        Events, and what was let go, by reason.
    paused
        Whether events are answered and not learned from, as retained messages are.
    parking
        Where the streams beyond `keys_max` go, and come back from; None: they are forgotten.
    """

    def __init__(
        self,
        name: str,
        codec: Codec,
        keys: KeyTemplate,
        model: Model[S],
        keys_max: int = 1000,
        payload_bytes_max: int = 65536,
    ) -> None:
        self.name = name
        self.codec = codec
        self.keys = keys
        self.model = model
        self.keys_max = keys_max
        self.payload_bytes_max = payload_bytes_max
        self.streams: OrderedDict[str, S] = OrderedDict()
        self.counts = codec.counts
        self.paused = False
        self.parking: Parking | None = None
        self._complained: dict[str, float] = {}

    def process(self, message: Message) -> Output | None:
        """Answer a message that carries one event; None when it is not an event.

        A text payload carries as many events as characters: see `process_all`. This gives the last answer.
        """
        outputs = self.process_all(message)
        return outputs[-1] if outputs else None

    def process_all(self, message: Message) -> list[Output]:
        """Answer every event of a message, in order. What is not an event is counted, and never raises."""
        return list(self.answers(message))

    def answers(self, message: Message) -> Iterator[Output]:
        """`process_all`, an event at a time as the outputs are asked for: a text can be long."""
        try:
            events = self._decode(message)
        except PayloadError as error:
            self.counts[error.reason] += 1
            self._complain(error, message.topic)
            return
        unlearned = "retained" if message.retain else "paused" if self.paused else None
        for event in events:
            if unlearned is not None:
                self.counts[unlearned] += 1
            yield self._answer(event, unlearned is None)

    def fits(self, message: Message) -> bool:
        """Whether the payload is within its limit."""
        return not isinstance(message.payload, bytes) or len(message.payload) <= self.payload_bytes_max

    def refuse(self, message: Message) -> None:
        """Count and tell a message that does not fit, which then need not be queued or kept to be refused."""
        error = self._too_large(message)
        self.counts[error.reason] += 1
        self._complain(error, message.topic)

    @property
    def learning(self) -> str:
        """Whether it learns: on, paused, or off where it has nothing that could."""
        return "paused" if self.paused else "on" if self.model.learners else "off"

    def forget(self, key: str) -> bool:
        """Forget the stream of a key, which then begins anew; whether there was one, live or parked.

        What was learned from it, weights and replay windows, is shared by all keys and stays.
        """
        live = self.streams.pop(key, None) is not None
        parked = self.parking is not None and self.parking.forget(key)
        self.counts["streams_reset"] += live or parked
        return live or parked

    def status(self) -> str:
        """Return in a line what was done, and what was let go for which reason."""
        learners = self.model.learners
        done = [f"{self.counts['events']} events", f"{len(self.streams)} keys"]
        if self.paused:
            done.append("learning paused")
        if learners:
            done.append(f"{learners[0].updates} updates")
            troubles = {
                "waits": sum(learner.waits for learner in learners),
                "updates_dropped": sum(learner.dropped for learner in learners),
                "roll_backs": sum(learner.rollbacks for learner in learners),
                "failed_updates": sum(learner.failed for learner in learners),
            }
            done += [f"{count} {name}" for name, count in troubles.items() if count]
        let_go = self.counts + self.model.counts
        return ", ".join(done + [f"{count} {reason}" for reason, count in let_go.items() if reason != "events"])

    def save(self) -> Arrays:
        """Return a copy of all that later answers depend on. Between two messages only, on any thread."""
        streams = list(self.streams.values())
        keys = {KEYS: encode_text(list(self.streams))}  # in the order in which they were used last
        return keys | {PAUSED: np.array(self.paused)} | save(self.model, "model.") | save_all(streams, STREAMS)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `save` returned, bit for bit. For a fresh pipeline of the same configuration.

        Limits may be others: streams beyond them are let go.

        Raises
        ------
        StateError
            An array is missing or has another form; the pipeline is then of no use any more.
        """
        for name in KEYS, PAUSED:
            if name not in arrays:
                raise StateError(f"{name}: missing")
        paused = arrays[PAUSED]
        if paused.dtype != np.bool_ or paused.shape != ():
            raise StateError(f"{PAUSED}: expected bool (), got {paused.dtype} {paused.shape}")
        self.paused = bool(paused)
        restore(self.model, arrays, "model.")
        for key in decode_text(KEYS, arrays[KEYS]):
            self.streams[key] = self.model.open_stream(key)
        restore_all(list(self.streams.values()), arrays, STREAMS)
        while len(self.streams) > self.keys_max:  # limits may have been lowered meanwhile
            self._let_go()
        if self.streams:
            self.model.share(self.streams.values())

    def close(self) -> None:
        """Let a running weight update end, and the learner's thread with it."""
        self.model.close()

    def _decode(self, message: Message) -> list[Event]:
        key = self.keys.key(message.topic) if message.key is None else message.key
        if key is None:
            raise PayloadError("other_topic", "no filter of this pipeline matches")
        if key not in self.streams and not self.keys.paths and (reason := unfit(key)) is not None:
            raise PayloadError(*reason)
        if not self.fits(message):
            raise self._too_large(message)
        return self.codec.decode(message, key)

    def _too_large(self, message: Message) -> PayloadError:
        return PayloadError("too_large", f"{len(message.payload)} bytes, limit {self.payload_bytes_max}")

    def _answer(self, event: Event, learn: bool) -> Output:
        stream = self.streams.get(event.key)
        if stream is None:
            stream = self._open(event.key)
            self.streams[event.key] = stream
            if len(self.streams) > self.keys_max:
                self._let_go()
            self.model.share(self.streams.values())
        else:
            self.streams.move_to_end(event.key)
        self.counts["events"] += 1
        return self.model.process_one(stream, event, learn)

    def _open(self, key: str) -> S:
        """Return the stream of a key that has none: as it was when it was parked, if it was."""
        stream = self.model.open_stream(key)
        arrays = self.parking.unpark(key) if self.parking is not None else None
        if arrays is not None:
            try:
                restore(stream, arrays)
            except StateError as error:  # a version that does not know that it saves otherwise
                self.counts["parked_misfits"] += 1
                log.error(
                    "%s: a parked stream does not fit this version (%s): its key begins anew", self.name, error
                )
                return self.model.open_stream(key)
        return stream

    def _let_go(self) -> None:
        """Let go of the stream unused longest."""
        key, stream = self.streams.popitem(last=False)
        if self.parking is not None:
            self.parking.park(key, save(stream))
        self.counts["keys_let_go"] += 1

    def _complain(self, error: PayloadError, topic: str) -> None:
        """Log a reason at most once a minute: a broken sensor must not fill the disk."""
        now = time.monotonic()
        if now - self._complained.get(error.reason, -COMPLAINT_S) >= COMPLAINT_S:
            self._complained[error.reason] = now
            log.warning(
                "%s: a message on %.100r is not an event: %s (%d so far)",
                self.name,
                topic,
                error,
                self.counts[error.reason],
            )


def saved_streams(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Arrays]:
    """Return what `Pipeline.save` has of each stream, by key; the one used last comes last.

    Raises
    ------
    StateError
        It is not of a pipeline.
    """
    if KEYS not in arrays:
        raise StateError(f"{KEYS}: missing")
    keys = decode_text(KEYS, arrays[KEYS])
    return dict(zip(keys, split_all(arrays, len(keys), STREAMS), strict=True))
