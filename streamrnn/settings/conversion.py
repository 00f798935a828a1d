"""A tree of YAML nodes made into frozen specs, with every mistake in it told at once.

A spec's annotations are its rules: types, limits, choices, and checks of one field (`extra={"check": ...}`).
Rules between fields are its `broken_rules`. The specs themselves are in `specs.py`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import NODEFAULT, inspect

from streamrnn.settings.yamlfile import BROKEN, Node, Problems, join, kind, quote, show

BrokenRule: TypeAlias = tuple[tuple[str, ...], str]
"""The fields a rule is about, the one to point at first, and what was expected."""

Overrides: TypeAlias = Mapping[str, Any]

# YAML 1.1 takes 1e-3 for text because it has no dot. Where a number belongs, the number is meant.
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping in the configuration."""

    @classmethod
    def section_defaults(cls, fields: Mapping[str, Any]) -> Mapping[str, Overrides]:  # noqa: ARG003
        """Other defaults for the sections that follow, given the `fields` read so far."""
        return {}

    def broken_rules(self, name: str) -> Iterator[BrokenRule]:  # noqa: ARG002
        """What does not fit together; `name` is the key this mapping stands under."""
        yield from ()


def convert(root: Node, spec: type[Any], problems: Problems) -> Any:
    """`root` as a `spec`, or BROKEN when something was added to `problems`."""
    return _Conversion(problems).convert(root, inspect.type_info(spec), "", {}, {})


