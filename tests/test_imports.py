"""The direction of imports, over the source of every module: what is below knows nothing of what is above."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamrnn

PACKAGE = Path(streamrnn.__file__).parent

# A module may import what has a lower rank. One that is not here by itself has that of its folder, and may import
# what shares it.
RANKS = {
    "": 0,  # the package itself, see below
    "evaluation": 0,  # these four are nothing but a docstring, what lies in them has places of its own
    "serving": 0,
    "settings": 0,
    "sniffing": 0,
    "beside": 0,
    "durations": 0,
    "errors": 0,
    "kernels": 0,
    "events": 1,
    "keys": 1,
    "versions": 1,
    "codecs": 2,
    "learn": 2,
    "pipeline": 3,
    "telemetry": 3,
    "requests": 4,
    "edges": 5,
    "config": 6,
    "parts": 6,
    "budget": 7,
    "privacy": 7,
    "build": 8,
    "fingerprint": 8,
    "cost": 10,
    "sense": 9,
    "warm": 9,
    "documents": 11,
    "service": 12,
    "state_commands": 11,
    "demo": 13,
    "systemd": 13,
    "cli": 14,
    "__main__": 15,
    "settings.rules": 3,
    "settings.yamlfile": 3,
    "settings.conversion": 4,
    "settings.specs": 5,
    "evaluation.season": 3,
    "evaluation.trace": 3,
    "evaluation.measures": 4,
    "evaluation.plot": 4,
    "evaluation.replay": 6,
    "evaluation.summary": 8,
    "evaluation.report": 10,
    "sniffing.survey": 3,
    "sniffing.findings": 4,
    "sniffing.draft": 7,
    "sniffing.sniff": 10,
    "serving.selftest": 6,
    "serving.homeassistant": 6,
    "serving.lane": 8,
    "serving.discovery": 9,
    "serving.health": 9,
    "serving.keeping": 9,
    "serving.upkeep": 9,
    "serving.control": 10,
    "serving.info": 10,
    "serving.metrics": 10,
    "serving.reload": 10,
    "serving.signals": 11,
}
COMPUTES = ["kernels", "learn", "codecs", "pipeline", "events", "keys", "evaluation.measures", "evaluation.season"]
COMPUTES += ["evaluation.trace", "sniffing.survey", "sniffing.findings"]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def part(module: str) -> str:
    """The name a module goes by in the table: of a folder that of the folder."""
    return module.partition(".")[0]


def place(module: str) -> str:
    """The entry of a module in the table: its own, or that of its folder."""
    return module if module in RANKS else part(module)


def imported(module: str) -> set[str]:
    """What a module imports, anywhere in it: `from a import b` is of a.b where that is a module, else of a."""
    names: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports say where from, in full"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole.removeprefix("streamrnn.") in MODULES else node.module)
    return names


def ours(module: str) -> set[str]:
    """The modules of this package that a module imports."""
    return {name.removeprefix("streamrnn").lstrip(".") for name in imported(module) if part(name) == "streamrnn"}


def names_of_the_package(module: str) -> set[str]:
    """What a module takes from the package itself, other modules not counted."""
    froms = [node for node in ast.walk(tree(module)) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in froms if node.module == "streamrnn" for alias in node.names}
    return names - set(MODULES)


def others(module: str) -> set[str]:
    """The packages of others that a module imports."""
    return {part(name) for name in imported(module)} - {"streamrnn"}


def importers(package: str) -> set[str]:
    return {module for module in MODULES if package in others(module)}


def test_every_module_has_a_place() -> None:
    assert {place(module) for module in MODULES} == set(RANKS)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_imports_go_down_only(module: str) -> None:
    upwards = {
        name for name in ours(module) if RANKS[place(name)] >= RANKS[place(module)] and place(name) != place(module)
    }
    assert set() == upwards


def test_the_package_itself_imports_nothing_until_it_is_asked() -> None:
    program = "import streamrnn, sys; print(sorted(name for name in sys.modules if name.startswith('streamrnn')))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "['streamrnn']\n"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_modules_do_not_import_each_other_by_way_of_the_package(module: str) -> None:
    assert names_of_the_package(module) <= {"__version__"}


def test_the_table_has_the_order_of_the_design() -> None:
    order = ["kernels", "learn", "pipeline", "edges", "config", "build", "service", "cli"]
    ranks = [RANKS[name] for name in order]
    assert sorted(set(ranks)) == ranks
    assert RANKS["codecs"] < RANKS["pipeline"]


def test_modules_of_one_folder_do_not_import_each_other_in_a_circle() -> None:
    remaining = {module: {name for name in ours(module) if part(name) == part(module)} for module in MODULES}
    while free := {module for module, needs in remaining.items() if not needs - {module}}:
        remaining = {module: needs - free for module, needs in remaining.items() if module not in free}
    assert set() == set(remaining)


def test_kernels_import_nothing_of_ours() -> None:
    found = {module: ours(module) for module in MODULES if part(module) == "kernels"}
    assert {"kernels"} == {part(name) for names in found.values() for name in names}


def test_only_the_decorator_and_what_extends_it_import_numba() -> None:
    assert {"kernels.jit", "kernels.lanes"} == importers("numba")


@pytest.mark.parametrize("name", COMPUTES)
def test_what_computes_knows_neither_asyncio_nor_mqtt_nor_configuration(name: str) -> None:
    foreign = {"asyncio", "aiomqtt", "paho", "amqtt", "socket", "signal", "yaml", "typer", "rich"}
    for module in MODULES:
        if name in (module, part(module)):
            assert set() == others(module) & foreign, module
            assert set() == {part(each) for each in ours(module)} & {"config", "settings", "edges", "build"}, module


@pytest.mark.parametrize("package", ["aiomqtt", "paho", "amqtt"])
def test_only_edges_import_mqtt(package: str) -> None:
    assert {"edges"} == {part(module) for module in importers(package)}


def test_only_one_edge_imports_each_mqtt_library() -> None:
    assert {"aiomqtt": {"edges.link"}, "paho": {"edges.link"}, "amqtt": {"edges.broker"}} == {
        package: importers(package) for package in ("aiomqtt", "paho", "amqtt")
    }


def test_only_pictures_import_matplotlib() -> None:
    assert {"evaluation.plot"} == importers("matplotlib")


def test_only_yamlfile_parses_yaml() -> None:
    assert {"config", "settings.yamlfile"} == importers("yaml")  # config writes it


@pytest.mark.parametrize("module", MODULES)
def test_nothing_executes_what_comes_from_outside(module: str) -> None:
    assert set() == others(module) & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "subprocess"}
    calls = {ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)}
    dangerous = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
    dangerous |= {f"yaml.{name}" for name in ("load", "load_all", "full_load", "unsafe_load", "unsafe_load_all")}
    assert set() == calls & dangerous


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree(module)), f"{module or 'streamrnn'} has no docstring"
