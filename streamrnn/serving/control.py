"""Control: does what is asked for on `streamrnn/bridge/request/...`, where the configuration and the broker let it.

What can be answered at once is answered here. What changes a pipeline is only looked at here, and then journalled
and queued like an event: see `requests`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from streamrnn.events import Message, finite
from streamrnn.keys import unfit
from streamrnn.learn.numeric import NumericStream
from streamrnn.learn.quality import quality
from streamrnn.pipeline import Pipeline
from streamrnn.requests import IN_TURN, REQUEST, Reply, Request, RequestError, done, no_stream, read, refused
from streamrnn.serving.health import Watched, obstacles

log = logging.getLogger(__name__)

BURST: Final = 20  # requests that may come at once
PER_SECOND: Final = 10.0  # and in the long run
REPLY_BYTES_MAX: Final = 65_536
OUTSTANDING_MAX: Final = 1000  # publishes that wait for the broker, beyond which nothing is answered
PROBLEMS_MAX: Final = 20  # of a configuration, in an answer; the log has all
COMPLAINT_S: Final = 60.0


class Control:
    """Answers requests.

    Parameters
    ----------
    watched
        The service. Its pipelines may be others at every request.
    reload
        Reads the configuration again; returns what is wrong with it, nothing when it has taken effect.
    clock
        Seconds, monotonic.

    Attributes
    ----------
    topics
        What to subscribe to, at QoS 1: nothing unless `mqtt.control` is on.
    counts
        requests; refused: with an error; unanswered: they came faster than is answered.
    """

    def __init__(
        self,
        watched: Watched,
        reload: Callable[[], Awaitable[list[str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watched = watched
        self.reload = reload
        self.clock = clock
        self.topics = [REQUEST + "#"] if watched.config.mqtt.control else []
        self.counts: Counter[str] = Counter()
        self._room = float(BURST)  # requests that may come now
        self._filled = clock()
        self._admitted: Message | None = None
        self._complained = -math.inf
        self._reloads: asyncio.Queue[Message] = asyncio.Queue(1)

    def hear(self, message: Message) -> bool:
        """Take a message below `streamrnn/bridge/`; whether pipelines are to take it in their turn, as an event.

        Such a message is not done with: when a queue is full it is heard once more.
        """
        if not self.topics or not message.topic.startswith(REQUEST) or not self._admit(message):
            return False
        name = message.topic.removeprefix(REQUEST)
        try:
            request = read(message)
            if name in IN_TURN:
                self._pipeline(request)
                return True
            self._answer(name, request, message)
        except RequestError as error:
            self.refuse(message, str(error))
        return False

    def refuse(self, message: Message, why: str) -> None:
        """Answer a request with an error."""
        if unfit(message.topic) is not None:
            return  # a topic that the broker would put us off for
        self.counts["refused"] += 1
        self._publish(message, refused(message, why))

    async def run(self) -> None:
        """Reload when asked to, beside the events and one at a time, until cancelled."""
        while True:
            message = await self._reloads.get()
            problems = await self.reload()
            if problems:
                self.refuse(message, "reload: " + "; ".join(problems[:PROBLEMS_MAX]))
            else:
                self._publish(
                    message, done(message, {"pipelines": [lane.pipeline.name for lane in self.watched.lanes]})
                )

    def _admit(self, message: Message) -> bool:
        """Whether there is room for a request: who floods us with them must not stand in the way of events."""
        if message is self._admitted:
            return True  # heard once more
        now = self.clock()
        self._room = min(self._room + (now - self._filled) * PER_SECOND, BURST)
        self._filled = now
        connection = self.watched.connection
        if self._room < 1.0 or connection is None or connection.outstanding >= OUTSTANDING_MAX:
            self.counts["unanswered"] += 1
            if now - self._complained >= COMPLAINT_S:
                self._complained = now
                log.warning(
                    "control: requests come faster than they are answered: %d let go", self.counts["unanswered"]
                )
            return False
        self._room -= 1.0
        self._admitted = message
        self.counts["requests"] += 1
        return True

    def _answer(self, name: str, request: Request, message: Message) -> None:
        match name:
            case "health":
                self._publish(message, done(message, health(self.watched)))
            case "state/get":
                pipeline = self._pipeline(request)
                assert request.key is not None  # noqa: S101 `read` has seen to it
                self._publish(message, done(message, stream_summary(pipeline, request.key)))
            case "reload":
                try:
                    self._reloads.put_nowait(message)
                except asyncio.QueueFull:
                    raise RequestError("reload: is under way, and asked for once more already") from None
            case _:
                raise RequestError("unknown request: there is health, reload, state/get, state/reset, learn/pause "
                                   "and learn/resume")  # fmt: skip

    def _pipeline(self, request: Request) -> Pipeline[Any]:
        for lane in self.watched.lanes:
            if lane.pipeline.name == request.pipeline:
                return lane.pipeline
        raise RequestError("no pipeline has this name")

    def _publish(self, message: Message, reply: Reply) -> None:
        if len(reply.payload) > REPLY_BYTES_MAX:
            reply = refused(message, f"the answer has {len(reply.payload)} bytes, limit {REPLY_BYTES_MAX}")
        if self.watched.connection is not None:
            self.watched.connection.publish(reply.topic, reply.payload, 1)


def health(watched: Watched) -> dict[str, Any]:
    """Return whether a service does its work, and how far its pipelines are."""
    why = obstacles(watched)
    pipelines = {
        lane.pipeline.name: {
            "events": lane.pipeline.counts["events"],  # in this process
            "keys": len(lane.pipeline.streams),
            "waiting": len(lane.queue),
            "updates": updates_of(lane.pipeline),
            "learning": lane.pipeline.learning,
        }
        for lane in watched.lanes
    }
    return {"ready": not why, "why": why, "pipelines": pipelines}


def stream_summary(pipeline: Pipeline[Any], key: str) -> dict[str, Any]:
    """Return what may be told of the stream of a key: counts and measures, no value and no symbol.

    Raises
    ------
    RequestError
        There is none.
    """
    told: dict[str, Any] = {"pipeline": pipeline.name, "key": key}
    stream = pipeline.streams.get(key)
    if stream is None:
        if pipeline.parking is None or key not in pipeline.parking:
            raise RequestError(no_stream(pipeline))
        return told | {"parked": True}  # what is in its file is not worth a wait for the disk
    told |= {
        "parked": False,
        "events": stream.seq,  # answered, so the number of the next
        "learned": stream.count,
        "time": finite(stream.time),
        "learning": pipeline.learning,
        "updates": updates_of(pipeline),
    }
    if isinstance(stream, NumericStream):
        found = quality([stream])
        told |= {"coverage": finite(found.coverage), "skill": finite(found.skill)}
    return told


def updates_of(pipeline: Pipeline[Any]) -> int:
    """Return the weight updates of a pipeline so far."""
    return pipeline.model.learners[0].updates if pipeline.model.learners else 0
