"""What a service does for its store beside the events."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_disk import FakeDisk
from simulation import CONFIG, FINGERPRINTS

from streamrnn.build import build_pipelines
from streamrnn.edges.recovery import recover
from streamrnn.edges.store import Copy, Store
from streamrnn.events import Message
from streamrnn.lane import Lane
from streamrnn.upkeep import Upkeep

MESSAGE = Message("plant/a", b'{"x": 1}', qos=1, mid=7)


class Broker:
    """A connection whose broker has everything at once."""

    issued = through = 0

    def __init__(self) -> None:
        self.told: list[Message] = []

    async def acknowledged(self, _issued: int) -> None:
        """Nothing to wait for."""

    def acknowledge(self, message: Message) -> None:
        self.told.append(message)


def test_what_comes_while_a_checkpoint_is_written_is_acknowledged_when_that_has_synced_it() -> None:
    async def scenario() -> None:
        store = Store(FakeDisk(), build_pipelines(CONFIG), FINGERPRINTS, "power")
        recover(store)
        store.begin()
        broker: Any = Broker()
        lanes = [Lane(pipeline, CONFIG.pipelines[name].output, 10) for name, pipeline in store.pipelines.items()]
        upkeep = Upkeep(store, lanes, broker, lambda: None)
        write = store.write

        def write_late(copy: Copy) -> None:
            number = store.append(MESSAGE, ["first"])
            assert not upkeep.may_acknowledge(number, MESSAGE)
            write(copy)

        store.write = write_late  # type: ignore[method-assign]
        await upkeep._checkpoint(lanes[0])
        assert not store.journal.unsynced  # so that nobody will sync it again
        assert [MESSAGE] == broker.told
        for pipeline in store.pipelines.values():
            pipeline.close()
        store.close()

    asyncio.run(scenario())
