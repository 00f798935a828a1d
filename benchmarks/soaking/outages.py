"""The broker dies and comes back; the network is cut without a word."""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import time

import paho.mqtt.client as paho
from daemon import Daemon
from mosquitto import Mosquitto, free_port

from soaking import plant
from soaking.rows import Options, Row, scaled

KILLS = 60
BEFORE = 5  # kills before threads, descriptors and memory are counted
KEEPALIVE_S = 5
CUTS = 3
NAMESPACE = "streamrnn-soak"
OUTER, INNER = "10.213.7.1", "10.213.7.2"


def online_s(port: int, began: float, limit_s: float = 30.0) -> float:
    """Return seconds from `began` until the daemon says at the broker that it is online."""
    times: list[float] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe("streamrnn/bridge/state", 1)
    client.on_message = lambda *_: times.append(time.monotonic())
    client.connect("127.0.0.1", port)
    while not times and time.monotonic() - began < limit_s:
        client.loop(0.01)
    client.disconnect()
    return (times[0] if times else began + limit_s) - began


def broker_killed(options: Options) -> Row:
    """SIGKILL to the broker; how long after its return we are there, and what that leaves behind."""
    rng = random.Random(options.seed)
    times, directory = [], options.directory
    with Mosquitto(directory, ("log_type error",)) as broker:
        text = plant.text(broker.url, directory / "state")
        with Daemon(directory, text) as daemon:
            daemon.says("ready")
            before = (0.0, 0, 0)
            for turn in range(scaled(KILLS, options, 3) + BEFORE):
                if turn == BEFORE:
                    before = plant.weight(daemon.pid)
                broker.kill()
                time.sleep(rng.uniform(0.0, 3.0))
                broker.start()
                seconds = online_s(broker.port, time.monotonic())
                if turn >= BEFORE:
                    times.append(seconds)
                time.sleep(0.2)
            after = plant.weight(daemon.pid)
            stopped = daemon.stop()
    times.sort()
    p99 = times[min(len(times) - 1, round(0.99 * len(times)))]
    grown = after[0] - before[0]
    seen = (
        f"{len(times)} kills: back after {statistics.median(times):.2f} s in the median, "
        f"{p99:.2f} s p99; memory {grown:+.1f} MiB, "
        f"threads {before[1]} -> {after[1]}, descriptors {before[2]} -> {after[2]}, exit {stopped}"
    )
    met = p99 <= 1.0 and after[1] <= before[1] and after[2] <= before[2] and grown < 2 and not stopped
    return Row("broker killed 60 times", "back within 1 s (p99), no leak", seen, met, options.seed)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def network_cut(options: Options) -> Row:
    """The daemon lives in a network namespace; its cable is pulled while the broker goes on."""
    goal = f"noticed within {2 * KEEPALIVE_S} s (2 x keepalive), no QoS 1 event lost"
    if shutil.which("ip") is None:
        return Row("network cut", goal, "not run: the program ip is not installed (iproute2)", met=False)
    directory, cuts, noticed = options.directory, scaled(CUTS, options), []
    subprocess.run(["ip", "netns", "del", NAMESPACE], check=False, capture_output=True)
    try:
        _ip("netns", "add", NAMESPACE)
        _ip("link", "add", "soak0", "type", "veth", "peer", "name", "soak1", "netns", NAMESPACE)
        _ip("addr", "add", f"{OUTER}/30", "dev", "soak0")
        _ip("link", "set", "soak0", "up")
        _ip("-n", NAMESPACE, "addr", "add", f"{INNER}/30", "dev", "soak1")
        _ip("-n", NAMESPACE, "link", "set", "soak1", "up")
        _ip("-n", NAMESPACE, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        return Row("network cut", goal, f"not run: {error.stderr.decode().strip()}", met=False)
    try:
        outer = free_port()
        with Mosquitto(directory, (*plant.PATIENT, f"listener {outer} {OUTER}")) as broker:
            text = plant.text(f"mqtt://{OUTER}:{outer}", directory / "state", keepalive=KEEPALIVE_S)
            with (
                plant.Gatherer(broker.port, plant.OUTPUTS) as gatherer,
                Daemon(directory, text, ("ip", "netns", "exec", NAMESPACE)) as daemon,
            ):
                daemon.says("ready")
                sender = plant.Sender(broker.port, 200, lambda: len(gatherer.found))
                sender.start()
                for cut in range(cuts):
                    time.sleep(2)
                    _ip("link", "set", "soak0", "down")
                    began = time.monotonic()
                    daemon.says("lost the connection", cut + 1)
                    noticed.append(time.monotonic() - began)
                    _ip("link", "set", "soak0", "up")
                    daemon.says("connected", cut + 2)
                count = sender.stop()
                gatherer.until(count)
                stopped = daemon.stop()
        lost = sum(identity not in gatherer.found for identity, _ in plant.undisturbed(text, count))
    finally:
        _ip("netns", "del", NAMESPACE)
    seen = (
        f"{cuts} cuts noticed after {', '.join(f'{each:.1f} s' for each in noticed)}; {count} events, {lost} lost, "
        f"{gatherer.contradictions} outputs that differ, exit {stopped}"
    )
    met = max(noticed) <= 2 * KEEPALIVE_S and not (lost or gatherer.contradictions or stopped)
    return Row("network cut", goal, seen, met)
