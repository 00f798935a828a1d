"""Reload: a running service goes on with its configuration as the files have it now.

Pipelines that are the same in it are not touched. What does not hold changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from streamrnn.beside import beside
from streamrnn.build import SHARED, build_pipeline
from streamrnn.config import Config
from streamrnn.edges import checkpoint
from streamrnn.edges.disk import words
from streamrnn.edges.recovery import load
from streamrnn.errors import StateError, StreamrnnError
from streamrnn.fingerprint import fingerprint
from streamrnn.pipeline import Pipeline
from streamrnn.privacy import notices
from streamrnn.serving.health import Watched
from streamrnn.serving.lane import Lane
from streamrnn.serving.upkeep import Upkeep
from streamrnn.warm import warm_aloud

log = logging.getLogger(__name__)

WATCH_S = 1.0  # between two looks at the files
GRANT_S = 10.0  # that a reload waits for the broker to grant new subscriptions
RETAINED = "goes on with what it has learned"
ANEW = "begins anew"
STOPPING = "the service is being stopped"


class Reloaded(Watched, Protocol):
    """What a reload needs of the service."""

    @property
    def lanes(self) -> list[Lane]: ...
    @property
    def upkeep(self) -> Upkeep | None: ...

    def lane(self, config: Config, pipeline: Pipeline[Any]) -> Lane: ...
    def start(self, lane: Lane) -> None: ...
    async def halt(self, lane: Lane) -> None: ...
    def go_on_with(self, config: Config) -> None: ...


class Change(NamedTuple):
    """What another configuration makes of pipelines, by name."""

    new: list[str]
    changed: list[str]
    gone: list[str]


def difference(old: Config, new: Config) -> Change:
    """Return what becomes of pipelines from one configuration to the other; those not named are the same."""
    before, after = old.pipelines, new.pipelines
    return Change(
        new=[name for name in after if name not in before],
        changed=[name for name in after if name in before and after[name] != before[name]],
        gone=[name for name in before if name not in after],
    )


def immovable(old: Config, new: Config) -> list[str]:
    """Return a line for each section that is another one, and that only a restart can change."""
    return [
        f"{part}: is another than at the start: only pipelines change by a reload, this by a restart"
        for part in SHARED
        if getattr(old, part) != getattr(new, part)
    ]


class Reloader:
    """Reloads a service when asked to, one reload after the other.

    Parameters
    ----------
    service
        It runs.
    read
        The configuration as its files have it now; raises a StreamrnnError where it does not hold.

    Attributes
    ----------
    asked
        Set to ask for a reload, at any time, also before the service takes messages.
    on_reload
        Told True when a reload begins and False when it ends.
    """

    def __init__(self, service: Reloaded, read: Callable[[], Config]) -> None:
        self.service = service
        self.read = read
        self.asked = asyncio.Event()
        self.on_reload: Callable[[bool], None] = lambda going: None  # noqa: ARG005
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Reload whenever asked, until cancelled."""
        while True:
            await self.asked.wait()
            self.asked.clear()
            await self.reload()

    async def reload(self) -> list[str]:
        """Go on with the configuration as it is now; return what stands against it, and then nothing is changed."""
        async with self._turn:
            self.on_reload(True)
            try:
                problems = await self._reload()
            finally:
                self.on_reload(False)
            for problem in problems:
                log.error("reload: %s", problem)
            if problems:
                log.error("reload: nothing is changed: going on with the configuration before")
            return problems

    async def _reload(self) -> list[str]:
        began, service = time.monotonic(), self.service
        try:
            config = await asyncio.to_thread(self.read)
        except StreamrnnError as error:
            return str(error).splitlines()
        if problems := immovable(service.config, config):
            return problems
        change = difference(service.config, config)
        if not any(change):
            log.info("reload: the configuration is the same")
            return []
        said = set(notices(service.config))
        for notice in notices(config):
            if notice not in said:
                log.info(notice)
        built: dict[str, Pipeline[Any]] = {}
        for name in (*change.changed, *change.new):
            spec = config.pipelines[name]
            # On threads: the other pipelines go on meanwhile.
            try:
                if not await beside(lambda name=name, spec=spec: warm_aloud(name, spec), service.stopping, "warm"):  # type: ignore[misc]
                    return [STOPPING]
                built[name] = await asyncio.to_thread(build_pipeline, name, spec, config.seed)
            except (StreamrnnError, OSError, MemoryError) as error:
                return [f"pipelines.{name}: cannot be built: {error or type(error).__name__}"]
        async with service.upkeep.writing if service.upkeep is not None else nullcontext():
            if service.stopping.is_set():  # while a checkpoint waited for the broker
                return [STOPPING]
            await self._exchange(config, change, built)
            if service.upkeep is not None:
                service.upkeep.acknowledge()  # what was written has synced the journal, with what came meanwhile
        service.go_on_with(config)
        await self._granted()
        same = len(config.pipelines) - len(built)
        log.info("reload: done in %.1f s, %d pipelines are the same", time.monotonic() - began, same)
        return []

    async def _exchange(self, config: Config, change: Change, built: Mapping[str, Pipeline[Any]]) -> None:
        """Take pipelines out and put others in, each between two of its messages."""
        lanes, store = self.service.lanes, self.service.store
        olds = {lane.pipeline.name: lane for lane in lanes}
        for name in change.gone:
            lane = olds[name]
            lanes.remove(lane)
            await self.service.halt(lane)
            log.info("reload: %s: is gone, with %d messages that waited for it", name, len(lane.queue))
            if store is not None:
                await self._keep(lane)
                store.remove(name)
            await _close(lane)
        for name in change.changed:
            old = olds[name]
            await self.service.halt(old)  # messages that come meanwhile wait in its queue
            lane = self.service.lane(config, built[name])
            how = await self._take_over(config, old, lane)
            lane.take_up(old.queue)
            lane.done = old.done
            if store is not None:
                position = lane.queue[0][0] if lane.queue else store.journal.next
                store.accounts[name].go_on(position, len(lane.queue))
            lanes[lanes.index(old)] = lane
            if store is not None and how == ANEW:
                await self._begin(lane)
            self.service.start(lane)
            log.info("reload: %s: is another, and %s; %d messages wait for it", name, how, len(lane.queue))
            await _close(old)
        for name in change.new:
            lane = self.service.lane(config, built[name])
            if store is not None:
                await self._load(config, lane)
                store.accounts[name].go_on(store.journal.next, 0)
            lanes.append(lane)
            if store is not None:
                await self._begin(lane)
            self.service.start(lane)
            log.info("reload: %s: is new", name)

    async def _take_over(self, config: Config, old: Lane, lane: Lane) -> str:
        """Give a lane's pipeline the state of the one before, where that means the same; return what was done."""
        name, store = lane.pipeline.name, self.service.store
        before, after = self.service.config.pipelines[name], config.pipelines[name]
        if fingerprint(name, before, config.seed) != fingerprint(name, after, config.seed):
            if store is not None:
                await self._keep(old)
                await self._load(config, lane)  # which sets it aside
            return ANEW
        lane.pipeline.parking = old.pipeline.parking
        try:
            await asyncio.to_thread(lambda: lane.pipeline.restore(old.pipeline.save()))
        except (StateError, MemoryError) as error:  # it is there twice for a moment
            if store is not None:
                await self._keep(old)
                await asyncio.to_thread(self._set_aside, name)
            await self._make_anew(config, lane, str(error) or type(error).__name__)
            return ANEW
        if store is not None:
            store.exchange(lane.pipeline, after.limits.parked)
        return RETAINED

    async def _keep(self, lane: Lane) -> None:
        """Write the last checkpoint of a pipeline that is run no more."""
        store, name = self.service.store, lane.pipeline.name
        assert store is not None  # noqa: S101
        try:
            copy = await asyncio.to_thread(store.copier(name, idle=not lane.queue))
            await asyncio.to_thread(store.write, copy)
        except OSError as error:
            store.checkpoint_failed(name, error)

    async def _begin(self, lane: Lane) -> None:
        """Write the first checkpoint of a pipeline that has not answered yet; messages for it wait in its queue.

        Without it a restart would not know from where on the journal is for it, and leave out what waits.
        """
        store, name = self.service.store, lane.pipeline.name
        assert store is not None  # noqa: S101
        copy = await asyncio.to_thread(store.copier(name, idle=not lane.queue))
        try:
            await asyncio.to_thread(store.write, copy)
        except OSError as error:
            store.checkpoint_failed(name, error)  # which upkeep tries again
        else:
            store.written(copy)

    async def _load(self, config: Config, lane: Lane) -> None:
        """Keep a pipeline from now on; it goes on from a checkpoint of an earlier time, if one is its own."""
        store, name = self.service.store, lane.pipeline.name
        assert store is not None  # noqa: S101
        spec = config.pipelines[name]
        store.add(lane.pipeline, fingerprint(name, spec, config.seed), spec.limits.parked)
        try:
            await asyncio.to_thread(load, store, name)
        except (StateError, OSError) as error:
            await self._make_anew(config, lane, words(error) if isinstance(error, OSError) else str(error))

    def _set_aside(self, name: str) -> None:
        """Move the checkpoints of a pipeline aside, which a restart would take for those of the fresh one."""
        store = self.service.store
        assert store is not None  # noqa: S101
        try:
            checkpoint.set_all_aside(store.disk, name)
        except OSError as error:  # the first checkpoint of the fresh one is newer
            log.error("reload: %s: its checkpoints cannot be moved aside: %s", name, words(error))

    async def _make_anew(self, config: Config, lane: Lane, why: str) -> None:
        """Give a lane a fresh pipeline instead of one with half a state."""
        store, name = self.service.store, lane.pipeline.name
        spec = config.pipelines[name]
        log.error("reload: %s: %s; it begins anew", name, why)
        await asyncio.to_thread(lane.pipeline.close)
        lane.pipeline = await asyncio.to_thread(build_pipeline, name, spec, config.seed)
        if store is None:
            return
        store.add(lane.pipeline, fingerprint(name, spec, config.seed), spec.limits.parked)
        try:
            await asyncio.to_thread(store.parking[name].begin_anew)
        except OSError as error:  # what is there is written over, or removed after a checkpoint
            log.error("reload: %s: what it has parked cannot be moved aside: %s", name, words(error))

    async def _granted(self) -> None:
        """Wait for the broker to grant what is new, if it is there."""
        connection = self.service.connection
        if connection is None or not self.service.connected.is_set():
            return
        try:
            async with asyncio.timeout(GRANT_S):
                await connection.subscribed()
        except TimeoutError:
            log.warning("reload: the broker has not granted the subscriptions in %g s", GRANT_S)


@asynccontextmanager
async def watching_files(paths: Sequence[Path], reloader: Reloader) -> AsyncIterator[None]:
    """Ask for a reload when one of these files is another, until the end of the block; of no files watch none."""
    task = asyncio.create_task(_watch(paths, reloader), name="watch") if paths else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


async def _watch(paths: Sequence[Path], reloader: Reloader) -> None:
    loaded = seen = _signs(paths)
    while True:
        await asyncio.sleep(WATCH_S)
        before, seen = seen, _signs(paths)
        if seen == before and seen != loaded:  # it stayed for a while: an editor may write a file in pieces
            loaded = seen
            log.info("reload: the configuration was edited")
            reloader.asked.set()


def _signs(paths: Sequence[Path]) -> list[tuple[int, int, int] | None]:
    """Return what tells one version of each file from the next; None of one that is not there."""
    signs: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            signs.append(None)
        else:
            signs.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return signs


async def _close(lane: Lane) -> None:
    """Let a lane go that nobody runs any more, with what waits in it; its learner may have an update to end."""
    lane.queue.clear()
    lane.idle.set()
    await asyncio.to_thread(lane.pipeline.close)
