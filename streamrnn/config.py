"""The configuration of a process: `load` and `loads` make it, `schema` and `resolved` describe it.

Every mistake in a file is raised at once, each with its line. Nothing is opened here but the file itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import yaml

from streamrnn.settings.conversion import convert
from streamrnn.settings.specs import (
    SYMBOL_DEFAULTS,
    Config,
    Forecast,
    HomeAssistant,
    Http,
    Input,
    Learn,
    Limits,
    Model,
    Mqtt,
    OutputTarget,
    Pipeline,
    Tls,
)
from streamrnn.settings.yamlfile import Problems, parse, read_text

__all__ = [
    "SYMBOL_DEFAULTS",
    "Config",
    "Forecast",
    "HomeAssistant",
    "Http",
    "Input",
    "Learn",
    "Limits",
    "Model",
    "Mqtt",
    "OutputTarget",
    "Pipeline",
    "Tls",
    "load",
    "loads",
    "resolved",
    "schema",
]


def loads(text: str, name: str = "<string>") -> Config:
    """The configuration in a YAML text; relative paths in it stay as they are.

    Raises
    ------
    ConfigError
        With every mistake found, each as ``name:line: path: message``.
    """
    problems = Problems(name)
    config = convert(parse(text, problems, os.environ), Config, problems)
    if problems.found:
        raise problems.error()
    assert isinstance(config, Config)  # noqa: S101
    return config


def load(path: str | Path) -> Config:
    """The configuration in a file; relative paths in it start from the file's folder.

    Raises
    ------
    ConfigError
        When the file cannot be read, or with every mistake found in it.
    """
    path = Path(path)
    config = loads(read_text(path), str(path))
    folder = path.absolute().parent

    def rooted(name: str | None) -> str | None:
        return None if name is None else str(folder / name)

    mqtt = config.mqtt
    tls = mqtt.tls and Tls(ca=rooted(mqtt.tls.ca), cert=rooted(mqtt.tls.cert), key=rooted(mqtt.tls.key))
    mqtt = msgspec.structs.replace(mqtt, password_file=rooted(mqtt.password_file), tls=tls)
    return msgspec.structs.replace(config, mqtt=mqtt, state=rooted(config.state))


def resolved(config: Config) -> str:
    """The whole configuration with its defaults as YAML that `loads` reads back. It holds no secret."""
    tree = _escaped(msgspec.to_builtins(config))
    for pipeline in tree["pipelines"].values():
        if not pipeline["input"]["fields"]:
            del pipeline["input"]["fields"]  # symbols have none, and an empty list is a mistake
    return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100))


def _escaped(value: Any) -> Any:
    """`value` with each text in which `$` could be taken for a variable written so that it is not."""
    match value:
        case dict():
            return {_escaped(key): _escaped(each) for key, each in value.items()}
        case list():
            return [_escaped(each) for each in value]
        case str() if "$$" in value or "${" in value:
            return value.replace("$", "$$")
    return value


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration, for editors."""
    document = msgspec.json.schema(Config)
    definitions: dict[str, Any] = document["$defs"]
    for definition in definitions.values():
        for each in definition["properties"].values():
            if "$ref" in each:  # a section left empty is one with all its defaults
                each["anyOf"] = [{"$ref": each.pop("$ref")}, {"type": "null"}]
    wanted = definitions["Input"]["properties"]
    wanted["topic"]["type"] = ["array", "string"]
    wanted["topic"]["uniqueItems"] = wanted["fields"]["uniqueItems"] = True
    del wanted["fields"]["default"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamrnn configuration",
        "description": "Online recurrent networks on MQTT streams.",
    } | document
