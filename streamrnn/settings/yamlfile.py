"""One YAML document as a tree of nodes that know their lines, with `${VAR}` filled in.

It knows YAML and the environment, and nothing of what a configuration means. Mistakes are collected,
not raised one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from streamrnn.errors import ConfigError

SIZE_MAX = 1_000_000  # bytes
DEPTH_MAX = 50
NODES_MAX = 100_000  # after aliases are written out

BROKEN: Final = object()  # the value of a node whose mistake is already told

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_TAG + name for name in ("str", "timestamp", "value", "merge")}  # dates are not used here
_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:[^{}]|\{[^{}]*\})*))?\}"
    r"|(?P<malformed>\{))"
)


@dataclass(slots=True)
class Node:
    """A value with its place in the file and the way it was written there."""

    line: int  # counted from 1
    value: Any  # None, bool, int, float, str, list[Node], dict[str, Node] or BROKEN
    written: str = ""  # a scalar as it stands in the file
    plain: bool = False  # a scalar without quotes
    key_line: int = 0  # the line of its key, in a mapping


class Problems:
    """Every mistake found in one file; they are told at once, in the order of their lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, path: str, message: str) -> None:
        """Keep one mistake: `path` is the dotted way to the value, empty for the whole document."""
        self.found.append((line, f"{path}: {message}" if path else message))

    def error(self) -> ConfigError:
        """All of them as one error."""
        ordered = sorted(self.found, key=lambda problem: problem[0])
        return ConfigError([f"{self.name}:{line}: {message}" for line, message in ordered])

    def stop(self, line: int, path: str, message: str) -> NoReturn:
        """Tell what was found so far: nothing after this mistake could be trusted."""
        self.add(line, path, message)
        raise self.error()


def quote(text: str) -> str:
    """A text as a message shows it: in quotes, shortened, and not at all when it may hold a password."""
    if "@" in text:
        return "a text with @"
    return json.dumps(text if len(text) <= 60 else text[:59] + "…", ensure_ascii=False)


def kind(node: Node) -> str:
    """What sort of value a node holds, without the value."""
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(node.value), "nothing")


def show(node: Node) -> str:
    """A value as a message shows it. What came out of the environment stays there: it may be a secret."""
    if isinstance(node.value, dict | list) or (node.value is None and "$" not in node.written):
        return kind(node)
    if _VARIABLE.search(node.written):
        return "the value of " + quote(node.written)
    return (
        node.written
        if node.plain and not isinstance(node.value, str) and len(node.written) <= 60
        else quote(node.written)
    )


