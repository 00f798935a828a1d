"""Everything that may happen to a daemon on an edge device, for real and for some minutes, and a table of it.

    python benchmarks/soak.py [ROW...] [--seed N] [--scale S] [--payloads FILE.jsonl] [--json FILE]

Rows: kills lives damage broker network payloads extremes memory journal throughput recovery slow. All, when none is
named. `--scale 0.01` is a rehearsal. Needs mosquitto, and for the network row root and iproute2.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the broker and the daemon of the service tests

from soaking import cost, damage, kills, lives, long, outages, rubbish, slow
from soaking.rows import Options, Row, show

ROWS: dict[str, Callable[[Options], Row | list[Row]]] = {
    "kills": kills.kills,
    "lives": lives.lives,
    "damage": damage.damage,
    "broker": outages.broker_killed,
    "network": outages.network_cut,
    "payloads": rubbish.payloads,
    "extremes": rubbish.extremes,
    "memory": long.memory,
    "journal": cost.journal,
    "throughput": cost.throughput,
    "recovery": cost.recovery,
    "slow": slow.burst,
}


def main() -> int:
    """Run rows one after the other; 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("row", nargs="*", choices=[[], *ROWS], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of all counts")
    parser.add_argument("--payloads", type=Path, help="recorded payloads, JSON lines with `payload`")
    parser.add_argument("--json", type=Path, help="write the table there, too")
    chosen = parser.parse_args()
    # What rows do to it in this process it would have much to say of.
    logging.getLogger("streamrnn").setLevel(logging.CRITICAL)
    rows: list[Row] = []
    for name in chosen.row or ROWS:
        with tempfile.TemporaryDirectory(prefix=f"soak-{name}-", ignore_cleanup_errors=True) as directory:
            began = time.monotonic()
            found = ROWS[name](Options(chosen.seed, chosen.scale, Path(directory), chosen.payloads))
            for row in found if isinstance(found, list) else [found]:
                rows.append(row)
                print(
                    f"{name} ({time.monotonic() - began:.0f} s): {'met' if row.met else 'MISSED'}: {row.seen}",
                    flush=True,
                )
    show(rows)
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
