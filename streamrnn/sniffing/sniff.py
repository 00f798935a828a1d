"""The command `sniff`: watch topics for a while, and draft a configuration for what comes there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Sequence

import msgspec

from streamrnn import config
from streamrnn.edges.endpoint import Settings, endpoint
from streamrnn.edges.mqtt import Connection
from streamrnn.edges.reaching import reachable
from streamrnn.errors import ConfigError, StreamrnnError, UsageError
from streamrnn.settings import rules
from streamrnn.sniffing.draft import draft
from streamrnn.sniffing.findings import conclude
from streamrnn.sniffing.survey import Survey

log = logging.getLogger(__name__)

CONNECT_S = 10.0


async def sniff(settings: Settings, topics: Sequence[str], seconds: float) -> str:
    """Watch topic filters for some seconds, or until SIGINT or SIGTERM; return a configuration as YAML.

    Before the broker has granted the subscriptions there is nothing to draft from, and the signals are Python's.

    Raises
    ------
    UsageError
        The URL or a topic filter cannot be.
    BrokerError
        The broker cannot be reached, or refuses us.
    StreamrnnError
        Nothing came, or nothing that a pipeline could take.
    """
    try:
        endpoint(settings.url)
    except ValueError as error:
        raise UsageError(f"URL: {error}") from error
    for topic in topics:
        if (expected := rules.topic_filter(topic)) is not None:
            raise UsageError(f"TOPIC: expected {expected}, got {topic!r}")
    settings = msgspec.structs.replace(settings, client_id=f"streamrnn-sniff-{os.getpid()}", clean_session=True)
    await reachable(settings, timeout=CONNECT_S)
    survey = Survey()
    stop = asyncio.Event()
    async with Connection(settings, [(topic, 0) for topic in topics], survey.observe) as connection:
        await connection.subscribed()
        for number in (signal.SIGTERM, signal.SIGINT):  # not before: until then either just ends the command
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        began = time.monotonic()
        log.info("watching %s for %g seconds; Ctrl-C ends it early", ", ".join(topics), seconds)
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            pass
        took = time.monotonic() - began
        refused = connection.counts["subscribe_refused"]
    return described(survey, topics, settings, took, refused)


def described(survey: Survey, topics: Sequence[str], settings: Settings, seconds: float, refused: int = 0) -> str:
    """Return the configuration for what a survey saw on these topic filters."""
    where = ", ".join(topics)
    if not survey.counts["messages"]:
        why = "; the broker refused the subscription" if refused else ""
        raise StreamrnnError(f"nothing came on {where} in {seconds:.0f} seconds{why}")
    log.info("%d messages on %d topics", survey.counts["messages"], len(survey.topics))
    if survey.counts["beyond"]:
        log.warning("%d messages were of more topics than are told apart", survey.counts["beyond"])
    findings, rest = conclude(survey.topics.values())
    if not findings:
        raise StreamrnnError(f"no numbers, and no names that could be symbols, came on {where}")
    text = draft(
        findings, rest, settings, f"{where}, {survey.counts['messages']} messages in {seconds:.0f} seconds"
    )
    try:
        config.loads(text, "draft")
    except ConfigError as error:
        log.warning("this draft needs a change first:\n%s", error)
    return text
