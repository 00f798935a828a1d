"""Every byte of a journal and of a checkpoint, flipped and cut: noticed, or the valid prefix."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from soaking import plant
from soaking.rows import Options, Row, scaled
from streamrnn.edges import checkpoint
from streamrnn.edges.disk import StateFolder
from streamrnn.edges.recovery import recover
from streamrnn.edges.segments import Reading
from streamrnn.edges.statefile import Unreadable, load
from streamrnn.errors import StateError
from streamrnn.events import Message

EVENTS = 120
WHOLE = 400  # recoveries from a directory with one byte changed
MODEL = "    model: {hidden: 8}\n    learn: {history: 64, windows: 1, length: 8}\n"


def _text(root: Path) -> str:
    return plant.text("mqtt://127.0.0.1", root, "process", 40, more=MODEL)


def _live(root: Path) -> list[int]:
    """Live some hundred events; return the chain after each."""
    with plant.opened(_text(root)) as store:
        recover(store)
        store.begin()
        pipeline, chains = store.pipelines["plant"], [0]
        for i in range(EVENTS):
            message = Message(plant.topic(i), plant.payload(i), qos=1, mid=i % 60000 + 1)
            number = store.append(message, ["plant"])
            for _ in store.answers(pipeline, number, message):
                pass
            chains.append(store.accounts["plant"].chain)
            store.sent("plant", number + 1)
            if store.due("plant"):
                copy = store.copier("plant", idle=True)()
                store.write(copy)
                store.written(copy)
    return chains


def damage(options: Options) -> Row:
    """Each byte of the newest checkpoint and of the journal; then recoveries after one changed bit."""
    rng = random.Random(options.seed)
    root = options.directory / "whole"
    chains = _live(root)
    disk = StateFolder(root)
    name = checkpoint.name_of("plant", checkpoint.positions(disk, "plant")[-1])
    tried, silent = _checkpoint(disk, name, rng, options.scale)
    frames, wrong = _journal(disk, rng)
    recoveries, crashed, strange = scaled(WHOLE, options), 0, 0
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix in (".journal", ".checkpoint")]
    for _ in range(recoveries):
        path = rng.choice(files)
        content = bytearray(path.read_bytes())
        used = len(content.rstrip(b"\0"))
        content[rng.randrange(used)] ^= 1 << rng.randrange(8)
        copy = options.directory / "damaged"
        shutil.copytree(root, copy)
        (copy / path.relative_to(root)).write_bytes(content)
        with plant.opened(_text(copy)) as store:
            try:
                recover(store)
            except StateError:
                crashed += 1
            else:
                account = store.accounts["plant"]
                strange += chains[account.count] != account.chain
        shutil.rmtree(copy)
    seen = (
        f"checkpoint: {tried} flips and cuts, {silent} not noticed; journal: {frames} flips and cuts, "
        f"{wrong} with a wrong record; "
        f"{recoveries} recoveries with one bit flipped: {crashed} ended, {strange} with a state that never was"
    )
    met = not (silent or wrong or crashed or strange)
    return Row(
        "each byte of checkpoint and journal", "never a crash, never silently wrong", seen, met, options.seed
    )


def _checkpoint(disk: StateFolder, name: str, rng: random.Random, scale: float) -> tuple[int, int]:
    data = disk.read(name)
    path = disk.root / name
    tried = silent = 0
    for at in range(0, len(data), max(1, round(1 / scale))):
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        for content in bytes(flipped), data[:at]:
            path.write_bytes(content)
            tried += 1
            try:
                load(disk, name)
                silent += 1
            except Unreadable:
                pass
    path.write_bytes(data)
    return tried, silent


def _journal(disk: StateFolder, rng: random.Random) -> tuple[int, int]:
    intact = list(Reading(disk))
    path = next((disk.root / "journal").iterdir())
    data = path.read_bytes()
    tried = wrong = 0
    for at in range(len(data.rstrip(b"\0"))):
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        for content in bytes(flipped), data[:at]:
            path.write_bytes(content)
            tried += 1
            found = list(Reading(disk))
            wrong += found != intact[: len(found)]
    path.write_bytes(data)
    return tried, wrong
