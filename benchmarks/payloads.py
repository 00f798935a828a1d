"""Publish recorded device payloads, and worse, to the daemon, and show what it made of each.

    python benchmarks/payloads.py PAYLOADS.jsonl

Each line has `topic`, `payload` (text) and `strict_json`. An empty payload, 1 MB of garbage and a topic with blanks
are added. Every message is sent twice. Prints the log, and whether the daemon still answers. Needs mosquitto.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

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


def main() -> None:
    """Send everything, then a last good message to each pipeline."""
    samples = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    loose = [sample for sample in samples if not sample["strict_json"]]
    print(f"{len(samples)} payloads, {len(loose)} of them not strictly JSON")
    messages = [(sample["topic"], sample["payload"].encode()) for sample in samples]
    garbage = random.Random(0).randbytes(1_000_000)
    messages += [("empty", b""), ("garbage", garbage), ("a topic with blanks", b'{"temperature": 21.5}')]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
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


if __name__ == "__main__":
    main()
