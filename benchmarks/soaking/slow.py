"""Who is slower than what comes: a pipeline that takes a millisecond an event, and a burst."""

from __future__ import annotations

import os
import time

from daemon import Client, Daemon
from mosquitto import Mosquitto

from soaking import plant
from soaking.rows import Options, Row, scaled

BURST = 8000
QUEUE = 500
# Found by Python at its start, on PYTHONPATH.
SLOWED = """
import time
import streamrnn.pipeline as pipeline
answers = pipeline.Pipeline.answers
def slowed(self, message):
    time.sleep(0.001)
    return answers(self, message)
pipeline.Pipeline.answers = slowed
"""


def burst(options: Options) -> Row:
    """8,000 events at once into a queue of 500."""
    directory, count = options.directory, scaled(BURST, options)
    (directory / "sitecustomize.py").write_text(SLOWED)
    os.environ["PYTHONPATH"] = str(directory)
    try:
        with Mosquitto(directory, plant.PATIENT) as broker, plant.Gatherer(broker.port, plant.OUTPUTS) as gatherer:
            text = plant.text(broker.url, directory / "state", queue=QUEUE)
            with Daemon(directory, text) as daemon:
                daemon.says("ready")
                before = plant.weight(daemon.pid)[0]
                began = time.monotonic()
                with Client(broker.port) as client:
                    for i in range(count):
                        client.publish(plant.topic(i), plant.payload(i))
                    client.flush()
                gatherer.until(count)
                seconds = time.monotonic() - began
                grown = plant.weight(daemon.pid)[0] - before
                stopped = daemon.stop()
    finally:
        del os.environ["PYTHONPATH"]
    lost = sum(identity not in gatherer.found for identity, _ in plant.undisturbed(text, count))
    seen = (
        f"{count} events in {seconds:.1f} s, queue of {QUEUE}: {lost} lost, memory {grown:+.1f} MiB, exit {stopped}"
    )
    met = not (lost or gatherer.contradictions or stopped) and grown < 64
    return Row("slow consumer: 1 ms an event, burst of 8,000", "0 lost at QoS 1, memory bounded", seen, met)
