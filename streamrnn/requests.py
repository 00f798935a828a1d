"""Requests to a running service, on `streamrnn/bridge/request/...`, and replies to them; a pipeline applies them.

What changes later answers is journalled and queued like an event, and applied in its turn, so that a recovery does
the same at the same place. Not here: what is answered at once, see `serving.control`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from streamrnn.events import Message, Output
from streamrnn.keys import BRIDGE
from streamrnn.pipeline import Pipeline

REQUEST: Final = BRIDGE + "request/"
RESPONSE: Final = BRIDGE + "response/"
IN_TURN: Final = frozenset({"learn/pause", "learn/resume", "state/reset"})  # what pipelines apply between events
BYTES_MAX: Final = 8192  # of a request: a key of 512 characters fits, however it is written


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request says; which one it is, its topic says."""

    pipeline: str | None = None
    key: str | None = None
    transaction: str | int | UnsetType = UNSET  # given back with the reply


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The reply to a request, to be published."""

    topic: str
    payload: bytes


class RequestError(Exception):
    """Why a request cannot be done, in words for who sent it."""


class _Tag(msgspec.Struct, frozen=True):
    transaction: str | int | UnsetType = UNSET


def read(message: Message) -> Request:
    """Return what a message on a topic below `REQUEST` asks for.

    Raises
    ------
    RequestError
        It is not a request that can be done.

    Examples
    --------
    >>> read(Message(REQUEST + "learn/pause", b'{"pipeline": "plant"}')).pipeline
    'plant'
    """
    if message.retain:
        # Or it would be done again at every connect.
        raise RequestError(
            "a retained request is not done: clear it with a retained empty payload, and send it plain"
        )
    if len(message.raw) > BYTES_MAX:
        raise RequestError(f"the payload has {len(message.raw)} bytes, limit {BYTES_MAX}")
    try:
        request = msgspec.json.decode(message.raw.strip() or b"{}", type=Request)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RequestError(f"the payload is not a request: {error}") from error
    name = message.topic.removeprefix(REQUEST)
    if request.pipeline is None and (name in IN_TURN or name == "state/get"):
        raise RequestError('expected the name of a pipeline as "pipeline"')
    if request.key is None and name in ("state/reset", "state/get"):
        raise RequestError('expected the key of a stream as "key"')
    return request


def transaction(message: Message) -> str | int | UnsetType:
    """Return what a reply gives back even where the rest of a request makes no sense."""
    if len(message.raw) > BYTES_MAX:
        return UNSET
    try:
        return msgspec.json.decode(message.raw, type=_Tag).transaction
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return UNSET


def target(message: Message) -> str | None:
    """Return the name of the pipeline that is to take a request in its turn; None when none is."""
    if message.topic.removeprefix(REQUEST) not in IN_TURN:
        return None
    try:
        return read(message).pipeline
    except RequestError:
        return None


def concerns(pipeline: Pipeline[Any], message: Message) -> bool:
    """Whether a pipeline is to take a message: an event of its topics, or a request that names it.

    The service asks it of what comes, and a recovery of what the journal has: the same answer for ever, whatever
    else is configured.
    """
    if message.topic.startswith(BRIDGE):
        return target(message) == pipeline.name
    return pipeline.keys.key(message.topic) is not None


def take(pipeline: Pipeline[Any], message: Message) -> Iterator[Output | Reply]:
    """Have a pipeline take a message that concerns it: answer its events, or apply a request."""
    if message.topic.startswith(REQUEST):
        return iter((_applied(pipeline, message),))
    return pipeline.answers(message)


def done(message: Message, data: Any) -> Reply:
    """Return the reply to a request that was done."""
    return _reply(message, {"status": "ok", "data": data})


def refused(message: Message, why: str) -> Reply:
    """Return the reply to a request that was not."""
    return _reply(message, {"status": "error", "error": why})


def _applied(pipeline: Pipeline[Any], message: Message) -> Reply:
    request = read(message)
    match message.topic.removeprefix(REQUEST):
        case "state/reset":
            assert request.key is not None  # noqa: S101 `read` has seen to it
            if not pipeline.forget(request.key):
                return refused(message, no_stream(pipeline))
            return done(message, {"pipeline": pipeline.name, "key": request.key})
        case name:
            pipeline.paused = name == "learn/pause"
            return done(message, {"pipeline": pipeline.name, "learning": pipeline.learning})


def no_stream(pipeline: Pipeline[Any]) -> str:
    """Return the words for a key that a pipeline does not have."""
    return f"{pipeline.name}: no stream has this key"


def _reply(message: Message, told: dict[str, Any]) -> Reply:
    tag = transaction(message)
    if tag is not UNSET:
        told["transaction"] = tag
    return Reply(RESPONSE + message.topic.removeprefix(REQUEST), msgspec.json.encode(told))
