"""Whether a broker can be reached, asked once; and where a URL says that it is, as an error of ours."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import msgspec

from streamrnn.edges.endpoint import Endpoint, Settings, endpoint
from streamrnn.edges.link import Link, Refused, Unreachable
from streamrnn.errors import BrokerError


async def reachable(settings: Settings, timeout: float = 5.0) -> None:  # noqa: ASYNC109
    """Connect once and say goodbye, for commands that should fail early.

    It connects under a client id of its own, so as not to push a running service off.

    Raises
    ------
    BrokerError
        The broker does not answer within `timeout` seconds, or refuses us.
    """
    where = resolved(settings)
    own = f"{settings.client_id}-{os.getpid()}"
    link = Link(msgspec.structs.replace(settings, client_id=own, clean_session=True, will=None), where, Counter())
    try:
        async with asyncio.timeout(timeout):
            await link.open()
    except Refused as exc:
        raise BrokerError(f"{where.name} refused the connection: {exc}") from exc
    except Unreachable as exc:
        raise BrokerError(f"cannot reach the broker at {where.name}: {exc}") from exc
    except TimeoutError as exc:
        raise BrokerError(f"cannot reach the broker at {where.name}: no answer in {timeout:g} s") from exc
    await link.close()


def resolved(settings: Settings) -> Endpoint:
    """Return where the broker is.

    Raises
    ------
    BrokerError
        The URL is wrong.
    """
    try:
        return endpoint(settings.url)
    except ValueError as exc:
        raise BrokerError(f"mqtt.url: {exc}") from exc
