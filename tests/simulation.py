"""A whole life of a service in a fraction of a second: the real pipelines, store, journal, checkpoints and recovery
against a broker, a disk and a clock that a seed drives. The same seed gives the same life.

What may happen: messages are delivered in any order across topics, lost on the way back, delivered again; the
connection breaks; the broker forgets the session; the disk fills up, fails a sync, writes less than asked; the
process dies at any write, in the middle of one, between any two steps, or of a message; it is told to stop while it
recovers; a pipeline is exchanged by a reload; power is lost with all that was not synced; the newest checkpoint, or
a parked stream, rots. A life ends well, and is then held against pipelines that lived through the same messages
without any of it.
"""

from __future__ import annotations

import errno
import json
import random
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from fake_disk import Crash, FakeDisk

from streamrnn import config
from streamrnn.build import build_pipeline, build_pipelines
from streamrnn.codecs import encode
from streamrnn.edges import checkpoint, parked, processing, statefile
from streamrnn.edges.frames import Gap
from streamrnn.edges.parking import Remembered, numbers_of
from streamrnn.edges.processing import Watched
from streamrnn.edges.recovery import QUARANTINE, quarantine_name, recover
from streamrnn.edges.segments import Reading
from streamrnn.edges.store import Copy, Store
from streamrnn.errors import StateError
from streamrnn.events import Message, Output
from streamrnn.fingerprint import fingerprint
from streamrnn.pipeline import Pipeline
from streamrnn.requests import IN_TURN, REQUEST, Reply, concerns, take

TEXT = """
pipelines:
  first:
    input: {topic: [plant/a, plant/b], fields: [x], time: ts}
    model: {cell: rnn_tanh, hidden: 2}
    forecast: {horizons: [1, 2]}
    learn: {every: 4, windows: 1, length: 2, history: 16}
    limits: {keys: 1}
  second:
    input: {topic: [plant/b, keys/+], symbol: key}
    model: {cell: rnn_tanh, hidden: 2}
    learn: {every: 8, windows: 1, length: 2, history: 16}
    limits: {keys: 1, parked: 1}
"""
CONFIG = config.loads(TEXT)
PARKED_MAX = {name: spec.limits.parked for name, spec in CONFIG.pipelines.items()}
FINGERPRINTS = {name: fingerprint(name, spec, CONFIG.seed) for name, spec in CONFIG.pipelines.items()}
IN_FLIGHT_MAX = 4
POISON = "poison"
MESSAGES = 32


