"""From a configuration to the store of its state directory, locked while it is open."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from streamrnn.config import Config
from streamrnn.edges import processing
from streamrnn.edges.disk import StateFolder, words
from streamrnn.edges.processing import Processing, Unwatched, Watched, mapped
from streamrnn.edges.store import Store
from streamrnn.errors import StateError
from streamrnn.fingerprint import fingerprint
from streamrnn.pipeline import Pipeline

log = logging.getLogger(__name__)


@contextmanager
def open_store(config: Config, pipelines: Mapping[str, Pipeline[Any]]) -> Iterator[Store]:
    """Open the state directory of a configuration, made when it is not there; nobody else can while it is open.

    Raises
    ------
    StateError
        It cannot be made or read, or another process has it.
    """
    assert config.state is not None  # noqa: S101
    root = Path(config.state)
    with locked(root):
        fingerprints = {name: fingerprint(name, spec, config.seed) for name, spec in config.pipelines.items()}
        parked_max = {name: spec.limits.parked for name, spec in config.pipelines.items()}
        store = Store(
            StateFolder(root),
            pipelines,
            fingerprints,
            config.durability,
            config.checkpoint,
            _processing(root),
            parked_max,
        )
        try:
            yield store
        finally:
            store.close()


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a state directory for this process.

    The lock is on the directory itself, so that it is there on a disk that cannot be written; the file `pid` only
    tells others who has it.

    Raises
    ------
    StateError
        The directory cannot be made or read, or another process holds it.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StateError(f"state: {root}: {words(error)}") from error
    holder = root / "pid"
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"state: {root}: in use by another streamrnn{_holder(holder)}") from None
        with suppress(OSError):  # only so that the message above can name it
            holder.write_text(f"{os.getpid()}\n")
            holder.chmod(0o600)
        yield
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        return f", process {int(path.read_text())}"
    except (OSError, ValueError):
        return ""


def _processing(root: Path) -> Processing:
    try:
        return Watched(mapped(root / processing.NAME))
    except OSError as error:
        log.warning("state: %s: an event that kills the process will not be found out", words(error))
        return Unwatched()
