"""What keeping costs: microseconds and bytes of a journal, throughput beside no journal, seconds of a recovery."""

from __future__ import annotations

import os
import statistics
import threading
import time

import paho.mqtt.client as paho
from daemon import Daemon
from mosquitto import Mosquitto

from soaking import plant
from soaking.rows import Options, Row, scaled
from streamrnn import config
from streamrnn.edges.disk import StateFolder
from streamrnn.edges.journal import Journal
from streamrnn.edges.recovery import recover
from streamrnn.events import Message
from streamrnn.warm import warm

BATCH = 1000
APPENDED = 200_000
JOURNALLED = 100_000
IN_FLIGHT = 200
EACH = 20_000
TURNS = 5


def journal(options: Options) -> Row:
    """Append events of 64 bytes to the journal of a real disk that is synced every second beside."""
    root = options.directory / "journal-cost"
    root.mkdir(mode=0o700)
    kept = Journal(StateFolder(root), "second")
    kept.begin(0, 0)
    halt = threading.Event()

    def sync() -> None:
        while not halt.wait(1.0):
            kept.sync()

    beside = threading.Thread(target=sync)
    beside.start()
    messages = [
        Message(plant.topic(i), bytes(64), qos=1, mid=i % 60000 + 1, arrival=1.7e9 + i) for i in range(BATCH)
    ]
    times, count = [], scaled(APPENDED, options, 10 * BATCH)
    for _ in range(count // BATCH):
        began = time.perf_counter()
        for message in messages:
            kept.append(message)
        times.append((time.perf_counter() - began) / BATCH * 1e6)
        time.sleep(0.002)
    halt.set()
    beside.join()
    size = kept.counts["written"] / kept.counts["appended"]
    kept.close()
    times.sort()
    median = statistics.median(times)
    seen = (
        f"{size:.1f} bytes; {median:.2f} us in the median of {len(times)} batches, "
        f"{times[len(times) // 10]:.2f} in the best tenth"
    )
    return Row("journal cost, 64-byte event", "<= 3 us, <= 100 bytes", seen, median <= 3.0 and size <= 100)


def throughput(options: Options) -> Row:
    """A closed loop of 200 in flight at QoS 1, with a state directory and without, in turns."""
    count, rates = scaled(EACH, options, 2000), {True: [], False: []}  # type: dict[bool, list[float]]
    for turn in range(TURNS):
        for keeping in (True, False) if turn % 2 else (False, True):
            directory = options.directory / f"{'kept' if keeping else 'bare'}-{turn}"
            directory.mkdir()
            with Mosquitto(directory, plant.PATIENT) as broker:
                text = plant.text(broker.url, directory / "state" if keeping else None, every=50_000)
                with Daemon(directory, text) as daemon:
                    daemon.says("ready")
                    rates[keeping].append(_closed_loop(broker.port, count))
                    daemon.stop()
    kept, bare = (statistics.median(rates[each]) for each in (True, False))
    spread = ", ".join(f"{min(each):.0f} to {max(each):.0f}" for each in rates.values())
    seen = (
        f"{kept:.0f} a second with, "
        f"{bare:.0f} without: {100 * kept / bare:.0f} % (medians of {TURNS} turns; {spread})"
    )
    return Row("throughput at QoS 1", "within 20 % of no journal", seen, kept >= 0.8 * bare)


def _closed_loop(port: int, count: int) -> float:
    """Return events answered a second with IN_FLIGHT of them on their way."""
    room, done, answered = threading.Semaphore(IN_FLIGHT), threading.Event(), 0

    def on_message(*_: object) -> None:
        nonlocal answered
        answered += 1
        room.release()
        if answered >= count:
            done.set()

    subscribed = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(0)
    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe(plant.OUTPUTS, 0)
    assert subscribed.wait(30)
    began = time.perf_counter()
    for i in range(count):
        room.acquire()
        client.publish(plant.topic(i), plant.payload(i), 1)
    assert done.wait(120)
    seconds = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    return count / seconds


def recovery(options: Options) -> Row:
    """Recover events that were answered after the last checkpoint, all of them."""
    count, root = scaled(JOURNALLED, options, 2000), options.directory / "recovery"
    text = plant.text("mqtt://127.0.0.1", root, every=10_000_000)
    with plant.opened(text) as store:
        recover(store)
        store.begin()
        for i in range(count):
            message = Message(plant.topic(i), plant.payload(i), qos=1, mid=i % 60000 + 1, arrival=1.7e9 + i)
            store.append(message, ["plant"])
        store.sent("plant", count)
    os.sync()
    warm(config.loads(text).pipelines["plant"])  # compiling is no part of it
    with plant.opened(text) as store:
        began, worked = time.perf_counter(), time.process_time()
        recover(store)
        seconds, processor = time.perf_counter() - began, time.process_time() - worked
        done = store.counts["recovered"]
    seen = f"{done} events in {seconds:.1f} s ({processor:.1f} s of processor)"
    return Row("recovery of 100,000 events", "<= 10 s", seen, done == count and seconds <= 10.0)
