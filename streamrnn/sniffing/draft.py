"""Draft: what was found on a broker as a configuration for people: YAML with comments, ready to run.

Names of topics and fields come from outside. They are quoted so that they stay names, whatever is in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from streamrnn.edges.endpoint import Settings
from streamrnn.settings import rules
from streamrnn.sniffing.findings import Finding

TOPICS_LISTED = 100  # where a filter would match our own outputs
SHOWN = 3  # examples in a comment
LIVE_KEYS = 1000  # limits.keys by default

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")  # YAML takes such a word for text, but for these:
_OTHER_MEANING = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def draft(findings: Sequence[Finding], rest: Sequence[str], settings: Settings, watched: str) -> str:
    """Return the configuration; `watched` says in a line what it was made from."""
    lines = [
        f"# Drafted by streamrnn sniff: {comment(watched)}.",
        "# Rules of thumb decided what is measured here and what is not: change what you know better.",
        "#",
        "#   streamrnn check THIS_FILE",
        "#   streamrnn run THIS_FILE",
        "",
        *_mqtt(settings),
        "",
        "# state: kept # a folder; with it what was learned outlives a restart",
        "",
        "pipelines:",
    ]
    names: set[str] = set()
    for finding in findings:
        name = _name(finding, names)
        names.add(name)
        lines += _pipeline(name, finding)
    if rest:
        lines += ["", f"# Nothing to learn from on {len(rest)} other topics, such as {_examples(rest)}."]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Write a text so that YAML reads that text, and no variable in it.

    Examples
    --------
    >>> print(quoted("plant/pump"), quoted("no"), quoted("+/a: b"), quoted("${HOME}"))
    plant/pump "no" "+/a: b" "$${HOME}"
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _OTHER_MEANING:
        return text
    text = json.dumps(text.replace("$", "$$") if "$$" in text or "${" in text else text, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08X}" for each in text)


def comment(text: str) -> str:
    """Write a text so that it stays in its line."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)[:200]


def _mqtt(settings: Settings) -> Iterator[str]:
    yield "mqtt:"
    yield f"  url: {quoted(settings.url)}"
    yield "  client_id: streamrnn # two clients of one name put each other off the broker"
    if settings.username is not None:
        yield f"  username: {quoted(settings.username)}"
    if settings.password_file is not None:
        yield f"  password_file: {quoted(settings.password_file)}"
    tls = {"ca": settings.ca, "cert": settings.cert, "key": settings.key}
    given = ", ".join(f"{name}: {quoted(path)}" for name, path in tls.items() if path is not None)
    if given:
        yield f"  tls: {{{given}}}"


def _pipeline(name: str, finding: Finding) -> Iterator[str]:
    count = len(finding.topics)
    yield ""
    yield f"  {name}:"
    yield f"    # messages: {finding.messages}, topics: {count}: {_examples(finding.topics)}"
    yield "    input:"
    yield from _topic(name, finding)
    if finding.payload != "json":
        yield f"      payload: {finding.payload}"
    if finding.symbol is not None:
        yield f"      symbol: {quoted(finding.symbol)}"
    if finding.payload == "number":
        yield f"      fields: [{quoted(_measured(finding))}] # {finding.fields[0].seen}"
    elif finding.fields:
        yield "      fields:"
        for field in finding.fields:
            yield f"        - {quoted(field.path)} # {comment(field.seen)}"
    for field in finding.left_out:
        yield f"      # left out: {comment(field.path)} ({comment(field.seen)})"
    if finding.time is not None:
        yield f"      time: {quoted(finding.time)}"
    for path in finding.clocks_off:
        yield f"      # {comment(path)} is a time, far from the clock here: perhaps local time, without its zone"
    if count > LIVE_KEYS // 2:
        yield "    limits:"
        yield f"      keys: {2 * count} # streams kept; beyond, the one silent longest is let go"


def _topic(name: str, finding: Finding) -> Iterator[str]:
    if not rules.may_match(finding.topic_filter, f"streamrnn/{name}/{{key}}"):
        yield f"      topic: {quoted(finding.topic_filter)}"
        if finding.key is not None:
            yield f"      key: {quoted(finding.key)}"
        return
    yield f"      topic: # not {comment(finding.topic_filter)}, which matches what is published here"
    for topic in finding.topics[:TOPICS_LISTED]:
        yield f"        - {quoted(topic)}"
    if finding.key is not None and "payload." in finding.key:
        yield f"      key: {quoted(re.sub(r'[{][0-9]+[}][/-]?', '', finding.key))}"


def _name(finding: Finding, taken: set[str]) -> str:
    """Return a name for the pipeline, by what is literal in its filter."""
    levels = [level for level in finding.topic_filter.split("/") if level and level != "+"]
    plain = [re.sub(r"[^A-Za-z0-9_]+", "-", level).strip("-") for level in levels]
    wanted = "-".join(filter(None, plain))[:40] or (finding.symbol or finding.payload)
    wanted = re.sub(r"[^A-Za-z0-9_]+", "-", wanted).strip("-") or "pipeline"
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def _measured(finding: Finding) -> str:
    """Return what to call a payload that is a number: the last level that is the same for all."""
    levels = [level for level in finding.topic_filter.split("/") if level and level != "+"]
    return levels[-1] if levels and len(finding.topics) > 1 else finding.topics[0].rpartition("/")[2] or "value"


def _examples(topics: Sequence[str]) -> str:
    more = ", ..." if len(topics) > SHOWN else ""
    return comment(", ".join(topics[:SHOWN])) + more
