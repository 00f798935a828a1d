"""What a service does for its store beside the events."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_disk import FakeDisk
from simulation import CONFIG, FINGERPRINTS

from streamrnn.build import build_pipelines
from streamrnn.edges.recovery import recover
from streamrnn.edges.store import Copy, Store
from streamrnn.events import Message
from streamrnn.serving.lane import TURN_NS, Lane
from streamrnn.serving.upkeep import Upkeep
from streamrnn.settings.specs import OutputTarget

MESSAGE = Message("plant/a", b'{"x": 1}', qos=1, mid=7)


class Broker:
    """A connection whose broker has everything at once."""

    issued = through = outstanding = 0
    stuck = False

    def __init__(self) -> None:
        self.told: list[Message] = []

    async def acknowledged(self, _issued: int) -> None:
        """Nothing to wait for."""

    def resume(self) -> None:
        """Nothing is held."""

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


def test_a_lane_is_held_between_two_messages_also_when_each_takes_many_turns() -> None:
    async def scenario() -> None:
        begun: list[int] = []
        ended: list[int] = []

        def slowly(_pipeline: object, number: int, message: Message) -> Iterator[Any]:
            begun.append(number)
            for _ in range(3):
                time.sleep(TURN_NS / 1e9)
                yield message
            ended.append(number)

        (name, *_), pipelines = CONFIG.pipelines, build_pipelines(CONFIG)
        lane = Lane(pipelines[name], OutputTarget(topic=None), 10, slowly)
        lane.take_up((number, MESSAGE) for number in range(6))
        broker: Any = Broker()
        connected = asyncio.Event()
        connected.set()
        running = asyncio.create_task(lane.run(broker, connected))
        await asyncio.sleep(0)  # so that it begins
        for _ in range(3):
            await asyncio.sleep(0)  # to the middle of a message
            async with lane.held():
                async with lane.held():
                    taken = len(begun)
                for _ in range(10):
                    await asyncio.sleep(0)
            async with lane.held():  # at once again
                connected.clear()
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
            assert begun == ended
            assert taken == len(begun)
            connected.set()
        assert 3 <= len(ended) < 6
        running.cancel()
        for pipeline in pipelines.values():
            pipeline.close()

    asyncio.run(scenario())


def test_while_a_pipeline_is_copied_the_loop_goes_on_and_what_comes_waits_and_is_not_in_the_copy() -> None:
    async def scenario() -> None:
        store = Store(FakeDisk(), build_pipelines(CONFIG), FINGERPRINTS)
        recover(store)
        store.begin()
        broker: Any = Broker()
        name, pipeline = next(iter(store.pipelines.items()))
        answered: list[int] = []

        def answers(_pipeline: object, number: int, message: Message) -> Iterator[Any]:
            answered.append(number)
            yield from store.answers(pipeline, number, message)

        lane = Lane(pipeline, OutputTarget(topic=None), 10, answers)
        upkeep = Upkeep(store, [lane], broker, lambda: None)
        copier, copying, go_on = store.copier, threading.Event(), threading.Event()

        def late(name: str, idle: bool) -> Callable[[], Copy]:
            copy = copier(name, idle)

            def copy_late() -> Copy:
                copying.set()
                assert go_on.wait(10)
                return copy()

            return copy_late

        store.copier = late  # type: ignore[method-assign]
        connected = asyncio.Event()
        connected.set()
        running = asyncio.create_task(lane.run(broker, connected))
        lane.put(store.append(MESSAGE, [name]), MESSAGE)
        await lane.idle.wait()
        writing = asyncio.create_task(upkeep._checkpoint(lane))
        assert await asyncio.to_thread(copying.wait, 10)
        lane.put(store.append(MESSAGE, [name]), MESSAGE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert [0] == answered
        go_on.set()
        await writing
        await lane.idle.wait()
        assert [0, 1] == answered
        assert 1 == store.accounts[name].saved[0]
        assert 1 == store.accounts[name].behind
        running.cancel()
        for each in store.pipelines.values():
            each.close()
        store.close()

    asyncio.run(scenario())


def test_a_pipeline_that_a_reload_takes_out_while_another_is_written_is_not_asked_for() -> None:
    async def scenario() -> None:
        store = Store(FakeDisk(), build_pipelines(CONFIG), FINGERPRINTS)
        recover(store)  # and no checkpoint yet, so that all are due
        broker: Any = Broker()
        lanes = [Lane(pipeline, CONFIG.pipelines[name].output, 10) for name, pipeline in store.pipelines.items()]
        upkeep = Upkeep(store, lanes, broker, lambda: None)
        async with upkeep.writing:  # of a reload, for which the first checkpoint waits
            ticking = asyncio.create_task(upkeep._tick())
            await asyncio.sleep(0.1)
            gone = lanes.pop()
            store.remove(gone.pipeline.name)
        await asyncio.sleep(0.2)
        assert not ticking.done()
        assert 1 == store.counts["checkpoints"]
        ticking.cancel()
        for lane in (*lanes, gone):
            lane.pipeline.close()
        store.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamrnn.serving.upkeep.TICK_S", 0.01)
        asyncio.run(scenario())
