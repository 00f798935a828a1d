"""The cache of machine code: kept as long as it is what was sealed, and never a reason not to start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import streamrnn
from streamrnn.kernels import jit

PACKAGE = Path(streamrnn.__file__).parent

# One small kernel, so that compiling it takes a moment only.
PROGRAM = """
import json, os, shutil
import numpy as np
from streamrnn.kernels import jit, products
{before}
x = np.array([0.0, 1.0, -100.0])
products.tanh(x)
stats = products.tanh.stats
print(json.dumps({{
    "x": x.tolist(),
    "loaded": sum(stats.cache_hits.values()),
    "compiled": sum(stats.cache_misses.values()),
    "folder": str(jit.CACHE),
}}))
"""
RIGHT = [0.0, 0.7615941559557649, -1.0]


def start(root: Path | None, before: str = "", package: Path = PACKAGE, **environment: str) -> dict[str, Any]:
    """Call a kernel in a process of its own, and return what it printed."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("STREAMRNN_CACHE_DIR", "CACHE_DIRECTORY", "XDG_CACHE_HOME") and "NUMBA" not in name
    }
    where = {} if root is None else {"STREAMRNN_CACHE_DIR": str(root)}
    run = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", PROGRAM.format(before=before)],
        env=inherited | where | {"PYTHONPATH": str(package.parent)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stderr == ""
    assert run.returncode == 0
    answer: dict[str, Any] = json.loads(run.stdout)
    assert pytest.approx(answer["x"], abs=1e-12) == RIGHT
    return answer


def counted(answer: dict[str, Any]) -> tuple[int, int]:
    return answer["loaded"], answer["compiled"]


def flip(path: Path, at: float = 0.5) -> None:
    """Turn over one bit, some way into the file."""
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed cache of two files, one in a folder of its own, as Numba makes them."""
    folder = tmp_path / "numba-0123"
    (folder / "kernels_1").mkdir(parents=True)
    (folder / "kernels_1" / "tanh.nbi").write_bytes(b"index")
    (folder / "kernels_1" / "tanh.1.nbc").write_bytes(bytes(range(256)))
    jit.seal(folder)
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_cache_as_it_was_sealed_is_kept(folder: Path) -> None:
    before = files(folder)
    assert jit.verify(folder) is True
    assert before == files(folder)
    assert {"kernels_1/tanh.nbi", "kernels_1/tanh.1.nbc", jit.SEAL} == before


def damage_flip(folder: Path) -> None:
    flip(folder / "kernels_1" / "tanh.1.nbc")


def damage_missing(folder: Path) -> None:
    (folder / "kernels_1" / "tanh.1.nbc").unlink()


def damage_extra(folder: Path) -> None:
    (folder / "kernels_1" / "other.1.nbc").write_bytes(b"")


def damage_renamed(folder: Path) -> None:
    path = folder / "kernels_1" / "tanh.1.nbc"
    path.rename(path.with_name("sigmoid.1.nbc"))


def damage_moved(folder: Path) -> None:
    (folder / "kernels_1" / "tanh.nbi").rename(folder / "tanh.nbi")


def damage_swapped(folder: Path) -> None:
    index, code = folder / "kernels_1" / "tanh.nbi", folder / "kernels_1" / "tanh.1.nbc"
    content = index.read_bytes()
    index.write_bytes(code.read_bytes())
    code.write_bytes(content)


def damage_short(folder: Path) -> None:
    path = folder / "kernels_1" / "tanh.1.nbc"
    path.write_bytes(path.read_bytes()[:-1])


def damage_no_seal(folder: Path) -> None:
    (folder / jit.SEAL).unlink()


def damage_empty_seal(folder: Path) -> None:
    (folder / jit.SEAL).write_bytes(b"")


def damage_torn_seal(folder: Path) -> None:
    path = folder / jit.SEAL
    path.write_bytes(path.read_bytes()[:-20])


def damage_binary_seal(folder: Path) -> None:
    (folder / jit.SEAL).write_bytes(b"\xff\xfe\x00")


def damage_other_seal(folder: Path) -> None:
    (folder / jit.SEAL).write_text("[]")


def damage_deep_seal(folder: Path) -> None:
    (folder / jit.SEAL).write_text("[" * 100_000)


def damage_folder_for_seal(folder: Path) -> None:
    (folder / jit.SEAL).unlink()
    (folder / jit.SEAL).mkdir()


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.removeprefix("damage_"))
def test_cache_that_is_not_what_was_sealed_is_emptied(folder: Path, damage: Any) -> None:
    damage(folder)
    assert jit.verify(folder) is False
    assert set() == files(folder)


def test_every_bit_counts(folder: Path) -> None:
    path = folder / "kernels_1" / "tanh.nbi"
    content = path.read_bytes()
    kept = []
    for bit in range(8 * len(content)):
        copy = folder.parent / f"copy-{bit}"
        shutil.copytree(folder, copy)
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (copy / "kernels_1" / "tanh.nbi").write_bytes(flipped)
        kept.append(jit.verify(copy))
    assert [False] * len(kept) == kept


def test_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert jit.verify(tmp_path / "nothing") is False
    jit.seal(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_seal_takes_in_what_was_compiled_since(folder: Path) -> None:
    damage_extra(folder)
    jit.seal(folder)
    assert jit.verify(folder) is True
    assert {jit.SEAL, "kernels_1/other.1.nbc", "kernels_1/tanh.1.nbc", "kernels_1/tanh.nbi"} == files(folder)


def test_seal_of_nothing_new_writes_nothing(folder: Path) -> None:
    before = (folder / jit.SEAL).stat()
    jit.seal(folder)
    after = (folder / jit.SEAL).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache root after one process; to be copied, not to be used."""
    root = tmp_path_factory.mktemp("compiled")
    assert counted(start(root)) == (0, 1)
    return root


@pytest.fixture
def root(compiled: Path, tmp_path: Path) -> Path:
    """A cache root that one process has filled."""
    return shutil.copytree(compiled, tmp_path / "root")


def test_second_start_loads_what_the_first_compiled(tmp_path: Path) -> None:
    first, second = start(tmp_path), start(tmp_path)
    assert [counted(first), counted(second)] == [(0, 1), (1, 0)]
    assert first["folder"] == second["folder"]
    assert Path(first["folder"]).parent == tmp_path
    assert Path(first["folder"]).name.startswith("numba-")


@pytest.mark.parametrize("at", [0.0, 0.3, 0.6])
def test_flipped_bit_in_every_file_is_compiled_anew_and_never_crashes(root: Path, at: float) -> None:
    damaged = [path for path in root.rglob("*") if path.suffix in (".nbc", ".nbi")]
    assert {path.suffix for path in damaged} == {".nbc", ".nbi"}
    for path in damaged:
        flip(path, at)
    assert counted(start(root)) == (0, 1)


def test_cache_of_a_process_that_was_killed_is_compiled_anew_and_sealed(root: Path) -> None:
    (seal,) = root.rglob(jit.SEAL)
    seal.unlink()
    assert counted(start(root)) == (0, 1)
    assert jit.verify(seal.parent) is True


def test_cache_root_that_cannot_be_written_to_still_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    answer = start(tmp_path / "file" / "cache", TMPDIR=str(temporary))
    assert counted(answer) == (0, 1)
    assert temporary == Path(answer["folder"]).parent
    assert list(temporary.iterdir()) == []  # it went with the process


def test_disk_that_is_full_still_works(tmp_path: Path) -> None:
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    assert counted(start(tmp_path, before=full)) == (0, 1)


def test_cache_that_another_process_empties_meanwhile_still_works(tmp_path: Path) -> None:
    assert counted(start(tmp_path, before="shutil.rmtree(jit.CACHE)")) == (0, 1)


def test_edited_kernel_has_a_cache_of_its_own(tmp_path: Path) -> None:
    copy = tmp_path / "streamrnn"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    root = tmp_path / "cache"
    before = start(root, package=copy)["folder"]
    edited = copy / "kernels" / "cells.py"  # not the file of the kernel that is called
    edited.write_text(edited.read_text() + "\n")
    after = start(root, package=copy)
    assert before != after["folder"]
    assert counted(after) == (0, 1)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"STREAMRNN_CACHE_DIR": "a", "CACHE_DIRECTORY": "b", "XDG_CACHE_HOME": "c", "HOME": "d"}, "a"),
        ({"CACHE_DIRECTORY": "b", "XDG_CACHE_HOME": "c", "HOME": "d"}, "b"),
        ({"CACHE_DIRECTORY": "b:e"}, "b"),  # systemd names all of them
        ({"XDG_CACHE_HOME": "c", "HOME": "d"}, "c/streamrnn"),
        ({"STREAMRNN_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "d"}, "d/.cache/streamrnn"),
    ],
)
def test_cache_is_where_it_is_told_to_be(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("STREAMRNN_CACHE_DIR", "CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Path(expected) == jit._cache_root()


ANSWERS = """
import hashlib
from streamrnn.build import build_pipeline
from streamrnn.config import loads
from streamrnn.kernels.jit import seal
from streamrnn.warm import sample_messages

for cell in ("rnn_tanh", "rnn_relu", "gru", "lstm", "lru", "text"):
    source = "{topic: a, payload: text}" if cell == "text" else "{topic: a, fields: [x, y]}"
    model = "" if cell == "text" else f", model: {{cell: {cell}}}"
    spec = loads(f"pipelines: {{p: {{input: {source}{model}}}}}").pipelines["p"]
    pipeline, digest = build_pipeline("p", spec, 0), hashlib.sha256()
    for message in sample_messages(spec, 300):
        digest.update(repr(pipeline.process_all(message)).encode())
    pipeline.close()
    print(cell, digest.hexdigest()[:12])
seal()
"""


def test_machine_code_that_was_loaded_answers_like_what_was_just_compiled(tmp_path):
    environment = {**os.environ, "STREAMRNN_CACHE_DIR": str(tmp_path)}
    compiled, loaded = (
        subprocess.run(
            [sys.executable, "-c", ANSWERS], env=environment, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    )
    assert len(compiled.splitlines()) == 6
    assert compiled == loaded
