"""Publish a recorded series through a real mosquitto to the daemon and compare its outputs with a replay.

    python benchmarks/live_equals_replay.py SERIES.csv [--rows 5000] [--rate 0]

SERIES has the columns timestamp and value; a rate of 0 is as fast as it goes. Prints whether all fields but
`latency_us` are equal, how long it took, and the latency. Needs mosquitto.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the broker and the daemon of the service tests

from daemon import Client, Daemon
from mosquitto import Mosquitto

CONFIG = """
mqtt: {{url: "{url}"}}
pipelines:
  series:
    input: {{topic: series/+, fields: [value], time: timestamp}}
"""


def live(text: str, port: int, directory: Path, rows: list[dict[str, str]], rate: float) -> list[dict[str, object]]:
    """Publish the rows at QoS 1 and return the outputs."""
    with Daemon(directory, text) as daemon, Client(port, "streamrnn/series/#") as client:
        daemon.says("ready")
        began = time.perf_counter()
        for i, row in enumerate(rows):
            if rate > 0:
                time.sleep(max(0.0, began + i / rate - time.perf_counter()))
            client.publish("series/recorded", json.dumps({**row, "value": float(row["value"])}))
        outputs = client.outputs(len(rows))
        print(f"live: {len(outputs)} outputs in {time.perf_counter() - began:.2f} s")
        print(f"exit status {daemon.stop()}")
    return outputs


def main() -> None:
    """Run the comparison; exit status 1 when a field differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", type=Path)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=0.0, help="rows a second")
    words = parser.parse_args()
    with words.series.open() as file:
        rows = list(csv.DictReader(file))[: words.rows]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Mosquitto(directory, ("max_queued_messages 0",)) as broker:
            text = CONFIG.format(url=broker.url)
            outputs = live(text, broker.port, directory, rows, words.rate)
        recorded, replayed = directory / "recorded.csv", directory / "outputs.jsonl"
        with recorded.open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        command = [sys.executable, "-m", "streamrnn", "replay", str(directory / "streamrnn.yaml"), str(recorded)]
        subprocess.run([*command, "--output", str(replayed)], check=True, stdout=subprocess.DEVNULL)
        expected = [json.loads(line) for line in replayed.read_text().splitlines()]
    latencies = sorted(float(output.pop("latency_us")) for output in outputs)  # type: ignore[arg-type]
    print(
        f"latency: p50 {latencies[len(latencies) // 2]:.0f} us, p99 {latencies[len(latencies) * 99 // 100]:.0f} us"
    )
    different = sum(a != b for a, b in zip(outputs, expected, strict=True))
    print(f"replay: {len(expected)} outputs, {different} differ")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
