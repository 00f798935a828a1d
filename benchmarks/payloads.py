"""Publish recorded device payloads, and worse, to the daemon, and show what it made of each.

    python benchmarks/payloads.py PAYLOADS.jsonl [--keystrokes KEYSTROKES.csv]

Each line has `topic`, `payload` (text) and `strict_json`. First all of them, with an empty payload, 1 MB of garbage
and a topic with blanks, twice each, go to a pipeline that listens to everything: prints the log, and whether the
daemon still answers. Then to each of the five configurations for devices in `config/`: prints every output. Those
of evmqtt are the keys of a keystroke recording (columns `subject`, and `H.<key>` for each key in the order of
typing). Needs mosquitto.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the broker and the daemon of the service tests

from daemon import Client, Daemon
from mosquitto import Mosquitto

CONFIG = """
mqtt: {{url: "{url}"}}
pipelines:
  devices:
    input:
      topic: "#"
      fields: [temperature, humidity, Power, voltage, value]
    output: {{topic: null}}
  sentinel:
    input: {{topic: sentinel}}
    output: {{topic: answers}}
"""
FOLDER = Path(__file__).parents[1] / "config"
DEVICES = ("zigbee2mqtt", "tasmota", "shelly", "rtl_433", "evmqtt")
REPETITIONS = 30  # of a password, by each of so many ...
SUBJECTS = 2

Messages = list[tuple[str, bytes]]


def main() -> None:
    """Everything to one pipeline, then to each configuration for devices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("payloads", type=Path)
    parser.add_argument("--keystrokes", type=Path)
    arguments = parser.parse_args()
    samples = [json.loads(line) for line in arguments.payloads.read_text().splitlines()]
    loose = [sample for sample in samples if not sample["strict_json"]]
    print(f"{len(samples)} payloads, {len(loose)} of them not strictly JSON")
    messages = [(sample["topic"], sample["payload"].encode()) for sample in samples]
    with tempfile.TemporaryDirectory() as name:
        survive(Path(name), messages)
    typed = list(keystrokes(arguments.keystrokes)) if arguments.keystrokes else []
    for device in DEVICES:
        with tempfile.TemporaryDirectory() as name:
            show(device, Path(name), messages + typed)


def survive(directory: Path, messages: Messages) -> None:
    """Send everything, then a last good message to each pipeline."""
    garbage = random.Random(0).randbytes(1_000_000)
    messages = [*messages, ("empty", b""), ("garbage", garbage), ("a topic with blanks", b'{"temperature": 21.5}')]
    with (
        Mosquitto(directory, ("max_queued_messages 0",)) as broker,
        Daemon(directory, CONFIG.format(url=broker.url)) as daemon,
        Client(broker.port, "answers") as client,
    ):
        daemon.says("ready")
        for topic, payload in messages * 2:
            client.publish(topic, payload)
        client.publish("sentinel", b"1")
        print("still answers:", client.outputs(1)[0]["value"])
        print("exit status", daemon.stop())
        print(daemon.log)


def show(device: str, directory: Path, messages: Messages) -> None:
    """Send everything to one shipped configuration, and print what it answered."""
    with Mosquitto(directory, ("max_queued_messages 0",)) as broker:
        os.environ["MQTT_URL"] = broker.url
        with (
            Daemon(directory, (FOLDER / f"{device}.yaml").read_text()) as daemon,
            Client(broker.port, "streamrnn/#") as client,
        ):
            daemon.says("ready")
            for topic, payload in messages:
                client.publish(topic, payload)
            client.flush()
            status = daemon.stop()  # which answers what it has taken
            outputs = [json.loads(each.payload) for each in client.taken if each.topic != "streamrnn/bridge/state"]
    print(f"\n{device}: {len(messages)} messages, {len(outputs)} events, exit status {status}")
    numeric = [output for output in outputs if "value" in output]
    for output in numeric:
        forecast = {field: None if ahead is None else ahead[0] for field, ahead in output["forecast"].items()}
        print(f"  {output['pipeline']} {output['key']} #{output['seq']} {output['value']} next {forecast}")
    by_key: dict[str, list[dict[str, Any]]] = {}
    for output in outputs:
        if "symbol" in output:
            by_key.setdefault(f"{output['pipeline']} {output['key']}", []).append(output)
    for key, symbols in by_key.items():
        part = max(1, len(symbols) // 3)
        first, last = (fmean(each["bits"] for each in some) for some in (symbols[:part], symbols[-part:]))
        print(f"  {key}: {len(symbols)} symbols, {first:.2f} bits each in the first third, {last:.2f} in the last")
    for line in daemon.log.splitlines():
        if " events, " in line or "WARNING" in line:
            print("  " + line.partition("Z ")[2])


def keystrokes(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a recording as what evmqtt publishes."""
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["subject"], []).append(row)
    for subject, typed in list(rows.items())[:SUBJECTS]:
        for row in typed[:REPETITIONS]:
            for column in row:
                if column.startswith("H."):
                    event = {"key": f"KEY_{column[2:].upper()}", "devicePath": "/dev/input/event3"}
                    yield f"homeassistant/sensor/evmqtt/{subject}/state", json.dumps(event).encode()


if __name__ == "__main__":
    main()
