"""Many keys on one network: what a key that joins late has of what the others have learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np

from measuring import recordings, simulated
from measuring.runs import Outputs, Series, run, run_keys, spec_of
from scoring.forecast import against_persistence
from streamrnn.events import Message

KEYS = 40
LATE = 8  # of them join after the others
LEARNED = 600  # events each of the others has learned by then
JUDGED = slice(49, 300)  # of the new key, the first only as the event before
RECORDED = ("realTweets", "realAWSCloudwatch", "realTraffic")


def sharing_errors(data: Path, name: str, seed: int) -> dict[str, float]:
    """Return the one-step error of new keys to persistence, mean over keys: sharing a network, or each its own.

    `name` is a family of simulated series, of which the last LATE join the others; or `recorded`, where within each
    group of files of NAB each in turn joins the others.
    """
    if name == "recorded":
        casts = list(_recorded(data))
    else:
        series = simulated.family(name, KEYS, LEARNED + JUDGED.stop, seed)
        casts = [(series[:-LATE], series[-LATE:])]
    found = np.array([errors for old, new in casts for errors in _join(old, new, seed)])  # (keys, 2)
    shared, alone = found.mean(axis=0).tolist()
    return {"shared": shared, "alone": alone, "better": float((found[:, 0] < found[:, 1]).mean())}


def _recorded(data: Path) -> Iterator[tuple[list[Series], list[Series]]]:
    files = [recordings.nab_series(data, name) for name in recordings.nab_names(data)]
    for group in RECORDED:
        members = [series for series in files if series.name.startswith(f"{group}/")]
        for i, one in enumerate(members):
            yield members[:i] + members[i + 1 :], [one]


def _join(old: Sequence[Series], new: Sequence[Series], seed: int) -> Iterator[tuple[float, float]]:
    """Yield the error of each of `new` in company and alone. The old ones learn first, then all go on in turn."""
    spec = spec_of(new[0].fields)
    going = [series.messages(series.name) for series in old]
    joining = [series.messages(series.name) for series in new]
    first = _in_turn([islice(messages, LEARNED) for messages in going])
    then = _in_turn([islice(messages, JUDGED.stop) for messages in (*going, *joining)])
    together = run_keys(spec, chain(list(first), then), seed)
    for series in new:
        alone = run(spec, islice(series.messages(), JUDGED.stop), seed)
        yield _error(together[series.name]), _error(alone)


def _in_turn(streams: Iterable[Iterator[Message]]) -> Iterator[Message]:
    return (message for row in zip_longest(*streams) for message in row if message is not None)


def _error(outputs: Outputs) -> float:
    return against_persistence(outputs.values[JUDGED, 0], outputs.forecast[JUDGED, 0, 0])