class Broker:
    """Delivers at least once at QoS 1: what was not acknowledged comes again, with DUP and its packet id."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.session = False
        self.connected = False
        self.waiting: list[Message] = []
        self.in_flight: dict[int, Message] = {}  # by packet id
        self.to_deliver: deque[Message] = deque()
        self.mid = 0
        self.forgot: set[bytes] = set()  # payloads that nobody will deliver any more
        self.offers = 0

    def publish(self, message: Message) -> None:
        if message.qos or self.connected:
            self.waiting.append(message)

    def connect(self) -> bool:
        """Whether the session was still there."""
        known, self.session, self.connected = self.session, True, True
        self.waiting = [message for message in self.waiting if message.qos]
        self.to_deliver = deque(replace(message, dup=True) for message in self.in_flight.values())
        return known

    def disconnect(self) -> None:
        self.connected = False
        self.to_deliver.clear()

    def forget(self) -> None:
        """Lose the session, as a broker does that restarts without persistence."""
        self.disconnect()
        self.forgot |= {message.payload for message in (*self.waiting, *self.in_flight.values())}
        self.waiting.clear()
        self.in_flight.clear()
        self.session = False
        self.mid = 0

    def deliver(self) -> Message | None:
        """The next message: of any topic, in order within it."""
        if self.to_deliver:
            return self.to_deliver.popleft()
        topics = sorted({message.topic for message in self.waiting})
        if not topics or len(self.in_flight) >= IN_FLIGHT_MAX:
            return None
        topic = self.rng.choice(topics)
        message = next(message for message in self.waiting if message.topic == topic)
        self.waiting.remove(message)
        if message.qos == 0:
            return message
        self.mid = self.mid % 65535 + 1
        message = replace(message, mid=self.mid)
        self.in_flight[self.mid] = message
        return message

    def acknowledged(self, mid: int) -> None:
        self.in_flight.pop(mid, None)

    @property
    def done(self) -> bool:
        return not self.waiting and not self.in_flight


def replace(message: Message, **changes: Any) -> Message:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return Message(**fields | changes)


class Life:
    """One life of a service, and what is known of it from outside."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.durability = self.rng.choice(("process", "second", "power"))
        # Whether a death takes what was not synced with it; nobody is promised that `process` outlives that.
        self.power = self.durability != "process" and self.rng.random() < 0.5
        self.every = self.rng.choice((2, 4, 16))
        self.segment_bytes = self.rng.choice((200, 1000, 1 << 16))
        self.waiting_bytes = self.rng.choice((1500, 16 << 20))
        # Some lives have messages that kill the process, and then no trouble that could hide whose fault it was.
        self.poisonous = self.rng.random() < 0.2
        self.slot = bytearray(processing.SIZE)
        self.clock = 1.7e9
        self.disk = FakeDisk(self.rng)
        self.broker = Broker(self.rng)
        self.unpublished = [self.message(i) for i in range(MESSAGES)]
        self.published = list(self.unpublished)
        self.history: dict[int, Message] = {}  # what the living timeline has taken, by number
        # The newest the broker was given, by pipeline, message, and place in its answer.
        self.outputs: dict[tuple[str, int, int], bytes] = {}
        self.acknowledged: set[bytes] = set()
        self.lost_synced = 0  # acknowledged, and lost with the power
        self.counts: Counter[str] = Counter()
        self.store: Store | None = None
        self.lanes: dict[str, deque[tuple[int, Message]]] = {}
        self.owed: list[tuple[int, Message]] = []
        self.unsent: deque[tuple[str, int, int, bytes]] = deque()
        self.copy: Copy | None = None
        self.held: list[Message] = []  # not taken yet: nothing can be kept
        self.excused = dict.fromkeys(CONFIG.pipelines, 0)
        self.missing: dict[str, set[int]] = {
            name: set() for name in CONFIG.pipelines
        }  # answered, not kept, forgotten
        # Pipelines that a parked stream was taken from: keys begin anew, so answers may be others. None is lost.
        self.spoiled: set[str] = set()

    def message(self, i: int) -> Message:
        if self.rng.random() < 0.15:
            return self.request(i)
        topic = self.rng.choice(("plant/a", "plant/b", "keys/k", "keys/l", "keys/" + "long" * 100))
        qos = int(self.rng.random() < 0.8)
        words = self.rng.choice(("{", "?", " ")) if self.rng.random() < 0.1 else ""
        if self.poisonous and self.rng.random() < 0.05:
            words = POISON
        key = self.rng.choice("abcd")
        body = {"ts": 1.7e9 + i + self.rng.uniform(-5, 5), "x": self.rng.gauss(0, 1), "key": key, "id": i}
        return Message(topic, (json.dumps(body) + words).encode(), qos=qos, retain=self.rng.random() < 0.05)

    def request(self, i: int) -> Message:
        """What pipelines apply in its turn, between the events."""
        name = self.rng.choice(sorted(IN_TURN))
        key = self.rng.choice(("plant/a", "plant/b", "k", "l", "long" * 100))
        body = {"pipeline": self.rng.choice(list(CONFIG.pipelines)), "key": key, "transaction": i}
        return Message(REQUEST + name, json.dumps(body).encode(), qos=int(self.rng.random() < 0.8))

    # One process

    def start(self) -> None:
        pipelines = {name: self.build(name) for name in CONFIG.pipelines}
        watched = Watched(self.slot) if self.poisonous else None
        store = Store(
            self.disk,
            pipelines,
            FINGERPRINTS,
            self.durability,
            self.every,
            watched,
            PARKED_MAX,
            lambda: self.clock,
        )
        store.journal.segment_bytes = self.segment_bytes
        store.journal._waiting.bytes_max = self.waiting_bytes
        store.remembered = 25
        self.store = store
        found = Reading(self.disk)
        hurried = self.rng.random() < 0.05
        if not recover(store, lambda: not hurried or self.rng.random() < 0.9):
            store.close()
            self.counts["stopped recoveries"] += 1
            raise Crash
        following = store.journal.next
        begins = found.begins if found.segments else following
        for name, account in store.accounts.items():
            self.missing[name] = {number for number in self.missing[name] if number < following}
            new = {number for number in gaps(self.disk) if number >= account.saved[0]} - self.missing[name]
            # Of segments that were not synced, power may take the first and leave the last.
            torn = {
                number
                for number, message in self.history.items()
                if account.saved[0] <= number < begins and concerns(pipelines[name], message)
            } - self.missing[name]
            assert self.power or not torn, "the journal was released too early"
            new |= torn
            if new:  # what was sent of later messages had them in it
                self.missing[name] |= new
                self.excused[name] = account.sent
        gone = [
            number
            for number, message in self.history.items()
            if number >= following
            or all(number in self.missing[name] for name in pipelines if concerns(pipelines[name], message))
        ]
        for number in gone:
            if self.history[number].payload in self.acknowledged:
                self.lost_synced += 1
            del self.history[number]
        store.begin()
        self.lanes = {name: deque(store.tails[name]) for name in pipelines}
        self.handed = {name: store.accounts[name].sent for name in pipelines}
        self.counts["starts"] += 1

    def build(self, name: str) -> Pipeline[Any]:
        pipeline = build_pipeline(name, CONFIG.pipelines[name], CONFIG.seed)
        pipeline.answers = mortal(pipeline.answers)  # type: ignore[method-assign]
        return pipeline

    def die(self) -> None:
        """The end of a process, however it came about."""
        assert self.store is not None
        for pipeline in self.store.pipelines.values():
            pipeline.close()
        self.disk.crash(power=self.power)
        if self.rng.random() < 0.3:
            self.rot_parked()
        if self.rng.random() < 0.2:
            self.rot()
        self.broker.disconnect()
        self.held.clear()
        self.store, self.copy = None, None
        self.owed.clear()
        self.unsent.clear()
        self.counts["deaths"] += 1

    def rot(self) -> None:
        """Damage the newest checkpoint of a pipeline, if there is an older one."""
        name = self.rng.choice(list(CONFIG.pipelines))
        positions = checkpoint.positions(self.disk, name)
        if len(positions) > 1:
            self.damage(checkpoint.name_of(name, positions[-1]))
            self.counts["rots"] += 1

    def rot_parked(self) -> None:
        """Damage a stream that the newest checkpoint of a pipeline says is parked, if there is one."""
        name = self.rng.choice(list(CONFIG.pipelines))
        positions = checkpoint.positions(self.disk, name)
        try:
            newest = statefile.load(self.disk, checkpoint.name_of(name, positions[-1])) if positions else None
        except statefile.Unreadable:  # it rots, too
            return
        numbers = sorted(numbers_of(newest.arrays).values()) if newest is not None else []
        there = set(parked.listed(self.disk, name))
        assert there.issuperset(numbers) or name in self.spoiled, "a checkpoint names a stream that is not there"
        if numbers := [number for number in numbers if number in there]:
            self.damage(parked.name_of(name, self.rng.choice(numbers)))
            self.spoiled.add(name)
            self.counts["parked rots"] += 1

    def damage(self, name: str) -> None:
        """Flip a bit of a file, or cut it off."""
        content = bytearray(self.disk.read(name))
        if not content:  # cut off before
            return
        at = self.rng.randrange(len(content))
        content[at] ^= 1 << self.rng.randrange(8)
        self.disk.damage(name, bytes(content[:at] if self.rng.random() < 0.3 else content))

    def take(self, message: Message) -> None:
        """As the service does: recognise, append, queue, acknowledge what is safe."""
        store = self.store
        assert store is not None
        number = store.known(message)
        if number is None:
            if message.qos and store.journal.full:
                self.held.append(message)
                return
            names = [name for name in self.lanes if concerns(store.pipelines[name], message)]
            message = replace(message, arrival=self.clock)
            self.history[store.journal.next] = message  # first: it may die of writing and have written
            number = store.append(message, names)
            for name in names:
                self.lanes[name].append((number, message))
        else:
            self.counts["recognised"] += 1
        if message.qos:
            self.owed.append((number, message))
        self.acknowledge()

    def acknowledge(self) -> None:
        assert self.store is not None
        while self.owed and self.owed[0][0] < self.store.safe:
            _, message = self.owed.pop(0)
            self.acknowledged.add(message.payload)
            if self.rng.random() < 0.05:
                self.step_break()  # and it is lost with the connection
            else:
                self.broker.acknowledged(message.mid)

    # What may happen at a step

    def step_publish(self) -> None:
        if self.unpublished:
            self.clock += self.rng.choice((0.5, 1.0, -3.0))
            self.broker.publish(self.unpublished.pop(0))

    def step_deliver(self) -> None:
        if self.broker.connected and (message := self.broker.deliver()) is not None:
            self.take(message)

    def step_process(self) -> None:
        assert self.store is not None
        busy = [name for name, lane in self.lanes.items() if lane]
        if not busy or not self.broker.connected:
            return
        name = self.rng.choice(busy)
        number, message = self.lanes[name].popleft()
        for place, output in enumerate(self.store.answers(self.store.pipelines[name], number, message)):
            self.unsent.append((name, number, place, published(output)))
        self.handed[name] = number + 1

    def step_send(self) -> None:
        """The broker takes some outputs; what it has not taken is lost with the process."""
        for _ in range(self.rng.randint(1, 30)):
            if self.unsent and self.broker.connected:
                *identity, payload = self.unsent.popleft()
                self.outputs[tuple(identity)] = payload

    def step_mark(self) -> None:
        assert self.store is not None
        for name, handed in self.handed.items():
            waiting = [number for each, number, *_ in self.unsent if each == name]
            self.store.sent(name, min([handed, *waiting]))

    def step_sync(self) -> None:
        assert self.store is not None
        journal = self.store.journal
        if journal.unsynced and journal.fault is None:
            journal.sync()
            self.acknowledge()

    def step_copy(self) -> None:
        assert self.store is not None
        for name, lane in self.lanes.items():
            if self.copy is None and self.store.due(name):
                self.copy = self.store.copier(name, idle=not lane)()

    def step_write(self) -> None:
        """A copy is written while other things went on, once all outputs of its messages are with the broker."""
        assert self.store is not None
        copy = self.copy
        if copy is None or copy.manifest.pipeline in {name for name, *_ in self.unsent}:
            return
        self.copy = None
        self.store.sent(copy.manifest.pipeline, copy.manifest.position)
        self.step_sync()
        try:
            self.store.write(copy)
        except OSError as error:
            self.store.checkpoint_failed(copy.manifest.pipeline, error)
        else:
            self.store.written(copy)
            self.store.release()

    def step_retry(self) -> None:
        assert self.store is not None
        if self.store.fault is not None and self.store.journal.retry():
            self.acknowledge()
            for _ in range(len(self.held)):
                if self.held:  # the connection may break over an acknowledgement
                    self.take(self.held.pop(0))

    def step_stop(self) -> None:
        """A clean end, as `Upkeep.finish` makes it, of a service that has nothing left to do."""
        store = self.store
        if store is None or any(self.lanes.values()) or self.unsent or self.copy or store.fault is not None:
            return
        self.step_mark()
        for name, account in store.accounts.items():
            if account.behind:
                copy = store.copier(name, idle=True)()
                try:
                    store.write(copy)
                except OSError as error:
                    store.checkpoint_failed(name, error)
                else:
                    store.written(copy)
        store.journal.sync()
        assert store.status()
        store.close()
        self.die()
        self.counts["stops"] += 1

    def step_reload(self) -> None:
        """A pipeline is exchanged, between two of its messages, for one that goes on with its state."""
        store = self.store
        if store is None or self.copy is not None:
            return
        name = self.rng.choice(list(self.lanes))
        old, new = store.pipelines[name], self.build(name)
        new.parking = old.parking
        new.restore(old.save())
        store.exchange(new, PARKED_MAX[name])
        lane = self.lanes[name]
        store.accounts[name].go_on(lane[0][0] if lane else store.journal.next, len(lane))
        old.close()
        self.counts["reloads"] += 1

    def step_connect(self) -> None:
        assert self.store is not None
        if not self.broker.connected:
            self.owed.clear()
            if not self.broker.connect():
                self.store.session_lost()

    def step_break(self) -> None:
        self.broker.disconnect()
        self.held.clear()
        self.owed.clear()

    def step_forget(self) -> None:
        self.broker.forget()
        self.held.clear()
        self.owed.clear()

    def step_fault(self) -> None:
        if not self.poisonous:
            self.disk.fault = self.rng.choice((errno.ENOSPC, errno.EIO, errno.EROFS))

    def step_heal(self) -> None:
        self.disk.fault = None

    def step_die(self) -> None:
        raise Crash

    def run(self) -> None:
        """Live until everything is delivered and answered."""
        often: list[tuple[Callable[[], None], int]] = [
            (self.step_publish, 12), (self.step_deliver, 14), (self.step_process, 14), (self.step_send, 6),
            (self.step_mark, 3), (self.step_sync, 4), (self.step_copy, 6), (self.step_write, 8),
            (self.step_retry, 2), (self.step_connect, 4),
        ]  # fmt: skip
        rare: list[tuple[Callable[[], None], int]] = [
            (self.step_break, 2), (self.step_forget, 1), (self.step_fault, 1), (self.step_heal, 2),
            (self.step_die, 1), (self.step_stop, 3), (self.step_reload, 1),
        ]  # fmt: skip
        steps, weights = zip(*often, *((step, weight * 0.5) for step, weight in rare), strict=True)
        last, last_weights = zip(*often, strict=True)
        for turn in range(5000):
            calm = turn > 350 or (not self.unpublished and turn > 150)
            if calm and self.disk.fault is not None:
                self.disk.fault = None
            self.disk.nervous = not calm and not self.poisonous
            step = self.rng.choices(*((last, last_weights) if calm else (steps, weights)))[0]
            try:
                if self.store is None:
                    self.start()
                step()
            except (Crash, StateError):  # the latter: a first start needs a disk that can be written
                self.die()
            if calm and self.quiet():
                return
        raise AssertionError("it does not come to rest")

    def quiet(self) -> bool:
        store = self.store
        return (
            store is not None
            and self.broker.connected
            and not self.unpublished
            and self.broker.done
            and not any(self.lanes.values())
            and not self.unsent
            and store.fault is None
        )

    def check(self) -> None:
        """Hold the life against one without trouble."""
        store = self.store
        assert store is not None
        taken = Counter(message.payload for message in self.history.values())
        assert not [payload for payload, times in taken.items() if times > 1], "counted twice"
        wanted = {message.payload for message in self.published if message.qos}
        missing = wanted - set(taken) - self.broker.forgot
        may_lose = self.power and self.durability != "power"
        if not may_lose:
            assert not missing, "lost"
        assert len(missing) <= self.lost_synced, "lost more than an unsynced second"
        reference = build_pipelines(CONFIG)
        expected: dict[tuple[str, int, int], bytes] = {}
        names = set(self.disk.names(QUARANTINE))
        left_out = {each for each, message in self.history.items() if quarantine_name(each, message) in names}
        assert all(POISON.encode() in self.history[number].payload for number in left_out), "the wrong one"
        for name, pipeline in reference.items():
            pipeline.parking = Remembered(PARKED_MAX[name])
            chain = count = 0
            for number in sorted(self.history):
                message = self.history[number]
                if not concerns(pipeline, message) or number in self.missing[name]:
                    continue
                if number in left_out:
                    count += 1
                    continue
                count, chain = count + 1, zlib.crc32(message.payload, chain)
                outputs = list(take(pipeline, message))
                for place, output in enumerate(outputs if number >= self.excused[name] else ()):
                    identity = (name, number, place)
                    assert identity in self.outputs, f"{identity}: no output"
                    if name not in self.spoiled:
                        expected[identity] = published(output)
                self.counts["paused"] += pipeline.paused
            self.counts["reset"] += pipeline.counts["streams_reset"]
            account = store.accounts[name]
            assert (count, chain) == (account.count, account.chain), "not what was seen"
            if name not in self.spoiled:
                assert_same_state(pipeline, store.pipelines[name])
            pipeline.close()
        for pipeline in store.pipelines.values():
            pipeline.close()
        for identity, payload in expected.items():
            assert payload == self.outputs.get(identity), f"{identity}: not the output of an undisturbed run"


def published(output: Output | Reply) -> bytes:
    return output.payload if isinstance(output, Reply) else encode(output)


def assert_same_state(expected: Pipeline[Any], actual: Pipeline[Any]) -> None:
    """Every array of two pipelines is the same; how often a thread was waited for is no part of it."""
    theirs = actual.save()
    for name, array in expected.save().items():
        if not name.endswith(".waits"):
            assert array.tobytes() == theirs[name].tobytes(), name


def mortal(answers: Callable[[Message], Any]) -> Callable[[Message], Any]:
    """Die of a message of poison."""

    def answers_or_dies(message: Message) -> Any:
        if POISON.encode() in message.payload:
            raise Crash
        return answers(message)

    return answers_or_dies


def gaps(disk: FakeDisk) -> Iterator[int]:
    """Numbers of messages that were answered while nothing could be written, and let go."""
    for number, record in Reading(disk):
        if isinstance(record, Gap):
            yield from range(number, number + record.count)


def live(seed: int) -> Life:
    """Live one life and check it."""
    life = Life(seed)
    life.run()
    life.check()
    return life
