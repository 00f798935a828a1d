"""The command `sense`: this computer's telemetry, published until somebody says stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket

from streamrnn.edges.endpoint import endpoint
from streamrnn.edges.mqtt import Connection, Settings
from streamrnn.edges.reaching import reachable
from streamrnn.errors import UsageError
from streamrnn.telemetry import publish_telemetry

log = logging.getLogger(__name__)


async def run_sense(
    url: str, topic: str | None, rate_hz: float, username: str | None, password_file: str | None
) -> None:
    """Publish readings `rate_hz` times a second until SIGTERM or SIGINT.

    Raises
    ------
    UsageError
        The URL or the topic cannot be.
    BrokerError
        The broker cannot be reached, or refuses us, at the start.
    """
    topic = topic or f"sense/{socket.gethostname()}/telemetry"
    if set("+#\0") & set(topic):
        raise UsageError(f"--topic: expected a topic without wildcards, got {topic!r}")
    try:
        endpoint(url)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from error
    client_id = f"streamrnn-sense-{os.getpid()}"
    settings = Settings(url, client_id, username, password_file, clean_session=True)
    await reachable(settings, timeout=10.0)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Connection(settings, (), lambda _: True) as connection:
        log.info("publishing %g readings a second to %s; Ctrl-C ends it", rate_hz, topic)
        await publish_telemetry(connection, topic, rate_hz, stop)
