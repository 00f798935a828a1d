"""What is kept of symbols, and who can read it: what is typed on a keyboard is private, and its owner is told."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from streamrnn.config import Config
from streamrnn.settings.specs import output_topic


def notices(config: Config) -> Iterator[str]:
    """Yield a line for each pipeline of symbols: where what it is given goes, and what of it stays.

    Examples
    --------
    >>> from streamrnn.config import loads
    >>> list(notices(loads("pipelines: {keys: {input: {topic: k, symbol: key}, output: {topic: null}}}")))
    ['keys: symbols are published nowhere, and kept nowhere but in memory']
    """
    for name, spec in config.pipelines.items():
        if not spec.input.symbols:
            continue
        template = spec.output.topic
        where = "nowhere" if template is None else f"as they are to {output_topic(template, name, '+')}"
        if template is not None and spec.output.retain:
            where += ", where the broker keeps the last"
        if config.state is None:
            kept = "kept nowhere but in memory"
        else:
            kept = f"kept as they are in {config.state} (journal and checkpoints), {_readers(config.state)}"
        yield f"{name}: symbols are published {where}, and {kept}"


def _readers(folder: str) -> str:
    """Say who can read a state directory; what is made in it is for its owner alone, whatever the directory is."""
    try:
        mode = Path(folder).stat().st_mode
    except OSError:  # it is made when it is not there
        mode = 0o700
    if stat.S_IMODE(mode) & 0o077:
        return f"its files for their owner alone, but the folder is open to others: chmod 700 {folder}"
    return "for its owner alone"