class _Conversion:
    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def convert(
        self, node: Node, wanted: inspect.Type, path: str, extra: dict[str, Any], overrides: Overrides
    ) -> Any:
        """The value of `node` as the type `wanted`, or BROKEN."""
        if node.value is BROKEN:
            return BROKEN
        match wanted:
            case inspect.Metadata():
                return self.convert(node, wanted.type, path, extra | (wanted.extra or {}), overrides)
            case inspect.UnionType():  # only ever `T | None`
                if node.value is None:
                    return None
                inner = next(each for each in wanted.types if not isinstance(each, inspect.NoneType))
                return self.convert(node, inner, path, extra, overrides)
            case inspect.StructType():
                return self.struct(node, wanted, path, overrides)
            case inspect.DictType():
                return self.mapping(node, wanted, path)
            case inspect.ListType():
                return self.sequence(node, wanted, path, extra)
            case inspect.LiteralType():
                return self.choice(node, wanted, path)
            case inspect.BoolType():
                return node.value if isinstance(node.value, bool) else self.wrong(node, path, "true or false")
            case inspect.IntType() | inspect.FloatType():
                return self.number(node, wanted, path)
            case inspect.StrType():
                return self.text(node, wanted, path, extra)
        raise TypeError(f"no conversion to {wanted}")

    def wrong(self, node: Node, path: str, expected: str, got: str = "") -> Any:
        """Tell that `node` is not what was expected there."""
        self.problems.add(node.line, path, f"expected {expected}, got {got or show(node)}")
        return BROKEN

    def struct(self, node: Node, wanted: inspect.StructType, path: str, overrides: Overrides) -> Any:
        """A spec; a section left empty has all its defaults."""
        entries = {} if node.value is None else node.value
        if not isinstance(entries, dict):
            return self.wrong(node, path, "a mapping", kind(node))
        names = [field.name for field in wanted.fields]
        cls: type[Spec] = wanted.cls  # type: ignore[assignment]
        strangers = [key for key in entries if key not in names]
        for key in strangers:
            self.unknown_key(key, entries[key], names, path)
        fields: dict[str, Any] = {}
        broken: set[str] = set()
        for field in wanted.fields:
            sections = cls.section_defaults(fields)
            value = self.field(node, field, path, overrides, sections.get(field.name, {}))
            if value is BROKEN:
                broken.add(field.name)
            elif value is not NODEFAULT:
                fields[field.name] = value
        if any(field.required and field.name in broken for field in wanted.fields):
            return BROKEN
        # With defaults in place of what is broken, rules between the other fields can still be told.
        spec = cls(**fields)
        for about, message in spec.broken_rules(path.rpartition(".")[2]):
            if not any(name.partition(".")[0] in broken for name in about):
                self.problems.add(_find(node, about[0]).line, f"{path}.{about[0]}" if path else about[0], message)
                broken.update(about)
        return BROKEN if broken or strangers else spec

    def field(self, node: Node, field: inspect.Field, path: str, overrides: Overrides, section: Overrides) -> Any:
        """One field of a spec: what the file says, or NODEFAULT to leave it to the spec."""
        entries = node.value or {}
        if field.name in entries:
            return self.convert(entries[field.name], field.type, join(path, field.name), {}, section)
        if field.name in overrides:
            return overrides[field.name]
        if field.required:
            self.problems.add(node.line, path, f'missing key "{field.name}"')
            return BROKEN
        if section:
            return self.convert(Node(node.line, {}), field.type, join(path, field.name), {}, section)
        return NODEFAULT

    def unknown_key(self, key: str, node: Node, names: list[str], path: str) -> None:
        near = difflib.get_close_matches(key, names, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"expected one of {', '.join(names)}"
        self.problems.add(node.key_line, path, f"unknown key {quote(key)}; {hint}")

    def mapping(self, node: Node, wanted: inspect.DictType, path: str) -> Any:
        """A mapping whose keys are names the user chose."""
        entries = {} if node.value is None else node.value
        if not isinstance(entries, dict):
            return self.wrong(node, path, "a mapping", kind(node))
        if len(entries) < (wanted.min_length or 0):
            return self.wrong(node, path, f"at least {wanted.min_length}", "none")
        values = {}
        for key, child in entries.items():
            name = self.convert(Node(child.key_line, key, written=key), wanted.key_type, path, {}, {})
            value = self.convert(child, wanted.value_type, join(path, key), {}, {})
            values[key] = BROKEN if name is BROKEN else value
        return BROKEN if BROKEN in values.values() else values

    def sequence(self, node: Node, wanted: inspect.ListType, path: str, extra: dict[str, Any]) -> Any:
        """A list, or one value for a list of one where that is allowed."""
        items = node.value
        if isinstance(items, str) and extra.get("or_one"):
            one = self.convert(node, wanted.item_type, path, {}, {})
            return one if one is BROKEN else [one]
        if not isinstance(items, list):
            return self.wrong(node, path, "text or a list" if extra.get("or_one") else "a list")
        if len(items) < (wanted.min_length or 0):
            return self.wrong(node, path, f"at least {wanted.min_length}", "none")
        if wanted.max_length is not None and len(items) > wanted.max_length:
            return self.wrong(node, path, f"at most {wanted.max_length}", str(len(items)))
        values = [self.convert(each, wanted.item_type, f"{path}[{i}]", {}, {}) for i, each in enumerate(items)]
        if BROKEN in values:
            return BROKEN
        return self.checked(node, values, path, extra)

    def choice(self, node: Node, wanted: inspect.LiteralType, path: str) -> Any:
        for value in wanted.values:
            if type(value) is type(node.value) and value == node.value:
                return value
        return self.wrong(node, path, f"one of {', '.join(str(value) for value in wanted.values)}")

    def number(self, node: Node, wanted: inspect.IntType | inspect.FloatType, path: str) -> Any:
        """A number within its limits; the message names the limit that was crossed."""
        whole = isinstance(wanted, inspect.IntType)
        value = node.value
        if not whole and isinstance(value, str) and node.plain and _EXPONENT.fullmatch(value):
            value = float(value)
        low = f" >= {wanted.ge}" if wanted.ge is not None else f" > {wanted.gt}" if wanted.gt is not None else ""
        word = "a whole number" if whole else "a number"
        if type(value) is not int and (whole or not isinstance(value, float) or math.isnan(value)):
            return self.wrong(node, path, word + low)
        if (wanted.ge is not None and value < wanted.ge) or (wanted.gt is not None and value <= wanted.gt):
            return self.wrong(node, path, word + low)
        if wanted.le is not None and value > wanted.le:
            return self.wrong(node, path, f"{word} <= {wanted.le}")
        return value if whole else float(value)

    def text(self, node: Node, wanted: inspect.StrType, path: str, extra: dict[str, Any]) -> Any:
        secret = bool(extra.get("secret"))
        if not isinstance(node.value, str):
            got = kind(node) if secret else show(node)
            if node.plain and node.value is not None and not secret:
                got += f"; put it in quotes: {quote(node.written)}"
            elif isinstance(node.value, dict | list):
                got += "; a text that begins with { or [ needs quotes"
            return self.wrong(node, path, "text", got)
        if len(node.value) < (wanted.min_length or 0):
            return self.wrong(node, path, "text that is not empty", '""')
        return self.checked(node, node.value, path, extra)

    def checked(self, node: Node, value: Any, path: str, extra: dict[str, Any]) -> Any:
        """`value` when the field's own check has nothing against it."""
        check = extra.get("check")
        expected = check(value) if check else None
        if expected is None:
            return value
        got = "" if extra.get("secret") or isinstance(value, list) else f", got {show(node)}"
        self.problems.add(node.line, path, f"expected {expected}{got}")
        return BROKEN


def _find(node: Node, way: str) -> Node:
    """The node at the dotted `way` below `node`, or the last one on the way that is in the file."""
    for key in way.split("."):
        if not isinstance(node.value, dict) or key not in node.value:
            break
        node = node.value[key]
    return node
