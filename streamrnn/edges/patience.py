"""How long to wait for a broker that is away, and how often to say so."""

from __future__ import annotations

import logging
import random
import time

from streamrnn.edges.endpoint import Endpoint

log = logging.getLogger(__name__)

BACKOFF_S = (0.1, 0.8)  # least and most: who comes back is found within a second, and an attempt costs little
REFUSED_S = 30.0  # the most when the broker said no, which it will say again until somebody changes something
STABLE_S = 10.0  # a connection that lasted as long starts the backoff anew
LOG_EVERY_S = 5.0
SHORT_MAX, SHORT_EVERY = 3, 100  # connections that did not last: those told one by one, and of the others which


class Patience:
    """Paces the attempts to reach one broker, and the lines about them."""

    def __init__(self, where: Endpoint, client_id: str) -> None:
        self._name = where.name
        self._client_id = client_id
        self._attempts = 0
        self._refused = False
        self._short = 0  # connections in a row that did not last
        self._said = -LOG_EVERY_S

    def delay_s(self) -> float:
        """Return seconds to the next attempt, longer each time; never the same for two clients."""
        least, most = BACKOFF_S
        most = REFUSED_S if self._refused else most
        delay = min(most, least * 2.0 ** min(self._attempts, 16))
        self._attempts += 1
        return delay * random.uniform(0.5, 1.0)

    def failed(self, why: str) -> None:
        """Say that no connection came about, at most every `LOG_EVERY_S` seconds."""
        self._refused = False
        self._say(logging.WARNING, f"waiting for the broker at {self._name}: {why}")

    def refused(self, why: str) -> None:
        """Say that the broker said no, as often."""
        self._refused = True
        self._say(logging.ERROR, f"{self._name} refused the connection: {why}")

    def lost(self, why: str, lasted_s: float) -> None:
        """Say that a connection is gone, of many that do not last now and then; start anew if it had lasted."""
        if lasted_s >= STABLE_S:
            self._attempts = self._short = 0
        else:
            self._short += 1
        # Two clients that put each other off do so for ever.
        if self._short > SHORT_MAX and self._short % SHORT_EVERY:
            return
        log.warning("lost the connection to %s: %s", self._name, why)
        self._said = -LOG_EVERY_S
        if self._short >= SHORT_MAX:
            log.warning("%d connections in a row did not last: is another client using client_id %r?",
                        self._short, self._client_id)  # fmt: skip

    def _say(self, level: int, line: str) -> None:
        now = time.monotonic()
        if now - self._said >= LOG_EVERY_S:
            self._said = now
            log.log(level, "%s", line)
