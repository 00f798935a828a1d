"""Self-test: whether the broker serves the subscriptions that it has granted.

mosquitto grants a subscription whatever its access rules say, and then keeps silent: nothing tells that from a
sensor that is off. Where the configuration asks for it, a message of ours shows it; else a line in the log points
there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Collection, Iterable

from streamrnn.edges.mqtt import Connection
from streamrnn.events import Message
from streamrnn.keys import matched_levels, without_share

log = logging.getLogger(__name__)

LEVEL = "streamrnn-self-test"  # stands in a topic where the filter has a wildcard
ANSWER_S = 10.0
QUIET_S = 60.0


def topic_for(topic_filter: str) -> str:
    """Return a topic that a filter matches, in which nobody publishes if it has a wildcard.

    Examples
    --------
    >>> topic_for("plant/+/telemetry")
    'plant/streamrnn-self-test/telemetry'
    """
    return "/".join(LEVEL if level in ("+", "#") else level for level in without_share(topic_filter).split("/"))


class SelfTest:
    """Watches which subscriptions anything comes on.

    Parameters
    ----------
    publish
        Whether to send test messages; without, it only waits.

    Attributes
    ----------
    counts
        unserved: subscriptions on which a test message did not come back; quiet: on which nothing came at first.
    """

    def __init__(self, publish: bool) -> None:
        self.publish = publish
        self.counts: Counter[str] = Counter()
        self._silent: set[str] = set()
        self._token = f"streamrnn self-test {secrets.token_hex(8)}".encode()

    def is_ours(self, message: Message) -> bool:
        """Note that a message came, and say whether it is one of our tests, which is nobody's event."""
        if self._silent:
            self._silent = {each for each in self._silent if matched_levels(each, message.topic) is None}
        return message.payload == self._token

    def drop(self, filters: Iterable[str]) -> None:
        """Expect nothing on topic filters that are not subscribed to any more."""
        self._silent.difference_update(filters)

    async def run(self, connection: Connection, filters: Collection[str]) -> None:
        """Test these topic filters once, after the subscriptions are granted."""
        self._silent.update(filters)
        await connection.subscribed()
        if self.publish:
            # A shared subscription may hand our message to another member of its group: silence would prove
            # nothing.
            tested = [each for each in filters if not each.startswith("$share/")]
            for each in tested:
                connection.publish(topic_for(each), self._token, 1)
            await asyncio.sleep(ANSWER_S)
            for each in tested:
                if each in self._silent:
                    self.counts["unserved"] += 1
                    log.error(
                        "%s: the broker granted this subscription, but a test message to %s has not come back in"
                        " %g s: its access rules must let our user read the one and write the other",
                        each, topic_for(each), ANSWER_S,
                    )  # fmt: skip
        else:
            await asyncio.sleep(QUIET_S)
            for each in sorted(self._silent.intersection(filters)):
                self.counts["quiet"] += 1
                log.warning(
                    "%s: nothing has come in %g s: does anybody publish there, and do the broker's access rules"
                    " let us read it? (mqtt.self_test: true finds out)",
                    each, QUIET_S,
                )  # fmt: skip
        self.drop(filters)  # or every message would be looked at for a sensor that is never on
