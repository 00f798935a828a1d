"""The process is killed again and again while events come, and must go on as if nothing had been."""

from __future__ import annotations

import random
import signal
import time

from daemon import Daemon
from mosquitto import Mosquitto

from soaking import plant
from soaking.rows import Options, Row, scaled

KILLS = 200
RATE = 1500.0  # events a second
LIFE_S = 8.0  # the longest, after it is ready
STARTS = 0.15  # of kills, before it is ready
SETTLED_S = 300.0
# A start takes as long as some thousand events, to be caught up with each time: the pipeline is a light one.
LIGHT = """
    model: {hidden: 8}
    learn: {every: 16, windows: 1}
"""


def kills(options: Options) -> Row:
    """Kill -9 at random moments of starts, recoveries and work; outputs and chain against an undisturbed run."""
    rng = random.Random(options.seed)
    wanted, said = scaled(KILLS, options), 0
    directory = options.directory
    with Mosquitto(directory, plant.PATIENT) as broker, plant.Gatherer(broker.port, plant.OUTPUTS) as gatherer:
        text = plant.text(broker.url, directory / "state", more=LIGHT)
        with Daemon(directory, text) as daemon:  # it makes the session, and its kernels
            daemon.says("ready")
            daemon.stop()
        sender = plant.Sender(broker.port, RATE, lambda: len(gatherer.found))
        sender.start()
        began = time.monotonic()
        for _ in range(wanted):
            with Daemon(directory, text) as daemon:
                if rng.random() < STARTS:
                    time.sleep(rng.uniform(0.0, 1.5))
                else:
                    daemon.says("ready")
                    said += 1
                    time.sleep(rng.uniform(0.0, LIFE_S))
                daemon.signal(signal.SIGKILL)
                daemon.ended()
        count = sender.stop()
        rate = count / (time.monotonic() - began)
        with Daemon(directory, text) as daemon:
            daemon.says("ready")
            gatherer.until(count, SETTLED_S)
            stopped = daemon.stop()
            log = daemon.log
    found = gatherer.found
    lost = wrong = 0
    for identity, checksum in plant.undisturbed(text, count):
        lost += identity not in found
        wrong += found.get(identity, checksum) != checksum
    manifest = plant.kept(directory / "state")
    chained = manifest.chain == plant.chain(count) and manifest.count == count
    seen = (
        f"{wanted} kills ({said} after ready), {count} events at {rate:.0f}/s, {lost} lost, "
        f"{len(found) - count} too many, {wrong} other outputs, "
        f"{gatherer.contradictions} repeats that differ ({gatherer.repeats} that do not), chain "
        f"{'equal' if chained else f'NOT EQUAL: {manifest.count} counted'}, exit {stopped}"
    )
    met = not (lost or wrong or gatherer.contradictions or stopped) and chained and len(found) == count
    met = met and rate >= 0.95 * RATE
    if not met:
        (directory / "daemon.log").write_text(log)
    return Row(
        "kill -9 under 1,500 events/s, QoS 1", "0 lost, 0 twice, chain and outputs equal", seen, met, options.seed
    )
