"""Writes the pages that follow from the source: reference.md from the schema, commands.md from the help.

    python docs/reference.py

A test holds that both are current.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from msgspec import NODEFAULT, inspect
from typer.cli import get_docs_for_click

from streamrnn.cli import app
from streamrnn.settings.specs import SYMBOL_DEFAULTS, Config

FOLDER = Path(__file__).parent
MADE = "<!-- Written by docs/reference.py; do not edit. -->"


def reference() -> str:
    """Return the page of all keys of a configuration."""
    symbols = {f"{section}.{key}": value for section, of in SYMBOL_DEFAULTS.items() for key, value in of.items()}
    lines = [
        "# Configuration reference",
        "",
        MADE,
        "",
        "Every key, with its default and what it may be.",
        "How they work together is in [configuration.md](configuration.md).",
        "A second default after a slash is that of pipelines of symbols.",
    ]
    for path, spec in sections(inspect.type_info(Config), ""):
        words = (spec.cls.__doc__ or "").strip().splitlines()[0]
        lines += ["", f"## {f'`{path}`' if path else 'Top level'}", "", words, ""]
        lines += ["| key | default | expected | what |", "|---|---|---|---|"]
        for field in spec.fields:
            described = found(field.type, "description")
            other = symbols.get(f"{path.rpartition('.')[2]}.{field.name}")
            default = shown(field) + (f" / `{other}`" if other is not None else "")
            words = re.sub(r"\s*\([^()]*; for symbols [^()]*\)", "", described).replace("|", "\\|")
            lines.append(f"| `{field.name}` | {default} | {expected(field.type)} | {words} |")
    return "\n".join(lines) + "\n"


def sections(spec: inspect.Type, path: str) -> Iterator[tuple[str, inspect.StructType]]:
    """Yield every mapping of the configuration with its dotted path, from the top down."""
    spec = plain(spec)
    if isinstance(spec, inspect.DictType):
        yield from sections(spec.value_type, f"{path}.NAME")
    elif isinstance(spec, inspect.StructType):
        yield path, spec
        for field in spec.fields:
            yield from sections(field.type, f"{path}.{field.name}" if path else field.name)


def plain(kind: inspect.Type) -> inspect.Type:
    """Return a type without what is noted of it, and without its null."""
    while True:
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
        else:
            return kind


def found(kind: inspect.Type, name: str) -> str:
    """Return what the schema notes of a type under a name."""
    while isinstance(kind, inspect.Metadata):
        if kind.extra_json_schema and name in kind.extra_json_schema:
            return str(kind.extra_json_schema[name])
        kind = kind.type
    return ""


def shown(field: inspect.Field) -> str:
    """Return the default of a field."""
    if field.required:
        return "required"
    value: Any = field.default
    if value is NODEFAULT:
        value = field.default_factory() if callable(field.default_factory) else None
    if isinstance(plain(field.type), inspect.StructType):
        return "off" if value is None else "see below"
    if value is None or value == []:
        return "absent"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def expected(kind: inspect.Type) -> str:
    """Return in words what a value has to be."""
    kind = plain(kind)
    if isinstance(kind, inspect.LiteralType):
        return ", ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, inspect.BoolType):
        return "`true`, `false`"
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        word = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        low = f" >= {kind.ge}" if kind.ge is not None else f" > {kind.gt}" if kind.gt is not None else ""
        return word + low + (f", <= {kind.le}" if kind.le is not None else "")
    if isinstance(kind, inspect.ListType):
        return "a list: " + expected(kind.item_type)
    if isinstance(kind, inspect.DictType):
        return "a mapping, by name"
    return "a mapping" if isinstance(kind, inspect.StructType) else "text"


def commands() -> str:
    """Return the page of all commands: what `--help` tells."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="streamrnn", title="Commands")
    first, _, rest = text.partition("\n")
    return f"{first}\n\n{MADE}\n{rest}".rstrip("\n") + "\n"


PAGES = {"reference.md": reference, "commands.md": commands}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        print(f"wrote {FOLDER / name}")
