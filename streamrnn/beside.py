"""Long work beside the event loop, at a start or a reload, that a stop need not wait for."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_PREFIX = "beside: "


async def beside(work: Callable[[], bool | None], stopping: asyncio.Event, name: str) -> bool:
    """Do `work` on a thread of its own; return True when it is done, False as soon as `stopping` is set.

    What it raises is raised. When it was not waited for its thread goes on: see `leave_what_is_behind`. (A thread
    of asyncio's pool would be waited for at the end of the loop.)
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        loop.call_soon_threadsafe(settle, error)

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    threading.Thread(target=run, name=_PREFIX + name, daemon=True).start()
    stopped = asyncio.create_task(stopping.wait(), name="stopping")
    ends: set[asyncio.Future[Any]] = {done, stopped}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not done.done():
        done.cancel()
        return False
    done.result()
    return True


def leave_what_is_behind() -> None:
    """End the process, well, if work that was not waited for still runs: compilers take no other end well."""
    if any(thread.name.startswith(_PREFIX) for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)
