"""Signals: what an operator or a supervisor tells a service by them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from streamrnn.serving.reload import Reloader

log = logging.getLogger(__name__)


class Signalled(Protocol):
    """What signals need of the service."""

    stopping: asyncio.Event
    reloader: Reloader

    def stop(self) -> None: ...


@contextmanager
def signals(service: Signalled) -> Iterator[None]:
    """SIGTERM and SIGINT ask the service to stop; a second one ends the process at once. SIGHUP: it reloads."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if service.stopping.is_set():
            log.warning("stopping at once")
            os._exit(1)
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, service.reloader.asked.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
