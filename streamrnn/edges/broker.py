"""A small MQTT broker of our own for the demo: amqtt in a process by itself, on this computer only, nothing kept.

Not for a plant: use mosquitto there. The process runs this very file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from types import TracebackType

from streamrnn.errors import BrokerError

START_S = 30.0  # a slow card reads amqtt for a while
STOP_S = 3.0
_PORTS_TRIED = 5


class Broker:
    """An embedded broker, up inside ``async with``.

    Parameters
    ----------
    host
        A loopback address.
    port
        0: any that is free.

    Attributes
    ----------
    url
        Where clients find it, once it is up.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"mqtt://{self.host}:{self.port}"

    async def __aenter__(self) -> Broker:
        """Start the process and wait until it listens.

        Raises
        ------
        BrokerError
            It did not start; its own words are on stderr.
        """
        # Its stdin is a pipe we never write to: when we die, however, it reads the end and stops.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "streamrnn.edges.broker", self.host, str(self.port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours to handle: the broker goes last
        )
        assert self._process.stdout is not None  # noqa: S101
        try:
            async with asyncio.timeout(START_S):
                line = await self._process.stdout.readline()
            self.port = int(line)
        except (TimeoutError, ValueError):
            await self._stop()
            raise BrokerError(f"the embedded broker did not start on {self.host}:{self.port}") from None
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process."""
        await self._stop()

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            if process.returncode is None:
                process.terminate()
                async with asyncio.timeout(STOP_S):
                    await process.wait()
        except ProcessLookupError:
            pass
        except TimeoutError:
            process.kill()
        await process.wait()


# From here on: the process. amqtt is imported in it alone, for it is slow to import.


async def serve(host: str, port: int) -> None:
    """Serve until stdin ends; prints the port once it listens."""
    from amqtt.broker import Broker as Amqtt
    from amqtt.errors import BrokerError as AmqttError

    for candidate in _ports(host, port):
        broker = Amqtt(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{host}:{candidate}"}},
                # It lets anyone in. amqtt's plugin for anonymous clients does too, but forgets their sessions.
                "plugins": {"amqtt.plugins.base.BaseAuthPlugin": {}},
            }
        )
        try:
            await broker.start()
        except AmqttError:
            continue
        print(candidate, flush=True)  # noqa: T201
        break
    else:
        raise SystemExit(1)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    os._exit(0)  # nothing is kept, so there is nothing to close


def _ports(host: str, port: int) -> Iterator[int]:
    if port:
        yield port
        return
    for _ in range(_PORTS_TRIED):  # another process may take a port between our look and amqtt's bind
        with socket.create_server((host, 0)) as probe:
            free: int = probe.getsockname()[1]
        yield free


def main(arguments: list[str]) -> None:
    """Run the process: HOST PORT."""
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.CRITICAL)
    host, port = arguments
    asyncio.run(serve(host, int(port)))


if __name__ == "__main__":
    main(sys.argv[1:])
