"""The commands about the state directory of a service that is stopped: show, verify, export, reset.

As thin as those in `cli`: what is in the directory is read by `edges.contents`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from streamrnn import config
from streamrnn.errors import StateError, UsageError

if TYPE_CHECKING:
    from streamrnn.edges.disk import Disk, StateFolder
    from streamrnn.edges.statefile import Loaded, Unreadable
    from streamrnn.learn.saved import Arrays

app = typer.Typer(
    no_args_is_help=True,
    help="Look into what a stopped service has kept. Example: streamrnn state show /var/lib/streamrnn",
)

Where = Annotated[
    Path, typer.Argument(metavar="WHERE", help="The state directory, or a configuration with `state`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Only = Annotated[str | None, typer.Option("--pipeline", metavar="P", help="Of this pipeline only.")]


@app.command()
def show(where: Where, json: AsJson = False) -> None:
    """Print what is kept of each pipeline, and how far it is.

    Example: streamrnn state show config/fleet.yaml

    Example: streamrnn state show /var/lib/streamrnn --json
    """
    with opened(where) as disk:
        from streamrnn.edges import contents
        from streamrnn.edges.recovery import QUARANTINE

        if json:
            echo(msgspec.json.format(msgspec.json.encode(document_of(disk)), indent=2).decode())
            return
        for name in contents.pipelines(disk):
            loaded = newest(disk, name)
            echo(f"{name}: none of its checkpoints is good" if loaded is None else line_of(loaded))
        journal = contents.read_journal(disk)
        echo(f"journal: {journal.span}, {_size(journal.size)} in {journal.files} files")
        for pipeline, number in journal.sent.items():
            echo(f"journal: the broker has the outputs of {pipeline} before message {number}")
        if journal.gaps:
            echo(f"journal: {journal.gaps} messages were answered while nothing could be written")
        for damage in journal.damages:
            echo(f"{damage}")
        for folder in QUARANTINE, "set-aside":
            files = [file for file in (disk.root / folder).rglob("*") if file.is_file()]
            if files:
                echo(f"{folder}: {len(files)} files, {_size(sum(file.stat().st_size for file in files))}")


@app.command()
def verify(where: Where, json: AsJson = False) -> None:
    """Read all that is kept, and name the first damaged bytes of each file; status 1 when there are any.

    Example: streamrnn state verify config/fleet.yaml

    Example: streamrnn state verify /var/lib/streamrnn --json
    """
    with opened(where) as disk:
        from streamrnn.edges import contents

        damaged = 0
        for checked in contents.verify(disk):
            damaged += checked.damaged
            echo(msgspec.json.encode(checked).decode() if json else f"{checked}")
    if damaged:
        raise StateError(f"damaged files: {damaged}")


@app.command()
def export(
    where: Where,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEYS...", help="Default: all.")] = None,
    pipeline: Only = None,
) -> None:
    """Print what the newest checkpoints have of some keys, as JSON lines.

    Example: streamrnn state export /var/lib/streamrnn pump-3 --pipeline machine
    """
    with opened(where) as disk:
        from streamrnn.edges import contents
        from streamrnn.edges.statefile import Unreadable
        from streamrnn.pipeline import saved_streams

        wanted, exported = set(keys or ()), set()
        for name in chosen(disk, pipeline):
            loaded = newest(disk, name)
            if loaded is None:
                raise StateError(f"{name}: none of its checkpoints is good")
            streams: Iterator[tuple[str, Arrays | Unreadable]] = contents.parked(disk, name, loaded)
            for key, arrays in chain(saved_streams(loaded.arrays).items(), streams):
                if wanted and key not in wanted:
                    continue
                if isinstance(arrays, Unreadable):
                    raise StateError(f"{name}: {key}: its parked stream: {arrays}")
                exported.add(key)
                line = {"pipeline": name, "key": key, "messages": loaded.manifest.count}
                state = {name: array.tolist() for name, array in arrays.items()}
                echo(msgspec.json.encode(line | {"state": state}).decode())
    if wanted - exported:
        raise StateError(f"not in any checkpoint: {', '.join(sorted(wanted - exported))}")


@app.command()
def reset(where: Where, pipeline: Only = None) -> None:
    """Move what is kept to set-aside/, so that all, or one pipeline, begins anew. Nothing is deleted.

    Example: streamrnn state reset config/fleet.yaml --pipeline machine
    """
    with opened(where) as disk:
        from streamrnn.edges import contents

        if pipeline is not None:
            chosen(disk, pipeline)
        for moved in contents.reset(disk, pipeline):
            echo(f"moved to {moved}")


def folder_of(where: Path) -> Path:
    """Return the state directory that is meant."""
    if not where.exists():
        raise UsageError(f"{where}: no such directory or configuration")
    if where.is_dir():
        root = where
    else:
        state = config.load(where).state
        if state is None:
            raise UsageError(f"{where}: has no state: nothing is kept")
        root = Path(state)
    if not any((root / name).is_dir() for name in ("journal", "checkpoints")):
        raise StateError(f"{root}: nothing is kept there")
    return root


@contextmanager
def opened(where: Path) -> Iterator[StateFolder]:
    """Hold the directory, so that no service begins meanwhile."""
    from streamrnn.edges.disk import StateFolder
    from streamrnn.serving.keeping import locked

    root = folder_of(where)
    with locked(root):
        yield StateFolder(root)


def chosen(disk: Disk, pipeline: str | None) -> list[str]:
    """Return the pipelines a command is about."""
    from streamrnn.edges import contents

    names = contents.pipelines(disk)
    if pipeline is None:
        return names
    if pipeline not in names:
        raise UsageError(f"--pipeline: nothing is kept of {pipeline!r}; there is {', '.join(names) or 'nothing'}")
    return [pipeline]


def newest(disk: Disk, pipeline: str) -> Loaded | None:
    """Return the newest good checkpoint, and say which are not."""
    from streamrnn.edges import contents
    from streamrnn.edges.statefile import Unreadable

    for name, found in contents.generations(disk, pipeline):
        if not isinstance(found, Unreadable):
            return found
        typer.echo(f"{name}: {found}", err=True)
    return None


def line_of(loaded: Loaded) -> str:
    """Return what a checkpoint is of, in a line."""
    from streamrnn.edges.parking import numbers_of
    from streamrnn.pipeline import saved_streams

    manifest = loaded.manifest
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(manifest.written))
    size = _size(sum(array.nbytes for array in loaded.arrays.values()))
    count = len(numbers_of(loaded.arrays))
    parked = f"{count} more parked, " if count else ""
    return (
        f"{manifest.pipeline}: {manifest.count} messages (chain {manifest.chain:08x}), "
        f"{len(saved_streams(loaded.arrays))} keys, {parked}{size}, written {written} UTC by {manifest.version}; "
        f"goes on from message {manifest.position}"
    )


def document_of(disk: StateFolder) -> dict[str, Any]:
    """Return what is kept, as a document."""
    from streamrnn.edges import contents
    from streamrnn.edges.parking import numbers_of
    from streamrnn.edges.recovery import QUARANTINE
    from streamrnn.pipeline import saved_streams

    told: dict[str, Any] = {}
    for name in contents.pipelines(disk):
        loaded = newest(disk, name)
        if loaded is None:
            told[name] = None
            continue
        size = sum(array.nbytes for array in loaded.arrays.values())
        counts = {"keys": len(saved_streams(loaded.arrays)), "parked": len(numbers_of(loaded.arrays)), "size": size}
        told[name] = msgspec.to_builtins(loaded.manifest) | counts
    files = {
        folder: sum(file.is_file() for file in (disk.root / folder).rglob("*"))
        for folder in (QUARANTINE, "set-aside")
    }
    return {"pipelines": told, "journal": contents.read_journal(disk), "files": files}


def echo(line: str) -> None:
    """Print a line as it is."""
    typer.echo(line)


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >> 20 else f"{size / 2**10:.1f} KiB"