def join(path: str, key: str) -> str:
    """The dotted way to `key` below `path`."""
    step = key if re.fullmatch(r"[\w.-]{1,60}", key) else quote(key)
    return f"{path}.{step}" if path else step


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises
    ------
    ConfigError
        When it cannot be read, is too large or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{path}: is a directory, expected a file"]) from None
    except PermissionError:
        raise ConfigError([f"{path}: permission denied"]) from None
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    if len(data) > SIZE_MAX:
        raise ConfigError([f"{path}: expected at most {SIZE_MAX} bytes"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: expected UTF-8 text"]) from None


def parse(text: str, problems: Problems, environment: Mapping[str, str]) -> Node:
    """The tree of the one document in `text`; mistakes in scalars and keys go to `problems`.

    Raises
    ------
    ConfigError
        When the text is not one YAML document within the limits.
    """
    if len(text.encode("utf-8", "surrogatepass")) > SIZE_MAX:
        raise ConfigError([f"{problems.name}: expected at most {SIZE_MAX} bytes"])
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        problems.stop(text.count("\n", 0, error.position) + 1, "", "expected printable text")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.stop(mark.line + 1 if mark else 1, "", _syntax(error))
    except (yaml.YAMLError, ValueError, OverflowError):  # such as "\U99999999"
        problems.stop(1, "", "YAML syntax: a number or an escape out of range")
    if root is None:
        problems.stop(1, "", "expected a configuration, got an empty file")
    return _Tree(loader, problems, environment).grow(root, "", root.start_mark.line + 1, 1)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    if error.context == "expected a single document in the stream":
        return "expected one YAML document, found the start of another"
    if isinstance(error, _TooLarge):
        return str(error.problem)
    # The names in these messages are pieces of the file: a password that begins with * reads as an alias.
    parts = (error.context, error.problem)
    told = [re.sub(r"(alias|anchor|handle) ['\"].*", r"\1", part) for part in parts if part]
    return "YAML syntax: " + ", ".join(told)


class _TooLarge(yaml.MarkedYAMLError):
    """The document goes beyond the limits."""


class _Loader(yaml.SafeLoader):
    """The safe loader, bounded while it composes: a deep document would exhaust the interpreter's stack."""

    depth = 0
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.count += 1
        if self.depth > DEPTH_MAX or self.count > NODES_MAX:
            raise _TooLarge(None, None, _too_large(self.depth), self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _too_large(depth: int) -> str:
    if depth > DEPTH_MAX:
        return f"nested deeper than {DEPTH_MAX} levels"
    return f"more than {NODES_MAX} values, counting each use of an alias"


class _Tree:
    """The composed YAML graph written out as a tree: variables filled in, aliases and merges followed."""

    def __init__(self, loader: _Loader, problems: Problems, environment: Mapping[str, str]) -> None:
        self.loader = loader
        self.problems = problems
        self.environment = environment
        self.count = 0

    def grow(self, source: yaml.Node, path: str, line: int, depth: int) -> Node:
        """The tree below `source`; `line` is where its key stands, the place to point at for a block."""
        self.count += 1
        if depth > DEPTH_MAX or self.count > NODES_MAX:
            self.problems.stop(line, "", _too_large(depth))
        if isinstance(source, yaml.ScalarNode):
            return self.scalar(source, path)
        if isinstance(source, yaml.CollectionNode) and source.flow_style:
            line = source.start_mark.line + 1
        if source.tag not in (_TAG + "seq", _TAG + "map"):
            self.problems.add(line, path, f"the YAML tag {quote(source.tag)} is not used here")
            return Node(line, BROKEN)
        if isinstance(source, yaml.MappingNode):
            return Node(line, self.entries(source, path, depth))
        items = enumerate(source.value)
        return Node(
            line, [self.grow(each, f"{path}[{i}]", each.start_mark.line + 1, depth + 1) for i, each in items]
        )

    def entries(self, source: yaml.MappingNode, path: str, depth: int) -> dict[str, Node]:
        """The entries of a mapping. What `<<` brings in gives way to what the mapping says itself."""
        entries: dict[str, Node] = {}
        merged: list[Node] = []
        for key_source, value_source in source.value:
            line = key_source.start_mark.line + 1
            if key_source.tag == _TAG + "merge":
                node = self.grow(value_source, path, line, depth + 1)
                merged.extend(node.value if isinstance(node.value, list) else [node])
                continue
            if not isinstance(key_source, yaml.ScalarNode):
                self.problems.add(line, path, "expected text as a key, got a list or a mapping")
                continue
            key = self.substitute(key_source.value, path, line)
            if key is None:
                continue
            if key in entries:
                self.problems.add(line, join(path, key), f"duplicate key, first on line {entries[key].key_line}")
                continue
            entries[key] = self.grow(value_source, join(path, key), line, depth + 1)
            entries[key].key_line = line
        for node in merged:
            if isinstance(node.value, dict):
                for key, child in node.value.items():
                    entries.setdefault(key, child)
            elif node.value is not BROKEN:
                self.problems.add(node.line, path, f'expected a mapping to merge by "<<", got {kind(node)}')
        return entries

    def scalar(self, source: yaml.ScalarNode, path: str) -> Node:
        """A scalar with its variables filled in; without quotes it is read once more as what it then says."""
        line = source.start_mark.line + 1
        node = Node(line, BROKEN, written=source.value, plain=source.style is None)
        text = self.substitute(source.value, path, line)
        if text is None:
            return node
        tag = source.tag
        if node.plain and text != source.value:
            tag = self.loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        typed = yaml.ScalarNode(tag, text)
        try:
            if tag in _TEXT_TAGS:
                node.value = text
            elif tag == _TAG + "null":
                node.value = None
            elif tag == _TAG + "bool":
                node.value = self.loader.construct_yaml_bool(typed)
            elif tag == _TAG + "int":
                node.value = self.loader.construct_yaml_int(typed)
            elif tag == _TAG + "float":
                node.value = self.loader.construct_yaml_float(typed)
            else:
                self.problems.add(line, path, f"the YAML tag {quote(tag)} is not used here")
        except (ValueError, KeyError, IndexError, OverflowError):
            self.problems.add(
                line, path, f"expected a value of type {tag.removeprefix(_TAG)}, got {quote(source.value)}"
            )
        return node

    def substitute(self, text: str, path: str, line: int) -> str | None:
        """`text` with `${VAR}`, `${VAR:-default}` and `$$` replaced; None, and told, when that cannot be."""
        broken = False

        def replace(match: re.Match[str]) -> str:
            nonlocal broken
            if match["dollar"]:
                return "$"
            if match["malformed"]:
                broken = True
                self.problems.add(line, path, "expected ${NAME} or ${NAME:-default}; write $$ for a plain $")
                return ""
            value = self.environment.get(match["name"])
            if match["default"] is not None and not value:
                return _VARIABLE.sub(replace, match["default"])
            if value is None:
                broken = True
                self.problems.add(line, path, f"the environment variable {match['name']} is not defined")
                return ""
            return value

        filled = _VARIABLE.sub(replace, text)
        if not broken and any("\ud800" <= character <= "\udfff" for character in filled):
            broken = True
            self.problems.add(line, path, "expected text that UTF-8 can hold")
        return None if broken else filled
