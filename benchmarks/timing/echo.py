"""A bare echo by aiomqtt, the peer of the rows through a broker: python echo.py PORT QOS. Says `ready`."""

from __future__ import annotations

import asyncio
import socket
import sys

import aiomqtt

NODELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]  # else an answer may wait for an acknowledgement of TCP


async def main(port: int, qos: int) -> None:
    """Publish what comes on `echo/in` on `echo/out`."""
    async with aiomqtt.Client("127.0.0.1", port, identifier=f"echo-{qos}", socket_options=NODELAY) as client:
        await client.subscribe("echo/in", qos=qos)
        print("ready", flush=True)
        async for message in client.messages:
            await client.publish("echo/out", message.payload, qos=qos)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
