"""Seconds from start to ready with an empty and with a warm kernel cache, and memory after 10,000 events.

    python benchmarks/start.py

Needs mosquitto.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the broker and the daemon of the service tests

from daemon import Client, Daemon
from mosquitto import Mosquitto

CONFIG = """
mqtt: {{url: "{url}"}}
pipelines:
  series:
    input: {{topic: series/+}}
"""
EVENTS = 10_000


def start(directory: Path, text: str) -> float:
    """Return seconds from start to ready."""
    began = time.perf_counter()
    with Daemon(directory, text) as daemon:
        daemon.says("ready")
        seconds = time.perf_counter() - began
        daemon.stop()
    return seconds


def main() -> None:
    """Start three times, then send events."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.environ["STREAMRNN_CACHE_DIR"] = str(directory / "cache")
        with Mosquitto(directory, ("max_queued_messages 0",)) as broker:
            text = CONFIG.format(url=broker.url)
            print(f"cold start to ready: {start(directory, text):.2f} s")
            print(f"warm start to ready: {min(start(directory, text) for _ in range(3)):.2f} s")
            with Daemon(directory, text) as daemon, Client(broker.port, "streamrnn/series/#") as client:
                daemon.says("ready")
                assert daemon._process is not None
                process = psutil.Process(daemon._process.pid)
                print(f"resident memory when ready: {process.memory_info().rss / 2**20:.1f} MiB")
                began = time.perf_counter()
                for i in range(EVENTS):
                    client.publish("series/wave", json.dumps({"value": math.sin(i / 10)}))
                client.outputs(EVENTS)
                seconds = time.perf_counter() - began
                print(f"resident memory after {EVENTS} events: {process.memory_info().rss / 2**20:.1f} MiB")
                print(f"{EVENTS / seconds:.0f} events a second at QoS 1")
                daemon.stop()


if __name__ == "__main__":
    main()
